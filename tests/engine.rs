//! One conformance suite for every engine of the store, and what only a disk can show: damage, orphans, room, reopening.
//!
//! The suite runs on the engine in memory, on RocksDB, on RocksDB with a threshold so low that every body is ingested, on an object store in
//! memory, and on a real SeaweedFS where it can be installed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(feature = "cluster")]
#[path = "support/seaweed.rs"]
mod seaweed;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aigaq::Kind;
use aigaq::store::engine::memory::{FailAt, Memory};
use aigaq::store::engine::rocks::Rocks;
#[cfg(feature = "cluster")]
use aigaq::store::engine::slate::{self, Slate};
use aigaq::store::engine::{Batch, Direction, Engine, Family, NewBody};
use aigaq::store::records::FootageKey;
use aigaq::store::{Settings, Store, keys};
use bytes::Bytes;
use tempfile::TempDir;

/// An engine, and how to open it again as a new process would.
struct Rig {
    name: &'static str,
    engine: Arc<dyn Engine>,
    home: Home,
}

enum Home {
    Memory(Memory),
    Disk(TempDir, Box<Settings>),
    #[cfg(feature = "cluster")]
    Objects(Arc<dyn object_store::ObjectStore>, String),
}

fn settings(ingest_bytes_min: usize) -> Settings {
    Settings { ingest_bytes_min, free_bytes_min: 0, ..Settings::default() }
}

#[cfg(feature = "cluster")]
fn slate() -> slate::Settings {
    slate::Settings { flush_interval: std::time::Duration::from_millis(10), ..slate::Settings::default() }
}

/// Every body is ingested.
const INGEST: usize = 1;
/// No body is.
const TRICKLE: usize = usize::MAX;

impl Rig {
    fn memory() -> Self {
        let memory = Memory::default();
        Self { name: "memory", engine: Arc::new(memory.clone()), home: Home::Memory(memory) }
    }

    fn disk(name: &'static str, ingest_bytes_min: usize) -> Self {
        let (dir, settings) = (tempfile::tempdir().unwrap(), settings(ingest_bytes_min));
        let engine = Arc::new(Rocks::open(dir.path(), &settings).unwrap());
        Self { name, engine, home: Home::Disk(dir, Box::new(settings)) }
    }

    #[cfg(feature = "cluster")]
    fn objects(name: &'static str, objects: Arc<dyn object_store::ObjectStore>, prefix: String) -> Self {
        let engine = Arc::new(Slate::open(Arc::clone(&objects), &prefix, slate()).unwrap());
        Self { name, engine, home: Home::Objects(objects, prefix) }
    }

    #[cfg(feature = "cluster")]
    fn beyond_this_machine() -> Vec<Self> {
        let memory = Arc::new(object_store::memory::InMemory::new());
        let mut rigs = vec![Self::objects("objects in memory", memory, "store".to_owned())];
        rigs.extend(seaweed::seaweed().map(|seaweed| {
            let place = seaweed.place();
            Self::objects("SeaweedFS", place.connect().unwrap(), place.prefix)
        }));
        rigs
    }

    #[cfg(not(feature = "cluster"))]
    fn beyond_this_machine() -> Vec<Self> {
        Vec::new()
    }

    fn all() -> Vec<Self> {
        let mut rigs = vec![
            Self::memory(),
            Self::disk("rocksdb", 4_096),
            Self::disk("rocksdb, ingested", INGEST),
            Self::disk("rocksdb, trickled", TRICKLE),
        ];
        rigs.extend(Self::beyond_this_machine());
        rigs
    }

    fn reopen(self) -> Self {
        let Self { name, engine, home } = self;
        drop(engine);
        match home {
            Home::Memory(memory) => {
                let memory = memory.restart();
                Self { name, engine: Arc::new(memory.clone()), home: Home::Memory(memory) }
            }
            Home::Disk(dir, settings) => {
                let engine = Arc::new(Rocks::open(dir.path(), &settings).unwrap());
                Self { name, engine, home: Home::Disk(dir, settings) }
            }
            #[cfg(feature = "cluster")]
            Home::Objects(objects, prefix) => Self::objects(name, objects, prefix),
        }
    }
}

