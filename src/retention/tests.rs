//! Retention over simulated months, with the clock in the test's hand and faults where it wants them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use aigaq_proto::link::StopCause;
use aigaq_proto::message::RefusalReason;
use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId, link};
use bytes::Bytes;
use prometheus::Registry;

use super::{Destroyed, GRACE_US, HELD_DAYS, Metrics, Outcome, Planned, Retention, ask, destroy, preview, withdraw};
use crate::clock::Clock;
use crate::error::{Kind, Result};
use crate::seal::{self, Ring};
use crate::store::engine::Family;
use crate::store::engine::memory::{FailAt, Memory};
use crate::store::policy::{DAY_US, Rule, day_of};
use crate::store::records::{
    self, Act, AuditRecord, Body, Event, HoldRecord, LinkRecord, Owner, QuarantineRecord, RecorderKey, RecorderKind,
    RecorderRecord,
};
use crate::store::{Commit, NewLink, NewQuarantine, Policy, Released, Store, Wished, keys};

/// The day on which the tests begin.
const DAY: u32 = 20_000;
const BODY: usize = 100;
const SECOND: u64 = 1_000_000;

struct Rig {
    /// Where the keys lie.
    home: Arc<tempfile::TempDir>,
    memory: Memory,
    store: Store,
    clock: Clock,
    retention: Retention,
    metrics: Metrics,
    policy: Policy,
}

fn at(day: u32) -> Micros {
    u64::from(day) * DAY_US
}

fn act(by: &str, now: Micros) -> Act {
    Act { at: now, by: by.to_owned(), reason: "case 7".to_owned() }
}

impl Rig {
    fn new() -> Self {
        let policy = Policy {
            default_days: 10,
            departments: BTreeMap::from([("Custody".to_owned(), 40)]),
            categories: BTreeMap::from([("force".to_owned(), 100), ("note".to_owned(), 5)]),
        };
        let home = Arc::new(tempfile::tempdir().unwrap());
        Self::over(home, Memory::default(), Clock::fixed(at(DAY)), policy)
    }

    fn over(home: Arc<tempfile::TempDir>, memory: Memory, clock: Clock, policy: Policy) -> Self {
        let ring = Ring::open(home.path(), &seal::Settings::default()).unwrap();
        let store = Store::with_keys(Arc::new(memory.clone()), policy.clone(), ring).unwrap();
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let retention = Retention::new(store.clone(), clock.clone(), metrics.clone(), 0);
        Self { home, memory, store, clock, retention, metrics, policy }
    }

    /// What a new process finds.
    fn restart(&self) -> Self {
        Self::over(Arc::clone(&self.home), self.memory.restart(), self.clock.clone(), self.policy.clone())
    }

    fn recorder(&self, name: u8, department: &str) -> RecorderId {
        let key = RecorderKey { spki: vec![name; 16], since: 0, not_after: None };
        let record = RecorderRecord::new(RecorderKind::Officer, department.into(), format!("R-{name}"), key);
        self.store.enrol(&record).unwrap();
        record.id
    }

    fn send(&self, links: Vec<NewLink>) {
        self.store.commit(Commit { number: self.store.next_commit(), links, ..Commit::default() }).unwrap();
    }

    /// Ten segments of a second each, with the sequences from `first` on, recorded when they arrive.
    fn record(&self, recorder: RecorderId, first: u64) {
        let now = self.clock.now();
        let segments = (0..10).map(|n| media(recorder, first + n, now + n * SECOND, now));
        self.send(segments.collect());
    }

    /// Lets the days pass, with a round on each.
    fn to(&self, day: u32) {
        for day in day_of(self.clock.now()) + 1..=day {
            self.clock.set(at(day));
            self.retention.round().unwrap();
        }
    }

    fn is_there(&self, recorder: RecorderId, sequence: u64) -> bool {
        let link = self.store.link(recorder, sequence).unwrap().unwrap();
        match self.store.body(&link) {
            Ok(body) => {
                assert_eq!(body, payload(sequence));
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), Kind::NotFound, "{error}");
                assert!(error.context().contains("deleted by policy"), "{error}");
                false
            }
        }
    }

    fn seen(&self, recorder: RecorderId, sequences: Range<u64>) -> Vec<u64> {
        sequences.filter(|sequence| self.is_there(recorder, *sequence)).collect()
    }

    fn bytes(&self) -> usize {
        use crate::store::engine::Engine as _;
        self.memory.bodies().map(|body| body.unwrap().1.len() - seal::OVERHEAD_BYTES).sum()
    }

    /// What the trail says of destroyed keys.
    fn destructions(&self) -> Vec<String> {
        let entries = self.store.audit_entries(0..u64::MAX).map(Result::unwrap);
        entries.filter(|entry| entry.event == Event::KeyDestruction).map(|entry| entry.action).collect()
    }

    fn trail(&self) -> Vec<String> {
        self.store
            .audit_entries(0..u64::MAX)
            .map(Result::unwrap)
            .map(|entry| format!("{}: {}", entry.object, entry.action))
            .collect()
    }
}

