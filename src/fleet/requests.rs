//! Ranges that the control centre asked recorders for: taken once, told after each `Hello` until they end.
//!
//! A request is durable before anybody is told of it, and so is its end. The open ones are in memory, at most [`REQUESTS_MAX`] for
//! each recorder; those that ended ninety days ago are forgotten, and what is left of them is in the audit trail. Progress is what the recorder says; it is written down now and then and may be lost with the process, since the
//! recorder says it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use aigaq_proto::frame::Control;
use aigaq_proto::limits::{REQUESTS_MAX, TIME_US_MAX};
use aigaq_proto::message::{Cancel, Progress, Request};
use aigaq_proto::{Digest, Micros, RecorderId};

use super::{Fleet, lock};
use crate::error::Result;
use crate::store::Store;
use crate::store::records::{ProgressRecord, RequestRecord, RequestState};

/// For how long an idempotency key is remembered, microseconds: a day.
const KEYS_KEPT_US: Micros = 86_400_000_000;
/// Idempotency keys remembered at most; the oldest are forgotten first.
const KEYS_MAX: usize = 100_000;
/// How far the measured offset of a clock may move before a request is sent again with new times, microseconds.
const OFFSET_MOVED_US: u64 = 1_000_000;
/// How long after the end of a range its last links may still be on their way, microseconds.
const SETTLE_US: Micros = 5_000_000;
/// How often the progress of an open request is written down, microseconds.
const PROGRESS_EVERY_US: Micros = 10_000_000;

/// For how long a request that has ended is kept, microseconds: ninety days.
const ENDED_KEPT_US: Micros = 90 * 86_400_000_000;
/// How often it is looked for those that were kept long enough, microseconds: an hour.
const FORGET_EVERY_US: Micros = 3_600_000_000;
/// Most of them that are forgotten at once; the rest comes an hour later.
const FORGOTTEN_MAX: usize = 10_000;

/// What is asked for. Times by the server's clock.
#[derive(Debug, Clone)]
pub struct Order {
    /// Of whom.
    pub recorder: RecorderId,
    /// Beginning of the range.
    pub from: Micros,
    /// End, exclusive.
    pub to: Micros,
    /// When it is no longer wanted.
    pub expires_at: Micros,
    /// Why.
    pub reason: String,
    /// Digest of the idempotency key, and of what came with it.
    pub key: Option<(Digest, Digest)>,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// It is taken.
    New(RequestRecord),
    /// It was taken before, under the same idempotency key.
    Again(RequestRecord),
    /// The idempotency key came with another order before.
    OtherOrder,
    /// The recorder has as many open requests as it follows.
    TooMany,
}

/// The open requests.
pub(super) struct Requests {
    open: Mutex<Open>,
    /// Held while a change is decided and written. Taken before `open`.
    writing: Mutex<()>,
    /// When it was last looked for those that were kept long enough.
    forgot_at: Mutex<Micros>,
}

#[derive(Default)]
struct Open {
    by_recorder: HashMap<RecorderId, BTreeMap<u64, Entry>>,
    keys: HashMap<Digest, Key>,
    last_id: u64,
}

struct Entry {
    record: RequestRecord,
    dirty: bool,
    written_at: Micros,
}

#[derive(Clone, Copy)]
struct Key {
    order: Digest,
    created_at: Micros,
    recorder: RecorderId,
    id: u64,
}

impl Open {
    fn remember(&mut self, record: &RequestRecord) {
        if let Some((key, order)) = record.key {
            let (created_at, recorder, id) = (record.created_at, record.recorder, record.id);
            self.keys.insert(key, Key { order, created_at, recorder, id });
        }
    }

    fn forget_keys(&mut self, now: Micros) {
        self.keys.retain(|_, key| key.created_at.saturating_add(KEYS_KEPT_US) > now);
        if self.keys.len() > KEYS_MAX {
            let mut times: Vec<Micros> = self.keys.values().map(|key| key.created_at).collect();
            times.sort_unstable();
            let surplus = times.len() - KEYS_MAX;
            let oldest = times.get(surplus).copied().unwrap_or_default();
            self.keys.retain(|_, key| key.created_at >= oldest);
        }
    }

    fn put(&mut self, record: RequestRecord, now: Micros) {
        let all = self.by_recorder.entry(record.recorder).or_default();
        all.insert(record.id, Entry { record, dirty: false, written_at: now });
    }

    fn remove(&mut self, recorder: RecorderId, id: u64) {
        if let Some(all) = self.by_recorder.get_mut(&recorder) {
            all.remove(&id);
            if all.is_empty() {
                self.by_recorder.remove(&recorder);
            }
        }
    }

    fn get(&self, recorder: RecorderId, id: u64) -> Option<&RequestRecord> {
        self.by_recorder.get(&recorder)?.get(&id).map(|entry| &entry.record)
    }
}

