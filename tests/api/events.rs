//! Server-sent events: what happens reaches those who watch, in order, once, and those who were away go on where they were.

use std::time::Duration;

use aigaq::access::{Grant, Grants, Proven, Role};
use aigaq::http::Limits;
use aigaq::store::FEED_KEPT;
use aigaq::store::records::{Occurrence, RecorderKind};
use aigaq_proto::message::{RefusalReason, SpoolSummary};
use bytes::Bytes;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::rig::{Rig, TOKEN, problem};

/// Longest that anything here may take; only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(20);

/// One who follows the events.
struct Console {
    response: Response,
    text: String,
}

#[derive(Debug, PartialEq)]
struct Told {
    id: Option<u64>,
    event: String,
    data: Value,
}

impl Console {
    /// Opens a stream; when it returns, the stream has its place.
    async fn open(rig: &Rig, query: &str, last: Option<u64>) -> Self {
        let last = last.map(|last| last.to_string());
        let headers: Vec<_> = last.iter().map(|last| ("Last-Event-ID", last.as_str())).collect();
        let response = rig.ask(Method::GET, &format!("/v1/events{query}"), &headers).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut console = Self { response, text: String::new() };
        assert!(console.block().await.unwrap().contains("retry:"));
        console
    }

    /// The next block; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let chunk =
                tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("an event comes").unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event that has data.
    async fn next(&mut self) -> Told {
        loop {
            let block = self.block().await.expect("the stream goes on");
            let field = |name: &str| {
                block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
            };
            if let Some(data) = field("data:") {
                let id = field("id:").map(|id| id.parse().unwrap());
                return Told { id, event: field("event:").unwrap(), data: serde_json::from_str(&data).unwrap() };
            }
        }
    }
}

#[tokio::test]
async fn a_mark_reaches_a_console_with_who_wore_the_recorder() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let body = json!({"assignee": "Officer A", "from": "2026-01-17T09:00:00Z"});
    rig.send_json(Method::POST, &format!("/v1/recorders/{}/assignments", device.id), &body, &[]).await;
    let mut console = Console::open(&rig, "", None).await;
    rig.send(device.chain.mark(&device.key, "bribe-attempt")).await;
    let told = console.next().await;
    assert_eq!((told.event.as_str(), told.id), ("mark", Some(1)));
    assert_eq!(told.data["category"], "bribe-attempt");
    assert_eq!(told.data["recorder"]["id"], device.id.to_string());
    assert_eq!(told.data["recorder"]["department"], "Astana");
    assert_eq!(told.data["recorder"]["assignee"], "Officer A");
}

#[tokio::test]
async fn one_who_was_away_goes_on_where_it_was_and_misses_nothing() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let mut console = Console::open(&rig, "", None).await;
    rig.send(device.chain.mark(&device.key, "first")).await;
    let last = console.next().await.id;
    drop(console);
    for category in ["second", "third"] {
        rig.send(device.chain.mark(&device.key, category)).await;
    }
    let mut console = Console::open(&rig, "?after=0", last).await;
    for category in ["second", "third"] {
        assert_eq!(console.next().await.data["category"], category);
    }
    let mut other = Console::open(&rig, "?after=1&follow=false", None).await;
    assert_eq!(other.next().await.data["category"], "second");
    assert_eq!(other.next().await.data["category"], "third");
    assert_eq!(other.block().await, None, "it asked for what had happened alone");
}

#[tokio::test]
async fn recorders_come_and_go_become_dark_and_record_again() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let mut console = Console::open(&rig, "", None).await;
    let spool = SpoolSummary { waiting: Vec::new(), bytes: 0, oldest: None, newest: None };
    let seat = rig.fleet.enter(device.id, None, &spool, None).unwrap();
    let second = rig.fleet.enter(device.id, None, &spool, None).unwrap();
    drop((seat, second));
    let stop = CancellationToken::new();
    stop.cancel();
    rig.fleet.clone().run(Duration::from_secs(1), stop).await.unwrap();
    assert_eq!(console.next().await.event, "connected");
    assert_eq!(console.next().await.event, "disconnected", "two sessions are one recorder");
    let look = async || aigaq::lookup::count_dark(&rig.state).await.unwrap();
    look().await;
    rig.record(&mut device, 5).await;
    look().await;
    let told = console.next().await;
    assert_eq!((told.event.as_str(), &told.data["cause"]), ("dark", &json!("off-wearer")));
    device.chain.captured_at = rig.clock.now() - 10_000_000;
    rig.send(device.chain.media(&device.key, Bytes::from_static(b"now"))).await;
    look().await;
    assert_eq!(console.next().await.event, "light");
}

