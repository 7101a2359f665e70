//! Exports: what was recorded, with everything that proves it, as one file for whoever trusts nobody here.
//!
//! An order becomes a job; few run at once, each on a thread of its own with one payload in memory. The path of a bundle: `plan`
//! (what belongs to it) → `trail` (who had it, what was deleted) → `footage` and `chain` (a recorder each) → `build` (the whole, and the
//! signature) → `archive` (ZIP).
//!
//! Promises: payloads go in byte for byte or not at all; what is offered for download is whole and durable; a job that a stop of
//! the server interrupted is begun again, and one that cannot end says so. Nothing here writes to the store.

mod archive;
mod build;
mod chain;
mod footage;
mod job;
mod metrics;
mod plan;
mod readme;
mod signer;
mod trail;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aigaq_proto::{Digest, Micros, RecorderId};
use rustls_pki_types::CertificateDer;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::enrol::ServerIdentity;
use crate::error::{Context as _, Error, Kind, Result};
use crate::log::{Reader, Stamps};
use crate::store::Store;
use build::Builder;
use job::Job;
pub use job::{Bundle, Order, Progress, Record, State};
pub use metrics::Metrics;
use signer::Signer;

/// Jobs that run at once.
const RUNNING_MAX: usize = 2;
/// Jobs that may wait.
const WAITING_MAX: usize = 16;
/// Jobs that are kept with their bundles.
const KEPT_MAX: usize = 200;
/// How long a job and its bundle are kept.
const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// How often a job may be begun before it counts as one that cannot end.
const ATTEMPTS_MAX: u32 = 3;
/// How often jobs are looked through for those whose time is over.
const SWEEP: Duration = Duration::from_secs(60);
/// Names of a bundle in the directory of its job, finished and not.
const BUNDLE: &str = "bundle.zip";
const PART: &str = "bundle.part";

/// An interval without footage, and why, as whoever knows the timeline says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// Beginning, device clock.
    pub from: Micros,
    /// End, exclusive.
    pub to: Micros,
    /// Why: a name of the API.
    pub cause: &'static str,
    /// Why the recording before it ended, where a link says so.
    pub stop: Option<String>,
    /// Why it was lost, where that is the cause.
    pub loss: Option<String>,
    /// Runs of missing sequences, first and last and why.
    pub missing: Vec<(u64, u64, &'static str)>,
    /// How many sequences, those that are not listed among them.
    pub missing_count: u64,
}

impl Hole {
    fn damaged(from: Micros, to: Micros) -> Self {
        Self { from, to, cause: "damaged", stop: None, loss: None, missing: Vec::new(), missing_count: 0 }
    }
}

/// Says what a recorder did not record between two times, in order, as far as the first so many entries of the log tell; blocks.
pub type Holes = Arc<dyn Fn(&Store, RecorderId, (Micros, Micros), u64) -> Result<Vec<Hole>> + Send + Sync>;

/// Who signs manifests, asked anew for each bundle, because certificates are renewed; blocks.
pub type Exporter = Arc<dyn Fn() -> Result<ServerIdentity> + Send + Sync>;

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// It is a job now.
    New(Record),
    /// It is one already, under the same key.
    Again(Record),
    /// Another order came under the key before.
    OtherOrder,
}

/// What bundles are made of.
pub struct Source {
    /// Where the footage is.
    pub store: Store,
    /// What proves it.
    pub log: Reader,
    /// What is missing.
    pub holes: Holes,
    /// What the server trusts, to be listed.
    pub anchors: Vec<CertificateDer<'static>>,
    exporter: Exporter,
    stamps: Option<Stamps>,
    witnesses: bool,
}

impl Source {
    /// A source whose manifests `exporter` signs.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an identity that cannot sign.
    pub fn new(
        store: Store,
        log: Reader,
        holes: Holes,
        anchors: Vec<CertificateDer<'static>>,
        exporter: Exporter,
    ) -> Result<Self> {
        Signer::new(&exporter()?)?;
        Ok(Self { store, log, holes, anchors, exporter, stamps: None, witnesses: false })
    }

    /// The same with whoever stamps the checkpoint of a bundle.
    #[must_use]
    pub fn with_stamps(self, stamps: Option<Stamps>) -> Self {
        Self { stamps, ..self }
    }

    /// The same where proof is complete only with the cosignatures of witnesses, or without them.
    #[must_use]
    pub fn with_witnesses(self, witnesses: bool) -> Self {
        Self { witnesses, ..self }
    }
}

/// The jobs of a server.
pub struct Exports {
    dir: PathBuf,
    source: Source,
    clock: Clock,
    metrics: Metrics,
    jobs: Mutex<BTreeMap<String, Arc<Job>>>,
    wake: Notify,
}

