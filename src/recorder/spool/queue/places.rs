//! Where each link is: it waits in its class, waits for a time, is claimed, or is under way; always in one place at most.
//!
//! Every step for one link costs O(log n). What walks over all of them comes from people: a request, its end, a mark.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use aigaq_proto::{Digest, Micros, Sequence, SequenceRange};

use super::super::facts::{Facts, LinkKind};
use super::wishes::{Span, Wishes};
use super::{Class, Left, Ticket};

/// How long a link counts as live after it was made. Beyond that it is backlog: where the path carries less than the
/// recorder makes, live footage is then never later than this, and the rest follows.
const LIVE: Duration = Duration::from_secs(10);
/// How long the server may give no answer while some are due before the connection is given up; and while only backlog is due, which may
/// wait for its turn behind that of a whole fleet.
const ANSWER_MAX: Duration = Duration::from_secs(60);
const BACKLOG_ANSWER_MAX: Duration = Duration::from_secs(600);
/// A server that answers the backlog within this holds none of it back.
const BRISK: Duration = Duration::from_secs(1);
/// How much backlog may be under way, links and bytes of payload; one link may always. It leaves room in a server's windows and streams, so
/// that a server that holds backlog back does not hold back the rest with it (SPEC.md section 11.2).
const BACKLOG_MAX: (usize, u64) = (4, 128 * 1024);
/// The same while it is answered briskly.
const BACKLOG_BRISK_MAX: (usize, u64) = (6, 2 * 1024 * 1024);

/// The links of a spool.
#[derive(Debug, Default)]
pub(super) struct Places {
    entries: BTreeMap<Sequence, Entry>,
    /// Links that may be sent now, by class.
    waiting: [BTreeSet<Sequence>; 4],
    put_off: PutOff,
    pub(super) in_flight: BTreeMap<Sequence, Flight>,
    /// Links that the server listed as durable, and those of them that were claimed.
    claimable: BTreeSet<Sequence>,
    claimed: BTreeMap<Sequence, Digest>,
    claimed_at: Option<Instant>,
    /// Live links and when they were made, oldest first.
    live: VecDeque<(Instant, Sequence)>,
    pub(super) wishes: Wishes,
    bytes: u64,
    /// Whether the server takes backlog as it comes.
    is_brisk: bool,
    /// When the server last answered a link.
    answered_at: Option<Instant>,
}

/// What is known of a link.
#[derive(Debug)]
struct Entry {
    begin: Micros,
    span: u32,
    bytes: u32,
    prelude: u16,
    kind: LinkKind,
    class: Class,
    /// How often the server refused it for links before it that are not held.
    refusals: u8,
}

impl Entry {
    fn of(facts: Facts, class: Class) -> Self {
        let Facts { sequence: _, begin, span, bytes, prelude, kind } = facts;
        Self { begin, span, bytes, prelude, kind, class, refusals: 0 }
    }

    fn facts(&self, sequence: Sequence) -> Facts {
        let Self { begin, span, bytes, prelude, kind, .. } = *self;
        Facts { sequence, begin, span, bytes, prelude, kind }
    }

    fn span(&self) -> Span {
        (self.begin, self.facts(0).end())
    }
}

/// A link that was given to a stream.
#[derive(Debug)]
pub(super) struct Flight {
    /// As what it was sent.
    class: Class,
    /// Which stream, and the digest that its receipt must have.
    pub(super) stream: Option<(u64, Digest)>,
    /// When its last byte was.
    pub(super) sent_at: Option<Instant>,
}

/// Links that may be sent again from a time on.
#[derive(Debug, Default)]
struct PutOff {
    by_time: BTreeSet<(Instant, Sequence)>,
    /// When, and whether because the server had no room.
    by_sequence: BTreeMap<Sequence, (Instant, bool)>,
    busy: usize,
}

impl PutOff {
    fn set(&mut self, sequence: Sequence, at: Instant, busy: bool) {
        self.remove(sequence);
        self.by_time.insert((at, sequence));
        self.by_sequence.insert(sequence, (at, busy));
        self.busy += usize::from(busy);
    }

