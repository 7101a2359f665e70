//! Signing in: with a password, with a secret, and how it ends.

use aigaq::access::{self, Grant, Role};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::rig::{Rig, at, problem};

const PASSWORD: &str = "correct horse battery";

fn grants(role: Role) -> Vec<Grant> {
    vec![Grant { role, departments: None }]
}

async fn sign_in(rig: &Rig, name: &str, password: &str, reason: Option<&str>) -> Response {
    let mut body = json!({ "name": name, "password": password });
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    rig.ask_as("", Method::POST, "/v1/sign-in", Some(&body.to_string()), &[]).await
}

/// Signs in somebody new with this role; their token.
async fn somebody(rig: &Rig, name: &str, role: Role) -> String {
    access::add_account(rig.dir.path(), name, PASSWORD, grants(role), false).unwrap();
    let answer = sign_in(rig, name, PASSWORD, None).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["cache-control"]), (200, &"no-store".parse().unwrap()));
    let document: Value = answer.json().await.unwrap();
    document["token"].as_str().unwrap().to_owned()
}

async fn status(rig: &Rig, token: &str, method: Method, path: &str) -> u16 {
    rig.ask_as(token, method, path, None, &[]).await.status().as_u16()
}

#[tokio::test]
async fn whoever_signs_in_stands_in_the_trail_under_their_name_until_the_session_ends() {
    let rig = Rig::start().await;
    let token = somebody(&rig, "anna", Role::Operator).await;
    assert_eq!(status(&rig, &token, Method::GET, "/v1/recorders").await, 200);
    let said: Vec<_> = rig.audit().iter().map(|entry| (entry.event.name(), entry.actor.clone())).collect();
    let anna = || "account:anna".to_owned();
    assert_eq!(said, [("account", "command line".to_owned()), ("sign-in", anna()), ("look-up", anna())]);
    assert!(
        rig.audit()
            .iter()
            .all(|entry| !format!("{entry:?}").contains(&token) && !format!("{entry:?}").contains(PASSWORD))
    );
    let listed: Value = rig.ask_as(&token, Method::GET, "/v1/sessions", None, &[]).await.json().await.unwrap();
    let session = &listed["sessions"][0];
    assert_eq!((&session["actor"], &session["current"]), (&json!("account:anna"), &json!(true)));
    assert!(!listed.to_string().contains(&token));
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    assert_eq!(status(&rig, &token, Method::DELETE, &path).await, 204);
    assert_eq!(status(&rig, &token, Method::GET, "/v1/recorders").await, 401);
}

