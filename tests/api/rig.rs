//! A server of the API alone: a store in memory, a real writer, a real listener on a free port.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use aigaq::access::{self, Access, Grants};
use aigaq::commit::{self, Outcome, Queue, Submission, WriterHandle};
use aigaq::enrol::Authority;
use aigaq::export::{self, Exports};
use aigaq::fleet::Fleet;
use aigaq::incident::{self, Incidents};
use aigaq::log::{Identity, Log, Reader};
use aigaq::lookup::{self, Readiness};
use aigaq::retention::{self, Retention};
use aigaq::store::Store;
use aigaq::store::engine::memory::Memory;
use aigaq::store::records::{AuditRecord, Body, FootageKey, RecorderKey, RecorderKind, RecorderRecord};
use aigaq::webhook::{self, Reach, Webhooks};
use aigaq::{Clock, store};
use aigaq_proto::message::RefusalReason;
use aigaq_proto::receipt::LogKey;
use aigaq_proto::signature::SigningKey;
use aigaq_proto::{Digest, Micros, RecorderId, Sequence};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use bytes::Bytes;
use reqwest::{Method, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::chain::{Chain, Link};

/// 2026-01-17T09:14:00Z: when the tests' footage begins.
pub(crate) const BEGIN: Micros = 1_768_641_240_000_000;
pub(crate) const TOKEN: &str = "a-token-for-tests-alone";

pub(crate) struct Rig {
    pub(crate) engine: Memory,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) fleet: Fleet,
    pub(crate) address: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) readiness: Readiness,
    pub(crate) log: LogKey,
    reader: Arc<Reader>,
    pub(crate) metrics: prometheus::Registry,
    pub(crate) state: lookup::State,
    pub(crate) access: Access,
    pub(crate) exports: Arc<Exports>,
    pub(crate) retention: Retention,
    pub(crate) incidents: Incidents,
    pub(crate) webhooks: Webhooks,
    pub(crate) dir: tempfile::TempDir,
    queue: Queue,
    client: reqwest::Client,
    _writer: WriterHandle,
    _stop: DropGuard,
}

