//! What the links of a range are worth over the API, and the evidence beside the chain.

use aigaq_proto::message::RefusalReason;
use serde_json::{Value, json};

use crate::rig::{Device, Rig, at, problem};

async fn verdict(rig: &Rig, device: &Device) -> Value {
    rig.json(&format!("/v1/recorders/{}/verdict?from={}&to={}", device.id, at(0), at(20))).await
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
