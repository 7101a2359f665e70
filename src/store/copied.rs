//! The store in the hands of those who copy it: a snapshot to copy from while it is written, and what a store learns that was made from
//! a copy.
//!
//! A snapshot holds everything that was durable at one moment, bodies and what refers to them alike: no commit is under way while it
//! is taken. A copy that is put back is told in one batch what is not to come back to life with it: sessions end, and keys
//! that were destroyed since stay destroyed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aigaq_proto::{Micros, RecorderId};

use super::engine::rocks::Rocks;
use super::engine::{Batch, Engine as _, Family};
use super::records::{self, Act, AuditRecord, DestructionRecord, ExpiryRecord, RestoreRecord, SessionRecord, Standing};
use super::{ExpiryEntry, Settings, Store, keys, sealed};
use crate::error::{Error, Kind, Result};

/// Everything that was durable at one moment, in files that do not change. Goes when it is dropped, which takes as long as removing them.
#[derive(Debug)]
pub struct Snapshot {
    store: Store,
    /// Where they are.
    pub dir: PathBuf,
    /// Entries of the log in it.
    pub log_size: u64,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Err(error) = self.store.engine().drop_snapshot() {
            tracing::warn!(%error, "a snapshot stays until the next one or the next start");
        }
    }
}

/// What a store is told that was made from a copy.
#[derive(Debug)]
pub struct PutBack {
    /// From which copy, and when.
    pub record: RestoreRecord,
    /// First expiry day whose keys were not destroyed.
    pub keys_floor: u32,
    /// Keys of later days that were destroyed since.
    pub destroyed: Vec<(u32, RecorderId, Act)>,
    /// Keys that this store knows to be destroyed and that may have come back beside it: they are destroyed again.
    pub come_back: Vec<(u32, RecorderId)>,
    /// What the audit trail says.
    pub entry: AuditRecord,
}

impl Store {
    /// Opens the store in `dir` for whoever copies it or has put it back: without any key, and without finishing what needs one.
    ///
    /// # Errors
    /// As [`Store::open`]; [`Kind::NotFound`] when there is none.
    pub fn open_unkeyed(dir: &Path, settings: &Settings) -> Result<Self> {
        if !Self::exists(dir) {
            return Err(Error::new(Kind::NotFound, format!("no store in {}", dir.display())));
        }
        let engine = Rocks::open(dir, settings)?;
        let store = Self::loaded(Arc::new(engine), sealed::Sealing::none(), settings.policy.clone())?;
        store.load_destroyed()?;
        store.load_trail()?;
        store.load_feed()?;
        Ok(store)
    }

