//! The data directory as a whole: who uses it.
//!
//! Promises: one process at a time; secrets are readable by their owner alone and are never replaced. What is inside the store,
//! the authority and the log is the business of those rooms.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::backup::{self, UNFINISHED};
use crate::error::{Context, Error, Kind, Result};

/// The file that is locked while a process uses the directory.
const LOCK: &str = "lock";

/// A data directory that this process has for itself until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Option<File>,
}

impl DataDir {
    /// Makes the directory if need be and locks it.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it cannot be made or another process uses it.
    pub fn create(path: &Path) -> Result<Self> {
        Self::unfinished(path)?;
        Self::make(path)
    }

    /// The same for a restore: what is there must be empty, or left by a restore that was cut off.
    ///
    /// # Errors
    /// As [`DataDir::create`]; [`Kind::Invalid`] if anything is in it.
    pub fn restoring(path: &Path) -> Result<Self> {
        let used = || {
            let text = format!("{} is not empty: a backup is put back into an empty directory alone", path.display());
            Error::new(Kind::Invalid, text)
        };
        if path.exists() && !backup::is_empty(path)? {
            return Err(used());
        }
        let dir = Self::make(path)?;
        if backup::is_empty(path)? { Ok(dir) } else { Err(used()) }
    }

    fn unfinished(path: &Path) -> Result<()> {
        if !path.join(UNFINISHED).exists() {
            return Ok(());
        }
        let text = format!("a restore into {} was cut off: run it again", path.display());
        Err(Error::new(Kind::Invalid, text))
    }

    fn make(path: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .context(Kind::Invalid, format!("cannot make the data directory {}", path.display()))?;
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path.join(LOCK))
            .context(Kind::Invalid, format!("cannot use {} as a data directory", path.display()))?;
        Self::lock(path, Some(lock))
    }

    /// Locks a directory that is there, and changes nothing in it: one in which no server ever ran has no lock to take.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it is not there or another process uses it.
    pub fn open(path: &Path) -> Result<Self> {
        Self::unfinished(path)?;
        match File::open(path.join(LOCK)) {
            Ok(lock) => Self::lock(path, Some(lock)),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::lock(path, None),
            Err(error) => Err(Error::new(Kind::Invalid, format!("cannot read {}", path.display())).because(error)),
        }
    }

    fn lock(path: &Path, lock: Option<File>) -> Result<Self> {
        if let Some(lock) = &lock {
            match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let used = format!("the data directory {} is in use by another aigaq process", path.display());
                    return Err(Error::new(Kind::Invalid, used));
                }
                Err(error) => {
                    return Err(Error::new(Kind::Invalid, format!("cannot lock {}", path.display())).because(error));
                }
            }
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
