//! Which footage there is, over HTTP: what is told of it, pages, who may find what, and questions that are none.

use aigaq::access::{Grant, Grants, Role};
use aigaq::store::records::RecorderKind;
use aigaq_proto::link::Fix;
use aigaq_proto::message::SpoolSummary;
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::chain::{Link, sign};
use crate::rig::{BEGIN, Device, Rig, TOKEN, at, problem};

const S: u64 = 1_000_000;

fn fix(latitude: f64, longitude: f64) -> Fix {
    let e7 = |degrees: f64| (degrees * 1e7).round() as i32;
    let (latitude_e7, longitude_e7) = (e7(latitude), e7(longitude));
    Fix { offset_ms: 500, latitude_e7, longitude_e7, accuracy_dm: 45, speed_cms: 0, course_cdeg: 0 }
}

/// A segment of 2 s that was taken there.
fn segment(device: &mut Device, fixes: Vec<Fix>) -> Link {
    let link = device.chain.media(&device.key, Bytes::from_static(b"footage"));
    let header = aigaq_proto::LinkHeader { fixes, ..link.header };
    let link = sign(&device.key, header, link.payload);
    device.chain.goes_on_from(&link);
    link
}

async fn record_at(rig: &Rig, device: &mut Device, places: &[(f64, f64)]) {
    let start = device.chain.start(&device.key);
    rig.send(start).await;
    for (latitude, longitude) in places {
        let link = segment(device, vec![fix(*latitude, *longitude)]);
        rig.send(link).await;
    }
}

fn path(query: &str) -> String {
    format!("/v1/recordings?from={}&to={}{query}", at(0), at(3_600))
}

fn recorders(page: &Value) -> Vec<String> {
    let all = page["recordings"].as_array().unwrap();
    all.iter().map(|one| one["recorder"].as_str().unwrap().to_owned()).collect()
}

fn admit(rig: &Rig, role: Role, department: Option<&str>) -> String {
    let token = format!("token-of-{}-in-{}", role.name(), department.unwrap_or("all"));
    let departments = department.map(|one| vec![one.to_owned()]);
    rig.access.admit(&token, &format!("{}:test", role.name()), Grants::new(vec![Grant { role, departments }])).unwrap();
    token
}

