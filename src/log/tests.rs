//! The log against a second, naive computation of RFC 6962, and over restarts.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use aigaq_proto::receipt::entry;
use aigaq_proto::{Digest, receipt};
use sha2::{Digest as _, Sha256};

use super::{Identity, Log, Reader};
use crate::error::Kind;
use crate::store::engine::Family;
use crate::store::engine::memory::Memory;
use crate::store::{Commit, Store, keys};

/// RFC 6962 section 2.1, word by word.
fn naive_root(leaves: &[[u8; 40]]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => Sha256::new().chain_update([0]).chain_update(leaf).finalize().into(),
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            Sha256::new()
                .chain_update([1])
                .chain_update(naive_root(left))
                .chain_update(naive_root(right))
                .finalize()
                .into()
        }
    }
}

fn digest(index: u64) -> Digest {
    Digest::of(&index.to_be_bytes())
}

fn leaf(index: u64) -> [u8; 40] {
    entry(&digest(index), 1_000 + index)
}

fn leaves(size: u64) -> Vec<[u8; 40]> {
    (0..size).map(leaf).collect()
}

/// Appends `count` entries in one commit and proves them against the checkpoint: of a large commit the first, the
/// last and every 101st.
fn grow(store: &Store, log: &mut Log, count: u64) {
    let mut staged = log.stage();
    let first = log.size();
    for index in first..first + count {
        assert_eq!(staged.append(&digest(index), 1_000 + index), index);
    }
    let (log_rows, log_size) = (staged.take_rows(), staged.size());
    store.commit(Commit { number: store.next_commit(), log_rows, log_size, ..Commit::default() }).unwrap();
    let key = log.reader().key();
    let settled = log.settle(staged).unwrap();
    settled.keep().unwrap();
    for index in (first..first + count).filter(|index| count < 700 || index % 101 == 0 || index + 1 == first + count) {
        let receipt = aigaq_proto::message::Receipt {
            sequence: 0,
            digest: digest(index),
            received_at: 1_000 + index,
            log_index: index,
            proof: settled.prove(index).unwrap(),
            checkpoint: settled.checkpoint().to_owned(),
        };
        receipt::verify(&receipt, &digest(index), &key).unwrap();
    }
}

fn checkpoint(reader: &Reader) -> (u64, Digest) {
    reader.key().open(&reader.checkpoint().unwrap()).unwrap()
}

#[test]
fn the_root_is_that_of_rfc_6962_for_every_size_across_tile_borders() {
    let leaves = leaves(600);
    let (store, identity) = (Store::memory(), Identity::ephemeral().unwrap());
    let mut log = Log::open(store.clone(), identity.clone(), None).unwrap();
    let reader = log.reader();
    assert_eq!(checkpoint(&reader), (0, Digest(naive_root(&[]))));
    for size in 1..=600 {
        grow(&store, &mut log, 1);
        assert_eq!(checkpoint(&reader), (size, Digest(naive_root(&leaves[..size as usize]))));
        let reopened = Log::open(store.clone(), identity.clone(), None).unwrap();
        assert_eq!(reopened.size(), size);
        assert_eq!(reopened.reader().checkpoint().unwrap(), reader.checkpoint().unwrap());
    }
    for size in 0..=600 {
        assert_eq!(reader.root(size).unwrap(), Digest(naive_root(&leaves[..size as usize])), "old tree of {size}");
    }
}

#[test]
fn commits_of_any_size_give_the_same_tree_and_rows_that_stay_within_tiles() {
    let leaves = leaves(3_000);
    for counts in [&[255, 1, 1, 255, 256][..], &[257, 600, 2], &[1, 2_999], &[512, 512, 1]] {
        let (store, identity) = (Store::memory(), Identity::ephemeral().unwrap());
        let mut log = Log::open(store.clone(), identity.clone(), None).unwrap();
        for count in counts {
            grow(&store, &mut log, *count);
            let size = log.size();
            assert_eq!(checkpoint(&log.reader()).1, Digest(naive_root(&leaves[..size as usize])));
            log = Log::open(store.clone(), identity.clone(), None).unwrap();
        }
    }
}

#[test]
fn a_tree_of_three_levels_of_tiles_holds() {
    let size = 65_536 + 300;
    let leaves = leaves(size);
    let (store, identity) = (Store::memory(), Identity::ephemeral().unwrap());
    let mut log = Log::open(store.clone(), identity.clone(), None).unwrap();
    for count in [65_000, 535, 1, 1, 299] {
        grow(&store, &mut log, count);
    }
    let root = Digest(naive_root(&leaves));
    assert_eq!(checkpoint(&Log::open(store.clone(), identity, None).unwrap().reader()), (size, root));
    assert_eq!(log.reader().tile(2, 0, 1).unwrap(), naive_root(&leaves[..65_536]));
    assert_eq!(log.reader().tile(1, 1, 1).unwrap(), naive_root(&leaves[65_536..65_792]));
}

