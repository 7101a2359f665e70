//! The recorders of a load: enrolled together, begun one after the other, stopped together. A backlog is signed and in its spool before the
//! time that is measured begins, as on a device that recorded it hours ago.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::figures::Figures;
use super::network;
use crate::clock::Clock;
use crate::enrol::{self, EnrolRequest};
use crate::error::{Context, Error, Kind, Result};
use crate::media::Segment;
use crate::recorder::{self, Ask, Command, Identity, Item, Options, Order, Pace, Report, Source};
use crate::store::records::RecorderKind;

/// What the recorders are to do.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// How many.
    pub(super) recorders: u32,
    /// Bytes per second of each; 0 is as fast as it goes.
    pub(super) rate: u64,
    /// Payload of one link, bytes.
    pub(super) segment_bytes: u32,
    /// How long they record.
    pub(super) duration: Duration,
    /// Over how long they begin; `None` is the time of one link.
    pub(super) ramp: Option<Duration>,
    /// Part of the datagrams that is lost each way.
    pub(super) loss: f64,
    /// How often every connection is cut.
    pub(super) storm: Option<Duration>,
    /// How often each raises a mark.
    pub(super) marks: Option<Duration>,
    /// How many of them begin with a backlog.
    pub(super) backlog: u32,
    /// How long that backlog is.
    pub(super) backlog_length: Duration,
    /// What loss is drawn from.
    pub(super) seed: u64,
    /// `HOST:PORT`.
    pub(super) server: String,
}

/// Length of a link where the rate does not give one.
const SEGMENT_US: u64 = 1_000_000;
/// Longest length of a link, the protocol's.
const SEGMENT_US_MAX: u64 = aigaq_proto::limits::DURATION_US_MAX as u64;
/// Random bytes beyond one payload: as many payloads that differ.
const SPARE_BYTES: usize = 1 << 16;
/// Category of the marks.
const MARK: &str = "load";
/// How long before it is made the newest of a backlog was recorded: no server takes it for live.
const AGO: Duration = Duration::from_secs(60);
/// One recorder begins to make its backlog so long after the other, so that their handshakes are spread.
const MAKES_EACH: Duration = Duration::from_millis(4);
/// How long nothing may come when the time is over and receipts are missing: a server lets backlog wait.
const PATIENCE: Duration = Duration::from_secs(60);

impl Plan {
    /// How much time one link covers, microseconds.
    fn segment_us(&self) -> u64 {
        match self.rate {
            0 => SEGMENT_US,
            rate => (u64::from(self.segment_bytes) * 1_000_000 / rate).clamp(1_000, SEGMENT_US_MAX),
        }
    }

    /// When recorder `index` begins, so that the beginnings are spread evenly over the ramp, and links over the time of one.
    fn delay(&self, index: u32) -> Duration {
        let over = match (self.ramp, self.rate) {
            (Some(ramp), _) => ramp,
            (None, 0) => return Duration::ZERO,
            (None, _) => Duration::from_micros(self.segment_us()),
        };
        over.mul_f64(f64::from(index) / f64::from(self.recorders))
    }

    /// How many links recorder `index` has waiting when it begins. The last ones have the backlog.
    fn waiting(&self, index: u32) -> u64 {
        if index < self.recorders.saturating_sub(self.backlog) {
            return 0;
        }
        self.waiting_each()
    }

    /// How many links each of those with a backlog has waiting.
    pub(super) fn waiting_each(&self) -> u64 {
        micros(self.backlog_length) / self.segment_us()
    }

    /// When recorder `index` begins to make its backlog, if it has one.
    fn makes_backlog_after(&self, index: u32) -> Option<Duration> {
        let nth = index.checked_sub(self.recorders.saturating_sub(self.backlog))?;
        (self.waiting_each() > 0).then(|| MAKES_EACH * nth)
    }
}

/// Recorders that are enrolled.
pub(super) struct Fleet {
    plan: Plan,
    identities: Vec<Identity>,
    noise: Bytes,
}

