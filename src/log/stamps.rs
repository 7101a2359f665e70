//! Asking an authority for time stamps (RFC 3161) over checkpoints of this log, every few minutes while it grows and for an export;
//! never on the path of a commit.
//!
//! A stamp says that what the checkpoint covers was there at its time, by the word of somebody who knows nothing of this server. What
//! is kept was checked in full: what is stamped, the nonce, the signature, the purpose of the certificate and its way to the CAs of
//! the configuration. An authority that does not answer, or answers something else, stops nothing: it is counted, and asked again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aigaq_proto::Micros;
use http::{Request, header};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::alarm::Alarm;
use super::{Reader, StampMetrics, Tree};
use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};
use crate::http::Client;
use crate::timestamp::{self, QUERY, Refusal};

/// How often it is looked whether a stamp is due, at most.
const ROUND_MAX: Duration = Duration::from_secs(60);
/// How long the log may be without a new stamp before a person should know.
const ALARM_AFTER: Duration = Duration::from_secs(3_600);
/// How far an authority's clock may be from this one.
const OFF_MAX: Micros = 300_000_000;

/// Who is asked, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the authority is.
    pub url: Url,
    /// Time between two stamps while the log grows.
    pub interval: Duration,
    /// Certificates of the CAs that vouch for it, PEM.
    pub ca: PathBuf,
}

/// Why there is no stamp.
#[derive(Debug)]
enum Failure {
    /// It does not answer, or not with 200.
    Unreachable(Error),
    /// What it answers is none.
    Refused(Refusal),
    /// Our own.
    Own(Error),
}

/// Asks for time stamps. Cheap to clone.
#[derive(Clone)]
pub struct Stamps(Arc<Inner>);

struct Inner {
    settings: Settings,
    anchors: Vec<Vec<u8>>,
    client: Client,
    reader: Reader,
    clock: Clock,
    metrics: StampMetrics,
    /// One question at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Stamps {
    /// Nobody is asked yet. Blocks.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the CAs cannot be read.
    pub fn new(settings: Settings, reader: Reader, clock: Clock, metrics: StampMetrics) -> Result<Self> {
        let unreadable = || format!("cannot read {} (timestamp.ca)", settings.ca.display());
        let anchors = CertificateDer::pem_file_iter(&settings.ca).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let anchors: Vec<_> = anchors.context(Kind::Invalid, unreadable())?;
        if anchors.is_empty() {
            return Err(Error::new(Kind::Invalid, format!("{} holds no certificate", settings.ca.display())));
        }
        let anchors = anchors.iter().map(|anchor| anchor.to_vec()).collect();
        let client = Client::new(Some(&settings.ca), "timestamp.ca")?;
        let turn = tokio::sync::Mutex::default();
        Ok(Self(Arc::new(Inner { settings, anchors, client, reader, clock, metrics, turn })))
    }

    /// Sees to it that there is a stamp over the checkpoint of this tree, if the authority gives one now. What goes wrong is counted
    /// and said.
    pub async fn stamp(&self, size: u64) {
        let inner = &*self.0;
        let _turn = inner.turn.lock().await;
        match inner.try_stamp(size).await {
            Ok(()) => {}
            Err(Failure::Unreachable(error)) => {
                inner.metrics.asked("unreachable");
                tracing::warn!(%error, "no time stamp");
            }
            Err(Failure::Refused(refusal)) => {
                inner.metrics.asked(refusal.label());
                tracing::error!(authority = %inner.settings.url, "no time stamp: {}", refusal.meaning());
            }
            Err(Failure::Own(error)) => tracing::error!(%error, "the log could not be stamped"),
        }
    }

    /// Asks until `stop`.
    ///
    /// # Errors
    /// None: nothing that is promised depends on time stamps.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let interval = self.0.settings.interval;
        let mut ticks = tokio::time::interval(interval.min(ROUND_MAX));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut alarm = Alarm::after(ALARM_AFTER);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = self.round(&mut alarm) => {}
            }
            self.0.metrics.age(alarm.age(Instant::now()));
            if alarm.rings(Instant::now()) {
                tracing::error!("the log is without a new time stamp for an hour");
            }
        }
    }

    /// Asks if the log has grown and the last stamp is old enough.
    async fn round(&self, alarm: &mut Alarm) {
        let inner = &*self.0;
        let reader = inner.reader.clone();
        let size = match super::blocking(move || reader.size()).await {
            Ok(size) => size,
            Err(error) => return tracing::error!(%error, "the log could not be stamped"),
        };
        let before = inner.reader.stamped().newest();
        if size <= before.map_or(0, |(size, _)| size) {
            return alarm.over();
        }
        alarm.begins(Instant::now());
        let interval = Micros::try_from(inner.settings.interval.as_micros()).unwrap_or(Micros::MAX);
        if before.is_some_and(|(_, at)| inner.clock.now().saturating_sub(at) < interval) {
            return;
        }
        self.stamp(size).await;
        if inner.reader.stamped().newest().is_some_and(|(stamped, _)| stamped >= size) {
            alarm.over();
        }
    }
}

impl Inner {
    async fn try_stamp(&self, size: u64) -> Result<(), Failure> {
        let reader = self.reader.clone();
        let tree: Option<Tree> = super::blocking(move || {
            // A log that contradicts itself shows itself to nobody.
            if reader.witnessed().contradiction().is_some() || reader.stamp(size..size.saturating_add(1))?.is_some() {
                return Ok(None);
            }
            reader.tree(size).map(Some)
        })
        .await
        .map_err(Failure::Own)?;
        let Some(tree) = tree else { return Ok(()) };
        let mut nonce = [0; 8];
        let random = aws_lc_rs::rand::fill(&mut nonce);
        random.map_err(|_| Failure::Own(Error::new(Kind::Internal, "the system gives no random bytes")))?;
        let question = timestamp::Question::new(tree.checkpoint.as_bytes(), u64::from_be_bytes(nonce));
        let url = &self.settings.url;
        let asked = Request::builder().method(http::Method::POST).header(header::CONTENT_TYPE, QUERY);
        let body = question.to_der().map_err(Failure::Own)?;
        let (status, answer) = self.client.ask(url, asked, body).await.map_err(Failure::Unreachable)?;
        if status != 200 {
            let text = format!("{url} answers with the status {status}");
            return Err(Failure::Unreachable(Error::new(Kind::Busy, text)));
        }
        let token = question.read(&answer).map_err(Failure::Refused)?;
        token.leads(&self.anchors).map_err(Failure::Refused)?;
        if token.at.abs_diff(self.clock.now()) > OFF_MAX {
            return Err(Failure::Refused(Refusal::Time));
        }
        let stamped = self.reader.stamped().clone();
        super::blocking(move || stamped.keep(size, token.at, &answer)).await.map_err(Failure::Own)?;
        self.metrics.asked("ok");
        Ok(())
    }
}
