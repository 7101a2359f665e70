//! Bad input: what each decoder must refuse, and how.

use aigaq_proto::frame::{Control, LINK_PREFIX_BYTES, decode_link_prefix};
use aigaq_proto::link::{Content, Fix, LossCause};
use aigaq_proto::message::{ChainEnd, Claim, Drain, Hello, Progress, SpoolSummary, Status};
use aigaq_proto::receipt::LogKey;
use aigaq_proto::signature::PublicKey;
use aigaq_proto::{Digest, Error, LinkHeader, SequenceRange, wire};
use serde_json::{Value, json};

use super::{hex, keys, links, receipts};

/// Hands `bytes` to the decoder of this name.
pub fn decode(decoder: &str, bytes: &[u8]) -> Result<(), Error> {
    let text = || std::str::from_utf8(bytes).unwrap();
    match decoder {
        "link header" => LinkHeader::decode(bytes).map(|_| ()),
        "control frame" => Control::decode(bytes).map(|_| ()),
        "link prefix" => {
            let prefix: [u8; LINK_PREFIX_BYTES] = bytes.try_into().unwrap();
            decode_link_prefix(prefix).map(|_| ())
        }
        "spki" => PublicKey::from_spki(bytes).map(|_| ()),
        "log key" => LogKey::parse(text()).map(|_| ()),
        "checkpoint" => receipts::log_key().open(text()).map(|_| ()),
        other => panic!("no decoder {other}"),
    }
}

type Case = (&'static str, &'static str, Vec<u8>);

fn altered(index: usize, name: &'static str, alter: impl FnOnce(&mut LinkHeader)) -> Case {
    let mut header = links::links().swap_remove(index).1;
    alter(&mut header);
    ("link header", name, wire::encode(&header, "link header").unwrap())
}

fn header_bytes(index: usize) -> Vec<u8> {
    links::links().swap_remove(index).1.encode().unwrap()
}

fn header_cases() -> Vec<Case> {
    let mut trailing = header_bytes(0);
    trailing.push(0);
    let mut cut = header_bytes(2);
    cut.pop();
    // The sequence of link 1 is the byte after the recorder id; 0x81 0x00 is the same number in two bytes.
    let mut overlong = header_bytes(1);
    overlong.splice(16..17, [0x81, 0x00]);
    let mut unknown_kind = header_bytes(6);
    let kind_at = unknown_kind.len() - 4;
    unknown_kind[kind_at] = 7;
    vec![
        ("link header", "nothing", vec![]),
        ("link header", "a byte follows", trailing),
        ("link header", "the last byte is missing", cut),
        ("link header", "a number in more bytes than it needs", overlong),
        ("link header", "an unknown kind of content", unknown_kind),
        ("link header", "larger than any header", vec![0; 8_193]),
    ]
}

/// Gives a mark this category.
fn category(category: &'static str) -> impl FnOnce(&mut LinkHeader) {
    let content = Content::Mark { category: category.into(), note: String::new(), before_s: 0, after_s: 0 };
    |header| header.content = content
}

/// Makes a link say that these are lost.
fn lost(first: u64, last: u64, from: u64, to: u64) -> impl FnOnce(&mut LinkHeader) {
    move |header| header.content = Content::Lost { first, last, from, to, cause: LossCause::StorageFault }
}

