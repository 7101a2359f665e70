//! Every kind of tampering with a run of links is found, named for what it is, and blamed on the link that it was done to alone.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

use aigaq_proto::link::{LossCause, StopCause};
use aigaq_proto::signature::{PublicKey, SigningKey};
use aigaq_proto::verdict::{Facts, Finding, Judge, Payload, Place, Report, Verdict, What};
use aigaq_proto::{Content, Digest, LinkHeader, RecorderId, link};
use aws_lc_rs::signature::Ed25519KeyPair;
use proptest::prelude::*;

/// A link as a bundle has it.
#[derive(Debug, Clone)]
struct Held {
    sequence: u64,
    digest: Digest,
    header: Vec<u8>,
    signature: Vec<u8>,
    payload: Vec<u8>,
    place: Place,
    inside: bool,
}

struct Recorder {
    key: SigningKey,
    id: RecorderId,
}

impl Recorder {
    fn new() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let key = SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap();
        let id = key.public_key().unwrap().recorder_id();
        Self { key, id }
    }

    fn link(&self, sequence: u64, previous: Digest, content: Content, payload: Vec<u8>) -> Held {
        let media = matches!(content, Content::Media { .. });
        let header = LinkHeader {
            recorder: self.id,
            sequence,
            previous,
            captured_at: 1_000_000 + sequence * 2_000_000,
            duration_us: if media { 2_000_000 } else { 0 },
            payload_length: u32::try_from(payload.len()).unwrap(),
            payload_digest: Digest::of(&payload),
            content,
            fixes: Vec::new(),
        };
        let header = header.encode().unwrap();
        let digest = link::digest(&header);
        let signature = self.key.sign(&digest).unwrap().to_vec();
        Held { sequence, digest, header, signature, payload, place: Place::Proven, inside: true }
    }

    /// A recording of `segments`, from its start to its stop.
    fn recording(&self, segments: u64) -> Vec<Held> {
        let mut links: Vec<Held> = Vec::new();
        for sequence in 0..segments + 2 {
            let previous = links.last().map_or(Digest::ZERO, |link| link.digest);
            let content = match sequence {
                0 => Content::Start { codecs: String::new() },
                _ if sequence == segments + 1 => Content::Stop { recording: 0, cause: StopCause::Wearer },
                _ => Content::Media { recording: 0, ordinal: sequence - 1, independent: true },
            };
            let payload = if sequence <= segments { segment(sequence) } else { Vec::new() };
            links.push(self.link(sequence, previous, content, payload));
        }
        links
    }

    fn judge(&self, links: &[Held]) -> Report {
        let keys: Vec<PublicKey> = vec![self.key.public_key().unwrap()];
        let mut judge = Judge::new(self.id, keys);
        for link in links {
            judge.link(&facts(link));
        }
        judge.finish()
    }
}

fn facts(link: &Held) -> Facts<'_> {
    let length = link.payload.len() as u64;
    let boxes = link.payload.get(4..8) == Some(b"moof");
    let present = Payload::Present { digest: Digest::of(&link.payload), length, boxes };
    Facts {
        sequence: link.sequence,
        digest: link.digest,
        header: &link.header,
        signature: &link.signature,
        agrees: true,
        place: link.place,
        payload: if length == 0 { Payload::Absent } else { present },
        inside: link.inside,
    }
}

/// A payload that no other link has, not even when one of its bits is flipped.
fn segment(sequence: u64) -> Vec<u8> {
    [&[0, 0, 0, 48], &b"moof"[..], &Digest::of(&sequence.to_be_bytes()).0, &[7; 8]].concat()
}

fn one(sequence: u64, what: What) -> Vec<Finding> {
    vec![Finding { first: sequence, last: sequence, what }]
}

