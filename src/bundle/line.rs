//! `chain/<recorder>.jsonl`: one line a link of every kind, by sequence; then the other sides of forks, then what is in quarantine.
//!
//! Reading a line takes memory for members that are known, and for nothing else that stands in it.

use aigaq_proto::link::Fix;
use aigaq_proto::{Content, Digest, LinkHeader, Micros, Sequence};
use serde::{Deserialize, Serialize};

use super::encoding::{base64, base64_option, hashes, text, text_option};

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", try_from = "Members")]
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
#[serde(tag = "at", rename_all = "kebab-case", try_from = "Place")]
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

/// The members of a line of any type.
#[derive(Deserialize)]
struct Members {
    #[serde(rename = "type")]
    sort: Type,
    #[serde(default)]
    sequence: Option<Sequence>,
    #[serde(default, with = "text_option")]
    digest: Option<Digest>,
    #[serde(with = "base64")]
    header: Vec<u8>,
    #[serde(with = "base64")]
    signature: Vec<u8>,
    #[serde(default, with = "text_option")]
    key: Option<Digest>,
    received_at: Micros,
    #[serde(default)]
    clock: Option<Clock>,
    #[serde(default)]
    log_index: Option<u64>,
    #[serde(default, with = "hashes")]
    proof: Vec<Digest>,
    payload: Payload,
    #[serde(default)]
    says: Option<Says>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default, with = "text_option")]
    payload_digest: Option<Digest>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Type {
    Link,
    Fork,
    Quarantined,
}

impl TryFrom<Members> for Line {
    type Error = &'static str;

    fn try_from(members: Members) -> Result<Self, Self::Error> {
        let Members { sort, header, signature, received_at, payload, says, .. } = members;
        if sort == Type::Quarantined {
            return Ok(Self::Quarantined(Quarantined {
                reason: members.reason.ok_or("there is no reason")?,
                header,
                signature,
                received_at,
                payload_digest: members.payload_digest.ok_or("there is no payload_digest")?,
                payload,
                says,
            }));
        }
        let link = Link {
            sequence: members.sequence.ok_or("there is no sequence")?,
            digest: members.digest.ok_or("there is no digest")?,
            header,
            signature,
            key: members.key,
            received_at,
            clock: members.clock,
            log_index: members.log_index.ok_or("there is no log_index")?,
            proof: members.proof,
            payload,
            says: says.ok_or("there is nothing that the header says")?,
        };
        Ok(if sort == Type::Fork { Self::Fork(link) } else { Self::Link(link) })
    }
}

/// The members of a payload of any kind.
#[derive(Deserialize)]
struct Place {
    at: At,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    offset: Option<u64>,
    #[serde(default)]
    length: Option<u64>,
    #[serde(default, deserialize_with = "base64_option::deserialize")]
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    statement: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum At {
    None,
    File,
    Line,
    Deleted,
    Outside,
    Damaged,
}

impl TryFrom<Place> for Payload {
    type Error = &'static str;

    fn try_from(place: Place) -> Result<Self, Self::Error> {
        Ok(match place.at {
            At::None => Self::None,
            At::File => Self::File {
                path: place.path.ok_or("there is no path")?,
                offset: place.offset.ok_or("there is no offset")?,
                length: place.length.ok_or("there is no length")?,
            },
            At::Line => Self::Line { bytes: place.bytes.ok_or("there are no bytes")? },
            At::Deleted => Self::Deleted { statement: place.statement },
            At::Outside => Self::Outside,
            At::Damaged => Self::Damaged,
        })
    }
}
