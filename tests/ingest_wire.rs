//! What ingest does with everything that a peer may send: over real QUIC, byte by byte, against a server put together from a
//! store in memory, the writer and ingest alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aigaq::enrol::{Authority, Registry, SERVER_NAME, Trust};
use aigaq::fleet::Fleet;
use aigaq::ingest::{self, Gateway, Settings};
use aigaq::store::Store;
use aigaq::{Clock, commit, log};
use aigaq_proto::close::Code;
use aigaq_proto::frame::{ALPN, Control, encode_link_prelude};
use aigaq_proto::link::digest;
use aigaq_proto::message::{
    Advice, ChainEnd, Claim, Hello, Receipt, Refusal, RefusalReason, SpoolSummary, Status, Welcome,
};
use aigaq_proto::{Digest, LinkHeader, RecorderId, SequenceRange, receipt, wire};
use bytes::Bytes;
use quinn::{ConnectionError, VarInt};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::Identity;
use support::chain::{Chain, Link, sign};
use support::session::{client_config, client_config_of, endpoint, next_control};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest that anything here may take; only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(86_400);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// A server without its HTTP side.
struct Rig {
    dir: Arc<TempDir>,
    store: Store,
    metrics: prometheus::Registry,
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<aigaq::Result<()>>,
    client: quinn::Endpoint,
    clock: Clock,
    _writer: commit::WriterHandle,
}

fn quick() -> Settings {
    Settings {
        stall_timeout: Duration::from_millis(300),
        hello_timeout: Duration::from_millis(500),
        sweep_interval: Duration::from_millis(20),
        reconnect_delay_min: Duration::from_millis(100),
        reconnect_delay_max: Duration::from_millis(700),
        payload_bytes_max: 1 << 20,
        memory_bytes_max: 8 << 20,
        ..Settings::default()
    }
}

impl Rig {
    async fn start() -> Self {
        Self::with(quick(), Clock::system()).await
    }

    async fn with(settings: Settings, clock: Clock) -> Self {
        Self::over(Arc::new(tempfile::tempdir().unwrap()), Store::memory(), settings, clock).await
    }

    /// The same server after it has lost everything but its keys and who is enrolled.
    async fn bereft(&self) -> Self {
        let store = Store::memory();
        for record in self.store.recorders() {
            store.enrol(&record.unwrap()).unwrap();
        }
        Self::over(Arc::clone(&self.dir), store, quick(), self.clock.clone()).await
    }

    async fn over(dir: Arc<TempDir>, store: Store, settings: Settings, clock: Clock) -> Self {
        let metrics = prometheus::Registry::new();
        let authority = Authority::load_or_create(dir.path(), &clock).unwrap();
        let log_identity = log::Identity::load_or_create(dir.path()).unwrap();
        let log = log::Log::open(store.clone(), log_identity, None).unwrap();
        let reader = log.reader();
        let commit_metrics = commit::Metrics::register(&metrics).unwrap();
        let (queue, writer) =
            commit::start(store.clone(), log, commit::Settings::default(), clock.clone(), commit_metrics).unwrap();
        let gateway = Gateway {
            store: store.clone(),
            log: reader,
            fleet: Fleet::open(store.clone(), clock.clone()).unwrap(),
            queue,
            registry: Arc::new(Registry::open(store.clone(), dir.path(), clock.clone()).unwrap()),
            trust: Arc::new(Trust::own(&authority).unwrap()),
            clock: clock.clone(),
            settings,
            metrics: ingest::Metrics::register(&metrics).unwrap(),
        };
        let identity = authority.server_identity(dir.path(), &[], &clock).unwrap();
        let certificate = aigaq::http::Certificate::new(identity.chain, identity.key).unwrap();
        let server = ingest::bind("127.0.0.1:0".parse().unwrap(), certificate, &gateway, dir.path()).unwrap();
        let address = server.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(ingest::run(server, gateway, shutdown.clone()));
        Self { dir, store, metrics, address, shutdown, serving, client: endpoint(), clock, _writer: writer }
    }

    fn enrol(&self, name: &str) -> Identity {
        Identity::enrol(self.dir.path(), &self.dir.path().join(name))
    }

    async fn connect(&self, identity: &Identity) -> Recorder {
        let hello = self.connection(client_config(identity)).await.unwrap();
        Recorder::greet(hello, identity, None).await
    }

    async fn connection(&self, config: quinn::ClientConfig) -> Result<quinn::Connection, ConnectionError> {
        soon("a handshake", self.client.connect_with(config, self.address, SERVER_NAME).unwrap()).await
    }

    /// Fails unless no session comes about; returns how the server ended it.
    async fn rejected(&self, config: quinn::ClientConfig) -> ConnectionError {
        match self.connection(config).await {
            Err(error) => error,
            // With TLS 1.3 the client may see its side succeed first.
            Ok(connection) => soon("the connection to be closed", connection.closed()).await,
        }
    }

    fn metric(&self, name: &str, label: Option<&str>) -> f64 {
        let families = self.metrics.gather();
        let samples = families.iter().filter(|family| family.name() == name).flat_map(|family| family.get_metric());
        samples
            .filter(|sample| label.is_none_or(|label| sample.get_label().iter().any(|pair| pair.value() == label)))
            .map(|sample| sample.get_counter().get_value() + sample.get_gauge().get_value())
            .sum()
    }

    /// Waits until a counter or gauge has a value.
    async fn until(&self, name: &str, label: impl Into<Option<&str>>, value: f64) {
        let label = label.into();
        soon(&format!("{name} {label:?} = {value}"), async {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            while (self.metric(name, label) - value).abs() > 0.1 {
                tick.tick().await;
            }
        })
        .await;
    }

