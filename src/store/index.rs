//! Where and when there is footage: who recorded in which ten minutes, in which runs, in which cells; marks by recorder and by
//! category; recorders by the name of who had them.
//!
//! Each row follows from links alone (those of marks and of assignees from marks and assignments) and is written with what it follows from: who finds
//! nothing, missed nothing. A segment costs one row of its recorder's ten minutes, read and written again once for each commit, and
//! about fifteen bytes for each cell in which it has fixes, appended unread. Only segments have a place here, since what is looked for is footage;
//! the fixes of marks and of health stay in their links.
//!
//! With its footage a segment leaves the index, before the footage goes ([`Store::drop_days_before`]). Its signed link stays, fixes and all,
//! because the chain is evidence and the log has its digest; but nobody needs to be able to ask of an arbitrary place who was there
//! when what was recorded there is gone. Marks have no footage and stay.
//!
//! A row that does not read must not keep footage from being stored: it is made anew from what comes, which `aigaq check` finds.

mod removal;

use std::collections::BTreeMap;
use std::ops::Range;

use aigaq_proto::{LinkHeader, Micros, RecorderId, Sequence};

use super::engine::{Batch, Direction, Family};
use super::records::{self, MarkPlace, MarkRecord, PresenceRecord, RunRecord, RunsRecord};
use super::{Store, keys};
use crate::error::{Error, Kind, Result};
use crate::place::{Cell, Point};

/// Ten minutes: what rows of the index are by, microseconds.
pub const SLOT_US: Micros = 600_000_000;
/// The longest pause within a recording, microseconds: a card that was changed or a segment that is missing does not make two of one.
pub const PAUSE_US: u32 = 60_000_000;
/// Sequences in a block: bounds a row of a recorder whose clock stands.
const BLOCK: Sequence = 512;

/// The ten minutes in which a moment lies, counted from the Unix epoch.
#[must_use]
pub fn slot_of(at: Micros) -> u32 {
    u32::try_from(at / SLOT_US).unwrap_or(u32::MAX)
}

/// When the ten minutes begin.
#[must_use]
pub fn slot_start(slot: u32) -> Micros {
    u64::from(slot) * SLOT_US
}

/// What a segment says of runs.
#[must_use]
pub fn run_of(header: &LinkHeader) -> RunRecord {
    run(header.captured_at, header.duration_us, header.sequence, header.payload_length)
}

/// The same from what the timeline says.
pub(crate) fn run(captured_at: Micros, duration_us: u32, sequence: Sequence, bytes: u32) -> RunRecord {
    // Ten minutes of microseconds fit, and the longest segment with them.
    let from_us = u32::try_from(captured_at % SLOT_US).unwrap_or(u32::MAX);
    let to_us = from_us.saturating_add(duration_us);
    RunRecord { from_us, to_us, first: sequence, last: sequence, segments: 1, bytes: u64::from(bytes) }
}

/// Key of a row of `presence`: cell, ten minutes, recorder, block of sequences.
pub(crate) type PresenceKey = (u64, u32, RecorderId, u64);

/// What a segment says of where it was taken, cell by cell.
#[must_use]
pub(crate) fn presence_of(header: &LinkHeader) -> BTreeMap<PresenceKey, PresenceRecord> {
    let slot = slot_of(header.captured_at);
    let captured_us = u32::try_from(header.captured_at % SLOT_US).unwrap_or(u32::MAX);
    let (block, sequence) = (header.sequence / BLOCK, u16::try_from(header.sequence % BLOCK).unwrap_or(u16::MAX));
    let mut cells = BTreeMap::new();
    for fix in &header.fixes {
        let key = (Cell::of(Point::of(fix)).0, slot, header.recorder, block);
        cells.entry(key).or_insert_with(|| PresenceRecord { sequence, captured_us, steps: Vec::new() }).push(fix);
    }
    cells
}

/// Where a recorder was in a cell and ten minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Who.
    pub recorder: RecorderId,
    slot: u32,
    block: u64,
    value: Box<[u8]>,
}

/// A fix of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Device clock.
    pub at: Micros,
    /// Where.
    pub point: Point,
    /// When the segment begins.
    pub captured_at: Micros,
    /// Which it is.
    pub sequence: Sequence,
}

impl Present {
    /// Length of what is stored, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.value.len()
    }

    /// The fixes, segment by segment.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn fixes(&self) -> Result<Vec<Seen>> {
        let mut all = Vec::new();
        for record in records::decode_each::<PresenceRecord>(&self.value, "presence")? {
            let captured_at = slot_start(self.slot).saturating_add(u64::from(record.captured_us));
            let sequence = self.block.saturating_mul(BLOCK).saturating_add(u64::from(record.sequence));
            all.extend(record.fixes().map(|(later_ms, latitude_e7, longitude_e7)| Seen {
                at: captured_at.saturating_add(u64::from(later_ms) * 1_000),
                point: Point { latitude_e7, longitude_e7 },
                captured_at,
                sequence,
            }));
        }
        Ok(all)
    }
}

/// What a commit adds to the index.
pub(super) struct Index<'a> {
    store: &'a Store,
    /// The rows of `runs` that change, and whether each is new.
    runs: BTreeMap<(RecorderId, u32), (RunsRecord, bool)>,
}

