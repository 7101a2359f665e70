//! Incidents: one for each name, whoever races; found by badge, by place and again with what comes late; held until two people release.

use aigaq::access::{Grant, Grants, Role};
use aigaq::fleet::Assignment;
use aigaq::store::policy::{DAY_US, day_of};
use aigaq::store::records::{
    Act, AuditRecord, Event, IncidentState, RecorderKind, RecorderRecord, StepRecord, Transition,
};
use aigaq_proto::Micros;
use aigaq_proto::link::Fix;
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::{BEGIN, Device, Rig, TOKEN, at, problem};

const S: u64 = 1_000_000;
/// The market of Astana, and half a degree north of it.
const MARKET: (i32, i32) = (511_694_000, 714_491_000);
const FAR: (i32, i32) = (516_694_000, 714_491_000);

fn dispatch(reference: &str) -> Value {
    json!({
        "department": "Astana", "source": "dispatch", "reference": reference, "text": "disorder at the market",
        "place": { "latitude": 51.1694, "longitude": 71.4491, "metres": 300 },
        "from": at(0), "to": at(60), "badges": ["1234"], "categories": ["disorder"]
    })
}

impl Rig {
    async fn open(&self, body: &Value) -> Value {
        let response = self.send_json(Method::POST, "/v1/incidents", body, &[]).await;
        assert_eq!(response.status(), 201, "{body}");
        response.json().await.unwrap()
    }

    async fn incident(&self, id: &Value) -> Value {
        self.json(&format!("/v1/incidents/{}", id.as_str().unwrap())).await
    }

    async fn step(&self, id: &Value, transition: &str) -> reqwest::Response {
        let body = json!({ "transition": transition, "reason": "it is so" });
        let path = format!("/v1/incidents/{}/transitions", id.as_str().unwrap());
        self.send_json(Method::POST, &path, &body, &[]).await
    }

    fn assign(&self, device: &Device, assignee: &str, from: u64) {
        let wanted = Assignment { from: BEGIN + from * S, to: None, assignee: assignee.to_owned() };
        self.fleet.assign(device.id, &wanted, "account:anna").unwrap();
    }

    /// A segment of 2 s from this second on, at this place.
    async fn send_from(&self, device: &mut Device, place: (i32, i32), second: u64) {
        if device.chain.next_sequence() == 0 {
            device.chain.captured_at = BEGIN;
            self.send(device.chain.start(&device.key)).await;
        }
        device.chain.captured_at = BEGIN + second * S;
        let mut link = device.chain.media(&device.key, Bytes::from(vec![second as u8; 900]));
        link.header.fixes = vec![Fix {
            offset_ms: 500,
            latitude_e7: place.0,
            longitude_e7: place.1,
            accuracy_dm: 50,
            speed_cms: 0,
            course_cdeg: u16::MAX,
        }];
        let link = crate::chain::sign(&device.key, link.header, link.payload);
        device.chain.goes_on_from(&link);
        self.send(link).await;
    }

    fn round(&self) {
        self.incidents.round().unwrap();
    }
}

fn recorders(incident: &Value) -> Vec<&str> {
    incident["recorders"].as_array().unwrap().iter().map(|found| found["recorder"].as_str().unwrap()).collect()
}

fn admit(rig: &Rig, name: &str, role: Role, department: &str) -> String {
    let token = format!("token-of-{name}-for-incidents");
    let departments = Some(vec![department.to_owned()]);
    rig.access.admit(&token, &format!("account:{name}"), Grants::new(vec![Grant { role, departments }])).unwrap();
    token
}

async fn seal(rig: &Rig, inspector: &str, device: &Device) {
    let class = json!({ "class": "sealed", "reason": "a check" }).to_string();
    let path = format!("/v1/recorders/{}/class", device.id);
    assert_eq!(rig.ask_as(inspector, Method::PUT, &path, Some(&class), &[]).await.status(), 200);
}

