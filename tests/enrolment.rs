//! Enrolment as a device meets it: EST with `curl` and `openssl` as the client, the reference recorder with a code, renewal by the
//! server's time, and revocation while connected.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use aigaq::Clock;
use aigaq::config::Config;
use aigaq::enrol::{self, EnrolRequest, Settings};
use aigaq::recorder::{self, Options, Pace, Source};
use aigaq::server::Server;
use aigaq::store::records::RecorderKind;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use support::process::aigaq;
use support::session::{Session, client_config, endpoint};

const PATIENCE: Duration = Duration::from_secs(30);
const DAY_US: u64 = 86_400_000_000;

/// A server in this process, with a directory for what clients write.
struct Site {
    home: tempfile::TempDir,
    clock: Clock,
    address: SocketAddr,
    api: SocketAddr,
    token: String,
    metrics: prometheus::Registry,
    stop: tokio_util::sync::CancellationToken,
    served: tokio::task::JoinHandle<aigaq::Result<()>>,
}

impl Site {
    async fn open(clock: Clock) -> Self {
        Self::with(clock, |_, _| {}).await
    }

    /// The same with a change of the configuration, which is told the directory for files.
    async fn with(clock: Clock, change: impl FnOnce(&mut Config, &Path)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut config = Config::default();
        (config.quic.listen, config.api.listen, config.ops.listen) = (any, any, any);
        config.store.dir = home.path().join("data");
        change(&mut config, home.path());
        let server = Server::start(config, clock.clone()).await.unwrap();
        assert_eq!(server.quic_addr, server.enrol_addr, "one HOST:PORT is all that a recorder knows");
        let (address, api) = (server.enrol_addr, server.api_addr);
        let (token, metrics) = (server.owner_token().unwrap(), server.metrics.clone());
        let stop = tokio_util::sync::CancellationToken::new();
        let served = tokio::spawn(server.run_until(stop.clone().cancelled_owned()));
        Self { home, clock, address, api, token, metrics, stop, served }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn code(&self, label: &str, life: Duration) -> String {
        let request = EnrolRequest {
            kind: RecorderKind::Officer,
            department: "Astana".into(),
            label: label.into(),
            server: None,
        };
        enrol::make_code(&self.data(), request, life, &Settings::default(), &self.clock).unwrap().text()
    }

    fn hour(&self, label: &str) -> String {
        self.code(label, Duration::from_secs(3_600))
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// The result of enrolments by its label.
    fn count(&self, result: &str) -> u64 {
        let families = self.metrics.gather();
        let family = families.iter().find(|family| family.name() == "aigaq_enrolments_total").unwrap();
        let is = |metric: &&prometheus::proto::Metric| metric.get_label().iter().any(|pair| pair.value() == result);
        family.get_metric().iter().find(is).map_or(0, |metric| metric.get_counter().get_value() as u64)
    }

    async fn close(self) {
        self.close_and_keep().await;
    }

    /// Ends the server and keeps its directory.
    async fn close_and_keep(self) -> tempfile::TempDir {
        self.stop.cancel();
        self.served.await.unwrap().unwrap();
        self.home
    }

    /// Makes a key and a request with `openssl`; the paths of the two, the request in base64 without PEM lines.
    async fn openssl_request(&self, name: &str, algorithm: &[&str]) -> (String, String) {
        let (key, der) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.der")));
        let generate = [&["genpkey", "-out", &key, "-algorithm"][..], algorithm].concat();
        run("openssl", &generate).await;
        run("openssl", &["req", "-new", "-key", &key, "-subj", "/CN=whoever", "-outform", "DER", "-out", &der]).await;
        let text = run("openssl", &["base64", "-in", &der]).await;
        (key, self.write(&format!("{name}.b64"), text))
    }

    /// Sends a request with `curl`: status and body.
    async fn post(&self, path: &str, request: &str, more: &[&str]) -> (String, String) {
        self.post_as("application/pkcs10", path, request, more).await
    }

    async fn post_as(&self, media_type: &str, path: &str, request: &str, more: &[&str]) -> (String, String) {
        let (url, body, ca) = (self.url(path), format!("@{request}"), self.path("data/ca/ca.pem"));
        let (status, header) = ("\n%{http_code}", format!("Content-Type: {media_type}"));
        let fixed = ["-sS", "--cacert", &ca, "-w", status, "-H", &header, "--data-binary", &body, &url];
        let out = run("curl", &[&fixed[..], more].concat()).await;
        let (body, status) = out.rsplit_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    }

    async fn enrol(&self, request: &str, code: &str) -> (String, String) {
        self.post("/.well-known/est/simpleenroll", request, &["-u", &format!(":{code}")]).await
    }

    /// The certificate in an answer, as a PEM file.
    async fn certificate(&self, name: &str, answer: &str) -> String {
        let (p7, der, pem) =
            (self.path(&format!("{name}.p7.b64")), self.path(&format!("{name}.p7")), self.path(&format!("{name}.pem")));
        std::fs::write(&p7, answer).unwrap();
        run("openssl", &["base64", "-d", "-in", &p7, "-out", &der]).await;
        run("openssl", &["pkcs7", "-inform", "DER", "-in", &der, "-print_certs", "-out", &pem]).await;
        pem
    }

    /// What the server says to whoever comes with this certificate and key.
    async fn about(&self, certificate: &str, key: &str) -> Result<serde_json::Value, String> {
        let (url, ca) = (self.url("/v1/recorder"), self.path("data/ca/ca.pem"));
        let arguments = ["-sS", "--fail-with-body", "--cacert", &ca, "--cert", certificate, "--key", key, &url];
        let out = attempt("curl", &arguments).await?;
        serde_json::from_str(&out).map_err(|_| out)
    }
}

/// Runs a program on a thread of its own, because the server is in this process: its output, or what it complained.
async fn attempt(program: &'static str, arguments: &[&str]) -> Result<String, String> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    tokio::task::spawn_blocking(move || {
        let output =
            Command::new(program).args(&arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stdout) + &text(&output.stderr))
        }
    })
    .await
    .unwrap()
}

