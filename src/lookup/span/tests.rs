//! What the timeline says, and what it does not.

use aigaq_proto::SequenceRange;

use super::*;
use crate::lookup::explain::Known;
use crate::store::records::TimelineRecord;

const S: u64 = 1_000_000;
const RANGE: TimeRange = TimeRange { from: 100 * S, to: 200 * S };

fn entry(at_s: u64, sequence: u64, duration_s: u32, kind: TimelineKind) -> TimelineEntry {
    let record = TimelineRecord { duration_us: duration_s * 1_000_000, kind };
    TimelineEntry { captured_at: at_s * S, sequence, record }
}

fn media(at_s: u64, sequence: u64, recording: u64) -> TimelineEntry {
    entry(at_s, sequence, 10, TimelineKind::Media { recording, ordinal: sequence, bytes: 7, independent: true })
}

fn coverage(entries: &[TimelineEntry], gaps: &[SequenceRange]) -> Coverage {
    told(entries, gaps, &Known::default(), None)
}

/// What is known when the recorder has told this.
fn told(entries: &[TimelineEntry], gaps: &[SequenceRange], known: &Known, now: Option<u64>) -> Coverage {
    let gaps = Gaps::explain(gaps, known);
    let mut builder = Builder::new(RANGE, &gaps);
    entries.iter().for_each(|entry| builder.push(entry).unwrap());
    builder.finish(&Tail::of(known.announced.as_ref(), now.map(|now| now * S)))
}

fn holding(first: u64, last: u64, oldest_s: u64, newest_s: u64) -> Known {
    let waiting = vec![SequenceRange { first, last }];
    let (oldest, newest, up_to) = (Some(oldest_s * S), Some(newest_s * S), Some(last));
    let announced = AnnouncementRecord { at: 1, waiting, oldest, newest, up_to, ..Default::default() };
    Known { announced: Some(announced), ..Known::default() }
}

fn holes(coverage: &Coverage) -> Vec<(u64, u64, Cause)> {
    coverage.holes.iter().map(|hole| (hole.from / S, hole.to / S, hole.cause)).collect()
}

#[test]
fn a_range_without_anything_is_one_pending_hole() {
    assert_eq!(holes(&coverage(&[], &[])), [(100, 200, Cause::Pending)]);
}

#[test]
fn an_off_period_lies_between_stop_and_start() {
    let stop = TimelineKind::Stop { recording: 0, cause: StopCause::Wearer };
    let entries = [
        entry(90, 0, 0, TimelineKind::Start),
        media(90, 1, 0),
        media(100, 2, 0),
        entry(110, 3, 0, stop),
        entry(150, 4, 0, TimelineKind::Start),
        media(150, 5, 4),
        media(160, 6, 4),
    ];
    let coverage = coverage(&entries, &[]);
    assert_eq!(holes(&coverage), [(110, 150, Cause::Off), (170, 200, Cause::Pending)]);
    assert_eq!(coverage.holes.first().unwrap().stop, Some(StopCause::Wearer));
    let runs: Vec<_> =
        coverage.spans.iter().map(|span| (span.first_sequence, span.last_sequence, span.bytes)).collect();
    assert_eq!(runs, [(2, 2, 7), (5, 6, 14)]);
}

#[test]
fn missing_sequences_are_the_cause_before_all_others() {
    let gap = SequenceRange { first: 4, last: 8 };
    let stop = TimelineKind::Stop { recording: 0, cause: StopCause::Wearer };
    let entries = [media(100, 2, 0), entry(110, 3, 0, stop), media(150, 9, 0), media(190, 10, 0)];
    let coverage = coverage(&entries, &[gap]);
    assert_eq!(holes(&coverage), [(110, 150, Cause::Unknown), (160, 190, Cause::Unknown)]);
    let missing = [Missing { first: 4, last: 8, cause: Cause::Unknown }];
    assert_eq!((&coverage.holes[0].missing[..], coverage.holes[0].missing_count), (&missing[..], 5));
    assert_eq!(coverage.missing, missing);
    assert_eq!(coverage.holes[1].missing_count, 0);
}

#[test]
fn what_lies_outside_only_explains() {
    let stop = TimelineKind::Stop { recording: 0, cause: StopCause::Battery };
    let entries = [entry(50, 3, 0, stop), entry(300, 4, 0, TimelineKind::Start)];
    let coverage = coverage(&entries, &[SequenceRange { first: 90, last: 99 }]);
    assert_eq!(holes(&coverage), [(100, 200, Cause::Off)]);
    assert!(coverage.spans.is_empty() && coverage.missing.is_empty());
}

#[test]
fn before_the_first_link_is_not_off() {
    assert_eq!(holes(&coverage(&[media(190, 0, 0)], &[])), [(100, 190, Cause::BeforeFirst)]);
}

#[test]
fn a_stop_explains_what_comes_after_it_until_now() {
    let stop = TimelineKind::Stop { recording: 0, cause: StopCause::Battery };
    let entries = [media(100, 1, 0), entry(110, 2, 0, stop)];
    let coverage = told(&entries, &[], &Known::default(), Some(150));
    assert_eq!(holes(&coverage), [(110, 150, Cause::Off), (150, 200, Cause::Pending)]);
    assert_eq!(coverage.holes[0].stop, Some(StopCause::Battery));
}

