//! What witnesses said of the log: the newest checkpoint that a quorum cosigned, kept in `DIR/cosigned`, and whether one of them, or a
//! recorder, showed a tree that this log signed and no longer has.
//!
//! Older cosigned checkpoints are not kept: whatever is in the log is proven against the newest, and an export carries its own. The
//! file is durable before anybody sees its checkpoint, and one that does not belong to the store is left aside. A
//! contradiction is never taken back while the process lives.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;

use super::sidecar::Sidecar;
use super::{Reader, Tree};
use crate::error::{Error, Kind, Result};

/// Shared by the writer, the readers and those who ask. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Witnessed(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    dir: OnceLock<PathBuf>,
    tree: Mutex<Option<Tree>>,
    contradiction: OnceLock<String>,
    contradicted: CancellationToken,
}

impl Witnessed {
    /// The newest tree whose checkpoint the quorum cosigned; its checkpoint has their signature lines.
    #[must_use]
    pub fn tree(&self) -> Option<Tree> {
        self.newest().clone()
    }

    /// Keeps a cosigned tree, durable on return. One that is smaller than the kept one changes nothing; one of the same size takes its
    /// place, with the signatures that came later.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it cannot be written.
    pub fn keep(&self, tree: Tree) -> Result<()> {
        if self.newest().as_ref().is_some_and(|newest| newest.size > tree.size) {
            return Ok(());
        }
        if let Some(dir) = self.0.dir.get() {
            Sidecar::cosigned(dir).write_durable(&tree.checkpoint)?;
        }
        *self.newest() = Some(tree);
        Ok(())
    }

    /// Notes that this log signed what the store does not have; the first one counts.
    pub(super) fn contradict(&self, what: &str) {
        if self.0.contradiction.set(what.to_owned()).is_ok() {
            self.0.contradicted.cancel();
        }
    }

    /// What contradicts the store, for people.
    #[must_use]
    pub fn contradiction(&self) -> Option<&str> {
        self.0.contradiction.get().map(String::as_str)
    }

    /// Waits until something contradicts the store. Cancel-safe.
    pub async fn contradicted(&self) {
        self.0.contradicted.cancelled().await;
    }

    /// Reads what was kept in `dir`, and keeps what comes there.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the store has not the entries that were cosigned.
    pub(super) fn keep_in(&self, dir: &Path, reader: &Reader) -> Result<()> {
        let kept = Sidecar::cosigned(dir).read_text(&reader.key())?;
        if let Some((size, root, checkpoint)) = kept {
            if size > reader.size()? || reader.root(size)? != root {
                let text = format!("the store has not the {size} entries that witnesses cosigned");
                return Err(Error::new(Kind::Damaged, text));
            }
            *self.newest() = Some(Tree { size, root, checkpoint });
        }
        let _ = self.0.dir.set(dir.to_owned());
        Ok(())
    }

    fn newest(&self) -> MutexGuard<'_, Option<Tree>> {
        self.0.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
