//! Who came near a place within a range of time: from the index of places, from links, and from what links say that the index does not.
//!
//! The index ([`Store::presence`]) has the positions of segments, cell by cell, so that only those who were there are measured, however
//! long the time is. A mark or a report of health that came before its footage is not in it: [`Near::beside_index`] reads the links
//! of the pauses between recordings, and of recordings without positions of their own. What came late is read from its links.
//!
//! The time of an incident is that of the server. A device that was off by more than [`CLOCK_US`] may be passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aigaq_proto::limits::{DURATION_US_MAX, FIX_OFFSET_MS_MAX};
use aigaq_proto::{LinkHeader, Micros, RecorderId, Sequence};

use crate::error::{Context as _, Kind, Result};
use crate::place::{Area, Cell, Point};
use crate::store::index::{Seen, slot_of, slot_start};
use crate::store::records::{LinkRecord, PlaceRecord, TimelineKind};
use crate::store::{Direction, Store};

/// How far the clock of a device may be off without what it recorded being passed over, microseconds.
const CLOCK_US: Micros = 120_000_000;
/// How much later than the beginning of its link a position, or the end of the link, may be, microseconds.
const LATER_US: Micros = {
    let (fix, end) = (FIX_OFFSET_MS_MAX as u64 * 1_000, DURATION_US_MAX as u64);
    if fix > end { fix } else { end }
};
/// Cells that the place of an incident may touch: a circle of 50 km has about 75,000, where they are smallest half as many again.
const CELLS_MAX: usize = 200_000;

/// In which range of device time links begin that may say something of a range of the server's time.
pub(super) fn reach(within: &Range<Micros>) -> Range<Micros> {
    within.start.saturating_sub(CLOCK_US + LATER_US)..within.end.saturating_add(CLOCK_US)
}

/// A place and a time.
pub(super) struct Near<'a> {
    store: &'a Store,
    area: Area,
    within: &'a Range<Micros>,
}

/// What the index says of a place and a time.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Indexed {
    /// How near each recorder came to the middle, metres.
    pub(super) nearest: BTreeMap<RecorderId, f64>,
    /// Those of which something does not read: their links say it.
    pub(super) damaged: BTreeSet<RecorderId>,
}

impl<'a> Near<'a> {
    pub(super) fn of(store: &'a Store, place: PlaceRecord, within: &'a Range<Micros>) -> Self {
        let centre = Point { latitude_e7: place.latitude_e7, longitude_e7: place.longitude_e7 };
        Self { store, area: Area::Near { centre, metres: f64::from(place.metres) }, within }
    }

