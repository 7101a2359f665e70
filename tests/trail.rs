//! The audit trail on a real disk: whoever edits, deletes, reorders or cuts it behind the server's back is found by the check, and
//! what a crash left over is in the log after the next start.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::path::Path;

use aigaq::log::{Identity, Log};
use aigaq::store::records::{self, AuditRecord, Event, LeafRecord};
use aigaq::store::{Direction, Settings, Store};
use aigaq::{Clock, check, commit};
use rocksdb::{DB, IteratorMode, Options};

/// Entries in the trail.
const ENTRIES: u64 = 300;

type Rows = std::collections::BTreeMap<Vec<u8>, Vec<u8>>;

fn key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn open(data: &Path) -> (Store, Log) {
    let identity = Identity::load_or_create(data).unwrap();
    let store = Store::open(&data.join("store"), &Settings::default()).unwrap();
    let log = Log::open(store.clone(), identity, Some(data)).unwrap();
    (store, log)
}

async fn run(store: Store, log: Log, during: impl FnOnce(&Store)) {
    let metrics = commit::Metrics::register(&prometheus::Registry::new()).unwrap();
    let started = commit::start(store.clone(), log, commit::Settings::default(), Clock::system(), metrics);
    let (_queue, mut writer) = started.unwrap();
    during(&store);
    writer.close();
    writer.wait().await.unwrap();
    store.close().unwrap();
}

fn entry(store: &Store, number: u64) {
    let entry = AuditRecord::new(1_000 + number, Event::View, "token:anna", "10.0.0.7", format!("GET /{number}"));
    store.audit(&entry.about("a recorder").because("case 17")).unwrap();
}

/// A directory with a trail that the log has.
async fn made(data: &Path) {
    let (store, log) = open(data);
    run(store, log, |store| (0..ENTRIES).for_each(|number| entry(store, number))).await;
}

/// Lets somebody with access to the disk change the trail and what is said of its leaves.
fn tamper(data: &Path, change: impl FnOnce(&mut Rows, &mut Rows)) {
    let path = data.join("store");
    let families = DB::list_cf(&Options::default(), &path).unwrap();
    let db = DB::open_cf(&Options::default(), &path, families).unwrap();
    let read = |family| -> Rows {
        let rows = db.iterator_cf(db.cf_handle(family).unwrap(), IteratorMode::Start);
        rows.map(|row| row.unwrap()).map(|(key, value)| (key.into(), value.into())).collect()
    };
    let before = [read("audit"), read("leaves")];
    let [mut audit, mut leaves] = before.clone();
    assert_eq!((audit.len() as u64, leaves.len() as u64), (ENTRIES, ENTRIES));
    change(&mut audit, &mut leaves);
    for (family, before, after) in [("audit", &before[0], &audit), ("leaves", &before[1], &leaves)] {
        let family = db.cf_handle(family).unwrap();
        before.keys().filter(|key| !after.contains_key(*key)).for_each(|key| db.delete_cf(family, key).unwrap());
        after.iter().for_each(|(key, value)| db.put_cf(family, key, value).unwrap());
    }
    db.flush_wal(true).unwrap();
}

fn problems(data: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let report = check::check(data, &mut |line| found.push(line.to_owned())).unwrap();
    assert_eq!(report.problems > 0, !found.is_empty());
    found
}

fn edited(value: &[u8], edit: impl FnOnce(&mut AuditRecord)) -> Vec<u8> {
    let mut record: AuditRecord = records::decode(value, "audit").unwrap();
    edit(&mut record);
    records::encode(&record).unwrap()
}

fn swap(rows: &mut Rows, a: u64, b: u64) {
    let (of_a, of_b) = (rows[&key(a)].clone(), rows[&key(b)].clone());
    rows.insert(key(a), of_b);
    rows.insert(key(b), of_a);
}

async fn found(change: impl Fn(&mut Rows, &mut Rows), expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    assert_eq!(problems(dir.path()), Vec::<String>::new());
    tamper(dir.path(), change);
    let found = problems(dir.path());
    assert!(found.iter().any(|line| line.contains(expected)), "{expected}: {found:?}");
}

#[tokio::test]
async fn an_entry_that_was_edited_is_found() {
    for number in [1, 150, ENTRIES] {
        let edit = |audit: &mut Rows, _: &mut Rows| {
            let changed = edited(&audit[&key(number)], |record| record.actor = "token:berik".to_owned());
            audit.insert(key(number), changed);
        };
        found(edit, &format!("audit entry {number}: entry {} of the log is not its own", number - 1)).await;
    }
}

