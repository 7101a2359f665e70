//! What exists of a range, and clips.

use serde_json::json;

use crate::rig::{Rig, at, problem};

#[tokio::test]
async fn coverage_shows_spans_and_the_cause_of_every_hole() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 5).await;
    device.chain.captured_at += 60_000_000;
    rig.record(&mut device, 5).await;
    let lost = device.chain.start(&device.key);
    device.chain.captured_at += 30_000_000;
    rig.send(device.chain.mark(&device.key, "bribe-attempt")).await;
    rig.send(device.chain.media(&device.key, vec![1; 10].into())).await;
    let path = format!("/v1/recorders/{}/coverage?from={}&to={}", device.id, "2026-01-17T09:13:00Z", at(300));
    let coverage = rig.json(&path).await;
    let list = |name: &str, fields: [&str; 3]| -> serde_json::Value {
        let items = coverage[name].as_array().unwrap();
        items.iter().map(|item| json!(fields.map(|field| &item[field]))).collect::<Vec<_>>().into()
    };
    assert_eq!(
        list("spans", ["from", "to", "recording"]),
        json!([[at(0), at(10), 0], [at(70), at(80), 7], [at(110), at(112), lost.header.sequence]])
    );
    assert_eq!(
        list("holes", ["from", "to", "cause"]),
        json!([
            ["2026-01-17T09:13:00.000000Z", at(0), "before-first"],
            [at(10), at(70), "off"],
            [at(80), at(110), "unknown"],
            [at(112), at(300), "pending"],
        ])
    );
    assert_eq!(coverage["holes"][1]["stop"], "wearer");
    assert_eq!(coverage["holes"][2]["missing"], json!([{"first": 14, "last": 14, "cause": "unknown"}]));
    assert_eq!(list("marks", ["at", "sequence", "category"]), json!([[at(110), 15, "bribe-attempt"]]));
}

#[tokio::test]
async fn a_recorder_that_sent_nothing_has_coverage() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let coverage = rig.json(&format!("/v1/recorders/{}/coverage?from={}&to={}", device.id, at(0), at(10))).await;
    assert_eq!(coverage["spans"], json!([]));
    assert_eq!(coverage["holes"], json!([{"from": at(0), "to": at(10), "cause": "pending"}]));
}

#[tokio::test]
async fn a_clip_is_the_initialisation_segment_and_whole_segments() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let payloads = rig.record(&mut device, 5).await;
    let path = format!("/v1/recorders/{}/clip.mp4?from={}&to={}", device.id, at(3), at(6));
    let response = rig.get(&path).await;
    let expected = [&payloads[0][..], &payloads[2], &payloads[3]].concat();
    assert_eq!(response.headers()["content-length"], expected.len().to_string());
    assert_eq!(response.headers()["content-type"], "video/mp4");
    let tag = response.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(response.bytes().await.unwrap(), expected);

    let (first, last) = (payloads[0].len() + 990, payloads[0].len() + 1_010);
    let range = format!("bytes={first}-{last}");
    let part = rig.ask(reqwest::Method::GET, &path, &[("range", &range), ("if-range", &tag)]).await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], format!("bytes {first}-{last}/{}", expected.len()));
    assert_eq!(part.bytes().await.unwrap(), expected[first..=last]);
    assert_eq!(rig.ask(reqwest::Method::GET, &path, &[("if-none-match", &tag)]).await.status(), 304);
    problem(rig.ask(reqwest::Method::GET, &path, &[("range", "bytes=99999-")]).await, 416, "range").await;
    let head = rig.ask(reqwest::Method::HEAD, &path, &[]).await;
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &expected.len().into()));
}

#[tokio::test]
async fn a_range_over_two_recordings_names_them() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 3).await;
    device.chain.captured_at += 60_000_000;
    rig.record(&mut device, 3).await;
    let path = |from: &str, to: &str| format!("/v1/recorders/{}/clip.mp4?from={from}&to={to}", device.id);
    let told = problem(rig.get(&path(&at(2), &at(100))).await, 422, "several").await;
    let recordings = told["recordings"].as_array().unwrap();
    assert_eq!(recordings[0], json!({"recording": 0, "from": at(2), "to": at(6)}));
    assert_eq!(recordings[1], json!({"recording": 5, "from": at(66), "to": at(72)}));
    for one in recordings {
        rig.bytes(&path(one["from"].as_str().unwrap(), one["to"].as_str().unwrap())).await;
    }
}

#[tokio::test]
async fn a_clip_with_damage_at_its_begin_is_refused_and_with_damage_later_breaks_off() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let payloads = rig.record(&mut device, 5).await;
    let path = format!("/v1/recorders/{}/clip.mp4?from={}&to={}", device.id, at(0), at(10));
    rig.damage(&device, 3);
    let response = rig.get(&path).await;
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err(), "half a clip must not look like a whole one");
    let start = payloads[0].len() + payloads[1].len() + payloads[2].len();
    let range = format!("bytes={start}-");
    problem(rig.ask(reqwest::Method::GET, &path, &[("range", &range)]).await, 409, "damage first").await;
}
