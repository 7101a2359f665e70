//! Who is found over a store in memory: the index says what the links say, damage stops nobody else, and what was looked for is not
//! looked for again.

use std::ops::Range;
use std::sync::Arc;

use aigaq_proto::link::Fix;
use aigaq_proto::{Content, LinkHeader};
use bytes::Bytes;
use prometheus::Registry;
use proptest::prelude::*;

use super::near::Near;
use super::*;
use crate::fleet::Assignment;
use crate::store::engine::memory::Memory;
use crate::store::engine::{Engine as _, Family};
use crate::store::records::{
    Body, ClockOffset, IncidentSource, LinkRecord, PlaceRecord, RecorderKey, RecorderKind, RecorderRecord,
};
use crate::store::{Commit, Direction, NewLink, keys};

const S: Micros = 1_000_000;
/// 2026-01-17T09:14:00Z.
const BEGIN: Micros = 1_768_641_240 * S;
/// The market of Astana.
const MARKET: (i32, i32) = (511_694_000, 714_491_000);
const PLACE: PlaceRecord = PlaceRecord { latitude_e7: MARKET.0, longitude_e7: MARKET.1, metres: 300 };
const FAR: (i32, i32) = (516_694_000, 714_491_000);

struct Rig {
    engine: Memory,
    store: Store,
    clock: Clock,
    fleet: Fleet,
    incidents: Incidents,
}

impl Rig {
    fn new() -> Self {
        let engine = Memory::default();
        let store = Store::with_engine(Arc::new(engine.clone())).unwrap();
        let clock = Clock::fixed(BEGIN + 3_600 * S);
        let fleet = Fleet::open(store.clone(), clock.clone()).unwrap();
        let incidents = incidents(&store, &clock, &fleet);
        Self { engine, store, clock, fleet, incidents }
    }

    fn enrol(&self, index: u8) -> RecorderId {
        let key = RecorderKey { spki: vec![index; 44], since: BEGIN, not_after: None };
        let record = RecorderRecord::new(RecorderKind::Officer, "Astana".to_owned(), String::new(), key);
        self.store.enrol(&record).unwrap();
        record.id
    }

    fn commit(&self, links: Vec<NewLink>) {
        self.store.commit(Commit { number: self.store.next_commit(), links, ..Commit::default() }).unwrap();
    }

    fn open(&self, seconds: Range<u64>) -> u64 {
        let call = IncidentCall {
            department: "Astana".to_owned(),
            source: IncidentSource::Operator,
            reference: String::new(),
            text: "disorder".to_owned(),
            categories: Vec::new(),
            place: Some(PLACE),
            from: BEGIN + seconds.start * S,
            to: BEGIN + seconds.end * S,
            badges: vec!["1234".to_owned()],
        };
        let Opened::New(record) = self.incidents.take(call, act(), entry()).unwrap() else { panic!() };
        record.number
    }

    fn step(&self, number: u64, transition: Transition) {
        let stepped = self.incidents.step(number, transition, act(), entry(), &mut |_| Ok(true)).unwrap();
        assert!(matches!(stepped, Stepped::Done(_)), "{stepped:?}");
    }

    fn found(&self, number: u64) -> Vec<RecorderId> {
        self.store.incident(number).unwrap().unwrap().found.iter().map(|one| one.recorder).collect()
    }

    /// Makes the first row of a family whose key begins so unreadable; what it was.
    fn damage(&self, family: Family, prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut rows = self.engine.scan(family, keys::everything(), Direction::Forward).map(Result::unwrap);
        let (key, value) = rows.find(|(key, _)| key.starts_with(prefix)).unwrap();
        let (key, value) = (key.to_vec(), value.to_vec());
        drop(rows);
        self.engine.set_value(family, &key, Some(vec![0xff]));
        (key, value)
    }

    fn is_searched(&self, number: u64) -> Option<bool> {
        lock(&self.incidents.shared.looking).cases.get(&number).map(|case| case.searched)
    }
}

