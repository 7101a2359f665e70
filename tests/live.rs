//! How long it takes until a control centre sees and hears of what happens now, over real QUIC and HTTP against the program itself: an
//! urgent mark reaches a console within a second of its receipt, and live footage of segments of a second is at most four seconds
//! behind the lens.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, Instant};

use aigaq::Clock;
use aigaq_proto::Micros;
use bytes::Bytes;
use serde_json::Value;
use support::Identity;
use support::chain::Chain;
use support::process::ServerProcess;
use support::session::{Session, endpoint};

/// Longest that anything here may take; only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(20);
const S: Micros = 1_000_000;

struct Site {
    server: ServerProcess,
    identity: Identity,
    session: Session,
    client: reqwest::Client,
    _dir: tempfile::TempDir,
    _endpoint: quinn::Endpoint,
}

impl Site {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = ServerProcess::start(&dir.path().join("data")).unwrap();
        let identity = Identity::enrol(&server.data, &dir.path().join("recorder"));
        let endpoint = endpoint();
        let session = Session::open(&endpoint, server.quic, &identity).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { server, identity, session, client, _dir: dir, _endpoint: endpoint }
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.client.get(format!("http://{}{path}", self.server.api)).bearer_auth(self.server.token());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response
    }
}

/// The next event with data of a stream, and when it came.
async fn event(response: &mut reqwest::Response, text: &mut String) -> (Instant, Value) {
    loop {
        while let Some((block, rest)) = text.split_once("\n\n") {
            let data = block.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
            *text = rest.to_owned();
            if let Some(data) = data {
                return (Instant::now(), serde_json::from_str(&data).unwrap());
            }
        }
        let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await.expect("an event comes").unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_mark_reaches_a_console_within_a_second_of_its_receipt() {
    let site = Site::start().await;
    let mut chain = Chain::new(site.identity.id, Clock::system().now());
    let (mut console, mut text) = (site.get("/v1/events?kinds=mark").await, String::new());
    let mut slowest = Duration::ZERO;
    for category in ["bribe-attempt", "emergency"].iter().cycle().take(10) {
        chain.captured_at = Clock::system().now();
        let link = chain.mark(&site.identity.signing, category);
        let watch = async { event(&mut console, &mut text).await };
        let send = async {
            site.session.send(&link).await.unwrap().receipt();
            Instant::now()
        };
        let ((told_at, told), durable_at) = tokio::join!(watch, send);
        assert_eq!((told["category"].as_str().unwrap(), &told["urgent"]), (*category, &Value::Bool(true)));
        slowest = slowest.max(told_at.saturating_duration_since(durable_at));
    }
    println!("an urgent mark is told at most {slowest:?} after its receipt");
    assert!(slowest <= Duration::from_secs(1), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_footage_of_segments_of_a_second_is_at_most_four_seconds_behind_the_lens() {
    let site = Site::start().await;
    let key = &site.identity.signing;
    let clock = Clock::system();
    let mut chain = Chain::new(site.identity.id, clock.now());
    site.session.send(&chain.start(key)).await.unwrap().receipt();
    let path = format!("/v1/recorders/{}/live", site.identity.id);
    let (mut oldest, mut shown) = (0, 0);
    for second in 0..8 {
        // The lens: a segment is there when its second is over.
        let end = chain.captured_at + S;
        let over = Duration::from_micros(end.saturating_sub(clock.now()));
        tokio::time::sleep(over).await;
        let link = chain.media_of(key, Bytes::from(vec![second; 100_000]), 1_000_000);
        let sequence = link.header.sequence;
        site.session.send(&link).await.unwrap().receipt();
        let playlist = site.get(&format!("{path}.m3u8")).await.text().await.unwrap();
        let last = playlist.lines().rfind(|line| line.ends_with(".m4s")).unwrap();
        assert_eq!(last, format!("live/seg-{sequence}.m4s"), "{playlist}");
        let target: Micros =
            playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-TARGETDURATION:")).unwrap().parse().unwrap();
        site.get(&format!("{path}/seg-{sequence}.m4s")).await.bytes().await.unwrap();
        let now = clock.now();
        // The first picture of the segment, and what a player shows that stays three target durations from the end (RFC 8216 section 6.3.3).
        oldest = oldest.max(now - (end - S));
        shown = shown.max(now - (end - 3 * target * S));
    }
    println!(
        "the first picture of a segment can be had {oldest} µs after the lens, a player shows {shown} µs behind it"
    );
    assert!(oldest <= 4 * S && shown <= 4 * S, "{oldest} µs, {shown} µs");
}