#[tokio::test]
async fn evidence_against_a_chain_is_told() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let mut console = Console::open(&rig, "", None).await;
    let mut other = device.chain.clone();
    rig.record(&mut device, 1).await;
    rig.offer(other.mark(&device.key, "another first"), None).await;
    let told = console.next().await;
    assert_eq!((told.event.as_str(), &told.data["sequence"]), ("fork", &json!(0)));
    rig.offer(device.chain.media(&device.key, Bytes::from_static(b"x")), Some(RefusalReason::BadSignature)).await;
    let told = console.next().await;
    assert_eq!((told.event.as_str(), &told.data["reason"]), ("quarantine", &json!("bad-signature")));
}

#[tokio::test]
async fn a_console_is_told_only_what_it_asks_for_and_where_to_go_on() {
    let rig = Rig::start().await;
    let (mut device, mut far) = (rig.officer(), rig.enrol(RecorderKind::Vehicle, "Almaty"));
    let mut console = Console::open(&rig, "?department=Almaty&kinds=mark,fork", None).await;
    let mut one = Console::open(&rig, &format!("?recorder={}", device.id), None).await;
    rig.send(device.chain.mark(&device.key, "near")).await;
    rig.store.happen(&[(1, Some(far.id), Occurrence::Connected)]).unwrap();
    assert_eq!(one.next().await.data["category"], "near");
    let mut ended = Console::open(&rig, "?department=Almaty&kinds=mark,fork&after=0&follow=false", None).await;
    assert_eq!(ended.block().await.unwrap(), "id: 2", "what it is not told, it need not ask for again");
    assert_eq!(ended.block().await, None);
    rig.send(far.chain.mark(&far.key, "far")).await;
    let block = console.block().await.unwrap();
    assert!(block.starts_with("id: 3\n") && block.contains("far"), "nothing came at the moment of the others: {block}");
}

#[tokio::test]
async fn what_happens_to_what_is_sealed_is_told_to_nobody_who_may_not_know_of_it() {
    let rig = Rig::start().await;
    let (mut device, mut sealed) = (rig.officer(), rig.officer());
    let body = json!({ "class": "sealed", "reason": "a check" });
    let class = format!("/v1/recorders/{}/class", sealed.id);
    assert_eq!(rig.send_json(Method::PUT, &class, &body, &[]).await.status(), 200);
    rig.send(sealed.chain.mark(&sealed.key, "hidden")).await;
    rig.send(device.chain.mark(&device.key, "shown")).await;
    let operator = Grants::new(vec![Grant { role: Role::Supervisor, departments: None }]);
    rig.access.admit("token-of-a-supervisor", "account:anna", operator).unwrap();
    let path = "/v1/events?after=0&kinds=mark&follow=false";
    let told = rig.ask_as("token-of-a-supervisor", Method::GET, path, None, &[]).await.text().await.unwrap();
    assert!(told.contains("shown") && !told.contains("hidden"), "{told}");
}

#[tokio::test]
async fn a_console_to_whom_much_is_not_told_learns_at_a_beat_where_to_go_on() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let mut console = Console::open(&rig, "?department=Almaty", None).await;
    rig.send(device.chain.mark(&device.key, "near")).await;
    for _ in 0..40 {
        // The stream may not have read that far when a beat comes: then it is said at a later one.
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(16)).await;
        tokio::time::resume();
        match tokio::time::timeout(Duration::from_millis(200), console.block()).await {
            Ok(block) if block.as_deref().is_some_and(|block| block.starts_with(':')) => {}
            Ok(block) => return assert_eq!(block.unwrap(), "id: 1"),
            Err(_) => {}
        }
    }
    panic!("no beat says where to go on");
}

