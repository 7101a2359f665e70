//! What the timeline says, and what it does not.

use super::*;
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
    let mut builder = Builder::new(RANGE, gaps);
    entries.iter().for_each(|entry| builder.push(entry).unwrap());
    builder.finish()
}

fn holes(coverage: &Coverage) -> Vec<(u64, u64, Cause)> {
    let seconds = |text: &str| time::parse("from", text).unwrap() / S;
    coverage.holes.iter().map(|hole| (seconds(&hole.from), seconds(&hole.to), hole.cause)).collect()
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
    assert_eq!(holes(&coverage), [(110, 150, Cause::Missing), (160, 190, Cause::Unexplained)]);
    assert_eq!(coverage.holes.first().unwrap().missing, [Missing { first: 4, last: 8 }]);
    assert_eq!(coverage.missing, [Missing { first: 4, last: 8 }]);
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