#[test]
fn a_staged_tree_that_is_dropped_changes_nothing() {
    let (store, identity) = (Store::memory(), Identity::ephemeral().unwrap());
    let mut log = Log::open(store.clone(), identity, None).unwrap();
    grow(&store, &mut log, 300);
    let before = log.reader().checkpoint().unwrap();
    let mut staged = log.stage();
    for index in 0..300 {
        staged.append(&digest(9_000 + index), 0);
    }
    drop(staged);
    assert_eq!(log.reader().checkpoint().unwrap(), before);
    grow(&store, &mut log, 300);
    assert_eq!(checkpoint(&log.reader()).1, Digest(naive_root(&leaves(600))));
}

#[test]
fn tiles_and_entry_bundles_have_the_c2sp_layout() {
    let (store, identity) = (Store::memory(), Identity::ephemeral().unwrap());
    let mut log = Log::open(store.clone(), identity, None).unwrap();
    grow(&store, &mut log, 300);
    let reader = log.reader();
    let tile = reader.tile(0, 1, 44).unwrap();
    assert_eq!(tile.len(), 44 * 32);
    assert_eq!(tile[32..64], naive_root(&[leaf(257)]));
    assert_eq!(reader.tile(1, 0, 1).unwrap(), naive_root(&leaves(256)));
    let bundle = reader.entries(0, 256).unwrap();
    assert_eq!(bundle.len(), 256 * 42);
    assert_eq!(bundle[42..44], [0, 40]);
    assert_eq!(bundle[44..84], leaf(1));
    for absent in [reader.tile(0, 1, 45), reader.tile(1, 0, 2), reader.tile(2, 0, 1), reader.tile(0, 0, 0)] {
        assert_eq!(absent.unwrap_err().kind(), Kind::NotFound);
    }
    for absent in [reader.tile(0, u64::MAX, 1), reader.tile(255, 0, 1), reader.tile(0, 0, 257), reader.entries(2, 1)] {
        assert_eq!(absent.unwrap_err().kind(), Kind::NotFound);
    }
}

#[test]
fn a_whole_check_sees_every_entry_and_finds_a_changed_bit() {
    let engine = Memory::default();
    let store = Store::with_engine(Arc::new(engine.clone())).unwrap();
    let mut log = Log::open(store.clone(), Identity::ephemeral().unwrap(), None).unwrap();
    grow(&store, &mut log, 300);
    grow(&store, &mut log, 400);
    let mut seen = Vec::new();
    assert_eq!(log.reader().check(|index, entry| seen.push((index, *entry))).unwrap(), 700);
    assert_eq!(seen, (0..700).map(|index| (index, leaf(index))).collect::<Vec<_>>());
    for (level, first) in [(0, 0), (0, 512), (1, 0), (1, 1)] {
        let key = keys::tile(level, first);
        assert!(engine.flip_value(Family::Tiles, key.as_ref(), 5), "row {first} of level {level} is there");
        let found = log.reader().check(|_, _| {});
        // A changed entry of the last, partial tile changes the root and nothing else: its link's receipt shows it.
        assert_eq!(found.is_err(), (level, first) != (0, 512), "row {first} of level {level}");
        assert!(engine.flip_value(Family::Tiles, key.as_ref(), 5));
    }
}

#[test]
fn a_store_that_is_behind_a_signed_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::ephemeral().unwrap();
    let engine = Memory::default();
    let store = Store::with_engine(Arc::new(engine.clone())).unwrap();
    let mut log = Log::open(store.clone(), identity.clone(), Some(dir.path())).unwrap();
    grow(&store, &mut log, 10);
    let backup = engine.restart();
    grow(&store, &mut log, 1);
    let restored = Store::with_engine(Arc::new(backup)).unwrap();
    let error = Log::open(restored.clone(), identity.clone(), Some(dir.path())).err().unwrap();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("has 10 entries, a checkpoint over 11"), "{error}");
    assert!(Log::open(store, identity.clone(), Some(dir.path())).is_ok());

    let path = dir.path().join("checkpoint");
    let kept = std::fs::read(&path).unwrap();
    for at in 0..kept.len() {
        let mut flipped = kept.clone();
        flipped[at] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        let error = Log::open(restored.clone(), identity.clone(), Some(dir.path())).err().unwrap();
        assert_eq!(error.kind(), Kind::Damaged, "byte {at}");
        assert_eq!(std::fs::read(&path).unwrap(), flipped, "the file stays as it was found");
    }

    std::fs::write(dir.path().join("checkpoint"), "").unwrap();
    assert!(Log::open(restored, identity, Some(dir.path())).is_ok(), "an empty file proves nothing");
}

#[test]
fn a_store_with_another_history_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::ephemeral().unwrap();
    let store = Store::memory();
    let mut log = Log::open(store.clone(), identity.clone(), Some(dir.path())).unwrap();
    grow(&store, &mut log, 3);

    let other = Store::memory();
    let mut fork = Log::open(other.clone(), identity.clone(), None).unwrap();
    let mut staged = fork.stage();
    for index in 0..5 {
        staged.append(&digest(index), 77);
    }
    let (log_rows, log_size) = (staged.take_rows(), staged.size());
    other.commit(Commit { number: 1, log_rows, log_size, ..Commit::default() }).unwrap();
    fork.settle(staged).unwrap();
    let error = Log::open(other, identity, Some(dir.path())).err().unwrap();
    assert_eq!(error.kind(), Kind::Damaged);
}

