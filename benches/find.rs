//! Finding footage in a generated city: `cargo bench --bench find`.
//!
//! Recorders drive and walk along the streets of a city of 20 by 20 km, eight hours a day, a third of them at any time, with a hundred and
//! eleven fixes in each shift. What a commit would have put into the index is written with the store's own encoders, as files that the engine
//! takes in; links and footage are left out, since no question of these reads them. The same questions are asked, in turn, of a city with a hundredth
//! of the days. `AIGAQ_FIND_RECORDERS` (10,000) and `AIGAQ_FIND_DAYS` (90) say how large it is,
//! `AIGAQ_FIND_QUESTIONS` (1,000) how often each is asked.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use aigaq::Clock;
use aigaq::find::{self, Question};
use aigaq::fleet::Fleet;
use aigaq::place::{Area, Cell, Point};
use aigaq::store::engine::rocks::Rocks;
use aigaq::store::engine::{Batch, Engine, Family};
use aigaq::store::index::{SLOT_US, slot_of};
use aigaq::store::records::{
    self, AssignmentRecord, AssignmentRevision, MarkPlace, MarkRecord, PresenceRecord, Raiser, RecorderKey,
    RecorderKind, RecorderRecord, RunRecord, RunsRecord,
};
use aigaq::store::{Settings, Store, keys};
use aigaq_proto::link::Fix;
use aigaq_proto::{Micros, RecorderId};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rocksdb::{DB, DBCompressionType, IngestExternalFileOptions, Options, SstFileWriter};

/// 2026-01-17T00:00:00Z.
const BEGIN: Micros = 1_768_608_000_000_000;
const S: Micros = 1_000_000;
const HOUR: Micros = 3_600 * S;
const DAY: Micros = 24 * HOUR;
/// Ten minutes in a shift.
const SLOTS: u64 = 48;
/// Fixes in a shift: one in 259 s.
const FIXES: u64 = 111;
const DEPARTMENTS: usize = 100;
const CATEGORIES: [&str; 13] = [
    "bribe-attempt",
    "disobedience",
    "insult",
    "emergency",
    "watch-me",
    "drunk-driving",
    "no-documents",
    "no-yielding",
    "insurance",
    "speeding",
    "passenger-carriage",
    "phone",
    "other",
];
/// Rows of a file.
const FILE_ROWS: usize = 2_000_000;

fn env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Numbers that look like chance and follow from their place alone.
fn mixed(a: u64, b: u64) -> u64 {
    let mut state = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    state ^= state >> 29;
    state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state ^ (state >> 32)
}

/// Where a recorder is: an hour from one crossing to the next, along two streets, denser towards the middle of the city.
fn place(recorder: u64, at: Micros) -> Point {
    let hour = at / HOUR;
    let crossing = |hour: u64, axis: u64| -> f64 {
        let one = |part: u64| (mixed(recorder * 8 + axis * 4 + part, hour) % 2_001) as f64 / 1_000.0 - 1.0;
        // The mean of two is more often near the middle; streets lie 200 m apart.
        ((one(0) + one(1)) / 2.0 * 50.0).round() * 200.0
    };
    let part = (at % HOUR) as f64 / HOUR as f64;
    let (from, to) = ((crossing(hour, 0), crossing(hour, 1)), (crossing(hour + 1, 0), crossing(hour + 1, 1)));
    let along = |from: f64, to: f64, part: f64| from + (to - from) * part.clamp(0.0, 1.0);
    let (east, north) = (along(from.0, to.0, part * 2.0), along(from.1, to.1, part * 2.0 - 1.0));
    let e7 = |degrees: f64| (degrees * 1e7).round() as i32;
    Point { latitude_e7: e7(51.1282 + north / 111_195.0), longitude_e7: e7(71.4304 + east / 69_780.0) }
}

/// When the shift of a recorder begins on a day.
fn shift(recorder: u64, day: u64) -> Micros {
    BEGIN + day * DAY + recorder % 3 * 8 * HOUR
}

fn sequence_at(at: Micros) -> u64 {
    (at - BEGIN) / (2 * S)
}

/// A fix of the city, as the index has it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    cell: u64,
    slot: u32,
    recorder: u32,
    at: Micros,
}

struct City {
    store: Store,
    fleet: Fleet,
    ids: Vec<RecorderId>,
    days: u64,
    rows: u64,
    bytes: u64,
    _dir: tempfile::TempDir,
}

/// Files with rows in order, on their way into a family.
struct Files<'a> {
    options: &'a Options,
    dir: &'a Path,
    paths: Vec<PathBuf>,
    writer: Option<SstFileWriter<'a>>,
    rows: usize,
    all: u64,
}