/// A recorder with its key and its chain.
pub(crate) struct Device {
    pub(crate) id: RecorderId,
    pub(crate) key: SigningKey,
    pub(crate) chain: Chain,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(access::Settings::default()).await
    }

    pub(crate) async fn start_with(settings: access::Settings) -> Self {
        let engine = Memory::default();
        let store = Store::with_engine(Arc::new(engine.clone())).unwrap();
        let clock = Clock::fixed(BEGIN + 3_600_000_000);
        let metrics = prometheus::Registry::new();
        let identity = Identity::ephemeral().unwrap();
        let key = identity.key();
        let log = Log::open(store.clone(), identity, None).unwrap();
        let reader = Arc::new(log.reader());
        let writer_metrics = commit::Metrics::register(&metrics).unwrap();
        let (queue, writer) =
            commit::start(store.clone(), log, commit::Settings::default(), clock.clone(), writer_metrics).unwrap();
        let lookup_metrics = lookup::Metrics::register(&metrics).unwrap();
        let fleet = Fleet::open(store.clone(), clock.clone()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let export_metrics = export::Metrics::register(&metrics, lookup_metrics.damaged.clone()).unwrap();
        let deletion_metrics = retention::Metrics::register(&metrics).unwrap();
        let retention = Retention::new(store.clone(), clock.clone(), deletion_metrics, 0);
        let incident_metrics = incident::Metrics::register(&metrics).unwrap();
        let (of, at) = (store.clone(), clock.clone());
        let incidents = Incidents::open(of, at, fleet.clone(), retention.clone(), incident_metrics).unwrap();
        let webhook_metrics = webhook::Metrics::register(&metrics).unwrap();
        let webhooks = Webhooks::open(store.clone(), clock.clone(), &[], hooks(), webhook_metrics).unwrap();
        let exports = exports(dir.path(), &store, &reader, &fleet, &clock, export_metrics);
        let access = Access::open(store.clone(), Some(dir.path()), clock.clone(), settings).unwrap();
        access.admit(TOKEN, "token:first-start", Grants::everything()).unwrap();
        let state = lookup::State::new(
            store.clone(),
            Arc::clone(&reader),
            access.clone(),
            clock.clone(),
            lookup_metrics,
            fleet.clone(),
        )
        .unwrap()
        .with_categories(categories())
        .with_exports(Arc::clone(&exports))
        .with_retention(retention.clone())
        .with_incidents(incidents.clone())
        .with_webhooks(webhooks.clone());
        let readiness = Readiness::default();
        let stop = CancellationToken::new();
        let address = listen(lookup::router(state.clone()), &stop).await;
        let ops = listen(lookup::ops_router(metrics.clone(), readiness.clone()), &stop).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (_writer, _stop) = (writer, stop.drop_guard());
        Self {
            engine,
            store,
            clock,
            fleet,
            address,
            ops,
            readiness,
            log: key,
            reader,
            metrics,
            state,
            access,
            exports,
            retention,
            incidents,
            webhooks,
            dir,
            queue,
            client,
            _writer,
            _stop,
        }
    }

    /// Those of a server that starts now.
    pub(crate) fn incidents_anew(&self) -> Incidents {
        let metrics = incident::Metrics::register(&prometheus::Registry::new()).unwrap();
        let (of, at) = (self.store.clone(), self.clock.clone());
        Incidents::open(of, at, self.fleet.clone(), self.retention.clone(), metrics).unwrap()
    }

    pub(crate) fn enrol(&self, kind: RecorderKind, department: &str) -> Device {
        self.enrol_as(kind, department, "label")
    }

    pub(crate) fn enrol_as(&self, kind: RecorderKind, department: &str, label: &str) -> Device {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap();
        let spki = key.public_key().unwrap().to_spki();
        let enrolled = RecorderKey { spki, since: BEGIN, not_after: None };
        let record = RecorderRecord::new(kind, department.to_owned(), label.to_owned(), enrolled);
        let id = record.id;
        self.store.enrol(&record).unwrap();
        Device { id, key, chain: Chain::new(id, BEGIN) }
    }

    pub(crate) fn officer(&self) -> Device {
        self.enrol(RecorderKind::Officer, "Astana")
    }

    /// Makes a link durable.
    pub(crate) async fn send(&self, link: Link) {
        let outcome = self.offer(link, None).await;
        assert!(matches!(outcome, Outcome::Receipt(_)), "{outcome:?}");
    }

    /// Offers a link that may have failed a check.
    pub(crate) async fn offer(&self, link: Link, fault: Option<RefusalReason>) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let actual = (Digest::of(&link.payload), link.payload.len() as u64);
        let submission = Submission {
            header: link.header,
            header_bytes: Bytes::from(link.header_bytes),
            digest: link.digest,
            signature: link.signature,
            payload: link.payload,
            received_at: self.clock.now(),
            clock: None,
            fault,
            actual,
            permit: None,
            reply,
        };
        self.queue.submit(submission).await.unwrap();
        answer.await.unwrap()
    }

    /// Sends a start, `segments` segments of 2 s and a stop; returns the payloads, the initialisation segment first.
    pub(crate) async fn record(&self, device: &mut Device, segments: u8) -> Vec<Bytes> {
        let start = device.chain.start(&device.key);
        let mut payloads = vec![start.payload.clone()];
        self.send(start).await;
        for index in 0..segments {
            let payload = Bytes::from(vec![index; 1_000 + usize::from(index)]);
            payloads.push(payload.clone());
            self.send(device.chain.media(&device.key, payload)).await;
        }
        self.send(device.chain.stop(&device.key)).await;
        payloads
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.client.request(method, format!("http://{}{path}", self.address)).bearer_auth(TOKEN);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// Sends a body, JSON.
    pub(crate) async fn send_json(
        &self,
        method: Method,
        path: &str,
        body: &serde_json::Value,
        headers: &[(&str, &str)],
    ) -> Response {
        let mut request = self.client.request(method, format!("http://{}{path}", self.address)).bearer_auth(TOKEN);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.json(body).send().await.unwrap()
    }

    /// Asks with another token, or with none; the body is JSON or a form.
    pub(crate) async fn ask_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Response {
        let mut request = self.client.request(method, format!("http://{}{path}", self.address));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            let form = if body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
            request = request.header("content-type", form).body(body.to_owned());
        }
        request.send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, &[]).await
    }

    pub(crate) async fn bytes(&self, path: &str) -> Bytes {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.bytes().await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_slice(&self.bytes(path).await).unwrap()
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        String::from_utf8(self.bytes(path).await.to_vec()).unwrap()
    }

    pub(crate) async fn get_ops(&self, path: &str) -> Response {
        self.client.get(format!("http://{}{path}", self.ops)).send().await.unwrap()
    }

    /// Sends these very bytes and returns what comes back until the server closes.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is a way of closing, too.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Root of the tree of the first entries of the log, hexadecimal.
    pub(crate) fn log_root(&self, size: u64) -> String {
        self.reader.root(size).unwrap().to_string()
    }

    pub(crate) fn audit(&self) -> Vec<AuditRecord> {
        self.store.audit_entries(0..u64::MAX).map(Result::unwrap).collect()
    }

    /// Flips a bit in the stored payload of a segment.
    pub(crate) fn damage(&self, device: &Device, sequence: Sequence) {
        assert!(self.engine.flip_body(self.footage(device, sequence), 500));
    }

    pub(crate) fn footage(&self, device: &Device, sequence: Sequence) -> FootageKey {
        let link: store::records::LinkRecord = self.store.link(device.id, sequence).unwrap().unwrap();
        let Body::Footage(key) = link.body else { panic!("{sequence} has no footage") };
        key
    }
}

