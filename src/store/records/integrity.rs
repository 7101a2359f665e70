//! The values of integrity checks: situational cases, draws of who is checked, and the checks with what assessors scored.

use aigaq_proto::{Digest, Micros, RecorderId, Sequence};
use serde::{Deserialize, Serialize};

use super::Act;

/// Names a draw or a check: when it was made, microseconds, then random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CheckId(pub [u8; 16]);

/// A version of a situational case. Its name is the digest of its text, so that it can never become another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseRecord {
    /// The case as canonical JSON (RFC 8785).
    pub canonical: String,
    /// Who added it and when.
    pub added: Act,
    /// Number of the audit entry that has its digest.
    pub entry: u64,
}

/// A draw: what was committed to, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawRecord {
    /// Its name.
    pub id: CheckId,
    /// The department whose people are drawn.
    pub department: String,
    /// SHA-256 of the seed.
    pub seed_digest: Digest,
    /// Who can be drawn, sorted, each once.
    pub roster: Vec<String>,
    /// How many are drawn.
    pub count: u32,
    /// Who committed to it, when and for what.
    pub committed: Act,
    /// Number of the audit entry that has the digest of the commitment.
    pub entry: u64,
    /// What came of it; none before the seed is shown.
    pub revealed: Option<RevealedRecord>,
}

/// What came of a draw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevealedRecord {
    /// The seed.
    pub seed: Digest,
    /// Size of the first tree of the log that has the commitment.
    pub tree_size: u64,
    /// Its root.
    pub root: Digest,
    /// Who was drawn, in the order of the draw: places in the roster.
    pub drawn: Vec<u32>,
    /// When the seed was shown, server clock.
    pub at: Micros,
    /// By whom.
    pub by: String,
}

/// A span of footage, bound by its digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanRecord {
    /// Beginning, device clock.
    pub from: Micros,
    /// End, exclusive.
    pub to: Micros,
    /// The first media link that has a part in it.
    pub first: Sequence,
    /// The last one.
    pub last: Sequence,
    /// SHA-256 of the digests of those links, in the order of their sequences.
    pub digest: Digest,
}

/// What an assessor judged of one criterion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedRecord {
    /// The criterion of the case.
    pub criterion: String,
    /// Points, or for a time the seconds of the span, begun ones among them.
    pub value: u32,
    /// What shows it.
    pub span: SpanRecord,
}

/// What an assessor scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SheetRecord {
    /// Who.
    pub by: String,
    /// When, server clock.
    pub at: Micros,
    /// Which response the checked person chose.
    pub option: String,
    /// Each criterion of the case, in its order; of a third assessor those that decide.
    pub judged: Vec<JudgedRecord>,
}

/// A check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// Its name.
    pub id: CheckId,
    /// The department of the recorder when it was made.
    pub department: String,
    /// Whose footage shows it.
    pub recorder: RecorderId,
    /// Which case.
    pub case: Digest,
    /// The draw by which the person was chosen, if it was one.
    pub draw: Option<CheckId>,
    /// Who is checked.
    pub person: String,
    /// Beginning of the footage that may be bound, device clock.
    pub from: Micros,
    /// End, exclusive.
    pub to: Micros,
    /// Who made it and when.
    pub made: Act,
    /// The two who score, each by themselves.
    pub assessors: [String; 2],
    /// Who decides where the two disagree.
    pub third: Option<String>,
    /// What was scored, in the order in which it came; at most three.
    pub sheets: Vec<SheetRecord>,
    /// When nothing was left to decide, server clock.
    pub closed_at: Option<Micros>,
}