/// Whether a request has come to its end by itself.
fn end_of(record: &RequestRecord, now: Micros) -> Option<RequestState> {
    let settled = |progress: ProgressRecord| {
        progress.links_left == 0 && (progress.at >= record.to || now >= record.to.saturating_add(SETTLE_US))
    };
    if record.progress.is_some_and(settled) {
        return Some(RequestState::Done(now));
    }
    (record.expires_at <= now).then_some(RequestState::Expired(now))
}

impl Requests {
    /// The open ones of the store.
    pub(super) fn load(store: &Store, now: Micros) -> Result<Self> {
        let mut open = Open::default();
        for record in store.requests(None, None) {
            let record = record?;
            open.last_id = open.last_id.max(record.id);
            open.remember(&record);
            if record.state == RequestState::Open {
                open.put(record, now);
            }
        }
        open.forget_keys(now);
        Ok(Self { open: Mutex::new(open), writing: Mutex::default(), forgot_at: Mutex::default() })
    }

    fn order(&self, store: &Store, order: Order, now: Micros) -> Result<Ordered> {
        let _writing = lock(&self.writing);
        let known = order.key.and_then(|(key, _)| lock(&self.open).keys.get(&key).copied());
        let known = known.filter(|key| key.created_at.saturating_add(KEYS_KEPT_US) > now);
        if let (Some(known), Some((_, wanted))) = (known, order.key) {
            if known.order != wanted {
                return Ok(Ordered::OtherOrder);
            }
            if let Some(record) = self.get(store, known.recorder, known.id)? {
                return Ok(Ordered::Again(record));
            }
        }
        let id = {
            let open = lock(&self.open);
            if open.by_recorder.get(&order.recorder).is_some_and(|all| all.len() >= REQUESTS_MAX) {
                return Ok(Ordered::TooMany);
            }
            now.max(open.last_id.saturating_add(1))
        };
        let Order { recorder, from, to, expires_at, reason, key } = order;
        let state = RequestState::Open;
        let record = RequestRecord {
            recorder,
            id,
            from,
            to,
            expires_at,
            created_at: now,
            reason,
            key,
            state,
            sent_at: None,
            progress: None,
        };
        store.put_requests(std::slice::from_ref(&record))?;
        let mut open = lock(&self.open);
        open.last_id = id;
        open.remember(&record);
        open.put(record.clone(), now);
        Ok(Ordered::New(record))
    }

    fn get(&self, store: &Store, recorder: RecorderId, id: u64) -> Result<Option<RequestRecord>> {
        let open = lock(&self.open).get(recorder, id).cloned();
        if open.is_some() { Ok(open) } else { store.request(recorder, id) }
    }

    fn cancel(&self, store: &Store, recorder: RecorderId, id: u64, now: Micros) -> Result<Option<RequestRecord>> {
        let _writing = lock(&self.writing);
        let open = lock(&self.open).get(recorder, id).cloned();
        let Some(mut record) = open else { return store.request(recorder, id) };
        record.state = RequestState::Cancelled(now);
        store.put_requests(std::slice::from_ref(&record))?;
        lock(&self.open).remove(recorder, id);
        Ok(Some(record))
    }

    /// What a recorder that was told of `told` is to be told now.
    pub(super) fn tell(
        &self,
        recorder: RecorderId,
        told: &mut BTreeMap<u64, i64>,
        offset_us: i64,
        now: Micros,
    ) -> Vec<Control> {
        let mut open = lock(&self.open);
        let mut messages = Vec::new();
        let none = BTreeMap::new();
        let wanted = open.by_recorder.get(&recorder).unwrap_or(&none);
        told.retain(|id, _| {
            let stays = wanted.contains_key(id);
            if !stays {
                messages.push(Control::Cancel(Cancel { id: *id }));
            }
            stays
        });
        let Some(wanted) = open.by_recorder.get_mut(&recorder) else { return messages };
        for (id, entry) in wanted {
            let known = told.get(id).is_some_and(|before| before.abs_diff(offset_us) <= OFFSET_MOVED_US);
            if known {
                continue;
            }
            told.insert(*id, offset_us);
            if entry.record.sent_at.is_none() {
                entry.record.sent_at = Some(now);
                entry.dirty = true;
            }
            let theirs = |at: Micros| at.saturating_add_signed(offset_us).min(TIME_US_MAX);
            let RequestRecord { from, to, expires_at, .. } = entry.record;
            messages.push(Control::Request(Request {
                id: *id,
                from: theirs(from),
                to: theirs(to),
                expires: theirs(expires_at),
            }));
        }
        messages
    }

    pub(super) fn progress(&self, recorder: RecorderId, progress: &Progress, now: Micros) {
        let mut open = lock(&self.open);
        let entry = open.by_recorder.get_mut(&recorder).and_then(|all| all.get_mut(&progress.id));
        let Some(entry) = entry else { return };
        let Progress { links, links_left, bytes, bytes_left, .. } = *progress;
        entry.record.progress = Some(ProgressRecord { at: now, links, links_left, bytes, bytes_left });
        entry.dirty = true;
    }