fn payload(sequence: u64) -> Bytes {
    let mut bytes = vec![7; BODY];
    bytes[..8].copy_from_slice(&sequence.to_be_bytes());
    bytes.into()
}

fn new_link(recorder: RecorderId, sequence: u64, captured_at: Micros, now: Micros, content: Content) -> NewLink {
    let is_media = matches!(content, Content::Media { .. });
    let has_payload = is_media || matches!(content, Content::Start { .. });
    let payload = if has_payload { payload(sequence) } else { Bytes::new() };
    let header = LinkHeader {
        recorder,
        sequence,
        previous: if sequence == 0 { Digest::ZERO } else { Digest([1; 32]) },
        captured_at,
        duration_us: if is_media { SECOND as u32 } else { 0 },
        payload_length: payload.len() as u32,
        payload_digest: Digest::of(&payload),
        content,
        fixes: Vec::new(),
    };
    let bytes = header.encode().unwrap();
    let digest = link::digest(&bytes);
    let record = LinkRecord {
        header: bytes,
        signature: vec![0; 64],
        received_at: now,
        clock: None,
        body: Body::None,
        log_index: 0,
        tree_size: 1,
    };
    NewLink { header, digest, record, payload }
}

fn media(recorder: RecorderId, sequence: u64, captured_at: Micros, now: Micros) -> NewLink {
    let content = Content::Media { recording: 0, ordinal: sequence.saturating_sub(1), independent: true };
    new_link(recorder, sequence, captured_at, now, content)
}

fn mark(recorder: RecorderId, sequence: u64, captured_at: Micros, now: Micros, category: &str) -> NewLink {
    let content = Content::Mark { category: category.into(), note: String::new(), before_s: 0, after_s: 0 };
    new_link(recorder, sequence, captured_at, now, content)
}

#[test]
fn footage_is_hidden_when_its_days_are_over_and_its_bytes_go_seven_days_later() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    rig.record(recorder, 1);
    rig.to(DAY + 10);
    assert_eq!(rig.seen(recorder, 1..11).len(), 10, "the day on which it arrived does not count");
    rig.to(DAY + 11);
    assert!(rig.seen(recorder, 1..11).is_empty());
    assert_eq!(rig.bytes(), 10 * BODY, "hidden, and still there");
    rig.to(DAY + 17);
    assert_eq!(rig.bytes(), 10 * BODY);
    rig.to(DAY + 18);
    assert_eq!(rig.bytes(), 0);
    assert!(!rig.is_there(recorder, 1));
    assert!(rig.store.link(recorder, 1).unwrap().is_some(), "the link stays");
    assert_eq!(rig.store.first_expiring(0).unwrap(), None);
    assert_eq!(rig.metrics.deleted_bytes.with_label_values(&["default"]).get(), 1_000);
    let (_, day) = rig.store.days(0..u32::MAX).next().unwrap().unwrap();
    assert_eq!((day.gone_at, day.links, day.bytes), (Some(at(DAY + 18)), 10, 1_000));
}

#[test]
fn a_deletion_says_before_the_bytes_go_what_goes_and_by_which_rule() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    rig.record(recorder, 1);
    rig.record(recorder, 21);
    rig.to(DAY + 18);
    let statement = rig.trail().into_iter().find(|line| line.contains("delete day")).unwrap();
    assert!(statement.contains(&recorder.to_string()), "{statement}");
    assert!(statement.contains("20 links of 2000 bytes, sequences 1-10,21-30, kept by default policy of 10 days"));
    let links = (1..11).chain(21..31).map(|sequence| rig.store.link(recorder, sequence).unwrap().unwrap());
    let digests = links.flat_map(|record| link::digest(&record.header).0);
    let all: Vec<u8> = super::DOMAIN.iter().copied().chain(digests).collect();
    assert!(statement.contains(&Digest::of(&all).to_string()), "who has the links can compute it again");
}

#[test]
fn each_department_has_its_policy_and_a_changed_one_concerns_what_arrives_later() {
    let rig = Rig::new();
    let (patrol, custody) = (rig.recorder(1, "Patrol"), rig.recorder(2, "Custody"));
    rig.record(patrol, 1);
    rig.record(custody, 1);
    let mut later = rig.restart();
    later.policy.departments.insert("Patrol".into(), 20);
    let rig = later.restart();
    rig.record(patrol, 11);
    rig.to(DAY + 11);
    assert_eq!((rig.seen(patrol, 1..21), rig.seen(custody, 1..11).len()), ((11..21).collect(), 10));
    rig.to(DAY + 41);
    assert_eq!((rig.seen(patrol, 1..21).len(), rig.seen(custody, 1..11).len()), (0, 0));
}

