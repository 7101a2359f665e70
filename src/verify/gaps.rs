//! `gaps.json` against the links: every hole is named, nothing is called a hole that is footage, and no cause is given that signed
//! links deny.
//!
//! What a recorder has is kept as intervals of time, one after each hole, and of the document what is compared alone: memory grows with
//! the holes and not with the footage. Causes that no link states (`pending`, `not-uploaded`, `lost-with-restore`, `rejected`, `unknown`) are the exporter's
//! word.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::ops::Range;

use aigaq_proto::limits::DURATION_US_MAX;
use aigaq_proto::link::{LossCause, StopCause};
use aigaq_proto::{Content, LinkHeader, Micros, RecorderId, Sequence, verdict};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::files::Files;
use super::lines::{Stream, document};
use super::report::Fault;
use super::source::{Source, unreadable};
use crate::bundle::about;
use crate::bundle::encoding::{at_most, text};
use crate::bundle::line::Clock;
use crate::bundle::{self, DOCUMENT_BYTES_MAX, JITTER_US, RECORDERS_MAX, SPANS_MAX};
use crate::error::Result;

/// Gaps of one recorder, and runs of missing sequences of one gap, that are read.
const GAPS_MAX: usize = SPANS_MAX;
const RUNS_MAX: usize = 1_024;

/// What the document says of a recorder.
#[derive(Debug, Deserialize)]
pub(super) struct Declared {
    #[serde(with = "text")]
    recorder: RecorderId,
    #[serde(deserialize_with = "at_most::<GAPS_MAX, _, _>")]
    gaps: Vec<Gap>,
    #[serde(default)]
    unproven_from: Option<String>,
}

impl Declared {
    /// How many gaps.
    pub(super) fn count(&self) -> u64 {
        self.gaps.len() as u64
    }
}

#[derive(Debug, Deserialize)]
struct Document {
    #[serde(deserialize_with = "at_most::<RECORDERS_MAX, _, _>")]
    recorders: Vec<Declared>,
}

/// A gap as it is compared.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Said")]
struct Gap {
    from: Micros,
    to: Micros,
    corrected: Option<(Micros, Micros)>,
    cause: Cause,
    stop: Option<StopCause>,
    loss: Option<LossCause>,
    missing: Box<[(Sequence, Sequence)]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Cause {
    Off,
    NotUploaded,
    LostOnDevice,
    LostWithRestore,
    Rejected,
    DeletedByPolicy,
    ClockStep,
    BeforeFirst,
    Pending,
    Unknown,
    Damaged,
}

/// The members of a gap.
#[derive(Deserialize)]
struct Said {
    from: String,
    to: String,
    #[serde(default)]
    corrected: Option<(String, String)>,
    cause: Cause,
    #[serde(default)]
    stop: Option<StopCause>,
    #[serde(default)]
    loss: Option<LossCause>,
    #[serde(default = "Vec::new", deserialize_with = "at_most::<RUNS_MAX, _, _>")]
    missing: Vec<about::Missing>,
    #[serde(default)]
    missing_count: u64,
}

impl TryFrom<Said> for Gap {
    type Error = &'static str;