async fn run(program: &'static str, arguments: &[&str]) -> String {
    attempt(program, arguments).await.unwrap_or_else(|error| panic!("{program} {arguments:?}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_and_curl_enrol_renew_and_renew_with_another_key() {
    let site = Site::open(Clock::system()).await;
    let ca = site.path("data/ca/ca.pem");
    let shown = run("curl", &["-sS", "--cacert", &ca, &site.url("/.well-known/est/cacerts")]).await;
    let cacerts = site.certificate("cacerts", &shown).await;
    let attributes = run("curl", &["-sS", "--cacert", &ca, &site.url("/.well-known/est/csrattrs")]).await;
    let der = site.path("csrattrs");
    run("openssl", &["base64", "-d", "-in", &site.write("csrattrs.b64", attributes), "-out", &der]).await;
    let parsed = run("openssl", &["asn1parse", "-inform", "DER", "-in", &der]).await;
    assert!(parsed.contains("prime256v1") && parsed.contains("ED25519"), "{parsed}");

    for (name, algorithm) in
        [("p256", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..]), ("ed25519", &["ED25519"][..])]
    {
        let (key, request) = site.openssl_request(name, algorithm).await;
        let (status, answer) = site.enrol(&request, &site.hour(name)).await;
        assert_eq!(status, "200", "{answer}");
        let first = site.certificate(name, &answer).await;
        run("openssl", &["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", &cacerts, &first]).await;
        let about = site.about(&first, &key).await.unwrap();
        assert_eq!((about["label"].as_str(), about["kind"].as_str()), (Some(name), Some("officer")));
        assert_eq!(about["server_name"], "gateway.aigaq");

        let shows = |certificate: &str, key: &str| ["--cert", certificate, "--key", key].map(str::to_owned);
        let renew = |request: String, shown: [String; 4]| {
            let site = &site;
            async move {
                let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
                site.post("/.well-known/est/simplereenroll", &request, &shown).await
            }
        };
        let (status, answer) = renew(request.clone(), shows(&first, &key)).await;
        assert_eq!(status, "200", "{answer}");
        let second = site.certificate(&format!("{name}-2"), &answer).await;
        let serials = [&first, &second].map(|pem| ["x509", "-noout", "-serial", "-in", pem].map(str::to_owned));
        let mut numbers = Vec::new();
        for arguments in &serials {
            numbers.push(run("openssl", &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await);
        }
        assert_ne!(numbers[0], numbers[1], "no serial number is used twice, also under the same key");

        let (new_key, request) = site.openssl_request(&format!("{name}-new"), &["ED25519"]).await;
        let (status, answer) = renew(request, shows(&second, &key)).await;
        assert_eq!(status, "200", "{answer}");
        let third = site.certificate(&format!("{name}-3"), &answer).await;
        let renewed = site.about(&third, &new_key).await.unwrap();
        assert_eq!(renewed["id"], about["id"], "with a new key it stays who it is");
        assert_eq!(site.about(&second, &key).await.unwrap()["id"], about["id"], "until its certificate ends");
    }
    assert_eq!((site.count("enrolled"), site.count("renewed")), (2, 4));
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_told_and_what_is_wrong_with_a_code_is_not() {
    let site = Site::open(Clock::system()).await;
    let (_, good) = site.openssl_request("good", &["ED25519"]).await;
    let (_, p384) = site.openssl_request("p384", &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"]).await;
    let code = site.hour("4711");
    let long = site.write("long", vec![b'A'; 20_000]);
    let mut altered = std::fs::read(site.path("good.der")).unwrap();
    *altered.last_mut().unwrap() ^= 1;
    let altered = site.write("altered", data_encoding::BASE64.encode(&altered));
    let pem =
        site.write("pem", format!("-----BEGIN CERTIFICATE REQUEST-----\n{}", std::fs::read_to_string(&good).unwrap()));
    for (request, status, part) in [
        (&p384, "400", "Ed25519"),
        (&altered, "400", "not signed"),
        (&pem, "400", "base64"),
        (&long, "413", "16384"),
        (&site.write("empty", ""), "400", "PKCS #10"),
    ] {
        let (got, text) = site.enrol(request, &code).await;
        assert!(got == status && text.contains(part), "{request}: {got} {text}");
    }
    // A client that still sends hears the answer and not that its stream broke.
    let far_too_long = site.write("far-too-long", vec![b'A'; 2_000_000]);
    for protocol in ["--http2", "--http1.1"] {
        for _ in 0..5 {
            let credentials = format!(":{code}");
            let options = ["-u", &credentials, protocol];
            let (got, text) = site.post("/.well-known/est/simpleenroll", &far_too_long, &options).await;
            assert!(got == "413" && text.contains("16384"), "{protocol}: {got} {text}");
        }
    }
    let password = format!(":{code}");
    let (status, text) = site.post_as("text/plain", "/.well-known/est/simpleenroll", &good, &["-u", &password]).await;
    assert!(status == "415" && text.contains("application/pkcs10"), "{status} {text}");

    let used = site.hour("used");
    let (_, other) = site.openssl_request("other", &["ED25519"]).await;
    assert_eq!(site.enrol(&other, &used).await.0, "200");
    let expired = site.code("expired", Duration::ZERO);
    let unknown = "0000-0000-0000-0000";
    let mut answers = Vec::new();
    for bad in [&used, &expired, unknown] {
        answers.push(site.enrol(&good, bad).await);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.0 == "401"), "{answers:?}");
    assert_eq!(site.enrol(&good, "hunter2").await.0, "401");
    assert_eq!(site.post("/.well-known/est/simpleenroll", &good, &[]).await.0, "401");
    let challenge = run(
        "curl",
        &[
            "-sS",
            "-k",
            "-D",
            "-",
            "-o",
            "/dev/null",
            "-X",
            "POST",
            "-H",
            "Content-Type: application/pkcs10",
            "--data-binary",
            &format!("@{good}"),
            &site.url("/.well-known/est/simpleenroll"),
        ],
    )
    .await;
    assert!(challenge.to_lowercase().contains("www-authenticate: basic"), "{challenge}");

    assert_eq!(site.enrol(&good, &code).await.0, "200", "nothing of this has burnt the code");
    let (status, _) = site.post("/.well-known/est/simplereenroll", &good, &[]).await;
    assert_eq!(status, "403", "who shows no certificate renews nothing");
    let nothing =
        run("curl", &["-sS", "-k", "-w", "%{http_code}", "-o", "/dev/null", &site.url("/v1/recorders")]).await;
    assert_eq!(nothing, "404", "the API is elsewhere");
    let wrong =
        run("curl", &["-sS", "-k", "-X", "DELETE", "-w", "%{http_code}", &site.url("/.well-known/est/cacerts")]).await;
    assert!(wrong.contains("another method") && wrong.ends_with("405"), "{wrong}");
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_who_use_a_code_at_once_one_gets_in_and_gets_the_same_answer_again() {
    let site = Site::open(Clock::system()).await;
    let code = site.hour("the one");
    let mut requests = Vec::new();
    for racer in 0..20 {
        requests.push(site.openssl_request(&format!("racer-{racer}"), &["ED25519"]).await.1);
    }
    let answers = futures_util::future::join_all(requests.iter().map(|request| site.enrol(request, &code))).await;
    let winners: Vec<usize> = (0..20).filter(|racer| answers[*racer].0 == "200").collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    let (status, again) = site.enrol(&requests[winners[0]], &code).await;
    assert_eq!((status.as_str(), &again), ("200", &answers[winners[0]].1), "a lost answer does not burn the device");
    assert_eq!(site.enrol(&requests[(winners[0] + 1) % 20], &code).await.0, "401");
    site.close().await;
}

/// Records the bundled clip with the identity in `dir`; what the recorder noted.
async fn record(site: &Site, dir: &Path, clock: &Clock) -> (aigaq::Result<recorder::Report>, Vec<String>) {
    #[derive(Default)]
    struct Notes(std::sync::Mutex<Vec<String>>);
    impl recorder::Observer for Notes {
        fn note(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
    let notes = std::sync::Arc::new(Notes::default());
    let identity = recorder::Identity::load(dir).unwrap();
    let mut options =
        Options::new(identity, Source::Loop { clip: bytes::Bytes::from_static(recorder::CLIP), laps: Some(1) });
    options.server = Some(site.address.to_string());
    options.pace = Pace::Fast;
    options.clock = clock.clone();
    options.observer = Some(notes.clone());
    let report = tokio::time::timeout(PATIENCE, recorder::record(options)).await.unwrap();
    let noted = notes.0.lock().unwrap().clone();
    (report, noted)
}

fn silent(_: &str) {}

fn certificate(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("cert.pem")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_given_a_code_records() {
    let site = Site::open(Clock::system()).await;
    let dir = site.home.path().join("device");
    let code = site.hour("4711");
    let server = site.address.to_string();
    recorder::enrol(&dir, &code, &server, &site.clock, &silent).await.unwrap();
    let first = certificate(&dir);
    recorder::enrol(&dir, &code, &server, &site.clock, &silent).await.unwrap();
    assert_eq!(certificate(&dir), first, "the same command again changes nothing");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dir.join("key.pem")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let id = recorder::Identity::load(&dir).unwrap().id;
    for year in [1970_u64, 2000, 2100] {
        let clock = Clock::fixed((year - 1970) * 365 * DAY_US);
        let report = record(&site, &dir, &clock).await.0.unwrap();
        assert_eq!((report.recorder, report.receipts), (id, report.links), "by a clock of {year}");
    }
    // In a drawer for longer than its certificate lives: a new code, and it is still who it was.
    recorder::enrol(&dir, &site.hour("4712"), &server, &Clock::fixed(0), &silent).await.unwrap();
    assert_ne!(certificate(&dir), first);
    assert_eq!(recorder::Identity::load(&dir).unwrap().id, id);
    assert!(std::fs::read_to_string(dir.join("recorder.toml")).unwrap().contains("4712"), "and is what the code says");
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_lost_the_answer_or_its_power_goes_on_with_the_same_key() {
    let site = Site::open(Clock::system()).await;
    let dir = site.home.path().join("device");
    let (code, server) = (site.hour("4711"), site.address.to_string());
    recorder::enrol(&dir, &code, &server, &site.clock, &silent).await.unwrap();
    let whole = certificate(&dir);
    for lost in [&["recorder.toml"][..], &["recorder.toml", "cert.pem"], &["recorder.toml", "cert.pem", "ca.pem"]] {
        lost.iter().for_each(|name| std::fs::remove_file(dir.join(name)).unwrap());
        recorder::enrol(&dir, &code, &server, &site.clock, &silent).await.unwrap();
        assert_eq!(certificate(&dir), whole, "without {lost:?}");
    }
    let other = site.home.path().join("other");
    let refused = recorder::enrol(&other, &code, &server, &site.clock, &silent).await.unwrap_err();
    assert!(refused.to_string().contains("not known, was used, or has expired"), "{refused}");
    assert!(other.join("key.pem").exists() && !other.join("recorder.toml").exists());
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_says_its_code_to_no_other_server() {
    let (site, other) = (Site::open(Clock::system()).await, Site::open(Clock::system()).await);
    let (code, dir) = (site.hour("4711"), site.home.path().join("device"));
    let refused = recorder::enrol(&dir, &code, &other.address.to_string(), &site.clock, &silent).await.unwrap_err();
    assert!(refused.to_string().contains("is not the server"), "{refused}");
    assert_eq!(other.count("code"), 0, "it was never asked");
    for wrong in ["", "hello", &code[..20]] {
        assert_eq!(
            recorder::enrol(&dir, wrong, "x:1", &site.clock, &silent).await.unwrap_err().kind(),
            aigaq::Kind::Invalid
        );
    }
    let servers = format!("127.0.0.1:9, {}", site.address);
    recorder::enrol(&dir, &code, &servers, &site.clock, &silent).await.unwrap();
    site.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_at_two_thirds_of_its_life_by_the_servers_clock() {
    let begin = Clock::system().now();
    let site = Site::open(Clock::fixed(begin)).await;
    let dir = site.home.path().join("device");
    // The device believes that it is 1990.
    let wrong = Clock::fixed(20 * 365 * DAY_US);
    recorder::enrol(&dir, &site.hour("4711"), &site.address.to_string(), &wrong, &silent).await.unwrap();
    let first = certificate(&dir);
    // Validity begins a day in the past: 31 days, of which two thirds are over 19 days and 16 hours after the enrolment.
    site.clock.set(begin + 19 * DAY_US + DAY_US / 2);
    record(&site, &dir, &wrong).await.0.unwrap();
    assert_eq!((certificate(&dir), site.count("renewed")), (first.clone(), 0));
    site.clock.set(begin + 19 * DAY_US + DAY_US * 17 / 24);
    let renewed = async {
        while certificate(&dir) == first {
            record(&site, &dir, &wrong).await.0.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.unwrap();
    assert_eq!(site.count("renewed"), 1);
    site.clock.set(begin + 45 * DAY_US);
    let report = record(&site, &dir, &wrong).await.0.unwrap();
    assert!(report.receipts > 0, "the first certificate ended long ago");
    site.clock.set(begin + 80 * DAY_US);
    let refused = record(&site, &dir, &Clock::fixed(begin + 80 * DAY_US)).await.0.unwrap_err();
    assert!(refused.to_string().contains("refuses the certificate"), "{refused}");
    site.close().await;
}

/// What revoking through the API answers.
async fn revoke(site: &Site, id: aigaq_proto::RecorderId, body: &str) -> reqwest::Response {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/v1/recorders/{id}/revoke", site.api);
    let request = client.post(url).bearer_auth(&site.token).header("content-type", "application/json");
    request.body(body.to_owned()).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_is_revoked_through_the_api_is_off_within_five_seconds_and_for_ever() {
    let site = Site::open(Clock::system()).await;
    let identity = support::Identity::enrol(&site.data(), &site.home.path().join("device"));
    let endpoint = endpoint();
    let session = Session::open(&endpoint, site.address, &identity).await.unwrap();
    assert_eq!(revoke(&site, identity.id, "{\"reason\":\"stolen\"}").await.status(), 200);
    let revoked_at = Instant::now();
    let closed = tokio::time::timeout(Duration::from_secs(5), session.connection.closed()).await;
    let closed = closed.expect("it is still connected").to_string();
    assert!(closed.contains("revoked") && revoked_at.elapsed() < Duration::from_secs(5), "{closed}");
    for _ in 0..3 {
        assert!(Session::open(&endpoint, site.address, &identity).await.is_err());
    }
    let (cert, key) = (site.path("device/cert.pem"), site.path("device/key.pem"));
    assert!(site.about(&cert, &key).await.is_err(), "nor may it renew");
    run("openssl", &["req", "-new", "-key", &key, "-subj", "/", "-outform", "DER", "-out", &site.path("again.der")])
        .await;
    let text = run("openssl", &["base64", "-in", &site.path("again.der")]).await;
    let (status, text) = site.enrol(&site.write("again.b64", text), &site.hour("again")).await;
    assert!(status == "401" && text.contains("revoked"), "not even a new code brings its key back: {status} {text}");

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/v1/recorders/{}", site.api, identity.id);
    let shown: serde_json::Value = client.get(url).bearer_auth(&site.token).send().await.unwrap().json().await.unwrap();
    assert_eq!(shown["revoked"]["reason"], "stolen", "{shown}");
    assert_eq!(
        revoke(&site, identity.id, "{\"reason\":\"once more\"}").await.status(),
        200,
        "twice is as good as once"
    );
    assert_eq!(revoke(&site, aigaq_proto::RecorderId([7; 16]), "{\"reason\":\"x\"}").await.status(), 404);
    for bad in ["", "{", "{\"why\":\"x\"}", "{\"reason\":\" \"}", "{\"reason\":\"two\\nlines\"}"] {
        assert_eq!(revoke(&site, identity.id, bad).await.status(), 400, "{bad}");
    }
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_is_revoked_by_the_command_line_is_off_within_five_seconds() {
    let site = Site::open(Clock::system()).await;
    let identity = support::Identity::enrol(&site.data(), &site.home.path().join("device"));
    let endpoint = endpoint();
    let session = Session::open(&endpoint, site.address, &identity).await.unwrap();
    let (data, id) = (site.path("data"), identity.id.to_string());
    let revoked = tokio::task::spawn_blocking(move || aigaq(&["revoke", "--data", &data, &id, "--reason", "lost"]));
    assert!(revoked.await.unwrap().0.success());
    let closed = tokio::time::timeout(Duration::from_secs(5), session.connection.closed()).await;
    assert!(closed.expect("it is still connected").to_string().contains("revoked"));
    assert!(Session::open(&endpoint, site.address, &identity).await.is_err());
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_was_never_enrolled_is_not_said_to_be_revoked() {
    let unknown = "ffffffffffffffffffffffffffffffff";
    let refused = |data: String| {
        let run = move || aigaq(&["revoke", "--data", &data, unknown]);
        async move {
            let (status, out, err) = tokio::task::spawn_blocking(run).await.unwrap();
            assert!(!status.success() && out.is_empty() && err.contains("never enrolled"), "{out}{err}");
        }
    };
    let site = Site::open(Clock::system()).await;
    let data = site.path("data");
    let identity = support::Identity::enrol(&site.data(), &site.home.path().join("device"));
    refused(data.clone()).await;
    let home = site.close_and_keep().await;
    refused(data.clone()).await;
    assert_eq!(std::fs::read_dir(home.path().join("data/revoked")).unwrap().count(), 0, "no word is left");
    let id = identity.id.to_string();
    let known = tokio::task::spawn_blocking(move || aigaq(&["revoke", "--data", &data, &id]));
    assert!(known.await.unwrap().0.success(), "what was enrolled is revoked without a server, too");
    drop(home);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_resumes_a_session_not_even_with_what_a_ticket_would_need() {
    let site = Site::open(Clock::system()).await;
    let identity = support::Identity::enrol(&site.data(), &site.home.path().join("device"));
    // The client of the rig keeps tickets and would resume: rustls does so unless it is told otherwise.
    let (endpoint, config) = (endpoint(), client_config(&identity));
    for _ in 0..2 {
        let connecting = endpoint.connect_with(config.clone(), site.address, enrol::SERVER_NAME).unwrap();
        let connecting = connecting.into_0rtt().err().expect("there is nothing to send early data with");
        let connection = connecting.await.unwrap();
        connection.open_bi().await.unwrap();
        connection.close(0_u32.into(), b"");
    }
    assert_eq!(revoke(&site, identity.id, "{\"reason\":\"stolen\"}").await.status(), 200);
    let connecting = endpoint.connect_with(config, site.address, enrol::SERVER_NAME).unwrap();
    let connecting = connecting.into_0rtt().err().expect("there is nothing to send early data with");
    if let Ok(connection) = connecting.await {
        let closed = tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap().to_string();
        assert!(closed.contains("Revoked"), "{closed}");
    }
    site.close().await;
}

#[test]
fn the_command_line_makes_codes_and_a_device_of_its_own_program_uses_them() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (data, clip) = (path("data"), path("clip.mp4"));
    std::fs::write(&clip, recorder::CLIP).unwrap();
    let make = ["enrol", "--data", &data, "--kind", "officer", "--department", "Astana", "--label", "4711", "--code"];
    let (status, code, error) = aigaq(&make);
    assert!(status.success(), "{error}");
    let server = support::process::ServerProcess::start(&home.path().join("data")).unwrap();
    let at = server.enrolment.to_string();
    let record = ["record", "--identity", &path("device"), "--enrol", code.trim(), "--server", &at, "--fast", &clip];
    for _ in 0..2 {
        let (status, out, error) = aigaq(&record);
        assert!(status.success(), "{out}{error}");
        assert!(out.contains(" 0 links lost"), "{out}");
    }
    let (status, _, error) =
        aigaq(&["record", "--identity", &path("other"), "--enrol", code.trim(), "--server", &at, &clip]);
    assert!(!status.success() && error.contains("was used"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_renewal_with_a_new_key_links_signed_with_the_old_one_are_taken() {
    let begin = Clock::system().now();
    let site = Site::open(Clock::fixed(begin)).await;
    let mut identity = support::Identity::enrol(&site.data(), &site.home.path().join("device"));
    let endpoint = endpoint();
    let session = Session::open(&endpoint, site.address, &identity).await.unwrap();
    site.clock.set(begin + 20 * DAY_US);
    let (new_key, request) = site.openssl_request("new", &["ED25519"]).await;
    let shown = ["--cert", &site.path("device/cert.pem"), "--key", &site.path("device/key.pem")];
    let (status, answer) = site.post("/.well-known/est/simplereenroll", &request, &shown).await;
    assert_eq!(status, "200", "{answer}");
    let new_certificate = site.certificate("new", &answer).await;
    let early = PrivateKeyDer::from_pem_file(&new_key).unwrap();
    let early = aigaq_proto::signature::SigningKey::from_pkcs8(early.secret_der()).unwrap();
    let mut chain = support::chain::Chain::new(identity.id, begin);
    session.send(&chain.mark(&early, "renewed")).await.unwrap().receipt();

    site.clock.set(begin + 30 * DAY_US + DAY_US / 2);
    let closed = tokio::time::timeout(PATIENCE, session.connection.closed()).await.unwrap();
    let quinn::ConnectionError::ApplicationClosed(closed) = closed else { panic!("{closed}") };
    let draining = aigaq_proto::close::Code::Draining.value();
    assert_eq!(closed.error_code, draining.into(), "its certificate ended, and there is a newer one");
    assert!(Session::open(&endpoint, site.address, &identity).await.is_err(), "the old one opens nothing");

    std::fs::copy(new_certificate, site.path("device/cert.pem")).unwrap();
    let old_key = std::fs::read(site.path("device/key.pem")).unwrap();
    std::fs::copy(new_key, site.path("device/key.pem")).unwrap();
    identity = support::Identity::load(&site.home.path().join("device"));
    std::fs::write(site.path("device/key.pem"), old_key).unwrap();
    let old = std::fs::read(site.path("device/key.pem")).unwrap();
    let old = PrivateKeyDer::from_pem_slice(&old).unwrap();
    let old = aigaq_proto::signature::SigningKey::from_pkcs8(old.secret_der()).unwrap();
    let session = Session::open(&endpoint, site.address, &identity).await.unwrap();
    session.send(&chain.start(&old)).await.unwrap().receipt();
    session.send(&chain.media(&identity.signing, bytes::Bytes::from_static(b"footage"))).await.unwrap().receipt();
    let stranger = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let stranger = aigaq_proto::signature::SigningKey::from_pkcs8(stranger.as_ref()).unwrap();
    let forged = session.send(&chain.mark(&stranger, "bribe-attempt")).await.unwrap();
    assert!(matches!(forged, support::session::Answer::Refusal(_)), "{forged:?}");
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intermediate_of_an_existing_ca_issues_and_devices_trust_its_root() {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        params
    };
    let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root = authority("Police Root").self_signed(&root_key).unwrap();
    let issuing =
        authority("Police Recorders").signed_by(&key, &Issuer::new(authority("Police Root"), root_key)).unwrap();
    let site = Site::with(Clock::system(), |config, dir| {
        let (certificate, private) = (dir.join("issuer.pem"), dir.join("issuer.key"));
        std::fs::write(&certificate, issuing.pem() + &root.pem()).unwrap();
        std::fs::write(&private, key.serialize_pem()).unwrap();
        config.enrol.issuer = Some(aigaq::config::Tls { certificate, key: private });
    })
    .await;
    let (data, toml) = (site.path("data"), site.path("enrol.toml"));
    let text = format!(
        "[enrol]\nissuer_certificate = \"{}\"\nissuer_key = \"{}\"\n",
        site.path("issuer.pem"),
        site.path("issuer.key")
    );
    std::fs::write(&toml, text).unwrap();
    let make = ["enrol", "--data", &data, "--kind", "officer", "--department", "Astana", "--code"];
    let make = |more: &[&str]| {
        let arguments: Vec<String> = make.iter().chain(more).map(|argument| (*argument).to_owned()).collect();
        tokio::task::spawn_blocking(move || aigaq(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    let (status, _, error) = make(&[]).await.unwrap();
    assert!(!status.success() && error.contains("--config"), "a code that names another CA is not made: {error}");
    let (status, code, error) = make(&["--config", &toml]).await.unwrap();
    assert!(status.success(), "{error}");
    let dir = site.home.path().join("device");
    recorder::enrol(&dir, code.trim(), &site.address.to_string(), &site.clock, &silent).await.unwrap();
    assert_eq!(std::fs::read_to_string(dir.join("ca.pem")).unwrap(), aigaq::est::to_pem(root.der()));
    let (root, chain) = (site.path("device/ca.pem"), site.path("issuer.pem"));
    let leaf = site.path("device/cert.pem");
    run("openssl", &["verify", "-x509_strict", "-CAfile", &root, "-untrusted", &chain, &leaf]).await;
    let report = record(&site, &dir, &site.clock).await.0.unwrap();
    assert_eq!(report.receipts, report.links);
    site.close().await;
}
