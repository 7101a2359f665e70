//! From a recorder's timeline to what was recorded and why the rest was not. Pure; entries are pushed one by one in
//! the order of the timeline, so that a month costs no more memory than its spans.
//!
//! Three kinds of links bound time: a recording begins (`Start`), a segment covers a span (`Media`), a recording ends
//! (`Stop`). Whatever lies between two of them and is longer than [`JITTER_US`] is a hole, and every hole has exactly
//! one cause. A hole is never smoothed over, and a cause is only ever what signed links or missing sequences say.

use aigaq_proto::link::StopCause;
use aigaq_proto::{Micros, Sequence, SequenceRange};
use serde::Serialize;
use utoipa::ToSchema;

use super::time::{self, TimeRange};
use crate::error::{Error, Kind, Result};
use crate::store::TimelineEntry;
use crate::store::records::TimelineKind;

/// Segments of one recording that are no further apart belong to one span, microseconds.
pub(super) const JITTER_US: u64 = 50_000;
/// Most spans, holes and marks that one answer holds, each.
const LISTED_MAX: usize = 10_000;

/// Recorded without a hole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Span {
    /// Beginning, RFC 3339 UTC.
    pub(super) from: String,
    /// End, exclusive.
    pub(super) to: String,
    /// Sequence of the recording's `Start` link.
    pub(super) recording: u64,
    /// Sequence of the first segment.
    pub(super) first_sequence: u64,
    /// Sequence of the last segment.
    pub(super) last_sequence: u64,
    /// Number of segments.
    pub(super) segments: u64,
    /// Their size, bytes.
    pub(super) bytes: u64,
}

/// Why nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cause {
    /// The recorder was off; a signed `Stop` link says so, and nothing is missing until it was on again.
    Off,
    /// Links are missing: sequences that never arrived.
    Missing,
    /// The chain is whole, and the clock was set in between.
    ClockStep,
    /// The chain is whole and does not say why.
    Unexplained,
    /// Before the first link of the recorder.
    BeforeFirst,
    /// After the newest link: more may come.
    Pending,
}

/// Nothing is there, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Hole {
    /// Beginning, RFC 3339 UTC.
    pub(super) from: String,
    /// End, exclusive.
    pub(super) to: String,
    /// Why.
    pub(super) cause: Cause,
    /// Why the recording before the hole ended, where a `Stop` link says so: `wearer`, `battery`, `storage-full`,
    /// `shutdown`, `fault`, `schedule` or `source-ended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) stop: Option<StopCause>,
    /// The missing sequences, where they are the cause.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) missing: Vec<Missing>,
}

/// Sequences that never arrived, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Missing {
    /// The first.
    pub(super) first: u64,
    /// The last.
    pub(super) last: u64,
}

/// A mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Mark {
    /// When, RFC 3339 UTC.
    pub(super) at: String,
    /// Its sequence.
    pub(super) sequence: u64,
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
    /// Every sequence that is missing between the links of the range, also where no time is.
    pub(super) missing: Vec<Missing>,
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
    gaps: &'a [SequenceRange],
    edge: Option<Edge>,
    run: Option<Run>,
    stepped: bool,
    sequences: Option<(Sequence, Sequence)>,
    coverage: Coverage,
}

impl<'a> Builder<'a> {
    /// For this range of a recorder with these gaps in its chain.
    #[must_use]
    pub(super) fn new(range: TimeRange, gaps: &'a [SequenceRange]) -> Self {
        Self { range, gaps, edge: None, run: None, stepped: false, sequences: None, coverage: Coverage::default() }
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

    /// What came of it.
    #[must_use]
    pub(super) fn finish(mut self) -> Coverage {
        self.close_run();
        let (from, stop) = self.edge.map_or((self.range.from, None), |edge| (edge.at, edge.stop));
        self.hole(from, self.range.to, Cause::Pending, stop, Vec::new());
        if let Some((low, high)) = self.sequences {
            self.coverage.missing = missing_between(self.gaps, low, high);
        }
        self.coverage
    }

    fn mark(&mut self, at: Micros, sequence: Sequence, category: &str) {
        if self.range.touches(at, 0) {
            let category = category.to_owned();
            self.coverage.marks.push(Mark { at: time::format(at), sequence, category });
        }
    }

    /// A bounding link begins at `at` and what is known then ends at `edge`.
    fn bound(&mut self, at: Micros, edge: Edge) {
        let stepped = std::mem::take(&mut self.stepped);
        let Some(before) = self.edge else {
            let missing = missing_between(self.gaps, 0, edge.sequence);
            let cause = if missing.is_empty() { Cause::BeforeFirst } else { Cause::Missing };
            self.hole(self.range.from, at, cause, None, missing);
            self.edge = Some(edge);
            return;
        };
        if at.saturating_sub(before.at) > JITTER_US {
            let missing = missing_between(self.gaps, before.sequence, edge.sequence);
            let cause = match before.stop {
                _ if !missing.is_empty() => Cause::Missing,
                Some(_) => Cause::Off,
                None if stepped => Cause::ClockStep,
                None => Cause::Unexplained,
            };
            self.hole(before.at, at, cause, before.stop, missing);
        }
        // A segment that reaches beyond a later, shorter one still covers its time.
        self.edge = Some(Edge { at: edge.at.max(before.at), ..edge });
    }

    fn hole(&mut self, from: Micros, to: Micros, cause: Cause, stop: Option<StopCause>, missing: Vec<Missing>) {
        let (from, to) = (from.max(self.range.from), to.min(self.range.to));
        if from < to {
            let (from, to) = (time::format(from), time::format(to));
            self.coverage.holes.push(Hole { from, to, cause, stop, missing });
        }
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
                from: time::format(run.from.max(self.range.from)),
                to: time::format(run.to.min(self.range.to)),
                recording: run.recording,
                first_sequence: run.first,
                last_sequence: run.last,
                segments: run.segments,
                bytes: run.bytes,
            });
        }
    }
}

/// The missing sequences between two that are known.
fn missing_between(gaps: &[SequenceRange], a: Sequence, b: Sequence) -> Vec<Missing> {
    let (low, high) = (a.min(b), a.max(b));
    let between = gaps.iter().filter(|gap| gap.last >= low && gap.first <= high);
    between.map(|gap| Missing { first: gap.first, last: gap.last }).collect()
}

#[cfg(test)]
mod tests;
