//! Who is enrolled: every key that may connect, in memory, with the store behind it.
//!
//! `enrol` leaves a file for each new recorder in `DIR/enrolled`; [`Registry::import`] makes it durable in the store and only
//! then removes the file, so that a crash repeats the step and loses nothing. It runs at start, when an unknown key
//! connects, and when recorders are listed. A damaged file is reported once and left where it is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use aigaq_proto::{Digest, RecorderId};
use data_encoding::HEXLOWER;

use super::{EnrolledFile, files};
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::Store;
use crate::store::records::{RecorderKey, RecorderRecord};

/// The directory within the data directory where word of new recorders is left.
pub(super) const DIR: &str = "enrolled";

/// The enrolled recorders, by key and by identity.
pub struct Registry {
    store: Store,
    dir: PathBuf,
    known: RwLock<Known>,
    /// Names of damaged files that were reported. Held while files are taken in, so that one import runs at a time.
    reported: Mutex<HashSet<PathBuf>>,
}

#[derive(Default)]
struct Known {
    by_key: HashMap<Digest, Arc<RecorderRecord>>,
    by_id: BTreeMap<RecorderId, Arc<RecorderRecord>>,
}

impl Known {
    fn insert(&mut self, record: RecorderRecord) {
        let record = Arc::new(record);
        for key in &record.keys {
            self.by_key.insert(Digest::of(&key.spki), Arc::clone(&record));
        }
        self.by_id.insert(record.id, record);
    }
}

impl Registry {
    /// Reads the enrolled recorders from the store and imports what `enrol` left in the data directory `data`. Blocks.
    ///
    /// # Errors
    /// Whatever the store fails with.
    pub fn open(store: Store, data: &Path) -> Result<Self> {
        let mut known = Known::default();
        for record in store.recorders() {
            known.insert(record?);
        }
        let registry =
            Self { store, dir: data.join(DIR), known: RwLock::new(known), reported: Mutex::new(HashSet::new()) };
        registry.import()?;
        Ok(registry)
    }

    /// Takes in what `enrol` has left since; returns how many recorders that were. Blocks.
    ///
    /// # Errors
    /// Whatever the store fails with.
    pub fn import(&self) -> Result<usize> {
        let mut reported = self.reported();
        let mut count = 0;
        for path in self.waiting()? {
            match read_record(&path) {
                Ok(None) => {}
                Ok(Some(record)) => {
                    self.store.enrol(&record)?;
                    self.known_mut().insert(record);
                    count += 1;
                    if let Err(error) = std::fs::remove_file(&path) {
                        tracing::warn!(%error, "cannot remove the file of an enrolled recorder; it is read again later");
                    }
                }
                Err(error) if reported.contains(&path) => tracing::debug!(%error, "still damaged"),
                Err(error) => {
                    tracing::error!(%error, "a file of an enrolled recorder is damaged: enrol that recorder again");
                    reported.insert(path);
                }
            }
        }
        Ok(count)
    }

    /// The recorder that enrolled with this key, DER `SubjectPublicKeyInfo`. An unknown key is looked for among what
    /// `enrol` has left since, which blocks for a moment.
    #[must_use]
    pub fn by_spki(&self, spki: &[u8]) -> Option<Arc<RecorderRecord>> {
        let key = Digest::of(spki);
        let found = self.known().by_key.get(&key).cloned();
        if found.is_some() {
            return found;
        }
        if let Err(error) = self.import() {
            tracing::error!(%error, "cannot take in new recorders");
        }
        self.known().by_key.get(&key).cloned()
    }

    /// The recorder with this identity.
    #[must_use]
    pub fn by_id(&self, id: RecorderId) -> Option<Arc<RecorderRecord>> {
        self.known().by_id.get(&id).cloned()
    }

    /// Every enrolled recorder, by identity.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<RecorderRecord>> {
        self.known().by_id.values().cloned().collect()
    }

    /// The files that wait, in no order; none if the directory is not there.
    fn waiting(&self) -> Result<Vec<PathBuf>> {
        let context = || format!("cannot read {}", self.dir.display());
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context(Kind::Internal, context()),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.context(Kind::Internal, context())?.path();
            let draft = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if !draft && path.extension().is_some_and(|extension| extension == "toml") {
                paths.push(path);
            }
        }
        Ok(paths)
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn reported(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("recorders", &self.known().by_id.len()).finish_non_exhaustive()
    }
}

/// The record in a file; `None` if the file is gone. The identity must be that of the key and of the file's name.
fn read_record(path: &Path) -> Result<Option<RecorderRecord>> {
    let damaged = |what: &str| Error::new(Kind::Invalid, format!("{}: {what}", path.display()));
    let Some(text) = files::read(path)? else { return Ok(None) };
    let file: EnrolledFile = toml::from_str(&text).map_err(|_| damaged("not the word of an enrolment"))?;
    let spki = HEXLOWER.decode(file.spki.as_bytes()).map_err(|_| damaged("the key is not hexadecimal"))?;
    aigaq_proto::signature::PublicKey::from_spki(&spki).map_err(|_| damaged("the key is not one for recorders"))?;
    let id = RecorderId::of_spki(&spki);
    if file.id != id.to_string() || path.file_stem().is_none_or(|stem| stem.to_string_lossy() != file.id) {
        return Err(damaged("the identity is not that of the key"));
    }
    let key = RecorderKey { spki, since: file.enrolled_at, not_after: file.not_after };
    Ok(Some(RecorderRecord::new(file.kind, file.department, file.label, key)))
}
