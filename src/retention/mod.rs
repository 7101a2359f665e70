//! How long footage is kept, who holds it, and how it is deleted so that the deletion itself can be proved.
//!
//! Footage expires on the day that its link was given at commit, by the policy of its department. When the day is over the runner
//! moves on what is held or kept longer (holds, marks with a longer policy, incidents, what was brought back) and *hides* the rest:
//! nobody is shown it, `coverage` says "deleted by policy". [`GRACE_US`] later the bytes go, whole files at once. Until then
//! [`Retention::undo`] brings a range back; links, digests, signatures and places in the log stay for ever.
//!
//! The order of a deletion: what is kept is durable under its later day → the day is hidden, or condemned, if nothing was held
//! meanwhile (one lock, in the store) → statements of what goes are durable in the audit trail → it is looked once more whether anything
//! of it is held → the bytes and the keys that they are sealed with go → that is written down.
//! A crash at any point is taken up at the next round; then statements may be there twice, and never not at all.
//!
//! When the disk fills, days within their grace go early, oldest first, since their time is over by policy; then recorders are told to
//! come back later. What is held and what has not expired is never touched, whatever the disk says.

mod claims;
mod destroy;
mod metrics;
mod pass;
mod preview;
mod statement;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aigaq_proto::{Micros, RecorderId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::Result;
use crate::rounds;
use crate::store::policy::{DAY_US, day_of};
use crate::store::records::{Act, AuditRecord, Cause, DayRecord, Event, ExpiryRecord, ExtensionRecord, HoldRecord};
use crate::store::{Hidden, Released, Store, Wished};
use pass::Left;

pub use claims::HELD_DAYS;
pub use destroy::{Destroyed, Outcome, ask, destroy, withdraw};
pub use metrics::Metrics;
pub use preview::{Line, Planned, Preview, preview};
pub use statement::{DOMAIN, Statement};

/// For how long what was deleted can be brought back, microseconds.
pub const GRACE_US: u64 = 7 * DAY_US;
/// For how long what was brought back is kept when nothing else is said, days.
pub const UNDO_DAYS: u32 = 30;
/// How often a server looks.
pub const EVERY: Duration = Duration::from_secs(10);
/// How often a day is gone over anew because something was held meanwhile, before it waits for the next round.
const ATTEMPTS: usize = 8;
/// What a deletion is written down under in the trail.
const ACTOR: &str = "retention";

/// Retention, holds and deletion. Cheap to clone; every clone is the same. What blocks says so.
#[derive(Clone)]
pub struct Retention {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Clock,
    metrics: Metrics,
    free_bytes_min: u64,
    wake: Notify,
    /// One round at a time. Up to which count of holds and extensions the hidden days were gone over.
    rounds: Mutex<Option<u64>>,
}

/// What somebody gets back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undone {
    /// Until the end of which day it is kept now.
    pub until_day: u32,
    /// Bodies that come back.
    pub links: u64,
    /// Their length, bytes.
    pub bytes: u64,
}

impl Retention {
    /// Over a store that leaves `free_bytes_min` bytes of its disk free.
    #[must_use]
    pub fn new(store: Store, clock: Clock, metrics: Metrics, free_bytes_min: u64) -> Self {
        let (wake, rounds) = (Notify::new(), Mutex::new(None));
        Self { shared: Arc::new(Shared { store, clock, metrics, free_bytes_min, wake, rounds }) }
    }