#[tokio::test]
async fn one_who_missed_something_is_told_so() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let many: Vec<_> = (0..=FEED_KEPT).map(|at| (at, None, Occurrence::Started)).collect();
    rig.store.happen(&many).unwrap();
    let mut console = Console::open(&rig, "?kinds=mark", Some(0)).await;
    let told = console.next().await;
    assert_eq!((told.event.as_str(), &told.data["after"]), ("missed", &json!(0)));
    rig.send(device.chain.mark(&device.key, "after it")).await;
    assert_eq!(console.next().await.data["category"], "after it");
    let mut console = Console::open(&rig, "", Some(1 << 40)).await;
    assert_eq!(console.next().await.event, "missed", "the store was put back to an older copy");
}

#[tokio::test]
async fn a_console_to_whom_nothing_happens_stays_and_is_let_go_when_the_server_stops() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let (stop, look_every) = (CancellationToken::new(), Duration::from_millis(20));
    let router = aigaq::lookup::router(rig.state.clone().until(stop.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/events", listener.local_addr().unwrap());
    let limits = Limits { first_bytes_max: look_every * 15, look_every, ..Limits::default() };
    let serving = tokio::spawn(aigaq::http::serve_within(limits, listener, router, None, stop.clone()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(url).bearer_auth(TOKEN).send().await.unwrap();
    let mut console = Console { response, text: String::new() };
    assert!(console.block().await.unwrap().contains("retry:"));
    // Longer than the silence for which any other connection is given up.
    tokio::time::sleep(look_every * (15 + 25)).await;
    rig.send(device.chain.mark(&device.key, "at last")).await;
    assert_eq!(console.next().await.data["category"], "at last");
    stop.cancel();
    assert_eq!(console.block().await, None);
    tokio::time::timeout(Duration::from_secs(5), serving).await.expect("nobody is waited for").unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_that_cannot_be_is_refused_and_one_that_ends_gives_its_turn_back() {
    let rig = Rig::start().await;
    for query in ["?kinds=marks", "?after=x", "?recorder=7", "?from=1"] {
        problem(rig.get(&format!("/v1/events{query}")).await, 400, query).await;
    }
    let odd = rig.ask(Method::GET, "/v1/events", &[("Last-Event-ID", "seven")]).await;
    problem(odd, 400, "Last-Event-ID").await;
    let mut consoles = Vec::new();
    for _ in 0..32 {
        consoles.push(Console::open(&rig, "", None).await);
    }
    problem(rig.get("/v1/events").await, 503, "one too many").await;
    let grants = Grants::everything();
    rig.access.admit("a-token-of-somebody-else", "account:other", grants).unwrap();
    let other = rig.ask_as("a-token-of-somebody-else", Method::GET, "/v1/events", None, &[]).await;
    assert_eq!(other.status(), 200, "one cannot take the streams of others");
    drop(consoles.pop());
    let again = async { while rig.get("/v1/events").await.status() != 200 {} };
    tokio::time::timeout(PATIENCE, again).await.expect("the turn comes back");
}

#[tokio::test]
async fn a_stream_ends_with_the_session_that_began_it() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let grants = Grants::everything().list().to_vec();
    let who = Proven { actor: "account:anna".to_owned(), grants, break_glass: false, changed_at: None };
    let session = rig.access.begin(who, "10.0.0.1").await.unwrap();
    let response = rig.ask_as(&session.token, Method::GET, "/v1/events", None, &[]).await;
    let mut console = Console { response, text: String::new() };
    assert!(console.block().await.unwrap().contains("retry:"));
    rig.send(device.chain.mark(&device.key, "before")).await;
    assert_eq!(console.next().await.data["category"], "before");
    rig.access.end(session.id).await.unwrap();
    rig.send(device.chain.mark(&device.key, "after")).await;
    let ends = async {
        while let Some(block) = console.block().await {
            assert!(!block.contains("after"), "{block}");
        }
    };
    tokio::time::timeout(PATIENCE, ends).await.expect("the stream ends");
}