impl<'a> Index<'a> {
    pub(super) fn of(store: &'a Store) -> Self {
        Self { store, runs: BTreeMap::new() }
    }

    /// A link of a chain.
    pub(super) fn add(&mut self, header: &LinkHeader, batch: &mut Batch) -> Result<()> {
        if !header.is_media() {
            return Ok(());
        }
        for ((cell, slot, recorder, block), record) in presence_of(header) {
            batch.append(Family::Presence, keys::presence(cell, slot, recorder, block), records::encode(&record)?);
        }
        let place = (header.recorder, slot_of(header.captured_at));
        let row = match self.runs.entry(place) {
            std::collections::btree_map::Entry::Occupied(row) => row.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => free.insert(before(self.store, place)?),
        };
        row.0.add(run_of(header), PAUSE_US);
        Ok(())
    }

    /// The rows that changed.
    pub(super) fn finish(&self, batch: &mut Batch) -> Result<()> {
        for ((recorder, slot), (runs, is_new)) in &self.runs {
            batch.put(Family::Runs, keys::runs(*recorder, *slot), records::encode(runs)?);
            if *is_new {
                batch.put(Family::Slots, keys::slot(*slot, *recorder), []);
            }
        }
        Ok(())
    }
}

/// What the index says of a mark, which encodes so: under its recorder the whole of it, since that never changes, and a recording that is found is
/// told with its marks.
pub(super) fn index_mark(mark: &MarkRecord, encoded: &[u8], batch: &mut Batch) {
    batch.put(Family::Marked, keys::marked(mark.place), encoded);
    batch.put(Family::Categories, keys::category(&mark.category, mark.place), []);
}

/// What there is of a recorder's ten minutes, and whether that is nothing.
fn before(store: &Store, (recorder, slot): (RecorderId, u32)) -> Result<(RunsRecord, bool)> {
    let row = store.engine().get(Family::Runs, &keys::runs(recorder, slot));
    match row.and_then(|value| value.map(|value| records::decode(&value, "runs")).transpose()) {
        Ok(row) => Ok(row.map_or_else(|| (RunsRecord::default(), true), |row| (row, false))),
        Err(error) if error.kind() == Kind::Damaged => {
            tracing::error!(%error, "a row of the index is damaged and made anew: aigaq check says which");
            Ok((RunsRecord::default(), true))
        }
        Err(error) => Err(error),
    }
}

impl Store {
    /// Who began segments in ten minutes, from this identifier on, by identifier.
    pub fn recorded_in(&self, slot: u32, from: RecorderId) -> impl Iterator<Item = Result<RecorderId>> + '_ {
        let end = keys::slot(slot.saturating_add(1), RecorderId([0; 16])).to_vec();
        let range = keys::slot(slot, from).to_vec()..end;
        self.scan(Family::Slots, range, Direction::Forward).map(|entry| Ok(keys::read_slot(&entry?.0)?.1))
    }

    /// The runs of a recorder in the half-open range of ten minutes.
    pub fn runs(
        &self,
        recorder: RecorderId,
        slots: Range<u32>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(u32, RunsRecord)>> + '_ {
        let range = keys::runs(recorder, slots.start).to_vec()..keys::runs(recorder, slots.end).to_vec();
        self.scan(Family::Runs, range, direction).map(|entry| {
            let (key, value) = entry?;
            Ok((keys::read_runs(&key)?.1, records::decode(&value, "runs")?))
        })
    }

    /// Who was in a cell in the half-open range of ten minutes, with segments that began in them; their fixes may be up to five minutes
    /// later. By time and recorder.
    pub fn presence(&self, cell: Cell, slots: Range<u32>) -> impl Iterator<Item = Result<Present>> + '_ {
        self.scan(Family::Presence, keys::presence_in(cell.0, slots), Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            let (_, slot, recorder, block) = keys::read_presence(&key)?;
            Ok(Present { recorder, slot, block, value })
        })
    }

    /// The marks on a recorder in the half-open range of time, in order.
    pub fn marks_on(&self, recorder: RecorderId, at: Range<Micros>) -> impl Iterator<Item = Result<MarkRecord>> + '_ {
        self.scan(Family::Marked, keys::marked_in(recorder, at), Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            if !value.is_empty() {
                return records::decode(&value, "marked");
            }
            // A row of earlier has the place alone.
            let place = keys::read_marked(&key)?;
            self.mark(place)?.ok_or_else(|| Error::new(Kind::Damaged, "a mark of the index is not there"))
        })
    }

    /// The marks of a category in the half-open range of time, in order.
    pub fn marks_of(&self, category: &str, at: Range<Micros>) -> impl Iterator<Item = Result<MarkPlace>> + '_ {
        self.scan(Family::Categories, keys::category_in(category, at), Direction::Forward)
            .map(|entry| keys::read_category(&entry?.0))
    }

    /// The assignments that ever bore a name and begin before `to`: begin and recorder. Whether one bears it still its record says.
    pub fn assigned_to(&self, name: &str, to: Micros) -> impl Iterator<Item = Result<(Micros, RecorderId)>> + '_ {
        let bound = |at| keys::assignee(name, at, RecorderId([0; 16]));
        self.scan(Family::Assignees, bound(0)..bound(to), Direction::Forward).map(|entry| {
            let (key, _) = entry?;
            keys::read_assignee(&key).map(|(_, from, recorder)| (from, recorder))
        })
    }
}
