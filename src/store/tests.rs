//! The verbs of the store over the engine in memory.

use std::sync::Arc;

use aigaq_proto::message::RefusalReason;
use aigaq_proto::{Content, Digest, LinkHeader, RecorderId};
use bytes::Bytes;

use super::engine::memory::{FailAt, Memory};
use super::engine::{Direction, Engine, Family};
use super::records::{AuditRecord, Body, Event, LinkRecord, QuarantineRecord, TimelineKind};
use super::{Commit, FORMAT, LogRow, NewLink, NewQuarantine, Store, keys};
use crate::error::Kind;

pub(super) const RECORDER: RecorderId = RecorderId([3; 16]);

fn open(memory: &Memory) -> Store {
    Store::with_engine(Arc::new(memory.clone())).unwrap()
}

pub(super) fn link(sequence: u64, payload: &'static [u8]) -> NewLink {
    let content = match (sequence, payload.is_empty()) {
        (0, _) => Content::Start { codecs: "avc1.64001f".into() },
        (_, true) => Content::ClockStep { before: 1, after: 2 },
        (_, false) => Content::Media { recording: 0, ordinal: sequence - 1, independent: true },
    };
    let header = LinkHeader {
        recorder: RECORDER,
        sequence,
        previous: if sequence == 0 { Digest::ZERO } else { Digest([1; 32]) },
        captured_at: 1_000 * sequence,
        duration_us: if matches!(content, Content::Media { .. }) { 5 } else { 0 },
        payload_length: u32::try_from(payload.len()).unwrap(),
        payload_digest: Digest::of(payload),
        content,
        fixes: Vec::new(),
    };
    let record = LinkRecord {
        header: header.encode().unwrap(),
        signature: vec![0; 64],
        received_at: 10 * 86_400_000_000,
        clock: None,
        body: Body::None,
        log_index: sequence,
        tree_size: sequence + 1,
    };
    NewLink { header, digest: Digest([9; 32]), record, payload: Bytes::from_static(payload) }
}

pub(super) fn commit(number: u64, links: Vec<NewLink>) -> Commit {
    Commit { number, links, log_size: number, ..Commit::default() }
}

#[test]
fn a_committed_link_is_read_back_with_its_payload() {
    let store = Store::memory();
    store.commit(commit(1, vec![link(0, b"init"), link(1, b"media"), link(2, b"")])).unwrap();
    let bodies = [&b"init"[..], b"media", b""];
    for (sequence, body) in (0..).zip(bodies) {
        let record = store.link(RECORDER, sequence).unwrap().unwrap();
        assert_eq!(store.body(&record).unwrap(), body);
    }
    assert_eq!(store.links(RECORDER, 1..9).map(|link| link.unwrap().0).collect::<Vec<_>>(), [1, 2]);
    assert!(store.link(RECORDER, 3).unwrap().is_none());
    assert_eq!((store.last_commit(), store.next_commit(), store.log_size().unwrap()), (1, 2, 1));
}

#[test]
fn only_media_goes_to_the_footage_under_the_day_on_which_it_expires() {
    let store = Store::memory();
    store.commit(commit(1, vec![link(0, b"init"), link(1, b"media")])).unwrap();
    let body = |sequence| store.link(RECORDER, sequence).unwrap().unwrap().body;
    assert_eq!(body(0), Body::Inline(b"init".to_vec()));
    let Body::Footage(key) = body(1) else { panic!("media lies in the footage") };
    assert_eq!((key.day, key.commit, key.index), (10 + 90, 1, 0));
}