fn key(day: u32, commit: u64, index: u32) -> FootageKey {
    FootageKey { day, commit, index }
}

/// Bytes that are different for every key and that no compression makes small.
fn bytes_of(key: FootageKey, length: usize) -> Bytes {
    let mut state = u64::from(key.day) << 40 ^ key.commit << 8 ^ u64::from(key.index) | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn body(key: FootageKey, length: usize) -> NewBody {
    NewBody { key, bytes: bytes_of(key, length) }
}

fn batch(puts: &[(Family, &[u8], &[u8])]) -> Batch {
    let mut batch = Batch::default();
    puts.iter().for_each(|(family, key, value)| batch.put(*family, *key, *value));
    batch
}

fn keys_of(engine: &dyn Engine, family: Family, range: Range<&[u8]>, direction: Direction) -> Vec<Vec<u8>> {
    let range = range.start.to_vec()..range.end.to_vec();
    engine.scan(family, range, direction).map(|entry| entry.unwrap().0.into_vec()).collect()
}

fn footage_of(engine: &dyn Engine) -> Vec<FootageKey> {
    engine.bodies().map(|entry| entry.unwrap().0).collect()
}

#[test]
fn what_was_committed_is_read_back_and_survives_the_end_of_the_process() {
    for rig in Rig::all() {
        let bodies = [body(key(1, 1, 0), 10), body(key(1, 1, 1), 100_000), body(key(2, 1, 2), 3)];
        rig.engine.commit(&bodies, &batch(&[(Family::Links, b"a", b"one"), (Family::Heads, b"a", b"two")])).unwrap();
        let holds = |rig: &Rig| {
            for body in &bodies {
                assert_eq!(rig.engine.body(body.key).unwrap().as_ref(), Some(&body.bytes), "{}", rig.name);
            }
            assert_eq!(rig.engine.get(Family::Links, b"a").unwrap().as_deref(), Some(&b"one"[..]), "{}", rig.name);
            assert_eq!(rig.engine.get(Family::Heads, b"a").unwrap().as_deref(), Some(&b"two"[..]), "{}", rig.name);
        };
        holds(&rig);
        holds(&rig.reopen());
    }
}

#[test]
fn what_was_never_committed_is_absent() {
    for rig in Rig::all() {
        assert_eq!(rig.engine.get(Family::Links, b"a").unwrap(), None, "{}", rig.name);
        assert_eq!(rig.engine.body(key(1, 1, 1)).unwrap(), None, "{}", rig.name);
        assert!(footage_of(&*rig.engine).is_empty(), "{}", rig.name);
    }
}

#[test]
fn the_later_put_of_a_key_wins_within_a_batch_and_between_batches() {
    for rig in Rig::all() {
        rig.engine.commit(&[], &batch(&[(Family::Heads, b"a", b"1"), (Family::Heads, b"a", b"2")])).unwrap();
        assert_eq!(rig.engine.get(Family::Heads, b"a").unwrap().unwrap(), b"2", "{}", rig.name);
        rig.engine.commit(&[], &batch(&[(Family::Heads, b"a", b"3")])).unwrap();
        assert_eq!(rig.engine.get(Family::Heads, b"a").unwrap().unwrap(), b"3", "{}", rig.name);
    }
}

#[test]
fn a_scan_is_half_open_and_runs_both_ways() {
    for rig in Rig::all() {
        let puts = [b"a", b"b", b"c", b"d"].map(|key| (Family::Timeline, &key[..], &b""[..]));
        rig.engine.commit(&[], &batch(&puts)).unwrap();
        let forward = keys_of(&*rig.engine, Family::Timeline, b"b"..b"d", Direction::Forward);
        assert_eq!(forward, [b"b", b"c"], "{}", rig.name);
        let backward = keys_of(&*rig.engine, Family::Timeline, b"b"..b"d", Direction::Backward);
        assert_eq!(backward, [b"c", b"b"], "{}", rig.name);
        assert!(keys_of(&*rig.engine, Family::Links, b"a"..b"z", Direction::Forward).is_empty(), "{}", rig.name);
        assert!(keys_of(&*rig.engine, Family::Timeline, b"e"..b"z", Direction::Backward).is_empty(), "{}", rig.name);
    }
}

#[test]
fn a_scan_sees_one_moment() {
    for rig in Rig::all() {
        rig.engine.commit(&[], &batch(&[(Family::Links, b"a", b"old"), (Family::Links, b"c", b"old")])).unwrap();
        let scan = rig.engine.scan(Family::Links, b"a".to_vec()..b"z".to_vec(), Direction::Forward);
        rig.engine.commit(&[], &batch(&[(Family::Links, b"b", b"new"), (Family::Links, b"c", b"new")])).unwrap();
        let seen: Vec<_> = scan.map(Result::unwrap).collect();
        let expected = [(&b"a"[..], &b"old"[..]), (&b"c"[..], &b"old"[..])];
        assert_eq!(seen, expected.map(|(key, value)| (key.into(), value.into())), "{}", rig.name);
    }
}

#[test]
fn bodies_come_in_the_order_of_their_keys_whichever_way_they_went_in() {
    for rig in Rig::all() {
        let lengths = [5_000, 10, 6_000, 20, 7_000];
        for (number, length) in (1..).zip(lengths) {
            rig.engine.commit(&[body(key(9, number, 0), length)], &Batch::default()).unwrap();
        }
        rig.engine.commit(&[body(key(3, 6, 0), 9_000)], &Batch::default()).unwrap();
        let expected = [key(3, 6, 0), key(9, 1, 0), key(9, 2, 0), key(9, 3, 0), key(9, 4, 0), key(9, 5, 0)];
        assert_eq!(footage_of(&*rig.engine), expected, "{}", rig.name);
    }
}

#[test]
fn only_the_days_before_the_given_one_are_dropped() {
    for rig in Rig::all() {
        for number in 1..=6_u64 {
            let bodies = [body(key(10 + number as u32 / 2, number, 0), 5_000), body(key(10, number, 1), 10)];
            let mut bodies = bodies.to_vec();
            bodies.sort_by_key(|body| body.key);
            rig.engine.commit(&bodies, &Batch::default()).unwrap();
        }
        rig.engine.drop_days_before(12).unwrap();
        let kept = [key(12, 4, 0), key(12, 5, 0), key(13, 6, 0)];
        assert_eq!(footage_of(&*rig.engine), kept, "{}", rig.name);
        let rig = rig.reopen();
        assert_eq!(footage_of(&*rig.engine), kept, "{}", rig.name);
        assert_eq!(rig.engine.body(key(10, 1, 0)).unwrap(), None, "{}", rig.name);
        assert!(rig.engine.body(key(13, 6, 0)).unwrap().is_some(), "{}", rig.name);
    }
}

#[test]
fn what_is_forgotten_is_gone_also_after_the_end_of_the_process_and_nothing_else_is() {
    for rig in Rig::all() {
        let rows: [(Family, &[u8], &[u8]); 3] =
            [(Family::Requests, b"a", b"1"), (Family::Requests, b"b", b"2"), (Family::Links, b"a", b"3")];
        rig.engine.commit(&[], &batch(&rows)).unwrap();
        rig.engine.forget(Family::Requests, &[b"a".to_vec(), b"never".to_vec()]).unwrap();
        let rig = rig.reopen();
        assert_eq!(rig.engine.get(Family::Requests, b"a").unwrap(), None, "{}", rig.name);
        assert!(rig.engine.get(Family::Requests, b"b").unwrap().is_some(), "{}", rig.name);
        assert!(rig.engine.get(Family::Links, b"a").unwrap().is_some(), "{}", rig.name);
    }
}

#[test]
fn what_is_appended_comes_after_what_was_there_and_is_put_or_forgotten_like_any_value() {
    for rig in Rig::all() {
        let append = |rig: &Rig, key: &[u8], bytes: &[u8]| {
            let mut batch = Batch::default();
            batch.append(Family::Presence, key, bytes);
            rig.engine.commit(&[], &batch).unwrap();
        };
        let value = |rig: &Rig, key: &[u8]| rig.engine.get(Family::Presence, key).unwrap();
        append(&rig, b"a", b"one ");
        append(&rig, b"b", b"other");
        append(&rig, b"a", b"two ");
        assert_eq!(value(&rig, b"a").unwrap(), b"one two ", "{}", rig.name);
        rig.engine.close().unwrap();
        append(&rig, b"a", b"three");
        let rig = rig.reopen();
        assert_eq!(value(&rig, b"a").unwrap(), b"one two three", "{}", rig.name);
        let scanned: Vec<_> = rig.engine.scan(Family::Presence, keys::everything(), Direction::Forward).collect();
        assert_eq!(&*scanned[0].as_ref().unwrap().1, b"one two three", "{}", rig.name);
        rig.engine.commit(&[], &batch(&[(Family::Presence, b"a", b"anew ")])).unwrap();
        append(&rig, b"a", b"more");
        rig.engine.forget(Family::Presence, &[b"b".to_vec()]).unwrap();
        let rig = rig.reopen();
        assert_eq!(value(&rig, b"a").unwrap(), b"anew more", "{}", rig.name);
        assert_eq!(value(&rig, b"b"), None, "{}", rig.name);
        append(&rig, b"b", b"again");
        assert_eq!(value(&rig, b"b").unwrap(), b"again", "{}", rig.name);
    }
}

#[test]
fn a_store_of_another_format_is_refused_with_what_to_do_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let old = rocksdb::DB::open_cf(&options, dir.path(), ["meta"]).unwrap();
    old.put_cf(old.cf_handle("meta").unwrap(), keys::META_FORMAT, 4_u32.to_be_bytes()).unwrap();
    drop(old);
    for refused in [Store::open(dir.path(), &settings(1)), Store::open_read_only(dir.path(), &settings(1))] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid);
        for part in ["format 4", "format 5", "move the data directory away"] {
            assert!(refused.context().contains(part), "{refused}");
        }
    }
    let families = rocksdb::DB::list_cf(&rocksdb::Options::default(), dir.path()).unwrap();
    assert_eq!(families, ["default", "meta"], "the release that wrote it opens it still");
}

