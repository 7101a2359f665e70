//! An export as a stranger gets it: over the API of a real server, checked with tools that know nothing of this project - unzip,
//! sha256sum, openssl, ffmpeg.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

#[path = "support/second.rs"]
mod second;
mod support;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aigaq::config::Config;
use aigaq::enrol::{self, EnrolRequest};
use aigaq::media::{Cutter, Event, Fragmenter, Segment};
use aigaq::server::Server;
use aigaq::store::records::RecorderKind;
use aigaq::{Clock, lookup};
use aigaq_proto::frame::ALPN;
use aigaq_proto::signature::SigningKey;
use aigaq_proto::{Micros, RecorderId};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use support::Identity;
use support::chain::Chain;
use support::session::{Session, client_config_of, endpoint};
use tokio_util::sync::CancellationToken;

/// 2026-01-17T09:14:00Z: when the footage begins.
const BEGIN: Micros = 1_768_641_240_000_000;
const LINK_BYTES_MAX: u32 = 32 * 1024 * 1024;

/// Runs a tool in a directory; what it wrote.
#[track_caller]
fn tool(dir: &Path, line: &[&str]) -> String {
    let output = Command::new(line[0]).args(&line[1..]).current_dir(dir).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{line:?}: {} {}", said[0], said[1]);
    said[0].clone()
}

/// Ten seconds of picture with B-frames and a tone, as a recorder makes them.
fn source(dir: &Path) -> PathBuf {
    let picture = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=10"];
    let tone = ["-f", "lavfi", "-i", "sine=sample_rate=48000:duration=10"];
    let codecs = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "25", "-c:a", "aac", "-f", "mp4"];
    let flags = ["-movflags", "+frag_keyframe+empty_moov+default_base_moof", "source.mp4"];
    tool(dir, &[&["ffmpeg", "-nostdin", "-v", "error"][..], &picture, &tone, &codecs, &flags].concat());
    dir.join("source.mp4")
}

/// The initialisation segment and the payloads of links.
fn cut(stream: &[u8]) -> (Bytes, Vec<Segment>) {
    let mut fragmenter = Fragmenter::new(u64::from(LINK_BYTES_MAX));
    let mut cutter = Cutter::new(LINK_BYTES_MAX);
    fragmenter.push(stream);
    fragmenter.end();
    let (mut init, mut segments) = (Bytes::new(), Vec::new());
    while let Some(event) = fragmenter.poll().unwrap() {
        match event {
            Event::Init(found) => init = found.bytes,
            Event::Fragment(fragment) => segments.extend(cutter.push(fragment).unwrap()),
        }
    }
    segments.extend(cutter.flush());
    (init, segments)
}