    fn authority(&self) -> Issuer<'static, KeyPair> {
        let ca = |name: &str| std::fs::read_to_string(self.dir.path().join("ca").join(name)).unwrap();
        Issuer::from_ca_cert_pem(&ca("ca.pem"), KeyPair::from_pem(&ca("ca.key")).unwrap()).unwrap()
    }
}

/// A recorder's side of a connection.
struct Recorder {
    connection: quinn::Connection,
    control: quinn::SendStream,
    answers: quinn::RecvStream,
    buffer: Vec<u8>,
    welcome: Welcome,
    log: receipt::LogKey,
}

impl Recorder {
    async fn greet(connection: quinn::Connection, identity: &Identity, last_receipt: Option<Receipt>) -> Self {
        Self::greet_holding(connection, identity, last_receipt, Vec::new()).await
    }

    async fn greet_holding(
        connection: quinn::Connection,
        identity: &Identity,
        last_receipt: Option<Receipt>,
        waiting: Vec<SequenceRange>,
    ) -> Self {
        let (mut control, mut answers) = connection.open_bi().await.unwrap();
        let hello = Hello {
            software: "wire test".to_owned(),
            clock: Clock::system().now(),
            spool: SpoolSummary { waiting, ..SpoolSummary::default() },
            last_receipt,
        };
        control.write_all(&Control::Hello(hello).encode().unwrap()).await.unwrap();
        let mut buffer = Vec::new();
        let Some(Control::Welcome(welcome)) = soon("Welcome", next_control(&mut answers, &mut buffer)).await.unwrap()
        else {
            panic!("the first message is not Welcome");
        };
        Self { connection, control, answers, buffer, welcome, log: identity.log.clone() }
    }

    async fn next(&mut self) -> Control {
        soon("a message", next_control(&mut self.answers, &mut self.buffer)).await.unwrap().expect("the stream goes on")
    }

    /// Opens a stream, writes `bytes` and ends it.
    async fn stream(&self, bytes: &[u8]) -> u64 {
        let mut stream = self.connection.open_uni().await.unwrap();
        // A stream may be stopped while it is written.
        let _ = stream.write_all(bytes).await;
        let _ = stream.finish();
        u64::from(VarInt::from(stream.id()))
    }

    /// Sends bytes as a link stream; the refusal that they get.
    async fn refused(&mut self, bytes: &[u8]) -> Refusal {
        let stream = self.stream(bytes).await;
        let Control::Refusal(refusal) = self.next().await else { panic!("taken") };
        assert_eq!(refusal.stream, stream);
        refusal
    }

    async fn accepted(&mut self, link: &Link) -> Receipt {
        self.stream(&bytes(link)).await;
        let receipt = match self.next().await {
            Control::Receipt(receipt) => receipt,
            other => panic!("no receipt: {other:?}"),
        };
        receipt::verify(&receipt, &link.digest, &self.log).unwrap();
        receipt
    }

    /// The code and text with which the server closed the connection.
    async fn closed(&self) -> (Option<Code>, String) {
        match soon("the end of the connection", self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => {
                (Code::from_value(close.error_code.into_inner()), String::from_utf8_lossy(&close.reason).into_owned())
            }
            other => panic!("{other}"),
        }
    }
}

fn bytes(link: &Link) -> Vec<u8> {
    let mut bytes = encode_link_prelude(&link.header_bytes, &link.signature).unwrap();
    bytes.extend_from_slice(&link.payload);
    bytes
}

fn chain(identity: &Identity) -> Chain {
    Chain::new(identity.id, Clock::system().now())
}

fn footage(length: usize) -> Bytes {
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect::<Vec<_>>().into()
}

/// A certificate of the rig's CA as it should be, for the test to spoil.
fn params(clock: &Clock) -> CertificateParams {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_micros(clock.now());
    let mut params = CertificateParams::default();
    params.not_before = now - DAY;
    params.not_after = now + DAY;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn ca(dir: &Path) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_file(dir.join("ca/ca.pem")).unwrap()
}

/// Connects with the certificate that `issuer` makes of `params` for `key`, and says with which counter it was refused.
async fn refused_certificate(
    rig: &Rig,
    issuer: &Issuer<'_, KeyPair>,
    params: CertificateParams,
    key: &KeyPair,
    reason: &str,
) {
    let leaf = params.signed_by(key, issuer).unwrap();
    let pkcs8 = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = client_config_of(vec![leaf.into()], pkcs8, &ca(rig.dir.path()), &[ALPN]);
    let error = rig.rejected(config).await;
    assert_eq!(alert(&error), Some(alert_of(reason)), "{error}");
    rig.until("aigaq_handshakes_total", reason, 1.0).await;
    assert!(rig.metric("aigaq_handshakes_total", Some("ok")) < 0.1, "no session came about");
}

/// The TLS alert with which the server ended a handshake.
fn alert(error: &ConnectionError) -> Option<u64> {
    match error {
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code).checked_sub(0x100),
        _ => None,
    }
}

/// The alert that SPEC.md section 8 promises for a refusal of this name.
fn alert_of(reason: &str) -> u64 {
    match reason {
        "wrong_issuer" => 48,
        "expired" | "not_yet_valid" => 45,
        "wrong_usage" => 43,
        "ca_as_leaf" => 49,
        "not_enrolled" => 44,
        "no_certificate" => 116,
        other => panic!("no alert for {other}"),
    }
}

/// The key of an enrolled recorder.
fn enrolled_key(identity: &Identity) -> KeyPair {
    KeyPair::from_pem(&std::fs::read_to_string(identity.dir.join("key.pem")).unwrap()).unwrap()
}