#[test]
fn the_sweep_removes_the_bodies_of_later_commits_on_every_day_and_no_others() {
    for rig in Rig::all() {
        for number in 1..=5 {
            let bodies = [body(key(7, number, 0), 5_000), body(key(8, number, 1), 10), body(key(9, number, 2), 10)];
            rig.engine.commit(&bodies, &Batch::default()).unwrap();
        }
        assert!(rig.engine.sweep_after(3).unwrap(), "{}", rig.name);
        let kept: Vec<_> =
            [(7, 0), (8, 1), (9, 2)].iter().flat_map(|(day, index)| (1..=3).map(|n| key(*day, n, *index))).collect();
        assert_eq!(footage_of(&*rig.engine), kept, "{}", rig.name);
        assert!(!rig.engine.sweep_after(3).unwrap(), "{}: nothing is left to sweep", rig.name);
        // The number of the swept commit may be used again.
        rig.engine.commit(&[body(key(7, 4, 0), 6_000)], &Batch::default()).unwrap();
        let rig = rig.reopen();
        assert_eq!(rig.engine.body(key(7, 4, 0)).unwrap(), Some(bytes_of(key(7, 4, 0), 6_000)), "{}", rig.name);
    }
}

#[test]
fn every_engine_is_healthy_tells_its_room_and_closes() {
    for rig in Rig::all() {
        rig.engine.healthy().unwrap();
        let space = rig.engine.space().unwrap();
        assert!(space.free > 0 && space.free <= space.total, "{}", rig.name);
        rig.engine.commit(&[], &batch(&[(Family::Meta, b"a", b"b")])).unwrap();
        rig.engine.close().unwrap();
        assert!(rig.reopen().engine.get(Family::Meta, b"a").unwrap().is_some());
    }
}

