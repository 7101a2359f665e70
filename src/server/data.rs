//! The data directory as a whole: who uses it, and the bearer token of its API.
//!
//! Promises: one process at a time; secrets are readable by their owner alone and are never replaced. What is inside the store,
//! the authority and the log is the business of those rooms.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::error::{Context, Error, Kind, Result};

/// The file that is locked while a process uses the directory.
const LOCK: &str = "lock";
/// The file with the bearer token.
const TOKEN: &str = "token";
/// Random bytes in a token that is made here.
const TOKEN_BYTES: usize = 32;
/// Shortest token that is accepted from the file, characters.
const TOKEN_CHARS_MIN: usize = 32;

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

    /// The bearer token, made at the first call.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if the file holds no token.
    pub fn token(&self) -> Result<String> {
        let path = self.path.join(TOKEN);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => self.make_token(&path)?,
            Err(error) => {
                return Err(Error::new(Kind::Invalid, format!("cannot read {}", path.display())).because(error));
            }
        };
        let token = text.trim();
        if token.len() < TOKEN_CHARS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let wanted = format!("{} must hold {TOKEN_CHARS_MIN} or more printable ASCII characters", path.display());
            return Err(Error::new(Kind::Invalid, format!("{wanted}; remove it to have a new token made")));
        }
        Ok(token.to_owned())
    }

    fn make_token(&self, path: &Path) -> Result<String> {
        let mut bytes = [0; TOKEN_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::new(Kind::Internal, "no random bytes for the token"))?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let write = || -> std::io::Result<()> {
            let new = self.path.join("token.new");
            let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
            writeln!(file, "{token}")?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            File::open(&self.path)?.sync_all()
        };
        write().context(Kind::Internal, format!("cannot write {}", path.display()))?;
        Ok(token)
    }
}
