//! What the control centre asks for reaches the recorder, over real QUIC and HTTP: at once, again after a reconnect and a restart, and
//! not after it was taken back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use aigaq::Clock;
use aigaq::enrol::SERVER_NAME;
use aigaq_proto::SequenceRange;
use aigaq_proto::frame::Control;
use aigaq_proto::message::{Hello, Progress, Request, SpoolSummary, Status, Welcome};
use serde_json::{Value, json};
use support::Identity;
use support::chain::Chain;
use support::process::ServerProcess;
use support::session::{Session, client_config, endpoint, next_control};

/// Longest that anything here may take; only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(20);
const S: u64 = 1_000_000;

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// A recorder's side of a connection. Its clock is an hour slow.
struct Recorder {
    connection: quinn::Connection,
    control: quinn::SendStream,
    answers: quinn::RecvStream,
    buffer: Vec<u8>,
    welcome: Welcome,
}

fn slow_clock() -> u64 {
    Clock::system().now() - 3_600 * S
}

impl Recorder {
    async fn connect(
        client: &quinn::Endpoint,
        server: &ServerProcess,
        identity: &Identity,
        spool: SpoolSummary,
    ) -> Self {
        let connecting = client.connect_with(client_config(identity), server.quic, SERVER_NAME).unwrap();
        let connection = soon("a handshake", connecting).await.unwrap();
        let (mut control, mut answers) = connection.open_bi().await.unwrap();
        let hello = Hello { software: "test".to_owned(), clock: slow_clock(), spool, last_receipt: None };
        control.write_all(&Control::Hello(hello).encode().unwrap()).await.unwrap();
        let mut buffer = Vec::new();
        let Some(Control::Welcome(welcome)) = soon("Welcome", next_control(&mut answers, &mut buffer)).await.unwrap()
        else {
            panic!("the first message is not Welcome");
        };
        Self { connection, control, answers, buffer, welcome }
    }

    async fn next(&mut self) -> Control {
        soon("a message", next_control(&mut self.answers, &mut self.buffer)).await.unwrap().expect("the stream goes on")
    }

    async fn request(&mut self) -> Request {
        match self.next().await {
            Control::Request(request) => request,
            other => panic!("no request: {other:?}"),
        }
    }

    async fn say(&mut self, message: Control) {
        self.control.write_all(&message.encode().unwrap()).await.unwrap();
    }

    fn leave(self) {
        self.connection.close(quinn::VarInt::from_u32(0), b"");
    }
}

struct Centre {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Centre {
    fn of(server: &ServerProcess) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { client, base: format!("http://{}", server.api), token: server.token() }
    }

    async fn send(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.send(reqwest::Method::GET, path, None).await
    }

    /// Asks for a range, seconds from `begin`; the path of the pull.
    async fn pull(&self, identity: &Identity, begin: u64, range: (u64, u64), expires_in_s: u64) -> String {
        let at = |seconds| aigaq::lookup::time::format(begin + seconds * S);
        let body = json!({"recorder": identity.id.to_string(), "from": at(range.0), "to": at(range.1),
            "expires_in_s": expires_in_s, "reason": "case 7"});
        let made = self.send(reqwest::Method::POST, "/v1/pulls", Some(body)).await;
        format!("/v1/pulls/{}", made["id"].as_str().unwrap())
    }

    async fn until(&self, path: &str, state: &str) -> Value {
        soon(&format!("{path} to be {state}"), async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            loop {
                tick.tick().await;
                let shown = self.get(path).await;
                if shown["state"] == state {
                    return shown;
                }
            }
        })
        .await
    }
}