impl Exports {
    /// Reads the jobs in `dir`, which is made if need be. Those that were under way wait again. Blocks.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the directory cannot be read or written. A job that does not read is reported and left alone.
    pub fn open(dir: &Path, source: Source, clock: Clock, metrics: Metrics) -> Result<Self> {
        let unreadable = || format!("cannot use {}", dir.display());
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.context(Kind::Internal, unreadable())?;
        let mut jobs = BTreeMap::new();
        for entry in fs::read_dir(dir).context(Kind::Internal, unreadable())? {
            let path = entry.context(Kind::Internal, unreadable())?.path();
            let record = match Record::read(&path) {
                Ok(Some(record)) if path.file_name().is_some_and(|name| *name == *record.id) => record,
                Ok(_) => continue,
                Err(error) => {
                    tracing::error!(%error, "an export cannot be read and is left alone");
                    continue;
                }
            };
            let job = Job::new(record);
            if job.record().state == State::Running {
                remove(&path.join(PART))?;
                job.change(&path, |record| record.state = State::Waiting)?;
            }
            jobs.insert(job.record().id, Arc::new(job));
        }
        let exports = Self { dir: dir.to_owned(), source, clock, metrics, jobs: Mutex::new(jobs), wake: Notify::new() };
        exports.count();
        Ok(exports)
    }

    /// Takes an order, under a key if it has one; durable on return. Blocks.
    ///
    /// # Errors
    /// [`Kind::Busy`] when too many wait or are kept, [`Kind::NotFound`] for a recorder that is not enrolled,
    /// [`Kind::StorageFull`] when the disk has no room for any bundle.
    pub fn order(&self, order: Order, key: Option<Digest>) -> Result<Ordered> {
        for recorder in order.recorders() {
            if self.source.store.recorder(recorder)?.is_none() {
                return Err(Error::new(Kind::NotFound, format!("no recorder {recorder} is enrolled")));
            }
        }
        let key = key.map(|key| key.to_string());
        let mut jobs = self.jobs();
        let known = jobs.values().map(|job| job.record()).find(|record| key.is_some() && record.key == key);
        if let Some(record) = known {
            return Ok(if record.order == order { Ordered::Again(record) } else { Ordered::OtherOrder });
        }
        let waiting = jobs.values().filter(|job| job.record().state == State::Waiting).count();
        if waiting >= WAITING_MAX || jobs.len() >= KEPT_MAX {
            return Err(Error::new(Kind::Busy, "as many exports wait or are kept as may: delete one, or wait"));
        }
        let now = self.clock.now();
        let expires_at = now.saturating_add(u64::try_from(KEPT.as_micros()).unwrap_or(u64::MAX));
        let record = Record {
            id: number()?,
            order,
            key,
            created_at: now,
            ended_at: None,
            expires_at,
            attempts: 0,
            state: State::Waiting,
        };
        let dir = self.dir.join(&record.id);
        let made = fs::DirBuilder::new().mode(0o700).create(&dir);
        made.context(Kind::Internal, format!("cannot make {}", dir.display()))?;
        record.write(&dir)?;
        jobs.insert(record.id.clone(), Arc::new(Job::new(record.clone())));
        drop(jobs);
        self.count();
        self.wake.notify_one();
        Ok(Ordered::New(record))
    }

    /// Every job with how far it is, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<(Record, Progress)> {
        let mut all: Vec<_> = self.jobs().values().map(|job| (job.record(), job.progress())).collect();
        all.sort_by(|(a, _), (b, _)| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        all
    }