#[tokio::test]
async fn the_same_under_the_same_name_is_one_incident_and_another_is_refused() {
    let rig = Rig::start().await;
    let first = rig.open(&dispatch("17")).await;
    let again = rig.send_json(Method::POST, "/v1/incidents", &dispatch("17"), &[]).await;
    assert_eq!(again.status(), 200);
    assert_eq!(again.json::<Value>().await.unwrap()["id"], first["id"]);
    let mut other = dispatch("17");
    other["text"] = json!("something else");
    problem(rig.send_json(Method::POST, "/v1/incidents", &other, &[]).await, 409, "another body").await;
    let mut elsewhere = dispatch("17");
    elsewhere["department"] = json!("Almaty");
    assert_ne!(rig.open(&elsewhere).await["id"], first["id"], "each department has names of its own");
    assert_eq!(rig.json("/v1/incidents").await["incidents"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn of_many_posts_at_once_one_makes_the_incident() {
    let rig = Rig::start().await;
    let body = dispatch("race");
    let posts = (0..16).map(|_| rig.send_json(Method::POST, "/v1/incidents", &body, &[]));
    let answers = futures_util::future::join_all(posts).await;
    let made = answers.iter().filter(|answer| answer.status() == 201).count();
    assert!(made == 1 && answers.iter().all(|answer| [200, 201].contains(&answer.status().as_u16())));
    assert_eq!(rig.json("/v1/incidents").await["incidents"].as_array().unwrap().len(), 1);
    let opened = rig.audit().iter().filter(|entry| entry.event == Event::Incident).count();
    assert_eq!(opened, 1);
}

#[tokio::test]
async fn its_recorders_are_found_by_who_had_them_and_by_where_they_were() {
    let rig = Rig::start().await;
    let (worn, mut near, mut far) = (rig.officer(), rig.officer(), rig.officer());
    let mut foreign = rig.enrol(RecorderKind::Officer, "Almaty");
    rig.assign(&worn, "1234", 0);
    // Somebody has another one when it is over.
    rig.assign(&rig.officer(), "1234", 60);
    rig.send_from(&mut near, MARKET, 10).await;
    rig.send_from(&mut far, FAR, 10).await;
    rig.send_from(&mut foreign, MARKET, 10).await;
    let made = rig.open(&dispatch("17")).await;
    assert_eq!((&made["searched"], &made["matched"], &made["state"]), (&json!(false), &json!(false), &json!("open")));
    rig.round();
    let incident = rig.incident(&made["id"]).await;
    let mut found = recorders(&incident);
    found.sort_unstable();
    let mut expected = [worn.id.to_string(), near.id.to_string()];
    expected.sort_unstable();
    assert_eq!(found, expected);
    for one in incident["recorders"].as_array().unwrap() {
        let by_badge = one["recorder"] == worn.id.to_string();
        assert_eq!((one["badge"] == "1234", one["metres"].as_u64().is_some_and(|m| m < 2)), (by_badge, !by_badge));
        let hold = rig.json(&format!("/v1/holds?recorder={}", one["recorder"].as_str().unwrap())).await;
        let hold = &hold["holds"][0];
        assert_eq!((&hold["id"], &hold["incident"], &hold["from"]), (&one["hold"], &made["id"], &json!(at(0))));
        let pull = rig.json(&format!("/v1/pulls/{}", one["pull"].as_str().unwrap())).await;
        assert_eq!((&pull["reason"], &pull["to"]), (&made["id"], &json!(at(60))));
    }
    rig.round();
    assert_eq!(rig.json("/v1/holds").await["holds"].as_array().unwrap().len(), 2, "each is held once");
}

#[tokio::test]
async fn what_is_uploaded_late_joins_and_what_nobody_answers_to_is_a_list() {
    let rig = Rig::start().await;
    let (mut late, worn) = (rig.officer(), rig.officer());
    let made = rig.open(&dispatch("17")).await;
    rig.round();
    let unmatched = rig.json("/v1/incidents?matched=false").await;
    assert_eq!(unmatched["incidents"][0]["id"], made["id"]);
    assert_eq!(unmatched["incidents"][0]["searched"], true);
    // From a docking station, weeks later, and the shift is written down at last.
    rig.clock.set(BEGIN + 20 * DAY_US);
    rig.send_from(&mut late, MARKET, 30).await;
    rig.send_from(&mut late, MARKET, 400).await;
    rig.send_from(&mut rig.enrol(RecorderKind::Officer, "Almaty"), MARKET, 30).await;
    rig.round();
    assert_eq!(recorders(&rig.incident(&made["id"]).await), [late.id.to_string()]);
    rig.assign(&worn, " 1234 ", 20);
    rig.clock.set(BEGIN + 20 * DAY_US + 31 * S);
    rig.round();
    assert_eq!(recorders(&rig.incident(&made["id"]).await), [late.id.to_string(), worn.id.to_string()]);
    assert_eq!(rig.json("/v1/incidents?matched=false").await["incidents"], json!([]));
    assert_eq!(rig.json("/v1/incidents?matched=true").await["incidents"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_starts_again_finds_what_arrived_while_it_was_away() {
    let rig = Rig::start().await;
    let mut late = rig.officer();
    let made = rig.open(&dispatch("17")).await;
    rig.round();
    rig.send_from(&mut late, MARKET, 30).await;
    rig.incidents_anew().round().unwrap();
    assert_eq!(recorders(&rig.incident(&made["id"]).await), [late.id.to_string()]);
}

#[tokio::test]
async fn it_goes_from_state_to_state_by_named_ways_and_keeps_its_history() {
    let rig = Rig::start().await;
    let made = rig.open(&dispatch("17")).await;
    let id = &made["id"];
    for (transition, status, state) in [
        ("close", 409, "open"),
        ("resolve", 409, "open"),
        ("confirm", 200, "confirmed"),
        ("confirm", 409, "confirmed"),
        ("resolve", 200, "resolved"),
        ("reopen", 200, "open"),
        ("dismiss", 200, "false"),
        ("close", 200, "closed"),
        ("dismiss", 409, "closed"),
        ("reopen", 200, "open"),
    ] {
        assert_eq!(rig.step(id, transition).await.status(), status, "{transition}");
        assert_eq!(rig.incident(id).await["state"], state);
    }
    let told = problem(rig.step(id, "close").await, 409, "close").await;
    assert_eq!(told["detail"], "the incident is open: from there confirm or dismiss only");
    let incident = rig.incident(id).await;
    let ways: Vec<_> = incident["history"].as_array().unwrap().iter().map(|step| &step["transition"]).collect();
    assert_eq!(ways, ["confirm", "resolve", "reopen", "dismiss", "close", "reopen"]);
    assert_eq!(
        (&incident["history"][0]["by"], &incident["history"][0]["reason"]),
        (&json!("token:first-start"), &json!("it is so"))
    );
    let audited = rig.audit().into_iter().filter(|entry| entry.event == Event::Incident).map(|entry| entry.action);
    let id = id.as_str().unwrap();
    assert_eq!(audited.filter(|action| *action == format!("reopen {id}")).count(), 2);
    problem(rig.step(&json!(id), "vanish").await, 400, "a way that there is not").await;
    problem(rig.step(&json!("incident-99"), "confirm").await, 404, "none").await;
    problem(rig.step(&json!("incident-01"), "confirm").await, 404, "not its name").await;
}

#[tokio::test]
async fn what_it_holds_is_not_deleted_and_two_people_release_it() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.assign(&device, "1234", 0);
    rig.record(&mut device, 5).await;
    let mut call = dispatch("17");
    call["to"] = json!(at(4));
    let made = rig.open(&call).await;
    rig.round();
    let path = format!("/v1/incidents/{}/release", made["id"].as_str().unwrap());
    let release = async |token: &str| rig.ask_as(token, Method::POST, &path, None, &[]).await;
    problem(release(TOKEN).await, 409, "it is open").await;
    let days_over = |later: u32| {
        rig.clock.set(u64::from(day_of(BEGIN) + 91 + later) * DAY_US);
        rig.retention.round().unwrap();
    };
    days_over(0);
    let coverage = format!("/v1/recorders/{}/coverage?from={}&to={}", device.id, at(0), at(10));
    assert_eq!(rig.json(&coverage).await["spans"][0]["to"], at(4), "held, and the rest is gone");
    for transition in ["confirm", "resolve", "close"] {
        assert_eq!(rig.step(&made["id"], transition).await.status(), 200, "{transition}");
    }
    rig.round();
    let hold = rig.json("/v1/holds").await["holds"][0].clone();
    assert_eq!((&hold["state"], &hold["asked"]["by"]), (&json!("release-asked"), &json!("token:first-start")));
    problem(release(TOKEN).await, 403, "nobody alone").await;
    let other = admit(&rig, "berik", Role::Supervisor, "Astana");
    let done = release(&other).await;
    assert_eq!((done.status().as_u16(), done.json::<Value>().await.unwrap()), (200, json!({ "released": 1 })));
    problem(release(&other).await, 409, "nothing is left").await;
    days_over(120);
    assert_eq!(rig.json(&coverage).await["spans"], json!([]));
    let released = rig.audit().into_iter().filter(|entry| entry.event == Event::Release);
    assert!(released.filter(|entry| entry.object == device.id.to_string()).count() >= 2);
}

#[tokio::test]
async fn what_is_opened_again_is_held_anew_whatever_was_asked_for() {
    let rig = Rig::start().await;
    let device = rig.officer();
    rig.assign(&device, "1234", 0);
    let made = rig.open(&dispatch("17")).await;
    rig.round();
    for transition in ["dismiss", "close", "reopen"] {
        assert_eq!(rig.step(&made["id"], transition).await.status(), 200, "{transition}");
    }
    rig.round();
    let asked = rig.json("/v1/holds?state=release-asked").await;
    let other = Act { at: 2, by: "account:berik".to_owned(), reason: String::new() };
    rig.retention.confirm_release(device.id, 1, other).unwrap();
    assert_eq!(asked["holds"].as_array().unwrap().len(), 1);
    let standing = rig.json("/v1/holds?state=standing").await;
    assert_eq!(standing["holds"][0]["id"], rig.incident(&made["id"]).await["recorders"][0]["hold"]);
}

#[tokio::test]
async fn notes_marks_and_exports_are_collected() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.assign(&device, "1234", 0);
    rig.record(&mut device, 2).await;
    let made = rig.open(&dispatch("17")).await;
    rig.round();
    let mark = rig.mark(&device, json!({ "category": "insult", "at": at(30) })).await;
    rig.mark(&device, json!({ "category": "phone", "at": at(300) })).await;
    let order =
        json!({ "recorders": [device.id.to_string()], "from": at(0), "to": at(9), "purpose": "17", "reason": "x" });
    let export: Value = rig.send_json(Method::POST, "/v1/exports", &order, &[]).await.json().await.unwrap();
    let path = format!("/v1/incidents/{}/notes", made["id"].as_str().unwrap());
    for body in [json!({ "text": "called back" }), json!({ "mark": mark["id"] }), json!({ "export": export["id"] })] {
        let response = rig.send_json(Method::POST, &path, &body, &[]).await;
        assert_eq!(response.status(), 201, "{body}");
    }
    for (body, status) in [
        (json!({}), 400),
        (json!({ "text": "x".repeat(2_001) }), 400),
        (json!({ "mark": format!("{}-1-o1", device.id) }), 404),
        (json!({ "export": "nothing" }), 404),
    ] {
        problem(rig.send_json(Method::POST, &path, &body, &[]).await, status, &body.to_string()).await;
    }
    let incident = rig.incident(&made["id"]).await;
    assert_eq!(incident["notes"], 3);
    assert_eq!((&incident["marks"][0]["id"], incident["marks"].as_array().unwrap().len()), (&mark["id"], 1));
    let first = rig.json(&format!("{path}?limit=2")).await;
    assert_eq!((&first["notes"][0]["text"], &first["notes"][1]["mark"]), (&json!("called back"), &mark["id"]));
    let rest = rig.json(&format!("{path}?cursor={}", first["next"])).await;
    assert_eq!((&rest["notes"][0]["export"], &rest["next"]), (&export["id"], &Value::Null));
}

#[tokio::test]
async fn another_department_is_told_nothing_anywhere() {
    let rig = Rig::start().await;
    let device = rig.officer();
    rig.assign(&device, "1234", 0);
    let made = rig.open(&dispatch("17")).await;
    rig.round();
    let theirs = admit(&rig, "daniyar", Role::Supervisor, "Almaty");
    let id = made["id"].as_str().unwrap();
    let step = json!({ "transition": "confirm", "reason": "x" }).to_string();
    let note = json!({ "text": "x" }).to_string();
    for (method, path, body) in [
        (Method::GET, "", None),
        (Method::GET, "/notes", None),
        (Method::POST, "/notes", Some(&note)),
        (Method::POST, "/transitions", Some(&step)),
        (Method::POST, "/release", None),
    ] {
        let ask = async |id: &str| {
            let path = format!("/v1/incidents/{id}{path}");
            let answer = rig.ask_as(&theirs, method.clone(), &path, body.map(String::as_str), &[]).await;
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        assert_eq!(ask(id).await, ask("incident-99").await, "{method} {path}");
        assert_eq!(ask(id).await.0, 404);
    }
    let listed = rig.ask_as(&theirs, Method::GET, "/v1/incidents", None, &[]).await.text().await.unwrap();
    assert_eq!(listed, r#"{"incidents":[]}"#);
    let body = dispatch("18").to_string();
    problem(rig.ask_as(&theirs, Method::POST, "/v1/incidents", Some(&body), &[]).await, 404, "not theirs").await;
    let events = "/v1/events?after=0&kinds=incident&follow=false";
    let told = rig.ask_as(&theirs, Method::GET, events, None, &[]).await.text().await.unwrap();
    assert!(!told.contains("data:"), "{told}");
    let own = admit(&rig, "erlan", Role::Operator, "Astana");
    let told = rig.ask_as(&own, Method::GET, events, None, &[]).await.text().await.unwrap();
    assert_eq!(told.matches("event: incident").count(), 2, "{told}");
    // An operator steps on, and does not ask for the release of what is held.
    let close = json!({ "transition": "close", "reason": "x" }).to_string();
    let path = format!("/v1/incidents/{id}/transitions");
    problem(rig.ask_as(&own, Method::POST, &path, Some(&close), &[]).await, 403, "close").await;
    let path = format!("/v1/incidents/{id}/release");
    problem(rig.ask_as(&own, Method::POST, &path, None, &[]).await, 403, "release").await;
}

#[tokio::test]
async fn a_recorder_that_is_kept_from_someone_does_not_count() {
    let rig = Rig::start().await;
    let device = rig.officer();
    rig.assign(&device, "1234", 0);
    let made = rig.open(&dispatch("17")).await;
    rig.round();
    let mark = rig.mark(&device, json!({ "category": "insult", "at": at(30) })).await;
    let inspector = admit(&rig, "inspector", Role::Inspector, "Astana");
    seal(&rig, &inspector, &device).await;
    let operator = admit(&rig, "erlan", Role::Operator, "Astana");
    let path = format!("/v1/incidents/{}", made["id"].as_str().unwrap());
    let shown: Value = rig.ask_as(&operator, Method::GET, &path, None, &[]).await.json().await.unwrap();
    assert_eq!((&shown["matched"], &shown["recorders"]), (&json!(false), &json!([])));
    assert_eq!(shown["marks"], json!([]));
    let unmatched = rig.ask_as(&operator, Method::GET, "/v1/incidents?matched=false", None, &[]).await;
    assert_eq!(unmatched.json::<Value>().await.unwrap()["incidents"].as_array().unwrap().len(), 1);
    let shown: Value = rig.ask_as(&inspector, Method::GET, &path, None, &[]).await.json().await.unwrap();
    assert_eq!((&shown["matched"], &shown["marks"][0]["id"]), (&json!(true), &mark["id"]));
}

#[tokio::test]
async fn lists_are_filtered_and_their_pages_stand_while_incidents_come_in() {
    let rig = Rig::start().await;
    for number in 1..=4 {
        rig.open(&dispatch(&number.to_string())).await;
    }
    let first = rig.json("/v1/incidents?limit=2").await;
    rig.open(&json!({ "department": "Almaty", "source": "operator", "text": "seen", "at": at(5_000) })).await;
    let ids = |page: &Value| -> Vec<Value> {
        page["incidents"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect()
    };
    assert_eq!(ids(&first), ["incident-4", "incident-3"]);
    let rest = rig.json(&format!("/v1/incidents?cursor={}", first["next"].as_str().unwrap())).await;
    assert_eq!(ids(&rest), ["incident-2", "incident-1"]);
    assert_eq!(rig.step(&json!("incident-2"), "confirm").await.status(), 200);
    for (query, expected) in [
        ("?source=operator", vec!["incident-5"]),
        ("?department=Almaty", vec!["incident-5"]),
        ("?state=confirmed", vec!["incident-2"]),
        ("?category=disorder&limit=1", vec!["incident-4"]),
        (&format!("?from={}", at(60)), vec!["incident-5"]),
        (&format!("?to={}", at(60)), vec!["incident-4", "incident-3", "incident-2", "incident-1"]),
    ] {
        assert_eq!(ids(&rig.json(&format!("/v1/incidents{query}")).await), expected, "{query}");
    }
}

#[tokio::test]
async fn what_is_no_incident_is_refused() {
    let rig = Rig::start().await;
    let change = |name: &str, value: Value| {
        let mut body = dispatch("17");
        body[name] = value;
        body
    };
    for body in [
        change("reference", Value::Null),
        change("reference", json!("x".repeat(129))),
        change("source", json!("rumour")),
        change("text", json!("")),
        change("department", json!("a\nb")),
        change("at", json!(at(0))),
        change("to", json!(at(0))),
        change("to", json!(at(32 * 86_400))),
        change("place", json!({ "latitude": 91.0, "longitude": 0.0, "metres": 1 })),
        change("place", json!({ "latitude": 1e300, "longitude": 0.0, "metres": 1 })),
        change("place", json!({ "latitude": 1.0, "longitude": 0.0, "metres": 0 })),
        change("badges", json!(vec!["1"; 101])),
        change("categories", json!(vec!["1"; 17])),
        change("colour", json!("red")),
    ] {
        problem(rig.send_json(Method::POST, "/v1/incidents", &body, &[]).await, 400, &body.to_string()).await;
    }
    assert_eq!(rig.json("/v1/incidents").await["incidents"], json!([]));
    let hotline = json!({ "department": "Astana", "source": "hotline", "reference": "1402/77", "text": "a bribe was asked for", "at": at(0) });
    let made = rig.open(&hotline).await;
    let earlier: Micros = BEGIN - 600 * S;
    assert_eq!(made["from"], aigaq::lookup::time::format(earlier));
}

#[tokio::test]
async fn what_is_noted_of_a_sealed_recorder_is_told_those_alone_who_may_find_it() {
    let rig = Rig::start().await;
    let (mut sealed, mut open) = (rig.officer(), rig.officer());
    rig.record(&mut sealed, 2).await;
    rig.record(&mut open, 2).await;
    let inspector = admit(&rig, "inspector", Role::Inspector, "Astana");
    let made = rig.open(&dispatch("17")).await;
    let hidden = rig.mark(&sealed, json!({ "category": "insult", "at": at(1) })).await;
    let shown = rig.mark(&open, json!({ "category": "insult", "at": at(1) })).await;
    let order =
        json!({ "recorders": [sealed.id.to_string()], "from": at(0), "to": at(9), "purpose": "17", "reason": "x" });
    let export: Value = rig.send_json(Method::POST, "/v1/exports", &order, &[]).await.json().await.unwrap();
    let path = format!("/v1/incidents/{}/notes", made["id"].as_str().unwrap());
    for body in [
        json!({ "mark": hidden["id"] }),
        json!({ "mark": shown["id"] }),
        json!({ "export": export["id"] }),
        json!({ "text": "look at this", "mark": hidden["id"] }),
    ] {
        assert_eq!(rig.send_json(Method::POST, &path, &body, &[]).await.status(), 201, "{body}");
    }
    seal(&rig, &inspector, &sealed).await;
    let notes = async |token: &str, query: &str| -> Value {
        let path = format!("{path}{query}");
        rig.ask_as(token, Method::GET, &path, None, &[]).await.json().await.unwrap()
    };
    let operator = admit(&rig, "erlan", Role::Operator, "Astana");
    let told = notes(&operator, "").await;
    let (hidden, exported) = (hidden["id"].as_str().unwrap(), export["id"].as_str().unwrap());
    assert!(!told.to_string().contains(hidden) && !told.to_string().contains(exported), "{told}");
    let numbers = |told: &Value| -> Vec<u64> {
        told["notes"].as_array().unwrap().iter().map(|note| note["number"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&told), [2, 4]);
    assert_eq!((&told["notes"][1]["text"], &told["notes"][1]["mark"]), (&json!("look at this"), &Value::Null));
    // Page by page it is the same, whatever is left out between.
    let first = notes(&operator, "?limit=1").await;
    let second = notes(&operator, &format!("?limit=1&cursor={}", first["next"])).await;
    assert_eq!((numbers(&first), numbers(&second), &second["next"]), (vec![2], vec![4], &Value::Null));
    let told = notes(&inspector, "").await;
    assert_eq!(numbers(&told), [1, 2, 3, 4]);
    assert_eq!((&told["notes"][0]["mark"], &told["notes"][2]["export"]), (&json!(hidden), &json!(exported)));
}

#[tokio::test]
async fn a_recorder_that_was_sealed_before_it_was_found_is_announced_to_nobody_else() {
    let rig = Rig::start().await;
    let (mut sealed, mut later, mut seen) = (rig.officer(), rig.officer(), rig.officer());
    let inspector = admit(&rig, "inspector", Role::Inspector, "Astana");
    for device in [&sealed, &later] {
        seal(&rig, &inspector, device).await;
    }
    rig.send_from(&mut sealed, MARKET, 10).await;
    let made = rig.open(&dispatch("17")).await;
    rig.round();
    rig.send_from(&mut later, MARKET, 20).await;
    rig.round();
    let operator = admit(&rig, "erlan", Role::Operator, "Astana");
    let supervisor = admit(&rig, "berik", Role::Supervisor, "Astana");
    let auditor = admit(&rig, "aliya", Role::Auditor, "Astana");
    let events = async |token: &str| {
        let path = "/v1/events?after=0&kinds=incident&follow=false";
        let told = rig.ask_as(token, Method::GET, path, None, &[]).await.text().await.unwrap();
        let data = told.lines().filter_map(|line| line.strip_prefix("data:"));
        let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
        events.iter().map(|event| (event["what"].clone(), event["recorder"]["id"].clone())).collect::<Vec<_>>()
    };
    let everybody = vec![(json!("opened"), Value::Null), (json!("searched"), Value::Null)];
    let found = |device: &Device| (json!("found"), json!(device.id.to_string()));
    for token in [&operator, &supervisor] {
        assert_eq!(events(token).await, everybody);
    }
    assert_eq!(events(&inspector).await, [everybody.clone(), vec![found(&later)]].concat());
    // One that everybody may find is announced to everybody.
    rig.send_from(&mut seen, MARKET, 30).await;
    rig.round();
    assert_eq!(events(&operator).await, [everybody, vec![found(&seen)]].concat());
    // Nor to another department, when the recorder has come there.
    let record = rig.store.recorder(seen.id).unwrap().unwrap();
    rig.store.enrol(&RecorderRecord { department: "Almaty".to_owned(), ..record }).unwrap();
    let elsewhere = admit(&rig, "daniyar", Role::Supervisor, "Almaty");
    assert_eq!(events(&elsewhere).await, []);
    // Nor does the trail tell how many there are.
    let trail = async |token: &str| {
        let path = "/v1/audit?event=incident&limit=1000";
        let told: Value = rig.ask_as(token, Method::GET, path, None, &[]).await.json().await.unwrap();
        let entries = told["entries"].as_array().unwrap().clone();
        let by_server = entries.into_iter().filter(|entry| entry["actor"] == "incident");
        let mut actions: Vec<String> = by_server.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect();
        actions.sort_unstable();
        actions
    };
    let id = made["id"].as_str().unwrap();
    let find = |device: &Device| format!("find {} for {id}", device.id);
    assert_eq!(trail(&auditor).await, [format!("look for the recorders of {id}")]);
    let mut all = vec![find(&seen), find(&sealed), find(&later), format!("look for the recorders of {id}")];
    all.sort_unstable();
    assert_eq!(trail(TOKEN).await, all);
}

#[tokio::test]
async fn what_is_opened_again_is_held_before_anybody_is_told_so() {
    let rig = Rig::start().await;
    let device = rig.officer();
    rig.assign(&device, "1234", 0);
    let made = rig.open(&dispatch("17")).await;
    rig.round();
    for transition in ["dismiss", "close", "reopen"] {
        assert_eq!(rig.step(&made["id"], transition).await.status(), 200, "{transition}");
    }
    // No round was made since.
    let standing = rig.json("/v1/holds?state=standing").await;
    let incident = rig.incident(&made["id"]).await;
    assert_eq!(standing["holds"][0]["id"], incident["recorders"][0]["hold"]);
    assert!(standing["holds"][0]["id"].is_string() && incident["recorders"][0]["pull"].is_null());
    rig.round();
    assert!(rig.incident(&made["id"]).await["recorders"][0]["pull"].is_string(), "it is asked for anew");
    assert_eq!(rig.json("/v1/holds").await["holds"].as_array().unwrap().len(), 2, "and held once more, not twice");
}

#[tokio::test]
async fn a_page_ends_before_it_is_more_than_fits_into_one() {
    let rig = Rig::start().await;
    let made = rig.open(&dispatch("0")).await;
    let record = rig.store.incident(1).unwrap().unwrap();
    let by = Act { at: BEGIN, by: "account:anna".to_owned(), reason: "again".to_owned() };
    let (from, to) = (IncidentState::Open, IncidentState::Confirmed);
    let step = StepRecord { transition: Transition::Confirm, from, to, act: by };
    for _ in 0..12 {
        let mut full = record.clone();
        full.call.reference = String::new();
        full.history = vec![step.clone(); 1_000];
        let entry = AuditRecord::new(BEGIN, Event::Incident, "account:anna", "::1", "open".to_owned());
        rig.store.open_incident(full, entry).unwrap();
    }
    for query in ["limit=1000", "limit=1000&matched=false"] {
        let first = rig.json(&format!("/v1/incidents?{query}")).await;
        assert_eq!(first["incidents"].as_array().unwrap().len(), 10, "{query}");
        let rest = rig.json(&format!("/v1/incidents?{query}&cursor={}", first["next"].as_str().unwrap())).await;
        assert_eq!((rest["incidents"].as_array().unwrap().len(), &rest["next"]), (3, &Value::Null));
        assert_eq!(rest["incidents"][2]["id"], made["id"]);
    }
    assert_eq!(rig.json("/v1/incidents?matched=true").await["incidents"], json!([]));
}

#[tokio::test]
async fn whoever_closes_or_releases_does_so_for_the_recorders_alone_that_they_may_release() {
    let rig = Rig::start().await;
    let (open, sealed) = (rig.officer(), rig.officer());
    for device in [&open, &sealed] {
        rig.assign(device, "1234", 0);
    }
    let (first, second) = (rig.open(&dispatch("17")).await, rig.open(&dispatch("18")).await);
    rig.round();
    seal(&rig, &admit(&rig, "inspector", Role::Inspector, "Astana"), &sealed).await;
    let supervisor = admit(&rig, "berik", Role::Supervisor, "Astana");
    let states = async |of: &Value| -> Vec<(String, String)> {
        let all = rig.json("/v1/holds").await["holds"].as_array().unwrap().clone();
        let of_it = all.iter().filter(|hold| hold["incident"] == of["id"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut states: Vec<_> = of_it.map(|hold| (text(&hold["recorder"]), text(&hold["state"]))).collect();
        states.sort_unstable();
        states
    };
    let expected = |of_open: &str, of_sealed: &str| {
        let mut all = vec![(open.id.to_string(), of_open.to_owned()), (sealed.id.to_string(), of_sealed.to_owned())];
        all.sort_unstable();
        all
    };
    for transition in ["dismiss", "close"] {
        let path = format!("/v1/incidents/{}/transitions", first["id"].as_str().unwrap());
        let body = json!({ "transition": transition, "reason": "x" }).to_string();
        assert_eq!(rig.ask_as(&supervisor, Method::POST, &path, Some(&body), &[]).await.status(), 200);
    }
    assert_eq!(states(&first).await, expected("release-asked", "standing"));
    for transition in ["dismiss", "close"] {
        assert_eq!(rig.step(&second["id"], transition).await.status(), 200);
    }
    assert_eq!(states(&second).await, expected("release-asked", "release-asked"));
    let path = format!("/v1/incidents/{}/release", second["id"].as_str().unwrap());
    let done = rig.ask_as(&supervisor, Method::POST, &path, None, &[]).await;
    assert_eq!(done.json::<Value>().await.unwrap(), json!({ "released": 1 }));
    assert_eq!(states(&second).await, expected("released", "release-asked"));
    assert_eq!(states(&first).await, expected("release-asked", "standing"), "each incident has holds of its own");
}
