//! `Idempotency-Key`: the same request under the same key is done once, and answered as it was.

use aigaq::access::{self, Grant, Grants, Role};
use aigaq::store::records::RecorderRecord;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::rig::{Device, Rig, TOKEN, at, problem};

async fn post(rig: &Rig, device: &Device, body: &Value, key: &str) -> Response {
    let path = format!("/v1/recorders/{}/marks", device.id);
    rig.send_json(Method::POST, &path, body, &[("Idempotency-Key", key)]).await
}

async fn count(rig: &Rig) -> usize {
    rig.json("/v1/marks").await["marks"].as_array().unwrap().len()
}

#[tokio::test]
async fn the_same_request_under_the_same_key_is_done_once_also_after_a_restart() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let body = json!({ "category": "insult", "at": at(0) });
    let first = post(&rig, &device, &body, "k1").await;
    assert_eq!((first.status().as_u16(), first.headers().get("idempotency-replayed")), (201, None));
    let (location, first) = (first.headers()["location"].clone(), first.text().await.unwrap());
    let entries = rig.audit().len();
    let again = post(&rig, &device, &body, "k1").await;
    assert_eq!((again.status().as_u16(), &again.headers()["idempotency-replayed"]), (201, &"true".parse().unwrap()));
    assert_eq!(
        (&again.headers()["location"], again.headers()["content-type"].to_str().unwrap()),
        (&location, "application/json")
    );
    assert_eq!(again.text().await.unwrap(), first);
    assert_eq!(count(&rig).await, 1);
    let told = &rig.audit()[entries];
    assert_eq!((told.outcome.as_str(), told.object.as_str()), ("answered again", &*device.id.to_string()));
    assert_eq!(post(&rig, &device, &body, "k2").await.status(), 201);
    assert_eq!(count(&rig).await, 2, "another key is another request");
    assert!(rig.store.answers().count() == 2, "a server that starts anew finds them");
}

#[tokio::test]
async fn another_request_under_the_key_is_refused_and_what_was_refused_may_be_asked_again() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let body = json!({ "category": "insult", "at": at(0) });
    problem(post(&rig, &device, &json!({ "category": "none", "at": at(0) }), "k").await, 400, "no category").await;
    assert_eq!(post(&rig, &device, &body, "k").await.status(), 201);
    problem(post(&rig, &device, &json!({ "category": "phone", "at": at(0) }), "k").await, 422, "another").await;
    problem(post(&rig, &device, &body, "").await, 400, "no key").await;
    assert_eq!(count(&rig).await, 1);
}

#[tokio::test]
async fn of_many_at_once_one_is_done() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let body = json!({ "category": "insult", "at": at(0) });
    let answers = futures_util::future::join_all((0..8).map(|_| post(&rig, &device, &body, "k"))).await;
    let mut told = Vec::new();
    for answer in answers {
        match answer.status().as_u16() {
            201 => told.push(answer.text().await.unwrap()),
            status => assert_eq!(status, 409),
        }
    }
    told.dedup();
    assert_eq!((told.len(), count(&rig).await), (1, 1));
}

#[tokio::test]
async fn a_day_later_it_is_another_request() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let body = json!({ "category": "insult", "at": at(0) });
    post(&rig, &device, &body, "k").await;
    rig.clock.set(rig.clock.now() + 86_400_000_000);
    assert_eq!(post(&rig, &device, &body, "k").await.headers().get("idempotency-replayed"), None);
    assert_eq!((count(&rig).await, rig.store.answers().count()), (2, 1));
}

#[tokio::test]
async fn a_key_is_of_one_actor_with_the_roles_that_it_has() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let (body, path) =
        (json!({ "category": "insult", "at": at(0) }).to_string(), format!("/v1/recorders/{}/marks", device.id));
    let ask = async |token: &str| {
        let key = [("Idempotency-Key", "k")];
        let answer = rig.ask_as(token, Method::POST, &path, Some(&body), &key).await;
        (answer.status().as_u16(), answer.headers().contains_key("idempotency-replayed"))
    };
    let operator = |department: &str| {
        Grants::new(vec![Grant { role: Role::Operator, departments: Some(vec![department.to_owned()]) }])
    };
    rig.access.admit("the-first-token-of-anna", "account:anna", operator("Astana")).unwrap();
    rig.access.admit("another-token-of-anna", "account:anna", operator("Astana")).unwrap();
    rig.access.admit("a-later-token-of-anna", "account:anna", operator("Almaty")).unwrap();
    rig.access.admit("the-first-token-of-boris", "account:boris", operator("Astana")).unwrap();
    assert_eq!(ask(TOKEN).await, (201, false));
    assert_eq!(ask("the-first-token-of-anna").await, (201, false), "somebody else");
    assert_eq!(ask("another-token-of-anna").await, (201, true), "the same person, signed in again");
    assert_eq!(ask("the-first-token-of-boris").await, (201, false), "somebody else with the same roles");
    assert_eq!(ask("a-later-token-of-anna").await, (404, false), "what is not theirs any more is not told");
    assert_eq!(ask("a-token-of-nobody-at-all").await.0, 401);
}

#[tokio::test]
async fn what_is_not_theirs_to_know_of_any_more_is_not_told_again() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let (body, path) =
        (json!({ "category": "insult", "at": at(0) }).to_string(), format!("/v1/recorders/{}/marks", device.id));
    let anna = Grants::new(vec![Grant { role: Role::Operator, departments: Some(vec!["Astana".to_owned()]) }]);
    rig.access.admit("the-first-token-of-anna", "account:anna", anna).unwrap();
    let ask = async || {
        let answer =
            rig.ask_as("the-first-token-of-anna", Method::POST, &path, Some(&body), &[("Idempotency-Key", "k")]).await;
        (answer.status().as_u16(), answer.headers().contains_key("idempotency-replayed"))
    };
    let classify = async |class: &str| {
        let body = json!({ "class": class, "reason": "a check" });
        let path = format!("/v1/recorders/{}/class", device.id);
        assert_eq!(rig.send_json(Method::PUT, &path, &body, &[]).await.status(), 200);
    };
    assert_eq!((ask().await, ask().await), ((201, false), (201, true)));
    classify("sealed").await;
    assert_eq!(ask().await, (404, false));
    assert_eq!(rig.audit().last().unwrap().event.name(), "denial");
    classify("open").await;
    assert_eq!(ask().await, (201, true), "what was kept is kept");
    let record = rig.store.recorder(device.id).unwrap().unwrap();
    rig.store.enrol(&RecorderRecord { department: "Almaty".to_owned(), ..record }).unwrap();
    assert_eq!(ask().await, (404, false));
    assert_eq!(count(&rig).await, 1);
}

#[tokio::test]
async fn what_is_refused_for_its_key_counts_among_what_one_asks() {
    let rig = Rig::start_with(access::Settings { requests_per_s: 1, ..access::Settings::default() }).await;
    let device = rig.officer();
    let body = json!({ "category": "insult", "at": at(0) });
    assert_eq!(post(&rig, &device, &body, "k").await.status(), 201);
    let other = json!({ "category": "phone", "at": at(0) });
    for attempt in 0..1_000 {
        match post(&rig, &device, &other, "k").await.status().as_u16() {
            422 => assert!(attempt < 999, "as often as one likes"),
            status => return assert_eq!(status, 429),
        }
    }
}
