//! Who had a recorder when: `/v1/recorders/{id}/assignments` to write it down, correct it, end it and read it, and
//! `/v1/assignments` to ask by the label that a recorder bears. The answer for a moment is one assignee or nobody.

use aigaq_proto::{Micros, RecorderId};
use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{self, FromJson, FromPath, FromQuery, recorder_id};
use super::state::State;
use super::time;
use super::viewer::{Assign, Find, Viewer};
use crate::error::{Error, Kind, Result};
use crate::fleet::{Assigned, Assignment};
use crate::store::records::AssignmentRecord;
use crate::store::{Direction, Store};

/// Longest name of an assignee, characters.
const ASSIGNEE_CHARS_MAX: usize = 100;
/// Assignments on a page when nothing else is asked for, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Somebody is to have a recorder.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "assignee": "badge 4711", "from": "2026-01-17T08:00:00Z", "to": "2026-01-17T20:00:00Z" }))]
pub(super) struct NewAssignment {
    /// Officer by badge or name, vehicle, or premises; at most 100 characters.
    assignee: String,
    /// Since when, RFC 3339 UTC.
    from: String,
    /// Until when, exclusive; without it, until further notice.
    to: Option<String>,
}

/// What an assignment is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "assignee": "badge 4712", "to": "2026-01-17T20:00:00Z" }))]
pub(super) struct ChangedAssignment {
    /// Officer by badge or name, vehicle, or premises; at most 100 characters.
    assignee: String,
    /// Until when, exclusive; without it, until further notice.
    to: Option<String>,
}

/// An assignment with every version of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AssignmentDocument {
    /// The recorder.
    recorder: String,
    /// Since when, RFC 3339 UTC; names the assignment.
    from: String,
    /// Until when, exclusive; null while it lasts.
    to: Option<String>,
    /// Who has it; null if the assignment was withdrawn.
    assignee: Option<String>,
    /// Every version, oldest first; the last holds.
    revisions: Vec<RevisionDocument>,
}

/// One version of an assignment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevisionDocument {
    /// Who; null for a withdrawal.
    assignee: Option<String>,
    /// Until when, exclusive.
    to: Option<String>,
    /// When this was written down.
    recorded_at: String,
    /// By whom.
    actor: String,
}

/// Which assignments are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only the one that holds at this moment, RFC 3339 UTC; an empty list is nobody.
    at: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Most assignments on the page, 1 to 1000; 100 if not given.
    limit: Option<usize>,
}

/// A page of assignments.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AssignmentPage {
    /// In order of time, withdrawn ones among them.
    assignments: Vec<AssignmentDocument>,
    /// Cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Whom is asked about.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhoQuery {
    /// What people call the recorder.
    label: String,
    /// Only recorders of this department.
    department: Option<String>,
    /// When, RFC 3339 UTC.
    at: String,
}

/// Who had the recorder with a label at a moment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WhoDocument {
    /// The label.
    label: String,
    /// When.
    at: String,
    /// Whether nobody had it.
    nobody: bool,
    /// Who had it; null for nobody.
    assignee: Option<String>,
    /// Which recorder; null for nobody.
    recorder: Option<String>,
    /// Since when.
    from: Option<String>,
    /// Until when, exclusive; null while it lasts.
    to: Option<String>,
}

