//! Incidents and what is noted with them: each change is one batch with its audit entries and its events, so that either all of it is
//! durable or nothing is.
//!
//! A source's own name of an incident makes it one: two that come at the same moment under one name are one incident, because
//! both are decided under the lock of the store. Nothing is ever removed.

use aigaq_proto::{Digest, Micros, RecorderId};

use super::engine::{Batch, Direction, Family};
use super::records::{self, AuditRecord, IncidentCall, IncidentRecord, NoteRecord, Occurrence};
use super::{Store, keys};
use crate::error::{Error, Kind, Result};

/// What became of an incident that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It is new.
    New(IncidentRecord),
    /// The same came before, under the same name.
    Again(IncidentRecord),
    /// Another one came under that name.
    Other,
}

/// A change of an incident on its way into the store.
pub struct Change {
    /// What it is now.
    pub record: IncidentRecord,
    /// What those who watch are told.
    pub what: &'static str,
    /// Of whom, once for each: of a recorder those alone are told who may find it, of none everybody who may find the incident.
    pub about: Vec<Option<RecorderId>>,
    /// What the trail says.
    pub entries: Vec<AuditRecord>,
}

/// The name under which an incident is one.
fn name(call: &IncidentCall) -> Option<Digest> {
    let IncidentCall { department, source, reference, .. } = call;
    // No part has a line break, so that no two are read as one.
    (!reference.is_empty()).then(|| Digest::of(format!("{department}\n{}\n{reference}", source.name()).as_bytes()))
}

impl Store {
    /// Takes an incident in, unless it came before under the same name; its number is set here.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn open_incident(&self, record: IncidentRecord, entry: AuditRecord) -> Result<Opened> {
        let _writing = self.writing();
        let name = name(&record.call);
        if let Some(name) = name
            && let Some(value) = self.engine().get(Family::IncidentNames, &keys::incident_name(name))?
        {
            let number: u64 = records::decode(&value, "incident_names")?;
            let before = self.incident(number)?.ok_or_else(|| missing(number))?;
            return Ok(if before.call == record.call { Opened::Again(before) } else { Opened::Other });
        }
        let last = self.scan(Family::Incidents, keys::everything(), Direction::Backward).next().transpose()?;
        let number = last.map(|(key, _)| keys::read_incident(&key)).transpose()?.map_or(1, |last| last + 1);
        let record = IncidentRecord { number, ..record };
        let mut batch = Batch::default();
        if let Some(name) = name {
            batch.put(Family::IncidentNames, keys::incident_name(name), records::encode(&number)?);
        }
        let entries = vec![entry.about(IncidentRecord::object(number))];
        self.write_incident(Change { record: record.clone(), what: "opened", about: vec![None], entries }, batch)?;
        Ok(Opened::New(record))
    }

    /// Changes an incident: `change` is given it as it is and says what it becomes, or nothing for no change.
    ///
    /// # Errors
    /// Those of `change`, [`Kind::NotFound`] if there is no such incident; as [`Store::commit`].
    pub fn change_incident(
        &self,
        number: u64,
        change: impl FnOnce(IncidentRecord) -> Result<Option<Change>>,
    ) -> Result<Option<IncidentRecord>> {
        let _writing = self.writing();
        let before = self.incident(number)?.ok_or_else(|| missing(number))?;
        let Some(change) = change(before)? else { return Ok(None) };
        let record = change.record.clone();
        self.write_incident(change, Batch::default())?;
        Ok(Some(record))
    }

    /// Writes a note down with an incident; its number is set here.
    ///
    /// # Errors
    /// As [`Store::change_incident`].
    pub fn note_incident(&self, number: u64, note: NoteRecord, entry: AuditRecord) -> Result<NoteRecord> {
        let _writing = self.writing();
        let before = self.incident(number)?.ok_or_else(|| missing(number))?;
        let record = IncidentRecord { notes: before.notes + 1, ..before };
        let note = NoteRecord { number: record.notes, ..note };
        let value = records::encode(&note)?;
        let entries = vec![AuditRecord { content: Some(Digest::of(&value)), ..entry }];
        let mut batch = Batch::default();
        batch.put(Family::IncidentNotes, keys::incident_note(number, note.number), value);
        self.write_incident(Change { record, what: "noted", about: vec![None], entries }, batch)?;
        Ok(note)
    }

    fn write_incident(&self, change: Change, mut batch: Batch) -> Result<()> {
        let Change { record, what, about, entries } = change;
        let at = entries.iter().map(|entry| entry.at).max().unwrap_or_default();
        batch.put(Family::Incidents, keys::incident(record.number), records::encode(&record)?);
        let happened = |recorder: Option<RecorderId>| {
            let (number, department, state) = (record.number, record.call.department.clone(), record.state);
            (at, recorder, Occurrence::Incident { number, department, state, what: what.to_owned() })
        };
        let numbered = self.number(&about.into_iter().map(happened).collect::<Vec<_>>(), &mut batch)?;
        self.audit_with(&entries, batch)?;
        if let Some(numbered) = numbered {
            numbered.written();
        }
        Ok(())
    }

    /// One incident.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn incident(&self, number: u64) -> Result<Option<IncidentRecord>> {
        let value = self.engine().get(Family::Incidents, &keys::incident(number))?;
        value.map(|value| records::decode(&value, "incidents")).transpose()
    }

    /// The incidents with numbers below `before`, newest first.
    pub fn incidents(&self, before: u64) -> impl Iterator<Item = Result<IncidentRecord>> + '_ {
        let range = keys::incident(0).into()..keys::incident(before).into();
        self.scan(Family::Incidents, range, Direction::Backward).map(|entry| records::decode(&entry?.1, "incidents"))
    }

    /// The notes of an incident behind the one with the number `after`, in order.
    pub fn incident_notes(&self, number: u64, after: u64) -> impl Iterator<Item = Result<NoteRecord>> + '_ {
        let mut range = keys::all_under(&keys::incident(number));
        range.start = keys::incident_note(number, after.saturating_add(1)).into();
        self.scan(Family::IncidentNotes, range, Direction::Forward)
            .map(|entry| records::decode(&entry?.1, "incident_notes"))
    }

    /// Has what arrives noted from now on, for [`Store::take_arrivals`].
    pub fn note_arrivals(&self) {
        self.inner.arrivals.begin();
    }

    /// The recorders of which links arrived since the last time, each with spans of device time from the beginning of a link to the end of
    /// one: all of those links lie in them, and other links hardly.
    #[must_use]
    pub fn take_arrivals(&self) -> Vec<Arrival> {
        self.inner.arrivals.take()
    }
}

