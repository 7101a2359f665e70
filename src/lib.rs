//! Aigaq: receives footage from recorders over QUIC, proves that nothing is missing or altered, keeps it, and gives it
//! back.
//!
//! The rooms, in the order in which a segment passes them: [`ingest`] (QUIC in) → [`commit`] (one writer, one sync for many) →
//! [`chain`] (one truth per recorder) → [`log`] (transparency log) → [`store`] (the only room that knows disks). A look-up goes
//! [`lookup`] (HTTP out) → [`store`] → [`media`]. [`ingest`] and [`lookup`] never see one another. [`enrol`] makes
//! identities, [`recorder`] is the reference recorder, [`server`] puts the parts together, [`cli`] is the command line.
#![forbid(unsafe_code)]

pub mod chain;
pub mod check;
pub mod cli;
pub mod clock;
pub mod commit;
pub mod config;
pub mod enrol;
pub mod error;
pub mod ingest;
pub mod log;
pub mod lookup;
pub mod media;
pub mod metrics;
pub mod recorder;
pub mod server;
pub mod shutdown;
pub mod store;

pub use clock::Clock;
pub use error::{Error, Kind, Result};
