//! Recorders in the field, over HTTP: what they are asked for, who has them, why holes are there, and the dark report.

use aigaq::fleet::Seat;
use aigaq::store::records::RecorderKind;
use aigaq_proto::frame::Control;
use aigaq_proto::link::LossCause;
use aigaq_proto::message::{Progress, SpoolSummary};
use aigaq_proto::{Content, SequenceRange};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::{BEGIN, Device, Rig, at, problem};

const S: u64 = 1_000_000;

fn waiting(first: u64, last: u64, from_s: u64, to_s: u64) -> SpoolSummary {
    SpoolSummary {
        waiting: vec![SequenceRange { first, last }],
        bytes: 7_000,
        oldest: Some(BEGIN + from_s * S),
        newest: Some(BEGIN + to_s * S),
    }
}

fn connect(rig: &Rig, device: &Device, spool: &SpoolSummary) -> Seat {
    let newest = device.chain.next_sequence().checked_sub(1);
    rig.fleet.enter(device.id, newest, spool, None).unwrap()
}

fn pull(device: &Device) -> Value {
    json!({"recorder": device.id.to_string(), "from": at(0), "to": at(60), "reason": "case 7"})
}

#[tokio::test]
async fn a_pull_is_shown_from_its_making_to_its_end() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let made = rig.send_json(Method::POST, "/v1/pulls", &pull(&device), &[]).await;
    assert_eq!(made.status(), 201);
    let place = made.headers()["location"].to_str().unwrap().to_owned();
    let made: Value = made.json().await.unwrap();
    assert_eq!((&made["state"], &made["expires_at"]), (&json!("waiting"), &json!(at(3_600 + 86_400))));

    let mut seat = connect(&rig, &device, &SpoolSummary::default());
    let told = seat.due(None);
    let [Control::Request(request)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(rig.json(&place).await["state"], "sent");
    seat.progress(&Progress { id: request.id, links: 9, links_left: 4, bytes: 900, bytes_left: 400 });
    let shown = rig.json(&place).await;
    assert_eq!(shown["state"], "progress");
    assert_eq!(shown["progress"]["links_left"], 4);
    drop(seat);
    assert_eq!(rig.json(&place).await["state"], "waiting");

    let cancelled: Value = rig.ask(Method::DELETE, &place, &[]).await.json().await.unwrap();
    assert_eq!((&cancelled["state"], &cancelled["ended_at"]), (&json!("cancelled"), &json!(at(3_600))));
    let listed = rig.json(&format!("/v1/pulls?recorder={}&state=cancelled", device.id)).await;
    assert_eq!(listed["pulls"][0]["id"], made["id"]);
    assert_eq!(rig.json("/v1/pulls?state=waiting").await["pulls"], json!([]));
    let asked: Vec<String> = rig.audit().into_iter().map(|entry| entry.action).collect();
    assert_eq!((&asked[0], &asked[5]), (&"POST /v1/pulls".to_owned(), &format!("DELETE {place}")));
}

#[tokio::test]
async fn the_same_pull_under_the_same_key_is_one() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let key = [("idempotency-key", "a-key")];
    let first: Value = rig.send_json(Method::POST, "/v1/pulls", &pull(&device), &key).await.json().await.unwrap();
    let again = rig.send_json(Method::POST, "/v1/pulls", &pull(&device), &key).await;
    assert_eq!(again.status(), 200);
    assert_eq!(again.json::<Value>().await.unwrap()["id"], first["id"]);
    let other = json!({"recorder": device.id.to_string(), "from": at(0), "to": at(61), "reason": "case 7"});
    problem(rig.send_json(Method::POST, "/v1/pulls", &other, &key).await, 422, "another request").await;
}

