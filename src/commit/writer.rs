//! The single writer: gathers, commits, and only then answers.
//!
//! It runs on a thread of its own, because a commit blocks, with a clock of its own for the waits of the batch
//! policy. The order is the promise: plan → [`Store::commit`] → memory moves on → checkpoint → answers. Nothing may be
//! answered before, and after a commit that failed nothing may be answered at all. Each commit takes the entries of the audit trail
//! into the log that are durable by then; without links that happens within a second, and what a crash left over comes first.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::again::Again;
use super::answer::{Answers, Teller};
use super::batch::{Batch, Next, Pace, Policy};
use super::metrics::{Fate, Metrics};
use super::plan::{Plan, no_key, no_room};
use super::{Settings, Submission};
use crate::chain::Heads;
use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};
use crate::log::{Log, Settled};
use crate::store::{Commit, Statement, Store};

/// Links in one batch at most: bounds what a commit of links without payload takes.
const BATCH_LINKS_MAX: usize = 4_096;
/// Entries of the audit trail that one commit takes into the log at most.
const BATCH_STATEMENTS_MAX: usize = 1_024;
/// How long an entry of the audit trail waits for the log at most when no link comes.
const STATEMENTS_EVERY: Duration = Duration::from_millis(500);

/// The writer's state. Everything in memory is what is durable.
pub(super) struct Writer {
    store: Store,
    heads: Heads,
    log: Log,
    policy: Policy,
    answers: Answers,
    metrics: Metrics,
    /// The last batch with footage found no room.
    full: bool,
    /// The last checkpoint could not be written beside the store.
    unkept: bool,
    /// The last time, the entries of the audit trail could not be read.
    unread: bool,
    /// The last link with footage found no key to seal it with.
    keyless: bool,
}

/// What became of a commit.
enum Stored {
    Nothing,
    Durable,
    NoRoom,
    NoKey,
}

/// Starts the thread. It reports its result when it has dropped everything that anybody waits for.
pub(super) fn spawn(
    mut writer: Writer,
    receiver: mpsc::Receiver<Submission>,
    stop: CancellationToken,
    report: oneshot::Sender<Result<()>>,
) -> Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .context(Kind::Internal, "cannot start the writer's clock")?;
    let run = move || {
        let result = writer.run(&runtime, receiver, &stop);
        if result.is_err() {
            writer.answers.again.give_up();
        }
        drop(writer);
        let _ = report.send(result);
    };
    std::thread::Builder::new()
        .name("writer".to_owned())
        .spawn(run)
        .context(Kind::Internal, "cannot start the writer")?;
    Ok(())
}

impl Writer {
    /// # Errors
    /// [`Kind::Internal`] when the thread for the receipts of duplicates cannot be started.
    pub(super) fn new(store: Store, log: Log, settings: Settings, clock: Clock, metrics: Metrics) -> Result<Self> {
        let policy = Policy {
            bytes_max: settings.batch_bytes_max,
            links_max: BATCH_LINKS_MAX,
            age_max: settings.batch_age_max,
            idle_max: settings.batch_age_max / 2,
            bulk_bytes: settings.bulk_bytes,
            bulk_age_max: settings.bulk_age_max,
        };
        metrics.tree(log.size());
        let heads = Heads::new(store.clone(), settings.quotas);
        let teller = Teller { clock, metrics: metrics.clone() };
        let again = Again::start(log.reader(), teller.clone())?;
        let answers = Answers { teller, again };
        Ok(Self {
            store,
            heads,
            log,
            policy,
            answers,
            metrics,
            full: false,
            unkept: false,
            unread: false,
            keyless: false,
        })
    }

    fn run(
        &mut self,
        runtime: &Runtime,
        mut receiver: mpsc::Receiver<Submission>,
        stop: &CancellationToken,
    ) -> Result<()> {
        let mut pace = Pace::default();
        let store = self.store.clone();
        while let Some(batch) = runtime.block_on(gather(&mut receiver, stop, &self.policy, &mut pace, &store)) {
            self.settle(batch)?;
        }
        self.settle_statements()
    }

    /// Takes into the log what is durable of the audit trail and not there yet, as far as there is room.
    ///
    /// # Errors
    /// As [`Writer::settle`].
    pub(super) fn settle_statements(&mut self) -> Result<()> {
        while self.store.has_unlogged() {
            let before = self.log.size();
            self.settle_whole(Vec::new())?;
            if self.log.size() == before {
                break;
            }
        }
        Ok(())
    }

    /// What the log lacks of the audit trail. What cannot be read keeps no link waiting.
    fn statements(&mut self) -> Vec<Statement> {
        let read = self.store.unlogged(BATCH_STATEMENTS_MAX);
        let failed_before = std::mem::replace(&mut self.unread, read.is_err());
        read.unwrap_or_else(|error| {
            if !failed_before {
                tracing::error!(%error, "the audit trail cannot be read and is not taken into the log");
            }
            Vec::new()
        })
    }

    /// Commits a batch and answers it. While the disk is full, links without payload go by themselves: they still have
    /// room.
    ///
    /// # Errors
    /// [`Kind::Fatal`]: whoever has no answer yet must never get one.
    pub(super) fn settle(&mut self, batch: Vec<Submission>) -> Result<()> {
        if !self.full {
            return self.settle_whole(batch);
        }
        let (small, large): (Vec<_>, Vec<_>) = batch.into_iter().partition(|link| link.payload.is_empty());
        self.settle_whole(small)?;
        self.settle_whole(large)
    }