    fn try_from(said: Said) -> Result<Self, Self::Error> {
        let time = |text: &str| about::micros(text).ok_or("a time does not read");
        let corrected = said.corrected.map(|(from, to)| Ok::<_, &str>((time(&from)?, time(&to)?)));
        let length = |run: &about::Missing| run.last.checked_sub(run.first).and_then(|more| more.checked_add(1));
        let listed = said.missing.iter().try_fold(0_u64, |sum, run| sum.checked_add(length(run)?));
        if listed.is_none_or(|listed| listed > said.missing_count) {
            return Err("the missing sequences do not add up");
        }
        Ok(Self {
            from: time(&said.from)?,
            to: time(&said.to)?,
            corrected: corrected.transpose()?,
            cause: said.cause,
            stop: said.stop,
            loss: said.loss,
            missing: said.missing.iter().map(|run| (run.first, run.last)).collect(),
        })
    }
}

/// What `gaps.json` says, by recorder.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) if it is too long, and those of reading.
pub(super) fn read(source: &Source, files: &mut Files) -> Result<BTreeMap<RecorderId, Declared>> {
    let Some(section) = source.section(bundle::GAPS)? else { return Ok(BTreeMap::new()) };
    if section.length > DOCUMENT_BYTES_MAX {
        return Err(unreadable(format!("{} is longer than {DOCUMENT_BYTES_MAX} bytes", bundle::GAPS)));
    }
    let mut stream = BufReader::new(Stream::new(section));
    let read: Option<Document> = document(from_reader(&mut stream))?;
    files.compare(bundle::GAPS, stream.into_inner().digest()?);
    let Some(Document { recorders }) = read else {
        files.faults.add(bundle::GAPS, Fault::Unreadable);
        return Ok(BTreeMap::new());
    };
    let mut declared = BTreeMap::new();
    for one in recorders {
        if declared.insert(one.recorder, one).is_some() {
            files.faults.add(bundle::GAPS, Fault::Contradicts);
        }
    }
    Ok(declared)
}

fn from_reader<T: DeserializeOwned>(stream: &mut impl std::io::Read) -> serde_json::Result<T> {
    serde_json::from_reader(stream)
}

/// What the links of a recorder say of time.
#[derive(Default)]
pub(super) struct Timeline {
    /// Footage that is there, rising as far as the clock was not set.
    there: Vec<Range<Micros>>,
    /// Where a recording begins or ends, or footage that is not there, without length.
    bounds: Vec<Micros>,
    deleted: Vec<Range<Micros>>,
    damaged: Vec<Range<Micros>>,
    stops: Vec<(Micros, StopCause)>,
    lost: Vec<(Sequence, Sequence, LossCause)>,
    /// Sequences that are there, rising.
    sequences: Vec<(Sequence, Sequence)>,
    steps: bool,
    /// The clock of the first link that touches the range and has one.
    clock: Option<Clock>,
    /// Whether there are more intervals than are kept.
    full: bool,
}

impl Timeline {
    /// One more link of the chain, by sequence.
    pub(super) fn link(&mut self, header: &LinkHeader, payload: &verdict::Payload, clock: Option<Clock>, inside: bool) {
        if inside {
            self.clock = self.clock.or(clock);
        }
        let (at, sequence) = (header.captured_at, header.sequence);
        let span = at..at.saturating_add(u64::from(header.duration_us));
        match self.sequences.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(sequence) => *last = sequence,
            _ => self.full |= !push(&mut self.sequences, (sequence, sequence)),
        }
        match &header.content {
            Content::Media { .. } => match payload {
                verdict::Payload::Present { .. } => self.full |= !join(&mut self.there, span, JITTER_US),
                gone => {
                    self.full |= !push(&mut self.bounds, at) || !push(&mut self.bounds, span.end);
                    match gone {
                        verdict::Payload::Deleted | verdict::Payload::DeletionUnproved => {
                            self.full |= !join(&mut self.deleted, span, JITTER_US);
                        }
                        verdict::Payload::Damaged => self.full |= !join(&mut self.damaged, span, JITTER_US),
                        // One that the range does not touch.
                        _ => {}
                    }
                }
            },
            Content::Start { .. } => self.full |= !push(&mut self.bounds, at),
            Content::Stop { cause, .. } => {
                self.full |= !push(&mut self.bounds, at) || !push(&mut self.stops, (at, *cause));
            }
            Content::Lost { first, last, cause, .. } => self.full |= !push(&mut self.lost, (*first, *last, *cause)),
            Content::ClockStep { .. } => self.steps = true,
            Content::Mark { .. } | Content::Health { .. } => {}
        }
    }