#[tokio::test]
async fn pages_list_every_pull_once_and_too_many_open_ones_are_refused() {
    let rig = Rig::start().await;
    let device = rig.officer();
    for _ in 0..64 {
        assert_eq!(rig.send_json(Method::POST, "/v1/pulls", &pull(&device), &[]).await.status(), 201);
    }
    problem(rig.send_json(Method::POST, "/v1/pulls", &pull(&device), &[]).await, 429, "the 65th").await;
    let mut path = "/v1/pulls?limit=30".to_owned();
    let mut ids = std::collections::BTreeSet::new();
    loop {
        let page = rig.json(&path).await;
        ids.extend(page["pulls"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.get("next") else { break };
        path = format!("/v1/pulls?limit=30&cursor={}", next.as_str().unwrap());
    }
    assert_eq!(ids.len(), 64);
}

#[tokio::test]
async fn a_pull_that_makes_no_sense_is_refused() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let with = |change: Value| {
        let mut body = pull(&device);
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    let cases = [
        (with(json!({"to": at(0)})), 400),
        (with(json!({"from": "now"})), 400),
        (with(json!({"expires_in_s": 0})), 400),
        (with(json!({"expires_in_s": 1e9 as u64})), 400),
        (with(json!({"reason": " "})), 400),
        (with(json!({"reason": "\u{202e}"})), 400),
        (with(json!({"reason": "x".repeat(501)})), 400),
        (with(json!({"colour": "red"})), 400),
        (with(json!({"recorder": "0".repeat(32)})), 404),
        (json!([]), 400),
    ];
    for (body, status) in cases {
        problem(rig.send_json(Method::POST, "/v1/pulls", &body, &[]).await, status, &body.to_string()).await;
    }
    let large = json!({"reason": "x".repeat(70_000)});
    problem(rig.send_json(Method::POST, "/v1/pulls", &large, &[]).await, 413, "a large body").await;
    problem(rig.ask(Method::POST, "/v1/pulls", &[("content-type", "text/plain")]).await, 415, "a text").await;
    for (path, status) in [("/v1/pulls/x", 400), ("/v1/pulls?state=lost", 400), ("/v1/pulls?cursor=1", 400)] {
        problem(rig.get(path).await, status, path).await;
    }
    problem(rig.get(&format!("/v1/pulls/{}-1", device.id)).await, 404, "no such pull").await;
}

#[tokio::test]
async fn who_wore_it_has_one_answer_or_nobody() {
    let rig = Rig::start().await;
    let device = rig.enrol_as(RecorderKind::Officer, "Astana", "4711");
    let path = format!("/v1/recorders/{}/assignments", device.id);
    let shift = |from, to, who: &str| json!({"assignee": who, "from": at(from), "to": to});
    let made = rig.send_json(Method::POST, &path, &shift(0, json!(at(100)), "Officer A"), &[]).await;
    assert_eq!(made.status(), 201);
    assert_eq!(made.headers()["location"], format!("{path}/{}", at(0)));
    assert_eq!(rig.send_json(Method::POST, &path, &shift(100, json!(null), "Officer B"), &[]).await.status(), 201);
    assert_eq!(rig.send_json(Method::POST, &path, &shift(100, json!(null), "Officer B"), &[]).await.status(), 200);
    let overlap = rig.send_json(Method::POST, &path, &shift(50, json!(at(60)), "Officer C"), &[]).await;
    let detail = problem(overlap, 409, "an overlap").await;
    assert!(detail["detail"].as_str().unwrap().starts_with("Officer A has the recorder from"), "{detail}");

    let who = async |seconds| rig.json(&format!("/v1/assignments?label=4711&at={}", at(seconds))).await;
    assert_eq!(who(99).await["assignee"], "Officer A");
    assert_eq!(who(100).await["assignee"], "Officer B");
    let end = json!({"assignee": "Officer B", "to": at(200)});
    let ended = rig.send_json(Method::PUT, &format!("{path}/{}", at(100)), &end, &[]).await;
    assert_eq!(ended.json::<Value>().await.unwrap()["revisions"].as_array().unwrap().len(), 2);
    let nobody = who(200).await;
    assert_eq!((&nobody["nobody"], &nobody["assignee"]), (&json!(true), &json!(null)));
    assert_eq!(rig.json(&format!("{path}?at={}", at(150))).await["assignments"][0]["assignee"], "Officer B");
    assert_eq!(rig.json(&format!("{path}?at={}", at(250))).await["assignments"], json!([]));

    assert_eq!(rig.ask(Method::DELETE, &format!("{path}/{}", at(0)), &[]).await.status(), 200);
    assert_eq!(who(50).await["nobody"], true);
    let all = rig.json(&path).await;
    assert_eq!(all["assignments"][0]["assignee"], json!(null));
    assert_eq!(all["assignments"][0]["revisions"][0]["assignee"], "Officer A");
    problem(rig.get(&format!("/v1/assignments?label=4712&at={}", at(0))).await, 404, "no such label").await;
    problem(rig.ask(Method::DELETE, &format!("{path}/{}", at(7)), &[]).await, 404, "nothing begins there").await;
    problem(rig.send_json(Method::POST, &path, &shift(9, json!(at(9)), "x"), &[]).await, 400, "an empty shift").await;
}

#[tokio::test]
async fn a_label_that_moved_to_another_recorder_still_has_one_answer() {
    let rig = Rig::start().await;
    let (old, new) =
        (rig.enrol_as(RecorderKind::Officer, "Astana", "7"), rig.enrol_as(RecorderKind::Officer, "Astana", "7"));
    let assign = async |device: &Device, from: u64, to: u64, who: &str| {
        let body = json!({"assignee": who, "from": at(from), "to": at(to)});
        rig.send_json(Method::POST, &format!("/v1/recorders/{}/assignments", device.id), &body, &[]).await.status()
    };
    assert_eq!(assign(&old, 0, 10, "first").await, 201);
    assert_eq!(assign(&new, 10, 30, "second").await, 201);
    let answer = rig.json(&format!("/v1/assignments?label=7&at={}", at(10))).await;
    assert_eq!((&answer["assignee"], &answer["recorder"]), (&json!("second"), &json!(new.id.to_string())));
    assert_eq!(assign(&old, 20, 30, "third").await, 201);
    problem(rig.get(&format!("/v1/assignments?label=7&at={}", at(25))).await, 409, "two answers").await;
}

#[tokio::test]
async fn holes_have_the_causes_that_the_recorder_signed_or_announced() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let next = async |device: &mut Device, is_sent: bool| {
        let link = device.chain.media(&device.key, Bytes::from_static(b"footage"));
        if is_sent {
            rig.send(link).await;
        }
    };
    rig.send(device.chain.start(&device.key)).await;
    for is_sent in [true, false, true, false, true] {
        next(&mut device, is_sent).await;
    }
    let lost = Content::Lost { first: 2, last: 2, from: BEGIN, to: BEGIN, cause: LossCause::StorageFault };
    rig.send(device.chain.add(&device.key, lost, 0, Bytes::new())).await;
    let seat = connect(&rig, &device, &waiting(4, 4, 6, 8));
    let path = format!("/v1/recorders/{}/coverage?from={}&to={}", device.id, at(0), at(20));
    let holes = async || rig.json(&path).await["holes"].clone();
    let found = holes().await;
    assert_eq!((&found[0]["cause"], &found[0]["loss"]), (&json!("lost-on-device"), &json!("storage-fault")));
    assert_eq!(
        (&found[1]["cause"], &found[1]["from"], &found[1]["to"]),
        (&json!("not-uploaded"), &json!(at(6)), &json!(at(8)))
    );
    assert_eq!(found[1]["missing"], json!([{"first": 4, "last": 4, "cause": "not-uploaded"}]));
    assert_eq!(found[2]["cause"], "pending");

    seat.live().announce(&SpoolSummary::default(), None, rig.clock.now());
    assert_eq!(holes().await[1]["cause"], "unknown", "it holds nothing any more, and the link did not come");
    seat.live().refused(4);
    assert_eq!(holes().await[1]["cause"], "rejected");
    seat.live().announce(&waiting(7, 9, 10, 16), None, rig.clock.now());
    let tail = holes().await;
    assert_eq!((&tail[2]["cause"], &tail[2]["to"]), (&json!("not-uploaded"), &json!(at(16))));
}

#[tokio::test]
async fn a_span_shows_how_far_the_clock_was_off() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 1).await;
    let path = format!("/v1/recorders/{}/coverage?from={}&to={}", device.id, at(0), at(2));
    assert_eq!(rig.json(&path).await["spans"][0].get("clock"), None, "it was not measured");
}

