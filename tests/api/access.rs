//! Who may see what, and the trace that it leaves.

use aigaq::store::engine::memory::FailAt;
use reqwest::Method;

use crate::rig::{Rig, TOKEN, at, problem};

#[tokio::test]
async fn without_the_token_nothing_is_shown() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 1).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let id = device.id;
    let paths = [
        "/v1/recorders".to_owned(),
        format!("/v1/recorders/{id}"),
        format!("/v1/recorders/{id}/coverage?from={}&to={}", at(0), at(10)),
        format!("/v1/recorders/{id}/hls/{}/{}/index.m3u8", at(0), at(10)),
        format!("/v1/recorders/{id}/hls/{}/{}/seg-1.m4s", at(0), at(10)),
        format!("/v1/recorders/{id}/live.m3u8"),
        format!("/v1/recorders/{id}/live/seg-1.m4s"),
        format!("/v1/recorders/{id}/clip.mp4?from={}&to={}", at(0), at(10)),
        "/v1/recorders/nonsense".to_owned(),
    ];
    let wrong = format!("Bearer {TOKEN}x");
    let basic = format!("Basic {TOKEN}");
    for path in &paths {
        for header in [None, Some(wrong.as_str()), Some("Bearer "), Some(basic.as_str()), Some(TOKEN)] {
            let mut request = client.get(format!("http://{}{path}", rig.address));
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let response = request.send().await.unwrap();
            assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer "), "{path}");
            problem(response, 401, path).await;
        }
    }
    assert!(rig.audit().iter().all(|entry| entry.outcome == "denied"));
}

#[tokio::test]
async fn two_tokens_are_no_token() {
    let rig = Rig::start().await;
    let request = format!(
        "GET /v1/recorders HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nauthorization: Bearer x\r\n\
         connection: close\r\n\r\n"
    );
    assert!(rig.raw(&request).await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn every_disclosure_has_its_entry() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    let path = format!("/v1/recorders/{}/hls/{}/{}/seg-1.m4s", device.id, at(0), at(10));
    for expected in 1..=20 {
        rig.bytes(&path).await;
        let entries = rig.audit();
        assert_eq!(entries.len(), expected, "one entry per disclosure, there before its answer");
        let entry = entries.last().unwrap();
        assert_eq!(entry.action, format!("GET {path}"));
        assert_eq!(
            (entry.outcome.as_str(), entry.source.as_str(), entry.at),
            ("granted", "127.0.0.1", rig.clock.now())
        );
        assert!(!entry.actor.contains(TOKEN));
    }
}

#[tokio::test]
async fn parallel_disclosures_have_an_entry_each() {
    let rig = Rig::start().await;
    let asked = (0..200).map(|_| rig.get("/v1/recorders"));
    for response in futures_util::future::join_all(asked).await {
        assert_eq!(response.status(), 200);
    }
    assert_eq!(rig.audit().len(), 200);
}

#[tokio::test]
async fn when_the_trail_cannot_be_written_nothing_is_disclosed() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 1).await;
    rig.engine.fail_commit(1, FailAt::Start);
    for path in [format!("/v1/recorders/{}/live/seg-1.m4s", device.id), "/v1/recorders".to_owned()] {
        let told = problem(rig.get(&path).await, 503, &path).await;
        assert_eq!(told.get("detail"), None, "a failure of the server's own says nothing of its inside");
    }
    assert!(rig.audit().is_empty());
}

#[tokio::test]
async fn a_flood_of_denials_does_not_fill_the_trail() {
    let rig = Rig::start().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for _ in 0..50 {
        let response = client.get(format!("http://{}/v1/recorders", rig.address)).send().await.unwrap();
        assert_eq!(response.status(), 401);
    }
    assert_eq!(rig.audit().len(), 10);
    let metrics = rig.get_ops("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("aigaq_audit_entries_total{outcome=\"denied_unrecorded\"} 40"), "{metrics}");
    rig.clock.set(rig.clock.now() + 1_000_000);
    client.get(format!("http://{}/v1/recorders", rig.address)).send().await.unwrap();
    assert_eq!(rig.audit().len(), 11);
}

#[tokio::test]
async fn asking_for_the_head_is_a_disclosure_too() {
    let rig = Rig::start().await;
    assert_eq!(rig.ask(Method::HEAD, "/v1/recorders", &[]).await.status(), 200);
    assert_eq!(rig.audit().last().unwrap().action, "HEAD /v1/recorders");
}
