//! From the rows of the index to the recordings of one recorder: whole, and without what was deleted.

use std::ops::Range;

use aigaq_proto::{Micros, RecorderId, Sequence};

use super::Budget;
use crate::error::Result;
use crate::store::index::{PAUSE_US, SLOT_US, slot_of, slot_start};
use crate::store::records::TimelineKind;
use crate::store::{Direction, Store};

/// How far before and after the range a recording is followed, microseconds: a day.
pub const LOOK_US: Micros = 86_400_000_000;
/// A segment that begins in ten minutes ends before half of the next have passed.
const OVER_US: Micros = 300_000_000;

/// Segments with no longer pause between them than [`PAUSE_US`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) from: Micros,
    pub(super) to: Micros,
    pub(super) first: Sequence,
    pub(super) last: Sequence,
    pub(super) segments: u64,
    pub(super) bytes: u64,
    pub(super) begins_earlier: bool,
    pub(super) ends_later: bool,
}

/// The recordings of a recorder with a part in the range, in order.
pub(super) fn touching(
    store: &Store,
    recorder: RecorderId,
    range: Range<Micros>,
    budget: &mut Budget,
) -> Result<Vec<Run>> {
    let pieces = Pieces { store, recorder, deleted_before: store.deleted_before(recorder)? };
    budget.take(2)?;
    // What begins in the ten minutes before may reach into the range.
    let slots = slot_of(range.start).saturating_sub(1)..slot_of(range.end.saturating_sub(1)).saturating_add(1);
    let earliest = slot_of(range.start.saturating_sub(LOOK_US));
    let latest = slot_of(range.end.saturating_add(LOOK_US)).saturating_add(1).max(slots.end);
    let reaches = |from: Micros, to: Micros| to.saturating_add(u64::from(PAUSE_US)) >= from;
    // Forwards beyond the range as long as what is there may belong to the last one, and backwards to the first.
    let mut end = 0;
    let mut found = pieces.within(slots.start..latest, Direction::Forward, budget, |row| {
        let is_beyond = row.slot >= slots.end;
        if is_beyond && !reaches(slot_start(row.slot), end) {
            return false;
        }
        row.runs.iter().for_each(|run| {
            if !is_beyond || reaches(run.from, end) {
                end = end.max(run.to);
            }
        });
        true
    })?;
    let Some(mut begin) = found.iter().map(|run| run.from).min() else { return Ok(Vec::new()) };
    let before = if reaches(begin, slot_start(slots.start).saturating_add(OVER_US)) { earliest } else { slots.start };
    found.extend(pieces.within(before.min(slots.start)..slots.start, Direction::Backward, budget, |row| {
        if !reaches(begin, slot_start(row.slot).saturating_add(SLOT_US + OVER_US)) {
            return false;
        }
        row.runs.iter().rev().for_each(|run| {
            if reaches(begin, run.to) {
                begin = begin.min(run.from);
            }
        });
        true
    })?);
    let looked = slot_start(earliest)..slot_start(latest);
    let mut whole = joined(found);
    for run in &mut whole {
        run.begins_earlier = run.from < looked.start.saturating_add(u64::from(PAUSE_US)) && earliest > 0;
        run.ends_later = run.to.saturating_add(u64::from(PAUSE_US)) >= looked.end;
    }
    whole.retain(|run| run.from < range.end && (run.to > range.start || run.from >= range.start));
    Ok(whole)
}

/// Runs that belong together, as one.
fn joined(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_unstable_by_key(|run| (run.from, run.first));
    let mut whole: Vec<Run> = Vec::new();
    for run in runs {
        match whole.last_mut().filter(|last| last.to.saturating_add(u64::from(PAUSE_US)) >= run.from) {
            Some(last) => {
                last.to = last.to.max(run.to);
                (last.first, last.last) = (last.first.min(run.first), last.last.max(run.last));
                last.segments = last.segments.saturating_add(run.segments);
                last.bytes = last.bytes.saturating_add(run.bytes);
            }
            None => whole.push(run),
        }
    }
    whole
}

/// The runs of ten minutes.
struct Row {
    slot: u32,
    runs: Vec<Run>,
}

/// Where the rows of a recorder come from.
struct Pieces<'a> {
    store: &'a Store,
    recorder: RecorderId,
    deleted_before: Micros,
}

impl Pieces<'_> {
    /// The runs of ten minutes in a range, as long as `more` says.
    fn within(
        &self,
        slots: Range<u32>,
        direction: Direction,
        budget: &mut Budget,
        mut more: impl FnMut(&Row) -> bool,
    ) -> Result<Vec<Run>> {
        let mut found = Vec::new();
        if slots.is_empty() {
            return Ok(found);
        }
        budget.take_seek()?;
        for entry in self.store.runs(self.recorder, slots, direction) {
            let (slot, record) = entry?;
            budget.take(1)?;
            let start = slot_start(slot);
            let runs = if start < self.deleted_before {
                self.kept(slot, budget)?
            } else {
                let absolute = |us: u32| start.saturating_add(u64::from(us));
                let run = |run: &crate::store::records::RunRecord| Run {
                    from: absolute(run.from_us),
                    to: absolute(run.to_us),
                    first: run.first,
                    last: run.last,
                    segments: u64::from(run.segments),
                    bytes: run.bytes,
                    begins_earlier: false,
                    ends_later: false,
                };
                record.runs.iter().map(run).collect()
            };
            let row = Row { slot, runs };
            if !more(&row) {
                break;
            }
            found.extend(row.runs);
        }
        Ok(found)
    }

    /// The same of ten minutes of which something was deleted: from the links.
    fn kept(&self, slot: u32, budget: &mut Budget) -> Result<Vec<Run>> {
        let range = slot_start(slot)..slot_start(slot.saturating_add(1));
        let mut found = Vec::new();
        for entry in self.store.timeline(self.recorder, range, Direction::Forward) {
            let entry = entry?;
            budget.take(1)?;
            let TimelineKind::Media { bytes, .. } = entry.record.kind else { continue };
            if entry.captured_at < self.deleted_before {
                budget.take(1)?;
                let link = self.store.link(self.recorder, entry.sequence)?;
                if link.is_none_or(|link| self.store.is_deleted(self.recorder, &link.body)) {
                    continue;
                }
            }
            found.push(Run {
                from: entry.captured_at,
                to: entry.captured_at.saturating_add(u64::from(entry.record.duration_us)),
                first: entry.sequence,
                last: entry.sequence,
                segments: 1,
                bytes: u64::from(bytes),
                begins_earlier: false,
                ends_later: false,
            });
        }
        Ok(joined(found))
    }
}
