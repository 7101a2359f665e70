//! Who is enrolled: every key that may connect, in memory, with the store behind it.
//!
//! Every change is durable in the store before it counts here, and changes are made one at a time. What the command line has left
//! ([`words`]) is taken in at start, every second, when an unknown key connects, and when recorders are listed; a word goes only
//! when it is durable, so that a crash repeats the step and loses nothing. A damaged word is reported once and left where it is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use aigaq_proto::{Digest, Micros, RecorderId};
use tokio::sync::watch;

use super::{files, words};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::store::records::{AuditRecord, Event, RecorderKey, RecorderKind, RecorderRecord, Revocation};

/// Keys that one recorder may have in its life. A new one every three weeks lasts for 14 years; the same key may be renewed for ever.
const KEYS_MAX: usize = 256;
/// Who revokes by a word in the data directory.
const COMMAND_LINE: &str = "command line";

/// The enrolled recorders, by key and by identity.
pub struct Registry {
    store: Store,
    data: PathBuf,
    clock: Clock,
    known: RwLock<Known>,
    /// Held while anything is changed. Inside: the damaged words that were reported.
    changes: Mutex<HashSet<PathBuf>>,
    revocations: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    by_key: HashMap<Digest, Arc<RecorderRecord>>,
    by_id: BTreeMap<RecorderId, Arc<RecorderRecord>>,
}

impl Known {
    fn insert(&mut self, record: Arc<RecorderRecord>) {
        for key in &record.keys {
            self.by_key.insert(Digest::of(&key.spki), Arc::clone(&record));
        }
        self.by_id.insert(record.id, record);
    }
}

/// Why a key opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoEntry {
    /// It is not enrolled.
    Unknown,
    /// Its recorder was revoked.
    Revoked,
    /// Its last certificate has ended, or its recorder has moved on to another.
    Ended,
}

/// A key that asks to be enrolled, with what is to be known of its recorder.
#[derive(Debug, Clone)]
pub(super) struct Newcomer {
    pub(super) kind: RecorderKind,
    pub(super) department: String,
    pub(super) label: String,
    pub(super) spki: Vec<u8>,
    pub(super) not_after: Option<Micros>,
}

impl Registry {
    /// Reads the enrolled recorders from the store and takes in what the command line left in the data directory `data`. Blocks.
    ///
    /// # Errors
    /// Whatever the store fails with.
    pub fn open(store: Store, data: &Path, clock: Clock) -> Result<Self> {
        let mut known = Known::default();
        for record in store.recorders() {
            known.insert(Arc::new(record?));
        }
        let registry = Self {
            store,
            data: data.to_owned(),
            clock,
            known: RwLock::new(known),
            changes: Mutex::default(),
            revocations: watch::Sender::new(0),
        };
        registry.import()?;
        Ok(registry)
    }

    /// Takes in what the command line has left since; returns how many words that were. Blocks.
    ///
    /// # Errors
    /// Whatever the store fails with.
    pub fn import(&self) -> Result<usize> {
        let mut reported = self.changes();
        let mut count = 0;
        for path in files::waiting(&self.data.join(words::ENROLLED))? {
            let word = words::Enrolled::read(&path);
            count += self.take(&mut reported, &path, word, |record| self.take_enrolled(record))?;
        }
        for path in files::waiting(&self.data.join(words::REVOKED))? {
            let word = words::Revoked::read(&path);
            if let Ok(Some((id, _))) = &word
                && self.by_id(*id).is_none()
            {
                tracing::warn!("a recorder that was never enrolled cannot be revoked");
                words::Revoked::refuse(&path)?;
                continue;
            }
            count += self.take(&mut reported, &path, word, |(id, reason)| self.take_revoked(id, reason))?;
        }
        Ok(count)
    }

    /// Takes in one word: what it says is made durable, then it goes. Whether it was one.
    fn take<T>(
        &self,
        reported: &mut HashSet<PathBuf>,
        path: &Path,
        word: Result<Option<T>>,
        make_durable: impl FnOnce(T) -> Result<()>,
    ) -> Result<usize> {
        let taken = match word {
            Ok(None) => return Ok(0),
            Ok(Some(word)) => make_durable(word),
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => {
                if let Err(error) = std::fs::remove_file(path) {
                    tracing::warn!(%error, "cannot remove a word that was taken in; it is read again later");
                }
                Ok(1)
            }
            Err(error) if !matches!(error.kind(), Kind::Invalid | Kind::NotFound) => Err(error),
            Err(error) if reported.contains(path) => {
                tracing::debug!(%error, "still not a word that can be taken in");
                Ok(0)
            }
            Err(error) => {
                tracing::error!(%error, "a word of the command line cannot be taken in: give the command again");
                reported.insert(path.to_owned());
                Ok(0)
            }
        }
    }