    /// What is wrong with what is said of the holes in `range`.
    pub(super) fn faults(mut self, declared: Option<&Declared>, range: &Range<Micros>) -> BTreeSet<Wrong> {
        let mut wrong = BTreeSet::new();
        if self.full {
            // More than an exporter may put into one bundle.
            wrong.insert(Wrong::Contradicts);
            return wrong;
        }
        for spans in [&mut self.there, &mut self.deleted, &mut self.damaged] {
            merge(spans);
        }
        let none = Vec::new();
        let gaps = declared.map_or(&none, |declared| &declared.gaps);
        let mut before = range.start;
        for gap in gaps {
            if gap.from >= gap.to || gap.from < before || gap.to > range.end {
                wrong.insert(Wrong::Contradicts);
            }
            before = before.max(gap.from);
            if self.denies(gap, range) {
                wrong.insert(Wrong::False);
            }
        }
        if self.holes(range).any(|hole| !covered(&hole, gaps)) {
            wrong.insert(Wrong::Undeclared);
        }
        let open = |gap: &&Gap| gap.to == range.end && matches!(gap.cause, Cause::Pending | Cause::NotUploaded);
        let dangling = gaps.last().filter(open).map(|gap| about::time(gap.from));
        let said = declared.and_then(|declared| declared.unproven_from.clone());
        if dangling != said {
            wrong.insert(if said.is_none() { Wrong::Undeclared } else { Wrong::False });
        }
        wrong
    }

    /// Whether the links deny a gap, or its cause.
    fn denies(&self, gap: &Gap, range: &Range<Micros>) -> bool {
        let corrected = self.clock.map(|clock| (clock.corrected(gap.from), clock.corrected(gap.to)));
        let at_edge = gap.from == range.start;
        let stopped = |cause: StopCause| {
            let begin = gap.from.saturating_sub(u64::from(DURATION_US_MAX));
            self.stops.iter().any(|(at, said)| *said == cause && *at <= gap.to && (at_edge || *at >= begin))
        };
        let lost = |cause: LossCause| {
            let overlaps = |(first, last): &(Sequence, Sequence), lost: &(Sequence, Sequence, LossCause)| {
                lost.0 <= *last && *first <= lost.1 && lost.2 == cause
            };
            gap.missing.iter().any(|run| self.lost.iter().any(|lost| overlaps(run, lost)))
        };
        let cause = match gap.cause {
            Cause::Off => gap.stop.is_some(),
            Cause::LostOnDevice => gap.loss.is_some_and(lost),
            Cause::DeletedByPolicy => within(gap, &self.deleted),
            // A link that does not even read has no line.
            Cause::Damaged => within(gap, &self.damaged) || self.sequences.len() > 1,
            Cause::ClockStep => self.steps || at_edge,
            Cause::BeforeFirst => {
                let first =
                    self.bounds.iter().min().into_iter().chain(self.there.first().map(|span| &span.start)).min();
                at_edge && first.is_none_or(|first| first.saturating_add(JITTER_US) >= gap.to)
            }
            Cause::NotUploaded | Cause::LostWithRestore | Cause::Rejected | Cause::Pending | Cause::Unknown => true,
        };
        let footage = gap.cause != Cause::Damaged && overlapped(&self.there, gap);
        let there = |(first, last): &(Sequence, Sequence)| {
            let at = self.sequences.partition_point(|run| run.1 < *first);
            self.sequences.get(at).is_some_and(|run| run.0 <= *last)
        };
        let reason = gap.stop.is_none_or(stopped) && (gap.loss.is_none() || gap.cause == Cause::LostOnDevice);
        !cause || !reason || footage || gap.missing.iter().any(there) || gap.corrected != corrected
    }

    /// The holes of the range that have to be named, in order.
    fn holes(&self, range: &Range<Micros>) -> impl Iterator<Item = Range<Micros>> {
        let mut edges: Vec<Range<Micros>> = self.there.clone();
        edges.extend(self.bounds.iter().map(|at| *at..*at));
        edges.push(range.end..range.end);
        edges.sort_by_key(|edge| (edge.start, edge.end));
        let (mut known, range) = (range.start, range.clone());
        let found = edges.into_iter().filter_map(move |edge| {
            let hole = known..edge.start.min(range.end);
            known = known.max(edge.end);
            (hole.end > hole.start.saturating_add(JITTER_US)).then_some(hole)
        });
        found.collect::<Vec<_>>().into_iter()
    }
}

