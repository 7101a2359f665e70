//! Deletion on a real disk: how much room comes back, and what happens when there is none left.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails here")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use aigaq::retention::{Metrics, Retention};
use aigaq::store::policy::DAY_US;
use aigaq::store::records::{Act, Body, LinkRecord, RecorderKey, RecorderKind, RecorderRecord};
use aigaq::store::{Commit, NewLink, Policy, Settings, Store};
use aigaq::{Clock, Kind, Result};
use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId, link};
use bytes::Bytes;

const DAY: u32 = 20_000;
const SECOND: u64 = 1_000_000;
const BODY: usize = 1 << 20;

struct Rig {
    store: Store,
    clock: Clock,
    retention: Retention,
    metrics: Metrics,
    recorder: RecorderId,
}

fn at(day: u32) -> Micros {
    u64::from(day) * DAY_US
}

/// What nothing can compress.
fn payload(sequence: u64) -> Bytes {
    let mut state = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(BODY);
    while bytes.len() < BODY {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

impl Rig {
    fn open(dir: &Path, free_bytes_min: u64) -> Self {
        let policy = Policy { default_days: 10, ..Policy::default() };
        let settings = Settings { policy, free_bytes_min, ingest_bytes_min: 4 << 20, ..Settings::default() };
        let store = Store::open(&dir.join("store"), &settings).unwrap();
        let key = RecorderKey { spki: vec![1; 16], since: 0, not_after: None };
        let record = RecorderRecord::new(RecorderKind::Officer, "Patrol".into(), "R-1".into(), key);
        store.enrol(&record).unwrap();
        let clock = Clock::fixed(at(DAY));
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let retention = Retention::new(store.clone(), clock.clone(), metrics.clone(), free_bytes_min);
        Self { store, clock, retention, metrics, recorder: record.id }
    }

    /// Segments of a second and a megabyte, `count` of them in one commit.
    fn record(&self, first: u64, count: u64) -> Result<()> {
        let now = self.clock.now();
        let links = (first..first + count).map(|sequence| {
            let payload = payload(sequence);
            let header = LinkHeader {
                recorder: self.recorder,
                sequence,
                previous: Digest([1; 32]),
                captured_at: now + sequence * SECOND,
                duration_us: SECOND as u32,
                payload_length: payload.len() as u32,
                payload_digest: Digest::of(&payload),
                content: Content::Media { recording: 0, ordinal: sequence - 1, independent: true },
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
        });
        self.store.commit(Commit { number: 0, links: links.collect(), ..Commit::default() })
    }

    fn hold(&self, day: u32, sequence: u64) {
        let from = at(day) + sequence * SECOND;
        let act = Act { at: 1, by: "token:a".into(), reason: "case 7".into() };
        self.retention.hold(self.recorder, from..from + 1, act).unwrap();
    }

    fn to(&self, day: u32) {
        self.clock.set(at(day));
        self.retention.round().unwrap();
    }

    fn is_there(&self, sequence: u64) -> bool {
        match self.store.body(&self.store.link(self.recorder, sequence).unwrap().unwrap()) {
            Ok(body) => body == payload(sequence),
            Err(error) => {
                assert_eq!(error.kind(), Kind::NotFound, "{error}");
                false
            }
        }
    }
}

/// Bytes that the files below a directory take on the disk, as `du` counts them.
fn du(dir: &Path) -> u64 {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths
        .map(|path| if path.is_dir() { du(&path) } else { fs::metadata(&path).map_or(0, |file| file.blocks() * 512) })
        .sum()
}

#[test]
fn a_day_that_is_dropped_gives_its_room_back_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path(), 1 << 20);
    for commit in 0..8 {
        rig.record(1 + commit * 8, 8).unwrap();
    }
    rig.record(65, 2).unwrap();
    rig.to(DAY + 5);
    rig.record(101, 8).unwrap();
    rig.hold(DAY, 7);
    rig.to(DAY + 11);
    rig.store.close().unwrap();
    let before = du(dir.path());
    rig.to(DAY + 18);
    rig.store.close().unwrap();
    let after = du(dir.path());
    println!("bytes on disk: {before} before the day is dropped, {after} after");
    // Ten megabytes are left, and what the write-ahead log had of them.
    assert!(before > 74 << 20 && after < 16 << 20, "{before} {after}");
    assert_eq!((1..=66).filter(|sequence| rig.is_there(*sequence)).collect::<Vec<_>>(), [7]);
    assert_eq!(rig.metrics.deleted_bytes.with_label_values(&["default"]).get(), 65 << 20);
    drop(rig);
    let rig = Rig::open(dir.path(), 1 << 20);
    assert!(rig.is_there(7) && !rig.is_there(101), "hidden on its own day");
    assert!(rig.store.link(rig.recorder, 1).unwrap().is_some());
}

/// Set in the process that has a small file system of its own; its value is where that is.
const SMALL: &str = "AIGAQ_TEST_SMALL_DISK";
/// How large that is.
const SMALL_MIB: u64 = 192;

#[test]
fn a_small_disk_that_fills_gives_up_what_was_deleted_and_then_refuses_and_never_eats_the_rest() {
    if let Ok(dir) = std::env::var(SMALL) {
        return fill(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size={SMALL_MIB}m tmpfs \"${SMALL}\" && exec \"$@\"");
    let name = "a_small_disk_that_fills_gives_up_what_was_deleted_and_then_refuses_and_never_eats_the_rest";
    let may = Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        println!("not run: this machine lets nobody mount a file system of their own");
        return;
    }
    let ran = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(SMALL, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    println!("{said}");
}

fn fill(dir: &Path) {
    let rig = Rig::open(dir, 32 << 20);
    let total = rig.store.space().unwrap().total;
    assert!(total <= SMALL_MIB << 20, "the disk is the small one: {total}");
    for commit in 0..8 {
        rig.record(1 + commit * 8, 8).unwrap();
    }
    rig.hold(DAY, 7);
    rig.hold(DAY, 30);
    rig.to(DAY + 6);
    let mut first = 101;
    let full = loop {
        match rig.record(first, 4) {
            Ok(()) => first += 4,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), Kind::StorageFull);
    rig.retention.round().unwrap();
    assert!((1..=64).chain(101..first).all(|sequence| rig.is_there(sequence)), "nothing had expired");
    assert_eq!(rig.record(first, 4).unwrap_err().kind(), Kind::StorageFull, "so it is refused, again and again");

    let before = rig.store.space().unwrap().free;
    rig.to(DAY + 11);
    let after = rig.store.space().unwrap().free;
    println!("free bytes: {before} when it was full, {after} when what was deleted went early");
    assert_eq!(rig.metrics.early_deletions.get(), 1);
    assert!(after > before + (50 << 20), "{before} {after}");
    assert_eq!((1..=64).filter(|sequence| rig.is_there(*sequence)).collect::<Vec<_>>(), [7, 30]);
    assert!((101..first).all(|sequence| rig.is_there(sequence)), "what has not expired is untouched");
    rig.record(first, 4).unwrap();
}
