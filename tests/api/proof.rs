//! What the links of a range are worth over the API, and the evidence beside the chain.

use aigaq_proto::message::RefusalReason;
use serde_json::{Value, json};

use crate::rig::{Device, Rig, at, problem};

async fn verdict(rig: &Rig, device: &Device) -> Value {
    rig.json(&format!("/v1/recorders/{}/verdict?from={}&to={}", device.id, at(0), at(4))).await
}

/// The verdict and what decides it.
async fn judged(rig: &Rig, device: &Device) -> (String, Vec<(String, u64, u64)>) {
    let document = verdict(rig, device).await;
    let finding = |one: &Value| {
        (one["what"].as_str().unwrap().to_owned(), one["first"].as_u64().unwrap(), one["last"].as_u64().unwrap())
    };
    let findings = document["findings"].as_array().unwrap().iter().map(finding).collect();
    (document["verdict"].as_str().unwrap().to_owned(), findings)
}

#[tokio::test]
async fn a_whole_chain_is_authentic_and_one_with_a_hole_has_a_gap_that_is_named() {
    let rig = Rig::start().await;
    let (mut whole, mut gapped) = (rig.officer(), rig.officer());
    for device in [&mut whole, &mut gapped] {
        rig.send(device.chain.start(&device.key)).await;
        rig.send(device.chain.media(&device.key, vec![1; 100].into())).await;
    }
    let tail = vec![("unproved-tail".to_owned(), 1, 1)];
    assert_eq!(
        judged(&rig, &whole).await,
        ("authentic-with-gaps".to_owned(), tail),
        "nothing says that it ended there"
    );
    let _never_sent = gapped.chain.media(&gapped.key, vec![2; 100].into());
    gapped.chain.captured_at -= 2_000_000;
    for device in [&mut whole, &mut gapped] {
        rig.send(device.chain.media(&device.key, vec![3; 100].into())).await;
        rig.send(device.chain.stop(&device.key)).await;
    }
    assert_eq!(judged(&rig, &whole).await, ("authentic".to_owned(), vec![]));
    assert_eq!(judged(&rig, &gapped).await, ("authentic-with-gaps".to_owned(), vec![("dropped".to_owned(), 2, 2)]));
    assert_eq!(verdict(&rig, &gapped).await["links"], 4);
}

#[tokio::test]
async fn both_sides_of_a_fork_and_what_failed_a_check_are_listed_with_their_reasons() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.send(device.chain.start(&device.key)).await;
    let mut other = device.chain.clone();
    let kept = device.chain.media(&device.key, vec![1; 100].into());
    let digest = kept.digest.to_string();
    rig.send(kept).await;
    let id = device.id;
    assert_eq!(rig.json(&format!("/v1/recorders/{id}/forks")).await, json!({ "forks": [] }));
    assert_eq!(rig.json(&format!("/v1/recorders/{id}/quarantine")).await, json!({ "quarantined": [] }));
    let fork = other.media(&device.key, vec![9; 70].into());
    let beside = fork.digest.to_string();
    rig.offer(fork, None).await;
    let bad = other.media(&device.key, vec![8; 60].into());
    rig.offer(bad, Some(RefusalReason::BadSignature)).await;

    let forks = rig.json(&format!("/v1/recorders/{id}/forks")).await;
    let [one] = &forks["forks"].as_array().unwrap()[..] else { panic!("{forks}") };
    assert_eq!((&one["sequence"], &one["kept"]["digest"]), (&json!(1), &json!(digest)));
    assert_eq!(one["other"]["digest"], beside);
    let quarantine = rig.json(&format!("/v1/recorders/{id}/quarantine")).await;
    let [one] = &quarantine["quarantined"].as_array().unwrap()[..] else { panic!("{quarantine}") };
    assert_eq!((&one["reason"], &one["sequence"]), (&json!("bad-signature"), &json!(2)));
    assert_eq!(one["payload_bytes"], 60);
    let (verdict, findings) = judged(&rig, &device).await;
    assert_eq!(verdict, "not-authentic");
    assert!(findings.contains(&("fork".to_owned(), 1, 1)), "{findings:?}");
}

#[tokio::test]
async fn evidence_comes_page_by_page() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.send(device.chain.start(&device.key)).await;
    for number in 0..103_u8 {
        let bad = device.chain.clone().media(&device.key, vec![number; 10].into());
        rig.offer(bad, Some(RefusalReason::DigestMismatch)).await;
    }
    let path = format!("/v1/recorders/{}/quarantine", device.id);
    let (first, rest) = (rig.json(&path).await, rig.json(&format!("{path}?skip=100")).await);
    assert_eq!((first["quarantined"].as_array().unwrap().len(), &first["next"]), (100, &json!(100)));
    assert_eq!((rest["quarantined"].as_array().unwrap().len(), rest.get("next")), (3, None));
}