#[tokio::test]
async fn without_a_certificate_there_is_no_connection() {
    let rig = Rig::start().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca(rig.dir.path())).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let error = rig.rejected(quinn::ClientConfig::new(Arc::new(tls))).await;
    assert_eq!(alert(&error), Some(alert_of("no_certificate")), "{error}");
    rig.until("aigaq_handshakes_total", "no_certificate", 1.0).await;
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let rig = Rig::start().await;
    let key = enrolled_key(&rig.enrol("a"));
    let mut own = params(&rig.clock);
    own.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let stranger = Issuer::new(own, KeyPair::generate().unwrap());
    refused_certificate(&rig, &stranger, params(&rig.clock), &key, "wrong_issuer").await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let rig = Rig::start().await;
    let key = enrolled_key(&rig.enrol("a"));
    let mut expired = params(&rig.clock);
    expired.not_before -= DAY;
    expired.not_after = expired.not_after - DAY - Duration::from_secs(60);
    refused_certificate(&rig, &rig.authority(), expired, &key, "expired").await;
}

#[tokio::test]
async fn a_certificate_of_tomorrow_is_refused() {
    let rig = Rig::start().await;
    let key = enrolled_key(&rig.enrol("a"));
    let mut early = params(&rig.clock);
    early.not_before = early.not_before + DAY + DAY;
    early.not_after = early.not_after + DAY + DAY;
    refused_certificate(&rig, &rig.authority(), early, &key, "not_yet_valid").await;
}

#[tokio::test]
async fn a_certificate_for_servers_is_refused() {
    let rig = Rig::start().await;
    let key = enrolled_key(&rig.enrol("a"));
    let mut server = params(&rig.clock);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    refused_certificate(&rig, &rig.authority(), server, &key, "wrong_usage").await;
}

#[tokio::test]
async fn a_certificate_that_names_no_usage_is_refused() {
    let rig = Rig::start().await;
    let key = enrolled_key(&rig.enrol("a"));
    let mut any = params(&rig.clock);
    any.extended_key_usages = Vec::new();
    refused_certificate(&rig, &rig.authority(), any, &key, "wrong_usage").await;
}

#[tokio::test]
async fn a_ca_does_not_pass_for_a_recorder() {
    let rig = Rig::start().await;
    let key = enrolled_key(&rig.enrol("a"));
    let mut authority = params(&rig.clock);
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    refused_certificate(&rig, &rig.authority(), authority, &key, "ca_as_leaf").await;
}

#[tokio::test]
async fn a_key_that_is_not_enrolled_is_refused() {
    let rig = Rig::start().await;
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    refused_certificate(&rig, &rig.authority(), params(&rig.clock), &key, "not_enrolled").await;
}

#[tokio::test]
async fn a_client_with_an_rsa_key_finds_no_scheme_to_sign_with() {
    let rig = Rig::start().await;
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    refused_certificate(&rig, &rig.authority(), params(&rig.clock), &key, "no_certificate").await;
}

#[tokio::test]
async fn another_protocol_gets_a_readable_reason() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let config = client_config_of(identity.certificate.clone(), identity.key.clone_key(), &identity.ca, &[b"aigaq/9"]);
    let error = rig.rejected(config).await;
    assert_eq!(alert(&error), Some(120), "{error}");
    rig.until("aigaq_handshakes_total", "alpn", 1.0).await;
}

#[tokio::test]
async fn an_address_is_proven_by_retry_before_anything_is_kept() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let recorder = rig.connect(&identity).await;
    assert!(rig.metric("aigaq_retries_total", None) > 0.5);
    assert_eq!(recorder.welcome.recorder, identity.id);
    rig.until("aigaq_connections", "officer", 1.0).await;
    recorder.connection.close(VarInt::from_u32(Code::Done.value()), b"");
    rig.until("aigaq_connections", "officer", 0.0).await;
}

/// Counts what a server gives to resume with.
#[derive(Debug, Default)]
struct Tickets(AtomicUsize);

impl rustls::client::ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: rustls::pki_types::ServerName<'static>, _: rustls::NamedGroup) {}
    fn kx_hint(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: rustls::pki_types::ServerName<'static>, _: rustls::client::Tls12ClientSessionValue) {
    }
    fn tls12_session(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &rustls::pki_types::ServerName<'static>) {}
    fn insert_tls13_ticket(
        &self,
        _: rustls::pki_types::ServerName<'static>,
        _: rustls::client::Tls13ClientSessionValue,
    ) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn take_tls13_ticket(
        &self,
        _: &rustls::pki_types::ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        None
    }
}

#[tokio::test]
async fn nothing_is_given_to_resume_a_session_with() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let tickets = Arc::new(Tickets::default());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.ca.clone()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.certificate.clone(), identity.key.clone_key())
        .unwrap();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::store(Arc::clone(&tickets) as _);
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let connection = rig.connection(quinn::ClientConfig::new(Arc::new(tls))).await.unwrap();
    let mut recorder = Recorder::greet(connection, &identity, None).await;
    recorder.accepted(&chain(&identity).start(&identity.signing)).await;
    assert_eq!(tickets.0.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_link_gets_a_receipt_and_the_same_one_again() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    assert_eq!(recorder.welcome.newest, None);
    let mut chain = chain(&identity);
    let start = chain.start(&identity.signing);
    let media = chain.media(&identity.signing, footage(700_000));
    recorder.accepted(&start).await;
    let first = recorder.accepted(&media).await;
    assert_eq!(recorder.accepted(&media).await, first);
    let record = rig.store.link(identity.id, 1).unwrap().unwrap();
    assert_eq!(rig.store.body(&record).unwrap(), media.payload);
    assert!(record.clock.unwrap().offset_us.unsigned_abs() < 5_000_000);

    let again = rig.connect(&identity).await;
    assert_eq!(again.welcome.newest.unwrap().digest, media.digest);
    assert_eq!(again.welcome.durable.len(), 1);
}

