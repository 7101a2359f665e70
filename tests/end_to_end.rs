//! The main job as a user sees it: enrol, serve, record real video, play it back, and it is the same, frame by frame and
//! byte by byte. Everything through the binary and public interfaces; ffmpeg is the camera and the player.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails")]

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::process::{AIGAQ, ServerProcess, aigaq};

const START: &str = "2026-01-17T09:14:02Z";
const FROM_TO: &str = "2026-01-17T09:14:00Z/2026-01-17T09:20:00Z";

fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error"])
        .args(arguments)
        .output()
        .expect("ffmpeg is installed: deploy/setup.sh does it");
    assert!(output.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The stream that a recorder would make of a video file.
fn fragmented(source: &Path) -> Vec<u8> {
    let flags = "+frag_keyframe+empty_moov+default_base_moof";
    ffmpeg(&["-i", source.to_str().unwrap(), "-c", "copy", "-f", "mp4", "-movflags", flags, "-"])
}

/// One digest for each decoded frame of a stream, in order, without the times at which it is shown.
fn frames(arguments: &[&str], stream: &str) -> Vec<String> {
    let text = ffmpeg(&[arguments, &["-map", stream, "-f", "framemd5", "-"]].concat());
    String::from_utf8(text)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit(',').next().unwrap().trim().to_owned())
        .collect()
}

/// Ten seconds of test picture with B-frames and a tone.
fn test_video(dir: &Path) -> PathBuf {
    let path = dir.join("test.mp4");
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x240:rate=25:duration=10",
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440:duration=10",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-bf",
        "2",
        "-g",
        "25",
        "-c:a",
        "aac",
        path.to_str().unwrap(),
    ]);
    path
}

struct Site {
    dir: tempfile::TempDir,
    server: ServerProcess,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = ServerProcess::start(&dir.path().join("data")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { dir, server, client: reqwest::Client::new(), runtime }
    }

    /// Enrols a recorder by the command line; its id and the folder with its identity.
    fn enrol(&self, name: &str) -> (String, PathBuf) {
        let out = self.dir.path().join(name);
        let (status, id, err) = aigaq(&[
            "enrol",
            "--data",
            self.server.data.to_str().unwrap(),
            "--kind",
            "officer",
            "--department",
            "Astana",
            "--label",
            name,
            "--out",
            out.to_str().unwrap(),
        ]);
        assert!(status.success(), "{err}");
        (id.trim().to_owned(), out)
    }

    /// Records `stream` through standard input, as fast as it goes.
    fn record(&self, identity: &Path, start: &str, stream: &[u8]) -> (bool, String) {
        let server = self.server.quic.to_string();
        let mut child = Command::new(AIGAQ)
            .args(["record", "--identity", identity.to_str().unwrap(), "--server", &server])
            .args(["--start", start, "--fast", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let stream = stream.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&stream)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.api)
    }

    fn get(&self, url: &str) -> Vec<u8> {
        self.runtime.block_on(async {
            let answer = self.client.get(url).bearer_auth(self.server.token()).send().await.unwrap();
            let status = answer.status();
            let body = answer.bytes().await.unwrap();
            assert_eq!(status, 200, "{url}: {}", String::from_utf8_lossy(&body));
            body.to_vec()
        })
    }

    fn headers(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.server.token())
    }
}

/// What the playlist refers to, in order: the initialisation segments and the media segments.
fn referred(playlist: &str) -> (Vec<String>, Vec<String>) {
    let maps = playlist
        .lines()
        .filter_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\""))
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    let segments =
        playlist.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect();
    (maps, segments)
}

/// Splits a fragmented MP4 into what initialises it and its fragments; boxes that only index the file are left out.
fn split(stream: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut init, mut media, mut rest) = (Vec::new(), Vec::new(), stream);
    while rest.len() >= 8 {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let (whole, after) = rest.split_at(length);
        match &whole[4..8] {
            b"ftyp" | b"moov" => init.extend_from_slice(whole),
            b"moof" | b"mdat" => media.extend_from_slice(whole),
            _ => {}
        }
        rest = after;
    }
    (init, media)
}

