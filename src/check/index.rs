//! The index of footage, made again from the links and the assignments, against the one that is stored: no row that is missing, none that says
//! something else, none too many.
//!
//! What is over leaves the index before its bodies go, a part at a time; while the family `expiry` still names it, a row may have it or not.

use std::collections::{BTreeMap, BTreeSet};

use aigaq_proto::{LinkHeader, RecorderId};

use super::chains::CHAIN;
use super::{Findings, Walk, place_of};
use crate::error::{Error, Kind, Result};
use crate::store::engine::Family;
use crate::store::index::{PAUSE_US, PresenceKey, presence_of, run_of, slot_of};
use crate::store::records::{self, AssignmentRecord, Body, MarkRecord, PresenceRecord, RunRecord, RunsRecord};
use crate::store::{Store, keys};

/// The rows that follow from links.
const ROWS: [Family; 3] = [Family::Slots, Family::Runs, Family::Presence];

/// What the index must say of the links of one recorder after the other.
pub(super) struct Expected {
    recorder: Option<RecorderId>,
    /// Segments, with whether they may be out of the index already.
    runs: BTreeMap<u32, Vec<(RunRecord, bool)>>,
    presence: BTreeMap<PresenceKey, Vec<(PresenceRecord, bool)>>,
    /// Footage that expires before is out of the index.
    gone_before: u32,
    /// Footage that expires before may be.
    going_before: u32,
    /// Rows of each family that are as they must be.
    sound: BTreeMap<Family, u64>,
}

impl Expected {
    pub(super) fn of(store: &Store) -> Self {
        let going_before = store.dropped_floor();
        // What cannot be read is a problem of that family.
        let named = store.first_expiring(0).ok().flatten().unwrap_or(going_before);
        Self {
            recorder: None,
            runs: BTreeMap::new(),
            presence: BTreeMap::new(),
            gone_before: named.min(going_before),
            going_before,
            sound: BTreeMap::new(),
        }
    }

    /// The next link; those of a recorder come one after the other.
    pub(super) fn add(&mut self, store: &Store, header: &LinkHeader, body: &Body, findings: &mut Findings<'_>) {
        if self.recorder != Some(header.recorder) {
            self.settle(store, findings);
            self.recorder = Some(header.recorder);
        }
        let Some(place) = body.place().filter(|place| header.is_media() && place.day >= self.gone_before) else {
            return;
        };
        let may_be_out = place.day < self.going_before;
        self.runs.entry(slot_of(header.captured_at)).or_default().push((run_of(header), may_be_out));
        for (key, record) in presence_of(header) {
            self.presence.entry(key).or_default().push((record, may_be_out));
        }
    }

    /// Compares what the links of a recorder make with what is stored.
    fn settle(&mut self, store: &Store, findings: &mut Findings<'_>) {
        let Some(recorder) = self.recorder.take() else { return };
        for (slot, segments) in std::mem::take(&mut self.runs) {
            let made = |out: bool| {
                let mut runs = RunsRecord::default();
                let left = segments.iter().filter(|(_, may_be_out)| !(out && *may_be_out));
                left.for_each(|(segment, _)| runs.add(*segment, PAUSE_US));
                Some(runs).filter(|runs| !runs.runs.is_empty())
            };
            let read = |value: &[u8]| records::decode::<RunsRecord>(value, "runs");
            self.compare(store, Family::Runs, &keys::runs(recorder, slot), read, &[made(false), made(true)], findings);
            let slotted = |out| made(out).map(|_| ());
            let both = [slotted(false), slotted(true)];
            self.compare(store, Family::Slots, &keys::slot(slot, recorder), empty, &both, findings);
        }
        for ((cell, slot, recorder, block), places) in std::mem::take(&mut self.presence) {
            let made = |out: bool| {
                let left = places.iter().filter(|(_, may_be_out)| !(out && *may_be_out));
                let mut left: Vec<PresenceRecord> = left.map(|(place, _)| place.clone()).collect();
                left.sort_by_key(|place| place.sequence);
                Some(left).filter(|left| !left.is_empty())
            };
            let key = keys::presence(cell, slot, recorder, block);
            let read = |value: &[u8]| {
                let mut read = records::decode_each::<PresenceRecord>(value, "presence")?;
                read.sort_by_key(|place| place.sequence);
                Ok(read)
            };
            self.compare(store, Family::Presence, &key, read, &[made(false), made(true)], findings);
        }
    }

