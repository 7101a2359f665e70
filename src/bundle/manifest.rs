//! `manifest.json`: what was asked for, what is there, and every file with its digest.

use aigaq_proto::{Digest, RecorderId, Sequence};
use serde::{Deserialize, Serialize};

use super::encoding::{at_most, text};
use super::{FILES_MAX, RECORDERS_MAX};

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`](super::FORMAT).
    pub format: String,
    /// Number of the export.
    pub export: String,
    /// When it was made, RFC 3339 UTC.
    pub created_at: String,
    /// Name and version of the program.
    pub software: String,
    /// Who asked for it.
    pub operator: String,
    /// The log that exported: its origin.
    pub unit: String,
    /// What for.
    pub purpose: String,
    /// Why.
    pub reason: String,
    /// What was asked for.
    pub requested: Requested,
    /// What is there, one entry a recorder.
    #[serde(deserialize_with = "at_most::<RECORDERS_MAX, _, _>")]
    pub delivered: Vec<Delivered>,
    /// `vkey` of the log.
    pub log: String,
    /// Every file but the manifest itself, [`SUMS`](super::SUMS) and [`SIGNATURE`](super::SIGNATURE).
    #[serde(deserialize_with = "at_most::<FILES_MAX, _, _>")]
    pub files: Vec<File>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requested {
    /// Recorders, hexadecimal.
    #[serde(deserialize_with = "at_most::<RECORDERS_MAX, _, _>")]
    pub recorders: Vec<String>,
    /// Beginning, device clock, RFC 3339 UTC.
    pub from: String,
    /// End, exclusive.
    pub to: String,
}

/// What is there of a recorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The recorder.
    #[serde(with = "text")]
    pub recorder: RecorderId,
    /// The department that owns it.
    pub department: String,
    /// What people call it.
    pub label: String,
    /// What the exporter found: `authentic`, `authentic-with-gaps`, `pending`, `unsigned` or `not-authentic`.
    pub verdict: String,
    /// The first and the last sequence whose links are there; none if there are none.
    pub sequences: Option<(Sequence, Sequence)>,
    /// Recordings, in order of time.
    #[serde(deserialize_with = "at_most::<FILES_MAX, _, _>")]
    pub media: Vec<Media>,
}

/// A file of media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Its path.
    pub path: String,
    /// Sequence of the `Start` link.
    pub recording: Sequence,
    /// Number of segments.
    pub segments: u64,
    /// Beginning of the first segment, device clock, RFC 3339 UTC. Segments are whole: it may lie before the range.
    pub from: String,
    /// End of the last.
    pub to: String,
    /// Both by the server's clock, where the offset is known: on it all recorders of an export lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<(String, String)>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Path below the directory of the bundle, `/` between the parts.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// Digest, hexadecimal.
    #[serde(with = "text")]
    pub sha256: Digest,
}
