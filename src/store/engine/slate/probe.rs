//! The probe: whether an object store keeps what everything rests on, asked before the first acknowledgement.
//!
//! That one creator of a name wins, and one who changes an object that they have seen, is all that keeps two writers apart; there are
//! stores that take the header and let everybody win. So it is tried and not believed: many creators race for fresh names, and many
//! writers for one version. The probe leaves nothing behind where it may remove, and touches nothing but what it made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{join, join_all};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, PutResult, UpdateVersion};

use super::bridge::Bridge;
use super::packs;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

/// Who race for one name.
const RACERS: usize = 16;
/// Names that are raced for.
const ROUNDS: usize = 8;
/// By how much the clock of the store may differ from that of this machine; what is collected as garbage is told by its age.
const CLOCK_OFF_MAX: Duration = Duration::from_secs(60);
/// The whole probe.
const DEADLINE: Duration = Duration::from_secs(120);

/// What was found of a store that is fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Names that were raced for, with one winner each.
    pub races: usize,
    /// Who raced for each.
    pub racers: usize,
    /// How long a put took that nobody raced with: the middle one.
    pub put: Duration,
    /// By how much the clock of the store differs.
    pub clock_off: Duration,
}

/// Asks the store below `prefix`.
///
/// # Errors
/// [`Kind::Invalid`] for a store that must not be used, in one line that says why; [`Kind::Busy`] when it does not answer.
pub fn probe(objects: &Arc<dyn ObjectStore>, prefix: &str, clock: &Clock) -> Result<Fit> {
    let mut name = [0; 16];
    let none = |_| Error::new(Kind::Internal, "no random bytes are to be had");
    aws_lc_rs::rand::fill(&mut name).map_err(none)?;
    let below = Path::from(prefix).join("probe").join(data_encoding::HEXLOWER.encode(&name));
    let probe = Probe { objects: Arc::clone(objects), below, clock: clock.clone() };
    Bridge::start()?.wait(DEADLINE, async move {
        let found = probe.run().await;
        let cleaned = probe.clean().await;
        let fit = found?;
        cleaned.map(|()| fit)
    })
}

struct Probe {
    objects: Arc<dyn ObjectStore>,
    below: Path,
    clock: Clock,
}

fn unfit(text: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, text)
}

/// Whether the store says that somebody else was first.
fn has_lost(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })
}

/// An error of a request that no condition explains.
fn failed(error: object_store::Error) -> Error {
    use object_store::Error as E;
    let said = error.to_string();
    if said.contains("RequestTimeTooSkewed") {
        return unfit("the clock of this machine is off: the object store refuses what it signs").because(error);
    }
    match error {
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            unfit("the bucket may not be read and written with these credentials")
        }
        E::NotFound { .. } => unfit("there is no such bucket"),
        E::NotImplemented { .. } | E::NotSupported { .. } => unfit("the object store has no conditional writes"),
        error => packs::read_error(error),
    }
}

impl Probe {
    fn at(&self, name: impl AsRef<str>) -> Path {
        self.below.clone().join(name.as_ref())
    }

    async fn put(&self, at: &Path, bytes: &str, mode: PutMode) -> Result<PutResult, object_store::Error> {
        let options = PutOptions { mode, ..PutOptions::default() };
        self.objects.put_opts(at, PutPayload::from(bytes.to_owned().into_bytes()), options).await
    }

