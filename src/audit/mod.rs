//! The audit trail's way to the disk: entries that wait at the same moment share one sync.
//!
//! An entry is durable when [`Trail::write`] returns `Ok`, never before, and does not wait for a commit of links: the one writer
//! takes it into the log afterwards. The trail's thread owns the only path to it, so that a request that is given up half-way still
//! leaves its entry. Entries about integrity checks are not counted, so that no figure tells of one. When the trail cannot be written, nothing is disclosed. What blocks anyway writes with [`Store::audit`].

use std::sync::Mutex;

use prometheus::IntCounterVec;
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::Store;
use crate::store::records::{AuditRecord, Event};

/// Entries that may wait.
const WAITING_MAX: usize = 1_024;
/// Entries that share one sync at most.
const BATCH_MAX: usize = 256;
/// Denials that are written down per second; beyond it they are only counted, so that nobody fills the disk.
const DENIALS_PER_S_MAX: u32 = 10;
/// Longest action that is written down for a denial, characters.
const DENIED_ACTION_CHARS_MAX: usize = 256;
/// What an entry of something that was refused ends with.
const DENIED: &str = "denied";

struct Waiting {
    record: AuditRecord,
    done: oneshot::Sender<bool>,
}

/// The writer of the audit trail.
pub struct Trail {
    queue: mpsc::Sender<Waiting>,
    clock: Clock,
    entries: IntCounterVec,
    denials: Mutex<Window>,
}

/// How many denials the current second has seen.
#[derive(Default)]
struct Window {
    second: u64,
    count: u32,
}

impl Trail {
    /// Starts the thread that writes; it ends with the last user of the [`Trail`]. `entries` counts by outcome.
    ///
    /// # Errors
    /// [`Kind::Internal`] if there is no thread to be had.
    pub fn start(store: Store, clock: Clock, entries: IntCounterVec) -> Result<Self> {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write_all(&store, waiting))
            .context(Kind::Internal, "cannot start the thread of the audit trail")?;
        Ok(Self { queue, clock, entries, denials: Mutex::default() })
    }

    /// Writes down what was done, as of now. Cancel-safe: once the entry waits, it is written.
    ///
    /// # Errors
    /// [`Kind::Fatal`] if it could not be made durable: nothing may be disclosed.
    pub async fn write(&self, entry: AuditRecord) -> Result<()> {
        let (done, written) = oneshot::channel();
        let record = AuditRecord { at: self.clock.now(), ..entry };
        let outcome = if record.outcome == DENIED { DENIED } else { "granted" };
        let is_counted = record.event != Event::Check;
        let sent = self.queue.send(Waiting { record, done }).await.is_ok();
        if sent && written.await.unwrap_or(false) {
            if is_counted {
                self.entries.with_label_values(&[outcome]).inc();
            }
            return Ok(());
        }
        self.entries.with_label_values(&["failed"]).inc();
        Err(Error::new(Kind::Fatal, "the audit trail cannot be written"))
    }

    /// Writes down that something was denied, as long as there are few denials; beyond that they are counted.
    pub async fn write_denial(&self, entry: AuditRecord) {
        if !self.within_rate() {
            if entry.event != Event::Check {
                self.entries.with_label_values(&["denied_unrecorded"]).inc();
            }
            return;
        }
        let action: String = entry.action.chars().take(DENIED_ACTION_CHARS_MAX).collect();
        if let Err(error) = self.write(AuditRecord { action, ..entry.ended(DENIED) }).await {
            tracing::error!(%error, "a denial could not be written down");
        }
    }

    fn within_rate(&self) -> bool {
        let second = self.clock.now() / 1_000_000;
        let mut window = self.denials.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if window.second != second {
            *window = Window { second, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        window.count <= DENIALS_PER_S_MAX
    }
}

fn write_all(store: &Store, mut queue: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let (records, waiting): (Vec<_>, Vec<_>) = batch.drain(..).map(|entry| (entry.record, entry.done)).unzip();
        let written = store.audit_all(&records);
        if let Err(error) = &written {
            tracing::error!(%error, "the audit trail cannot be written: nothing is disclosed");
        }
        for done in waiting {
            // A request that was given up has nobody left to tell.
            let _ = done.send(written.is_ok());
        }
    }
}