    /// Who of those that are `wanted` was there with footage, from the middle outwards; no further when so many were found. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn in_index(&self, most: usize, wanted: &dyn Fn(RecorderId) -> bool) -> Result<Indexed> {
        let captured = reach(self.within);
        let slots = slot_of(captured.start)..slot_of(captured.end).saturating_add(1);
        let mut found = Indexed::default();
        for cell in self.cells()? {
            if found.nearest.len() >= most {
                break;
            }
            for present in self.store.presence(cell, slots.clone()) {
                let present = present?;
                let recorder = present.recorder;
                if !wanted(recorder) || found.damaged.contains(&recorder) {
                    continue;
                }
                let before = found.nearest.get(&recorder).copied();
                match present.fixes().and_then(|seen| self.nearest_of(recorder, &seen, before)) {
                    Ok(Some(metres)) => drop(found.nearest.insert(recorder, metres)),
                    Ok(None) => {}
                    Err(error) if error.kind() == Kind::Damaged => drop(found.damaged.insert(recorder)),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// The cells of the place, those of the middle first.
    fn cells(&self) -> Result<Vec<Cell>> {
        let mut cells = self.area.cells_at_most(CELLS_MAX)?;
        if let Area::Near { centre, .. } = self.area {
            let away = |cell: &Cell| cell.centre().map_or(f64::MAX, |middle| centre.metres_to(middle));
            cells.sort_by(|a, b| away(a).total_cmp(&away(b)));
        }
        Ok(cells)
    }

    /// The nearest of positions, if it is nearer than what was there before. A link is read only for a position that would be.
    fn nearest_of(&self, recorder: RecorderId, seen: &[Seen], before: Option<f64>) -> Result<Option<f64>> {
        let (mut nearest, mut offset): (_, Option<(Sequence, Option<i64>)>) = (before, None);
        for seen in seen {
            let Some(metres) = self.nearer(seen.point, nearest) else { continue };
            let known = offset.filter(|(sequence, _)| *sequence == seen.sequence);
            let (_, off_us) = match known {
                Some(known) => known,
                None => (seen.sequence, self.store.link(recorder, seen.sequence)?.map(|link| off_us(&link))),
            };
            offset = Some((seen.sequence, off_us));
            if off_us.is_some_and(|off_us| self.is_within(seen.at, off_us)) {
                nearest = Some(metres);
            }
        }
        Ok(nearest.filter(|_| nearest != before))
    }

    /// How near a recorder came, metres, as far as links say it that the index does not have. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn beside_index(&self, recorder: RecorderId) -> Result<Option<f64>> {
        let captured = reach(self.within);
        let mut nearest = None;
        let mut begin = captured.start;
        for run in self.runs_with_positions(recorder, &captured)? {
            nearest = self.nearer_in_links(recorder, begin..run.start, is_no_segment, nearest)?;
            begin = begin.max(run.end);
        }
        self.nearer_in_links(recorder, begin..captured.end, is_no_segment, nearest)
    }

    /// How near a recorder came, metres, as far as its links say that begin in the half-open range of device time. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn in_links(&self, recorder: RecorderId, captured: &Range<Micros>) -> Result<Option<f64>> {
        let reach = reach(self.within);
        let captured = captured.start.max(reach.start)..captured.end.min(reach.end);
        self.nearer_in_links(recorder, captured, |_| true, None)
    }

    /// When a recorder recorded and said where, device clock, in order.
    fn runs_with_positions(&self, recorder: RecorderId, captured: &Range<Micros>) -> Result<Vec<Range<Micros>>> {
        let mut found = Vec::new();
        let slots = slot_of(captured.start)..slot_of(captured.end).saturating_add(1);
        for row in self.store.runs(recorder, slots, Direction::Forward) {
            let (slot, row) = row?;
            for run in &row.runs {
                let first = self.store.link(recorder, run.first)?.map(|link| header_of(&link)).transpose()?;
                if first.is_some_and(|first| !first.fixes.is_empty()) {
                    let absolute = |us: u32| slot_start(slot).saturating_add(u64::from(us));
                    found.push(absolute(run.from_us)..absolute(run.to_us));
                }
            }
        }
        Ok(found)
    }

    /// The nearest of what was known and of what these links say.
    fn nearer_in_links(
        &self,
        recorder: RecorderId,
        captured: Range<Micros>,
        wanted: fn(&TimelineKind) -> bool,
        before: Option<f64>,
    ) -> Result<Option<f64>> {
        let mut nearest = before;
        for entry in self.store.timeline(recorder, captured, Direction::Forward) {
            let entry = entry?;
            if !wanted(&entry.record.kind) {
                continue;
            }
            let Some(link) = self.store.link(recorder, entry.sequence)? else { continue };
            let header = header_of(&link)?;
            for fix in &header.fixes {
                let at = header.captured_at.saturating_add(u64::from(fix.offset_ms) * 1_000);
                if self.is_within(at, off_us(&link)) {
                    nearest = self.nearer(Point::of(fix), nearest).or(nearest);
                }
            }
        }
        Ok(nearest)
    }

    /// Whether a time of a device that was off by so much is within, by the server's clock.
    fn is_within(&self, at: Micros, off_us: i64) -> bool {
        self.within.contains(&at.saturating_add_signed(off_us.saturating_neg()))
    }

    /// How far a point is from the middle, metres, if it is in the area and nearer than what is known.
    fn nearer(&self, point: Point, than: Option<f64>) -> Option<f64> {
        self.area.holds(point).filter(|metres| than.is_none_or(|than| *metres < than))
    }
}

fn is_no_segment(kind: &TimelineKind) -> bool {
    !matches!(kind, TimelineKind::Media { .. })
}

fn header_of(link: &LinkRecord) -> Result<LinkHeader> {
    LinkHeader::decode(&link.header).context(Kind::Damaged, "a stored header does not decode")
}

/// How far the device was off, microseconds, where that is known.
fn off_us(link: &LinkRecord) -> i64 {
    link.clock.map_or(0, |clock| clock.offset_us)
}
