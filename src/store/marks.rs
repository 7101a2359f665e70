//! Marks in the order of their time: those of recorders, put here by the commit that makes their link durable, and those of
//! operators, each with its audit entry, its event and what it keeps longer, all of it durable at once.
//!
//! A mark is never changed or taken away. A later one may take its place: then both are there, and the earlier is told which.

use std::ops::Range;

use aigaq_proto::{Digest, Micros, RecorderId};

use super::engine::{Batch, Direction, Family};
use super::records::{self, AuditRecord, Cause, Entered, ExtensionRecord, MarkPlace, MarkRecord, Occurrence, Raiser};
use super::{Store, keys};
use crate::error::{Error, Kind, Result};

/// A mark that an operator raises.
#[derive(Debug, Clone)]
pub struct NewMark {
    /// On whose footage.
    pub recorder: RecorderId,
    /// When.
    pub at: Micros,
    /// What belongs to it.
    pub range: Range<Micros>,
    /// Its category.
    pub category: String,
    /// Free text; may be empty.
    pub note: String,
    /// Which operator.
    pub by: String,
    /// The mark whose place it takes, of the same recorder.
    pub corrects: Option<MarkPlace>,
    /// The last day on which its range is kept, if that is to be longer than other footage.
    pub until_day: Option<u32>,
}

impl Store {
    /// Raises the mark of an operator; `entry` says so in the trail, with the digest of the mark. When it returns, the mark,
    /// the entry, the event and what it keeps are durable.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if the mark that it corrects is not one of the recorder; as [`Store::commit`].
    pub fn raise_mark(&self, now: Micros, new: NewMark, entry: AuditRecord) -> Result<MarkRecord> {
        let NewMark { recorder, at, range, category, note, by, corrects, until_day } = new;
        let mut writing = self.writing();
        if let Some(corrects) = corrects
            && (corrects.recorder != recorder || self.mark(corrects)?.is_none())
        {
            return Err(Error::new(Kind::NotFound, "there is no such mark"));
        }
        let last = self
            .scan(Family::Marks, keys::marks_of_operators(at, recorder), Direction::Backward)
            .next()
            .transpose()?
            .map(|(key, _)| keys::read_mark(&key))
            .transpose()?;
        let number = match last.map(|place| place.raiser) {
            Some(Raiser::Operator(number)) => number + 1,
            _ => 1,
        };
        let place = MarkPlace { at, recorder, raiser: Raiser::Operator(number) };
        let (from, to) = (range.start, range.end);
        let mark = MarkRecord { place, category, note, from, to, recorded_at: now, by, corrects };
        let value = records::encode(&mark)?;
        let entry = AuditRecord { content: Some(Digest::of(&value)), ..entry };
        let mut batch = Batch::default();
        super::index::index_mark(&mark, &value, &mut batch);
        batch.put(Family::Marks, keys::mark(place), value);
        if let Some(corrects) = corrects {
            batch.put(Family::Corrections, keys::correction(corrects, place), records::encode(&now)?);
        }
        if let Some(until_day) = until_day {
            let cause = Cause::OperatorMark { category: mark.category.clone() };
            let wanted = ExtensionRecord { from, to, until_day, cause };
            self.put_extension(recorder, at, wanted, &mut batch)?;
            *writing += 1;
        }
        let (category, note) = (mark.category.clone(), mark.note.clone());
        let what = Occurrence::OperatorMark { place, category, note, by: mark.by.clone() };
        let numbered = self.number(&[(now, Some(recorder), what)], &mut batch)?;
        self.audit_made(&entry, |number, _, with| {
            *with = batch;
            self.count(with, mark.place, &mark.category, Entered::Entry(number))
        })?;
        if let Some(numbered) = numbered {
            numbered.written();
        }
        Ok(mark)
    }

