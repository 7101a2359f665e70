//! Many sessions, one sync: the single writer that makes links durable, signs for them and answers.
//!
//! Sessions hand [`Submission`]s to the [`Queue`]. The writer, a thread of its own, gathers a batch ([`batch`]),
//! judges it ([`chain`](crate::chain)), appends it to the log ([`log`](crate::log)), commits once, and only then
//! answers. What it promises: a receipt is given only after [`Store::commit`] returned `Ok`, for a duplicate too;
//! what is in memory moves on only then. After a commit that failed for good nobody is answered again, every waiter
//! is told by a dropped reply, and [`WriterHandle::wait`] returns the error so that the process exits.

mod again;
mod answer;
pub mod batch;
mod metrics;
mod plan;
#[cfg(test)]
mod tests;
mod writer;

use std::time::Duration;

use aigaq_proto::message::{Advice, Receipt, RefusalReason};
use aigaq_proto::{Digest, LinkHeader, Micros, SignatureBytes};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::chain::Quotas;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::log::Log;
use crate::store::Store;
use crate::store::records::ClockOffset;

pub use metrics::Metrics;

/// A link as it arrived, with what its session found out about it.
#[derive(Debug)]
pub struct Submission {
    /// The decoded header.
    pub header: LinkHeader,
    /// The header's bytes as received.
    pub header_bytes: Bytes,
    /// The link digest: over `header_bytes`.
    pub digest: Digest,
    /// The signature as received.
    pub signature: SignatureBytes,
    /// The payload as received.
    pub payload: Bytes,
    /// Server clock when the last byte had arrived.
    pub received_at: Micros,
    /// The device clock's error, where it is known.
    pub clock: Option<ClockOffset>,
    /// The check that the link failed: it goes into quarantine and never into the chain.
    pub fault: Option<RefusalReason>,
    /// SHA-256 and length of the payload as it arrived.
    pub actual: (Digest, u64),
    /// The room that its bytes take; given back when they are durable or refused.
    pub permit: Option<OwnedSemaphorePermit>,
    /// Where the answer goes. Dropped without an answer when the server can no longer promise anything.
    pub reply: oneshot::Sender<Outcome>,
}

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The link is durable and in the log.
    Receipt(Box<Receipt>),
    /// It was not taken into the chain; where the reason is a quarantine or a fork, it is kept as evidence.
    Refused {
        /// What is wrong.
        reason: RefusalReason,
        /// What the recorder should do.
        advice: Advice,
        /// The same for a person.
        detail: String,
    },
}

/// How the writer works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A batch with this many payload bytes is committed. More means fewer syncs and later receipts. 16 MiB.
    pub batch_bytes_max: usize,
    /// A batch is committed this long after its first link at the latest. 5 ms.
    pub batch_age_max: Duration,
    /// A batch with this many payload bytes is written to disk once instead of twice: the store's `ingest_bytes_min`. 8 MiB.
    pub bulk_bytes: usize,
    /// While payload arrives so fast that `bulk_bytes` come in 25 ms (335 MB/s, where the disk is what is scarce), a batch is given
    /// this long to reach them. 60 ms.
    pub bulk_age_max: Duration,
    /// How many links may wait for the writer; sessions wait beyond it. 1024.
    pub queue_links_max: usize,
    /// How many links of one recorder are kept as evidence beside its chain.
    pub quotas: Quotas,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch_bytes_max: 16 * 1024 * 1024,
            batch_age_max: Duration::from_millis(5),
            bulk_bytes: 8 * 1024 * 1024,
            bulk_age_max: Duration::from_millis(60),
            queue_links_max: 1024,
            quotas: Quotas::default(),
        }
    }
}

/// The way to the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    sender: mpsc::Sender<Submission>,
}

impl Queue {
    /// Hands a link to the writer; waits while too many wait already. The answer comes through `submission.reply`.
    /// Cancel-safe: a submission that was not handed over is dropped with its permit.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the writer has stopped: nothing will be acknowledged any more.
    pub async fn submit(&self, submission: Submission) -> Result<()> {
        self.sender.send(submission).await.map_err(|_| Error::new(Kind::Busy, "the writer has stopped"))
    }
}

/// The writer's end, for the one who started it.
#[derive(Debug)]
pub struct WriterHandle {
    stop: CancellationToken,
    ended: oneshot::Receiver<Result<()>>,
}

impl WriterHandle {
    /// Asks the writer to take no more, commit and answer what it has, and end. Returns at once; see
    /// [`WriterHandle::wait`].
    pub fn close(&self) {
        self.stop.cancel();
    }

    /// Waits until the writer has ended. Cancel-safe. To be awaited to its end once.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when a commit failed or the thread died: the process must exit.
    pub async fn wait(&mut self) -> Result<()> {
        match (&mut self.ended).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(Kind::Fatal, "the writer died")),
        }
    }
}

/// Takes into the log what a crash left over of the audit trail, and starts the writer on a thread of its own. It ends after [`WriterHandle::close`], when every [`Queue`] is dropped,
/// or when a commit fails.
///
/// # Errors
/// [`Kind::Internal`] when a thread cannot be started, [`Kind::Fatal`] when what the log lacks of the audit trail cannot be committed.
pub fn start(
    store: Store,
    log: Log,
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
) -> Result<(Queue, WriterHandle)> {
    let (sender, receiver) = mpsc::channel(settings.queue_links_max.max(1));
    let (report, ended) = oneshot::channel();
    let stop = CancellationToken::new();
    let mut writer = writer::Writer::new(store, log, settings, clock, metrics)?;
    writer.settle_statements()?;
    writer::spawn(writer, receiver, stop.clone(), report)?;
    Ok((Queue { sender }, WriterHandle { stop, ended }))
}