#[tokio::test]
async fn a_recorder_shows_whether_it_is_connected_and_what_it_holds() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let path = format!("/v1/recorders/{}", device.id);
    let fresh = rig.json(&path).await;
    assert_eq!((&fresh["connected"], &fresh["holds"]), (&json!(false), &json!(null)));
    let seat = connect(&rig, &device, &waiting(4, 9, 6, 8));
    let shown = rig.json(&path).await;
    assert_eq!((&shown["connected"], &shown["holds"]["links"]), (&json!(true), &json!(6)));
    drop(seat);
    let left = rig.json(&path).await;
    assert_eq!((&left["connected"], &left["holds"]["newest"]), (&json!(false), &json!(at(8))));
}

/// Two recorders of one department: one assigned for 100 s of which it recorded 20, one that nobody had.
async fn site() -> (Rig, Device) {
    let rig = Rig::start().await;
    let mut worn = rig.enrol_as(RecorderKind::Officer, "Astana", "4711");
    let mut spare = rig.enrol_as(RecorderKind::Vehicle, "Astana", "=cmd");
    rig.enrol_as(RecorderKind::Premises, "Pavlodar", "gate");
    let body = json!({"assignee": "Officer \"A\"", "from": at(0), "to": at(100)});
    rig.send_json(Method::POST, &format!("/v1/recorders/{}/assignments", worn.id), &body, &[]).await;
    rig.record(&mut worn, 10).await;
    rig.record(&mut spare, 30).await;
    rig.clock.set(BEGIN + 2 * 86_400 * S);
    worn.chain.captured_at = BEGIN + 200 * S;
    rig.send(worn.chain.start(&worn.key)).await;
    (rig, worn)
}