    fn remove(&mut self, sequence: Sequence) {
        if let Some((at, busy)) = self.by_sequence.remove(&sequence) {
            self.by_time.remove(&(at, sequence));
            self.busy -= usize::from(busy);
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

impl Places {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Payload of all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Facts> {
        self.entries.iter().map(|(sequence, entry)| entry.facts(*sequence))
    }

    pub(super) fn holds_any(&self, sequences: std::ops::Range<Sequence>) -> bool {
        sequences.start < sequences.end && self.entries.range(sequences).next().is_some()
    }

    pub(super) fn facts(&self, sequence: Sequence) -> Option<Facts> {
        self.entries.get(&sequence).map(|entry| entry.facts(sequence))
    }

    /// The oldest segments that may go, until `enough` says so.
    pub(super) fn victims(&self, mut enough: impl FnMut(&Facts) -> bool) -> Vec<Facts> {
        let mut victims = Vec::new();
        for (sequence, entry) in &self.entries {
            let spared = entry.kind != LinkKind::Media || entry.class >= Class::Requested;
            if spared || self.in_flight.contains_key(sequence) || self.claimed.contains_key(sequence) {
                continue;
            }
            let facts = entry.facts(*sequence);
            victims.push(facts);
            if enough(&facts) {
                break;
            }
        }
        victims
    }

    /// Takes links that were there when the recorder began.
    pub(super) fn found(&mut self, links: impl Iterator<Item = Facts>) {
        for facts in links {
            if let Some(event) = facts.event() {
                self.wishes.mark(event);
            }
            self.insert(facts, Class::Backlog);
        }
        self.lift(|wishes, span| wishes.near_a_mark(span));
    }

    /// Takes a link that was made now.
    pub(super) fn made(&mut self, facts: Facts, clock: Micros) {
        let span = (facts.begin, facts.end());
        self.wishes.came(span, facts.bytes);
        let live_us = u64::try_from(LIVE.as_micros()).unwrap_or(u64::MAX);
        let class = match () {
            () if self.wishes.want(span) => Class::Requested,
            () if facts.end().saturating_add(live_us) >= clock => Class::Live,
            () => Class::Backlog,
        };
        self.insert(facts, class);
        if class != Class::Backlog {
            self.live.push_back((Instant::now(), facts.sequence));
        }
        if let Some(event) = facts.event() {
            self.wishes.mark(event);
            self.lift(|_, (begin, end)| begin <= event.1 && end >= event.0);
        }
    }

    fn insert(&mut self, facts: Facts, class: Class) {
        let class = if facts.urgent() { Class::Urgent } else { class };
        self.entries.insert(facts.sequence, Entry::of(facts, class));
        self.bytes = self.bytes.saturating_add(u64::from(facts.bytes));
        self.wait(facts.sequence);
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
    pub(super) fn leave_places(&mut self, sequence: Sequence) -> Option<Flight> {
        self.put_off.remove(sequence);
        self.claimable.remove(&sequence);
        self.claimed.remove(&sequence);
        for class in &mut self.waiting {
            class.remove(&sequence);
        }
        let flight = self.in_flight.remove(&sequence);
        if flight.is_some() {
            self.answered_at = Some(Instant::now());
        }
        flight
    }

    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<Left> {
        let entry = self.entries.remove(&sequence)?;
        self.bytes = self.bytes.saturating_sub(u64::from(entry.bytes));
        self.wishes.left(entry.span(), entry.bytes);
        let flight = self.leave_places(sequence);
        let was_backlog = flight.as_ref().is_some_and(|flight| flight.class == Class::Backlog);
        let sent_at = flight.and_then(|flight| flight.sent_at);
        let waited = sent_at.map_or(Duration::ZERO, |at| at.elapsed());
        if was_backlog && sent_at.is_some() {
            self.is_brisk = waited < BRISK;
        }
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

    /// Lifts the links of these times before live ones. Walks over all.
    fn lift(&mut self, wanted: impl Fn(&Wishes, Span) -> bool) {
        let lifted: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.class < Class::Requested && wanted(&self.wishes, entry.span()))
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in lifted {
            self.reclass(sequence, Class::Requested);
        }
    }

    /// The server asks for a range.
    pub(super) fn request(&mut self, request: aigaq_proto::message::Request) {
        let held = self.entries.values().map(|entry| (entry.span(), entry.bytes));
        self.wishes.request(request, held);
        // What another request was replaced by, or pushed out by, is lowered.
        self.lower();
        self.lift(|wishes, span| wishes.want(span));
    }

    /// Lowers what is not wanted any more. Walks over all.
    pub(super) fn lower(&mut self) {
        let live_from = self.live.front().map_or(Sequence::MAX, |(_, sequence)| *sequence);
        let lowered: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.class == Class::Requested && !self.wishes.want(entry.span()))
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in lowered {
            self.reclass(sequence, if sequence >= live_from { Class::Live } else { Class::Backlog });
        }
    }

    /// The next link above a class, in flight from now on; or when to look again without being told.
    pub(super) fn take(
        &mut self,
        above: Option<Class>,
        in_flight_max: usize,
        now: Instant,
    ) -> Result<Ticket, Option<Instant>> {
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
        let until = self.put_off.earliest();
        if self.in_flight.len() >= in_flight_max {
            return Err(until);
        }
        // A server without room is not asked with ever more links; the few that wait for it show when it has some.
        let least = if self.put_off.busy >= in_flight_max { Class::Urgent } else { Class::Backlog };
        for class in [Class::Urgent, Class::Requested, Class::Live, Class::Backlog] {
            if class < least || above.is_some_and(|above| class <= above) {
                break;
            }
            if class == Class::Backlog && !self.has_room_for_backlog() {
                break;
            }
            if let Some(sequence) = self.class(class).pop_first() {
                self.in_flight.insert(sequence, Flight { class, stream: None, sent_at: None });
                return Ok(Ticket { sequence, class });
            }
        }
        Err(until)
    }

    /// Whether one more link of backlog may be under way.
    fn has_room_for_backlog(&self) -> bool {
        let bytes = |sequence: &Sequence| self.entries.get(sequence).map_or(0, |entry| u64::from(entry.bytes));
        let under_way = self.in_flight.iter().filter(|(_, flight)| flight.class == Class::Backlog);
        let (links, held) = under_way.fold((0, 0), |(links, held), (sequence, _)| (links + 1, held + bytes(sequence)));
        let [backlog, ..] = &self.waiting;
        let next = backlog.first().map_or(0, bytes);
        let (links_max, bytes_max) = if self.is_brisk { BACKLOG_BRISK_MAX } else { BACKLOG_MAX };
        links == 0 || (links < links_max && held + next <= bytes_max)
    }

    /// The link may be sent again from a time on. Whether it is held.
    pub(super) fn put_off(&mut self, sequence: Sequence, at: Instant, busy: bool) -> bool {
        let held = self.entries.contains_key(&sequence);
        if held {
            self.leave_places(sequence);
            self.put_off.set(sequence, at, busy);
        }
        held
    }

    /// The server misses links from `from` on up to this one: those that are held go before it. How often it has been
    /// refused so while none is held; `None` if it is not held itself.
    pub(super) fn resend(&mut self, sequence: Sequence, from: Sequence) -> Option<u8> {
        let class = self.entries.get(&sequence)?.class;
        let before = from.min(sequence)..sequence;
        let missing: Vec<_> = self
            .entries
            .range(before.clone())
            .filter(|(_, entry)| entry.class < class)
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in missing {
            self.reclass(sequence, class);
        }
        let some = self.holds_any(before);
        let entry = self.entries.get_mut(&sequence)?;
        entry.refusals = if some { 0 } else { entry.refusals.saturating_add(1) };
        Some(entry.refusals)
    }

    /// The server has these sequences: links of them are claimed before they are sent.
    pub(super) fn durable(&mut self, ranges: &[SequenceRange]) {
        for range in ranges.iter().filter(|range| range.first <= range.last) {
            let held: Vec<_> = self.entries.range(range.first..=range.last).map(|(sequence, _)| *sequence).collect();
            for sequence in held {
                self.leave_places(sequence);
                self.claimable.insert(sequence);
            }
        }
    }

    /// The next links to claim, while none are claimed.
    pub(super) fn claim(&self, links_max: usize) -> Vec<Sequence> {
        let free = if self.claimed.is_empty() { links_max } else { 0 };
        self.claimable.iter().take(free).copied().collect()
    }

    /// A link was claimed with this digest; without one it is not there any more.
    pub(super) fn claimed(&mut self, sequence: Sequence, digest: Option<Digest>) {
        self.claimable.remove(&sequence);
        if let Some(digest) = digest.filter(|_| self.entries.contains_key(&sequence)) {
            self.claimed.insert(sequence, digest);
            self.claimed_at = Some(Instant::now());
        }
    }

    /// The server does not have what was claimed: it is sent.
    pub(super) fn unclaimed(&mut self, ranges: &[SequenceRange]) {
        for range in ranges.iter().filter(|range| range.first <= range.last) {
            let asked: Vec<_> = self.claimed.range(range.first..=range.last).map(|(sequence, _)| *sequence).collect();
            for sequence in asked {
                self.claimed.remove(&sequence);
                self.wait(sequence);
            }
        }
    }

    /// The digest that the receipt of a link must have.
    pub(super) fn digest(&self, sequence: Sequence) -> Option<Digest> {
        let flight = self.in_flight.get(&sequence).and_then(|flight| flight.stream);
        flight.map(|(_, digest)| digest).or_else(|| self.claimed.get(&sequence).copied())
    }

    /// How many answers are due, and when the server is broken if it has given none until then.
    pub(super) fn due(&self) -> (usize, Option<Instant>) {
        let from = |asked: Instant| self.answered_at.map_or(asked, |answered| answered.max(asked));
        let of_flight = |flight: &Flight| {
            let patience = if flight.class == Class::Backlog { BACKLOG_ANSWER_MAX } else { ANSWER_MAX };
            Some(from(flight.sent_at?) + patience)
        };
        let claimed = self.claimed_at.filter(|_| !self.claimed.is_empty()).map(|asked| from(asked) + ANSWER_MAX);
        let until = self.in_flight.values().filter_map(of_flight).chain(claimed).min();
        (self.in_flight.len() + self.claimed.len(), until)
    }

    /// The connection is gone: everything waits again.
    pub(super) fn disconnected(&mut self) {
        let (flights, put_off) = (std::mem::take(&mut self.in_flight), std::mem::take(&mut self.put_off));
        let (claimable, claimed) = (std::mem::take(&mut self.claimable), std::mem::take(&mut self.claimed));
        let sequences = flights.into_keys().chain(put_off.by_sequence.into_keys());
        for sequence in sequences.chain(claimable).chain(claimed.into_keys()) {
            self.wait(sequence);
        }
        self.wishes.disconnected();
    }
}
