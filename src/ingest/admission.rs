//! What may come in at once: room in memory, weighed in bytes, and the sessions that live.
//!
//! Room for a whole link is taken before its payload is read. While there is none nothing is read, and QUIC's flow control
//! carries the pressure back to the recorder. Links of one recorder never hold more than one largest link of what is present and
//! one of its backlog. Small links (marks, stops, health) have room of their own, so that footage cannot hold up an alarm, and so has
//! backlog, so that it cannot hold up what is present.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aigaq_proto::close::Code;
use aigaq_proto::{Micros, RecorderId};
use prometheus::IntGauge;
use quinn::VarInt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::identity::REVOKED;
use super::order::Class;
use super::{Settings, close};

/// What a link takes beside its payload: header, signature, task.
const LINK_OVERHEAD_BYTES: u32 = 4 * 1024;
/// Links with payloads up to this are small.
const SMALL_PAYLOAD_BYTES_MAX: u32 = 16 * 1024;
/// The part of the memory that only small links may take.
const SMALL_PART: usize = 16;
/// The part of what is left that only backlog may take.
const BACKLOG_PART: usize = 4;
/// Backlog links of one connection that are under way or wait for room or a hand; more wait for these.
const BACKLOG_LINKS_MAX: usize = 4;
/// With less than this part free, slow streams are no longer waited for.
const SHORT_PART: usize = 4;

/// The room in memory for links under way.
#[derive(Debug)]
pub(super) struct Room {
    large: Pool,
    small: Pool,
    backlog: Pool,
    taken: IntGauge,
}

#[derive(Debug)]
struct Pool {
    free: Arc<Semaphore>,
    bytes: usize,
}

impl Pool {
    fn new(bytes: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(bytes)), bytes }
    }

    fn taken(&self) -> usize {
        self.bytes.saturating_sub(self.free.available_permits())
    }

    fn is_short(&self) -> bool {
        self.free.available_permits() < self.bytes / SHORT_PART
    }
}

/// The share of one connection.
#[derive(Debug)]
pub(super) struct Share {
    present: Arc<Semaphore>,
    backlog: Arc<Semaphore>,
    /// One permit for each backlog link.
    backlog_links: Arc<Semaphore>,
}

/// What one link takes of the room.
#[derive(Debug)]
pub(super) struct Place {
    /// Of the connection's share. Given back when the answer is on its way.
    _own: [Option<OwnedSemaphorePermit>; 2],
    /// Given back by the writer.
    pub(super) shared: OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn new(settings: &Settings, taken: IntGauge) -> Self {
        let largest = weight(settings.payload_bytes_max) as usize;
        let small = (settings.memory_bytes_max / SMALL_PART).max(weight(SMALL_PAYLOAD_BYTES_MAX) as usize);
        let left = settings.memory_bytes_max.saturating_sub(small);
        let backlog = (left / BACKLOG_PART).max(largest);
        let large = left.saturating_sub(backlog).max(largest);
        Self { large: Pool::new(large), small: Pool::new(small), backlog: Pool::new(backlog), taken }
    }

    /// The share of one connection.
    pub(super) fn share(settings: &Settings) -> Share {
        let largest = || Arc::new(Semaphore::new(weight(settings.payload_bytes_max) as usize));
        Share { present: largest(), backlog: largest(), backlog_links: Arc::new(Semaphore::new(BACKLOG_LINKS_MAX)) }
    }

    /// Waits for room for a payload of `bytes`, first come first served within a class. `None` only when the server is being taken
    /// apart. Cancel-safe: what was taken is given back.
    pub(super) async fn take(&self, share: &Share, class: Class, bytes: u32) -> Option<Place> {
        let weight = weight(bytes);
        let place = match class {
            Class::Present if bytes <= SMALL_PAYLOAD_BYTES_MAX => {
                Place { _own: [None, None], shared: take(&self.small.free, weight).await? }
            }
            Class::Present => {
                let own = [Some(take(&share.present, weight).await?), None];
                Place { _own: own, shared: take(&self.large.free, weight).await? }
            }
            Class::Backlog => {
                let own = [Some(take(&share.backlog_links, 1).await?), Some(take(&share.backlog, weight).await?)];
                Place { _own: own, shared: take(&self.backlog.free, weight).await? }
            }
        };
        self.measure();
        Some(place)
    }

    /// Whether so little is left for a class that its slow streams must go.
    pub(super) fn is_short(&self, class: Class) -> bool {
        match class {
            Class::Present => self.large.is_short() || self.small.is_short(),
            Class::Backlog => self.backlog.is_short(),
        }
    }

    /// Brings the gauge up to date.
    pub(super) fn measure(&self) {
        self.taken
            .set(i64::try_from(self.large.taken() + self.small.taken() + self.backlog.taken()).unwrap_or(i64::MAX));
    }
}

/// `None` only when the server is being taken apart.
async fn take(permits: &Arc<Semaphore>, count: u32) -> Option<OwnedSemaphorePermit> {
    Arc::clone(permits).acquire_many_owned(count).await.ok()
}

fn weight(payload_bytes: u32) -> u32 {
    payload_bytes.saturating_add(LINK_OVERHEAD_BYTES)
}

/// How many things may begin in a second, evenly: after a quiet second as many at once as a second allows, never more.
#[derive(Debug)]
pub(super) struct Rate {
    per_s: f64,
    /// What is left, and when that was counted.
    left: Mutex<(f64, Instant)>,
}

impl Rate {
    pub(super) fn new(per_s: u32, now: Instant) -> Self {
        let per_s = f64::from(per_s.max(1));
        Self { per_s, left: Mutex::new((per_s, now)) }
    }

