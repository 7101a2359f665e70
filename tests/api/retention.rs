//! Holds and deletion over the API: what is deleted is a hole with its cause, what is held stays, and nobody releases a hold alone.

use aigaq::access::{Grant, Grants, Role};
use aigaq::store::policy::{DAY_US, day_of};
use aigaq::store::records::Act;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::rig::{BEGIN, Device, Rig, at, problem};

impl Rig {
    /// Goes to the day on which everything that was recorded is hidden, or `later` days after that.
    fn days_over(&self, later: u32) {
        let day = day_of(BEGIN) + 91 + later;
        self.clock.set(u64::from(day) * DAY_US);
        self.retention.round().unwrap();
    }

    async fn hold(&self, device: &Device, from: u64, to: u64) -> Value {
        let body = json!({ "recorder": device.id.to_string(), "from": at(from), "to": at(to), "reason": "case 17" });
        let response = self.send_json(Method::POST, "/v1/holds", &body, &[]).await;
        assert_eq!(response.status(), 201);
        let place = response.headers()["location"].to_str().unwrap().to_owned();
        let hold: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(place, format!("/v1/holds/{}", hold["id"].as_str().unwrap()));
        hold
    }

    async fn coverage(&self, device: &Device) -> Value {
        self.json(&format!("/v1/recorders/{}/coverage?from={}&to={}", device.id, at(0), at(10))).await
    }

    async fn seen(&self, device: &Device, sequence: u64) -> u16 {
        let path = format!("/v1/recorders/{}/hls/{}/{}/seg-{sequence}.m4s", device.id, at(0), at(10));
        self.get(&path).await.status().as_u16()
    }
}

#[tokio::test]
async fn what_is_deleted_is_a_hole_with_its_cause_in_every_answer() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 5).await;
    rig.hold(&device, 4, 6).await;
    rig.days_over(0);
    let coverage = rig.coverage(&device).await;
    assert_eq!(coverage["spans"].as_array().unwrap().len(), 1);
    assert_eq!((&coverage["spans"][0]["from"], &coverage["spans"][0]["to"]), (&json!(at(4)), &json!(at(6))));
    let holes: Vec<_> =
        coverage["holes"].as_array().unwrap().iter().map(|hole| hole["cause"].as_str().unwrap()).collect();
    assert_eq!(holes, ["deleted-by-policy", "deleted-by-policy"]);
    let path = format!("/v1/recorders/{}/hls/{}/{}/index.m3u8", device.id, at(0), at(10));
    let playlist = rig.text(&path).await;
    assert_eq!(playlist.matches("#EXT-X-GAP").count(), 4, "{playlist}");
    assert_eq!((rig.seen(&device, 3).await, rig.seen(&device, 1).await), (200, 410));
    let gone = format!("/v1/recorders/{}/hls/{}/{}/seg-1.m4s", device.id, at(0), at(10));
    let told = refused(rig.get(&gone).await, 410).await;
    assert!(told["detail"].as_str().unwrap().contains("deleted by policy"), "{told}");
    let hides = rig.audit().into_iter().find(|entry| entry.action.starts_with("hide day ")).unwrap();
    assert_eq!(told["statement"], format!("/v1/audit/{}/proof", hides.number), "which says so");
    // The day is everybody's: whoever audits a department alone finds it, and its proof, and nothing that names others.
    let grant = Grant { role: Role::Auditor, departments: Some(vec!["Astana".to_owned()]) };
    rig.access.admit("the-token-of-an-auditor", "account:x", Grants::new(vec![grant])).unwrap();
    let asked = async |path: &str| rig.ask_as("the-token-of-an-auditor", Method::GET, path, None, &[]).await;
    let trail: Value = asked("/v1/audit?event=deletion").await.json().await.unwrap();
    let seen = trail["entries"].as_array().unwrap().iter().map(|entry| entry["number"].as_u64().unwrap());
    assert_eq!(seen.collect::<Vec<_>>(), [hides.number]);
    assert_ne!(asked(&format!("/v1/audit/{}/proof", hides.number)).await.status(), 404);
    let clip = format!("/v1/recorders/{}/clip.mp4?from={}&to={}", device.id, at(0), at(2));
    let told = refused(rig.get(&clip).await, 410).await;
    assert!(told["detail"].as_str().unwrap().contains("deleted by policy"), "{told}");
    refused(rig.get(&gone.replace("seg-1", "seg-77")).await, 404).await;

    rig.days_over(8);
    let told = refused(rig.get(&gone).await, 410).await;
    let deleted = rig.audit().into_iter().find(|entry| entry.action.starts_with("delete day ")).unwrap();
    assert_eq!(
        (deleted.object, &told["statement"]),
        (device.id.to_string(), &json!(format!("/v1/audit/{}/proof", deleted.number)))
    );
}

