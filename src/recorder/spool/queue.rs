//! The queue: which of the links that wait goes next, and what is under way. It knows some 32 bytes of each link, and
//! neither payloads nor digests except those of the few links under way, so that a spool of 160,000 links costs little
//! memory.
//!
//! The order is that of SPEC.md section 11.2: marks and stops, what was asked for or is near a mark, live, backlog; within a
//! class by sequence.

mod places;
mod wishes;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use aigaq_proto::limits::RANGES_MAX;
use aigaq_proto::message::{Progress, Request, SpoolSummary};
use aigaq_proto::{Digest, Sequence, SequenceRange};

use super::facts::Facts;
use crate::clock::Clock;
use places::Places;

/// In which order links are sent: the greater first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::recorder) enum Class {
    /// Made a while ago.
    Backlog,
    /// Made just now.
    Live,
    /// Of a range that the server asked for, or near a mark.
    Requested,
    /// A mark or a stop.
    Urgent,
}

/// A link to send now. Its bytes come from [`Spool::load`](super::Spool::load).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::recorder) struct Ticket {
    pub(in crate::recorder) sequence: Sequence,
    pub(in crate::recorder) class: Class,
}

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::recorder) struct Held {
    pub(in crate::recorder) links: usize,
    /// Their payloads.
    pub(in crate::recorder) bytes: u64,
}

/// A link that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::recorder) struct Left {
    /// Its payload, bytes.
    pub(in crate::recorder) bytes: u32,
    /// How long after its last byte was handed to QUIC; zero if it was not in flight.
    pub(in crate::recorder) waited: Duration,
}

/// What goes next, and what is under way.
#[derive(Debug)]
pub(in crate::recorder) struct Queue {
    clock: Clock,
    inner: Mutex<Inner>,
    /// Something can be sent, or all is done.
    work: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    places: Places,
    closed: bool,
    /// Nothing more is begun on this connection.
    held_back: bool,
}

impl Queue {
    /// An empty queue on the device's clock.
    pub(in crate::recorder) fn new(clock: Clock) -> Self {
        Self { clock, inner: Mutex::default(), work: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Places) -> T) -> T {
        let changed = change(&mut self.inner().places);
        self.work.notify_one();
        changed
    }

    /// Takes links that were there when the recorder began, in any order: they are backlog.
    pub(in crate::recorder) fn found(&self, links: impl IntoIterator<Item = Facts>) {
        self.change(|places| places.found(links.into_iter()));
    }

    /// Takes a link that was just made.
    pub(in crate::recorder) fn push(&self, facts: Facts) {
        let now = self.clock.now();
        self.change(|places| places.made(facts, now));
    }

    /// No link will be pushed any more.
    pub(in crate::recorder) fn close(&self) {
        self.inner().closed = true;
        self.work.notify_one();
    }

    /// No link is begun any more on this connection.
    pub(in crate::recorder) fn hold_back_all(&self) {
        self.inner().held_back = true;
    }

    /// The next link to send, of the greatest class and of one above `above`, while fewer than `in_flight_max` are under way;
    /// it is then in flight. `None` when the queue is closed and empty. Cancel-safe.
    pub(in crate::recorder) async fn next(&self, above: Option<Class>, in_flight_max: usize) -> Option<Ticket> {
        loop {
            let work = self.work.notified();
            let until = {
                let mut inner = self.inner();
                if inner.closed && inner.places.is_empty() {
                    return None;
                }
                match inner.held_back {
                    true => None,
                    false => match inner.places.take(above, in_flight_max, Instant::now()) {
                        Ok(ticket) => return Some(ticket),
                        Err(until) => until,
                    },
                }
            };
            match until {
                Some(until) => tokio::select! {
                    () = work => {}
                    () = tokio::time::sleep_until(until) => {}
                },
                None => work.await,
            }
        }
    }

    /// The link goes on this stream and has this digest.
    pub(in crate::recorder) fn on_stream(&self, sequence: Sequence, stream: u64, digest: Digest) {
        if let Some(flight) = self.inner().places.in_flight.get_mut(&sequence) {
            flight.stream = Some((stream, digest));
        }
    }

    /// The last byte of the link was handed to its stream.
    pub(in crate::recorder) fn sent(&self, sequence: Sequence) {
        if let Some(flight) = self.inner().places.in_flight.get_mut(&sequence) {
            flight.sent_at = Some(Instant::now());
        }
    }

    /// The link that goes on this stream.
    pub(in crate::recorder) fn of_stream(&self, id: u64) -> Option<Sequence> {
        let inner = self.inner();
        let mut flights = inner.places.in_flight.iter();
        let found = flights.find(|(_, flight)| flight.stream.is_some_and(|(stream, _)| stream == id));
        found.map(|(sequence, _)| *sequence)
    }

    /// The digest that the receipt of a link must have: of one that is in flight or claimed.
    pub(in crate::recorder) fn digest(&self, sequence: Sequence) -> Option<Digest> {
        self.inner().places.digest(sequence)
    }

    /// What is known of a link that is held.
    pub(in crate::recorder) fn facts(&self, sequence: Sequence) -> Option<Facts> {
        self.inner().places.facts(sequence)
    }

    /// The oldest segments that may make room for newer ones, until `enough` says so: neither asked for, nor under way, nor
    /// near a mark.
    pub(in crate::recorder) fn victims(&self, enough: impl FnMut(&Facts) -> bool) -> Vec<Facts> {
        self.inner().places.victims(enough)
    }

