//! What was cosigned: of each log the newest checkpoint, in `DIR/<SHA-256 of the origin>`, with the signatures of the log and of
//! this witness, as it is served to monitors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aigaq_proto::Digest;
use aigaq_proto::receipt::LogKey;

use super::Key;
use super::judge::{Head, Refusal, Request};
use crate::clock::Clock;
use crate::enrol;
use crate::error::{Error, Kind, Result};

/// Readable by all: nothing in it is secret.
const PUBLIC: u32 = 0o644;

/// A witness of some logs.
pub struct Witness {
    key: Key,
    clock: Clock,
    logs: BTreeMap<String, Log>,
}

struct Log {
    key: LogKey,
    path: PathBuf,
    /// Held from the judgement until the checkpoint is durable.
    newest: Mutex<Option<Cosigned>>,
}

struct Cosigned {
    head: Head,
    checkpoint: String,
}

impl Witness {
    /// A witness of the logs with these keys, with what it cosigned before in `dir`, which nobody else may use.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for two logs of one origin, [`Kind::Damaged`] when what was kept of a log is not what was cosigned: to cosign
    /// again would be to forget.
    pub fn open(dir: &Path, key: Key, logs: Vec<LogKey>, clock: Clock) -> Result<Self> {
        let mut followed = BTreeMap::new();
        for log in logs {
            let path = dir.join(name(log.origin()));
            let newest = enrol::read(&path)?.map(|text| cosigned(&log, &key, text, &path)).transpose()?;
            let origin = log.origin().to_owned();
            let twice = format!("two logs have the origin {origin}");
            if followed.insert(origin, Log { key: log, path, newest: Mutex::new(newest) }).is_some() {
                return Err(Error::new(Kind::Invalid, twice));
            }
        }
        Ok(Self { key, clock, logs: followed })
    }

    /// Who it is.
    #[must_use]
    pub fn key(&self) -> &aigaq_proto::cosignature::WitnessKey {
        self.key.public()
    }

    /// Judges a request; the signature line, with the checkpoint durable, or why there is none. Blocks on the disk.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the checkpoint cannot be kept: then nothing was signed.
    pub(super) fn add(&self, request: &Request) -> Result<Result<String, Refusal>> {
        let Some(log) = self.logs.get(&request.origin) else { return Ok(Err(Refusal::Unknown)) };
        let mut newest = log.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let head = match request.judge(&log.key, newest.as_ref().map(|cosigned| cosigned.head)) {
            Ok(head) => head,
            Err(refusal) => {
                if refusal == Refusal::Inconsistent {
                    tracing::error!(
                        origin = request.origin,
                        checkpoint = request.checkpoint,
                        "a log shows a checkpoint that does not continue what was cosigned"
                    );
                }
                return Ok(Err(refusal));
            }
        };
        let line = self.key.cosign((self.clock.now() / 1_000_000).max(1), &request.body)?;
        let own = own_lines(&request.checkpoint, log.key.origin());
        let text = format!("{}\n{own}{line}", String::from_utf8_lossy(&request.body));
        let kept = cosigned(&log.key, &self.key, text, &log.path)?;
        enrol::write(&log.path, kept.checkpoint.as_bytes(), PUBLIC)?;
        debug_assert!(kept.head == head, "what is kept is what was judged");
        *newest = Some(kept);
        Ok(Ok(line))
    }

    /// The newest cosigned checkpoint of the log whose origin has this SHA-256, in lower-case hexadecimal.
    pub(super) fn checkpoint(&self, origin: &str) -> Option<String> {
        let (_, log) = self.logs.iter().find(|(name_of, _)| name(name_of) == origin)?;
        let newest = log.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.as_ref().map(|cosigned| cosigned.checkpoint.clone())
    }
}

/// The name of a log's file, and of its path in the interface for monitors.
fn name(origin: &str) -> String {
    Digest::of(origin.as_bytes()).to_string()
}

/// The signature lines of the log itself: those of strangers are not kept.
fn own_lines(checkpoint: &str, origin: &str) -> String {
    let (_, lines) = checkpoint.rsplit_once("\n\n").unwrap_or_default();
    let prefix = format!("\u{2014} {origin} ");
    lines.lines().filter(|line| line.starts_with(&prefix)).take(1).map(|line| format!("{line}\n")).collect()
}

fn cosigned(log: &LogKey, key: &Key, text: String, path: &Path) -> Result<Cosigned> {
    let damaged =
        |_| Error::new(Kind::Damaged, format!("{} is not a checkpoint that was cosigned here", path.display()));
    let (size, root) = log.open(&text).map_err(damaged)?;
    if key.public().cosigned_at(&text).is_none() {
        // What was cosigned under a key before this one binds as well.
        tracing::info!(log = log.origin(), "the newest checkpoint was cosigned under another key");
    }
    Ok(Cosigned { head: Head { size, root }, checkpoint: text })
}
