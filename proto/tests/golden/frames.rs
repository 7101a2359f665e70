//! Frame vectors: a control frame of every type, smallest and full.

use aigaq_proto::frame::Control;
use aigaq_proto::message::{
    Advice, Cancel, ChainEnd, Claim, Drain, Hello, Progress, Refusal, RefusalReason, Request, SpoolSummary, Status,
    Succession, Unclaimed, Welcome,
};
use aigaq_proto::{Digest, SequenceRange};
use serde_json::{Value, json};

use super::{hex, keys, links, receipts};

fn range(first: u64, last: u64) -> SequenceRange {
    SequenceRange { first, last }
}

fn refusal(reason: RefusalReason, advice: Advice) -> Control {
    let sequence = (reason != RefusalReason::Malformed).then_some(300);
    Control::Refusal(Refusal { stream: 14, sequence, reason, advice, detail: String::new() })
}

/// Every control frame of the vectors, with its name.
pub fn frames() -> Vec<(String, Control)> {
    let digest = Digest::of(b"a link");
    let spool = SpoolSummary {
        waiting: vec![range(3, 5), range(7, 7)],
        bytes: 1_048_576,
        oldest: Some(links::MORNING),
        newest: Some(links::MORNING + 9_000_000),
    };
    let hello = Hello {
        software: "aigaq/0.1.0".into(),
        clock: links::MORNING + 10_000_000,
        spool: spool.clone(),
        last_receipt: Some(receipts::receipts().swap_remove(2)),
    };
    let fresh = Hello { software: String::new(), clock: 0, spool: SpoolSummary::default(), last_receipt: None };
    let welcome = Welcome {
        recorder: keys::recorder(),
        clock: links::MORNING + 10_000_250,
        durable: vec![range(0, 2), range(6, 6)],
        newest: Some(ChainEnd { sequence: 6, digest }),
        payload_bytes_max: 33_554_432,
        links_in_flight_max: 8,
        reserved: Some(9),
    };
    let empty = Welcome { durable: vec![], newest: None, reserved: None, ..welcome.clone() };
    let claim = Claim { links: vec![ChainEnd { sequence: 2, digest }, ChainEnd { sequence: 6, digest }] };
    let progress = Progress { id: 1, links: 120, links_left: 7, bytes: 62_914_560, bytes_left: 3_670_016 };
    let mut frames = vec![
        ("hello of a new recorder".to_owned(), Control::Hello(fresh)),
        ("hello".to_owned(), Control::Hello(hello)),
        ("status".to_owned(), Control::Status(Status { clock: links::MORNING + 40_000_000, spool })),
        ("welcome of a new recorder".to_owned(), Control::Welcome(empty)),
        ("welcome".to_owned(), Control::Welcome(welcome)),
        ("receipt".to_owned(), Control::Receipt(receipts::receipts().swap_remove(2))),
        (
            "request".to_owned(),
            Control::Request(Request {
                id: 1,
                from: links::MORNING,
                to: links::MORNING + 240_000_000,
                expires: links::MORNING + 3_600_000_000,
            }),
        ),
        ("claim".to_owned(), Control::Claim(claim)),
        ("progress".to_owned(), Control::Progress(progress)),
        ("unclaimed".to_owned(), Control::Unclaimed(Unclaimed { sequences: vec![range(2, 2), range(6, 8)] })),
        ("cancel".to_owned(), Control::Cancel(Cancel { id: 1 })),
        ("drain".to_owned(), Control::Drain(Drain { reconnect_after_ms: 4_217 })),
        ("succession".to_owned(), Control::Succession(Succession { notes: "aigaq succession v1\n".to_owned() })),
        ("a type that may be skipped".to_owned(), Control::Ignorable(0x80)),
    ];
    let advice = |reason| match reason {
        RefusalReason::TooFarAhead => Advice::ResendFrom { sequence: 42 },
        RefusalReason::Stalled | RefusalReason::Busy | RefusalReason::StorageFull => {
            Advice::RetryAfter { delay_ms: 1_500 }
        }
        _ => Advice::Never,
    };
    for reason in RefusalReason::ALL {
        frames.push((format!("refusal {reason:?}"), refusal(reason, advice(reason))));
    }
    frames.push(("refusal with the advice to enrol again".into(), refusal(RefusalReason::Quota, Advice::Reenrol)));
    frames
}

