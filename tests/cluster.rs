//! The server on a bucket of a real SeaweedFS: what has a receipt is there after every kill, and a recording plays from it byte for byte.
//! Skipped, with a word, where SeaweedFS cannot be installed.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails")]

#[path = "support/seaweed.rs"]
mod seaweed;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aigaq::store::engine::slate::bucket::Bucket;
use aigaq::store::engine::slate::{Settings, Slate};
use aigaq::store::{self, Store};
use aigaq_proto::RecorderId;
use aigaq_proto::message::Receipt;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use rustix::process::Signal;
use support::Identity;
use support::chain::Chain;
use support::process::{AIGAQ, ServerProcess, aigaq};
use support::session::{Answer, Session, endpoint};
use tokio::sync::mpsc;

/// Kills in the ordinary run; `AIGAQ_CRASH_ROUNDS` asks for a longer campaign.
const ROUNDS: u32 = 6;
const RECORDERS: u64 = 3;
/// Receipts between two kills.
const BETWEEN: u32 = 3;
/// Longest for one receipt: the server comes up, probes its bucket and replays its ledger first.
const PATIENCE: Duration = Duration::from_secs(60);

/// The section of a configuration that chooses a bucket.
fn section(of: &Bucket) -> String {
    format!(
        "[store]\nengine = \"s3\"\ns3_endpoint = \"{}\"\ns3_bucket = \"{}\"\ns3_prefix = \"{}\"\ns3_credentials = \"{}\"\ns3_flush_ms = 10\n",
        of.endpoint,
        of.name,
        of.prefix,
        of.credentials.display()
    )
}

fn start(data: &Path, quic: &str, of: &Bucket) -> Result<ServerProcess, String> {
    ServerProcess::start_with(data, quic.parse().unwrap(), &section(of))
}

/// Starts the server on its old port, which the system may have lent to somebody's connection in between.
fn restart(data: &Path, quic: &str, of: &Bucket) -> ServerProcess {
    for _ in 0..50 {
        match start(data, quic, of) {
            Err(text) if text.contains("Address already in use") => {}
            started => return started.unwrap(),
        }
    }
    panic!("the port is never free again")
}

/// A recorder that never gives up: sends each link until it has a receipt, over as many connections as it takes.
async fn record(identity: Identity, server: ServerAt, seed: u64, told: mpsc::Sender<(RecorderId, Receipt)>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut chain = Chain::new(identity.id, 1_700_000_000_000_000);
    let endpoint = endpoint();
    let mut link = chain.start(&identity.signing);
    while !server.is_over.load(Ordering::Relaxed) {
        let opening = Session::open(&endpoint, server.quic, &identity);
        let Ok(Ok(session)) = tokio::time::timeout(Duration::from_millis(500), opening).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !server.is_over.load(Ordering::Relaxed) {
            let answer = tokio::select! {
                answer = session.send(&link) => answer.ok(),
                _ = session.connection.closed() => None,
            };
            match answer {
                Some(Answer::Receipt(receipt)) => told.send((identity.id, *receipt)).await.unwrap(),
                Some(Answer::Refusal(refusal)) => panic!("a good link was refused: {refusal:?}"),
                None => break,
            }
            let bytes = if random.random_ratio(1, 8) { 9 << 20 } else { random.random_range(1..60_000) };
            let mut payload = vec![0; bytes];
            random.fill_bytes(&mut payload);
            link = chain.media(&identity.signing, Bytes::from(payload));
        }
    }
}

/// Where a server is that comes and goes.
#[derive(Clone)]
struct ServerAt {
    quic: std::net::SocketAddr,
    is_over: Arc<AtomicBool>,
}