/// What is wrong with what is said of holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wrong {
    /// One is not named.
    Undeclared,
    /// One is none, or has another cause.
    False,
    /// They are not in order or not in the range, or there are too many.
    Contradicts,
}

impl Wrong {
    /// The same as what is wrong with the file.
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Undeclared => Fault::UndeclaredGap,
            Self::False => Fault::FalseGap,
            Self::Contradicts => Fault::Contradicts,
        }
    }
}

/// Adds a value, as long as there is room.
fn push<T>(to: &mut Vec<T>, value: T) -> bool {
    // Bounds come twice a recording, and twice a segment that is gone.
    let room = to.len() < 4 * SPANS_MAX;
    if room {
        to.push(value);
    }
    room
}

/// Adds an interval to the last one if it goes on there.
fn join(to: &mut Vec<Range<Micros>>, span: Range<Micros>, slack: u64) -> bool {
    match to.last_mut() {
        Some(last) if span.start >= last.start && span.start <= last.end.saturating_add(slack) => {
            last.end = last.end.max(span.end);
            true
        }
        _ => push(to, span),
    }
}

/// Sorts intervals and makes one of those that touch.
fn merge(spans: &mut Vec<Range<Micros>>) {
    spans.sort_by_key(|span| (span.start, span.end));
    let sorted = std::mem::take(spans);
    for span in sorted {
        join(spans, span, JITTER_US);
    }
}

/// Whether footage lies in a gap, by more than the slack.
fn overlapped(there: &[Range<Micros>], gap: &Gap) -> bool {
    let at = there.partition_point(|span| span.end <= gap.from.saturating_add(JITTER_US));
    there.get(at).is_some_and(|span| span.start.saturating_add(JITTER_US) < gap.to)
}

/// Whether a gap lies in one of the intervals, but for the slack.
fn within(gap: &Gap, spans: &[Range<Micros>]) -> bool {
    spans
        .iter()
        .any(|span| span.start <= gap.from.saturating_add(JITTER_US) && gap.to <= span.end.saturating_add(JITTER_US))
}

/// Whether gaps cover a hole, but for the slack between two of them.
fn covered(hole: &Range<Micros>, gaps: &[Gap]) -> bool {
    let mut known = hole.start;
    for gap in gaps.iter().filter(|gap| gap.to > hole.start && gap.from < hole.end) {
        if gap.from > known.saturating_add(JITTER_US) {
            return false;
        }
        known = known.max(gap.to);
    }
    known.saturating_add(JITTER_US) >= hole.end
}

#[cfg(test)]
mod tests {
    use aigaq_proto::Digest;

    use super::*;

    const RANGE: Range<Micros> = 0..20_000_000;
    const SECOND: Micros = 1_000_000;

    fn timeline(contents: &[(Sequence, u64, Content)]) -> Timeline {
        let mut timeline = Timeline::default();
        for (sequence, at, content) in contents {
            let media = matches!(content, Content::Media { .. });
            let header = LinkHeader {
                recorder: RecorderId([1; 16]),
                sequence: *sequence,
                previous: Digest::ZERO,
                captured_at: at * SECOND,
                duration_us: if media { 2_000_000 } else { 0 },
                payload_length: 1,
                payload_digest: Digest::ZERO,
                content: content.clone(),
                fixes: Vec::new(),
            };
            let present = verdict::Payload::Present { digest: Digest::ZERO, length: 1, boxes: true };
            timeline.link(&header, &present, None, true);
        }
        timeline
    }

    fn media() -> Content {
        Content::Media { recording: 0, ordinal: 0, independent: true }
    }

    fn stop() -> Content {
        Content::Stop { recording: 0, cause: StopCause::Wearer }
    }