    /// Opens a copy that nothing writes, without taking its lock; writes not one byte. Its keys are where `settings.seal.dir` says; without
    /// it nothing that is sealed can be read.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub fn open_copy(dir: &Path, settings: &Settings) -> Result<Self> {
        let engine = Rocks::open_copy(dir, settings)?;
        if engine.get(Family::Meta, keys::META_FORMAT)?.is_none() {
            return Err(Error::new(Kind::Damaged, "the store has no format version"));
        }
        let sealing = match &settings.seal.dir {
            Some(_) => sealed::Sealing::open_read_only(dir, &settings.seal)?,
            None => sealed::Sealing::none(),
        };
        let store = Self::loaded(Arc::new(engine), sealing, settings.policy.clone())?;
        store.load_destroyed()?;
        Ok(store)
    }

    /// Takes a snapshot, of which there is one at a time. Commits wait while its files are linked, some ten microseconds for each; blocks.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a store without files, [`Kind::Internal`] when it cannot be taken, and as [`Store::commit`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.engine().settle()?;
        let _writing = self.writing();
        let log_size = self.log_size()?;
        Ok(Snapshot { store: self.clone(), dir: self.engine().snapshot()?, log_size })
    }

    /// When the newest backup was begun that is whole.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn last_backup(&self) -> Result<Option<Micros>> {
        let value = self.engine().get(Family::Meta, keys::META_LAST_BACKUP)?;
        value.map(|value| keys::read_u64(&value, "meta")).transpose()
    }

    /// Writes down that a backup is whole which was begun at `at`.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn note_backup(&self, at: Micros, entry: &AuditRecord) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Family::Meta, keys::META_LAST_BACKUP, at.to_be_bytes());
        self.audit_with(std::slice::from_ref(entry), batch)
    }

    /// From which copy this store was made, if it was.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn restored(&self) -> Result<Option<RestoreRecord>> {
        let value = self.engine().get(Family::Meta, keys::META_RESTORED)?;
        value.map(|value| records::decode(&value, "meta")).transpose()
    }

    /// Writes down that it was said how the log of a store goes on that was put back.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn settle_restored(&self, entry: &AuditRecord) -> Result<()> {
        let mut batch = Batch::default();
        if let Some(restored) = self.restored()? {
            let settled = RestoreRecord { standing: Standing::Settled, ..restored };
            batch.put(Family::Meta, keys::META_RESTORED, records::encode(&settled)?);
        }
        self.audit_with(std::slice::from_ref(entry), batch)
    }

    /// Makes a store of a copy: all of it or nothing. Returns how many sessions were ended.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put_back(&self, what: PutBack) -> Result<usize> {
        let PutBack { record, keys_floor, destroyed, come_back, entry } = what;
        let mut batch = Batch::default();
        batch.put(Family::Meta, keys::META_RESTORED, records::encode(&record)?);
        let keys_floor = keys_floor.max(self.keys_floor());
        batch.put(Family::Meta, keys::META_KEYS_FLOOR, keys_floor.to_be_bytes());
        let before_commit = self.next_commit();
        let mut newest: BTreeMap<RecorderId, Micros> = BTreeMap::new();
        let mut gone = |entry: Result<ExpiryEntry>| -> Result<()> {
            let ExpiryEntry { recorder, record, .. } = entry?;
            if let ExpiryRecord::Kept { captured_at, .. } = record {
                let newest = newest.entry(recorder).or_default();
                *newest = captured_at.max(*newest);
            }
            Ok(())
        };
        let mut from = self.dropped_floor();
        while let Some(day) = self.first_expiring(from)?.filter(|day| *day < keys_floor) {
            self.expiring(day, None).try_for_each(&mut gone)?;
            from = day.saturating_add(1);
        }
        for (day, recorder, _) in &destroyed {
            self.expiring(*day, Some(*recorder)).try_for_each(&mut gone)?;
        }
        for (recorder, newest) in newest {
            let before = newest.saturating_add(1).max(self.deleted_before(recorder)?);
            batch.put(Family::Deleted, keys::recorder(recorder), records::encode(&before)?);
        }
        // The next opening finishes them, before the first commit: what lies beside the store may be older than what is said of it.
        for (day, recorder, act) in &destroyed {
            let record = DestructionRecord { act: act.clone(), before_commit, done: false };
            batch.put(Family::Destroyed, keys::destroyed(*day, *recorder), records::encode(&record)?);
        }
        for (day, recorder) in &come_back {
            if let Some(record) = self.destruction(*day, *recorder)? {
                let again = DestructionRecord { done: false, ..record };
                batch.put(Family::Destroyed, keys::destroyed(*day, *recorder), records::encode(&again)?);
            }
        }
        let mut ended = 0;
        for session in self.sessions() {
            let (slot, session) = session?;
            if !session.ended {
                let over = SessionRecord { ended: true, ..session };
                batch.put(Family::Sessions, keys::session(slot), records::encode(&over)?);
                ended += 1;
            }
        }
        self.audit_with(std::slice::from_ref(&entry), batch)?;
        self.inner.keys_floor.store(keys_floor, Ordering::Release);
        destroyed.iter().for_each(|(day, recorder, _)| self.note_destroyed(*day, *recorder, before_commit));
        Ok(ended)
    }
}