#[tokio::test]
async fn a_hold_is_released_by_two_people_and_by_nobody_alone() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    let hold = rig.hold(&device, 0, 2).await;
    let id = hold["id"].as_str().unwrap();
    assert_eq!((&hold["state"], &hold["placed"]["reason"]), (&json!("standing"), &json!("case 17")));
    let path = format!("/v1/holds/{id}");
    let release = format!("/v1/holds/{id}/release");
    let reason = json!({ "reason": "the case is closed" });
    refused(rig.ask(Method::DELETE, &path, &[]).await, 409).await;
    assert_eq!(rig.send_json(Method::POST, &release, &reason, &[]).await.status(), 202);
    refused(rig.send_json(Method::POST, &release, &reason, &[]).await, 409).await;
    let told = refused(rig.ask(Method::DELETE, &path, &[]).await, 403).await;
    assert!(told["detail"].as_str().unwrap().contains("another person"), "{told}");
    let said = |what: &str| rig.audit().iter().any(|entry| entry.action.starts_with(what));
    assert!(said(&format!("hold {} from ", device.id)) && said("ask for the release of hold "));
    let listed = rig.json("/v1/holds?state=release-asked").await;
    assert_eq!(listed["holds"][0]["id"].as_str().unwrap(), id);
    assert!(rig.json("/v1/holds?state=released").await["holds"].as_array().unwrap().is_empty());
    let other = Act { at: 2, by: "token:other".into(), reason: String::new() };
    rig.retention.confirm_release(device.id, 1, other).unwrap();
    let listed = rig.json(&format!("/v1/holds?recorder={}", device.id)).await;
    assert_eq!(
        (&listed["holds"][0]["state"], &listed["holds"][0]["released"]["by"]),
        (&json!("released"), &json!("token:other"))
    );
    refused(rig.ask(Method::DELETE, &path, &[]).await, 409).await;
    refused(rig.ask(Method::DELETE, "/v1/holds/nonsense", &[]).await, 404).await;
    refused(rig.ask(Method::DELETE, &format!("{path}7"), &[]).await, 404).await;
}

#[tokio::test]
async fn whoever_confirms_over_the_api_is_another_person_than_the_one_who_asked() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 1).await;
    let hold = rig.hold(&device, 0, 2).await;
    let other = Act { at: 2, by: "token:other".into(), reason: "closed".into() };
    rig.retention.ask_release(device.id, 1, other).unwrap();
    let path = format!("/v1/holds/{}", hold["id"].as_str().unwrap());
    assert_eq!(rig.ask(Method::DELETE, &path, &[]).await.status(), 200);
}

#[tokio::test]
async fn a_hold_needs_a_recorder_a_range_and_a_reason() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let good = json!({ "recorder": device.id.to_string(), "from": at(0), "to": at(2), "reason": "case 17" });
    for (key, value, status) in [
        ("recorder", json!("00000000000000000000000000000000"), 404),
        ("to", json!(at(0)), 400),
        ("reason", json!("  "), 400),
        ("reason", json!(""), 400),
        ("more", json!(1), 400),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        refused(rig.send_json(Method::POST, "/v1/holds", &bad, &[]).await, status).await;
    }
    assert_eq!(rig.store.holds(None).count(), 0);
}

