//! Figures: what they count, that they come out again, and which rows they are made of.

use std::collections::BTreeMap;
use std::time::Duration;

use aigaq::access::{Grant, Grants, Role};
use aigaq::store::records::RecorderKind;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::{BEGIN, Device, Rig, at, problem};

/// One day, microseconds.
const DAY: u64 = 86_400_000_000;
/// How long a test waits for what takes half a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// The table of a city for one January.
const JANUARY: [(&str, u64); 10] = [
    ("drunk-driving", 187),
    ("no-documents", 603),
    ("failing-to-yield", 216),
    ("insurance", 771),
    ("speeding", 16_600),
    ("passenger-carriage", 1_195),
    ("phone", 313),
    ("violations-in-all", 23_800),
    ("disobedience", 19),
    ("insult", 44),
];

async fn mark(rig: &Rig, device: &mut Device, captured_at: u64, category: &str) {
    device.chain.captured_at = captured_at;
    rig.send(device.chain.mark(&device.key, category)).await;
}

async fn report(rig: &Rig, source: &str, (from, to): (&str, &str), counts: &[(&str, u64)]) -> u64 {
    let counts: Vec<Value> =
        counts.iter().map(|(category, count)| json!({ "category": category, "count": count })).collect();
    let body = json!({ "source": source, "department": "Astana", "from": from, "to": to, "counts": counts });
    let answer = rig.send_json(Method::POST, "/v1/statistics/reported", &body, &[]).await;
    assert_eq!(answer.status(), 201);
    let document: Value = answer.json().await.unwrap();
    let entry = document["entry"].as_u64().unwrap();
    let logged = async {
        while rig.store.audit_leaf(entry).unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, logged).await.expect("the log takes it in");
    entry
}

/// The figures by one dimension.
fn by(list: &Value, name: &str) -> BTreeMap<String, (u64, u64)> {
    let rows = list["rows"].as_array().unwrap().iter();
    rows.map(|row| {
        let number = |name: &str| row[name].as_u64().unwrap();
        (row[name].as_str().unwrap().to_owned(), (number("count"), number("before")))
    })
    .collect()
}

/// Every row behind a link, page by page.
async fn drill(rig: &Rig, link: &str, limit: usize) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let mut page = rig.json(&format!("{link}&limit={limit}{cursor}")).await;
        let Value::Array(found) = page["rows"].take() else { panic!("{page}") };
        assert!(found.len() <= limit);
        rows.extend(found);
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