fn incidents(store: &Store, clock: &Clock, fleet: &Fleet) -> Incidents {
    let registry = Registry::new();
    let metrics = crate::retention::Metrics::register(&registry).unwrap();
    let retention = Retention::new(store.clone(), clock.clone(), metrics, 0);
    let metrics = Metrics::register(&registry).unwrap();
    Incidents::open(store.clone(), clock.clone(), fleet.clone(), retention, metrics).unwrap()
}

fn act() -> Act {
    Act { at: BEGIN, by: "account:anna".to_owned(), reason: "it is so".to_owned() }
}

fn entry() -> AuditRecord {
    AuditRecord::new(BEGIN, Event::Incident, "account:anna", "::1", "deal with it".to_owned())
}

fn fix(offset_ms: u32, (latitude_e7, longitude_e7): (i32, i32)) -> Fix {
    Fix { offset_ms, latitude_e7, longitude_e7, accuracy_dm: 50, speed_cms: 0, course_cdeg: u16::MAX }
}

fn media() -> Content {
    Content::Media { recording: 0, ordinal: 0, independent: true }
}

fn health() -> Content {
    Content::Health {
        battery_percent: 50,
        storage_free_bytes: 1,
        backlog_bytes: 1,
        temperature_centi: 0,
        firmware: String::new(),
    }
}

/// A link that begins so many microseconds after the beginning, by the device's clock, which is off by so much.
fn link(recorder: RecorderId, sequence: u64, after: Micros, content: Content, fixes: Vec<Fix>, off_us: i64) -> NewLink {
    let is_media = matches!(content, Content::Media { .. });
    let payload: &'static [u8] = if is_media { b"footage" } else { b"" };
    let header = LinkHeader {
        recorder,
        sequence,
        previous: Digest([1; 32]),
        captured_at: BEGIN + after,
        duration_us: if is_media { 2_000_000 } else { 0 },
        payload_length: u32::try_from(payload.len()).unwrap(),
        payload_digest: Digest::of(payload),
        content,
        fixes,
    };
    let record = LinkRecord {
        header: header.encode().unwrap(),
        signature: vec![0; 64],
        received_at: BEGIN,
        clock: (off_us != 0).then_some(ClockOffset { offset_us: off_us, error_us: 1 }),
        body: Body::None,
        log_index: 0,
        tree_size: 0,
    };
    NewLink { header, digest: Digest([2; 32]), record, payload: Bytes::from_static(payload) }
}

#[test]
fn a_recorder_that_came_near_after_twenty_thousand_links_is_found() {
    let rig = Rig::new();
    let recorder = rig.enrol(1);
    let last = 20_001;
    let at = |sequence: u64| if sequence == last { MARKET } else { FAR };
    let one = |sequence: u64| link(recorder, sequence, sequence * 2 * S, media(), vec![fix(0, at(sequence))], 0);
    rig.commit((1..=last).map(one).collect());
    let number = rig.open(0..100_000);
    rig.incidents.round().unwrap();
    assert_eq!(rig.found(number), [recorder]);
}

#[test]
fn a_mark_that_came_before_its_footage_finds_its_recorder() {
    let rig = Rig::new();
    let (silent, also) = (rig.enrol(1), rig.enrol(2));
    let mark = |fixes| {
        let content = Content::Mark { category: "insult".to_owned(), note: String::new(), before_s: 30, after_s: 30 };
        link(silent, 9, 30 * S, content, fixes, 0)
    };
    // The other one has sent what it recorded elsewhere, and says where it was since in its health alone.
    let there = link(also, 1, 0, media(), vec![fix(0, FAR)], 0);
    let since = link(also, 70, 50 * S, health(), vec![fix(0, MARKET)], 0);
    rig.commit(vec![mark(vec![fix(0, MARKET)]), there, since]);
    let number = rig.open(0..60);
    rig.incidents.round().unwrap();
    let mut expected = [silent, also];
    expected.sort_unstable();
    assert_eq!(rig.found(number), expected);
}