#[tokio::test]
async fn a_verdict_on_nobody_or_on_nothing_is_a_problem() {
    let rig = Rig::start().await;
    let id = rig.officer().id;
    let unknown = "00".repeat(16);
    for (path, status) in [
        (format!("/v1/recorders/{unknown}/verdict?from={}&to={}", at(0), at(1)), 404),
        (format!("/v1/recorders/{unknown}/forks"), 404),
        (format!("/v1/recorders/{unknown}/quarantine"), 404),
        (format!("/v1/recorders/{id}/verdict?from={}&to={}", at(1), at(0)), 400),
        (format!("/v1/recorders/{id}/verdict?from={}&to=2026-03-17T09:14:00Z", at(0)), 400),
        (format!("/v1/recorders/{id}/forks?skip=-1"), 400),
    ] {
        problem(rig.get(&path).await, status, &path).await;
    }
}

/// Asks for a payload; status and bytes.
async fn payload(rig: &Rig, path: &str) -> (u16, Vec<u8>) {
    let answer = rig.get(path).await;
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

#[tokio::test]
async fn the_payloads_of_both_sides_of_a_fork_and_of_quarantine_are_given_as_they_arrived() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.send(device.chain.start(&device.key)).await;
    let mut other = device.chain.clone();
    rig.send(device.chain.media(&device.key, vec![1; 100].into())).await;
    rig.offer(other.media(&device.key, vec![9; 70].into()), None).await;
    rig.offer(other.media(&device.key, vec![8; 60].into()), Some(RefusalReason::BadSignature)).await;
    let id = device.id;
    let forks = rig.json(&format!("/v1/recorders/{id}/forks")).await;
    let [kept, beside] = ["kept", "other"].map(|side| forks["forks"][0][side]["payload"].as_str().unwrap().to_owned());
    assert_eq!(payload(&rig, &kept).await, (200, vec![1; 100]));
    assert_eq!(payload(&rig, &beside).await, (200, vec![9; 70]));
    let listed = rig.json(&format!("/v1/recorders/{id}/quarantine")).await;
    let bad = listed["quarantined"][0]["payload"].as_str().unwrap().to_owned();
    assert_eq!(payload(&rig, &bad).await, (200, vec![8; 60]));
    let answer = rig.ask(reqwest::Method::GET, &bad, &[("range", "bytes=1-3")]).await;
    let headers = answer.headers();
    assert_eq!(
        (answer.status().as_u16(), headers["content-type"].to_str().unwrap()),
        (206, "application/octet-stream")
    );
    let of = |name: &str| headers[name].to_str().unwrap();
    assert_eq!((of("content-disposition"), of("x-content-type-options")), ("attachment", "nosniff"));
    let views = rig.audit().into_iter().filter(|entry| entry.event.name() == "view").count();
    assert_eq!(views, 4, "each is written down");
    let digest = kept.split('/').nth(6).unwrap();
    for (path, status) in [
        (kept.replace(digest, &"0".repeat(64)), 404),
        (kept.replace("/forks/1/", "/forks/0/"), 404),
        (kept.replace(digest, "x"), 400),
        (bad.replace("/quarantine/", "/quarantine/9"), 404),
        (format!("/v1/recorders/{id}/quarantine/x/payload"), 400),
    ] {
        problem(rig.get(&path).await, status, &path).await;
    }
}

#[tokio::test]
async fn what_is_not_open_is_shown_as_evidence_with_a_reason_alone() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.send(device.chain.start(&device.key)).await;
    rig.offer(device.chain.clone().media(&device.key, vec![8; 60].into()), Some(RefusalReason::BadSignature)).await;
    let class = json!({ "class": "restricted", "reason": "case 17" });
    let classified =
        rig.send_json(reqwest::Method::PUT, &format!("/v1/recorders/{}/class", device.id), &class, &[]).await;
    assert_eq!(classified.status(), 200);
    let listed = rig.json(&format!("/v1/recorders/{}/quarantine", device.id)).await;
    let bad = listed["quarantined"][0]["payload"].as_str().unwrap().to_owned();
    problem(rig.get(&bad).await, 403, "no reason").await;
    let answer = rig.ask(reqwest::Method::GET, &bad, &[("x-aigaq-reason", "case 17")]).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_flipped_bit_in_what_is_stored_is_found_by_a_verdict_and_named_with_its_link() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.send(device.chain.start(&device.key)).await;
    for number in 0..2_u8 {
        rig.send(device.chain.media(&device.key, vec![number; 1_000].into())).await;
    }
    rig.send(device.chain.stop(&device.key)).await;
    let sound = verdict(&rig, &device).await;
    assert_eq!((&sound["verdict"], &sound["gaps"]), (&json!("authentic"), &json!(0)));
    let hashed = json!({ "hashed": 3, "hashed_bytes": 2_014, "unread": 0, "scrubbed_since": null });
    assert_eq!(sound["payloads"], hashed, "what was hashed is told");
    rig.damage(&device, 2);
    let (verdict, findings) = judged(&rig, &device).await;
    assert_eq!((verdict.as_str(), &findings[..]), ("authentic-with-gaps", &[("damaged".to_owned(), 2, 2)][..]));
}