#[test]
fn a_recorder_that_moves_to_another_department_is_kept_by_that_ones_policy_from_then_on() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    rig.record(recorder, 1);
    assert_eq!(rig.recorder(1, "Custody"), recorder);
    rig.record(recorder, 11);
    rig.to(DAY + 11);
    assert_eq!(rig.seen(recorder, 1..21), (11..21).collect::<Vec<_>>());
}

#[test]
fn a_later_mark_lengthens_the_recording_around_it_that_is_already_stored() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    let begin = at(DAY);
    let stop =
        |sequence, at| new_link(recorder, sequence, at, at, Content::Stop { recording: 0, cause: StopCause::Wearer });
    rig.send(vec![
        media(recorder, 1, begin, begin),
        stop(2, begin + 10 * SECOND),
        new_link(recorder, 3, begin + 20 * SECOND, begin, Content::Start { codecs: "avc1.64001f".into() }),
        media(recorder, 4, begin + 20 * SECOND, begin),
        media(recorder, 5, begin + 60 * SECOND, begin),
        stop(6, begin + 61 * SECOND),
        media(recorder, 7, begin + 70 * SECOND, begin),
    ]);
    rig.to(DAY + 3);
    rig.send(vec![mark(recorder, 8, begin + 30 * SECOND, rig.clock.now(), "force")]);
    rig.send(vec![mark(recorder, 9, begin + 70 * SECOND, rig.clock.now(), "note")]);
    rig.to(DAY + 11);
    let media = |rig: &Rig| [1, 4, 5, 7].map(|sequence| rig.is_there(recorder, sequence));
    assert_eq!(media(&rig), [false, true, true, false], "a shorter policy shortens nothing and lengthens nothing");
    rig.to(DAY + 18);
    assert_eq!(rig.bytes(), 2 * BODY);
    rig.to(DAY + 103);
    assert_eq!(media(&rig), [false, true, true, false]);
    rig.to(DAY + 104);
    assert_eq!(media(&rig), [false; 4]);
    rig.to(DAY + 111);
    assert_eq!((rig.bytes(), rig.metrics.deleted_bytes.with_label_values(&["mark"]).get()), (0, 200));
}

#[test]
fn a_hold_keeps_one_link_and_nothing_beside_it_for_as_long_as_it_stands() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    rig.record(recorder, 1);
    let begin = at(DAY);
    let hold = rig.retention.hold(recorder, begin + 4 * SECOND..begin + 5 * SECOND, act("token:a", begin)).unwrap();
    rig.to(DAY + 400);
    assert_eq!(rig.seen(recorder, 1..11), [5]);
    assert!(rig.bytes() <= 2 * BODY, "a copy that was left behind goes with its day");
    assert_eq!(rig.metrics.holds.get(), 1);
    let now = rig.clock.now();
    assert!(matches!(rig.retention.ask_release(recorder, hold.id, act("token:a", now)).unwrap(), Released::Done(_)));
    rig.to(DAY + 500);
    assert_eq!(rig.seen(recorder, 1..11), [5], "a release that is asked for is none");
    let confirmed = rig.retention.confirm_release(recorder, hold.id, act("token:b", now)).unwrap();
    assert!(matches!(confirmed, Released::Done(_)));
    rig.to(DAY + 500 + HELD_DAYS + 8);
    assert_eq!((rig.seen(recorder, 1..11).len(), rig.bytes()), (0, 0));
    assert_eq!(rig.metrics.deleted_bytes.with_label_values(&["hold"]).get(), 100);
    assert_eq!(rig.metrics.holds.get(), 0);
}

#[test]
fn nobody_releases_a_hold_alone() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    let hold = rig.retention.hold(recorder, 0..1, act("token:a", 1)).unwrap();
    let confirm = |by| rig.retention.confirm_release(recorder, hold.id, act(by, 2)).unwrap();
    let ask = |by| rig.retention.ask_release(recorder, hold.id, act(by, 2)).unwrap();
    assert_eq!(confirm("token:b"), Released::NotAsked);
    assert!(matches!(ask("token:b"), Released::Done(_)));
    assert!(matches!(ask("token:a"), Released::Asked(_)), "who asked first counts");
    assert_eq!(confirm("token:b"), Released::SamePerson);
    assert!(matches!(confirm("token:a"), Released::Done(_)));
    assert!(matches!(confirm("token:a"), Released::Over(_)));
    assert!(matches!(ask("token:c"), Released::Over(_)));
    assert_eq!(rig.retention.ask_release(recorder, 9, act("token:a", 1)).unwrap(), Released::Missing);
    let kept = rig.restart().store.held_by(recorder, hold.id).unwrap().unwrap();
    assert_eq!((kept.asked.unwrap().by, kept.released.unwrap().by), ("token:b".into(), "token:a".into()));
}