#[tokio::test]
async fn the_dry_run_the_list_and_the_undo_tell_one_story() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 3).await;
    let hold = rig.hold(&device, 0, 1).await;
    let last_day = "2026-04-17";
    let preview = rig.json("/v1/retention/preview?day=2026-04-18").await;
    let lines = preview["lines"].as_array().unwrap();
    assert_eq!((lines.len(), &preview["drop_bytes"]), (2, &json!(0)));
    assert_eq!(
        (&lines[0]["action"], &lines[0]["links"], &lines[0]["last_day"]),
        (&json!("hide"), &json!(2), &json!(last_day))
    );
    assert_eq!(&lines[0]["rule"], "default policy of 90 days");
    assert_eq!((&lines[1]["action"], &lines[1]["kept_by"]), (&json!("keep"), &json!("hold 1")), "{hold}");
    assert!(
        rig.json("/v1/retention/preview").await["lines"].as_array().unwrap().is_empty(),
        "tomorrow deletes nothing"
    );
    assert!(rig.json("/v1/deletions").await["deletions"].as_array().unwrap().is_empty());

    rig.days_over(0);
    let listed = rig.json("/v1/deletions").await;
    assert_eq!(
        (&listed["deletions"][0]["last_day"], &listed["deletions"][0]["gone_at"]),
        (&json!(last_day), &Value::Null)
    );
    assert_eq!(&rig.json("/v1/retention/preview?day=2026-04-25").await["lines"][0]["action"], "drop");
    let undo = json!({ "recorder": device.id.to_string(), "from": at(2), "to": at(4), "reason": "wanted after all", "days": 5 });
    let response = rig.send_json(Method::POST, "/v1/deletions/undo", &undo, &[]).await;
    assert_eq!(response.status(), 202);
    let undone: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!((&undone["links"], &undone["last_day"]), (&json!(1), &json!("2026-04-23")));
    rig.retention.round().unwrap();
    assert_eq!((rig.seen(&device, 2).await, rig.seen(&device, 3).await), (200, 410));

    rig.days_over(7);
    let listed = rig.json("/v1/deletions").await;
    let first = listed["deletions"].as_array().unwrap().last().unwrap();
    assert_eq!((first["gone_at"].is_null(), &first["links"]), (false, &json!(1)));
    refused(
        rig.send_json(
            Method::POST,
            "/v1/deletions/undo",
            &json!({ "recorder": device.id.to_string(), "from": at(4), "to": at(6), "reason": "too late" }),
            &[],
        )
        .await,
        404,
    )
    .await;
    for day in ["2026-13-01", "soon", "1969-12-31"] {
        refused(rig.get(&format!("/v1/retention/preview?day={day}")).await, 400).await;
    }
}

/// Checks that an answer is a refusal with this status.
async fn refused(response: Response, status: u16) -> Value {
    let what = response.url().path().to_owned();
    problem(response, status, &what).await
}

#[tokio::test]
async fn the_destruction_of_a_key_is_asked_for_by_one_and_confirmed_by_another() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    let day = "2026-04-17";
    let new = json!({ "recorder": device.id.to_string(), "day": day, "reason": "order 17/26" });
    // The store of the rig seals nothing, so that there is no key to destroy.
    refused(rig.send_json(Method::POST, "/v1/destructions", &new, &[]).await, 404).await;
    let id = format!("{}-{day}", device.id);
    let confirm = format!("/v1/destructions/{id}/confirm");
    let reason = json!({ "reason": "order 17/26" });
    refused(rig.send_json(Method::POST, &confirm, &reason, &[]).await, 404).await;
    refused(rig.ask(Method::DELETE, &format!("/v1/destructions/{id}"), &[]).await, 409).await;
    assert_eq!(rig.json("/v1/destructions").await, json!({ "destructions": [] }));
    for bad in ["nonsense", "0-0", &format!("{}-2026-13-01", device.id)] {
        refused(rig.send_json(Method::POST, &format!("/v1/destructions/{bad}/confirm"), &reason, &[]).await, 404).await;
    }
}
