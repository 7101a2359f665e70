//! The reference recorder: reads a source, cuts it into links, signs them, and brings them to the server until it holds a
//! verified receipt for each.
//!
//! `source` (fragmented MP4, cut to links' worth) → `maker` (pace, chain, signature) → `spool` (what has no receipt yet) → `uplink`
//! (QUIC). A sequence is never used twice: a link is on disk before it is offered, the newest says where the chain goes on, and a
//! recorder whose state is not its own asks the server first (`resume`). A link leaves the spool only against a receipt that
//! was verified, when the server says that it will never take it, or after a signed link has named it as lost.
//!
//! Who it is: `enrol` (a device gets its identity), `renew` (it keeps it), `identity` (it uses it), over `desk` and `trust`.
//!
//! Nothing here may import a room of the server.

mod congestion;
mod control;
mod desk;
mod ending;
mod enrol;
mod files;
mod gateways;
mod health;
mod identity;
mod links;
mod maker;
mod progress;
mod renew;
mod resume;
mod run;
mod sender;
mod session;
mod source;
mod spool;
mod state;
mod timeline;
mod track;
mod transport;
mod trust;
mod uplink;

pub use control::{Command, Order, check_category};
pub use enrol::enrol;
pub use identity::Identity;
pub use progress::Progress;
pub use run::{Lost, Observer, Options, Pace, Report, SPOOL_BYTES_MAX, record};
pub use source::{Ask, CLIP, Camera, Fate, Folder, Item, Source, Standing};
pub use track::Track;
pub use transport::transport;
