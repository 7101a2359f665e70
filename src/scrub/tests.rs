//! All damage is found, once, with its place; and the age tells the truth.

use std::sync::Arc;

use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId, link};
use bytes::Bytes;
use prometheus::Registry;
use tempfile::TempDir;

use super::{Metrics, PASS_EVERY, Scrub, micros};
use crate::clock::Clock;
use crate::seal::{self, Ring};
use crate::store::engine::memory::Memory;
use crate::store::engine::{Engine as _, Family};
use crate::store::records::{Body, LinkRecord, Owner};
use crate::store::{Commit, NewLink, Policy, Store, keys};

const AT: Micros = 1_768_641_242_000_000;
const RECORDER: RecorderId = RecorderId([7; 16]);
const BODY: usize = 100_000;

struct Rig {
    /// Where the keys lie.
    home: TempDir,
    memory: Memory,
    store: Store,
    clock: Clock,
    metrics: Metrics,
    scrub: Scrub,
}

fn over(home: TempDir, memory: Memory, clock: Clock) -> Rig {
    let ring = Ring::open(home.path(), &seal::Settings::default()).unwrap();
    let store = Store::with_keys(Arc::new(memory.clone()), Policy::default(), ring).unwrap();
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let scrub = Scrub::new(store.clone(), clock.clone(), metrics.clone(), 1);
    Rig { home, memory, store, clock, metrics, scrub }
}

/// A store with so many segments, each in a commit of its own.
fn rig(segments: u64) -> Rig {
    let rig = over(tempfile::tempdir().unwrap(), Memory::default(), Clock::fixed(AT));
    for sequence in 1..=segments {
        let payload = Bytes::from(vec![u8::try_from(sequence % 251).unwrap(); BODY]);
        let header = LinkHeader {
            recorder: RECORDER,
            sequence,
            previous: Digest::of(b"the link before"),
            captured_at: AT + sequence,
            duration_us: 1,
            payload_length: u32::try_from(BODY).unwrap(),
            payload_digest: Digest::of(&payload),
            content: Content::Media { recording: 0, ordinal: sequence - 1, independent: true },
            fixes: Vec::new(),
        };
        let bytes = header.encode().unwrap();
        let record = LinkRecord {
            header: bytes.clone(),
            signature: vec![0; 64],
            received_at: AT,
            clock: None,
            body: Body::None,
            log_index: sequence - 1,
            tree_size: sequence,
        };
        let link = NewLink { header, digest: link::digest(&bytes), record, payload };
        rig.store.commit(Commit { number: sequence, links: vec![link], ..Commit::default() }).unwrap();
    }
    rig
}

impl Rig {
    fn restart(self) -> Self {
        over(self.home, self.memory.restart(), self.clock)
    }

    /// Reads to the end of the pass; the slices it took.
    fn pass(&self) -> usize {
        let mut slices = 0;
        while self.scrub.slice().unwrap().is_some() {
            slices += 1;
        }
        slices
    }

    fn next_pass(&self) -> usize {
        self.clock.set(self.clock.now() + micros(PASS_EVERY));
        self.pass()
    }

    fn damage(&self, sequence: u64) {
        let Body::Sealed(key) = self.store.link(RECORDER, sequence).unwrap().unwrap().body else { panic!() };
        assert!(self.memory.flip_body(key, 5));
    }

    fn found(&self) -> Vec<Owner> {
        let scrub = self.store.scrub().unwrap().unwrap();
        scrub.found.places.iter().map(|place| self.store.owner_at(place).unwrap().1).collect()
    }
}

#[test]
fn every_body_that_is_not_what_was_received_is_found_and_named_and_the_others_are_not() {
    let rig = rig(100);
    assert!(rig.pass() > 4, "a slice is small");
    assert_eq!((rig.metrics.damaged(), rig.metrics.read_bytes.get()), (0, 100 * BODY as u64));
    for sequence in [1, 37, 38, 100] {
        rig.damage(sequence);
    }
    rig.next_pass();
    assert_eq!(rig.found(), [1, 37, 38, 100].map(Owner::Link));
    assert_eq!(rig.metrics.damaged(), 4);
    rig.next_pass();
    assert_eq!(rig.metrics.damaged(), 4, "found again, and counted once");
}

#[test]
fn an_entry_that_does_not_decode_is_found_and_what_lies_behind_it_is_still_read() {
    let rig = rig(10);
    let day = rig.store.first_expiring(0).unwrap().unwrap();
    rig.memory.set_value(Family::Expiry, &keys::expiry(day, RECORDER, Owner::Link(3)), Some(vec![9]));
    rig.damage(7);
    rig.pass();
    assert_eq!(rig.found(), [3, 7].map(Owner::Link));
}

#[test]
fn the_age_is_that_of_the_oldest_byte_that_was_not_read_again() {
    let rig = rig(100);
    rig.pass();
    rig.clock.set(AT + 1_000_000);
    assert_eq!(rig.scrub.slice().unwrap(), None, "the next pass is not due");
    assert!((rig.metrics.age() - 1.0).abs() < 1e-6);
    rig.clock.set(AT + micros(PASS_EVERY) + 5_000_000);
    rig.scrub.slice().unwrap();
    assert!(rig.metrics.age() > PASS_EVERY.as_secs_f64(), "a pass that has begun proves nothing yet");
    rig.clock.set(rig.clock.now() + 7_000_000);
    rig.pass();
    assert!((rig.metrics.age() - 7.0).abs() < 1e-6, "as of its beginning, not its end");
}

#[test]
fn a_restart_goes_on_with_the_pass_and_keeps_what_was_found() {
    let rig = rig(100);
    rig.damage(3);
    let rig = rig.restart();
    rig.pass();
    let began = rig.clock.now();
    let rig = rig.restart();
    assert_eq!(rig.pass(), 0, "the pass is over, and known to be");
    assert_eq!((rig.found(), rig.metrics.damaged()), (vec![Owner::Link(3)], 1));
    assert_eq!(rig.store.scrub().unwrap().unwrap().verified_since, began);
}

#[test]
fn what_was_deleted_meanwhile_is_not_damage() {
    let rig = rig(10);
    let day = rig.store.first_expiring(0).unwrap().unwrap();
    let entry = rig.store.expiring(day, None).next().unwrap().unwrap();
    rig.store.drop_days_before(day + 1).unwrap();
    assert!(rig.store.is_whole(&entry).unwrap());
    assert_eq!(rig.memory.bodies().count(), 0);
}
