//! What must hold for every input, not for chosen ones.
#![allow(clippy::unwrap_used)]

mod golden;

use std::collections::BTreeMap;

use aigaq_proto::chain::{Chain, Joint, Run, Step};
use aigaq_proto::frame::{Control, decode_link_prefix};
use aigaq_proto::limits::{
    CHECKPOINT_BYTES_MAX, PROOF_HASHES_MAX, RANGES_MAX, RUNS_MAX, SEQUENCE_MAX, TEXT_BYTES_MAX, TIME_US_MAX,
};
use aigaq_proto::link::{self, Content, Fix, LossCause, StopCause};
use aigaq_proto::message::{Hello, Receipt, SpoolSummary};
use aigaq_proto::receipt::{self, LogKey};
use aigaq_proto::signature::PublicKey;
use aigaq_proto::{Digest, Error, LinkHeader, RecorderId, SequenceRange, wire};
use golden::chains::{honest, named, stranger};
use golden::{frames, keys, links, merkle, receipts};
use proptest::prelude::*;

fn content(sequence: u64) -> BoxedStrategy<Content> {
    let cause = prop_oneof![
        Just(StopCause::Wearer),
        Just(StopCause::Battery),
        Just(StopCause::StorageFull),
        Just(StopCause::Shutdown),
        Just(StopCause::Fault),
        Just(StopCause::Schedule),
        Just(StopCause::SourceEnded),
    ];
    let health = (0..=100u8, any::<u64>(), any::<u64>(), any::<i16>(), "\\PC{0,80}").prop_map(
        |(battery_percent, storage_free_bytes, backlog_bytes, temperature_centi, firmware)| Content::Health {
            battery_percent,
            storage_free_bytes,
            backlog_bytes,
            temperature_centi,
            firmware,
        },
    );
    let mark = ("[a-zа-я-]{1,20}", "\\PC{0,100}", any::<u16>(), any::<u16>())
        .prop_map(|(category, note, before_s, after_s)| Content::Mark { category, note, before_s, after_s });
    let step = (0..=TIME_US_MAX, 0..=TIME_US_MAX).prop_map(|(before, after)| Content::ClockStep { before, after });
    let start = "[a-z0-9.,]{0,100}".prop_map(|codecs| Content::Start { codecs });
    if sequence == 0 {
        return prop_oneof![start, mark, health, step].boxed();
    }
    let media = (0..sequence, 0..sequence, any::<bool>())
        .prop_map(|(recording, ordinal, independent)| Content::Media { recording, ordinal, independent });
    let stop = (0..sequence, cause).prop_map(|(recording, cause)| Content::Stop { recording, cause });
    let loss = prop_oneof![Just(LossCause::StorageFull), Just(LossCause::StorageFault), Just(LossCause::Restored)];
    let lost =
        (0..sequence, 0..sequence, 0..=TIME_US_MAX, 0..=TIME_US_MAX, loss).prop_map(|(a, b, from, to, cause)| {
            Content::Lost { first: a.min(b), last: a.max(b), from: from.min(to), to: from.max(to), cause }
        });
    prop_oneof![start, mark, health, step, media, stop, lost].boxed()
}

fn fixes() -> impl Strategy<Value = Vec<Fix>> {
    let fix = (
        0..=300_000u32,
        -900_000_000..=900_000_000i32,
        -1_800_000_000..=1_800_000_000i32,
        any::<u16>(),
        any::<u16>(),
        prop_oneof![0..=35_999u16, Just(u16::MAX)],
    );
    let fix = fix.prop_map(|(offset_ms, latitude_e7, longitude_e7, accuracy_dm, speed_cms, course_cdeg)| Fix {
        offset_ms,
        latitude_e7,
        longitude_e7,
        accuracy_dm,
        speed_cms,
        course_cdeg,
    });
    prop::collection::vec(fix, 0..=16).prop_map(|mut fixes| {
        fixes.sort_by_key(|fix| fix.offset_ms);
        fixes
    })
}

fn header() -> impl Strategy<Value = LinkHeader> {
    let sequence = prop_oneof![Just(0), 1..1_000u64, 1..=SEQUENCE_MAX];
    let parts = |sequence| {
        (
            Just(sequence),
            content(sequence),
            fixes(),
            any::<[u8; 16]>(),
            any::<[u8; 32]>(),
            0..=TIME_US_MAX - 300_000_000,
            0..=300_000_000u32,
            1..=33_554_432u32,
        )
    };
    sequence.prop_flat_map(parts).prop_map(
        |(sequence, content, fixes, recorder, bytes, captured_at, duration_us, payload_length)| {
            let has_payload = matches!(content, Content::Start { .. } | Content::Media { .. });
            let is_media = matches!(content, Content::Media { .. });
            let duration_us = if is_media { duration_us } else { 0 };
            let payload_length = if is_media { payload_length } else { payload_length.min(1_048_576) };
            LinkHeader {
                recorder: RecorderId(recorder),
                sequence,
                previous: if sequence == 0 { Digest::ZERO } else { Digest::of(&bytes) },
                captured_at,
                duration_us,
                payload_length: if has_payload { payload_length } else { 0 },
                payload_digest: if has_payload { Digest(bytes) } else { Digest::EMPTY },
                content,
                fixes,
            }
        },
    )
}

