//! The order between recorders: backlog waits for its turn, and what is of now never for backlog. Over real QUIC, against a server whose
//! commits of footage the test lets through one by one. Who holds the gate opens it when it goes, a test that fails too: a writer that waits
//! there for ever would keep the test from ending.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use aigaq::Clock;
use aigaq::fleet::{Order, Ordered};
use aigaq::ingest::Settings;
use aigaq::store::Store;
use aigaq::store::engine::memory::Memory;
use aigaq::store::engine::{Batch, Direction, Engine, Entry, Family, NewBody, Space};
use aigaq::store::records::FootageKey;
use aigaq_proto::frame::encode_link_prelude;
use bytes::Bytes;
use support::Identity;
use support::chain::{Chain, Link};
use support::gateway::Gateway;
use support::session::{Session, endpoint};
use tokio::task::JoinHandle;

/// Longest that anything here may take; only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(20);
const HOUR_US: u64 = 3_600_000_000;
const WAITING: &str = "aigaq_backlog_waiting_links";
const RECEIVED: &str = "aigaq_received_bytes_total";

/// How many commits with footage may still pass; `None` is any number.
#[derive(Default)]
struct Gate(Mutex<Option<usize>>, Condvar);

impl Gate {
    fn pass(&self) {
        let mut left = self.1.wait_while(self.0.lock().unwrap(), |left| *left == Some(0)).unwrap();
        *left = left.map(|left| left - 1);
    }
}

/// Who says what may pass.
struct Keeper(Arc<Gate>);

impl Keeper {
    fn let_pass(&self, left: impl Into<Option<usize>>) {
        *self.0.0.lock().unwrap() = left.into();
        self.0.1.notify_all();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.let_pass(None);
    }
}

/// An engine in memory behind a gate.
struct Gated(Memory, Arc<Gate>);

impl Engine for Gated {
    fn commit(&self, bodies: &[NewBody], batch: &Batch) -> aigaq::Result<()> {
        if !bodies.is_empty() {
            self.1.pass();
        }
        self.0.commit(bodies, batch)
    }

    fn get(&self, family: Family, key: &[u8]) -> aigaq::Result<Option<Vec<u8>>> {
        self.0.get(family, key)
    }

    fn scan<'a>(
        &'a self,
        family: Family,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = aigaq::Result<Entry>> + 'a> {
        self.0.scan(family, range, direction)
    }

    fn body(&self, key: FootageKey) -> aigaq::Result<Option<Bytes>> {
        self.0.body(key)
    }

    fn bodies<'a>(&'a self) -> Box<dyn Iterator<Item = aigaq::Result<(FootageKey, Bytes)>> + 'a> {
        self.0.bodies()
    }

    fn sweep_after(&self, last: u64) -> aigaq::Result<bool> {
        self.0.sweep_after(last)
    }

    fn forget(&self, family: Family, keys: &[Vec<u8>]) -> aigaq::Result<()> {
        self.0.forget(family, keys)
    }

    fn drop_days_before(&self, day: u32) -> aigaq::Result<()> {
        self.0.drop_days_before(day)
    }

    fn space(&self) -> aigaq::Result<Space> {
        self.0.space()
    }

    fn healthy(&self) -> aigaq::Result<()> {
        self.0.healthy()
    }

    fn close(&self) -> aigaq::Result<()> {
        self.0.close()
    }
}

/// A server with so many hands for backlog that has seen footage of now, and will not forget it.
async fn server(hands: usize, settings: Settings) -> (Gateway, Keeper) {
    let gate = Arc::new(Gate::default());
    let store = Store::with_engine(Arc::new(Gated(Memory::default(), Arc::clone(&gate)))).unwrap();
    let gateway = Gateway::with_store(store, Settings { hands, present_lasts: Duration::from_secs(3_600), ..settings });
    Recorder::begin(&gateway, "first", 0).await;
    (gateway, Keeper(gate))
}

/// A connected recorder and its chain, which has begun.
struct Recorder {
    identity: Identity,
    session: Arc<Session>,
    chain: Chain,
}

