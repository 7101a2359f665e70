//! Marks: both sorts in one list by time, corrected by later ones, told at once, and what they keep.

use aigaq::access::{Grant, Grants, Role};
use aigaq::store::policy::{DAY_US, day_of};
use aigaq::store::records::{Event, RecorderKind};
use aigaq_proto::Content;
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::{BEGIN, Device, Rig, at, problem};

impl Rig {
    pub(crate) async fn mark(&self, device: &Device, body: Value) -> Value {
        let path = format!("/v1/recorders/{}/marks", device.id);
        let response = self.send_json(Method::POST, &path, &body, &[]).await;
        assert_eq!(response.status(), 201, "{body}");
        response.json().await.unwrap()
    }

    async fn marked(&self, query: &str) -> Vec<Value> {
        self.json(&format!("/v1/marks{query}")).await["marks"].as_array().unwrap().clone()
    }
}

fn categories(marks: &[Value]) -> Vec<&str> {
    marks.iter().map(|mark| mark["category"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_categories_have_names_in_three_languages_and_say_what_is_urgent() {
    let rig = Rig::start().await;
    let all = rig.json("/v1/marks/categories").await["categories"].as_array().unwrap().clone();
    let urgent: Vec<_> = all.iter().filter(|one| one["urgent"] == true).map(|one| &one["name"]).collect();
    assert_eq!(urgent, ["bribe-attempt", "emergency"]);
    assert_eq!(all.len(), 13);
    for one in &all {
        let names = one["names"].as_object().unwrap();
        assert_eq!(names.keys().collect::<Vec<_>>(), ["en", "kk", "ru"]);
        assert!(names.values().all(|name| !name.as_str().unwrap().is_empty()), "{one}");
    }
}

#[tokio::test]
async fn marks_of_recorders_and_of_operators_are_one_list_by_time() {
    let rig = Rig::start().await;
    let (mut device, mut far) = (rig.officer(), rig.enrol(RecorderKind::Vehicle, "Almaty"));
    device.chain.captured_at = BEGIN + 20_000_000;
    rig.send(device.chain.mark(&device.key, "bribe-attempt")).await;
    let made = rig.mark(&device, json!({ "category": "insult", "at": at(10), "note": " at the door " })).await;
    rig.mark(&far, json!({ "category": "phone", "from": at(15), "to": at(30) })).await;
    // What a recorder out of contact calls it is taken as it is, at the time at which it was raised.
    far.chain.captured_at = BEGIN + 5_000_000;
    rig.send(far.chain.mark(&far.key, "пароль")).await;
    let all = rig.marked("").await;
    assert_eq!(categories(&all), ["пароль", "insult", "phone", "bribe-attempt"]);
    assert_eq!(
        (&made["note"], &made["raised_by"], &made["by"]),
        (&json!("at the door"), &json!("operator"), &json!("token:first-start"))
    );
    assert_eq!((&made["from"], &made["department"]), (&json!(at(0).replace(":14:00", ":09:10")), &json!("Astana")));
    assert_eq!(all[1], made);
    let raised = &all[3];
    assert_eq!(
        (&raised["raised_by"], &raised["sequence"], &raised["urgent"]),
        (&json!("recorder"), &json!(0), &json!(true))
    );
    assert_eq!(
        raised["to"],
        at(20 + 900).replace(".000000Z", ".000001Z"),
        "its category wants more than the 30 s that it says"
    );
    assert_eq!(all[0]["urgent"], false);
    for (query, expected) in [
        ("?department=Almaty", vec!["пароль", "phone"]),
        ("?category=bribe-attempt", vec!["bribe-attempt"]),
        ("?category=%D0%BF%D0%B0%D1%80%D0%BE%D0%BB%D1%8C", vec!["пароль"]),
        ("?raised_by=operator", vec!["insult", "phone"]),
        (&format!("?recorder={}", device.id), vec!["insult", "bribe-attempt"]),
        (&format!("?from={}&to={}", at(10), at(20)), vec!["insult", "phone"]),
        ("?department=Nowhere", vec![]),
    ] {
        assert_eq!(categories(&rig.marked(query).await), expected, "{query}");
    }
}

#[tokio::test]
async fn pages_go_on_where_they_were_while_marks_arrive() {
    let rig = Rig::start().await;
    let device = rig.officer();
    for second in [1, 3, 5, 7] {
        rig.mark(&device, json!({ "category": "insult", "at": at(second) })).await;
    }
    let first = rig.json("/v1/marks?limit=2").await;
    for second in [0, 6] {
        rig.mark(&device, json!({ "category": "insult", "at": at(second) })).await;
    }
    let cursor = first["next"].as_str().unwrap();
    let rest = rig.json(&format!("/v1/marks?limit=9&cursor={cursor}")).await;
    let times: Vec<_> = rest["marks"].as_array().unwrap().iter().map(|mark| mark["at"].clone()).collect();
    assert_eq!(times, [at(5), at(6), at(7)]);
    assert_eq!(rest["next"], Value::Null);
}

#[tokio::test]
async fn marks_of_another_department_or_of_what_is_sealed_are_not_listed() {
    let rig = Rig::start().await;
    let (mut near, far, sealed) = (rig.officer(), rig.enrol(RecorderKind::Vehicle, "Almaty"), rig.officer());
    rig.send(near.chain.mark(&near.key, "emergency")).await;
    for device in [&far, &sealed] {
        rig.mark(device, json!({ "category": "insult", "at": at(0) })).await;
    }
    let body = json!({ "class": "sealed", "reason": "a check" });
    let class = format!("/v1/recorders/{}/class", sealed.id);
    assert_eq!(rig.send_json(Method::PUT, &class, &body, &[]).await.status(), 200);
    let operator = Grants::new(vec![Grant { role: Role::Operator, departments: Some(vec!["Astana".to_owned()]) }]);
    rig.access.admit("token-of-an-operator", "account:anna", operator).unwrap();
    for query in ["", "?limit=1", &format!("?recorder={}", near.id)] {
        let path = format!("/v1/marks{query}");
        let page: Value = rig.ask_as("token-of-an-operator", Method::GET, &path, None, &[]).await.json().await.unwrap();
        assert_eq!(categories(page["marks"].as_array().unwrap()), ["emergency"], "{query}");
    }
}

#[tokio::test]
async fn a_mark_that_was_wrong_is_corrected_by_a_later_one_and_both_stay() {
    let rig = Rig::start().await;
    let (mut device, other) = (rig.officer(), rig.officer());
    rig.send(device.chain.mark(&device.key, "bribe-attempt")).await;
    let wrong = rig.marked("").await.remove(0);
    let corrects = wrong["id"].as_str().unwrap();
    let right = rig.mark(&device, json!({ "category": "false-alarm", "at": at(0), "corrects": corrects })).await;
    let all = rig.marked("").await;
    assert_eq!(categories(&all), ["bribe-attempt", "false-alarm"]);
    assert_eq!((&all[0]["corrected_by"], &all[1]["corrects"]), (&right["id"], &wrong["id"]));
    assert_eq!(categories(&rig.marked("?corrected=false").await), ["false-alarm"]);
    assert_eq!(categories(&rig.marked("?corrected=true").await), ["bribe-attempt"]);
    let path = format!("/v1/recorders/{}/marks", other.id);
    for corrects in [corrects, "nothing", &corrects.replace("-r0", "-r1")] {
        let body = json!({ "category": "insult", "at": at(0), "corrects": corrects });
        problem(rig.send_json(Method::POST, &path, &body, &[]).await, 404, corrects).await;
    }
    assert_eq!(rig.marked("").await.len(), 2);
}

#[tokio::test]
async fn what_is_no_mark_is_refused() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let path = format!("/v1/recorders/{}/marks", device.id);
    for body in [
        json!({ "category": "of my own", "at": at(0) }),
        json!({ "category": "insult" }),
        json!({ "category": "insult", "at": at(0), "from": at(0), "to": at(1) }),
        json!({ "category": "insult", "from": at(1), "to": at(1) }),
        json!({ "category": "insult", "from": at(0), "to": at(86_401) }),
        json!({ "category": "insult", "at": at(0), "note": "x".repeat(513) }),
        json!({ "category": "insult", "at": at(0), "note": "a\u{202e}b" }),
        json!({ "category": "insult", "at": at(0), "urgent": true }),
    ] {
        problem(rig.send_json(Method::POST, &path, &body, &[]).await, 400, &body.to_string()).await;
    }
    for query in ["?limit=0", "?limit=1001", "?from=now", "?raised_by=nobody", "?colour=red"] {
        problem(rig.get(&format!("/v1/marks{query}")).await, 400, query).await;
    }
    problem(rig.get("/v1/marks?cursor=nothing").await, 404, "a cursor of nothing").await;
    assert!(rig.marked("").await.is_empty() && rig.store.feed(0, 9).unwrap().records.is_empty());
}

#[tokio::test]
async fn a_mark_of_an_operator_is_in_the_trail_with_its_digest_and_told_to_consoles() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let made =
        rig.mark(&device, json!({ "category": "emergency", "at": at(10), "note": "seen by the operator" })).await;
    let entries = rig.audit();
    let entry = entries.iter().find(|entry| entry.event == Event::Mark).unwrap();
    assert_eq!((entry.object.as_str(), entry.actor.as_str()), (&*device.id.to_string(), "token:first-start"));
    assert!(entry.content.is_some() && entry.reason == "seen by the operator");
    let events = rig.text("/v1/events?after=0&kinds=mark&follow=false").await;
    let data = events.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let told: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&told["mark"], &told["category"], &told["urgent"]), (&made["id"], &json!("emergency"), &json!(true)));
    assert_eq!((&told["by"], &told["recorder"]["department"]), (&json!("token:first-start"), &json!("Astana")));
}

