//! What is found is what there is: searches over generated tracks against the same asked of every fix, pages while footage arrives, and what
//! leaves the index with its footage.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aigaq::find::{self, Page, Question, Recording};
use aigaq::fleet::{Assignment, Fleet};
use aigaq::place::{Area, Point};
use aigaq::store::engine::Engine;
use aigaq::store::engine::memory::Memory;
use aigaq::store::engine::{Direction, Family};
use aigaq::store::records::{Body, LinkRecord, RecorderKey, RecorderKind, RecorderRecord};
use aigaq::store::{Commit, NewLink, Settings, Store, keys};
use aigaq::{Clock, Kind};
use aigaq_proto::link::Fix;
use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId};
use bytes::Bytes;
use proptest::prelude::*;

const S: Micros = 1_000_000;
const MINUTE: Micros = 60 * S;
/// 2026-01-17T09:14:00Z.
const BEGIN: Micros = 1_768_641_240_000_000;
/// When everything arrives, days since 1970.
const TODAY: u32 = 20_470;

/// A segment that somebody recorded.
#[derive(Debug, Clone)]
struct Segment {
    recorder: usize,
    sequence: u64,
    at: Micros,
    duration_us: u32,
    fixes: Vec<Fix>,
}

/// A store with recorders, over any engine.
struct City {
    store: Store,
    fleet: Fleet,
    recorders: Vec<RecorderId>,
}

impl City {
    fn of(store: Store, recorders: usize) -> Self {
        let mut ids: Vec<RecorderId> = (0..recorders)
            .map(|index| {
                let key = RecorderKey { spki: vec![u8::try_from(index).unwrap(); 44], since: BEGIN, not_after: None };
                let department = if index % 2 == 0 { "Astana" } else { "Pavlodar" };
                let kind = if index % 3 == 0 { RecorderKind::Vehicle } else { RecorderKind::Officer };
                let record = RecorderRecord::new(kind, department.to_owned(), format!("Car {index}"), key);
                store.enrol(&record).unwrap();
                record.id
            })
            .collect();
        ids.sort_unstable();
        let fleet = Fleet::open(store.clone(), Clock::fixed(BEGIN)).unwrap();
        Self { store, fleet, recorders: ids }
    }

    fn new(recorders: usize) -> Self {
        Self::of(Store::memory(), recorders)
    }

    fn link(&self, segment: &Segment) -> NewLink {
        let content = Content::Media { recording: 0, ordinal: 0, independent: true };
        self.made(segment, content, b"footage")
    }

    fn mark(&self, recorder: usize, sequence: u64, at: Micros, category: &str, note: &str) -> NewLink {
        let content = Content::Mark { category: category.to_owned(), note: note.to_owned(), before_s: 30, after_s: 30 };
        self.made(&Segment { recorder, sequence, at, duration_us: 0, fixes: Vec::new() }, content, b"")
    }

    fn made(&self, segment: &Segment, content: Content, payload: &'static [u8]) -> NewLink {
        let header = LinkHeader {
            recorder: self.recorders[segment.recorder],
            sequence: segment.sequence,
            previous: Digest([1; 32]),
            captured_at: segment.at,
            duration_us: segment.duration_us,
            payload_length: u32::try_from(payload.len()).unwrap(),
            payload_digest: Digest::of(payload),
            content,
            fixes: segment.fixes.clone(),
        };
        let record = LinkRecord {
            header: header.encode().unwrap(),
            signature: vec![0; 64],
            received_at: u64::from(TODAY) * 86_400 * S,
            clock: None,
            body: Body::None,
            log_index: 0,
            tree_size: 0,
        };
        NewLink { header, digest: Digest([2; 32]), record, payload: Bytes::from_static(payload) }
    }

    fn commit(&self, links: Vec<NewLink>) {
        self.store.commit(Commit { number: self.store.next_commit(), links, ..Commit::default() }).unwrap();
    }