#[test]
fn releases_by_many_at_once_take_two_different_people() {
    for _ in 0..50 {
        let rig = Rig::new();
        let recorder = rig.recorder(1, "Patrol");
        let hold = rig.retention.hold(recorder, 0..1, act("token:a", 1)).unwrap();
        std::thread::scope(|threads| {
            for by in ["token:a", "token:a", "token:b", "token:b"] {
                let retention = rig.retention.clone();
                threads.spawn(move || {
                    retention.ask_release(recorder, hold.id, act(by, 2)).unwrap();
                    retention.confirm_release(recorder, hold.id, act(by, 2)).unwrap();
                });
            }
        });
        let hold = rig.store.held_by(recorder, hold.id).unwrap().unwrap();
        if let Some(released) = hold.released {
            assert_ne!(released.by, hold.asked.unwrap().by);
        }
    }
}

#[test]
fn a_hold_that_was_placed_wins_against_a_deletion_under_way() {
    const LINKS: u64 = 400;
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    let begin = at(DAY);
    for chunk in 0..LINKS / 10 {
        let segments = (1..=10).map(|n| chunk * 10 + n).map(|n| media(recorder, n, begin + n * SECOND, begin));
        rig.send(segments.collect());
    }
    rig.to(DAY + 17);
    rig.clock.set(at(DAY + 18));
    let (stop, begun) = (AtomicBool::new(false), Barrier::new(5));
    let held = std::thread::scope(|threads| {
        let holders: Vec<_> = (0..4_u64)
            .map(|thread| {
                let (retention, stop, begun) = (rig.retention.clone(), &stop, &begun);
                threads.spawn(move || {
                    let mut held = Vec::new();
                    for n in (1..=LINKS).filter(|n| n % 4 == thread) {
                        let from = begin + n * SECOND;
                        held.push((n, retention.hold(recorder, from..from + 1, act("token:a", 1)).unwrap()));
                        if held.len() == 1 {
                            begun.wait();
                        }
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    held
                })
            })
            .collect();
        begun.wait();
        while rig.store.dropped_floor() <= DAY + 10 {
            rig.retention.round().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        holders.into_iter().flat_map(|holder| holder.join().unwrap()).collect::<Vec<_>>()
    });
    rig.retention.round().unwrap();
    let (mut saved, mut late) = (0, 0);
    for (sequence, hold) in held {
        if hold.gone_before <= DAY + 10 {
            saved += 1;
            assert!(rig.is_there(recorder, sequence), "{sequence} was held before the decision");
        } else {
            late += 1;
            assert!(!rig.is_there(recorder, sequence), "{sequence}: the hold says that it came too late");
        }
    }
    assert!(saved > 0, "{late} came too late");
}

#[test]
fn a_hold_that_comes_between_the_look_and_the_decision_is_looked_for_again() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    rig.record(recorder, 1);
    rig.to(DAY + 17);
    let begin = at(DAY);
    let mut looks = 0;
    let decided = rig.retention.decide(DAY + 10, DAY + 18, |claims, _| {
        looks += 1;
        if looks == 1 {
            rig.retention.hold(recorder, begin + 4 * SECOND..begin + 5 * SECOND, act("token:a", begin)).unwrap();
        }
        rig.store.condemn_before(DAY + 11, claims)
    });
    assert!(decided.unwrap() && looks == 2, "{looks} looks");
    rig.to(DAY + 18);
    assert_eq!(rig.seen(recorder, 1..11), [5]);
}

#[test]
fn what_was_deleted_comes_back_within_seven_days_and_not_after() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    rig.record(recorder, 1);
    let begin = at(DAY);
    let range = begin..begin + 3 * SECOND;
    let undo = |rig: &Rig| rig.retention.undo(recorder, range.clone(), 20, act("token:a", rig.clock.now())).unwrap();
    assert_eq!(undo(&rig), None, "nothing is deleted yet");
    rig.to(DAY + 14);
    let undone = undo(&rig).unwrap();
    assert_eq!((undone.links, undone.bytes, undone.until_day), (3, 300, DAY + 34));
    rig.retention.round().unwrap();
    assert_eq!(rig.seen(recorder, 1..11), [1, 2, 3]);
    rig.to(DAY + 34);
    assert_eq!(rig.seen(recorder, 1..11), [1, 2, 3]);
    assert_eq!(rig.bytes(), 3 * BODY);
    rig.to(DAY + 42);
    assert_eq!(rig.bytes(), 0);
    assert_eq!(undo(&rig), None, "what is gone is gone");
}

