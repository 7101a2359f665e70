//! What the audit trail shows, and who is in it.

use aigaq::access::{Grant, Grants, Role};
use aigaq_proto::{Digest, statement};
use data_encoding::BASE64;
use reqwest::Method;
use serde_json::Value;

use crate::rig::{Rig, TOKEN, at, problem};

async fn ask_as(rig: &Rig, token: &str, path: &str) -> reqwest::Response {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("http://{}{path}", rig.address)).bearer_auth(token);
    request.header("x-aigaq-reason", "case 17").send().await.unwrap()
}

fn numbers(page: &Value) -> Vec<u64> {
    page["entries"].as_array().unwrap().iter().map(|entry| entry["number"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_trail_says_who_did_what_about_what_and_why() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    let id = device.id;
    assert_eq!(ask_as(&rig, TOKEN, &format!("/v1/recorders/{id}")).await.status(), 200);
    assert_eq!(ask_as(&rig, TOKEN, &format!("/v1/recorders/{id}/live.m3u8")).await.status(), 200);
    assert_eq!(ask_as(&rig, "a-token-of-nobody-at-all", &format!("/v1/recorders/{id}")).await.status(), 401);
    let all = rig.json("/v1/audit").await;
    assert_eq!(numbers(&all), [1, 2, 3, 4], "the look at the trail is in it as well: {all}");
    let events: Vec<_> =
        all["entries"].as_array().unwrap().iter().map(|entry| entry["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["look-up", "view", "denial", "look-up"]);
    let view = &all["entries"][1];
    assert_eq!((view["object"].as_str().unwrap(), view["reason"].as_str().unwrap()), (&id.to_string()[..], "case 17"));
    assert_eq!((view["actor"].as_str(), view["source"].as_str()), (Some("token:first-start"), Some("127.0.0.1")));
    assert_eq!(numbers(&rig.json(&format!("/v1/audit?object={id}&event=view")).await), [2]);
    assert_eq!(numbers(&rig.json("/v1/audit?actor=anonymous").await), [3]);
    let page = rig.json("/v1/audit?limit=2").await;
    assert_eq!((numbers(&page), &page["next"]), (vec![1, 2], &Value::from(3)));
    assert_eq!(numbers(&rig.json("/v1/audit?limit=2&cursor=3").await), [3, 4]);
    assert!(numbers(&rig.json(&format!("/v1/audit?to={}", at(0))).await).is_empty());
    for path in ["/v1/audit?event=nonsense", "/v1/audit?limit=0", "/v1/audit?from=yesterday", "/v1/audit?wrong=1"] {
        problem(rig.get(path).await, 400, path).await;
    }
}

#[tokio::test]
async fn an_entry_is_proven_to_be_in_the_log() {
    let rig = Rig::start().await;
    rig.get("/v1/recorders").await;
    let proven = async {
        loop {
            let answer = rig.get("/v1/audit/1/proof").await;
            if answer.status() == 200 {
                break answer.json::<Value>().await.unwrap();
            }
            assert_eq!(answer.status(), 503, "not yet");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let proven = tokio::time::timeout(std::time::Duration::from_secs(20), proven).await.unwrap();
    let bytes = |name: &str| BASE64.decode(proven[name].as_str().unwrap().as_bytes()).unwrap();
    let (entry, leaf) = (bytes("entry"), bytes("leaf"));
    assert_eq!(leaf[..32], statement::digest(&entry).0);
    assert_ne!(statement::digest(&entry), Digest::of(&entry));
    assert!(proven["proof"].as_str().unwrap().starts_with("c2sp.org/tlog-proof@v1\nindex 0\n"), "{proven}");
    problem(rig.get("/v1/audit/1000000/proof").await, 404, "no such entry").await;
}

#[tokio::test]
async fn what_an_inspector_asks_of_what_is_sealed_is_in_no_trail_of_others() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let id = device.id.to_string();
    let admit = |role: Role, departments: Option<Vec<String>>| {
        let token = format!("token-of-the-{}-{}", role.name(), departments.is_some());
        rig.access.admit(&token, &token, Grants::new(vec![Grant { role, departments }])).unwrap();
        token
    };
    let inspector = admit(Role::Inspector, None);
    let auditors =
        [admit(Role::Auditor, None), admit(Role::Auditor, Some(vec!["Astana".to_owned(), "Almaty".to_owned()]))];
    let body = r#"{"class":"sealed","reason":"a check"}"#;
    rig.ask_as(&inspector, Method::PUT, &format!("/v1/recorders/{id}/class"), Some(body), &[]).await;
    let encoded = format!("%{:02x}{}", id.as_bytes()[0], &id[1..]);
    for path in [
        format!("/v1/marks?recorder={id}"),
        format!("/v1/marks?recorder={encoded}"),
        format!("/v1/marks?cursor={id}-1-r1"),
        format!("/v1/events?recorder={id}&follow=false"),
        format!("/v1/holds?recorder={id}"),
        format!("/v1/recordings?from={}&to={}&recorder={id}", at(0), at(1)),
        format!("/v1/audit?object={id}"),
    ] {
        assert_eq!(ask_as(&rig, &inspector, &path).await.status(), 200, "{path}");
    }
    for auditor in &auditors {
        let trail = ask_as(&rig, auditor, "/v1/audit").await.text().await.unwrap();
        assert!(!trail.contains(&id) && !trail.contains(&encoded), "{trail}");
    }
    let theirs = ask_as(&rig, &inspector, &format!("/v1/audit?object={id}")).await.text().await.unwrap();
    assert!(theirs.contains("/v1/marks?recorder=") && theirs.contains("/v1/holds?recorder="), "{theirs}");
}
