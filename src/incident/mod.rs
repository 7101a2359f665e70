//! The incidents of a control centre: what came in, where each stands, whose footage it needs.
//!
//! `state` is the table of states, pure. `search` finds the recorders of an incident by who had them and by where they were, once
//! everywhere and then again with whatever arrives; `near` says who came near a place. Each that is found has its span held and is asked to
//! send it first. This file takes incidents in, steps them on and does what follows from it.
//!
//! Holds: each recorder of an incident has the whole time of the incident held. Whoever closes it asks for the release of its holds, which stand until somebody else confirms
//! ([`Incidents::confirm_release`]): one person alone releases nothing. What is reopened is held anew before it is open. A recorder that the one who
//! closes or confirms may not release keeps its hold.
//!
//! Promises: an incident that was taken is durable, audited and in the feed; a source's name for it makes it one; what a crash left undone the
//! next round does; a hold is placed once, whatever is repeated; what does not read of one recorder or incident stops no other. This room never reads footage and never releases anything by itself.

mod metrics;
mod near;
mod search;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aigaq_proto::{Digest, Micros, RecorderId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::{Kind, Result};
use crate::fleet::{Fleet, Order, Ordered};
use crate::retention::Retention;
use crate::rounds;
use crate::store::records::{
    Act, AuditRecord, Event, FoundRecord, HoldRecord, IncidentCall, IncidentRecord, IncidentState, NoteRecord,
    StepRecord, Transition,
};
use crate::store::{Arrival, Change, Opened, Released, Store};

pub use metrics::Metrics;
pub use state::{allowed, is_active, next};

use search::{Case, Find, Search};

/// How often a server looks for what arrived.
pub const TICK: Duration = Duration::from_secs(1);
/// How often assignments are gone through anew, and what was not possible is tried again, microseconds.
const AGAIN_US: Micros = 30_000_000;
/// Recorders of one incident at most.
pub const FOUND_MAX: usize = 1_000;
/// Steps of one incident at most.
const STEPS_MAX: usize = 1_000;
/// For how long a recorder is asked for the span of an incident, microseconds: a week.
const ASKED_US: Micros = 7 * 86_400_000_000;
/// What the incidents do by themselves is written down under.
const ACTOR: &str = "incident";

/// The incidents. Cheap to clone; every clone is the same. What blocks says so.
#[derive(Clone)]
pub struct Incidents {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Clock,
    fleet: Fleet,
    retention: Retention,
    metrics: Metrics,
    wake: Notify,
    /// Those for which is looked. Held by a round.
    looking: Mutex<Looking>,
    /// Those that came in or were stepped on since the last round.
    changed: Mutex<Vec<u64>>,
    /// Held while something is done because of one incident.
    acting: Mutex<()>,
}

#[derive(Default)]
struct Looking {
    cases: BTreeMap<u64, Case>,
    looked_at: Micros,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stepped {
    /// It is taken.
    Done(Box<IncidentRecord>),
    /// It cannot be taken from where the incident stands.
    Not(IncidentState),
    /// The incident was stepped on as often as is kept.
    TooOften,
}

/// What became of the release of what an incident holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmed {
    /// So many holds are released.
    Done(u64),
    /// The incident is not closed.
    NotClosed,
    /// Whoever asked for the release cannot confirm it.
    SamePerson,
    /// There is nothing left to release.
    Nothing,
}

/// Whether the one who acts may release the footage of a recorder.
pub type May<'a> = &'a mut dyn FnMut(RecorderId) -> Result<bool>;

impl Incidents {
    /// Learns which incidents there are, and has what arrives noted. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn open(store: Store, clock: Clock, fleet: Fleet, retention: Retention, metrics: Metrics) -> Result<Self> {
        store.note_arrivals();
        let mut cases = BTreeMap::new();
        let (wake, looking, changed, acting) = (Notify::new(), Mutex::default(), Mutex::default(), Mutex::default());
        let shared = Shared { store, clock, fleet, retention, metrics, wake, looking, changed, acting };
        let this = Self { shared: Arc::new(shared) };
        for record in this.shared.store.incidents(u64::MAX) {
            match record {
                Ok(record) if is_active(record.state) => drop(cases.insert(record.number, Case::of(&record))),
                Ok(_) => {}
                Err(error) if error.kind() == Kind::Damaged => this.pass_over(&error),
                Err(error) => return Err(error),
            }
        }
        lock(&this.shared.looking).cases = cases;
        Ok(this)
    }