impl<'a> Files<'a> {
    fn new(options: &'a Options, dir: &'a Path) -> Self {
        Self { options, dir, paths: Vec::new(), writer: None, rows: 0, all: 0 }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        if self.writer.is_none() {
            let path = self.dir.join(format!("{}.sst", self.paths.len()));
            let writer = SstFileWriter::create(self.options);
            writer.open(&path).unwrap();
            self.paths.push(path);
            (self.writer, self.rows) = (Some(writer), 0);
        }
        self.writer.as_mut().unwrap().put(key, value).unwrap();
        self.rows += 1;
        self.all += 1;
        if self.rows == FILE_ROWS {
            self.writer.take().unwrap().finish().unwrap();
        }
    }

    fn ingest(mut self, db: &DB, family: Family) -> u64 {
        if let Some(mut writer) = self.writer.take() {
            writer.finish().unwrap();
        }
        let mut how = IngestExternalFileOptions::default();
        how.set_move_files(true);
        if !self.paths.is_empty() {
            db.ingest_external_file_cf_opts(db.cf_handle(family.name()).unwrap(), &how, self.paths).unwrap();
        }
        self.all
    }
}

impl City {
    fn build(recorders: u64, days: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let of_store = dir.path().join("store");
        let settings = Settings { free_bytes_min: 0, ..Settings::default() };
        drop(Rocks::open(&of_store, &settings).unwrap());
        let records: Vec<RecorderRecord> = (0..recorders).map(record).collect();
        let mut ids: Vec<RecorderId> = records.iter().map(|record| record.id).collect();
        ids.sort_unstable();
        let rows = ingest(&of_store, &ids, days);
        let engine = Rocks::open(&of_store, &settings).unwrap();
        let mut batch = Batch::default();
        for record in &records {
            batch.put(Family::Recorders, keys::recorder(record.id), records::encode(record).unwrap());
        }
        for (index, id) in (0..).zip(&ids) {
            for day in 0..days {
                let (from, name) = (shift(index, day), badge(index));
                let to = Some(from + 8 * HOUR);
                let revision =
                    AssignmentRevision { assignee: Some(name.clone()), to, recorded_at: from, actor: "bench".into() };
                let assigned = records::encode(&AssignmentRecord { revisions: vec![revision] }).unwrap();
                batch.put(Family::Assignments, keys::assignment(*id, from), assigned);
                batch.put(Family::Assignees, keys::assignee(&name, from, *id), []);
            }
            if batch.puts.len() > 100_000 {
                engine.commit(&[], &std::mem::take(&mut batch)).unwrap();
            }
        }
        engine.commit(&[], &batch).unwrap();
        engine.close().unwrap();
        let store = Store::with_engine(Arc::new(engine)).unwrap();
        let fleet = Fleet::open(store.clone(), Clock::fixed(BEGIN)).unwrap();
        let files = std::fs::read_dir(&of_store).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
        let bytes = files.map(|file| file.len()).sum();
        Self { store, fleet, ids, days, rows, bytes, _dir: dir }
    }

    /// Milliseconds of a question by the clock and on a processor, and how many recordings it found.
    fn ask(&self, question: &Question) -> ([f64; 2], usize) {
        let (began, worked) = (Instant::now(), worked_ms());
        let page = find::recordings(&self.store, &self.fleet, question, BEGIN, &mut |_| true).unwrap();
        ([began.elapsed().as_secs_f64() * 1_000.0, worked_ms() - worked], page.recordings.len())
    }

    /// A recorder, and a moment in one of its shifts.
    fn somebody(&self, chance: &mut StdRng) -> (u64, Micros) {
        let recorder = chance.random_range(0..self.ids.len() as u64);
        (recorder, shift(recorder, chance.random_range(0..self.days)) + chance.random_range(0..8 * HOUR))
    }

    fn question(&self, kind: Asked, chance: &mut StdRng) -> Question {
        let (recorder, at) = self.somebody(chance);
        let around = |length: Micros| {
            let from = at.saturating_sub(length / 2).max(BEGIN);
            Question {
                range: from..from + length,
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
        };
        match kind {
            Asked::Near => {
                let middle = place(recorder, at);
                let mut aside = || chance.random_range(-9_000..9_000);
                let (latitude_e7, longitude_e7) = (middle.latitude_e7 + aside(), middle.longitude_e7 + aside());
                let area = Area::Near { centre: Point { latitude_e7, longitude_e7 }, metres: 300.0 };
                Question { area: Some(area), ..around(15 * 60 * S) }
            }
            Asked::Everybody => around(10 * 60 * S),
            Asked::Department => {
                Question { department: Some(department(recorder as usize % DEPARTMENTS)), ..around(HOUR) }
            }
            Asked::Recorder => Question { recorder: Some(self.ids[recorder as usize]), ..around(DAY) },
            Asked::Month => Question { recorder: Some(self.ids[recorder as usize]), ..around(31 * DAY) },
            Asked::Person => Question { assignee: Some(badge(recorder)), ..around(DAY) },
            Asked::Mark => {
                let category = CATEGORIES[chance.random_range(0..CATEGORIES.len())];
                Question { mark: Some(category.to_owned()), ..around(6 * HOUR) }
            }
        }
    }
}

/// Milliseconds that this thread was on a processor.
fn worked_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
}

