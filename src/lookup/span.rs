//! From a recorder's timeline to what was recorded and why the rest was not. Pure; entries are pushed one by one in
//! the order of the timeline, so that a month costs no more memory than its spans.
//!
//! Three kinds of links bound time: a recording begins (`Start`), a segment covers a span (`Media`), a recording ends
//! (`Stop`). Whatever lies between two of them and is longer than [`JITTER_US`] is a hole, and every hole has exactly
//! one cause. A hole is never smoothed over, and a cause is only ever what signed links, missing sequences or the recorder's own
//! announcements say.

use aigaq_proto::link::{LossCause, StopCause};
use aigaq_proto::{Micros, Sequence};
use serde::Serialize;
use utoipa::ToSchema;

use super::explain::{Gaps, Piece, Why};
use super::time::TimeRange;
use crate::error::{Error, Kind, Result};
use crate::store::TimelineEntry;
use crate::store::records::{AnnouncementRecord, TimelineKind};

/// Segments of one recording that are no further apart belong to one span, microseconds.
pub(super) const JITTER_US: u64 = 50_000;
/// Most spans, holes and marks that one answer holds, each.
const LISTED_MAX: usize = 10_000;
/// Most runs of missing sequences that are listed with one hole, and in all.
const MISSING_OF_HOLE_MAX: usize = 100;
const MISSING_MAX: usize = 10_000;

/// Recorded without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Beginning, device clock.
    pub(super) from: Micros,
    /// End, exclusive.
    pub(super) to: Micros,
    /// Sequence of the recording's `Start` link.
    pub(super) recording: Sequence,
    /// Sequence of the first segment.
    pub(super) first_sequence: Sequence,
    /// Sequence of the last segment.
    pub(super) last_sequence: Sequence,
    /// Number of segments.
    pub(super) segments: u64,
    /// Their size, bytes.
    pub(super) bytes: u64,
}

/// Why nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cause {
    /// The recorder was off: a signed `Stop` link says so and why, and nothing is missing until it was on again.
    Off,
    /// The recorder has announced that it holds it.
    NotUploaded,
    /// A signed `Lost` link says that it is gone, and why.
    LostOnDevice,
    /// A receipt that the recorder holds shows that it was here: it was lost when the server was put back to an older copy.
    LostWithRestore,
    /// It was refused, or is in quarantine.
    Rejected,
    /// Its time was over.
    DeletedByPolicy,
    /// The chain is whole, and the clock was set in between.
    ClockStep,
    /// Before the first link of the recorder.
    BeforeFirst,
    /// More may come: after the newest link, or made since the recorder announced anything last.
    Pending,
    /// Nothing says why. If sequences are listed they never arrived; if not, the chain is whole.
    Unknown,
}

impl Cause {
    /// The name in reports and metrics: that of the JSON form.
    #[must_use]
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NotUploaded => "not-uploaded",
            Self::LostOnDevice => "lost-on-device",
            Self::LostWithRestore => "lost-with-restore",
            Self::Rejected => "rejected",
            Self::DeletedByPolicy => "deleted-by-policy",
            Self::ClockStep => "clock-step",
            Self::BeforeFirst => "before-first",
            Self::Pending => "pending",
            Self::Unknown => "unknown",
        }
    }
}

impl From<Why> for Cause {
    fn from(why: Why) -> Self {
        match why {
            Why::Rejected => Self::Rejected,
            Why::Lost(_) => Self::LostOnDevice,
            Why::Forgotten => Self::LostWithRestore,
            Why::Pending => Self::Pending,
            Why::NotUploaded => Self::NotUploaded,
            Why::Unknown => Self::Unknown,
        }
    }
}

/// Nothing is there, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hole {
    /// Beginning, device clock.
    pub(super) from: Micros,
    /// End, exclusive.
    pub(super) to: Micros,
    /// Why.
    pub(super) cause: Cause,
    /// Why the recording before the hole ended, where a `Stop` link says so.
    pub(super) stop: Option<StopCause>,
    /// Why it was lost, where that is the cause.
    pub(super) loss: Option<LossCause>,
    /// The missing sequences, at most [`MISSING_OF_HOLE_MAX`] runs of them.
    pub(super) missing: Vec<Missing>,
    /// How many there are, those that are not listed among them.
    pub(super) missing_count: u64,
}

/// Sequences that never arrived, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Missing {
    /// The first.
    pub(super) first: u64,
    /// The last.
    pub(super) last: u64,
    /// Why these are missing.
    pub(super) cause: Cause,
}

impl Missing {
    fn of(piece: &Piece) -> Self {
        Self { first: piece.first, last: piece.last, cause: piece.why.into() }
    }
}

/// A mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// When, device clock.
    pub(super) at: Micros,
    /// Its sequence.
    pub(super) sequence: Sequence,
    /// Its category, as the recorder named it.
    pub(super) category: String,
}

