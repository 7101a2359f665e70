//! What programs of others rely on: the committed document of the API breaks nowhere, every call has an example, and no request that the document
//! allows, or forbids, makes the server fail.
//!
//! `make openapi` writes `proto/openapi.json` anew; whoever breaks the contract on purpose does that, and says so in the changelog.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aigaq::store::records::RecorderKind;
use serde_json::{Map, Value, json};

use crate::rig::{Rig, TOKEN};

/// Where the document is that others rely on.
fn promised() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/openapi.json")
}

/// Compares two documents of OpenAPI 3.1 from the side of a program that was written after the old one.
struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    broken: Vec<String>,
}

/// Who writes a value: what the client sends may be less than before, what it gets may be more.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Sent,
    Got,
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn strings(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

impl Comparison<'_> {
    fn broken(old: &Value, new: &Value) -> Vec<String> {
        let mut comparison = Comparison { old, new, broken: Vec::new() };
        for (path, item) in object(&old["paths"]) {
            for (method, operation) in object(item) {
                let now = &new["paths"][path][method];
                let place = format!("{} {path}", method.to_uppercase());
                if now.is_null() {
                    comparison.broken.push(format!("{place} is gone"));
                } else {
                    comparison.operation(&place, operation, now);
                }
            }
        }
        comparison.broken
    }

    fn operation(&mut self, place: &str, old: &Value, new: &Value) {
        if old["operationId"] != new["operationId"] {
            self.broken.push(format!("{place} has another operationId"));
        }
        self.parameters(place, &old["parameters"], &new["parameters"]);
        let (body, now) = (&old["requestBody"], &new["requestBody"]);
        if now["required"] == json!(true) && body["required"] != json!(true) {
            self.broken.push(format!("{place} needs a body now"));
        }
        self.content(&format!("{place} body"), body, now, Side::Sent);
        for (status, response) in object(&old["responses"]) {
            let now = self.resolve(self.new, &new["responses"][status]);
            let was = self.resolve(self.old, response);
            if now.is_null() {
                self.broken.push(format!("{place} answers {status} no more"));
            } else {
                self.content(&format!("{place} {status}"), &was, &now, Side::Got);
            }
        }
    }

    fn parameters(&mut self, place: &str, old: &Value, new: &Value) {
        let named = |all: &Value, one: &Value| {
            let same = |other: &&Value| other["name"] == one["name"] && other["in"] == one["in"];
            all.as_array().into_iter().flatten().find(same).cloned()
        };
        for one in old.as_array().into_iter().flatten() {
            match named(new, one) {
                None => self.broken.push(format!("{place} has no parameter {} any more", one["name"])),
                Some(now) => {
                    let place = format!("{place} parameter {}", one["name"]);
                    self.schema(&place, &one["schema"], &now["schema"], Side::Sent, &mut BTreeSet::new());
                    if now["required"] == json!(true) && one["required"] != json!(true) {
                        self.broken.push(format!("{place} is required now"));
                    }
                }
            }
        }
        for one in new.as_array().into_iter().flatten() {
            if one["required"] == json!(true) && named(old, one).is_none() {
                self.broken.push(format!("{place} needs the parameter {} now", one["name"]));
            }
        }
    }

    fn content(&mut self, place: &str, old: &Value, new: &Value, side: Side) {
        for (media_type, content) in object(&old["content"]) {
            let now = &new["content"][media_type];
            if now.is_null() {
                self.broken.push(format!("{place} is not {media_type} any more"));
            } else {
                self.schema(place, &content["schema"], &now["schema"], side, &mut BTreeSet::new());
            }
        }
    }

    fn resolve(&self, document: &Value, value: &Value) -> Value {
        let named = value["$ref"].as_str().and_then(|to| document.pointer(to.trim_start_matches('#')));
        named.unwrap_or(value).clone()
    }

    fn schema(&mut self, place: &str, old: &Value, new: &Value, side: Side, seen: &mut BTreeSet<String>) {
        if old["$ref"].is_string() && !seen.insert(old["$ref"].to_string()) {
            return;
        }
        let (old, new) = (self.resolve(self.old, old), self.resolve(self.new, new));
        let types = |value: &Value| match &value["type"] {
            Value::Array(all) => all.iter().map(ToString::to_string).collect(),
            Value::Null => BTreeSet::new(),
            one => BTreeSet::from([one.to_string()]),
        };
        let (was, is): (BTreeSet<String>, BTreeSet<String>) = (types(&old), types(&new));
        let fits = if side == Side::Sent { was.is_subset(&is) } else { is.is_subset(&was) };
        if !fits {
            self.broken.push(format!("{place} was {was:?} and is {is:?}"));
        }
        let (known, now) = (strings(&old["enum"]), strings(&new["enum"]));
        let narrower =
            side == Side::Sent && !new["enum"].is_null() && (old["enum"].is_null() || !known.is_subset(&now));
        if narrower {
            self.broken.push(format!("{place} takes less than {known:?}"));
        }
        for bound in ["minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength"] {
            let (was, is) = (old[bound].as_f64(), new[bound].as_f64());
            let tighter = match (was, is) {
                (Some(was), Some(is)) if bound.starts_with("min") => is > was,
                (Some(was), Some(is)) => is < was,
                (None, Some(_)) => true,
                _ => false,
            };
            if side == Side::Sent && tighter {
                self.broken.push(format!("{place} has another {bound}"));
            }
        }
        let (needed, needs) = (strings(&old["required"]), strings(&new["required"]));
        let gone: Vec<&&str> =
            if side == Side::Sent { needs.difference(&needed).collect() } else { needed.difference(&needs).collect() };
        for name in gone {
            let what = if side == Side::Sent { "is required now" } else { "may be missing now" };
            self.broken.push(format!("{place}.{name} {what}"));
        }
        for (name, property) in object(&old["properties"]) {
            match new["properties"].get(name) {
                None => self.broken.push(format!("{place}.{name} is gone")),
                Some(now) => self.schema(&format!("{place}.{name}"), property, now, side, seen),
            }
        }
        if !old["items"].is_null() {
            self.schema(&format!("{place}[]"), &old["items"], &new["items"], side, seen);
        }
        for several in ["allOf", "oneOf", "anyOf"] {
            let (was, is) = (old[several].as_array(), new[several].as_array());
            let (was, is) = (was.map_or(&[][..], Vec::as_slice), is.map_or(&[][..], Vec::as_slice));
            if is.len() < was.len() {
                self.broken.push(format!("{place} has fewer {several}"));
            }
            for (was, is) in was.iter().zip(is) {
                self.schema(place, was, is, side, seen);
            }
        }
    }
}