#[test]
fn a_commit_that_failed_leaves_an_engine_that_fails_until_the_restart() {
    for (at, has_body, has_batch) in
        [(FailAt::Start, false, false), (FailAt::Bodies, true, false), (FailAt::End, true, true)]
    {
        let memory = Memory::default();
        memory.fail_commit(2, at);
        memory.commit(&[], &batch(&[(Family::Links, b"first", b"")])).unwrap();
        let error = memory.commit(&[body(key(1, 2, 0), 9)], &batch(&[(Family::Links, b"second", b"")])).unwrap_err();
        assert_eq!(error.kind(), Kind::Fatal);
        assert_eq!(memory.healthy().unwrap_err().kind(), Kind::Fatal);
        assert_eq!(memory.commit(&[], &Batch::default()).unwrap_err().kind(), Kind::Fatal);
        let restarted = memory.restart();
        restarted.healthy().unwrap();
        assert!(restarted.get(Family::Links, b"first").unwrap().is_some());
        assert_eq!(restarted.get(Family::Links, b"second").unwrap().is_some(), has_batch, "{at:?}");
        assert_eq!(restarted.body(key(1, 2, 0)).unwrap().is_some(), has_body, "{at:?}");
    }
}

#[test]
fn footage_is_refused_before_the_disk_is_full_and_an_audit_entry_a_little_later() {
    let dir = tempfile::tempdir().unwrap();
    let free = Rocks::open(dir.path(), &settings(INGEST)).unwrap().space().unwrap().free;
    let open = |free_bytes_min| Rocks::open(dir.path(), &Settings { free_bytes_min, ..settings(INGEST) }).unwrap();
    let (bodies, entry) = ([body(key(1, 1, 0), 10)], batch(&[(Family::Audit, b"a", b"b")]));
    {
        let engine = open(free.saturating_mul(3) / 2);
        assert_eq!(engine.commit(&bodies, &entry).unwrap_err().kind(), Kind::StorageFull);
        assert_eq!(engine.get(Family::Audit, b"a").unwrap(), None, "nothing was written");
        engine.commit(&[], &entry).unwrap();
        engine.healthy().unwrap();
    }
    assert_eq!(open(free.saturating_mul(3)).commit(&[], &entry).unwrap_err().kind(), Kind::StorageFull);
    open(0).commit(&bodies, &entry).unwrap();
}

