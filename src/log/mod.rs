//! The transparency log: every committed link is a leaf of an RFC 6962 tree kept as C2SP tlog-tiles, and every commit
//! ends in a signed C2SP checkpoint.
//!
//! [`Log`] is the writer's side: it stages what a commit appends and takes it over only after the commit is durable.
//! [`Reader`] is everybody else's: checkpoints, tiles and receipts from what is stored. [`Identity`] is the key that
//! signs, [`succeed`] ends a log and begins the next, [`witness`] asks others to cosign, [`Stamps`] asks an authority what time it is. The hashing rules come from the crate `tlog_tiles`, the signatures from `signed_note`; no tree of our own.
//!
//! This room must never sign a checkpoint of a tree that is not durable, nor two that contradict one another.

mod alarm;
mod check;
mod edge;
mod identity;
mod metrics;
mod reader;
mod sidecar;
mod stamped;
mod stamps;
mod succession;
#[cfg(test)]
mod tests;
mod tile;
mod tree;
pub mod witness;
mod witnessed;

pub use identity::Identity;
pub use metrics::{Metrics, StampMetrics};
pub use reader::{Reader, Tree};
pub use stamped::{Stamp, Stamped};
pub use stamps::{Settings as StampSettings, Stamps};
pub use succession::{current_key, first_key, succeed};
pub use tree::{Log, Settled, Staged};
pub use witnessed::Witnessed;

use crate::error::{Context as _, Kind, Result};

/// Entries or hashes in a full tile, and so in the longest row of the log.
pub const TILE_WIDTH: u64 = tile::WIDTH as u64;

/// Work that waits for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context(Kind::Internal, "a question to the log failed")?
}