/// That links of a recorder arrived.
pub type Arrival = (RecorderId, std::ops::Range<Micros>);

fn missing(number: u64) -> Error {
    Error::new(Kind::NotFound, format!("there is no incident {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::{Act, Event, IncidentSource, IncidentState};

    fn record(reference: &str, text: &str) -> IncidentRecord {
        let call = IncidentCall {
            department: "Astana".to_owned(),
            source: IncidentSource::Dispatch,
            reference: reference.to_owned(),
            text: text.to_owned(),
            categories: Vec::new(),
            place: None,
            from: 1,
            to: 2,
            badges: Vec::new(),
        };
        let opened = Act { at: 1, by: "client:dispatch".to_owned(), reason: String::new() };
        let (history, found) = (Vec::new(), Vec::new());
        IncidentRecord {
            number: 0,
            call,
            opened,
            state: IncidentState::Open,
            history,
            found,
            searched_at: None,
            notes: 0,
        }
    }

    fn entry() -> AuditRecord {
        AuditRecord::new(1, Event::Incident, "client:dispatch", "::1", "open incident")
    }

    #[test]
    fn the_same_name_is_the_same_incident_and_another_body_is_none() {
        let store = Store::memory();
        let Opened::New(first) = store.open_incident(record("17", "a"), entry()).unwrap() else { panic!() };
        assert_eq!(store.open_incident(record("17", "a"), entry()).unwrap(), Opened::Again(first.clone()));
        assert_eq!(store.open_incident(record("17", "b"), entry()).unwrap(), Opened::Other);
        let Opened::New(second) = store.open_incident(record("18", "a"), entry()).unwrap() else { panic!() };
        assert_eq!((first.number, second.number), (1, 2));
        for _ in 0..2 {
            assert!(matches!(store.open_incident(record("", "a"), entry()).unwrap(), Opened::New(_)));
        }
        assert_eq!(store.last_audit(), 4, "what was not written has no entry");
        assert_eq!(store.feed(0, 9).unwrap().records.len(), 4);
    }

    #[test]
    fn of_many_that_come_at_once_under_one_name_one_is_new() {
        let store = Store::memory();
        let made = std::thread::scope(|scope| {
            let one = || matches!(store.open_incident(record("17", "a"), entry()).unwrap(), Opened::New(_));
            let all: Vec<_> = (0..16).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|one| one.join().unwrap()).filter(|new| *new).count()
        });
        assert_eq!((made, store.incidents(u64::MAX).count()), (1, 1));
    }

    #[test]
    fn notes_have_their_order_and_a_change_that_is_refused_leaves_nothing() {
        let store = Store::memory();
        store.open_incident(record("17", "a"), entry()).unwrap();
        let note = |text: &str| NoteRecord {
            number: 0,
            at: 1,
            by: "account:anna".to_owned(),
            text: text.to_owned(),
            mark: None,
            export: None,
        };
        for text in ["first", "second"] {
            store.note_incident(1, note(text), entry()).unwrap();
        }
        let texts: Vec<_> = store.incident_notes(1, 0).map(|note| note.unwrap().text).collect();
        assert_eq!(texts, ["first", "second"]);
        assert_eq!(store.incident_notes(1, 1).count(), 1);
        assert_eq!(store.note_incident(2, note("x"), entry()).unwrap_err().kind(), Kind::NotFound);
        let refused = store.change_incident(1, |_| Err(Error::new(Kind::Invalid, "no")));
        assert_eq!(refused.unwrap_err().kind(), Kind::Invalid);
        assert_eq!(store.change_incident(1, |_| Ok(None)).unwrap(), None);
        assert_eq!(store.last_audit(), 3);
    }
}