#[tokio::test]
async fn nothing_that_others_rely_on_is_broken() {
    let rig = Rig::start().await;
    let document = rig.json("/v1/openapi.json").await;
    if std::env::var_os("AIGAQ_OPENAPI_WRITE").is_some() {
        let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
        std::fs::write(promised(), text).unwrap();
    }
    let old: Value = serde_json::from_slice(&std::fs::read(promised()).unwrap()).unwrap();
    let broken = Comparison::broken(&old, &document);
    let how = "keep it as it was; to break it on purpose, `make openapi` and a line in CHANGELOG.md";
    assert!(broken.is_empty(), "programs of others break:\n{}\n{how}", broken.join("\n"));
}

#[test]
fn a_change_that_breaks_a_program_is_found_and_one_that_does_not_is_none() {
    let old = json!({ "paths": { "/v1/things": { "post": {
        "operationId": "make_thing",
        "parameters": [{ "name": "kind", "in": "query", "schema": { "type": "string", "enum": ["a", "b"] } }],
        "requestBody": { "required": true, "content": { "application/json": { "schema": { "$ref": "#/components/schemas/New" } } } },
        "responses": { "200": { "content": { "application/json": { "schema": { "type": "object", "required": ["id"],
            "properties": { "id": { "type": "string" }, "next": { "type": ["string", "null"] } } } } } } }
    } } }, "components": { "schemas": { "New": { "type": "object", "required": ["name"],
        "properties": { "name": { "type": "string" }, "count": { "type": "integer", "maximum": 9 } } } } } });
    let post = "/paths/~1v1~1things/post";
    let answer = format!("{post}/responses/200/content/application~1json/schema");
    let new = "/components/schemas/New";
    let change = |pointer: &str, name: &str, value: Value| {
        let mut changed = old.clone();
        changed.pointer_mut(pointer).unwrap()[name] = value;
        Comparison::broken(&old, &changed)
    };
    assert!(Comparison::broken(&old, &old).is_empty());
    for (pointer, name, value) in [
        ("/paths".to_owned(), "/v1/things", Value::Null),
        (post.to_owned(), "operationId", json!("another")),
        (post.to_owned(), "parameters", json!([])),
        (format!("{post}/parameters/0"), "required", json!(true)),
        (format!("{post}/parameters/0/schema"), "enum", json!(["a"])),
        (format!("{post}/responses"), "200", Value::Null),
        (answer.clone(), "required", json!([])),
        (format!("{answer}/properties/id"), "type", json!("integer")),
        (format!("{answer}/properties/id"), "type", json!(["string", "null"])),
        (answer.clone(), "properties", json!({ "id": { "type": "string" } })),
        (new.to_owned(), "required", json!(["name", "count"])),
        (format!("{new}/properties/count"), "maximum", json!(8)),
        (format!("{new}/properties"), "name", json!({ "type": "integer" })),
    ] {
        assert!(!change(&pointer, name, value.clone()).is_empty(), "{pointer} {name} {value}");
    }
    for (pointer, name, value) in [
        ("/paths".to_owned(), "/v1/more", json!({})),
        (format!("{post}/parameters/0/schema"), "enum", json!(["a", "b", "c"])),
        (format!("{answer}/properties"), "more", json!({ "type": "string" })),
        (format!("{new}/properties"), "more", json!({ "type": "string" })),
        (format!("{new}/properties/count"), "maximum", json!(10)),
        (new.to_owned(), "required", json!([])),
    ] {
        assert_eq!(change(&pointer, name, value), Vec::<String>::new(), "{pointer} {name}");
    }
}

