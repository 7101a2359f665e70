//! The configuration: `deploy/server.toml` is its manual, and a bad one is told about all at once.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use aigaq::Kind;
use aigaq::config::{Config, LogFormat};

const MANUAL: &str = include_str!("../deploy/server.toml");

/// The one line that a bad configuration gets.
fn refusal(text: &str) -> String {
    let error = Config::parse(text).expect_err("should have been refused");
    assert_eq!(error.kind(), Kind::Invalid);
    let line = error.to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

#[test]
fn the_manual_equals_the_defaults() {
    assert_eq!(Config::parse(MANUAL).unwrap(), Config::default());
}

#[test]
fn the_manual_mentions_every_key_and_no_other() {
    let manual: toml::Table = MANUAL.parse().unwrap();
    let sections = manual.iter().map(|(name, section)| (name, section.as_table().unwrap()));
    let mut mentioned: Vec<_> =
        sections.flat_map(|(name, section)| section.keys().map(move |key| format!("{name}.{key}"))).collect();
    let mut keys = Config::keys();
    mentioned.sort();
    keys.sort();
    assert_eq!(mentioned, keys);
}

#[test]
fn the_manual_explains_every_key_before_it_names_it() {
    let lines: Vec<_> = MANUAL.lines().collect();
    for (line, next) in lines.iter().zip(&lines[1..]) {
        let continues_a_pair = ["certificate =", "issuer_certificate =", "forks_max =", "wrap_command ="]
            .iter()
            .any(|first| line.starts_with(first));
        if next.contains(" = ") && !next.starts_with(['#', ' ']) && !continues_a_pair {
            assert!(line.starts_with('#'), "no comment above: {next}");
        }
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(Config::parse("").unwrap(), Config::default());
}

#[test]
fn a_value_that_is_set_is_taken() {
    let config = Config::parse("[commit]\nbatch_age_max_ms = 20\n[logging]\nformat = \"json\"\n").unwrap();
    assert_eq!(config.commit.batch_age_max, Duration::from_millis(20));
    assert_eq!(config.logging.format, LogFormat::Json);
    assert_eq!(config.commit.batch_bytes_max, Config::default().commit.batch_bytes_max);
}

#[test]
fn all_problems_are_reported_at_once() {
    let line = refusal(
        "[quic]\nlisten = \"nowhere\"\nidle_timeout_s = 1\n[retention]\ndefault_days = \"long\"\nretension_days = 3\n[nonsense]\n",
    );
    for part in [
        "quic.listen = \"nowhere\": must be an IP address and a port",
        "quic.idle_timeout_s = 1: must be a whole number from 5 to 300",
        "retention.default_days = \"long\": must be a whole number from 1 to 36500",
        "retention.retension_days = 3: unknown key",
        "[nonsense]: unknown section",
    ] {
        assert!(line.contains(part), "{part} is missing in: {line}");
    }
}

#[test]
fn a_negative_or_huge_number_is_out_of_range_and_not_wrapped() {
    for number in ["-1", "9223372036854775807"] {
        assert!(refusal(&format!("[commit]\nbatch_bytes_max = {number}")).contains("commit.batch_bytes_max"));
    }
}

#[test]
fn a_public_api_without_a_certificate_is_refused() {
    for listen in ["0.0.0.0:8080", "192.0.2.1:443", "[::]:8080"] {
        let line = refusal(&format!("[api]\nlisten = \"{listen}\""));
        assert!(line.contains("without api.certificate and api.key only a loopback address"), "{line}");
    }
    for listen in ["127.0.0.2:80", "[::1]:8080"] {
        Config::parse(&format!("[api]\nlisten = \"{listen}\"")).unwrap();
    }
    let public = "[api]\nlisten = \"0.0.0.0:443\"\ncertificate = \"/c.pem\"\nkey = \"/k.pem\"";
    assert!(Config::parse(public).unwrap().api.tls.is_some());
}

#[test]
fn half_a_certificate_is_refused() {
    assert!(refusal("[api]\ncertificate = \"/c.pem\"").contains("set both or neither"));
}

#[test]
fn less_memory_than_one_payload_is_refused() {
    let line = refusal("[ingest]\nmemory_bytes_max = 8388608\npayload_bytes_max = 33554432");
    assert!(line.contains("ingest.memory_bytes_max"), "{line}");
}

#[test]
fn broken_syntax_names_its_line() {
    assert!(refusal("[quic]\nlisten = \n").starts_with("line 2: "));
    assert!(refusal("quic = 3\n").contains("must be a section"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load("no/such/file.toml".as_ref()).unwrap_err();
    assert!(error.to_string().starts_with("cannot read the configuration no/such/file.toml"), "{error}");
}
