//! Who is enrolled, in memory, for questions that go over many recorders: read once, and again after somebody was enrolled or revoked.
//!
//! About half a kilobyte for each recorder. Whoever has it sees those who were enrolled when they asked for it.

use std::sync::{Arc, PoisonError, RwLock};

use aigaq_proto::RecorderId;

use super::Store;
use super::records::RecorderRecord;
use crate::error::Result;

pub(super) type Kept = RwLock<Option<Arc<Directory>>>;

/// Every enrolled recorder, in the order of the identifiers.
#[derive(Debug, Default)]
pub struct Directory(Vec<RecorderRecord>);

impl Directory {
    /// What is known of one of them.
    #[must_use]
    pub fn get(&self, recorder: RecorderId) -> Option<&RecorderRecord> {
        self.0.binary_search_by_key(&recorder, |record| record.id).ok().and_then(|at| self.0.get(at))
    }

    /// All of them from this identifier on.
    #[must_use]
    pub fn from(&self, recorder: RecorderId) -> &[RecorderRecord] {
        let at = self.0.partition_point(|record| record.id < recorder);
        self.0.get(at..).unwrap_or_default()
    }
}

impl Store {
    /// Who is enrolled.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn directory(&self) -> Result<Arc<Directory>> {
        let kept = || self.inner.directory.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(directory) = kept() {
            return Ok(directory);
        }
        // Whoever enrols waits, so that nothing is kept that was read before.
        let mut place = self.inner.directory.write().unwrap_or_else(PoisonError::into_inner);
        let directory = Arc::new(Directory(self.recorders().collect::<Result<_>>()?));
        *place = Some(Arc::clone(&directory));
        Ok(directory)
    }

    /// Forgets what was read of it.
    pub(super) fn forget_directory(&self) {
        *self.inner.directory.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
