//! Who had a recorder, what was asked of it and what it has used, over a store in memory.

use std::sync::Arc;

use aigaq_proto::frame::Control;
use aigaq_proto::limits::{REQUESTS_MAX, SEQUENCE_AHEAD_MAX};
use aigaq_proto::message::{Progress, SpoolSummary};
use aigaq_proto::{Digest, RecorderId, SequenceRange};
use proptest::prelude::*;

use super::{Assigned, Assignment, Fleet, Order, Ordered, Seat};
use crate::Clock;
use crate::store::Store;
use crate::store::engine::memory::Memory;
use crate::store::records::{ClockOffset, RequestState};

const NOW: u64 = 1_768_641_240_000_000;
const S: u64 = 1_000_000;
const ID: RecorderId = RecorderId([7; 16]);

struct Rig {
    engine: Memory,
    fleet: Fleet,
    clock: Clock,
}

impl Rig {
    fn new() -> Self {
        Self::over(Memory::default(), Clock::fixed(NOW))
    }

    fn over(engine: Memory, clock: Clock) -> Self {
        let store = Store::with_engine(Arc::new(engine.clone())).unwrap();
        Self { engine, fleet: Fleet::open(store, clock.clone()).unwrap(), clock }
    }

    /// The fleet that a new process would find.
    fn restart(&self) -> Self {
        Self::over(self.engine.restart(), self.clock.clone())
    }

    fn hello(&self, newest: Option<u64>, waiting: &[(u64, u64)]) -> Seat {
        self.fleet.enter(ID, newest, &spool(waiting), None).unwrap()
    }

    fn order(&self, from: u64, to: u64) -> Ordered {
        self.fleet.order(order(from, to, None)).unwrap()
    }

    fn pass(&self, seconds: u64) {
        self.clock.set(self.clock.now() + seconds * S);
        self.fleet.tick(false).unwrap();
    }
}

fn spool(waiting: &[(u64, u64)]) -> SpoolSummary {
    let waiting = waiting.iter().map(|(first, last)| SequenceRange { first: *first, last: *last }).collect();
    SpoolSummary { waiting, bytes: 10, oldest: Some(NOW), newest: Some(NOW + S) }
}

fn order(from: u64, to: u64, key: Option<(Digest, Digest)>) -> Order {
    let (from, to) = (NOW + from * S, NOW + to * S);
    Order { recorder: ID, from, to, expires_at: NOW + 100 * S, reason: "a case".to_owned(), key }
}

fn taken(ordered: Ordered) -> u64 {
    match ordered {
        Ordered::New(record) => record.id,
        other => panic!("not taken: {other:?}"),
    }
}

#[test]
fn what_a_hello_announces_stays_reserved_through_a_crash() {
    let rig = Rig::new();
    let seat = rig.hello(Some(4), &[(5, 9), (12, 12)]);
    assert_eq!(seat.live().reserved(), Some(12));
    drop(seat);
    let after = rig.restart().hello(Some(4), &[]);
    assert_eq!(after.live().reserved(), Some(12));
}

#[test]
fn a_sequence_that_was_sent_in_vain_stays_reserved_after_the_recorder_has_left() {
    let rig = Rig::new();
    let seat = rig.hello(Some(4), &[]);
    seat.live().offered(6);
    drop(seat);
    rig.pass(1);
    assert_eq!(rig.restart().hello(Some(4), &[]).live().reserved(), Some(6));
}

#[test]
fn a_hostile_announcement_leaves_room_for_the_link_after_it() {
    let rig = Rig::new();
    let seat = rig.hello(Some(4), &[(1 << 40, 1 << 41)]);
    assert_eq!(seat.live().reserved(), Some(4 + SEQUENCE_AHEAD_MAX - 1));
}

#[test]
fn a_recorder_without_anything_has_nothing_reserved() {
    assert_eq!(Rig::new().hello(None, &[]).live().reserved(), None);
}

#[test]
fn announcements_are_written_when_they_change_and_not_all_the_time() {
    let rig = Rig::new();
    let seat = rig.hello(Some(4), &[(5, 9)]);
    let written = |rig: &Rig| rig.restart().fleet.announcement(ID).unwrap().unwrap().bytes;
    seat.live().announce(&SpoolSummary { bytes: 99, ..spool(&[(5, 9)]) }, None, rig.clock.now());
    rig.pass(10);
    assert_eq!(written(&rig), 10);
    rig.pass(30);
    assert_eq!(written(&rig), 99);
    seat.live().announce(&spool(&[]), None, rig.clock.now());
    drop(seat);
    rig.pass(1);
    assert_eq!(written(&rig), 10, "what a recorder said last is written when it leaves");
}

