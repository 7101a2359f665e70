//! The rules of the tree that a compiler does not keep: which room may import which, and that every file says what it is.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A room and the rooms it may import. `error` and `clock` are everyone's.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("clock", &[]),
    ("bundle", &[]),
    ("timestamp", &[]),
    ("verify", &["bundle", "timestamp"]),
    ("seal", &[]),
    ("place", &[]),
    ("store", &["place", "seal"]),
    ("media", &[]),
    ("http", &[]),
    ("est", &[]),
    ("log", &["http", "store", "timestamp"]),
    ("access", &["http", "store"]),
    ("audit", &["store"]),
    ("backup", &["log", "seal", "store"]),
    ("fleet", &["store"]),
    ("find", &["fleet", "place", "store"]),
    ("retention", &["store"]),
    ("scrub", &["store"]),
    ("webhook", &["http", "store"]),
    ("incident", &["fleet", "place", "retention", "store"]),
    ("statistics", &[]),
    ("integrity", &["store"]),
    ("chain", &["log", "store"]),
    ("commit", &["chain", "log", "store"]),
    ("enrol", &["est", "http", "log", "store"]),
    ("ingest", &["commit", "enrol", "fleet", "log", "store"]),
    ("export", &["bundle", "enrol", "est", "log", "store"]),
    (
        "lookup",
        &[
            "access",
            "audit",
            "bundle",
            "enrol",
            "export",
            "find",
            "fleet",
            "http",
            "incident",
            "integrity",
            "log",
            "media",
            "place",
            "retention",
            "store",
            "webhook",
            "statistics",
            "store",
        ],
    ),
    ("recorder", &["est", "media"]),
    ("check", &["integrity", "log", "place", "seal", "store"]),
    ("witness", &["enrol", "http"]),
];

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(&root).unwrap().to_path_buf();
            let first = relative.components().next().unwrap().as_os_str().to_string_lossy();
            let room = first.trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (room, relative, text)
        })
        .collect()
}

/// The names of rooms that follow `crate::` in the code of a file, its tests left out.
fn imported(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut rooms = BTreeSet::new();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for after in line.split("crate::").skip(1) {
            let names = after.strip_prefix('{').map_or_else(|| vec![after], |list| list.split(',').collect());
            for name in names {
                let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                rooms.insert(name);
            }
        }
    }
    rooms
}

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else { continue };
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        for import in imported(&text) {
            let known = MAY_IMPORT.iter().any(|(name, _)| *name == import)
                || ["cli", "server", "config", "shutdown", "metrics"].contains(&import.as_str());
            let fine = import == room || import == "error" || import == "clock" || allowed.contains(&import.as_str());
            if known && !fine {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the direction of the rooms:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_is() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(_, _, text)| !text.starts_with("//!") || text.starts_with("//! (being written)"))
        .map(|(_, path, _)| path)
        .collect();
    assert!(silent.is_empty(), "files without a header: {silent:?}");
}

#[test]
fn only_the_store_knows_the_engine() {
    let engines = ["rocksdb::", "slatedb::", "object_store::"];
    let strangers: Vec<_> = sources()
        .into_iter()
        .filter(|(room, _, text)| room != "store" && engines.iter().any(|engine| text.contains(engine)))
        .map(|(_, path, _)| path)
        .collect();
    assert!(strangers.is_empty(), "files outside store/ that use an engine: {strangers:?}");
}

#[test]
fn payloads_are_read_for_whoever_has_leave_to_watch_alone() {
    let strangers: Vec<_> = sources()
        .into_iter()
        .filter(|(room, path, text)| {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let reads = code.contains("store.body(") || code.contains("store.quarantined_body(");
            room == "lookup" && !path.ends_with("footage.rs") && reads
        })
        .map(|(_, path, _)| path)
        .collect();
    assert!(strangers.is_empty(), "files of lookup/ that read payloads past footage.rs: {strangers:?}");
}