    fn settle_whole(&mut self, batch: Vec<Submission>) -> Result<()> {
        if self.log.is_contradicted() {
            // No answer, because nothing may be signed any more: recorders keep what they sent.
            return Ok(());
        }
        let statements = self.statements();
        let store = self.store.clone();
        let revoked = store.revoked();
        let mut plan = Plan::begin(&mut self.heads, &self.log);
        plan.state(&statements);
        for submission in batch {
            if revoked.contains(submission.header.recorder) {
                // No answer: its connection is being closed, which says why.
                self.metrics.link(Fate::Revoked);
                continue;
            }
            if !has_key(&self.store, &submission, &mut self.keyless)? {
                plan.refuse(submission, no_key(), Fate::Busy);
                continue;
            }
            plan.add(submission).or_else(|error| self.answers.failed(error))?;
        }
        let commit = plan.commit(self.store.next_commit());
        let has_payload = plan.tally.bytes > 0;
        match persist(&self.store, commit, &self.metrics)? {
            Stored::Nothing => self.answers.durable(plan.waiters, None),
            Stored::NoRoom => {
                self.full |= has_payload;
                self.answers.unstored(plan.waiters, &no_room(), Fate::StorageFull)
            }
            Stored::NoKey => self.answers.unstored(plan.waiters, &no_key(), Fate::Busy),
            Stored::Durable => {
                self.full &= !has_payload;
                plan.heads.settle();
                let settled = self.log.settle(plan.log).map_err(fatal)?;
                self.unkept = keep(&settled, self.unkept);
                plan.tally.count(&self.metrics);
                self.metrics.tree(settled.size());
                self.answers.durable(plan.waiters, Some(&settled))
            }
        }
    }
}

/// The next batch, empty when there is only something of the audit trail; `None` when there will be none.
async fn gather(
    receiver: &mut mpsc::Receiver<Submission>,
    stop: &CancellationToken,
    policy: &Policy,
    pace: &mut Pace,
    store: &Store,
) -> Option<Vec<Submission>> {
    let first = loop {
        let first = tokio::select! {
            biased;
            first = timeout_at((Instant::now() + STATEMENTS_EVERY).into(), receiver.recv()) => first,
            () = stop.cancelled() => {
                receiver.close();
                Ok(receiver.recv().await)
            }
        };
        match first {
            Ok(first) => break first?,
            Err(_) if store.has_unlogged() => return Some(Vec::new()),
            Err(_) => {}
        }
    };
    let began = Instant::now();
    pace.note(first.payload.len(), began);
    let mut batch = Batch::begin(first.payload.len(), began, pace.is_bulk(policy, began));
    let mut links = vec![first];
    while let Next::TakeUntil(until) = batch.next(policy, Instant::now()) {
        let Ok(Some(link)) = timeout_at(until.into(), receiver.recv()).await else { break };
        let now = Instant::now();
        pace.note(link.payload.len(), now);
        batch.add(link.payload.len(), now);
        links.push(link);
    }
    Some(links)
}

/// Makes the commit durable, where there is one.
fn persist(store: &Store, commit: Option<Commit>, metrics: &Metrics) -> Result<Stored> {
    let Some(commit) = commit else { return Ok(Stored::Nothing) };
    let timer = metrics.persist_seconds.start_timer();
    match store.commit(commit) {
        Ok(()) => {
            timer.observe_duration();
            Ok(Stored::Durable)
        }
        Err(error) => {
            timer.stop_and_discard();
            match error.kind() {
                Kind::StorageFull => Ok(Stored::NoRoom),
                Kind::Busy => Ok(Stored::NoKey),
                _ => Err(fatal(error)),
            }
        }
    }
}

/// Whether the footage that a link brings can be sealed. Logged when it begins to fail, not at every link.
///
/// # Errors
/// [`Kind::Fatal`] when the directory of the keys has failed.
fn has_key(store: &Store, link: &Submission, failed_before: &mut bool) -> Result<bool> {
    if link.payload.is_empty() || !(link.header.is_media() || link.fault.is_some()) {
        return Ok(true);
    }
    let failed = match store.can_seal(link.header.recorder, link.received_at) {
        // Without room for a key the commit itself says so.
        Ok(()) => None,
        Err(error) if error.kind() == Kind::StorageFull => None,
        Err(error) if error.kind() == Kind::Fatal => return Err(error),
        Err(error) => Some(error),
    };
    if let Some(error) = failed.as_ref().filter(|_| !*failed_before) {
        tracing::error!(%error, "footage waits at its recorders: there is no key to seal it with");
    }
    *failed_before = failed.is_some();
    Ok(failed.is_none())
}

/// Keeps the checkpoint beside the store. Logged when it begins to fail, not at every commit. Whether it failed.
fn keep(settled: &Settled<'_>, failed_before: bool) -> bool {
    match settled.keep() {
        Ok(()) => false,
        Err(error) => {
            if !failed_before {
                tracing::warn!(%error, "the newest checkpoint is not kept beside the store");
            }
            true
        }
    }
}

fn fatal(error: Error) -> Error {
    Error::new(Kind::Fatal, "a commit failed; nothing is acknowledged any more").because(error)
}
