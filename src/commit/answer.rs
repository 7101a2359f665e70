//! The answers to a batch, given after its commit: receipts, refusals, and what is counted with them.
//!
//! Whoever calls [`Answers::durable`] vouches that the batch is durable. A waiter for whom no receipt can be made
//! (damage in what was stored long before) is told by its dropped reply; that costs nobody else.

use aigaq_proto::message::Receipt;

use super::Outcome;
use super::metrics::{Fate, Metrics};
use super::plan::{Answer, Leaf, Waiter, no_room};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::log::{Reader, Settled};

/// What is needed to answer.
pub(super) struct Answers {
    pub(super) reader: Reader,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

impl Answers {
    /// Answers a batch that is durable, or of which nothing had to be.
    ///
    /// # Errors
    /// Only [`Kind::Fatal`], from the store.
    pub(super) fn durable(&self, waiters: Vec<Waiter>, settled: Option<&Settled<'_>>) -> Result<()> {
        waiters.into_iter().try_for_each(|waiter| self.answer(waiter, settled))
    }

    /// Answers a batch for which there was no room: what was durable before still gets its receipt.
    ///
    /// # Errors
    /// Only [`Kind::Fatal`], from the store.
    pub(super) fn no_room(&self, waiters: Vec<Waiter>) -> Result<()> {
        for mut waiter in waiters {
            if matches!(waiter.answer, Answer::Receipt(_) | Answer::Evidence(_)) {
                waiter.answer = Answer::Refusal(no_room());
                waiter.fate = Fate::StorageFull;
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
        tracing::error!(%error, "a link could not be judged or answered");
        self.metrics.link(Fate::Failed);
        Ok(())
    }

    fn answer(&self, waiter: Waiter, settled: Option<&Settled<'_>>) -> Result<()> {
        let Waiter { answer, fate, received_at, reply, permit } = waiter;
        let outcome = match answer {
            Answer::Receipt(leaf) => receipt(leaf, settled),
            Answer::Again(record, digest) => self.reader.receipt(&record, &digest),
            Answer::Evidence(outcome) | Answer::Refusal(outcome) => {
                self.metrics.link(fate);
                let _ = reply.send(outcome);
                return Ok(());
            }
        };
        drop(permit);
        match outcome {
            Ok(receipt) => {
                self.metrics.link(fate);
                self.metrics.ack_lag_seconds.observe(self.clock.now().saturating_sub(received_at) as f64 / 1e6);
                let _ = reply.send(Outcome::Receipt(Box::new(receipt)));
                Ok(())
            }
            Err(error) => self.failed(error),
        }
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