    fn change(&self, number: u64) {
        lock(&self.shared.changed).push(number);
        self.shared.wake.notify_one();
    }

    /// Takes an incident in; who has to do with it is found by the next round. `entry` says who brought it. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn take(&self, call: IncidentCall, opened: Act, entry: AuditRecord) -> Result<Opened> {
        let state = IncidentState::Open;
        let (history, found) = (Vec::new(), Vec::new());
        let record = IncidentRecord { number: 0, call, opened, state, history, found, searched_at: None, notes: 0 };
        let opened = self.shared.store.open_incident(record, entry)?;
        if let Opened::New(record) = &opened {
            self.change(record.number);
        }
        Ok(opened)
    }

    /// Steps an incident on; to close it asks for the release of what it holds, where `may` says so. `entry` says who did it. Blocks.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such incident; those of the store.
    pub fn step(
        &self,
        number: u64,
        transition: Transition,
        act: Act,
        entry: AuditRecord,
        may: May<'_>,
    ) -> Result<Stepped> {
        let store = &self.shared.store;
        let _acting = lock(&self.shared.acting);
        let record = store
            .incident(number)?
            .filter(|record| next(record.state, transition).is_some() && record.history.len() < STEPS_MAX);
        let mut held = BTreeMap::new();
        if let Some(record) = record.as_ref().filter(|_| transition == Transition::Reopen) {
            // What was asked for meanwhile may be released: it is held anew, before anybody is told that it is open.
            let found: Vec<_> = record.found.iter().map(|found| found.recorder).collect();
            held = self.hold(record, &found, act.at)?;
        }
        if let Some(record) = record.as_ref().filter(|_| transition == Transition::Close) {
            for hold in self.holds(record)? {
                if hold.asked.is_none() && may(hold.recorder)? {
                    self.say(
                        &entry,
                        Event::Release,
                        hold.recorder,
                        format!("ask for the release of hold {}", name(&hold)),
                    )?;
                    self.shared.retention.ask_release(hold.recorder, hold.id, act.clone())?;
                }
            }
        }
        let mut refused = None;
        let changed = store.change_incident(number, |record| {
            let Some(to) = next(record.state, transition) else {
                refused = Some(Stepped::Not(record.state));
                return Ok(None);
            };
            if record.history.len() >= STEPS_MAX {
                refused = Some(Stepped::TooOften);
                return Ok(None);
            }
            let mut record = record;
            record.history.push(StepRecord { transition, from: record.state, to, act });
            record.state = to;
            if transition == Transition::Reopen {
                let anew =
                    |found: &mut FoundRecord| (found.hold, found.pull) = (held.get(&found.recorder).copied(), None);
                record.found.iter_mut().for_each(anew);
            }
            Ok(Some(Change { record, what: transition.name(), about: vec![None], entries: vec![entry] }))
        })?;
        let Some(record) = changed else { return Ok(refused.unwrap_or(Stepped::TooOften)) };
        self.change(number);
        Ok(Stepped::Done(Box::new(record)))
    }

    /// Releases what a closed incident holds, where somebody else has asked for it and `may` says so. `entry` says who did it. Blocks.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such incident; those of the store.
    pub fn confirm_release(&self, number: u64, act: &Act, entry: &AuditRecord, may: May<'_>) -> Result<Confirmed> {
        let _acting = lock(&self.shared.acting);
        let record = self.shared.store.incident(number)?;
        let record = record.ok_or_else(|| crate::Error::new(Kind::NotFound, "there is no such incident"))?;
        if record.state != IncidentState::Closed {
            return Ok(Confirmed::NotClosed);
        }
        let (mut released, mut own) = (0, false);
        for hold in self.holds(&record)? {
            if hold.asked.as_ref().is_none_or(|asked| asked.by == act.by) {
                own |= hold.asked.is_some();
                continue;
            }
            if may(hold.recorder)? {
                self.say(entry, Event::Release, hold.recorder, format!("confirm the release of hold {}", name(&hold)))?;
                let done = self.shared.retention.confirm_release(hold.recorder, hold.id, act.clone())?;
                released += u64::from(matches!(done, Released::Done(_)));
            }
        }
        Ok(match (released, own) {
            (0, true) => Confirmed::SamePerson,
            (0, false) => Confirmed::Nothing,
            _ => Confirmed::Done(released),
        })
    }

    /// Writes a note down. Blocks.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such incident; those of the store.
    pub fn note(&self, number: u64, note: NoteRecord, entry: AuditRecord) -> Result<NoteRecord> {
        self.shared.store.note_incident(number, note, entry)
    }

    /// The holds of an incident that stand.
    fn holds(&self, record: &IncidentRecord) -> Result<Vec<HoldRecord>> {
        let mut holds = Vec::new();
        for found in &record.found {
            for hold in self.shared.store.holds(Some(found.recorder)) {
                let hold = hold?;
                if hold.stands() && hold.incident == Some(record.number) {
                    holds.push(hold);
                }
            }
        }
        Ok(holds)
    }

    /// Writes down what `entry` brings about for a recorder.
    fn say(&self, entry: &AuditRecord, event: Event, recorder: RecorderId, action: String) -> Result<()> {
        let entry = AuditRecord { event, action, ..entry.clone() };
        self.shared.store.audit(&entry.about(recorder.to_string()))
    }

    /// Looks for recorders and acts for those that are found, every `period` and whenever an incident comes in, until `stop`.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when the store has failed. Whatever else fails is counted, logged and tried again.
    pub async fn run(self, period: Duration, stop: CancellationToken) -> Result<()> {
        let (this, wake, metrics) = (self.clone(), &self.shared.wake, &self.shared.metrics);
        rounds::run(
            period,
            wake,
            stop,
            move || this.round(),
            |error| {
                metrics.failures.inc();
                tracing::error!(%error, "recorders of incidents are not looked for");
            },
        )
        .await
    }

    /// One round: looks for recorders of what is new everywhere, of the rest in what arrived, and acts for those that are found. Blocks.
    ///
    /// # Errors
    /// Those of the store; what was not done is done by a later round.
    pub fn round(&self) -> Result<()> {
        let mut looking = lock(&self.shared.looking);
        let now = self.shared.clock.now();
        let Looking { cases, looked_at } = &mut *looking;
        let is_new = self.learn(cases)?;
        let arrivals = self.shared.store.take_arrivals();
        let again = is_new || now.abs_diff(*looked_at) >= AGAIN_US;
        if again {
            *looked_at = now;
        }
        let done = self.look(cases, &arrivals, again, now);
        self.shared.metrics.active.set(i64::try_from(cases.len()).unwrap_or(i64::MAX));
        done
    }

    /// Takes up what came in or was stepped on since the last round; whether anything has to be looked for that was not before.
    fn learn(&self, cases: &mut BTreeMap<u64, Case>) -> Result<bool> {
        let mut changed = std::mem::take(&mut *lock(&self.shared.changed));
        let mut is_new = false;
        while let Some(number) = changed.last().copied() {
            match self.shared.store.incident(number) {
                Ok(Some(record)) if is_active(record.state) => {
                    let case = cases.entry(number).or_insert_with(|| Case::of(&record));
                    // What was looked for everywhere, and in whatever arrived since, need not be looked for once more.
                    is_new |= !case.searched;
                    case.stepped = true;
                }
                Ok(_) => drop(cases.remove(&number)),
                Err(error) if error.kind() == Kind::Damaged => self.pass_over(&error),
                Err(error) => {
                    lock(&self.shared.changed).append(&mut changed);
                    return Err(error);
                }
            }
            changed.pop();
        }
        Ok(is_new)
    }

    /// Writes down that an incident does not read.
    fn pass_over(&self, error: &crate::Error) {
        self.shared.metrics.damaged.inc();
        tracing::error!(%error, "an incident is passed over: aigaq check says what does not read");
    }

    fn look(&self, cases: &mut BTreeMap<u64, Case>, arrivals: &[Arrival], again: bool, now: Micros) -> Result<()> {
        let mut search = Search::new(&self.shared.store, &self.shared.fleet);
        let looked = search.arrived(cases, arrivals);
        let looked = looked.and_then(|()| if again { search.everywhere(cases) } else { Ok(()) });
        self.shared.metrics.damaged.inc_by(search.damaged);
        if let Err(error) = looked {
            // What arrived is not told a second time: everything is looked through, later.
            cases.values_mut().for_each(|case| case.searched = false);
            return Err(error);
        }
        let mut failed = Ok(());
        for (number, case) in cases.iter_mut() {
            let finds = search.finds.remove(number).unwrap_or_default();
            let is_due = case.stepped || (again && (case.pending || !case.searched));
            let searched = (case.searched || again) && !search.again.contains(number);
            if finds.is_empty() && !is_due {
                case.searched = searched;
                continue;
            }
            match self.act(*number, &finds, searched, now) {
                Ok(is_done) => (case.pending, case.searched, case.stepped) = (!is_done, searched, false),
                Err(error) if error.kind() == Kind::Fatal => return Err(error),
                Err(error) => {
                    case.searched = false;
                    failed = Err(error);
                }
            }
        }
        failed
    }

    /// Holds and asks for the span of each recorder that was found; whether all is done.
    fn act(&self, number: u64, finds: &[Find], searched: bool, now: Micros) -> Result<bool> {
        let _acting = lock(&self.shared.acting);
        let record = self.shared.store.incident(number)?.filter(|record| is_active(record.state));
        let Some(record) = record else { return Ok(true) };
        let mut found = record.found.clone();
        for find in finds {
            merge(&mut found, find, now);
        }
        let unheld: Vec<_> = found.iter().filter(|one| one.hold.is_none()).map(|one| one.recorder).collect();
        let held = self.hold(&record, &unheld, now)?;
        for one in &mut found {
            one.hold = one.hold.or_else(|| held.get(&one.recorder).copied());
            if one.pull.is_none() {
                one.pull = self.pull(&record, one.recorder, now)?;
            }
        }
        let is_done = found.iter().all(|one| one.pull.is_some());
        let is_first = searched && record.searched_at.is_none();
        if found == record.found && !is_first {
            return Ok(is_done);
        }
        self.tell(record, found, is_first, now)?;
        Ok(is_done)
    }

    /// Writes down what was found. Everybody of the department is told that an incident was looked for; of a recorder those alone who
    /// may find it, since even how many there are may be kept from others.
    fn tell(&self, before: IncidentRecord, found: Vec<FoundRecord>, is_first: bool, now: Micros) -> Result<()> {
        let (number, name) = (before.number, object(before.number));
        let entry = |action: String| AuditRecord::new(now, Event::Incident, ACTOR, "server", action);
        let (mut entries, mut about, mut new) = (Vec::new(), Vec::new(), 0);
        if is_first {
            entries.push(entry(format!("look for the recorders of {name}")).about(name.clone()));
            about.push(None);
        }
        for one in &found {
            let known = before.found.iter().find(|known| known.recorder == one.recorder);
            if known == Some(one) {
                continue;
            }
            new += u64::from(known.is_none());
            let what = if known.is_none() { "find" } else { "find more of" };
            entries.push(entry(format!("{what} {} for {name}", one.recorder)).about(one.recorder.to_string()));
            if !is_first {
                about.push(Some(one.recorder));
            }
        }
        let what = if is_first { "searched" } else { "found" };
        self.shared.store.change_incident(number, |record| {
            let searched_at = record.searched_at.or(is_first.then_some(now));
            Ok(Some(Change { record: IncidentRecord { found, searched_at, ..record }, what, about, entries }))
        })?;
        self.shared.metrics.found.inc_by(new);
        Ok(())
    }

    /// The number of the hold on the span of each of these recorders, which is placed unless it stands and nobody has asked for its
    /// release. A hold that does not read is none.
    fn hold(
        &self,
        record: &IncidentRecord,
        recorders: &[RecorderId],
        now: Micros,
    ) -> Result<BTreeMap<RecorderId, u64>> {
        let mut held = BTreeMap::new();
        for recorder in recorders {
            for hold in self.shared.store.holds(Some(*recorder)) {
                match hold {
                    Ok(hold) if hold.stands() && hold.asked.is_none() && hold.incident == Some(record.number) => {
                        held.insert(*recorder, hold.id);
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == Kind::Damaged => self.pass_over(&error),
                    Err(error) => return Err(error),
                }
            }
        }
        let new: Vec<_> = recorders.iter().copied().filter(|recorder| !held.contains_key(recorder)).collect();
        if new.is_empty() {
            return Ok(held);
        }
        let (range, reason) = (record.call.from..record.call.to, object(record.number));
        let entry = |recorder: &RecorderId| {
            let action = format!("hold {recorder} from {} to {} µs for {reason}", range.start, range.end);
            AuditRecord::new(now, Event::Hold, ACTOR, "server", action).about(recorder.to_string())
        };
        self.shared.store.audit_all(&new.iter().map(entry).collect::<Vec<_>>())?;
        let act = Act { at: now, by: ACTOR.to_owned(), reason: reason.clone() };
        let holds = self.shared.retention.hold_for(record.number, &new, range.clone(), &act)?;
        held.extend(holds.into_iter().map(|hold| (hold.recorder, hold.id)));
        Ok(held)
    }

    /// The number of the request for the span of a recorder; `None` while the recorder has as many as it follows.
    fn pull(&self, record: &IncidentRecord, recorder: RecorderId, now: Micros) -> Result<Option<u64>> {
        let reason = object(record.number);
        // Once for each time that the incident was opened.
        let key = Digest::of(format!("{reason} {} {recorder}", record.history.len()).as_bytes());
        let order = Order {
            recorder,
            from: record.call.from,
            to: record.call.to,
            expires_at: now.saturating_add(ASKED_US),
            reason,
            key: Some((key, key)),
        };
        Ok(match self.shared.fleet.order(order)? {
            Ordered::New(request) | Ordered::Again(request) => Some(request.id),
            Ordered::OtherOrder | Ordered::TooMany => None,
        })
    }
}

/// What the trail and the API call an incident.
#[must_use]
pub fn object(number: u64) -> String {
    IncidentRecord::object(number)
}

fn name(hold: &HoldRecord) -> String {
    format!("{}-{}", hold.recorder, hold.id)
}

/// Adds what was found to what is known.
fn merge(found: &mut Vec<FoundRecord>, find: &Find, now: Micros) {
    let known = found.iter().position(|one| one.recorder == find.recorder);
    let index = match known {
        Some(index) => index,
        None if found.len() >= FOUND_MAX => return,
        None => {
            let (recorder, found_at) = (find.recorder, now);
            found.push(FoundRecord { recorder, badge: None, metres: None, found_at, hold: None, pull: None });
            found.len() - 1
        }
    };
    let Some(one) = found.get_mut(index) else { return };
    one.badge = one.badge.take().or_else(|| find.badge.clone());
    one.metres = one.metres.into_iter().chain(find.metres).min();
}