    /// One job.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn get(&self, id: &str) -> Result<(Record, Progress)> {
        self.job(id).map(|job| (job.record(), job.progress()))
    }

    /// The file of a bundle.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none, or none yet.
    pub fn file(&self, id: &str) -> Result<(Bundle, PathBuf)> {
        match self.job(id)?.record().state {
            State::Done(bundle) => Ok((bundle, self.dir.join(id).join(BUNDLE))),
            _ => Err(Error::new(Kind::NotFound, "the export has no bundle; its state says why")),
        }
    }

    /// Gives a job up that has not ended; removes one that has, with its bundle. Blocks. Returns it as it was left.
    ///
    /// # Errors
    /// [`Kind::NotFound`], and [`Kind::Internal`] when the disk does not obey.
    pub fn cancel(&self, id: &str) -> Result<Record> {
        let job = self.job(id)?;
        let dir = self.dir.join(id);
        let now = self.clock.now();
        match job.record().state {
            State::Waiting | State::Running => {
                job.stop();
                let left =
                    job.change(&dir, |record| (record.state, record.ended_at) = (State::Cancelled, Some(now)))?;
                self.metrics.results.with_label_values(&["cancelled"]).inc();
                self.count();
                Ok(left)
            }
            State::Done(_) | State::Failed { .. } | State::Cancelled => {
                self.remove(id)?;
                Ok(job.record())
            }
        }
    }

    /// Builds what is ordered until `shutdown`; what is under way then is given up and begun again by the next server. When it
    /// returns, nothing of it is under way.
    ///
    /// # Errors
    /// None: what fails is in the job.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) -> Result<()> {
        let mut running = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            while running.len() < RUNNING_MAX {
                let this = Arc::clone(&self);
                let Ok(Some(job)) = tokio::task::spawn_blocking(move || this.next()).await else { break };
                let this = Arc::clone(&self);
                running.spawn_blocking(move || this.build(&job));
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(done) = running.join_next() => {
                    if let Err(error) = done {
                        tracing::error!(%error, "an export died; the next server begins it again");
                    }
                }
                () = self.wake.notified() => {}
                _ = sweep.tick() => {
                    let this = Arc::clone(&self);
                    let _ = tokio::task::spawn_blocking(move || this.sweep()).await;
                }
            }
        }
        self.jobs().values().for_each(|job| job.stop());
        while running.join_next().await.is_some() {}
        Ok(())
    }

    /// The oldest job that waits, which is then under way. Blocks.
    fn next(&self) -> Option<Arc<Job>> {
        let jobs = self.jobs();
        let waiting = jobs.values().filter(|job| job.record().state == State::Waiting);
        let job = waiting.min_by_key(|job| job.record().created_at).map(Arc::clone)?;
        let record = job.record();
        let begun = job.change(&self.dir.join(&record.id), |record| {
            // Whoever gave it up meanwhile has the last word.
            if record.state == State::Waiting {
                record.attempts += 1;
                record.state = State::Running;
            }
        });
        match begun {
            Ok(record) => (record.state == State::Running).then_some(job),
            Err(error) => {
                tracing::error!(%error, "an export cannot be begun");
                None
            }
        }
    }

    fn build(&self, job: &Arc<Job>) {
        let record = job.record();
        let dir = self.dir.join(&record.id);
        let built = self.try_build(job, &record, &dir);
        let now = self.clock.now();
        let state = match built {
            Ok(bundle) => State::Done(bundle),
            Err(error) => {
                if let Err(error) = remove(&dir.join(PART)) {
                    tracing::error!(%error, "what is left of an export cannot be removed");
                }
                // Given up: by whoever cancelled it, whose word stands, or by the end of the server, and then it waits again.
                if error.kind() == Kind::Busy && job.go_on().is_err() {
                    State::Waiting
                } else {
                    tracing::warn!(%error, kind = error.kind().label(), "an export failed");
                    let own = matches!(error.kind(), Kind::Internal | Kind::Fatal);
                    let detail = if own { "the server failed; its log says more" } else { error.context() };
                    State::Failed { kind: error.kind().label().to_owned(), detail: detail.to_owned() }
                }
            }
        };
        let changed = job.change(&dir, |record| {
            if record.state == State::Running {
                if state == State::Waiting {
                    record.attempts = record.attempts.saturating_sub(1);
                } else {
                    record.ended_at = Some(now);
                }
                record.state = state;
            }
        });
        match changed {
            Ok(record) if record.state == State::Cancelled => {
                let _ = remove(&dir.join(BUNDLE));
            }
            Ok(record) => {
                let result = match record.state {
                    State::Done(_) => Some("done"),
                    State::Failed { .. } => Some("failed"),
                    _ => None,
                };
                if let Some(result) = result {
                    self.metrics.results.with_label_values(&[result]).inc();
                }
            }
            Err(error) => tracing::error!(%error, "the end of an export cannot be written down"),
        }
        self.count();
    }

    fn try_build(&self, job: &Job, record: &Record, dir: &Path) -> Result<Bundle> {
        if record.attempts > ATTEMPTS_MAX {
            return Err(Error::new(Kind::Damaged, format!("it was begun {ATTEMPTS_MAX} times and never ended")));
        }
        let part = dir.join(PART);
        let builder = Builder {
            source: &self.source,
            job,
            id: &record.id,
            order: &record.order,
            now: self.clock.now(),
            damaged: &self.metrics.damaged,
        };
        let bundle = builder.build(&part)?;
        let named = fs::rename(&part, dir.join(BUNDLE)).and_then(|()| fs::File::open(dir)?.sync_all());
        named.context(Kind::Internal, "cannot name a bundle")?;
        Ok(bundle)
    }

    /// Removes what has expired.
    fn sweep(&self) {
        let now = self.clock.now();
        let ended = |state: &State| !matches!(state, State::Waiting | State::Running);
        let over: Vec<String> = self
            .jobs()
            .values()
            .map(|job| job.record())
            .filter(|record| record.expires_at <= now && ended(&record.state))
            .map(|record| record.id)
            .collect();
        for id in over {
            if let Err(error) = self.remove(&id) {
                tracing::error!(%error, "an export whose time is over cannot be removed");
            }
        }
    }

    fn remove(&self, id: &str) -> Result<()> {
        self.jobs().remove(id);
        let dir = self.dir.join(id);
        fs::remove_dir_all(&dir).context(Kind::Internal, format!("cannot remove {}", dir.display()))
    }

    /// Says how many have not ended.
    fn count(&self) {
        let open = |job: &&Arc<Job>| matches!(job.record().state, State::Waiting | State::Running);
        let open = self.jobs().values().filter(open).count();
        self.metrics.open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    fn job(&self, id: &str) -> Result<Arc<Job>> {
        self.jobs().get(id).map(Arc::clone).ok_or_else(|| Error::new(Kind::NotFound, "there is no such export"))
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that was never used before.
fn number() -> Result<String> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::new(Kind::Internal, "the system gives no random bytes"))?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(Kind::Internal, format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
