//! `/v1/incidents`: what came in from dispatch, the hotline, officers and operators, where each stands, and whose footage it needs.
//!
//! An incident belongs to a department, and is there for those who may see what that department owns. Of the recorders that were found
//! each person is told those that they may find themselves: what is kept from them does not count, not even in `matched`.

mod call;
mod shown;

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{self, FromJson, FromPath, FromQuery};
use super::state::State;
use super::viewer::{Find, Incident, Release, Scope, Verb, Viewer};
use super::{marks, time};
use crate::error::{Error, Kind, Result};
use crate::incident::{Confirmed, Stepped, allowed, object};
use crate::store::records::{
    Act, AuditRecord, Event, IncidentCall, IncidentSource, IncidentState, NoteRecord, Transition,
};
use crate::store::{Opened, Store};

pub(super) use call::NewIncident;
pub(super) use shown::{IncidentDocument, NoteDocument};

/// Longest reason and longest note, characters.
const REASON_CHARS_MAX: usize = 500;
const NOTE_CHARS_MAX: usize = 2_000;
/// Incidents on a page when nothing else is asked for, and at most; the same of notes.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Incidents or notes that are looked through for one page at most; a page may be short and still have a next one.
const SCANNED_MAX: usize = 20_000;
/// Recorders and steps of the incidents of a page, before which it ends: at most one incident goes beyond.
const PARTS_MAX: usize = 10_000;
/// So many recorders and steps are as much work to look through as an incident without any.
const PARTS_OF_ONE: usize = 50;
/// What is said of an incident that is not there, or not for the one who asks.
const ABSENT: &str = "there is no such incident";
/// The same of a department.
const NO_DEPARTMENT: &str = "there is no such department";
/// The same of a mark or an export.
const NO_ATTACHMENT: &str = "there is no such mark, or no such export";

/// A step that is to be taken.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "transition": "confirm", "reason": "the patrol is there" }))]
pub(super) struct NewTransition {
    /// Which way.
    transition: Transition,
    /// Why; at most 500 characters.
    reason: String,
}

/// A note that is to be written down.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "text": "the caller was reached again" }))]
pub(super) struct NewNote {
    /// What; at most 2000 characters. May be left out beside a mark or an export.
    text: Option<String>,
    /// A mark that belongs to the incident.
    mark: Option<String>,
    /// An export that belongs to it.
    export: Option<String>,
}

/// Which incidents are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those that stand here.
    #[param(inline)]
    state: Option<IncidentState>,
    /// Only those from here.
    #[param(inline)]
    source: Option<IncidentSource>,
    /// Only those of this department.
    department: Option<String>,
    /// Only those of this category.
    category: Option<String>,
    /// `false`: only those for which no recorder was found; `true`: only the others.
    matched: Option<bool>,
    /// Only those that touch the time from here on, RFC 3339 UTC.
    from: Option<String>,
    /// Only those that touch the time before this.
    to: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Most incidents on the page, 1 to 1000; 100 if not given.
    limit: Option<usize>,
}

/// A page of incidents.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IncidentPage {
    /// Newest first; one that comes in while somebody turns the pages is before the first.
    incidents: Vec<IncidentDocument>,
    /// Cursor of the next page, if there is more to look through; a page may be short.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which notes are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NotesQuery {
    /// `next` of the page before.
    cursor: Option<u64>,
    /// Most notes on the page, 1 to 1000; 100 if not given.
    limit: Option<usize>,
}

/// A page of notes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NotePage {
    /// In the order in which they were written; of what is noted of recorders those that the one who asks may find.
    notes: Vec<NoteDocument>,
    /// Cursor of the next page, if there is more to look through; a page may be short.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// What was released.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReleasedDocument {
    /// How many holds.
    released: u64,
}

