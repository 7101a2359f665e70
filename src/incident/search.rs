//! Who has to do with an incident: whoever had a recorder that the incident names, and whatever came near its place.
//!
//! What is new is looked for everywhere, once; who had a recorder is looked for again now and then, because that is written down late,
//! too; where recorders were is looked for again in what arrives alone. Recorders of the incident's department are looked for, and no others.
//!
//! What does not read of one recorder is passed over and counted: it keeps nobody else from being found, and the incidents that it may
//! have to do with are looked at again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use aigaq_proto::{Micros, RecorderId};

use super::FOUND_MAX;
use super::near::{Indexed, Near, reach};
use crate::error::{Kind, Result};
use crate::fleet::Fleet;
use crate::store::records::{IncidentRecord, PlaceRecord};
use crate::store::{Arrival, Store};

/// What is known in memory of an incident for which is looked.
pub(super) struct Case {
    department: String,
    place: Option<PlaceRecord>,
    /// As they are compared.
    badges: Vec<String>,
    within: Range<Micros>,
    /// Whether it was looked for everywhere since the start.
    pub(super) searched: bool,
    /// Whether something could not be done for a recorder that was found.
    pub(super) pending: bool,
    /// Whether somebody stepped it on since the last round.
    pub(super) stepped: bool,
}

/// A recorder that has to do with an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Find {
    pub(super) recorder: RecorderId,
    /// Who had it.
    pub(super) badge: Option<String>,
    /// How near it came.
    pub(super) metres: Option<u32>,
}

impl Case {
    pub(super) fn of(record: &IncidentRecord) -> Self {
        let call = &record.call;
        Self {
            department: call.department.clone(),
            place: call.place,
            badges: call.badges.iter().map(|badge| compared(badge)).collect(),
            within: call.from..call.to,
            searched: false,
            pending: false,
            stepped: false,
        }
    }
}

/// A badge as it is compared with the name of an assignee.
fn compared(name: &str) -> String {
    name.trim().to_lowercase()
}

/// One look for the recorders of incidents, and what came of it.
pub(super) struct Search<'a> {
    store: &'a Store,
    fleet: &'a Fleet,
    /// What was found, by incident.
    pub(super) finds: BTreeMap<u64, Vec<Find>>,
    /// Incidents of which something did not read.
    pub(super) again: BTreeSet<u64>,
    /// How many times something did not read.
    pub(super) damaged: u64,
}

impl<'a> Search<'a> {
    pub(super) fn new(store: &'a Store, fleet: &'a Fleet) -> Self {
        Self { store, fleet, finds: BTreeMap::new(), again: BTreeSet::new(), damaged: 0 }
    }

    /// Looks in what arrived for those that came near. Blocks.
    ///
    /// # Errors
    /// Those of the store, but for what does not read.
    pub(super) fn arrived(&mut self, cases: &BTreeMap<u64, Case>, arrivals: &[Arrival]) -> Result<()> {
        let placed: Vec<_> = cases.iter().filter(|(_, case)| case.searched && case.place.is_some()).collect();
        if placed.is_empty() {
            return Ok(());
        }
        for (recorder, span) in arrivals {
            let touches = |case: &Case| {
                let reach = reach(&case.within);
                span.start < reach.end && reach.start < span.end
            };
            let touched: Vec<_> = placed.iter().filter(|(_, case)| touches(case)).collect();
            if touched.is_empty() {
                continue;
            }
            let known = self.store.recorder(*recorder);
            let Some(known) = self.readable(known, None)?.flatten() else { continue };
            for (number, case) in touched.into_iter().filter(|(_, case)| case.department == known.department) {
                let Some(place) = case.place else { continue };
                let metres = Near::of(self.store, place, &case.within).in_links(*recorder, span);
                if let Some(metres) = self.readable(metres, Some(**number))?.flatten() {
                    self.came_near(**number, *recorder, metres);
                }
            }
        }
        Ok(())
    }