impl Fleet {
    /// Enrols the recorders of `plan` in `data`; their identities go to `out`.
    ///
    /// # Errors
    /// Whatever enrolling fails with.
    pub(super) async fn enrol(plan: Plan, data: PathBuf, out: PathBuf) -> Result<Self> {
        let enrolling = tokio::task::spawn_blocking(move || {
            let identities = (0..plan.recorders).map(|index| {
                let dir = out.join(index.to_string());
                let request = EnrolRequest {
                    kind: RecorderKind::Vehicle,
                    department: "Load".to_owned(),
                    label: format!("Load {index}"),
                    server: Some(plan.server.clone()),
                };
                enrol::enrol(&data, request, &dir, &enrol::Settings::default(), &Clock::system())?;
                Identity::load(&dir)
            });
            let identities = identities.collect::<Result<_>>()?;
            let mut noise = vec![0; plan.segment_bytes as usize + SPARE_BYTES];
            aws_lc_rs::rand::fill(&mut noise).map_err(|_| Error::new(Kind::Internal, "no random bytes"))?;
            Ok(Self { plan, identities, noise: noise.into() })
        });
        enrolling.await.context(Kind::Internal, "enrolling died")?
    }

    /// Lets the backlog be made, and then runs every recorder to its last receipt, or until the time is over and no receipt comes any more.
    pub(super) async fn run(self, figures: Arc<Figures>, stop: CancellationToken) -> Vec<Result<Report>> {
        let mut running = JoinSet::new();
        let endpoints = match network::endpoints(self.plan.recorders, self.plan.loss, self.plan.seed) {
            Ok(endpoints) => endpoints,
            Err(error) => return vec![Err(error)],
        };
        let (begin, begins) = watch::channel(None);
        let (ready, readied) = mpsc::channel(1);
        for ((index, identity), endpoint) in (0..).zip(self.identities).zip(endpoints.into_iter().cycle()) {
            let (items, feed) = mpsc::channel(2);
            let (waiting, delay, opens) = (self.plan.waiting(index), self.plan.delay(index), CancellationToken::new());
            let mut options = Options::new(identity, Source::Feed(feed));
            // The feed keeps the time: what waits goes as fast as it can, what is recorded now when it is.
            options.pace = Pace::Fast;
            options.stop = stop.clone();
            options.endpoint = Some(endpoint);
            options.observer = Some(Figures::watch(&figures, waiting));
            let makes = self.plan.makes_backlog_after(index);
            if makes.is_some() {
                let behind = waiting * self.plan.segment_us() + micros(AGO);
                options.start = Some(options.clock.now().saturating_sub(behind));
                options.opens = Some(opens.clone());
            }
            if let Some(every) = self.plan.marks {
                tokio::spawn(marks(options.commands.clone(), every, delay, begins.clone()));
            }
            let plan = self.plan.clone();
            let feed = Feed { plan, noise: self.noise.clone(), index: index as usize, waiting, delay };
            tokio::spawn(feed.run(items, ready.clone(), begins.clone(), opens));
            let begins = begins.clone();
            running.spawn(async move {
                match makes {
                    Some(after) => tokio::time::sleep(after).await,
                    None => drop(begun(begins, delay).await),
                }
                recorder::record(options).await
            });
        }
        drop(ready);
        if !are_ready(readied, &figures).await {
            return vec![Err(Error::new(Kind::Busy, "the recorders could not connect and make their backlog"))];
        }
        figures.begin();
        let at = Instant::now();
        let until = at + self.plan.duration;
        begin.send_replace(Some(Measured { at, until }));
        let storm = self.plan.storm.map(|every| tokio::spawn(storms(figures.clone(), every, until)));
        let mut reports = Vec::new();
        let gather = async {
            while let Some(ended) = running.join_next().await {
                reports.push(ended.context(Kind::Internal, "a recorder died").and_then(|report| report));
            }
        };
        let silence = async {
            tokio::time::sleep_until(until + PATIENCE).await;
            while let Some(left) = PATIENCE.checked_sub(figures.quiet()).filter(|left| !left.is_zero()) {
                tokio::time::sleep(left).await;
            }
        };
        let ended = tokio::select! {
            () = gather => true,
            () = silence => false,
        };
        if !ended {
            let left = running.len();
            running.abort_all();
            let late = format!("{left} recorders miss receipts, and none came for {} s", PATIENCE.as_secs());
            reports.push(Err(Error::new(Kind::Busy, late)));
        }
        if let Some(storm) = storm {
            storm.abort();
        }
        reports
    }
}

/// The time that is measured.
#[derive(Debug, Clone, Copy)]
struct Measured {
    at: Instant,
    until: Instant,
}

