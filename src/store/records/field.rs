//! What is kept of recorders in the field beside their chains: what they announced, what the control centre asked of them, who
//! had them when, and which links they said are lost.

use aigaq_proto::link::LossCause;
use aigaq_proto::{Digest, Micros, RecorderId, Sequence, SequenceRange};
use serde::{Deserialize, Serialize};

use super::ClockOffset;

/// What a recorder announced last, and what else is known of the sequences that it used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AnnouncementRecord {
    /// Server clock when it was announced; 0 before the first time.
    pub at: Micros,
    /// The device clock's error then.
    pub clock: Option<ClockOffset>,
    /// Sequences that wait on the device, rising.
    pub waiting: Vec<SequenceRange>,
    /// Their size, bytes.
    pub bytes: u64,
    /// Device clock at the beginning of the oldest of them.
    pub oldest: Option<Micros>,
    /// Device clock at the end of the newest of them.
    pub newest: Option<Micros>,
    /// The greatest sequence that the recorder had made when it announced this, as far as it can be told.
    pub up_to: Option<Sequence>,
    /// The greatest sequence that the recorder is known to have used.
    pub reserved: Option<Sequence>,
    /// Sequences that were refused for ever, rising; at most `RANGES_MAX` ranges, the newest.
    pub refused: Vec<SequenceRange>,
    /// Sequences that were receipted before the server was put back to an older copy and did not come again, as far as it can be told;
    /// rising, at most `RANGES_MAX` ranges, the newest.
    pub forgotten: Vec<SequenceRange>,
    /// Index in the log of the newest receipt that showed it.
    pub forgotten_by: Option<u64>,
}

/// Where a request for a range stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestState {
    /// It is wanted.
    Open,
    /// The recorder has sent all that it held.
    Done(Micros),
    /// Its time was over.
    Expired(Micros),
    /// Nobody wants it any more.
    Cancelled(Micros),
}

/// How far a recorder said it is with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressRecord {
    /// Server clock when it said so.
    pub at: Micros,
    /// Links of the range.
    pub links: u64,
    /// Those without a receipt.
    pub links_left: u64,
    /// Payload of all of them, bytes.
    pub bytes: u64,
    /// Payload of those without a receipt, bytes.
    pub bytes_left: u64,
}

/// A range of time that the control centre asked a recorder for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The recorder.
    pub recorder: RecorderId,
    /// Its number, greater than that of every request before it.
    pub id: u64,
    /// Beginning of the range, server clock.
    pub from: Micros,
    /// End, exclusive.
    pub to: Micros,
    /// When it is no longer wanted, server clock.
    pub expires_at: Micros,
    /// When it was made.
    pub created_at: Micros,
    /// Why, in the words of the one who asked.
    pub reason: String,
    /// Digest of the idempotency key and the request that came with it, where there was one.
    pub key: Option<(Digest, Digest)>,
    /// Where it stands.
    pub state: RequestState,
    /// When it first went to the recorder.
    pub sent_at: Option<Micros>,
    /// What the recorder said last.
    pub progress: Option<ProgressRecord>,
}

/// Who had a recorder from one moment on: every version of the answer, the last of which holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AssignmentRecord {
    /// Oldest first, never empty; none is ever taken away.
    pub revisions: Vec<AssignmentRevision>,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentRevision {
    /// Officer, vehicle or premises; none when the assignment was withdrawn.
    pub assignee: Option<String>,
    /// End, exclusive; none while it lasts.
    pub to: Option<Micros>,
    /// Server clock when this was written down.
    pub recorded_at: Micros,
    /// By whom.
    pub actor: String,
}

impl AssignmentRecord {
    /// The assignee and the end, unless it was withdrawn.
    #[must_use]
    pub fn holds(&self) -> Option<(&str, Option<Micros>)> {
        let last = self.revisions.last()?;
        Some((last.assignee.as_deref()?, last.to))
    }
}

/// What a signed `Lost` link says of sequences that will never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossRecord {
    /// The last of them.
    pub last: Sequence,
    /// Device clock: what they covered begins here.
    pub from: Micros,
    /// And ends here.
    pub to: Micros,
    /// Why they are lost.
    pub cause: LossCause,
}