#[test]
fn a_write_that_fails_on_disk_is_fatal_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Rocks::open(dir.path(), &settings(INGEST)).unwrap();
    let staging = dir.path().join("staging");
    fs::remove_dir(&staging).unwrap();
    assert_eq!(engine.commit(&[body(key(1, 1, 0), 10)], &Batch::default()).unwrap_err().kind(), Kind::Fatal);
    fs::create_dir(&staging).unwrap();
    assert_eq!(engine.commit(&[body(key(1, 2, 0), 10)], &Batch::default()).unwrap_err().kind(), Kind::Fatal);
    assert_eq!(engine.commit(&[], &Batch::default()).unwrap_err().kind(), Kind::Fatal);
    assert_eq!(engine.healthy().unwrap_err().kind(), Kind::Fatal);
    drop(engine);
    let engine = Rocks::open(dir.path(), &settings(INGEST)).unwrap();
    engine.commit(&[body(key(1, 3, 0), 10)], &Batch::default()).unwrap();
}

#[test]
fn a_store_that_is_open_is_not_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Rocks::open(dir.path(), &settings(INGEST)).unwrap();
    let again = Rocks::open(dir.path(), &settings(INGEST)).map(|_| ()).unwrap_err();
    assert_eq!(again.kind(), Kind::Busy, "{again}");
    drop(engine);
    Rocks::open(dir.path(), &settings(INGEST)).unwrap();
}

#[test]
fn opening_for_reading_changes_no_file_and_takes_no_write() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Rocks::open(dir.path(), &settings(4_096)).unwrap();
    engine.commit(&[body(key(1, 1, 0), 5_000)], &batch(&[(Family::Links, b"a", b"1")])).unwrap();
    engine.commit(&[body(key(1, 2, 0), 10)], &batch(&[(Family::Links, b"b", b"2")])).unwrap();
    drop(engine);
    let before = contents(dir.path());
    let engine = Rocks::open_read_only(dir.path(), &settings(4_096)).unwrap();
    assert_eq!(footage_of(&engine), [key(1, 1, 0), key(1, 2, 0)]);
    assert_eq!(engine.get(Family::Links, b"b").unwrap().unwrap(), b"2");
    assert_eq!(engine.commit(&[], &Batch::default()).unwrap_err().kind(), Kind::Invalid);
    drop(engine);
    assert_eq!(contents(dir.path()), before);
}