async fn ask_as(rig: &Rig, token: &str, query: &str) -> Value {
    let answer = rig.ask_as(token, Method::GET, &path(query), None, &[]).await;
    assert_eq!(answer.status(), 200, "{query}");
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_recording_says_whose_it_is_when_where_and_who_had_it() {
    let rig = Rig::start().await;
    let mut device = rig.enrol_as(RecorderKind::Vehicle, "Astana", "Car 7");
    record_at(&rig, &mut device, &[(51.1282, 71.4304), (51.1290, 71.4304)]).await;
    rig.send(device.chain.mark(&device.key, "bribe-attempt")).await;
    let assigned = json!({ "assignee": "badge 1042", "from": at(0) });
    rig.send_json(Method::POST, &format!("/v1/recorders/{}/assignments", device.id), &assigned, &[]).await;
    let mut page = rig.json(&path("&near=51.1282,71.4304,300")).await;
    let marks = page["recordings"][0].as_object_mut().unwrap().remove("marks").unwrap();
    assert_eq!(marks.as_array().unwrap().len(), 1, "{marks}");
    assert_eq!(
        (&marks[0]["category"], &marks[0]["sequence"], &marks[0]["at"]),
        (&json!("bribe-attempt"), &json!(3), &json!(at(4)))
    );
    let expected = json!({ "recordings": [{
        "recorder": device.id.to_string(), "label": "Car 7", "kind": "vehicle", "department": "Astana",
        "from": at(0), "to": at(4), "first_sequence": 1, "last_sequence": 2, "segments": 2, "bytes": 14, "live": false,
        "assignments": [{ "assignee": "badge 1042", "from": at(0), "to": null }],
        "nearest": { "at": "2026-01-17T09:14:00.500000Z", "metres": 0.0 }
    }] });
    assert_eq!(page, expected);
    assert_eq!(rig.audit().pop().unwrap().action, format!("GET {}", path("&near=51.1282,71.4304,300")));
    rig.clock.set(BEGIN + 30 * S);
    let seat = rig.fleet.enter(device.id, None, &SpoolSummary::default(), None).unwrap();
    assert_eq!(rig.json(&path("")).await["recordings"][0]["live"], true);
    drop(seat);
    assert_eq!(rig.json(&path("")).await["recordings"][0]["live"], false);
    for query in
        ["&kind=vehicle", "&department=Astana", "&assignee=badge%201042", "&mark=bribe-attempt", "&text=car%207"]
    {
        assert_eq!(rig.json(&path(query)).await["recordings"].as_array().unwrap().len(), 1, "{query}");
    }
    for query in [
        "&kind=officer",
        "&department=Pavlodar",
        "&assignee=badge",
        "&mark=speeding",
        "&text=bus",
        "&near=51.2,71.4,300",
    ] {
        assert_eq!(rig.json(&path(query)).await, json!({ "recordings": [] }), "{query}");
    }
    for query in [
        "&bbox=71.43,51.12,71.44,51.13",
        "&polygon=51.12,71.43;51.12,71.44;51.13,71.44;51.13,71.43",
        "&polygon={%22type%22:%22Polygon%22,%22coordinates%22:[[[71.43,51.12],[71.44,51.12],[71.44,51.13],[71.43,51.13],[71.43,51.12]]]}",
    ] {
        let found = rig.json(&path(query)).await;
        assert_eq!(found["recordings"][0]["segments"], 2, "{query}");
        assert!(found["recordings"][0].get("nearest").is_none());
    }
}

#[tokio::test]
async fn what_arrives_late_lies_at_its_recorded_time_and_pages_stay_as_they_are() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let mut late = Vec::new();
    for hour in 0..4 {
        device.chain.captured_at = BEGIN + hour * 600 * S;
        rig.send(device.chain.start(&device.key)).await;
        let link = segment(&mut device, Vec::new());
        if hour == 1 { late.push(link) } else { rig.send(link).await }
    }
    let begins = |page: &Value| -> Vec<String> {
        let all = page["recordings"].as_array().unwrap();
        all.iter().map(|one| one["from"].as_str().unwrap().to_owned()).collect()
    };
    let first = rig.json(&path("&limit=2")).await;
    assert_eq!(begins(&first), [at(0), at(1_200)]);
    for link in late {
        rig.send(link).await;
    }
    let second = rig.json(&path(&format!("&limit=2&cursor={}", first["next"].as_str().unwrap()))).await;
    assert_eq!((begins(&second), second.get("next")), (vec![at(1_800)], None));
    assert_eq!(begins(&rig.json(&path("")).await), [at(0), at(600), at(1_200), at(1_800)]);
}

#[tokio::test]
async fn what_is_another_departments_or_kept_from_eyes_is_in_no_answer_and_in_no_cursor() {
    let rig = Rig::start().await;
    let mut of_astana: Vec<Device> = (0..3).map(|_| rig.enrol(RecorderKind::Officer, "Astana")).collect();
    let mut of_pavlodar: Vec<Device> = (0..3).map(|_| rig.enrol(RecorderKind::Officer, "Pavlodar")).collect();
    for device in of_astana.iter_mut().chain(&mut of_pavlodar) {
        record_at(&rig, device, &[(51.1282, 71.4304)]).await;
    }
    let mut ids: Vec<String> = of_astana.iter().map(|device| device.id.to_string()).collect();
    ids.sort();
    let queries = ["", "&near=51.1282,71.4304,300", "&bbox=71.43,51.12,71.44,51.13", "&kind=officer"];
    for role in Role::ALL {
        let theirs = admit(&rig, role, Some("Astana"));
        let nobodys = admit(&rig, role, Some("Karaganda"));
        for query in queries {
            let mut found = Vec::new();
            let mut cursor = String::new();
            loop {
                let page = ask_as(&rig, &theirs, &format!("{query}&limit=1{cursor}")).await;
                found.extend(recorders(&page));
                let Some(next) = page.get("next") else { break };
                let next = next.as_str().unwrap();
                assert!(ids.iter().any(|id| next.starts_with(id)), "{next} names another department's");
                cursor = format!("&cursor={next}");
            }
            assert_eq!(found, ids, "{role:?} {query}");
            assert_eq!(ask_as(&rig, &nobodys, query).await, json!({ "recordings": [] }));
        }
        let other = format!("&recorder={}", of_pavlodar[0].id);
        assert_eq!(ask_as(&rig, &theirs, &other).await, json!({ "recordings": [] }));
        let with = format!("/v1/recorders/{}/together?from={}&to={}", of_astana[0].id, at(0), at(60));
        let with: Value = rig.ask_as(&theirs, Method::GET, &with, None, &[]).await.json().await.unwrap();
        let met: Vec<&str> =
            with["with"].as_array().unwrap().iter().map(|one| one["recorder"].as_str().unwrap()).collect();
        assert_eq!(met.len(), 2, "{with}");
        assert!(met.iter().all(|id| ids.iter().any(|theirs| theirs == id)));
    }
    let inspector = admit(&rig, Role::Inspector, None);
    let sealed = of_astana[0].id.to_string();
    let body = r#"{"class":"sealed","reason":"a check"}"#;
    rig.ask_as(&inspector, Method::PUT, &format!("/v1/recorders/{sealed}/class"), Some(body), &[]).await;
    for role in Role::ALL {
        let token = admit(&rig, role, None);
        for query in queries {
            let found = recorders(&ask_as(&rig, &token, query).await);
            assert_eq!(found.contains(&sealed), role == Role::Inspector, "{role:?} {query}");
        }
    }
}

