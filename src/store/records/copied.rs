//! What is kept of copies: from which one a store was made, and how its log goes on.

use aigaq_proto::Micros;
use serde::{Deserialize, Serialize};

/// From which copy a store was made, and where that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRecord {
    /// When the copy was begun, server clock.
    pub taken_at: Micros,
    /// When it was put back.
    pub restored_at: Micros,
    /// Entries of the log in it: what the log had behind them is lost here.
    pub log_size: u64,
    /// How its log goes on.
    pub standing: Standing,
}

/// How the log of a store goes on that was put back. The order is that of the stored numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Nobody has said it, and the log has gone on after the copy: by a successor alone.
    Unsaid,
    /// It was said.
    Settled,
    /// Nobody has said it; nothing was running while the copy was taken, so that the log may have ended with it.
    UnsaidOfStopped,
}

impl RestoreRecord {
    /// Whether it was said how the log goes on: by a successor, or as it is, because nothing came after the copy.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.standing == Standing::Settled
    }
}