    fn gap(from: u64, to: u64, cause: Cause) -> Gap {
        let (stop, loss, missing) = ((cause == Cause::Off).then_some(StopCause::Wearer), None, Box::default());
        Gap { from: from * SECOND, to: to * SECOND, corrected: None, cause, stop, loss, missing }
    }

    fn judged(contents: &[(Sequence, u64, Content)], gaps: Vec<Gap>, unproven: Option<u64>) -> Vec<Wrong> {
        let unproven_from = unproven.map(|from| about::time(from * SECOND));
        let declared = Declared { recorder: RecorderId([1; 16]), gaps, unproven_from };
        timeline(contents).faults(Some(&declared), &RANGE).into_iter().collect()
    }

    /// Footage from 4 s to 8 s, then a hole with a missing link, then footage until 14 s and a stop.
    fn recorded() -> Vec<(Sequence, u64, Content)> {
        vec![
            (0, 4, Content::Start { codecs: String::new() }),
            (1, 4, media()),
            (2, 6, media()),
            (4, 10, media()),
            (5, 12, media()),
            (6, 14, stop()),
        ]
    }

    fn honest() -> Vec<Gap> {
        vec![gap(0, 4, Cause::BeforeFirst), gap(8, 10, Cause::Unknown), gap(14, 20, Cause::Off)]
    }

    #[test]
    fn holes_that_are_named_as_they_are_agree_with_the_links() {
        assert_eq!(judged(&recorded(), honest(), None), []);
    }

    #[test]
    fn a_hole_that_is_not_named_is_found() {
        for left_out in 0..3 {
            let mut gaps = honest();
            gaps.remove(left_out);
            assert_eq!(judged(&recorded(), gaps, None), [Wrong::Undeclared], "{left_out}");
        }
        assert_eq!(timeline(&recorded()).faults(None, &RANGE), BTreeSet::from([Wrong::Undeclared]));
    }

    #[test]
    fn a_gap_where_there_is_footage_or_a_link_is_found() {
        let mut gaps = honest();
        gaps[1] = gap(7, 10, Cause::Unknown);
        assert_eq!(judged(&recorded(), gaps, None), [Wrong::False]);
        let mut gaps = honest();
        gaps[1].missing = Box::new([(3, 4)]);
        assert_eq!(judged(&recorded(), gaps, None), [Wrong::False], "link 4 is there");
    }

    #[test]
    fn a_cause_that_the_links_deny_is_found() {
        for cause in [Cause::Off, Cause::LostOnDevice, Cause::DeletedByPolicy, Cause::ClockStep, Cause::BeforeFirst] {
            let mut gaps = honest();
            gaps[1] = gap(8, 10, cause);
            let wrong = judged(&recorded()[..5], gaps, None);
            assert!(wrong.contains(&Wrong::False), "{cause:?}: {wrong:?}");
        }
        let mut gaps = honest();
        gaps[2].stop = Some(StopCause::Battery);
        assert_eq!(judged(&recorded(), gaps, None), [Wrong::False], "it was not the battery");
    }

    #[test]
    fn the_end_that_nothing_proves_is_named() {
        let contents = &recorded()[..5];
        let gaps = || vec![gap(0, 4, Cause::BeforeFirst), gap(8, 10, Cause::Unknown), gap(14, 20, Cause::Pending)];
        assert_eq!(judged(contents, gaps(), Some(14)), []);
        assert_eq!(judged(contents, gaps(), None), [Wrong::Undeclared]);
        assert_eq!(judged(contents, gaps(), Some(15)), [Wrong::False]);
    }

    #[test]
    fn order_and_range_are_looked_at() {
        let mut gaps = honest();
        gaps.swap(0, 1);
        assert_eq!(judged(&recorded(), gaps, None), [Wrong::Contradicts]);
        let mut gaps = honest();
        gaps[2].to += 1;
        assert!(judged(&recorded(), gaps, None).contains(&Wrong::Contradicts));
    }
}
