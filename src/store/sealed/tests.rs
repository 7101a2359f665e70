//! Sealed footage: nothing of it shows, nothing of it opens without its key, in another place or under another link.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use aigaq_proto::Digest;
use aigaq_proto::message::RefusalReason;
use bytes::Bytes;

use crate::error::Kind;
use crate::seal::{self, Ring};
use crate::store::engine::memory::{FailAt, Memory};
use crate::store::engine::{Engine as _, Family};
use crate::store::policy::Rule;
use crate::store::records::{self, Body, FootageKey, Owner, QuarantineRecord};
use crate::store::tests::{RECORDER, commit, link};
use crate::store::{Move, NewQuarantine, Policy, Settings, Store, keys};

const SECRET: &[u8] = b"what nobody may read who has not its key";
const OTHER: &[u8] = b"something else that has the same length.";

fn settings(ingest_bytes_min: usize, footage: bool) -> Settings {
    let seal = seal::Settings { footage, ..seal::Settings::default() };
    Settings { ingest_bytes_min, free_bytes_min: 0, seal, ..Settings::default() }
}

fn over(memory: &Memory, keys: &Path) -> Store {
    let ring = Ring::open(keys, &seal::Settings::default()).unwrap();
    Store::with_keys(Arc::new(memory.clone()), Policy::default(), ring).unwrap()
}

fn read(store: &Store, sequence: u64) -> crate::Result<Bytes> {
    store.body(&store.link(RECORDER, sequence).unwrap().unwrap())
}

fn place(store: &Store, sequence: u64) -> FootageKey {
    match store.link(RECORDER, sequence).unwrap().unwrap().body {
        Body::Sealed(key) => key,
        other => panic!("{other:?} is not sealed"),
    }
}

fn quarantined() -> NewQuarantine {
    let record = QuarantineRecord {
        reason: RefusalReason::BadSignature,
        header: vec![1],
        signature: vec![2],
        received_at: 10 * 86_400_000_000,
        payload_digest: Digest::of(SECRET),
        payload_length: SECRET.len() as u64,
        body: Body::None,
    };
    NewQuarantine { recorder: RECORDER, record, payload: Bytes::from_static(SECRET) }
}

/// How many files below a directory hold these bytes.
fn files_with(dir: &Path, bytes: &[u8]) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let count = |path: std::path::PathBuf| {
        if path.is_dir() {
            return files_with(&path, bytes);
        }
        usize::from(fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes))
    };
    entries.map(count).sum()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

#[test]
fn no_payload_lies_in_the_store_as_it_was_received() {
    for (ingest_bytes_min, footage) in [(1, true), (usize::MAX, true), (1, false), (usize::MAX, false)] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("store");
        let store = Store::open(&dir, &settings(ingest_bytes_min, footage)).unwrap();
        let mut all = commit(1, vec![link(0, b"init"), link(1, SECRET)]);
        all.forks.push(link(1, SECRET));
        all.quarantined.push(quarantined());
        store.commit(all).unwrap();
        assert_eq!(files_with(home.path(), SECRET) == 0, footage, "before the close");
        store.close().unwrap();
        assert_eq!(read(&store, 1).unwrap(), SECRET);
        let bad = store.quarantine(RECORDER).next().unwrap().unwrap();
        assert_eq!(store.quarantined_body(RECORDER, &bad.record).unwrap(), SECRET);
        drop(store);
        assert_eq!(files_with(home.path(), SECRET) == 0, footage, "after it");
    }
}

#[test]
fn a_copy_of_the_store_without_the_keys_gives_nothing_and_with_them_all() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(&home.path().join("a/store"), &settings(1, true)).unwrap();
    store.commit(commit(1, vec![link(0, b"init"), link(1, SECRET), link(2, OTHER)])).unwrap();
    store.close().unwrap();
    drop(store);
    copy(&home.path().join("a/store"), &home.path().join("b/store"));
    let refused = Store::open(&home.path().join("b/store"), &settings(1, true)).unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    assert!(!home.path().join("b/keys").exists(), "a new master key would look like the old one: {refused}");
    fs::create_dir(home.path().join("b/keys")).unwrap();
    let restored = Store::open(&home.path().join("b/store"), &settings(1, true)).unwrap();
    for sequence in [1, 2] {
        let error = read(&restored, sequence).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(error.to_string().contains("the key of"), "{error}");
    }
    drop(restored);
    fs::remove_dir_all(home.path().join("b/keys")).unwrap();
    copy(&home.path().join("a/keys"), &home.path().join("b/keys"));
    let restored = Store::open(&home.path().join("b/store"), &settings(1, true)).unwrap();
    assert_eq!(read(&restored, 1).unwrap(), SECRET);
}

