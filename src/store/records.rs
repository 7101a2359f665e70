//! The values of the ledger: what is stored under each key of [`keys`](super::keys). Encoded with postcard; a value
//! begins with a version byte, so that a later release can tell what an earlier one wrote.

mod access;
mod answer;
mod audit;
mod copied;
mod feed;
mod field;
mod incident;
mod index;
mod integrity;
mod marks;
mod retention;
mod scrub;
mod shown;
mod statistics;
mod webhook;

use aigaq_proto::chain::Chain;
use aigaq_proto::message::RefusalReason;
use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId, Sequence};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};

pub use access::{AccountRecord, Class, ClassRecord, Grant, Role, Secret, SessionRecord};
pub use answer::AnswerRecord;
pub use audit::{AuditRecord, Event, LeafRecord};
pub use copied::{RestoreRecord, Standing};
pub use feed::{FeedRecord, Occurrence};
pub use field::{
    AnnouncementRecord, AssignmentRecord, AssignmentRevision, LossRecord, ProgressRecord, RequestRecord, RequestState,
};
pub use incident::{
    FoundRecord, IncidentCall, IncidentRecord, IncidentSource, IncidentState, NoteRecord, PlaceRecord, StepRecord,
    Transition,
};
pub use index::{PresenceRecord, RunRecord, RunsRecord, Step};
pub use integrity::{
    CaseRecord, CheckId, CheckRecord, DrawRecord, JudgedRecord, RevealedRecord, SheetRecord, SpanRecord,
};
pub use marks::{MarkPlace, MarkRecord, Raiser};
pub use retention::{
    Act, Cause, DayRecord, DestructionRecord, ExpiryRecord, ExtensionRecord, HoldRecord, Owner, WishRecord,
};
pub use scrub::{Found, ScrubRecord};
pub use shown::{CertificateRecord, RevocationListRecord};
pub use statistics::{CountedRecord, Entered, ReportedRecord};
pub use webhook::WebhookRecord;

/// What a value begins with.
const VERSION: u8 = 1;

/// The stored form of a record: the version byte, then postcard.
///
/// # Errors
/// [`Kind::Internal`] if the type cannot be encoded, which no record of this file can bring about.
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    postcard::to_extend(record, vec![VERSION]).context(Kind::Internal, "cannot encode a record")
}

/// Reads exactly one record from its stored form. `what` names it in the error.
///
/// # Errors
/// [`Kind::Damaged`] for an unknown version, for bytes that are no such record, and for bytes left over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T> {
    let damaged = |why: &str| Error::new(Kind::Damaged, format!("a record of {what} {why}"));
    let (version, rest) = bytes.split_first().ok_or_else(|| damaged("is empty"))?;
    if *version != VERSION {
        return Err(damaged(&format!("has the unknown version {version}")));
    }
    let (record, rest) = postcard::take_from_bytes(rest).map_err(|error| damaged("does not decode").because(error))?;
    if rest.is_empty() { Ok(record) } else { Err(damaged("has bytes left over")) }
}

/// Reads the records of a value that was appended to, to its end.
///
/// # Errors
/// As [`decode`].
pub fn decode_each<T: DeserializeOwned>(mut bytes: &[u8], what: &'static str) -> Result<Vec<T>> {
    let damaged = |why: &str| Error::new(Kind::Damaged, format!("a record of {what} {why}"));
    let mut all = Vec::new();
    while let Some((version, rest)) = bytes.split_first() {
        if *version != VERSION {
            return Err(damaged(&format!("has the unknown version {version}")));
        }
        let (record, rest) =
            postcard::take_from_bytes(rest).map_err(|error| damaged("does not decode").because(error))?;
        all.push(record);
        bytes = rest;
    }
    if all.is_empty() { Err(damaged("is empty")) } else { Ok(all) }
}

