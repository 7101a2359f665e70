//! `DIR/checkpoint`: the newest checkpoint that was signed, kept outside the store.
//!
//! It is written after the commit is durable, by an atomic rename and without a sync, so that it is never ahead of a
//! store that kept its word. One that is ahead at open, or that disagrees, means that acknowledged data was lost or
//! the log would sign a second history: the log refuses to open. So it does where the file is not what was written, since nobody can tell
//! any more; only an empty one is what a power cut may leave.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use aigaq_proto::Digest;
use aigaq_proto::receipt::LogKey;

use crate::error::{Context as _, Error, Kind, Result};

/// Name of the file in the data directory.
const FILE: &str = "checkpoint";
/// Name of the file with the newest cosigned one.
const COSIGNED: &str = "cosigned";

/// The file with the newest checkpoint.
#[derive(Debug)]
pub(super) struct Sidecar {
    path: PathBuf,
    draft: PathBuf,
}

impl Sidecar {
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: dir.join(FILE), draft: dir.join(format!("{FILE}.new")) }
    }

    /// The file with the newest checkpoint that a quorum of witnesses cosigned.
    pub(super) fn cosigned(dir: &Path) -> Self {
        Self { path: dir.join(COSIGNED), draft: dir.join(format!("{COSIGNED}.new")) }
    }

    /// The same as [`Sidecar::read`] with the text.
    pub(super) fn read_text(&self, key: &LogKey) -> Result<Option<(u64, Digest, String)>> {
        let Some((size, root)) = self.read(key)? else { return Ok(None) };
        let text = fs::read_to_string(&self.path);
        let text = text.context(Kind::Internal, format!("cannot read {}", self.path.display()))?;
        Ok(Some((size, root, text)))
    }

    /// Replaces the file, durable on return.
    pub(super) fn write_durable(&self, checkpoint: &str) -> Result<()> {
        write_durable(&self.path, &self.draft, checkpoint.as_bytes())
    }

    /// Tree size and root of the checkpoint in the file. `None` when there is none, or an empty file.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the file is not one that this log's key signed.
    pub(super) fn read(&self, key: &LogKey) -> Result<Option<(u64, Digest)>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) if bytes.is_empty() => return Ok(None),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Error::new(Kind::Internal, format!("cannot read {}", self.path.display())).because(error));
            }
        };
        let opened = std::str::from_utf8(&bytes).ok().and_then(|text| key.open(text).ok());
        opened.map(Some).ok_or_else(|| {
            let text = format!(
                "{} is damaged, or of another log: whether the store lost anything that was acknowledged cannot be told. Put the file back; \
                 or take it away if `aigaq check` finds the store whole and it is known to be the newest",
                self.path.display()
            );
            Error::new(Kind::Damaged, text)
        })
    }

    /// Replaces the file.
    pub(super) fn write(&self, checkpoint: &str) -> Result<()> {
        let context = || format!("cannot write {}", self.path.display());
        fs::write(&self.draft, checkpoint).context(Kind::Internal, context())?;
        fs::rename(&self.draft, &self.path).context(Kind::Internal, context())
    }
}

/// Writes a file under another name and gives it its own, durable on return.
///
/// # Errors
/// [`Kind::Internal`] when it cannot be written.
pub(super) fn write_durable(path: &Path, draft: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = fs::File::create(draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(draft, path)?;
        path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    };
    write().context(Kind::Internal, format!("cannot write {}", path.display()))
}
