//! What is kept of the feed: things as they happen, for those who watch.

use aigaq_proto::message::RefusalReason;
use aigaq_proto::{Digest, Micros, RecorderId, Sequence};
use serde::{Deserialize, Serialize};

use super::{IncidentState, MarkPlace};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedRecord {
    /// Its number; the next thing that happens has the next one.
    pub number: u64,
    /// When, the server's time.
    pub at: Micros,
    /// To which recorder; none if to the server.
    pub recorder: Option<RecorderId>,
    /// What.
    pub what: Occurrence,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Occurrence {
    /// The server started: nobody was connected.
    Started,
    /// A recorder that was not connected is.
    Connected,
    /// A recorder has no connection any more.
    Disconnected,
    /// A recorder that is expected to record does not, or its footage does not come.
    Dark {
        /// Why, as its coverage says.
        reason: String,
    },
    /// A recorder that was dark is no longer.
    Light,
    /// A mark of a chain is durable.
    Mark {
        /// Its place in the chain.
        sequence: Sequence,
        /// When, by the device's clock.
        captured_at: Micros,
        /// Its category.
        category: String,
        /// Its text.
        note: String,
    },
    /// A second link for a known sequence is kept.
    Fork {
        /// The sequence.
        sequence: Sequence,
        /// Digest of the other side.
        digest: Digest,
    },
    /// A link that failed a check is kept.
    Quarantined {
        /// The check.
        reason: RefusalReason,
        /// Which commit stored it.
        commit: u64,
        /// Its place among those of that commit.
        index: u32,
    },
    /// An operator raised a mark.
    OperatorMark {
        /// Its place.
        place: MarkPlace,
        /// Its category.
        category: String,
        /// Its text.
        note: String,
        /// Which operator.
        by: String,
    },
    /// A recorder holds a receipt for a link that the server does not have: it was put back to an older copy.
    Forgotten {
        /// The link.
        sequence: Sequence,
    },
    /// An incident came in, was stepped on, or more of it is known.
    Incident {
        /// Its number.
        number: u64,
        /// Its department.
        department: String,
        /// Where it stands.
        state: IncidentState,
        /// What was done: `opened`, a transition, `searched`, `noted`, or `found`, of a recorder.
        what: String,
    },
}

impl Occurrence {
    /// The names of all kinds.
    pub const NAMES: [&str; 10] = [
        "started",
        "connected",
        "disconnected",
        "dark",
        "light",
        "mark",
        "fork",
        "quarantine",
        "forgotten",
        "incident",
    ];

    /// The name of its kind.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Dark { .. } => "dark",
            Self::Light => "light",
            Self::Mark { .. } | Self::OperatorMark { .. } => "mark",
            Self::Fork { .. } => "fork",
            Self::Quarantined { .. } => "quarantine",
            Self::Forgotten { .. } => "forgotten",
            Self::Incident { .. } => "incident",
        }
    }
}