/// Each bad link costs only itself: after it, on the same connection, the next good link gets its receipt.
async fn costs_only_itself(spoil: impl Fn(&Identity, &mut Chain) -> (Vec<u8>, RefusalReason, Option<u64>, usize)) {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let mut chain = chain(&identity);
    recorder.accepted(&chain.start(&identity.signing)).await;
    let before = chain.clone();
    let (bytes, reason, sequence, quarantined) = spoil(&identity, &mut chain);
    let refusal = recorder.refused(&bytes).await;
    assert_eq!((refusal.reason, refusal.sequence), (reason, sequence), "{}", refusal.detail);
    assert!(!refusal.detail.is_empty());
    assert_eq!(rig.store.quarantine(identity.id).count(), quarantined, "what failed a check is kept");
    let mut chain = before;
    recorder.accepted(&chain.media(&identity.signing, footage(1_000))).await;
    assert!((rig.metric("aigaq_links_refused_total", None) - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_stream_of_an_unknown_kind_is_malformed() {
    costs_only_itself(|_, _| (vec![7, 0, 1, 2], RefusalReason::Malformed, None, 0)).await;
}

#[tokio::test]
async fn a_header_beyond_its_limit_is_malformed() {
    costs_only_itself(|_, _| (vec![1, 0xff, 0xff, 0], RefusalReason::Malformed, None, 0)).await;
}

#[tokio::test]
async fn a_header_that_does_not_decode_is_malformed() {
    costs_only_itself(|_, _| {
        let mut bytes = vec![1, 0, 40];
        bytes.extend_from_slice(&[0xff; 104]);
        (bytes, RefusalReason::Malformed, None, 0)
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_ends_within_its_signature_is_malformed_and_named() {
    costs_only_itself(|identity, chain| {
        let link = chain.media(&identity.signing, footage(100));
        let (sequence, bytes) = (link.header.sequence, bytes(&link));
        (bytes[..bytes.len() - 103].to_vec(), RefusalReason::Malformed, Some(sequence), 0)
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_ends_within_its_header_is_malformed() {
    costs_only_itself(|identity, chain| {
        let bytes = bytes(&chain.media(&identity.signing, footage(100)));
        (bytes[..50].to_vec(), RefusalReason::Malformed, None, 0)
    })
    .await;
}

#[tokio::test]
async fn the_link_of_another_recorder_is_refused() {
    costs_only_itself(|identity, chain| {
        let mut header = chain.media(&identity.signing, footage(100)).header;
        header.recorder = RecorderId([7; 16]);
        (bytes(&sign(&identity.signing, header, footage(100))), RefusalReason::WrongRecorder, Some(1), 0)
    })
    .await;
}

#[tokio::test]
async fn a_payload_larger_than_the_server_takes_is_refused_before_it_is_read() {
    costs_only_itself(|identity, chain| {
        let mut header = chain.media(&identity.signing, footage(100)).header;
        header.payload_length = (1 << 20) + 1;
        (bytes(&sign(&identity.signing, header, footage(100))), RefusalReason::PayloadTooLarge, Some(1), 0)
    })
    .await;
}

/// The stream of a link whose header breaks a rule.
fn unruly(identity: &Identity, header: &LinkHeader) -> Vec<u8> {
    let header_bytes = wire::encode(header, "link header").unwrap();
    let signature = identity.signing.sign(&digest(&header_bytes)).unwrap();
    encode_link_prelude(&header_bytes, &signature).unwrap()
}

#[tokio::test]
async fn a_payload_larger_than_any_server_takes_is_refused_by_its_sequence() {
    costs_only_itself(|identity, chain| {
        let mut header = chain.media(&identity.signing, footage(100)).header;
        header.payload_length = 33_554_433;
        (unruly(identity, &header), RefusalReason::PayloadTooLarge, Some(1), 0)
    })
    .await;
}

#[tokio::test]
async fn an_initialisation_segment_larger_than_its_limit_is_refused_by_its_sequence() {
    costs_only_itself(|identity, chain| {
        let mut header = chain.start(&identity.signing).header;
        header.payload_length = 1_048_577;
        (unruly(identity, &header), RefusalReason::PayloadTooLarge, Some(1), 0)
    })
    .await;
}

#[tokio::test]
async fn a_mark_with_a_duration_is_malformed_and_named() {
    costs_only_itself(|identity, chain| {
        let mut header = chain.mark(&identity.signing, "emergency").header;
        header.duration_us = 1;
        (unruly(identity, &header), RefusalReason::Malformed, Some(1), 0)
    })
    .await;
}

#[tokio::test]
async fn a_durable_link_that_comes_again_with_another_signature_is_quarantined_and_stays_durable() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let good = chain(&identity).start(&identity.signing);
    let receipt = recorder.accepted(&good).await;
    let mut bad = good.clone();
    bad.signature[3] ^= 1;
    let refusal = recorder.refused(&bytes(&bad)).await;
    assert_eq!((refusal.reason, refusal.advice), (RefusalReason::BadSignature, Advice::Never));
    assert_eq!(rig.store.quarantine(identity.id).count(), 1);
    assert_eq!(recorder.accepted(&good).await, receipt);
}

#[tokio::test]
async fn a_payload_that_ends_early_is_quarantined() {
    costs_only_itself(|identity, chain| {
        let bytes = bytes(&chain.media(&identity.signing, footage(5_000)));
        (bytes[..bytes.len() - 1].to_vec(), RefusalReason::LengthMismatch, Some(1), 1)
    })
    .await;
}

#[tokio::test]
async fn a_payload_that_goes_on_is_quarantined() {
    costs_only_itself(|identity, chain| {
        let mut bytes = bytes(&chain.media(&identity.signing, footage(5_000)));
        bytes.extend_from_slice(&[0; 300_000]);
        (bytes, RefusalReason::LengthMismatch, Some(1), 1)
    })
    .await;
}

#[tokio::test]
async fn a_payload_with_a_flipped_bit_is_quarantined() {
    costs_only_itself(|identity, chain| {
        let mut bytes = bytes(&chain.media(&identity.signing, footage(5_000)));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        (bytes, RefusalReason::DigestMismatch, Some(1), 1)
    })
    .await;
}

#[tokio::test]
async fn a_signature_by_another_key_is_quarantined() {
    costs_only_itself(|identity, chain| {
        let mut link = chain.media(&identity.signing, footage(5_000));
        link.signature[3] ^= 1;
        (bytes(&link), RefusalReason::BadSignature, Some(1), 1)
    })
    .await;
}

#[tokio::test]
async fn a_sequence_far_beyond_the_head_is_refused() {
    costs_only_itself(|identity, chain| {
        let mut header = chain.media(&identity.signing, footage(100)).header;
        header.sequence = 5_000_000;
        (bytes(&sign(&identity.signing, header, footage(100))), RefusalReason::TooFarAhead, Some(5_000_000), 0)
    })
    .await;
}

#[tokio::test]
async fn a_second_link_for_a_sequence_is_kept_as_a_fork() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let mut chain = chain(&identity);
    recorder.accepted(&chain.start(&identity.signing)).await;
    let mut other = chain.clone();
    recorder.accepted(&chain.media(&identity.signing, footage(100))).await;
    let refusal = recorder.refused(&bytes(&other.media(&identity.signing, footage(200)))).await;
    assert_eq!((refusal.reason, refusal.advice), (RefusalReason::Fork, Advice::Never));
    assert_eq!(rig.store.forks(identity.id).count(), 1);
    recorder.accepted(&chain.media(&identity.signing, footage(300))).await;
}

#[tokio::test]
async fn a_stalled_stream_is_refused_and_stopped_and_others_go_on() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let mut chain = chain(&identity);
    let start = chain.start(&identity.signing);
    let media = chain.media(&identity.signing, footage(400_000));
    let mut stream = recorder.connection.open_uni().await.unwrap();
    stream.write_all(&bytes(&media)[..1_000]).await.unwrap();
    recorder.accepted(&start).await;
    let Control::Refusal(refusal) = recorder.next().await else { panic!("taken") };
    assert_eq!((refusal.reason, refusal.sequence), (RefusalReason::Stalled, Some(1)));
    assert!(matches!(refusal.advice, Advice::RetryAfter { .. }));
    let code = soon("the stream to be stopped", stream.stopped()).await.unwrap();
    assert_eq!(code, Some(VarInt::from_u32(Code::Refused.value())));
    recorder.accepted(&media).await;
}

#[tokio::test]
async fn a_stream_that_moves_at_all_is_waited_for_while_there_is_room() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let mut chain = chain(&identity);
    recorder.accepted(&chain.start(&identity.signing)).await;
    let media = chain.media(&identity.signing, footage(400_000));
    let bytes = bytes(&media);
    let mut stream = recorder.connection.open_uni().await.unwrap();
    // Some bytes and then nothing for more than a window, several times over.
    let (slow, rest) = bytes.split_at(400);
    for some in slow.chunks(100) {
        stream.write_all(some).await.unwrap();
        tokio::time::sleep(quick().stall_timeout * 3 / 2).await;
    }
    stream.write_all(rest).await.unwrap();
    stream.finish().unwrap();
    let Control::Receipt(receipt) = recorder.next().await else { panic!("refused") };
    assert_eq!(receipt.sequence, media.header.sequence);
}

#[tokio::test]
async fn who_moves_slowly_gives_way_when_room_is_short() {
    let settings = Settings { memory_bytes_max: 5 << 20, payload_bytes_max: 1 << 20, ..quick() };
    let rig = Rig::with(settings, Clock::system()).await;
    let mut slow = Vec::new();
    for name in ["a", "b", "c"] {
        let identity = rig.enrol(name);
        let mut recorder = rig.connect(&identity).await;
        let mut chain = chain(&identity);
        recorder.accepted(&chain.start(&identity.signing)).await;
        let media = chain.media(&identity.signing, footage(1_000_000));
        let mut stream = recorder.connection.open_uni().await.unwrap();
        stream.write_all(&bytes(&media)[..1_000]).await.unwrap();
        slow.push((recorder, stream));
    }
    // They hold three of the less than four MiB that what is present may take, and bring no 64 KiB/s: the first gives way, and then there is
    // room for the others.
    let began = tokio::time::Instant::now();
    let Control::Refusal(refusal) = slow[0].0.next().await else { panic!("taken") };
    assert_eq!(refusal.reason, RefusalReason::Stalled);
    assert!(began.elapsed() < quick().stall_timeout * 3, "after a window and not after three");
}

#[tokio::test]
async fn streams_that_are_never_ended_are_reaped() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let mut chain = chain(&identity);
    let mut streams = Vec::new();
    for length in 0..8 {
        let mut stream = recorder.connection.open_uni().await.unwrap();
        stream.write_all(&[1, 0, 200, 0, 0, 0, 0, 0][..=length]).await.unwrap();
        streams.push(stream);
    }
    for _ in 0..8 {
        let Control::Refusal(refusal) = recorder.next().await else { panic!("taken") };
        assert_eq!(refusal.reason, RefusalReason::Stalled);
    }
    drop(streams);
    recorder.accepted(&chain.start(&identity.signing)).await;
}

#[tokio::test]
async fn a_stream_that_its_recorder_gives_up_is_forgotten() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let mut chain = chain(&identity);
    let start = chain.start(&identity.signing);
    let mut stream = recorder.connection.open_uni().await.unwrap();
    stream.write_all(&bytes(&start)[..100]).await.unwrap();
    stream.reset(VarInt::from_u32(0)).unwrap();
    recorder.accepted(&start).await;
    assert!(rig.metric("aigaq_links_refused_total", None) < 0.1);
}

#[tokio::test]
async fn who_holds_all_its_room_leaves_the_others_theirs() {
    let settings = Settings { stall_timeout: PATIENCE, memory_bytes_max: 4 << 20, ..quick() };
    let rig = Rig::with(settings, Clock::system()).await;
    let (greedy, modest) = (rig.enrol("greedy"), rig.enrol("modest"));
    let mut hoarder = rig.connect(&greedy).await;
    let mut hoard = chain(&greedy);
    hoard.start(&greedy.signing);
    let mut streams = Vec::new();
    for _ in 0..8 {
        let link = hoard.media_hashed(&greedy.signing, footage(1 << 20), Digest::ZERO);
        let mut stream = hoarder.connection.open_uni().await.unwrap();
        stream.write_all(&encode_link_prelude(&link.header_bytes, &link.signature).unwrap()).await.unwrap();
        streams.push(stream);
    }
    let mut recorder = rig.connect(&modest).await;
    let mut chain = chain(&modest);
    recorder.accepted(&chain.start(&modest.signing)).await;
    for _ in 0..3 {
        recorder.accepted(&chain.media(&modest.signing, footage(1 << 20))).await;
    }
    for mut stream in streams {
        stream.reset(VarInt::from_u32(0)).unwrap();
    }
    let mark = hoard.mark(&greedy.signing, "emergency");
    hoarder.accepted(&mark).await;
}

#[tokio::test]
async fn a_link_that_finds_no_room_in_time_is_to_come_back() {
    let settings = Settings { stall_timeout: PATIENCE, room_timeout: Duration::from_millis(100), ..quick() };
    let rig = Rig::with(settings, Clock::system()).await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let mut chain = chain(&identity);
    let first = chain.start(&identity.signing);
    recorder.accepted(&first).await;
    let large = chain.media(&identity.signing, footage(1 << 20));
    let mut stream = recorder.connection.open_uni().await.unwrap();
    stream.write_all(&bytes(&large)[..10_000]).await.unwrap();
    let second = chain.media(&identity.signing, footage(1 << 20));
    let refusal = recorder.refused(&bytes(&second)).await;
    assert_eq!(refusal.reason, RefusalReason::Busy);
    assert!(matches!(refusal.advice, Advice::RetryAfter { .. }));
    stream.write_all(&bytes(&large)[10_000..]).await.unwrap();
    stream.finish().unwrap();
    assert!(matches!(recorder.next().await, Control::Receipt(receipt) if receipt.digest == large.digest));
}

#[tokio::test]
async fn who_says_nothing_is_closed() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let connection = rig.connection(client_config(&identity)).await.unwrap();
    let error = soon("the end", connection.closed()).await;
    assert!(error.to_string().contains("no Hello in time"), "{error}");
}

#[tokio::test]
async fn a_frame_of_the_wrong_side_ends_the_connection() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let status = Status { clock: 1, spool: SpoolSummary::default() };
    recorder.control.write_all(&Control::Status(status).encode().unwrap()).await.unwrap();
    recorder.control.write_all(&[0x90, 0, 0, 0, 2, 1, 2]).await.unwrap();
    recorder.accepted(&chain(&identity).start(&identity.signing)).await;
    recorder.control.write_all(&[0x15, 0, 0, 0, 1, 0]).await.unwrap();
    assert_eq!(recorder.closed().await.0, Some(Code::Protocol));
}

#[tokio::test]
async fn an_endless_control_frame_ends_the_connection() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    recorder.control.write_all(&[0x02, 0xff, 0xff, 0xff, 0xff]).await.unwrap();
    assert_eq!(recorder.closed().await.0, Some(Code::Protocol));
}

