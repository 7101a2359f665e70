//! Footage that was there and is gone: why, and which entry of the audit trail says so.
//!
//! It is an error that carries where its statement is, so that every answer that cannot show the footage says the same: 410, and not
//! that there was nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use aigaq_proto::{Micros, RecorderId, Sequence};

use crate::bundle::deletion::{Deletion, What};
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::store::records::Body;

/// Entries of the trail that are looked through for a statement, from the time at which it must have been made.
const SEARCHED_MAX: usize = 5_000;

/// What a [`Kind::NotFound`] has for its source when the thing was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone {
    /// Number of the entry of the audit trail that says so, where it was found.
    pub(super) statement: Option<u64>,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.statement {
            Some(number) => write!(f, "entry {number} of the audit trail says so"),
            None => f.write_str("it is gone"),
        }
    }
}

impl std::error::Error for Gone {}

impl Gone {
    /// The same if this error has it.
    pub(super) fn of(error: &Error) -> Option<Self> {
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<Self>()).copied()
    }
}

/// What became of a payload that the store does not give: of one that is gone the error says so. Blocks.
pub(super) fn explained(
    store: &Store,
    recorder: RecorderId,
    sequence: Option<Sequence>,
    body: &Body,
    error: Error,
) -> Error {
    if error.kind() != Kind::NotFound {
        return error;
    }
    match Statements::default().about(store, recorder, sequence, body) {
        Ok(stated) => error.because(Gone { statement: stated.map(|stated| stated.number) }),
        Err(error) => error,
    }
}

/// A statement of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stated {
    /// Number of the entry.
    pub(super) number: u64,
    /// Index in the log, once it is there.
    pub(super) log_index: Option<u64>,
    deletion: Deletion,
}

/// Statements that were looked up, by footage day and whether the key of the day was destroyed.
#[derive(Debug, Default)]
pub(super) struct Statements {
    known: BTreeMap<(u32, bool), Vec<Stated>>,
}

impl Statements {
    /// What says that the payload of a link is gone; `None` for a sequence is what is no link of the chain. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn about(
        &mut self,
        store: &Store,
        recorder: RecorderId,
        sequence: Option<Sequence>,
        body: &Body,
    ) -> Result<Option<Stated>> {
        let Some(day) = body.place().map(|place| place.day) else { return Ok(None) };
        let destroyed = store.is_destroyed(recorder, body);
        let stated = match self.known.entry((day, destroyed)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(find(store, recorder, day, destroyed)?),
        };
        let covers = |one: &&Stated| one.deletion.covers(recorder, sequence);
        Ok(stated.iter().filter(covers).max_by_key(|one| (one.deletion.what != What::Hidden, one.number)).cloned())
    }
}

/// Every statement about a day that is there.
fn find(store: &Store, recorder: RecorderId, day: u32, destroyed: bool) -> Result<Vec<Stated>> {
    let mut times: Vec<Micros> = Vec::new();
    if destroyed {
        times.extend(store.destruction(day, recorder)?.map(|done| done.act.at));
    } else if let Some((_, record)) = store.days(day..day.saturating_add(1)).next().transpose()? {
        times.push(record.hidden_at);
        times.extend(record.gone_at);
    }
    let mut found: Vec<Stated> = Vec::new();
    for from in times {
        for entry in store.audit_entries(from..Micros::MAX).take(SEARCHED_MAX) {
            let entry = entry?;
            let deletion = Deletion::read(entry.event.name(), &entry.object, &entry.action, &entry.outcome);
            let Some(deletion) = deletion.filter(|one| {
                let key = one.what == What::Destroyed;
                one.day == day && key == destroyed && one.recorder.is_none_or(|of| of == recorder)
            }) else {
                continue;
            };
            if found.iter().all(|known| known.number != entry.number) {
                let log_index = store.audit_leaf(entry.number)?.map(|leaf| leaf.log_index);
                found.push(Stated { number: entry.number, log_index, deletion });
            }
        }
    }
    Ok(found)
}