    fn store_all(&self, segments: &[Segment]) {
        self.commit(segments.iter().map(|segment| self.link(segment)).collect());
    }

    fn ask(&self, question: &Question) -> Page {
        find::recordings(&self.store, &self.fleet, question, BEGIN, &mut |_| true).unwrap()
    }

    /// Every page, with what `between` does after each.
    fn all(&self, question: &Question, mut between: impl FnMut(usize)) -> Vec<Recording> {
        let (mut question, mut all) = (question.clone(), Vec::new());
        for page in 0.. {
            let found = self.ask(&question);
            assert!(found.recordings.len() <= question.limit && (!found.more || !found.recordings.is_empty()));
            question.after = found.recordings.last().map(|last| (last.recorder, last.to));
            all.extend(found.recordings);
            if !found.more {
                break;
            }
            between(page);
        }
        all
    }

    fn rows(&self, engine: &Memory, family: Family) -> usize {
        engine.scan(family, keys::everything(), Direction::Forward).count()
    }
}

fn question(range: std::ops::Range<Micros>) -> Question {
    Question {
        range,
        recorder: None,
        kind: None,
        department: None,
        assignee: None,
        mark: None,
        text: None,
        area: None,
        after: None,
        limit: 100,
    }
}

fn fix(offset_ms: u32, point: Point) -> Fix {
    let (latitude_e7, longitude_e7) = (point.latitude_e7, point.longitude_e7);
    Fix { offset_ms, latitude_e7, longitude_e7, accuracy_dm: 50, speed_cms: 0, course_cdeg: 0 }
}

fn plain(recorder: usize, sequence: u64, at: Micros) -> Segment {
    Segment { recorder, sequence, at, duration_us: 2_000_000, fixes: Vec::new() }
}

/// The recordings of a recorder by looking at every segment: from, to, segments.
fn runs_of(segments: &[Segment], recorder: usize) -> Vec<(Micros, Micros, u64)> {
    let mut own: Vec<&Segment> = segments.iter().filter(|segment| segment.recorder == recorder).collect();
    own.sort_by_key(|segment| (segment.at, segment.sequence));
    let mut runs: Vec<(Micros, Micros, u64)> = Vec::new();
    for segment in own {
        let end = segment.at + u64::from(segment.duration_us);
        match runs.last_mut().filter(|run| run.1 + MINUTE >= segment.at) {
            Some(run) => *run = (run.0, run.1.max(end), run.2 + 1),
            None => runs.push((segment.at, end, 1)),
        }
    }
    runs
}

/// What must be found, by looking at everything.
fn expected(
    city: &City,
    segments: &[Segment],
    question: &Question,
) -> Vec<(RecorderId, Micros, Micros, u64, Option<f64>)> {
    let mut found = Vec::new();
    for recorder in 0..city.recorders.len() {
        let fixes: Vec<(Micros, f64)> = segments
            .iter()
            .filter(|segment| segment.recorder == recorder)
            .flat_map(|segment| {
                let at = segment.at;
                segment.fixes.iter().map(move |fix| (at + u64::from(fix.offset_ms) * 1_000, Point::of(fix)))
            })
            .filter(|(at, _)| question.range.contains(at))
            .filter_map(|(at, point)| Some((at, question.area.as_ref()?.holds(point)?)))
            .collect();
        for (from, to, count) in runs_of(segments, recorder) {
            let touches = from < question.range.end && (to > question.range.start || from >= question.range.start);
            let near =
                fixes.iter().filter(|(at, _)| *at + MINUTE >= from && *at < to + MINUTE).map(|(_, metres)| *metres);
            let nearest = near.min_by(f64::total_cmp);
            if touches && (question.area.is_none() || nearest.is_some()) {
                found.push((city.recorders[recorder], from, to, count, nearest));
            }
        }
    }
    found
}