#[tokio::test]
async fn the_newest_connections_of_a_recorder_stay() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let first = rig.connect(&identity).await;
    let mut second = rig.connect(&identity).await;
    let _third = rig.connect(&identity).await;
    assert_eq!(first.closed().await.0, Some(Code::Replaced));
    second.accepted(&chain(&identity).start(&identity.signing)).await;
}

#[tokio::test]
async fn a_promise_that_was_not_kept_is_an_alarm_and_a_tale_is_none() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let link = chain(&identity).start(&identity.signing);
    let given = rig.connect(&identity).await.accepted(&link).await;
    let show = async |rig: &Rig, shown: &Receipt| {
        let connection = rig.connection(client_config(&identity)).await.unwrap();
        Recorder::greet(connection, &identity, Some(shown.clone())).await
    };
    show(&rig, &given).await;
    assert!(rig.metric("aigaq_receipts_missing_total", None) < 0.1, "kept");

    let bereft = rig.bereft().await;
    show(&bereft, &Receipt { digest: Digest([7; 32]), ..given.clone() }).await;
    assert!(bereft.metric("aigaq_receipts_missing_total", None) < 0.1, "a receipt that nobody gave");
    let mut recorder = show(&bereft, &given).await;
    assert!((bereft.metric("aigaq_receipts_missing_total", None) - 1.0).abs() < 0.1, "lost");
    // Under the same key this log would sign a second history: it signs nothing more.
    let answered = tokio::time::timeout(Duration::from_millis(500), recorder.accepted(&link)).await;
    assert!(answered.is_err(), "a receipt that contradicts an earlier one");
    show(&bereft, &given).await;
    assert!((bereft.metric("aigaq_receipts_missing_total", None) - 1.0).abs() < 0.1, "the same receipt again");
}

