//! What is said about the footage: gaps, positions, marks, custody. Times are RFC 3339 UTC: device clock, and `corrected` by the
//! server's where the offset is known.

use aigaq_proto::link::Fix;
use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId, Sequence};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::encoding::{base64, hashes, text};
use super::line::Clock;

/// Writes a time. A clock of a device may say anything: what lies beyond the year 9999 is written as its end.
#[must_use]
pub fn time(at: Micros) -> String {
    let time = i64::try_from(at).ok().and_then(|at| Timestamp::from_microsecond(at).ok()).unwrap_or(Timestamp::MAX);
    format!("{time:.6}")
}

/// Reads what [`time`] wrote, and nothing else.
#[must_use]
pub fn micros(text: &str) -> Option<Micros> {
    let at = Micros::try_from(text.parse::<Timestamp>().ok()?.as_microsecond()).ok()?;
    (time(at) == text).then_some(at)
}

/// Whether a link lies in a half-open range of device time, or reaches into it.
#[must_use]
pub fn touches(range: &std::ops::Range<Micros>, header: &LinkHeader) -> bool {
    let end = header.captured_at.saturating_add(u64::from(header.duration_us));
    header.captured_at < range.end && (header.captured_at >= range.start || end > range.start)
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

/// An entry of `track/<recorder>.json`: a fix of a link that touches the range.
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

impl Position {
    /// The positions that the link with this header states, in its order.
    pub fn all(header: &LinkHeader, clock: Option<Clock>) -> impl Iterator<Item = Self> + '_ {
        header.fixes.iter().map(move |fix| Self::of(header.captured_at, header.sequence, fix, clock))
    }

    fn of(captured_at: Micros, sequence: Sequence, fix: &Fix, clock: Option<Clock>) -> Self {
        let at = captured_at.saturating_add(u64::from(fix.offset_ms).saturating_mul(1_000));
        let degrees = |e7: i32| {
            let (sign, e7) = (if e7 < 0 { "-" } else { "" }, e7.unsigned_abs());
            format!("{sign}{}.{:07}", e7 / 10_000_000, e7 % 10_000_000)
        };
        let known = |value: u16| (value != u16::MAX).then_some(value);
        Self {
            at: time(at),
            corrected: clock.map(|clock| time(clock.corrected(at))),
            sequence,
            point: format!("POINT({} {})", degrees(fix.longitude_e7), degrees(fix.latitude_e7)),
            accuracy_dm: known(fix.accuracy_dm),
            speed_cms: known(fix.speed_cms),
            course_cdeg: known(fix.course_cdeg),
        }
    }
}

/// An entry of `markers.json`: a `Mark` link that touches the range.
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

impl Marker {
    /// The mark that the link with this header is, if it is one.
    #[must_use]
    pub fn of(header: &LinkHeader, clock: Option<Clock>) -> Option<Self> {
        let Content::Mark { category, note, before_s, after_s } = &header.content else { return None };
        Some(Self {
            recorder: header.recorder,
            at: time(header.captured_at),
            corrected: clock.map(|clock| time(clock.corrected(header.captured_at))),
            sequence: header.sequence,
            category: category.clone(),
            note: note.clone(),
            before_s: *before_s,
            after_s: *after_s,
        })
    }
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
