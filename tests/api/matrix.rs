//! Who may do what to whose: every route of the document, every role, one's own department and another one.
//!
//! The table below is the rule, written down a second time; a route without a row fails, and so does a row without a route.

use std::collections::{BTreeMap, BTreeSet};

use aigaq::access::{Grant, Grants, Proven, Role};
use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::{Device, Rig, TOKEN, at};

/// What a route is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum About {
    /// Nobody needs to say who they are.
    Public,
    /// A thing of a department: whoever may not touch it gets the answer of one that is not there.
    Thing,
    /// A list: what is not theirs is not in it.
    List,
    /// The site: needs the role in all departments.
    Site,
    /// Whoever shows who they are; with the credentials of nobody it is refused.
    Stranger,
    /// One's own, and for the role in all departments that of others, too.
    Own,
}
use About::{List, Own, Public, Site, Stranger, Thing};

/// A row: operation, method, path, body, whom it is for (o perator, s upervisor, i nspector, a uditor, d: administrator), about what.
/// `{R}` is a recorder, `{P}` a pull, `{H}` a hold, `{X}` an export, `{I}` an incident, `{N}` an audit entry, `{S}` a session, `{D}` a digest,
/// `{K}` a check, `{C}` a case, `{W}` a draw, `{F}` and `{T}` a range.
type Row = (&'static str, Method, &'static str, Option<&'static str>, &'static str, About);

const RANGE: &str = r#"{"recorder":"{R}","from":"{F}","to":"{T}","reason":"case 17"}"#;
const EXPORT: &str = r#"{"recorders":["{R}"],"from":"{F}","to":"{T}","purpose":"case 17","reason":"asked for"}"#;
const REASON: &str = r#"{"reason":"case 17"}"#;
const DESTRUCTION: &str = r#"{"recorder":"{R}","day":"2100-01-01","reason":"case 17"}"#;
const CLASS: &str = r#"{"class":"open","reason":"case 17"}"#;
const COUNTS: &str = r#"{"source":"city","department":"Astana","from":"2026-01-01","to":"2026-02-01","counts":[{"category":"x","count":1}]}"#;
const CHECK: &str = r#"{"case":"{C}","recorder":"{R}","person":"badge 1","from":"{F}","to":"{T}","assessors":["account:x","account:y"],"reason":"plan"}"#;
const SCORES: &str = r#"{"option":"a","scores":[{"criterion":"c","points":1,"from":"{F}","to":"{T}"}]}"#;
const THIRD: &str = r#"{"assessor":"account:third"}"#;
const CASE: &str = r#"{"name":"n","text":{"kk":"k","ru":"r","en":"e"},"options":[{"id":"a","text":{"kk":"k","ru":"r","en":"e"}},{"id":"b","text":{"kk":"k","ru":"r","en":"e"}}],"criteria":[{"id":"c","text":{"kk":"k","ru":"r","en":"e"},"weight":1,"measure":{"points":{"max":5,"bound":1}}}]}"#;
/// The digest of 32 zero bytes.
const DRAW: &str = r#"{"department":"Astana","roster":["badge 1","badge 2"],"count":1,"seed_digest":"66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925","reason":"plan"}"#;
const SEED: &str = r#"{"seed":"0000000000000000000000000000000000000000000000000000000000000000"}"#;
const ASSIGNED: &str = r#"{"assignee":"badge 1","from":"{F}"}"#;
const CORRECTED: &str = r#"{"assignee":"badge 2"}"#;

const CALL: &str = r#"{"department":"Astana","source":"dispatch","reference":"17","text":"disorder","from":"{F}","to":"{T}","badges":["badge 1"]}"#;
const STEP: &str = r#"{"transition":"confirm","reason":"case 17"}"#;
const CLOSE: &str = r#"{"transition":"close","reason":"case 17"}"#;
const NOTE: &str = r#"{"text":"called back"}"#;
const HOOK: &str = r#"{"name":"cad","url":"https://cad.example/hook"}"#;
const REPLAY: &str = r#"{"after":1}"#;
const MARK: &str = r#"{"category":"insult","at":"{F}"}"#;