    async fn get(&self, at: &Path) -> Result<Bytes> {
        let read = async { self.objects.get(at).await?.bytes().await };
        read.await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => unfit("the object store does not give back what it was given"),
            error => failed(error),
        })
    }

    async fn run(&self) -> Result<Fit> {
        let clock_off = self.writes().await?;
        let mut puts = Vec::new();
        for round in 0..ROUNDS {
            puts.push(self.alone(round).await?);
        }
        // All names at once: there are stores that settle a race by waiting, a second for each who lost.
        // To their end, whatever is found, so that nothing is put after it was removed.
        let races = join_all((0..ROUNDS).map(|round| self.creators(round)));
        let (races, changes) = join(races, self.changes()).await;
        races.into_iter().collect::<Result<()>>()?;
        changes?;
        self.lists().await?;
        puts.sort_unstable();
        let put = puts.get(puts.len() / 2).copied().unwrap_or_default();
        Ok(Fit { races: ROUNDS, racers: RACERS, put, clock_off })
    }

    /// Whether it may be written, reads back, and has the time of day.
    async fn writes(&self) -> Result<Duration> {
        let (at, before) = (self.at("write"), self.clock.now());
        self.put(&at, "written", PutMode::Overwrite).await.map_err(failed)?;
        let after = self.clock.now();
        if self.get(&at).await? != "written" {
            return Err(unfit("the object store does not give back what it was given"));
        }
        let there = self.objects.head(&at).await.map_err(failed)?.last_modified.timestamp_micros();
        let there = u64::try_from(there).unwrap_or_default();
        // The store tells whole seconds.
        let off = before.saturating_sub(there.saturating_add(1_000_000)).max(there.saturating_sub(after));
        let off = Duration::from_micros(off);
        if off > CLOCK_OFF_MAX {
            let text = format!("the clocks of this machine and of the object store differ by {} s", off.as_secs());
            return Err(unfit(text));
        }
        Ok(off)
    }

    /// How long a put takes that has no rival.
    async fn alone(&self, round: usize) -> Result<Duration> {
        let began = Instant::now();
        self.put(&self.at(format!("alone-{round}")), "alone", PutMode::Create).await.map_err(failed)?;
        Ok(began.elapsed())
    }

    /// One of many creators wins, and what it wrote is there.
    async fn creators(&self, round: usize) -> Result<()> {
        let at = self.at(format!("create-{round}"));
        let who: Vec<String> = (0..RACERS).map(|racer| format!("creator {racer}")).collect();
        let outcomes = join_all(who.iter().map(|racer| self.put(&at, racer, PutMode::Create))).await;
        self.one_won(&at, &who, outcomes, "create-if-absent").await
    }

    /// One of many who change a version wins, and nobody changes one that is gone.
    async fn changes(&self) -> Result<()> {
        let at = self.at("change");
        let first = self.put(&at, "first", PutMode::Create).await.map_err(failed)?;
        let version =
            |of: &PutResult| PutMode::Update(UpdateVersion { e_tag: of.e_tag.clone(), version: of.version.clone() });
        let who: Vec<String> = (0..RACERS).map(|racer| format!("change {racer}")).collect();
        let outcomes = join_all(who.iter().map(|racer| self.put(&at, racer, version(&first)))).await;
        self.one_won(&at, &who, outcomes, "If-Match").await?;
        match self.put(&at, "stale", version(&first)).await {
            Err(error) if has_lost(&error) => {}
            Err(error) => return Err(failed(error)),
            Ok(_) => {
                return Err(unfit(
                    "the object store lets a stale If-Match through: two writers would lose what the other wrote",
                ));
            }
        }
        if self.get(&at).await? == "stale" {
            return Err(unfit("the object store refuses a stale If-Match and applies it all the same"));
        }
        Ok(())
    }

    async fn one_won(
        &self,
        at: &Path,
        who: &[String],
        outcomes: Vec<Result<PutResult, object_store::Error>>,
        what: &str,
    ) -> Result<()> {
        let mut winners = Vec::new();
        for (racer, outcome) in who.iter().zip(outcomes) {
            match outcome {
                Ok(_) => winners.push(racer),
                Err(error) if has_lost(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if winners.len() > 1 {
            let text = format!(
                "the object store does not keep {what}: {} of {} that raced for one name won; two writers would overwrite each other's evidence",
                winners.len(),
                who.len()
            );
            return Err(unfit(text));
        }
        let there = self.get(at).await?;
        // Without a winner an answer was lost, and the one whose it was is there.
        match winners.first() {
            Some(winner) if there != winner.as_bytes() => {
                Err(unfit(format!("the object store does not keep {what}: what the winner wrote is not there")))
            }
            None if !who.iter().any(|racer| there == racer.as_bytes()) => {
                Err(unfit(format!("the object store does not keep {what}: nobody won, and something else is there")))
            }
            _ => Ok(()),
        }
    }

    /// What was put is listed at once.
    async fn lists(&self) -> Result<()> {
        let listed: Vec<_> = self.objects.list(Some(&self.below)).try_collect().await.map_err(failed)?;
        if listed.len() != 2 * ROUNDS + 2 {
            return Err(unfit("the object store does not list what was put a moment ago"));
        }
        Ok(())
    }

    async fn clean(&self) -> Result<()> {
        let names = self.objects.list(Some(&self.below)).map_ok(|object| object.location);
        let names: Vec<_> = names.try_collect().await.map_err(failed)?;
        let gone = self.objects.delete_stream(stream::iter(names.into_iter().map(Ok)).boxed());
        gone.try_collect::<Vec<_>>().await.map(drop).map_err(failed)
    }
}
