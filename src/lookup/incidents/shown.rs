//! An incident as it is shown to one person: of its recorders those that they may find.

use serde::Serialize;
use utoipa::ToSchema;

use super::call::PlaceDocument;
use crate::error::Result;
use crate::incident::{allowed, object};
use crate::lookup::holds::{ActDocument, act_document};
use crate::lookup::marks::{self, MarkDocument};
use crate::lookup::state::State;
use crate::lookup::time;
use crate::lookup::viewer::{Find, Glance};
use crate::store::Store;
use crate::store::records::{
    FoundRecord, IncidentRecord, IncidentSource, IncidentState, NoteRecord, StepRecord, Transition,
};

/// Most marks that are shown with an incident, and marks that are looked through for them.
const MARKS_MAX: usize = 100;
const SCANNED_MAX: usize = 20_000;

/// An incident.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct IncidentDocument {
    /// Its name here.
    id: String,
    /// Which department deals with it.
    department: String,
    /// Where it comes from.
    source: IncidentSource,
    /// What it is called there.
    #[serde(skip_serializing_if = "String::is_empty")]
    reference: String,
    /// What is said of it.
    text: String,
    /// What kinds of things it is.
    categories: Vec<String>,
    /// Where.
    place: Option<PlaceDocument>,
    /// When it begins, RFC 3339 UTC.
    from: String,
    /// When it ends, exclusive.
    to: String,
    /// Who has to do with it.
    badges: Vec<String>,
    /// Where it stands.
    state: IncidentState,
    /// The transitions that can be taken from there.
    transitions: Vec<Transition>,
    /// Who brought it in, and when.
    opened: ActDocument,
    /// How it came to where it stands, oldest first.
    history: Vec<StepDocument>,
    /// Whether recorders were looked for everywhere already.
    searched: bool,
    /// Whether a recorder was found.
    matched: bool,
    /// The recorders that were found, in that order.
    recorders: Vec<FoundDocument>,
    /// How many notes there are.
    notes: u64,
    /// What was marked on the footage of its recorders within its time, at most a hundred; where one incident is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    marks: Option<Vec<MarkDocument>>,
}

impl IncidentDocument {
    /// How many recorders and steps it has.
    pub(super) fn parts(&self) -> usize {
        self.recorders.len() + self.history.len()
    }
}

/// A step of an incident.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct StepDocument {
    /// Which way.
    transition: Transition,
    /// Where it stood.
    from: IncidentState,
    /// Where it stands then.
    to: IncidentState,
    /// Who, when and why.
    #[serde(flatten)]
    act: ActDocument,
}

/// A recorder of an incident.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct FoundDocument {
    /// Its id.
    recorder: String,
    /// What people call it.
    label: String,
    /// Who of the incident had it, if that is how it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    badge: Option<String>,
    /// Who has it at the beginning of the incident; null for nobody.
    assignee: Option<String>,
    /// How near it came, metres, if that is how it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    metres: Option<u32>,
    /// When it was found.
    found_at: String,
    /// Whether it is connected now.
    connected: bool,
    /// The hold on its footage.
    hold: Option<String>,
    /// The pull that asks it to send its footage.
    pull: Option<String>,
}

/// A note.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct NoteDocument {
    /// Its place among those of the incident, from 1.
    pub(super) number: u64,
    /// When, RFC 3339 UTC.
    at: String,
    /// Who.
    by: String,
    /// What; may be empty beside a mark or an export.
    text: String,
    /// A mark that belongs to the incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    /// An export that belongs to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<String>,
}

/// An incident as somebody sees it. Blocks.
pub(super) fn document(
    store: &Store,
    state: &State,
    glance: &mut Glance<'_, Find>,
    record: IncidentRecord,
) -> Result<IncidentDocument> {
    let IncidentRecord { number, call, opened, state: stands, history, found, searched_at, notes } = record;
    let mut recorders = Vec::new();
    for FoundRecord { recorder, badge, metres, found_at, hold, pull } in found {
        if !glance.sees(store, recorder)? {
            continue;
        }
        let label = store.recorder(recorder)?.map(|known| known.label).unwrap_or_default();
        let assignee = state.fleet.assigned_at(recorder, call.from)?.map(|assignment| assignment.assignee);
        let of = |number: u64| format!("{recorder}-{number}");
        recorders.push(FoundDocument {
            recorder: recorder.to_string(),
            label,
            badge,
            assignee,
            metres,
            found_at: time::format(found_at),
            connected: state.fleet.is_connected(recorder),
            hold: hold.map(of),
            pull: pull.map(of),
        });
    }
    let step = |StepRecord { transition, from, to, act }| StepDocument { transition, from, to, act: act_document(act) };
    Ok(IncidentDocument {
        id: object(number),
        department: call.department,
        source: call.source,
        reference: call.reference,
        text: call.text,
        categories: call.categories,
        place: call.place.map(PlaceDocument::of),
        from: time::format(call.from),
        to: time::format(call.to),
        badges: call.badges,
        state: stands,
        transitions: allowed(stands).collect(),
        opened: act_document(opened),
        history: history.into_iter().map(step).collect(),
        searched: searched_at.is_some(),
        matched: !recorders.is_empty(),
        recorders,
        notes,
        marks: None,
    })
}

/// The same with what was marked meanwhile on the footage of the recorders that are shown. Blocks.
pub(super) fn with_marks(
    store: &Store,
    state: &State,
    glance: &mut Glance<'_, Find>,
    number: u64,
    document: IncidentDocument,
) -> Result<IncidentDocument> {
    let Some(record) = store.incident(number)? else { return Ok(document) };
    let mut found = Vec::new();
    for mark in store.marks(record.call.from..record.call.to, None).take(SCANNED_MAX) {
        let mark = mark?;
        let recorder = mark.place.recorder;
        if !record.found.iter().any(|one| one.recorder == recorder) || !glance.sees(store, recorder)? {
            continue;
        }
        let department = store.recorder(recorder)?.map(|known| known.department).unwrap_or_default();
        let corrected_by = store.corrected_by(mark.place)?;
        found.push(marks::document(mark, department, corrected_by, &state.categories));
        if found.len() == MARKS_MAX {
            break;
        }
    }
    Ok(IncidentDocument { marks: Some(found), ..document })
}

/// Whether a recorder was found that somebody sees. Blocks.
pub(super) fn is_matched(store: &Store, glance: &mut Glance<'_, Find>, record: &IncidentRecord) -> Result<bool> {
    for found in &record.found {
        if glance.sees(store, found.recorder)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A note as somebody sees it: without the mark and without the export of a recorder that is kept from them; none if nothing is left.
/// Blocks.
pub(super) fn seen_note(
    store: &Store,
    state: &State,
    glance: &mut Glance<'_, Find>,
    mut record: NoteRecord,
) -> Result<Option<NoteDocument>> {
    if let Some(mark) = record.mark
        && !glance.sees(store, mark.recorder)?
    {
        record.mark = None;
    }
    if let Some(export) = &record.export {
        let recorders = state.recorders_of(export);
        if recorders.is_empty() || !glance.sees_each(store, &recorders)? {
            record.export = None;
        }
    }
    let is_left = !record.text.is_empty() || record.mark.is_some() || record.export.is_some();
    Ok(is_left.then(|| note(record)))
}

/// A note as it is shown to whoever wrote it.
pub(super) fn note(note: NoteRecord) -> NoteDocument {
    let NoteRecord { number, at, by, text, mark, export } = note;
    NoteDocument { number, at: time::format(at), by, text, mark: mark.map(marks::name), export }
}