#[tokio::test]
async fn the_dark_report_says_what_was_planned_recorded_and_dark_and_why() {
    let (rig, worn) = site().await;
    let report = rig.json("/v1/reports/dark?day=2026-01-17").await;
    assert_eq!(report["time_zone"], "UTC");
    assert_eq!(
        (&report["from"], &report["until"]),
        (&json!("2026-01-17T00:00:00.000000Z"), &json!("2026-01-18T00:00:00.000000Z"))
    );
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{report}");
    assert_eq!((&rows[0]["recorder"], &rows[0]["assignee"]), (&json!(worn.id.to_string()), &json!("Officer \"A\"")));
    let sums =
        |row: &Value| ["planned_minutes", "recorded_minutes", "dark_minutes"].map(|name| row[name].as_f64().unwrap());
    assert_eq!(sums(&rows[0]), [1.67, 0.33, 1.33]);
    assert_eq!(rows[0]["dark"], json!({"off-wearer": 1.33}));
    assert_eq!((&rows[1]["assignee"], sums(&rows[1])), (&json!(null), [0.0, 1.0, 0.0]));
    let departments = report["departments"].as_array().unwrap();
    assert_eq!(departments.iter().map(|one| &one["department"]).collect::<Vec<_>>(), ["Astana", "Pavlodar"]);
    assert_eq!((&departments[0]["recorders"], sums(&departments[0])), (&json!(2), [1.67, 1.33, 1.33]));
    let one = rig.json("/v1/reports/dark?day=2026-01-17&department=Pavlodar").await;
    assert_eq!((&one["rows"], &one["departments"][0]["recorders"]), (&json!([]), &json!(1)));
}

#[tokio::test]
async fn the_dark_report_is_the_same_bytes_each_time() {
    let (rig, _) = site().await;
    for path in ["/v1/reports/dark?day=2026-01-17", "/v1/reports/dark?day=2026-01-17&format=csv"] {
        let first = rig.get(path).await;
        let etag = first.headers()["etag"].to_str().unwrap().to_owned();
        let first = first.bytes().await.unwrap();
        rig.clock.set(rig.clock.now() + 3_600 * S);
        assert_eq!(rig.bytes(path).await, first);
        assert_eq!(rig.ask(Method::GET, path, &[("if-none-match", &etag)]).await.status(), 304);
    }
}