#[test]
fn the_timeline_has_what_a_playlist_needs_in_both_directions() {
    let store = Store::memory();
    store.commit(commit(1, vec![link(0, b"init"), link(1, b"media"), link(2, b"media")])).unwrap();
    let sequences = |range, direction| {
        store.timeline(RECORDER, range, direction).map(|entry| entry.unwrap().sequence).collect::<Vec<_>>()
    };
    assert_eq!(sequences(0..2_000, Direction::Forward), [0, 1]);
    assert_eq!(sequences(1_000..3_000, Direction::Backward), [2, 1]);
    let entry = store.timeline(RECORDER, 1_000..1_001, Direction::Forward).next().unwrap().unwrap();
    assert_eq!(entry.record.kind, TimelineKind::Media { recording: 0, ordinal: 0, bytes: 5, independent: true });
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "a caller may ask for one")]
fn a_range_that_ends_before_it_begins_is_empty() {
    let store = Store::memory();
    store.commit(commit(1, vec![link(0, b"init")])).unwrap();
    assert_eq!(store.links(RECORDER, 5..1).count(), 0);
    assert_eq!(store.timeline(RECORDER, 9..3, Direction::Backward).count(), 0);
}

#[test]
fn forks_and_quarantine_are_kept_beside_the_chain() {
    let store = Store::memory();
    let record = QuarantineRecord {
        reason: RefusalReason::BadSignature,
        header: vec![1],
        signature: vec![2],
        received_at: 3,
        payload_digest: Digest::of(b"bad"),
        payload_length: 3,
        body: Body::None,
    };
    let payload = Bytes::from_static(b"bad");
    let mut both = commit(1, vec![link(0, b"init")]);
    both.forks = vec![link(0, b"other")];
    both.quarantined = vec![NewQuarantine { recorder: RECORDER, record, payload }];
    store.commit(both).unwrap();
    let fork = store.forks(RECORDER).next().unwrap().unwrap();
    assert_eq!(store.fork(RECORDER, 0, fork.digest).unwrap().as_ref(), Some(&fork.record));
    assert_eq!(store.body(&fork.record).unwrap(), &b"other"[..]);
    let quarantined = store.quarantine(RECORDER).next().unwrap().unwrap();
    assert_eq!(store.quarantined_body(RECORDER, &quarantined.record).unwrap(), &b"bad"[..]);
    assert_eq!(store.links(RECORDER, 0..9).count(), 1);
}

