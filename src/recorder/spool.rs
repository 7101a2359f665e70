//! The spool: links that have no receipt yet. Bounded by bytes; when it is full the source is not read.
//!
//! This one lives in memory: links that wait are lost with the process, and their sequences stay missing. A link leaves only
//! through [`Spool::settle`] (its receipt was verified) or [`Spool::give_up`] (the server will never take it).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use aigaq_proto::limits::RANGES_MAX;
use aigaq_proto::message::SpoolSummary;
use aigaq_proto::{Digest, Micros, Sequence, SequenceRange};

use super::links::Link;

/// Greatest number of links held; small links are bounded by it.
const LINKS_MAX: usize = 512;

/// In which order links are sent: the greater first. The values are those of the QUIC streams' priorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Priority {
    /// Waited when the connection was made.
    Backlog = 0,
    /// Made since.
    Live = 1,
    /// Of a range that the server asked for.
    Requested = 2,
    /// A mark or a stop.
    Urgent = 3,
}

#[derive(Debug)]
struct Entry {
    link: Link,
    priority: Priority,
    place: State,
    /// How often the server put it off.
    refusals: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// May be sent from this time on.
    Waiting(Option<Instant>),
    /// Given to a stream; when its last byte was, and which stream it is.
    InFlight { stream: Option<u64>, sent_at: Option<Instant> },
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<Sequence, Entry>,
    bytes: usize,
    closed: bool,
}

/// Links that wait for their receipts.
#[derive(Debug)]
pub(super) struct Spool {
    bytes_max: usize,
    inner: Mutex<Inner>,
    /// Something can be sent, or all is done.
    work: Notify,
    /// Something left.
    room: Notify,
}

impl Spool {
    /// Holds so many bytes of payload; a single larger link is taken alone.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default(), work: Notify::new(), room: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a link of this size has room. Cancel-safe.
    pub(super) async fn room_for(&self, bytes: usize) {
        loop {
            let room = self.room.notified();
            {
                let inner = self.inner();
                let fits = inner.bytes + bytes <= self.bytes_max && inner.entries.len() < LINKS_MAX;
                if bytes == 0 || inner.entries.is_empty() || fits {
                    return;
                }
            }
            room.await;
        }
    }

    /// Takes a link.
    pub(super) fn push(&self, link: Link) {
        let priority = if link.urgent { Priority::Urgent } else { Priority::Live };
        let mut inner = self.inner();
        inner.bytes += link.payload.len();
        inner.entries.insert(link.sequence, Entry { link, priority, place: State::Waiting(None), refusals: 0 });
        drop(inner);
        self.work.notify_one();
    }

    /// No link will be pushed any more.
    pub(super) fn close(&self) {
        self.inner().closed = true;
        self.work.notify_one();
    }