    /// Forgets requests that were kept long enough, now and then. Blocks.
    pub(super) fn forget(&self, store: &Store, now: Micros) -> Result<()> {
        {
            let mut last = lock(&self.forgot_at);
            if now.abs_diff(*last) < FORGET_EVERY_US {
                return Ok(());
            }
            *last = now;
        }
        // The newest stays: numbers go on from it.
        let newest = lock(&self.open).last_id;
        let ended = |record: &RequestRecord| match record.state {
            RequestState::Open => None,
            RequestState::Done(at) | RequestState::Expired(at) | RequestState::Cancelled(at) => Some(at),
        };
        let mut over = Vec::new();
        for record in store.requests(None, None) {
            let record = record?;
            if record.id != newest && ended(&record).is_some_and(|at| now.saturating_sub(at) >= ENDED_KEPT_US) {
                over.push((record.recorder, record.id));
            }
            if over.len() == FORGOTTEN_MAX {
                break;
            }
        }
        if over.is_empty() { Ok(()) } else { store.forget_requests(&over) }
    }

    fn wants(&self, recorder: RecorderId, (begin, end): (i128, i128), now: Micros) -> bool {
        let open = lock(&self.open);
        let mut records =
            open.by_recorder.get(&recorder).into_iter().flat_map(BTreeMap::values).map(|entry| &entry.record);
        records.any(|record| record.expires_at > now && begin < i128::from(record.to) && end >= i128::from(record.from))
    }

    /// Ends what has come to its end and writes down what is due, all of it at the `last`. The recorders that have something to be
    /// told. Blocks.
    pub(super) fn sweep(&self, store: &Store, now: Micros, last: bool) -> Result<Vec<RecorderId>> {
        let _writing = lock(&self.writing);
        let mut changed = Vec::new();
        {
            let mut open = lock(&self.open);
            for entry in open.by_recorder.values_mut().flat_map(BTreeMap::values_mut) {
                let end = end_of(&entry.record, now);
                let old = now.saturating_sub(entry.written_at) >= PROGRESS_EVERY_US;
                if end.is_some() || (entry.dirty && (old || last)) {
                    (entry.dirty, entry.written_at) = (false, now);
                    changed.push(RequestRecord { state: end.unwrap_or(RequestState::Open), ..entry.record.clone() });
                }
            }
            if last || !changed.is_empty() || open.keys.len() > KEYS_MAX {
                open.forget_keys(now);
            }
        }
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        store.put_requests(&changed)?;
        let mut open = lock(&self.open);
        let mut ended = Vec::new();
        for record in changed.iter().filter(|record| record.state != RequestState::Open) {
            open.remove(record.recorder, record.id);
            ended.push(record.recorder);
        }
        ended.dedup();
        Ok(ended)
    }
}

impl Fleet {
    /// Takes an order, durably, and has the recorder told if it is connected. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn order(&self, order: Order) -> Result<Ordered> {
        let recorder = order.recorder;
        let ordered = self.shared.requests.order(&self.shared.store, order, self.shared.clock.now())?;
        if matches!(ordered, Ordered::New(_)) {
            self.wake(recorder);
        }
        Ok(ordered)
    }

    /// Ends a request that nobody wants any more; one that has ended stays as it is. `None` if there is no such request. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn cancel(&self, recorder: RecorderId, id: u64) -> Result<Option<RequestRecord>> {
        let record = self.shared.requests.cancel(&self.shared.store, recorder, id, self.shared.clock.now())?;
        self.wake(recorder);
        Ok(record)
    }

    /// A request as it stands now. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn request(&self, recorder: RecorderId, id: u64) -> Result<Option<RequestRecord>> {
        self.shared.requests.get(&self.shared.store, recorder, id)
    }

    /// What is known now of a request that was read from the store.
    #[must_use]
    pub fn refreshed(&self, record: RequestRecord) -> RequestRecord {
        let open = lock(&self.shared.requests.open).get(record.recorder, record.id).cloned();
        open.unwrap_or(record)
    }

    /// Whether an open request of a recorder's footage meets this span, its beginning and end by the server's clock, microseconds.
    #[must_use]
    pub fn wants(&self, recorder: RecorderId, span: (i128, i128)) -> bool {
        self.shared.requests.wants(recorder, span, self.shared.clock.now())
    }

    /// Number of open requests.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        lock(&self.shared.requests.open).by_recorder.values().map(BTreeMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_orders_that_were_cancelled_at_once_are_bounded_as_well() {
        let requests = Requests { open: Mutex::default(), writing: Mutex::default(), forgot_at: Mutex::default() };
        let (recorder, now) = (RecorderId([7; 16]), 1_768_641_240_000_000);
        for id in 0..KEYS_MAX as u64 + 500 {
            let digest = Digest::of(&id.to_be_bytes());
            let key = Key { order: digest, created_at: now + id, recorder, id };
            lock(&requests.open).keys.insert(digest, key);
        }
        requests.sweep(&Store::memory(), now + 1_000_000, false).unwrap();
        let open = lock(&requests.open);
        assert_eq!(open.keys.len(), KEYS_MAX);
        assert!(open.keys.values().all(|key| key.id >= 500), "the oldest are forgotten");
    }
}