/// Writes down who has a recorder.
#[utoipa::path(post, operation_id = "assign", path = "/v1/recorders/{id}/assignments", tag = "assignments",
    params(("id" = String, Path, description = "Recorder")), request_body = NewAssignment,
    responses((status = 201, description = "It is written down", body = AssignmentDocument),
        (status = 200, description = "It was so before", body = AssignmentDocument),
        (status = 409, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn assign(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromJson(new): FromJson<NewAssignment>,
) -> Result<Response, Problem> {
    let from = time::parse("from", &new.from)?;
    change(viewer, state, &id, from, Some((new.assignee, new.to)), true).await
}

/// Corrects who has a recorder, or until when. What it was before is kept as a version.
#[utoipa::path(put, operation_id = "correct_assignment", path = "/v1/recorders/{id}/assignments/{from}",
    tag = "assignments", request_body = ChangedAssignment,
    params(("id" = String, Path, description = "Recorder"),
        ("from" = String, Path, description = "When the assignment begins, RFC 3339 UTC")),
    responses((status = 200, body = AssignmentDocument),
        (status = 409, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn correct(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath((id, from)): FromPath<(String, String)>,
    FromJson(changed): FromJson<ChangedAssignment>,
) -> Result<Response, Problem> {
    let from = time::parse("from", &from)?;
    change(viewer, state, &id, from, Some((changed.assignee, changed.to)), false).await
}

/// Withdraws an assignment that was a mistake. What it was is kept as a version.
#[utoipa::path(delete, operation_id = "withdraw_assignment", path = "/v1/recorders/{id}/assignments/{from}",
    tag = "assignments",
    params(("id" = String, Path, description = "Recorder"),
        ("from" = String, Path, description = "When the assignment begins, RFC 3339 UTC")),
    responses((status = 200, body = AssignmentDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn withdraw(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath((id, from)): FromPath<(String, String)>,
) -> Result<Response, Problem> {
    let from = time::parse("from", &from)?;
    change(viewer, state, &id, from, None, false).await
}

/// Who had a recorder, a page at a time.
#[utoipa::path(get, operation_id = "list_assignments", path = "/v1/recorders/{id}/assignments", tag = "assignments",
    params(("id" = String, Path, description = "Recorder"), ListQuery),
    responses((status = 200, body = AssignmentPage), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromQuery(query): FromQuery<ListQuery>,
) -> Result<Json<AssignmentPage>, Problem> {
    let id = recorder_id(&id)?;
    let at = query.at.as_deref().map(|at| time::parse("at", at)).transpose()?;
    let after = query.cursor.as_deref().map(|cursor| time::parse("cursor", cursor)).transpose()?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if limit == 0 || limit > PAGE_MAX {
        return Err(Problem::invalid(format!("limit must be between 1 and {PAGE_MAX}")));
    }
    let permit = viewer.of::<Find>(id).await?;
    let page = permit.evidence().ask(move |store| match at {
        Some(at) => {
            let holds = state.fleet.assigned_at(id, at)?;
            let range = holds.map_or(0..0, |holds| holds.from..holds.from.saturating_add(1));
            page(store, id, range, 1)
        }
        None => page(store, id, after.map_or(0, |after| after.saturating_add(1))..Micros::MAX, limit),
    });
    Ok(Json(page.await?))
}

/// Who had the recorder with this label at a moment: one assignee or nobody.
#[utoipa::path(get, operation_id = "who", path = "/v1/assignments", tag = "assignments", params(WhoQuery),
    responses((status = 200, body = WhoDocument), (status = 409, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn who(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromQuery(query): FromQuery<WhoQuery>,
) -> Result<Json<WhoDocument>, Problem> {
    let at = time::parse("at", &query.at)?;
    let label = query.label.clone();
    let scope = viewer.over::<Find>().await?;
    let evidence = scope.evidence().clone();
    let found = evidence.ask(move |store| {
        let mut bears = false;
        let mut found = Vec::new();
        for record in store.recorders() {
            let record = record?;
            let wanted = scope.sees(&record)
                && record.label == query.label
                && query.department.as_ref().is_none_or(|department| record.department == *department);
            if wanted {
                bears = true;
                found.extend(state.fleet.assigned_at(record.id, at)?.map(|holds| (record.id, holds)));
            }
        }
        if bears { Ok(found) } else { Err(Error::new(Kind::NotFound, "no recorder bears this label")) }
    });
    let mut found = found.await?;
    if found.len() > 1 {
        let all: Vec<String> = found.iter().take(10).map(|(id, _)| id.to_string()).collect();
        let detail = format!("several recorders with this label were assigned then: {}", all.join(", "));
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let (recorder, holds) = found.pop().unzip();
    Ok(Json(WhoDocument {
        label,
        at: time::format(at),
        nobody: holds.is_none(),
        recorder: recorder.map(|id| id.to_string()),
        from: holds.as_ref().map(|holds: &Assignment| time::format(holds.from)),
        to: holds.as_ref().and_then(|holds| holds.to).map(time::format),
        assignee: holds.map(|holds| holds.assignee),
    }))
}

/// Makes, changes or (without `wanted`) withdraws the assignment that begins at `from`.
async fn change(
    viewer: Viewer,
    state: State,
    id: &str,
    from: Micros,
    wanted: Option<(String, Option<String>)>,
    is_new: bool,
) -> Result<Response, Problem> {
    let id = recorder_id(id)?;
    let wanted = wanted.map(|(assignee, to)| {
        let assignee = request::words("assignee", assignee, ASSIGNEE_CHARS_MAX)?;
        let to = to.map(|to| time::parse("to", &to)).transpose()?;
        if to.is_some_and(|to| to <= from) {
            return Err(Error::new(Kind::Invalid, "the assignment is empty: from must be before to"));
        }
        Ok(Assignment { from, to, assignee })
    });
    let wanted = wanted.transpose()?;
    let (actor, fleet) = (viewer.actor().to_owned(), state.fleet);
    let permit = viewer.of::<Assign>(id).await?;
    let changed = permit.evidence().ask(move |_| match &wanted {
        Some(wanted) if is_new => fleet.assign(id, wanted, &actor),
        Some(wanted) => fleet.correct(id, wanted, &actor),
        None => fleet.withdraw(id, from, &actor),
    });
    match changed.await? {
        Assigned::Done(record) if is_new => {
            let place = format!("/v1/recorders/{id}/assignments/{}", time::format(from));
            Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(document(id, from, record))).into_response())
        }
        Assigned::Done(record) | Assigned::Same(record) => Ok(Json(document(id, from, record)).into_response()),
        Assigned::Overlaps(other) => {
            let to = other.to.map_or_else(|| "further notice".to_owned(), time::format);
            let detail = format!(
                "{} has the recorder from {} until {to}: end or correct that assignment first",
                other.assignee,
                time::format(other.from)
            );
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Assigned::Missing => Err(Error::new(Kind::NotFound, "no assignment of this recorder begins there").into()),
        Assigned::TooOften => {
            Err(Problem::new(StatusCode::CONFLICT, "the assignment was changed as often as versions are kept"))
        }
    }
}

fn page(store: &Store, id: RecorderId, range: std::ops::Range<Micros>, limit: usize) -> Result<AssignmentPage> {
    let mut assignments: Vec<AssignmentDocument> = Vec::new();
    for entry in store.assignments(id, range, Direction::Forward) {
        let (from, record) = entry?;
        if assignments.len() == limit {
            let next = assignments.last().map(|last| last.from.clone());
            return Ok(AssignmentPage { assignments, next });
        }
        assignments.push(document(id, from, record));
    }
    Ok(AssignmentPage { assignments, next: None })
}

fn document(recorder: RecorderId, from: Micros, record: AssignmentRecord) -> AssignmentDocument {
    let holds = record.holds();
    AssignmentDocument {
        recorder: recorder.to_string(),
        from: time::format(from),
        to: holds.and_then(|(_, to)| to).map(time::format),
        assignee: holds.map(|(assignee, _)| assignee.to_owned()),
        revisions: record
            .revisions
            .into_iter()
            .map(|revision| RevisionDocument {
                assignee: revision.assignee,
                to: revision.to.map(time::format),
                recorded_at: time::format(revision.recorded_at),
                actor: revision.actor,
            })
            .collect(),
    }
}