    /// Looks for all cases by who had which recorder, and for those that are new by place, too. Blocks.
    ///
    /// # Errors
    /// Those of the store, but for what does not read.
    pub(super) fn everywhere(&mut self, cases: &BTreeMap<u64, Case>) -> Result<()> {
        let mut departments: HashMap<&str, Vec<RecorderId>> =
            cases.values().map(|case| (case.department.as_str(), Vec::new())).collect();
        for known in self.store.recorders() {
            let Some(known) = self.readable(known, None)? else { continue };
            if let Some(theirs) = departments.get_mut(known.department.as_str()) {
                theirs.push(known.id);
            }
        }
        for (department, recorders) in &departments {
            let theirs = || cases.iter().filter(|(_, case)| case.department == *department);
            let named: Vec<_> = theirs().filter(|(_, case)| !case.badges.is_empty()).collect();
            self.by_badge(&named, recorders)?;
            for (number, case) in theirs().filter(|(_, case)| !case.searched) {
                let Some(place) = case.place else { continue };
                self.by_place(*number, &Near::of(self.store, place, &case.within), recorders)?;
            }
        }
        Ok(())
    }

    /// Those whom the cases name and who had a recorder of these meanwhile.
    fn by_badge(&mut self, cases: &[(&u64, &Case)], recorders: &[RecorderId]) -> Result<()> {
        let begin = cases.iter().map(|(_, case)| case.within.start).min();
        let end = cases.iter().map(|(_, case)| case.within.end).max();
        let Some((begin, end)) = begin.zip(end) else { return Ok(()) };
        for recorder in recorders {
            // It is gone through again with the next look, whether it reads or not.
            let assigned = self.fleet.assigned_within(*recorder, begin, end);
            for assignment in self.readable(assigned, None)?.unwrap_or_default() {
                let assignee = compared(&assignment.assignee);
                for (number, case) in cases {
                    let overlaps = assignment.from < case.within.end && case.within.start < assignment.end();
                    if overlaps && case.badges.contains(&assignee) {
                        let badge = Some(assignment.assignee.clone());
                        let find = Find { recorder: *recorder, badge, metres: None };
                        self.finds.entry(**number).or_default().push(find);
                    }
                }
            }
        }
        Ok(())
    }

    /// Those of these, in order, that came near, at most [`FOUND_MAX`].
    fn by_place(&mut self, number: u64, near: &Near<'_>, recorders: &[RecorderId]) -> Result<()> {
        let indexed = near.in_index(FOUND_MAX, &|recorder| recorders.binary_search(&recorder).is_ok());
        // Where the index does not read, links say it.
        let all = || Indexed { damaged: recorders.iter().copied().collect(), ..Indexed::default() };
        let indexed = self.readable(indexed, Some(number))?.unwrap_or_else(all);
        for (recorder, metres) in &indexed.nearest {
            self.came_near(number, *recorder, *metres);
        }
        let mut count = indexed.nearest.len();
        for recorder in recorders {
            if count >= FOUND_MAX {
                break;
            }
            let metres = if indexed.damaged.contains(recorder) {
                near.in_links(*recorder, &(0..Micros::MAX))
            } else {
                near.beside_index(*recorder)
            };
            if let Some(metres) = self.readable(metres, Some(number))?.flatten() {
                count += usize::from(!indexed.nearest.contains_key(recorder));
                self.came_near(number, *recorder, metres);
            }
        }
        Ok(())
    }

    fn came_near(&mut self, number: u64, recorder: RecorderId, metres: f64) {
        // Between 0 and the radius of the place, which is such a number.
        let metres = Some(metres.round() as u32);
        self.finds.entry(number).or_default().push(Find { recorder, badge: None, metres });
    }

    /// What was read; nothing if it does not read, which is counted and has the incident looked at again.
    fn readable<T>(&mut self, read: Result<T>, number: Option<u64>) -> Result<Option<T>> {
        match read {
            Err(error) if error.kind() == Kind::Damaged => {
                tracing::error!(%error, "a recorder of an incident is passed over: aigaq check says what does not read");
                self.damaged += 1;
                self.again.extend(number);
                Ok(None)
            }
            read => read.map(Some),
        }
    }
}
