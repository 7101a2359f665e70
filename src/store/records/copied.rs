//! What is kept of copies: from which one a store was made.

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
    /// Whether it was said how the log goes on: by a successor, or as it is, because nothing came after the copy.
    pub is_settled: bool,
}