/// Webhooks on this machine are reached, and not waited for.
pub(crate) fn hooks() -> webhook::Settings {
    webhook::Settings {
        reach: Reach { private: vec!["127.0.0.1/32".parse().unwrap()] },
        retry_first: std::time::Duration::from_millis(10),
        retry_max: std::time::Duration::from_millis(50),
        ..webhook::Settings::default()
    }
}

/// The categories of the default configuration.
fn categories() -> Vec<lookup::Category> {
    let category = |of: aigaq::config::MarkCategory| lookup::Category {
        name: of.name,
        names: lookup::Names { kk: of.kk, ru: of.ru, en: of.en },
        before_s: of.before_s,
        after_s: of.after_s,
        days: of.days,
        urgent: of.urgent,
    };
    aigaq::config::Marks::default().categories.into_iter().map(category).collect()
}

/// Who makes exports into `dir`; nothing runs them yet.
pub(crate) fn exports(
    dir: &Path,
    store: &Store,
    reader: &Reader,
    fleet: &Fleet,
    clock: &Clock,
    metrics: export::Metrics,
) -> Arc<Exports> {
    let authority = Authority::load_or_create(dir, clock).unwrap();
    let holes = lookup::holes(fleet.clone(), clock.clone());
    let anchors = vec![authority.anchor().clone()];
    let (of, at) = (dir.to_owned(), clock.clone());
    let exporter = Arc::new(move || authority.export_identity(&of, &at));
    let source = export::Source::new(store.clone(), reader.clone(), holes, anchors, exporter).unwrap();
    Arc::new(Exports::open(&dir.join("exports"), source, clock.clone(), metrics).unwrap())
}

async fn listen(router: axum::Router, stop: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(aigaq::http::serve(listener, router, None, stop.clone()));
    address
}

/// A time of the tests' footage, seconds after its begin.
pub(crate) fn at(seconds: u64) -> String {
    lookup::time::format(BEGIN + seconds * 1_000_000)
}

/// Checks that an answer is a problem document with this status.
pub(crate) async fn problem(response: Response, status: u16, what: &str) -> serde_json::Value {
    assert_eq!(response.status(), status, "{what}");
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{what}");
    let problem: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["status"], status, "{what}");
    assert!(problem["title"].is_string() && problem["type"].as_str().unwrap().starts_with("urn:aigaq:"), "{what}");
    problem
}
