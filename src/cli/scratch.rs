//! A data directory for a while: one that was named and stays, or a temporary one that is removed at the end.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::error::{Context, Kind, Result};

/// The directory. A temporary one is removed when the value is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    temporary: bool,
}

impl Scratch {
    /// `named`, or a new directory among the temporary ones of this machine.
    ///
    /// # Errors
    /// [`Kind::Internal`] if it cannot be made.
    pub(super) fn new(named: Option<&Path>) -> Result<Self> {
        if let Some(path) = named {
            return Ok(Self { path: path.to_owned(), temporary: false });
        }
        let name = format!("aigaq-{}-{}", std::process::id(), Clock::system().now());
        let path = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .context(Kind::Internal, format!("cannot make the temporary directory {}", path.display()))?;
        Ok(Self { path, temporary: true })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