const PASSWORD: &str = r#"{"name":"nobody","password":"nothing that is right"}"#;
const SECRET: &str = "grant_type=client_credentials&client_id=nobody&client_secret=nothing";

const TABLE: &[Row] = &[
    ("list_recorders", Method::GET, "/v1/recorders", None, "osiad", List),
    ("list_recorders", Method::GET, "/v1/recorders?department=Astana", None, "osiad", List),
    ("recorder", Method::GET, "/v1/recorders/{R}", None, "osiad", Thing),
    ("list_recordings", Method::GET, "/v1/recordings?from={F}&to={T}", None, "osiad", List),
    ("list_recordings", Method::GET, "/v1/recordings?from={F}&to={T}&recorder={R}", None, "osiad", List),
    ("list_recordings", Method::GET, "/v1/recordings?from={F}&to={T}&mark=bribe-attempt", None, "osiad", List),
    ("class", Method::GET, "/v1/recorders/{R}/class", None, "osiad", Thing),
    ("classify", Method::PUT, "/v1/recorders/{R}/class", Some(CLASS), "si", Thing),
    ("verdict", Method::GET, "/v1/recorders/{R}/verdict?from={F}&to={T}", None, "osiad", Thing),
    ("forks", Method::GET, "/v1/recorders/{R}/forks", None, "osiad", Thing),
    ("quarantine", Method::GET, "/v1/recorders/{R}/quarantine", None, "osiad", Thing),
    ("fork_payload", Method::GET, "/v1/recorders/{R}/forks/1/{D}/payload", None, "si", Thing),
    ("quarantined_payload", Method::GET, "/v1/recorders/{R}/quarantine/1-0/payload", None, "si", Thing),
    ("coverage", Method::GET, "/v1/recorders/{R}/coverage?from={F}&to={T}", None, "osiad", Thing),
    ("path", Method::GET, "/v1/recorders/{R}/path?from={F}&to={T}", None, "osiad", Thing),
    ("together", Method::GET, "/v1/recorders/{R}/together?from={F}&to={T}", None, "osiad", Thing),
    ("assign", Method::POST, "/v1/recorders/{R}/assignments", Some(ASSIGNED), "sd", Thing),
    ("list_assignments", Method::GET, "/v1/recorders/{R}/assignments", None, "osiad", Thing),
    ("correct_assignment", Method::PUT, "/v1/recorders/{R}/assignments/{F}", Some(CORRECTED), "sd", Thing),
    ("withdraw_assignment", Method::DELETE, "/v1/recorders/{R}/assignments/{F}", None, "sd", Thing),
    ("who", Method::GET, "/v1/assignments?label=label&at={F}", None, "osiad", List),
    ("create_pull", Method::POST, "/v1/pulls", Some(RANGE), "osi", Thing),
    ("list_pulls", Method::GET, "/v1/pulls", None, "osiad", List),
    ("list_pulls", Method::GET, "/v1/pulls?recorder={R}", None, "osiad", List),
    ("pull", Method::GET, "/v1/pulls/{P}", None, "osiad", Thing),
    ("cancel_pull", Method::DELETE, "/v1/pulls/{P}", None, "osi", Thing),
    ("create_export", Method::POST, "/v1/exports", Some(EXPORT), "si", Thing),
    ("list_exports", Method::GET, "/v1/exports", None, "si", List),
    ("export", Method::GET, "/v1/exports/{X}", None, "si", Thing),
    ("export_bundle", Method::GET, "/v1/exports/{X}/bundle.zip", None, "si", Thing),
    ("place_hold", Method::POST, "/v1/holds", Some(RANGE), "osi", Thing),
    ("list_holds", Method::GET, "/v1/holds", None, "osiad", List),
    ("list_holds", Method::GET, "/v1/holds?recorder={R}", None, "osiad", List),
    ("list_mark_categories", Method::GET, "/v1/marks/categories", None, "osiad", List),
    ("list_marks", Method::GET, "/v1/marks", None, "osiad", List),
    ("list_marks", Method::GET, "/v1/marks?recorder={R}&department=Astana", None, "osiad", List),
    ("raise_mark", Method::POST, "/v1/recorders/{R}/marks", Some(MARK), "osi", Thing),
    ("open_incident", Method::POST, "/v1/incidents", Some(CALL), "osi", Thing),
    ("list_incidents", Method::GET, "/v1/incidents", None, "osiad", List),
    ("list_incidents", Method::GET, "/v1/incidents?department=Astana&matched=true", None, "osiad", List),
    ("incident", Method::GET, "/v1/incidents/{I}", None, "osiad", Thing),
    ("step_incident", Method::POST, "/v1/incidents/{I}/transitions", Some(STEP), "osi", Thing),
    ("step_incident", Method::POST, "/v1/incidents/{I}/transitions", Some(CLOSE), "si", Thing),
    ("release_incident", Method::POST, "/v1/incidents/{I}/release", None, "si", Thing),
    ("note_incident", Method::POST, "/v1/incidents/{I}/notes", Some(NOTE), "osi", Thing),
    ("list_incident_notes", Method::GET, "/v1/incidents/{I}/notes", None, "osiad", Thing),
    ("list_webhooks", Method::GET, "/v1/webhooks", None, "d", Site),
    ("make_webhook", Method::POST, "/v1/webhooks", Some(HOOK), "d", Site),
    ("replay_webhook", Method::POST, "/v1/webhooks/cad/replay", Some(REPLAY), "d", Site),
    ("remove_webhook", Method::DELETE, "/v1/webhooks/cad", None, "d", Site),
    ("ask_release", Method::POST, "/v1/holds/{H}/release", Some(REASON), "si", Thing),
    ("confirm_release", Method::DELETE, "/v1/holds/{H}", None, "si", Thing),
    ("scrub", Method::GET, "/v1/scrub", None, "siad", Site),
    ("preview_deletion", Method::GET, "/v1/retention/preview", None, "siad", Site),
    ("list_deletions", Method::GET, "/v1/deletions", None, "siad", Site),
    ("undo_deletion", Method::POST, "/v1/deletions/undo", Some(RANGE), "s", Thing),
    ("ask_destruction", Method::POST, "/v1/destructions", Some(DESTRUCTION), "si", Thing),
    ("list_destructions", Method::GET, "/v1/destructions", None, "si", List),
    ("confirm_destruction", Method::POST, "/v1/destructions/{R}-2100-01-01/confirm", Some(REASON), "si", Thing),
    ("withdraw_destruction", Method::DELETE, "/v1/destructions/{R}-2100-01-01", None, "si", Thing),
    ("list_audit", Method::GET, "/v1/audit", None, "ai", List),
    ("list_audit", Method::GET, "/v1/audit?object={R}", None, "ai", List),
    ("audit_proof", Method::GET, "/v1/audit/{N}/proof", None, "ai", Thing),
    ("follow_events", Method::GET, "/v1/events?after=0&kinds=mark,connected&follow=false", None, "osiad", List),
    ("dark_report", Method::GET, "/v1/reports/dark?day=2026-01-17", None, "siad", List),
    ("dark_report", Method::GET, "/v1/reports/dark?day=2026-01-17&department=Astana", None, "siad", List),
    ("mark_figures", Method::GET, "/v1/statistics/marks?from=2026-01-01&to=2026-02-01&at=5", None, "siad", List),
    ("mark_rows", Method::GET, "/v1/statistics/marks/rows?from=2026-01-01&to=2026-02-01&at=5", None, "siad", List),
    ("report_counts", Method::POST, "/v1/statistics/reported", Some(COUNTS), "sd", Thing),
    ("check_figures", Method::GET, "/v1/statistics/checks?quarter=2025-Q4", None, "siad", List),
    ("create_check", Method::POST, "/v1/checks", Some(CHECK), "i", Thing),
    ("list_checks", Method::GET, "/v1/checks", None, "i", List),
    ("check", Method::GET, "/v1/checks/{K}", None, "i", Thing),
    ("score_check", Method::POST, "/v1/checks/{K}/scores", Some(SCORES), "i", Thing),
    ("name_third", Method::POST, "/v1/checks/{K}/third", Some(THIRD), "i", Thing),
    ("check_results", Method::GET, "/v1/checks/results?from=2026-01-01&to=2026-02-01", None, "i", List),
    ("add_case", Method::POST, "/v1/checks/cases", Some(CASE), "i", List),
    ("list_cases", Method::GET, "/v1/checks/cases", None, "i", List),
    ("case", Method::GET, "/v1/checks/cases/{C}", None, "i", List),
    ("commit_draw", Method::POST, "/v1/checks/draws", Some(DRAW), "i", Thing),
    ("list_draws", Method::GET, "/v1/checks/draws", None, "i", List),
    ("draw", Method::GET, "/v1/checks/draws/{W}", None, "i", Thing),
    ("reveal_draw", Method::POST, "/v1/checks/draws/{W}/seed", Some(SEED), "i", Thing),
    ("playlist", Method::GET, "/v1/recorders/{R}/hls/{F}/{T}/index.m3u8", None, "osi", Thing),
    ("playlist_file", Method::GET, "/v1/recorders/{R}/hls/{F}/{T}/seg-1.m4s", None, "osi", Thing),
    ("live_playlist", Method::GET, "/v1/recorders/{R}/live.m3u8", None, "osi", Thing),
    ("live_file", Method::GET, "/v1/recorders/{R}/live/seg-1.m4s", None, "osi", Thing),
    ("clip", Method::GET, "/v1/recorders/{R}/clip.mp4?from={F}&to={T}", None, "osi", Thing),
    ("cancel_export", Method::DELETE, "/v1/exports/{X}", None, "si", Thing),
    ("revoke_recorder", Method::POST, "/v1/recorders/{R}/revoke", Some(REASON), "d", Thing),
    ("sign_in", Method::POST, "/v1/sign-in", Some(PASSWORD), "", Stranger),
    ("token", Method::POST, "/v1/token", Some(SECRET), "", Stranger),
    ("begin_oidc", Method::GET, "/v1/sign-in/oidc", None, "", Stranger),
    ("finish_oidc", Method::GET, "/v1/sign-in/oidc/callback?code=x&state=x", None, "", Stranger),
    ("list_accounts", Method::GET, "/v1/accounts", None, "d", Site),
    ("list_sessions", Method::GET, "/v1/sessions", None, "d", Own),
    ("end_session", Method::DELETE, "/v1/sessions/{S}", None, "d", Own),
    ("log_checkpoint", Method::GET, "/v1/log/checkpoint", None, "", Public),
    ("log_key", Method::GET, "/v1/log/key", None, "", Public),
    ("log_succession", Method::GET, "/v1/log/succession", None, "", Public),
    ("log_timestamp", Method::GET, "/v1/log/timestamps/1", None, "", Public),
    ("log_proof", Method::GET, "/v1/log/proof/{R}/0", None, "", Public),
    ("log_tile", Method::GET, "/v1/log/tile/0/000.p/1", None, "", Public),
    ("document", Method::GET, "/v1/openapi.json", None, "", Public),
];

