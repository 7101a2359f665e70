//! Taking segments out of the index whose footage is over.
//!
//! What a day's entries in the family `expiry` name leaves the index while those entries are still there: a crash on the way leaves some
//! of it done, and the next time does all of it again, to the same end.

use std::collections::{BTreeMap, BTreeSet};

use aigaq_proto::{LinkHeader, RecorderId, Sequence};

use super::{PAUSE_US, PresenceKey, presence_of, run, slot_of, slot_start};
use crate::error::{Context as _, Kind, Result};
use crate::store::engine::{Batch, Direction, Family};
use crate::store::records::{self, ExpiryRecord, Owner, PresenceRecord, RunsRecord, TimelineKind};
use crate::store::{Store, keys};

/// Segments that are taken out with one sync at most: it bounds for how long the writer waits.
const SEGMENTS_MAX: usize = 512;

impl Store {
    /// Takes every segment out of the index whose footage expires before `day` (exclusive).
    pub(crate) fn unindex_before(&self, day: u32) -> Result<()> {
        let range = keys::day(0).to_vec()..keys::day(day).to_vec();
        let mut gone = Vec::new();
        for entry in self.scan(Family::Expiry, range, Direction::Forward) {
            let (key, value) = entry?;
            let (_, recorder, owner) = keys::read_expiry(&key)?;
            let kept = matches!(records::decode(&value, "expiry")?, ExpiryRecord::Kept { .. });
            let Owner::Link(sequence) = owner else { continue };
            if !kept {
                continue;
            }
            gone.push((recorder, sequence));
            if gone.len() >= SEGMENTS_MAX {
                self.unindex(&std::mem::take(&mut gone))?;
            }
        }
        self.unindex(&gone)
    }

    fn unindex(&self, gone: &[(RecorderId, Sequence)]) -> Result<()> {
        let _writing = self.writing();
        let mut slots = BTreeSet::new();
        let mut places: BTreeMap<PresenceKey, BTreeSet<u16>> = BTreeMap::new();
        for (recorder, sequence) in gone {
            let Some(link) = self.link(*recorder, *sequence)? else { continue };
            let header = LinkHeader::decode(&link.header).context(Kind::Damaged, "a stored header does not decode")?;
            slots.insert((*recorder, slot_of(header.captured_at)));
            for (place, record) in presence_of(&header) {
                places.entry(place).or_default().insert(record.sequence);
            }
        }
        let (mut batch, mut runs, mut slotted, mut presence) = (Batch::default(), Vec::new(), Vec::new(), Vec::new());
        for (recorder, slot) in slots {
            let left = self.runs_left(recorder, slot)?;
            if left.runs.is_empty() {
                runs.push(keys::runs(recorder, slot).to_vec());
                slotted.push(keys::slot(slot, recorder).to_vec());
            } else {
                batch.put(Family::Runs, keys::runs(recorder, slot), records::encode(&left)?);
            }
        }
        for ((cell, slot, recorder, block), sequences) in places {
            let key = keys::presence(cell, slot, recorder, block);
            let Some(value) = self.engine().get(Family::Presence, &key)? else { continue };
            let mut left = Vec::new();
            for record in records::decode_each::<PresenceRecord>(&value, "presence")? {
                if !sequences.contains(&record.sequence) {
                    left.extend(records::encode(&record)?);
                }
            }
            if left.is_empty() {
                presence.push(key.to_vec());
            } else {
                batch.put(Family::Presence, key, left);
            }
        }
        if !batch.puts.is_empty() {
            self.engine().commit(&[], &batch)?;
        }
        for (family, keys) in [(Family::Presence, presence), (Family::Slots, slotted), (Family::Runs, runs)] {
            if !keys.is_empty() {
                self.engine().forget(family, &keys)?;
            }
        }
        Ok(())
    }

    /// The runs of a recorder in ten minutes without what is gone.
    pub(crate) fn runs_left(&self, recorder: RecorderId, slot: u32) -> Result<RunsRecord> {
        let (from, to, floor) = (slot_start(slot), slot_start(slot.saturating_add(1)), self.dropped_floor());
        let mut left = RunsRecord::default();
        for entry in self.timeline(recorder, from..to, Direction::Forward) {
            let entry = entry?;
            let TimelineKind::Media { bytes, .. } = entry.record.kind else { continue };
            let link = self.link(recorder, entry.sequence)?;
            if link.and_then(|link| link.body.place()).is_some_and(|place| place.day >= floor) {
                left.add(run(entry.captured_at, entry.record.duration_us, entry.sequence, bytes), PAUSE_US);
            }
        }
        Ok(left)
    }
}
