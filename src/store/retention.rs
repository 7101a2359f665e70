//! How long footage is kept: what expires on a day, who holds it, what lengthens it, and the decision that a day is over.
//!
//! There is one order of decisions. A hold, an extension and the end of a day are written under the lock under which commits
//! are written, and each hold and each extension is counted; whoever ends a day says up to which count it has looked, and what came
//! in between refuses it. So a hold that was placed wins against a deletion under way, or says in itself that it came too late.
//!
//! Two floors, both of which only rise: footage that expires before the *footage floor* is hidden and can be brought back by moving it
//! to a later day; footage that expires before the *dropped floor*, which is never above the other, is gone, whether its bytes have
//! gone already or not. Nothing is ever stored below the footage floor. What is to be said about a deletion is said between the
//! dropped floor and the loss of the bytes: until they are lost, what expired can be read from the family `expiry`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;

use aigaq_proto::{Micros, RecorderId};

use super::engine::{Batch, Direction, Family};
use super::records::{self, Act, Body, Cause, DayRecord, ExpiryRecord, ExtensionRecord, HoldRecord, Owner};
use super::{Store, keys};
use crate::error::Result;

/// What expires on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiryEntry {
    /// The day.
    pub day: u32,
    /// Whose.
    pub recorder: RecorderId,
    /// Which of their links.
    pub owner: Owner,
    /// What is said of it.
    pub record: ExpiryRecord,
}

/// What is written down with the decision to hide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hidden {
    /// The days.
    pub days: Vec<(u32, DayRecord)>,
    /// Of each recorder, when the newest of its segments was captured that are hidden with them.
    pub newest: BTreeMap<RecorderId, Micros>,
}

/// What became of the wish to change a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// It is so now.
    Done(HoldRecord),
    /// There is no such hold.
    Missing,
    /// It was released before.
    Over(HoldRecord),
    /// Somebody has asked for it already; another person has to confirm.
    Asked(HoldRecord),
    /// Nobody has asked for it.
    NotAsked,
    /// Whoever asked for it cannot confirm it.
    SamePerson,
}

