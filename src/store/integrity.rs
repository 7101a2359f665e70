//! Integrity checks on disk: cases, draws and checks, each written with the audit entry that says so, both or neither.
//!
//! A case is never written over. A draw and a check are changed one change at a time: whoever changes one sees what all before have
//! made of it. Nothing of them is in the feed.

use aigaq_proto::{Digest, Micros};

use super::engine::{Batch, Direction, Family};
use super::records::{self, AuditRecord, CaseRecord, CheckId, CheckRecord, DrawRecord};
use super::{Store, keys};
use crate::error::Result;

/// What a change makes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed<T, R> {
    /// It is so now.
    Done(T),
    /// Nothing was changed, for this reason.
    Refused(R),
    /// There is no such thing.
    Missing,
}

impl Store {
    /// Adds a version of a case under the digest of its text; returns it as it is stored. One that is there stays as it is.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn add_case(&self, digest: Digest, case: &CaseRecord, entry: &AuditRecord) -> Result<(CaseRecord, bool)> {
        let _writing = self.writing();
        if let Some(there) = self.case(digest)? {
            return Ok((there, false));
        }
        let mut added = case.clone();
        added.entry = self.audit_made(entry, |number, _, batch| {
            let stored = CaseRecord { entry: number, ..case.clone() };
            batch.put(Family::Cases, keys::case(digest), records::encode(&stored)?);
            Ok(())
        })?;
        Ok((added, true))
    }

    /// A version of a case.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn case(&self, digest: Digest) -> Result<Option<CaseRecord>> {
        let value = self.engine().get(Family::Cases, &keys::case(digest))?;
        value.map(|value| records::decode(&value, "cases")).transpose()
    }

    /// The versions of cases that come after this one, by digest.
    pub fn cases(&self, after: Option<Digest>) -> impl Iterator<Item = Result<(Digest, CaseRecord)>> + '_ {
        let after = after.map(keys::case);
        self.scan(Family::Cases, keys::after(after.as_ref().map(|key| &key[..])), Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            Ok((keys::read_case(&key)?, records::decode(&value, "cases")?))
        })
    }

    /// Writes down what a draw commits to; returns it as it is stored.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn add_draw(&self, draw: &DrawRecord, entry: &AuditRecord) -> Result<DrawRecord> {
        let mut added = draw.clone();
        added.entry = self.audit_made(entry, |number, _, batch| {
            let stored = DrawRecord { entry: number, ..draw.clone() };
            batch.put(Family::Draws, keys::check(draw.id), records::encode(&stored)?);
            Ok(())
        })?;
        Ok(added)
    }

    /// A draw.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn draw(&self, id: CheckId) -> Result<Option<DrawRecord>> {
        let value = self.engine().get(Family::Draws, &keys::check(id))?;
        value.map(|value| records::decode(&value, "draws")).transpose()
    }

    /// The draws that come after this one, in the order in which they were committed to.
    pub fn draws(&self, after: Option<CheckId>) -> impl Iterator<Item = Result<DrawRecord>> + '_ {
        let after = after.map(keys::check);
        self.scan(Family::Draws, keys::after(after.as_ref().map(|key| &key[..])), Direction::Forward)
            .map(|entry| records::decode(&entry?.1, "draws"))
    }

    /// Changes a draw, one after another.
    ///
    /// # Errors
    /// Those of `change`, and as [`Store::commit`].
    pub fn change_draw<R>(
        &self,
        id: CheckId,
        entry: &AuditRecord,
        change: impl FnOnce(&mut DrawRecord) -> Result<Option<R>>,
    ) -> Result<Changed<DrawRecord, R>> {
        let _writing = self.writing();
        let Some(mut draw) = self.draw(id)? else { return Ok(Changed::Missing) };
        if let Some(refused) = change(&mut draw)? {
            return Ok(Changed::Refused(refused));
        }
        let mut batch = Batch::default();
        batch.put(Family::Draws, keys::check(id), records::encode(&draw)?);
        self.audit_with(std::slice::from_ref(entry), batch)?;
        Ok(Changed::Done(draw))
    }

    /// Writes down a check, unless something stands against it; what does. It is judged and written one after another.
    ///
    /// # Errors
    /// Those of `against`, and as [`Store::commit`].
    pub fn add_check<R>(
        &self,
        check: &CheckRecord,
        entry: &AuditRecord,
        against: impl FnOnce() -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let _writing = self.writing();
        if let Some(refused) = against()? {
            return Ok(Some(refused));
        }
        let mut batch = Batch::default();
        batch.put(Family::Checks, keys::check(check.id), records::encode(check)?);
        self.audit_with(std::slice::from_ref(entry), batch)?;
        Ok(None)
    }

    /// A check.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn check(&self, id: CheckId) -> Result<Option<CheckRecord>> {
        let value = self.engine().get(Family::Checks, &keys::check(id))?;
        value.map(|value| records::decode(&value, "checks")).transpose()
    }

    /// The checks that come after this one, in the order in which they were made.
    pub fn checks(&self, after: Option<CheckId>) -> impl Iterator<Item = Result<CheckRecord>> + '_ {
        let after = after.map(keys::check);
        self.scan(Family::Checks, keys::after(after.as_ref().map(|key| &key[..])), Direction::Forward)
            .map(|entry| records::decode(&entry?.1, "checks"))
    }

    /// Changes a check, one after another.
    ///
    /// # Errors
    /// Those of `change`, and as [`Store::commit`].
    pub fn change_check<R>(
        &self,
        id: CheckId,
        entry: &AuditRecord,
        change: impl FnOnce(&mut CheckRecord) -> Result<Option<R>>,
    ) -> Result<Changed<CheckRecord, R>> {
        let _writing = self.writing();
        let Some(mut check) = self.check(id)? else { return Ok(Changed::Missing) };
        if let Some(refused) = change(&mut check)? {
            return Ok(Changed::Refused(refused));
        }
        let mut batch = Batch::default();
        batch.put(Family::Checks, keys::check(id), records::encode(&check)?);
        self.audit_with(std::slice::from_ref(entry), batch)?;
        Ok(Changed::Done(check))
    }
}

impl CheckId {
    /// A name that nobody can guess, in the order of time.
    #[must_use]
    pub fn new(at: Micros, random: [u8; 8]) -> Self {
        let mut id = [0; 16];
        let (time, rest) = id.split_at_mut(8);
        time.copy_from_slice(&at.to_be_bytes());
        rest.copy_from_slice(&random);
        Self(id)
    }
}