fn plays_back_as_it_was(source: &Path) {
    let site = Site::start();
    let (id, identity) = site.enrol("chest-1");
    let stream = fragmented(source);
    let (recorded, said) = site.record(&identity, START, &stream);
    assert!(recorded, "{said}");

    let base = format!("/v1/recorders/{id}/hls/{FROM_TO}");
    let playlist = String::from_utf8(site.get(&site.url(&format!("{base}/index.m3u8")))).unwrap();
    let (maps, segments) = referred(&playlist);
    assert_eq!(maps.len(), 1, "one recording, one initialisation:\n{playlist}");
    let (init, media) = split(&stream);
    assert_eq!(site.get(&site.url(&format!("{base}/{}", maps[0]))), init, "the initialisation is what was sent");
    let played: Vec<u8> = segments.iter().flat_map(|name| site.get(&site.url(&format!("{base}/{name}")))).collect();
    assert!(played == media, "the segments are byte for byte what was sent");
    assert!(playlist.contains("#EXT-X-PROGRAM-DATE-TIME:2026-01-17T09:14:02.000Z"), "{playlist}");

    let (url, headers) = (site.url(&format!("{base}/index.m3u8")), site.headers());
    let played = ["-headers", headers.as_str(), "-i", url.as_str()];
    let source = ["-i", source.to_str().unwrap()];
    assert_eq!(frames(&played, "0:v"), frames(&source, "0:v"), "every decoded picture is the source's");
    let clip = site.dir.path().join("clip.mp4");
    let bytes =
        site.get(&site.url(&format!("/v1/recorders/{id}/clip.mp4?from=2026-01-17T09:14:00Z&to=2026-01-17T09:20:00Z")));
    std::fs::write(&clip, bytes).unwrap();
    assert_eq!(frames(&["-i", clip.to_str().unwrap()], "0:v"), frames(&source, "0:v"), "and so is the clip's");

    let data = site.server.data.clone();
    assert!(site.server.terminate().success(), "SIGTERM ends it cleanly");
    let (status, out, err) = aigaq(&["check", "--data", data.to_str().unwrap()]);
    assert!(status.success(), "{out}{err}");
}

#[test]
fn a_test_picture_with_b_frames_and_sound_plays_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    plays_back_as_it_was(&test_video(dir.path()));
}

#[test]
fn footage_shot_by_others_plays_back_as_it_was() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/footage");
    for name in ["bikes.mp4", "bigbuckbunny.mp4"] {
        let source = shared.join(name);
        if source.exists() {
            plays_back_as_it_was(&source);
        } else {
            println!("{name} is not here: left out");
        }
    }
}

#[test]
fn a_second_recording_by_the_same_recorder_goes_on_in_its_chain() {
    let dir = tempfile::tempdir().unwrap();
    let stream = fragmented(&test_video(dir.path()));
    let site = Site::start();
    let (id, identity) = site.enrol("car-7");
    for start in [START, "2026-01-17T09:16:00Z"] {
        let (recorded, said) = site.record(&identity, start, &stream);
        assert!(recorded, "{said}");
    }
    let playlist = site.get(&site.url(&format!("/v1/recorders/{id}/hls/{FROM_TO}/index.m3u8")));
    let playlist = String::from_utf8(playlist).unwrap();
    assert_eq!(referred(&playlist).0.len(), 2, "two recordings:\n{playlist}");
    assert_eq!(playlist.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{playlist}");
    let coverage =
        site.get(&site.url(&format!("/v1/recorders/{id}/coverage?from=2026-01-17T09:14:00Z&to=2026-01-17T09:20:00Z")));
    let coverage: serde_json::Value = serde_json::from_slice(&coverage).unwrap();
    let times = |list: &str, key: &str| -> Vec<String> {
        let rows = coverage[list].as_array().unwrap();
        rows.iter().map(|row| row[key].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(times("spans", "from"), ["2026-01-17T09:14:02.000000Z", "2026-01-17T09:16:00.000000Z"]);
    assert_eq!(times("spans", "to"), ["2026-01-17T09:14:12.000000Z", "2026-01-17T09:16:10.000000Z"]);
    assert_eq!(times("holes", "cause"), ["before-first", "off", "off"]);
    assert_eq!(times("holes", "stop"), ["", "source-ended", "source-ended"]);
}

#[test]
fn a_broken_video_ends_in_one_clear_line_and_what_came_before_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut stream = fragmented(&test_video(dir.path()));
    let middle = stream.len() / 2;
    stream.truncate(middle);
    let site = Site::start();
    let (id, identity) = site.enrol("chest-2");
    let (recorded, said) = site.record(&identity, START, &stream);
    assert!(!recorded, "a stream that breaks off is an error");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("aigaq: ") && !said.contains("panicked"), "{said}");
    let playlist =
        String::from_utf8(site.get(&site.url(&format!("/v1/recorders/{id}/hls/{FROM_TO}/index.m3u8")))).unwrap();
    assert!(!referred(&playlist).1.is_empty(), "what was whole is there:\n{playlist}");
}
