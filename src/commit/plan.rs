//! A batch on its way to the store: what is to be committed, and what each waiter will be told.
//!
//! A plan is made before anything is durable and answers nobody. What it tells after the commit is fixed here, so
//! that the writer only has to choose between "it is durable" and "there was no room". It moves payloads and never
//! copies them.
//!
//! What a refused link is told:
//!
//! | decision | reason | advice |
//! |---|---|---|
//! | fork, new or known | `Fork` | never: the sequence is taken |
//! | payload's length or digest wrong, first time | that | once more after [`RETRY_FAULT_MS`]: a read may have failed |
//! | the same again, or a bad signature | that | never |
//! | too far ahead | `TooFarAhead` | from the first missing sequence on |
//! | payload's length or digest wrong, first time, over its quota | that | the same, but it is not kept |
//! | the same again, a bad signature, or a fork, over its quota | `Quota` | never |
//! | no room on disk | `StorageFull` | again after [`RETRY_STORAGE_MS`] |
//! | no key for the footage, because a KMS is away | `Busy` | again after [`RETRY_KEY_MS`] |

use std::collections::HashMap;

use aigaq_proto::message::{Advice, RefusalReason};
use aigaq_proto::{Digest, Micros, Sequence};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::metrics::{Fate, Metrics};
use super::{Outcome, Submission};
use crate::chain::{self, Decision, Heads, Offer};
use crate::error::{Error, Kind, Result};
use crate::log::{self, Log};
use crate::store::records::{Body, LinkRecord, QuarantineRecord};
use crate::store::{Commit, NewLink, NewQuarantine, Statement};

/// When a link whose payload was wrong may come again, milliseconds.
pub(super) const RETRY_FAULT_MS: u32 = 1_000;
/// When a link for which there was no room may come again, milliseconds.
pub(super) const RETRY_STORAGE_MS: u32 = 5_000;
/// When a link whose footage has no key yet may come again, milliseconds.
pub(super) const RETRY_KEY_MS: u32 = 2_000;

/// What is promised about a link of the batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    pub(super) sequence: Sequence,
    pub(super) digest: Digest,
    pub(super) received_at: Micros,
    pub(super) log_index: u64,
}

/// What a waiter will be told.
#[derive(Debug)]
pub(super) enum Answer {
    /// Once the batch is durable: a receipt.
    Receipt(Leaf),
    /// At the same time: the receipt of a link that was durable before.
    Again(Box<LinkRecord>, Digest),
    /// Once the batch, and the evidence in it, is durable: a refusal.
    Evidence(Outcome),
    /// Whatever becomes of the batch: a refusal.
    Refusal(Outcome),
}

/// Somebody who waits for an answer.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) answer: Answer,
    pub(super) fate: Fate,
    pub(super) received_at: Micros,
    pub(super) reply: oneshot::Sender<Outcome>,
    /// Held until the answer.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// What a commit brings that is counted once it is durable.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) links: usize,
    pub(super) bytes: u64,
    pub(super) breaks: usize,
    pub(super) forks: usize,
    pub(super) quarantined: usize,
}

/// A batch in the making.
pub(super) struct Plan<'a> {
    pub(super) heads: chain::Staged<'a>,
    pub(super) log: log::Staged,
    pub(super) waiters: Vec<Waiter>,
    pub(super) tally: Tally,
    links: Vec<NewLink>,
    forks: Vec<NewLink>,
    quarantined: Vec<NewQuarantine>,
    leaves: HashMap<Digest, Leaf>,
    statements: Vec<(u64, u64)>,
}

impl<'a> Plan<'a> {
    pub(super) fn begin(heads: &'a mut Heads, log: &Log) -> Self {
        Self {
            heads: heads.stage(),
            log: log.stage(),
            waiters: Vec::new(),
            tally: Tally::default(),
            links: Vec::new(),
            forks: Vec::new(),
            quarantined: Vec::new(),
            leaves: HashMap::new(),
            statements: Vec::new(),
        }
    }

    /// Takes entries of the audit trail into the plan.
    pub(super) fn state(&mut self, statements: &[Statement]) {
        for Statement { number, digest, at } in statements {
            self.statements.push((*number, self.log.append(digest, *at)));
        }
    }

