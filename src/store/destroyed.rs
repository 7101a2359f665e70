//! Keys that are destroyed before their day is over: what was sealed under them is gone, in every copy.
//!
//! One person asks for it and another one confirms: nobody does it alone. What was asked for stays, with what became of it.
//!
//! The order: it is durable that the key goes, who wanted it and which commits lose what they brought, then the key goes, then that is durable; all of
//! it while nothing else is written. What a crash cuts off the next start finishes before the first commit. Whoever reads is told what
//! became of it; nobody takes it for damage.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use aigaq_proto::{Micros, RecorderId};

use super::engine::{Batch, Direction, Family};
use super::records::{self, Act, AuditRecord, Body, DestructionRecord, WishRecord};
use super::{Store, keys};
use crate::error::{Error, Kind, Result};

/// Which commits lost what they brought, by day and recorder.
pub(super) type Set = RwLock<BTreeMap<(u32, RecorderId), u64>>;

/// What became of the wish that a key be destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wished {
    /// It is written down, or taken back.
    Done(WishRecord),
    /// Somebody has asked for it already; another person has to confirm.
    Waiting(WishRecord),
    /// Nobody has asked for it, or it is over.
    NotAsked,
}

impl Store {
    /// What was asked for of a key and what became of it.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn wish(&self, day: u32, recorder: RecorderId) -> Result<Option<WishRecord>> {
        let value = self.engine().get(Family::Wishes, &keys::destroyed(day, recorder))?;
        value.map(|value| records::decode(&value, "wishes")).transpose()
    }

    /// Every destruction that was ever asked for, by day and recorder.
    pub fn wishes(&self) -> impl Iterator<Item = Result<(u32, RecorderId, WishRecord)>> + '_ {
        self.scan(Family::Wishes, keys::everything(), Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            let (day, recorder) = keys::read_destroyed(&key)?;
            Ok((day, recorder, records::decode(&value, "wishes")?))
        })
    }

    /// Asks that a key be destroyed; `entry` says so in the audit trail, exactly if it is written down.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn ask_destruction(
        &self,
        (day, recorder): (u32, RecorderId),
        asked: Act,
        entry: &AuditRecord,
    ) -> Result<Wished> {
        let _writing = self.writing();
        if let Some(waiting) = self.wish(day, recorder)?.filter(|wish| wish.ended.is_none()) {
            return Ok(Wished::Waiting(waiting));
        }
        let wish = WishRecord { asked, ended: None };
        self.put_wish((day, recorder), &wish, entry)?;
        Ok(Wished::Done(wish))
    }

    /// Takes back that a key be destroyed; anybody may who could have asked.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn withdraw_destruction(
        &self,
        (day, recorder): (u32, RecorderId),
        ended: Act,
        entry: &AuditRecord,
    ) -> Result<Wished> {
        let _writing = self.writing();
        let Some(waiting) = self.wish(day, recorder)?.filter(|wish| wish.ended.is_none()) else {
            return Ok(Wished::NotAsked);
        };
        let wish = WishRecord { ended: Some(ended), ..waiting };
        self.put_wish((day, recorder), &wish, entry)?;
        Ok(Wished::Done(wish))
    }

    fn put_wish(&self, (day, recorder): (u32, RecorderId), wish: &WishRecord, entry: &AuditRecord) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Family::Wishes, keys::destroyed(day, recorder), records::encode(wish)?);
        self.audit_with(std::slice::from_ref(entry), batch)
    }

    /// Destroys the key of a recorder and footage day, if nothing was held or extended since `claims` were counted: whoever asks has
    /// made sure that nothing under it is held. `newest` is when the newest of it was captured; `entry` says it in the audit trail, exactly
    /// if it is done. New footage of that day gets a new key.
    ///
    /// # Returns
    /// Whether it was done.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if not another person than the one of `act` has asked for it, those of the keys, and as [`Store::commit`].
    pub fn destroy_key(
        &self,
        (day, recorder): (u32, RecorderId),
        newest: Micros,
        claims: u64,
        act: Act,
        entry: &AuditRecord,
    ) -> Result<bool> {
        let writing = self.writing();
        if claims != *writing {
            return Ok(false);
        }
        let wish = self.wish(day, recorder)?.filter(|wish| wish.ended.is_none() && wish.asked.by != act.by);
        let wish = wish.ok_or_else(|| Error::new(Kind::Invalid, "another person has to have asked for it"))?;
        let before_commit = self.next_commit();
        let record = DestructionRecord { act: act.clone(), before_commit, done: false };
        let mut batch = Batch::default();
        let wish = WishRecord { ended: Some(act), ..wish };
        batch.put(Family::Wishes, keys::destroyed(day, recorder), records::encode(&wish)?);
        batch.put(Family::Destroyed, keys::destroyed(day, recorder), records::encode(&record)?);
        let before = newest.saturating_add(1).max(self.deleted_before(recorder)?);
        batch.put(Family::Deleted, keys::recorder(recorder), records::encode(&before)?);
        self.audit_with(std::slice::from_ref(entry), batch)?;
        self.note_destroyed(day, recorder, before_commit);
        self.finish_destruction(day, recorder, record)?;
        Ok(true)
    }

    /// Whether what lies there was destroyed with its key.
    #[must_use]
    pub fn is_destroyed(&self, recorder: RecorderId, body: &Body) -> bool {
        let Body::Sealed(key) = body else { return false };
        if key.day < self.keys_floor() {
            return true;
        }
        let destroyed = self.inner.destroyed.read().unwrap_or_else(PoisonError::into_inner);
        destroyed.get(&(key.day, recorder)).is_some_and(|before| key.commit < *before)
    }

    /// What is said of the destruction of a key.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn destruction(&self, day: u32, recorder: RecorderId) -> Result<Option<DestructionRecord>> {
        let value = self.engine().get(Family::Destroyed, &keys::destroyed(day, recorder))?;
        value.map(|value| records::decode(&value, "destroyed")).transpose()
    }

    /// Every key that was destroyed before its day was over, by day and recorder.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn destructions(&self) -> Result<Vec<(u32, RecorderId, DestructionRecord)>> {
        let entries = self.scan(Family::Destroyed, keys::everything(), Direction::Forward);
        let read = entries.map(|entry| {
            let (key, value) = entry?;
            let (day, recorder) = keys::read_destroyed(&key)?;
            Ok((day, recorder, records::decode(&value, "destroyed")?))
        });
        read.collect()
    }

    pub(super) fn note_destroyed(&self, day: u32, recorder: RecorderId, before: u64) {
        self.inner.destroyed.write().unwrap_or_else(PoisonError::into_inner).insert((day, recorder), before);
    }

    fn finish_destruction(&self, day: u32, recorder: RecorderId, record: DestructionRecord) -> Result<()> {
        self.inner.sealing.ring().map_or(Ok(false), |ring| ring.destroy(day, recorder))?;
        let mut batch = Batch::default();
        let done = DestructionRecord { done: true, ..record };
        batch.put(Family::Destroyed, keys::destroyed(day, recorder), records::encode(&done)?);
        self.engine().commit(&[], &batch)
    }

    /// Learns at the opening what is destroyed.
    pub(super) fn load_destroyed(&self) -> Result<Vec<(u32, RecorderId, DestructionRecord)>> {
        let mut unfinished = Vec::new();
        for (day, recorder, record) in self.destructions()? {
            self.note_destroyed(day, recorder, record.before_commit);
            if !record.done {
                unfinished.push((day, recorder, record));
            }
        }
        Ok(unfinished)
    }

    /// Finishes what a crash cut off.
    pub(super) fn finish_destructions(&self, unfinished: Vec<(u32, RecorderId, DestructionRecord)>) -> Result<()> {
        unfinished.into_iter().try_for_each(|(day, recorder, record)| self.finish_destruction(day, recorder, record))
    }
}
