//! Once a minute: how many recorders are dark, and how much footage waits on devices, by department.
//!
//! A recorder is dark while it is expected to record and the last [`DARK_US`] of its own clock hold no footage; why, its coverage
//! says. It is expected to while it is assigned to somebody; one that never was, as where nobody keeps assignments, from its first
//! link on; one whose identity was taken back, never. Departments are those of enrolled recorders; beyond [`DEPARTMENTS_MAX`] the
//! others share a label.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use aigaq_proto::limits::DURATION_US_MAX;
use aigaq_proto::{Micros, RecorderId};
use tokio_util::sync::CancellationToken;

use super::coverage::scan;
use super::dark::reason;
use super::metrics::Metrics;
use super::state::State;
use super::time::TimeRange;
use crate::error::{Kind, Result};
use crate::fleet::Fleet;
use crate::store::engine::Direction;
use crate::store::records::{Occurrence, TimelineKind};
use crate::store::{Happening, Store};

/// How often it is looked.
pub const EVERY: Duration = Duration::from_secs(60);
/// Without footage for so long a recorder is dark, microseconds: longer than a segment and its way to the server.
const DARK_US: Micros = 120_000_000;
/// How far back the reason is looked for, microseconds.
const REASON_US: Micros = 600_000_000;
/// Newest entries of a timeline that are looked through for footage.
const ENTRIES_MAX: usize = 200;
/// Departments that have a label of their own.
const DEPARTMENTS_MAX: usize = 100;
/// The label of the others.
const OTHERS: &str = "other";

/// Keeps the gauges up to date until `shutdown`.
///
/// # Errors
/// [`Kind::Fatal`] when the store can be read no more.
pub async fn watch(state: State, every: Duration, shutdown: CancellationToken) -> Result<()> {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        match count_dark(&state).await {
            Err(error) if error.kind() == Kind::Fatal => return Err(error),
            Err(error) => tracing::warn!(%error, "the dark recorders were not counted"),
            Ok(()) => {}
        }
    }
}

/// Brings the gauges up to date.
///
/// # Errors
/// Those of the store.
pub async fn count_dark(state: &State) -> Result<()> {
    let (fleet, now) = (state.fleet.clone(), state.clock.now());
    let before = state.dark.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let seen = state.behind.count(move |store| {
        let seen = look(store, &fleet, now)?;
        before.map_or(Ok(()), |before| store.happen(&changes(&before, &seen.recorders, now)))?;
        Ok(seen)
    });
    let seen = seen.await?;
    *state.dark.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen.recorders.clone());
    seen.show(&state.metrics);
    state.metrics.requests_open.set(i64::try_from(state.fleet.open_requests()).unwrap_or(i64::MAX));
    Ok(())
}

/// Dark recorders, and why.
pub(super) type Dark = BTreeMap<RecorderId, &'static str>;

/// What those who watch are told: who has become dark, or is for another reason, and who no longer is.
fn changes(before: &Dark, now_dark: &Dark, now: Micros) -> Vec<Happening> {
    let dark = now_dark.iter().filter(|(id, reason)| before.get(id) != Some(reason));
    let dark = dark.map(|(id, reason)| (now, Some(*id), Occurrence::Dark { reason: (*reason).to_owned() }));
    let light = before.keys().filter(|id| !now_dark.contains_key(id)).map(|id| (now, Some(*id), Occurrence::Light));
    dark.chain(light).collect()
}

/// What was seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Dark recorders by department and reason.
    dark: BTreeMap<(String, &'static str), i64>,
    /// Each of them, and why.
    recorders: Dark,
    /// Bytes that wait on devices, by department.
    backlog: BTreeMap<String, u64>,
}

impl Seen {
    fn show(self, metrics: &Metrics) {
        metrics.recorders_dark.reset();
        for ((department, reason), count) in self.dark {
            metrics.recorders_dark.with_label_values(&[department.as_str(), reason]).set(count);
        }
        metrics.backlog_bytes.reset();
        for (department, bytes) in self.backlog {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            metrics.backlog_bytes.with_label_values(&[department.as_str()]).set(bytes);
        }
    }
}

/// Looks at every recorder; blocks.
fn look(store: &Store, fleet: &Fleet, now: Micros) -> Result<Seen> {
    let mut named = BTreeSet::new();
    for record in store.recorders() {
        named.insert(record?.department);
    }
    let named: BTreeSet<String> = named.into_iter().take(DEPARTMENTS_MAX).collect();
    let mut seen = Seen::default();
    for record in store.recorders() {
        let record = record?;
        let department = if named.contains(&record.department) { record.department } else { OTHERS.to_owned() };
        let announced = fleet.announcement(record.id)?;
        let offset_us = announced.as_ref().and_then(|one| one.clock).map_or(0, |clock| clock.offset_us);
        let backlog = seen.backlog.entry(department.clone()).or_default();
        *backlog = backlog.saturating_add(announced.map_or(0, |one| one.bytes));
        if record.revoked.is_some() || !is_expected(store, fleet, record.id, now)? {
            continue;
        }
        let theirs = now.saturating_add_signed(offset_us);
        let Some(reason) = dark(store, fleet, record.id, theirs)? else { continue };
        *seen.dark.entry((department, reason)).or_default() += 1;
        seen.recorders.insert(record.id, reason);
    }
    Ok(seen)
}

/// Whether a recorder that was not revoked is expected to record.
fn is_expected(store: &Store, fleet: &Fleet, id: RecorderId, now: Micros) -> Result<bool> {
    if fleet.assigned_at(id, now)?.is_some() {
        return Ok(true);
    }
    let has_sent = store.head(id)?.is_some_and(|head| head.chain.newest().is_some());
    Ok(has_sent && !fleet.is_ever_assigned(id)?)
}

/// Why a recorder is dark, if it is. `now` is by its clock.
fn dark(store: &Store, fleet: &Fleet, id: RecorderId, now: Micros) -> Result<Option<&'static str>> {
    let since = now.saturating_sub(DARK_US);
    let near = since.saturating_sub(u64::from(DURATION_US_MAX))..Micros::MAX;
    for entry in store.timeline(id, near, Direction::Backward).take(ENTRIES_MAX) {
        let entry = entry?;
        let end = entry.captured_at.saturating_add(u64::from(entry.record.duration_us));
        if matches!(entry.record.kind, TimelineKind::Media { .. }) && end > since {
            return Ok(None);
        }
    }
    let range = TimeRange { from: now.saturating_sub(REASON_US), to: now.max(1) };
    let mut last = None;
    let rest = scan(store, fleet, id, range, None, |builder| last = builder.drain().holes.pop().or(last.take()))?;
    let hole = rest.holes.last().cloned().or(last);
    Ok(hole.filter(|hole| hole.to == range.to).map(|hole| reason(&hole)))
}