/// A recording and one of its media links.
fn recordings() -> impl Strategy<Value = (u64, u64)> {
    (4_u64..12).prop_flat_map(|segments| (Just(segments), 1..=segments))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_whole_recording_is_authentic(segments in 0_u64..12) {
        let recorder = Recorder::new();
        let report = recorder.judge(&recorder.recording(segments));
        prop_assert_eq!(report.verdict, Verdict::Authentic);
        prop_assert_eq!(report.findings, Vec::new());
        prop_assert_eq!(report.links, segments + 2);
    }

    #[test]
    fn a_flipped_bit_of_a_header_is_an_altered_header((segments, at) in recordings(), bit in 0_usize..4096) {
        let recorder = Recorder::new();
        let mut links = recorder.recording(segments);
        let header = &mut links[at as usize].header;
        let bit = bit % (header.len() * 8);
        header[bit / 8] ^= 1 << (bit % 8);
        let report = recorder.judge(&links);
        prop_assert_eq!(report.verdict, Verdict::NotAuthentic);
        prop_assert!(report.findings.iter().all(|finding| (finding.first, finding.last) == (at, at)), "{:?}", report);
        let named = |finding: &Finding| matches!(finding.what, What::AlteredHeader | What::Spliced);
        prop_assert!(report.findings.iter().any(named), "{:?}", report);
    }

    #[test]
    fn a_flipped_bit_of_a_signature_is_a_bad_signature((segments, at) in recordings(), bit in 0_usize..512) {
        let recorder = Recorder::new();
        let mut links = recorder.recording(segments);
        links[at as usize].signature[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(recorder.judge(&links).findings, one(at, What::BadSignature));
    }

    #[test]
    fn a_flipped_bit_of_a_payload_is_an_altered_payload((segments, at) in recordings(), bit in 0_usize..384) {
        let recorder = Recorder::new();
        let mut links = recorder.recording(segments);
        links[at as usize].payload[bit / 8] ^= 1 << (bit % 8);
        let report = recorder.judge(&links);
        prop_assert_eq!(report.verdict, Verdict::NotAuthentic);
        prop_assert_eq!(report.findings, one(at, What::AlteredPayload));
    }

    #[test]
    fn a_dropped_link_is_a_gap((segments, at) in recordings()) {
        let recorder = Recorder::new();
        let mut links = recorder.recording(segments);
        links.remove(at as usize);
        let report = recorder.judge(&links);
        prop_assert_eq!(report.verdict, Verdict::AuthenticWithGaps);
        prop_assert_eq!(report.findings, one(at, What::Dropped));
    }

    #[test]
    fn two_links_that_changed_places_are_swapped((segments, at) in recordings()) {
        let recorder = Recorder::new();
        let mut links = recorder.recording(segments);
        links.swap(at as usize, at as usize + 1);
        let report = recorder.judge(&links);
        prop_assert_eq!(report.verdict, Verdict::NotAuthentic);
        prop_assert_eq!(report.findings, one(at, What::Swapped));
    }

    #[test]
    fn two_payloads_that_changed_places_are_swapped((segments, at) in recordings(), other in 1_u64..12) {
        let other = 1 + other % segments;
        prop_assume!(other != at);
        let recorder = Recorder::new();
        let mut links = recorder.recording(segments);
        let payload = links[at as usize].payload.clone();
        links[at as usize].payload = std::mem::replace(&mut links[other as usize].payload, payload);
        let report = recorder.judge(&links);
        prop_assert_eq!(report.verdict, Verdict::NotAuthentic);
        let found: Vec<_> = report.findings.iter().flat_map(|one| (one.first..=one.last).map(|at| (at, one.what))).collect();
        prop_assert_eq!(found, vec![(at.min(other), What::SwappedPayload), (at.max(other), What::SwappedPayload)]);
    }

    #[test]
    fn a_link_that_stands_there_twice_is_a_duplicate((segments, at) in recordings()) {
        let recorder = Recorder::new();
        let mut links = recorder.recording(segments);
        links.insert(at as usize, links[at as usize].clone());
        let report = recorder.judge(&links);
        prop_assert_eq!(report.verdict, Verdict::NotAuthentic);
        prop_assert_eq!(report.findings, one(at, What::Duplicate));
    }

    #[test]
    fn a_payload_in_anothers_place_is_a_copy((segments, at) in recordings(), other in 1_u64..12) {
        let other = 1 + other % segments;
        prop_assume!(other != at);
        let recorder = Recorder::new();
        let mut links = recorder.recording(segments);
        links[at as usize].payload = links[other as usize].payload.clone();
        prop_assert_eq!(recorder.judge(&links).findings, one(at, What::DuplicatedPayload));
    }

    #[test]
    fn a_link_of_another_recorder_is_spliced((segments, at) in recordings()) {
        let (recorder, stranger) = (Recorder::new(), Recorder::new());
        let mut links = recorder.recording(segments);
        links[at as usize] = stranger.recording(segments)[at as usize].clone();
        let report = recorder.judge(&links);
        prop_assert_eq!(report.verdict, Verdict::NotAuthentic);
        prop_assert_eq!(report.findings, one(at, What::Spliced));
    }

    #[test]
    fn footage_of_another_length_was_encoded_anew((segments, at) in recordings(), more in 1_usize..64) {
        let recorder = Recorder::new();
        let mut links = recorder.recording(segments);
        links[at as usize].payload.extend(vec![0; more]);
        let report = recorder.judge(&links);
        prop_assert_eq!(report.verdict, Verdict::NotAuthentic);
        prop_assert_eq!(report.findings, one(at, What::ReEncoded));
    }

    #[test]
    fn another_link_of_the_recorder_in_its_place_breaks_the_chain((segments, at) in recordings()) {
        let recorder = Recorder::new();
        let mut links = recorder.recording(segments);
        let content = Content::Media { recording: 0, ordinal: at - 1, independent: false };
        links[at as usize] = recorder.link(at, links[at as usize - 1].digest, content, segment(99));
        let report = recorder.judge(&links);
        prop_assert_eq!(report.verdict, Verdict::NotAuthentic);
        prop_assert_eq!(report.findings, one(at + 1, What::Broken));
    }

    #[test]
    fn a_link_that_the_log_does_not_have_is_named((segments, at) in recordings()) {
        let recorder = Recorder::new();
        let mut links = recorder.recording(segments);
        links[at as usize].place = Place::Refuted;
        prop_assert_eq!(recorder.judge(&links).findings, one(at, What::NotInLog));
    }

    #[test]
    fn whatever_stands_there_nothing_panics(
        (segments, at) in recordings(), header in prop::collection::vec(any::<u8>(), 0..200), sequence in any::<u64>(),
    ) {
        let recorder = Recorder::new();
        let mut links = recorder.recording(segments);
        links[at as usize].header = header;
        links[at as usize].sequence = sequence;
        prop_assert_eq!(recorder.judge(&links).verdict, Verdict::NotAuthentic);
    }
}

#[test]
fn an_end_without_a_stop_is_an_unproved_tail() {
    let recorder = Recorder::new();
    let mut links = recorder.recording(4);
    links.pop();
    let report = recorder.judge(&links);
    assert_eq!(report.verdict, Verdict::AuthenticWithGaps);
    assert_eq!(report.findings, one(4, What::UnprovedTail));
}

#[test]
fn a_link_beside_the_range_proves_its_end() {
    let recorder = Recorder::new();
    let mut links = recorder.recording(4);
    links.pop();
    links[4].inside = false;
    assert_eq!(recorder.judge(&links).verdict, Verdict::Authentic);
}

#[test]
fn a_loss_that_the_recorder_states_is_named_so() {
    let recorder = Recorder::new();
    let mut links = recorder.recording(4);
    let content = Content::Lost { first: 2, last: 3, from: 0, to: 1, cause: LossCause::StorageFull };
    links.push(recorder.link(6, links[5].digest, content, Vec::new()));
    links.push(recorder.link(7, links[6].digest, Content::Stop { recording: 0, cause: StopCause::Fault }, Vec::new()));
    links.drain(2..4);
    let report = recorder.judge(&links);
    assert_eq!(report.verdict, Verdict::AuthenticWithGaps);
    assert_eq!(report.findings, vec![Finding { first: 2, last: 3, what: What::LostOnDevice }]);
}

#[test]
fn links_that_await_their_witnesses_are_pending() {
    let recorder = Recorder::new();
    let mut links = recorder.recording(4);
    links[5].place = Place::Pending;
    assert_eq!(recorder.judge(&links).verdict, Verdict::Pending);
}

#[test]
fn a_recording_without_signatures_is_unsigned_and_one_with_some_is_not_authentic() {
    let recorder = Recorder::new();
    let mut links = recorder.recording(4);
    links[2].signature.fill(0);
    assert_eq!(recorder.judge(&links).verdict, Verdict::NotAuthentic);
    links.iter_mut().for_each(|link| link.signature.fill(0));
    assert_eq!(recorder.judge(&links).verdict, Verdict::Unsigned);
}

#[test]
fn the_other_side_of_a_fork_is_found() {
    let recorder = Recorder::new();
    let links = recorder.recording(4);
    let content = Content::Media { recording: 0, ordinal: 1, independent: true };
    let other = recorder.link(2, links[1].digest, content, segment(77));
    let mut judge = Judge::new(recorder.id, vec![recorder.key.public_key().unwrap()]);
    for link in &links {
        let _ = judge.link(&facts(link));
    }
    judge.fork(&facts(&other));
    let report = judge.finish();
    assert_eq!(report.verdict, Verdict::NotAuthentic);
    assert_eq!(report.findings, one(2, What::Fork));
}
