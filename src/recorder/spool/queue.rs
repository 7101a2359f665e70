//! The queue: which of the links that wait goes next, and what is under way. It knows some 24 bytes of each link, and
//! neither payloads nor digests except those of the few links under way, so that a spool of 160,000 links costs little
//! memory.
//!
//! A link is in one place at a time: it waits in its class, waits for a time at which it may be sent again, or is in
//! flight. Every step costs O(log n); only a request, which comes from a person, walks over all links.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use aigaq_proto::limits::RANGES_MAX;
use aigaq_proto::message::SpoolSummary;
use aigaq_proto::{Content, Digest, LinkHeader, Micros, Sequence, SequenceRange};

/// How long a link counts as live after it was made. Beyond that it is backlog: where the path carries less than the
/// recorder makes, live footage is then never later than this, and the rest follows.
const LIVE: Duration = Duration::from_secs(10);

/// In which order links are sent: the greater first (SPEC.md section 11.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::recorder) enum Class {
    /// Made a while ago.
    Backlog,
    /// Made just now.
    Live,
    /// Of a range that the server asked for.
    Requested,
    /// A mark or a stop.
    Urgent,
}

/// What the queue knows of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::recorder) struct Facts {
    /// Its place in the chain.
    pub(in crate::recorder) sequence: Sequence,
    /// Its payload, bytes.
    pub(in crate::recorder) bytes: u32,
    /// Device clock at its beginning.
    pub(in crate::recorder) begin: Micros,
    /// The time that it covers.
    pub(in crate::recorder) duration_us: u32,
    /// Whether it goes before everything else: a mark or a stop.
    pub(in crate::recorder) urgent: bool,
}

impl Facts {
    /// What its header says of a link.
    pub(in crate::recorder) fn of(header: &LinkHeader) -> Self {
        Self {
            sequence: header.sequence,
            bytes: header.payload_length,
            begin: header.captured_at,
            duration_us: header.duration_us,
            urgent: matches!(header.content, Content::Mark { .. } | Content::Stop { .. }),
        }
    }
}

/// A link to send now. Its bytes come from [`Spool::load`](super::Spool::load).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::recorder) struct Ticket {
    pub(in crate::recorder) sequence: Sequence,
    pub(in crate::recorder) class: Class,
}

impl Ticket {
    /// Priority of the link's stream: by class, then by sequence, and no two alike, so that each link is sent whole before
    /// the next.
    pub(in crate::recorder) fn priority(self) -> i32 {
        const PER_CLASS: i32 = 1 << 28;
        let place = i32::try_from(self.sequence % u64::from(PER_CLASS.unsigned_abs())).unwrap_or(0);
        (self.class as i32 + 1) * PER_CLASS - 1 - place
    }
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
#[derive(Debug, Default)]
pub(in crate::recorder) struct Queue {
    inner: Mutex<Inner>,
    /// Something can be sent, or all is done.
    work: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<Sequence, Entry>,
    /// Links that may be sent now, by class.
    waiting: [BTreeSet<Sequence>; 4],
    put_off: PutOff,
    in_flight: BTreeMap<Sequence, Flight>,
    /// Live links and when they were made, oldest first.
    live: VecDeque<(Instant, Sequence)>,
    bytes: u64,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    begin: Micros,
    duration_us: u32,
    bytes: u32,
    class: Class,
    /// How often the server put it off.
    refusals: u8,
}

impl Entry {
    fn end(&self) -> Micros {
        self.begin.saturating_add(u64::from(self.duration_us))
    }
}

/// A link that was given to a stream.
#[derive(Debug, Default)]
struct Flight {
    /// Which stream, and the digest that its receipt must have.
    stream: Option<(u64, Digest)>,
    /// When its last byte was.
    sent_at: Option<Instant>,
}

/// Links that may be sent again from a time on.
#[derive(Debug, Default)]
struct PutOff {
    by_time: BTreeSet<(Instant, Sequence)>,
    by_sequence: BTreeMap<Sequence, Instant>,
}

impl PutOff {
    fn set(&mut self, sequence: Sequence, at: Instant) {
        self.remove(sequence);
        self.by_time.insert((at, sequence));
        self.by_sequence.insert(sequence, at);
    }

    fn remove(&mut self, sequence: Sequence) {
        if let Some(at) = self.by_sequence.remove(&sequence) {
            self.by_time.remove(&(at, sequence));
        }
    }

