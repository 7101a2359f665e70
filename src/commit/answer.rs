//! The answers to a batch, given after its commit: receipts, refusals, and what is counted with them.
//!
//! Whoever calls [`Answers::durable`] vouches that the batch is durable. A waiter for whom no receipt can be made
//! (damage in what was stored long before) is told by its dropped reply; that costs nobody else.

use aigaq_proto::Micros;
use aigaq_proto::message::Receipt;
use tokio::sync::oneshot;

use super::Outcome;
use super::again::{Again, Duplicate};
use super::metrics::{Fate, Metrics};
use super::plan::{Answer, Leaf, Waiter};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::log::Settled;

/// What is needed to answer.
pub(super) struct Answers {
    pub(super) teller: Teller,
    pub(super) again: Again,
}

/// Tells a waiter, and counts it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

impl Teller {
    /// Gives a receipt to who has waited for it since `received_at`.
    pub(super) fn receipt(&self, fate: Fate, receipt: Receipt, received_at: Micros, reply: oneshot::Sender<Outcome>) {
        self.metrics.link(fate);
        self.metrics.ack_lag_seconds.observe(self.clock.now().saturating_sub(received_at) as f64 / 1e6);
        let _ = reply.send(Outcome::Receipt(Box::new(receipt)));
    }

    /// Counts and logs a link that cannot be answered.
    pub(super) fn failed(&self, error: &Error) {
        tracing::error!(%error, "a link could not be judged or answered");
        self.metrics.link(Fate::Failed);
    }
}

impl Answers {
    /// Answers a batch that is durable, or of which nothing had to be.
    ///
    /// # Errors
    /// Only [`Kind::Fatal`], from the log.
    pub(super) fn durable(&self, waiters: Vec<Waiter>, settled: Option<&Settled<'_>>) -> Result<()> {
        waiters.into_iter().try_for_each(|waiter| self.answer(waiter, settled))
    }

    /// Answers a batch that could not be stored for want of room or of a key: what was durable before still gets its receipt.
    ///
    /// # Errors
    /// Only [`Kind::Fatal`], from the log.
    pub(super) fn unstored(&self, waiters: Vec<Waiter>, why: &Outcome, fate: Fate) -> Result<()> {
        for mut waiter in waiters {
            if matches!(waiter.answer, Answer::Receipt(_) | Answer::Evidence(_)) {
                waiter.answer = Answer::Refusal(why.clone());
                waiter.fate = fate;
            }
            self.answer(waiter, None)?;
        }
        Ok(())
    }

    /// Counts and logs a link that cannot be answered.
    ///
    /// # Errors
    /// `error` itself if it is [`Kind::Fatal`].
    pub(super) fn failed(&self, error: Error) -> Result<()> {
        if error.kind() == Kind::Fatal {
            return Err(error);
        }
        self.teller.failed(&error);
        Ok(())
    }

    fn answer(&self, waiter: Waiter, settled: Option<&Settled<'_>>) -> Result<()> {
        let Waiter { answer, fate, received_at, reply, permit } = waiter;
        drop(permit);
        match answer {
            Answer::Receipt(leaf) => match receipt(leaf, settled) {
                Ok(receipt) => self.teller.receipt(fate, receipt, received_at, reply),
                Err(error) => self.failed(error)?,
            },
            Answer::Again(record, digest) => {
                if let Some(fate) = self.again.take(Duplicate { record, digest, received_at, reply }) {
                    self.teller.metrics.link(fate);
                }
            }
            Answer::Evidence(outcome) | Answer::Refusal(outcome) => {
                self.teller.metrics.link(fate);
                let _ = reply.send(outcome);
            }
        }
        Ok(())
    }
}

/// The receipt of a link of the batch.
fn receipt(leaf: Leaf, settled: Option<&Settled<'_>>) -> Result<Receipt> {
    let settled = settled.ok_or_else(|| Error::new(Kind::Internal, "a link was promised without a commit"))?;
    Ok(Receipt {
        sequence: leaf.sequence,
        digest: leaf.digest,
        received_at: leaf.received_at,
        log_index: leaf.log_index,
        proof: settled.prove(leaf.log_index)?,
        checkpoint: settled.checkpoint().to_owned(),
    })
}