    /// Places a hold: when this has returned, nothing deletes what it covers, also while a deletion is under way. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn hold(&self, recorder: RecorderId, range: Range<Micros>, act: Act) -> Result<HoldRecord> {
        let hold = self.shared.store.hold(recorder, range, act, None)?;
        self.shared.wake.notify_one();
        Ok(hold)
    }

    /// The same on several recorders, each named once, because of an incident: all of it or nothing. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn hold_for(
        &self,
        incident: u64,
        recorders: &[RecorderId],
        range: Range<Micros>,
        act: &Act,
    ) -> Result<Vec<HoldRecord>> {
        let holds = self.shared.store.hold_each(recorders, range, act, Some(incident))?;
        self.shared.wake.notify_one();
        Ok(holds)
    }

    /// Asks for the release of a hold. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn ask_release(&self, recorder: RecorderId, id: u64, act: Act) -> Result<Released> {
        self.shared.store.ask_release(recorder, id, act)
    }

    /// Releases a hold as the second person. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn confirm_release(&self, recorder: RecorderId, id: u64, act: Act) -> Result<Released> {
        self.shared.store.confirm_release(recorder, id, act)
    }

    /// Keeps a range until the end of a day because of an incident. The same number again widens and lengthens what was said before,
    /// and never shortens it. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn extend(
        &self,
        recorder: RecorderId,
        number: u64,
        range: Range<Micros>,
        until_day: u32,
        incident: String,
    ) -> Result<()> {
        let cause = Cause::Incident { name: incident };
        let extension = ExtensionRecord { from: range.start, to: range.end, until_day, cause };
        self.shared.store.extend(recorder, number, extension)?;
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Brings back what is hidden of a range and keeps it for `days` more. `None` if nothing of it is hidden: it was not deleted, or it is
    /// gone. Blocks; what comes back is shown within a round of the runner.
    ///
    /// # Errors
    /// Those of the store.
    pub fn undo(&self, recorder: RecorderId, range: Range<Micros>, days: u32, act: Act) -> Result<Option<Undone>> {
        let store = &self.shared.store;
        let today = day_of(self.shared.clock.now());
        let until_day = today.saturating_add(days);
        let extension =
            ExtensionRecord { from: range.start, to: range.end, until_day, cause: Cause::Undo(act.clone()) };
        let wanted = claims::Claims::only(extension);
        let (mut links, mut bytes) = (0, 0_u64);
        for day in store.dropped_floor()..store.footage_floor() {
            for entry in store.expiring(day, Some(recorder)) {
                let entry = entry?;
                let ExpiryRecord::Kept { bytes: length, .. } = entry.record else { continue };
                if wanted.keep(&store.stored(recorder, entry.owner)?, today).is_some() {
                    links += 1;
                    bytes = bytes.saturating_add(u64::from(length));
                }
            }
        }
        if links == 0 {
            return Ok(None);
        }
        store.undo(recorder, range, until_day, act)?;
        self.shared.wake.notify_one();
        Ok(Some(Undone { until_day, links, bytes }))
    }

    /// Asks that a key be destroyed before its day is over. Blocks.
    ///
    /// # Errors
    /// As [`ask`].
    pub fn ask_destruction(&self, recorder: RecorderId, day: u32, act: Act, source: &str) -> Result<Wished> {
        ask(&self.shared.store, recorder, day, act, source)
    }

    /// Takes that back. Blocks.
    ///
    /// # Errors
    /// As [`withdraw`].
    pub fn withdraw_destruction(&self, recorder: RecorderId, day: u32, act: Act, source: &str) -> Result<Wished> {
        withdraw(&self.shared.store, recorder, day, act, source)
    }

    /// Destroys a key as the second person. Blocks.
    ///
    /// # Errors
    /// As [`destroy`].
    pub fn confirm_destruction(&self, recorder: RecorderId, day: u32, act: &Act, source: &str) -> Result<Outcome> {
        destroy(&self.shared.store, recorder, day, act, source)
    }

    /// Deletes what is due, every `period` and whenever something is held, until `stop`.
    ///
    /// # Errors
    /// [`Kind::Fatal`](crate::error::Kind::Fatal) when the store has failed. Whatever else fails is counted, logged and tried again.
    pub async fn run(self, period: Duration, stop: CancellationToken) -> Result<()> {
        let (this, wake, metrics) = (self.clone(), &self.shared.wake, &self.shared.metrics);
        rounds::run(
            period,
            wake,
            stop,
            move || this.round(),
            |error| {
                metrics.failures.inc();
                tracing::error!(%error, "deletion stands still");
            },
        )
        .await
    }

    /// One round: finishes what a crash left, hides what is over, moves on what is held, drops what is due. Blocks.
    ///
    /// # Errors
    /// Those of the store; what was not done is done by a later round.
    pub fn round(&self) -> Result<()> {
        let mut rounds = self.shared.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.shared.clock.now();
        self.finish(now)?;
        self.hide(now)?;
        self.bring_back(now, &mut rounds)?;
        self.drop_due(now)?;
        self.count()
    }

    /// Hides every day before today.
    fn hide(&self, now: Micros) -> Result<()> {
        let (store, today) = (&self.shared.store, day_of(now));
        while let Some(day) = store.first_expiring(store.footage_floor())?.filter(|day| *day < today) {
            let hidden = self.decide(day, today, |claims, left| {
                let (links, bytes) = (left.links, left.bytes);
                let record =
                    DayRecord { hidden_at: now, due_at: now.saturating_add(GRACE_US), gone_at: None, links, bytes };
                store.hide_before(day + 1, claims, &Hidden { days: vec![(day, record)], newest: left.newest })
            })?;
            if !hidden {
                return Ok(());
            }
            self.say(now, "", format!("hide day {day}"), "hidden")?;
            tracing::info!(day, "footage whose day is over is hidden");
        }
        Ok(())
    }

    /// Moves on what is kept of a day and then decides, as often as something was held meanwhile.
    fn decide(&self, day: u32, today: u32, mut decision: impl FnMut(u64, Left) -> Result<bool>) -> Result<bool> {
        let store = &self.shared.store;
        for _ in 0..ATTEMPTS {
            let claims = store.claims();
            let left = self.move_on(day, today)?;
            if decision(claims, left)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn move_on(&self, day: u32, today: u32) -> Result<Left> {
        let moved = &self.shared.metrics.moved_bytes;
        pass::move_on(&self.shared.store, day, today, |rule, bytes| {
            moved.with_label_values(&[rule.label()]).inc_by(bytes);
        })
    }

    /// Moves what was held or brought back since out of the hidden days.
    fn bring_back(&self, now: Micros, looked: &mut Option<u64>) -> Result<()> {
        let store = &self.shared.store;
        let claims = store.claims();
        if *looked == Some(claims) {
            return Ok(());
        }
        let days = store.days(store.dropped_floor()..store.footage_floor()).collect::<Result<Vec<_>>>()?;
        for (day, record) in days {
            let Left { links, bytes, .. } = self.move_on(day, day_of(now))?;
            if (links, bytes) != (record.links, record.bytes) {
                store.put_days(&[(day, DayRecord { links, bytes, ..record })])?;
            }
        }
        *looked = Some(claims);
        Ok(())
    }

    /// Drops the hidden days whose grace is over, and further ones while the disk is full.
    fn drop_due(&self, now: Micros) -> Result<()> {
        let store = &self.shared.store;
        loop {
            let next = store.days(store.dropped_floor()..store.footage_floor()).next().transpose()?;
            let Some((day, record)) = next else { return Ok(()) };
            let is_due = record.due_at <= now;
            if !is_due && !self.is_full()? {
                return Ok(());
            }
            if !self.decide(day, day_of(now), |claims, _| store.condemn_before(day + 1, claims))? {
                return Ok(());
            }
            if !is_due {
                self.shared.metrics.early_deletions.inc();
                tracing::warn!(day, "the disk is full: a deleted day goes before its grace is over");
            }
            self.finish(now)?;
        }
    }

    /// Whether the disk is so full that recorders are refused, or nearly so.
    fn is_full(&self) -> Result<bool> {
        let near = self.shared.free_bytes_min.saturating_add(self.shared.free_bytes_min / 4);
        Ok(self.shared.store.space()?.free < near)
    }

    /// Says what goes of the condemned days and lets it go.
    fn finish(&self, now: Micros) -> Result<()> {
        let store = &self.shared.store;
        let gone = store.dropped_floor();
        let days = store.days(0..gone).filter(|day| day.as_ref().map_or(true, |(_, record)| record.gone_at.is_none()));
        for (day, record) in days.collect::<Result<Vec<_>>>()? {
            let early = if record.due_at > now { "; the disk is full" } else { "" };
            let (mut links, mut bytes) = (0, 0);
            let mut rules = Vec::new();
            pass::statements(store, day, |statements| {
                for statement in statements {
                    links += statement.links;
                    bytes += statement.bytes;
                    rules.push((statement.rule.label(), statement.bytes));
                    let text = format!("{}{early}", statement.text());
                    self.say(now, &statement.recorder.to_string(), text, "deleted")?;
                }
                Ok(())
            })?;
            destroy::refuse_held(store, day, None)?;
            let text = format!("destroy the keys of footage day {day}");
            let entry = AuditRecord::new(now, Event::KeyDestruction, ACTOR, "server", text);
            store.audit(&entry.ended("destroyed"))?;
            store.drop_days_before(day + 1)?;
            for (rule, bytes) in rules {
                self.shared.metrics.deleted_bytes.with_label_values(&[rule]).inc_by(bytes);
            }
            tracing::info!(day, links, bytes, "deleted");
            // Statements of a round that was cut off here are counted already.
            let (links, bytes) = if links == 0 { (record.links, record.bytes) } else { (links, bytes) };
            store.put_days(&[(day, DayRecord { gone_at: Some(now), links, bytes, ..record })])?;
        }
        Ok(())
    }

    /// Writes a line of the trail; it is durable on return.
    fn say(&self, at: Micros, object: &str, text: String, outcome: &str) -> Result<()> {
        let entry = AuditRecord::new(at, Event::Deletion, ACTOR, "server", text);
        self.shared.store.audit(&entry.about(object).ended(outcome))
    }

    fn count(&self) -> Result<()> {
        let store = &self.shared.store;
        let mut standing = 0;
        for hold in store.holds(None) {
            standing += i64::from(hold?.stands());
        }
        self.shared.metrics.holds.set(standing);
        let mut hidden = 0_u64;
        for day in store.days(store.dropped_floor()..store.footage_floor()) {
            hidden = hidden.saturating_add(day?.1.bytes);
        }
        self.shared.metrics.hidden_bytes.set(i64::try_from(hidden).unwrap_or(i64::MAX));
        Ok(())
    }
}