#[tokio::test]
async fn an_entry_that_was_deleted_is_found_also_with_what_is_said_of_its_leaf() {
    let delete = |audit: &mut Rows, _: &mut Rows| drop(audit.remove(&key(20)));
    found(delete, "audit entry 20 is gone; the log has it as entry 19").await;
    let both = |audit: &mut Rows, leaves: &mut Rows| drop((audit.remove(&key(20)), leaves.remove(&key(20))));
    found(both, "audit entries 20 to 20 are missing").await;
    found(both, "1 entries have neither link nor audit entry, the first is entry 19").await;
    let closed = |audit: &mut Rows, leaves: &mut Rows| {
        for number in 20..ENTRIES {
            let moved = edited(&audit[&key(number + 1)], |record| record.number = number);
            audit.insert(key(number), moved);
            leaves.insert(key(number), leaves[&key(number + 1)].clone());
        }
        drop((audit.remove(&key(ENTRIES)), leaves.remove(&key(ENTRIES))));
    };
    found(closed, "audit entry 20: entry 20 of the log is not its own").await;
}

#[tokio::test]
async fn entries_that_were_reordered_are_found() {
    found(|audit, _| swap(audit, 5, 6), "audit entry 5: it says that it is entry 6").await;
    let renumbered = |audit: &mut Rows, leaves: &mut Rows| {
        swap(audit, 5, 6);
        swap(leaves, 5, 6);
        for number in [5, 6] {
            let changed = edited(&audit[&key(number)], |record| record.number = number);
            audit.insert(key(number), changed);
        }
    };
    found(renumbered, "audit entry 5: entry 5 of the log is not its own").await;
    found(renumbered, "audit entry 6: it is older than the one before").await;
}

#[tokio::test]
async fn a_trail_that_was_cut_is_found_wherever_it_was_cut() {
    for first in [1, 2, 200, ENTRIES] {
        let cut = |audit: &mut Rows, _: &mut Rows| audit.retain(|number, _| *number < key(first));
        found(cut, &format!("audit entry {first} is gone; the log has it")).await;
        let both = |audit: &mut Rows, leaves: &mut Rows| {
            audit.retain(|number, _| *number < key(first));
            leaves.retain(|number, _| *number < key(first));
        };
        let orphans = ENTRIES + 1 - first;
        found(both, &format!("{orphans} entries have neither link nor audit entry, the first is entry {}", first - 1))
            .await;
    }
    let unsaid = |_: &mut Rows, leaves: &mut Rows| drop(leaves.remove(&key(7)));
    found(unsaid, "audit entries 7 to 7 are not in the log, and later ones are").await;
}

#[tokio::test]
async fn the_end_of_a_trail_that_was_cut_is_missed_and_never_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path()).await;
    tamper(dir.path(), |audit, _| audit.retain(|number, _| *number <= key(ENTRIES - 3)));
    let (store, log) = open(dir.path());
    run(store, log, |store| entry(store, ENTRIES)).await;
    let found = problems(dir.path());
    let missing = format!("audit entries {} to {ENTRIES} are missing", ENTRIES - 2);
    assert!(found.iter().any(|line| line.contains(&missing)), "{found:?}");
}

#[tokio::test]
async fn what_a_crash_left_over_is_sound_and_in_the_log_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (store, log) = open(dir.path());
    // Nobody takes the entries into the log, as when the process is killed behind the sync.
    (0..ENTRIES).for_each(|number| entry(&store, number));
    drop((store, log));
    assert_eq!(problems(dir.path()), Vec::<String>::new());
    let (store, log) = open(dir.path());
    assert!(store.has_unlogged());
    let metrics = commit::Metrics::register(&prometheus::Registry::new()).unwrap();
    let settings = commit::Settings::default();
    let started = commit::start(store.clone(), log, settings, Clock::system(), metrics);
    assert_eq!(store.log_size().unwrap(), ENTRIES, "they come first");
    let (queue, mut writer) = started.unwrap();
    writer.close();
    writer.wait().await.unwrap();
    drop((queue, writer));
    let numbers: Vec<u64> =
        store.audit_numbers(1..u64::MAX, Direction::Forward).map(|entry| entry.unwrap().number).collect();
    assert_eq!(numbers, (1..=ENTRIES).collect::<Vec<_>>());
    let leaf = LeafRecord { log_index: 0, tree_size: ENTRIES };
    assert_eq!(store.audit_leaf(1).unwrap(), Some(leaf));
    drop(store);
    assert_eq!(problems(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn an_entry_is_in_the_log_soon_also_when_no_link_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, log) = open(dir.path());
    let metrics = commit::Metrics::register(&prometheus::Registry::new()).unwrap();
    let (_queue, _writer) =
        commit::start(store.clone(), log, commit::Settings::default(), Clock::system(), metrics).unwrap();
    entry(&store, 0);
    let logged = async {
        while store.has_unlogged() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), logged).await.expect("the entry is in the log");
    assert_eq!(store.log_size().unwrap(), 1);
}

#[tokio::test]
async fn entries_of_a_range_of_time_are_found_by_halving() {
    let store = Store::memory();
    (0..100).for_each(|number| entry(&store, number / 3));
    for at in 1_000..1_040 {
        let expected = (0..100).filter(|number| 1_000 + number / 3 < at).count() as u64 + 1;
        assert_eq!(store.first_audit_at(at).unwrap(), expected);
        assert!(store.audit_entries(at..u64::MAX).all(|entry| entry.unwrap().at >= at));
    }
    assert_eq!(store.audit_entries(1_005..1_006).count(), 3);
}