#[tokio::test]
async fn the_receipt_of_another_link_or_recorder_is_no_alarm() {
    let rig = Rig::start().await;
    let (one, other) = (rig.enrol("one"), rig.enrol("other"));
    let given = rig.connect(&one).await.accepted(&chain(&one).start(&one.signing)).await;
    for (identity, sequence) in [(&one, 1), (&other, 0)] {
        let connection = rig.connection(client_config(identity)).await.unwrap();
        Recorder::greet(connection, identity, Some(Receipt { sequence, ..given.clone() })).await;
    }
    assert!((rig.metric("aigaq_receipts_unproven_total", None) - 2.0).abs() < 0.1);
    assert!(rig.metric("aigaq_receipts_missing_total", None) < 0.1);
}

#[tokio::test]
async fn a_connection_that_dies_with_streams_unread_ends_its_session_and_nothing_else() {
    let (panics, others) = (Arc::new(AtomicUsize::new(0)), std::panic::take_hook());
    let counted = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(|text| text.contains("resumed after completion")) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        others(panic);
    }));
    let rig = Rig::with(Settings { links_in_flight_max: 1, ..quick() }, Clock::system()).await;
    let recorder = rig.connect(&rig.enrol("a")).await;
    let mut held = recorder.connection.open_uni().await.unwrap();
    held.write_all(b"x").await.unwrap();
    for _ in 0..3 {
        let mut unread = recorder.connection.open_uni().await.unwrap();
        unread.write_all(b"x").await.unwrap();
        unread.finish().unwrap();
        soon("the stream to arrive", unread.stopped()).await.unwrap();
    }
    recorder.connection.close(VarInt::from_u32(0), b"");
    rig.until("aigaq_connections", None, 0.0).await;
    assert_eq!(panics.load(Ordering::Relaxed), 0, "a future was polled after its end");
}