    /// An identity made by the command line. One that is known already stays as it is.
    fn take_enrolled(&self, record: RecorderRecord) -> Result<()> {
        let known = record.keys.iter().any(|key| self.known().by_key.contains_key(&Digest::of(&key.spki)));
        if known { Ok(()) } else { self.put(record).map(|_| ()) }
    }

    fn take_revoked(&self, id: RecorderId, reason: String) -> Result<()> {
        let record = self.by_id(id).ok_or_else(|| Error::new(Kind::NotFound, format!("{id} was never enrolled")))?;
        self.put_revoked(&record, (COMMAND_LINE, "local"), reason).map(|_| ())
    }

    /// The recorder that a key, DER `SubjectPublicKeyInfo`, opens for now. An unknown key is looked for among what the command line
    /// has left since, which blocks for a moment.
    ///
    /// # Errors
    /// Why it opens nothing.
    pub fn entry(&self, spki: &[u8]) -> Result<Arc<RecorderRecord>, NoEntry> {
        let record = self.by_key(spki).or_else(|| {
            if let Err(error) = self.import() {
                tracing::error!(%error, "cannot take in new recorders");
            }
            self.by_key(spki)
        });
        let record = record.ok_or(NoEntry::Unknown)?;
        let key = record.key(spki).ok_or(NoEntry::Unknown)?;
        match (&record.revoked, key.not_after) {
            (Some(_), _) => Err(NoEntry::Revoked),
            (None, Some(end)) if end <= self.clock.now() => Err(NoEntry::Ended),
            _ => Ok(record),
        }
    }

    fn by_key(&self, spki: &[u8]) -> Option<Arc<RecorderRecord>> {
        self.known().by_key.get(&Digest::of(spki)).cloned()
    }

    /// The recorder with this identity.
    #[must_use]
    pub fn by_id(&self, id: RecorderId) -> Option<Arc<RecorderRecord>> {
        self.known().by_id.get(&id).cloned()
    }

    /// Whether the recorder was revoked. `false` for one that was never enrolled.
    #[must_use]
    pub fn is_revoked(&self, id: RecorderId) -> bool {
        self.known().by_id.get(&id).is_some_and(|record| record.revoked.is_some())
    }

    /// Whether the recorder may have a certificate that is good at `now`.
    #[must_use]
    pub fn has_certificate(&self, id: RecorderId, now: Micros) -> bool {
        let good = |key: &RecorderKey| key.not_after.is_none_or(|end| end > now);
        self.by_id(id).is_some_and(|record| record.revoked.is_none() && record.keys.iter().any(good))
    }

    /// Changes at every revocation.
    #[must_use]
    pub fn revocations(&self) -> watch::Receiver<u64> {
        self.revocations.subscribe()
    }

