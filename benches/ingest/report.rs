//! How long the dark report of a day takes for ten thousand recorders, on disk.

use std::sync::Arc;
use std::time::Instant;

use aigaq::access::{self, Access, Grants};
use aigaq::fleet::Fleet;
use aigaq::log::{Identity, Log};
use aigaq::store::records::{
    AssignmentRecord, AssignmentRevision, Body, HeadRecord, LinkRecord, RecorderKey, RecorderKind, RecorderRecord,
};
use aigaq::store::{Commit, NewLink, Settings, Store};
use aigaq::{Clock, lookup};
use aigaq_proto::chain::{Chain as State, Joint};
use aigaq_proto::{Content, Digest, LinkHeader, RecorderId, link};
use bytes::Bytes;
use http::{Request, header};
use tower::ServiceExt as _;

use crate::figures;

const RECORDERS: u64 = 10_000;
/// Segments of each recorder on the day.
const SEGMENTS: u64 = 240;
const SEGMENT_US: u64 = 10_000_000;
/// 2026-01-01T06:00:00Z.
const BEGIN: u64 = 1_767_247_200_000_000;
const TOKEN: &str = "a-token-for-the-bench-alone";

/// Prints how long it takes until the last byte, and how many entries of the timeline that is a second.
pub async fn run() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), &Settings::default()).unwrap();
    let filled = store.clone();
    tokio::task::spawn_blocking(move || fill(&filled)).await.unwrap();
    let clock = Clock::fixed(BEGIN + 2 * 86_400_000_000);
    let reader = Arc::new(Log::open(store.clone(), Identity::ephemeral().unwrap(), None).unwrap().reader());
    let metrics = lookup::Metrics::register(&prometheus::Registry::new()).unwrap();
    let fleet = Fleet::open(store.clone(), clock.clone()).unwrap();
    let access = Access::open(store.clone(), None, clock.clone(), access::Settings::default()).unwrap();
    access.admit(TOKEN, "bench", Grants::everything()).unwrap();
    let router = lookup::router(lookup::State::new(store, reader, access, clock, metrics, fleet).unwrap());
    let request = Request::get("/v1/reports/dark?day=2026-01-01&format=csv");
    let request = request.header(header::AUTHORIZATION, format!("Bearer {TOKEN}")).body(axum::body::Body::empty());
    let began = Instant::now();
    let answer = router.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let elapsed = began.elapsed().as_secs_f64();
    assert_eq!(body.iter().filter(|byte| **byte == b'\n').count() as u64, 1 + RECORDERS + 10, "a line for each");
    figures::print("dark_report_10k_recorders", elapsed, "s");
    figures::print("dark_report_entries", (RECORDERS * SEGMENTS) as f64 / elapsed / 1e6, "million/s");
}

fn fill(store: &Store) {
    for number in 0..RECORDERS {
        let spki = number.to_be_bytes().repeat(6);
        let key = RecorderKey { spki, since: BEGIN, not_after: None };
        let department = format!("department {}", number % 10);
        let record = RecorderRecord::new(RecorderKind::Officer, department, number.to_string(), key);
        store.enrol(&record).unwrap();
        let (assignee, to) = (Some(format!("officer {number}")), Some(BEGIN + SEGMENTS * 2 * SEGMENT_US));
        let revision = AssignmentRevision { assignee, to, recorded_at: BEGIN, actor: String::new() };
        store.put_assignments(record.id, &[(BEGIN, AssignmentRecord { revisions: vec![revision] })]).unwrap();
        store.commit(shift(record.id, store.next_commit())).unwrap();
    }
}

/// One recorder's day. Its links are not signed and not in the log: a report does not look there.
fn shift(recorder: RecorderId, number: u64) -> Commit {
    let mut commit = Commit { number, ..Commit::default() };
    let (mut chain, mut previous) = (State::default(), Digest::ZERO);
    for sequence in 0..=SEGMENTS {
        let is_start = sequence == 0;
        let content = if is_start {
            Content::Start { codecs: String::new() }
        } else {
            Content::Media { recording: 0, ordinal: sequence - 1, independent: true }
        };
        let header = LinkHeader {
            recorder,
            sequence,
            previous,
            captured_at: BEGIN + sequence.saturating_sub(1) * SEGMENT_US,
            duration_us: if is_start { 0 } else { u32::try_from(SEGMENT_US).unwrap() },
            payload_length: 1_000,
            payload_digest: Digest::ZERO,
            content,
            fixes: Vec::new(),
        };
        let bytes = header.encode().unwrap();
        let digest = link::digest(&bytes);
        chain.insert(Joint { sequence, previous, digest });
        previous = digest;
        let (signature, received_at) = (vec![0; 64], BEGIN + 2 * 86_400_000_000);
        let record = LinkRecord {
            header: bytes,
            signature,
            received_at,
            clock: None,
            body: Body::None,
            log_index: 0,
            tree_size: 0,
        };
        commit.links.push(NewLink { header, digest, record, payload: Bytes::new() });
    }
    let last_received_at = BEGIN + 2 * 86_400_000_000;
    commit.heads.push((recorder, HeadRecord { chain, last_received_at, ..HeadRecord::default() }));
    commit
}