const HOW: &str =
    "add a row to TABLE in tests/api/matrix.rs: the operation, how it is asked, which roles may, and what it is about";

fn letter(role: Role) -> char {
    if role == Role::Administrator { 'd' } else { role.name().chars().next().unwrap() }
}

/// The names of one recorder and of what belongs to it.
#[derive(Clone)]
struct Names(BTreeMap<&'static str, String>);

impl Names {
    fn fill(&self, template: &str) -> String {
        self.0.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// The same of nothing that is there.
    fn of_nothing(&self) -> Self {
        let mut names = self.clone();
        let id = "0".repeat(32);
        for (name, value) in [
            ("{R}", id.clone()),
            ("{P}", format!("{id}-1")),
            ("{H}", format!("{id}-1")),
            ("{X}", "f".repeat(self.0["{X}"].len())),
            ("{I}", "incident-1000000".to_owned()),
            ("{N}", "1000000".to_owned()),
            ("{K}", id.clone()),
            ("{W}", id.clone()),
            ("{S}", "0".repeat(16)),
            ("Astana", "Nowhere".to_owned()),
        ] {
            names.0.insert(name, value);
        }
        names
    }
}

/// A server with a recorder of Astana that has everything a route can ask for.
async fn site() -> (Rig, Device, Names) {
    let rig = Rig::start().await;
    let mut device = rig.enrol(aigaq::store::records::RecorderKind::Officer, "Astana");
    rig.record(&mut device, 2).await;
    rig.send(device.chain.mark(&device.key, "bribe-attempt")).await;
    let digest = "d".repeat(64);
    let mut names = BTreeMap::from([("{R}", device.id.to_string()), ("{F}", at(0)), ("{T}", at(10)), ("{D}", digest)]);
    for (name, path, body) in [("{P}", "/v1/pulls", RANGE), ("{H}", "/v1/holds", RANGE), ("{X}", "/v1/exports", EXPORT)]
    {
        let body = serde_json::from_str(&Names(names.clone()).fill(body)).unwrap();
        let made: Value = rig.send_json(Method::POST, path, &body, &[]).await.json().await.unwrap();
        names.insert(name, made["id"].as_str().unwrap().to_owned());
    }
    let body = serde_json::from_str(&Names(names.clone()).fill(CALL)).unwrap();
    let made: Value = rig.send_json(Method::POST, "/v1/incidents", &body, &[]).await.json().await.unwrap();
    names.insert("{I}", made["id"].as_str().unwrap().to_owned());
    let post = async |path: &str, body: String| -> Value {
        let body = serde_json::from_str(&body).unwrap();
        rig.send_json(Method::POST, path, &body, &[]).await.json().await.unwrap()
    };
    let case = post("/v1/checks/cases", CASE.to_owned()).await;
    names.insert("{C}", case["digest"].as_str().unwrap().to_owned());
    let draw = post("/v1/checks/draws", DRAW.to_owned()).await;
    names.insert("{W}", draw["id"].as_str().unwrap().to_owned());
    let logged = async {
        while rig.store.audit_leaf(draw["entry"].as_u64().unwrap()).unwrap().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), logged).await.unwrap();
    for actor in ["inspector:test", "account:x", "account:y", "account:third"] {
        let inspector = Grants::new(vec![Grant { role: Role::Inspector, departments: None }]);
        rig.access.admit(&format!("a-token-that-{actor}-does-not-show"), actor, inspector).unwrap();
    }
    let check = Names(names.clone()).fill(CHECK).replace("account:x", "inspector:test");
    names.insert("{K}", post("/v1/checks", check).await["id"].as_str().unwrap().to_owned());
    let number = rig.audit().iter().find(|entry| entry.object == device.id.to_string()).unwrap().number;
    names.insert("{N}", number.to_string());
    let other = Proven { actor: "account:other".to_owned(), grants: Vec::new(), break_glass: false, changed_at: None };
    names.insert("{S}", rig.access.begin(other, "10.0.0.9").await.unwrap().id);
    (rig, device, Names(names))
}

/// Lets somebody in with one role, in one department or in all.
fn admit(rig: &Rig, role: Role, department: Option<&str>) -> String {
    let token = format!("token-of-{}-in-{}", role.name(), department.unwrap_or("all"));
    let departments = department.map(|one| vec![one.to_owned()]);
    rig.access.admit(&token, &format!("{}:test", role.name()), Grants::new(vec![Grant { role, departments }])).unwrap();
    token
}

/// What came back and how many denials it left.
struct Answer {
    status: u16,
    body: String,
    entries: usize,
    /// Entries that are of the request itself, and not of what it brought about.
    of_request: usize,
    denials: usize,
}

async fn ask(rig: &Rig, token: &str, row: &Row, names: &Names) -> Answer {
    let (_, method, path, body, ..) = row;
    let before = rig.audit().len();
    let body = body.map(|body| names.fill(body));
    let answer = rig.ask_as(token, method.clone(), &names.fill(path), body.as_deref(), &[]).await;
    let status = answer.status().as_u16();
    let body = String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned();
    let new = rig.audit().split_off(before);
    let denials = new
        .iter()
        .filter(|entry| matches!(entry.event.name(), "denial" | "check") && entry.outcome == "denied")
        .count();
    let action = format!("{method} {}", names.fill(path));
    let of_request = new.iter().filter(|entry| entry.action.starts_with(&action)).count();
    Answer { status, body, entries: new.len(), of_request, denials }
}

#[tokio::test]
async fn every_route_has_a_row_and_every_row_a_route() {
    let rig = Rig::start().await;
    let document = rig.json("/v1/openapi.json").await;
    let items = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let routes: BTreeSet<&str> = items.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    let rows: BTreeSet<&str> = TABLE.iter().map(|row| row.0).collect();
    let missing: Vec<_> = routes.difference(&rows).collect();
    assert!(missing.is_empty(), "routes without a row: {missing:?}; {HOW}");
    let stale: Vec<_> = rows.difference(&routes).collect();
    assert!(stale.is_empty(), "rows without a route: {stale:?}");
}

#[tokio::test]
async fn nobody_gets_anything_that_is_not_public() {
    let (rig, _, names) = site().await;
    for row in TABLE {
        // The clock of the rig stands, and only so many denials of nobody are written down in a second.
        rig.clock.set(rig.clock.now() + 1_000_000);
        let token = if row.5 == Stranger { "" } else { "a-token-of-nobody-at-all" };
        let answer = ask(&rig, token, row, &names).await;
        let expected = match row {
            // The log of the rig has no authority that stamps it, and the site no provider.
            ("log_timestamp" | "begin_oidc" | "finish_oidc", ..) => (404, 0),
            (.., Public) => (200, 0),
            _ => (401, 1),
        };
        assert_eq!((answer.status, answer.denials), expected, "{}: {}", row.0, answer.body);
    }
}

#[tokio::test]
async fn each_role_may_what_the_table_says_in_its_department_and_nothing_in_another() {
    let mut wrong = Vec::new();
    for role in Role::ALL {
        let (rig, device, names) = site().await;
        let (nothing, id) = (names.of_nothing(), device.id.to_string());
        let (own, other, all) =
            (admit(&rig, role, Some("Astana")), admit(&rig, role, Some("Pavlodar")), admit(&rig, role, None));
        for row in TABLE.iter().filter(|row| !matches!(row.5, Public | Stranger)) {
            let (operation, .., roles, about) = row;
            let may = roles.contains(letter(role));
            for (token, here, everywhere) in [(&other, false, false), (&own, true, false), (&all, true, true)] {
                let answer = ask(&rig, token, row, &names).await;
                let mut said = |what: &str| {
                    let Answer { status, body, entries, denials, .. } = &answer;
                    wrong.push(format!(
                        "{operation} by {token}: {what}: {status}, {entries} entries, {denials} denials, {body}"
                    ));
                };
                if answer.of_request != 1 {
                    said("each request has one entry");
                }
                let forbidden = answer.status == 403 && answer.denials == 1;
                if *about == Own {
                    let (theirs, session) = (may && everywhere, &names.0["{S}"]);
                    let fine = match (row.2.contains("{S}"), theirs) {
                        (true, true) => answer.status == 204 && answer.denials == 0,
                        (true, false) => {
                            let of_nothing = ask(&rig, token, row, &nothing).await;
                            (answer.status, answer.denials, &answer.body) == (404, 1, &of_nothing.body)
                        }
                        (false, theirs) => answer.status == 200 && answer.body.contains(session) == theirs,
                    };
                    if !fine {
                        said("one's own is one's own");
                    }
                } else if !may || (*about == Site && !everywhere) {
                    if !forbidden {
                        said("it must be forbidden, and written down");
                    }
                } else if here {
                    let absent = answer.status == 404 && *about == Thing && answer.body.contains("no such ");
                    let gone = absent && answer.body == ask(&rig, token, row, &nothing).await.body;
                    if answer.denials > 0 || answer.status == 401 || gone && (*operation, everywhere) != GONE {
                        said("it must be granted");
                    }
                } else if *about == Thing {
                    let of_nothing = ask(&rig, token, row, &nothing).await;
                    if (answer.status, &answer.body) != (404, &of_nothing.body) || of_nothing.status != 404 {
                        said(&format!("it must look like nothing, which is {} {}", of_nothing.status, of_nothing.body));
                    }
                    if answer.denials != 1 {
                        said("it must be written down as denied");
                    }
                } else {
                    let of_nothing = ask(&rig, token, row, &nothing).await;
                    if answer.body.contains(&id)
                        || (answer.status, &answer.body) != (of_nothing.status, &of_nothing.body)
                    {
                        said(&format!("nothing of it may be in the list, which for nothing is {}", of_nothing.body));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is not there any more for the second who takes it away.
const GONE: (&str, bool) = ("cancel_export", true);

#[tokio::test]
async fn an_export_of_two_departments_is_for_whoever_may_in_both() {
    let rig = Rig::start().await;
    let kind = aigaq::store::records::RecorderKind::Officer;
    let (astana, pavlodar) = (rig.enrol(kind, "Astana"), rig.enrol(kind, "Pavlodar"));
    let order = json!({
        "recorders": [astana.id.to_string(), pavlodar.id.to_string()],
        "from": at(0), "to": at(10), "purpose": "case 17", "reason": "asked for"
    });
    let one = admit(&rig, Role::Supervisor, Some("Astana"));
    let both = "token-of-both-departments";
    let departments = Some(vec!["Astana".to_owned(), "Pavlodar".to_owned()]);
    let grant = Grant { role: Role::Supervisor, departments };
    rig.access.admit(both, "account:both", Grants::new(vec![grant])).unwrap();
    let order = order.to_string();
    assert_eq!(rig.ask_as(&one, Method::POST, "/v1/exports", Some(&order), &[]).await.status(), 404);
    let made = rig.ask_as(both, Method::POST, "/v1/exports", Some(&order), &[]).await;
    assert_eq!(made.status(), 202);
    let path = made.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(rig.ask_as(both, Method::GET, &path, None, &[]).await.status(), 200);
    assert_eq!(rig.ask_as(&one, Method::GET, &path, None, &[]).await.status(), 404);
    let listed: Value = rig.ask_as(&one, Method::GET, "/v1/exports", None, &[]).await.json().await.unwrap();
    assert_eq!(listed, json!({ "exports": [] }));
    let trail = admit(&rig, Role::Auditor, Some("Astana"));
    let seen = rig.ask_as(&trail, Method::GET, "/v1/audit", None, &[]).await.text().await.unwrap();
    assert!(!seen.contains(&pavlodar.id.to_string()), "an entry about two departments is for whoever audits both");
    assert_eq!(rig.ask_as(TOKEN, Method::GET, "/v1/audit", None, &[]).await.status(), 200);
}