/// Links of one chain with sequences below 40, in any order: some honest, some that name a predecessor which is not there.
fn arrivals() -> impl Strategy<Value = (Vec<Joint>, Vec<Joint>)> {
    prop::collection::btree_map(0..40u64, any::<bool>(), 0..30).prop_flat_map(|links| {
        let joints: Vec<Joint> = links
            .into_iter()
            .map(|(sequence, agrees)| if agrees { honest(sequence) } else { stranger(sequence) })
            .collect();
        (Just(joints.clone()).prop_shuffle(), Just(joints).prop_shuffle())
    })
}

fn chain_of(arrivals: &[Joint]) -> Chain {
    let mut chain = Chain::default();
    for joint in arrivals {
        assert_eq!(chain.admit(joint), Step::New);
        assert_eq!(chain.step(joint.sequence), Step::New);
        chain.insert(*joint);
        assert_eq!(chain.admit(joint), Step::Known);
    }
    chain
}

/// The runs of the same links, by looking at them all at once.
fn runs_of(arrivals: &[Joint]) -> Vec<Run> {
    let sorted: BTreeMap<u64, Joint> = arrivals.iter().map(|joint| (joint.sequence, *joint)).collect();
    let mut runs: Vec<Run> = Vec::new();
    for Joint { sequence, previous, digest } in sorted.into_values() {
        match runs.last_mut() {
            Some(run) if run.last + 1 == sequence && run.digest == previous => {
                run.last = sequence;
                run.digest = digest;
            }
            _ => runs.push(Run { first: sequence, previous, last: sequence, digest }),
        }
    }
    runs
}

fn covers(ranges: &[SequenceRange], sequence: u64) -> bool {
    ranges.iter().any(|range| (range.first..=range.last).contains(&sequence))
}

/// A log of 1 to 40 entries and the index of one of them.
fn log() -> impl Strategy<Value = (Vec<(Digest, u64)>, usize)> {
    let entry = (any::<[u8; 32]>(), 0..=TIME_US_MAX).prop_map(|(digest, at)| (Digest(digest), at));
    prop::collection::vec(entry, 1..40).prop_flat_map(|entries| {
        let size = entries.len();
        (Just(entries), 0..size)
    })
}

