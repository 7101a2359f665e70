//! The command line as a script or a newcomer meets it: help, wrong use, enrolling, serving, ending.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use support::process::{AIGAQ, ServerProcess, aigaq};

const COMMANDS: [&str; 11] =
    ["account", "client", "serve", "enrol", "revoke", "record", "demo", "check", "load", "backup", "restore"];

/// Asserts that these arguments fail with `code` and one line that contains `part`, and say nothing on standard output.
fn refused(arguments: &[&str], code: i32, part: &str) {
    let (status, out, err) = aigaq(arguments);
    assert_eq!(status.code(), Some(code), "{arguments:?}: {err}");
    assert_eq!(out, "", "{arguments:?}");
    assert_eq!(err.lines().count(), 1, "{arguments:?}: {err}");
    assert!(err.starts_with("aigaq: ") && err.contains(part), "{arguments:?}: {err}");
    assert!(!err.contains("panicked"), "{err}");
}

fn enrol(data: &Path, out: &Path) -> (bool, String, String) {
    let arguments = ["enrol", "--kind", "vehicle", "--department", "Astana", "--label", "Car 7", "--data"];
    let paths = [data.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let (status, stdout, stderr) = aigaq(&[&arguments[..], &paths[..]].concat());
    (status.success(), stdout, stderr)
}

/// The body that a plain HTTP GET gets, and its status.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split_whitespace().nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let (status, out, _) = aigaq(&["--help"]);
    assert!(status.success());
    for command in COMMANDS {
        assert!(out.contains(&format!("  {command} ")), "{command} is missing in: {out}");
        let (status, help, err) = aigaq(&[command, "--help"]);
        assert!(status.success(), "{err}");
        assert!(help.contains(&format!("aigaq {command}")), "{help}");
        assert!(help.contains("Example"), "{command} has no example: {help}");
        assert!(help.lines().count() > 10, "{help}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let (status, out, _) = aigaq(&["--version"]);
    assert!(status.success());
    assert_eq!(out.trim(), concat!("aigaq ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_use_ends_in_one_line_and_exit_code_2() {
    refused(&[], 2, "a command is missing; see aigaq --help");
    refused(&["sevre"], 2, "sevre");
    refused(&["serve", "--port", "1"], 2, "--port");
    refused(&["serve", "--config"], 2, "--config");
    refused(&["enrol"], 2, "--data");
    refused(&["enrol", "--data", "d", "--out", "o", "--department", "A", "--kind", "dog"], 2, "officer");
    refused(&["serve", "--port"], 2, "see aigaq serve --help");
    refused(&["record", "film.mp4"], 2, "--identity");
    refused(&["record", "--identity", "d", "--mark", "", "film.mp4"], 2, "--mark");
    refused(&["record", "--identity", "d", "--spool-bytes", "9", "film.mp4"], 2, "--spool-bytes");
    refused(&["demo", "--recorders", "0"], 2, "1..=200");
    refused(&["demo", "--recorders", "many"], 2, "many");
    refused(&["check"], 2, "--data");
    refused(&["load"], 2, "--recorders");
    refused(&["load", "--recorders", "0"], 2, "0");
    refused(&["load", "--recorders", "1", "--segment", "0"], 2, "0");
    refused(&["load", "--recorders", "1", "--loss", "100"], 2, "percentage");
    refused(&["load", "--recorders", "1", "--ramp", "0"], 2, "seconds");
    refused(&["load", "--recorders", "1", "--server", "127.0.0.1:1"], 2, "--data");
}

#[test]
fn bad_input_ends_in_one_line_and_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("file"), "x").unwrap();
    std::fs::write(path("bad.toml"), "[quic]\nlisten = 3\nspeed = 4\n").unwrap();
    std::fs::write(path("open.toml"), "[api]\nlisten = \"0.0.0.0:0\"\n").unwrap();
    std::fs::create_dir(path("empty")).unwrap();

    refused(&["serve", "--config", &path("none.toml")], 1, "none.toml");
    refused(&["serve", "--config", &path("bad.toml")], 1, "quic.speed = 4: unknown key");
    refused(&["serve", "--config", &path("open.toml")], 1, "only a loopback address is allowed");
    std::fs::write(path("ops.toml"), "[ops]\nlisten = \"0.0.0.0:0\"\n").unwrap();
    refused(&["serve", "--config", &path("ops.toml")], 1, "scrape through an agent or a TLS proxy on this machine");
    refused(&["serve", "--data", &path("file")], 1, "data directory");
    refused(&["check", "--data", &path("none")], 1, "no data directory");
    refused(&["check", "--data", &path("empty")], 1, "no data directory");
    refused(&["record", "--identity", &path("empty"), &path("file")], 1, "empty");
    refused(
        &["enrol", "--data", &path("d"), "--kind", "officer", "--department", " ", "--out", &path("o")],
        1,
        "department",
    );
    refused(&["load", "--recorders", "1", "--server", "127.0.0.1:1", "--data", &path("empty")], 1, "no data directory");
}

#[test]
fn a_bad_log_filter_is_named() {
    let output = Command::new(AIGAQ).args(["check", "--data", "x"]).env("AIGAQ_LOG", "=").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("AIGAQ_LOG"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(AIGAQ).arg("--help").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

#[test]
fn enrolling_prints_the_id_alone_and_works_before_the_first_start() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("car"));
    let (enrolled, id, err) = enrol(&data, &out);
    assert!(enrolled, "{err}");
    assert_eq!(err, "");
    id.trim_end().parse::<aigaq_proto::RecorderId>().unwrap();
    for name in ["cert.pem", "key.pem", "ca.pem", "recorder.toml"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    let mode = std::fs::metadata(out.join("key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let server = ServerProcess::start(&data).unwrap();
    assert_eq!(get(server.ops, "/readyz").0, 200);
    assert!(server.terminate().success());
}

#[test]
fn enrolling_can_name_the_server_and_else_names_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = |out: &str| {
        let about: toml::Table =
            std::fs::read_to_string(dir.path().join(out).join("recorder.toml")).unwrap().parse().unwrap();
        about["server"].as_str().unwrap().to_owned()
    };
    enrol(&data, &dir.path().join("near"));
    assert_eq!(server("near"), "127.0.0.1:4433");
    let (data, far) = (data.to_str().unwrap(), dir.path().join("far"));
    let far = far.to_str().unwrap();
    let arguments = ["enrol", "--data", data, "--kind", "officer", "--department", "Astana", "--out"];
    let (status, _, err) = aigaq(&[&arguments[..], &[far, "--server", "gateway.example.org:4433"]].concat());
    assert!(status.success(), "{err}");
    assert_eq!(server("far"), "gateway.example.org:4433");
    let bad = dir.path().join("bad");
    refused(&[&arguments[..], &[bad.to_str().unwrap(), "--server", "gateway"]].concat(), 1, "HOST:PORT");
    assert!(!bad.exists());
}

#[test]
fn enrolling_twice_makes_two_recorders_and_never_overwrites_one() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("car"));
    let (_, first, _) = enrol(&data, &out);
    let key = std::fs::read(out.join("key.pem")).unwrap();
    let (enrolled, _, err) = enrol(&data, &out);
    assert!(!enrolled);
    assert_eq!(err.lines().count(), 1, "{err}");
    assert_eq!(std::fs::read(out.join("key.pem")).unwrap(), key);
    let (enrolled, second, err) = enrol(&data, &dir.path().join("other"));
    assert!(enrolled, "{err}");
    assert_ne!(first, second);
}

/// Runs the binary with this on its standard input.
fn aigaq_told(arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut child = Command::new(AIGAQ)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn nobody_can_sign_in_until_the_operator_says_who_and_no_secret_is_on_disk_or_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    // Whatever is logged, it is no secret.
    let any = "127.0.0.1:0".parse().unwrap();
    let server = ServerProcess::start_with(dir.path(), any, "[logging]\nlevel = \"trace\"\n").unwrap();
    let log = || std::fs::read_to_string(dir.path().join("test.log")).unwrap();
    assert!(log().contains("aigaq account add NAME --role administrator"), "{}", log());
    assert_eq!(get(server.api, "/v1/recorders").0, 401);
    let add = ["account", "add", "anna", "--role", "administrator", "--data", data];
    assert_eq!(aigaq_told(&add, "correct horse battery\n"), (Some(0), "anna\n".to_owned()));
    assert_eq!(aigaq_told(&add, "short\n").0, Some(1));
    let left = std::fs::read_dir(dir.path().join("accounts")).unwrap().next().unwrap().unwrap();
    assert_eq!(left.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!String::from_utf8_lossy(&std::fs::read(left.path()).unwrap()).contains("correct horse"));
    let body = r#"{"name":"anna","password":"correct horse battery"}"#;
    let sign_in = |port: SocketAddr| {
        let mut stream = std::net::TcpStream::connect(port).unwrap();
        let head = "POST /v1/sign-in HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nconnection: close\r\n";
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = sign_in(server.api);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let token = answer.split("\"token\":\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(token.len(), 64);
    let client = server.token();
    assert!(server.terminate().success());
    let server = ServerProcess::start(dir.path()).unwrap();
    assert!(sign_in(server.api).starts_with("HTTP/1.1 200 OK"), "the account is there after a restart");
    for secret in ["correct horse battery", token, &client] {
        assert!(!log().contains(secret));
    }
    refused(&["account", "add", "anna", "--role", "king", "--data", data], 2, "operator, supervisor");
    refused(&["client", "add", "a b", "--role", "operator", "--data", data], 1, "letters");
}

#[test]
fn a_second_server_on_the_same_data_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(dir.path()).unwrap();
    let config = dir.path().join("test.toml");
    let (config, data) = (config.to_str().unwrap(), dir.path().to_str().unwrap());
    refused(&["serve", "--config", config, "--data", data], 1, "in use by another aigaq process");
    refused(&["check", "--data", data], 1, "in use by another aigaq process");
    assert_eq!(get(server.ops, "/healthz").0, 200);
}

#[test]
fn a_taken_address_is_named_with_its_setting() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = dir.path().join("taken.toml");
    std::fs::write(&config, format!("[quic]\nlisten = \"127.0.0.1:0\"\n[api]\nlisten = \"{address}\"\n")).unwrap();
    let data = dir.path().join("data");
    refused(&["serve", "--config", config.to_str().unwrap(), "--data", data.to_str().unwrap()], 1, "api.listen");
}

#[test]
fn sigterm_drains_and_ends_with_success() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(dir.path()).unwrap();
    let ops = server.ops;
    assert!(server.terminate().success());
    assert!(std::net::TcpStream::connect(ops).is_err());
    let (status, out, err) = aigaq(&["check", "--data", dir.path().to_str().unwrap()]);
    assert!(status.success(), "{out}{err}");
    assert!(out.lines().last().unwrap().starts_with("problems") && out.trim_end().ends_with(" 0"), "{out}");
}

#[test]
fn the_metrics_pass_promtool_and_are_all_in_the_operators_manual() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(dir.path()).unwrap();
    let (status, text) = get(server.ops, "/metrics");
    assert_eq!(status, 200);
    let manual = include_str!("../deploy/README.md");
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_whitespace().next()) {
        assert!(is_listed(manual, name), "{name} is missing in deploy/README.md");
    }
    let Ok(mut promtool) =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()
    else {
        eprintln!("promtool is not installed: the metrics were not checked by it");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn is_listed(manual: &str, name: &str) -> bool {
    let rows = manual.lines().filter(|line| line.starts_with("| `aigaq_"));
    rows.filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split('`').filter(|part| part.starts_with("aigaq_")))
        .any(|listed| listed.split('{').next() == Some(name))
}