    /// Answers a link with a refusal and does not take it into the plan.
    pub(super) fn refuse(&mut self, submission: Submission, why: Outcome, fate: Fate) {
        let Submission { received_at, reply, permit, .. } = submission;
        self.waiters.push(Waiter { answer: Answer::Refusal(why), fate, received_at, reply, permit });
    }

    /// Takes a link into the plan. On an error the link is not in it, and its waiter is told by the dropped reply.
    pub(super) fn add(&mut self, submission: Submission) -> Result<()> {
        let offer = Offer {
            header: &submission.header,
            digest: submission.digest,
            received_at: submission.received_at,
            faulty: submission.fault.is_some(),
        };
        let decision = self.heads.decide(&offer)?;
        let mut submission = submission;
        let (answer, fate) = match decision {
            Decision::New { breaks } => {
                self.tally.breaks += breaks;
                let (link, leaf) = self.append(&mut submission);
                self.leaves.insert(leaf.digest, leaf);
                self.links.push(link);
                (Answer::Receipt(leaf), Fate::Stored)
            }
            Decision::Repeat => (Answer::Receipt(self.leaf(&submission.digest)?), Fate::Duplicate),
            Decision::Duplicate(record) => (Answer::Again(record, submission.digest), Fate::Duplicate),
            Decision::Fork => {
                let (link, _) = self.append(&mut submission);
                self.forks.push(link);
                (Answer::Evidence(forked()), Fate::Fork)
            }
            Decision::KnownFork => (Answer::Evidence(forked()), Fate::Duplicate),
            Decision::Quarantine => {
                let reason = submission.fault.unwrap_or(RefusalReason::Malformed);
                self.quarantine(&mut submission, reason);
                (Answer::Evidence(faulty(reason, Fault::First)), Fate::Quarantined(reason))
            }
            Decision::KnownQuarantine => {
                let reason = submission.fault.unwrap_or(RefusalReason::Malformed);
                (Answer::Evidence(faulty(reason, Fault::Again)), Fate::Duplicate)
            }
            Decision::Unkept { again } => {
                let reason = submission.fault.unwrap_or(RefusalReason::Malformed);
                let refusal =
                    if again || !is_transfer(reason) { over_quota() } else { faulty(reason, Fault::FirstUnkept) };
                (Answer::Refusal(refusal), Fate::Quota)
            }
            Decision::TooFar { resend_from } => (Answer::Refusal(too_far(resend_from)), Fate::TooFar),
            Decision::OverQuota => (Answer::Refusal(over_quota()), Fate::Quota),
        };
        let Submission { received_at, reply, permit, .. } = submission;
        self.waiters.push(Waiter { answer, fate, received_at, reply, permit });
        Ok(())
    }

    /// What is to be made durable; `None` when nothing is. To be called once, after the last link.
    pub(super) fn commit(&mut self, number: u64) -> Option<Commit> {
        let log_size = self.log.size();
        let mut links = std::mem::take(&mut self.links);
        let mut forks = std::mem::take(&mut self.forks);
        let quarantined = std::mem::take(&mut self.quarantined);
        for link in links.iter_mut().chain(&mut forks) {
            link.record.tree_size = log_size;
        }
        self.tally.links = links.len() + forks.len() + quarantined.len();
        (self.tally.forks, self.tally.quarantined) = (forks.len(), quarantined.len());
        let statements = std::mem::take(&mut self.statements);
        if self.tally.links == 0 && statements.is_empty() {
            return None;
        }
        let heads = self.heads.changed();
        Some(Commit { number, links, forks, quarantined, heads, statements, log_rows: self.log.take_rows(), log_size })
    }

    /// Gives the link its place in the log and makes it ready for the store.
    fn append(&mut self, submission: &mut Submission) -> (NewLink, Leaf) {
        let log_index = self.log.append(&submission.digest, submission.received_at);
        let leaf = Leaf {
            sequence: submission.header.sequence,
            digest: submission.digest,
            received_at: submission.received_at,
            log_index,
        };
        let record = LinkRecord {
            header: submission.header_bytes.to_vec(),
            signature: submission.signature.to_vec(),
            received_at: submission.received_at,
            clock: submission.clock,
            body: Body::None,
            log_index,
            tree_size: 0,
        };
        let payload = self.take_payload(submission);
        (NewLink { header: submission.header.clone(), digest: submission.digest, record, payload }, leaf)
    }