    /// One mark.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn mark(&self, place: MarkPlace) -> Result<Option<MarkRecord>> {
        let value = self.engine().get(Family::Marks, &keys::mark(place))?;
        value.map(|value| records::decode(&value, "marks")).transpose()
    }

    /// The marks of a half-open range of time, by time; only those behind `after`, if it is given.
    pub fn marks(&self, at: Range<Micros>, after: Option<MarkPlace>) -> impl Iterator<Item = Result<MarkRecord>> + '_ {
        let mut range = keys::marks_from(at.start)..keys::marks_from(at.end);
        if let Some(after) = after {
            // The first key behind it.
            let next = [&keys::mark(after)[..], &[0]].concat();
            range.start = range.start.max(next);
        }
        self.scan(Family::Marks, range, Direction::Forward).map(|entry| records::decode(&entry?.1, "marks"))
    }

    /// The mark that took the place of this one last, if any did.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn corrected_by(&self, place: MarkPlace) -> Result<Option<MarkPlace>> {
        let mut last: Option<(Micros, MarkPlace)> = None;
        for entry in self.scan(Family::Corrections, keys::all_under(&keys::mark(place)), Direction::Forward) {
            let (key, value) = entry?;
            let (_, by) = keys::read_correction(&key)?;
            let recorded_at: Micros = records::decode(&value, "corrections")?;
            if last.is_none_or(|(before, _)| before <= recorded_at) {
                last = Some((recorded_at, by));
            }
        }
        Ok(last.map(|(_, by)| by))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::engine::memory::Memory;
    use crate::store::records::Event;

    const RECORDER: RecorderId = RecorderId([7; 16]);

    fn new(at: Micros, corrects: Option<MarkPlace>) -> NewMark {
        let (category, by) = ("insult".to_owned(), "account:anna".to_owned());
        let range = at - 10..at + 10;
        NewMark { recorder: RECORDER, at, range, category, note: String::new(), by, corrects, until_day: Some(9) }
    }

    fn raise(store: &Store, now: Micros, new: NewMark) -> Result<MarkRecord> {
        store.raise_mark(now, new, AuditRecord::new(now, Event::Mark, "account:anna", "::1", "mark"))
    }

    #[test]
    fn marks_are_read_by_time_and_a_page_goes_on_behind_any_of_them() {
        let store = Store::memory();
        for at in [300, 100, 200, 100] {
            raise(&store, 1, new(at, None)).unwrap();
        }
        let all: Vec<_> = store.marks(0..u64::MAX, None).map(|mark| mark.unwrap().place).collect();
        let of = |at, number| MarkPlace { at, recorder: RECORDER, raiser: Raiser::Operator(number) };
        assert_eq!(all, [of(100, 1), of(100, 2), of(200, 1), of(300, 1)]);
        let page: Vec<_> = store.marks(100..300, Some(all[1])).map(|mark| mark.unwrap().place).collect();
        assert_eq!(page, [of(200, 1)]);
    }

    #[test]
    fn the_marks_of_a_recorder_are_read_at_one_place_of_the_index_also_where_a_row_of_earlier_names_them_alone() {
        let engine = Memory::default();
        let store = Store::with_engine(Arc::new(engine.clone())).unwrap();
        let marks = [100, 200].map(|at| raise(&store, 1, new(at, None)).unwrap());
        let on = || store.marks_on(RECORDER, 0..300).collect::<Result<Vec<_>>>();
        assert_eq!(on().unwrap(), marks);
        engine.set_value(Family::Marked, &keys::marked(marks[1].place), Some(Vec::new()));
        assert_eq!(on().unwrap(), marks);
        engine.set_value(Family::Marks, &keys::mark(marks[0].place), None);
        assert_eq!(on().unwrap(), marks, "nothing else is gone to");
        engine.set_value(Family::Marks, &keys::mark(marks[1].place), None);
        assert_eq!(on().unwrap_err().kind(), Kind::Damaged);
    }

    #[test]
    fn a_mark_that_is_corrected_stays_and_is_told_by_which_one_last() {
        let store = Store::memory();
        let first = raise(&store, 1, new(100, None)).unwrap();
        assert_eq!(store.corrected_by(first.place).unwrap(), None);
        let second = raise(&store, 2, new(50, Some(first.place))).unwrap();
        let third = raise(&store, 3, new(20, Some(first.place))).unwrap();
        assert_eq!(store.corrected_by(first.place).unwrap(), Some(third.place));
        assert_eq!(store.mark(first.place).unwrap(), Some(first));
        assert_eq!(store.mark(second.place).unwrap().unwrap().corrects, third.corrects);
    }

    #[test]
    fn what_is_not_there_or_of_another_recorder_is_not_corrected_and_nothing_is_written() {
        let store = Store::memory();
        let first = raise(&store, 1, new(100, None)).unwrap().place;
        let audited = store.last_audit();
        for wrong in [MarkPlace { at: 7, ..first }, MarkPlace { recorder: RecorderId([8; 16]), ..first }] {
            assert_eq!(raise(&store, 2, new(50, Some(wrong))).unwrap_err().kind(), Kind::NotFound);
        }
        assert_eq!((store.marks(0..u64::MAX, None).count(), store.last_audit()), (1, audited));
    }

    #[test]
    fn a_mark_is_in_the_trail_the_feed_and_what_keeps_footage_or_nowhere() {
        let store = Store::memory();
        let claims = store.claims();
        let mark = raise(&store, 5, new(100, None)).unwrap();
        let entry = store.audit_entries(0..u64::MAX).next().unwrap().unwrap();
        assert_eq!(entry.content, Some(Digest::of(&records::encode(&mark).unwrap())));
        assert_eq!(store.feed(0, 9).unwrap().records.len(), 1);
        let kept = store.extensions(RECORDER).next().unwrap().unwrap();
        assert_eq!((kept.from, kept.to, kept.until_day), (90, 110, 9));
        assert_eq!(store.claims(), claims + 1);
    }
}
