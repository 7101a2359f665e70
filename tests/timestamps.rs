//! Time stamps over the log by a real authority, `openssl ts`, and by one that fails in every way that there is: links have their
//! receipts meanwhile.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aigaq::verify::{Trust, verify};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use data_encoding::BASE64;
use http::{StatusCode, header};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde_json::{Value, json};
use support::Identity;
use support::chain::Chain;
use support::process::ServerProcess;
use support::session::{Session, endpoint};
use tokio_util::sync::CancellationToken;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A receipt is there within this, whatever the authority does.
const RECEIPT: Duration = Duration::from_secs(3);

/// What the authority does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Stamps,
    Hangs,
    SaysGarbage,
    Fails,
    Denies,
    StampsSomethingElse,
    AnswersAnotherQuestion,
    Damages,
    IsForServers,
    IsExpired,
    IsAStranger,
}

/// An authority with its files; each stamps with the certificate `NAME.pem`.
struct Authority {
    dir: PathBuf,
    does: Mutex<Does>,
}

/// Runs openssl in a directory.
#[track_caller]
fn openssl(dir: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate for time stamps by a CA of its own, valid for years that are over.
fn expired(dir: &Path) {
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.distinguished_name.push(DnType::CommonName, "Old Root");
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    write("old-ca.pem", ca.self_signed(&ca_key).unwrap().pem());
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Old Authority");
    params.not_after = date_time_ymd(2020, 1, 1);
    let usage = [0x30, 0x0a, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 8];
    let mut usage = CustomExtension::from_oid_content(&[2, 5, 29, 37], usage.to_vec());
    usage.set_criticality(true);
    params.custom_extensions.push(usage);
    write("expired.pem", params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem());
    write("expired.key", key.serialize_pem());
}

impl Authority {
    fn make(dir: &Path) -> Self {
        let of = |text: &str| std::fs::write(dir.join("usage.cnf"), text).unwrap();
        for (ca, name) in [("ca", "/CN=Test Root"), ("other-ca", "/CN=Other Root")] {
            let key = format!("{ca}.key");
            let options = ["-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", name];
            let cert = format!("{ca}.pem");
            openssl(dir, &[&["req", "-x509", "-keyout", &key, "-out", &cert][..], &options].concat());
        }
        let usages = [
            ("good", "ca", "critical,timeStamping"),
            ("servers", "ca", "serverAuth"),
            ("stranger", "other-ca", "critical,timeStamping"),
        ];
        for (name, ca, usage) in usages {
            of(&format!("extendedKeyUsage = {usage}\n"));
            let (key, request, cert) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
            let subject = "/O=Office of Time/CN=Test Authority";
            openssl(
                dir,
                &["req", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &request, "-subj", subject],
            );
            let (ca, ca_key) = (format!("{ca}.pem"), format!("{ca}.key"));
            let signed = ["-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-days", "30", "-extfile", "usage.cnf"];
            openssl(dir, &[&["x509", "-req", "-in", &request, "-out", &cert][..], &signed].concat());
        }
        expired(dir);
        std::fs::write(dir.join("serial"), "01\n").unwrap();
        for (file, digests) in [("ts.cnf", "sha256"), ("denies.cnf", "sha512")] {
            let text = format!(
                "[tsa]\ndefault_tsa = one\n[one]\nserial = serial\nsigner_digest = sha256\ndefault_policy = 1.2.3.4.1\n\
                 digests = {digests}\naccuracy = secs:1\nordering = yes\ntsa_name = yes\ness_cert_id_alg = sha256\n"
            );
            std::fs::write(dir.join(file), text).unwrap();
        }
        let all = ["ca.pem", "old-ca.pem"].map(|name| std::fs::read_to_string(dir.join(name)).unwrap());
        std::fs::write(dir.join("trusted.pem"), all.concat()).unwrap();
        Self { dir: dir.to_owned(), does: Mutex::new(Does::Stamps) }
    }

    fn does(&self, what: Does) {
        *self.does.lock().unwrap() = what;
    }

    /// The answer of `openssl ts` to a question, signed by one of the certificates.
    fn reply(&self, question: &[u8], config: &str, name: &str) -> Vec<u8> {
        std::fs::write(self.dir.join("question.tsq"), question).unwrap();
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        let signer = ["-signer", &cert, "-inkey", &key, "-queryfile", "question.tsq", "-out", "answer.tsr"];
        openssl(&self.dir, &[&["ts", "-reply", "-config", config][..], &signer].concat());
        std::fs::read(self.dir.join("answer.tsr")).unwrap()
    }

    /// A question of somebody else, about these bytes.
    fn question(&self, about: &[u8]) -> Vec<u8> {
        std::fs::write(self.dir.join("about"), about).unwrap();
        openssl(&self.dir, &["ts", "-query", "-data", "about", "-sha256", "-cert", "-out", "other.tsq"]);
        std::fs::read(self.dir.join("other.tsq")).unwrap()
    }

    /// What openssl itself would not sign: the content of a good token under a certificate for servers.
    fn for_servers(&self, question: &[u8]) -> Vec<u8> {
        self.reply(question, "ts.cnf", "good");
        let tool = |arguments: &[&str]| openssl(&self.dir, arguments);
        tool(&["ts", "-reply", "-in", "answer.tsr", "-token_out", "-out", "token.der"]);
        let content = ["-inform", "DER", "-in", "token.der", "-noverify", "-out", "content.der"];
        tool(&[&["cms", "-verify", "-no_content_verify", "-nosigs"][..], &content].concat());
        let of_type = ["-econtent_type", "1.2.840.113549.1.9.16.1.4", "-cades", "-md", "sha256"];
        let signer = ["-signer", "servers.pem", "-inkey", "servers.key", "-outform", "DER", "-out", "signed.der"];
        tool(&[&["cms", "-sign", "-binary", "-nodetach", "-in", "content.der"][..], &of_type, &signer].concat());
        let token = std::fs::read(self.dir.join("signed.der")).unwrap();
        let body = [&[0x30, 3, 2, 1, 0][..], &token].concat();
        [&[0x30, 0x82][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat()
    }

    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let does = *self.does.lock().unwrap();
        Some(match does {
            Does::Stamps => self.reply(question, "ts.cnf", "good"),
            Does::Hangs | Does::Fails => return None,
            Does::SaysGarbage => b"<html>It works!</html>".to_vec(),
            Does::Denies => self.reply(question, "denies.cnf", "good"),
            Does::StampsSomethingElse => self.reply(&self.question(b"something else"), "ts.cnf", "good"),
            Does::AnswersAnotherQuestion => {
                let nonce = question.len() - 4;
                let mut other = question.to_vec();
                other[nonce] ^= 1;
                self.reply(&other, "ts.cnf", "good")
            }
            Does::Damages => {
                let mut answer = self.reply(question, "ts.cnf", "good");
                *answer.last_mut().unwrap() ^= 1;
                answer
            }
            Does::IsForServers => self.for_servers(question),
            Does::IsExpired => self.reply(question, "ts.cnf", "expired"),
            Does::IsAStranger => self.reply(question, "ts.cnf", "stranger"),
        })
    }
}

async fn serve(State(authority): State<Arc<Authority>>, question: Bytes) -> Response {
    let does = *authority.does.lock().unwrap();
    match does {
        Does::Hangs => std::future::pending().await,
        Does::Fails => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => {
            let answer = tokio::task::spawn_blocking(move || authority.answer(&question)).await.unwrap();
            ([(header::CONTENT_TYPE, "application/timestamp-reply")], answer.unwrap_or_default()).into_response()
        }
    }
}

/// A server with an authority, and a recorder.
struct Site {
    authority: Arc<Authority>,
    config: String,
    server: ServerProcess,
    session: Session,
    identity: Identity,
    chain: Chain,
    stop: CancellationToken,
}

impl Site {
    async fn start(home: &Path) -> Self {
        let (data, files) = (home.join("data"), home.join("authority"));
        std::fs::create_dir_all(&data).unwrap();
        std::fs::create_dir_all(&files).unwrap();
        let authority = Arc::new(Authority::make(&files));
        let router = axum::Router::new().route("/tsr", post(serve)).with_state(Arc::clone(&authority));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/tsr", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(aigaq::http::serve(listener, router, None, stop.clone()));
        let ca = files.join("trusted.pem");
        let config = format!("[timestamp]\nurl = \"{url}\"\ninterval_s = 1\nca = \"{}\"\n", ca.display());
        let identity = Identity::enrol(&data, &home.join("device"));
        let server = ServerProcess::start_with(&data, "127.0.0.1:0".parse().unwrap(), &config).unwrap();
        let session = Session::open(&endpoint(), server.quic, &identity).await.unwrap();
        let mut chain = Chain::new(identity.id, 1_700_000_000_000_000);
        session.send(&chain.start(&identity.signing)).await.unwrap().receipt();
        Self { authority, config, server, session, identity, chain, stop }
    }

    /// Brings a link in; the number of entries of the log that it makes.
    async fn grow(&mut self) -> u64 {
        let link = self.chain.media(&self.identity.signing, Bytes::from_static(b"footage"));
        let receipt = tokio::time::timeout(RECEIPT, self.session.send(&link)).await.expect("no receipt in time");
        receipt.unwrap().receipt().log_index + 1
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let url = format!("http://{}{path}", self.server.api);
        let answer = client().get(url).bearer_auth(self.server.token()).send().await.unwrap();
        if answer.status().is_success() { Some(answer.json().await.unwrap()) } else { None }
    }

    /// Waits for the time stamp over so many entries.
    async fn stamped(&self, size: u64) -> Value {
        let start = Instant::now();
        loop {
            if let Some(stamp) = self.get(&format!("/v1/log/timestamps/{size}")).await {
                return stamp;
            }
            assert!(start.elapsed() < PATIENCE, "no time stamp");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn counted(&self, result: &str) -> bool {
        let metrics = client().get(format!("http://{}/metrics", self.server.ops)).send().await.unwrap();
        let wanted = format!("aigaq_timestamps_total{{result=\"{result}\"}} ");
        let text = metrics.text().await.unwrap();
        text.lines().any(|line| line.strip_prefix(&wanted).is_some_and(|count| count != "0"))
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// `openssl ts` on a stamp, which knows nothing of this project.
#[track_caller]
fn openssl_agrees(dir: &Path, checkpoint: &[u8], answer: &[u8]) {
    std::fs::write(dir.join("checkpoint"), checkpoint).unwrap();
    std::fs::write(dir.join("got.tsr"), answer).unwrap();
    openssl(dir, &["ts", "-verify", "-data", "checkpoint", "-in", "got.tsr", "-CAfile", "ca.pem"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_stamped_and_stays_so_over_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let mut site = Site::start(home.path()).await;
    let size = site.grow().await;
    let stamp = site.stamped(size).await;
    let checkpoint = stamp["checkpoint"].as_str().unwrap().to_owned();
    let covers = site.identity.log.open(&checkpoint).unwrap().0;
    assert!(covers >= size && stamp["entries"] == covers, "{stamp}");
    assert!(stamp["authority"].as_str().unwrap().contains("Test Authority"), "{stamp}");
    let answer = BASE64.decode(stamp["answer"].as_str().unwrap().as_bytes()).unwrap();
    openssl_agrees(&site.authority.dir, checkpoint.as_bytes(), &answer);

    let data = site.server.data.clone();
    assert!(site.server.terminate().success());
    site.authority.does(Does::Fails);
    site.server = ServerProcess::start_with(&data, "127.0.0.1:0".parse().unwrap(), &site.config).unwrap();
    assert_eq!(site.stamped(size).await, stamp);
    assert!(site.server.terminate().success());
    site.stop.cancel();

    let check = || Command::new(support::process::AIGAQ).args(["check", "--data"]).arg(&data).output().unwrap();
    let output = check();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("time stamps   "), "{said}");
    let kept = std::fs::read_dir(data.join("timestamps")).unwrap().next().unwrap().unwrap();
    let mut bytes = std::fs::read(kept.path()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(kept.path(), bytes).unwrap();
    let output = check();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains(kept.file_name().to_str().unwrap()), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_fails_is_named_for_how_and_stops_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut site = Site::start(home.path()).await;
    let cases = [
        (Does::SaysGarbage, "malformed"),
        (Does::Fails, "unreachable"),
        (Does::Denies, "not_granted"),
        (Does::StampsSomethingElse, "imprint"),
        (Does::AnswersAnotherQuestion, "nonce"),
        (Does::Damages, "signature"),
        (Does::IsForServers, "usage"),
        (Does::IsExpired, "expired"),
        (Does::IsAStranger, "untrusted"),
    ];
    for (does, name) in cases {
        site.authority.does(does);
        site.grow().await;
        let start = Instant::now();
        while !site.counted(name).await {
            assert!(start.elapsed() < PATIENCE, "{does:?} is not counted as {name}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    site.authority.does(Does::Hangs);
    for _ in 0..5 {
        site.grow().await;
    }
    site.authority.does(Does::Stamps);
    let size = site.grow().await;
    site.stamped(size).await;
    assert!(site.server.terminate().success());
    site.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_carries_its_stamps_and_the_verifier_says_who_gave_them() {
    let home = tempfile::tempdir().unwrap();
    let mut site = Site::start(home.path()).await;
    let size = site.grow().await;
    site.stamped(size).await;
    site.grow().await;
    let order = json!({
        "recorders": [site.identity.id.to_string()], "from": "2023-11-14T22:13:20Z", "to": "2023-11-14T22:14:20Z",
        "purpose": "case 17", "reason": "asked by the court",
    });
    let ordered = client().post(format!("http://{}/v1/exports", site.server.api)).bearer_auth(site.server.token());
    let job: Value = ordered.json(&order).send().await.unwrap().json().await.unwrap();
    let start = Instant::now();
    let job = loop {
        let job = site.get(&format!("/v1/exports/{}", job["id"].as_str().unwrap())).await.unwrap();
        if job["state"] == "done" {
            break job;
        }
        assert!(start.elapsed() < PATIENCE, "{job}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let url = format!("http://{}{}", site.server.api, job["bundle"]["href"].as_str().unwrap());
    let bundle = client().get(url).bearer_auth(site.server.token()).send().await.unwrap().bytes().await.unwrap();
    let zip = home.path().join("bundle.zip");
    std::fs::write(&zip, bundle).unwrap();

    let report = verify(&zip, None).unwrap();
    assert_eq!((&report.files, report.timestamps.is_empty()), (&Vec::new(), false), "{}", report.text());
    assert!(report.timestamps.iter().all(|stamp| !stamp.trusted && stamp.because.is_none()));
    assert!(report.text().contains("says O=Office of Time, CN=Test Authority, whom the bundle alone vouches for"));
    let unpacked = Command::new("unzip").args(["-q", "bundle.zip"]).current_dir(home.path()).status().unwrap();
    assert!(unpacked.success());
    let dir = home.path().join(job["bundle"]["name"].as_str().unwrap().trim_end_matches(".zip"));
    for stamp in &report.timestamps {
        let file = |kind: &str| dir.join(format!("timestamps/{}.{kind}", stamp.entries));
        let [stamped, answer] = ["checkpoint", "tsr"].map(|kind| std::fs::read(file(kind)).unwrap());
        openssl_agrees(&site.authority.dir, &stamped, &answer);
    }

    // A bit of each file of a stamp, and no other file is blamed for it.
    let size = report.timestamps.last().unwrap().entries;
    for kind in ["checkpoint", "tsr", "consistency"] {
        let path = dir.join(format!("timestamps/{size}.{kind}"));
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        match bad.last_mut() {
            Some(last) => *last ^= 1,
            None => bad.push(b'A'),
        }
        std::fs::write(&path, bad).unwrap();
        let report = verify(&dir, None).unwrap();
        let named = format!("timestamps/{size}.{kind}");
        assert!(!report.files.is_empty() && report.files.iter().all(|one| one.path == named), "{}", report.text());
        std::fs::write(&path, good).unwrap();
    }

    let trust = |name: &str, ca: &str| {
        std::fs::copy(dir.join("verify/anchors.pem"), home.path().join("anchors.pem")).unwrap();
        let (log, ca) = (site.identity.log.as_str(), site.authority.dir.join(ca));
        let text =
            format!("logs = [\"{log}\"]\nanchors = [\"anchors.pem\"]\ntimestamp_anchors = [\"{}\"]\n", ca.display());
        std::fs::write(home.path().join(name), text).unwrap();
        Trust::read(&home.path().join(name)).unwrap()
    };
    let report = verify(&zip, Some(&trust("court.toml", "ca.pem"))).unwrap();
    assert!(report.timestamps.iter().all(|stamp| stamp.trusted), "{}", report.text());
    let report = verify(&zip, Some(&trust("stranger.toml", "other-ca.pem"))).unwrap();
    assert!(report.timestamps.iter().all(|stamp| !stamp.trusted && stamp.because.is_some()), "{}", report.text());
    assert!(report.files.is_empty(), "a stamp by a stranger takes nothing from the rest: {}", report.text());
    assert!(site.server.terminate().success());
    site.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_whose_time_is_not_that_of_our_clock_is_refused_and_counted() {
    use aigaq::log::{Identity, Log, StampMetrics, StampSettings, Stamps};
    let home = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::make(home.path()));
    let router = axum::Router::new().route("/tsr", post(serve)).with_state(authority);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/tsr", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(aigaq::http::serve(listener, router, None, stop.clone()));
    let store = aigaq::store::Store::with_engine(Arc::new(aigaq::store::engine::memory::Memory::default())).unwrap();
    let reader = Log::open(store, Identity::ephemeral().unwrap(), None).unwrap().reader();
    let now = aigaq::Clock::system().now();
    let (minute, hour) = (60_000_000, 3_600_000_000);
    for (clock, result) in [(now + minute, "ok"), (now + hour, "time"), (now - hour, "time")] {
        let registry = prometheus::Registry::new();
        let metrics = StampMetrics::register(&registry).unwrap();
        let (url, ca) = (url.parse().unwrap(), home.path().join("trusted.pem"));
        let settings = StampSettings { url, interval: Duration::from_secs(1), ca };
        let stamps = Stamps::new(settings, reader.clone(), aigaq::Clock::fixed(clock), metrics).unwrap();
        stamps.stamp(0).await;
        let counted: Vec<_> =
            registry.gather().into_iter().filter(|one| one.name() == "aigaq_timestamps_total").collect();
        let counts = counted[0].get_metric().iter().filter(|one| one.get_counter().get_value() > 0.0);
        let results: Vec<_> = counts.map(|one| one.get_label()[0].value()).collect();
        assert_eq!(results, [result], "a clock of {clock}, and it is {now}");
    }
    stop.cancel();
}