impl Store {
    /// What expires on a day, by recorder and owner; of one recorder where it is given.
    pub fn expiring(&self, day: u32, recorder: Option<RecorderId>) -> impl Iterator<Item = Result<ExpiryEntry>> + '_ {
        let prefix = [&day.to_be_bytes()[..], recorder.as_ref().map_or(&[], |recorder| &recorder.0)].concat();
        self.scan(Family::Expiry, keys::all_under(&prefix), Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            let (day, recorder, owner) = keys::read_expiry(&key)?;
            Ok(ExpiryEntry { day, recorder, owner, record: records::decode(&value, "expiry")? })
        })
    }

    /// The first day at or after `day` on which something expires.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn first_expiring(&self, day: u32) -> Result<Option<u32>> {
        let range = keys::day(day).to_vec()..keys::everything().end;
        let first = self.scan(Family::Expiry, range, Direction::Forward).next().transpose()?;
        first.map(|(key, _)| keys::read_expiry(&key).map(|(day, ..)| day)).transpose()
    }

    /// What keeps footage of a recorder longer.
    pub fn extensions(&self, recorder: RecorderId) -> impl Iterator<Item = Result<ExtensionRecord>> + '_ {
        self.scan(Family::Extensions, keys::all_under(&recorder.0), Direction::Forward)
            .map(|entry| records::decode(&entry?.1, "extensions"))
    }

    /// Holds by recorder and number, released ones among them; those of one recorder where it is given.
    pub fn holds(&self, recorder: Option<RecorderId>) -> impl Iterator<Item = Result<HoldRecord>> + '_ {
        let range = recorder.map_or_else(keys::everything, |recorder| keys::all_under(&recorder.0));
        self.scan(Family::Holds, range, Direction::Forward).map(|entry| records::decode(&entry?.1, "holds"))
    }

    /// One hold.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn held_by(&self, recorder: RecorderId, id: u64) -> Result<Option<HoldRecord>> {
        let value = self.engine().get(Family::Holds, &keys::hold(recorder, id))?;
        value.map(|value| records::decode(&value, "holds")).transpose()
    }

    /// The days that are over, in order.
    pub fn days(&self, days: Range<u32>) -> impl Iterator<Item = Result<(u32, DayRecord)>> + '_ {
        let range = keys::day(days.start).into()..keys::day(days.end).into();
        self.scan(Family::Days, range, Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            Ok((keys::read_day(&key)?, records::decode(&value, "days")?))
        })
    }

    /// How many holds and extensions were written since the store was opened.
    #[must_use]
    pub fn claims(&self) -> u64 {
        *self.writing()
    }

    /// Places a hold, for an incident if one is given. Once this has returned nothing deletes what it covers and was not gone before.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn hold(
        &self,
        recorder: RecorderId,
        range: Range<Micros>,
        placed: Act,
        incident: Option<u64>,
    ) -> Result<HoldRecord> {
        let mut writing = self.writing();
        let mut batch = Batch::default();
        let hold = self.new_hold(recorder, range, placed, incident, &mut batch)?;
        self.engine().commit(&[], &batch)?;
        *writing += 1;
        Ok(hold)
    }

    /// The same on several recorders, each named once, with one sync: all of it or nothing; in their order.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn hold_each(
        &self,
        recorders: &[RecorderId],
        range: Range<Micros>,
        placed: &Act,
        incident: Option<u64>,
    ) -> Result<Vec<HoldRecord>> {
        let mut writing = self.writing();
        let mut batch = Batch::default();
        let place =
            |recorder: &RecorderId| self.new_hold(*recorder, range.clone(), placed.clone(), incident, &mut batch);
        let holds = recorders.iter().map(place).collect::<Result<Vec<_>>>()?;
        self.engine().commit(&[], &batch)?;
        *writing += holds.len() as u64;
        Ok(holds)
    }

    /// Puts a hold into a batch, under the next number of its recorder.
    fn new_hold(
        &self,
        recorder: RecorderId,
        range: Range<Micros>,
        placed: Act,
        incident: Option<u64>,
        batch: &mut Batch,
    ) -> Result<HoldRecord> {
        let last = self.scan(Family::Holds, keys::all_under(&recorder.0), Direction::Backward).next().transpose()?;
        let id = last.map(|(key, _)| keys::read_hold(&key)).transpose()?.map_or(1, |(_, id)| id + 1);
        let gone_before = self.dropped_floor();
        let (from, to) = (range.start, range.end);
        let hold = HoldRecord { id, recorder, from, to, placed, gone_before, asked: None, released: None, incident };
        batch.put(Family::Holds, keys::hold(recorder, id), records::encode(&hold)?);
        Ok(hold)
    }

    /// Asks for the release of a hold, which stands until somebody else confirms.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn ask_release(&self, recorder: RecorderId, id: u64, asked: Act) -> Result<Released> {
        let _writing = self.writing();
        let Some(mut hold) = self.held_by(recorder, id)? else { return Ok(Released::Missing) };
        if hold.released.is_some() {
            return Ok(Released::Over(hold));
        }
        if hold.asked.is_some() {
            return Ok(Released::Asked(hold));
        }
        hold.asked = Some(asked);
        self.put_hold(&hold)?;
        Ok(Released::Done(hold))
    }

    /// Releases a hold, if another person has asked for it.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn confirm_release(&self, recorder: RecorderId, id: u64, confirmed: Act) -> Result<Released> {
        let _writing = self.writing();
        let Some(mut hold) = self.held_by(recorder, id)? else { return Ok(Released::Missing) };
        if hold.released.is_some() {
            return Ok(Released::Over(hold));
        }
        match &hold.asked {
            None => return Ok(Released::NotAsked),
            Some(asked) if asked.by == confirmed.by => return Ok(Released::SamePerson),
            Some(_) => {}
        }
        hold.released = Some(confirmed);
        self.put_hold(&hold)?;
        Ok(Released::Done(hold))
    }

    fn put_hold(&self, hold: &HoldRecord) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Family::Holds, keys::hold(hold.recorder, hold.id), records::encode(hold)?);
        self.engine().commit(&[], &batch)
    }

    /// Keeps footage of a range until a day. The same recorder, cause and number again takes the place of what was said before, and
    /// never shortens it. What expires before the dropped floor, which is returned, was gone before.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn extend(&self, recorder: RecorderId, number: u64, wanted: ExtensionRecord) -> Result<u32> {
        let mut writing = self.writing();
        let mut batch = Batch::default();
        self.put_extension(recorder, number, wanted, &mut batch)?;
        self.engine().commit(&[], &batch)?;
        *writing += 1;
        Ok(self.dropped_floor())
    }

    /// Puts an extension into a batch, widened by what was said before. The one who writes it counts it.
    pub(super) fn put_extension(
        &self,
        recorder: RecorderId,
        number: u64,
        mut wanted: ExtensionRecord,
        batch: &mut Batch,
    ) -> Result<()> {
        let key = keys::extension(recorder, &wanted.cause, number);
        if let Some(value) = self.engine().get(Family::Extensions, &key)? {
            let before: ExtensionRecord = records::decode(&value, "extensions")?;
            wanted.from = wanted.from.min(before.from);
            wanted.to = wanted.to.max(before.to);
            wanted.until_day = wanted.until_day.max(before.until_day);
        }
        batch.put(Family::Extensions, key, records::encode(&wanted)?);
        Ok(())
    }

    /// The same for what somebody wants back: its number is the next that is free.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn undo(&self, recorder: RecorderId, range: Range<Micros>, until_day: u32, act: Act) -> Result<u32> {
        let number = act.at;
        let cause = Cause::Undo(act);
        self.extend(recorder, number, ExtensionRecord { from: range.start, to: range.end, until_day, cause })
    }

    /// The first expiry day whose footage is not hidden, days since the Unix epoch.
    #[must_use]
    pub fn footage_floor(&self) -> u32 {
        self.inner.footage_floor.load(Ordering::Acquire)
    }

    /// The first expiry day that new footage may be given.
    pub(super) fn first_open_day(&self) -> u32 {
        self.footage_floor().max(self.keys_floor())
    }

    /// The first expiry day whose keys were not destroyed before the store was put back from a copy that still had their footage.
    #[must_use]
    pub fn keys_floor(&self) -> u32 {
        self.inner.keys_floor.load(Ordering::Acquire)
    }

    /// The first expiry day whose footage is not gone.
    #[must_use]
    pub fn dropped_floor(&self) -> u32 {
        self.inner.dropped_floor.load(Ordering::Acquire)
    }

    /// Whether the payload of a link was deleted: hidden or gone by policy, or destroyed with its key.
    #[must_use]
    pub fn is_deleted(&self, recorder: RecorderId, body: &Body) -> bool {
        body.place().is_some_and(|key| key.day < self.footage_floor()) || self.is_destroyed(recorder, body)
    }

    /// Hides the footage that expires before `day` (exclusive), if nothing was held or extended since `claims` were counted. From
    /// then on nothing is stored under those days.
    ///
    /// # Returns
    /// Whether it was done.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn hide_before(&self, day: u32, claims: u64, hidden: &Hidden) -> Result<bool> {
        self.raise(day, self.dropped_floor(), Some(claims), hidden)
    }

    /// No segment that was captured at or after this moment of the device clock was ever deleted by policy. Spares those who show a
    /// timeline to ask for the link of each.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn deleted_before(&self, recorder: RecorderId) -> Result<Micros> {
        let value = self.engine().get(Family::Deleted, &keys::recorder(recorder))?;
        value.map_or(Ok(0), |value| records::decode(&value, "deleted"))
    }

    /// Decides that the footage that expires before `day` (exclusive) is gone, if nothing was held or extended since `claims` were
    /// counted. Its bytes are still there; [`Store::drop_days_before`] takes them.
    ///
    /// # Returns
    /// Whether it was done.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn condemn_before(&self, day: u32, claims: u64) -> Result<bool> {
        self.raise(day, day, Some(claims), &Hidden::default())
    }

    fn raise(&self, hidden: u32, gone: u32, claims: Option<u64>, new: &Hidden) -> Result<bool> {
        let writing = self.writing();
        if claims.is_some_and(|claims| claims != *writing) {
            return Ok(false);
        }
        let (hidden, gone) = (hidden.max(self.footage_floor()), gone.max(self.dropped_floor()));
        let mut batch = Batch::default();
        batch.put(Family::Meta, keys::META_FOOTAGE_FLOOR, hidden.to_be_bytes());
        batch.put(Family::Meta, keys::META_DROPPED_FLOOR, gone.to_be_bytes());
        for (day, record) in &new.days {
            batch.put(Family::Days, keys::day(*day), records::encode(record)?);
        }
        for (recorder, newest) in &new.newest {
            let before = newest.saturating_add(1).max(self.deleted_before(*recorder)?);
            batch.put(Family::Deleted, keys::recorder(*recorder), records::encode(&before)?);
        }
        self.engine().commit(&[], &batch)?;
        self.inner.footage_floor.store(hidden, Ordering::Release);
        self.inner.dropped_floor.store(gone, Ordering::Release);
        Ok(true)
    }

    /// Writes down what became of days.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put_days(&self, days: &[(u32, DayRecord)]) -> Result<()> {
        let mut batch = Batch::default();
        for (day, record) in days {
            batch.put(Family::Days, keys::day(*day), records::encode(record)?);
        }
        self.engine().commit(&[], &batch)
    }

    /// Lets go of the footage that expires before `day` (exclusive), takes it out of the index, returns its room and destroys its keys, whoever holds it: what decides that is
    /// [`Store::condemn_before`]. The floors are durable before the first byte goes, so that what is gone is known as expired
    /// and never taken for lost.
    ///
    /// # Errors
    /// [`Kind::Fatal`](crate::error::Kind::Fatal) when it could not be made durable.
    pub fn drop_days_before(&self, day: u32) -> Result<()> {
        if day > self.dropped_floor() {
            self.raise(day, day, None, &Hidden::default())?;
        }
        self.unindex_before(day)?;
        self.engine().drop_days_before(day)?;
        self.inner.sealing.ring().map_or(Ok(()), |ring| ring.destroy_before(day))
    }
}