    /// Every enrolled recorder, by identity.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<RecorderRecord>> {
        self.known().by_id.values().cloned().collect()
    }

    /// Whose key this is, revoked or not.
    pub(super) fn owner(&self, spki: &[u8]) -> Option<RecorderId> {
        self.by_key(spki).map(|record| record.id)
    }

    /// Whether a key may be enrolled.
    ///
    /// # Errors
    /// [`Kind::Unauthorised`] if its recorder was revoked: such a key never comes back.
    pub(super) fn may_enrol(&self, spki: &[u8]) -> Result<()> {
        match self.by_key(spki) {
            Some(record) if record.revoked.is_some() => Err(revoked()),
            _ => Ok(()),
        }
    }

    /// Enrols a key. One that is enrolled already, such as that of a device whose certificate ended in a drawer, stays who it is and
    /// becomes what the newcomer says. Durable on return. Blocks.
    ///
    /// # Errors
    /// Those of [`Registry::may_enrol`] and of the store.
    pub(super) fn enrol(&self, newcomer: Newcomer) -> Result<Arc<RecorderRecord>> {
        let _one_at_a_time = self.changes();
        self.may_enrol(&newcomer.spki)?;
        let Newcomer { kind, department, label, spki, not_after } = newcomer;
        let record = match self.by_key(&spki) {
            None => {
                RecorderRecord::new(kind, department, label, RecorderKey { spki, since: self.clock.now(), not_after })
            }
            Some(known) => {
                let mut keys = known.keys.clone();
                prolong(&mut keys, &spki, not_after);
                RecorderRecord { kind, department, label, keys, ..(*known).clone() }
            }
        };
        self.put(record)
    }

    /// Gives a recorder its next certificate's end, under a key that it has or under a new one. Durable on return. Blocks.
    ///
    /// # Errors
    /// [`Kind::Unauthorised`] if it was revoked, [`Kind::Invalid`] for a key that it cannot have, and those of the store.
    pub(super) fn renew(&self, id: RecorderId, spki: &[u8], not_after: Micros) -> Result<Arc<RecorderRecord>> {
        let _one_at_a_time = self.changes();
        let known = self.by_id(id).ok_or_else(|| Error::new(Kind::Unauthorised, "the recorder is not enrolled"))?;
        if known.revoked.is_some() {
            return Err(revoked());
        }
        if self.by_key(spki).is_some_and(|owner| owner.id != id) {
            return Err(Error::new(Kind::Invalid, "the key is enrolled for another recorder"));
        }
        let mut keys = known.keys.clone();
        if !prolong(&mut keys, spki, Some(not_after)) {
            if keys.len() >= KEYS_MAX {
                return Err(Error::new(Kind::Invalid, "the recorder has had too many keys: renew with one of them"));
            }
            keys.push(RecorderKey { spki: spki.to_vec(), since: self.clock.now(), not_after: Some(not_after) });
        }
        self.put(RecorderRecord { keys, ..(*known).clone() })
    }

    /// Takes an identity back, for ever; `by` is who does it, and from where. When this returns it is durable, no commit brings a link of the recorder any more, and
    /// whoever watches [`Registry::revocations`] closes its connections. Once more changes nothing. Blocks.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a recorder that was never enrolled, and those of the store.
    pub fn revoke(&self, id: RecorderId, by: (&str, &str), reason: String) -> Result<Arc<RecorderRecord>> {
        self.import()?;
        let _one_at_a_time = self.changes();
        let record = self.by_id(id).ok_or_else(|| Error::new(Kind::NotFound, "no such recorder is enrolled"))?;
        self.put_revoked(&record, by, reason)
    }

    fn put_revoked(
        &self,
        record: &Arc<RecorderRecord>,
        (actor, source): (&str, &str),
        reason: String,
    ) -> Result<Arc<RecorderRecord>> {
        if record.revoked.is_some() {
            return Ok(Arc::clone(record));
        }
        let at = self.clock.now();
        let entry = AuditRecord::new(at, Event::Revocation, actor, source, "revoke");
        self.store.audit(&entry.about(record.id.to_string()).because(reason.clone()))?;
        let revocation = Revocation { at, by: actor.to_owned(), reason };
        let record = self.put(RecorderRecord { revoked: Some(revocation), ..(**record).clone() })?;
        tracing::warn!("a recorder was revoked");
        tracing::debug!(recorder = %record.id, "the revoked recorder");
        self.revocations.send_modify(|count| *count = count.wrapping_add(1));
        Ok(record)
    }

    /// Makes a record durable, then known. The caller holds `changes`.
    fn put(&self, record: RecorderRecord) -> Result<Arc<RecorderRecord>> {
        self.store.enrol(&record)?;
        let record = Arc::new(record);
        self.known_mut().insert(Arc::clone(&record));
        Ok(record)
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("recorders", &self.known().by_id.len()).finish_non_exhaustive()
    }
}

/// Sets when the last certificate of a key ends; `false` if there is no such key. A code may answer again with a certificate that is
/// older than one that was renewed since: the later end counts.
fn prolong(keys: &mut [RecorderKey], spki: &[u8], not_after: Option<Micros>) -> bool {
    let key = keys.iter_mut().find(|key| key.spki == spki);
    key.map(|key| key.not_after = key.not_after.max(not_after)).is_some()
}

fn revoked() -> Error {
    Error::new(Kind::Unauthorised, "this recorder was revoked; a device enrols again with a new key")
}
