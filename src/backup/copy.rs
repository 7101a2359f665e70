//! Copying a file no faster than is allowed, hashing it on the way; durable on return.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use aigaq_proto::Digest;
use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};

use crate::error::{Context, Error, Kind, Result};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// After so many bytes they are sent to the disk, so that not all of a file goes there at its end.
const SYNC_BYTES: u64 = 16 << 20;
/// How much of the end of a file tells it apart: the tables of a file of the store lie there, and in them by whom it was made and with
/// which number.
const TAIL_BYTES: u64 = 64 << 10;

/// How fast bytes may go, and whether to go on at all.
pub(super) struct Pace<'a> {
    bytes_per_s: Option<u64>,
    begun: Instant,
    spent: u64,
    /// Silent as long as all is well.
    heard: &'a Receiver<String>,
}

impl<'a> Pace<'a> {
    pub(super) fn new(bytes_per_s: Option<u64>, heard: &'a Receiver<String>) -> Self {
        Self { bytes_per_s: bytes_per_s.map(|rate| rate.max(1)), begun: Instant::now(), spent: 0, heard }
    }

    /// Waits until so many more bytes may have gone.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the server has gone meanwhile.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<()> {
        self.spent = self.spent.saturating_add(bytes);
        let gone = || Error::new(Kind::Busy, "the server has stopped; run the backup again");
        let due = self.bytes_per_s.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(self.spent as f64 / rate as f64).saturating_sub(self.begun.elapsed())
        });
        if due.is_zero() {
            return match self.heard.try_recv() {
                Err(TryRecvError::Empty) => Ok(()),
                _ => Err(gone()),
            };
        }
        match self.heard.recv_timeout(due) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(gone()),
        }
    }
}

/// Copies a file to a new one of mode 0600: digest and length of what was read. Durable on return, but for its name.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such file, [`Kind::StorageFull`] without room, [`Kind::Internal`] when a disk does not obey.
pub(super) fn copy(from: &Path, to: &Path, pace: &mut Pace<'_>) -> Result<(Digest, u64)> {
    let source = open(from)?;
    let written = |error: std::io::Error| {
        let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let kind = if full { Kind::StorageFull } else { Kind::Internal };
        Error::new(kind, format!("cannot write {}", to.display())).because(error)
    };
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(written)?;
    let mut unsynced = 0;
    let read = each(&source, from, |chunk| {
        target.write_all(chunk).map_err(written)?;
        unsynced += chunk.len() as u64;
        if unsynced >= SYNC_BYTES {
            target.sync_data().map_err(written)?;
            unsynced = 0;
        }
        pace.spend(chunk.len() as u64)
    })?;
    target.sync_all().map_err(written)?;
    Ok(read)
}

/// Digest and length of a file, from the disk and not from memory where that can be had.
///
/// # Errors
/// As [`copy`].
pub(super) fn read(path: &Path, pace: &mut Pace<'_>) -> Result<(Digest, u64)> {
    let file = open(path)?;
    // Advice: what is still in memory would say nothing of the disk.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    each(&file, path, |chunk| pace.spend(chunk.len() as u64))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Internal };
        Error::new(kind, format!("cannot read {}", path.display())).because(error)
    })
}

fn each(mut file: &File, path: &Path, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<(Digest, u64)> {
    let (mut hash, mut length, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK_BYTES]);
    loop {
        let read = file.read(&mut chunk).context(Kind::Internal, format!("cannot read {}", path.display()))?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        length += read as u64;
        take(bytes)?;
    }
    Ok((Digest(hash.finalize().into()), length))
}

/// Whether two files of a store, which never change once they are whole, are the same one: by length and by their ends.
pub(super) fn is_same(a: &Path, b: &Path) -> bool {
    let tail = |path: &Path| -> std::io::Result<(u64, Vec<u8>)> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut tail = vec![0; usize::try_from(length.min(TAIL_BYTES)).unwrap_or_default()];
        let from = length - tail.len() as u64;
        file.read_exact_at(&mut tail, from)?;
        Ok((length, tail))
    };
    matches!((tail(a), tail(b)), (Ok(a), Ok(b)) if a == b && a.0 > 0)
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// [`Kind::Internal`] when the disk does not obey.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).context(Kind::Internal, format!("cannot sync {}", dir.display()))
}