    /// The next link to send, of the greatest priority, while fewer than `in_flight_max` are under way; it is then in flight.
    /// `None` when the spool is closed and empty. Cancel-safe.
    pub(super) async fn next(&self, in_flight_max: usize) -> Option<(Link, Priority)> {
        loop {
            let work = self.work.notified();
            let until = {
                let mut inner = self.inner();
                if inner.closed && inner.entries.is_empty() {
                    return None;
                }
                match inner.take(in_flight_max, Instant::now()) {
                    Ok(next) => return Some(next),
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

    /// The link goes on this stream.
    pub(super) fn on_stream(&self, sequence: Sequence, id: u64) {
        if let Some(State::InFlight { stream, .. }) = self.inner().place(sequence) {
            *stream = Some(id);
        }
    }

    /// The last byte of the link was handed to its stream.
    pub(super) fn sent(&self, sequence: Sequence) {
        if let Some(State::InFlight { sent_at, .. }) = self.inner().place(sequence) {
            *sent_at = Some(Instant::now());
        }
    }

    /// The link that went on this stream.
    pub(super) fn of_stream(&self, id: u64) -> Option<Sequence> {
        let inner = self.inner();
        inner.entries.iter().find_map(|(sequence, entry)| match entry.place {
            State::InFlight { stream: Some(stream), .. } if stream == id => Some(*sequence),
            _ => None,
        })
    }

    /// Digest of a link that is held.
    pub(super) fn digest(&self, sequence: Sequence) -> Option<Digest> {
        self.inner().entries.get(&sequence).map(|entry| entry.link.digest)
    }

    /// The link's receipt was verified: it leaves. Its size, and how long its receipt took after its last byte.
    pub(super) fn settle(&self, sequence: Sequence) -> Option<(usize, Duration)> {
        let entry = self.remove(sequence)?;
        let waited = match entry.place {
            State::InFlight { sent_at: Some(sent_at), .. } => sent_at.elapsed(),
            _ => Duration::ZERO,
        };
        Some((entry.link.payload.len(), waited))
    }

    /// The server will never take the link: it leaves. Whether it was there.
    pub(super) fn give_up(&self, sequence: Sequence) -> bool {
        self.remove(sequence).is_some()
    }

    fn remove(&self, sequence: Sequence) -> Option<Entry> {
        let mut inner = self.inner();
        let entry = inner.entries.remove(&sequence)?;
        inner.bytes -= entry.link.payload.len();
        drop(inner);
        self.work.notify_one();
        self.room.notify_one();
        Some(entry)
    }

    /// The link is to be sent again after a while. How often that has been said; `None` if it is not held.
    pub(super) fn put_off(&self, sequence: Sequence, delay: Duration) -> Option<u32> {
        let mut inner = self.inner();
        let entry = inner.entries.get_mut(&sequence)?;
        entry.place = State::Waiting(Some(Instant::now() + delay));
        entry.refusals = entry.refusals.saturating_add(1);
        let refusals = entry.refusals;
        drop(inner);
        self.work.notify_one();
        Some(refusals)
    }

    /// Whether any link of `sequences` is held.
    pub(super) fn holds_any(&self, sequences: std::ops::Range<Sequence>) -> bool {
        sequences.start < sequences.end && self.inner().entries.range(sequences).next().is_some()
    }

    /// The connection is gone: everything that waits is backlog, and what was in flight waits again.
    pub(super) fn disconnected(&self) {
        let mut inner = self.inner();
        for entry in inner.entries.values_mut() {
            entry.place = State::Waiting(None);
            entry.priority = if entry.link.urgent { Priority::Urgent } else { Priority::Backlog };
        }
        drop(inner);
        self.work.notify_one();
    }

    /// The server wants what was captured in this range first.
    pub(super) fn request(&self, from: Micros, to: Micros) {
        for entry in self.inner().entries.values_mut() {
            let (begin, end) = entry.link.captured;
            if begin < to && end >= from {
                entry.priority = entry.priority.max(Priority::Requested);
            }
        }
    }

    /// Number of links in flight, and since when the longest of them waits for its answer.
    pub(super) fn in_flight(&self) -> (usize, Option<Instant>) {
        let inner = self.inner();
        let mut count = 0;
        let mut oldest: Option<Instant> = None;
        for entry in inner.entries.values() {
            if let State::InFlight { sent_at, .. } = entry.place {
                count += 1;
                oldest = sent_at.map_or(oldest, |sent| Some(oldest.map_or(sent, |oldest| oldest.min(sent))));
            }
        }
        (count, oldest)
    }

    /// What is held, for the server.
    pub(super) fn summary(&self) -> SpoolSummary {
        let inner = self.inner();
        let mut waiting: Vec<SequenceRange> = Vec::new();
        for sequence in inner.entries.keys().copied() {
            match waiting.last_mut() {
                Some(range) if range.last.checked_add(1) == Some(sequence) => range.last = sequence,
                _ => waiting.push(SequenceRange { first: sequence, last: sequence }),
            }
        }
        waiting.truncate(RANGES_MAX);
        let captured = || inner.entries.values().map(|entry| entry.link.captured);
        SpoolSummary {
            waiting,
            bytes: inner.bytes as u64,
            oldest: captured().map(|(begin, _)| begin).min(),
            newest: captured().map(|(_, end)| end).max(),
        }
    }
}

impl Inner {
    fn place(&mut self, sequence: Sequence) -> Option<&mut State> {
        self.entries.get_mut(&sequence).map(|entry| &mut entry.place)
    }

    /// Takes the next link, or says when the earliest that was put off may be sent.
    fn take(&mut self, in_flight_max: usize, now: Instant) -> Result<(Link, Priority), Option<Instant>> {
        let mut in_flight = 0;
        let mut best: Option<&mut Entry> = None;
        let mut until: Option<Instant> = None;
        for entry in self.entries.values_mut() {
            match entry.place {
                State::InFlight { .. } => in_flight += 1,
                State::Waiting(Some(at)) if at > now => until = Some(until.map_or(at, |until| until.min(at))),
                State::Waiting(_) if best.as_ref().is_none_or(|best| entry.priority > best.priority) => {
                    best = Some(entry)
                }
                State::Waiting(_) => {}
            }
        }
        match best {
            Some(entry) if in_flight < in_flight_max => {
                entry.place = State::InFlight { stream: None, sent_at: None };
                Ok((entry.link.clone(), entry.priority))
            }
            Some(_) => Err(None),
            None => Err(until),
        }
    }
}

#[cfg(test)]
mod tests;