#[test]
fn bodies_that_were_exchanged_or_changed_do_not_open() {
    let (memory, home) = (Memory::default(), tempfile::tempdir().unwrap());
    let store = over(&memory, home.path());
    store.commit(commit(1, vec![link(1, SECRET), link(2, OTHER), link(3, SECRET)])).unwrap();
    let [one, two, three] = [1, 2, 3].map(|sequence| place(&store, sequence));
    let body = |key| memory.body(key).unwrap();
    let bytes = [one, two, three].map(body);
    assert_eq!(bytes[0].as_ref().unwrap().len(), SECRET.len() + seal::OVERHEAD_BYTES);
    assert_ne!(bytes[0], bytes[2], "equal payloads do not show");
    memory.set_body(one, bytes[1].clone());
    memory.set_body(two, bytes[0].clone());
    // The same payload from another place, and a record that points there.
    memory.set_body(three, bytes[0].clone());
    for sequence in [1, 2, 3] {
        let error = read(&store, sequence).unwrap_err();
        assert!(error.kind() == Kind::Damaged && error.to_string().contains("does not open"), "{error}");
    }
    memory.set_body(one, bytes[0].clone());
    assert_eq!(read(&store, 1).unwrap(), SECRET);
    for at in 0..bytes[0].as_ref().unwrap().len() {
        assert!(memory.flip_body(one, at));
        assert_eq!(read(&store, 1).unwrap_err().kind(), Kind::Damaged, "byte {at}");
        memory.flip_body(one, at);
    }
    let mut record = store.link(RECORDER, 3).unwrap().unwrap();
    record.body = Body::Sealed(one);
    memory.set_value(Family::Links, &keys::link(RECORDER, 3), Some(records::encode(&record).unwrap()));
    assert_eq!(read(&store, 3).unwrap(), SECRET, "the same bytes of the same recorder are the same evidence");
    record.body = Body::Footage(one);
    memory.set_value(Family::Links, &keys::link(RECORDER, 3), Some(records::encode(&record).unwrap()));
    assert_eq!(read(&store, 3).unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn a_moved_body_is_sealed_anew_and_outlives_the_keys_of_its_old_day() {
    let (memory, home) = (Memory::default(), tempfile::tempdir().unwrap());
    let store = over(&memory, home.path());
    store.commit(commit(1, vec![link(1, SECRET), link(2, OTHER)])).unwrap();
    let before = place(&store, 1);
    let copy = memory.restart();
    let (owner, rule) = (Owner::Link(1), Rule::Undo);
    store.relocate(&[Move { recorder: RECORDER, owner, until_day: before.day + 5, rule }]).unwrap();
    let after = place(&store, 1);
    assert_eq!(after.day, before.day + 5);
    assert_ne!(memory.body(after).unwrap().unwrap(), copy.body(before).unwrap().unwrap());
    store.drop_days_before(before.day + 1).unwrap();
    assert_eq!(read(&store, 1).unwrap(), SECRET);
    assert_eq!(read(&store, 2).unwrap_err().kind(), Kind::NotFound);
    // A copy of the store that was taken before has the bytes, and nobody has their key.
    let copy = over(&copy, home.path());
    for sequence in [1, 2] {
        assert_eq!(read(&copy, sequence).unwrap_err().kind(), Kind::Damaged);
    }
}

#[test]
fn a_key_whose_commit_never_became_durable_serves_the_next() {
    let (memory, home) = (Memory::default(), tempfile::tempdir().unwrap());
    let mut memory = memory;
    for (sequence, at) in (1..).zip([FailAt::Start, FailAt::Bodies, FailAt::End]) {
        let store = over(&memory, home.path());
        memory.fail_commit(1, at);
        store.commit(commit(store.next_commit(), vec![link(sequence, SECRET)])).unwrap_err();
        memory = memory.restart();
        let store = over(&memory, home.path());
        store.commit(commit(store.next_commit(), vec![link(9, OTHER)])).unwrap();
        assert_eq!(read(&store, 9).unwrap(), OTHER);
        assert_eq!(store.link(RECORDER, sequence).unwrap().is_some(), at == FailAt::End);
        assert_eq!(store.check_keys(&mut |problem| panic!("{problem}")).unwrap().keys, 1);
    }
}

#[test]
fn what_is_sealed_is_read_when_sealing_is_off_again_and_the_other_way_round() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    for (sequence, footage) in [(1, false), (2, true), (3, false), (4, true)] {
        let store = Store::open(&dir, &settings(1, footage)).unwrap();
        store.commit(commit(store.next_commit(), vec![link(sequence, SECRET)])).unwrap();
        for sequence in 1..=sequence {
            assert_eq!(read(&store, sequence).unwrap(), SECRET);
        }
        store.close().unwrap();
    }
}

#[test]
fn many_bodies_are_sealed_by_several_threads_each_under_its_own_link() {
    let (memory, home) = (Memory::default(), tempfile::tempdir().unwrap());
    let store = over(&memory, home.path());
    let large: &'static [u8] = Box::leak(vec![7; 300_000].into_boxed_slice());
    let links = (1..=40).map(|sequence| link(sequence, if sequence % 3 == 0 { OTHER } else { large })).collect();
    store.commit(commit(1, links)).unwrap();
    for sequence in 1..=40 {
        assert_eq!(read(&store, sequence).unwrap(), if sequence % 3 == 0 { OTHER } else { large });
    }
}
