//! The second verifier, `proto/examples/verify_bundle.py`: what it says of a bundle, and whether that is what the first one says.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "shared by tests that each use a part"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use aigaq::verify::{Trust, verify};
use serde_json::Value;

/// The interpreters that are tried: the system's, for which packages of the system are there, and the first in the path.
const INTERPRETERS: [&str; 2] = ["/usr/bin/python3", "python3"];

/// An interpreter that has what the second verifier needs; says so if there is none.
pub fn interpreter() -> Option<&'static str> {
    let has = |python: &&str| {
        Command::new(python).args(["-c", "import cryptography, tomllib"]).output().is_ok_and(|ran| ran.status.success())
    };
    let found = INTERPRETERS.into_iter().find(has);
    if found.is_none() {
        println!("not run: there is no Python 3.11 with the package cryptography (deploy/setup.sh --ci installs it)");
    }
    found
}

/// Checks that both verifiers say the same of a bundle: verdict, exit code, the verdict on each recorder, and which files are at fault.
/// Returns the exit code.
#[track_caller]
pub fn agree(python: &str, bundle: &Path, trust: Option<&Path>, what: &str) -> i32 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/examples/verify_bundle.py");
    let mut command = Command::new(python);
    command.args(["-W", "ignore", "-B"]).arg(script).arg(bundle).arg("--json");
    if let Some(trust) = trust {
        command.arg("--trust").arg(trust);
    }
    let ran = command.output().unwrap();
    let (code, said) = (ran.status.code().unwrap(), String::from_utf8_lossy(&ran.stdout).into_owned());
    let complaint = String::from_utf8_lossy(&ran.stderr).into_owned();
    let trust = trust.map(|trust| Trust::read(trust).unwrap());
    let Ok(report) = verify(bundle, trust.as_ref()) else {
        assert_eq!(code, 5, "{what}: the first cannot read it; the second: {said} {complaint}");
        return code;
    };
    let text = report.text();
    assert_eq!(code, i32::from(report.exit_code()), "{what}: {text}\nand the second: {said} {complaint}");
    let second: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(second["verdict"], report.verdict.to_string(), "{what}");
    for one in &report.recorders {
        let of = &second["recorders"][one.recorder.to_string()];
        assert_eq!(of["verdict"], one.verdict.to_string(), "{what}: {text}\nand the second: {said}");
        assert_eq!(of["links"], one.links, "{what}");
    }
    let first: BTreeSet<&str> = report.files.iter().map(|file| file.path.as_str()).collect();
    let second: BTreeSet<&str> =
        second["files"].as_array().unwrap().iter().map(|file| file[0].as_str().unwrap()).collect();
    assert_eq!(first, second, "{what}: {text}\nand the second: {said}");
    code
}