#[tokio::test]
async fn a_session_without_requests_is_over_after_half_an_hour_and_any_after_half_a_day() {
    let rig = Rig::start().await;
    let token = somebody(&rig, "anna", Role::Operator).await;
    let begin = rig.clock.now();
    for minutes in (25..720).step_by(25) {
        rig.clock.set(begin + minutes * 60_000_000);
        assert_eq!(status(&rig, &token, Method::GET, "/v1/recorders").await, 200, "{minutes}");
    }
    rig.clock.set(begin + 720 * 60_000_000);
    assert_eq!(status(&rig, &token, Method::GET, "/v1/recorders").await, 401);
    let again: Value = sign_in(&rig, "anna", PASSWORD, None).await.json().await.unwrap();
    let again = again["token"].as_str().unwrap().to_owned();
    rig.clock.set(begin + 750 * 60_000_000);
    assert_eq!(status(&rig, &again, Method::GET, "/v1/recorders").await, 401);
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_name_get_the_same_bytes_and_guessing_ends_soon() {
    let rig = Rig::start().await;
    somebody(&rig, "anna", Role::Operator).await;
    let mut bodies = Vec::new();
    for name in ["anna", "nobody"] {
        for _ in 0..5 {
            rig.clock.set(rig.clock.now() + 1_000_000);
            let answer = sign_in(&rig, name, "not the right one", None).await;
            assert_eq!((answer.status().as_u16(), answer.headers().contains_key("www-authenticate")), (401, true));
            let mut body: Value = answer.json().await.unwrap();
            // A number that counts up with every refusal, whoever is refused.
            body.as_object_mut().unwrap().remove("instance");
            bodies.push(body);
        }
        for password in [PASSWORD, "not the right one"] {
            let answer = sign_in(&rig, name, password, None).await;
            assert!(answer.headers().contains_key("retry-after"));
            problem(answer, 429, name).await;
        }
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    let denials: Vec<_> = rig.audit().into_iter().filter(|entry| entry.event.name() == "denial").collect();
    assert_eq!(denials.len(), 14, "each is in the trail");
    assert_eq!(denials.iter().filter(|entry| entry.object == "account:anna").count(), 7);
    assert!(denials.iter().all(|entry| !format!("{entry:?}").contains("nobody")), "what is no name may be a password");
    let metrics = rig.get_ops("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("aigaq_sign_ins_total{result=\"wrong\"} 10"), "{metrics}");
    assert!(metrics.contains("aigaq_sign_ins_total{result=\"too_often\"} 4"), "{metrics}");
}

#[tokio::test]
async fn a_service_gets_a_token_for_its_secret() {
    let rig = Rig::start().await;
    let secret = access::add_client(rig.dir.path(), "dispatch", grants(Role::Operator)).unwrap();
    let form = format!("grant_type=client_credentials&client_id=dispatch&client_secret={secret}");
    let basic = format!("Basic {}", data_encoding::BASE64.encode(format!("dispatch:{secret}").as_bytes()));
    for (form, headers) in [(&form[..], vec![]), ("grant_type=client_credentials", vec![("authorization", &basic[..])])]
    {
        let answer = rig.ask_as("", Method::POST, "/v1/token", Some(form), &headers).await;
        let document: Value = answer.json().await.unwrap();
        assert_eq!((&document["token_type"], &document["expires_in"]), (&json!("Bearer"), &json!(900)));
        let token = document["access_token"].as_str().unwrap();
        assert_eq!(status(&rig, token, Method::GET, "/v1/recorders").await, 200);
        assert_eq!(rig.audit().last().unwrap().actor, "client:dispatch");
    }
    for (form, status, error) in [
        ("grant_type=client_credentials&client_id=dispatch&client_secret=wrong", 401, "invalid_client"),
        ("grant_type=client_credentials&client_id=dispatch", 400, "invalid_request"),
        ("grant_type=password&client_id=dispatch&client_secret=x", 400, "unsupported_grant_type"),
        ("client_id=dispatch", 400, ""),
    ] {
        let told = problem(rig.ask_as("", Method::POST, "/v1/token", Some(form), &[]).await, status, form).await;
        assert_eq!(told["error"].as_str().unwrap_or_default(), error, "{told}");
    }
    let form = format!("{form}&client_id=dispatch");
    problem(rig.ask_as("", Method::POST, "/v1/token", Some(&form), &[]).await, 400, "twice").await;
}

#[tokio::test]
async fn an_administrator_sees_and_ends_the_sessions_of_others_and_who_has_which_role() {
    let rig = Rig::start().await;
    let anna = somebody(&rig, "anna", Role::Operator).await;
    let boss = somebody(&rig, "boss", Role::Administrator).await;
    let listed: Value = rig.ask_as(&boss, Method::GET, "/v1/sessions", None, &[]).await.json().await.unwrap();
    let of = |actor: &str| {
        let mut all = listed["sessions"].as_array().unwrap().iter();
        all.find(|session| session["actor"] == actor).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (hers, his) = (format!("/v1/sessions/{}", of("account:anna")), format!("/v1/sessions/{}", of("account:boss")));
    assert_eq!(status(&rig, &anna, Method::DELETE, &his).await, 404);
    assert_eq!(status(&rig, &boss, Method::DELETE, &hers).await, 204);
    assert_eq!(status(&rig, &anna, Method::GET, "/v1/recorders").await, 401);
    let accounts: Value = rig.ask_as(&boss, Method::GET, "/v1/accounts", None, &[]).await.json().await.unwrap();
    assert_eq!(accounts["accounts"][0]["roles"], json!([{ "role": "operator", "departments": null }]));
    assert!(!accounts.to_string().contains("argon2"));
}

#[tokio::test]
async fn breaking_the_glass_needs_a_reason_and_is_an_alarm() {
    let rig = Rig::start().await;
    access::add_account(rig.dir.path(), "glass", PASSWORD, grants(Role::Supervisor), true).unwrap();
    problem(sign_in(&rig, "glass", PASSWORD, None).await, 403, "without a reason").await;
    let alarmed = async || rig.get_ops("/metrics").await.text().await.unwrap();
    assert!(alarmed().await.contains("aigaq_break_glass_sign_ins_total 0"));
    let signed_in: Value = sign_in(&rig, "glass", PASSWORD, Some("nobody else is there")).await.json().await.unwrap();
    assert!(alarmed().await.contains("aigaq_break_glass_sign_ins_total 1"));
    let entry = rig.audit().pop().unwrap();
    assert_eq!((entry.event.name(), entry.reason.as_str()), ("sign-in", "nobody else is there"));
    assert!(entry.action.ends_with("break-glass"), "{}", entry.action);
    rig.clock.set(rig.clock.now() + 29 * 60_000_000);
    let token = signed_in["token"].as_str().unwrap();
    assert_eq!(status(&rig, token, Method::GET, "/v1/recorders").await, 200);
    rig.clock.set(rig.clock.now() + 31 * 60_000_000);
    assert_eq!(status(&rig, token, Method::GET, "/v1/recorders").await, 401, "an hour is enough");
}

#[tokio::test]
async fn two_people_release_a_hold_and_one_with_two_sessions_does_not() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let (anna, berik) =
        (somebody(&rig, "anna", Role::Supervisor).await, somebody(&rig, "berik", Role::Supervisor).await);
    let again: Value = sign_in(&rig, "anna", PASSWORD, None).await.json().await.unwrap();
    let body =
        json!({ "recorder": device.id.to_string(), "from": at(0), "to": at(2), "reason": "case 17" }).to_string();
    let placed = rig.ask_as(&anna, Method::POST, "/v1/holds", Some(&body), &[]).await;
    let path = placed.headers()["location"].to_str().unwrap().to_owned();
    let reason = r#"{"reason":"closed"}"#;
    let asked = rig.ask_as(&anna, Method::POST, &format!("{path}/release"), Some(reason), &[]).await;
    assert_eq!(asked.status(), 202);
    assert_eq!(status(&rig, again["token"].as_str().unwrap(), Method::DELETE, &path).await, 403);
    assert_eq!(status(&rig, &berik, Method::DELETE, &path).await, 200);
}

#[tokio::test]
async fn whoever_asks_too_often_waits_in_all_their_sessions_and_nobody_else_does() {
    let settings = access::Settings { requests_per_s: 1, ..access::Settings::default() };
    let rig = Rig::start_with(settings).await;
    let anna = somebody(&rig, "anna", Role::Operator).await;
    let again = sign_in(&rig, "anna", PASSWORD, None).await.json::<Value>().await.unwrap();
    let of_anna = [anna.as_str(), again["token"].as_str().unwrap()];
    let mut refused = None;
    for asked in 0..50 {
        let answer = rig.ask_as(of_anna[asked % 2], Method::GET, "/v1/recorders", None, &[]).await;
        if answer.status().as_u16() == 429 {
            refused = Some((asked, answer));
            break;
        }
        assert_eq!(answer.status().as_u16(), 200);
    }
    let (asked, answer) = refused.expect("fifty requests at one a second");
    assert!(asked >= 10, "ten seconds' worth is there at once, not {asked}");
    assert_eq!(answer.headers()["retry-after"], "2");
    problem(answer, 429, "more slowly").await;
    assert!(rig.audit().iter().any(|entry| entry.event.name() == "denial" && entry.actor == "account:anna"));
    let boris = somebody(&rig, "boris", Role::Operator).await;
    assert_eq!(status(&rig, &boris, Method::GET, "/v1/recorders").await, 200);
}