/// What is known of a range.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// What was recorded, in order of time.
    pub(super) spans: Vec<Span>,
    /// What was not.
    pub(super) holes: Vec<Hole>,
    /// Marks in the range.
    pub(super) marks: Vec<Mark>,
    /// Sequences that are missing between the links of the range, also where no time is; at most [`MISSING_MAX`] runs.
    pub(super) missing: Vec<Missing>,
}

/// What a recorder said of the links after its newest durable one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tail {
    /// The last sequence that it holds.
    pub(super) last: Option<Sequence>,
    /// Device clock at the beginning of the oldest link that it holds.
    pub(super) oldest: Option<Micros>,
    /// Device clock at the end of the newest.
    pub(super) newest: Option<Micros>,
    /// Nothing is known of what comes after it.
    pub(super) now: Option<Micros>,
}

impl Tail {
    /// What this announcement says. `now` is the time beyond which nothing is known, where there is one.
    #[must_use]
    pub(super) fn of(announced: Option<&AnnouncementRecord>, now: Option<Micros>) -> Self {
        announced.map_or(Self { now, ..Self::default() }, |announced| Self {
            last: announced.waiting.last().map(|range| range.last),
            oldest: announced.oldest,
            newest: announced.newest,
            now,
        })
    }
}

/// A run of segments that is still growing.
#[derive(Debug, Clone, Copy)]
struct Run {
    from: Micros,
    to: Micros,
    recording: Sequence,
    first: Sequence,
    last: Sequence,
    segments: u64,
    bytes: u64,
}

/// The end of what is known so far.
#[derive(Debug, Clone, Copy)]
struct Edge {
    at: Micros,
    sequence: Sequence,
    stop: Option<StopCause>,
}

/// Makes a [`Coverage`].
#[derive(Debug)]
pub(super) struct Builder<'a> {
    range: TimeRange,
    gaps: &'a Gaps,
    edge: Option<Edge>,
    run: Option<Run>,
    stepped: bool,
    sequences: Option<(Sequence, Sequence)>,
    listed_missing: usize,
    coverage: Coverage,
}

impl<'a> Builder<'a> {
    /// For this range of a recorder with these gaps in its chain.
    #[must_use]
    pub(super) fn new(range: TimeRange, gaps: &'a Gaps) -> Self {
        let coverage = Coverage::default();
        Self { range, gaps, edge: None, run: None, stepped: false, sequences: None, listed_missing: 0, coverage }
    }

    /// Takes the next entry. Those outside the range only serve to explain its first and last hole.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the range holds more than one answer can list.
    pub(super) fn push(&mut self, entry: &TimelineEntry) -> Result<()> {
        let (at, sequence) = (entry.captured_at, entry.sequence);
        if self.range.touches(at, entry.record.duration_us) {
            let (low, high) = self.sequences.unwrap_or((sequence, sequence));
            self.sequences = Some((low.min(sequence), high.max(sequence)));
        }
        match &entry.record.kind {
            TimelineKind::Health | TimelineKind::Lost { .. } => {}
            TimelineKind::ClockStep => self.stepped = true,
            TimelineKind::Mark(category) => self.mark(at, sequence, category),
            TimelineKind::Start => self.bound(at, Edge { at, sequence, stop: None }),
            TimelineKind::Stop { cause, .. } => self.bound(at, Edge { at, sequence, stop: Some(*cause) }),
            TimelineKind::Media { recording, bytes, .. } => {
                let to = at.saturating_add(u64::from(entry.record.duration_us));
                self.bound(at, Edge { at: to, sequence, stop: None });
                if self.range.touches(at, entry.record.duration_us) {
                    self.grow(at, to, sequence, *recording, u64::from(*bytes));
                }
            }
        }
        let listed = self.coverage.spans.len().max(self.coverage.holes.len()).max(self.coverage.marks.len());
        if listed > LISTED_MAX {
            return Err(Error::new(
                Kind::Invalid,
                format!("the range holds more than {LISTED_MAX} spans: ask for less"),
            ));
        }
        Ok(())
    }

    /// A segment whose footage is gone because its time was over.
    pub(super) fn push_deleted(&mut self, entry: &TimelineEntry) {
        let at = entry.captured_at;
        let to = at.saturating_add(u64::from(entry.record.duration_us));
        let begin = self.edge.map_or(at, |edge| edge.at.max(at));
        self.bound(at, Edge { at: to, sequence: entry.sequence, stop: None });
        self.close_run();
        self.hole(begin, to, Cause::DeletedByPolicy, None);
    }

    /// What came of it so far, so that it need not be kept here. The last span is still growing.
    #[must_use]
    pub(super) fn drain(&mut self) -> Coverage {
        std::mem::take(&mut self.coverage)
    }

    /// What came of it.
    #[must_use]
    pub(super) fn finish(mut self, tail: &Tail) -> Coverage {
        self.close_run();
        self.tail(tail);
        if let Some((low, high)) = self.sequences {
            let pieces = self.gaps.between(low, high).pieces;
            self.coverage.missing = pieces.iter().take(MISSING_MAX).map(Missing::of).collect();
        }
        self.coverage
    }