/// Takes an incident in. The same again under the same name of its source is the same incident. Its recorders are looked for at
/// once and again with everything that arrives; their footage of its time is held, and they are asked to send that first.
#[utoipa::path(post, operation_id = "open_incident", path = "/v1/incidents", tag = "incidents", request_body = NewIncident,
    responses((status = 201, description = "It is taken", body = IncidentDocument),
        (status = 200, description = "It was taken before", body = IncidentDocument),
        (status = 409, description = "Another incident has this name", body = Problem, content_type = "application/problem+json"),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn open(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromJson(new): FromJson<NewIncident>,
) -> Result<Response, Problem> {
    let call = new.call()?;
    let department = call.department.clone();
    let sees = move |_: &Store, scope: &Scope<Incident>| Ok(scope.sees_department(&department));
    let scope = viewer.over_if::<Incident>(NO_DEPARTMENT, sees).await?;
    let incidents = state.incidents(&scope)?;
    let act = Act { at: state.clock.now(), by: viewer.actor().to_owned(), reason: String::new() };
    let entry = AuditRecord { at: act.at, ..viewer.entry(Event::Incident, opening(&call)) };
    let opened = scope.evidence().ask(move |_| incidents.take(call, act, entry)).await?;
    let (status, record) = match opened {
        Opened::New(record) => (StatusCode::CREATED, record),
        Opened::Again(record) => (StatusCode::OK, record),
        Opened::Other => {
            let detail = "another incident came under this name before";
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
    };
    let place = [(header::LOCATION, format!("/v1/incidents/{}", object(record.number)))];
    let document = scope.evidence().ask({
        let (find, state) = (scope.also::<Find>(), state.clone());
        move |store| shown::document(store, &state, &mut find.glance(), record)
    });
    Ok((status, place, Json(document.await?)).into_response())
}

/// Incidents, a page at a time. With `matched=false`, those for which nobody was found.
#[utoipa::path(get, operation_id = "list_incidents", path = "/v1/incidents", tag = "incidents", params(ListQuery),
    responses((status = 200, body = IncidentPage), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromQuery(query): FromQuery<ListQuery>,
) -> Result<Json<IncidentPage>, Problem> {
    let limit = within_page(query.limit)?;
    let from = query.from.as_deref().map_or(Ok(0), |from| time::parse("from", from))?;
    let to = query.to.as_deref().map_or(Ok(u64::MAX), |to| time::parse("to", to))?;
    let before = query.cursor.as_deref().map_or(Ok(u64::MAX), number_of)?;
    let scope = viewer.over::<Find>().await?;
    let evidence = scope.evidence().clone();
    let page = evidence.ask(move |store| {
        let mut glance = scope.glance();
        let mut incidents = Vec::new();
        let (mut last, mut scanned, mut parts) = (None, 0, 0);
        for record in store.incidents(before) {
            if incidents.len() == limit || scanned >= SCANNED_MAX || parts >= PARTS_MAX {
                return Ok(IncidentPage { incidents, next: last.map(object) });
            }
            let record = record?;
            last = Some(record.number);
            scanned += 1 + (record.found.len() + record.history.len()) / PARTS_OF_ONE;
            let call = &record.call;
            let wanted = scope.sees_department(&call.department)
                && query.state.is_none_or(|state| state == record.state)
                && query.source.is_none_or(|source| source == call.source)
                && query.department.as_ref().is_none_or(|department| *department == call.department)
                && query.category.as_ref().is_none_or(|category| call.categories.contains(category))
                && (call.from < to && from < call.to);
            let is_so = |wanted: bool| Ok::<_, Error>(wanted == shown::is_matched(store, &mut glance, &record)?);
            if !wanted || !query.matched.map_or(Ok(true), is_so)? {
                continue;
            }
            let document = shown::document(store, &state, &mut glance, record)?;
            parts += document.parts();
            incidents.push(document);
        }
        Ok(IncidentPage { incidents, next: None })
    });
    Ok(Json(page.await?))
}

/// One incident with its history, its recorders and what was marked on their footage meanwhile.
#[utoipa::path(get, operation_id = "incident", path = "/v1/incidents/{id}", tag = "incidents",
    params(("id" = String, Path, description = "Incident")),
    responses((status = 200, body = IncidentDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn one(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
) -> Result<Json<IncidentDocument>, Problem> {
    let number = number_of(&id)?;
    let scope = of::<Find>(&viewer, number).await?;
    let evidence = scope.evidence().clone();
    let document = evidence.ask(move |store| {
        let record = store.incident(number)?.ok_or_else(absent)?;
        let mut glance = scope.glance();
        let document = shown::document(store, &state, &mut glance, record)?;
        shown::with_marks(store, &state, &mut glance, number, document)
    });
    Ok(Json(document.await?))
}

/// Steps an incident on. Whoever closes it asks for the release of its holds as well, which another person has to confirm.
#[utoipa::path(post, operation_id = "step_incident", path = "/v1/incidents/{id}/transitions", tag = "incidents",
    params(("id" = String, Path, description = "Incident")), request_body = NewTransition,
    responses((status = 200, description = "It is taken", body = IncidentDocument), (status = 409, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn step(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromJson(new): FromJson<NewTransition>,
) -> Result<Json<IncidentDocument>, Problem> {
    let number = number_of(&id)?;
    let reason = request::words("reason", new.reason, REASON_CHARS_MAX)?;
    let transition = new.transition;
    let scope = if transition == Transition::Close {
        // To close is to ask for the release of what is held.
        of::<Release>(&viewer, number).await?.also::<Find>()
    } else {
        of::<Incident>(&viewer, number).await?.also::<Find>()
    };
    let release = scope.also::<Release>();
    let incidents = state.incidents(&scope)?;
    let act = Act { at: state.clock.now(), by: viewer.actor().to_owned(), reason };
    let action = format!("{} {}", transition.name(), object(number));
    let entry = AuditRecord { at: act.at, ..viewer.entry(Event::Incident, action) };
    let entry = entry.about(object(number)).because(act.reason.clone());
    let stepped = scope.evidence().ask(move |store| {
        let mut glance = release.glance();
        incidents.step(number, transition, act, entry, &mut |recorder| glance.sees(store, recorder))
    });
    match stepped.await? {
        Stepped::Done(record) => {
            let evidence = scope.evidence().clone();
            Ok(Json(evidence.ask(move |store| shown::document(store, &state, &mut scope.glance(), *record)).await?))
        }
        Stepped::Not(from) => {
            let ways: Vec<_> = allowed(from).map(Transition::name).collect();
            let detail = format!("the incident is {}: from there {} only", from.name(), ways.join(" or "));
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Stepped::TooOften => Err(Problem::new(StatusCode::CONFLICT, "the incident was stepped on as often as is kept")),
    }
}

/// Confirms the release of what a closed incident holds, as another person than the one who closed it.
#[utoipa::path(post, operation_id = "release_incident", path = "/v1/incidents/{id}/release", tag = "incidents",
    params(("id" = String, Path, description = "Incident")),
    responses((status = 200, description = "It is released", body = ReleasedDocument), (status = 403, response = Problem),
        (status = 409, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn release(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
) -> Result<Json<ReleasedDocument>, Problem> {
    let number = number_of(&id)?;
    let scope = of::<Release>(&viewer, number).await?;
    let incidents = state.incidents(&scope)?;
    let act = Act { at: state.clock.now(), by: viewer.actor().to_owned(), reason: object(number) };
    let action = format!("confirm the release of what {} holds", object(number));
    let entry = AuditRecord { at: act.at, ..viewer.entry(Event::Release, action) }.about(object(number));
    let refused = entry.clone();
    let evidence = scope.evidence().clone();
    let confirmed = evidence.ask(move |store| {
        let mut glance = scope.glance();
        incidents.confirm_release(number, &act, &entry, &mut |recorder| glance.sees(store, recorder))
    });
    let (status, detail) = match confirmed.await? {
        Confirmed::Done(released) => return Ok(Json(ReleasedDocument { released })),
        Confirmed::NotClosed => (StatusCode::CONFLICT, "the incident is not closed"),
        Confirmed::Nothing => (StatusCode::CONFLICT, "there is nothing whose release was asked for"),
        Confirmed::SamePerson => {
            (StatusCode::FORBIDDEN, "whoever asked for the release cannot confirm it: another person has to")
        }
    };
    state.trail.write(refused.ended("refused")).await?;
    Err(Problem::new(status, detail))
}

/// Writes a note down with an incident, or that a mark or an export belongs to it.
#[utoipa::path(post, operation_id = "note_incident", path = "/v1/incidents/{id}/notes", tag = "incidents",
    params(("id" = String, Path, description = "Incident")), request_body = NewNote,
    responses((status = 201, description = "It is written down", body = NoteDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn note(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromJson(new): FromJson<NewNote>,
) -> Result<Response, Problem> {
    let number = number_of(&id)?;
    let text = new.text.map_or(Ok(String::new()), |text| request::words("text", text, NOTE_CHARS_MAX))?;
    let mark = new.mark.as_deref().map(marks::place_of).transpose()?;
    if text.is_empty() && mark.is_none() && new.export.is_none() {
        return Err(Problem::invalid("a note needs a text, a mark or an export"));
    }
    let scope = of::<Incident>(&viewer, number).await?;
    let incidents = state.incidents(&scope)?;
    let exported = new.export.as_deref().map(|export| state.recorders_of(export));
    let find = scope.also::<Find>();
    let evidence = scope.evidence().clone();
    let theirs = evidence.ask(move |store| {
        let mut glance = find.glance();
        let marked =
            mark.map_or(Ok(true), |mark| Ok(store.mark(mark)?.is_some() && glance.sees(store, mark.recorder)?))?;
        let exported = exported.map_or(Ok(true), |all| Ok(!all.is_empty() && glance.sees_each(store, &all)?))?;
        Ok(marked && exported)
    });
    if !theirs.await? {
        return Err(viewer.absent(NO_ATTACHMENT).await);
    }
    let (at, by) = (state.clock.now(), viewer.actor().to_owned());
    let entry = viewer.entry(Event::Incident, format!("note with {}", object(number)));
    let entry = AuditRecord { at, ..entry }.about(object(number));
    let note = NoteRecord { number: 0, at, by, text, mark, export: new.export };
    let note = evidence.ask(move |_| incidents.note(number, note, entry)).await?;
    let place = [(header::LOCATION, format!("/v1/incidents/{}/notes", object(number)))];
    Ok((StatusCode::CREATED, place, Json(shown::note(note))).into_response())
}

/// What was noted with an incident.
#[utoipa::path(get, operation_id = "list_incident_notes", path = "/v1/incidents/{id}/notes", tag = "incidents",
    params(("id" = String, Path, description = "Incident"), NotesQuery),
    responses((status = 200, body = NotePage), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn notes(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromQuery(query): FromQuery<NotesQuery>,
) -> Result<Json<NotePage>, Problem> {
    let number = number_of(&id)?;
    let limit = within_page(query.limit)?;
    let scope = of::<Find>(&viewer, number).await?;
    let evidence = scope.evidence().clone();
    let page = evidence.ask(move |store| {
        store.incident(number)?.ok_or_else(absent)?;
        let mut glance = scope.glance();
        let mut notes: Vec<NoteDocument> = Vec::new();
        let mut last = None;
        for (scanned, note) in store.incident_notes(number, query.cursor.unwrap_or_default()).enumerate() {
            if notes.len() == limit || scanned == SCANNED_MAX {
                return Ok(NotePage { notes, next: last });
            }
            let note = note?;
            last = Some(note.number);
            notes.extend(shown::seen_note(store, &state, &mut glance, note)?);
        }
        Ok(NotePage { notes, next: None })
    });
    Ok(Json(page.await?))
}

/// What the trail says of an incident that comes in.
fn opening(call: &IncidentCall) -> String {
    format!("open incident from {} {}", call.source.name(), call.reference).trim_end().to_owned()
}

/// Leave to do `V` with an incident.
async fn of<V: Verb>(viewer: &Viewer, number: u64) -> Result<Scope<V>, Problem> {
    let theirs = move |store: &Store, scope: &Scope<V>| {
        Ok(store.incident(number)?.is_none_or(|record| scope.sees_department(&record.call.department)))
    };
    let scope = viewer.over_if::<V>(ABSENT, theirs).await?;
    let is_there = scope.evidence().ask(move |store| Ok(store.incident(number)?.is_some())).await?;
    if is_there { Ok(scope) } else { Err(absent().into()) }
}

fn absent() -> Error {
    Error::new(Kind::NotFound, ABSENT)
}

/// Reads `incident-{number}`.
pub(super) fn number_of(text: &str) -> Result<u64> {
    let number = text.strip_prefix("incident-").and_then(|number| number.parse().ok());
    number.filter(|number| object(*number) == text).ok_or_else(absent)
}

fn within_page(limit: Option<usize>) -> Result<usize> {
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    let fine = (1..=PAGE_MAX).contains(&limit);
    if fine { Ok(limit) } else { Err(Error::new(Kind::Invalid, format!("limit must be from 1 to {PAGE_MAX}"))) }
}
