//! A snapshot: a checkpoint of RocksDB beside its files, made of hard links, to copy from while the store is written.
//!
//! RocksDB looks at its files first and at the end of its write-ahead log a moment later. A batch that comes in between is in the log
//! of the checkpoint, and the ingested file with its bodies is not: so whoever asks sees to it that no commit is under way. Nothing is
//! flushed within that moment; what was not flushed before comes along as the end of the log.
//!
//! RocksDB has a backup engine too. It was left aside: through its bindings it cannot be slowed down, compares lengths alone where it is to
//! verify, and keeps a format that no other tool can check.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;

use super::Rocks;
use crate::error::{Context, Error, Kind, Result};
use crate::store::engine::Engine;

/// Where the snapshot lies, below the directory of the database: on the same file system, so that links will do.
const DIR: &str = "snapshot";
/// What RocksDB calls it until it is whole.
const DRAFT: &str = "snapshot.tmp";
/// No flush, however long the log is.
const NO_FLUSH: u64 = u64::MAX;

impl Rocks {
    /// See [`Engine::snapshot`].
    pub(super) fn checkpoint(&self) -> Result<PathBuf> {
        self.healthy()?;
        if self.reading.is_some() {
            return Err(Error::new(Kind::Invalid, "the store is open for reading"));
        }
        remove(&self.dir)?;
        let dir = self.dir.join(DIR);
        let made = Checkpoint::new(&self.db).and_then(|one| one.create_checkpoint_with_log_size(&dir, NO_FLUSH));
        made.context(Kind::Internal, "cannot take a snapshot of the store")?;
        Ok(dir)
    }
}

/// Removes the snapshot, whole or not.
pub(super) fn remove(dir: &Path) -> Result<()> {
    for name in [DIR, DRAFT] {
        match fs::remove_dir_all(dir.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).context(Kind::Internal, "cannot remove the snapshot of the store");
            }
            _ => {}
        }
    }
    Ok(())
}
