//! Reading and writing what is known of recorders in the field: announcements, requests, assignments, losses.
//!
//! Each verb that writes makes what it is given durable with one sync, all or nothing. What may be written is decided in
//! [`fleet`](crate::fleet); nothing here compares or merges.

use std::ops::Range;

use aigaq_proto::{Micros, RecorderId, Sequence};

use super::engine::{Batch, Direction, Family};
use super::records::{self, AnnouncementRecord, AssignmentRecord, LossRecord, RequestRecord};
use super::{Store, keys};
use crate::error::Result;

/// Sequences that a recorder said are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossEntry {
    /// The first of them.
    pub first: Sequence,
    /// Sequence of the `Lost` link that says so.
    pub stated_in: Sequence,
    /// The rest.
    pub record: LossRecord,
}

impl Store {
    /// What a recorder announced last.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn announcement(&self, recorder: RecorderId) -> Result<Option<AnnouncementRecord>> {
        let value = self.engine().get(Family::Announcements, &keys::recorder(recorder))?;
        value.map(|value| records::decode(&value, "announcements")).transpose()
    }

    /// Makes announcements durable.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn announce(&self, announcements: &[(RecorderId, AnnouncementRecord)]) -> Result<()> {
        let mut batch = Batch::default();
        for (recorder, record) in announcements {
            batch.put(Family::Announcements, keys::recorder(*recorder), records::encode(record)?);
        }
        self.engine().commit(&[], &batch)
    }

    /// A request for a range.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn request(&self, recorder: RecorderId, id: u64) -> Result<Option<RequestRecord>> {
        let value = self.engine().get(Family::Requests, &keys::request(recorder, id))?;
        value.map(|value| records::decode(&value, "requests")).transpose()
    }

    /// Requests by recorder and number, from the first after `after` on; those of one recorder where it is given.
    pub fn requests(
        &self,
        recorder: Option<RecorderId>,
        after: Option<(RecorderId, u64)>,
    ) -> impl Iterator<Item = Result<RequestRecord>> + '_ {
        let mut range = recorder.map_or_else(keys::everything, |recorder| keys::all_under(&recorder.0));
        if let Some((recorder, id)) = after {
            range.start = range.start.max(keys::request(recorder, id.saturating_add(1)).into());
        }
        self.scan(Family::Requests, range, Direction::Forward).map(|entry| records::decode(&entry?.1, "requests"))
    }

    /// Makes requests durable.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put_requests(&self, requests: &[RequestRecord]) -> Result<()> {
        let mut batch = Batch::default();
        for request in requests {
            let key = keys::request(request.recorder, request.id);
            batch.put(Family::Requests, key, records::encode(request)?);
        }
        self.engine().commit(&[], &batch)
    }

    /// Forgets requests.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn forget_requests(&self, requests: &[(RecorderId, u64)]) -> Result<()> {
        let keys: Vec<Vec<u8>> = requests.iter().map(|(recorder, id)| keys::request(*recorder, *id).into()).collect();
        self.engine().forget(Family::Requests, &keys)
    }

    /// The assignments of a recorder that begin in the half-open range, withdrawn ones among them.
    pub fn assignments(
        &self,
        recorder: RecorderId,
        begin: Range<Micros>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(Micros, AssignmentRecord)>> + '_ {
        let range = keys::assignment(recorder, begin.start).into()..keys::assignment(recorder, begin.end).into();
        self.scan(Family::Assignments, range, direction).map(|entry| {
            let (key, value) = entry?;
            Ok((keys::read_assignment(&key)?.1, records::decode(&value, "assignments")?))
        })
    }

    /// Makes assignments of a recorder durable, each under the moment at which it begins and under each name that it ever had.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put_assignments(&self, recorder: RecorderId, assignments: &[(Micros, AssignmentRecord)]) -> Result<()> {
        let mut batch = Batch::default();
        for (from, record) in assignments {
            batch.put(Family::Assignments, keys::assignment(recorder, *from), records::encode(record)?);
            for name in record.revisions.iter().filter_map(|revision| revision.assignee.as_deref()) {
                batch.put(Family::Assignees, keys::assignee(name, *from, recorder), []);
            }
        }
        self.engine().commit(&[], &batch)
    }

    /// What a recorder said is lost, by the first sequence.
    pub fn losses(&self, recorder: RecorderId) -> impl Iterator<Item = Result<LossEntry>> + '_ {
        self.scan(Family::Losses, keys::all_under(&recorder.0), Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            let (_, first, stated_in) = keys::read_loss(&key)?;
            Ok(LossEntry { first, stated_in, record: records::decode(&value, "losses")? })
        })
    }
}