fn badge(recorder: u64) -> String {
    format!("badge {recorder}")
}

fn department(number: usize) -> String {
    format!("Department {number}")
}

fn record(index: u64) -> RecorderRecord {
    let mut spki = vec![0; 44];
    spki[..8].copy_from_slice(&index.to_be_bytes());
    let kind = if index.is_multiple_of(2) { RecorderKind::Vehicle } else { RecorderKind::Officer };
    let key = RecorderKey { spki, since: BEGIN, not_after: None };
    RecorderRecord::new(kind, department(index as usize % DEPARTMENTS), format!("Recorder {index}"), key)
}

/// Writes the index of the city and has the engine take it in; how many rows there are.
fn ingest(of_store: &Path, ids: &[RecorderId], days: u64) -> u64 {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    let names = DB::list_cf(&Options::default(), of_store).unwrap();
    let of_family = |name: &String| {
        let mut options = options.clone();
        options.set_merge_operator_associative("aigaq.append", |_, _, _| None);
        (name.clone(), options)
    };
    let db = DB::open_cf_with_opts(&options, of_store, names.iter().map(of_family)).unwrap();
    let mut rows = 0;
    let mut family = |family: Family, write: &mut dyn FnMut(&mut Files<'_>)| {
        let staging = tempfile::tempdir_in(of_store.parent().unwrap()).unwrap();
        let mut files = Files::new(&options, staging.path());
        write(&mut files);
        rows += files.ingest(&db, family);
    };
    let all = || (0_u64..).zip(ids);
    family(Family::Runs, &mut |files| {
        for (recorder, id) in all() {
            for slot in (0..days).flat_map(|day| (0..SLOTS).map(move |slot| shift(recorder, day) + slot * SLOT_US)) {
                let first = sequence_at(slot);
                let run = RunRecord {
                    from_us: 0,
                    to_us: SLOT_US as u32,
                    first,
                    last: first + 299,
                    segments: 300,
                    bytes: 300 << 19,
                };
                let value = records::encode(&RunsRecord { runs: vec![run] }).unwrap();
                files.put(&keys::runs(*id, slot_of(slot)), &value);
            }
        }
    });
    family(Family::Slots, &mut |files| {
        for slot in 0..days * 144 {
            let third = slot % 144 / SLOTS;
            for (_, id) in all().filter(|(recorder, _)| recorder % 3 == third) {
                files.put(&keys::slot(slot_of(BEGIN + slot * SLOT_US), *id), &[]);
            }
        }
    });
    let marks = |recorder: u64, day: u64| {
        [0, 1].map(|which| {
            let chance = mixed(recorder * 2 + which, day + 77);
            (shift(recorder, day) + chance % (8 * HOUR), CATEGORIES[(chance >> 40) as usize % CATEGORIES.len()])
        })
    };
    let mut all_marks: Vec<MarkRecord> = Vec::new();
    for (recorder, id) in all() {
        for (at, category) in (0..days).flat_map(|day| marks(recorder, day)) {
            let place = MarkPlace { at, recorder: *id, raiser: Raiser::Recorder(sequence_at(at)) };
            let (category, note, by) = (category.to_owned(), String::new(), String::new());
            let (from, to) = (at - 30 * S, at + 30 * S);
            all_marks.push(MarkRecord { place, category, note, from, to, recorded_at: at, by, corrects: None });
        }
    }
    all_marks.sort_unstable_by_key(|mark| mark.place);
    all_marks.dedup_by_key(|mark| mark.place);
    family(Family::Marks, &mut |files| {
        all_marks.iter().for_each(|mark| files.put(&keys::mark(mark.place), &records::encode(mark).unwrap()));
    });
    let mut sorted = |of: Family, mut rows: Vec<(Vec<u8>, Vec<u8>)>| {
        rows.sort_unstable();
        family(of, &mut |files| rows.iter().for_each(|(key, value)| files.put(key, value)));
    };
    let marked = |mark: &MarkRecord| (keys::marked(mark.place).to_vec(), records::encode(mark).unwrap());
    sorted(Family::Marked, all_marks.iter().map(marked).collect());
    let category = |mark: &MarkRecord| (keys::category(&mark.category, mark.place), Vec::new());
    sorted(Family::Categories, all_marks.iter().map(category).collect());
    family(Family::Presence, &mut |files| presence(files, ids, days));
    rows
}

