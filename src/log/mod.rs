//! The transparency log: every committed link is a leaf of an RFC 6962 tree kept as C2SP tlog-tiles, and every commit
//! ends in a signed C2SP checkpoint.
//!
//! [`Log`] is the writer's side: it stages what a commit appends and takes it over only after the commit is durable.
//! [`Reader`] is everybody else's: checkpoints, tiles and receipts from what is stored. [`Identity`] is the key that
//! signs, [`witness`] asks others to cosign. The hashing rules come from the crate `tlog_tiles`, the signatures from `signed_note`; no tree of our own.
//!
//! This room must never sign a checkpoint of a tree that is not durable, nor two that contradict one another.

mod check;
mod edge;
mod identity;
mod metrics;
mod reader;
mod sidecar;
#[cfg(test)]
mod tests;
mod tile;
mod tree;
pub mod witness;
mod witnessed;

pub use identity::Identity;
pub use metrics::Metrics;
pub use reader::{Reader, Tree};
pub use tree::{Log, Settled, Staged};
pub use witnessed::Witnessed;

/// Entries or hashes in a full tile, and so in the longest row of the log.
pub const TILE_WIDTH: u64 = tile::WIDTH as u64;
