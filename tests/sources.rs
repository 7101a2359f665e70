//! Where footage comes from, as a user meets it: an ordinary film, a folder that is emptied, a camera on the network. Everything
//! through the binary and public interfaces; ffmpeg makes the films and plays them, GStreamer is the camera.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::process::{AIGAQ, ServerProcess, aigaq};

const PATIENCE: Duration = Duration::from_secs(60);

fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-y", "-v", "error"])
        .args(arguments)
        .output()
        .expect("ffmpeg is installed: deploy/setup.sh does it");
    assert!(output.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// One digest for each decoded frame of a stream, in order.
fn frames(input: &[&str], stream: &str) -> Vec<String> {
    let text = ffmpeg(&[input, &["-map", stream, "-vsync", "passthrough", "-f", "framemd5", "-"]].concat());
    let text = String::from_utf8(text).unwrap();
    let frames = text.lines().filter(|line| !line.starts_with('#'));
    frames.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

/// One digest for each piece of sound as it is stored: decoders make noise of their own of it.
fn packets(film: &Path) -> Vec<String> {
    let text = ffmpeg(&[&plays(film)[..], &["-map", "0:a", "-c", "copy", "-f", "framemd5", "-"]].concat());
    let text = String::from_utf8(text).unwrap();
    let packets = text.lines().filter(|line| !line.starts_with('#'));
    packets.map(|line| line.split(',').nth(5).unwrap().trim().to_owned()).collect()
}

/// A film with B-frames and sound, of so many seconds, that says when it was made.
fn film(path: &Path, seconds: u32, tone: u32, created: &str, codec: &[&str]) {
    let picture = format!("testsrc2=size=160x120:rate=25:duration={seconds}");
    let sound = format!("sine=frequency={tone}:duration={seconds}");
    let created = format!("creation_time={created}");
    let inputs = ["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound];
    let rest = ["-pix_fmt", "yuv420p", "-g", "25", "-c:a", "aac", "-metadata", &created, path.to_str().unwrap()];
    ffmpeg(&[&inputs[..], codec, &rest].concat());
}

const H264: [&str; 8] = ["-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0", "-bf", "2"];
const H265: [&str; 6] = ["-c:v", "libx265", "-x265-params", "log-level=none:keyint=25:bframes=0", "-tag:v", "hvc1"];

struct Site {
    dir: tempfile::TempDir,
    server: ServerProcess,
    id: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    /// A server with one recorder.
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = ServerProcess::start(&dir.path().join("data")).unwrap();
        let out = dir.path().join("car-7");
        let of = ["--kind", "vehicle", "--department", "Astana", "--label", "Car 7"];
        let paths = ["--data", server.data.to_str().unwrap(), "--out", out.to_str().unwrap()];
        let (status, id, err) = aigaq(&[&["enrol"][..], &of, &paths].concat());
        assert!(status.success(), "{err}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { dir, server, id: id.trim().to_owned(), client: reqwest::Client::new(), runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn record(&self, arguments: &[&str]) -> Child {
        Command::new(AIGAQ)
            .args(["record", "--identity", self.path("car-7").to_str().unwrap()])
            .args(["--server", &self.server.quic.to_string()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let (status, body) = self.ask(path);
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        body
    }

    fn ask(&self, path: &str) -> (u16, Vec<u8>) {
        let url = format!("http://{}/v1/recorders/{}/{path}", self.server.api, self.id);
        self.runtime.block_on(async {
            let answer = self.client.get(&url).bearer_auth(self.server.token()).send().await.unwrap();
            (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
        })
    }

    /// Spans of footage in a range, each as (from, to), and the causes of the stops before holes; none before the recorder was
    /// ever there.
    fn coverage(&self, from: &str, to: &str) -> (Vec<(String, String)>, Vec<String>) {
        let (status, coverage) = self.ask(&format!("coverage?from={from}&to={to}"));
        if status == 404 {
            return (Vec::new(), Vec::new());
        }
        let coverage: serde_json::Value = serde_json::from_slice(&coverage).unwrap();
        let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let rows = |list: &str| coverage[list].as_array().cloned().unwrap_or_default();
        let spans = rows("spans").iter().map(|row| (text(row, "from"), text(row, "to"))).collect();
        (spans, rows("holes").iter().map(|row| text(row, "stop")).collect())
    }

    /// Saves what was recorded in a span as a file.
    fn clip(&self, name: &str, from: &str, to: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, self.get(&format!("clip.mp4?from={from}&to={to}"))).unwrap();
        path
    }
}

fn plays(file: &Path) -> [&str; 2] {
    ["-i", file.to_str().unwrap()]
}

/// Waits until something is so, and says what was not so if it never is.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn interrupt(child: &Child) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::INT).unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn an_ordinary_film_plays_back_as_it_was() {
    let site = Site::start();
    let source = site.path("drive.mp4");
    film(&source, 5, 440, "2026-01-17T09:14:02Z", &H264);
    let start = ["--fast", "--start", "2026-01-17T09:14:02Z", source.to_str().unwrap()];
    let output = site.record(&start).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let clip = site.clip("clip.mp4", "2026-01-17T09:14:00Z", "2026-01-17T09:15:00Z");
    assert_eq!(frames(&plays(&clip), "0:v"), frames(&plays(&source), "0:v"));
    // The clip shows what an encoder put before the beginning of the sound.
    let (played, sound) = (frames(&plays(&clip), "0:a"), frames(&plays(&source), "0:a"));
    assert!(played.ends_with(&sound) && played.len() <= sound.len() + 1, "{} {}", played.len(), sound.len());
}

/// Puts two films and what is none into a card, the later one under the earlier name.
fn card(site: &Site) -> PathBuf {
    let card = site.path("card");
    std::fs::create_dir_all(card.join("DCIM/100")).unwrap();
    film(&card.join("DCIM/100/B.mp4"), 5, 440, "2026-01-17T09:14:02Z", &H264);
    film(&card.join("A.MOV"), 4, 220, "2026-01-17T09:20:00Z", &H264);
    std::fs::write(card.join("broken.mp4"), b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\0mdat...").unwrap();
    std::fs::write(card.join("readme.txt"), "not a film").unwrap();
    card
}

fn left(card: &Path) -> Vec<String> {
    ["DCIM/100/B.mp4", "A.MOV", "broken.mp4", "readme.txt"]
        .into_iter()
        .filter(|name| card.join(name).exists())
        .map(str::to_owned)
        .collect()
}

/// Checks that both films are there, once, at their own times, in the order of their times.
fn recorded_once(site: &Site, originals: [&Path; 2]) {
    let spans = site.coverage("2026-01-17T09:00:00Z", "2026-01-17T10:00:00Z").0;
    let begins: Vec<&str> = spans.iter().map(|(from, _)| from.as_str()).collect();
    assert_eq!(begins, ["2026-01-17T09:14:02.000000Z", "2026-01-17T09:20:00.000000Z"], "{spans:?}");
    for (original, minute) in originals.into_iter().zip(["14", "20"]) {
        let clip =
            site.clip("clip.mp4", &format!("2026-01-17T09:{minute}:00Z"), &format!("2026-01-17T09:{minute}:59Z"));
        assert!(frames(&plays(&clip), "0:v") == frames(&plays(original), "0:v"), "{}", original.display());
    }
}

#[test]
fn a_folder_is_emptied_of_what_has_receipts_and_of_nothing_else() {
    let site = Site::start();
    let card = card(&site);
    let originals = [site.path("b.mp4"), site.path("a.mov")];
    std::fs::copy(card.join("DCIM/100/B.mp4"), &originals[0]).unwrap();
    std::fs::copy(card.join("A.MOV"), &originals[1]).unwrap();
    let output = site.record(&["--once", card.to_str().unwrap()]).wait_with_output().unwrap();
    assert!(!output.status.success(), "a file that cannot be recorded is an error at the end");
    let text = said(&output);
    assert!(text.contains("broken.mp4") && text.contains("no index (moov)") && !text.contains("panicked"), "{text}");
    assert_eq!(left(&card), ["broken.mp4", "readme.txt"]);
    recorded_once(&site, [&originals[0], &originals[1]]);
    let again = site.record(&["--once", card.to_str().unwrap()]).wait_with_output().unwrap();
    assert!(again.status.success(), "what was told is not told again: {}", said(&again));
}

#[test]
fn a_recorder_that_is_killed_records_no_file_of_a_folder_twice_and_removes_none_early() {
    let site = Site::start();
    let card = card(&site);
    std::fs::remove_file(card.join("broken.mp4")).unwrap();
    let originals = [site.path("b.mp4"), site.path("a.mov")];
    std::fs::copy(card.join("DCIM/100/B.mp4"), &originals[0]).unwrap();
    std::fs::copy(card.join("A.MOV"), &originals[1]).unwrap();
    for round in 0..8 {
        let mut recorder = site.record(&["--once", card.to_str().unwrap()]);
        // Rising by little, so that kills fall before, into and after the files.
        let deadline = Instant::now() + Duration::from_millis(2_000 + round * 60);
        while Instant::now() < deadline && recorder.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let ended = recorder.try_wait().unwrap();
        let _ = recorder.kill();
        recorder.wait().unwrap();
        if ended.is_some() {
            break;
        }
        for (name, original) in ["DCIM/100/B.mp4", "A.MOV"].into_iter().zip(&originals) {
            let path = card.join(name);
            assert!(!path.exists() || std::fs::read(&path).unwrap() == std::fs::read(original).unwrap());
        }
    }
    let output = site.record(&["--once", card.to_str().unwrap()]).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(left(&card), ["readme.txt"]);
    let segments = |from: &str, to: &str| {
        let playlist = String::from_utf8(site.get(&format!("hls/{from}/{to}/index.m3u8"))).unwrap();
        playlist.lines().filter(|line| !line.starts_with('#')).count()
    };
    assert_eq!(segments("2026-01-17T09:14:00Z", "2026-01-17T09:15:00Z"), 3, "five seconds are three links");
    assert_eq!(segments("2026-01-17T09:20:00Z", "2026-01-17T09:21:00Z"), 2, "four seconds are two");
}

/// A camera; it goes when this is dropped. `None` where there is no server for it.
struct Gate {
    process: Child,
    port: u16,
}

impl Gate {
    fn open(film: &Path, codec: &str, port: u16) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/rtsp_server.py");
        let mut process = Command::new("/usr/bin/python3")
            .args([script, film.to_str().unwrap(), codec, &port.to_string(), "guard:se@cret"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        match line.trim().parse() {
            Ok(port) => Some(Self { process, port }),
            Err(_) => {
                let _ = process.wait();
                eprintln!("skipped: GStreamer's RTSP server is not installed; deploy/setup.sh does it");
                None
            }
        }
    }

    fn address(&self) -> String {
        format!("rtsp://guard:se%40cret@127.0.0.1:{}/gate", self.port)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// From an hour ago to in an hour.
fn about_now() -> (String, String) {
    let hours = |hours: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    (hours(-1), hours(1))
}

#[test]
fn a_camera_that_comes_back_is_two_recordings_and_an_explained_hole() {
    let site = Site::start();
    let source = site.path("gate.mp4");
    film(&source, 20, 440, "2026-01-17T09:14:02Z", &H264);
    let Some(gate) = Gate::open(&source, "h264", 0) else { return };
    let recorder = site.record(&[&gate.address()]);
    let (from, to) = about_now();
    let spans = || site.coverage(&from, &to).0;
    let seconds = |span: &(String, String)| {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        (at(&span.1) - at(&span.0)) / 1_000
    };
    until("two seconds of the camera", || spans().first().is_some_and(|span| seconds(span) >= 2));
    let port = gate.port;
    drop(gate);
    // So long that it is a hole, however soon the camera is found again.
    until("the end of the recording, two seconds ago", || {
        let stopped = site.coverage(&from, &to).1.iter().any(|stop| stop == "fault");
        let since = |span: &(String, String)| jiff::Timestamp::now().duration_since(span.1.parse().unwrap());
        stopped && spans().last().is_some_and(|span| since(span).as_secs() >= 2)
    });
    let gate = Gate::open(&source, "h264", port).unwrap();
    until("two seconds of the camera that came back", || spans().get(1).is_some_and(|span| seconds(span) >= 2));
    interrupt(&recorder);
    let output = recorder.wait_with_output().unwrap();
    drop(gate);
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    assert!(!text.contains("cret"), "the password is nobody's: {text}");

    let (spans, stops) = site.coverage(&from, &to);
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert!(stops.iter().any(|stop| stop == "fault"), "the hole is explained: {stops:?}");
    let (pictures, sound) = (frames(&plays(&source), "0:v"), packets(&source));
    for (from, to) in &spans {
        let clip = site.clip("clip.mp4", from, to);
        let recorded = frames(&plays(&clip), "0:v");
        // Of the last pictures, which are decoded in another order, the loss leaves some out.
        let (whole, last) = recorded.split_at(recorded.len().saturating_sub(4));
        assert!(whole.len() >= 25 && pictures.starts_with(whole), "{} pictures are not the camera's", recorded.len());
        assert!(last.iter().all(|picture| pictures.contains(picture)));
        let heard = packets(&clip);
        let known = sound.windows(heard.len()).any(|stretch| stretch == heard);
        assert!(heard.len() > 50 && known, "{} pieces of sound are not the camera's", heard.len());
    }
}

#[test]
fn a_camera_with_h265_is_recorded() {
    let site = Site::start();
    let source = site.path("gate.mp4");
    film(&source, 8, 440, "2026-01-17T09:14:02Z", &H265);
    let Some(gate) = Gate::open(&source, "h265", 0) else { return };
    let recorder = site.record(&[&gate.address()]);
    let (from, to) = about_now();
    until("the camera", || !site.coverage(&from, &to).0.is_empty());
    interrupt(&recorder);
    let output = recorder.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let clip = site.clip("clip.mp4", &from, &to);
    let recorded = frames(&plays(&clip), "0:v");
    assert!(recorded.len() >= 25 && frames(&plays(&source), "0:v").starts_with(&recorded), "{}", recorded.len());
}

#[test]
fn a_camera_that_refuses_is_told_in_one_line_without_the_password() {
    let site = Site::start();
    let source = site.path("gate.mp4");
    film(&source, 2, 440, "2026-01-17T09:14:02Z", &H264);
    let Some(gate) = Gate::open(&source, "h264", 0) else { return };
    for (address, what) in [
        (gate.address().replace("cret", "cret9"), "user or password is wrong"),
        (gate.address().replace("/gate", "/garage"), "there is no such stream"),
    ] {
        let output = site.record(&[&address]).wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        let last = text.lines().last().unwrap_or_default();
        assert!(last.starts_with("aigaq: ") && last.contains(what) && !text.contains("cret"), "{text}");
    }
}

#[test]
fn an_address_that_cannot_be_is_told_in_one_line() {
    let site = Site::start();
    for (source, what) in [
        ("rtsp://guard:secret@", "the address of the camera"),
        ("http://10.0.0.7/stream", "rtsp://"),
        ("no-such-film.mp4", "no-such-film.mp4"),
    ] {
        let output = site.record(&[source]).wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
        assert!(text.contains(what) && !text.contains("secret"), "{text}");
    }
}
