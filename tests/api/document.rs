//! The API's own document, and what operations see.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::rig::{Rig, at};

/// Every route there is. A new one belongs here and in the document.
const ROUTES: &[&str] = &[
    "/v1/accounts",
    "/v1/assignments",
    "/v1/audit",
    "/v1/audit/{number}/proof",
    "/v1/checks",
    "/v1/checks/cases",
    "/v1/checks/cases/{digest}",
    "/v1/checks/draws",
    "/v1/checks/draws/{id}",
    "/v1/checks/draws/{id}/seed",
    "/v1/checks/results",
    "/v1/checks/{id}",
    "/v1/checks/{id}/scores",
    "/v1/checks/{id}/third",
    "/v1/deletions",
    "/v1/deletions/undo",
    "/v1/destructions",
    "/v1/destructions/{id}",
    "/v1/destructions/{id}/confirm",
    "/v1/events",
    "/v1/exports",
    "/v1/exports/{id}",
    "/v1/exports/{id}/bundle.zip",
    "/v1/holds",
    "/v1/holds/{id}",
    "/v1/holds/{id}/release",
    "/v1/incidents",
    "/v1/incidents/{id}",
    "/v1/incidents/{id}/notes",
    "/v1/incidents/{id}/release",
    "/v1/incidents/{id}/transitions",
    "/v1/log/checkpoint",
    "/v1/log/key",
    "/v1/log/succession",
    "/v1/log/proof/{recorder}/{sequence}",
    "/v1/log/tile/{path}",
    "/v1/log/timestamps/{size}",
    "/v1/marks",
    "/v1/marks/categories",
    "/v1/openapi.json",
    "/v1/pulls",
    "/v1/pulls/{id}",
    "/v1/recorders",
    "/v1/recorders/{id}",
    "/v1/recorders/{id}/assignments",
    "/v1/recorders/{id}/assignments/{from}",
    "/v1/recorders/{id}/class",
    "/v1/recorders/{id}/clip.mp4",
    "/v1/recorders/{id}/coverage",
    "/v1/recorders/{id}/forks",
    "/v1/recorders/{id}/forks/{sequence}/{digest}/payload",
    "/v1/recorders/{id}/hls/{from}/{to}/index.m3u8",
    "/v1/recorders/{id}/hls/{from}/{to}/{file}",
    "/v1/recorders/{id}/live.m3u8",
    "/v1/recorders/{id}/live/{file}",
    "/v1/recorders/{id}/marks",
    "/v1/recorders/{id}/path",
    "/v1/recorders/{id}/quarantine",
    "/v1/recorders/{id}/quarantine/{name}/payload",
    "/v1/recorders/{id}/revoke",
    "/v1/recorders/{id}/together",
    "/v1/recorders/{id}/verdict",
    "/v1/recordings",
    "/v1/reports/dark",
    "/v1/retention/preview",
    "/v1/scrub",
    "/v1/sessions",
    "/v1/sessions/{id}",
    "/v1/sign-in",
    "/v1/sign-in/oidc",
    "/v1/sign-in/oidc/callback",
    "/v1/statistics/checks",
    "/v1/statistics/marks",
    "/v1/statistics/marks/rows",
    "/v1/statistics/reported",
    "/v1/token",
    "/v1/webhooks",
    "/v1/webhooks/{name}",
    "/v1/webhooks/{name}/replay",
];

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_lists_every_route_and_holds_together() {
    let rig = Rig::start().await;
    let document = rig.json("/v1/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.keys().map(String::as_str).collect::<BTreeSet<_>>(), ROUTES.iter().copied().collect());
    let mut operations = BTreeSet::new();
    for (path, operation) in
        paths.iter().flat_map(|(path, item)| item.as_object().unwrap().values().map(move |one| (path, one)))
    {
        assert!(operations.insert(operation["operationId"].as_str().unwrap().to_owned()), "{path}");
        let good =
            ["200", "201", "202", "204", "303"].iter().any(|status| operation["responses"].get(status).is_some());
        assert!(good && operation["summary"].is_string(), "{path}");
        let named: BTreeSet<&str> = operation["parameters"].as_array().map_or_else(BTreeSet::new, |all| {
            all.iter().filter(|one| one["in"] == "path").map(|one| one["name"].as_str().unwrap()).collect()
        });
        let in_path: BTreeSet<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
        assert_eq!(named, in_path, "{path}");
        let public =
            ["/v1/log/", "/v1/openapi.json", "/v1/sign-in", "/v1/token"].iter().any(|one| path.starts_with(one));
        assert_eq!(operation.get("security").is_none(), public, "{path}");
    }
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference} leads nowhere");
    }
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
}

#[tokio::test]
async fn the_metrics_know_routes_and_no_recorder() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 1).await;
    rig.bytes(&format!("/v1/recorders/{}/hls/{}/{}/seg-1.m4s", device.id, at(0), at(10))).await;
    rig.get("/nowhere/at/all").await;
    let response = rig.get_ops("/metrics").await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = response.text().await.unwrap();
    for line in [
        "aigaq_lookups_total{route=\"/v1/recorders/{id}/hls/{from}/{to}/{file}\",status=\"2xx\"} 1",
        "aigaq_lookups_total{route=\"none\",status=\"4xx\"} 1",
        "aigaq_audit_entries_total{outcome=\"granted\"} 1",
        "aigaq_damaged_reads_total 0",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains(&device.id.to_string()));
    assert!(!rig.metrics.gather().is_empty());
}

#[tokio::test]
async fn readiness_is_what_the_server_says() {
    let rig = Rig::start().await;
    assert_eq!(rig.get_ops("/readyz").await.status(), 503);
    rig.readiness.set(true);
    assert_eq!(rig.get_ops("/readyz").await.status(), 200);
    assert_eq!(rig.get_ops("/healthz").await.text().await.unwrap(), "ok\n");
    assert_eq!(rig.get_ops("/v1/recorders").await.status(), 404);
}
