//! The reference recorder: reads a source, cuts it into links, signs them, and brings them to the server until it holds a
//! verified receipt for each.
//!
//! `source` (fragmented MP4, cut to links' worth) → `maker` (pace, chain, signature) → `spool` (what has no receipt yet) → `uplink`
//! (QUIC). A sequence is never used twice: `state` writes the chain's next place to disk before a link is offered. A link
//! leaves the spool only against a receipt that was verified, or when the server says that it will never take it.
//!
//! Who it is: `enrol` (a device gets its identity), `renew` (it keeps it), `identity` (it uses it), over `desk` and `trust`.
//!
//! Nothing here may import a room of the server.

mod desk;
mod ending;
mod enrol;
mod files;
mod gateways;
mod identity;
mod links;
mod maker;
mod progress;
mod renew;
mod run;
mod sender;
mod session;
mod source;
mod spool;
mod state;
mod track;
mod trust;
mod uplink;

pub use enrol::enrol;
pub use identity::Identity;
pub use progress::Progress;
pub use run::{Lost, Observer, Options, Pace, Report, record};
pub use source::{Ask, CLIP, Item, Source, Standing};
pub use track::Track;
