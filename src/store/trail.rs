//! The audit trail: entries with dense numbers, durable at once, and their way into the log.
//!
//! An entry is durable when [`Store::audit`] returns `Ok`. The one writer takes those that the log does not have yet with its next
//! commit ([`Store::unlogged`]); a crash in between leaves them for the next start. Numbers begin with 1 and have no gaps,
//! because a number is taken only by what is written; times never run backwards, so that a time is found by halving.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use aigaq_proto::{Digest, Micros, statement};

use super::engine::{Batch, Direction, Family};
use super::records::{self, AuditRecord, LeafRecord};
use super::{Store, keys};
use crate::error::Result;

/// What is known of the trail in memory.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// Held while entries are written: the last number and its time.
    last: Mutex<(u64, Micros)>,
    /// The last number that is durable.
    written: AtomicU64,
    /// The last number that the log has, or that cannot be taken there.
    logged: AtomicU64,
}

/// An entry on its way into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// Its number in the trail.
    pub number: u64,
    /// What the log has of it.
    pub digest: Digest,
    /// Its time.
    pub at: Micros,
}

impl Store {
    /// Makes an audit entry durable; its number and, where the clock ran backwards, its time are set here. May be called from many
    /// threads, also while a commit is under way.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn audit(&self, entry: &AuditRecord) -> Result<()> {
        self.audit_all(std::slice::from_ref(entry))
    }

    /// Makes audit entries durable with one sync, all or none. Otherwise as [`Store::audit`].
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn audit_all(&self, entries: &[AuditRecord]) -> Result<()> {
        self.audit_with(entries, Batch::default())
    }

    /// Makes the entry of a configuration durable, if its content is not that of the last one.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn audit_configuration(&self, entry: &AuditRecord) -> Result<()> {
        let content = entry.content.unwrap_or(Digest::ZERO).0;
        let last = self.engine().get(Family::Meta, keys::META_CONFIGURATION)?;
        if last.is_some_and(|last| last[..] == content) {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.put(Family::Meta, keys::META_CONFIGURATION, content);
        self.audit_with(std::slice::from_ref(entry), batch)
    }

    pub(super) fn audit_with(&self, entries: &[AuditRecord], mut batch: Batch) -> Result<()> {
        let trail = &self.inner.trail;
        let mut last = trail.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut number, mut at) = *last;
        for entry in entries {
            number += 1;
            at = at.max(entry.at);
            let entry = AuditRecord { number, at, ..entry.clone() };
            batch.put(Family::Audit, keys::audit(number), records::encode(&entry)?);
        }
        self.inner.engine.commit(&[], &batch)?;
        *last = (number, at);
        trail.written.store(number, Ordering::Release);
        Ok(())
    }

    /// Makes an entry durable with what `make` puts into the same batch for its number and its time, both or neither; returns the
    /// number.
    ///
    /// # Errors
    /// Those of `make`, and as [`Store::commit`].
    pub(super) fn audit_made(
        &self,
        entry: &AuditRecord,
        make: impl FnOnce(u64, Micros, &mut Batch) -> Result<()>,
    ) -> Result<u64> {
        let trail = &self.inner.trail;
        let mut last = trail.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, at) = (last.0 + 1, last.1.max(entry.at));
        let mut batch = Batch::default();
        make(number, at, &mut batch)?;
        let entry = AuditRecord { number, at, ..entry.clone() };
        batch.put(Family::Audit, keys::audit(number), records::encode(&entry)?);
        self.inner.engine.commit(&[], &batch)?;
        *last = (number, at);
        trail.written.store(number, Ordering::Release);
        Ok(number)
    }

    /// Finds out where the trail ends. An entry that is gone, but that the log has, keeps its number: it is missed, not replaced.
    pub(super) fn load_trail(&self) -> Result<()> {
        let newest = |family| self.scan(family, keys::everything(), Direction::Backward).next().transpose();
        let (mut last, mut at, mut logged) = (0, 0, 0);
        if let Some((key, value)) = newest(Family::Audit)? {
            last = keys::read_audit(&key)?;
            // Damage to one entry keeps nobody from writing the next.
            at = records::decode::<AuditRecord>(&value, "audit").map_or(0, |entry| entry.at);
        }
        if let Some((key, _)) = newest(Family::Leaves)? {
            logged = keys::read_audit(&key)?;
        }
        let trail = &self.inner.trail;
        *trail.last.lock().unwrap_or_else(PoisonError::into_inner) = (last.max(logged), at);
        trail.written.store(last, Ordering::Release);
        trail.logged.store(logged, Ordering::Release);
        Ok(())
    }

    /// Whether there are entries that the log does not have yet.
    #[must_use]
    pub fn has_unlogged(&self) -> bool {
        let trail = &self.inner.trail;
        trail.written.load(Ordering::Acquire) > trail.logged.load(Ordering::Acquire)
    }

    /// The first entries that the log does not have, at most `count`, in order. For the one writer. One that does not read is passed
    /// over: it can never be proved.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn unlogged(&self, count: usize) -> Result<Vec<Statement>> {
        if !self.has_unlogged() {
            return Ok(Vec::new());
        }
        let from = self.inner.trail.logged.load(Ordering::Acquire) + 1;
        let mut statements = Vec::new();
        for entry in self.scan(Family::Audit, keys::audit(from).into()..keys::everything().end, Direction::Forward) {
            let (key, value) = entry?;
            let number = keys::read_audit(&key)?;
            match records::decode::<AuditRecord>(&value, "audit") {
                Ok(entry) => {
                    statements.push(Statement { number, digest: statement::digest(&value), at: entry.at });
                }
                Err(error) => {
                    tracing::error!(%error, number, "an audit entry does not read and is not taken into the log");
                    if statements.is_empty() {
                        self.logged(number);
                    }
                }
            }
            if statements.len() >= count {
                break;
            }
        }
        Ok(statements)
    }

    /// The log has the entries up to this number.
    pub(super) fn logged(&self, number: u64) {
        self.inner.trail.logged.fetch_max(number, Ordering::AcqRel);
    }

    /// Number of the last entry; 0 if there is none.
    #[must_use]
    pub fn last_audit(&self) -> u64 {
        self.inner.trail.written.load(Ordering::Acquire)
    }

    /// An entry as it is stored, and where the log has it.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn audit_entry(&self, number: u64) -> Result<Option<(Vec<u8>, Option<LeafRecord>)>> {
        let Some(value) = self.engine().get(Family::Audit, &keys::audit(number))? else { return Ok(None) };
        Ok(Some((value.to_vec(), self.audit_leaf(number)?)))
    }

    /// Where the log has an entry.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn audit_leaf(&self, number: u64) -> Result<Option<LeafRecord>> {
        let value = self.engine().get(Family::Leaves, &keys::audit(number))?;
        value.map(|value| records::decode(&value, "leaves")).transpose()
    }

    /// The entries with these numbers, in order.
    pub fn audit_numbers(
        &self,
        numbers: Range<u64>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<AuditRecord>> + '_ {
        let range = keys::audit(numbers.start).into()..keys::audit(numbers.end).into();
        self.scan(Family::Audit, range, direction).map(|entry| records::decode(&entry?.1, "audit"))
    }

    /// The audit entries of a half-open range of server time, in order.
    pub fn audit_entries(&self, range: Range<Micros>) -> impl Iterator<Item = Result<AuditRecord>> + '_ {
        let first = self.first_audit_at(range.start).unwrap_or(1);
        let end = range.end;
        self.audit_numbers(first..u64::MAX, Direction::Forward)
            .skip_while(move |entry| entry.as_ref().is_ok_and(|entry| entry.at < range.start))
            .take_while(move |entry| entry.as_ref().map_or(true, |entry| entry.at < end))
    }

    /// Number of the first entry that is not before `at`, or one more than the last.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn first_audit_at(&self, at: Micros) -> Result<u64> {
        let (mut low, mut high) = (1, self.last_audit() + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let is_before = match self.audit_numbers(middle..high, Direction::Forward).next().transpose()? {
                Some(entry) => entry.at < at,
                None => false,
            };
            if is_before { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}