/// The content of `frames.json`.
pub fn vectors() -> Value {
    let frames: Vec<Value> = frames()
        .into_iter()
        .map(|(name, frame)| {
            json!({ "name": name, "fields": fields_json(&frame), "frame": hex(&frame.encode().unwrap()) })
        })
        .collect();
    json!({ "about": "SPEC.md sections 5.2 and 6. Each frame with its five bytes of prefix.", "frames": frames })
}

fn ranges_json(ranges: &[SequenceRange]) -> Value {
    ranges.iter().map(|range| json!([range.first, range.last])).collect()
}

fn spool_json(spool: &SpoolSummary) -> Value {
    json!({
        "waiting": ranges_json(&spool.waiting),
        "bytes": spool.bytes,
        "oldest": spool.oldest,
        "newest": spool.newest,
    })
}

fn advice_json(advice: Advice) -> Value {
    match advice {
        Advice::RetryAfter { delay_ms } => json!({ "retry_after": { "delay_ms": delay_ms } }),
        Advice::ResendFrom { sequence } => json!({ "resend_from": { "sequence": sequence } }),
        Advice::Never => json!("never"),
        Advice::Reenrol => json!("reenrol"),
    }
}

fn end_json(end: ChainEnd) -> Value {
    json!({ "sequence": end.sequence, "digest": end.digest.to_string() })
}

fn fields_json(frame: &Control) -> Value {
    match frame {
        Control::Hello(hello) => json!({
            "software": hello.software,
            "clock": hello.clock,
            "spool": spool_json(&hello.spool),
            "last_receipt": hello.last_receipt.as_ref().map(receipts::receipt_json),
        }),
        Control::Status(status) => json!({ "clock": status.clock, "spool": spool_json(&status.spool) }),
        Control::Welcome(welcome) => json!({
            "recorder": welcome.recorder.to_string(),
            "clock": welcome.clock,
            "durable": ranges_json(&welcome.durable),
            "newest": welcome.newest.map(end_json),
            "payload_bytes_max": welcome.payload_bytes_max,
            "links_in_flight_max": welcome.links_in_flight_max,
            "reserved": welcome.reserved,
        }),
        Control::Receipt(receipt) => receipts::receipt_json(receipt),
        Control::Refusal(refusal) => json!({
            "stream": refusal.stream,
            "sequence": refusal.sequence,
            "reason": format!("{:?}", refusal.reason),
            "advice": advice_json(refusal.advice),
            "detail": refusal.detail,
        }),
        Control::Request(request) => {
            json!({ "id": request.id, "from": request.from, "to": request.to, "expires": request.expires })
        }
        Control::Claim(claim) => json!({ "links": claim.links.iter().copied().map(end_json).collect::<Vec<_>>() }),
        Control::Progress(progress) => json!({
            "id": progress.id,
            "links": progress.links,
            "links_left": progress.links_left,
            "bytes": progress.bytes,
            "bytes_left": progress.bytes_left,
        }),
        Control::Unclaimed(unclaimed) => json!({ "sequences": ranges_json(&unclaimed.sequences) }),
        Control::Cancel(cancel) => json!({ "id": cancel.id }),
        Control::Drain(drain) => json!({ "reconnect_after_ms": drain.reconnect_after_ms }),
        Control::Succession(succession) => json!({ "notes": succession.notes }),
        Control::Ignorable(kind) => json!({ "type": kind }),
    }
}
