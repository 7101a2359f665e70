//! Recorders in the field, as the server knows them: who is connected, what each announced last, what was asked of it, and who
//! has it.
//!
//! [`ingest`](crate::ingest) reports here what recorders say and asks what they are to be told; [`lookup`](crate::lookup) asks and
//! orders. Neither sees the other. Nothing is queued for a recorder: what it is told follows each time anew from what is open, so
//! that a request comes through any number of reconnects and restarts.
//!
//! Promises: a sequence that a recorder says it has used stays reserved for ever; a request that was taken is durable; a recorder
//! has at each moment one assignee or nobody, and every version of that answer is kept. What a recorder says of itself is
//! shown and never counts as proof: that a link is durable the store knows alone.

mod assignments;
mod forgotten;
mod live;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aigaq_proto::message::SpoolSummary;
use aigaq_proto::{Micros, RecorderId, Sequence};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::{Context as _, Kind, Result};
use crate::store::records::{AnnouncementRecord, ClockOffset, Occurrence};
use crate::store::{Happening, Store};

pub use assignments::{Assigned, Assignment};
pub use forgotten::Shown;
pub use live::{Live, Seat};
use requests::Requests;
pub use requests::{Order, Ordered};

/// How often what has changed is looked through in a server.
pub const TICK: Duration = Duration::from_secs(1);
/// Announcements that share one sync at most.
const WRITTEN_AT_ONCE: usize = 1_000;
/// Comings and goings that wait for a tick at most; more are not told of.
const GOINGS_MAX: usize = 65_536;

/// What is known of recorders in the field. Cheap to clone; every clone is the same. What blocks says so.
#[derive(Clone)]
pub struct Fleet {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Clock,
    /// The connected recorders, and those that left with something unwritten.
    live: Mutex<HashMap<RecorderId, Arc<Live>>>,
    requests: Requests,
    goings: Goings,
    /// Held while an assignment is decided and written: overlaps are found by reading.
    assigning: Mutex<()>,
}

/// Who came and went and is not in the feed yet, in order.
#[derive(Default)]
struct Goings(Mutex<Vec<Happening>>);

impl Goings {
    /// Called with the recorder's state locked, so that its coming and going have their order.
    fn note(&self, now: Micros, recorder: RecorderId, what: Occurrence) {
        let mut goings = lock(&self.0);
        if goings.len() < GOINGS_MAX {
            goings.push((now, Some(recorder), what));
        }
    }

    fn take(&self) -> Vec<Happening> {
        std::mem::take(&mut *lock(&self.0))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Reads the open requests. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn open(store: Store, clock: Clock) -> Result<Self> {
        let requests = Requests::load(&store, clock.now())?;
        let shared = Shared {
            store,
            clock,
            live: Mutex::default(),
            requests,
            goings: Goings::default(),
            assigning: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A recorder has said hello. `newest` is the greatest sequence of its chain that is durable. When this returns, the sequences that
    /// it announced are reserved for ever. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn enter(
        &self,
        recorder: RecorderId,
        newest: Option<Sequence>,
        spool: &SpoolSummary,
        clock: Option<ClockOffset>,
    ) -> Result<Seat> {
        let seat = Seat::take(self.clone(), self.live(recorder)?);
        if seat.live().arrive(newest, spool, clock, self.shared.clock.now()) {
            seat.live().write(&self.shared.store, self.shared.clock.now())?;
        }
        Ok(seat)
    }

    /// What a recorder announced last, as of now. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn announcement(&self, recorder: RecorderId) -> Result<Option<AnnouncementRecord>> {
        let live = lock(&self.shared.live).get(&recorder).cloned();
        match live {
            Some(live) => Ok(Some(live.record())),
            None => self.shared.store.announcement(recorder),
        }
    }

    /// Whether a session of this recorder is open.
    #[must_use]
    pub fn is_connected(&self, recorder: RecorderId) -> bool {
        lock(&self.shared.live).get(&recorder).is_some_and(|live| live.sessions() > 0)
    }

    /// Writes down what has changed, and ends what has expired, until `shutdown`.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when the store can keep nothing any more.
    pub async fn run(self, tick: Duration, shutdown: CancellationToken) -> Result<()> {
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                biased;
                () = shutdown.cancelled() => true,
                _ = ticks.tick() => false,
            };
            let fleet = self.clone();
            let done = tokio::task::spawn_blocking(move || fleet.tick(last)).await;
            match done.context(Kind::Internal, "the fleet could not be written down")? {
                Err(error) if error.kind() == Kind::Fatal => return Err(error),
                Err(error) => tracing::warn!(%error, "what recorders said is not written down yet"),
                Ok(()) => {}
            }
            if last {
                return Ok(());
            }
        }
    }

    /// One look through everything: requests that ended, announcements that are due (all of them at the `last`).
    fn tick(&self, last: bool) -> Result<()> {
        for recorder in self.shared.requests.sweep(&self.shared.store, self.shared.clock.now(), last)? {
            self.wake(recorder);
        }
        self.shared.store.happen(&self.shared.goings.take())?;
        let now = self.shared.clock.now();
        self.shared.requests.forget(&self.shared.store, now)?;
        let due: Vec<Arc<Live>> =
            lock(&self.shared.live).values().filter(|live| live.is_due(now, last)).cloned().collect();
        for part in due.chunks(WRITTEN_AT_ONCE) {
            Live::write_all(part, &self.shared.store, now)?;
        }
        lock(&self.shared.live).retain(|_, live| !live.is_over());
        Ok(())
    }

    /// Has the sessions of a recorder look for what to tell it.
    fn wake(&self, recorder: RecorderId) {
        if let Some(live) = lock(&self.shared.live).get(&recorder) {
            live.wake();
        }
    }

    /// The entry of a recorder, with one more session counted in it.
    fn live(&self, recorder: RecorderId) -> Result<Arc<Live>> {
        let counted = |live: &Arc<Live>| {
            live.count_session(&self.shared.goings, self.shared.clock.now());
            Arc::clone(live)
        };
        if let Some(live) = lock(&self.shared.live).get(&recorder) {
            return Ok(counted(live));
        }
        let stored = self.shared.store.announcement(recorder)?.unwrap_or_default();
        let mut all = lock(&self.shared.live);
        Ok(counted(all.entry(recorder).or_insert_with(|| Arc::new(Live::new(recorder, stored)))))
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("live", &lock(&self.shared.live).len()).finish_non_exhaustive()
    }
}