/// The files of the database that hold evidence, with what is in them.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_manifest = name.starts_with("MANIFEST") || name == "CURRENT";
            is_manifest || name.ends_with(".sst") || (name.ends_with(".log") && path.metadata().unwrap().len() > 0)
        })
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// What is stored in the damage tests: bodies, and links with their values.
fn planted() -> (Vec<NewBody>, Vec<(Vec<u8>, Bytes)>) {
    let bodies = (1..=6).map(|number| body(key(5, number, 0), if number % 2 == 0 { 20 } else { 6_000 })).collect();
    let links = (1..=6_u8).map(|number| (vec![number; 24], bytes_of(key(0, u64::from(number), 0), 300)));
    (bodies, links.collect())
}

fn plant(dir: &Path, is_closed: bool) {
    let engine = Rocks::open(dir, &settings(4_096)).unwrap();
    let (bodies, links) = planted();
    for (body, (key, value)) in bodies.into_iter().zip(links) {
        engine.commit(&[body], &batch(&[(Family::Links, &key, &value)])).unwrap();
    }
    if is_closed {
        engine.close().unwrap();
    }
}

/// Whether reading everything finds damage; panics if anything is read that was not written.
fn finds_damage(dir: &Path) -> bool {
    let Ok(engine) = Rocks::open_read_only(dir, &settings(4_096)) else { return true };
    let (bodies, links) = planted();
    let mut found = false;
    for body in bodies {
        match engine.body(body.key) {
            Ok(Some(bytes)) => assert_eq!(bytes, body.bytes, "a body was read that nobody wrote"),
            Ok(None) | Err(_) => found = true,
        }
    }
    for (key, value) in links {
        match engine.get(Family::Links, &key) {
            Ok(Some(read)) => assert_eq!(read, value, "a value was read that nobody wrote"),
            Ok(None) | Err(_) => found = true,
        }
    }
    let scans = Family::ALL
        .iter()
        .all(|family| engine.scan(*family, keys::everything(), Direction::Forward).all(|entry| entry.is_ok()));
    found || !scans || !engine.bodies().all(|entry| entry.is_ok())
}

/// Flips one bit in places spread over every file of the closed or killed store, and restores it again. The type and the length
/// of the first frame of a log or manifest are tried bit by bit.
fn flip_everywhere(is_closed: bool) {
    let dir = tempfile::tempdir().unwrap();
    plant(dir.path(), is_closed);
    assert!(!finds_damage(dir.path()), "the store is sound before anything is flipped");
    for (path, good) in contents(dir.path()) {
        let spread = (0..12).map(|place| (place * (good.len() - 1) / 11, place % 8));
        let is_framed = path.extension().is_none_or(|extension| extension == "log") && good.len() > 64;
        let header = if is_framed { 4..7 } else { 0..0 };
        let first = header.flat_map(|at| (0..8).map(move |bit| (at, bit)));
        for (at, bit) in spread.chain(first) {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            fs::write(&path, &bad).unwrap();
            assert!(finds_damage(dir.path()), "bit {bit} of byte {at} of {}", path.display());
        }
        fs::write(&path, &good).unwrap();
    }
    assert!(!finds_damage(dir.path()), "the store is sound again after everything was restored");
}

#[test]
fn a_flipped_bit_in_any_file_of_a_closed_store_is_noticed() {
    flip_everywhere(true);
}

#[test]
fn a_flipped_bit_in_any_file_of_a_killed_store_is_noticed() {
    flip_everywhere(false);
}