#[test]
fn the_dry_run_says_what_the_next_day_does_and_then_it_does_that() {
    let rig = Rig::new();
    let (patrol, custody) = (rig.recorder(1, "Patrol"), rig.recorder(2, "Custody"));
    rig.record(patrol, 1);
    rig.record(custody, 1);
    let begin = at(DAY);
    let hold = rig.retention.hold(patrol, begin + 9 * SECOND..begin + 10 * SECOND, act("token:a", 1)).unwrap();
    assert!(preview(&rig.store, DAY + 10).unwrap().lines.is_empty());
    let next = preview(&rig.store, DAY + 11).unwrap();
    let by = Rule::Hold { id: hold.id };
    let planned: Vec<_> = next.lines.iter().map(|line| (line.recorder, &line.planned, line.sequences)).collect();
    let kept = Planned::Kept { until_day: DAY + 11 + HELD_DAYS, by };
    assert_eq!(planned, [(patrol, &Planned::Hidden, Some((1, 9))), (patrol, &kept, Some((10, 10)))]);
    assert_eq!((next.hidden_bytes, next.gone_bytes, next.kept_bytes), (900, 0, 100));
    assert_eq!(next.lines[0].rule, Rule::Default { days: 10 });
    rig.to(DAY + 11);
    assert_eq!(rig.seen(patrol, 1..11), [10]);
    assert!(preview(&rig.store, DAY + 17).unwrap().lines.is_empty());
    let next = preview(&rig.store, DAY + 18).unwrap();
    assert_eq!((next.lines.len(), next.gone_bytes), (1, 900));
    assert_eq!(next.lines[0].planned, Planned::Gone);
    rig.to(DAY + 18);
    assert_eq!(rig.metrics.deleted_bytes.with_label_values(&["default"]).get(), 900);
}

#[test]
fn a_full_disk_takes_deleted_footage_early_and_never_what_is_held_or_has_not_expired() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    rig.record(recorder, 1);
    rig.to(DAY + 5);
    rig.record(recorder, 11);
    let begin = at(DAY);
    rig.retention.hold(recorder, begin..begin + SECOND, act("token:a", 1)).unwrap();
    let retention = Retention::new(rig.store.clone(), rig.clock.clone(), rig.metrics.clone(), 1);
    rig.memory.set_full(true);
    retention.round().unwrap();
    assert_eq!(rig.seen(recorder, 1..21).len(), 20, "nothing has expired");
    rig.clock.set(at(DAY + 11));
    retention.round().unwrap();
    assert_eq!(rig.seen(recorder, 1..21), [1].into_iter().chain(11..21).collect::<Vec<_>>());
    assert_eq!((rig.bytes(), rig.metrics.early_deletions.get()), (11 * BODY, 1));
    assert!(rig.trail().iter().any(|line| line.ends_with("; the disk is full")));
    let refused =
        rig.store.commit(Commit { number: 99, links: vec![media(recorder, 30, begin, begin)], ..Commit::default() });
    assert_eq!(refused.unwrap_err().kind(), Kind::StorageFull, "then recorders are told to come back");
    retention.round().unwrap();
    assert_eq!(rig.bytes(), 11 * BODY);
}

#[test]
fn a_crash_at_any_point_of_a_deletion_loses_nothing_that_is_held_and_keeps_no_room_for_ever() {
    for fail_at in [FailAt::Start, FailAt::Bodies, FailAt::End] {
        let mut nth = 1;
        loop {
            let rig = Rig::new();
            let recorder = rig.recorder(1, "Patrol");
            rig.record(recorder, 1);
            let begin = at(DAY);
            rig.retention.hold(recorder, begin + 4 * SECOND..begin + 6 * SECOND, act("token:a", 1)).unwrap();
            rig.memory.fail_commit(nth, fail_at);
            let mut failed = false;
            for day in DAY + 11..=DAY + 18 {
                rig.clock.set(at(day));
                failed |= rig.retention.round().is_err();
            }
            let rig = rig.restart();
            rig.retention.round().unwrap();
            rig.clock.set(rig.clock.now() + GRACE_US);
            rig.retention.round().unwrap();
            assert_eq!(rig.seen(recorder, 1..11), [5, 6], "{fail_at:?} at {nth}");
            assert_eq!(rig.bytes(), 2 * BODY, "{fail_at:?} at {nth}");
            assert!(rig.trail().iter().any(|line| line.contains("delete day")), "{fail_at:?} at {nth}");
            if !failed {
                assert!(nth > 4, "a deletion has more steps than that");
                break;
            }
            nth += 1;
        }
    }
}

