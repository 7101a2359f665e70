//! One connected recorder: what it announced, which sequences it has used, and what its sessions have told it.
//!
//! What changes is written at most every [`WRITE_EVERY_US`] for each recorder, with one exception: sequences that a `Hello`
//! announces for the first time are reserved before it is answered. A recorder that lost its state asks in its next `Hello`, and must
//! never be told a sequence again that it has used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use aigaq_proto::frame::Control;
use aigaq_proto::limits::{RANGES_MAX, SEQUENCE_AHEAD_MAX, SEQUENCE_MAX};
use aigaq_proto::message::{Progress, SpoolSummary};
use aigaq_proto::{Micros, RecorderId, Sequence, SequenceRange};
use tokio::sync::watch;

use super::forgotten::joined;
use super::{Fleet, Goings, lock};
use crate::error::Result;
use crate::store::Store;
use crate::store::records::{AnnouncementRecord, ClockOffset, Occurrence};

/// Least time between two writes of one recorder's announcements, microseconds.
const WRITE_EVERY_US: Micros = 30_000_000;

/// What is known of one recorder while it is connected.
pub struct Live {
    recorder: RecorderId,
    state: Mutex<State>,
    /// Held while the state is on its way to the store, so that an older one never comes after a newer one.
    writing: Mutex<()>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    record: AnnouncementRecord,
    /// The greatest durable sequence, as far as this entry was told.
    stored: Option<Sequence>,
    sessions: u32,
    dirty: bool,
    written_at: Micros,
    /// What the store has for `reserved`.
    written_reserved: Option<Sequence>,
}

impl State {
    /// Counts a sequence as used. One that is further ahead than a chain takes is not believed: it would leave no place for the link
    /// after it.
    fn reserve(&mut self, sequence: Sequence) {
        let most = self.stored.unwrap_or(0).saturating_add(SEQUENCE_AHEAD_MAX - 1).min(SEQUENCE_MAX);
        self.record.reserved = self.record.reserved.max(Some(sequence.min(most)));
    }

    fn announce(&mut self, spool: &SpoolSummary, clock: Option<ClockOffset>, now: Micros) {
        let before = &self.record;
        let same = before.at > 0
            && (&before.waiting, before.bytes, before.oldest, before.newest)
                == (&spool.waiting, spool.bytes, spool.oldest, spool.newest);
        self.dirty |= !same;
        self.record.at = now;
        self.record.clock = clock.or(self.record.clock);
        self.record.waiting.clone_from(&spool.waiting);
        (self.record.bytes, self.record.oldest, self.record.newest) = (spool.bytes, spool.oldest, spool.newest);
        let last = spool.waiting.last().map(|range| range.last);
        // A list at its limit is cut short: what comes after it may wait as well.
        let is_whole = spool.waiting.len() < RANGES_MAX;
        self.record.up_to = last.max(self.stored.filter(|_| is_whole));
        if let Some(last) = last {
            self.reserve(last);
        }
    }

    /// What goes to the store now.
    fn take(&mut self, now: Micros) -> AnnouncementRecord {
        (self.dirty, self.written_at, self.written_reserved) = (false, now, self.record.reserved);
        self.record.clone()
    }
}

