//! The recorders of a load: enrolled together, begun one after the other, stopped together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::figures::Figures;
use super::network;
use crate::clock::Clock;
use crate::enrol::{self, EnrolRequest};
use crate::error::{Context, Error, Kind, Result};
use crate::media::Segment;
use crate::recorder::{self, Command, Identity, Item, Options, Order, Pace, Report, Source};
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
/// How long the last receipts may take.
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
        u64::try_from(self.backlog_length.as_micros()).unwrap_or(u64::MAX) / self.segment_us()
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

    /// Runs every recorder to its last receipt, or until `stop` and some patience have passed.
    pub(super) async fn run(self, figures: Arc<Figures>, stop: CancellationToken) -> Vec<Result<Report>> {
        let mut running = JoinSet::new();
        let endpoints = match network::endpoints(self.plan.recorders, self.plan.loss, self.plan.seed) {
            Ok(endpoints) => endpoints,
            Err(error) => return vec![Err(error)],
        };
        figures.begin();
        let until = Instant::now() + self.plan.duration;
        for ((index, identity), endpoint) in (0..).zip(self.identities).zip(endpoints.into_iter().cycle()) {
            let (items, feed) = mpsc::channel(2);
            let waiting = self.plan.waiting(index);
            let mut options = Options::new(identity, Source::Feed(feed));
            // The feed keeps the time: what waits goes as fast as it can, what is recorded now when it is.
            options.pace = Pace::Fast;
            options.stop = stop.clone();
            options.endpoint = Some(endpoint);
            options.observer = Some(Figures::watch(&figures, waiting));
            let delay = self.plan.delay(index);
            let ahead = i128::try_from(delay.as_micros()).unwrap_or(0);
            let behind = i128::from(waiting) * i128::from(self.plan.segment_us());
            let now = i128::from(options.clock.now());
            options.start = u64::try_from(now + ahead - behind).ok();
            if let Some(every) = self.plan.marks {
                tokio::spawn(marks(options.commands.clone(), every, delay, until));
            }
            let feed = Feed { plan: self.plan.clone(), noise: self.noise.clone(), index: index as usize, waiting };
            tokio::spawn(feed.run(items, delay, until));
            running.spawn(async move {
                tokio::time::sleep(delay).await;
                recorder::record(options).await
            });
        }
        let storm = self.plan.storm.map(|every| tokio::spawn(storms(figures.clone(), every, until)));
        let mut reports = Vec::new();
        let gather = async {
            while let Some(ended) = running.join_next().await {
                reports.push(ended.context(Kind::Internal, "a recorder died").and_then(|report| report));
            }
        };
        if tokio::time::timeout_at(until + PATIENCE, gather).await.is_err() {
            let left = running.len();
            running.abort_all();
            let late = format!("{left} recorders did not get their last receipts within {} s", PATIENCE.as_secs());
            reports.push(Err(Error::new(Kind::Busy, late)));
        }
        if let Some(storm) = storm {
            storm.abort();
        }
        reports
    }
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
async fn marks(commands: mpsc::Sender<Command>, every: Duration, delay: Duration, until: Instant) {
    let mut next = Instant::now() + delay + every;
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
}

impl Feed {
    /// Gives what waits at once and the rest when it would be recorded, until the time is over or nobody takes it.
    async fn run(self, items: mpsc::Sender<Result<Item>>, delay: Duration, until: Instant) {
        let init = self.noise.slice(..self.noise.len().min(64));
        let mut item = Item::Init { bytes: init, codecs: "avc1.64001f".to_owned() };
        let duration_us = self.plan.segment_us();
        let begun = Instant::now() + delay;
        for number in 0_u64.. {
            tokio::select! {
                sent = items.send(Ok(item)) => if sent.is_err() { return },
                () = tokio::time::sleep_until(until) => return,
            }
            if let (true, Some(live)) = (self.plan.rate > 0, number.checked_sub(self.waiting)) {
                let due = begun + Duration::from_micros(live * duration_us);
                if due >= until {
                    return;
                }
                tokio::time::sleep_until(due).await;
            }
            item = Item::Segment(self.segment(number));
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