#[test]
fn other_sides_of_forks_and_quarantined_links_expire_and_are_held_too() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    let begin = at(DAY);
    let fork = media(recorder, 4, begin, begin);
    let digest = fork.digest;
    let bad = QuarantineRecord {
        reason: RefusalReason::BadSignature,
        header: vec![1],
        signature: vec![2],
        received_at: begin + 50 * SECOND,
        payload_digest: Digest::of(b"bad"),
        payload_length: 3,
        body: Body::None,
    };
    let bad = NewQuarantine { recorder, record: bad, payload: Bytes::from_static(b"bad") };
    let forks = vec![fork];
    rig.store.commit(Commit { number: 1, forks, quarantined: vec![bad], ..Commit::default() }).unwrap();
    let fork = |rig: &Rig| rig.store.body(&rig.store.fork(recorder, 4, digest).unwrap().unwrap());
    let bad = |rig: &Rig| {
        rig.store.quarantined_body(recorder, &rig.store.quarantine(recorder).next().unwrap().unwrap().record)
    };
    rig.retention.hold(recorder, begin..begin + 51 * SECOND, act("token:a", 1)).unwrap();
    rig.to(DAY + 18);
    assert_eq!((fork(&rig).unwrap(), bad(&rig).unwrap()), (payload(4), Bytes::from_static(b"bad")));
    let now = rig.clock.now();
    rig.retention.ask_release(recorder, 1, act("token:a", now)).unwrap();
    rig.retention.confirm_release(recorder, 1, act("token:b", now)).unwrap();
    rig.to(DAY + 18 + HELD_DAYS + 8);
    for gone in [fork(&rig), bad(&rig)] {
        assert_eq!(gone.unwrap_err().kind(), Kind::NotFound);
    }
    assert_eq!(rig.bytes(), 0);
}

#[test]
fn nothing_is_stored_under_a_day_that_is_hidden_whatever_the_clock_says() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    rig.record(recorder, 1);
    rig.to(DAY + 60);
    rig.clock.set(at(DAY));
    rig.record(recorder, 11);
    assert_eq!(rig.seen(recorder, 11..21).len(), 10);
    rig.clock.set(at(DAY + 61));
    rig.retention.round().unwrap();
    rig.clock.set(at(DAY + 61) + GRACE_US - 1);
    rig.retention.round().unwrap();
    assert_eq!(rig.bytes(), 10 * BODY, "and it has its grace");
}

#[test]
fn a_server_that_was_off_for_long_gives_the_whole_grace() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Patrol");
    rig.record(recorder, 1);
    rig.clock.set(at(DAY + 300));
    rig.retention.round().unwrap();
    assert_eq!((rig.seen(recorder, 1..11).len(), rig.bytes()), (0, 10 * BODY));
    rig.clock.set(at(DAY + 300) + GRACE_US);
    rig.retention.round().unwrap();
    assert_eq!(rig.bytes(), 0);
}

#[test]
fn over_half_a_year_each_day_shows_exactly_what_policy_and_holds_say() {
    let rig = Rig::new();
    let departments = [(rig.recorder(1, "Patrol"), 10), (rig.recorder(2, "Custody"), 40)];
    let mut stored: Vec<(RecorderId, u64, u32, u32)> = Vec::new();
    let mut holds: BTreeMap<(RecorderId, u64), u32> = BTreeMap::new();
    let mut sequence = 0;
    for day in DAY..DAY + 180 {
        rig.clock.set(at(day));
        rig.retention.round().unwrap();
        for (recorder, days) in departments {
            sequence += 10;
            rig.record(recorder, sequence);
            stored.push((recorder, sequence, day, days));
        }
        if day % 7 == 0 {
            // The first of ten, of footage that is visible or within its grace.
            let (recorder, first, recorded, days) = stored[stored.len() / 2];
            if day <= recorded + days + 7 {
                let from = at(recorded);
                rig.retention.hold(recorder, from..from + SECOND, act("token:a", at(day))).unwrap();
                holds.insert((recorder, first), day);
            }
        }
        rig.retention.round().unwrap();
        let mut bytes = 0;
        for &(recorder, first, recorded, days) in &stored {
            let visible = day <= recorded + days;
            let held = holds.contains_key(&(recorder, first));
            assert_eq!(rig.is_there(recorder, first), visible || held, "{first} of day {recorded} on day {day}");
            assert_eq!(rig.is_there(recorder, first + 1), visible, "{first} of day {recorded} on day {day}");
            bytes += if day <= recorded + days + 7 {
                10 * BODY
            } else if held {
                BODY
            } else {
                0
            };
        }
        // Copies that were left behind go with their days.
        assert!((bytes..=bytes + holds.len() * BODY).contains(&rig.bytes()), "on day {day}");
    }
    assert!(holds.len() > 3);
}

