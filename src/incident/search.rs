//! Who has to do with an incident: whoever had a recorder that the incident names, and whatever came near its place.
//!
//! What is new is looked for everywhere, once; who had a recorder is looked for again now and then, because that is written down late,
//! too; where recorders were is looked for again in what arrives alone. Recorders of the incident's department are looked for, and no others.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use aigaq_proto::{Micros, RecorderId};

use super::near::{CLOCK_US, nearest};
use crate::error::Result;
use crate::fleet::Fleet;
use crate::store::Store;
use crate::store::records::{IncidentRecord, PlaceRecord};

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
        }
    }
}

/// A badge as it is compared with the name of an assignee.
fn compared(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Looks in what arrived for those that came near. Blocks.
pub(super) fn arrived(
    store: &Store,
    cases: &BTreeMap<u64, Case>,
    arrivals: &[(RecorderId, Range<Micros>)],
    finds: &mut BTreeMap<u64, Vec<Find>>,
) -> Result<()> {
    let placed: Vec<_> = cases.iter().filter(|(_, case)| case.searched && case.place.is_some()).collect();
    if placed.is_empty() {
        return Ok(());
    }
    for (recorder, span) in arrivals {
        let touches = |case: &Case| {
            span.start < case.within.end.saturating_add(CLOCK_US)
                && case.within.start.saturating_sub(CLOCK_US) < span.end
        };
        let touched: Vec<_> = placed.iter().filter(|(_, case)| touches(case)).collect();
        if touched.is_empty() {
            continue;
        }
        let Some(known) = store.recorder(*recorder)? else { continue };
        for (number, case) in touched.into_iter().filter(|(_, case)| case.department == known.department) {
            let Some(place) = &case.place else { continue };
            if let Some(metres) = nearest(store, *recorder, place, &case.within, span)? {
                let find = Find { recorder: *recorder, badge: None, metres: Some(metres) };
                finds.entry(**number).or_default().push(find);
            }
        }
    }
    Ok(())
}

/// Looks for all cases by who had which recorder, and for those that are new by place, too. Blocks.
pub(super) fn everywhere(
    store: &Store,
    fleet: &Fleet,
    cases: &BTreeMap<u64, Case>,
    finds: &mut BTreeMap<u64, Vec<Find>>,
) -> Result<()> {
    let mut by_department: HashMap<&str, Vec<(u64, &Case)>> = HashMap::new();
    for (number, case) in cases {
        by_department.entry(&case.department).or_default().push((*number, case));
    }
    for known in store.recorders() {
        let known = known?;
        let Some(cases) = by_department.get(known.department.as_str()) else { continue };
        let mut find = |number: u64, badge: Option<String>, metres: Option<u32>| {
            finds.entry(number).or_default().push(Find { recorder: known.id, badge, metres });
        };
        let named = || cases.iter().filter(|(_, case)| !case.badges.is_empty());
        let begin = named().map(|(_, case)| case.within.start).min();
        let end = named().map(|(_, case)| case.within.end).max();
        let assigned = begin.zip(end).map(|(begin, end)| fleet.assigned_within(known.id, begin, end));
        for assignment in assigned.transpose()?.unwrap_or_default() {
            let assignee = compared(&assignment.assignee);
            for (number, case) in named() {
                let overlaps = assignment.from < case.within.end && case.within.start < assignment.end();
                if overlaps && case.badges.contains(&assignee) {
                    find(*number, Some(assignment.assignee.clone()), None);
                }
            }
        }
        for (number, case) in cases.iter().filter(|(_, case)| !case.searched) {
            let Some(place) = &case.place else { continue };
            if let Some(metres) = nearest(store, known.id, place, &case.within, &(0..Micros::MAX))? {
                find(*number, None, Some(metres));
            }
        }
    }
    Ok(())
}
