//! Messages of the control stream (SPEC.md section 6). Each travels in one [`frame`](crate::frame).

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{Digest, Micros, RecorderId, Sequence, SequenceRange};

/// What the recorder holds and has no receipt for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpoolSummary {
    /// Runs of sequences that wait, oldest first, at most `RANGES_MAX`.
    pub waiting: Vec<SequenceRange>,
    /// Their size, bytes.
    pub bytes: u64,
    /// Captured-at of the oldest of them, if any.
    pub oldest: Option<Micros>,
    /// End of the time span of the newest of them, if any.
    pub newest: Option<Micros>,
}

/// One end of a chain: a link's place and digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEnd {
    /// The link's sequence.
    pub sequence: Sequence,
    /// The link's digest.
    pub digest: Digest,
}

/// First message of a recorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Name and version of the recorder's software.
    pub software: String,
    /// The recorder's clock now.
    pub clock: Micros,
    /// What it holds.
    pub spool: SpoolSummary,
    /// The newest receipt it was given, whole, so that a server that lost something finds out and cannot be told tales.
    pub last_receipt: Option<Receipt>,
}

/// First message of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The recorder's identity as the server knows it from the certificate.
    pub recorder: RecorderId,
    /// The server's clock now.
    pub clock: Micros,
    /// The sequences that are durable, oldest first, at most `RANGES_MAX`.
    pub durable: Vec<SequenceRange>,
    /// The durable link with the greatest sequence: a recorder that lost its state goes on after it.
    pub newest: Option<ChainEnd>,
    /// Greatest payload the server takes, bytes.
    pub payload_bytes_max: u32,
    /// How many links may be under way at once.
    pub links_in_flight_max: u32,
    /// The greatest sequence that this recorder has ever sent or said that it holds: a recorder that lost its state goes on
    /// after it, so that no sequence is used twice.
    pub reserved: Option<Sequence>,
}

/// Links that the recorder holds without their receipts, and that the server has listed as durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Place and digest of each, by rising sequence, at most `RANGES_MAX`.
    pub links: Vec<ChainEnd>,
}

/// How far the recorder is with a [`Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The request.
    pub id: u64,
    /// Links of the range that it held when the request came, and those made since.
    pub links: u64,
    /// How many of them still have no receipt; 0 when all is done.
    pub links_left: u64,
    /// Payload of all of them, bytes.
    pub bytes: u64,
    /// Payload of those that have no receipt, bytes.
    pub bytes_left: u64,
}

/// The recorder's state, sent every 30 s and when it changes much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The recorder's clock now.
    pub clock: Micros,
    /// What it holds.
    pub spool: SpoolSummary,
}

/// The server's promise that a link is durable and in its transparency log (SPEC.md section 10). Checked by
/// `receipt::verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The link's sequence.
    pub sequence: Sequence,
    /// The link's digest.
    pub digest: Digest,
    /// The server's clock when the last byte of the link had arrived; part of the log entry.
    pub received_at: Micros,
    /// Index of the entry in the log.
    pub log_index: u64,
    /// RFC 6962 inclusion proof of the entry in the tree of `checkpoint`, leaf side first, at most `PROOF_HASHES_MAX`.
    pub proof: Vec<Digest>,
    /// C2SP signed checkpoint, at most `CHECKPOINT_BYTES_MAX`.
    pub checkpoint: String,
}

/// A link was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The QUIC stream that carried the link.
    pub stream: u64,
    /// The link's sequence, if its header could be read.
    pub sequence: Option<Sequence>,
    /// What is wrong.
    pub reason: RefusalReason,
    /// What the recorder should do.
    pub advice: Advice,
    /// The same for a person, at most `TEXT_BYTES_MAX`; never needed to act on.
    pub detail: String,
}

/// What is wrong with a refused link. The discriminants are the order of the table in SPEC.md section 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefusalReason {
    /// The stream does not begin as section 5 says, or the header does not decode.
    Malformed,
    /// The header names another recorder than the certificate.
    WrongRecorder,
    /// The payload is larger than the server takes.
    PayloadTooLarge,
    /// The payload's length differs from the header's. Quarantined.
    LengthMismatch,
    /// The payload's digest differs from the header's. Quarantined.
    DigestMismatch,
    /// The signature does not verify under the recorder's key. Quarantined.
    BadSignature,
    /// Another link with this sequence is already durable. Both are kept.
    Fork,
    /// The sequence is too far beyond the chain, or the chain has too many holes.
    TooFarAhead,
    /// The stream made too little progress.
    Stalled,
    /// The server has no room in memory or too many links wait.
    Busy,
    /// The server's disk is nearly full.
    StorageFull,
    /// The recorder has used up what it may leave in quarantine or forks.
    Quota,
}

impl RefusalReason {
    /// As documents name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongRecorder => "wrong-recorder",
            Self::PayloadTooLarge => "payload-too-large",
            Self::LengthMismatch => "length-mismatch",
            Self::DigestMismatch => "digest-mismatch",
            Self::BadSignature => "bad-signature",
            Self::Fork => "fork",
            Self::TooFarAhead => "too-far-ahead",
            Self::Stalled => "stalled",
            Self::Busy => "busy",
            Self::StorageFull => "storage-full",
            Self::Quota => "quota",
        }
    }

    /// Every reason, in the order of its discriminant.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::WrongRecorder,
        Self::PayloadTooLarge,
        Self::LengthMismatch,
        Self::DigestMismatch,
        Self::BadSignature,
        Self::Fork,
        Self::TooFarAhead,
        Self::Stalled,
        Self::Busy,
        Self::StorageFull,
        Self::Quota,
    ];
}

/// What a recorder does about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Advice {
    /// Send the same link again after this delay, milliseconds.
    RetryAfter {
        /// The delay.
        delay_ms: u32,
    },
    /// Send the links from this sequence on, in order.
    ResendFrom {
        /// The first sequence wanted.
        sequence: Sequence,
    },
    /// Do not send this link again: it will never be accepted as it is.
    Never,
    /// Stop sending and enrol again.
    Reenrol,
}

/// The server wants a time range now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Names the request in a later message.
    pub id: u64,
    /// Beginning of the range.
    pub from: Micros,
    /// End of the range, exclusive.
    pub to: Micros,
    /// When the server no longer wants it.
    pub expires: Micros,
}

/// The server no longer wants the range of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The request.
    pub id: u64,
}

/// The log ended, and another one goes on (SPEC.md section 10.3). Checked by `succession::follow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// The statements of all ends of this log, oldest first, at most `SUCCESSION_BYTES_MAX`.
    pub notes: String,
}

/// Claimed links that are not durable as claimed: the recorder sends them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unclaimed {
    /// Their sequences, by rising sequence, at most `RANGES_MAX` ranges.
    pub sequences: Vec<SequenceRange>,
}

/// The server will close the connection: finish what is under way and connect again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// How long to wait before connecting again, drawn for this recorder, milliseconds.
    pub reconnect_after_ms: u32,
}
