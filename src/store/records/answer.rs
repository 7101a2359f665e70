//! What is kept of answers that may be asked for again.

use aigaq_proto::{Digest, Micros};
use serde::{Deserialize, Serialize};

/// The answer to a request that came with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// Digest of who asked, what for, and the key.
    pub name: Digest,
    /// Digest of what was asked.
    pub asked: Digest,
    /// Server clock.
    pub at: Micros,
    /// The HTTP status.
    pub status: u16,
    /// The header `content-type`; may be empty.
    pub content_type: String,
    /// The header `location`; may be empty.
    pub location: String,
    /// The body.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}