fn field_cases() -> Vec<Case> {
    let fix = |fixes: &mut Vec<Fix>, alter: fn(&mut Fix)| alter(&mut fixes[1]);
    vec![
        altered(1, "sequence over the limit", |header| header.sequence = 1 << 53),
        altered(1, "captured_at over the limit", |header| header.captured_at = 1 << 53),
        altered(1, "duration_us over the limit", |header| header.duration_us = 300_000_001),
        altered(1, "payload_length over the limit", |header| header.payload_length = 33_554_433),
        altered(0, "an initialisation segment over its limit", |header| header.payload_length = 1_048_577),
        altered(0, "sequence 0 with a predecessor", |header| header.previous = Digest::of(b"x")),
        altered(1, "sequence 1 without a predecessor", |header| header.previous = Digest::ZERO),
        altered(1, "media without a payload", |header| header.payload_length = 0),
        altered(3, "a mark with a payload", |header| header.payload_length = 1),
        altered(3, "no payload but its digest", |header| header.payload_digest = Digest::of(b"x")),
        altered(0, "a start with a duration", |header| header.duration_us = 1),
        altered(3, "a mark with a duration", |header| header.duration_us = 2_000_000),
        altered(4, "a state of the device with a duration", |header| header.duration_us = 1),
        altered(5, "a clock step with a duration", |header| header.duration_us = 1),
        altered(6, "a stop with a duration", |header| header.duration_us = 1),
        altered(2, "a span that ends after the latest time", |header| header.captured_at = (1 << 53) - 1),
        altered(1, "a recording that begins later", |header| {
            header.content = Content::Media { recording: 1, ordinal: 0, independent: true };
        }),
        altered(1, "an ordinal as great as the sequence", |header| {
            header.content = Content::Media { recording: 0, ordinal: 1, independent: true };
        }),
        altered(0, "codecs with a quotation mark", |header| {
            header.content = Content::Start { codecs: "avc1\",X=\"".into() };
        }),
        altered(0, "codecs over the limit", |header| header.content = Content::Start { codecs: "a".repeat(129) }),
        altered(3, "a mark without a category", |header| {
            header.content = Content::Mark { category: String::new(), note: String::new(), before_s: 0, after_s: 0 };
        }),
        altered(3, "a category with a line break", category("bribe\nattempt")),
        altered(3, "a category with a line separator", category("bribe\u{2028}attempt")),
        altered(3, "a category with a paragraph separator", category("bribe\u{2029}attempt")),
        altered(3, "a category written from right to left", category("bribe\u{202e}tpmetta")),
        altered(3, "a category with an embedding", category("\u{202a}bribe")),
        altered(3, "a category with an isolate", category("bribe\u{2066}attempt\u{2069}")),
        altered(7, "a lost range that ends before it begins", lost(3, 2, 0, 1)),
        altered(7, "a lost range that holds the link itself", lost(3, 7, 0, 1)),
        altered(7, "a lost time that ends before it begins", lost(3, 4, 2, 1)),
        altered(7, "a lost time over the limit", lost(3, 4, 2, 1 << 53)),
        altered(4, "a battery beyond full", |header| {
            if let Content::Health { battery_percent, .. } = &mut header.content {
                *battery_percent = 101;
            }
        }),
        altered(1, "a latitude beyond the pole", |header| fix(&mut header.fixes, |f| f.latitude_e7 = -900_000_001)),
        altered(1, "a longitude beyond the antimeridian", |header| {
            fix(&mut header.fixes, |f| f.longitude_e7 = 1_800_000_001);
        }),
        altered(1, "a course beyond the circle", |header| fix(&mut header.fixes, |f| f.course_cdeg = 36_000)),
        altered(1, "a fix later than any span", |header| fix(&mut header.fixes, |f| f.offset_ms = 300_001)),
        altered(1, "fixes out of order", |header| header.fixes.reverse()),
        altered(2, "fixes over the limit", |header| {
            let fix = links::links()[1].1.fixes[0];
            header.fixes = vec![fix; 129];
        }),
    ]
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    frame.extend(body);
    frame
}