    /// The link is held but not sent.
    pub(in crate::recorder) fn shelve(&self, sequence: Sequence) {
        self.change(|places| places.leave_places(sequence));
    }

    /// The link leaves. `None` if it is not held.
    pub(in crate::recorder) fn remove(&self, sequence: Sequence) -> Option<Left> {
        self.change(|places| places.remove(sequence))
    }

    /// The server has no room for the link: it is sent again after a while.
    pub(in crate::recorder) fn put_off(&self, sequence: Sequence, delay: Duration) {
        self.change(|places| places.put_off(sequence, Instant::now() + delay, true));
    }

    /// The server misses links from `from` on before this one: they go first, and this one is sent again after the delay that
    /// `delay` gives for how often it was refused so while none of them is held. `None` if it is not held.
    pub(in crate::recorder) fn resend(
        &self,
        sequence: Sequence,
        from: Sequence,
        delay: impl FnOnce(u8) -> Duration,
    ) -> Option<u8> {
        self.change(|places| {
            let refusals = places.resend(sequence, from)?;
            places.put_off(sequence, Instant::now() + delay(refusals), false);
            Some(refusals)
        })
    }

    /// The server says that these are durable: what is held of them is claimed and not sent.
    pub(in crate::recorder) fn durable(&self, ranges: &[SequenceRange]) {
        self.change(|places| places.durable(ranges));
    }

    /// The next links to claim, by rising sequence; none while answers to claims are due.
    pub(in crate::recorder) fn claim(&self, links_max: usize) -> Vec<Sequence> {
        self.inner().places.claim(links_max)
    }

    /// A link is claimed by this digest; without one there is nothing to claim.
    pub(in crate::recorder) fn claimed(&self, sequence: Sequence, digest: Option<Digest>) {
        self.change(|places| places.claimed(sequence, digest));
    }

    /// The server does not have these as they were claimed: they are sent.
    pub(in crate::recorder) fn unclaimed(&self, ranges: &[SequenceRange]) {
        self.change(|places| places.unclaimed(ranges));
    }

    /// The server wants what was and will be captured in a range before live links.
    pub(in crate::recorder) fn request(&self, request: Request) {
        let now = self.clock.now();
        self.change(|places| {
            places.request(request);
            if places.wishes.expire(now) {
                places.lower();
            }
        });
    }

    /// The server no longer wants a range.
    pub(in crate::recorder) fn cancel(&self, id: u64) {
        self.change(|places| {
            if places.wishes.cancel(id) {
                places.lower();
            }
        });
    }

    /// The server had time to ask again for what it still wants: the rest is not wanted any more.
    pub(in crate::recorder) fn forget_stale_requests(&self) {
        self.change(|places| {
            if places.wishes.forget_stale() {
                places.lower();
            }
        });
    }

    /// How far each request is, where that has changed since it was last asked.
    pub(in crate::recorder) fn progress(&self) -> Vec<Progress> {
        let now = self.clock.now();
        let places = &mut self.inner().places;
        if places.wishes.expire(now) {
            places.lower();
        }
        places.wishes.progress()
    }

    /// Whether any link of `sequences` is held.
    pub(in crate::recorder) fn holds_any(&self, sequences: std::ops::Range<Sequence>) -> bool {
        self.inner().places.holds_any(sequences)
    }

    /// The connection is gone: what was under way, put off or claimed waits again.
    pub(in crate::recorder) fn disconnected(&self) {
        let mut inner = self.inner();
        inner.held_back = false;
        inner.places.disconnected();
        drop(inner);
        self.work.notify_one();
    }

    /// Number of links whose answers are due, and when the connection is to be given up if none has come until then.
    pub(in crate::recorder) fn due(&self) -> (usize, Option<Instant>) {
        self.inner().places.due()
    }

    /// How much is held.
    pub(in crate::recorder) fn held(&self) -> Held {
        let inner = self.inner();
        Held { links: inner.places.len(), bytes: inner.places.bytes() }
    }

    /// The links that are held, every one.
    pub(in crate::recorder) fn waiting(&self) -> Vec<SequenceRange> {
        let inner = self.inner();
        let mut waiting: Vec<SequenceRange> = Vec::new();
        for Facts { sequence, .. } in inner.places.all() {
            match waiting.last_mut() {
                Some(range) if range.last.checked_add(1) == Some(sequence) => range.last = sequence,
                _ => waiting.push(SequenceRange { first: sequence, last: sequence }),
            }
        }
        waiting
    }

    /// What is held, for the server.
    pub(in crate::recorder) fn summary(&self) -> SpoolSummary {
        let inner = self.inner();
        let mut summary = SpoolSummary { bytes: inner.places.bytes(), ..SpoolSummary::default() };
        let waiting = &mut summary.waiting;
        for facts in inner.places.all() {
            let full = waiting.len() == RANGES_MAX;
            match waiting.last_mut() {
                Some(range) if range.last.checked_add(1) == Some(facts.sequence) => range.last = facts.sequence,
                _ if full => {}
                _ => waiting.push(SequenceRange { first: facts.sequence, last: facts.sequence }),
            }
            summary.oldest = Some(summary.oldest.map_or(facts.begin, |oldest| oldest.min(facts.begin)));
            summary.newest = summary.newest.max(Some(facts.end()));
        }
        summary
    }
}