#[test]
fn the_keys_of_a_day_go_with_it_and_a_copy_of_the_store_gives_nothing() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Traffic");
    rig.record(recorder, 1);
    rig.to(DAY + 17);
    let (copy, file) = (rig.memory.restart(), rig.home.path().join(format!("{}.keys", DAY + 10)));
    assert!(file.exists(), "the grace is not over");
    rig.to(DAY + 18);
    assert!(!file.exists());
    assert!(rig.trail().contains(&format!(": destroy the keys of footage day {}", DAY + 10)));
    let ring = Ring::open(rig.home.path(), &seal::Settings::default()).unwrap();
    let copy = Store::with_keys(Arc::new(copy), rig.policy.clone(), ring).unwrap();
    let stored = copy.stored(recorder, Owner::Link(3)).unwrap();
    assert!(copy.engine().body(stored.body().place().unwrap()).unwrap().is_some(), "the copy has the bytes");
    let read = copy.open_body(recorder, stored.body().place().unwrap(), Digest::of(&payload(3)), &[0; 128]);
    assert_eq!(read.unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn no_key_of_a_day_goes_while_a_hold_stands_that_came_in_time() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Traffic");
    rig.record(recorder, 1);
    rig.to(DAY + 17);
    // As if the hold had been overlooked: it is there, and the day is condemned all the same.
    assert!(rig.store.condemn_before(DAY + 11, rig.store.claims()).unwrap());
    let hold = HoldRecord {
        id: 1,
        recorder,
        from: at(DAY) + 3 * SECOND,
        to: at(DAY) + 4 * SECOND,
        placed: act("token:a", at(DAY)),
        gone_before: 0,
        asked: None,
        released: None,
        incident: None,
    };
    let key = keys::hold(recorder, 1);
    rig.memory.set_value(Family::Holds, &key, Some(records::encode(&hold).unwrap()));
    let error = rig.retention.round().unwrap_err();
    assert!(error.to_string().contains("hold 1 covers what it seals"), "{error}");
    assert!(rig.home.path().join(format!("{}.keys", DAY + 10)).exists());
    assert_eq!(rig.bytes(), 10 * BODY);
    let late = HoldRecord { gone_before: DAY + 11, ..hold };
    rig.memory.set_value(Family::Holds, &key, Some(records::encode(&late).unwrap()));
    rig.retention.round().unwrap();
    assert!(!rig.home.path().join(format!("{}.keys", DAY + 10)).exists(), "that one came too late");
}

#[test]
fn a_key_that_is_destroyed_early_takes_its_footage_and_nothing_else() {
    let rig = Rig::new();
    let (one, two) = (rig.recorder(1, "Traffic"), rig.recorder(2, "Traffic"));
    rig.record(one, 1);
    rig.record(two, 1);
    let copy = rig.memory.restart();
    let done = destroyed(&rig, one, DAY + 10, "command line").unwrap();
    assert_eq!((done.links, done.bytes), (10, 10 * BODY as u64));
    rig.record(one, 11);
    for rig in [&rig.restart(), &rig] {
        for sequence in 1..11 {
            let error = rig.store.body(&rig.store.link(one, sequence).unwrap().unwrap()).unwrap_err();
            assert_eq!(error.kind(), Kind::NotFound);
            assert!(error.to_string().contains("destroyed with its key, by command line: case 7"), "{error}");
        }
        assert_eq!(rig.seen(one, 11..21).len(), 10, "what comes later has a new key");
        assert_eq!(rig.seen(two, 1..11).len(), 10);
        assert_eq!(destroyed(rig, one, DAY + 9, "x").unwrap_err().kind(), Kind::NotFound);
        assert!(rig.store.deleted_before(one).unwrap() > at(DAY));
        let ring = Ring::open(rig.home.path(), &seal::Settings::default()).unwrap();
        let copy = Store::with_keys(Arc::new(copy.clone()), rig.policy.clone(), ring).unwrap();
        assert_eq!(copy.body(&copy.link(one, 3).unwrap().unwrap()).unwrap_err().kind(), Kind::Damaged);
    }
    // Its day passes like any other, also when somebody holds what is gone.
    rig.retention.hold(one, at(DAY)..at(DAY + 1), act("token:a", at(DAY))).unwrap();
    rig.to(DAY + 20);
    assert_eq!(rig.seen(one, 11..21).len(), 10, "held");
    assert_eq!(rig.bytes(), 10 * BODY);
}

#[test]
fn a_held_key_is_not_destroyed_early_and_both_are_written_down() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Traffic");
    rig.record(recorder, 1);
    let from = at(DAY) + 9 * SECOND;
    rig.retention.hold(recorder, from..from + 1, act("token:a", at(DAY))).unwrap();
    let error = destroyed(&rig, recorder, DAY + 10, "command line").unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("hold 1 covers"), "{error}");
    assert_eq!(rig.seen(recorder, 1..11).len(), 10);
    let entries: Vec<_> = rig.store.audit_entries(0..u64::MAX).map(Result::unwrap).collect();
    let last = entries.last().unwrap();
    assert_eq!((last.event, last.outcome.as_str()), (Event::KeyDestruction, "refused: held"));
    rig.retention.ask_release(recorder, 1, act("token:a", at(DAY))).unwrap();
    rig.retention.confirm_release(recorder, 1, act("token:b", at(DAY))).unwrap();
    assert_eq!(destroyed(&rig, recorder, DAY + 10, "command line").unwrap().links, 10);
}

