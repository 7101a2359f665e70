//! How large the ledger is for each link, and how long it takes to open after a kill with a million of them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use aigaq::Clock;
use aigaq::commit::{self, Queue, Submission};
use aigaq::log::{Identity as LogIdentity, Log};
use aigaq::store::{Settings, Store};
use aigaq_proto::link::Fix;
use aigaq_proto::{Content, Digest, RecorderId};
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::figures;
use crate::support::chain::{Chain, Link, sign};

/// First argument of the process that fills a store and dies.
pub const FILL: &str = "fill-and-die";
const RECORDERS: u64 = 200;
const LINKS_EACH: u64 = 5_000;
const OPENINGS: usize = 3;

/// Prints both figures.
pub async fn run() {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("filled");
    let status = Command::new(std::env::current_exe().unwrap()).arg(FILL).arg(&original).status().unwrap();
    assert!(!status.success(), "the filling process dies by its own hand");
    let mut times = Vec::new();
    for opening in 0..OPENINGS {
        let copy = dir.path().join(format!("copy-{opening}"));
        assert!(Command::new("cp").arg("-r").arg(&original).arg(&copy).status().unwrap().success());
        let began = Instant::now();
        let (store, log) = open(&copy);
        times.push(began.elapsed().as_secs_f64());
        assert_eq!(log.size(), RECORDERS * LINKS_EACH);
        store.close().unwrap();
        if opening == 0 {
            drop((store, log));
            let ledger = folder_bytes(&copy.join("store"));
            figures::print("ledger_bytes_per_link", ledger as f64 / (RECORDERS * LINKS_EACH) as f64, "B");
        }
    }
    figures::print("open_after_kill", figures::median(&times), "s");
}

fn open(dir: &Path) -> (Store, Log) {
    let identity = LogIdentity::load_or_create(dir).unwrap();
    let store = Store::open(&dir.join("store"), &Settings::default()).unwrap();
    let log = Log::open(store.clone(), identity, Some(dir)).unwrap();
    (store, log)
}

fn folder_bytes(dir: &Path) -> u64 {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            let data = entry.file_name().to_string_lossy().ends_with(".sst")
                || entry.file_name().to_string_lossy().ends_with(".log");
            if meta.is_dir() { folder_bytes(&entry.path()) } else { u64::from(data) * meta.len() }
        })
        .sum()
}

/// Commits a million links and dies without closing anything.
pub fn fill_and_die(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let (store, log) = open(dir);
    let metrics = commit::Metrics::register(&prometheus::Registry::new()).unwrap();
    let (queue, _writer) = commit::start(store, log, commit::Settings::default(), Clock::system(), metrics).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut recorders = JoinSet::new();
        for number in 0..RECORDERS {
            recorders.spawn(fill(queue.clone(), number));
        }
        while let Some(result) = recorders.join_next().await {
            result.unwrap();
        }
    });
    std::process::abort();
}

async fn fill(queue: Queue, number: u64) {
    let seed = Digest::of(&number.to_be_bytes());
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&seed.0).unwrap();
    let key = Arc::new(aigaq_proto::signature::SigningKey::Ed25519(Box::new(pair)));
    let recorder: RecorderId = key.public_key().unwrap().recorder_id();
    let mut chain = Chain::new(recorder, 1_700_000_000_000_000);
    let fixes = vec![fix(0), fix(1_000)];
    let mut waiting = Vec::new();
    for sequence in 0..LINKS_EACH {
        let mut link = if sequence == 0 { chain.start(&key) } else { chain.media(&key, Bytes::from_static(&[7; 16])) };
        if matches!(link.header.content, Content::Media { .. }) {
            link.header.fixes.clone_from(&fixes);
            link = sign(&key, link.header, link.payload);
            chain.goes_on_from(&link);
        }
        waiting.push(submit(&queue, link).await);
        if waiting.len() == 16 {
            for answer in waiting.drain(..) {
                assert!(matches!(answer.await, Ok(commit::Outcome::Receipt(_))));
            }
        }
    }
    for answer in waiting {
        assert!(matches!(answer.await, Ok(commit::Outcome::Receipt(_))));
    }
}

/// A position in Astana, one a second.
fn fix(offset_ms: u32) -> Fix {
    Fix {
        offset_ms,
        latitude_e7: 511_605_000,
        longitude_e7: 714_704_000,
        accuracy_dm: 50,
        speed_cms: 140,
        course_cdeg: 9_000,
    }
}

async fn submit(queue: &Queue, link: Link) -> oneshot::Receiver<commit::Outcome> {
    let (reply, answer) = oneshot::channel();
    let actual = (link.header.payload_digest, link.payload.len() as u64);
    let submission = Submission {
        received_at: link.header.captured_at + 50_000,
        header: link.header,
        header_bytes: Bytes::from(link.header_bytes),
        digest: link.digest,
        signature: link.signature,
        payload: link.payload,
        clock: None,
        fault: None,
        actual,
        permit: None,
        reply,
    };
    queue.submit(submission).await.unwrap();
    answer
}
