//! `chain/<recorder>.jsonl`: one line a link of every kind, by sequence; then the other sides of forks, then what is in quarantine.

use aigaq_proto::link::Fix;
use aigaq_proto::{Content, Digest, LinkHeader, Micros, Sequence};
use serde::{Deserialize, Serialize};

use super::encoding::{base64, hashes, text, text_option};

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Line {
    /// A link of the chain.
    Link(Link),
    /// A link that claims a sequence which another one has.
    Fork(Link),
    /// A link that failed a check, and is no part of the chain.
    Quarantined(Quarantined),
}

/// A link as it was committed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Its place in the chain.
    pub sequence: Sequence,
    /// Its digest, hexadecimal.
    #[serde(with = "text")]
    pub digest: Digest,
    /// The header as received.
    #[serde(with = "base64")]
    pub header: Vec<u8>,
    /// The signature as received, 64 bytes.
    #[serde(with = "base64")]
    pub signature: Vec<u8>,
    /// SHA-256 of the DER `SubjectPublicKeyInfo` that verifies the signature, hexadecimal; none if no key of the recorder does.
    #[serde(with = "text_option")]
    pub key: Option<Digest>,
    /// Server clock when the last byte had arrived, microseconds; part of the log entry.
    pub received_at: Micros,
    /// The device clock against the server's when it arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// Index in the log.
    pub log_index: u64,
    /// Inclusion proof against the checkpoint of the bundle, base64.
    #[serde(with = "hashes")]
    pub proof: Vec<Digest>,
    /// Where the payload is.
    pub payload: Payload,
    /// What the header says, for people.
    pub says: Says,
}

/// A link in quarantine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Why.
    pub reason: String,
    /// The header as received; it may not decode.
    #[serde(with = "base64")]
    pub header: Vec<u8>,
    /// The signature as received.
    #[serde(with = "base64")]
    pub signature: Vec<u8>,
    /// Server clock on arrival, microseconds.
    pub received_at: Micros,
    /// SHA-256 of the payload that arrived, hexadecimal.
    #[serde(with = "text")]
    pub payload_digest: Digest,
    /// Where it is.
    pub payload: Payload,
    /// What the header says, for people, where it decodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<Says>,
}

/// Device clock minus server clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Microseconds.
    pub offset_us: i64,
    /// The measurement may be wrong by this much either way, microseconds.
    pub error_us: u32,
}

/// Where a payload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "kebab-case")]
pub enum Payload {
    /// The link has none.
    None,
    /// In a file of the bundle.
    File {
        /// Which.
        path: String,
        /// Where it begins, bytes.
        offset: u64,
        /// Its length, bytes.
        length: u64,
    },
    /// Here.
    Line {
        /// The payload.
        #[serde(with = "base64")]
        bytes: Vec<u8>,
    },
    /// Its time was over and it was deleted.
    Deleted {
        /// Index in the log of the statement that says so, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        statement: Option<u64>,
    },
    /// It covers no time of the range that was asked for.
    Outside,
    /// What is stored is not what was received: it is not in the bundle.
    Damaged,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Says {
    /// Device clock at the first sample or the event, RFC 3339 UTC.
    pub captured_at: String,
    /// The same by the server's clock, where the offset is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected_at: Option<String>,
    /// Length of the span, microseconds.
    pub duration_us: u32,
    /// Digest of the link before it, hexadecimal.
    #[serde(with = "text")]
    pub previous: Digest,
    /// SHA-256 of the payload, hexadecimal.
    #[serde(with = "text")]
    pub payload_digest: Digest,
    /// Length of the payload, bytes.
    pub payload_length: u32,
    /// What it states.
    pub content: Content,
    /// Where the recorder was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixes: Vec<Fix>,
}

impl Says {
    /// What this header says.
    #[must_use]
    pub fn of(header: &LinkHeader, clock: Option<Clock>) -> Self {
        Self {
            captured_at: super::about::time(header.captured_at),
            corrected_at: clock.map(|clock| super::about::time(clock.corrected(header.captured_at))),
            duration_us: header.duration_us,
            previous: header.previous,
            payload_digest: header.payload_digest,
            payload_length: header.payload_length,
            content: header.content.clone(),
            fixes: header.fixes.clone(),
        }
    }
}

impl Clock {
    /// The server's time at this time of the device.
    #[must_use]
    pub fn corrected(self, device: Micros) -> Micros {
        device.saturating_add_signed(self.offset_us.saturating_neg())
    }
}
