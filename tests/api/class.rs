//! What is not open: who may see it, and with which words.

use aigaq::access::{Grant, Grants, Role};
use reqwest::Method;
use serde_json::Value;

use crate::rig::{Rig, TOKEN, at, problem};

fn admit(rig: &Rig, role: Role) -> String {
    let token = format!("token-of-the-{}", role.name());
    let grants = Grants::new(vec![Grant { role, departments: None }]);
    rig.access.admit(&token, &format!("account:{}", role.name()), grants).unwrap();
    token
}

async fn classify(rig: &Rig, token: &str, id: &str, class: &str) -> u16 {
    let body = format!(r#"{{"class":"{class}","reason":"a check"}}"#);
    let path = format!("/v1/recorders/{id}/class");
    rig.ask_as(token, Method::PUT, &path, Some(&body), &[]).await.status().as_u16()
}

async fn status(rig: &Rig, token: &str, path: &str, reason: Option<&str>) -> u16 {
    let headers: Vec<(&str, &str)> = reason.map(|reason| ("x-aigaq-reason", reason)).into_iter().collect();
    rig.ask_as(token, Method::GET, path, None, &headers).await.status().as_u16()
}

#[tokio::test]
async fn restricted_footage_is_for_fewer_and_never_without_a_reason() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    let id = device.id.to_string();
    let (operator, supervisor) = (admit(&rig, Role::Operator), admit(&rig, Role::Supervisor));
    let paths = [
        format!("/v1/recorders/{id}/live/seg-1.m4s"),
        format!("/v1/recorders/{id}/hls/{}/{}/seg-1.m4s", at(0), at(10)),
        format!("/v1/recorders/{id}/hls/{}/{}/index.m3u8", at(0), at(10)),
        format!("/v1/recorders/{id}/clip.mp4?from={}&to={}", at(0), at(4)),
    ];
    assert_eq!(status(&rig, &operator, &paths[0], None).await, 200);
    assert_eq!(classify(&rig, &operator, &id, "restricted").await, 403);
    assert_eq!(classify(&rig, &supervisor, &id, "restricted").await, 200);
    for path in &paths {
        assert_eq!(status(&rig, &operator, path, Some("case 17")).await, 404, "{path}");
        assert_eq!(status(&rig, &supervisor, path, None).await, 403, "{path}");
        assert_eq!(rig.audit().last().unwrap().event.name(), "denial");
        assert_eq!(status(&rig, &supervisor, path, Some("case 17")).await, 200, "{path}");
        let entry = rig.audit().pop().unwrap();
        assert_eq!((entry.event.name(), entry.reason.as_str()), ("view", "case 17"));
    }
    let told = problem(rig.ask_as(&supervisor, Method::GET, &paths[0], None, &[]).await, 403, "without a reason").await;
    assert!(told["detail"].as_str().unwrap().contains("x-aigaq-reason"), "{told}");
    assert_eq!(
        status(&rig, &operator, &format!("/v1/recorders/{id}"), None).await,
        200,
        "that it is there is no secret"
    );
    assert_eq!(classify(&rig, &supervisor, &id, "open").await, 200);
    assert_eq!(status(&rig, &operator, &paths[0], None).await, 200);
}

#[tokio::test]
async fn what_is_sealed_is_not_there_for_anybody_but_inspectors() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    let (id, nothing) = (device.id.to_string(), "0".repeat(32));
    let inspector = admit(&rig, Role::Inspector);
    let supervisor = admit(&rig, Role::Supervisor);
    assert_eq!(classify(&rig, &supervisor, &id, "sealed").await, 403, "nobody makes what they cannot undo");
    assert_eq!(classify(&rig, &inspector, &id, "sealed").await, 200);
    let watched = format!("/v1/recorders/{id}/live/seg-1.m4s");
    assert_eq!(status(&rig, &inspector, &watched, None).await, 403);
    assert_eq!(status(&rig, &inspector, &watched, Some("check 3")).await, 200);
    for role in [Role::Operator, Role::Supervisor, Role::Auditor, Role::Administrator] {
        let token = admit(&rig, role);
        for path in ["/v1/recorders/{R}", "/v1/recorders/{R}/coverage?from={F}&to={T}", "/v1/recorders/{R}/class"] {
            let fill = |id: &str| path.replace("{R}", id).replace("{F}", &at(0)).replace("{T}", &at(10));
            let there = rig.ask_as(&token, Method::GET, &fill(&id), None, &[]).await;
            let absent = rig.ask_as(&token, Method::GET, &fill(&nothing), None, &[]).await;
            assert_eq!(there.status(), 404, "{role:?} {path}");
            assert_eq!(there.bytes().await.unwrap(), absent.bytes().await.unwrap(), "{role:?} {path}");
        }
        for path in ["/v1/recorders", "/v1/audit", "/v1/holds", "/v1/pulls", "/v1/reports/dark?day=2026-01-17"] {
            let listed = rig.ask_as(&token, Method::GET, path, None, &[]).await.text().await.unwrap();
            assert!(!listed.contains(&id), "{role:?} {path}");
        }
    }
    assert_eq!(classify(&rig, &supervisor, &id, "open").await, 404);
    let listed: Value = rig.ask_as(&inspector, Method::GET, "/v1/recorders", None, &[]).await.json().await.unwrap();
    assert_eq!(listed["recorders"][0]["id"], id);
    let trail = rig.ask_as(&inspector, Method::GET, &format!("/v1/audit?object={id}"), None, &[]).await;
    assert!(trail.text().await.unwrap().contains("check 3"), "inspectors see who saw what is sealed");
    assert_eq!(rig.ask_as(TOKEN, Method::GET, &format!("/v1/recorders/{id}"), None, &[]).await.status(), 200);
}