#[test]
fn the_key_is_made_once_with_mode_0600_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::load_or_create(dir.path()).unwrap();
    let path = dir.path().join("log.key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(identity.key().origin().starts_with("aigaq.local/"));
    assert_eq!(Identity::load_or_create(dir.path()).unwrap().key(), identity.key());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left behind");

    std::fs::write(&path, "nonsense\n").unwrap();
    assert_eq!(Identity::load_or_create(dir.path()).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn no_key_is_made_beside_a_store_that_lacks_its_own() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(&dir.path().join(crate::store::DIR), &crate::store::Settings::default()).unwrap());
    let error = Identity::load_or_create(dir.path()).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("log.key"), "{error}");
    assert!(!dir.path().join("log.key").exists());
}

#[test]
fn a_key_file_whose_halves_do_not_belong_together_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    Identity::load_or_create(dir.path()).unwrap();
    Identity::load_or_create(other.path()).unwrap();
    let read = |dir: &std::path::Path| std::fs::read_to_string(dir.join("log.key")).unwrap();
    let (mine, theirs) = (read(dir.path()), read(other.path()));
    let mixed = format!("{}\n{}\n", mine.lines().next().unwrap(), theirs.lines().nth(1).unwrap());
    std::fs::write(dir.path().join("log.key"), mixed).unwrap();
    assert_eq!(Identity::load_or_create(dir.path()).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn every_tree_is_shown_to_continue_every_smaller_one_and_no_other_proof_does() {
    let store = Store::memory();
    let mut log = Log::open(store.clone(), Identity::ephemeral().unwrap(), None).unwrap();
    grow(&store, &mut log, 20);
    let reader = log.reader();
    for size in 1..=20 {
        let tree = reader.tree(size).unwrap();
        for old in 1..=size {
            let before = reader.root(old).unwrap();
            let proof = reader.prove_consistency(old, &tree).unwrap();
            receipt::verify_consistency(old, &before, &proof, size, &tree.root).unwrap();
            let wrong = Digest::of(b"another tree");
            assert!(receipt::verify_consistency(old, &wrong, &proof, size, &tree.root).is_err(), "{old} of {size}");
            assert!(receipt::verify_consistency(old, &before, &proof, size, &wrong).is_err(), "{old} of {size}");
            assert!(receipt::verify_consistency(0, &before, &proof, size, &tree.root).is_err());
            let longer: Vec<_> = proof.iter().copied().chain([wrong]).collect();
            assert!(receipt::verify_consistency(old, &before, &longer, size, &tree.root).is_err(), "{old} of {size}");
        }
    }
}

#[test]
fn a_log_that_has_ended_too_often_for_another_successor_keeps_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::with_engine(Arc::new(Memory::default())).unwrap();
    Identity::load_or_create(dir.path()).unwrap();
    let reason = "x".repeat(512);
    let at = "2026-01-17T09:14:02.000000Z";
    let too_long = super::succeed(dir.path(), &store, &format!("{reason}x"), at).unwrap_err();
    assert_eq!(too_long.kind(), Kind::Invalid);
    let mut ends = 0;
    let error = loop {
        match super::succeed(dir.path(), &store, &reason, at) {
            Ok(_) => ends += 1,
            Err(error) => break error,
        }
        assert!(ends < 100, "there is no end");
    };
    assert!(ends >= 20 && error.to_string().contains("ended too often"), "{ends}: {error}");
    assert_eq!(error.kind(), Kind::Invalid);
    Identity::load_or_create(dir.path()).unwrap();
    assert!(!dir.path().join("log.key.next").exists());
}

#[test]
fn a_log_that_has_other_entries_than_it_ended_with_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::load_or_create(dir.path()).unwrap();
    let of = |count: u64, other: bool| {
        let store = Store::memory();
        let mut log = Log::open(store.clone(), identity.clone(), None).unwrap();
        let mut staged = log.stage();
        for index in 0..count {
            staged.append(&digest(if other { index + 100 } else { index }), 1_000 + index);
        }
        let (log_rows, log_size) = (staged.take_rows(), staged.size());
        store.commit(Commit { number: store.next_commit(), log_rows, log_size, ..Commit::default() }).unwrap();
        log.settle(staged).unwrap();
        store
    };
    super::succeed(dir.path(), &of(3, false), "a test", "2026-01-17T09:14:02.000000Z").unwrap();
    let next = Identity::load(dir.path()).unwrap().unwrap();
    let check = |store| Reader::new(store, next.clone()).check_succession(dir.path()).map_err(|error| error.kind());
    assert_eq!([check(of(3, false)), check(of(5, false))], [Ok(1), Ok(1)]);
    assert_eq!([check(of(2, false)), check(of(3, true))], [Err(Kind::Damaged), Err(Kind::Damaged)]);
}
