//! Webhooks against real HTTP servers that take, fail, stall and come back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aigaq::store::records::{Occurrence, RecorderKind};
use aigaq::webhook::{self, Configured, Standing, Webhooks, sign};
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::rig::{Device, Rig, hooks, problem};

/// Longest that anything here may take; only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that listens to webhooks.
#[derive(Clone)]
struct Listener {
    address: SocketAddr,
    told: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    news: Arc<Notify>,
    /// What it answers; 0 for never.
    status: Arc<AtomicU16>,
    _stop: Arc<DropGuard>,
}

async fn take(State(this): State<Inner>, headers: HeaderMap, body: Bytes) -> StatusCode {
    this.told.lock().unwrap().push((headers, body));
    this.news.notify_waiters();
    match this.status.load(Ordering::SeqCst) {
        0 => std::future::pending().await,
        status => StatusCode::from_u16(status).unwrap(),
    }
}

#[derive(Clone)]
struct Inner {
    told: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    news: Arc<Notify>,
    status: Arc<AtomicU16>,
}

impl Listener {
    async fn start() -> Self {
        let (told, news, status) = (Arc::default(), Arc::default(), Arc::new(AtomicU16::new(204)));
        let inner = Inner { told: Arc::clone(&told), news: Arc::clone(&news), status: Arc::clone(&status) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = axum::Router::new().route("/hook", post(take)).with_state(inner);
        tokio::spawn(aigaq::http::serve(listener, router, None, stop.clone()));
        Self { address, told, news, status, _stop: Arc::new(stop.drop_guard()) }
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Waits until it was told this often, and says what.
    async fn told(&self, times: usize) -> Vec<Value> {
        let heard = async {
            loop {
                let news = self.news.notified();
                if self.told.lock().unwrap().len() >= times {
                    return;
                }
                news.await;
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("it is told");
        self.told.lock().unwrap().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }

    fn ids(&self) -> Vec<String> {
        let told = self.told.lock().unwrap();
        told.iter().map(|(headers, _)| headers["webhook-id"].to_str().unwrap().to_owned()).collect()
    }
}

struct Running(CancellationToken, tokio::task::JoinHandle<aigaq::Result<()>>);

impl Running {
    fn of(rig: &Rig, webhooks: &Webhooks) -> Self {
        let stop = CancellationToken::new();
        let run = webhooks.clone().run(aigaq::lookup::renderer(&rig.state), stop.clone());
        Self(stop, tokio::spawn(run))
    }

    async fn stop(self) {
        self.0.cancel();
        tokio::time::timeout(PATIENCE, self.1).await.expect("it stops").unwrap().unwrap();
    }
}

impl Rig {
    async fn hook(&self, name: &str, url: &str, more: Value) -> Value {
        let mut body = json!({ "name": name, "url": url });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let response = self.send_json(Method::POST, "/v1/webhooks", &body, &[]).await;
        assert_eq!(response.status(), 201, "{body}");
        response.json().await.unwrap()
    }

    async fn hooked(&self, name: &str) -> Value {
        let all = self.json("/v1/webhooks").await;
        all["webhooks"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
    }

    async fn raised(&self, device: &mut Device, category: &str) {
        self.send(device.chain.mark(&device.key, category)).await;
    }

    /// Waits until a webhook stands so; then as it is shown.
    async fn until(&self, name: &str, fine: impl Fn(&Standing) -> bool) -> Value {
        let stands = async {
            while !self.webhooks.list().iter().any(|one| one.record.name == name && fine(one)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, stands).await.expect("it comes to that");
        self.hooked(name).await
    }
}

fn categories(told: &[Value]) -> Vec<&str> {
    told.iter().map(|one| one["category"].as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn what_happens_is_told_in_order_and_signed() {
    let rig = Rig::start().await;
    let (mut device, listener) = (rig.officer(), Listener::start().await);
    let made = rig.hook("cad", &listener.url(), json!({ "kinds": ["mark"] })).await;
    let _running = Running::of(&rig, &rig.webhooks);
    rig.store.happen(&[(1, Some(device.id), Occurrence::Connected)]).unwrap();
    for category in ["first", "second", "third"] {
        rig.raised(&mut device, category).await;
    }
    let told = listener.told(3).await;
    assert_eq!(categories(&told), ["first", "second", "third"]);
    assert_eq!((&told[0]["recorder"]["id"], &told[0]["kind"]), (&json!(device.id.to_string()), &json!("mark")));
    assert_eq!(listener.ids(), ["event-2", "event-3", "event-4"]);
    let secret = sign::secret(made["secret"].as_str().unwrap()).unwrap();
    let (headers, body) = listener.told.lock().unwrap()[0].clone();
    let seconds: u64 = headers["webhook-timestamp"].to_str().unwrap().parse().unwrap();
    assert_eq!(seconds, rig.clock.now() / 1_000_000);
    assert_eq!(headers["webhook-signature"], sign::signature(&secret, "event-2", seconds, &body));
    assert_eq!(rig.hooked("cad").await.get("secret"), None, "it is shown once");
    rig.until("cad", |standing| standing.record.cursor == 4).await;
}

#[tokio::test]
async fn what_happened_before_is_told_in_order_too() {
    let rig = Rig::start().await;
    let (mut device, listener) = (rig.officer(), Listener::start().await);
    for category in ["first", "second", "third"] {
        rig.raised(&mut device, category).await;
    }
    rig.hook("cad", &listener.url(), json!({ "after": 0 })).await;
    let _running = Running::of(&rig, &rig.webhooks);
    assert_eq!(categories(&listener.told(3).await), ["first", "second", "third"]);
}

#[tokio::test]
async fn one_that_fails_is_told_again_until_it_takes_it_and_in_order() {
    let rig = Rig::start().await;
    let (mut device, listener) = (rig.officer(), Listener::start().await);
    listener.answer(500);
    rig.hook("cad", &listener.url(), json!({})).await;
    let _running = Running::of(&rig, &rig.webhooks);
    for category in ["first", "second"] {
        rig.raised(&mut device, category).await;
    }
    listener.told(3).await;
    let standing =
        rig.until("cad", |standing| standing.failing.as_ref().is_some_and(|failing| failing.attempts >= 3)).await;
    assert_eq!(
        (&standing["failing"]["why"], &standing["cursor"]),
        (&json!("it answers with the status 500"), &json!(0))
    );
    listener.answer(200);
    rig.until("cad", |standing| standing.record.cursor == 2 && standing.failing.is_none()).await;
    let mut ids = listener.ids();
    assert!(ids.iter().filter(|id| *id == "event-1").count() >= 4 && ids.is_sorted());
    ids.dedup();
    assert_eq!(ids, ["event-1", "event-2"]);
    let metrics = rig.get_ops("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("aigaq_webhook_deliveries_total{result=\"ok\",webhook=\"cad\"} 2"), "{metrics}");
}

#[tokio::test]
async fn one_that_is_dead_or_stalls_holds_up_nobody_else() {
    let rig = Rig::start().await;
    let (mut device, stalls, well) = (rig.officer(), Listener::start().await, Listener::start().await);
    stalls.answer(0);
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", dead.local_addr().unwrap());
    drop(dead);
    rig.hook("dead", &url, json!({})).await;
    rig.hook("stalls", &stalls.url(), json!({})).await;
    rig.hook("well", &well.url(), json!({})).await;
    let running = Running::of(&rig, &rig.webhooks);
    for number in 0..50 {
        rig.raised(&mut device, &number.to_string()).await;
    }
    assert_eq!(well.told(50).await.len(), 50);
    assert_eq!(rig.hooked("stalls").await["cursor"], 0);
    rig.until("dead", |standing| standing.failing.is_some()).await;
    running.stop().await;
}

#[tokio::test]
async fn one_goes_on_where_it_was_after_a_restart_and_from_anywhere_when_asked() {
    let rig = Rig::start().await;
    let (mut device, listener) = (rig.officer(), Listener::start().await);
    rig.hook("cad", &listener.url(), json!({})).await;
    let running = Running::of(&rig, &rig.webhooks);
    rig.raised(&mut device, "first").await;
    listener.told(1).await;
    rig.until("cad", |standing| standing.record.cursor == 1).await;
    running.stop().await;
    rig.raised(&mut device, "meanwhile").await;
    let metrics = webhook::Metrics::register(&prometheus::Registry::new()).unwrap();
    let anew = Webhooks::open(rig.store.clone(), rig.clock.clone(), &[], hooks(), metrics).unwrap();
    let running = Running::of(&rig, &anew);
    assert_eq!(categories(&listener.told(2).await), ["first", "meanwhile"]);
    running.stop().await;
    let replayed = rig.send_json(Method::POST, "/v1/webhooks/cad/replay", &json!({ "after": 0 }), &[]).await;
    assert_eq!((replayed.status().as_u16(), &replayed.json::<Value>().await.unwrap()["cursor"]), (200, &json!(0)));
    let _running = Running::of(&rig, &rig.webhooks);
    assert_eq!(categories(&listener.told(4).await), ["first", "meanwhile", "first", "meanwhile"]);
}

#[tokio::test]
async fn a_replay_leads_past_an_event_that_is_never_taken() {
    let rig = Rig::start().await;
    let (mut device, listener) = (rig.officer(), Listener::start().await);
    listener.answer(422);
    rig.hook("cad", &listener.url(), json!({})).await;
    let _running = Running::of(&rig, &rig.webhooks);
    rig.raised(&mut device, "stuck").await;
    listener.told(2).await;
    rig.send_json(Method::POST, "/v1/webhooks/cad/replay", &json!({ "after": 1 }), &[]).await;
    rig.raised(&mut device, "next").await;
    let gone_on = async {
        while !listener.ids().contains(&"event-2".to_owned()) {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(PATIENCE, gone_on).await.expect("it goes on");
}

#[tokio::test]
async fn what_is_gone_is_told_as_missed() {
    let rig = Rig::start().await;
    let listener = Listener::start().await;
    rig.hook("cad", &listener.url(), json!({ "after": 99 })).await;
    let _running = Running::of(&rig, &rig.webhooks);
    let told = listener.told(1).await;
    assert_eq!((&told[0]["kind"], &told[0]["after"]), (&json!("missed"), &json!(99)));
}

#[tokio::test]
async fn a_department_is_told_of_its_own_and_nobody_of_what_is_sealed() {
    let rig = Rig::start().await;
    let (mut near, mut far, mut sealed) = (rig.officer(), rig.enrol(RecorderKind::Officer, "Almaty"), rig.officer());
    let class = json!({ "class": "sealed", "reason": "a check" });
    let path = format!("/v1/recorders/{}/class", sealed.id);
    assert_eq!(rig.send_json(Method::PUT, &path, &class, &[]).await.status(), 200);
    let (one, all) = (Listener::start().await, Listener::start().await);
    rig.hook("one", &one.url(), json!({ "department": "Almaty" })).await;
    rig.hook("all", &all.url(), json!({ "kinds": ["mark"] })).await;
    let _running = Running::of(&rig, &rig.webhooks);
    rig.raised(&mut sealed, "hidden").await;
    rig.raised(&mut near, "near").await;
    rig.raised(&mut far, "far").await;
    assert_eq!(categories(&all.told(2).await), ["near", "far"]);
    assert_eq!(categories(&one.told(1).await), ["far"]);
}

#[tokio::test]
async fn an_address_of_this_site_is_not_reached_unless_the_configuration_says_so() {
    let rig = Rig::start().await;
    let (mut device, listener) = (rig.officer(), Listener::start().await);
    let metrics = webhook::Metrics::register(&prometheus::Registry::new()).unwrap();
    rig.hook("inside", &listener.url(), json!({})).await;
    let settings = webhook::Settings { reach: webhook::Reach::default(), ..hooks() };
    let closed = Webhooks::open(rig.store.clone(), rig.clock.clone(), &[], settings, metrics).unwrap();
    let running = Running::of(&rig, &closed);
    rig.raised(&mut device, "secret").await;
    let refused = async {
        while closed.list()[0].failing.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("it is refused");
    assert!(closed.list()[0].failing.as_ref().unwrap().why.contains("webhooks.private"));
    assert!(listener.told.lock().unwrap().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn those_of_the_configuration_come_and_go_with_it() {
    let rig = Rig::start().await;
    let secret_file = rig.dir.path().join("cad.secret");
    std::fs::write(&secret_file, format!("{}\n", sign::shown(&[7; 32]))).unwrap();
    let listener = Listener::start().await;
    let configured = Configured {
        name: "cad".to_owned(),
        url: listener.url(),
        secret_file: secret_file.clone(),
        kinds: Vec::new(),
        department: None,
    };
    let open = |all: &[Configured]| {
        let metrics = webhook::Metrics::register(&prometheus::Registry::new()).unwrap();
        Webhooks::open(rig.store.clone(), rig.clock.clone(), all, hooks(), metrics)
    };
    let first = open(std::slice::from_ref(&configured)).unwrap().list();
    assert!(first[0].record.configured && first[0].record.cursor == 0);
    let audited = rig.store.last_audit();
    rig.store.happen(&[(1, None, Occurrence::Started)]).unwrap();
    let again = open(std::slice::from_ref(&configured)).unwrap().list();
    assert_eq!((again[0].record.cursor, rig.store.last_audit()), (0, audited), "it goes on where it was");
    std::fs::write(&secret_file, "no secret").unwrap();
    assert!(open(std::slice::from_ref(&configured)).is_err());
    assert!(open(&[]).unwrap().list().is_empty());
}

#[tokio::test]
async fn what_is_no_webhook_is_refused_and_one_that_is_removed_is_gone() {
    let rig = Rig::start().await;
    for body in [
        json!({ "name": "a b", "url": "https://a.example/" }),
        json!({ "name": "", "url": "https://a.example/" }),
        json!({ "name": "a", "url": "ftp://a.example/" }),
        json!({ "name": "a", "url": "https://user:word@a.example/" }),
        json!({ "name": "a", "url": "nowhere" }),
        json!({ "name": "a", "url": "https://a.example/", "kinds": ["weather"] }),
        json!({ "name": "a", "url": "https://a.example/", "secret": "mine" }),
    ] {
        problem(rig.send_json(Method::POST, "/v1/webhooks", &body, &[]).await, 400, &body.to_string()).await;
    }
    let fine = json!({ "name": "a", "url": "https://a.example/" });
    assert_eq!(rig.send_json(Method::POST, "/v1/webhooks", &fine, &[("Idempotency-Key", "k")]).await.status(), 201);
    problem(rig.send_json(Method::POST, "/v1/webhooks", &fine, &[("Idempotency-Key", "k")]).await, 409, "its name")
        .await;
    assert_eq!(rig.ask(Method::DELETE, "/v1/webhooks/a", &[]).await.status(), 204);
    problem(rig.ask(Method::DELETE, "/v1/webhooks/a", &[]).await, 404, "gone").await;
    problem(rig.send_json(Method::POST, "/v1/webhooks/a/replay", &json!({ "after": 0 }), &[]).await, 404, "gone").await;
    assert_eq!((rig.store.webhooks().count(), rig.store.answers().count()), (0, 0));
}