#[tokio::test]
async fn who_stops_the_answers_loses_the_connection() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    recorder.answers.stop(VarInt::from_u32(0)).unwrap();
    let (code, text) = recorder.closed().await;
    assert_eq!(code, Some(Code::Protocol), "{text}");
}

#[tokio::test]
async fn there_is_one_control_stream() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    recorder.accepted(&chain(&identity).start(&identity.signing)).await;
    let connection = recorder.connection.clone();
    let mut second = std::pin::pin!(connection.open_bi());
    tokio::select! {
        biased;
        opened = &mut second => panic!("a second one was opened: {:?}", opened.is_ok()),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn frames_that_may_be_skipped_are_skipped_before_the_hello_and_no_larger_than_others() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let connection = rig.connection(client_config(&identity)).await.unwrap();
    let (mut control, mut answers) = connection.open_bi().await.unwrap();
    control.write_all(&[0x80, 0, 0, 0, 2, 1, 2]).await.unwrap();
    let hello = Hello { software: String::new(), clock: 0, spool: SpoolSummary::default(), last_receipt: None };
    control.write_all(&Control::Hello(hello).encode().unwrap()).await.unwrap();
    let first = soon("Welcome", next_control(&mut answers, &mut Vec::new())).await.unwrap();
    assert!(matches!(first, Some(Control::Welcome(_))), "{first:?}");
    control.write_all(&[0x80, 0, 1, 0, 1]).await.unwrap();
    let error = soon("the end", connection.closed()).await;
    assert!(error.to_string().contains("malformed message"), "{error}");
}

#[tokio::test]
async fn links_that_come_before_the_hello_wait_for_it() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let connection = rig.connection(client_config(&identity)).await.unwrap();
    let start = chain(&identity).start(&identity.signing);
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&bytes(&start)).await.unwrap();
    stream.finish().unwrap();
    let mut recorder = Recorder::greet(connection, &identity, None).await;
    assert!(matches!(recorder.next().await, Control::Receipt(receipt) if receipt.digest == start.digest));
}

#[tokio::test]
async fn more_links_than_may_be_under_way_wait_for_an_answer() {
    let settings = Settings { links_in_flight_max: 1, stall_timeout: PATIENCE, ..quick() };
    let rig = Rig::with(settings, Clock::system()).await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let mut chain = chain(&identity);
    let (first, second) = (chain.start(&identity.signing), chain.mark(&identity.signing, "emergency"));
    let mut stream = recorder.connection.open_uni().await.unwrap();
    stream.write_all(&bytes(&first)[..100]).await.unwrap();
    recorder.stream(&bytes(&second)).await;
    stream.write_all(&bytes(&first)[100..]).await.unwrap();
    stream.finish().unwrap();
    for link in [first, second] {
        assert!(matches!(recorder.next().await, Control::Receipt(receipt) if receipt.digest == link.digest));
    }
}

#[tokio::test]
async fn a_server_that_drains_refuses_new_connections_at_once() {
    let rig = Rig::with(Settings { stall_timeout: PATIENCE, ..quick() }, Clock::system()).await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let mut chain = chain(&identity);
    recorder.accepted(&chain.start(&identity.signing)).await;
    let media = chain.media(&identity.signing, footage(50_000));
    let mut stream = recorder.connection.open_uni().await.unwrap();
    stream.write_all(&bytes(&media)[..10_000]).await.unwrap();
    rig.until("aigaq_ingest_memory_bytes", None, 54_096.0).await;
    rig.shutdown.cancel();
    let Control::Drain(_) = recorder.next().await else { panic!("no Drain") };
    match rig.connection(client_config(&identity)).await {
        Err(ConnectionError::ConnectionClosed(close)) => {
            assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
        }
        other => panic!("not refused: {:?}", other.map(|_| ())),
    }
    rig.until("aigaq_handshakes_total", "draining", 1.0).await;
}

#[tokio::test]
async fn a_session_ends_with_its_certificate() {
    let clock = Clock::fixed(Clock::system().now());
    let rig = Rig::with(quick(), clock.clone()).await;
    let identity = rig.enrol("a");
    let recorder = rig.connect(&identity).await;
    clock.set(clock.now() + 400 * 86_400_000_000);
    assert_eq!(recorder.closed().await.0, Some(Code::Identity));
    rig.rejected(client_config(&identity)).await;
    rig.until("aigaq_handshakes_total", "expired", 1.0).await;
}