    /// After the last link of the range.
    fn tail(&mut self, tail: &Tail) {
        let (begin, stop) = self.edge.map_or((self.range.from, None), |edge| (edge.at, edge.stop));
        let known_to = tail.now.unwrap_or(Micros::MAX).max(begin);
        let held = tail.last.filter(|last| self.edge.is_none_or(|edge| *last > edge.sequence));
        let (held_from, held_to) = match held {
            Some(_) => {
                let from = tail.oldest.unwrap_or(begin).max(begin);
                (from, tail.newest.unwrap_or(from).max(from))
            }
            None => (known_to, known_to),
        };
        let before = if stop.is_some() { Cause::Off } else { Cause::Pending };
        self.hole(begin, held_from, before, stop);
        self.hole(held_from, held_to, Cause::NotUploaded, None);
        self.hole(held_to, Micros::MAX, Cause::Pending, None);
    }

    fn mark(&mut self, at: Micros, sequence: Sequence, category: &str) {
        if self.range.touches(at, 0) {
            let category = category.to_owned();
            self.coverage.marks.push(Mark { at, sequence, category });
        }
    }

    /// A bounding link begins at `at` and what is known then ends at `edge`.
    fn bound(&mut self, at: Micros, edge: Edge) {
        let stepped = std::mem::take(&mut self.stepped);
        let Some(before) = self.edge else {
            self.gap(self.range.from, at, (0, edge.sequence), Cause::BeforeFirst, None);
            self.edge = Some(edge);
            return;
        };
        if at.saturating_sub(before.at) > JITTER_US {
            let whole = match before.stop {
                Some(_) => Cause::Off,
                None if stepped => Cause::ClockStep,
                None => Cause::Unknown,
            };
            self.gap(before.at, at, (before.sequence, edge.sequence), whole, before.stop);
        }
        // A segment that reaches beyond a later, shorter one still covers its time.
        self.edge = Some(Edge { at: edge.at.max(before.at), ..edge });
    }

    /// A hole between two links: missing sequences are its cause, or else `whole`.
    fn gap(&mut self, from: Micros, to: Micros, ends: (Sequence, Sequence), whole: Cause, stop: Option<StopCause>) {
        let between = self.gaps.between(ends.0, ends.1);
        let Some(why) = between.why else { return self.hole(from, to, whole, stop) };
        let room = MISSING_OF_HOLE_MAX.min(MISSING_MAX.saturating_sub(self.listed_missing));
        let missing: Vec<Missing> = between.pieces.iter().take(room).map(Missing::of).collect();
        let count = |piece: &Piece| piece.last.saturating_sub(piece.first).saturating_add(1);
        let missing_count = between.pieces.iter().map(count).fold(0, u64::saturating_add);
        let loss = if let Why::Lost(cause) = why { Some(cause) } else { None };
        self.listed_missing += missing.len();
        self.list(Hole { from, to, cause: why.into(), stop, loss, missing, missing_count });
    }

    fn hole(&mut self, from: Micros, to: Micros, cause: Cause, stop: Option<StopCause>) {
        self.list(Hole { from, to, cause, stop, loss: None, missing: Vec::new(), missing_count: 0 });
    }

    /// Lists the part of a hole that lies in the range; one that goes on for the same reason is one hole.
    fn list(&mut self, hole: Hole) {
        let (from, to) = (hole.from.max(self.range.from), hole.to.min(self.range.to));
        if from >= to {
            return;
        }
        if let Some(last) = self.coverage.holes.last_mut()
            && (last.to, last.cause, last.stop) == (from, hole.cause, hole.stop)
            && hole.missing_count == 0
        {
            last.to = to;
            return;
        }
        self.coverage.holes.push(Hole { from, to, ..hole });
    }

    fn grow(&mut self, from: Micros, to: Micros, sequence: Sequence, recording: Sequence, bytes: u64) {
        match &mut self.run {
            Some(run) if run.recording == recording && from <= run.to.saturating_add(JITTER_US) => {
                run.to = run.to.max(to);
                run.first = run.first.min(sequence);
                run.last = run.last.max(sequence);
                run.segments += 1;
                run.bytes = run.bytes.saturating_add(bytes);
            }
            _ => {
                self.close_run();
                self.run = Some(Run { from, to, recording, first: sequence, last: sequence, segments: 1, bytes });
            }
        }
    }

    fn close_run(&mut self) {
        if let Some(run) = self.run.take() {
            self.coverage.spans.push(Span {
                from: run.from.max(self.range.from),
                to: run.to.min(self.range.to),
                recording: run.recording,
                first_sequence: run.first,
                last_sequence: run.last,
                segments: run.segments,
                bytes: run.bytes,
            });
        }
    }
}

#[cfg(test)]
mod tests;
