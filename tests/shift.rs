//! A shift of eight hours in seconds: everything that happens to a recorder in a day happens to this one, and at its end coverage
//! names for every minute what exists or why it does not.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails")]

mod support;

#[path = "network/device.rs"]
mod device;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use aigaq::Clock;
use aigaq::recorder::CLIP;
use aigaq_proto::Micros;
use aigaq_proto::link::StopCause;
use device::{Device, until};
use serde_json::Value;
use support::Identity;
use support::process::{AIGAQ, ServerProcess};
use support::relay::{Relay, Weather};

const MINUTE: Micros = 60_000_000;
const HOUR: Micros = 60 * MINUTE;
/// Segments of each stretch that is filmed: two minutes.
const SEGMENTS: u64 = 60;
const BYTES: usize = 2_000;

struct Shift {
    server: ServerProcess,
    relay: Relay,
    dir: PathBuf,
    begin: Micros,
}

impl Shift {
    /// The recorder is switched on so many hours after the shift began.
    fn on(&self, hour: u64, towards: SocketAddr) -> Device {
        let mut device = Device::start_as(&self.dir, &[towards], |options| options.state = Some(self.dir.clone()));
        device.at(self.begin + hour * HOUR);
        device
    }

    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.dir.join("spool")) else { return Vec::new() };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with('0'));
        files
    }

    /// The program records in a tunnel, and is killed in the middle of it.
    async fn is_killed(&self, hour: u64, film: &Path) {
        let start = aigaq::lookup::time::format(self.begin + hour * HOUR);
        let mut command = Command::new(AIGAQ);
        command.args(["record", "--server", &self.relay.address.to_string(), "--identity"]).arg(&self.dir);
        command.args(["--fast", "--start", &start]).arg(film).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        until("links in the spool", || (self.files().len() > 40).then_some(())).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    async fn coverage(&self, id: aigaq_proto::RecorderId, to: Micros) -> Value {
        let time = aigaq::lookup::time::format;
        let url =
            format!("http://{}/v1/recorders/{id}/coverage?from={}&to={}", self.server.api, time(self.begin), time(to));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let asked = client.get(url).bearer_auth(self.server.token()).send().await.unwrap();
        asked.error_for_status().unwrap().json().await.unwrap()
    }
}

fn micros(text: &Value) -> Micros {
    let at: jiff::Timestamp = text.as_str().unwrap().parse().unwrap();
    u64::try_from(at.as_microsecond()).unwrap()
}

/// Stretches of a coverage with what each is called.
fn stretches(coverage: &Value) -> Vec<(Micros, Micros, String)> {
    let of = |name: &str, called: &dyn Fn(&Value) -> String| -> Vec<_> {
        let all = coverage[name].as_array().unwrap();
        all.iter().map(|one| (micros(&one["from"]), micros(&one["to"]), called(one))).collect()
    };
    let cause = |hole: &Value| {
        let cause = hole["cause"].as_str().unwrap();
        hole["stop"].as_str().filter(|_| cause == "off").map_or(cause.to_owned(), |stop| format!("{cause}-{stop}"))
    };
    [of("spans", &|_| "recorded".to_owned()), of("holes", &cause)].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_shift_there_is_a_cause_for_every_minute() {
    let home = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(&home.path().join("data")).unwrap();
    let dir = home.path().join("device");
    let id = Identity::enrol(&server.data, &dir).id;
    let relay = Relay::start(server.quic, 3).await;
    let begin = Clock::system().now() - 9 * HOUR;
    let shift = Shift { server, relay, dir, begin };

    // Live, with a mark; then a break.
    let mut device = shift.on(0, shift.relay.address);
    device.film(SEGMENTS, BYTES).await;
    device.mark().await;
    device.has_receipts().await;
    device.stop(StopCause::Wearer).await;
    device.end().await.unwrap();

    // A tunnel: nothing gets through, and is sent when there is light.
    let mut device = shift.on(1, shift.relay.address);
    device.film(1, BYTES).await;
    device.has_receipts().await;
    shift.relay.set(Weather::BLACKOUT);
    let before = device.order().len();
    device.film(SEGMENTS, BYTES).await;
    device.has_links().await;
    assert_eq!(device.order().len(), before, "nothing gets through");
    shift.relay.set(Weather { loss: 0.05, delay: Duration::from_millis(20), ..Weather::FAIR });
    device.has_receipts().await;
    // Back at the station: another network, in the middle of it.
    device.film(SEGMENTS / 2, BYTES).await;
    shift.relay.rebind();
    device.film(SEGMENTS / 2, BYTES).await;
    device.has_receipts().await;
    device.stop(StopCause::Schedule).await;
    device.end().await.unwrap();

    // Knocked off its battery without a network.
    shift.relay.set(Weather::BLACKOUT);
    let film = home.path().join("film.mp4");
    std::fs::write(&film, CLIP.repeat(60)).unwrap();
    shift.is_killed(3, &film).await;
    // It goes on, still without one; a file of its card is lost.
    let mut device = shift.on(4, shift.relay.address);
    device.film(SEGMENTS, BYTES).await;
    device.has_links().await;
    device.dies().await;
    let files = shift.files();
    let lost = files[files.len() - 20].clone();
    assert!(lost.to_str().unwrap().ends_with("-m"));
    std::fs::remove_file(lost).unwrap();
    let waiting = files.len() - 1;

    // Docked: the backlog comes in while it records, until its battery is empty.
    shift.relay.set(Weather::FAIR);
    let mut device = shift.on(6, shift.relay.address);
    device.film(SEGMENTS, BYTES).await;
    until("the backlog", || (device.order().len() > waiting).then_some(())).await;
    device.stop(StopCause::Battery).await;
    let report = device.end().await.unwrap();
    assert_eq!((report.left, report.lost.len(), report.given_up), (0, 0, 1));

    let end = begin + 8 * HOUR;
    let coverage = shift.coverage(id, end).await;
    let stretches = stretches(&coverage);
    for minute in (begin..end).step_by(MINUTE as usize) {
        let of: Vec<_> = stretches.iter().filter(|(from, to, _)| *from < minute + MINUTE && *to > minute).collect();
        let named = of.iter().map(|(from, to, _)| to.min(&(minute + MINUTE)) - from.max(&minute)).sum::<u64>();
        assert!(named + 100_000 >= MINUTE, "nothing is said of {} µs: {of:?}", MINUTE - named);
        let bad = of.iter().find(|(_, _, called)| called == "unknown" || called == "pending");
        assert!(bad.is_none(), "minute {}: {bad:?}", (minute - begin) / MINUTE);
    }
    let called: BTreeSet<&str> = stretches.iter().map(|(_, _, called)| called.as_str()).collect();
    let expected = ["lost-on-device", "off-battery", "off-fault", "off-schedule", "off-wearer", "recorded"];
    assert_eq!(called, BTreeSet::from(expected), "{coverage}");
    assert!(shift.server.terminate().success());
    assert!(support::process::aigaq(&["check", "--data", home.path().join("data").to_str().unwrap()]).0.success());
}