#[tokio::test]
async fn what_the_centre_asks_for_reaches_the_recorder_until_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(&dir.path().join("data")).unwrap();
    let identity = Identity::enrol(&server.data, &dir.path().join("chest-1"));
    let (centre, client, begin) = (Centre::of(&server), endpoint(), Clock::system().now() - 600 * S);

    let mut recorder = Recorder::connect(&client, &server, &identity, SpoolSummary::default()).await;
    let path = centre.pull(&identity, begin, (0, 60), 3_600).await;
    let first = recorder.request().await;
    let error = first.from.abs_diff(begin - 3_600 * S);
    assert!(error < 2 * S, "the range is by the recorder's clock, {error} us off");
    assert_eq!(first.to - first.from, 60 * S);
    centre.until(&path, "sent").await;
    recorder.leave();
    centre.until(&path, "waiting").await;

    let mut again = Recorder::connect(&client, &server, &identity, SpoolSummary::default()).await;
    assert_eq!(again.request().await.id, first.id);
    let progress = |left| Progress { id: first.id, links: 5, links_left: left, bytes: 500, bytes_left: left * 100 };
    again.say(Control::Progress(progress(3))).await;
    assert_eq!(centre.until(&path, "progress").await["progress"]["bytes_left"], 300);
    let data = server.data.clone();
    server.kill();

    let server = ServerProcess::start(&data).unwrap();
    let centre = Centre::of(&server);
    assert_eq!(centre.get(&path).await["state"], "waiting");
    let mut after = Recorder::connect(&client, &server, &identity, SpoolSummary::default()).await;
    assert_eq!(after.request().await.id, first.id);
    after.say(Control::Progress(progress(0))).await;
    centre.until(&path, "done").await;
    after.leave();
    let mut last = Recorder::connect(&client, &server, &identity, SpoolSummary::default()).await;
    let other = centre.pull(&identity, begin, (60, 70), 3_600).await;
    assert_ne!(last.request().await.id, first.id, "what is done is not asked for again");
    centre.send(reqwest::Method::DELETE, &other, None).await;
}

#[tokio::test]
async fn what_is_taken_back_or_expires_is_not_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(&dir.path().join("data")).unwrap();
    let identity = Identity::enrol(&server.data, &dir.path().join("chest-1"));
    let (centre, client, begin) = (Centre::of(&server), endpoint(), Clock::system().now() - 600 * S);
    let mut recorder = Recorder::connect(&client, &server, &identity, SpoolSummary::default()).await;
    let path = centre.pull(&identity, begin, (0, 60), 3_600).await;
    let request = recorder.request().await;
    centre.send(reqwest::Method::DELETE, &path, None).await;
    assert!(matches!(recorder.next().await, Control::Cancel(cancel) if cancel.id == request.id));
    let short = centre.pull(&identity, begin, (0, 60), 1).await;
    recorder.request().await;
    centre.until(&short, "expired").await;
    recorder.leave();
    let mut again = Recorder::connect(&client, &server, &identity, SpoolSummary::default()).await;
    let wanted = centre.pull(&identity, begin, (60, 61), 3_600).await;
    let told = again.request().await;
    assert!(wanted.ends_with(&told.id.to_string()), "only what is wanted is asked for");
}

#[tokio::test]
async fn what_a_recorder_announced_explains_its_holes_after_a_crash_and_stays_reserved() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(&dir.path().join("data")).unwrap();
    let identity = Identity::enrol(&server.data, &dir.path().join("chest-1"));
    let (client, begin) = (endpoint(), Clock::system().now() - 600 * S);
    let session = Session::open(&client, server.quic, &identity).await.unwrap();
    let mut chain = Chain::new(identity.id, begin);
    session.send(&chain.start(&identity.signing)).await.unwrap();
    session.send(&chain.media(&identity.signing, vec![1; 100].into())).await.unwrap();
    session.connection.close(quinn::VarInt::from_u32(0), b"");
    let waiting = vec![SequenceRange { first: 2, last: 9 }];
    let (oldest, newest) = (Some(begin + 2 * S), Some(begin + 18 * S));
    let spool = SpoolSummary { waiting, bytes: 800, oldest, newest };
    let mut recorder = Recorder::connect(&client, &server, &identity, spool.clone()).await;
    assert_eq!(recorder.welcome.reserved, Some(9));
    recorder.say(Control::Status(Status { clock: slow_clock(), spool })).await;
    let data = server.data.clone();
    server.kill();

    let server = ServerProcess::start(&data).unwrap();
    let at = |seconds| aigaq::lookup::time::format(begin + seconds * S);
    let path = format!("/v1/recorders/{}/coverage?from={}&to={}", identity.id, at(0), at(30));
    let coverage = Centre::of(&server).get(&path).await;
    let holes: Vec<_> =
        coverage["holes"].as_array().unwrap().iter().map(|hole| (&hole["cause"], &hole["to"])).collect();
    assert_eq!(holes, [(&json!("not-uploaded"), &json!(at(18))), (&json!("pending"), &json!(at(30)))]);
    assert!(coverage["spans"][0]["clock"]["offset_us"].is_i64(), "{coverage}");
    let again = Recorder::connect(&client, &server, &identity, SpoolSummary::default()).await;
    assert_eq!(again.welcome.reserved, Some(9));
}