#[tokio::test]
async fn a_path_is_a_line_with_its_times() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    record_at(&rig, &mut device, &[(51.1282, 71.4304), (51.1290, 71.4310)]).await;
    let path = |to| format!("/v1/recorders/{}/path?from={}&to={}", device.id, at(0), at(to));
    let answer = rig.get(&path(60)).await;
    assert_eq!(answer.headers()["content-type"], "application/geo+json");
    let feature: Value = answer.json().await.unwrap();
    assert_eq!(feature["type"], "Feature");
    assert_eq!(
        feature["geometry"],
        json!({ "type": "LineString", "coordinates": [[71.4304, 51.1282], [71.431, 51.129]] })
    );
    assert_eq!(
        feature["properties"],
        json!({ "recorder": device.id.to_string(), "from": at(0), "to": at(60),
            "times": ["2026-01-17T09:14:00.500000Z", "2026-01-17T09:14:02.500000Z"], "accuracy_m": [4.5, 4.5], "sequences": [1, 2] })
    );
    assert_eq!(rig.json(&path(2)).await["geometry"], json!({ "type": "Point", "coordinates": [71.4304, 51.1282] }));
    let nothing = format!("/v1/recorders/{}/path?from={}&to={}", device.id, at(100), at(200));
    assert_eq!(rig.json(&nothing).await["geometry"], Value::Null);
}

#[tokio::test]
async fn a_question_that_is_none_is_a_problem() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let many = vec!["0,0"; 257].join(";");
    for query in [
        "&near=NaN,71,300",
        "&near=51,71,inf",
        "&near=91,71,300",
        "&near=51,181,300",
        "&near=51,71,10001",
        "&near=51,71,-1",
        "&near=51,71",
        "&bbox=71,52,72,51",
        "&bbox=-180,-90,180,90",
        "&bbox=1,2,3",
        "&polygon=1,2;3,4",
        "&polygon={",
        &format!("&polygon={many}"),
        "&near=51,71,300&bbox=71,51,71.1,51.1",
        "&limit=0",
        "&limit=1001",
        "&cursor=x",
        "&cursor=00000000000000000000000000000000-01",
        "&recorder=x",
        "&kind=balloon",
        "&assignee=",
        "&text=%00",
        "&mark=a%0Ab",
        "&unknown=1",
    ] {
        problem(rig.get(&path(query)).await, 400, query).await;
    }
    for (from, to) in [(at(10), at(0)), (at(0), at(0)), ("now".to_owned(), at(0)), (at(0), at(32 * 86_400))] {
        problem(rig.get(&format!("/v1/recordings?from={from}&to={to}")).await, 400, "range").await;
    }
    problem(rig.get("/v1/recordings").await, 400, "no range").await;
    let far_too_many = vec!["0,0"; 10_001].join(";");
    problem(rig.get(&path(&format!("&polygon={far_too_many}"))).await, 414, "ten thousand vertices").await;
    for query in ["&metres=NaN", "&metres=0", "&metres=1001", "&seconds=0", "&seconds=601", "&metres=x"] {
        let path = format!("/v1/recorders/{}/together?from={}&to={}{query}", device.id, at(0), at(60));
        problem(rig.get(&path).await, 400, query).await;
    }
    let long = format!("/v1/recorders/{}/together?from={}&to={}", device.id, at(0), at(86_401));
    problem(rig.get(&long).await, 400, "longer than a day").await;
    assert_eq!(rig.ask_as(TOKEN, Method::GET, &path(""), None, &[]).await.status(), 200);
}
