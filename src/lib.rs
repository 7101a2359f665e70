//! Aigaq: receives footage from recorders over QUIC, proves that nothing is missing or altered, keeps it, and gives it
//! back.
//!
//! The rooms, in the order in which a segment passes them: [`ingest`] (QUIC in) → [`commit`] (one writer, one sync for many) →
//! [`chain`] (one truth per recorder) → [`log`] (transparency log) → [`store`] (the only room that knows disks), which seals it with the keys of [`seal`]. A look-up goes
//! [`lookup`] (HTTP out) → [`store`] → [`media`]. [`ingest`] and [`lookup`] never see one another; what the server knows of
//! recorders in the field both tell and ask [`fleet`]. Which footage there is, by time, [`place`] and person, [`find`] says. What a control centre has to deal with [`incident`] keeps, and finds whose footage it needs; who may see what [`access`] decides,
//! what anybody does [`audit`] writes down,
//! [`statistics`] counts, [`integrity`] checks people,
//! [`http`] is the listener of all that speaks it, [`enrol`] makes identities,
//! [`est`] is what it and devices say to one another, [`recorder`] is the reference recorder, [`export`] makes
//! what others check, [`bundle`] is what it consists of and [`verify`] how it is checked, [`timestamp`] reads time stamps of authorities,
//! [`webhook`] sends on what happens, [`witness`] cosigns the logs of others, [`backup`] copies a data directory and puts it back,
//! [`server`] puts the parts together,
//! [`cli`] is the command line.
//!
//! The feature `recorder` alone makes a program for a device: [`recorder`], [`media`] and what `aigaq record` needs, without
//! a room of the server. The feature `verify` alone makes the program of whoever checks bundles: [`verify`], [`bundle`]
//! and [`timestamp`].
#![forbid(unsafe_code)]

#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "server")]
pub mod backup;
#[cfg(feature = "verify")]
pub mod bundle;
#[cfg(feature = "server")]
pub mod chain;
#[cfg(feature = "server")]
pub mod check;
pub mod cli;
pub mod clock;
#[cfg(feature = "server")]
pub mod commit;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod enrol;
pub mod error;
#[cfg(feature = "recorder")]
pub mod est;
#[cfg(feature = "server")]
pub mod export;
#[cfg(feature = "server")]
pub mod find;
#[cfg(feature = "server")]
pub mod fleet;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod incident;
#[cfg(feature = "server")]
pub mod ingest;
#[cfg(feature = "server")]
pub mod integrity;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod lookup;
#[cfg(feature = "recorder")]
pub mod media;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod place;
#[cfg(feature = "recorder")]
pub mod recorder;
#[cfg(feature = "server")]
pub mod retention;
#[cfg(feature = "server")]
mod rounds;
#[cfg(feature = "server")]
pub mod scrub;
#[cfg(feature = "server")]
pub mod seal;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "recorder")]
pub mod shutdown;
#[cfg(feature = "server")]
pub mod statistics;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "verify")]
pub mod timestamp;
#[cfg(feature = "verify")]
pub mod verify;
#[cfg(feature = "server")]
pub mod webhook;
#[cfg(feature = "server")]
pub mod witness;

pub use clock::Clock;
pub use error::{Error, Kind, Result};