impl Live {
    pub(super) fn new(recorder: RecorderId, record: AnnouncementRecord) -> Self {
        let state = State { written_reserved: record.reserved, record, ..State::default() };
        Self { recorder, state: Mutex::new(state), writing: Mutex::default(), changed: watch::Sender::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Takes a `Hello`; whether it must be written before it is answered.
    pub(super) fn arrive(
        &self,
        newest: Option<Sequence>,
        spool: &SpoolSummary,
        clock: Option<ClockOffset>,
        now: Micros,
    ) -> bool {
        let mut state = self.state();
        state.stored = state.stored.max(newest);
        state.announce(spool, clock, now);
        state.record.reserved > state.written_reserved.max(state.stored)
    }

    /// The recorder says what it holds now.
    pub fn announce(&self, spool: &SpoolSummary, clock: Option<ClockOffset>, now: Micros) {
        self.state().announce(spool, clock, now);
    }

    /// The recorder sends a link with this sequence, whatever becomes of it.
    pub fn offered(&self, sequence: Sequence) {
        self.state().reserve(sequence);
    }

    /// The link with this sequence is durable.
    pub fn stored(&self, sequence: Sequence) {
        let mut state = self.state();
        state.stored = state.stored.max(Some(sequence));
    }

    /// The link with this sequence was refused and is not to come again.
    pub fn refused(&self, sequence: Sequence) {
        let mut state = self.state();
        let known = &mut state.record.refused;
        let changed = insert(known, sequence);
        let surplus = known.len().saturating_sub(RANGES_MAX);
        known.drain(..surplus);
        state.dirty |= changed;
    }

    /// A receipt with this place in the log that gave it shows that these are lost here; whether it is the first that does.
    pub(super) fn forget(&self, gone: &[SequenceRange], log_index: u64) -> bool {
        let mut state = self.state();
        if state.record.forgotten_by == Some(log_index) {
            return false;
        }
        let known = std::mem::take(&mut state.record.forgotten);
        state.record.forgotten = joined(known.into_iter().chain(gone.iter().copied()).collect());
        state.record.forgotten_by = Some(log_index);
        state.dirty = true;
        true
    }

    /// These are lost too.
    pub(super) fn forget_more(&self, gone: &[SequenceRange]) {
        let mut state = self.state();
        let known = std::mem::take(&mut state.record.forgotten);
        state.record.forgotten = joined(known.into_iter().chain(gone.iter().copied()).collect());
        state.dirty = true;
    }

    pub(super) fn recorder(&self) -> RecorderId {
        self.recorder
    }

    /// The greatest sequence that the recorder has used, as far as it is known.
    #[must_use]
    pub fn reserved(&self) -> Option<Sequence> {
        let state = self.state();
        state.record.reserved.max(state.stored)
    }

    pub(super) fn record(&self) -> AnnouncementRecord {
        let state = self.state();
        AnnouncementRecord { reserved: state.record.reserved.max(state.stored), ..state.record.clone() }
    }

    pub(super) fn sessions(&self) -> u32 {
        self.state().sessions
    }

    /// One more session; `goings` is told of the first.
    pub(super) fn count_session(&self, goings: &Goings, now: Micros) {
        let mut state = self.state();
        state.sessions = state.sessions.saturating_add(1);
        if state.sessions == 1 {
            goings.note(now, self.recorder, Occurrence::Connected);
        }
    }

    /// One session less; `goings` is told of the last.
    fn leave(&self, goings: &Goings, now: Micros) {
        let mut state = self.state();
        state.sessions = state.sessions.saturating_sub(1);
        if state.sessions == 0 {
            goings.note(now, self.recorder, Occurrence::Disconnected);
        }
        // Sequences that were sent and came to nothing.
        state.dirty |= state.record.reserved > state.written_reserved.max(state.stored);
    }

    pub(super) fn is_due(&self, now: Micros, last: bool) -> bool {
        let state = self.state();
        let old = now.saturating_sub(state.written_at) >= WRITE_EVERY_US || now < state.written_at;
        state.dirty && (old || last || state.sessions == 0)
    }

    /// Whether nobody needs the entry any more.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        state.sessions == 0 && !state.dirty
    }

    /// Makes what is known durable.
    pub(super) fn write(&self, store: &Store, now: Micros) -> Result<()> {
        let _writing = lock(&self.writing);
        let record = self.state().take(now);
        store.announce(&[(self.recorder, record)]).inspect_err(|_| self.state().dirty = true)
    }

    /// The same for many with one sync; one that is being written by another thread waits for the next time.
    pub(super) fn write_all(many: &[std::sync::Arc<Self>], store: &Store, now: Micros) -> Result<()> {
        let writing: Vec<(&Self, MutexGuard<'_, ()>)> = many
            .iter()
            .filter_map(|live| match live.writing.try_lock() {
                Ok(guard) => Some((&**live, guard)),
                Err(TryLockError::Poisoned(poisoned)) => Some((&**live, poisoned.into_inner())),
                Err(TryLockError::WouldBlock) => None,
            })
            .collect();
        let records: Vec<_> = writing.iter().map(|(live, _)| (live.recorder, live.state().take(now))).collect();
        if records.is_empty() {
            return Ok(());
        }
        store.announce(&records).inspect_err(|_| writing.iter().for_each(|(live, _)| live.state().dirty = true))
    }

    pub(super) fn wake(&self) {
        self.changed.send_replace(());
    }
}

/// Adds a sequence to rising ranges; whether it was not in them.
fn insert(ranges: &mut Vec<SequenceRange>, sequence: Sequence) -> bool {
    let at = ranges.partition_point(|range| range.last < sequence);
    if ranges.get(at).is_some_and(|range| range.first <= sequence) {
        return false;
    }
    let joins_before =
        at.checked_sub(1).and_then(|before| ranges.get(before)).is_some_and(|range| range.last + 1 == sequence);
    let joins_after = ranges.get(at).is_some_and(|range| range.first == sequence + 1);
    let first = if joins_before { ranges.get(at - 1).map_or(sequence, |range| range.first) } else { sequence };
    let last = if joins_after { ranges.get(at).map_or(sequence, |range| range.last) } else { sequence };
    let replaced = at - usize::from(joins_before)..at + usize::from(joins_after);
    ranges.splice(replaced, [SequenceRange { first, last }]);
    true
}

/// A session's place in the fleet, given back when it is dropped, and what the session has told its recorder.
pub struct Seat {
    fleet: Fleet,
    live: Arc<Live>,
    changed: watch::Receiver<()>,
    /// The requests that the recorder was told of, each with the offset of its clock then, microseconds.
    told: BTreeMap<u64, i64>,
}

impl Seat {
    /// Over an entry in which the session is counted.
    pub(super) fn take(fleet: Fleet, live: Arc<Live>) -> Self {
        let mut changed = live.changed.subscribe();
        changed.mark_changed();
        Self { fleet, live, changed, told: BTreeMap::new() }
    }

    /// The recorder's entry.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Waits until there may be something to tell the recorder; at once the first time. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What the recorder is to be told now: what is asked of it and it does not know, and what is no longer wanted. Times are turned into
    /// those of its clock.
    #[must_use]
    pub fn due(&mut self, clock: Option<ClockOffset>) -> Vec<Control> {
        let shared = &self.fleet.shared;
        shared.requests.tell(
            self.live.recorder,
            &mut self.told,
            clock.map_or(0, |clock| clock.offset_us),
            shared.clock.now(),
        )
    }

    /// The recorder says how far it is.
    pub fn progress(&self, progress: &Progress) {
        let shared = &self.fleet.shared;
        shared.requests.progress(self.live.recorder, progress, shared.clock.now());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let shared = &self.fleet.shared;
        self.live.leave(&shared.goings, shared.clock.now());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_exactly_what_was_put_in(sequences in prop::collection::vec(0_u64..40, 0..60)) {
            let mut ranges = Vec::new();
            let mut model = std::collections::BTreeSet::new();
            for sequence in sequences {
                prop_assert_eq!(insert(&mut ranges, sequence), model.insert(sequence));
            }
            prop_assert!(ranges.windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
            let held: Vec<u64> = ranges.iter().flat_map(|range| range.first..=range.last).collect();
            prop_assert_eq!(held, model.into_iter().collect::<Vec<_>>());
        }
    }
}
