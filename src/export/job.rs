//! An export as a job: who asked for what, where it stands, and the file that outlives the server.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use aigaq_proto::{Digest, Micros, RecorderId};
use serde::{Deserialize, Serialize};

use crate::bundle::encoding::text;
use crate::enrol::{self, SECRET};
use crate::error::{Context as _, Error, Kind, Result};

/// Name of the file in the directory of a job.
const FILE: &str = "job.json";

/// What is wanted, by whom, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Recorders, hexadecimal, each once.
    pub recorders: Vec<String>,
    /// Beginning, device clock.
    pub from: Micros,
    /// End, exclusive.
    pub to: Micros,
    /// What for.
    pub purpose: String,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub operator: String,
}

impl Order {
    /// The recorders.
    pub(super) fn recorders(&self) -> impl Iterator<Item = RecorderId> + '_ {
        self.recorders.iter().filter_map(|text| text.parse().ok())
    }
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// Others come first.
    Waiting,
    /// The bundle is being written.
    Running,
    /// The bundle is there.
    Done(Bundle),
    /// There is no bundle.
    Failed {
        /// Why, the label of an error's kind.
        kind: String,
        /// The same for people.
        detail: String,
    },
    /// Nobody wants it any more.
    Cancelled,
}

/// A bundle that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Name of the file for whoever saves it.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// Digest of its manifest: it names the bundle.
    #[serde(with = "text")]
    pub manifest: Digest,
    /// What the exporter found, a verdict a recorder.
    pub verdicts: Vec<(String, String)>,
}

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, hexadecimal.
    pub id: String,
    /// What is wanted.
    pub order: Order,
    /// Digest of the key under which it was asked for, hexadecimal: the same order under the same key is one job.
    #[serde(default)]
    pub key: Option<String>,
    /// When it was asked for.
    pub created_at: Micros,
    /// When it came to an end.
    pub ended_at: Option<Micros>,
    /// When the job and its bundle go.
    pub expires_at: Micros,
    /// How often it was begun.
    pub attempts: u32,
    /// Where it stands.
    #[serde(flatten)]
    pub state: State,
}

impl Record {
    /// Reads the job in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        let Some(text) = enrol::read(&dir.join(FILE))? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).context(Kind::Damaged, format!("{} is no job", dir.display()))
    }

    /// Writes it there, durable on return.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context(Kind::Internal, "cannot write a job")?;
        enrol::write(&dir.join(FILE), &text, SECRET)
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Payload that is written, bytes.
    pub bytes: u64,
    /// Payload in all, bytes; 0 until it is known.
    pub bytes_total: u64,
    /// Links that are written.
    pub links: u64,
}

/// A job in memory.
#[derive(Debug)]
pub(super) struct Job {
    record: Mutex<Record>,
    bytes: AtomicU64,
    bytes_total: AtomicU64,
    links: AtomicU64,
    stop: AtomicBool,
}

impl Job {
    pub(super) fn new(record: Record) -> Self {
        let (bytes, bytes_total, links) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { record: Mutex::new(record), bytes, bytes_total, links, stop: AtomicBool::new(false) }
    }

    pub(super) fn record(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the record and makes it durable in `dir`, in this order of truth: the disk first.
    pub(super) fn change(&self, dir: &Path, change: impl FnOnce(&mut Record)) -> Result<Record> {
        let mut held = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = held.clone();
        change(&mut changed);
        changed.write(dir)?;
        *held = changed.clone();
        Ok(changed)
    }

    pub(super) fn progress(&self) -> Progress {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Progress { bytes: of(&self.bytes), bytes_total: of(&self.bytes_total), links: of(&self.links) }
    }

    pub(super) fn begin(&self, bytes_total: u64) {
        self.bytes.store(0, Ordering::Relaxed);
        self.links.store(0, Ordering::Relaxed);
        self.bytes_total.store(bytes_total, Ordering::Relaxed);
    }

    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_link(&self) {
        self.links.fetch_add(1, Ordering::Relaxed);
    }

    /// Has whoever builds it give up.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// [`Kind::Busy`] when it is to be given up.
    pub(super) fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::new(Kind::Busy, "the export was given up")) } else { Ok(()) }
    }
}
