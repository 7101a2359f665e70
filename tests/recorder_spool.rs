//! What the recorder's spool promises to its owner: it records without the server, brings in later what is left, goes on
//! safely after a restore, takes marks while it runs, and costs little memory and few extra bytes.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails")]

mod support;

#[path = "network/device.rs"]
mod device;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aigaq::ingest::Settings;
use aigaq::recorder::{CLIP, Identity, Item, Options, Pace, Report, Source, record};
use aigaq_proto::frame::Control;
use aigaq_proto::link::{LossCause, StopCause};
use aigaq_proto::message::{Hello, SpoolSummary};
use aigaq_proto::{Content, LinkHeader};
use bytes::Bytes;
use support::gateway::Gateway;
use support::process::{AIGAQ, ServerProcess};
use tokio::sync::mpsc;

/// Where nobody listens: the discard port.
const NOWHERE: &str = "127.0.0.1:9";

/// A short film: a start and so many segments.
fn film(dir: &Path, server: &str, segments: u64) -> Options {
    let (feed, items) = mpsc::channel(64);
    feed.try_send(Ok(Item::Init { bytes: Bytes::from_static(b"initialisation"), codecs: String::new() })).unwrap();
    for number in 0..segments {
        let bytes = Bytes::from(vec![u8::try_from(number % 251).unwrap(); 20_000]);
        let decode_time_us = number * device::SEGMENT_US;
        let segment =
            aigaq::media::Segment { bytes, decode_time_us, duration_us: device::SEGMENT_US, independent: true };
        feed.try_send(Ok(Item::Segment(segment))).unwrap();
    }
    let mut options = options(dir, server);
    options.source = Some(Source::Feed(items));
    options
}

/// A recorder without a source.
fn options(dir: &Path, server: &str) -> Options {
    let mut options = Options::new(Identity::load(dir).unwrap(), None);
    options.state = Some(dir.to_owned());
    options.server = Some(server.to_owned());
    options.pace = Pace::Fast;
    options
}

/// Records towards nobody until everything is in the spool, and then dies.
async fn record_offline(dir: &Path, segments: u64) {
    let spool = dir.join("spool");
    let before = newest(&spool);
    let recording = tokio::spawn(record(film(dir, NOWHERE, segments)));
    let stopped = || newest(&spool).filter(|name| name.ends_with("-p") && Some(name) != before.as_ref());
    device::until("the stop link in the spool", stopped).await;
    recording.abort();
    let _ = recording.await;
}

/// Name of the newest link's file.
fn newest(spool: &Path) -> Option<String> {
    let names = std::fs::read_dir(spool).ok()?;
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(|first: char| first.is_ascii_digit())).max()
}

async fn ends(options: Options) -> Report {
    tokio::time::timeout(Duration::from_secs(60), record(options)).await.expect("it ends").unwrap()
}

