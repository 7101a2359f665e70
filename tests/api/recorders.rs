//! Who records, a page at a time.

use aigaq::store::records::RecorderKind;

use crate::rig::{Rig, at};

#[tokio::test]
async fn pages_list_every_recorder_once() {
    let rig = Rig::start().await;
    let mut expected: Vec<String> = (0..23).map(|_| rig.officer().id.to_string()).collect();
    expected.sort();
    let mut found = Vec::new();
    let mut path = "/v1/recorders?limit=5".to_owned();
    let mut pages = 0;
    loop {
        let page = rig.json(&path).await;
        pages += 1;
        found.extend(page["recorders"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.get("next") else { break };
        path = format!("/v1/recorders?limit=5&cursor={}", next.as_str().unwrap());
    }
    assert_eq!((found, pages), (expected, 5));
}

#[tokio::test]
async fn a_page_that_ends_with_the_last_recorder_has_no_next() {
    let rig = Rig::start().await;
    rig.officer();
    rig.officer();
    assert_eq!(rig.json("/v1/recorders?limit=2").await.get("next"), None);
}

#[tokio::test]
async fn recorders_are_chosen_by_department_and_kind() {
    let rig = Rig::start().await;
    rig.enrol(RecorderKind::Officer, "Astana");
    rig.enrol(RecorderKind::Vehicle, "Astana");
    let wanted = rig.enrol(RecorderKind::Vehicle, "Almaty city");
    let count =
        async |query: &str| rig.json(&format!("/v1/recorders?{query}")).await["recorders"].as_array().unwrap().len();
    assert_eq!(count("department=Astana").await, 2);
    assert_eq!(count("kind=vehicle").await, 2);
    assert_eq!(count("department=Karaganda").await, 0);
    let page = rig.json("/v1/recorders?department=Almaty%20city&kind=vehicle").await;
    assert_eq!(page["recorders"][0]["id"], wanted.id.to_string());
}

#[tokio::test]
async fn a_recorder_shows_the_state_of_its_chain() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let fresh = rig.json(&format!("/v1/recorders/{}", device.id)).await;
    assert!(fresh["head"].is_null() && fresh["last_received_at"].is_null());
    let start = device.chain.start(&device.key);
    let lost = device.chain.media(&device.key, vec![1; 10].into());
    let kept = device.chain.media(&device.key, vec![2; 10].into());
    rig.send(start.clone()).await;
    rig.send(kept.clone()).await;
    let state = rig.json(&format!("/v1/recorders/{}", device.id)).await;
    assert_eq!(state["head"]["digest"], start.digest.to_string());
    assert_eq!(state["newest"]["sequence"], 2);
    assert_eq!((&state["gaps"], &state["missing"]), (&1.into(), &1.into()));
    assert_eq!(state["last_received_at"], at(3_600));
    rig.send(lost).await;
    let state = rig.json(&format!("/v1/recorders/{}", device.id)).await;
    assert_eq!((&state["head"]["digest"], &state["gaps"]), (&kept.digest.to_string().into(), &0.into()));
}
