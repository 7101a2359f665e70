//! Micro-benches of what each link costs outside the transport and the disk: `cargo bench --bench micro`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aigaq::commit::batch::{Batch, Next, Policy};
use aigaq_proto::chain::{self, Joint};
use aigaq_proto::{Digest, LinkHeader};
use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use support::chain::{Chain, Link};

fn main() {
    divan::main();
}

fn key() -> Arc<aigaq_proto::signature::SigningKey> {
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    Arc::new(aigaq_proto::signature::SigningKey::Ed25519(Box::new(pair)))
}

fn link(payload: Bytes) -> Link {
    let key = key();
    let mut chain = Chain::new(key.public_key().unwrap().recorder_id(), 1_700_000_000_000_000);
    chain.start(&key);
    chain.media(&key, payload)
}

#[divan::bench]
fn header_encode(bencher: Bencher) {
    let link = link(Bytes::from_static(&[1; 16]));
    bencher.bench(|| black_box(&link.header).encode().unwrap());
}

#[divan::bench]
fn header_decode(bencher: Bencher) {
    let link = link(Bytes::from_static(&[1; 16]));
    bencher.bench(|| LinkHeader::decode(black_box(&link.header_bytes)).unwrap());
}

#[divan::bench]
fn payload_digest_512_kib(bencher: Bencher) {
    let payload = vec![1; 512 * 1024];
    bencher.counter(BytesCount::new(payload.len())).bench(|| Digest::of(black_box(&payload)));
}

/// The key of a recorder and day, as a commit gets it.
fn footage_key() -> (tempfile::TempDir, aigaq::seal::Key) {
    let home = tempfile::tempdir().unwrap();
    let ring = aigaq::seal::Ring::open(&home.path().join("keys"), &aigaq::seal::Settings::default()).unwrap();
    let of = (20_000, key().public_key().unwrap().recorder_id());
    let key = ring.keys(&[of].into()).unwrap().remove(&of).unwrap();
    (home, key)
}

#[divan::bench]
fn payload_seal_512_kib(bencher: Bencher) {
    let (payload, (_home, key)) = (vec![1; 512 * 1024], footage_key());
    bencher.counter(BytesCount::new(payload.len())).bench(|| key.seal(b"link", black_box(&payload)).unwrap());
}

#[divan::bench]
fn payload_open_512_kib(bencher: Bencher) {
    let (payload, (_home, key)) = (vec![1; 512 * 1024], footage_key());
    let sealed = key.seal(b"link", &payload).unwrap();
    bencher.counter(BytesCount::new(payload.len())).bench(|| key.open(b"link", black_box(&sealed)).unwrap());
}

#[divan::bench]
fn signature_verify_ed25519(bencher: Bencher) {
    let link = link(Bytes::from_static(&[1; 16]));
    let public = key().public_key().unwrap();
    bencher.bench(|| public.verify(black_box(&link.digest), &link.signature).unwrap());
}

/// One more link at the end of a chain, with this many islands beyond it.
#[divan::bench(args = [0, 10, 1000])]
fn chain_step(bencher: Bencher, islands: u64) {
    let mut chain = chain::Chain::default();
    let digest = |sequence: u64| Digest::of(&sequence.to_be_bytes());
    chain.insert(Joint { sequence: 0, previous: Digest::ZERO, digest: digest(0) });
    for island in 1..=islands {
        let sequence = island * 10;
        chain.insert(Joint { sequence, previous: digest(sequence - 1), digest: digest(sequence) });
    }
    bencher.with_inputs(|| chain.clone()).bench_refs(|chain| {
        black_box(chain.step(1));
        chain.insert(Joint { sequence: 1, previous: digest(0), digest: digest(1) });
    });
}

/// A batch of 32 links of 512 KiB, from its first link to the decision to commit.
#[divan::bench]
fn commit_policy(bencher: Bencher) {
    let policy = Policy {
        bytes_max: 16 << 20,
        links_max: 1024,
        age_max: Duration::from_millis(5),
        idle_max: Duration::from_millis(1),
        bulk_bytes: 8 << 20,
        bulk_age_max: Duration::from_millis(60),
    };
    let now = Instant::now();
    bencher.bench(|| {
        let mut batch = Batch::begin(512 << 10, now, true);
        while black_box(batch.next(&policy, now)) != Next::Commit {
            batch.add(512 << 10, now);
        }
        batch
    });
}