    /// Whether a row is one of those that it may be.
    fn compare<T: PartialEq>(
        &mut self,
        store: &Store,
        family: Family,
        key: &[u8],
        read: impl Fn(&[u8]) -> Result<T>,
        may_be: &[Option<T>],
        findings: &mut Findings<'_>,
    ) {
        let Ok(value) = store.engine().get(family, key) else {
            findings.not_checked("rows of the index", 1);
            return;
        };
        *self.sound.entry(family).or_default() += u64::from(value.is_some());
        let found = value.map(|value| read(&value)).transpose();
        let place = place_of(family, key);
        match found {
            Ok(found) if may_be.contains(&found) => {}
            Ok(None) => findings.problem("index", format!("{place}: the index lacks it")),
            Ok(Some(_)) => findings.problem("index", format!("{place}: the index says something else than the links")),
            Err(error) => findings.problem("index", format!("{place}: {error}")),
        }
    }

    /// Compares the last recorder, and then looks for rows that nothing makes.
    pub(super) fn finish(&mut self, store: &Store, findings: &mut Findings<'_>) {
        self.settle(store, findings);
        for family in ROWS {
            let mut count = 0_u64;
            for entry in Walk::new(store.engine(), family) {
                count += u64::from(findings.read(entry).is_some());
            }
            let sound = self.sound.get(&family).copied().unwrap_or_default();
            if findings.has_hole(&CHAIN) || findings.has_hole(&[family]) {
                findings.not_checked("count of the index", 1);
            } else if count != sound {
                let text = format!("{}: the index has {count} rows, the links make {sound}", family.name());
                findings.problem("index", text);
            }
        }
    }
}

fn empty(value: &[u8]) -> Result<()> {
    if value.is_empty() { Ok(()) } else { Err(Error::new(Kind::Damaged, "the row is not empty")) }
}

/// Every assignment decodes, and is found under each name that it ever had and under no other.
pub(super) fn assignees(store: &Store, findings: &mut Findings<'_>) {
    let mut made = BTreeSet::new();
    for entry in Walk::new(store.engine(), Family::Assignments) {
        let Some((key, value)) = findings.read(entry) else { continue };
        let read = keys::read_assignment(&key)
            .and_then(|of| Ok((of, records::decode::<AssignmentRecord>(&value, "assignments")?)));
        let place = place_of(Family::Assignments, &key);
        let Some(((recorder, from), record)) = findings.keep("assignments", place, read) else { continue };
        let names = record.revisions.iter().filter_map(|revision| revision.assignee.as_deref());
        made.extend(names.map(|name| keys::assignee(name, from, recorder)));
    }
    same(store, Family::Assignments, Family::Assignees, made, findings);
}

/// Every mark decodes, lies where it says, and is found under its recorder and under its category.
pub(super) fn marks(store: &Store, findings: &mut Findings<'_>) {
    let (mut marked, mut categories) = (BTreeSet::new(), BTreeSet::new());
    for entry in Walk::new(store.engine(), Family::Marks) {
        let Some((key, value)) = findings.read(entry) else { continue };
        let read = keys::read_mark(&key).and_then(|place| {
            let mark: MarkRecord = records::decode(&value, "marks")?;
            if mark.place == place { Ok(mark) } else { Err(Error::new(Kind::Damaged, "it names another place")) }
        });
        let Some(mark) = findings.keep("marks", place_of(Family::Marks, &key), read) else { continue };
        let under = keys::marked(mark.place);
        // What does not read is found below.
        let copied = store.engine().get(Family::Marked, &under).ok().flatten();
        if copied.is_some_and(|copied| !copied.is_empty() && *copied != *value) {
            findings.problem("index", format!("{}: it is another mark", place_of(Family::Marked, &under)));
        }
        marked.insert(under.to_vec());
        categories.insert(keys::category(&mark.category, mark.place));
    }
    same(store, Family::Marks, Family::Marked, marked, findings);
    same(store, Family::Marks, Family::Categories, categories, findings);
}

/// The rows of a family are these and no others, which follow from another family.
fn same(store: &Store, from: Family, family: Family, mut made: BTreeSet<Vec<u8>>, findings: &mut Findings<'_>) {
    for entry in Walk::new(store.engine(), family) {
        let Some((key, _)) = findings.read(entry) else { continue };
        if !made.remove(&*key) && !findings.has_hole(&[from]) {
            findings.problem("index", format!("{}: nothing in {} makes it", place_of(family, &key), from.name()));
        }
    }
    if findings.has_hole(&[family]) {
        return;
    }
    for key in made {
        findings.problem("index", format!("{}: the index lacks it", place_of(family, &key)));
    }
}
