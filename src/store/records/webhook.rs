//! What is kept of webhooks.

use serde::{Deserialize, Serialize};

use super::Act;

/// Where events are sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookRecord {
    /// What it is called; its key.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// What its messages are signed with, 24 to 64 bytes.
    #[serde(with = "serde_bytes")]
    pub secret: Vec<u8>,
    /// Only these kinds of events; all if there are none.
    pub kinds: Vec<String>,
    /// Only events of this department.
    pub department: Option<String>,
    /// Whether it comes from the configuration.
    pub configured: bool,
    /// Who made it, and when.
    pub made: Act,
    /// The last event that it has, or does not want.
    pub cursor: u64,
}

impl std::fmt::Debug for WebhookRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookRecord").field("name", &self.name).field("cursor", &self.cursor).finish_non_exhaustive()
    }
}
