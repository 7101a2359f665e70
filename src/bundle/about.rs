//! What is said about the footage: gaps, positions, marks, custody. Times are RFC 3339 UTC: device clock, and `corrected` by the
//! server's where the offset is known.

use aigaq_proto::{Digest, Micros, RecorderId, Sequence};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::encoding::{base64, hashes, text};

/// Writes a time. A clock of a device may say anything: what lies beyond the year 9999 is written as its end.
#[must_use]
pub fn time(at: Micros) -> String {
    let time = i64::try_from(at).ok().and_then(|at| Timestamp::from_microsecond(at).ok()).unwrap_or(Timestamp::MAX);
    format!("{time:.6}")
}

/// `gaps.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gaps {
    /// One entry a recorder.
    pub recorders: Vec<RecorderGaps>,
}

/// What is missing of a recorder within the range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderGaps {
    /// The recorder.
    #[serde(with = "text")]
    pub recorder: RecorderId,
    /// In order of time.
    pub gaps: Vec<Gap>,
    /// From here on to the end of the range nothing is proven: no signed link follows that says what came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproven_from: Option<String>,
}

/// An interval without footage, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Beginning.
    pub from: String,
    /// End, exclusive.
    pub to: String,
    /// Both by the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<(String, String)>,
    /// `off`, `not-uploaded`, `lost-on-device`, `lost-with-restore`, `rejected`, `deleted-by-policy`, `clock-step`, `before-first`, `pending`, `unknown`, or
    /// `damaged`: what is stored is not what was received.
    pub cause: String,
    /// Why the recording before it ended, where a `Stop` link says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
    /// Why it was lost, where that is the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// The sequences that are missing, where they are the cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// How many, those that are not listed among them.
    #[serde(default)]
    pub missing_count: u64,
}

/// Missing sequences, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The first.
    pub first: Sequence,
    /// The last.
    pub last: Sequence,
    /// Why.
    pub cause: String,
}

/// An entry of `track/<recorder>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// When.
    pub at: String,
    /// The same by the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<String>,
    /// The link that says so.
    pub sequence: Sequence,
    /// WKT, WGS 84: `POINT(longitude latitude)`.
    pub point: String,
    /// Radius of 68 % confidence, decimetres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_dm: Option<u16>,
    /// Speed over ground, centimetres per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_cms: Option<u16>,
    /// Course over ground, hundredths of a degree from true north.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub course_cdeg: Option<u16>,
}

/// An entry of `markers.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The recorder.
    #[serde(with = "text")]
    pub recorder: RecorderId,
    /// When.
    pub at: String,
    /// The same by the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<String>,
    /// The link that says so.
    pub sequence: Sequence,
    /// Category, as the recorder named it.
    pub category: String,
    /// Free text.
    pub note: String,
    /// How much before belongs to it, seconds.
    pub before_s: u16,
    /// How much after, seconds.
    pub after_s: u16,
}

/// A line of `custody.jsonl`: an entry of the audit trail about these spans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custody {
    /// When.
    pub at: String,
    /// Who.
    pub actor: String,
    /// From where.
    pub source: String,
    /// What.
    pub action: String,
    /// Why.
    pub reason: String,
    /// What came of it.
    pub outcome: String,
    /// The entry as it is stored: the log has the digest of these bytes.
    #[serde(with = "base64")]
    pub entry: Vec<u8>,
    /// Index in the log; none for an entry that is not in it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_index: Option<u64>,
    /// Inclusion proof against the checkpoint of the bundle, base64.
    #[serde(default, with = "hashes")]
    pub proof: Vec<Digest>,
}
