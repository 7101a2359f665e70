//! Integrity checks: the library, the draw, two who score blind, and that nobody else can tell that there is one.

use std::collections::BTreeSet;
use std::time::Duration;

use aigaq::access::{Grant, Grants, Role};
use aigaq::store::records::RecorderKind;
use aigaq_proto::Digest;
use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::{BEGIN, Device, Rig, at, problem};

/// How long a test waits for what takes half a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is wrong with a sheet, and how it comes to be so.
type Broken = (&'static str, fn(&mut Value));

/// A server with a recorder whose footage shows something, and inspectors.
struct Site {
    rig: Rig,
    device: Device,
}

fn admit(rig: &Rig, name: &str, role: Role, department: Option<&str>) {
    let departments = department.map(|one| vec![one.to_owned()]);
    let grants = Grants::new(vec![Grant { role, departments }]);
    rig.access.admit(&token(name), &format!("account:{name}"), grants).unwrap();
}

fn token(name: &str) -> String {
    format!("the-token-of-{name}")
}

impl Site {
    async fn start() -> Self {
        let rig = Rig::start().await;
        let mut device = rig.enrol_as(RecorderKind::Officer, "Astana", "Officer 4711");
        rig.record(&mut device, 10).await;
        for name in ["lead", "saule", "marat", "aigul"] {
            admit(&rig, name, Role::Inspector, Some("Astana"));
        }
        admit(&rig, "stranger", Role::Inspector, Some("Almaty"));
        for role in [Role::Operator, Role::Supervisor, Role::Auditor, Role::Administrator] {
            admit(&rig, role.name(), role, None);
        }
        Self { rig, device }
    }

    async fn ask(&self, who: &str, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(ToString::to_string);
        let answer = self.rig.ask_as(&token(who), method, path, body.as_deref(), &[]).await;
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    async fn get(&self, who: &str, path: &str) -> Value {
        let (status, body) = self.ask(who, Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, who: &str, path: &str, body: &Value, expected: u16) -> Value {
        let (status, answer) = self.ask(who, Method::POST, path, Some(body)).await;
        assert_eq!(status, expected, "{path}: {answer}");
        answer
    }

    async fn logged(&self, entry: &Value) {
        let entry = entry.as_u64().unwrap();
        let logged = async {
            while self.rig.store.audit_leaf(entry).unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, logged).await.expect("the log takes it in");
    }

    /// Adds the case; its digest.
    async fn case(&self) -> String {
        let added = self.post("lead", "/v1/checks/cases", &case(), 201).await;
        self.logged(&added["entry"]).await;
        added["digest"].as_str().unwrap().to_owned()
    }

    /// Makes a check; its path.
    async fn check(&self, case: &str, person: &str) -> String {
        let made = self.post("lead", "/v1/checks", &self.new_check(case, person), 201).await;
        format!("/v1/checks/{}", made["id"].as_str().unwrap())
    }

    fn new_check(&self, case: &str, person: &str) -> Value {
        json!({
            "case": case, "recorder": self.device.id.to_string(), "person": person, "from": at(0), "to": at(20),
            "assessors": ["account:saule", "account:marat"], "reason": "plan of the quarter"
        })
    }
}

fn case() -> Value {
    let text = |en: &str| json!({ "kk": "қазақша", "ru": "по-русски", "en": en });
    json!({
        "name": "money in the papers", "text": text("A driver hands over his papers with money in them."),
        "options": [{ "id": "refused-and-reported", "text": text("refused") }, { "id": "took", "text": text("took it") }],
        "criteria": [
            { "id": "courtesy", "weight": 1, "measure": { "points": { "max": 5, "bound": 1 } }, "text": text("courtesy") },
            { "id": "appeal", "weight": 3, "measure": { "response-time": { "target_s": 10, "bound_s": 2 } }, "text": text("answer") }
        ]
    })
}

fn sheet(option: &str, points: u32, seconds: u64) -> Value {
    json!({ "option": option, "scores": [
        { "criterion": "courtesy", "points": points, "from": at(2), "to": at(6) },
        { "criterion": "appeal", "from": at(1), "to": at(1 + seconds) }
    ]})
}

#[tokio::test]
async fn a_version_of_a_case_is_its_digest_which_the_log_has_before_it_is_used_and_never_another_one() {
    let site = Site::start().await;
    let added = site.post("lead", "/v1/checks/cases", &case(), 201).await;
    let digest = added["digest"].as_str().unwrap();
    let entry = site.rig.audit().into_iter().find(|entry| entry.content.is_some()).unwrap();
    assert_eq!((entry.event.name(), entry.content.unwrap().to_string()), ("check", digest.to_owned()));
    let again = site.post("saule", "/v1/checks/cases", &case(), 200).await;
    assert_eq!((&again["digest"], &again["added"]), (&added["digest"], &added["added"]), "the same is the same");
    let mut other = case();
    other["criteria"][0]["weight"] = json!(2);
    let other = site.post("lead", "/v1/checks/cases", &other, 201).await;
    assert_ne!(other["digest"], added["digest"]);
    site.logged(&added["entry"]).await;
    let read = site.get("marat", &format!("/v1/checks/cases/{digest}")).await;
    assert!(read["log_index"].is_u64() && read["case"] == case(), "{read}");
    // What anybody can reckon: the canonical form of what is shown.
    let canonical = aigaq::integrity::case::canonical(&read["case"]).unwrap();
    assert_eq!(Digest::of(canonical.as_bytes()).to_string(), digest);
    let listed = site.get("lead", "/v1/checks/cases?limit=1").await;
    let next = listed["next"].as_str().unwrap();
    let rest = site.get("lead", &format!("/v1/checks/cases?cursor={next}")).await;
    assert_eq!((listed["cases"].as_array().unwrap().len(), rest["cases"].as_array().unwrap().len()), (1, 1));
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let path = format!("/v1/checks/cases/{digest}");
        assert_eq!(site.ask("lead", method, &path, Some(&case())).await.0, 405, "nothing changes it");
    }
    let unused = "0".repeat(64);
    let (status, _) = site.ask("lead", Method::POST, "/v1/checks", Some(&site.new_check(&unused, "badge 1"))).await;
    assert_eq!(status, 404, "a case that is not there");
}

/// The draw as proto/DRAW.md says it, written down a second time.
fn draw_again(document: &Value) -> Vec<String> {
    let hex = |value: &Value| data_encoding::HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap();
    let mut names: Vec<String> =
        document["roster"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    let roster = Digest::of(names.iter().map(|name| format!("{name}\n")).collect::<String>().as_bytes());
    assert_eq!(document["roster_digest"], roster.to_string());
    let revealed = &document["revealed"];
    let key = [&b"aigaq/draw/1\n"[..], &hex(&revealed["seed"]), &roster.0, &hex(&revealed["root"])].concat();
    let (key, mut next, size) = (Digest::of(&key), 0_u64, names.len());
    let count = usize::try_from(document["count"].as_u64().unwrap()).unwrap();
    for first in 0..count {
        let below = (size - first) as u128;
        let fair = (1_u128 << 64) - (1_u128 << 64) % below;
        let block = loop {
            let digest = Digest::of(&[&key.0[..], &next.to_be_bytes()].concat());
            next += 1;
            let block = u128::from(u64::from_be_bytes(digest.0[..8].try_into().unwrap()));
            if block < fair {
                break block % below;
            }
        };
        names.swap(first, first + usize::try_from(block).unwrap());
    }
    names.truncate(count);
    names
}

#[tokio::test]
async fn a_draw_is_committed_to_in_the_log_before_its_seed_is_shown_and_anybody_allowed_can_draw_again() {
    let site = Site::start().await;
    let (seed, roster): (_, Vec<String>) = ([42; 32], (0..50).map(|badge| format!("badge {badge}")).collect());
    let new = json!({
        "department": "Astana", "roster": roster, "count": 3, "seed_digest": Digest::of(&seed).to_string(), "reason": "quarter"
    });
    let draw = site.post("lead", "/v1/checks/draws", &new, 201).await;
    let path = format!("/v1/checks/draws/{}", draw["id"].as_str().unwrap());
    let entry = site.rig.audit().into_iter().find(|entry| Some(entry.number) == draw["entry"].as_u64()).unwrap();
    assert_eq!(entry.content.unwrap().to_string(), draw["commitment"].as_str().unwrap());
    site.logged(&draw["entry"]).await;
    let wrong = json!({ "seed": Digest([43; 32]).to_string() });
    site.post("lead", &format!("{path}/seed"), &wrong, 400).await;
    let right = json!({ "seed": Digest(seed).to_string() });
    let drawn = site.post("lead", &format!("{path}/seed"), &right, 200).await;
    let names: Vec<&str> =
        drawn["revealed"]["drawn"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(names, draw_again(&drawn));
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 3);
    let size = drawn["revealed"]["tree_size"].as_u64().unwrap();
    assert_eq!(site.rig.log_root(size), drawn["revealed"]["root"].as_str().unwrap(), "the root is that of the log");
    assert!(size > drawn["log_index"].as_u64().unwrap(), "of a tree that has the commitment");
    let again = site.post("saule", &format!("{path}/seed"), &right, 200).await;
    assert_eq!(again["revealed"], drawn["revealed"], "shown twice it is drawn once");
    assert_eq!(site.get("marat", &path).await, again);
    for who in ["stranger", "operator", "auditor"] {
        let (status, body) = site.ask(who, Method::GET, &path, None).await;
        assert!(matches!(status, 403 | 404) && !body.to_string().contains("badge"), "{who}: {body}");
    }
    // A check by this draw is of somebody whom it drew.
    let case = site.case().await;
    let mut check = site.new_check(&case, names[0]);
    check["draw"] = draw["id"].clone();
    site.post("lead", "/v1/checks", &check, 201).await;
    // One of each, and whoever was drawn and never checked is seen.
    site.post("lead", "/v1/checks", &check, 409).await;
    assert_eq!(site.get("saule", &path).await["revealed"]["unchecked"], json!(names[1..]));
    let other = roster.iter().find(|name| !names.contains(&name.as_str())).unwrap();
    check["person"] = json!(other);
    site.post("lead", "/v1/checks", &check, 409).await;
    // Nobody chooses by committing until they like it without being seen.
    site.rig.clock.set(site.rig.clock.now() + 1);
    site.post("lead", "/v1/checks/draws", &new, 201).await;
    let draws = site.get("saule", "/v1/checks/draws").await;
    let shown: Vec<_> = draws["draws"].as_array().unwrap().iter().map(|draw| draw["is_revealed"].clone()).collect();
    assert_eq!(shown, [json!(true), json!(false)]);
}

#[tokio::test]
async fn two_score_without_knowing_of_one_another_and_agree() {
    let site = Site::start().await;
    let check = site.check(&site.case().await, "badge 4711").await;
    let before = site.get("saule", &check).await;
    assert_eq!(before["state"], "to-score");
    assert_eq!(before["to_judge"], json!(["courtesy", "appeal"]));
    let scores = format!("{check}/scores");
    site.post("saule", &scores, &sheet("took", 4, 8), 200).await;
    let seen = site.get("marat", &check).await;
    assert_eq!(seen, site.get("marat", &check).await);
    assert_eq!((&seen["state"], &seen["sheets"]), (&json!("to-score"), &json!([])), "{seen}");
    assert!(!seen.to_string().contains("saule") && !before.to_string().contains("marat"), "{seen}");
    let trail = site.get("marat", "/v1/audit?limit=1000").await.to_string();
    assert!(!trail.contains("account:saule"), "the trail does not tell it either: {trail}");
    assert!(site.get("lead", "/v1/audit?limit=1000").await.to_string().contains("account:saule"));
    let own = site.get("saule", &check).await;
    assert_eq!((&own["state"], &own["sheets"][0]["by"]), (&json!("scored"), &json!("account:saule")));
    let bound = &own["sheets"][0]["scores"][0];
    assert_eq!(bound["sequences"], json!([2, 3]), "from 2 to 6 s, of segments of 2 s from sequence 1: {bound}");
    assert_eq!(site.get("lead", &check).await["sheets"], json!([]), "nobody sees scores before it is closed");
    site.post("saule", &scores, &sheet("took", 4, 8), 200).await;
    site.post("saule", &scores, &sheet("took", 5, 8), 409).await;
    let closed = site.post("marat", &scores, &sheet("took", 5, 9), 200).await;
    assert_eq!(closed["state"], "closed");
    assert_eq!(
        closed["outcome"]["values"],
        json!([{ "criterion": "courtesy", "value": 4.5 }, { "criterion": "appeal", "value": 8.5 }])
    );
    assert_eq!(site.get("saule", &check).await["sheets"].as_array().unwrap().len(), 2);
    let results = site.get("lead", "/v1/checks/results?from=2026-01-01&to=2026-02-01").await;
    let appeal = &results["results"][0];
    assert_eq!(
        (&appeal["criterion"], &appeal["median_s"], &appeal["agreement"]),
        (&json!("appeal"), &json!(8.5), &json!(1.0))
    );
    assert_eq!(appeal["values"], json!([{ "person": "badge 4711", "value": 8.5 }]));
}

#[tokio::test]
async fn a_third_decides_what_two_disagree_about() {
    let site = Site::start().await;
    let check = site.check(&site.case().await, "badge 4711").await;
    let (scores, third) = (format!("{check}/scores"), format!("{check}/third"));
    site.post("lead", &third, &json!({ "assessor": "account:aigul" }), 409).await;
    site.post("saule", &scores, &sheet("took", 1, 8), 200).await;
    site.post("marat", &scores, &sheet("took", 5, 8), 200).await;
    assert_eq!(site.get("lead", &check).await["state"], "disputed");
    assert_eq!(site.get("marat", &check).await["state"], "scored", "they do not learn that there is another score");
    site.post("aigul", &scores, &sheet("took", 5, 8), 403).await;
    site.post("saule", &third, &json!({ "assessor": "account:aigul" }), 409).await;
    site.post("lead", &third, &json!({ "assessor": "account:marat" }), 409).await;
    for nobody in ["account:nobody", "aigul", "oidc:aigul", "account:stranger", "account:supervisor"] {
        site.post("lead", &third, &json!({ "assessor": nobody }), 409).await;
    }
    // Who was named and does not decide makes room for another one.
    admit(&site.rig, "absent", Role::Inspector, Some("Astana"));
    site.post("lead", &third, &json!({ "assessor": "account:absent" }), 200).await;
    site.post("lead", &third, &json!({ "assessor": "account:aigul" }), 200).await;
    let seen = site.get("aigul", &check).await;
    assert_eq!((&seen["to_judge"], &seen["sheets"]), (&json!(["courtesy"]), &json!([])), "{seen}");
    site.post("aigul", &scores, &sheet("took", 3, 8), 400).await;
    let mut only = sheet("took", 3, 8);
    only["scores"].as_array_mut().unwrap().truncate(1);
    let closed = site.post("aigul", &scores, &only, 200).await;
    assert_eq!((&closed["state"], &closed["outcome"]["values"][0]["value"]), (&json!("closed"), &json!(3.0)));
    site.post("lead", &third, &json!({ "assessor": "account:absent" }), 409).await;
    let named: Vec<_> = site.rig.audit().into_iter().map(|entry| entry.action).collect();
    for name in ["absent", "aigul"] {
        assert!(
            named.iter().any(|action| action.starts_with(&format!("name account:{name} who decides"))),
            "{named:?}"
        );
    }
    let results = site.get("lead", "/v1/checks/results?from=2026-01-01&to=2026-02-01").await;
    let agreement: Vec<_> = results["results"].as_array().unwrap().iter().map(|row| row["agreement"].clone()).collect();
    assert_eq!(agreement, [json!(1.0), json!(0.0)], "of appeal and courtesy");
}

#[tokio::test]
async fn of_scores_that_race_each_counts_once() {
    let site = Site::start().await;
    let case = site.case().await;
    for round in 0..4 {
        let check = site.check(&case, &format!("badge {round}")).await;
        let scores = format!("{check}/scores");
        let all: Vec<_> = (0..8_u32)
            .map(|index| {
                let who = if index % 2 == 0 { "saule" } else { "marat" };
                let (site, scores) = (&site, &scores);
                async move { site.ask(who, Method::POST, scores, Some(&sheet("took", 2 + index / 4, 8))).await.0 }
            })
            .collect();
        let statuses = futures_util::future::join_all(all).await;
        assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "{statuses:?}");
        let check = site.get("lead", &check).await;
        let by: Vec<_> = check["sheets"].as_array().unwrap().iter().map(|sheet| sheet["by"].clone()).collect();
        assert_eq!((by.len(), by.iter().map(ToString::to_string).collect::<BTreeSet<_>>().len()), (2, 2), "{check}");
        assert_eq!(check["state"], "closed");
    }
}

#[tokio::test]
async fn a_score_needs_footage_of_the_check_and_the_measure_of_its_criterion() {
    let site = Site::start().await;
    let check = site.check(&site.case().await, "badge 4711").await;
    let scores = format!("{check}/scores");
    let broken: [Broken; 8] = [
        ("an option that is none", |sheet| sheet["option"] = json!("fled")),
        ("a criterion that is none", |sheet| sheet["scores"][0]["criterion"] = json!("hair")),
        ("one twice", |sheet| sheet["scores"][1] = sheet["scores"][0].clone()),
        ("one too few", |sheet| sheet["scores"].as_array_mut().unwrap().truncate(1)),
        ("too many points", |sheet| sheet["scores"][0]["points"] = json!(6)),
        ("no points", |sheet| sheet["scores"][0]["points"] = Value::Null),
        ("points for a time", |sheet| sheet["scores"][1]["points"] = json!(1)),
        ("footage beyond the check", |sheet| sheet["scores"][0]["to"] = json!(at(21))),
    ];
    for (what, break_it) in broken {
        let mut sheet = sheet("took", 4, 8);
        break_it(&mut sheet);
        let (status, body) = site.ask("saule", Method::POST, &scores, Some(&sheet)).await;
        assert_eq!(status, 400, "{what}: {body}");
    }
    let mut wide = site.new_check(&site.case_digest().await, "badge 1");
    wide["to"] = json!(at(4_000));
    let made = site.post("lead", "/v1/checks", &wide, 201).await;
    let mut late = sheet("took", 4, 8);
    late["scores"][0]["from"] = json!(at(3_000));
    late["scores"][0]["to"] = json!(at(3_001));
    let path = format!("/v1/checks/{}/scores", made["id"].as_str().unwrap());
    site.post("saule", &path, &late, 400).await;
    for (assessors, status) in [
        (["account:saule", "account:saule"], 400),
        (["account:lead", "account:saule"], 400),
        (["account:nobody", "account:saule"], 409),
        (["account:saule", "account:stranger"], 409),
    ] {
        let mut new = site.new_check(&site.case_digest().await, "badge 1");
        new["assessors"] = json!(assessors);
        site.post("lead", "/v1/checks", &new, status).await;
    }
}

#[tokio::test]
async fn an_answer_after_its_time_is_not_within_it_by_a_part_of_a_second() {
    let site = Site::start().await;
    let check = site.check(&site.case().await, "badge 4711").await;
    let mut late = sheet("took", 5, 10);
    late["scores"][1]["to"] = json!(at(11).replace(".000000Z", ".001000Z"));
    for who in ["saule", "marat"] {
        site.post(who, &format!("{check}/scores"), &late, 200).await;
    }
    let outcome = &site.get("lead", &check).await["outcome"];
    assert_eq!(outcome["values"][1]["value"], json!(11.0), "ten seconds and a millisecond");
    assert!(outcome["share"].as_f64().unwrap() < 1.0, "{outcome}");
}

#[tokio::test]
async fn no_figure_of_the_operations_counts_what_is_asked_about_checks() {
    let site = Site::start().await;
    let check = site.check(&site.case().await, "badge 4711").await;
    let entries = async || {
        let metrics = site.rig.get_ops("/metrics").await.text().await.unwrap();
        let lines = metrics.lines().filter(|line| line.starts_with("aigaq_audit_entries_total"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = entries().await;
    site.get("saule", "/v1/checks").await;
    site.post("saule", &format!("{check}/scores"), &sheet("took", 4, 8), 200).await;
    site.get("stranger", "/v1/checks").await;
    site.ask("stranger", Method::GET, &check, None).await;
    assert_eq!(entries().await, before);
    site.get("saule", "/v1/recorders").await;
    assert_ne!(entries().await, before, "anything else is counted");
}

impl Site {
    /// The digest of the one case in the library.
    async fn case_digest(&self) -> String {
        let listed = self.get("lead", "/v1/checks/cases").await;
        listed["cases"][0]["digest"].as_str().unwrap().to_owned()
    }
}

/// Everything that anybody below an inspector can read, with what it says.
async fn everything(site: &Site, check: &str) -> Vec<(String, u16, String)> {
    let id = site.device.id;
    let (from, to) = (at(0), at(20));
    let paths = [
        "/v1/recorders".to_owned(),
        format!("/v1/recorders/{id}"),
        format!("/v1/recorders/{id}/class"),
        format!("/v1/recorders/{id}/verdict?from={from}&to={to}"),
        format!("/v1/recorders/{id}/coverage?from={from}&to={to}"),
        format!("/v1/recorders/{id}/assignments"),
        format!("/v1/recorders/{id}/hls/{from}/{to}/index.m3u8"),
        "/v1/pulls".to_owned(),
        "/v1/holds".to_owned(),
        "/v1/exports".to_owned(),
        "/v1/deletions".to_owned(),
        "/v1/retention/preview".to_owned(),
        "/v1/events?after=0&follow=false".to_owned(),
        "/v1/reports/dark?day=2026-01-17".to_owned(),
        "/v1/statistics/marks?from=2026-01-01&to=2026-02-01&at=1".to_owned(),
        "/v1/statistics/marks/rows?from=2026-01-01&to=2026-02-01&at=1".to_owned(),
        "/v1/statistics/checks?quarter=2025-Q4".to_owned(),
        "/v1/checks".to_owned(),
        check.to_owned(),
        "/v1/checks/cases".to_owned(),
        "/v1/checks/draws".to_owned(),
        "/v1/checks/results?from=2026-01-01&to=2026-02-01".to_owned(),
        "/v1/audit?event=check".to_owned(),
    ];
    let mut all = Vec::new();
    for role in [Role::Operator, Role::Supervisor, Role::Auditor, Role::Administrator] {
        for path in &paths {
            let answer = site.rig.ask_as(&token(role.name()), Method::GET, path, None, &[]).await;
            let status = answer.status().as_u16();
            let mut body = answer.text().await.unwrap();
            if let Some((kept, _)) = body.split_once("\"instance\"") {
                body = kept.to_owned();
            }
            all.push((format!("{} {path}", role.name()), status, body));
        }
        for path in [format!("{check}/scores"), format!("{check}/third")] {
            let body = json!({ "assessor": "x", "option": "x", "scores": [] }).to_string();
            let answer = site.rig.ask_as(&token(role.name()), Method::POST, &path, Some(&body), &[]).await;
            all.push((format!("{} {path}", role.name()), answer.status().as_u16(), String::new()));
        }
    }
    all
}

#[tokio::test]
async fn nobody_below_an_inspector_can_tell_that_a_check_runs_in_any_list_count_event_or_error() {
    let nothing = format!("/v1/checks/{}", "0".repeat(32));
    let site = Site::start().await;
    let before = everything(&site, &nothing).await;
    let case = site.case().await;
    let check = site.check(&case, "badge 4711").await;
    site.post("saule", &format!("{check}/scores"), &sheet("took", 4, 8), 200).await;
    // They watch what it shows, for the check and not for everybody to see.
    let id = site.device.id;
    let watched = format!("/v1/recorders/{id}/hls/{}/{}/index.m3u8", at(0), at(20));
    let headers = [("x-aigaq-check", check.rsplit('/').next().unwrap())];
    let answer = site.rig.ask_as(&token("saule"), Method::GET, &watched, None, &headers).await;
    assert_eq!(answer.status(), 200);
    let running = everything(&site, &check).await;
    for (one, other) in before.iter().zip(&running) {
        assert_eq!((one.1, &one.2), (other.1, &other.2), "{}", one.0);
    }
    // Nor in the trail, whichever way it is asked; nor in what operations see.
    for role in [Role::Operator, Role::Supervisor, Role::Auditor, Role::Administrator] {
        for query in
            [String::new(), format!("?object={id}"), "?event=check".to_owned(), "?actor=account:saule".to_owned()]
        {
            let path = format!("/v1/audit{query}");
            let text = site.rig.ask_as(&token(role.name()), Method::GET, &path, None, &[]).await.text().await.unwrap();
            for word in ["account:saule", "account:lead", "badge", &case, "POST /v1/checks\""] {
                assert!(!text.contains(word), "{role:?} {path}: {word} in {text}");
            }
        }
        for entry in site.rig.audit().iter().filter(|entry| entry.event.name() == "check") {
            let path = format!("/v1/audit/{}/proof", entry.number);
            let status = site.rig.ask_as(&token(role.name()), Method::GET, &path, None, &[]).await.status();
            assert!(matches!(status.as_u16(), 403 | 404), "{role:?} {path}: {status}");
        }
    }
    let metrics = site.rig.get_ops("/metrics").await.text().await.unwrap();
    assert!(!metrics.contains("/v1/checks"), "{metrics}");
    let seen = site.get("aigul", &format!("/v1/audit?object={}", check.rsplit('/').next().unwrap())).await.to_string();
    assert!(seen.contains("index.m3u8") && seen.contains("account:saule"), "inspectors are shown who saw it: {seen}");
    assert_eq!(site.get("stranger", "/v1/checks").await, json!({ "checks": [] }));
    let absent = site.ask("stranger", Method::GET, &nothing, None).await;
    assert_eq!(site.ask("stranger", Method::GET, &check, None).await, absent, "not theirs is not there");
}

#[tokio::test]
async fn nobody_hides_what_they_watch_behind_a_check_that_is_not_about_it() {
    let site = Site::start().await;
    let mut other = site.rig.officer();
    site.rig.record(&mut other, 1).await;
    let check = site.check(&site.case().await, "badge 4711").await;
    let id = check.rsplit('/').next().unwrap();
    let watched = |device: &Device| format!("/v1/recorders/{}/hls/{}/{}/index.m3u8", device.id, at(0), at(4));
    for (who, path, id) in [
        ("saule", watched(&other), id),
        ("saule", watched(&site.device), &"0".repeat(32)[..]),
        ("supervisor", watched(&site.device), id),
        ("stranger", watched(&site.device), id),
    ] {
        let answer = site.rig.ask_as(&token(who), Method::GET, &path, None, &[("x-aigaq-check", id)]).await;
        problem(answer, 404, who).await;
    }
    let answer = site.rig.ask_as(&token("saule"), Method::GET, "/v1/recorders", None, &[("x-aigaq-check", id)]).await;
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn others_see_what_at_least_five_people_add_up_to_in_a_quarter_that_is_over() {
    let site = Site::start().await;
    let case = site.case().await;
    let run = async |person: String| {
        let check = site.check(&case, &person).await;
        for who in ["saule", "marat"] {
            site.post(who, &format!("{check}/scores"), &sheet("took", 4, 8), 200).await;
        }
    };
    for person in 0..4 {
        run(format!("badge {person}")).await;
    }
    let path = "/v1/statistics/checks?quarter=2026-Q1";
    assert_eq!(site.ask("supervisor", Method::GET, path, None).await.0, 400, "the quarter is not over");
    let clock = site.rig.clock.clone();
    let now = clock.now();
    let over = || clock.set(BEGIN + 100 * 86_400_000_000);
    over();
    assert_eq!(site.get("supervisor", path).await["rows"], json!([]), "four are too few");
    clock.set(now);
    run("badge 0".to_owned()).await;
    over();
    assert_eq!(site.get("supervisor", path).await["rows"], json!([]), "one of the four again");
    clock.set(now);
    run("badge 4".to_owned()).await;
    over();
    let seen = site.get("auditor", path).await;
    assert_eq!(seen["rows"].as_array().unwrap().len(), 2, "{seen}");
    assert_eq!((&seen["rows"][0]["persons"], &seen["rows"][0]["median_s"]), (&json!(5), &json!(8.0)));
    assert!(!seen.to_string().contains("badge"), "{seen}");
    assert_eq!(site.ask("operator", Method::GET, path, None).await.0, 403);
}
