//! Who had a recorder when: an officer who wore it, a vehicle, premises.
//!
//! At each moment a recorder has one assignee or nobody: what would overlap is refused. An assignment is corrected, ended or
//! withdrawn by a new version of it; the versions before stay. Ranges are half-open, by the server's clock.

use aigaq_proto::{Micros, RecorderId};

use super::{Fleet, lock};
use crate::error::Result;
use crate::store::Direction;
use crate::store::records::{AssignmentRecord, AssignmentRevision};

/// Versions of one assignment that are kept, and so may be made.
const REVISIONS_MAX: usize = 100;

/// Somebody has a recorder for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Since when.
    pub from: Micros,
    /// Until when, exclusive; none while it lasts.
    pub to: Option<Micros>,
    /// Officer, vehicle or premises.
    pub assignee: String,
}

impl Assignment {
    fn of(from: Micros, record: &AssignmentRecord) -> Option<Self> {
        let (assignee, to) = record.holds()?;
        Some(Self { from, to, assignee: assignee.to_owned() })
    }

    /// The end, or the end of time.
    #[must_use]
    pub fn end(&self) -> Micros {
        self.to.unwrap_or(Micros::MAX)
    }
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assigned {
    /// It is written down.
    Done(AssignmentRecord),
    /// It was so before.
    Same(AssignmentRecord),
    /// Somebody else has the recorder for a part of the time.
    Overlaps(Assignment),
    /// No assignment begins there.
    Missing,
    /// It was changed as often as is kept.
    TooOften,
}

impl Fleet {
    /// Writes down a new assignment. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn assign(&self, recorder: RecorderId, wanted: &Assignment, actor: &str) -> Result<Assigned> {
        let _assigning = lock(&self.shared.assigning);
        let before = self.assignment(recorder, wanted.from)?;
        match before.as_ref().and_then(|record| Assignment::of(wanted.from, record)) {
            Some(holds) if holds == *wanted => Ok(Assigned::Same(before.unwrap_or_default())),
            Some(holds) => Ok(Assigned::Overlaps(holds)),
            None => self.revise(recorder, wanted.from, before.unwrap_or_default(), Some(wanted), actor),
        }
    }

    /// Corrects the assignee or the end of the assignment that begins at `wanted.from`. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn correct(&self, recorder: RecorderId, wanted: &Assignment, actor: &str) -> Result<Assigned> {
        let _assigning = lock(&self.shared.assigning);
        match self.assignment(recorder, wanted.from)? {
            Some(record) => match Assignment::of(wanted.from, &record) {
                Some(holds) if holds == *wanted => Ok(Assigned::Same(record)),
                Some(_) => self.revise(recorder, wanted.from, record, Some(wanted), actor),
                None => Ok(Assigned::Missing),
            },
            None => Ok(Assigned::Missing),
        }
    }

    /// Withdraws the assignment that begins at `from`: it was a mistake. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn withdraw(&self, recorder: RecorderId, from: Micros, actor: &str) -> Result<Assigned> {
        let _assigning = lock(&self.shared.assigning);
        match self.assignment(recorder, from)? {
            Some(record) if record.holds().is_some() => self.revise(recorder, from, record, None, actor),
            Some(record) => Ok(Assigned::Same(record)),
            None => Ok(Assigned::Missing),
        }
    }

    /// Who has the recorder at a moment. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn assigned_at(&self, recorder: RecorderId, at: Micros) -> Result<Option<Assignment>> {
        let before = self.shared.store.assignments(recorder, 0..at.saturating_add(1), Direction::Backward);
        Ok(first_that_holds(before)?.filter(|holds| holds.end() > at))
    }

    /// Whether anybody has, had or will have the recorder. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn is_ever_assigned(&self, recorder: RecorderId) -> Result<bool> {
        let all = self.shared.store.assignments(recorder, 0..Micros::MAX, Direction::Forward);
        Ok(first_that_holds(all)?.is_some())
    }

    /// The assignments that touch the half-open range, in order. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn assigned_within(&self, recorder: RecorderId, from: Micros, to: Micros) -> Result<Vec<Assignment>> {
        let mut found = Vec::new();
        for entry in self.shared.store.assignments(recorder, 0..to, Direction::Backward) {
            let (begin, record) = entry?;
            let Some(holds) = Assignment::of(begin, &record) else { continue };
            // The one before it has ended when it begins.
            let is_first = begin <= from;
            if !is_first || holds.end() > from {
                found.push(holds);
            }
            if is_first {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    fn assignment(&self, recorder: RecorderId, from: Micros) -> Result<Option<AssignmentRecord>> {
        let mut one = self.shared.store.assignments(recorder, from..from.saturating_add(1), Direction::Forward);
        Ok(one.next().transpose()?.map(|(_, record)| record))
    }

    /// Adds a version to the assignment that begins at `from`, unless others stand in its way.
    fn revise(
        &self,
        recorder: RecorderId,
        from: Micros,
        mut record: AssignmentRecord,
        wanted: Option<&Assignment>,
        actor: &str,
    ) -> Result<Assigned> {
        if record.revisions.len() >= REVISIONS_MAX {
            return Ok(Assigned::TooOften);
        }
        if let Some(wanted) = wanted
            && let Some(other) = self.in_the_way(recorder, wanted)?
        {
            return Ok(Assigned::Overlaps(other));
        }
        record.revisions.push(AssignmentRevision {
            assignee: wanted.map(|wanted| wanted.assignee.clone()),
            to: wanted.and_then(|wanted| wanted.to),
            recorded_at: self.shared.clock.now(),
            actor: actor.to_owned(),
        });
        self.shared.store.put_assignments(recorder, &[(from, record.clone())])?;
        Ok(Assigned::Done(record))
    }

    /// Another assignment that holds for a part of the time of this one.
    fn in_the_way(&self, recorder: RecorderId, wanted: &Assignment) -> Result<Option<Assignment>> {
        let store = &self.shared.store;
        let before = first_that_holds(store.assignments(recorder, 0..wanted.from, Direction::Backward))?;
        if let Some(before) = before.filter(|before| before.end() > wanted.from) {
            return Ok(Some(before));
        }
        let after = wanted.from.saturating_add(1)..wanted.end();
        first_that_holds(store.assignments(recorder, after, Direction::Forward))
    }
}

fn first_that_holds(entries: impl Iterator<Item = Result<(Micros, AssignmentRecord)>>) -> Result<Option<Assignment>> {
    for entry in entries {
        let (from, record) = entry?;
        if let Some(holds) = Assignment::of(from, &record) {
            return Ok(Some(holds));
        }
    }
    Ok(None)
}
