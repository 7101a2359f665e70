//! Taking footage away: what an unfinished commit left behind, and what has expired.
//!
//! Whole files go first and cost nothing; a range tombstone takes what is left in files that hold other bodies too, and only
//! where there is such a rest. Finding out costs a few seeks for each day, never a walk over the footage.

use rocksdb::ColumnFamily;

use super::{Rocks, options, read_error};
use crate::error::Result;
use crate::store::engine::{Engine, Family};
use crate::store::keys;
use crate::store::records::FootageKey;

impl Rocks {
    /// See [`Engine::sweep_after`](super::Engine::sweep_after).
    pub(super) fn sweep(&self, last: u64) -> Result<bool> {
        let mut found = false;
        for family in self.footage_families()? {
            let mut at = FootageKey { day: 0, commit: 0, index: 0 };
            while let Some(key) = self.first_key(family, at)? {
                let orphans = FootageKey { day: key.day, commit: last.saturating_add(1), index: 0 };
                let Some(day) = key.day.checked_add(1) else { break };
                let next_day = FootageKey { day, commit: 0, index: 0 };
                if self.first_key(family, orphans)?.is_some_and(|key| key < next_day) {
                    found = true;
                    self.remove(family, orphans, next_day)?;
                }
                at = next_day;
            }
        }
        Ok(found)
    }

    /// See [`Engine::drop_days_before`](super::Engine::drop_days_before).
    pub(super) fn drop_before(&self, day: u32) -> Result<()> {
        let (from, to) = (FootageKey { day: 0, commit: 0, index: 0 }, FootageKey { day, commit: 0, index: 0 });
        for family in self.footage_families()? {
            if self.first_key(family, from)?.is_none_or(|key| key >= to) {
                continue;
            }
            let failed = |error| self.poisoned("cannot drop footage", error);
            self.db.flush_cf(family).map_err(failed)?;
            self.remove(family, from, to)?;
            self.db.flush_cf(family).map_err(failed)?;
            self.db.compact_range_cf(family, Some(keys::footage(from)), Some(keys::footage(to)));
        }
        self.forget_before(day)?;
        Engine::healthy(self)
    }

    /// Removes what the family `expiry` says of the days before `day`.
    fn forget_before(&self, day: u32) -> Result<()> {
        let family = self.handle(Family::Expiry.name())?;
        let (first, end) = (keys::day(0), keys::day(day));
        let mut cursor = self.db.raw_iterator_cf_opt(family, options::read());
        cursor.seek_to_first();
        cursor.status().map_err(|error| read_error(&error))?;
        if cursor.key().is_none_or(|key| key >= end.as_slice()) {
            return Ok(());
        }
        let failed = |error| self.poisoned("cannot forget what has expired", error);
        self.db.delete_range_cf_opt(family, &first, &end, &self.durable).map_err(failed)?;
        self.db.flush_cf(family).map_err(failed)?;
        self.db.compact_range_cf(family, Some(first), Some(end));
        Ok(())
    }

    /// The first footage key at or after `from`.
    fn first_key(&self, family: &ColumnFamily, from: FootageKey) -> Result<Option<FootageKey>> {
        let mut cursor = self.db.raw_iterator_cf_opt(family, options::read());
        cursor.seek(keys::footage(from));
        cursor.status().map_err(|error| read_error(&error))?;
        cursor.key().map(keys::read_footage).transpose()
    }

    /// Removes every body from `from` up to `to` (exclusive): whole files at once, then what is left of others.
    fn remove(&self, family: &ColumnFamily, from: FootageKey, to: FootageKey) -> Result<()> {
        let (first, end) = (keys::footage(from), keys::footage(to));
        let failed = |error| self.poisoned("cannot remove footage", error);
        // The end of a range of files is inclusive; no body has the index 0xffffffff of the greatest commit.
        self.db.delete_file_in_range_cf(family, &first, &end).map_err(failed)?;
        if self.first_key(family, from)?.is_none_or(|key| key >= to) {
            return Ok(());
        }
        self.db.delete_range_cf_opt(family, &first, &end, &self.durable).map_err(failed)
    }
}