#[test]
fn nothing_with_a_receipt_is_lost_when_a_server_on_a_bucket_is_killed_again_and_again() {
    let Some(seaweed) = seaweed::seaweed() else { return };
    let (dir, place) = (tempfile::tempdir().unwrap(), seaweed.place());
    let data = dir.path().join("data");
    let rounds = std::env::var("AIGAQ_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut server = start(&data, "127.0.0.1:0", &place).unwrap();
    let at = ServerAt { quic: server.quic, is_over: Arc::default() };
    let (told, mut promises) = mpsc::channel(1_024);
    let recorders: Vec<_> = (0..RECORDERS)
        .map(|index| {
            let identity = Identity::enrol(&data, &dir.path().join(format!("recorder-{index}")));
            runtime.spawn(record(identity, at.clone(), index, told.clone()))
        })
        .collect();
    drop(told);
    let (mut promised, mut random) = (Vec::new(), StdRng::seed_from_u64(1));
    for _ in 0..rounds {
        for _ in 0..BETWEEN {
            let next = runtime.block_on(async { tokio::time::timeout(PATIENCE, promises.recv()).await });
            promised.push(next.expect("the server acknowledges again after a kill").unwrap());
        }
        // In the middle of whatever comes next.
        let pause = Duration::from_millis(random.random_range(0..300));
        runtime.block_on(async { tokio::time::sleep(pause).await });
        server.kill();
        server = restart(&data, &at.quic.to_string(), &place);
    }
    at.is_over.store(true, Ordering::Relaxed);
    // The rest, until every recorder has ended.
    while let Some(last) = runtime.block_on(promises.recv()) {
        promised.push(last);
    }
    recorders.into_iter().for_each(|task| runtime.block_on(task).unwrap());
    assert!(server.terminate().success());
    // A log that has begun in the bucket does not begin again on the disk.
    let refused = ServerProcess::start(&data).err().unwrap();
    assert!(refused.contains("lost acknowledged data"), "{refused}");

    let settings = Settings { flush_interval: Duration::from_millis(10), ..Settings::default() };
    let engine = Slate::open(place.connect().unwrap(), &place.prefix, settings).unwrap();
    let store = Store::sealed_over(Arc::new(engine), &data.join(store::DIR), &store::Settings::default()).unwrap();
    for (id, receipt) in &promised {
        let link = store.link(*id, receipt.sequence).unwrap().expect("a link with a receipt is there");
        assert_eq!(aigaq_proto::link::digest(&link.header), receipt.digest);
        assert_eq!((link.log_index, link.received_at), (receipt.log_index, receipt.received_at));
        store.body(&link).unwrap();
    }
    let places: std::collections::BTreeSet<_> = promised.iter().map(|(_, receipt)| receipt.log_index).collect();
    assert_eq!(places.len(), promised.len(), "each link has a place of its own in the log");
    println!("{rounds} kills, {} links with a receipt, none lost", promised.len());
    assert!(promised.len() >= (rounds * BETWEEN) as usize, "the load was real");
}

#[test]
fn a_server_that_slept_while_another_took_its_place_acknowledges_nothing_when_it_wakes_and_ends() {
    let Some(seaweed) = seaweed::seaweed() else { return };
    let (dir, place) = (tempfile::tempdir().unwrap(), seaweed.place());
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let sleeper = start(&first, "127.0.0.1:0", &place).unwrap();
    let identity = Identity::enrol(&first, &dir.path().join("chest-1"));
    let endpoint = {
        let _entered = runtime.enter();
        endpoint()
    };
    let mut chain = Chain::new(identity.id, 1_700_000_000_000_000);
    let open =
        |at| runtime.block_on(async { tokio::time::timeout(PATIENCE, Session::open(&endpoint, at, &identity)).await });
    let before = open(sleeper.quic).unwrap().unwrap();
    let link = chain.start(&identity.signing);
    runtime.block_on(before.send(&link)).unwrap().receipt();

    // The same keys on another machine: what an operator does who takes the first for dead.
    assert!(Command::new("cp").arg("-a").args([&first, &second]).status().unwrap().success());
    sleeper.signal(Signal::STOP);
    let successor = start(&second, "127.0.0.1:0", &place).unwrap();
    let after = open(successor.quic).unwrap().unwrap();
    let link = chain.media(&identity.signing, Bytes::from(vec![7; 50_000]));
    let receipt = runtime.block_on(after.send(&link)).unwrap().receipt();

    sleeper.signal(Signal::CONT);
    let woken = runtime.block_on(before.send(&link));
    assert!(!matches!(woken, Ok(Answer::Receipt(_))), "a server that was fenced signs a second history: {woken:?}");
    let status = sleeper.end(PATIENCE).expect("a server that was fenced goes on");
    assert!(!status.success());
    let log = std::fs::read_to_string(first.join("test.log")).unwrap();
    assert!(log.contains("another process has opened this store"), "{log}");

    let again = runtime.block_on(after.send(&link)).unwrap().receipt();
    assert_eq!((again.log_index, again.digest), (receipt.log_index, receipt.digest), "a repeat gets the same receipt");
    let link = chain.media(&identity.signing, Bytes::from(vec![8; 50_000]));
    let next = runtime.block_on(after.send(&link)).unwrap().receipt();
    assert!(next.log_index > receipt.log_index);
    assert!(successor.terminate().success());
}

fn ffmpeg(arguments: &[&str]) {
    let status = Command::new("ffmpeg").args(["-nostdin", "-v", "error", "-y"]).args(arguments).status();
    assert!(status.expect("ffmpeg is installed: deploy/setup.sh does it").success());
}

/// Ten seconds of test picture as a recorder would send them.
fn stream(dir: &Path) -> PathBuf {
    let path = dir.join("test.mp4");
    let picture = "testsrc2=size=320x240:rate=25:duration=10";
    let flags = "+frag_keyframe+empty_moov+default_base_moof";
    let out = path.to_str().unwrap();
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        picture,
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-g",
        "25",
        "-movflags",
        flags,
        out,
    ]);
    path
}