fn sum(rows: &[Value]) -> u64 {
    rows.iter().map(|row| row["count"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn the_january_table_of_a_city_comes_out_as_it_went_in() {
    let rig = Rig::start().await;
    report(&rig, "city table", ("2026-01-01", "2026-02-01"), &JANUARY).await;
    let list = rig.json("/v1/statistics/marks?from=2026-01-01&to=2026-02-01").await;
    let expected = JANUARY.map(|(category, count)| (category.to_owned(), (count, 0)));
    assert_eq!(by(&list, "category"), BTreeMap::from(expected), "{list}");
    assert!(list["rows"].as_array().unwrap().iter().all(|row| row["ratio"].is_null()), "there was nothing before");
    let csv = rig.text("/v1/statistics/marks?from=2026-01-01&to=2026-02-01&format=csv").await;
    assert!(csv.contains("\"speeding\",\"\",\"\",\"\",\"\",16600,0,,\"by=category&from=2026-01-01&source="), "{csv}");
    assert!(csv.starts_with("category,department,kind,source,period,count,before,ratio,query,tree_size,root\r\n"));
    let year = rig.json("/v1/statistics/marks?from=2026-01-01&to=2027-01-01&period=month&by=category").await;
    assert!(year["rows"].as_array().unwrap().iter().all(|row| row["period"] == "2026-01"), "{year}");
    assert_eq!(year["total"]["count"], json!(JANUARY.iter().map(|(_, count)| count).sum::<u64>()));
    let half = rig.json("/v1/statistics/marks?from=2026-01-01&to=2026-01-15").await;
    assert_eq!((&half["total"]["count"], &half["left_out"]), (&json!(0), &json!(10)), "nobody knows how it is spread");
}

#[tokio::test]
async fn thirty_four_reports_after_thirteen_are_two_point_six_times_as_many() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    report(&rig, "city table", ("2025-01-01", "2025-02-01"), &[("bribe-attempt", 13)]).await;
    for index in 0..34 {
        mark(&rig, &mut device, BEGIN + index * 1_000_000, "bribe-attempt").await;
    }
    let list = rig.json("/v1/statistics/marks?from=2026-01-01&to=2026-02-01").await;
    let row = &list["rows"][0];
    assert_eq!((&row["count"], &row["before"], &row["ratio"]), (&json!(34), &json!(13), &json!(2.615)), "{list}");
    assert_eq!((&list["before_from"], &list["before_to"]), (&json!("2025-01-01"), &json!("2025-02-01")));
    let only = rig.json("/v1/statistics/marks?from=2026-01-01&to=2026-02-01&source=recorder").await;
    assert_eq!((&only["total"]["count"], &only["total"]["before"]), (&json!(34), &json!(0)));
}

#[tokio::test]
async fn what_is_reported_again_takes_the_place_of_what_was_said_and_older_figures_stay() {
    let rig = Rig::start().await;
    let january = ("2026-01-01", "2026-02-01");
    let path = "/v1/statistics/marks?from=2026-01-01&to=2026-02-01";
    report(&rig, "city table", january, &[("speeding", 16_500), ("phone", 313)]).await;
    let first = rig.json(path).await;
    report(&rig, "city table", january, &[("speeding", 16_600)]).await;
    report(&rig, "another table", january, &[("speeding", 1)]).await;
    let second = rig.json(path).await;
    assert_eq!(by(&second, "category")["speeding"].0, 16_601, "of one source the last, and both sources");
    let size = first["at"]["tree_size"].as_u64().unwrap();
    assert_eq!(rig.json(&format!("{path}&at={size}")).await, first);
    let rows = drill(&rig, second["rows"][1]["rows"].as_str().unwrap(), 1).await;
    assert_eq!((rows.len(), sum(&rows)), (2, 16_601), "{rows:?}");
}

#[tokio::test]
async fn figures_are_those_of_a_count_by_hand_and_their_rows_are_exactly_those_counted() {
    let mut random = StdRng::seed_from_u64(11);
    let rig = Rig::start().await;
    let mut devices = [
        (rig.enrol(RecorderKind::Officer, "Astana"), "Astana", "officer"),
        (rig.enrol(RecorderKind::Vehicle, "Astana"), "Astana", "vehicle"),
        (rig.enrol(RecorderKind::Officer, "Almaty"), "Almaty", "officer"),
    ];
    let categories = ["bribe-attempt", "insult", "=an unknown one"];
    // Recorded in no order: each arrival is a late upload for some other day.
    let mut made = Vec::new();
    for _ in 0..300 {
        let index = random.random_range(0..devices.len());
        let captured_at = BEGIN - 800 * DAY + random.random_range(0..900 * DAY);
        let category = categories[random.random_range(0..categories.len())];
        let (device, department, kind) = &mut devices[index];
        mark(&rig, device, captured_at, category).await;
        made.push((captured_at, category, *department, *kind));
    }
    // Days of a site east of Greenwich, whose offset from UTC changed in between.
    let zone = jiff::tz::TimeZone::get("Asia/Almaty").unwrap();
    let date = |captured_at: u64| {
        let at = jiff::Timestamp::from_microsecond(i64::try_from(captured_at).unwrap()).unwrap();
        zone.to_datetime(at).date()
    };
    let path = "/v1/statistics/marks?from=2025-02-01&to=2026-01-20&by=category,department,kind&period=month\
                &time_zone=Asia/Almaty";
    let list = rig.json(path).await;
    let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let (from, to) = (jiff::civil::date(2025, 2, 1), jiff::civil::date(2026, 1, 20));
    for (captured_at, category, department, kind) in &made {
        let day = date(*captured_at);
        let later = day.checked_add(jiff::Span::new().years(1)).unwrap();
        for (day, before) in [(day, 0), (later, 1)].into_iter().filter(|(day, _)| (from..to).contains(day)) {
            let key = format!("{category}|{department}|{kind}|{:04}-{:02}", day.year(), day.month());
            let figure = expected.entry(key).or_default();
            if before == 0 { figure.0 += 1 } else { figure.1 += 1 }
        }
    }
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for row in list["rows"].as_array().unwrap() {
        let text = |name: &str| row[name].as_str().unwrap();
        let key = format!("{}|{}|{}|{}", text("category"), text("department"), text("kind"), text("period"));
        let (count, before) = (row["count"].as_u64().unwrap(), row["before"].as_u64().unwrap());
        found.insert(key, (count, before));
        let rows = drill(&rig, text("rows"), 7).await;
        assert_eq!((rows.len() as u64, sum(&rows)), (count, count), "{row}");
        assert!(rows.iter().all(|one| one["category"] == row["category"] && one["kind"] == row["kind"]), "{rows:?}");
    }
    assert_eq!(found, expected);
    let csv = rig.text(&format!("{path}&format=csv")).await;
    assert_eq!(csv.lines().count(), 1 + found.len());
    assert!(csv.contains("\"'=an unknown one\""), "no spreadsheet takes it for a formula");
}

#[tokio::test]
async fn a_figure_comes_out_again_whatever_has_arrived_since() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    for index in 0..5 {
        mark(&rig, &mut device, BEGIN + index * 1_000_000, "insult").await;
    }
    report(&rig, "city table", ("2025-01-01", "2025-02-01"), &[("insult", 3)]).await;
    let path = "/v1/statistics/marks?from=2026-01-01&to=2026-02-01";
    let first = rig.json(path).await;
    let (size, root) = (first["at"]["tree_size"].as_u64().unwrap(), first["at"]["root"].as_str().unwrap());
    assert_eq!(rig.log_root(size), root, "of the tree that the log signs");
    let link = first["rows"][0]["rows"].as_str().unwrap();
    let page = rig.json(&format!("{link}&limit=2")).await;
    for index in 0..4 {
        mark(&rig, &mut device, BEGIN + index * 500_000 + 1, "insult").await;
    }
    report(&rig, "city table", ("2025-01-01", "2025-02-01"), &[("insult", 4)]).await;
    rig.record(&mut device, 2).await;
    let again = rig.json(&format!("/v1/statistics/marks?{}&at={size}", first["query"].as_str().unwrap())).await;
    assert_eq!(again, first, "to the last byte");
    let mut rows: Vec<Value> = page["rows"].as_array().unwrap().clone();
    let next = format!("{link}&cursor={}", page["next"].as_str().unwrap());
    rows.extend(drill(&rig, &next, 1_000).await);
    assert_eq!(rows.len(), 5, "what came between two pages is on none");
    let now = rig.json(path).await;
    assert_eq!((&now["total"]["count"], &now["total"]["before"]), (&json!(9), &json!(4)));
}

#[tokio::test]
async fn marks_of_operators_count_and_one_whose_place_another_took_does_not_from_then_on() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    mark(&rig, &mut device, BEGIN, "insult").await;
    let raise = async |body: Value| {
        let answer = rig.send_json(Method::POST, &format!("/v1/recorders/{}/marks", device.id), &body, &[]).await;
        assert_eq!(answer.status(), 201);
        let last = rig.audit().last().unwrap().number;
        let logged = async {
            while rig.store.audit_leaf(last).unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, logged).await.expect("the log takes it in");
        answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let path = "/v1/statistics/marks?from=2026-01-01&to=2026-02-01";
    let wrong = raise(json!({ "category": "insult", "at": at(5) })).await;
    let first = rig.json(&format!("{path}&by=source")).await;
    assert_eq!(
        by(&first, "source"),
        BTreeMap::from([("operator".to_owned(), (1, 0)), ("recorder".to_owned(), (1, 0))])
    );
    raise(json!({ "category": "disobedience", "at": at(5), "corrects": wrong })).await;
    let second = rig.json(path).await;
    assert_eq!(
        by(&second, "category"),
        BTreeMap::from([("disobedience".to_owned(), (1, 0)), ("insult".to_owned(), (1, 0))])
    );
    assert_eq!(drill(&rig, second["rows"][1]["rows"].as_str().unwrap(), 9).await.len(), 1);
    let size = first["at"]["tree_size"].as_u64().unwrap();
    assert_eq!(rig.json(&format!("{path}&by=source&at={size}")).await, first, "figures of before stay");
}

#[tokio::test]
async fn a_category_is_counted_and_looked_for_as_it_was_signed() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    for (second, category) in [(0, "insult"), (1, " insult"), (2, "insult "), (3, "insult "), (4, " ")] {
        mark(&rig, &mut device, BEGIN + second * 1_000_000, category).await;
    }
    let list = rig.json("/v1/statistics/marks?from=2026-01-01&to=2026-02-01").await;
    let counted: Vec<(&str, u64)> = vec![(" ", 1), (" insult", 1), ("insult", 1), ("insult ", 2)];
    let rows = list["rows"].as_array().unwrap();
    assert_eq!(by(&list, "category").iter().map(|(name, (count, _))| (&**name, *count)).collect::<Vec<_>>(), counted);
    for row in rows {
        let found = drill(&rig, row["rows"].as_str().unwrap(), 10).await;
        assert_eq!(sum(&found), row["count"].as_u64().unwrap(), "{row}");
        assert!(found.iter().all(|one| one["category"] == row["category"]), "{row} {found:?}");
    }
}