#[test]
fn a_request_is_told_after_each_hello_by_the_clock_of_the_recorder() {
    let rig = Rig::new();
    let id = taken(rig.order(10, 20));
    let clock = ClockOffset { offset_us: -3_600_000_000, error_us: 1 };
    for _ in 0..2 {
        let mut seat = rig.hello(None, &[]);
        let told = seat.due(Some(clock));
        let [Control::Request(request)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((request.id, request.from, request.to), (id, NOW - 3_590 * S, NOW - 3_580 * S));
        assert_eq!(request.expires, NOW - 3_500 * S);
        assert_eq!(seat.due(Some(clock)), []);
        let moved = ClockOffset { offset_us: 5 * 1_000_000, error_us: 1 };
        assert!(matches!(seat.due(Some(moved)).as_slice(), [Control::Request(again)] if again.from == NOW + 15 * S));
    }
    let mut after = rig.restart().hello(None, &[]);
    assert_eq!(after.due(None).len(), 1);
}

#[test]
fn a_cancelled_request_is_taken_back_and_not_told_again() {
    let rig = Rig::new();
    let id = taken(rig.order(10, 20));
    let mut seat = rig.hello(None, &[]);
    assert_eq!(seat.due(None).len(), 1);
    let record = rig.fleet.cancel(ID, id).unwrap().unwrap();
    assert_eq!(record.state, RequestState::Cancelled(NOW));
    assert!(matches!(seat.due(None).as_slice(), [Control::Cancel(cancel)] if cancel.id == id));
    assert_eq!(rig.hello(None, &[]).due(None), []);
    assert_eq!(rig.fleet.cancel(ID, id).unwrap().unwrap(), record, "cancelling twice changes nothing");
    assert_eq!(rig.fleet.cancel(ID, id + 1).unwrap(), None);
}

#[test]
fn a_request_ends_when_its_time_is_over() {
    let rig = Rig::new();
    let id = taken(rig.order(10, 20));
    rig.pass(99);
    assert_eq!(rig.fleet.request(ID, id).unwrap().unwrap().state, RequestState::Open);
    rig.pass(1);
    assert_eq!(rig.restart().fleet.request(ID, id).unwrap().unwrap().state, RequestState::Expired(NOW + 100 * S));
    assert_eq!(rig.hello(None, &[]).due(None), []);
}

#[test]
fn a_request_that_ended_is_forgotten_after_ninety_days_and_an_open_one_never() {
    const DAY: u64 = 86_400;
    let rig = Rig::new();
    let ended = taken(rig.order(10, 20));
    rig.pass(100);
    rig.pass(10 * DAY);
    let newest = taken(rig.fleet.order(Order { expires_at: u64::MAX, ..order(10, 20, None) }).unwrap());
    let known = |id| rig.fleet.request(ID, id).unwrap().is_some();
    rig.pass(80 * DAY - 1);
    assert!(known(ended));
    rig.pass(3_601);
    assert!(!known(ended) && known(newest));
    rig.fleet.cancel(ID, newest).unwrap();
    rig.pass(200 * DAY);
    assert!(known(newest), "numbers go on from the newest");
    assert!(taken(rig.restart().order(10, 20)) > newest);
}

#[test]
fn a_request_is_done_when_nothing_is_left_and_the_range_is_over() {
    let rig = Rig::new();
    let id = taken(rig.order(0, 20));
    let seat = rig.hello(None, &[]);
    let say = |left| seat.progress(&Progress { id, links: 9, links_left: left, bytes: 900, bytes_left: left * 100 });
    let state = || rig.fleet.request(ID, id).unwrap().unwrap().state;
    say(0);
    rig.pass(1);
    assert_eq!(state(), RequestState::Open, "links of the range are still being made");
    rig.pass(20);
    say(1);
    rig.pass(1);
    assert_eq!(state(), RequestState::Open);
    say(0);
    rig.pass(1);
    assert!(matches!(state(), RequestState::Done(_)));
    assert_eq!(rig.restart().fleet.request(ID, id).unwrap().unwrap().progress.unwrap().links, 9);
}

#[test]
fn the_same_order_under_the_same_key_is_one_request() {
    let rig = Rig::new();
    let (key, other) = (Digest([1; 32]), Digest([2; 32]));
    let first = taken(rig.fleet.order(order(0, 1, Some((key, key)))).unwrap());
    let after = rig.restart();
    for rig in [&rig, &after] {
        assert!(
            matches!(rig.fleet.order(order(0, 1, Some((key, key)))).unwrap(), Ordered::Again(record) if record.id == first)
        );
        assert_eq!(rig.fleet.order(order(0, 2, Some((key, other)))).unwrap(), Ordered::OtherOrder);
    }
    rig.pass(86_400);
    taken(rig.fleet.order(order(0, 1, Some((key, key)))).unwrap());
}

#[test]
fn a_recorder_has_no_more_open_requests_than_it_follows() {
    let rig = Rig::new();
    let ids: Vec<u64> = (0..REQUESTS_MAX).map(|_| taken(rig.order(0, 1))).collect();
    assert_eq!(rig.order(0, 1), Ordered::TooMany);
    assert_eq!(rig.hello(None, &[]).due(None).len(), REQUESTS_MAX);
    rig.fleet.cancel(ID, ids[3]).unwrap();
    taken(rig.order(0, 1));
}

fn assignment(from: u64, to: Option<u64>, assignee: &str) -> Assignment {
    Assignment { from, to, assignee: assignee.to_owned() }
}

fn who(fleet: &Fleet, at: u64) -> Option<String> {
    fleet.assigned_at(ID, at).unwrap().map(|holds| holds.assignee)
}

#[test]
fn a_recorder_has_one_assignee_or_nobody() {
    let fleet = Rig::new().fleet;
    let assign = |wanted: &Assignment| fleet.assign(ID, wanted, "somebody").unwrap();
    assert!(matches!(assign(&assignment(10, Some(20), "first")), Assigned::Done(_)));
    assert!(matches!(assign(&assignment(20, None, "second")), Assigned::Done(_)));
    assert!(matches!(assign(&assignment(20, None, "second")), Assigned::Same(_)));
    for wanted in [assignment(15, Some(16), "x"), assignment(5, Some(11), "x"), assignment(99, None, "x")] {
        assert!(matches!(assign(&wanted), Assigned::Overlaps(_)), "{wanted:?}");
    }
    let answers: Vec<_> = [9, 10, 19, 20, 1 << 50].into_iter().map(|at| who(&fleet, at)).collect();
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(answers, [None, name("first"), name("first"), name("second"), name("second")]);
}

#[test]
fn a_correction_replaces_and_what_it_replaced_is_kept() {
    let rig = Rig::new();
    let fleet = &rig.fleet;
    fleet.assign(ID, &assignment(10, None, "first"), "a").unwrap();
    fleet.assign(ID, &assignment(5, Some(10), "earlier"), "a").unwrap();
    fleet.correct(ID, &assignment(10, Some(20), "second"), "b").unwrap();
    assert_eq!(who(fleet, 15), Some("second".to_owned()));
    assert!(matches!(fleet.correct(ID, &assignment(5, Some(11), "earlier"), "b").unwrap(), Assigned::Overlaps(_)));
    assert_eq!(fleet.correct(ID, &assignment(6, None, "x"), "b").unwrap(), Assigned::Missing);
    let Assigned::Done(record) = fleet.withdraw(ID, 10, "c").unwrap() else { panic!("not withdrawn") };
    let versions: Vec<_> =
        record.revisions.iter().map(|one| (one.assignee.as_deref(), one.to, one.actor.as_str())).collect();
    assert_eq!(versions, [(Some("first"), None, "a"), (Some("second"), Some(20), "b"), (None, None, "c")]);
    assert_eq!(who(&rig.restart().fleet, 15), None);
    assert!(matches!(fleet.assign(ID, &assignment(10, None, "third"), "d").unwrap(), Assigned::Done(_)));
}

proptest! {
    #[test]
    fn assignments_never_overlap_and_agree_with_a_model(
        wanted in prop::collection::vec((0_u64..40, prop::option::of(1_u64..15), 0_u8..3), 1..40),
    ) {
        let fleet = Rig::new().fleet;
        let mut model: Vec<Option<u64>> = vec![None; 60];
        for (number, (from, length, what)) in wanted.into_iter().enumerate() {
            let number = number as u64;
            let one = assignment(from, length.map(|length| from + length), &number.to_string());
            let covers = |at: u64| at >= from && at < one.end();
            match what {
                0 => if matches!(fleet.withdraw(ID, from, "a").unwrap(), Assigned::Done(_)) {
                    let gone = model[from as usize];
                    model.iter_mut().filter(|holds| **holds == gone).for_each(|holds| *holds = None);
                },
                1 => if matches!(fleet.assign(ID, &one, "a").unwrap(), Assigned::Done(_)) {
                    for at in (0..60).filter(|at| covers(*at)) {
                        prop_assert_eq!(model[at as usize], None);
                        model[at as usize] = Some(number);
                    }
                },
                _ => if matches!(fleet.correct(ID, &one, "a").unwrap(), Assigned::Done(_)) {
                    let gone = model[from as usize];
                    model.iter_mut().filter(|holds| **holds == gone).for_each(|holds| *holds = None);
                    for at in (0..60).filter(|at| covers(*at)) {
                        prop_assert_eq!(model[at as usize], None);
                        model[at as usize] = Some(number);
                    }
                },
            }
            for at in 0..60 {
                prop_assert_eq!(who(&fleet, at), model[at as usize].map(|holds| holds.to_string()));
            }
        }
        let within = fleet.assigned_within(ID, 10, 30).unwrap();
        prop_assert!(within.windows(2).all(|pair| pair[0].end() <= pair[1].from));
        prop_assert!(within.iter().all(|one| one.from < 30 && one.end() > 10));
    }
}