/// Where a body lies in the footage: keys begin with the expiry day and the commit, so that the files of different
/// commits never overlap and a whole day can be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FootageKey {
    /// Day on which the body expires, days since the Unix epoch.
    pub day: u32,
    /// Number of the commit that stored it.
    pub commit: u64,
    /// Place within the commit.
    pub index: u32,
}

/// Where a link's payload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// The link has no payload.
    None,
    /// A small payload, in the ledger itself (initialisation segments).
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    /// In the footage, as it was received.
    Footage(FootageKey),
    /// In the footage, sealed under the key of its recorder and day.
    Sealed(FootageKey),
}

impl Body {
    /// Where in the footage it lies, if it does.
    #[must_use]
    pub fn place(&self) -> Option<FootageKey> {
        match self {
            Self::None | Self::Inline(_) => None,
            Self::Footage(key) | Self::Sealed(key) => Some(*key),
        }
    }
}

/// The device clock against the server's, measured when the link arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// Device clock minus server clock, microseconds.
    pub offset_us: i64,
    /// Half the round trip of the measurement, microseconds.
    pub error_us: u32,
}

/// A committed link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// The header bytes as received; [`aigaq_proto::LinkHeader::decode`] reads them.
    #[serde(with = "serde_bytes")]
    pub header: Vec<u8>,
    /// The device's signature, 64 bytes.
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
    /// Server clock when the last byte had arrived; part of the log entry.
    pub received_at: Micros,
    /// The device clock's error, where it is known.
    pub clock: Option<ClockOffset>,
    /// Where the payload is.
    pub body: Body,
    /// Index in the transparency log.
    pub log_index: u64,
    /// Size of the log's tree after the commit that stored the link: the tree of its receipt.
    pub tree_size: u64,
}

/// A link that failed a check: kept with its reason, never part of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// Why.
    pub reason: RefusalReason,
    /// The header bytes as received.
    #[serde(with = "serde_bytes")]
    pub header: Vec<u8>,
    /// The signature as received.
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
    /// Server clock on arrival.
    pub received_at: Micros,
    /// SHA-256 of the payload that arrived.
    pub payload_digest: Digest,
    /// Length of the payload that arrived, bytes.
    pub payload_length: u64,
    /// Where it is.
    pub body: Body,
}

/// The state of one recorder's chain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeadRecord {
    /// Head, islands, gaps and breaks.
    pub chain: Chain,
    /// Number of links kept as the other side of a fork.
    pub forks: u32,
    /// Number of links in quarantine.
    pub quarantined: u32,
    /// Server clock of the last committed link.
    pub last_received_at: Micros,
}

/// What the timeline says of a link: enough for a playlist without reading the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineRecord {
    /// Length of the span, microseconds.
    pub duration_us: u32,
    /// What it is.
    pub kind: TimelineKind,
}

impl TimelineRecord {
    /// What the timeline says of the link with this header.
    #[must_use]
    pub fn of(header: &LinkHeader) -> Self {
        let kind = match &header.content {
            Content::Start { .. } => TimelineKind::Start,
            Content::Media { recording, ordinal, independent } => TimelineKind::Media {
                recording: *recording,
                ordinal: *ordinal,
                bytes: header.payload_length,
                independent: *independent,
            },
            Content::Mark { category, .. } => TimelineKind::Mark(category.clone()),
            Content::Health { .. } => TimelineKind::Health,
            Content::Stop { recording, cause } => TimelineKind::Stop { recording: *recording, cause: *cause },
            Content::ClockStep { .. } => TimelineKind::ClockStep,
            Content::Lost { first, last, cause, .. } => {
                TimelineKind::Lost { first: *first, last: *last, cause: *cause }
            }
        };
        Self { duration_us: header.duration_us, kind }
    }
}