fn told(recordings: &[Recording]) -> Vec<(RecorderId, Micros, Micros, u64, Option<f64>)> {
    let nearest = |one: &Recording| one.nearest.map(|(_, metres)| metres);
    recordings.iter().map(|one| (one.recorder, one.from, one.to, one.segments, nearest(one))).collect()
}

/// Where the tracks begin: a city, the antimeridian, a pole, corners of cells of the index, the middle of a pentagon.
fn home() -> impl Strategy<Value = (f64, f64)> {
    prop::sample::select(vec![
        (51.1282, 71.4304),
        (-17.5, 179.9995),
        (65.0, -179.9999),
        (89.9990, 10.0),
        (-89.9995, -120.0),
        (64.7, 10.536_200),
        (0.0, 0.0),
    ])
}

fn place(home: (f64, f64), north_m: f64, east_m: f64) -> Point {
    let latitude = (home.0 + north_m / 111_195.0).clamp(-90.0, 90.0);
    let wide = (111_195.0 * latitude.to_radians().cos()).max(1.0);
    let longitude = (home.1 + east_m / wide + 180.0).rem_euclid(360.0) - 180.0;
    Point { latitude_e7: (latitude * 1e7).round() as i32, longitude_e7: (longitude * 1e7).round() as i32 }
}