    /// The earliest, if it is due.
    fn pop(&mut self, now: Instant) -> Option<Sequence> {
        let (_, sequence) = *self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.remove(sequence);
        Some(sequence)
    }

    fn earliest(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

impl Queue {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes links that were there when the recorder began, in any order: they are backlog.
    #[cfg_attr(not(test), expect(dead_code, reason = "a spool that is durable finds links when it opens"))]
    pub(in crate::recorder) fn found(&self, links: impl IntoIterator<Item = Facts>) {
        let mut inner = self.inner();
        for facts in links {
            inner.insert(facts, Class::Backlog);
        }
        drop(inner);
        self.work.notify_one();
    }

    /// Takes a link that was just made.
    pub(in crate::recorder) fn push(&self, facts: Facts) {
        let mut inner = self.inner();
        inner.insert(facts, Class::Live);
        inner.live.push_back((Instant::now(), facts.sequence));
        drop(inner);
        self.work.notify_one();
    }

    /// No link will be pushed any more.
    pub(in crate::recorder) fn close(&self) {
        self.inner().closed = true;
        self.work.notify_one();
    }

    /// The next link to send, of the greatest class, while fewer than `in_flight_max` are under way; it is then in flight.
    /// `None` when the queue is closed and empty. Cancel-safe.
    pub(in crate::recorder) async fn next(&self, in_flight_max: usize) -> Option<Ticket> {
        loop {
            let work = self.work.notified();
            let until = {
                let mut inner = self.inner();
                if inner.closed && inner.entries.is_empty() {
                    return None;
                }
                match inner.take(in_flight_max, Instant::now()) {
                    Ok(ticket) => return Some(ticket),
                    Err(until) => until,
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
        if let Some(flight) = self.inner().in_flight.get_mut(&sequence) {
            flight.stream = Some((stream, digest));
        }
    }

    /// The last byte of the link was handed to its stream.
    pub(in crate::recorder) fn sent(&self, sequence: Sequence) {
        if let Some(flight) = self.inner().in_flight.get_mut(&sequence) {
            flight.sent_at = Some(Instant::now());
        }
    }

    /// The link that goes on this stream.
    pub(in crate::recorder) fn of_stream(&self, id: u64) -> Option<Sequence> {
        let inner = self.inner();
        let found = inner.in_flight.iter().find(|(_, flight)| flight.stream.is_some_and(|(stream, _)| stream == id));
        found.map(|(sequence, _)| *sequence)
    }

    /// Digest of a link that is in flight.
    pub(in crate::recorder) fn digest(&self, sequence: Sequence) -> Option<Digest> {
        self.inner().in_flight.get(&sequence)?.stream.map(|(_, digest)| digest)
    }

    /// The link leaves. `None` if it is not held.
    pub(in crate::recorder) fn remove(&self, sequence: Sequence) -> Option<Left> {
        let left = self.inner().remove(sequence)?;
        self.work.notify_one();
        Some(left)
    }

    /// The link is to be sent again after a while. How often that has been said; `None` if it is not held.
    pub(in crate::recorder) fn put_off(&self, sequence: Sequence, delay: Duration) -> Option<u8> {
        let mut inner = self.inner();
        let entry = inner.entries.get_mut(&sequence)?;
        entry.refusals = entry.refusals.saturating_add(1);
        let refusals = entry.refusals;
        inner.leave_places(sequence);
        inner.put_off.set(sequence, Instant::now() + delay);
        drop(inner);
        self.work.notify_one();
        Some(refusals)
    }

    /// Whether any link of `sequences` is held.
    pub(in crate::recorder) fn holds_any(&self, sequences: std::ops::Range<Sequence>) -> bool {
        sequences.start < sequences.end && self.inner().entries.range(sequences).next().is_some()
    }

    /// The connection is gone: what was in flight or put off waits again.
    pub(in crate::recorder) fn disconnected(&self) {
        let mut inner = self.inner();
        let flights = std::mem::take(&mut inner.in_flight);
        let put_off = std::mem::take(&mut inner.put_off);
        for sequence in flights.into_keys().chain(put_off.by_sequence.into_keys()) {
            inner.wait(sequence);
        }
        drop(inner);
        self.work.notify_one();
    }

    /// The server wants what was captured in this range first.
    pub(in crate::recorder) fn request(&self, from: Micros, to: Micros) {
        let mut inner = self.inner();
        let wanted = |entry: &Entry| entry.class < Class::Requested && entry.begin < to && entry.end() >= from;
        let wanted: Vec<_> = inner.entries.iter().filter(|(_, entry)| wanted(entry)).map(|(at, _)| *at).collect();
        for sequence in wanted {
            inner.reclass(sequence, Class::Requested);
        }
    }

    /// Number of links in flight, and since when the longest of them waits for its answer.
    pub(in crate::recorder) fn in_flight(&self) -> (usize, Option<Instant>) {
        let inner = self.inner();
        (inner.in_flight.len(), inner.in_flight.values().filter_map(|flight| flight.sent_at).min())
    }

    /// How much is held.
    pub(in crate::recorder) fn held(&self) -> Held {
        let inner = self.inner();
        Held { links: inner.entries.len(), bytes: inner.bytes }
    }

    /// What is held, for the server.
    pub(in crate::recorder) fn summary(&self) -> SpoolSummary {
        let inner = self.inner();
        let mut waiting: Vec<SequenceRange> = Vec::new();
        for sequence in inner.entries.keys().copied() {
            let full = waiting.len() == RANGES_MAX;
            match waiting.last_mut() {
                Some(range) if range.last.checked_add(1) == Some(sequence) => range.last = sequence,
                _ if full => break,
                _ => waiting.push(SequenceRange { first: sequence, last: sequence }),
            }
        }
        SpoolSummary {
            waiting,
            bytes: inner.bytes,
            oldest: inner.entries.values().map(|entry| entry.begin).min(),
            newest: inner.entries.values().map(Entry::end).max(),
        }
    }
}

impl Inner {
    fn insert(&mut self, facts: Facts, class: Class) {
        let Facts { sequence, bytes, begin, duration_us, urgent } = facts;
        let class = if urgent { Class::Urgent } else { class };
        self.entries.insert(sequence, Entry { begin, duration_us, bytes, class, refusals: 0 });
        self.bytes = self.bytes.saturating_add(u64::from(bytes));
        self.wait(sequence);
    }

    fn class(&mut self, class: Class) -> &mut BTreeSet<Sequence> {
        let [backlog, live, requested, urgent] = &mut self.waiting;
        match class {
            Class::Backlog => backlog,
            Class::Live => live,
            Class::Requested => requested,
            Class::Urgent => urgent,
        }
    }

    /// The link may be sent.
    fn wait(&mut self, sequence: Sequence) {
        if let Some(class) = self.entries.get(&sequence).map(|entry| entry.class) {
            self.class(class).insert(sequence);
        }
    }

    /// Takes the link out of where it is.
    fn leave_places(&mut self, sequence: Sequence) -> Option<Flight> {
        self.put_off.remove(sequence);
        for class in &mut self.waiting {
            class.remove(&sequence);
        }
        self.in_flight.remove(&sequence)
    }

    fn remove(&mut self, sequence: Sequence) -> Option<Left> {
        let entry = self.entries.remove(&sequence)?;
        self.bytes = self.bytes.saturating_sub(u64::from(entry.bytes));
        let flight = self.leave_places(sequence);
        let waited = flight.and_then(|flight| flight.sent_at).map_or(Duration::ZERO, |at| at.elapsed());
        Some(Left { bytes: entry.bytes, waited })
    }

    /// Gives the link another class; where it waits, it waits there from now on.
    fn reclass(&mut self, sequence: Sequence, class: Class) {
        let Some(entry) = self.entries.get_mut(&sequence) else { return };
        let before = std::mem::replace(&mut entry.class, class);
        if self.class(before).remove(&sequence) {
            self.class(class).insert(sequence);
        }
    }

    /// Takes the next link, or says when to look again without being told.
    fn take(&mut self, in_flight_max: usize, now: Instant) -> Result<Ticket, Option<Instant>> {
        while let Some(sequence) = self.put_off.pop(now) {
            self.wait(sequence);
        }
        while let Some((_, sequence)) = self.live.front().filter(|(made, _)| now.duration_since(*made) >= LIVE).copied()
        {
            self.live.pop_front();
            if self.entries.get(&sequence).is_some_and(|entry| entry.class == Class::Live) {
                self.reclass(sequence, Class::Backlog);
            }
        }
        if self.in_flight.len() >= in_flight_max {
            return Err(None);
        }
        for class in [Class::Urgent, Class::Requested, Class::Live, Class::Backlog] {
            if let Some(sequence) = self.class(class).pop_first() {
                self.in_flight.insert(sequence, Flight::default());
                return Ok(Ticket { sequence, class });
            }
        }
        Err(self.put_off.earliest())
    }
}