impl Recorder {
    /// One whose footage was captured `ago_us` ago.
    async fn begin(gateway: &Gateway, name: &str, ago_us: u64) -> Self {
        let identity = gateway.enrol(name);
        let session = Session::open(&endpoint(), gateway.address, &identity).await.unwrap();
        let mut chain = Chain::new(identity.id, Clock::system().now());
        session.send(&chain.start(&identity.signing)).await.unwrap().receipt();
        chain.captured_at -= ago_us;
        Self { identity, session: Arc::new(session), chain }
    }

    fn media(&mut self, bytes: usize) -> Link {
        self.chain.media(&self.identity.signing, Bytes::from(vec![7; bytes]))
    }

    /// Sends a segment of that size beside everything else; ends with its receipt.
    fn brings(&mut self, bytes: usize) -> JoinHandle<()> {
        let (session, link) = (Arc::clone(&self.session), self.media(bytes));
        tokio::spawn(async move {
            session.send(&link).await.unwrap().receipt();
        })
    }

    /// Begins to send a segment of that size and never goes on.
    async fn stalls(&mut self, bytes: usize) -> quinn::SendStream {
        let link = self.media(bytes);
        let mut stream = self.session.connection.open_uni().await.unwrap();
        stream.write_all(&encode_link_prelude(&link.header_bytes, &link.signature).unwrap()).await.unwrap();
        stream
    }

