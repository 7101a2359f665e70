//! The golden vectors and the code say the same. After a wanted change: run the example `vectors`, and read the
//! difference.

#![allow(clippy::unwrap_used)]

mod golden;

use aigaq_proto::frame::{Control, decode_link_prefix};
use aigaq_proto::{Digest, LinkHeader, link, receipt, succession};
use golden::{hex, keys, links, receipts, refused, unhex};
use serde_json::Value;

fn stored(file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden::path(file)).unwrap()).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}"))
}

#[test]
fn the_stored_vectors_are_what_the_code_makes() {
    for (file, value) in golden::files() {
        assert!(stored(file) == value, "{file} differs: run the example `vectors` and read the difference");
    }
}

#[test]
fn every_stored_link_reads_back_and_its_digest_and_signature_hold() {
    let file = stored("links.json");
    let public = keys::signing_key().public_key().unwrap();
    let mut previous = Digest::ZERO;
    for (vector, (_, expected, payload)) in file["links"].as_array().unwrap().iter().zip(links::links()) {
        let bytes = unhex(text(vector, "header"));
        let header = LinkHeader::decode(&bytes).unwrap();
        assert_eq!(header, expected);
        assert_eq!(header.previous, previous);
        assert_eq!(header.payload_digest, Digest::of(payload));
        let digest = link::digest(&bytes);
        assert_eq!(digest.to_string(), text(vector, "digest"));
        let signature = unhex(text(vector, "signature")).try_into().unwrap();
        public.verify(&digest, &signature).unwrap();
        let stream = unhex(text(vector, "stream"));
        assert_eq!(decode_link_prefix(stream[..3].try_into().unwrap()), Ok(bytes.len()));
        assert_eq!(stream[3..].len(), bytes.len() + 64 + payload.len());
        previous = digest;
    }
}

#[test]
fn both_kinds_of_key_verify_their_signature_and_no_other() {
    let digest = keys::p256_digest();
    let (p256, signature) = keys::p256();
    p256.verify(&digest, &signature).unwrap();
    let ed25519 = keys::signing_key();
    let public = ed25519.public_key().unwrap();
    public.verify(&digest, &ed25519.sign(&digest).unwrap()).unwrap();
    assert!(public.verify(&digest, &signature).is_err());
    assert!(p256.verify(&Digest::of(b"other"), &signature).is_err());
}

#[test]
fn every_stored_frame_reads_back() {
    let file = stored("frames.json");
    for (vector, (name, expected)) in file["frames"].as_array().unwrap().iter().zip(golden::frames::frames()) {
        let bytes = unhex(text(vector, "frame"));
        assert_eq!(Control::decode(&bytes), Ok(Some((expected, bytes.len()))), "{name}");
        for end in 0..bytes.len() {
            assert_eq!(Control::decode(&bytes[..end]), Ok(None), "{name}: {end} bytes are not yet a frame");
        }
    }
}

#[test]
fn the_stored_end_of_a_log_leads_to_its_successor_and_no_other_does() {
    let file = stored("succession.json");
    let notes = text(&file, "notes");
    assert_eq!(succession::read(notes).unwrap(), [golden::succession::statement()]);
    let next = succession::follow(notes, &receipts::log_key()).unwrap();
    assert_eq!(next, golden::succession::next_key());
    assert_eq!(next.as_str(), text(&file, "next"));
    let refused = file["refused"].as_array().unwrap();
    assert_eq!(refused.len(), golden::succession::refused().len());
    for case in refused {
        succession::read(text(case, "notes")).expect_err(text(case, "name"));
    }
}

#[test]
fn every_stored_bad_input_is_refused_for_the_stated_reason() {
    let file = stored("refused.json");
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 40, "only {} cases", cases.len());
    for case in cases {
        let error = refused::decode(text(case, "decoder"), &unhex(text(case, "bytes")));
        assert_eq!(error.map_err(|e| e.to_string()), Err(text(case, "error").to_owned()), "{}", text(case, "name"));
    }
}

#[test]
fn the_receipts_are_believed_and_the_unbelievable_are_not() {
    let log = receipts::log_key();
    assert_eq!(log.origin(), receipts::ORIGIN);
    for receipt in receipts::receipts() {
        receipt::verify(&receipt, &receipt.digest, &log).unwrap();
        let frame = Control::Receipt(receipt.clone()).encode().unwrap();
        assert_eq!(Control::decode(&frame).unwrap().unwrap().0, Control::Receipt(receipt), "{}", hex(&frame));
    }
    for (name, receipt) in receipts::unbelievable() {
        receipt::verify(&receipt, &receipt.digest, &log).expect_err(name);
    }
}