/// The kinds of links as the timeline needs them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimelineKind {
    /// A recording begins.
    Start,
    /// A media segment.
    Media {
        /// Sequence of its `Start`.
        recording: Sequence,
        /// Number of media links before it.
        ordinal: u64,
        /// Payload length, bytes.
        bytes: u32,
        /// Whether the segment begins with a key frame.
        independent: bool,
    },
    /// A mark with its category.
    Mark(String),
    /// Health.
    Health,
    /// A recording ends.
    Stop {
        /// Sequence of its `Start`.
        recording: Sequence,
        /// Why.
        cause: aigaq_proto::link::StopCause,
    },
    /// The clock was set.
    ClockStep,
    /// Links of these sequences will never come.
    Lost {
        /// The first.
        first: Sequence,
        /// The last.
        last: Sequence,
        /// Why.
        cause: aigaq_proto::link::LossCause,
    },
}

/// What kind of thing carries the recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecorderKind {
    /// Worn by an officer.
    Officer,
    /// In a vehicle.
    Vehicle,
    /// Fixed in premises.
    Premises,
}

impl RecorderKind {
    /// As it is written everywhere: in files, in the API, in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Officer => "officer",
            Self::Vehicle => "vehicle",
            Self::Premises => "premises",
        }
    }
}

/// An enrolled recorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderRecord {
    /// Its identity: that of the first of its keys.
    pub id: RecorderId,
    /// What carries it.
    pub kind: RecorderKind,
    /// The department that owns it.
    pub department: String,
    /// What people call it.
    pub label: String,
    /// Every key that it has had, oldest first; never empty. Old ones stay, because links are signed with them.
    pub keys: Vec<RecorderKey>,
    /// When it was enrolled.
    pub enrolled_at: Micros,
    /// Set once and for ever: nothing of the recorder is taken any more. What was taken before stays.
    pub revoked: Option<Revocation>,
}

impl RecorderRecord {
    /// A recorder that enrols with its first key.
    #[must_use]
    pub fn new(kind: RecorderKind, department: String, label: String, key: RecorderKey) -> Self {
        let (id, enrolled_at) = (RecorderId::of_spki(&key.spki), key.since);
        Self { id, kind, department, label, keys: vec![key], enrolled_at, revoked: None }
    }

    /// The key with this DER `SubjectPublicKeyInfo`, if it is one of the recorder's.
    #[must_use]
    pub fn key(&self, spki: &[u8]) -> Option<&RecorderKey> {
        self.keys.iter().find(|key| key.spki == spki)
    }
}

/// A key of a recorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderKey {
    /// DER `SubjectPublicKeyInfo`.
    #[serde(with = "serde_bytes")]
    pub spki: Vec<u8>,
    /// Since when it is enrolled.
    pub since: Micros,
    /// When the newest certificate that this server gave it ends; it opens nothing after that. `None` for a key whose
    /// certificates come from an existing CA: those say by themselves when they end.
    pub not_after: Option<Micros>,
}

/// That a recorder's identity was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Server clock.
    pub at: Micros,
    /// Who did it, such as `account:anna` or `command line`.
    pub by: String,
    /// Why, for people; may be empty.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit() -> AuditRecord {
        let entry = AuditRecord::new(7, Event::LookUp, "token:first-start", "::1", "GET /v1/recorders");
        AuditRecord { number: 3, content: Some(Digest([1; 32])), ..entry.about("it").because("court").ended("denied") }
    }

    #[test]
    fn a_record_reads_back() {
        assert_eq!(decode::<AuditRecord>(&encode(&audit()).unwrap(), "audit").unwrap(), audit());
    }

    #[test]
    fn an_unknown_version_a_cut_record_and_bytes_left_over_are_damage() {
        let good = encode(&audit()).unwrap();
        let unknown = [&[VERSION + 1], &good[1..]].concat();
        let longer = [&good[..], &[0]].concat();
        for bad in [&unknown[..], &longer, &good[..good.len() - 1], &[]] {
            assert_eq!(decode::<AuditRecord>(bad, "audit").unwrap_err().kind(), Kind::Damaged);
        }
    }
}
