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
use crate::clock::Clock;
use crate::enrol::{self, EnrolRequest};
use crate::error::{Context, Error, Kind, Result};
use crate::media::Segment;
use crate::recorder::{self, Identity, Item, Observer, Options, Pace, Report, Source};
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
    /// `HOST:PORT`.
    pub(super) server: String,
}

/// Length of a link where the rate does not give one.
const SEGMENT_US: u64 = 1_000_000;
/// Longest length of a link, the protocol's.
const SEGMENT_US_MAX: u64 = aigaq_proto::limits::DURATION_US_MAX as u64;
/// Random bytes beyond one payload: as many payloads that differ.
const SPARE_BYTES: usize = 1 << 16;
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

    /// When recorder `index` begins, so that their links are spread evenly over the time of one.
    fn delay(&self, index: u32) -> Duration {
        match self.rate {
            0 => Duration::ZERO,
            _ => Duration::from_micros(
                self.segment_us().min(SEGMENT_US_MAX) * u64::from(index) / u64::from(self.recorders),
            ),
        }
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
                enrol::enrol(&data, request, &dir, &Clock::system())?;
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
        figures.begin();
        let until = Instant::now() + self.plan.duration;
        for (index, identity) in (0..).zip(self.identities) {
            let (items, feed) = mpsc::channel(2);
            let mut options = Options::new(identity, Source::Feed(feed));
            options.pace = if self.plan.rate == 0 { Pace::Fast } else { Pace::RealTime };
            options.stop = stop.clone();
            options.observer = Some(figures.clone() as Arc<dyn Observer>);
            let delay = self.plan.delay(index);
            tokio::spawn(feed_items(items, self.plan.clone(), self.noise.clone(), index as usize, delay, until));
            running.spawn(async move {
                tokio::time::sleep(delay).await;
                recorder::record(options).await
            });
        }
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
        reports
    }
}

/// Makes the footage of one recorder until the time is over or nobody takes it.
async fn feed_items(
    items: mpsc::Sender<Result<Item>>,
    plan: Plan,
    noise: Bytes,
    index: usize,
    delay: Duration,
    until: Instant,
) {
    let (bytes, duration_us) = (plan.segment_bytes as usize, plan.segment_us());
    let init = Item::Init { bytes: noise.slice(..noise.len().min(64)), codecs: "avc1.64001f".to_owned() };
    let begun = Instant::now() + delay;
    let mut item = init;
    for number in 0_u64.. {
        tokio::select! {
            sent = items.send(Ok(item)) => if sent.is_err() { return },
            () = tokio::time::sleep_until(until) => return,
        }
        let decode_time_us = number * duration_us;
        if plan.rate > 0 && begun + Duration::from_micros(decode_time_us) >= until {
            return;
        }
        let offset = (index * 7919 + number as usize * 13) % SPARE_BYTES;
        item = Item::Segment(Segment {
            bytes: noise.slice(offset..offset + bytes),
            decode_time_us,
            duration_us,
            independent: true,
        });
    }
}