/// What the server has of a recorder: every link, by rising sequence, and where it lies.
fn headers(gateway: &Gateway, dir: &Path) -> Vec<LinkHeader> {
    let id = support::Identity::load(dir).id;
    let newest = gateway.store.head(id).unwrap().unwrap().chain.newest().unwrap().sequence;
    let link = |sequence| gateway.store.link(id, sequence).unwrap();
    let headers = (0..=newest).filter_map(link).map(|link| LinkHeader::decode(&link.header).unwrap());
    assert_eq!(gateway.store.forks(id).count(), 0, "no sequence was used twice");
    headers.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_records_without_the_server_and_brings_it_in_later() {
    let gateway = Gateway::start(Settings::default()).await;
    let dir = gateway.enrol("device").dir;
    let server = gateway.address.to_string();
    assert_eq!(ends(film(&dir, &server, 2)).await.receipts, 4);
    record_offline(&dir, 5).await;
    record_offline(&dir, 3).await;
    assert_eq!(headers(&gateway, &dir).len(), 4);
    let report = ends(options(&dir, &server)).await;
    assert_eq!((report.links, report.receipts, report.left), (0, 12, 0));
    let headers = headers(&gateway, &dir);
    assert_eq!(headers.len(), 16);
    let ordinals = headers.iter().filter_map(|header| match header.content {
        Content::Media { ordinal, .. } => Some(ordinal),
        _ => None,
    });
    assert_eq!(ordinals.collect::<Vec<_>>(), (0..10).collect::<Vec<_>>(), "players count on");
    let files = std::fs::read_dir(dir.join("spool")).unwrap().count();
    assert_eq!(files, 1, "only the newest head is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_a_recorder_leaves_the_rest_in_the_spool_and_says_so() {
    let gateway = Gateway::start(Settings::default()).await;
    let dir = gateway.enrol("device").dir;
    let server = gateway.address.to_string();
    ends(film(&dir, &server, 1)).await;
    let options = film(&dir, NOWHERE, 3);
    options.stop.cancel();
    let report = ends(options).await;
    assert_eq!((report.left, report.receipts), (report.links, 0));
    assert!(report.outcome().is_ok(), "what waits is not lost");
    ends(self::options(&dir, &server)).await;
    headers(&gateway, &dir);
}

/// Gives a recorder the log key of another server, so that no receipt of its own verifies.
fn with_the_log_key_of(other: &Path, dir: &Path) {
    let read = |dir: &Path| std::fs::read_to_string(dir.join("recorder.toml")).unwrap();
    let key = |text: &str| text.lines().find(|line| line.starts_with("log_key")).unwrap().to_owned();
    let (own, other) = (read(dir), key(&read(other)));
    assert_ne!(key(&own), other);
    std::fs::write(dir.join("recorder.toml"), own.replace(&key(&own), &other)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_not_deleted_for_a_receipt_that_does_not_verify() {
    let gateway = Gateway::start(Settings::default()).await;
    let elsewhere = Gateway::start(Settings::default()).await;
    let other = elsewhere.enrol("other").dir;
    let dir = gateway.enrol("device").dir;
    let server = gateway.address.to_string();
    ends(film(&dir, &server, 1)).await;
    record_offline(&dir, 3).await;
    let sequences = 3..8;
    let right = std::fs::read(dir.join("recorder.toml")).unwrap();
    with_the_log_key_of(&other, &dir);
    let refused = tokio::time::timeout(Duration::from_secs(60), record(options(&dir, &server))).await.expect("it ends");
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("does not verify"), "{refused}");
    sequences.clone().for_each(|sequence| assert!(file(&dir, sequence).exists()));
    std::fs::write(dir.join("recorder.toml"), right).unwrap();
    assert_eq!(ends(options(&dir, &server)).await.receipts, 5);
}

/// The file of a link that waits.
fn file(dir: &Path, sequence: u64) -> PathBuf {
    let begins =
        |name: &std::fs::DirEntry| name.file_name().to_string_lossy().starts_with(&format!("{sequence:016x}-"));
    std::fs::read_dir(dir.join("spool")).unwrap().map(|entry| entry.unwrap()).find(begins).unwrap().path()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_vanished_from_the_device_and_one_with_a_flipped_byte_are_named() {
    let gateway = Gateway::start(Settings::default()).await;
    let dir = gateway.enrol("device").dir;
    let server = gateway.address.to_string();
    assert_eq!(ends(film(&dir, &server, 2)).await.receipts, 4);
    record_offline(&dir, 6).await;
    std::fs::remove_file(file(&dir, 6)).unwrap();
    let damaged = file(&dir, 8);
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[10_000] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let report = ends(options(&dir, &server)).await;
    assert_eq!((report.given_up, report.left), (2, 0));
    let headers = headers(&gateway, &dir);
    let lost = |sequence: u64| {
        let names = |header: &&LinkHeader| {
            matches!(header.content, Content::Lost { first, last, cause: LossCause::StorageFault, .. }
                if first == sequence && last == sequence)
        };
        headers.iter().filter(names).count()
    };
    assert_eq!((lost(6), lost(8)), (1, 1), "{headers:?}");
    let gaps = gateway.store.head(support::Identity::load(&dir).id).unwrap().unwrap().chain.gaps();
    assert_eq!(gaps.iter().map(|gap| (gap.first, gap.last)).collect::<Vec<_>>(), [(6, 6), (8, 8)]);
    assert_eq!(ends(film(&dir, &server, 1)).await.given_up, 0, "it is said once");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &to),
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), to).unwrap()),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_was_put_back_never_uses_a_sequence_again_and_says_what_is_gone() {
    let gateway = Gateway::start(Settings::default()).await;
    let dir = gateway.enrol("device").dir;
    let server = gateway.address.to_string();
    ends(film(&dir, &server, 2)).await;
    let backup = dir.with_extension("backup");
    copy(&dir, &backup);
    // Since the backup: four links that the server has, and three that it has only heard of.
    ends(film(&dir, &server, 2)).await;
    record_offline(&dir, 1).await;
    let id = support::Identity::load(&dir).id;
    announce(&gateway, &dir).await;
    std::fs::remove_dir_all(&dir).unwrap();
    copy(&backup, &dir);
    let report = ends(film(&dir, &server, 2)).await;
    assert_eq!(report.sequences, Some((11, 15)));
    let headers = headers(&gateway, &dir);
    let lost: Vec<_> = headers.iter().filter(|header| matches!(header.content, Content::Lost { .. })).collect();
    let [lost] = lost[..] else { panic!("{lost:?}") };
    assert!(matches!(lost.content, Content::Lost { first: 8, last: 10, cause: LossCause::Restored, .. }), "{lost:?}");
    let gaps = gateway.store.head(id).unwrap().unwrap().chain.gaps();
    assert_eq!(gaps.iter().map(|gap| (gap.first, gap.last)).collect::<Vec<_>>(), [(8, 10)]);
    // The state is its own again: no server is needed to go on.
    record_offline(&dir, 1).await;
    assert_eq!(ends(options(&dir, &server)).await.receipts, 3);
}

/// Says hello with what the spool holds, and sends nothing.
async fn announce(gateway: &Gateway, dir: &Path) {
    let identity = support::Identity::load(dir);
    let names = std::fs::read_dir(dir.join("spool")).unwrap().map(|entry| entry.unwrap().file_name());
    let sequences = names.filter_map(|name| u64::from_str_radix(name.to_str()?.get(..16)?, 16).ok());
    let waiting = sequences.map(|sequence| aigaq_proto::SequenceRange { first: sequence, last: sequence });
    let mut waiting: Vec<_> = waiting.collect();
    waiting.sort_by_key(|range| range.first);
    assert_eq!(waiting.len(), 3);
    let hello = Control::Hello(Hello {
        software: "test".to_owned(),
        clock: 0,
        spool: SpoolSummary { waiting, ..SpoolSummary::default() },
        last_receipt: None,
    });
    let endpoint = support::session::endpoint();
    let config = support::session::client_config(&identity);
    let connection = endpoint.connect_with(config, gateway.address, aigaq::enrol::SERVER_NAME).unwrap().await.unwrap();
    let (mut control, mut answers) = connection.open_bi().await.unwrap();
    control.write_all(&hello.encode().unwrap()).await.unwrap();
    assert!(answers.read(&mut [0; 64]).await.unwrap().is_some(), "welcome");
    connection.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
}

/// `aigaq record` as a process.
struct Process {
    child: Child,
    dir: PathBuf,
}

impl Process {
    fn start(dir: &Path, server: &str, more: &[&str]) -> Self {
        let mut command = Command::new(AIGAQ);
        command.args(["record", "--server", server, "--identity"]).arg(dir).args(more);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, dir: dir.to_owned() }
    }

    /// Says one line to its socket, once that is there; its answer.
    fn say(&self, line: &str) -> String {
        let mut stream = self.socket();
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    fn socket(&self) -> UnixStream {
        let begun = Instant::now();
        loop {
            match UnixStream::connect(self.dir.join("control.sock")) {
                Ok(stream) => return stream,
                Err(_) => assert!(begun.elapsed() < Duration::from_secs(30), "the socket does not come"),
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// A line of a file of the kernel about it.
    fn proc(&self, file: &str, key: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A site with one recorder and the bundled clip, over and over, as a file.
fn site(laps: usize) -> (tempfile::TempDir, ServerProcess, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(&dir.path().join("data")).unwrap();
    let recorder = support::Identity::enrol(&dir.path().join("data"), &dir.path().join("recorder")).dir;
    let clip = dir.path().join("clip.mp4");
    std::fs::write(&clip, CLIP.repeat(laps)).unwrap();
    (dir, server, recorder, clip)
}

#[test]
fn marks_are_raised_by_option_by_socket_and_by_signal_and_a_stop_has_its_cause() {
    let (dir, server, recorder, clip) = site(1);
    let mut process =
        Process::start(&recorder, &server.quic.to_string(), &["--mark", "traffic-stop", clip.to_str().unwrap()]);
    let begun = Instant::now();
    while !process.say("status").starts_with("ok recording=true") {
        assert!(begun.elapsed() < Duration::from_secs(30), "recording begins");
    }
    assert!(process.say("mark bribe-attempt at the car").starts_with("ok "));
    let pid = rustix::process::Pid::from_child(&process.child);
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    let third = |answer: String| answer.split("next=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    let next = third(process.say("status")).unwrap();
    let begun = Instant::now();
    while third(process.say("status")).unwrap() == next && begun.elapsed() < Duration::from_secs(30) {}
    assert_eq!(process.say("stop wearer"), "ok");
    assert!(process.child.wait().unwrap().success());
    assert!(!recorder.join("control.sock").exists());
    assert!(server.terminate().success());
    let store = dir.path().join("data").join("store");
    let store = aigaq::store::Store::open(&store, &aigaq::store::Settings::default()).unwrap();
    let id = support::Identity::load(&recorder).id;
    let links = (0..).map_while(|sequence| store.link(id, sequence).unwrap());
    let contents: Vec<_> = links.map(|link| LinkHeader::decode(&link.header).unwrap().content).collect();
    let marks: Vec<_> = contents
        .iter()
        .filter_map(|content| match content {
            Content::Mark { category, .. } => Some(category.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(marks, ["traffic-stop", "bribe-attempt", "traffic-stop"]);
    assert_eq!(contents.last(), Some(&Content::Stop { recording: 0, cause: StopCause::Wearer }));
}

#[test]
fn the_spool_writes_little_more_than_the_footage() {
    let (_dir, server, recorder, clip) = site(20);
    let mut process = Process::start(&recorder, &server.quic.to_string(), &["--fast", clip.to_str().unwrap()]);
    // The process stays to be asked until it is waited for.
    let id = rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&process.child));
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(id, options).unwrap();
    let written = process.proc("io", "write_bytes:");
    assert!(process.child.wait().unwrap().success());
    let ratio = written as f64 / (CLIP.len() * 20) as f64;
    println!("{written} bytes written, {ratio:.3} per byte of footage in segments of some 73 kB");
    assert!(ratio <= 1.1, "{ratio}");
}

#[test]
fn ten_gigabytes_in_the_spool_cost_little_memory() {
    let (_dir, _server, recorder, _clip) = site(1);
    let spool = recorder.join("spool");
    std::fs::create_dir(&spool).unwrap();
    let (files, payload) = (20_000, 512 * 1024);
    for sequence in 0..files {
        // The names of segments of two seconds with 250 bytes before the payload; the files are sparse.
        let begin = 1_768_641_242_000_000_u64 + sequence * 2_000_000;
        let name = format!("{sequence:016x}-{begin:016x}-{:08x}-{payload:08x}-{:04x}-m", 2_000_000, 250);
        std::fs::File::create(spool.join(name)).unwrap().set_len(56 + 250 + payload).unwrap();
    }
    let process = Process::start(&recorder, NOWHERE, &["--spool-bytes", "20000000000"]);
    drop(process.socket());
    let kib = process.proc("status", "VmHWM:");
    println!("{kib} KiB resident at most with {files} links of {payload} bytes");
    assert!(kib <= 32 * 1024, "{kib} KiB");
}