#[test]
fn the_operators_manual_lists_no_metric_and_no_alert_that_is_not_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rooms = std::fs::read_dir(root.join("src")).unwrap().map(|room| room.unwrap().path().join("metrics.rs"));
    let files = rooms.chain([root.join("src/metrics.rs")]).filter(|file| file.exists());
    let sources: String = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let manual = include_str!("../deploy/README.md");
    let known: Vec<_> = sources.split('"').filter(|text| text.starts_with("aigaq_")).collect();
    for name in &known {
        assert!(is_listed(manual, name), "{name} is missing in deploy/README.md");
    }
    for row in manual.lines().filter(|line| line.starts_with("| `aigaq_")) {
        for listed in row.split('|').nth(1).unwrap().split('`').filter(|part| part.starts_with("aigaq_")) {
            let name = listed.split('{').next().unwrap();
            assert!(known.contains(&name), "{name} is in deploy/README.md but no metric");
        }
    }
    let rules = include_str!("../deploy/prometheus/alerts.yml");
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let explained: Vec<_> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("| Aigaq"))
        .map(|row| format!("Aigaq{}", row.split(' ').next().unwrap()))
        .collect();
    for alert in &alerts {
        assert!(explained.iter().any(|name| name == alert), "{alert} is not explained in deploy/README.md");
    }
    assert_eq!(alerts.len(), explained.len(), "{explained:?}");
}

