//! A reference recorder that a test films with, and what it saw.
#![allow(dead_code, reason = "shared by tests that each use a part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aigaq::media::Segment;
use aigaq::recorder::{Command, Identity, Item, Observer, Options, Order, Pace, Report, Source, record};
use aigaq_proto::link::StopCause;
use aigaq_proto::{Micros, RecorderId, Sequence};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::support::gateway::Gateway;

/// Longest that anything here may take; only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a segment lasts.
pub(crate) const SEGMENT_US: u64 = 2_000_000;

/// Waits until a question is answered with something.
pub(crate) async fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            if let Some(answer) = ask() {
                return answer;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(answer) => answer,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// When links were made and when their receipts came, and what the recorder told people.
#[derive(Default)]
pub(crate) struct Seen {
    made: Mutex<BTreeMap<Sequence, (Instant, usize)>>,
    receipts: Mutex<BTreeMap<Sequence, Instant>>,
    notes: Mutex<Vec<String>>,
    connections: Mutex<Vec<quinn::Connection>>,
}

impl Observer for Seen {
    fn connected(&self, connection: &quinn::Connection) {
        self.connections.lock().unwrap().push(connection.clone());
    }

    fn link(&self, sequence: Sequence, bytes: usize) {
        self.made.lock().unwrap().insert(sequence, (Instant::now(), bytes));
    }

    fn receipt(&self, sequence: Sequence, _bytes: usize, _waited: Duration) {
        let before = self.receipts.lock().unwrap().insert(sequence, Instant::now());
        assert!(before.is_none(), "link {sequence} settles once");
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}

/// The recorder.
pub(crate) struct Device {
    pub(crate) id: RecorderId,
    pub(crate) seen: Arc<Seen>,
    feed: Option<mpsc::Sender<aigaq::Result<Item>>>,
    commands: mpsc::Sender<Command>,
    recording: Option<JoinHandle<aigaq::Result<Report>>>,
    filmed: u64,
    /// When the next segment is captured, device clock; `None` follows the one before.
    next_at: Option<Micros>,
}

impl Device {
    /// Enrols a recorder and starts it towards these addresses.
    pub(crate) fn start(gateway: &Gateway, towards: &[SocketAddr]) -> Self {
        Self::start_with(gateway, towards, |_| {})
    }

    /// The same with its options changed.
    pub(crate) fn start_with(gateway: &Gateway, towards: &[SocketAddr], change: impl FnOnce(&mut Options)) -> Self {
        Self::start_as(&gateway.enrol("device").dir, towards, change)
    }

    /// The same as whom it was enrolled before.
    pub(crate) fn start_as(identity: &Path, towards: &[SocketAddr], change: impl FnOnce(&mut Options)) -> Self {
        let (feed, items) = mpsc::channel(1);
        let mut options = Options::new(Identity::load(identity).unwrap(), Source::Feed(items));
        let seen = Arc::new(Seen::default());
        let towards: Vec<_> = towards.iter().map(SocketAddr::to_string).collect();
        options.server = Some(towards.join(","));
        options.pace = Pace::Fast;
        options.observer = Some(seen.clone());
        change(&mut options);
        let id = options.identity.id;
        let commands = options.commands.clone();
        let recording = Some(tokio::spawn(record(options)));
        Self { id, seen, feed: Some(feed), commands, recording, filmed: 0, next_at: None }
    }

    /// The next segment was captured at this time.
    pub(crate) fn at(&mut self, time: Micros) {
        self.next_at = Some(time);
    }

    /// Makes so many segments of so many bytes, each as soon as the recorder takes it.
    pub(crate) async fn film(&mut self, segments: u64, bytes: usize) {
        let feed = self.feed.as_ref().unwrap();
        if self.filmed == 0 {
            let init = Item::Init { bytes: Bytes::from_static(b"initialisation"), codecs: String::new() };
            feed.send(Ok(init)).await.unwrap();
        }
        for _ in 0..segments {
            if let Some(time) = self.next_at.take() {
                feed.send(Ok(Item::At(time))).await.unwrap();
            }
            let payload: Vec<u8> = (0..bytes as u64).map(|at| ((at + self.filmed * 31) % 251) as u8).collect();
            let decode_time_us = self.filmed * SEGMENT_US;
            let segment = Segment { bytes: payload.into(), decode_time_us, duration_us: SEGMENT_US, independent: true };
            feed.send(Ok(Item::Segment(segment))).await.unwrap();
            self.filmed += 1;
        }
    }

    /// Waits until everything that was filmed has its receipt.
    pub(crate) async fn has_receipts(&self) {
        let wanted = usize::try_from(self.filmed).unwrap() + 1;
        until("the receipts", || (self.seen.receipts.lock().unwrap().len() >= wanted).then_some(())).await;
    }

    /// Waits until everything that was filmed is in the spool; the sequence of the last link.
    pub(crate) async fn has_links(&self) -> Sequence {
        until("the links", || {
            let made = self.seen.made.lock().unwrap();
            made.keys().next_back().copied().filter(|_| made.len() as u64 > self.filmed)
        })
        .await
    }

    /// Sequences in the order in which their receipts came.
    pub(crate) fn order(&self) -> Vec<Sequence> {
        let mut receipts: Vec<_> = self.seen.receipts.lock().unwrap().iter().map(|(at, when)| (*when, *at)).collect();
        receipts.sort_unstable();
        receipts.into_iter().map(|(_, sequence)| sequence).collect()
    }

    /// Ends the recording and waits for the recorder's report.
    pub(crate) async fn end(&mut self) -> aigaq::Result<Report> {
        self.feed = None;
        let ended = tokio::time::timeout(PATIENCE, self.recording.take().unwrap()).await;
        ended.unwrap_or_else(|_| panic!("it does not end: {:?}", self.notes())).unwrap()
    }

    /// Ends the recording: every link has one receipt and is stored once, and the server has nothing else.
    pub(crate) async fn ends_whole(&mut self, gateway: &Gateway) -> Report {
        let report = self.end().await.unwrap();
        assert_eq!((report.links, &report.lost), (report.receipts, &Vec::new()), "{:?}", self.notes());
        let sequences: Vec<_> = self.seen.receipts.lock().unwrap().keys().copied().collect();
        assert_eq!(sequences, (0..report.links).collect::<Vec<_>>(), "a receipt for each");
        assert_eq!(gateway.durable(self.id), sequences, "what has a receipt is stored");
        assert_eq!(gateway.store.log_size().unwrap(), report.links, "nothing is stored twice");
        assert_eq!(gateway.metric("aigaq_forks_total", None), 0, "no fork");
        assert_eq!(gateway.metric("aigaq_quarantine_total", None), 0, "nothing spoilt");
        report
    }

    /// How many connections have come to a welcome.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.lock().unwrap().len()
    }

    /// Cuts the connection off: the server forgets what was not complete.
    pub(crate) fn cut(&self) {
        if let Some(connection) = self.seen.connections.lock().unwrap().last() {
            connection.close(0_u32.into(), b"cut by the test");
        }
    }

    /// The payloads of all links, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.seen.made.lock().unwrap().values().map(|(_, bytes)| *bytes as u64).sum()
    }

    /// Payload of the links that have a receipt, bytes.
    pub(crate) fn received(&self) -> u64 {
        let made = self.seen.made.lock().unwrap();
        self.seen.receipts.lock().unwrap().keys().filter_map(|at| Some(made.get(at)?.1 as u64)).sum()
    }

    /// When the receipt of a link came.
    pub(crate) fn receipt_of(&self, sequence: Sequence) -> Option<Instant> {
        self.seen.receipts.lock().unwrap().get(&sequence).copied()
    }

    /// Raises a mark, as the button would; its sequence once it is durable on the device.
    pub(crate) async fn mark(&self) -> Sequence {
        let (answer, said) = tokio::sync::oneshot::channel();
        let order = Order::Mark { category: "bribe".to_owned(), note: String::new() };
        self.commands.send(Command { order, answer }).await.unwrap();
        said.await.unwrap().strip_prefix("ok ").unwrap().parse().unwrap()
    }

    /// Ends the recording for this reason, as the recorder's own buttons and sensors would.
    pub(crate) async fn stop(&self, cause: StopCause) {
        let (answer, said) = tokio::sync::oneshot::channel();
        self.commands.send(Command { order: Order::Stop(cause), answer }).await.unwrap();
        assert_eq!(said.await.unwrap(), "ok");
    }

    /// Ends it as a loss of power would.
    pub(crate) fn abandon(&self) {
        self.recording.iter().for_each(JoinHandle::abort);
    }

    /// How long each link took from its making to its receipt.
    pub(crate) fn delays(&self) -> BTreeMap<Sequence, Duration> {
        let made = self.seen.made.lock().unwrap();
        let receipts = self.seen.receipts.lock().unwrap();
        receipts.iter().filter_map(|(at, receipt)| Some((*at, *receipt - made.get(at)?.0))).collect()
    }

    /// The same, waiting until nothing of it is left.
    pub(crate) async fn dies(mut self) {
        let recording = self.recording.take().unwrap();
        recording.abort();
        assert!(recording.await.unwrap_err().is_cancelled());
    }

    /// What the recorder told people.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.seen.notes.lock().unwrap().clone()
    }
}
