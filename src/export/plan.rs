//! What of a recorder belongs into a bundle: cut at whole links, with the links before and after the range as its edges.
//!
//! Footage is what touches the range. Links are those from the first to the last that touches it, of every kind, so that a chain
//! is shown and not a choice; one more on each side, which proves that nothing lies between; the `Start` link of each
//! recording, without which its footage does not play; and those beside the range that say why footage is missing in it.
//!
//! All of it is as it was when the log had a certain size: what came in later, also in the middle, is left out everywhere alike.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aigaq_proto::limits::DURATION_US_MAX;
use aigaq_proto::{Micros, RecorderId, Sequence};

use crate::error::{Error, Kind, Result};
use crate::store::engine::Direction;
use crate::store::records::{LinkRecord, TimelineKind};
use crate::store::{Store, TimelineEntry};

/// Most segments of one recorder: a month of 2 s.
const SEGMENTS_MAX: usize = 2_000_000;
/// Entries of the timeline on either side that are looked through for the link that bounds a hole at the edge; coverage looks no further.
const BOUNDING_ENTRIES_MAX: usize = 10_000;
/// Statements of loss that are looked at; coverage looks at no more.
const LOSSES_MAX: usize = 10_000;

/// What of a recorder is written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The recordings, each with the sequences of its segments, rising.
    pub(super) recordings: BTreeMap<Sequence, Vec<Sequence>>,
    /// Links from the first to the last that touches the range; empty if none does.
    pub(super) main: Range<Sequence>,
    /// Links beside them, rising.
    pub(super) beside: BTreeSet<Sequence>,
    /// Payload of the segments, bytes.
    pub(super) bytes: u64,
    /// Size of the log when the bundle was begun: links with a greater index are not in it.
    cut: u64,
    /// The greatest index in the log of the links that are.
    pub(super) last_index: u64,
}

impl Plan {
    /// Looks through the timeline and the links that the first `cut` entries of the log have; blocks.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for more than an export can hold, and those of the store.
    pub(super) fn of(store: &Store, recorder: RecorderId, range: &Range<Micros>, cut: u64) -> Result<Self> {
        let mut plan = Self { cut, ..Self::default() };
        let mut ends: Option<(Sequence, Sequence)> = None;
        let mut segments = 0;
        let from = range.start.saturating_sub(u64::from(DURATION_US_MAX));
        for entry in store.timeline(recorder, from..range.end, Direction::Forward) {
            let entry = entry?;
            if !touches(range, &entry) {
                continue;
            }
            let (low, high) = ends.unwrap_or((entry.sequence, entry.sequence));
            ends = Some((low.min(entry.sequence), high.max(entry.sequence)));
            if let TimelineKind::Media { recording, bytes, .. } = entry.record.kind {
                segments += 1;
                if segments > SEGMENTS_MAX {
                    let text = format!("a recorder has more than {SEGMENTS_MAX} segments in the range: ask for less");
                    return Err(Error::new(Kind::Invalid, text));
                }
                plan.recordings.entry(recording).or_default().push(entry.sequence);
                plan.bytes = plan.bytes.saturating_add(u64::from(bytes));
            }
        }
        plan.recordings.values_mut().for_each(|segments| segments.sort_unstable());
        match ends {
            Some((low, high)) => {
                plan.main = low..high.saturating_add(1);
                plan.beside.extend(low.checked_sub(1));
                plan.beside.insert(high.saturating_add(1));
            }
            None => {
                let before = store.timeline(recorder, 0..range.start, Direction::Backward).next().transpose()?;
                let after = store.timeline(recorder, range.end..Micros::MAX, Direction::Forward).next().transpose()?;
                plan.beside.extend(before.map(|entry| entry.sequence));
                plan.beside.extend(after.map(|entry| entry.sequence));
            }
        }
        let before = store.timeline(recorder, 0..range.start, Direction::Backward);
        let after = store.timeline(recorder, range.end..Micros::MAX, Direction::Forward);
        let mut near: Vec<Sequence> = plan.recordings.keys().copied().collect();
        near.extend(bounding(before)?);
        near.extend(bounding(after)?);
        for loss in store.losses(recorder).take(LOSSES_MAX) {
            let loss = loss?;
            if loss.first < plan.main.end && plan.main.start <= loss.record.last {
                near.push(loss.stated_in);
            }
        }
        let main = plan.main.clone();
        plan.beside.extend(near.into_iter().filter(|sequence| !main.contains(sequence)));
        plan.settle(store, recorder)?;
        Ok(plan)
    }

    /// Leaves out what came into the log too late, and finds where in the log the rest is.
    fn settle(&mut self, store: &Store, recorder: RecorderId) -> Result<()> {
        let mut late = BTreeSet::new();
        for range in self.ranges() {
            for found in store.links(recorder, range) {
                match found {
                    Ok((sequence, record)) if !self.has(&record) => drop(late.insert(sequence)),
                    Ok((_, record)) => self.last_index = self.last_index.max(record.log_index),
                    // What does not read has no line.
                    Err(error) if error.kind() == Kind::Damaged => {}
                    Err(error) => return Err(error),
                }
            }
        }
        for fork in store.forks(recorder) {
            let fork = fork?;
            if self.contains(fork.sequence) && self.has(&fork.record) {
                self.last_index = self.last_index.max(fork.record.log_index);
            }
        }
        if !late.is_empty() {
            self.recordings.values_mut().for_each(|segments| segments.retain(|sequence| !late.contains(sequence)));
            self.recordings.retain(|_, segments| !segments.is_empty());
        }
        Ok(())
    }

    /// Whether a link is in the log of the bundle.
    pub(super) fn has(&self, record: &LinkRecord) -> bool {
        record.log_index < self.cut
    }

    /// The sequences of all links, as rising ranges that do not overlap.
    pub(super) fn ranges(&self) -> Vec<Range<Sequence>> {
        let single = |sequence: &Sequence| *sequence..sequence.saturating_add(1);
        let below = self.beside.iter().filter(|sequence| self.main.is_empty() || **sequence < self.main.start);
        let above = self.beside.iter().filter(|sequence| !self.main.is_empty() && **sequence >= self.main.end);
        let main = (!self.main.is_empty()).then(|| self.main.clone());
        below.map(single).chain(main).chain(above.map(single)).collect()
    }

    /// Whether the link with this sequence is written.
    pub(super) fn contains(&self, sequence: Sequence) -> bool {
        self.main.contains(&sequence) || self.beside.contains(&sequence)
    }
}

/// The first link that bounds a hole.
fn bounding(entries: impl Iterator<Item = Result<TimelineEntry>>) -> Result<Option<Sequence>> {
    let bounds = |kind: &TimelineKind| {
        matches!(kind, TimelineKind::Start | TimelineKind::Media { .. } | TimelineKind::Stop { .. })
    };
    let mut near = entries.take(BOUNDING_ENTRIES_MAX);
    let found = near.find(|entry| entry.as_ref().map_or(true, |entry| bounds(&entry.record.kind)));
    found.transpose().map(|found| found.map(|entry| entry.sequence))
}

fn touches(range: &Range<Micros>, entry: &TimelineEntry) -> bool {
    let (at, end) = (entry.captured_at, entry.captured_at.saturating_add(u64::from(entry.record.duration_us)));
    at < range.end && (at >= range.start || end > range.start)
}