#[tokio::test]
async fn a_stop_lets_links_under_way_finish() {
    let rig = Rig::with(Settings { stall_timeout: PATIENCE, ..quick() }, Clock::system()).await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let mut chain = chain(&identity);
    recorder.accepted(&chain.start(&identity.signing)).await;
    let media = chain.media(&identity.signing, footage(50_000));
    let mut stream = recorder.connection.open_uni().await.unwrap();
    stream.write_all(&bytes(&media)[..10_000]).await.unwrap();
    rig.until("aigaq_ingest_memory_bytes", None, 54_096.0).await;
    rig.shutdown.cancel();
    let Control::Drain(drain) = recorder.next().await else { panic!("no Drain") };
    assert!((100..=700).contains(&drain.reconnect_after_ms), "{}", drain.reconnect_after_ms);
    stream.write_all(&bytes(&media)[10_000..]).await.unwrap();
    stream.finish().unwrap();
    assert!(matches!(recorder.next().await, Control::Receipt(receipt) if receipt.digest == media.digest));
    drop(recorder.control.finish());
    assert_eq!(recorder.closed().await.0, Some(Code::Draining));
    soon("the end of the server", rig.serving).await.unwrap().unwrap();
}

impl Recorder {
    /// Claims links without waiting for the answers.
    async fn claim(&mut self, links: Vec<ChainEnd>) {
        self.control.write_all(&Control::Claim(Claim { links }).encode().unwrap()).await.unwrap();
    }
}

fn end(link: &Link) -> ChainEnd {
    ChainEnd { sequence: link.header.sequence, digest: link.digest }
}

#[tokio::test]
async fn a_claimed_link_gets_the_receipt_it_had_and_others_are_asked_for() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let mut chain = chain(&identity);
    let mut links = vec![chain.start(&identity.signing)];
    links.extend((0..79).map(|_| chain.media(&identity.signing, footage(100))));
    let mut given = Vec::new();
    for link in &links {
        given.push(recorder.accepted(link).await);
    }
    let never_sent: Vec<Link> = (0..2).map(|_| chain.media(&identity.signing, footage(100))).collect();

    let mut again = rig.connect(&identity).await;
    let mut claimed: Vec<ChainEnd> = links.iter().chain(&never_sent).map(end).collect();
    claimed[7].digest = Digest([9; 32]);
    again.claim(claimed).await;
    let mut expected = given.clone();
    expected.remove(7);
    for receipt in expected {
        assert_eq!(again.next().await, Control::Receipt(receipt));
    }
    let Control::Unclaimed(asked) = again.next().await else { panic!("nothing is asked for") };
    let asked: Vec<_> = asked.sequences.iter().map(|range| (range.first, range.last)).collect();
    assert_eq!(asked, [(7, 7), (80, 81)]);

    again.claim(vec![end(&links[3])]).await;
    assert_eq!(again.next().await, Control::Receipt(given[3].clone()));
    again.accepted(&never_sent[0]).await;
}

#[tokio::test]
async fn nobody_claims_the_links_of_another() {
    let rig = Rig::start().await;
    let (one, other) = (rig.enrol("one"), rig.enrol("other"));
    let start = chain(&one).start(&one.signing);
    rig.connect(&one).await.accepted(&start).await;
    let mut recorder = rig.connect(&other).await;
    recorder.claim(vec![end(&start)]).await;
    let Control::Unclaimed(asked) = recorder.next().await else { panic!("a receipt for another") };
    assert_eq!(asked.sequences.len(), 1);
}

#[tokio::test]
async fn a_claim_before_the_one_before_it_was_answered_ends_the_connection() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let claim = |sequences: std::ops::Range<u64>| {
        let links = sequences.map(|sequence| ChainEnd { sequence, digest: Digest([1; 32]) }).collect();
        Control::Claim(Claim { links }).encode().unwrap()
    };
    let frames = [claim(0..1_024), claim(1_024..1_025)].concat();
    // The server may close while it is written.
    let _ = recorder.control.write_all(&frames).await;
    assert_eq!(recorder.closed().await.0, Some(Code::Protocol));
}

#[tokio::test]
async fn a_stop_lets_a_claim_be_answered() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let mut recorder = rig.connect(&identity).await;
    let start = chain(&identity).start(&identity.signing);
    let receipt = recorder.accepted(&start).await;
    recorder.claim(vec![end(&start)]).await;
    // The answer shows that the claim was read before the stop.
    assert_eq!(recorder.next().await, Control::Receipt(receipt));
    rig.shutdown.cancel();
    assert!(matches!(recorder.next().await, Control::Drain(_)));
    drop(recorder.control.finish());
    assert_eq!(recorder.closed().await.0, Some(Code::Draining));
}

#[tokio::test]
async fn sequences_that_were_announced_are_reserved_for_ever() {
    let rig = Rig::start().await;
    let identity = rig.enrol("a");
    let waiting = vec![SequenceRange { first: 3, last: 7 }];
    let connection = rig.connection(client_config(&identity)).await.unwrap();
    let recorder = Recorder::greet_holding(connection, &identity, None, waiting).await;
    assert_eq!(recorder.welcome.reserved, Some(7));
    recorder.connection.close(VarInt::from_u32(0), b"");
    let mut again = rig.connect(&identity).await;
    assert_eq!((again.welcome.newest, again.welcome.reserved), (None, Some(7)));
    again.accepted(&chain(&identity).start(&identity.signing)).await;
    assert_eq!(rig.connect(&identity).await.welcome.reserved, Some(7));
}