#[test]
fn the_demo_says_how_to_watch_and_ends_cleanly_with_nothing_left_behind() {
    let mut demo = Command::new(AIGAQ)
        .args(["demo", "--recorders", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    let start: Vec<String> = lines.by_ref().take_while(|line| !line.starts_with("ready")).collect();
    let value = |name: &str| start.iter().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(start.iter().filter(|line| line.starts_with("recorder ")).count(), 2, "{start:?}");
    let paste: Vec<String> = lines.by_ref().take(2).collect();
    let header = format!("'Authorization: Bearer {}'", value("token"));
    assert!(paste[0].contains(&format!("ffplay -headers {header} {}/v1/recorders/", value("api"))), "{paste:?}");
    assert!(paste[1].contains(&format!("curl -H {header} {}/v1/recorders", value("api"))), "{paste:?}");

    let pid = rustix::process::Pid::from_child(&demo);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let last = lines.last().unwrap();
    let output = demo.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(last.starts_with("ended: ") && last.ends_with(" receipts verified"), "{last}");
    assert!(!Path::new(&value("data")).exists());
}

#[test]
fn load_checks_every_receipt_and_writes_its_report() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("load.json");
    let arguments = ["load", "--recorders", "3", "--rate", "0", "--segment", "20000", "--seconds", "1", "--json"];
    let (status, out, err) = aigaq(&[&arguments[..], &[json.to_str().unwrap()]].concat());
    assert!(status.success(), "{out}{err}");
    assert!(out.contains(" verified, 0 missing, 0 refused"), "{out}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert!(report["receipts"].as_u64().unwrap() >= 3, "{report}");
    assert_eq!(report["links"], report["receipts"]);
}

#[test]
fn load_loses_datagrams_cuts_connections_and_still_has_every_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("load.json");
    let plan = "load --recorders 4 --rate 40000 --length 0.5 --seconds 3 --ramp 0.5 --loss 3 --storm 1.2 --marks 0.7";
    let backlog = "--backlog 2 --backlog-seconds 10 --json";
    let arguments: Vec<&str> = plan.split(' ').chain(backlog.split(' ')).collect();
    let (status, out, err) = aigaq(&[&arguments[..], &[json.to_str().unwrap()]].concat());
    assert!(status.success(), "{out}{err}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let count = |times: &str| report[times]["count"].as_u64().unwrap_or(0);
    assert_eq!(report["missing"], 0, "{report}");
    assert!(count("returned") >= 4, "every connection was cut twice: {report}");
    assert!(count("backlog_receipt") >= 40 && count("receipt") > 0, "both kinds are told apart: {report}");
    assert_eq!(count("durable"), count("receipt"), "from the making as well as from the last byte: {report}");
    assert!(report["backlog_seconds"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn load_says_when_a_backlog_is_more_than_it_can_sign_ahead() {
    let plan = "load --recorders 2 --rate 10000 --length 1 --backlog 1 --backlog-seconds";
    let of = |seconds: &str| aigaq(&plan.split(' ').chain([seconds]).collect::<Vec<_>>());
    let (status, _, err) = of("501");
    assert!(!status.success() && err.contains("--backlog-seconds"), "{err}");
}

#[test]
fn load_drives_a_server_that_runs_and_its_data_hold() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(dir.path()).unwrap();
    let (address, data) = (server.quic.to_string(), dir.path().to_str().unwrap().to_owned());
    let plan = ["load", "--recorders", "2", "--rate", "200000", "--segment", "20000", "--seconds", "1"];
    let (status, out, err) = aigaq(&[&plan[..], &["--server", &address, "--data", &data]].concat());
    assert!(status.success(), "{out}{err}");
    assert!(server.terminate().success());
    let (status, out, err) = aigaq(&["check", "--data", &data]);
    assert!(status.success(), "{out}{err}");
    assert!(out.contains("recorders     2"), "{out}");
}