#[tokio::test]
async fn the_dark_report_is_a_table_for_those_who_ask_for_one() {
    let (rig, worn) = site().await;
    let response = rig.ask(Method::GET, "/v1/reports/dark?day=2026-01-17", &[("accept", "text/csv")]).await;
    assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    assert_eq!(response.headers()["content-disposition"], "attachment; filename=\"dark-2026-01-17.csv\"");
    let text = response.text().await.unwrap();
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert!(lines[0].starts_with("row,department,recorder,label,kind,assignee,planned_minutes"), "{}", lines[0]);
    let expected = format!(
        "\"recorder\",\"Astana\",\"{}\",\"4711\",\"officer\",\"Officer \"\"A\"\"\",1.67,0.33,1.33,1.33,0.00",
        worn.id
    );
    assert!(lines[1].starts_with(&expected), "{}", lines[1]);
    assert!(lines[2].contains(",\"'=cmd\",\"vehicle\",\"\",0.00,1.00,0.00,"), "{}", lines[2]);
    assert!(lines[3].starts_with("\"department\",\"Astana\",\"\",\"\",\"\",\"\",1.67,1.33,1.33,"), "{}", lines[3]);
    assert_eq!(lines.iter().map(|line| line.split(',').count()).collect::<Vec<_>>(), [25, 25, 25, 25, 25, 1]);
}

#[tokio::test]
async fn a_day_that_is_not_over_ends_with_the_last_link_that_arrived() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let body = json!({"assignee": "Officer A", "from": at(0)});
    rig.send_json(Method::POST, &format!("/v1/recorders/{}/assignments", device.id), &body, &[]).await;
    rig.record(&mut device, 5).await;
    let report = rig.json("/v1/reports/dark?day=2026-01-17").await;
    assert_eq!(report["until"], at(3_600));
    assert_eq!(report["rows"][0]["planned_minutes"], 60.0);
    for path in ["day=2026-01-32", "day=x", "", "day=2026-01-17&format=xml"] {
        problem(rig.get(&format!("/v1/reports/dark?{path}")).await, 400, path).await;
    }
}

#[tokio::test]
async fn a_day_that_is_over_is_dark_to_its_end_when_nothing_came_any_more() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let body = json!({"assignee": "Officer A", "from": at(0)});
    rig.send_json(Method::POST, &format!("/v1/recorders/{}/assignments", device.id), &body, &[]).await;
    rig.record(&mut device, 5).await;
    rig.clock.set(BEGIN + 3 * 86_400 * S);
    for day in ["2026-01-17", "2026-01-18"] {
        let report = rig.json(&format!("/v1/reports/dark?day={day}")).await;
        assert_eq!(report["until"], report["to"]);
        let row = &report["rows"][0];
        let sum = row["recorded_minutes"].as_f64().unwrap() + row["dark_minutes"].as_f64().unwrap();
        assert!((row["planned_minutes"].as_f64().unwrap() - sum).abs() < 0.02, "{row}");
        assert!(row["dark"]["off-wearer"].as_f64().unwrap() > 60.0, "{row}");
    }
}

#[tokio::test]
async fn the_gauges_count_dark_recorders_and_what_waits_on_devices() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let gauges = async || {
        aigaq::lookup::count_dark(&rig.state).await.unwrap();
        let text = rig.get_ops("/metrics").await.text().await.unwrap();
        let lines =
            text.lines().filter(|line| line.starts_with("aigaq_recorders_dark{") || line.starts_with("aigaq_backlog"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let _seat = connect(&rig, &device, &waiting(50, 60, 100, 200));
    assert_eq!(gauges().await, [r#"aigaq_backlog_reported_bytes{department="Astana"} 7000"#], "it never recorded");
    rig.record(&mut device, 5).await;
    let dark = gauges().await;
    let pending = r#"aigaq_recorders_dark{cause="pending",department="Astana"} 1"#;
    assert_eq!(dark[1..], [pending], "where nobody keeps assignments, whoever has recorded is to record");
    let assignments = format!("/v1/recorders/{}/assignments", device.id);
    let body = json!({"assignee": "Officer A", "from": at(0), "to": at(10)});
    rig.send_json(Method::POST, &assignments, &body, &[]).await;
    assert_eq!(gauges().await.len(), 1, "it lies in the charger");
    let body = json!({"assignee": "Officer B", "from": at(10)});
    rig.send_json(Method::POST, &assignments, &body, &[]).await;
    assert_eq!(gauges().await[1..], [pending]);
    device.chain.captured_at = rig.clock.now() - 10 * S;
    rig.send(device.chain.media(&device.key, Bytes::from_static(b"now"))).await;
    assert_eq!(gauges().await.len(), 1);
}