/// Whether something in the document shows how a value looks.
fn has_example(document: &Value, value: &Value) -> bool {
    let named = value["$ref"].as_str().and_then(|to| document.pointer(to.trim_start_matches('#')));
    let value = named.unwrap_or(value);
    value.get("example").is_some() || value.get("examples").is_some()
}

#[tokio::test]
async fn every_call_that_takes_a_body_has_an_example_of_it() {
    let rig = Rig::start().await;
    let document = rig.json("/v1/openapi.json").await;
    let mut without = Vec::new();
    for (path, item) in object(&document["paths"]) {
        for (method, operation) in object(item) {
            for (media_type, content) in object(&operation["requestBody"]["content"]) {
                if !has_example(&document, content) && !has_example(&document, &content["schema"]) {
                    without.push(format!("{method} {path} {media_type}"));
                }
            }
        }
    }
    assert!(without.is_empty(), "bodies without an example:\n{}", without.join("\n"));
}

/// Where schemathesis is; without it nothing is asked of it.
const SCHEMATHESIS: &str = "AIGAQ_SCHEMATHESIS";
/// How long it looks for more than examples and bounds.
const SECONDS_MAX: &str = "180";
/// What it is told: 503 says that something is not possible now, which is no failure; and the recorder that is there, so that it gets beyond
/// the refusal of one that is not.
const SETTINGS: &str = r#"
[checks.not_a_server_error]
expected-statuses = ["2XX", "3XX", "4XX", "503"]

[[operations]]
include-path-regex = "^/v1/recorders/"
parameters = { "path.id" = "RECORDER" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn no_request_that_schemathesis_makes_of_the_document_is_a_server_error() {
    let Some(program) = std::env::var_os(SCHEMATHESIS) else {
        println!("skipped: {SCHEMATHESIS} does not say where schemathesis is; `make contract` installs it");
        return;
    };
    let rig = Rig::start().await;
    let mut device = rig.enrol(RecorderKind::Officer, "Astana");
    rig.record(&mut device, 3).await;
    rig.send(device.chain.mark(&device.key, "bribe-attempt")).await;
    let settings = SETTINGS.replace("RECORDER", &device.id.to_string());
    std::fs::write(rig.dir.path().join("schemathesis.toml"), settings).unwrap();
    let examples = std::env::var("AIGAQ_SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| "25".to_owned());
    let mut run = Command::new(program);
    run.current_dir(rig.dir.path())
        .args(["run", &format!("http://{}/v1/openapi.json", rig.address)])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        // A stream of events has no end, and the rig has nobody who takes identities back.
        .args(["--exclude-path", "/v1/events", "--exclude-path", "/v1/recorders/{id}/revoke"])
        .args(["--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", &examples, "--seed", "1", "--generation-deterministic", "--max-time", SECONDS_MAX])
        .args(["--request-timeout", "20", "--suppress-health-check", "all", "--continue-on-failure", "--no-color"])
        // One worker: the caches of its generator of values are not made for threads, and with two it ends now and then in an error of its own.
        .args(["--workers", "1", "--warnings", "off"])
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || run.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}