/// Waits until a recorder begins. When that was, and until when it records; `None` if the load was given up.
async fn begun(mut begins: watch::Receiver<Option<Measured>>, delay: Duration) -> Option<Measured> {
    let Measured { at, until } = (*begins.wait_for(Option::is_some).await.ok()?)?;
    let at = at + delay;
    tokio::time::sleep_until(at).await;
    Some(Measured { at, until })
}

/// Waits until every feed has dropped its end: the backlogs are made. False if no link is made for too long.
async fn are_ready(mut readied: mpsc::Receiver<Infallible>, figures: &Figures) -> bool {
    let mut made = figures.links();
    while tokio::time::timeout(PATIENCE, readied.recv()).await.is_err() {
        let before = std::mem::replace(&mut made, figures.links());
        if made == before {
            return false;
        }
    }
    true
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Cuts every connection, again and again, until the time is over.
async fn storms(figures: Arc<Figures>, every: Duration, until: Instant) {
    let mut next = Instant::now() + every;
    while next < until {
        tokio::time::sleep_until(next).await;
        figures.cut();
        next += every;
    }
}

/// Raises marks until the time is over or the recorder has ended.
async fn marks(
    commands: mpsc::Sender<Command>,
    every: Duration,
    delay: Duration,
    begins: watch::Receiver<Option<Measured>>,
) {
    let Some(Measured { at, until }) = begun(begins, delay).await else { return };
    let mut next = at + every;
    while next < until {
        tokio::time::sleep_until(next).await;
        let mark = Order::Mark { category: MARK.to_owned(), note: String::new() };
        if commands.send(Command::unanswered(mark)).await.is_err() {
            return;
        }
        next += every;
    }
}

/// Makes the footage of one recorder.
struct Feed {
    plan: Plan,
    noise: Bytes,
    index: usize,
    waiting: u64,
    delay: Duration,
}

impl Feed {
    /// Gives what waits, which is kept until `opens`, says that it is ready when all of that is signed, and gives the rest when it would be
    /// recorded, until the time is over or nobody takes it.
    async fn run(
        self,
        items: mpsc::Sender<Result<Item>>,
        ready: mpsc::Sender<Infallible>,
        begins: watch::Receiver<Option<Measured>>,
        opens: CancellationToken,
    ) {
        let opens = opens.drop_guard();
        if self.backlog(&items).await.is_none() {
            return;
        }
        drop(ready);
        if let Some(measured) = begun(begins, self.delay).await {
            drop(opens);
            self.live(&items, measured).await;
        }
    }

    /// `None` if nobody takes it.
    async fn backlog(&self, items: &mpsc::Sender<Result<Item>>) -> Option<()> {
        let init = self.noise.slice(..self.noise.len().min(64));
        items.send(Ok(Item::Init { bytes: init, codecs: "avc1.64001f".to_owned() })).await.ok()?;
        for number in 0..self.waiting {
            items.send(Ok(Item::Segment(self.segment(number)))).await.ok()?;
        }
        if self.waiting > 0 {
            let (ask, mut answer) = Ask::about(0..0);
            items.send(Ok(Item::Ask(ask))).await.ok()?;
            answer.recv().await?;
        }
        Some(())
    }

    async fn live(&self, items: &mpsc::Sender<Result<Item>>, Measured { at, until }: Measured) {
        let duration_us = self.plan.segment_us();
        let give = async |item| {
            tokio::select! {
                sent = items.send(Ok(item)) => sent.is_ok(),
                () = tokio::time::sleep_until(until) => false,
            }
        };
        for number in self.waiting.. {
            if self.plan.rate > 0 {
                let due = at + Duration::from_micros((number - self.waiting) * duration_us);
                if due >= until {
                    return;
                }
                tokio::time::sleep_until(due).await;
                let captured_at = Clock::system().now().saturating_sub(duration_us);
                if number == self.waiting && !give(Item::At(captured_at)).await {
                    return;
                }
            }
            if !give(Item::Segment(self.segment(number))).await {
                return;
            }
        }
    }

    fn segment(&self, number: u64) -> Segment {
        let (bytes, duration_us) = (self.plan.segment_bytes as usize, self.plan.segment_us());
        let offset = (self.index * 7919 + number as usize * 13) % SPARE_BYTES;
        Segment {
            bytes: self.noise.slice(offset..offset + bytes),
            decode_time_us: number * duration_us,
            duration_us,
            independent: true,
        }
    }
}
