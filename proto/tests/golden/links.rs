//! Link vectors: one chain with a link of every kind of content, each with its fields, bytes, digest and signature.

use aigaq_proto::frame::encode_link_prelude;
use aigaq_proto::link::{Content, Fix, LossCause, StopCause, digest};
use aigaq_proto::{Digest, LinkHeader};
use serde_json::{Value, json};

use super::{hex, keys};

/// 2026-01-17T09:14:02Z.
pub const MORNING: u64 = 1_768_641_242_000_000;

/// Name, content, duration, payload and fixes of a link.
type Planned = (&'static str, Content, u32, &'static [u8], Vec<Fix>);

/// The links of the chain, in order.
fn plan() -> Vec<Planned> {
    let here = Fix {
        offset_ms: 0,
        latitude_e7: 511_605_230,
        longitude_e7: 714_703_560,
        accuracy_dm: 45,
        speed_cms: 140,
        course_cdeg: 27_000,
    };
    let south_west = Fix {
        offset_ms: 1_000,
        latitude_e7: -1,
        longitude_e7: -1_800_000_000,
        accuracy_dm: u16::MAX,
        speed_cms: u16::MAX,
        course_cdeg: u16::MAX,
    };
    let media = |ordinal, independent| Content::Media { recording: 0, ordinal, independent };
    let mark =
        Content::Mark {
            category: "bribe-attempt".into(), note: "Ұсыныс жасалды".into(), before_s: 30, after_s: 120
        };
    let health = Content::Health {
        battery_percent: 87,
        storage_free_bytes: 51_539_607_552,
        backlog_bytes: 0,
        temperature_centi: -1_250,
        firmware: "1.4.2".into(),
    };
    let lost =
        Content::Lost { first: 2, last: 5, from: MORNING, to: MORNING + 3_966_667, cause: LossCause::StorageFull };
    vec![
        ("start", Content::Start { codecs: "avc1.64001f,mp4a.40.2".into() }, 0, b"ftyp moov", vec![]),
        ("media with two fixes", media(0, true), 2_000_000, b"moof mdat 0", vec![here, south_west]),
        ("media", media(1, false), 1_966_667, b"moof mdat 1", vec![]),
        ("mark", mark, 0, b"", vec![here]),
        ("health", health, 0, b"", vec![]),
        ("clock step", Content::ClockStep { before: 5_000_000, after: MORNING + 6_000_000 }, 0, b"", vec![]),
        ("stop", Content::Stop { recording: 0, cause: StopCause::Shutdown }, 0, b"", vec![]),
        ("lost", lost, 0, b"", vec![]),
    ]
}

/// Every link of the chain: name, header, payload.
pub fn links() -> Vec<(&'static str, LinkHeader, &'static [u8])> {
    let mut previous = Digest::ZERO;
    let mut links = Vec::new();
    for (sequence, (name, content, duration_us, payload, fixes)) in (0u64..).zip(plan()) {
        let header = LinkHeader {
            recorder: keys::recorder(),
            sequence,
            previous,
            captured_at: MORNING + sequence * 1_000_000,
            duration_us,
            payload_length: payload.len().try_into().unwrap(),
            payload_digest: Digest::of(payload),
            content,
            fixes,
        };
        previous = digest(&header.encode().unwrap());
        links.push((name, header, payload));
    }
    links
}

fn content_json(content: &Content) -> Value {
    match content {
        Content::Start { codecs } => json!({ "start": { "codecs": codecs } }),
        Content::Media { recording, ordinal, independent } => {
            json!({ "media": { "recording": recording, "ordinal": ordinal, "independent": independent } })
        }
        Content::Mark { category, note, before_s, after_s } => {
            json!({ "mark": { "category": category, "note": note, "before_s": before_s, "after_s": after_s } })
        }
        Content::Health { battery_percent, storage_free_bytes, backlog_bytes, temperature_centi, firmware } => {
            json!({ "health": {
                "battery_percent": battery_percent,
                "storage_free_bytes": storage_free_bytes,
                "backlog_bytes": backlog_bytes,
                "temperature_centi": temperature_centi,
                "firmware": firmware,
            } })
        }
        Content::Stop { recording, cause } => json!({ "stop": { "recording": recording, "cause": cause } }),
        Content::Lost { first, last, from, to, cause } => {
            json!({ "lost": { "first": first, "last": last, "from": from, "to": to, "cause": cause } })
        }
        Content::ClockStep { before, after } => json!({ "clock_step": { "before": before, "after": after } }),
    }
}

fn header_json(header: &LinkHeader) -> Value {
    json!({
        "recorder": header.recorder.to_string(),
        "sequence": header.sequence,
        "previous": header.previous.to_string(),
        "captured_at": header.captured_at,
        "duration_us": header.duration_us,
        "payload_length": header.payload_length,
        "payload_digest": header.payload_digest.to_string(),
        "content": content_json(&header.content),
        "fixes": header.fixes,
    })
}

/// The content of `links.json`.
pub fn vectors() -> Value {
    let key = keys::signing_key();
    let links: Vec<Value> = links()
        .into_iter()
        .map(|(name, header, payload)| {
            let bytes = header.encode().unwrap();
            let digest = digest(&bytes);
            let signature = key.sign(&digest).unwrap();
            let mut stream = encode_link_prelude(&bytes, &signature).unwrap();
            stream.extend_from_slice(payload);
            json!({
                "name": name,
                "fields": header_json(&header),
                "header": hex(&bytes),
                "digest": digest.to_string(),
                "signature": hex(&signature),
                "payload": hex(payload),
                "stream": hex(&stream),
            })
        })
        .collect();
    json!({
        "about": "SPEC.md sections 4 and 5.1. One chain of the Ed25519 key in keys.json; stream is everything sent before FIN.",
        "links": links,
    })
}