#[test]
fn a_lost_or_shortened_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    plant(dir.path(), true);
    for (path, good) in contents(dir.path()) {
        fs::remove_file(&path).unwrap();
        assert!(finds_damage(dir.path()), "{} is lost", path.display());
        fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(finds_damage(dir.path()), "{} is shortened", path.display());
        fs::write(&path, &good).unwrap();
    }
    assert!(!finds_damage(dir.path()));
}

#[test]
fn opening_a_store_sweeps_what_an_unfinished_commit_left() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let engine = Rocks::open(&dir, &settings(INGEST)).unwrap();
    let done = batch(&[(Family::Meta, keys::META_LAST_COMMIT, &1_u64.to_be_bytes())]);
    engine.commit(&[body(key(5, 1, 0), 100)], &done).unwrap();
    engine.commit(&[body(key(5, 2, 0), 100), body(key(6, 2, 1), 100)], &Batch::default()).unwrap();
    drop(engine);
    fs::write(dir.join("staging/17.sst"), b"half a file").unwrap();
    let store = Store::open(&dir, &settings(INGEST)).unwrap();
    assert_eq!((store.last_commit(), store.next_commit()), (1, 2));
    drop(store);
    let engine = Rocks::open(&dir, &settings(INGEST)).unwrap();
    assert_eq!(footage_of(&engine), [key(5, 1, 0)]);
    assert_eq!(fs::read_dir(dir.join("staging")).unwrap().count(), 0);
}

#[test]
fn footage_that_was_dropped_gives_its_room_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Rocks::open(dir.path(), &settings(1 << 20)).unwrap();
    for number in 1..=8 {
        let day = 10 + number as u32 % 2;
        engine
            .commit(&[body(key(day, number, 0), 2 << 20), body(key(day, number, 1), 100)], &Batch::default())
            .unwrap();
        engine.commit(&[body(key(day, 100 + number, 0), 200_000)], &Batch::default()).unwrap();
    }
    engine.close().unwrap();
    let bytes = || contents(dir.path()).iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    assert!(bytes() > 17 << 20);
    engine.drop_days_before(11).unwrap();
    engine.close().unwrap();
    assert!((8 << 20..10 << 20).contains(&bytes()), "{} bytes are left", bytes());
}

#[test]
fn a_snapshot_has_what_was_durable_and_nothing_of_what_came_later() {
    for ingest_bytes_min in [INGEST, TRICKLE] {
        let (dir, settings) = (tempfile::tempdir().unwrap(), settings(ingest_bytes_min));
        let engine = Rocks::open(dir.path(), &settings).unwrap();
        let commit = |number: u64| {
            let mut batch = Batch::default();
            batch.put(Family::Links, number.to_be_bytes(), b"link");
            let body = NewBody { key: key(30, number, 0), bytes: Bytes::from(vec![7; 5_000]) };
            engine.commit(&[body], &batch).unwrap();
        };
        (1..=20).for_each(commit);
        engine.settle().unwrap();
        (21..=25).for_each(commit);
        let snapshot = engine.snapshot().unwrap();
        (26..=40).for_each(commit);
        engine.drop_days_before(31).unwrap();
        let copy = dir.path().join("copy");
        assert!(std::process::Command::new("cp").arg("-a").arg(&snapshot).arg(&copy).status().unwrap().success());
        engine.drop_snapshot().unwrap();
        assert!(!snapshot.exists());
        engine.drop_snapshot().unwrap();
        let before = fs::read_dir(&copy).unwrap().count();
        let read = Rocks::open_copy(&copy, &settings).unwrap();
        let there = |number: u64| {
            let link = read.get(Family::Links, &number.to_be_bytes()).unwrap().is_some();
            let body = read.body(key(30, number, 0)).unwrap().is_some();
            assert_eq!(link, body, "{number}");
            link
        };
        assert_eq!((1..=40).filter(|number| there(*number)).collect::<Vec<_>>(), (1..=25).collect::<Vec<_>>());
        assert_eq!(fs::read_dir(&copy).unwrap().count(), before, "reading a copy writes into it");
        assert!(read.snapshot().is_err() && read.commit(&[], &Batch::default()).is_err());
    }
    assert_eq!(Memory::default().snapshot().unwrap_err().kind(), Kind::Invalid);
}