#[test]
fn what_does_not_read_of_one_recorder_keeps_no_other_from_being_found() {
    let rig = Rig::new();
    let all: Vec<_> = (1..=4).map(|index| rig.enrol(index)).collect();
    let [fine, unlinked, unnamed, unheld] = all[..] else { panic!() };
    for recorder in &all {
        rig.commit(vec![link(*recorder, 1, 10 * S, media(), vec![fix(0, MARKET)], 0)]);
    }
    // What is of the index alone is in the links as well.
    let rows = rig.engine.scan(Family::Presence, keys::everything(), Direction::Forward).map(Result::unwrap);
    let row = rows.map(|(key, _)| key.to_vec()).find(|key| key.windows(16).any(|part| part == fine.0)).unwrap();
    rig.engine.set_value(Family::Presence, &row, Some(vec![0xff]));
    let link_row = rig.damage(Family::Links, &unlinked.0);
    rig.damage(Family::Recorders, &unnamed.0);
    rig.store.hold(unheld, 0..1, act(), None).unwrap();
    rig.damage(Family::Holds, &unheld.0);
    let number = rig.open(0..60);
    rig.incidents.round().unwrap();
    let mut expected = [fine, unheld];
    expected.sort_unstable();
    assert_eq!(rig.found(number), expected);
    let record = rig.store.incident(number).unwrap().unwrap();
    assert!(record.found.iter().all(|one| one.hold.is_some()) && record.searched_at.is_none());
    assert!(rig.incidents.shared.metrics.damaged.get() >= 3 && rig.incidents.shared.metrics.failures.get() == 0);
    // What reads again is found again.
    rig.engine.set_value(Family::Links, &link_row.0, Some(link_row.1));
    rig.clock.set(rig.clock.now() + AGAIN_US);
    rig.incidents.round().unwrap();
    assert!(rig.found(number).contains(&unlinked));
    assert!(rig.store.incident(number).unwrap().unwrap().searched_at.is_some());
}

#[test]
fn an_incident_that_does_not_read_stops_no_other_and_no_start() {
    let rig = Rig::new();
    let recorder = rig.enrol(1);
    let (broken, fine) = (rig.open(0..60), rig.open(0..60));
    rig.damage(Family::Incidents, &keys::incident(broken));
    rig.commit(vec![link(recorder, 1, 10 * S, media(), vec![fix(0, MARKET)], 0)]);
    rig.incidents.round().unwrap();
    assert_eq!(rig.found(fine), [recorder]);
    let anew = incidents(&rig.store, &rig.clock, &rig.fleet);
    assert_eq!(lock(&anew.shared.looking).cases.keys().copied().collect::<Vec<_>>(), [fine]);
}

#[test]
fn what_was_looked_for_is_not_looked_for_again_when_it_is_stepped_on() {
    let rig = Rig::new();
    let number = rig.open(0..60);
    rig.incidents.round().unwrap();
    assert_eq!(rig.is_searched(number), Some(true));
    let learn = || rig.incidents.learn(&mut lock(&rig.incidents.shared.looking).cases).unwrap();
    rig.step(number, Transition::Confirm);
    assert!(!learn(), "nothing has to be looked for");
    assert_eq!(rig.is_searched(number), Some(true));
    for transition in [Transition::Resolve, Transition::Close] {
        rig.step(number, transition);
    }
    assert!(!learn());
    assert_eq!(rig.is_searched(number), None);
    rig.step(number, Transition::Reopen);
    assert!(learn(), "what arrived meanwhile was for nobody");
    assert_eq!(rig.is_searched(number), Some(false));
}

#[test]
fn the_time_of_the_server_counts_where_it_is_known_how_far_a_device_is_off() {
    let rig = Rig::new();
    let (early, late) = (rig.enrol(1), rig.enrol(2));
    let number = rig.open(100..200);
    // By its own clock the one is there in time, the other one too late.
    for (recorder, after, off_s) in [(early, 150, 90), (late, 250, 90)] {
        rig.commit(vec![link(recorder, 1, after * S, media(), vec![fix(0, MARKET)], off_s * 1_000_000)]);
    }
    rig.incidents.round().unwrap();
    assert_eq!(rig.found(number), [late]);
}