prop_compose! {
    /// Segments of a few recorders that walk about their home, in the order in which they arrive.
    fn tracks()(
        home in home(),
        steps in prop::collection::vec(
            (0_usize..3, 0_u64..150, 0_u32..5_000_000, prop::collection::vec((0_u32..6_000, -250.0_f64..250.0, -250.0_f64..250.0), 0..4)),
            1..60,
        ),
        shuffle in any::<u64>(),
    ) -> ((f64, f64), Vec<Segment>) {
        let mut at = [BEGIN; 3];
        let mut places = [(0.0, 0.0); 3];
        let mut segments = Vec::new();
        for (sequence, (recorder, pause_s, duration_us, moves)) in (0_u64..).zip(steps) {
            let mut fixes = Vec::new();
            let mut offset_ms = 0;
            for (later_ms, north, east) in moves {
                offset_ms += later_ms;
                places[recorder] = (places[recorder].0 + north, places[recorder].1 + east);
                fixes.push(fix(offset_ms, place(home, places[recorder].0, places[recorder].1)));
            }
            segments.push(Segment { recorder, sequence: sequence + 1, at: at[recorder], duration_us, fixes });
            at[recorder] += u64::from(duration_us) + pause_s * S;
        }
        let mut order: Vec<usize> = (0..segments.len()).collect();
        order.sort_by_key(|index| (*index as u64).wrapping_mul(shuffle | 1).rotate_left(23));
        (home, order.into_iter().map(|index| segments[index].clone()).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_place_finds_what_every_fix_says(
        (home, segments) in tracks(), which in 0_usize..4, centre in (-600.0_f64..600.0, -600.0_f64..600.0),
        size in (20.0_f64..900.0, 20.0_f64..900.0), from_s in 0_u64..3_000, length_s in 1_u64..3_000, limit in 1_usize..4, parts in 1_usize..5,
    ) {
        let city = City::new(3);
        for part in segments.chunks(segments.len().div_ceil(parts)) {
            city.store_all(part);
        }
        let middle = place(home, centre.0, centre.1);
        let corners = (place(home, centre.0 - size.0, centre.1 - size.1), place(home, centre.0 + size.0, centre.1 + size.1));
        let area = match which {
            0 => None,
            1 => Some(Area::Near { centre: middle, metres: size.0 }),
            2 => Some(Area::Box { south_west: corners.0, north_east: corners.1 }),
            _ => {
                let third = place(home, centre.0 + size.0, centre.1 - size.1);
                let text: Vec<String> = [corners.0, corners.1, third]
                    .map(|point| format!("{:.7},{:.7}", point.latitude(), point.longitude())).to_vec();
                // Close to a pole a triangle may go half around the earth.
                Some(Area::parse_polygon(&text.join(";")).unwrap_or(Area::Near { centre: middle, metres: size.1 }))
            }
        };
        let range = BEGIN + from_s * S..BEGIN + (from_s + length_s) * S;
        let wanted = Question { area, limit, ..question(range) };
        let found = city.all(&wanted, |_| {});
        let (found, expected) = (told(&found), expected(&city, &segments, &wanted));
        prop_assert_eq!(found.len(), expected.len(), "{:?} {:?}", found, expected);
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert_eq!((found.0, found.1, found.2, found.3), (expected.0, expected.1, expected.2, expected.3));
            let near = found.4.unwrap_or_default() - expected.4.unwrap_or_default();
            prop_assert!(near.abs() < 0.001, "{:?} {:?}", found, expected);
        }
    }

    #[test]
    fn pages_miss_nothing_and_repeat_nothing_while_footage_arrives(
        (_, segments) in tracks(), late in prop::collection::vec((0_usize..3, 0_u64..3_000, 0_u32..4_000_000), 0..12), limit in 1_usize..3,
    ) {
        let city = City::new(3);
        city.store_all(&segments);
        let wanted = Question { limit, ..question(0..BEGIN * 2) };
        let late: Vec<Segment> = (1_000..).zip(&late).map(|(sequence, (recorder, at_s, duration_us))| {
            Segment { recorder: *recorder, sequence, at: BEGIN + at_s * S, duration_us: *duration_us, fixes: Vec::new() }
        }).collect();
        let mut waiting = late.iter();
        let told = city.all(&wanted, |_| waiting.next().into_iter().for_each(|one| city.store_all(std::slice::from_ref(one))));
        let mut places: Vec<(RecorderId, Micros)> = told.iter().map(|one| (one.recorder, one.from)).collect();
        let count = places.len();
        prop_assert!(places.is_sorted());
        places.dedup();
        prop_assert_eq!(places.len(), count, "one was told twice");
        let arrived: Vec<Segment> = segments.iter().chain(&late[..late.len() - waiting.len()]).cloned().collect();
        for (recorder, id) in city.recorders.iter().enumerate() {
            for (from, to, _) in runs_of(&segments, recorder) {
                let (begin, end, _) = runs_of(&arrived, recorder).into_iter().find(|run| run.0 <= from && to <= run.1).unwrap();
                let is_told = told.iter().any(|one| one.recorder == *id && begin <= one.from && one.from <= end);
                prop_assert!(is_told, "what was there from the beginning was not told: {} {}", from, to);
            }
        }
    }
}

#[test]
fn a_pause_of_a_minute_does_not_end_a_recording_and_a_longer_one_does() {
    let city = City::new(1);
    let segments = [
        plain(0, 1, BEGIN),
        plain(0, 2, BEGIN + 2 * S),
        plain(0, 3, BEGIN + 4 * S + MINUTE),
        plain(0, 4, BEGIN + 6 * S + 2 * MINUTE + 1),
    ];
    // The last one first: the order of arrival does not matter.
    segments.iter().rev().for_each(|segment| city.store_all(std::slice::from_ref(segment)));
    let found = city.ask(&question(BEGIN..BEGIN + 1)).recordings;
    assert_eq!(found.len(), 1, "{found:?}");
    let one = &found[0];
    assert_eq!((one.from, one.to, one.segments, one.bytes), (BEGIN, BEGIN + 6 * S + MINUTE, 3, 21));
    assert_eq!((one.first_sequence, one.last_sequence, one.live), (1, 3, false));
    assert_eq!(city.ask(&question(BEGIN..BEGIN + 10 * MINUTE)).recordings.len(), 2);
}

#[test]
fn a_recording_is_told_whole_as_far_as_a_day_around_the_range() {
    let city = City::new(1);
    let segments: Vec<Segment> = (0..4_400).map(|index| plain(0, index + 1, BEGIN + index * MINUTE)).collect();
    city.store_all(&segments);
    let middle = BEGIN + 2_200 * MINUTE;
    let found = city.ask(&question(middle..middle + S)).recordings;
    assert_eq!(found.len(), 1);
    assert!(found[0].begins_earlier && found[0].ends_later, "{:?}", found[0]);
    assert!(found[0].from > middle - 25 * 60 * MINUTE && found[0].to < middle + 25 * 60 * MINUTE);
    let near_the_end = city.ask(&question(BEGIN..BEGIN + S)).recordings;
    assert!(!near_the_end[0].begins_earlier && near_the_end[0].ends_later);
}

#[test]
fn people_marks_and_words_find_their_recordings() {
    let city = City::new(3);
    let hour = 60 * MINUTE;
    for recorder in 0..3 {
        let segments: Vec<Segment> = (0..3).map(|index| plain(recorder, index + 1, BEGIN + index * hour)).collect();
        city.store_all(&segments);
    }
    city.commit(vec![
        city.mark(1, 10, BEGIN + hour + S, "bribe-attempt", "Есіл көшесі"),
        city.mark(2, 11, BEGIN + S, "speeding", ""),
    ]);
    let held = |from: Micros, to, assignee: &str| Assignment { from, to, assignee: assignee.to_owned() };
    city.fleet.assign(city.recorders[0], &held(BEGIN - hour, Some(BEGIN + MINUTE), "badge 1"), "test").unwrap();
    city.fleet.assign(city.recorders[0], &held(BEGIN + hour, None, "badge 2"), "test").unwrap();
    city.fleet.assign(city.recorders[1], &held(BEGIN, None, "badge 1"), "test").unwrap();
    city.fleet.assign(city.recorders[2], &held(BEGIN, None, "badge 1"), "test").unwrap();
    city.fleet.withdraw(city.recorders[2], BEGIN, "test").unwrap();
    let whole = question(BEGIN..BEGIN + 4 * hour);
    let places = |question: Question| -> Vec<(usize, u64)> {
        let index = |id| city.recorders.iter().position(|known| *known == id).unwrap();
        city.ask(&question).recordings.iter().map(|one| (index(one.recorder), (one.from - BEGIN) / hour)).collect()
    };
    let assignee = |name: &str| places(Question { assignee: Some(name.to_owned()), ..whole.clone() });
    assert_eq!(assignee("badge 1"), [(0, 0), (1, 0), (1, 1), (1, 2)]);
    assert_eq!(assignee("badge 2"), [(0, 1), (0, 2)]);
    assert_eq!(assignee("badge"), []);
    let mark = |name: &str| places(Question { mark: Some(name.to_owned()), ..whole.clone() });
    assert_eq!(mark("bribe-attempt"), [(1, 1)]);
    assert_eq!(mark("speeding"), [(2, 0)]);
    assert_eq!(mark("bribe"), []);
    let text = |words: &str| places(Question { text: Some(words.to_owned()), ..whole.clone() });
    assert_eq!(text("ЕСІЛ"), [(1, 1)]);
    assert_eq!(text("Badge 2"), [(0, 1), (0, 2)]);
    assert_eq!(text("car "), places(whole.clone()));
    let one = city.ask(&Question { recorder: Some(city.recorders[1]), ..whole.clone() }).recordings;
    assert_eq!(one[1].marks[0].category, "bribe-attempt");
    assert_eq!((one.len(), one[0].marks.len(), one[0].assignments[0].assignee.as_str()), (3, 0, "badge 1"));
}

#[test]
fn what_is_not_seen_takes_no_part() {
    let city = City::new(6);
    for recorder in 0..6 {
        city.store_all(&[plain(recorder, 1, BEGIN)]);
    }
    let (mut question, mut seen) = (Question { limit: 1, ..question(BEGIN..BEGIN + S) }, Vec::new());
    loop {
        let mut sees = |record: &RecorderRecord| record.department == "Astana";
        let page = find::recordings(&city.store, &city.fleet, &question, BEGIN, &mut sees).unwrap();
        seen.extend(page.recordings.iter().map(|one| one.recorder));
        question.after = page.recordings.last().map(|last| (last.recorder, last.to));
        if !page.more {
            break;
        }
    }
    let theirs = |id: &RecorderId| city.store.recorder(*id).unwrap().unwrap().department == "Astana";
    let expected: Vec<RecorderId> = city.recorders.iter().copied().filter(theirs).collect();
    assert_eq!((seen, expected.len()), (expected, 3));
}

#[test]
fn a_question_that_would_read_too_much_is_refused() {
    let city = City::new(1);
    let sequences = find::ROWS_MAX;
    for first in (0..sequences).step_by(20_000) {
        city.commit((first..first + 20_000).map(|at| city.mark(0, at + 1, BEGIN + at, "watch-me", "")).collect());
    }
    city.store_all(&[plain(0, sequences + 10, BEGIN)]);
    let asked = Question { mark: Some("watch-me".to_owned()), ..question(BEGIN..BEGIN + 60 * MINUTE) };
    let refused = find::recordings(&city.store, &city.fleet, &asked, BEGIN, &mut |_| true).unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    assert!(refused.context().contains("narrow"), "{refused}");
}

#[test]
fn footage_that_is_over_leaves_the_index_and_what_was_moved_stays() {
    let memory = Memory::default();
    let city = City::of(Store::with_engine(Arc::new(memory.clone())).unwrap(), 2);
    let somewhere = place((51.1282, 71.4304), 0.0, 0.0);
    let near = |recorder, sequence, at| Segment { fixes: vec![fix(500, somewhere)], ..plain(recorder, sequence, at) };
    city.store_all(&[near(0, 1, BEGIN), near(0, 2, BEGIN + 2 * S), near(1, 1, BEGIN), near(1, 2, BEGIN + 20 * MINUTE)]);
    city.commit(vec![city.mark(0, 3, BEGIN + S, "speeding", "")]);
    let area = Some(Area::Near { centre: somewhere, metres: 10.0 });
    let asked = Question { area, ..question(BEGIN..BEGIN + 60 * MINUTE) };
    assert_eq!(city.ask(&asked).recordings.len(), 3);
    let told = city.ask(&Question { limit: 1, ..asked.clone() }).recordings;
    let link = city.store.link(city.recorders[0], 2).unwrap().unwrap();
    let day = link.body.place().unwrap().day;
    let owner = aigaq::store::records::Owner::Link(2);
    let rule = aigaq::store::policy::Rule::Hold { id: 1 };
    let wanted = aigaq::store::Move { recorder: city.recorders[0], owner, until_day: day + 9, rule };
    city.store.relocate(&[wanted]).unwrap();
    let newest = BTreeMap::from([(city.recorders[0], BEGIN + 2 * S), (city.recorders[1], BEGIN + 20 * MINUTE)]);
    let hidden = aigaq::store::Hidden { days: Vec::new(), newest };
    assert!(city.store.hide_before(day + 1, city.store.claims(), &hidden).unwrap());
    let left = |city: &City| {
        let found = city.ask(&asked).recordings;
        found.iter().map(|one| (one.recorder, one.from, one.segments)).collect::<Vec<_>>()
    };
    let kept = vec![(city.recorders[0], BEGIN + 2 * S, 1)];
    assert_eq!(left(&city), kept, "what is hidden is not found");
    let next = Question { after: Some((told[0].recorder, told[0].to)), ..asked.clone() };
    assert_eq!(city.ask(&next).recordings, [], "what was told already does not come again because its begin is hidden");
    let rows = |city: &City| Family::ALL.map(|family| (family, city.rows(&memory, family)));
    let before = rows(&city);
    city.store.drop_days_before(day + 1).unwrap();
    assert_eq!(left(&city), kept);
    let after: BTreeSet<_> = rows(&city).into_iter().collect();
    for (family, count) in [
        (Family::Slots, 1),
        (Family::Runs, 1),
        (Family::Presence, 1),
        (Family::Marks, 1),
        (Family::Marked, 1),
        (Family::Categories, 1),
    ] {
        assert!(after.contains(&(family, count)), "{before:?} {after:?}");
    }
    assert_eq!(city.rows(&memory, Family::Links), 5, "the chain stays");
    assert_eq!(find::path(&city.store, city.recorders[1], 0..BEGIN * 2).unwrap().len(), 2, "with its positions");
    // Again, as after a crash on the way.
    city.store.drop_days_before(day + 1).unwrap();
    assert_eq!(left(&city), kept);
}

#[test]
fn who_was_together_is_told_by_place_and_time() {
    let city = City::new(4);
    let home = (51.1282, 71.4304);
    let walk = |recorder, north: f64, later_s: u64| -> Vec<Segment> {
        let at = |index: u64| BEGIN + index * 10 * S + later_s * S;
        (0..60_u32)
            .map(|index| Segment {
                fixes: vec![fix(0, place(home, north + f64::from(index) * 10.0, 0.0))],
                ..plain(recorder, u64::from(index) + 1, at(u64::from(index)))
            })
            .collect()
    };
    for segments in [walk(0, 0.0, 0), walk(1, 8.0, 5), walk(2, 0.0, 3_600), walk(3, 5_000.0, 0)] {
        city.store_all(&segments);
    }
    let asked = |seconds, see: usize| {
        let mut sees = |record: &RecorderRecord| city.recorders.iter().position(|id| *id == record.id).unwrap() >= see;
        let range = BEGIN..BEGIN + 60 * MINUTE;
        find::together(&city.store, city.recorders[0], range, 20.0, seconds, &mut sees).unwrap()
    };
    let with = asked(10, 0);
    assert_eq!(with.iter().map(|one| one.recorder).collect::<Vec<_>>(), [city.recorders[1]]);
    let meeting = with[0].meetings[0];
    assert_eq!((with[0].meetings.len(), meeting.from, meeting.to), (1, BEGIN + 5 * S, BEGIN + 595 * S));
    assert!((1.9..2.1).contains(&meeting.metres), "{meeting:?}");
    assert!(asked(1, 0).is_empty(), "five seconds later is not one");
    assert!(asked(10, 2).is_empty(), "who is not seen was not there");
}

#[test]
fn a_disk_finds_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { free_bytes_min: 0, ..Settings::default() };
    let home = (51.1282, 71.4304);
    let segments: Vec<Segment> = (0..200_u32)
        .map(|index| Segment {
            fixes: vec![
                fix(0, place(home, f64::from(index) * 9.0, 3.0)),
                fix(900, place(home, f64::from(index) * 9.0, 7.0)),
            ],
            ..plain((index % 2) as usize, u64::from(index) + 1, BEGIN + u64::from(index) * 7 * S)
        })
        .collect();
    let area = Some(Area::Near { centre: place(home, 900.0, 0.0), metres: 120.0 });
    let asked = Question { area, ..question(BEGIN..BEGIN + 60 * MINUTE) };
    let city = City::of(Store::open(dir.path(), &settings).unwrap(), 2);
    for part in segments.chunks(9) {
        city.store_all(part);
    }
    let before = city.ask(&asked);
    assert_eq!(told(&before.recordings), expected(&city, &segments, &asked));
    city.store.close().unwrap();
    drop(city);
    let store = Store::open(dir.path(), &settings).unwrap();
    let fleet = Fleet::open(store.clone(), Clock::fixed(BEGIN)).unwrap();
    let after = find::recordings(&store, &fleet, &asked, BEGIN, &mut |_| true).unwrap();
    assert_eq!(after, before);
    assert_eq!(before.recordings.len(), 2);
}