    /// How many of its segments are durable.
    fn durable(&self, gateway: &Gateway) -> usize {
        gateway.durable(self.identity.id).len() - 1
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Waits until a counter or gauge has a value.
async fn until(gateway: &Gateway, name: &str, value: u64) {
    soon(&format!("{name} = {value}"), async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while gateway.metric(name, None) != value {
            tick.tick().await;
        }
    })
    .await;
}

async fn all(sent: Vec<JoinHandle<()>>) {
    for sent in sent {
        soon("a receipt", sent).await.unwrap();
    }
}

/// Recorders whose footage is of an hour ago.
async fn crowd(gateway: &Gateway) -> Vec<Recorder> {
    let mut crowd = Vec::new();
    for index in 0..10 {
        crowd.push(Recorder::begin(gateway, &format!("crowd {index}"), HOUR_US).await);
    }
    crowd
}

/// Shuts the gate; then each of the crowd brings four links, of which `hands` are before the gate and the others wait for a hand.
async fn queue_up(gateway: &Gateway, gate: &Keeper, crowd: &mut [Recorder], hands: usize) -> Vec<JoinHandle<()>> {
    gate.let_pass(0);
    let sent: Vec<_> = crowd.iter_mut().flat_map(|recorder| [(); 4].map(|()| recorder.brings(20_000))).collect();
    until(gateway, WAITING, (sent.len() - hands) as u64).await;
    sent
}

#[test]
fn a_test_that_fails_before_a_shut_gate_ends() {
    let (ended, ends) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let fails = std::panic::AssertUnwindSafe(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let (gateway, gate) = server(2, Settings::default()).await;
                let mut crowd = crowd(&gateway).await;
                let _sent = queue_up(&gateway, &gate, &mut crowd, 2).await;
                std::panic::resume_unwind(Box::new("a test fails"));
            });
        });
        let failed = std::panic::catch_unwind(fails).is_err();
        ended.send(failed).unwrap();
    });
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(true), "it hangs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_now_does_not_wait_behind_the_backlog_of_others_and_all_of_it_arrives() {
    let (gateway, gate) = server(2, Settings::default()).await;
    let mut live = Recorder::begin(&gateway, "live", 0).await;
    let mut crowd = crowd(&gateway).await;
    let sent = queue_up(&gateway, &gate, &mut crowd, 2).await;
    let before = gateway.metric(RECEIVED, None);
    let of_now = live.brings(30_000);
    until(&gateway, RECEIVED, before + 30_000).await;
    gate.let_pass(4);
    soon("the receipt of what is of now", of_now).await.unwrap();
    let overtaken: usize = crowd.iter().map(|recorder| recorder.durable(&gateway)).sum();
    assert!(overtaken <= 8, "{overtaken} links of backlog in four commits, with two hands");
    gate.let_pass(None);
    all(sent).await;
    assert!(crowd.iter().all(|recorder| recorder.durable(&gateway) == 4), "the backlog moves on by itself");
    assert_eq!(gateway.metric(WAITING, None), 0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_centre_asks_for_does_not_wait_either() {
    let (gateway, gate) = server(1, Settings::default()).await;
    let mut asked = Recorder::begin(&gateway, "asked", 2 * HOUR_US).await;
    let mut crowd = crowd(&gateway).await;
    let mut sent = queue_up(&gateway, &gate, &mut crowd, 1).await;
    let before = gateway.metric(RECEIVED, None);
    sent.push(asked.brings(30_000));
    until(&gateway, WAITING, sent.len() as u64 - 1).await;
    let from = asked.chain.captured_at;
    let order = Order {
        recorder: asked.identity.id,
        from,
        to: from + 60_000_000,
        expires_at: Clock::system().now() + HOUR_US,
        reason: "a fight at the station".to_owned(),
        key: None,
    };
    assert!(matches!(gateway.fleet.order(order).unwrap(), Ordered::New(_)));
    let wanted = asked.brings(40_000);
    until(&gateway, RECEIVED, before + 40_000).await;
    gate.let_pass(4);
    soon("the receipt of what was asked for", wanted).await.unwrap();
    gate.let_pass(None);
    all(sent).await;
    gateway.stop().await;
}

/// One connection with backlog that waits behind that of others, and then a segment of now.
async fn beside_its_own_backlog(backlog: &[usize], of_now: usize) {
    let (gateway, gate) = server(1, Settings::default()).await;
    let mut recorder = Recorder::begin(&gateway, "both", HOUR_US).await;
    let mut crowd = crowd(&gateway).await;
    let mut sent = queue_up(&gateway, &gate, &mut crowd, 1).await;
    sent.extend(backlog.iter().map(|bytes| recorder.brings(*bytes)));
    until(&gateway, WAITING, sent.len() as u64 - 1).await;
    let before = gateway.metric(RECEIVED, None);
    recorder.chain.captured_at = Clock::system().now();
    let live = recorder.brings(of_now);
    until(&gateway, RECEIVED, before + of_now as u64).await;
    gate.let_pass(4);
    soon("the receipt of what is of now", live).await.unwrap();
    assert_eq!(recorder.durable(&gateway), 1, "its backlog waits for its turn");
    gate.let_pass(None);
    all(sent).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_small_backlog_of_a_recorder_leaves_room_for_its_own_footage_of_now() {
    beside_its_own_backlog(&[30_000; 4], 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_large_backlog_of_a_recorder_leaves_room_for_its_own_footage_of_now() {
    beside_its_own_backlog(&[2_000_000], 1_000_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backlog_that_stalls_takes_neither_the_room_of_what_is_of_now_nor_a_turn_for_ever() {
    let settings = Settings {
        payload_bytes_max: 1 << 20,
        memory_bytes_max: 8 << 20,
        stall_timeout: PATIENCE,
        ..Settings::default()
    };
    let (gateway, _gate) = server(1, settings).await;
    let mut stalled = Vec::new();
    for index in 0..9 {
        let mut recorder = Recorder::begin(&gateway, &format!("stalled {index}"), HOUR_US).await;
        stalled.push((recorder.stalls(1 << 20).await, recorder));
    }
    // A quarter of 7.5 MiB holds one of them, which waits for the network without a hand.
    until(&gateway, WAITING, 8).await;
    let mut live = Recorder::begin(&gateway, "live", 0).await;
    soon("room for what is of now", live.brings(1 << 20)).await.unwrap();
    let mut small = Recorder::begin(&gateway, "small", HOUR_US).await;
    let behind = small.brings(1_000);
    until(&gateway, WAITING, 9).await;
    for (_, recorder) in &stalled {
        recorder.session.connection.close(0_u32.into(), b"out of battery");
    }
    soon("the turn of who waited behind them", behind).await.unwrap();
    until(&gateway, WAITING, 0).await;
    gateway.stop().await;
}
