//! The scrub: reads all footage again, slowly and for ever, and hashes it, so that damage is found while recorders, backups or a
//! second disk may still help, and not when a court asks.
//!
//! A pass goes through the bodies by the day on which they expire; it goes on after a restart where it was. What it finds is counted,
//! kept with its place and logged; it changes nothing, since a body that is damaged is evidence too. How far back the guarantee reaches
//! is one number: everything older than `verified_since` was read since then, everything newer was hashed when it arrived.
//!
//! Small payloads, headers and signatures lie in the ledger, whose blocks have checksums; `aigaq check` goes through those.
//!
//! It never reads faster than it may, and it is never in the way of a commit: it takes no lock.

mod metrics;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aigaq_proto::Micros;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::{Context as _, Kind, Result};
use crate::store::records::{ExpiryRecord, Found, ScrubRecord};
use crate::store::{Place, Store};

pub use metrics::Metrics;

/// Footage that is read before the scrub rests, bytes; and bodies.
const SLICE_BYTES: u64 = 2 << 20;
const SLICE_BODIES: usize = 1_000;
/// A pass begins no sooner than so long after the one before.
const PASS_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often it looks whether it is time for the next pass, and how long it rests after a failure.
const REST: Duration = Duration::from_secs(10);
/// How often it is written down where a pass stands.
const NOTED_EVERY: Duration = Duration::from_secs(30);

/// The scrub of a store.
#[derive(Clone)]
pub struct Scrub {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Clock,
    metrics: Metrics,
    bytes_per_s: u64,
    state: Mutex<Option<State>>,
}

struct State {
    record: ScrubRecord,
    noted: Instant,
}

impl Scrub {
    /// Reads at most `bytes_per_s` bytes of footage a second.
    #[must_use]
    pub fn new(store: Store, clock: Clock, metrics: Metrics, bytes_per_s: u64) -> Self {
        let state = Mutex::new(None);
        Self { shared: Arc::new(Shared { store, clock, metrics, bytes_per_s: bytes_per_s.max(1), state }) }
    }

    /// Scrubs until `stop`.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when the store has failed. Whatever else fails is counted, logged and tried again.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        loop {
            let (this, begun) = (self.clone(), Instant::now());
            let slice = tokio::task::spawn_blocking(move || this.slice()).await;
            let rest = match slice.context(Kind::Internal, "the scrub died")? {
                Ok(Some(bytes)) => {
                    let due = Duration::from_secs_f64(bytes as f64 / self.shared.bytes_per_s as f64);
                    due.saturating_sub(begun.elapsed())
                }
                Ok(None) => REST,
                Err(error) if error.kind() == Kind::Fatal => return Err(error),
                Err(error) => {
                    self.shared.metrics.failures.inc();
                    tracing::error!(%error, "the scrub stands still");
                    REST
                }
            };
            if tokio::time::timeout(rest, stop.cancelled()).await.is_ok() {
                return Ok(());
            }
        }
    }

    /// Reads a slice of the pass; its bytes, or `None` when there is nothing to do yet. Blocks.
    ///
    /// # Errors
    /// Those of the store; the slice is then read again.
    pub fn slice(&self) -> Result<Option<u64>> {
        let Shared { store, clock, metrics, .. } = &*self.shared;
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock.now();
        let state = match &mut *state {
            Some(state) => state,
            none => none.insert(State { record: first(store, now)?, noted: Instant::now() }),
        };
        let record = &mut state.record;
        metrics.say(record, now);
        if record.place.is_none() {
            if now.saturating_sub(record.began) < micros(PASS_EVERY) {
                return Ok(None);
            }
            let found_before = std::mem::take(&mut record.found);
            *record = ScrubRecord { began: now, place: Some(Place::default()), found_before, ..record.clone() };
        }
        let Some(from) = record.place.clone() else { return Ok(None) };
        let mut read = 0;
        let mut bodies = store.bodies_after(&from).take(SLICE_BODIES).peekable();
        let is_last = bodies.peek().is_none();
        for entry in bodies {
            let (place, entry) = entry?;
            let is_whole = match entry {
                Ok(entry) => {
                    if let ExpiryRecord::Kept { bytes, .. } = entry.record {
                        read += u64::from(bytes);
                    }
                    store.is_whole(&entry)?
                }
                Err(_) => false,
            };
            if !is_whole {
                tracing::error!("stored footage is damaged; GET /v1/scrub says whose");
                record.found.add(place.clone());
            }
            record.place = Some(place);
            if read >= SLICE_BYTES {
                break;
            }
        }
        metrics.read_bytes.inc_by(read);
        if is_last {
            record.verified_since = record.began;
            record.place = None;
        }
        if is_last || state.noted.elapsed() >= NOTED_EVERY {
            state.noted = Instant::now();
            store.put_scrub(record)?;
        }
        metrics.say(record, now);
        Ok(Some(read))
    }
}

/// Where the scrub stands at a start. The first pass of a store begins at once: what is in it was hashed on arrival.
fn first(store: &Store, now: Micros) -> Result<ScrubRecord> {
    let fresh = || ScrubRecord {
        verified_since: now,
        began: now,
        place: Some(Place::default()),
        found: Found::default(),
        found_before: Found::default(),
    };
    Ok(store.scrub()?.unwrap_or_else(fresh))
}

fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