fn flip(bytes: &mut [u8], bit: prop::sample::Index) {
    let bit = bit.index(bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

proptest! {
    #[test]
    fn a_header_reads_back_as_it_was_written(header in header()) {
        let bytes = header.encode().unwrap();
        prop_assert_eq!(LinkHeader::sequence_of(&bytes), Some(header.sequence));
        prop_assert_eq!(LinkHeader::decode(&bytes), Ok(header));
    }

    #[test]
    fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(header) = LinkHeader::decode(&bytes) {
            prop_assert_eq!(header.encode().unwrap(), bytes.clone());
        }
        if let Ok(Some((frame, length))) = Control::decode(&bytes) {
            prop_assert!(length <= bytes.len());
            frame.encode().unwrap();
        }
        if let Some(prefix) = bytes.first_chunk() {
            let _ = decode_link_prefix(*prefix);
        }
        let _ = PublicKey::from_spki(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = LogKey::parse(&text);
        let _ = receipts::log_key().open(&text);
    }

    #[test]
    fn one_flipped_bit_in_a_header_never_goes_unnoticed(header in header(), bit in any::<prop::sample::Index>()) {
        let key = keys::signing_key();
        let mut bytes = header.encode().unwrap();
        let before = link::digest(&bytes);
        let signature = key.sign(&before).unwrap();
        flip(&mut bytes, bit);
        let after = link::digest(&bytes);
        prop_assert_ne!(before, after);
        prop_assert!(key.public_key().unwrap().verify(&after, &signature).is_err());
        if let Ok(read) = LinkHeader::decode(&bytes) {
            prop_assert_ne!(read, header);
        }
    }

    #[test]
    fn one_flipped_bit_in_a_signature_never_goes_unnoticed(bit in any::<prop::sample::Index>()) {
        let digest = keys::p256_digest();
        let (p256, mut signature) = keys::p256();
        flip(&mut signature, bit);
        prop_assert!(p256.verify(&digest, &signature).is_err());
        let ed25519 = keys::signing_key();
        let mut signature = ed25519.sign(&digest).unwrap();
        flip(&mut signature, bit);
        prop_assert!(ed25519.public_key().unwrap().verify(&digest, &signature).is_err());
    }

    #[test]
    fn one_flipped_bit_in_a_frame_gives_another_message_or_none(
        which in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let (_, frame) = which.get(&frames::frames()).clone();
        let mut bytes = frame.encode().unwrap();
        flip(&mut bytes, bit);
        if let Ok(Some((read, length))) = Control::decode(&bytes) {
            prop_assert!(read != frame || length < bytes.len() || matches!(read, Control::Ignorable(_)));
        }
    }

    #[test]
    fn a_chain_is_the_same_whatever_order_its_links_came_in((one, other) in arrivals()) {
        prop_assert_eq!(chain_of(&one), chain_of(&other));
        prop_assert_eq!(chain_of(&one).runs().to_vec(), runs_of(&one));
    }

    #[test]
    fn known_and_missing_sequences_are_all_sequences_and_never_both((arrivals, _) in arrivals()) {
        let chain = chain_of(&arrivals);
        let (known, gaps) = (chain.known(), chain.gaps());
        let newest = chain.newest().map(|end| end.sequence);
        for sequence in 0..45 {
            prop_assert_eq!(covers(&known, sequence), arrivals.iter().any(|joint| joint.sequence == sequence));
            let missing = newest.is_some_and(|newest| sequence < newest) && !covers(&known, sequence);
            prop_assert_eq!(covers(&gaps, sequence), missing);
        }
        let missing = (0..).find(|sequence| !covers(&known, *sequence)).unwrap();
        prop_assert_eq!(chain.first_missing(), missing);
        for broken in chain.breaks() {
            prop_assert_eq!(broken.found, named("nowhere"));
            prop_assert_eq!(broken.expected, honest(broken.sequence - 1).digest);
        }
    }

    #[test]
    fn a_receipt_of_any_log_is_believed_and_the_two_opinions_agree((entries, index) in log()) {
        let receipt = receipts::receipts_of(&entries).swap_remove(index);
        receipt::verify(&receipt, &receipt.digest, &receipts::log_key()).unwrap();
        prop_assert!(second_opinion(&receipt));
    }

    #[test]
    fn one_flipped_bit_in_a_receipt_is_never_believed((entries, index) in log(), bit in any::<prop::sample::Index>()) {
        let good = receipts::receipts_of(&entries).swap_remove(index);
        let log = receipts::log_key();
        let mut time = good.clone();
        time.received_at ^= 1 << bit.index(53);
        prop_assert!(receipt::verify(&time, &good.digest, &log).is_err());
        let mut place = good.clone();
        place.log_index ^= 1 << bit.index(64);
        prop_assert!(receipt::verify(&place, &good.digest, &log).is_err());
        prop_assert!(!second_opinion(&place));
        let mut link = good.clone();
        flip(&mut link.digest.0, bit);
        prop_assert!(receipt::verify(&link, &good.digest, &log).is_err());
        prop_assert!(receipt::verify(&link, &link.digest, &log).is_err());
        if !good.proof.is_empty() {
            let mut proof = good.clone();
            let at = bit.index(proof.proof.len());
            flip(&mut proof.proof[at].0, bit);
            prop_assert!(receipt::verify(&proof, &good.digest, &log).is_err());
        }
        let mut bytes = good.checkpoint.clone().into_bytes();
        flip(&mut bytes, bit);
        if let Ok(checkpoint) = String::from_utf8(bytes) {
            let altered = Receipt { checkpoint, ..good.clone() };
            prop_assert!(receipt::verify(&altered, &good.digest, &log).is_err());
        }
    }

    #[test]
    fn a_proof_for_a_tree_of_any_size_ends_in_an_answer(
        size in any::<u64>(),
        index in any::<u64>(),
        proof in prop::collection::vec(any::<[u8; 32]>(), 0..70),
        ends in any::<bool>(),
    ) {
        let size = if ends { u64::MAX } else { size };
        let proof: Vec<Digest> = proof.into_iter().map(Digest).collect();
        let checkpoint = receipts::checkpoint_of_size(size, &[0; 32]);
        let receipt = Receipt { sequence: 0, digest: Digest::ZERO, received_at: 0, log_index: index, proof, checkpoint };
        prop_assert!(receipt::verify(&receipt, &Digest::ZERO, &receipts::log_key()).is_err());
        prop_assert!(!second_opinion(&receipt));
    }
}

/// The check of the proof by the other implementation.
fn second_opinion(receipt: &Receipt) -> bool {
    let (size, root) = receipts::log_key().open(&receipt.checkpoint).unwrap();
    let proof: Vec<merkle::Hash> = receipt.proof.iter().map(|hash| hash.0).collect();
    let leaf = merkle::leaf(&receipt::entry(&receipt.digest, receipt.received_at));
    merkle::verify(receipt.log_index, size, leaf, &proof, root.0)
}

#[test]
fn links_that_never_agree_cannot_make_more_runs_than_the_limit() {
    let mut chain = Chain::default();
    let mut refused = 0;
    for sequence in 0..2 * RUNS_MAX as u64 {
        let joint = if sequence == 0 { honest(0) } else { stranger(sequence) };
        match chain.admit(&joint) {
            Step::New => chain.insert(joint),
            other => {
                assert_eq!(other, Step::TooFar { resend_from: RUNS_MAX as u64 });
                refused += 1;
            }
        }
    }
    assert_eq!((chain.runs().len(), refused), (RUNS_MAX, RUNS_MAX));
    let last = chain.newest().unwrap();
    let agreeing = Joint { sequence: last.sequence + 1, previous: last.digest, digest: named("next") };
    assert_eq!(chain.admit(&agreeing), Step::New, "a link that agrees is still taken");
}

#[test]
fn the_greatest_sequences_do_not_overflow() {
    let mut chain = Chain::default();
    for sequence in [u64::MAX, u64::MAX - 1, SEQUENCE_MAX + 1] {
        assert_eq!(chain.step(sequence), Step::TooFar { resend_from: 0 });
        assert!(matches!(chain.admit(&honest(sequence)), Step::TooFar { .. }));
    }
    let stored = r#"{"runs":[{"first":18446744073709551615,"last":18446744073709551615,"previous":[0],"digest":[0]}]}"#;
    let zeros = serde_json::to_string(&[0u8; 32]).unwrap();
    chain = serde_json::from_str(&stored.replace("[0]", &zeros)).unwrap();
    assert_eq!(chain.step(u64::MAX), Step::Known);
    assert_eq!(chain.step(0), Step::New);
    assert_eq!(chain.gaps(), [SequenceRange { first: 0, last: u64::MAX - 1 }]);
    assert!(chain.breaks().is_empty());
}

#[test]
fn a_header_of_every_vector_survives_no_cut() {
    for (name, header, _) in links::links() {
        let bytes = header.encode().unwrap();
        for end in 0..bytes.len() {
            assert!(LinkHeader::decode(&bytes[..end]).is_err(), "{name}: the first {end} bytes");
        }
    }
}

#[test]
fn a_hello_that_says_as_much_as_it_may_fits_a_frame() {
    let newest = SEQUENCE_MAX - 2 * RANGES_MAX as u64;
    let waiting =
        (0..RANGES_MAX as u64).map(|n| SequenceRange { first: newest + 2 * n, last: newest + 2 * n }).collect();
    let spool = SpoolSummary { waiting, bytes: u64::MAX, oldest: Some(TIME_US_MAX), newest: Some(TIME_US_MAX) };
    let receipt = Receipt {
        sequence: SEQUENCE_MAX,
        digest: Digest([255; 32]),
        received_at: TIME_US_MAX,
        log_index: u64::MAX,
        proof: vec![Digest([255; 32]); PROOF_HASHES_MAX],
        checkpoint: "a".repeat(CHECKPOINT_BYTES_MAX),
    };
    let software = "a".repeat(TEXT_BYTES_MAX);
    let hello = Control::Hello(Hello { software, clock: TIME_US_MAX, spool, last_receipt: Some(receipt) });
    let frame = hello.encode().unwrap();
    assert_eq!(Control::decode(&frame), Ok(Some((hello, frame.len()))));
}

#[test]
fn a_header_that_is_refused_for_what_it_says_still_names_its_sequence() {
    let (_, mut header, _) = links::links().swap_remove(0);
    header.sequence = 7;
    header.payload_length = 33_554_433;
    let bytes = wire::encode(&header, "link header").unwrap();
    assert_eq!(LinkHeader::decode(&bytes), Err(Error::Mismatch("previous digest and sequence 0")));
    assert_eq!(LinkHeader::sequence_of(&bytes), Some(7));
    header.previous = Digest::of(b"x");
    let too_large = wire::encode(&header, "link header").unwrap();
    assert!(matches!(LinkHeader::decode(&too_large), Err(Error::OverLimit { field: "payload_length", .. })));
    assert_eq!(LinkHeader::sequence_of(&too_large[..too_large.len() - 1]), None);
    header.sequence = SEQUENCE_MAX + 1;
    assert_eq!(LinkHeader::sequence_of(&wire::encode(&header, "link header").unwrap()), None);
}

#[test]
fn a_segment_is_not_refused_for_a_position_that_came_after_its_span() {
    let mut header = golden::links::links()[1].1.clone();
    assert!(matches!(header.content, Content::Media { .. }));
    header.fixes[1].offset_ms = header.duration_us / 1_000 + 500;
    assert_eq!(LinkHeader::decode(&header.encode().unwrap()), Ok(header));
}