#[tokio::test]
async fn what_is_kept_from_somebody_is_in_no_figure_of_theirs() {
    let rig = Rig::start().await;
    let (mut near, mut far) = (rig.officer(), rig.enrol(RecorderKind::Officer, "Almaty"));
    mark(&rig, &mut near, BEGIN, "insult").await;
    mark(&rig, &mut far, BEGIN, "insult").await;
    let admit = |name: &str, role, department: Option<&str>| {
        let token = format!("the-token-of-{name}");
        let departments = department.map(|one| vec![one.to_owned()]);
        rig.access.admit(&token, "account:x", Grants::new(vec![Grant { role, departments }])).unwrap();
        token
    };
    let astana = admit("astana", Role::Supervisor, Some("Astana"));
    let auditor = admit("auditor", Role::Auditor, None);
    let inspector = admit("inspector", Role::Inspector, None);
    let total = async |token: &str| {
        let path = "/v1/statistics/marks?from=2026-01-01&to=2026-02-01&by=department";
        let list: Value = rig.ask_as(token, Method::GET, path, None, &[]).await.json().await.unwrap();
        let path = "/v1/statistics/marks/rows?from=2026-01-01&to=2026-02-01";
        let rows: Value = rig.ask_as(token, Method::GET, path, None, &[]).await.json().await.unwrap();
        let count = list["total"]["count"].as_u64().unwrap();
        assert_eq!(rows["rows"].as_array().unwrap().len() as u64, count);
        (count, list["within"].clone())
    };
    assert_eq!(total(&astana).await, (1, json!(["Astana"])));
    assert_eq!(total(&auditor).await, (2, Value::Null));
    let body = r#"{"class":"sealed","reason":"a check"}"#;
    let path = format!("/v1/recorders/{}/class", near.id);
    assert_eq!(rig.ask_as(&inspector, Method::PUT, &path, Some(body), &[]).await.status(), 200);
    assert_eq!([total(&astana).await.0, total(&auditor).await.0, total(&inspector).await.0], [0, 1, 2]);
    let other = r#"{"source":"x","department":"Almaty","from":"2026-01-01","to":"2026-02-01","counts":[{"category":"x","count":1}]}"#;
    let refused = rig.ask_as(&astana, Method::POST, "/v1/statistics/reported", Some(other), &[]).await;
    problem(refused, 404, "counts of another department").await;
}