#[tokio::test]
async fn what_an_operator_marks_outlives_its_day_and_the_rest_does_not() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 5).await;
    // Late, from a docking station: of the marked time as well.
    rig.mark(&device, json!({ "category": "insult", "from": at(4), "to": at(6) })).await;
    rig.clock.set(u64::from(day_of(BEGIN) + 91) * DAY_US);
    rig.retention.round().unwrap();
    let path = format!("/v1/recorders/{}/coverage?from={}&to={}", device.id, at(0), at(10));
    let coverage = rig.json(&path).await;
    assert_eq!(coverage["spans"].as_array().unwrap().len(), 1, "{coverage}");
    assert_eq!((&coverage["spans"][0]["from"], &coverage["spans"][0]["to"]), (&json!(at(4)), &json!(at(6))));
    rig.clock.set(u64::from(day_of(BEGIN) + 1_096) * DAY_US);
    rig.retention.round().unwrap();
    assert_eq!(rig.json(&path).await["spans"], json!([]), "the three years of the category are over");
}

#[tokio::test]
async fn a_mark_of_a_fork_is_evidence_and_no_mark() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let mut other = device.chain.clone();
    rig.send(device.chain.start(&device.key)).await;
    let content = Content::Mark { category: "insult".to_owned(), note: String::new(), before_s: 0, after_s: 0 };
    rig.offer(other.add(&device.key, content, 0, Bytes::new()), None).await;
    assert!(rig.marked("").await.is_empty());
}