/// The boxes that are media.
fn media(stream: &[u8]) -> Vec<u8> {
    let (mut media, mut rest) = (Vec::new(), stream);
    while rest.len() >= 8 {
        let (whole, after) = rest.split_at(u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize);
        if matches!(&whole[4..8], b"moof" | b"mdat") {
            media.extend_from_slice(whole);
        }
        rest = after;
    }
    media
}

#[test]
fn a_recording_on_a_bucket_plays_byte_for_byte_after_the_server_was_killed() {
    let Some(seaweed) = seaweed::seaweed() else { return };
    let (dir, place) = (tempfile::tempdir().unwrap(), seaweed.place());
    let (data, out) = (dir.path().join("data"), dir.path().join("chest-1"));
    let server = start(&data, "127.0.0.1:0", &place).unwrap();
    let quic = server.quic.to_string();
    let [at, to] = [data.to_str().unwrap(), out.to_str().unwrap()];
    let (status, id, said) =
        aigaq(&["enrol", "--data", at, "--kind", "officer", "--department", "Astana", "--out", to]);
    assert!(status.success(), "{said}");
    let source = stream(dir.path());
    let recorded = Command::new(AIGAQ)
        .args(["record", "--identity", to, "--server", &quic, "--start", "2026-01-17T09:14:02Z", "--fast"])
        .arg(&source)
        .output()
        .unwrap();
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    server.kill();

    let server = restart(&data, &quic, &place);
    let base =
        format!("http://{}/v1/recorders/{}/hls/2026-01-17T09:14:00Z/2026-01-17T09:20:00Z", server.api, id.trim());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (client, token) = (reqwest::Client::new(), server.token());
    let get = |name: &str| {
        runtime.block_on(async {
            let answer = client.get(format!("{base}/{name}")).bearer_auth(&token).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{name}");
            answer.bytes().await.unwrap()
        })
    };
    let playlist = String::from_utf8(get("index.m3u8").to_vec()).unwrap();
    let segments = playlist.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let played: Vec<u8> = segments.flat_map(get).collect();
    assert!(
        played == media(&std::fs::read(&source).unwrap()),
        "the segments are byte for byte what was sent:\n{playlist}"
    );
    assert!(server.terminate().success(), "SIGTERM ends it cleanly");
}

#[test]
fn the_probe_says_of_a_bucket_whether_it_is_fit_and_a_server_on_one_that_is_not_does_not_start() {
    let Some(seaweed) = seaweed::seaweed() else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = |name: &str, of: &Bucket| {
        let path = dir.path().join(name);
        std::fs::write(&path, section(of)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (status, out, said) = aigaq(&["probe", "--config", &config("good.toml", &seaweed.place())]);
    assert!(status.success(), "{said}");
    assert!(out.contains("is fit: 9 races of 16 with one winner each"), "{out}");
    let reader = seaweed.read_only();
    let (status, _, said) = aigaq(&["probe", "--config", &config("reader.toml", &reader)]);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("may not be read and written") && said.lines().count() == 1, "{said}");
    assert!(!said.contains("kept in tests"), "a secret is told: {said}");
    let refused = start(&dir.path().join("data"), "127.0.0.1:0", &reader).err().unwrap();
    assert!(refused.contains("may not be read and written"), "{refused}");
    std::fs::write(dir.path().join("disk.toml"), "").unwrap();
    let (status, _, said) = aigaq(&["probe", "--config", dir.path().join("disk.toml").to_str().unwrap()]);
    assert!(!status.success() && said.contains("there is no bucket to probe"), "{said}");
}

#[test]
fn a_data_directory_that_does_not_belong_to_a_bucket_is_refused_before_anything_is_made() {
    let Some(seaweed) = seaweed::seaweed() else { return };
    let (dir, place) = (tempfile::tempdir().unwrap(), seaweed.place());
    let (first, other, disk) = (dir.path().join("first"), dir.path().join("other"), dir.path().join("disk"));
    assert!(start(&first, "127.0.0.1:0", &place).unwrap().terminate().success());
    let refused = start(&other, "127.0.0.1:0", &place).err().unwrap();
    assert!(refused.contains("has not the key of the log"), "{refused}");
    assert!(!other.join("log.key").exists());
    assert!(ServerProcess::start(&disk).unwrap().terminate().success());
    let refused = start(&disk, "127.0.0.1:0", &seaweed.place()).err().unwrap();
    assert!(refused.contains("has a store of its own"), "{refused}");
}