    /// Whether one more may begin at `now`; it is counted then.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(left.1).as_secs_f64() * self.per_s;
        *left = ((left.0 + gained).min(self.per_s), now.max(left.1));
        let may = left.0 >= 1.0;
        if may {
            left.0 -= 1.0;
        }
        may
    }
}

/// The live sessions, by recorder.
#[derive(Debug)]
pub(super) struct Sessions {
    live: Mutex<HashMap<RecorderId, Vec<Live>>>,
    entered: AtomicU64,
    each_max: usize,
}

#[derive(Debug)]
struct Live {
    number: u64,
    not_after: Micros,
    connection: quinn::Connection,
}

/// A session's place among the live ones, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    sessions: Arc<Sessions>,
    recorder: RecorderId,
    number: u64,
}

impl Sessions {
    pub(super) fn new(each_max: usize) -> Self {
        Self { live: Mutex::default(), entered: AtomicU64::new(0), each_max: each_max.max(1) }
    }

    /// Takes a seat. When the recorder has too many, its oldest connection is closed as replaced: the newest wins.
    pub(super) fn enter(
        self: &Arc<Self>,
        recorder: RecorderId,
        not_after: Micros,
        connection: &quinn::Connection,
    ) -> Seat {
        let number = self.entered.fetch_add(1, Ordering::Relaxed);
        let mut live = self.live();
        let seats = live.entry(recorder).or_default();
        seats.push(Live { number, not_after, connection: connection.clone() });
        let surplus = seats.len().saturating_sub(self.each_max);
        let replaced: Vec<Live> = seats.drain(..surplus).collect();
        seats.shrink_to_fit();
        drop(live);
        for old in replaced {
            close(&old.connection, Code::Replaced, "the same recorder connected again");
        }
        Seat { sessions: Arc::clone(self), recorder, number }
    }

    /// Closes the sessions whose certificates have ended. A recorder that `has_newer` ones is sent to connect again, any other to enrol.
    pub(super) fn close_expired(&self, now: Micros, has_newer: impl Fn(RecorderId) -> bool) {
        for (recorder, connection) in self.pick(|_, live| live.not_after <= now) {
            if has_newer(recorder) {
                close(&connection, Code::Draining, "the certificate has ended: connect with the next one");
            } else {
                close(&connection, Code::Identity, "the certificate has expired: enrol again");
            }
        }
    }

    /// Closes the sessions of revoked recorders.
    pub(super) fn close_revoked(&self, is_revoked: impl Fn(RecorderId) -> bool) {
        for (_, connection) in self.pick(|recorder, _| is_revoked(recorder)) {
            close(&connection, Code::Identity, REVOKED);
        }
    }

    /// Closes the sessions whose certificates were revoked by an existing CA. Looks at each: takes a while.
    pub(super) fn close_listed(&self, is_listed: impl Fn(&quinn::Connection) -> bool) {
        for (_, connection) in self.pick(|_, _| true) {
            if is_listed(&connection) {
                close(&connection, Code::Identity, REVOKED);
            }
        }
    }

    fn pick(&self, which: impl Fn(RecorderId, &Live) -> bool) -> Vec<(RecorderId, quinn::Connection)> {
        let live = self.live();
        let each = live.iter().flat_map(|(recorder, seats)| seats.iter().map(move |seat| (*recorder, seat)));
        each.filter(|(recorder, seat)| which(*recorder, seat))
            .map(|(recorder, seat)| (recorder, seat.connection.clone()))
            .collect()
    }

    fn leave(&self, recorder: RecorderId, number: u64) {
        let mut live = self.live();
        if let Some(seats) = live.get_mut(&recorder) {
            seats.retain(|seat| seat.number != number);
            if seats.is_empty() {
                live.remove(&recorder);
            }
        }
    }

    fn live(&self) -> MutexGuard<'_, HashMap<RecorderId, Vec<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sessions.leave(self.recorder, self.number);
    }
}

/// How many sessions upload now through one connection; while any does, the connection's window is wide.
#[derive(Debug, Default)]
pub(super) struct Uploading(Mutex<u32>);

/// Keeps the window wide.
#[derive(Debug)]
pub(super) struct WideWindow<'a> {
    uploading: &'a Uploading,
    connection: &'a quinn::Connection,
    narrow: VarInt,
}

impl Uploading {
    /// Widens the window of `connection` from `narrow` to `wide` until the last of these is dropped.
    pub(super) fn widen<'a>(
        &'a self,
        connection: &'a quinn::Connection,
        narrow: VarInt,
        wide: VarInt,
    ) -> WideWindow<'a> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_add(1);
        if *count == 1 {
            connection.set_receive_window(wide);
        }
        WideWindow { uploading: self, connection, narrow }
    }
}

impl Drop for WideWindow<'_> {
    fn drop(&mut self) {
        let mut count = self.uploading.0.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.connection.set_receive_window(self.narrow);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_fleet_that_returns_at_once_is_let_in_at_the_rate() {
        let start = Instant::now();
        let rate = Rate::new(100, start);
        let taken = |at_ms: u64, tries: u32| {
            let now = start + Duration::from_millis(at_ms);
            (0..tries).filter(|_| rate.take(now)).count()
        };
        assert_eq!(taken(0, 5_000), 100, "what a second allows");
        assert_eq!(taken(10, 5_000), 1);
        assert_eq!(taken(500, 5_000), 49);
        assert_eq!(taken(60_000, 5_000), 100, "a quiet minute saves up no more than a second");
    }
}
