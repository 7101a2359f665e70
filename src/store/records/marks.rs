//! What is kept of marks beside the chain: where each lies in time, whoever raised it, and which took the place of which.

use aigaq_proto::{Micros, RecorderId, Sequence};
use serde::{Deserialize, Serialize};

/// Who raised a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Raiser {
    /// The recorder: the mark is the link with this sequence.
    Recorder(Sequence),
    /// An operator: its number among those of the recorder at that moment.
    Operator(u64),
}

/// A mark's place, which is its name, too: in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MarkPlace {
    /// When, by the device's clock for those of a recorder and by the server's for those of an operator.
    pub at: Micros,
    /// On whose footage.
    pub recorder: RecorderId,
    /// Who raised it.
    pub raiser: Raiser,
}

/// A mark. Of one that a recorder raised this is a copy of what its link says; of an operator's the trail has the digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkRecord {
    /// Its place.
    pub place: MarkPlace,
    /// Its category.
    pub category: String,
    /// Free text; may be empty.
    pub note: String,
    /// Beginning of what it says belongs to it.
    pub from: Micros,
    /// End, exclusive.
    pub to: Micros,
    /// Server clock when it became known.
    pub recorded_at: Micros,
    /// Which operator; empty for a recorder.
    pub by: String,
    /// The mark whose place it takes.
    pub corrects: Option<MarkPlace>,
}