    fn quarantine(&mut self, submission: &mut Submission, reason: RefusalReason) {
        let (payload_digest, payload_length) = submission.actual;
        let record = QuarantineRecord {
            reason,
            header: submission.header_bytes.to_vec(),
            signature: submission.signature.to_vec(),
            received_at: submission.received_at,
            payload_digest,
            payload_length,
            body: Body::None,
        };
        let payload = self.take_payload(submission);
        self.quarantined.push(NewQuarantine { recorder: submission.header.recorder, record, payload });
    }

    fn take_payload(&mut self, submission: &mut Submission) -> Bytes {
        self.tally.bytes += submission.payload.len() as u64;
        std::mem::take(&mut submission.payload)
    }

    fn leaf(&self, digest: &Digest) -> Result<Leaf> {
        self.leaves.get(digest).copied().ok_or_else(|| Error::new(Kind::Internal, "a repeated link has no first"))
    }
}

impl Tally {
    pub(super) fn count(&self, metrics: &Metrics) {
        metrics.commit_links.observe(self.links as f64);
        metrics.commit_bytes.observe(self.bytes as f64);
        metrics.segment_bytes.inc_by(self.bytes);
        metrics.breaks(self.breaks);
        let Self { breaks, forks, quarantined, .. } = *self;
        if breaks + forks + quarantined > 0 {
            tracing::warn!(breaks, forks, quarantined, "links were kept as evidence that a chain does not hold");
        }
    }
}

fn refused(reason: RefusalReason, advice: Advice, detail: impl Into<String>) -> Outcome {
    Outcome::Refused { reason, advice, detail: detail.into() }
}

fn forked() -> Outcome {
    refused(RefusalReason::Fork, Advice::Never, "another link with this sequence is durable; both are kept")
}

/// How a link that failed a check stands to those that did so before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The first with its digest.
    First,
    /// The first with its digest, and there is no room for more in quarantine.
    FirstUnkept,
    /// One with its digest is in quarantine.
    Again,
}

/// Whether the fault may be one of reading or sending, and the link itself good.
fn is_transfer(reason: RefusalReason) -> bool {
    matches!(reason, RefusalReason::LengthMismatch | RefusalReason::DigestMismatch)
}

fn faulty(reason: RefusalReason, fault: Fault) -> Outcome {
    let again = Advice::RetryAfter { delay_ms: RETRY_FAULT_MS };
    let advice = if is_transfer(reason) && fault != Fault::Again { again } else { Advice::Never };
    let what = match reason {
        RefusalReason::LengthMismatch => "the payload's length is not the header's",
        RefusalReason::DigestMismatch => "the payload's digest is not the header's",
        RefusalReason::BadSignature => "the signature is not by the recorder's key",
        _ => "the link failed a check",
    };
    let kept = if fault == Fault::FirstUnkept { "not kept: the quota is used up" } else { "kept in quarantine" };
    refused(reason, advice, format!("{what}; {kept}"))
}

fn too_far(resend_from: Sequence) -> Outcome {
    let detail = format!("the chain lacks too much before this link; send from {resend_from} on");
    refused(RefusalReason::TooFarAhead, Advice::ResendFrom { sequence: resend_from }, detail)
}

fn over_quota() -> Outcome {
    refused(RefusalReason::Quota, Advice::Never, "too many links of this recorder are kept as evidence already")
}

/// What is told to a link whose footage cannot be sealed now.
pub(super) fn no_key() -> Outcome {
    let advice = Advice::RetryAfter { delay_ms: RETRY_KEY_MS };
    refused(
        RefusalReason::Busy,
        advice,
        "the key of the footage's day is not there yet; nothing of this link was stored",
    )
}

/// What is told to a link for which there is no room on disk.
pub(super) fn no_room() -> Outcome {
    let advice = Advice::RetryAfter { delay_ms: RETRY_STORAGE_MS };
    refused(RefusalReason::StorageFull, advice, "the server's disk is nearly full; nothing of this link was stored")
}
