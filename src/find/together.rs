//! Who was with a recorder: whose fixes are near its own, in place and in time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use aigaq_proto::{Micros, RecorderId};

use super::Budget;
use super::near::Shown;
use super::path::{self, PathFix};
use crate::error::Result;
use crate::place::Cell;
use crate::store::Store;
use crate::store::index::{Seen, slot_of};
use crate::store::records::RecorderRecord;

/// How near somebody has to be at most, metres.
pub const WITHIN_METRES_MAX: f64 = 1_000.0;
/// How much earlier or later at most, seconds.
pub const SECONDS_MAX: u64 = 600;
/// Fixes of one meeting are no further apart than this, or than what is asked for if that is more, microseconds.
const MEETING_PAUSE_US: Micros = 60_000_000;
/// Comparisons that count as one row.
const COMPARED: usize = 64;

/// One time that somebody was with the recorder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Meeting {
    /// The first of their fixes that is near.
    pub from: Micros,
    /// The last.
    pub to: Micros,
    /// Least distance, metres.
    pub metres: f64,
}

/// Somebody who was with the recorder.
#[derive(Debug, Clone, PartialEq)]
pub struct Together {
    /// Who.
    pub recorder: RecorderId,
    /// When, in order.
    pub meetings: Vec<Meeting>,
}

/// Who, of those who are seen, was within `metres` of a place where the recorder was, at most `seconds` earlier or later; by
/// recorder. Blocks.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) if it would read too much, and those of the store.
pub fn together(
    store: &Store,
    recorder: RecorderId,
    range: Range<Micros>,
    metres: f64,
    seconds: u64,
    sees: &mut dyn FnMut(&RecorderRecord) -> bool,
) -> Result<Vec<Together>> {
    let mut budget = Budget::new();
    let own = path::of(store, recorder, range, &mut budget)?;
    let apart = seconds.saturating_mul(1_000_000);
    let directory = store.directory()?;
    let mut wanted: HashMap<RecorderId, bool> = HashMap::new();
    let mut shown = Shown::new(store);
    let mut near: BTreeMap<RecorderId, Vec<(Micros, f64)>> = BTreeMap::new();
    for (cell, slots) in places(&own, metres, apart, &mut budget)? {
        for slots in runs(&slots) {
            budget.take_seek()?;
            for present in store.presence(cell, slots) {
                let present = present?;
                budget.take_row(present.bytes())?;
                let other = present.recorder;
                let is_wanted = *wanted
                    .entry(other)
                    .or_insert_with(|| other != recorder && directory.get(other).is_some_and(&mut *sees));
                if !is_wanted {
                    continue;
                }
                for seen in present.fixes()? {
                    let Some(least) = nearest(&own, &seen, apart, &mut budget)?.filter(|least| *least <= metres) else {
                        continue;
                    };
                    if shown.shows(other, &seen, &mut budget)? {
                        near.entry(other).or_default().push((seen.at, least));
                    }
                }
            }
        }
    }
    let of = |(recorder, fixes)| Together { recorder, meetings: meetings(fixes, MEETING_PAUSE_US.max(apart)) };
    Ok(near.into_iter().map(of).collect())
}

/// Which ten minutes of which cells may hold somebody who was near. Fixes far apart have many cells around them, each of which counts as
/// a row.
fn places(own: &[PathFix], metres: f64, apart: Micros, budget: &mut Budget) -> Result<BTreeMap<Cell, BTreeSet<u32>>> {
    let mut by_cell: BTreeMap<Cell, BTreeSet<u32>> = BTreeMap::new();
    for fix in own {
        // A fix may be five minutes later than its segment begins.
        let slots = slot_of(fix.at.saturating_sub(apart)).saturating_sub(1)..=slot_of(fix.at.saturating_add(apart));
        by_cell.entry(Cell::of(fix.point)).or_default().extend(slots);
    }
    let mut places: BTreeMap<Cell, BTreeSet<u32>> = BTreeMap::new();
    for (cell, slots) in by_cell {
        for near in cell.around(metres)? {
            budget.take(1)?;
            places.entry(near).or_default().extend(&slots);
        }
    }
    Ok(places)
}

/// Numbers as ranges of consecutive ones.
fn runs(slots: &BTreeSet<u32>) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for slot in slots {
        match runs.last_mut().filter(|last| last.end == *slot) {
            Some(last) => last.end = slot.saturating_add(1),
            None => runs.push(*slot..slot.saturating_add(1)),
        }
    }
    runs
}

/// How far somebody was at the nearest from where the recorder was around that time.
fn nearest(own: &[PathFix], seen: &Seen, apart: Micros, budget: &mut Budget) -> Result<Option<f64>> {
    let begin = own.partition_point(|fix| fix.at < seen.at.saturating_sub(apart));
    let end = own.partition_point(|fix| fix.at <= seen.at.saturating_add(apart));
    let around = own.get(begin..end).unwrap_or_default();
    budget.take((around.len() / COMPARED) as u64)?;
    Ok(around.iter().map(|fix| fix.point.metres_to(seen.point)).min_by(f64::total_cmp))
}

fn meetings(mut fixes: Vec<(Micros, f64)>, pause: Micros) -> Vec<Meeting> {
    fixes.sort_unstable_by_key(|(at, _)| *at);
    let mut meetings: Vec<Meeting> = Vec::new();
    for (at, metres) in fixes {
        match meetings.last_mut().filter(|last| last.to.saturating_add(pause) >= at) {
            Some(last) => {
                last.to = at;
                last.metres = last.metres.min(metres);
            }
            None => meetings.push(Meeting { from: at, to: at, metres }),
        }
    }
    meetings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
    use super::*;
    use crate::error::Kind;
    use crate::place::Point;

    #[test]
    fn fixes_far_apart_cost_what_is_around_each_of_them() {
        let fix = |index: i32| PathFix {
            at: 1_768_640_000_000_000,
            point: Point { latitude_e7: index * 250_000 - 375_000_000, longitude_e7: 700_000_000 },
            accuracy_dm: 10,
            sequence: 1,
        };
        let places = |fixes: i32| {
            let own: Vec<PathFix> = (0..fixes).map(fix).collect();
            places(&own, WITHIN_METRES_MAX, 0, &mut Budget::new())
        };
        let (one, ten) = (places(1).unwrap().len(), places(10).unwrap().len());
        assert!(one > 20 && ten > 9 * one, "{one} {ten}");
        assert_eq!(places(3_000).unwrap_err().kind(), Kind::Invalid);
    }
}