#[test]
fn of_two_incidents_each_finds_those_who_had_a_recorder_in_its_own_time() {
    let rig = Rig::new();
    let recorder = rig.enrol(1);
    let wanted = Assignment { from: BEGIN + 120 * S, to: None, assignee: "1234".to_owned() };
    rig.fleet.assign(recorder, &wanted, "account:anna").unwrap();
    let (before, meanwhile) = (rig.open(0..60), rig.open(100..200));
    rig.incidents.round().unwrap();
    assert_eq!((rig.found(before), rig.found(meanwhile)), (vec![], vec![recorder]));
}

#[test]
fn each_incident_has_a_hold_of_its_own() {
    let rig = Rig::new();
    let recorder = rig.enrol(1);
    rig.commit(vec![link(recorder, 1, 0, media(), vec![fix(0, MARKET)], 0)]);
    let both = [rig.open(0..60), rig.open(0..90)];
    rig.incidents.round().unwrap();
    let holds: Vec<_> = rig.store.holds(Some(recorder)).map(|hold| hold.unwrap().incident).collect();
    assert_eq!(holds, both.map(Some));
}

#[test]
fn many_recorders_that_are_found_at_once_are_held_once_each() {
    let rig = Rig::new();
    let all: Vec<_> = (1..=20).map(|index| rig.enrol(index)).collect();
    rig.commit(all.iter().map(|recorder| link(*recorder, 1, 0, media(), vec![fix(0, MARKET)], 0)).collect());
    let number = rig.open(0..60);
    rig.incidents.round().unwrap();
    assert_eq!(rig.found(number).len(), 20);
    for recorder in all {
        let holds: Vec<_> = rig.store.holds(Some(recorder)).map(|hold| hold.unwrap().incident).collect();
        assert_eq!(holds, [Some(number)]);
    }
}

/// A link of somebody who was somewhere around the market, more or less then.
fn wandering() -> impl Strategy<Value = (u64, bool, Vec<(u32, i32, i32)>, i64)> {
    let place = (0..2_000_u32, -60_000..60_000_i32, -60_000..60_000_i32);
    (0..900_u64, any::<bool>(), prop::collection::vec(place, 0..3), -100..100_i64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Of whoever records, and of whoever says where they are without footage.
    #[test]
    fn the_index_and_what_is_beside_it_say_what_the_links_say(
        links in prop::collection::vec(wandering(), 1..30),
        begin in 0..600_u64,
        length in 1..300_u64,
        metres in prop::sample::select(vec![100_u32, 400, 1_500]),
    ) {
        let rig = Rig::new();
        let (recording, silent) = (rig.enrol(1), rig.enrol(2));
        let mut sequence = 0;
        let all = links.into_iter().map(|(second, records, mut places, off_s)| {
            places.sort_unstable();
            let at = |(later, north, east): (u32, i32, i32)| fix(later, (MARKET.0 + north, MARKET.1 + east));
            let mut fixes: Vec<_> = places.into_iter().map(at).collect();
            if records && fixes.is_empty() {
                fixes.push(fix(0, FAR));
            }
            sequence += 1;
            let (who, content) = if records { (recording, media()) } else { (silent, health()) };
            link(who, sequence, second * S, content, fixes, off_s * 1_000_000)
        });
        rig.commit(all.collect());
        let within = BEGIN + begin * S..BEGIN + (begin + length) * S;
        let near = Near::of(&rig.store, PlaceRecord { metres, ..PLACE }, &within);
        let indexed = near.in_index(FOUND_MAX, &|_| true).unwrap();
        prop_assert!(indexed.damaged.is_empty());
        for recorder in [recording, silent] {
            let by_index = indexed.nearest.get(&recorder).copied();
            let beside = near.beside_index(recorder).unwrap();
            let nearest = by_index.into_iter().chain(beside).min_by(f64::total_cmp);
            prop_assert_eq!(nearest, near.in_links(recorder, &(0..Micros::MAX)).unwrap());
        }
    }
}