fn frame_cases() -> Vec<Case> {
    let drain = wire::encode(&Drain { reconnect_after_ms: 1 }, "Drain").unwrap();
    let waiting = |ranges: &[(u64, u64)]| {
        let waiting = ranges.iter().map(|(first, last)| SequenceRange { first: *first, last: *last }).collect();
        let status = Status { clock: 0, spool: SpoolSummary { waiting, ..SpoolSummary::default() } };
        frame(0x02, &wire::encode(&status, "Status").unwrap())
    };
    let long_name = Hello { software: "a".repeat(513), clock: 0, spool: SpoolSummary::default(), last_receipt: None };
    let mut receipt = receipts::receipts().swap_remove(2);
    receipt.proof = vec![Digest::ZERO; 65];
    let long_proof = Hello { software: String::new(), last_receipt: Some(receipt), ..long_name.clone() };
    let claim = |sequences: &[u64]| {
        let end = |sequence: &u64| ChainEnd { sequence: *sequence, digest: Digest::ZERO };
        frame(0x03, &wire::encode(&Claim { links: sequences.iter().map(end).collect() }, "Claim").unwrap())
    };
    let progress = |links_left, bytes_left| {
        let progress = Progress { id: 1, links: 5, links_left, bytes: 50, bytes_left };
        frame(0x04, &wire::encode(&progress, "Progress").unwrap())
    };
    let many: Vec<(u64, u64)> = (0..1_025).map(|n| (2 * n, 2 * n)).collect();
    vec![
        ("control frame", "an unknown type", frame(0x7f, &[])),
        ("control frame", "a length over the limit", vec![0x15, 0, 1, 0, 1]),
        ("control frame", "a byte after the message", frame(0x15, &[&drain[..], &[0]].concat())),
        ("control frame", "a body that ends early", frame(0x15, &[0x80])),
        ("control frame", "an option that is neither 0 nor 1", frame(0x02, &[0, 0, 0, 2, 0])),
        ("control frame", "text that is not UTF-8", frame(0x01, &[1, 0xff, 0, 0, 0, 0, 0, 0])),
        ("control frame", "a range that ends before it begins", waiting(&[(5, 4)])),
        ("control frame", "ranges that overlap", waiting(&[(0, 4), (4, 6)])),
        ("control frame", "ranges out of order", waiting(&[(5, 6), (0, 1)])),
        ("control frame", "ranges over the limit", waiting(&many)),
        ("control frame", "a link that is claimed twice", claim(&[4, 4])),
        ("control frame", "claims out of order", claim(&[5, 4])),
        ("control frame", "a claim over the limit", claim(&(0..1_025).collect::<Vec<u64>>())),
        ("control frame", "more links left than there are", progress(6, 1)),
        ("control frame", "more bytes left than there are", progress(1, 51)),
        ("control frame", "text over the limit", frame(0x01, &wire::encode(&long_name, "Hello").unwrap())),
        ("control frame", "a last receipt over the limit", frame(0x01, &wire::encode(&long_proof, "Hello").unwrap())),
        ("link prefix", "another kind of stream", vec![2, 0, 1]),
        ("link prefix", "a header over the limit", vec![1, 0x20, 1]),
    ]
}

fn key_cases() -> Vec<Case> {
    let spki = keys::signing_key().public_key().unwrap().to_spki();
    let log_key = receipts::log_key().as_str().to_owned();
    let checkpoint = receipts::receipts().swap_remove(0).checkpoint;
    let text = |text: String| text.into_bytes();
    vec![
        ("spki", "a key that is too short", spki[..43].to_vec()),
        ("spki", "a byte follows the key", [&spki[..], &[0]].concat()),
        ("spki", "X25519", [&spki[..8], &[0x6e], &spki[9..]].concat()),
        ("log key", "no key", text("log.aigaq.example".into())),
        ("log key", "another name", text(log_key.replace("log.", "lag."))),
        ("log key", "a space in the name", text(log_key.replace("log.", "log "))),
        ("checkpoint", "no signature", text(checkpoint.split("\n\n").next().unwrap().to_owned())),
        ("checkpoint", "another tree size", text(checkpoint.replace("\n5\n", "\n4\n"))),
        ("checkpoint", "a signature by another key", text(checkpoint.replace("— log.", "— lag."))),
    ]
}

/// Every case: decoder, name, bytes.
pub fn cases() -> Vec<Case> {
    [header_cases(), field_cases(), frame_cases(), key_cases()].concat()
}

/// The content of `refused.json`.
pub fn vectors() -> Value {
    let cases: Vec<Value> = cases()
        .into_iter()
        .map(|(decoder, name, bytes)| {
            let error = decode(decoder, &bytes).expect_err(name);
            json!({ "decoder": decoder, "name": name, "bytes": hex(&bytes), "error": error.to_string() })
        })
        .collect();
    json!({ "about": "Input that must be refused. The error texts are those of this implementation.", "cases": cases })
}