#[test]
fn a_payload_that_is_changed_or_missing_is_damage_and_an_expired_one_is_not() {
    let memory = Memory::default();
    let store = open(&memory);
    store.commit(commit(1, vec![link(1, b"media")])).unwrap();
    let record = store.link(RECORDER, 1).unwrap().unwrap();
    let Body::Footage(key) = record.body else { panic!("media lies in the footage") };
    assert!(memory.flip_body(key, 2));
    assert_eq!(store.body(&record).unwrap_err().kind(), Kind::Damaged);
    memory.set_body(key, None);
    assert_eq!(store.body(&record).unwrap_err().kind(), Kind::Damaged);
    store.drop_days_before(key.day + 1).unwrap();
    assert_eq!(store.body(&record).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(open(&memory.restart()).body(&record).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn a_commit_is_numbered_above_the_last_one_also_after_a_restart() {
    let memory = Memory::default();
    open(&memory).commit(commit(7, vec![link(0, b"init")])).unwrap();
    let store = open(&memory.restart());
    assert_eq!(store.next_commit(), 8);
    store.commit(commit(7, Vec::new())).unwrap();
    assert_eq!(store.last_commit(), 8, "a number is used once");
}

#[test]
fn the_bodies_of_a_commit_that_failed_are_swept_at_the_next_open() {
    let memory = Memory::default();
    let store = open(&memory);
    store.commit(commit(1, vec![link(1, b"kept")])).unwrap();
    memory.fail_commit(1, FailAt::Bodies);
    assert_eq!(store.commit(commit(2, vec![link(2, b"lost")])).unwrap_err().kind(), Kind::Fatal);
    assert_eq!(store.last_commit(), 1);
    assert_eq!(store.healthy().unwrap_err().kind(), Kind::Fatal);
    let memory = memory.restart();
    assert_eq!(memory.bodies().count(), 2);
    let store = open(&memory);
    assert_eq!(memory.bodies().count(), 1);
    assert!(store.link(RECORDER, 2).unwrap().is_none());
}

#[test]
fn a_full_disk_refuses_footage_and_takes_it_when_there_is_room() {
    let memory = Memory::default();
    let store = open(&memory);
    memory.set_full(true);
    assert_eq!(store.commit(commit(1, vec![link(1, b"media")])).unwrap_err().kind(), Kind::StorageFull);
    store.healthy().unwrap();
    memory.set_full(false);
    store.commit(commit(1, vec![link(1, b"media")])).unwrap();
}

#[test]
fn rows_of_the_log_are_joined_and_a_hole_in_them_is_damage() {
    let store = Store::memory();
    let row = |level, first, items: u8, bytes| LogRow { level, first, bytes: vec![items; usize::from(items) * bytes] };
    let mut rows = commit(1, Vec::new());
    rows.log_rows = vec![row(0, 0, 100, 40), row(0, 100, 156, 40), row(0, 256, 3, 40), row(1, 0, 1, 32)];
    store.commit(rows).unwrap();
    assert_eq!(store.log_rows(0, 98..102).unwrap(), [vec![100; 80], vec![156; 80]].concat());
    assert_eq!(store.log_rows(0, 250..258).unwrap().len(), 8 * 40);
    assert_eq!(store.log_rows(0, 257..259).unwrap(), vec![3; 80]);
    assert_eq!(store.log_rows(1, 0..1).unwrap(), vec![1; 32]);
    assert_eq!(store.log_rows(0, 5..5).unwrap(), Vec::<u8>::new());
    assert_eq!(store.log_rows(0, 258..260).unwrap_err().kind(), Kind::Damaged);
    let mut hole = commit(2, Vec::new());
    hole.log_rows = vec![row(0, 300, 3, 40)];
    store.commit(hole).unwrap();
    assert_eq!(store.log_rows(0, 256..303).unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn a_row_that_crosses_a_tile_or_holds_half_an_item_is_refused_and_nothing_is_written() {
    let store = Store::memory();
    for (first, bytes) in [(255, 80), (0, 41), (0, 0)] {
        let mut bad = commit(1, vec![link(0, b"init")]);
        bad.log_rows = vec![LogRow { level: 0, first, bytes: vec![0; bytes] }];
        assert_eq!(store.commit(bad).unwrap_err().kind(), Kind::Internal);
    }
    assert!(store.link(RECORDER, 0).unwrap().is_none());
}

#[test]
fn audit_entries_of_one_moment_are_all_kept_also_over_restarts() {
    let memory = Memory::default();
    let entry = |action: &str| AuditRecord::new(5, Event::LookUp, "token:first-start", "::1", action);
    let store = open(&memory);
    store.audit(&entry("a")).unwrap();
    store.audit(&entry("b")).unwrap();
    let store = open(&memory.restart());
    store.audit(&entry("c")).unwrap();
    let actions: Vec<_> = store.audit_entries(5..6).map(|entry| entry.unwrap().action).collect();
    assert_eq!(actions, ["a", "b", "c"]);
    assert_eq!(store.audit_entries(6..9).count(), 0);
}

#[test]
fn a_store_of_another_format_is_refused() {
    let memory = Memory::default();
    drop(open(&memory));
    memory.set_value(Family::Meta, keys::META_FORMAT, Some((FORMAT + 1).to_be_bytes().to_vec()));
    assert_eq!(Store::with_engine(Arc::new(memory)).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn a_value_that_does_not_decode_is_damage() {
    let memory = Memory::default();
    let store = open(&memory);
    store.commit(commit(1, vec![link(0, b"init")])).unwrap();
    assert!(memory.flip_value(Family::Links, &keys::link(RECORDER, 0), 0));
    assert_eq!(store.link(RECORDER, 0).unwrap_err().kind(), Kind::Damaged);
}