#[tokio::test]
async fn a_question_that_is_none_is_refused() {
    let rig = Rig::start().await;
    for query in [
        "",
        "?from=2026-01-01",
        "?from=2026-02-01&to=2026-01-01",
        "?from=2026-01-01&to=2046-01-01",
        "?from=2026-01-01&to=2026-02-01&by=person",
        "?from=2026-01-01&to=2026-02-01&period=hour",
        "?from=2026-01-01&to=2026-02-01&source=rumour",
        "?from=2026-01-01&to=2026-02-01&kind=horse",
        "?from=2026-01-01&to=2026-02-01&time_zone=Mars/Olympus",
        "?from=2026-01-01&to=2026-02-01&at=1000000",
        "?from=2026-01-01&to=2026-02-01&wrong=1",
    ] {
        problem(rig.get(&format!("/v1/statistics/marks{query}")).await, 400, query).await;
    }
    let rows = "/v1/statistics/marks/rows?from=2026-01-01&to=2026-02-01";
    for query in ["&limit=0", "&limit=1001", "&cursor=x", "&cursor=0-1&at=1", "&cursor=1000000-0"] {
        problem(rig.get(&format!("{rows}{query}")).await, 400, query).await;
    }
    let good = json!({ "source": "city", "department": "Astana", "from": "2026-01-01", "to": "2026-02-01",
        "counts": [{ "category": "x", "count": 1 }] });
    for (name, value) in [
        ("source", json!("")),
        ("department", json!("\u{202e}")),
        ("from", json!("yesterday")),
        ("to", json!("2027-06-01")),
        ("counts", json!([])),
        ("counts", json!([{ "category": "x", "count": 1 }, { "category": "x", "count": 2 }])),
        ("counts", json!([{ "category": "x", "count": -1 }])),
        ("counts", json!([{ "category": "x", "count": 2_000_000_000_000_u64 }])),
        ("counts", json!([{ "category": "x", "count": 1, "kind": "horse" }])),
        ("more", json!(1)),
    ] {
        let mut body = good.clone();
        body[name] = value;
        problem(rig.send_json(Method::POST, "/v1/statistics/reported", &body, &[]).await, 400, name).await;
    }
    let entries = rig.audit().into_iter().filter(|entry| entry.event.name() == "figures").count();
    assert_eq!(entries, 0, "nothing of it is written down");
}