#[test]
fn what_the_recorder_holds_is_not_uploaded() {
    let entries = [media(100, 1, 0), media(110, 2, 0)];
    let coverage = told(&entries, &[], &holding(3, 9, 120, 160), Some(300));
    assert_eq!(holes(&coverage), [(120, 160, Cause::NotUploaded), (160, 200, Cause::Pending)]);
    let before = [media(100, 1, 0), media(190, 9, 0)];
    let gap = SequenceRange { first: 2, last: 8 };
    assert_eq!(holes(&told(&before, &[gap], &holding(2, 8, 110, 190), None)), [(110, 190, Cause::NotUploaded)]);
}

#[test]
fn a_recorder_that_was_off_and_on_again_without_a_network_holds_what_it_made_since() {
    let stop = TimelineKind::Stop { recording: 0, cause: StopCause::Wearer };
    let entries = [media(100, 1, 0), entry(110, 2, 0, stop)];
    let coverage = told(&entries, &[], &holding(3, 9, 140, 170), Some(300));
    let expected = [(110, 140, Cause::Off), (140, 170, Cause::NotUploaded), (170, 200, Cause::Pending)];
    assert_eq!(holes(&coverage), expected);
}

#[test]
fn what_a_lost_link_names_is_lost_on_the_device() {
    let gap = SequenceRange { first: 2, last: 8 };
    let known = Known { lost: vec![(gap, LossCause::StorageFull)], ..Known::default() };
    let coverage = told(&[media(100, 1, 0), media(190, 9, 0)], &[gap], &known, None);
    assert_eq!(holes(&coverage), [(110, 190, Cause::LostOnDevice)]);
    assert_eq!(coverage.holes[0].loss, Some(LossCause::StorageFull));
}

#[test]
fn what_was_refused_is_rejected() {
    let gap = SequenceRange { first: 2, last: 2 };
    let known = Known { rejected: vec![gap], ..Known::default() };
    let coverage = told(&[media(100, 1, 0), media(190, 3, 0)], &[gap], &known, None);
    assert_eq!(holes(&coverage), [(110, 190, Cause::Rejected)]);
}

#[test]
fn the_first_links_of_a_recorder_may_be_missing() {
    let gap = SequenceRange { first: 0, last: 4 };
    let entries = [media(190, 5, 0)];
    assert_eq!(holes(&told(&entries, &[gap], &holding(0, 4, 120, 190), None)), [(100, 190, Cause::NotUploaded)]);
    assert_eq!(holes(&coverage(&entries, &[gap])), [(100, 190, Cause::Unknown)]);
}

#[test]
fn a_clock_that_was_set_explains_a_hole_in_a_whole_chain() {
    let entries = [media(100, 1, 0), entry(110, 2, 0, TimelineKind::ClockStep), media(190, 3, 0)];
    assert_eq!(holes(&coverage(&entries, &[])), [(110, 190, Cause::ClockStep)]);
}

#[test]
fn footage_whose_time_was_over_leaves_a_hole_that_says_so() {
    let gaps = Gaps::default();
    let mut builder = Builder::new(RANGE, &gaps);
    builder.push(&media(100, 1, 0)).unwrap();
    builder.push_deleted(&media(110, 2, 0));
    builder.push_deleted(&media(120, 3, 0));
    builder.push(&media(130, 4, 0)).unwrap();
    let coverage = builder.finish(&Tail::default());
    assert_eq!(holes(&coverage), [(110, 130, Cause::DeletedByPolicy), (140, 200, Cause::Pending)]);
    assert_eq!(coverage.spans.len(), 2);
}

#[test]
fn runs_of_missing_sequences_are_listed_up_to_a_limit_and_counted_beyond_it() {
    let gaps: Vec<SequenceRange> = (0..1_000).map(|at| SequenceRange { first: 2 * at + 2, last: 2 * at + 2 }).collect();
    let coverage = coverage(&[media(100, 1, 0), media(190, 9_999, 0)], &gaps);
    assert_eq!((coverage.holes[0].missing.len(), coverage.holes[0].missing_count), (MISSING_OF_HOLE_MAX, 1_000));
}

#[test]
fn what_is_drained_on_the_way_is_the_same_as_what_is_kept() {
    let gap = SequenceRange { first: 3, last: 3 };
    let entries: Vec<TimelineEntry> =
        [100, 110, 150, 160, 190].iter().zip([1, 2, 4, 5, 6]).map(|(at, sequence)| media(*at, sequence, 0)).collect();
    let kept = coverage(&entries, &[gap]);
    let gaps = Gaps::explain(&[gap], &Known::default());
    let mut builder = Builder::new(RANGE, &gaps);
    let (mut spans, mut found) = (Vec::new(), Vec::new());
    for entry in &entries {
        builder.push(entry).unwrap();
        let drained = builder.drain();
        spans.extend(drained.spans);
        found.extend(drained.holes);
    }
    let last = builder.finish(&Tail::default());
    assert_eq!([spans, last.spans].concat(), kept.spans);
    assert_eq!([found, last.holes].concat(), kept.holes);
}
