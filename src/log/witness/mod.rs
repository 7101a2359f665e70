//! Asking witnesses (C2SP tlog-witness) to cosign the checkpoints of this log, about once a second while it grows; never on the
//! path of a commit.
//!
//! Before a witness is asked for the first time, and whenever it does not go along, it is asked what it cosigned last. What counts
//! is this log's own signature on that: a tree that the store does not have, or has otherwise, is a contradiction, after which
//! nothing is signed any more. A witness that only claims something, or cannot be reached, stops nothing.

mod peer;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use aigaq_proto::cosignature::WitnessKey;
use aigaq_proto::limits::CHECKPOINT_BYTES_MAX;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::alarm::Alarm;
use super::{Metrics, Reader, Tree, blocking};
use crate::error::{Error, Kind, Result};
use crate::http::Client;
use peer::{Failure, Peer};

/// How often it is looked whether the log has grown.
const ROUND: Duration = Duration::from_secs(1);
/// A checkpoint that is without its quorum for so long should be known to a person.
const ALARM_AFTER: Duration = Duration::from_secs(60);

/// Which witnesses are asked, and how many must agree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Where each is and with which key it cosigns.
    pub witnesses: Vec<(Url, WitnessKey)>,
    /// How many of them make a quorum.
    pub quorum: usize,
    /// Certificates of the CAs that vouch for their HTTPS servers, PEM.
    pub ca: Option<PathBuf>,
}

/// The witnesses of this log.
pub struct Witnesses {
    reader: Reader,
    peers: Vec<Peer>,
    quorum: usize,
    metrics: Metrics,
}

impl Witnesses {
    /// The witnesses in `settings`; nobody is asked yet.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the CAs cannot be read.
    pub fn new(settings: &Settings, reader: Reader, metrics: Metrics) -> Result<Self> {
        let client = Client::new(settings.ca.as_deref(), "witness.ca")?;
        let of = |(url, key): &(Url, WitnessKey)| Peer::new(url.clone(), key.clone(), client.clone(), reader.clone());
        let peers = settings.witnesses.iter().map(of).collect();
        Ok(Self { reader, peers, quorum: settings.quorum, metrics })
    }

    /// Asks every witness what it cosigned last, at once: to be awaited before anything new is signed. Those who do not answer
    /// are asked later.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn compare(&self) -> Result<()> {
        for compared in join_all(self.peers.iter().map(Peer::compare)).await {
            if let Err(failure) = compared {
                self.note(&failure)?;
            }
        }
        self.tell();
        Ok(())
    }

    /// Asks for cosignatures until `stop`, or until something contradicts the store; then waits for `stop`. What fails is said and
    /// tried again.
    ///
    /// # Errors
    /// None: nothing that is promised depends on witnesses.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        if self.peers.is_empty() {
            stop.cancelled().await;
            return Ok(());
        }
        let mut ticks = tokio::time::interval(ROUND);
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
                round = self.round(&mut alarm) => {
                    if let Err(error) = round {
                        tracing::error!(%error, "the log could not be shown to its witnesses");
                    }
                }
            }
            self.tell();
            self.metrics.age(alarm.age(Instant::now()));
            if alarm.rings(Instant::now()) {
                tracing::error!("the newest checkpoint is without its quorum of witnesses for a minute");
            }
        }
    }

    /// Asks for cosignatures if the log is ahead of those it has.
    async fn round(&self, alarm: &mut Alarm) -> Result<()> {
        let witnessed = self.reader.witnessed();
        if witnessed.contradiction().is_some() {
            return Ok(());
        }
        let tree = self.newest().await?;
        if tree.size > witnessed.tree().map_or(0, |tree| tree.size) {
            alarm.begins(Instant::now());
            self.cosign(&tree, alarm).await?;
        }
        Ok(())
    }

    async fn newest(&self) -> Result<Tree> {
        let reader = self.reader.clone();
        blocking(move || reader.newest()).await
    }

    /// Asks all at once for their cosignatures on `tree`. It is kept as soon as there is a quorum, and again with the signatures of
    /// those who are slower: one that hangs delays the next round alone.
    async fn cosign(&self, tree: &Tree, alarm: &mut Alarm) -> Result<()> {
        let mut checkpoint = tree.checkpoint.clone();
        let mut count = 0;
        let mut asked: FuturesUnordered<_> = self.peers.iter().map(|peer| peer.cosign(tree)).collect();
        while let Some(answer) = asked.next().await {
            let line = match answer {
                Ok(line) => line,
                Err(failure) => {
                    self.note(&failure)?;
                    continue;
                }
            };
            self.metrics.asked("ok");
            if checkpoint.len() + line.len() > CHECKPOINT_BYTES_MAX {
                continue;
            }
            checkpoint.push_str(&line);
            count += 1;
            if count >= self.quorum {
                let witnessed = self.reader.witnessed().clone();
                let tree = Tree { checkpoint: checkpoint.clone(), ..tree.clone() };
                blocking(move || witnessed.keep(tree)).await?;
                alarm.over();
            }
        }
        Ok(())
    }

    /// Counts a failure; an error of our own goes on.
    fn note(&self, failure: &Failure) -> Result<()> {
        self.metrics.asked(failure.label());
        match failure {
            Failure::Own(text) => Err(Error::new(Kind::Internal, text.clone())),
            Failure::Conflict(text) => {
                tracing::warn!(text, "a witness does not go along, and shows nothing that this log signed");
                Ok(())
            }
            other => {
                tracing::debug!(?other, "a witness did not cosign");
                Ok(())
            }
        }
    }

    /// Says a contradiction to monitoring.
    fn tell(&self) {
        self.metrics.contradicted(self.reader.witnessed().contradiction().is_some());
    }
}

/// What a person reads when the server must not sign any more.
#[must_use]
pub fn refusal(contradiction: &str) -> String {
    format!(
        "no footage is taken in: {contradiction}; restore a newer copy, or end the log and begin its successor: aigaq log succeed (deploy/README.md, \"After a restore\")"
    )
}