#[test]
fn a_destruction_that_a_crash_cuts_off_is_finished_at_the_next_start() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Traffic");
    rig.record(recorder, 1);
    let claims = rig.store.claims();
    let entry = AuditRecord::new(at(DAY), Event::KeyDestruction, "x", "local", "destroy".to_owned());
    rig.wish(recorder);
    rig.memory.fail_commit(1, FailAt::End);
    let destroyed = rig.store.destroy_key((DAY + 10, recorder), at(DAY), claims, act("x", at(DAY)), &entry);
    assert_eq!(destroyed.unwrap_err().kind(), Kind::Fatal);
    assert!(!rig.store.destruction(DAY + 10, recorder).unwrap().unwrap().done);
    assert!(rig.store.has_key(DAY + 10, recorder).unwrap(), "it was cut off before the key went");
    let rig = rig.restart();
    assert!(rig.store.destruction(DAY + 10, recorder).unwrap().unwrap().done);
    assert!(!rig.store.has_key(DAY + 10, recorder).unwrap());
    assert_eq!(rig.destructions(), ["destroy"], "and written down once");
}

#[test]
fn a_destruction_that_was_not_done_is_not_written_down_as_done() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Traffic");
    rig.record(recorder, 1);
    let entry = AuditRecord::new(at(DAY), Event::KeyDestruction, "x", "local", "destroy".to_owned());
    let destroy_at =
        |rig: &Rig, claims| rig.store.destroy_key((DAY + 10, recorder), at(DAY), claims, act("x", at(DAY)), &entry);
    rig.wish(recorder);
    let before = rig.store.claims();
    rig.retention.hold(recorder, at(DAY)..at(DAY) + SECOND, act("token:a", at(DAY))).unwrap();
    assert!(!destroy_at(&rig, before).unwrap(), "something was held meanwhile");
    rig.memory.fail_commit(1, FailAt::Start);
    destroy_at(&rig, rig.store.claims()).unwrap_err();
    let rig = rig.restart();
    assert!(rig.store.has_key(DAY + 10, recorder).unwrap());
    assert_eq!(rig.destructions(), [""; 0]);
}

impl Rig {
    /// Somebody asks that the key of the first footage of a recorder be destroyed, and nothing of it is in the list of destructions.
    fn wish(&self, recorder: RecorderId) {
        let entry = AuditRecord::new(at(DAY), Event::Request, "token:asker", "local", "ask".to_owned());
        let asked = self.store.ask_destruction((DAY + 10, recorder), act("token:asker", at(DAY)), &entry).unwrap();
        assert!(matches!(asked, Wished::Done(_)));
    }
}

/// Destroys a key as the second person; somebody else asks for it first if nobody has.
fn destroyed(rig: &Rig, recorder: RecorderId, day: u32, by: &str) -> Result<Destroyed> {
    ask(&rig.store, recorder, day, act("token:asker", at(DAY)), "local")?;
    match destroy(&rig.store, recorder, day, &act(by, at(DAY)), "local")? {
        Outcome::Destroyed(done) => Ok(done),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_destroys_a_key_alone() {
    let rig = Rig::new();
    let recorder = rig.recorder(1, "Traffic");
    rig.record(recorder, 1);
    let (anna, ben) = (act("account:anna", at(DAY)), act("account:ben", at(DAY)));
    let confirm = |act: &Act| destroy(&rig.store, recorder, DAY + 10, act, "::1").unwrap();
    assert_eq!(confirm(&anna), Outcome::NotAsked);
    let ask = || ask(&rig.store, recorder, DAY + 10, anna.clone(), "::1").unwrap();
    assert!(matches!(ask(), Wished::Done(_)) && matches!(ask(), Wished::Waiting(_)));
    assert_eq!(confirm(&anna), Outcome::SamePerson);
    assert!(matches!(withdraw(&rig.store, recorder, DAY + 10, ben.clone(), "::1").unwrap(), Wished::Done(_)));
    assert_eq!(confirm(&ben), Outcome::NotAsked, "it was taken back");
    assert!(matches!(ask(), Wished::Done(_)));
    assert_eq!(rig.seen(recorder, 1..11).len(), 10, "until then nothing is gone");
    let rig = rig.restart();
    assert!(matches!(destroy(&rig.store, recorder, DAY + 10, &ben, "::1").unwrap(), Outcome::Destroyed(_)));
    for sequence in 1..11 {
        let error = rig.store.body(&rig.store.link(recorder, sequence).unwrap().unwrap()).unwrap_err();
        assert!(error.to_string().contains("destroyed with its key, by account:ben"), "{error}");
    }
    let wish = rig.store.wish(DAY + 10, recorder).unwrap().unwrap();
    assert_eq!((wish.asked, wish.ended), (anna, Some(ben)));
}