fn presence(files: &mut Files<'_>, ids: &[RecorderId], days: u64) {
    let mut rows = Vec::with_capacity(ids.len() * days as usize * FIXES as usize);
    for recorder in 0..ids.len() as u64 {
        for day in 0..days {
            for fix in 0..FIXES {
                let at = shift(recorder, day) + fix * 8 * HOUR / FIXES;
                let cell = Cell::of(place(recorder, at)).0;
                rows.push(Row { cell, slot: slot_of(at), recorder: recorder as u32, at });
            }
        }
    }
    rows.sort_unstable();
    let block = |row: &Row| sequence_at(row.at) / 512;
    for of_key in rows.chunk_by(|a, b| (a.cell, a.slot, a.recorder, block(a)) == (b.cell, b.slot, b.recorder, block(b)))
    {
        let mut value = Vec::new();
        for row in of_key {
            let captured = row.at - row.at % (2 * S);
            let mut record = PresenceRecord {
                sequence: (sequence_at(row.at) % 512) as u16,
                captured_us: (captured % SLOT_US) as u32,
                steps: Vec::new(),
            };
            let Point { latitude_e7, longitude_e7 } = place(u64::from(row.recorder), row.at);
            let offset_ms = ((row.at - captured) / 1_000) as u32;
            record.push(&Fix { offset_ms, latitude_e7, longitude_e7, accuracy_dm: 0, speed_cms: 0, course_cdeg: 0 });
            value.extend(records::encode(&record).unwrap());
        }
        let row = &of_key[0];
        files.put(&keys::presence(row.cell, row.slot, ids[row.recorder as usize], block(row)), &value);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Near,
    Everybody,
    Department,
    Recorder,
    Person,
    Mark,
    /// A month of a recorder: a hundredth of the days does not have one.
    Month,
}

fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part) as usize]
}

fn main() {
    let (recorders, days) = (env("AIGAQ_FIND_RECORDERS", 10_000), env("AIGAQ_FIND_DAYS", 90));
    let asked = env("AIGAQ_FIND_QUESTIONS", 1_000);
    let built = |days: u64| {
        let began = Instant::now();
        let city = City::build(recorders, days);
        println!(
            "{recorders} recorders, {days} days, {} fixes: {} rows of the index, {} MB on disk, built in {:.0} s",
            recorders * days * FIXES,
            city.rows,
            city.bytes >> 20,
            began.elapsed().as_secs_f64()
        );
        city
    };
    let cities = [built(days), built(days.div_ceil(100))];
    let mut ranges = Taken::default();
    for kind in
        [Asked::Near, Asked::Everybody, Asked::Department, Asked::Recorder, Asked::Person, Asked::Mark, Asked::Month]
    {
        let (mut taken, mut found) = (Taken::default(), [0, 0]);
        let mut chance = [StdRng::seed_from_u64(7), StdRng::seed_from_u64(7)];
        for _ in 0..asked {
            for which in [0, 1] {
                let city = &cities[which];
                let (ms, count) = city.ask(&city.question(kind, &mut chance[which]));
                taken.note(which, ms);
                found[which] += count;
                if !matches!(kind, Asked::Near | Asked::Month) {
                    ranges.note(which, ms);
                }
            }
        }
        let name = format!("find_{kind:?}").to_lowercase();
        println!("{name}: {:.1} and {:.1} recordings", found[0] as f64 / asked as f64, found[1] as f64 / asked as f64);
        taken.show(&name);
    }
    ranges.show("find_range");
}

/// What questions took in the city and in a hundredth of it: by the clock, and on a processor.
#[derive(Default)]
struct Taken([[Vec<f64>; 2]; 2]);

impl Taken {
    fn note(&mut self, which: usize, [clock, worked]: [f64; 2]) {
        self.0[which][0].push(clock);
        self.0[which][1].push(worked);
    }

    fn show(&mut self, name: &str) {
        let [all, hundredth] = &mut self.0;
        for (by, of) in ["", "_cpu"].into_iter().enumerate() {
            for (part, label) in [(0.5, "p50"), (0.99, "p99")] {
                let (large, small) = (quantile(&mut all[by], part), quantile(&mut hundredth[by], part));
                println!("figure {name}{of}_{label} {large:.3} ms");
                println!("figure {name}{of}_{label}_of_a_hundredth {small:.3} ms");
                println!("figure {name}{of}_{label}_ratio {:.3} x", large / small);
            }
        }
    }
}