/// A digest of each decoded frame of a stream, in order.
fn frames(dir: &Path, file: &str, stream: &str) -> Vec<String> {
    let listed = tool(dir, &["ffmpeg", "-nostdin", "-v", "error", "-i", file, "-map", stream, "-f", "framemd5", "-"]);
    let lines = listed.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

struct Site {
    home: tempfile::TempDir,
    quic: SocketAddr,
    api: String,
    token: String,
    client: reqwest::Client,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<aigaq::Result<()>>,
}

impl Site {
    async fn open(home: tempfile::TempDir) -> Self {
        Self::open_with(home, |_| {}).await
    }

    async fn open_with(home: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut config = Config::default();
        (config.quic.listen, config.api.listen, config.ops.listen) = (any, any, any);
        config.store.dir = home.path().join("data");
        change(&mut config);
        let server = Server::start(config, Clock::system()).await.unwrap();
        let (quic, api, token) =
            (server.quic_addr, format!("http://{}", server.api_addr), server.owner_token().unwrap());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.run_until(stop.clone().cancelled_owned()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { home, quic, api, token, client, stop, serving }
    }

    async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
        self.home
    }

    /// Enrols a recorder that brings in the footage from `begin` on, all but the segments with these numbers.
    async fn record(
        &self,
        name: &str,
        begin: Micros,
        (init, segments): &(Bytes, Vec<Segment>),
        lost: &[usize],
    ) -> String {
        let identity = Identity::enrol(&self.home.path().join("data"), &self.home.path().join(name));
        let session = Session::open(&endpoint(), self.quic, &identity).await.unwrap();
        Self::bring(&session, &identity.signing, identity.id, begin, (init, segments), lost).await;
        identity.id.to_string()
    }

    async fn bring(
        session: &Session,
        key: &SigningKey,
        id: RecorderId,
        begin: Micros,
        (init, segments): (&Bytes, &[Segment]),
        lost: &[usize],
    ) {
        let mut chain = Chain::new(id, begin);
        session.send(&chain.start_with(key, init.clone())).await.unwrap().receipt();
        for (number, segment) in segments.iter().enumerate() {
            let link = chain.media_of(key, segment.bytes.clone(), u32::try_from(segment.duration_us).unwrap());
            if !lost.contains(&number) {
                session.send(&link).await.unwrap().receipt();
            }
        }
        session.send(&chain.mark(key, "insult")).await.unwrap().receipt();
        session.send(&chain.stop(key)).await.unwrap().receipt();
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.api)).bearer_auth(&self.token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    async fn order(&self, recorders: &[&String]) -> Value {
        let order = json!({
            "recorders": recorders, "from": lookup::time::format(BEGIN), "to": lookup::time::format(BEGIN + 10_000_000),
            "purpose": "case 17", "reason": "asked by the court",
        });
        let request = self.client.post(format!("{}/v1/exports", self.api)).bearer_auth(&self.token).json(&order);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 202);
        answer.json().await.unwrap()
    }

    async fn ended(&self, id: &str) -> Value {
        for _ in 0..600 {
            let job = self.json(&format!("/v1/exports/{id}")).await;
            if !matches!(job["state"].as_str().unwrap(), "waiting" | "running") {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the export does not end");
    }

    /// Fetches the bundle of an export and unpacks it; its directory.
    async fn unpacked(&self, job: &Value) -> PathBuf {
        assert_eq!(job["state"], "done", "{job}");
        let url = format!("{}{}", self.api, job["bundle"]["href"].as_str().unwrap());
        let answer = self.client.get(url).bearer_auth(&self.token).send().await.unwrap();
        let name = job["bundle"]["name"].as_str().unwrap();
        assert!(answer.headers()["content-disposition"].to_str().unwrap().contains(name));
        let home = self.home.path();
        std::fs::write(home.join(name), answer.bytes().await.unwrap()).unwrap();
        assert!(tool(home, &["unzip", "-t", name]).contains("No errors detected"));
        tool(home, &["unzip", "-q", name]);
        home.join(name.trim_end_matches(".zip"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_checked_with_tools_that_know_nothing_of_this_project() {
    let home = tempfile::tempdir().unwrap();
    let footage = cut(&std::fs::read(source(home.path())).unwrap());
    let whole_film = [frames(home.path(), "source.mp4", "0:v"), frames(home.path(), "source.mp4", "0:a")];
    let site = Site::open(home).await;
    let whole = site.record("whole", BEGIN, &footage, &[]).await;
    let gapped = site.record("gapped", BEGIN, &footage, &[2]).await;
    let job = site.order(&[&whole, &gapped]).await;
    let bundle = site.unpacked(&site.ended(job["id"].as_str().unwrap()).await).await;

    let checked = tool(&bundle, &["sha256sum", "-c", "SHA256SUMS"]);
    assert!(checked.lines().all(|line| line.ends_with(": OK")) && checked.contains("manifest.json: OK"));
    tool(&bundle, &["sh", "-c", "openssl x509 -in certs/exporter.pem -pubkey -noout > exporter.pub"]);
    let signature = ["-signature", "manifest.sig", "manifest.json"];
    tool(&bundle, &[&["openssl", "dgst", "-sha256", "-verify", "exporter.pub"][..], &signature].concat());
    for certificates in ["exporter".to_owned(), whole.clone(), gapped.clone()] {
        let file = format!("certs/{certificates}.pem");
        tool(&bundle, &["openssl", "verify", "-CAfile", "verify/anchors.pem", "-untrusted", &file, &file]);
    }
    for id in [&whole, &gapped] {
        tool(&bundle, &["openssl", "pkey", "-pubin", "-noout", "-in", &format!("certs/{id}.keys.pem")]);
    }

    let media = format!("media/{whole}/0.mp4");
    assert!(tool(&bundle, &["ffprobe", "-v", "error", "-show_entries", "format=duration", &media]).contains("10.0"));
    assert!(frames(&bundle, &media, "0:v") == whole_film[0], "frame for frame the source");
    assert!(frames(&bundle, &media, "0:a") == whole_film[1], "and so is the sound");
    let with_hole = frames(&bundle, &format!("media/{gapped}/0.mp4"), "0:v");
    assert!(with_hole == [&whole_film[0][..100], &whole_film[0][150..]].concat(), "all but the segment that is lost");

    let read = |name: &str| serde_json::from_slice::<Value>(&std::fs::read(bundle.join(name)).unwrap()).unwrap();
    let manifest = read("manifest.json");
    let verdicts: Vec<_> = manifest["delivered"].as_array().unwrap().iter().map(|one| &one["verdict"]).collect();
    assert_eq!(verdicts, ["authentic", "authentic-with-gaps"]);
    for delivered in manifest["delivered"].as_array().unwrap() {
        let corrected = &delivered["media"][0]["corrected"];
        assert!(corrected[0].as_str().unwrap() < corrected[1].as_str().unwrap(), "on the server's clock: {delivered}");
    }
    let gaps = read("gaps.json");
    assert_eq!(gaps["recorders"][0]["gaps"], json!([]));
    assert_eq!(gaps["recorders"][1]["gaps"][0]["missing"][0]["first"], 3);
    assert_eq!(read("markers.json"), json!([]), "the mark is at the end, which is outside");
    std::fs::remove_file(bundle.join("exporter.pub")).unwrap();
    the_verifier_agrees(site.home.path(), &bundle, &whole);
    let key = site.home.path().join("data").join("export.key");
    assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    site.stop().await;
}

/// `aigaq verify` on the ZIP, on the directory, with the trust of a court and that of a stranger, and after one bit was flipped.
#[track_caller]
fn the_verifier_agrees(home: &Path, bundle: &Path, whole: &str) {
    use aigaq::verify::{Fault, Trust, verify};
    use aigaq_proto::verdict::{Verdict, What};
    let zip = bundle.with_extension("zip");
    for path in [&zip, &bundle.to_owned()] {
        let report = verify(path, None).unwrap();
        assert_eq!(report.files, Vec::new());
        assert_eq!(report.verdict, Verdict::AuthenticWithGaps, "{}", report.text());
        let verdict = |one: &aigaq::verify::RecorderReport| Some(one.verdict.to_string()) == one.exporter_says;
        assert!(report.recorders.iter().all(verdict), "the exporter says the same: {}", report.text());
    }
    let log = std::fs::read_to_string(bundle.join("log/key.txt")).unwrap();
    std::fs::copy(bundle.join("verify/anchors.pem"), home.join("court.pem")).unwrap();
    let court = home.join("court.toml");
    std::fs::write(&court, format!("logs = [{:?}]\nanchors = [\"court.pem\"]\n", log.trim())).unwrap();
    let report = verify(&zip, Some(&Trust::read(&court).unwrap())).unwrap();
    assert_eq!(report.files, Vec::new());
    let other = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap();
    std::fs::write(home.join("court.pem"), other.cert.pem()).unwrap();
    let report = verify(&zip, Some(&Trust::read(&court).unwrap())).unwrap();
    assert_eq!(report.verdict, Verdict::NotAuthentic);
    assert!(report.files.iter().all(|one| one.fault == Fault::NotTrusted) && report.files.len() == 3);

    let media = bundle.join(format!("media/{whole}/0.mp4"));
    let sound = std::fs::read(&media).unwrap();
    let mut flipped = sound.clone();
    let last = flipped.len() - 9;
    flipped[last] ^= 4;
    std::fs::write(&media, flipped).unwrap();
    let report = verify(bundle, None).unwrap();
    std::fs::write(&media, sound).unwrap();
    assert_eq!(report.files.len(), 1, "{}", report.text());
    let hurt: Vec<_> = report.recorders.iter().filter(|one| one.verdict == Verdict::NotAuthentic).collect();
    assert_eq!(hurt.len(), 1, "the other recorder is not harmed");
    assert!(matches!(hurt[0].findings[..], [one] if one.what == What::AlteredPayload && one.first == one.last));
}

/// Makes the manifest, the sums and the signature agree with the files again, as an exporter can that lies.
#[track_caller]
fn reseal(bundle: &Path, key: &Path) {
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(bundle.join("manifest.json")).unwrap()).unwrap();
    for file in manifest["files"].as_array_mut().unwrap() {
        let bytes = std::fs::read(bundle.join(file["path"].as_str().unwrap())).unwrap();
        file["bytes"] = json!(bytes.len());
        file["sha256"] = json!(aigaq_proto::Digest::of(&bytes).to_string());
    }
    std::fs::write(bundle.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    tool(bundle, &["sh", "-c", "cut -c67- SHA256SUMS | xargs sha256sum > sums && mv sums SHA256SUMS"]);
    let sign = ["-sign", key.to_str().unwrap(), "-out", "manifest.sig", "manifest.json"];
    tool(bundle, &[&["openssl", "dgst", "-sha256"][..], &sign].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_that_changes_what_the_recorder_signed_or_the_log_has_is_found_out() {
    use aigaq_proto::verdict::{Verdict, What};
    let home = tempfile::tempdir().unwrap();
    let footage = cut(&std::fs::read(source(home.path())).unwrap());
    let site = Site::open(home).await;
    let recorder = site.record("recorder", BEGIN, &footage, &[]).await;
    let job = site.order(&[&recorder]).await;
    let bundle = site.unpacked(&site.ended(job["id"].as_str().unwrap()).await).await;
    let key = site.home.path().join("data").join("export.key");
    let chain = bundle.join(format!("chain/{recorder}.jsonl"));
    let sound = std::fs::read_to_string(&chain).unwrap();
    let lines: Vec<&str> = sound.lines().collect();
    let changed = |number: usize, change: &dyn Fn(&mut Value)| {
        let mut line: Value = serde_json::from_str(lines[number]).unwrap();
        change(&mut line);
        let mut all: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        all[number] = line.to_string();
        all.join("\n") + "\n"
    };
    let without = |number: usize| [&lines[..number], &lines[number + 1..]].concat().join("\n") + "\n";
    let field = |name: &'static str, by: u64| changed(3, &|line| line[name] = json!(line[name].as_u64().unwrap() + by));
    let first = |name: &'static str| {
        changed(3, &|line| line[name] = serde_json::from_str::<Value>(lines[2]).unwrap()[name].clone())
    };
    let mut judged = std::collections::BTreeSet::new();
    for (what, text, verdict) in [
        ("nothing", sound.clone(), Verdict::Authentic),
        ("when a link arrived", field("received_at", 1), Verdict::NotAuthentic),
        ("where the log has it", field("log_index", 1), Verdict::NotAuthentic),
        ("whose signature it is", first("signature"), Verdict::NotAuthentic),
        ("what was signed", first("header"), Verdict::NotAuthentic),
        ("that it was there", without(3), Verdict::NotAuthentic),
    ] {
        std::fs::write(&chain, text).unwrap();
        reseal(&bundle, &key);
        let report = aigaq::verify::verify(&bundle, None).unwrap();
        assert_eq!(report.verdict, verdict, "{what}: {}", report.text());
        judged.extend(report.recorders[0].findings.iter().map(|finding| format!("{:?}", finding.what)));
    }
    for what in [What::BadSignature, What::Dropped] {
        assert!(judged.contains(&format!("{what:?}")), "{what:?} is not in {judged:?}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_verifier_that_was_written_from_the_document_alone_says_the_same() {
    let Some(python) = second::interpreter() else { return };
    let home = tempfile::tempdir().unwrap();
    let footage = cut(&std::fs::read(source(home.path())).unwrap());
    let site = Site::open(home).await;
    let whole = site.record("whole", BEGIN, &footage, &[]).await;
    let gapped = site.record("gapped", BEGIN, &footage, &[2]).await;
    let bundle_of = async |recorders: &[&String]| {
        let job = site.order(recorders).await;
        site.unpacked(&site.ended(job["id"].as_str().unwrap()).await).await
    };
    let sound = bundle_of(&[&whole]).await;
    assert_eq!(second::agree(python, &sound, None, "a whole one"), 0);
    let (bundle, home) = (bundle_of(&[&whole, &gapped]).await, site.home.path());
    let zip = bundle.with_extension("zip");
    for path in [&bundle, &zip] {
        assert_eq!(second::agree(python, path, None, "one with a gap"), 1);
    }

    let log = std::fs::read_to_string(bundle.join("log/key.txt")).unwrap();
    std::fs::copy(bundle.join("verify/anchors.pem"), home.join("court.pem")).unwrap();
    let witness = aigaq::witness::Key::load_or_create(home, Some("witness.example/1")).unwrap();
    let court = home.join("court.toml");
    let text = format!(
        "logs = [{:?}]\nanchors = [\"court.pem\"]\nwitnesses = [{:?}]\nquorum = 0\n",
        log.trim(),
        witness.public().as_str()
    );
    std::fs::write(&court, &text).unwrap();
    assert_eq!(second::agree(python, &zip, Some(&court), "a court that trusts"), 1);
    std::fs::write(&court, text.replace("quorum = 0", "quorum = 1")).unwrap();
    assert_eq!(second::agree(python, &zip, Some(&court), "a court that waits for a witness"), 2);
    let other = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap();
    std::fs::write(home.join("court.pem"), other.cert.pem()).unwrap();
    assert_eq!(second::agree(python, &zip, Some(&court), "a court that trusts somebody else"), 3);

    // What was not sealed again, in each kind of file; then what was.
    let mut all = Vec::new();
    files(&bundle, &mut all);
    for path in &all {
        let bytes = std::fs::read(path).unwrap();
        let mut bad = bytes.clone();
        let Some(last) = bad.len().checked_sub(9) else { continue };
        bad[last] ^= 4;
        std::fs::write(path, bad).unwrap();
        let code = second::agree(python, &bundle, None, path.to_str().unwrap());
        assert!(code == 3 || code == 5, "{}: {code}", path.display());
        std::fs::write(path, bytes).unwrap();
    }
    let key = home.join("data").join("export.key");
    let chain = bundle.join(format!("chain/{whole}.jsonl"));
    let sound = std::fs::read_to_string(&chain).unwrap();
    let lines: Vec<&str> = sound.lines().collect();
    let without = [&lines[..3], &lines[4..]].concat().join("\n") + "\n";
    for (what, text) in [
        ("a line is gone", without),
        ("another time of arrival", sound.replacen("\"received_at\":1", "\"received_at\":2", 1)),
        ("another offset", sound.replacen("\"offset\":0", "\"offset\":1", 1)),
        ("lines in another order", [&lines[..2], &[lines[3], lines[2]], &lines[4..]].concat().join("\n")),
        ("a line twice", [&lines[..2], &lines[1..]].concat().join("\n")),
    ] {
        std::fs::write(&chain, text).unwrap();
        reseal(&bundle, &key);
        second::agree(python, &bundle, None, what);
    }
    std::fs::write(&chain, &sound).unwrap();
    let short = std::fs::read(&zip).unwrap();
    std::fs::write(&zip, &short[..short.len() - 1]).unwrap();
    assert_eq!(second::agree(python, &zip, None, "a ZIP that was cut"), 5);
    site.stop().await;
}

/// Flips in each kind of file; `AIGAQ_FLIPS` multiplies them for a longer campaign.
fn flips() -> usize {
    60 * std::env::var("AIGAQ_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Every file below a directory.
fn files(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(below).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_any_file_of_a_bundle_is_noticed_and_harms_no_neighbour() {
    use aigaq_proto::verdict::Verdict;
    let home = tempfile::tempdir().unwrap();
    let footage = cut(&std::fs::read(source(home.path())).unwrap());
    let site = Site::open(home).await;
    let recorders = [site.record("one", BEGIN, &footage, &[]).await, site.record("two", BEGIN, &footage, &[]).await];
    let job = site.order(&[&recorders[0], &recorders[1]]).await;
    let bundle = site.unpacked(&site.ended(job["id"].as_str().unwrap()).await).await;
    let sound = aigaq::verify::verify(&bundle, None).unwrap();
    assert_eq!((sound.verdict, sound.files.len()), (Verdict::Authentic, 0), "{}", sound.text());
    let mut all = Vec::new();
    files(&bundle, &mut all);
    let mut random = StdRng::seed_from_u64(17);
    let (mut flipped, mut kinds) = (0, std::collections::BTreeSet::new());
    for path in all {
        let name = path.strip_prefix(&bundle).unwrap().to_str().unwrap().to_owned();
        let owner = recorders.iter().find(|id| name.contains(&id[..]));
        let bytes = std::fs::read(&path).unwrap();
        kinds.insert(name.split('/').next().unwrap().to_owned());
        for _ in 0..if bytes.is_empty() { 0 } else { flips() } {
            let mut bad = bytes.clone();
            let at = random.random_range(0..bad.len() * 8);
            bad[at / 8] ^= 1 << (at % 8);
            std::fs::write(&path, bad).unwrap();
            flipped += 1;
            // What cannot be read is not silent either.
            let Ok(report) = aigaq::verify::verify(&bundle, None) else { continue };
            assert!(report.verdict != Verdict::Authentic, "bit {at} of {name}: {}", report.text());
            for one in report.recorders.iter().filter(|one| owner.is_some_and(|id| *id != one.recorder.to_string())) {
                let before = sound.recorders.iter().find(|sound| sound.recorder == one.recorder);
                assert_eq!(Some(one), before, "bit {at} of {name}");
            }
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(flipped >= 1_000 && kinds.len() >= 12, "{flipped} flips in {kinds:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_by_its_exit_code_what_a_bundle_is_worth() {
    let home = tempfile::tempdir().unwrap();
    let footage = cut(&std::fs::read(source(home.path())).unwrap());
    let site = Site::open(home).await;
    let whole = site.record("whole", BEGIN, &footage, &[]).await;
    let gapped = site.record("gapped", BEGIN, &footage, &[2]).await;
    let verify = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_aigaq")).arg("verify").args(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), output.stderr)
    };
    let job = site.order(&[&whole]).await;
    let bundle = site.unpacked(&site.ended(job["id"].as_str().unwrap()).await).await;
    let (zip, dir) = (bundle.with_extension("zip"), bundle.to_str().unwrap().to_owned());
    let zip = zip.to_str().unwrap();
    let (code, said, _) = verify(&[zip]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.starts_with("Checked with the keys in the bundle: this proves that it holds together, not who made it")
    );
    let (code, said, _) = verify(&[zip, "--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["verdict"], &report["trust"]), (0, &json!("authentic"), &json!("bundle")));
    let job = site.order(&[&gapped]).await;
    let other = site.unpacked(&site.ended(job["id"].as_str().unwrap()).await).await;
    assert_eq!(verify(&[other.to_str().unwrap()]).0, 1);

    // A court that waits for a witness, and one that does not trust who exported.
    let log = std::fs::read_to_string(bundle.join("log/key.txt")).unwrap();
    let court = site.home.path().join("court.toml");
    std::fs::copy(bundle.join("verify/anchors.pem"), site.home.path().join("court.pem")).unwrap();
    let witness = aigaq::witness::Key::load_or_create(site.home.path(), Some("witness.example/1")).unwrap();
    let witness = witness.public().as_str().to_owned();
    let text = format!("logs = [{:?}]\nanchors = [\"court.pem\"]\nwitnesses = [{witness:?}]\nquorum = 1\n", log.trim());
    std::fs::write(&court, &text).unwrap();
    let (code, said, _) = verify(&[zip, "--trust", court.to_str().unwrap()]);
    assert_eq!(code, 2, "{said}");
    std::fs::write(&court, text.replace("quorum = 1", "quorum = 0")).unwrap();
    assert_eq!(verify(&[zip, "--trust", court.to_str().unwrap()]).0, 0);
    std::fs::write(bundle.join("gaps.json"), "{}").unwrap();
    assert_eq!(verify(&[&dir]).0, 3);
    for nothing in ["/nonexistent", court.to_str().unwrap()] {
        let (code, said, why) = verify(&[nothing]);
        let why = String::from_utf8(why).unwrap();
        assert!(code == 5 && said.is_empty() && why.lines().count() == 1, "{code} {said} {why}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_still_there_after_a_restart_and_one_that_was_ordered_before_it_comes() {
    let home = tempfile::tempdir().unwrap();
    let footage = cut(&std::fs::read(source(home.path())).unwrap());
    let site = Site::open(home).await;
    let recorder = site.record("recorder", BEGIN, &footage, &[]).await;
    let first = site.order(&[&recorder]).await;
    let first = site.ended(first["id"].as_str().unwrap()).await;
    let second = site.order(&[&recorder]).await;
    let site = Site::open(site.stop().await).await;
    assert_eq!(site.json(&format!("/v1/exports/{}", first["id"].as_str().unwrap())).await["state"], "done");
    let second = site.ended(second["id"].as_str().unwrap()).await;
    site.unpacked(&first).await;
    let bundle = site.unpacked(&second).await;
    tool(&bundle, &["sha256sum", "-c", "SHA256SUMS"]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clip_shows_the_frames_of_its_range_and_no_other_and_holds_the_segments_as_they_were_recorded() {
    let home = tempfile::tempdir().unwrap();
    let footage = cut(&std::fs::read(source(home.path())).unwrap());
    let all = frames(home.path(), "source.mp4", "0:v");
    let site = Site::open(home).await;
    let recorder = site.record("recorder", BEGIN, &footage, &[]).await;
    let dir = site.home.path().to_owned();
    let url = |from: u64, to: u64| {
        let (from, to) = (lookup::time::format(BEGIN + from), lookup::time::format(BEGIN + to));
        format!("{}/v1/recorders/{recorder}/clip.mp4?from={from}&to={to}", site.api)
    };
    let get = |url: String| site.client.get(url).bearer_auth(&site.token);
    for (from, to, first, end) in [
        (0, 10_000_000, 0, 250),
        (4_000_000, 6_000_000, 100, 150),
        (3_080_000, 3_120_000, 77, 78),
        (5_281_000, 8_400_001, 133, 211),
    ] {
        let answer = get(url(from, to)).send().await.unwrap();
        assert_eq!(answer.headers()["aigaq-clip"], "exact");
        std::fs::write(dir.join("clip.mp4"), answer.bytes().await.unwrap()).unwrap();
        let found = frames(&dir, "clip.mp4", "0:v");
        assert_eq!(found.len(), end - first, "{from}..{to}");
        assert!(found == all[first..end], "{from}..{to}: frame for frame");
    }
    let url = url(3_000_000, 5_000_000);
    let whole = get(url.clone()).send().await.unwrap();
    let tag = whole.headers()["etag"].to_str().unwrap().to_owned();
    let whole = whole.bytes().await.unwrap();
    for segment in &footage.1[1..3] {
        let holds = whole.windows(segment.bytes.len()).any(|window| window == segment.bytes);
        assert!(holds, "a segment is not there as it was recorded");
    }
    let part = get(url.clone()).header("range", "bytes=100-5000").header("if-range", &tag).send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), whole[100..=5000]);
    assert_eq!(get(url).header("if-none-match", &tag).send().await.unwrap().status(), 304);
    site.stop().await;
}

/// What is common to the certificates of an existing CA.
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_micros(Clock::system().now());
    let day = Duration::from_secs(86_400);
    (params.not_before, params.not_after) = (now - day, now + day * 30);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificates_and_the_revocation_lists_of_an_existing_ca_are_there_as_they_were_at_ingest() {
    let home = tempfile::tempdir().unwrap();
    let footage = cut(&std::fs::read(source(home.path())).unwrap());
    let mut authority = params("Existing Root");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap();
    let issuer = Issuer::new(authority, key);
    let list = CertificateRevocationListParams {
        this_update: params("").not_before,
        next_update: params("").not_after,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&issuer).unwrap();
    std::fs::write(home.path().join("anchors.pem"), root.pem()).unwrap();
    std::fs::write(home.path().join("lists.pem"), list.pem().unwrap()).unwrap();
    let (anchors, lists) = (home.path().join("anchors.pem"), home.path().join("lists.pem"));
    let site = Site::open_with(home, |config| {
        (config.enrol.trust_anchors, config.enrol.crl) = (Some(anchors), Some(lists));
    })
    .await;
    let mut leaf = params("recorder");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let (data, pem) = (site.home.path().join("data"), site.home.path().join("leaf.pem"));
    std::fs::write(&pem, leaf.pem()).unwrap();
    let (department, label) = ("Astana".to_owned(), String::new());
    let request = EnrolRequest { kind: RecorderKind::Officer, department, label, server: None };
    let id = enrol::register(&data, request, &pem, &Clock::system()).unwrap();
    let ca = CertificateDer::from_pem_file(data.join("ca/ca.pem")).unwrap();
    let pkcs8 = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let client = client_config_of(vec![leaf.der().clone()], pkcs8, &ca, &[ALPN]);
    let connection = endpoint().connect_with(client, site.quic, enrol::SERVER_NAME).unwrap().await.unwrap();
    let log = site.client.get(format!("{}/v1/log/key", site.api)).send().await.unwrap().text().await.unwrap();
    let log = aigaq_proto::receipt::LogKey::parse(log.trim()).unwrap();
    let session = Session::greet(connection, log).await.unwrap();
    let signing = SigningKey::from_pkcs8(&key.serialize_der()).unwrap();
    Site::bring(&session, &signing, id, BEGIN, (&footage.0, &footage.1), &[]).await;
    let job = site.order(&[&id.to_string()]).await;
    let bundle = site.unpacked(&site.ended(job["id"].as_str().unwrap()).await).await;
    let lists: Vec<_> = std::fs::read_dir(bundle.join("crl")).unwrap().map(|list| list.unwrap().path()).collect();
    assert_eq!(lists.len(), 1);
    assert_eq!(std::fs::read(&lists[0]).unwrap(), list.der().to_vec(), "byte for byte");
    let list = lists[0].to_str().unwrap();
    tool(&bundle, &["openssl", "crl", "-inform", "DER", "-in", list, "-out", "list.pem"]);
    let with_list = ["-CAfile", "verify/anchors.pem", "-crl_check", "-CRLfile", "list.pem"];
    tool(&bundle, &[&["openssl", "verify"][..], &with_list, &[&format!("certs/{id}.pem")]].concat());
    site.stop().await;
}
