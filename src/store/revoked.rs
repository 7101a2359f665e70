//! Whose links are taken no more, in memory, so that the writer can ask for every link.
//!
//! Promise: when [`Store::enrol`] has returned for a record with a revocation, no commit brings a link of that recorder. The writer
//! holds [`Revoked`] from the moment it asks until its commit is durable, and a revocation waits for it.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use aigaq_proto::RecorderId;

use super::Store;
use super::records::RecorderRecord;
use crate::error::Result;

pub(super) type Set = RwLock<HashSet<RecorderId>>;

/// Whose links are taken no more. While it lives, nobody is added.
pub struct Revoked<'a>(RwLockReadGuard<'a, HashSet<RecorderId>>);

impl Revoked<'_> {
    /// Whether the recorder is one of them.
    #[must_use]
    pub fn contains(&self, recorder: RecorderId) -> bool {
        self.0.contains(&recorder)
    }
}

impl Store {
    /// Whose links are taken no more. To be held for no longer than a commit takes.
    #[must_use]
    pub fn revoked(&self) -> Revoked<'_> {
        Revoked(self.inner.revoked.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does `write`, which makes the record durable; nobody who holds [`Revoked`] sees half of it.
    pub(super) fn with_revocation(&self, recorder: &RecorderRecord, write: impl FnOnce() -> Result<()>) -> Result<()> {
        if recorder.revoked.is_none() {
            return write();
        }
        let mut revoked = self.inner.revoked.write().unwrap_or_else(PoisonError::into_inner);
        write()?;
        revoked.insert(recorder.id);
        Ok(())
    }

    pub(super) fn load_revoked(&self) -> Result<()> {
        let mut revoked = self.inner.revoked.write().unwrap_or_else(PoisonError::into_inner);
        for record in self.recorders() {
            let record = record?;
            if record.revoked.is_some() {
                revoked.insert(record.id);
            }
        }
        Ok(())
    }
}
