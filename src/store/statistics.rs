//! What figures are made of: one row for each mark, by its recorded time, and the counts that were reported.
//!
//! The row of a mark is written with the mark, so that it is there exactly if the mark is; a reported count is written with the audit
//! entry that says who brought it in. Each row says where the log has what it stands for, so that a figure can be computed again as of
//! any size of the log. Nothing here is ever changed or removed: a count that is reported again is another row, and the last that the
//! log has holds.

use std::collections::BTreeSet;
use std::ops::Range;

use aigaq_proto::Micros;

use super::engine::{Batch, Direction, Entry, Family};
use super::records::{
    self, AuditRecord, CountedRecord, Entered, LeafRecord, MarkPlace, RecorderRecord, ReportedRecord,
};
use super::{Store, keys};
use crate::error::Result;

/// A mark that is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedEntry {
    /// Which mark.
    pub place: MarkPlace,
    /// What is counted.
    pub record: CountedRecord,
}

/// The place of a reported count: its period in days of the site, half-open, since the Unix epoch; the audit entry that brought it in; its
/// place among those of that entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportedKey {
    /// First day.
    pub from: u32,
    /// Day after the last one.
    pub to: u32,
    /// Number of the audit entry.
    pub entry: u64,
    /// Place among those of that entry.
    pub index: u32,
}

impl Store {
    /// Adds the row of a mark to a batch: it is counted for the department that has the recorder now. A recorder that is not enrolled has none.
    pub(super) fn count(&self, batch: &mut Batch, place: MarkPlace, category: &str, entered: Entered) -> Result<()> {
        let Some(enrolled) = self.recorder(place.recorder)? else { return Ok(()) };
        let RecorderRecord { department, kind, .. } = enrolled;
        let record = CountedRecord { category: category.to_owned(), department, kind, entered };
        batch.put(Family::Counted, keys::mark(place), records::encode(&record)?);
        Ok(())
    }

    /// The marks of a half-open range of time, in its order; only those behind `after`, if it is given.
    pub fn counted(
        &self,
        at: Range<Micros>,
        after: Option<MarkPlace>,
    ) -> impl Iterator<Item = Result<CountedEntry>> + '_ {
        let mut range = keys::marks_from(at.start)..keys::marks_from(at.end);
        if let Some(after) = after {
            range.start = range.start.max(keys::after(Some(&keys::mark(after))).start);
        }
        self.scan(Family::Counted, range, Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            Ok(CountedEntry { place: keys::read_mark(&key)?, record: records::decode(&value, "counted")? })
        })
    }

    /// Those marks of a half-open range of time whose place another one took that the trail has up to entry `number`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn replaced(&self, at: Range<Micros>, number: u64) -> Result<BTreeSet<MarkPlace>> {
        let mut replaced = BTreeSet::new();
        let range = keys::marks_from(at.start)..keys::marks_from(at.end);
        for entry in self.scan(Family::Corrections, range, Direction::Forward) {
            let (place, by) = keys::read_correction(&entry?.0)?;
            let Some(value) = self.engine().get(Family::Counted, &keys::mark(by))? else { continue };
            let by: CountedRecord = records::decode(&value, "counted")?;
            if matches!(by.entered, Entered::Entry(entry) if entry <= number) {
                replaced.insert(place);
            }
        }
        Ok(replaced)
    }

    /// The reported counts whose period begins in a half-open range of days, by period and then in the order in which they came.
    pub fn reported(&self, from: Range<u32>) -> impl Iterator<Item = Result<(ReportedKey, ReportedRecord)>> + '_ {
        let range = from.start.to_be_bytes().to_vec()..from.end.to_be_bytes().to_vec();
        self.scan(Family::Reported, range, Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            Ok((keys::read_reported(&key)?, records::decode(&value, "reported")?))
        })
    }

    /// Writes down counts of one period, in days of the site, with the audit entry that says who brought them in, both or neither. Returns the
    /// number of the entry.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn report(&self, days: Range<u32>, counts: &[ReportedRecord], entry: &AuditRecord) -> Result<u64> {
        self.audit_made(entry, |number, at, batch| {
            for (index, count) in (0..).zip(counts) {
                let key = ReportedKey { from: days.start, to: days.end, entry: number, index };
                let count = ReportedRecord { at, ..count.clone() };
                batch.put(Family::Reported, keys::reported(key), records::encode(&count)?);
            }
            Ok(())
        })
    }

    /// The greatest number of an audit entry that the log has within its first `size` entries; 0 for none. The log takes entries in
    /// the order of their numbers.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn audit_within(&self, size: u64) -> Result<u64> {
        let first_from = |number: u64| {
            let range = keys::audit(number).to_vec()..keys::everything().end;
            let first = self.scan(Family::Leaves, range, Direction::Forward).next().transpose()?;
            let read =
                |(key, value): Entry| Ok((keys::read_audit(&key)?, records::decode::<LeafRecord>(&value, "leaves")?));
            first.map(read).transpose()
        };
        // `low` is within or 0, nothing above `high` is.
        let (mut low, mut high) = (0, self.last_audit());
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match first_from(middle)? {
                Some((number, leaf)) if leaf.log_index < size => low = number,
                _ => high = middle - 1,
            }
        }
        Ok(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Commit;
    use crate::store::records::Event;

    fn entry(what: &str) -> AuditRecord {
        AuditRecord::new(1, Event::Figures, "account:anna", "local", what)
    }

    #[test]
    fn the_last_entry_within_a_size_of_the_log_is_found_by_halving() {
        let store = Store::memory();
        for _ in 0..40 {
            store.audit(&entry("something")).unwrap();
        }
        // The log has other entries between them; entry 7 did not read and never came in.
        let mut index = 3;
        let mut places = Vec::new();
        for number in (1..=30).filter(|number| *number != 7) {
            index += 1 + number % 3;
            places.push((number, index));
        }
        let commit = Commit { number: 1, statements: places.clone(), log_size: index + 1, ..Commit::default() };
        store.commit(commit).unwrap();
        for size in 0..index + 5 {
            let expected = places.iter().filter(|(_, index)| *index < size).map(|(number, _)| *number).max();
            assert_eq!(store.audit_within(size).unwrap(), expected.unwrap_or(0), "{size}");
        }
    }

    #[test]
    fn counts_are_there_with_the_entry_that_brought_them_in_or_not_at_all() {
        let engine = crate::store::engine::memory::Memory::default();
        let store = Store::with_engine(std::sync::Arc::new(engine.clone())).unwrap();
        let count = ReportedRecord {
            source: "city".to_owned(),
            department: "Astana".to_owned(),
            category: "speeding".to_owned(),
            kind: None,
            count: 16_600,
            at: 0,
            by: "account:anna".to_owned(),
        };
        assert_eq!(store.report(10..20, std::slice::from_ref(&count), &entry("first")).unwrap(), 1);
        engine.fail_commit(1, crate::store::engine::memory::FailAt::Start);
        store.report(10..20, &[count], &entry("second")).unwrap_err();
        let found: Vec<_> = store.reported(0..u32::MAX).map(Result::unwrap).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, ReportedKey { from: 10, to: 20, entry: 1, index: 0 });
        assert_eq!((store.last_audit(), found[0].1.at), (1, 1));
    }
}
