//! `GET /v1/retention/preview`: what a day deletes and why. `GET /v1/deletions`: the days that are over and what became of them.
//! `POST /v1/deletions/undo`: brings a range back, within seven days.

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::holds;
use super::problem::Problem;
use super::request::{FromJson, FromQuery, recorder_id};
use super::state::State;
use super::time::{self, TimeRange};
use super::viewer::{Report, Undo, Viewer};
use crate::error::{Error, Kind, Result};
use crate::retention::{self, Line, Planned, UNDO_DAYS};
use crate::store::policy::day_of;
use crate::store::records::Event;

/// Longest range that is brought back at once, days.
const DAYS_MAX: u64 = 366;
/// For how many days more at most.
const UNDO_DAYS_MAX: u32 = 3_650;
/// Most days that one answer lists: the newest.
const LISTED_MAX: usize = 1_000;

/// Which day is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PreviewQuery {
    /// The day, `YYYY-MM-DD`, UTC; tomorrow if not given.
    day: Option<String>,
}

/// What happens to footage.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PlannedDocument {
    /// It is hidden, and can be brought back for seven days.
    Hide,
    /// Its bytes go for ever.
    Drop,
    /// It is moved on to a later day.
    Keep,
}

/// What happens to footage of one recorder, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviewLine {
    /// Whose.
    recorder: String,
    /// What happens.
    #[schema(inline)]
    action: PlannedDocument,
    /// The last day on which it was to be kept, `YYYY-MM-DD`.
    last_day: String,
    /// By which rule it was kept until then.
    rule: String,
    /// How many links.
    links: u64,
    /// Their size, bytes.
    bytes: u64,
    /// The first sequence of the chain among them.
    first_sequence: Option<u64>,
    /// The last.
    last_sequence: Option<u64>,
    /// Why it is kept on, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_by: Option<String>,
    /// Until the end of which day.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_until: Option<String>,
}

/// What a day deletes, as far as is known now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviewDocument {
    /// The day, `YYYY-MM-DD`.
    day: String,
    /// Bytes that are hidden.
    hide_bytes: u64,
    /// Bytes that go for ever.
    drop_bytes: u64,
    /// Bytes that are moved on.
    keep_bytes: u64,
    /// By last day and recorder; at most ten thousand.
    lines: Vec<PreviewLine>,
    /// Lines that are not listed.
    more_lines: u64,
}

/// Days that are over.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeletionList {
    /// The newest first; at most a thousand.
    deletions: Vec<DeletionDocument>,
}

/// The footage whose last day was one day.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeletionDocument {
    /// That day, `YYYY-MM-DD`.
    last_day: String,
    /// Since when it is hidden.
    hidden_at: String,
    /// Until when it can be brought back; earlier if the disk is full.
    due_at: String,
    /// When its bytes had gone; null while they are there.
    gone_at: Option<String>,
    /// Bodies that are, or were, deleted.
    links: u64,
    /// Their size, bytes.
    bytes: u64,
}

/// Footage that is to come back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "recorder": "ab25d58504dd103930f03e729a98f929", "from": "2026-01-17T09:14:00Z",
    "to": "2026-01-17T09:15:00Z", "reason": "case 7", "days": 30 }))]
pub(super) struct NewUndo {
    /// The recorder.
    recorder: String,
    /// Beginning, RFC 3339 UTC, by the clock of the recorder.
    from: String,
    /// End, exclusive.
    to: String,
    /// Why; at most 500 characters.
    reason: String,
    /// For how many days more it is kept, 1 to 3650; 30 if not given.
    days: Option<u32>,
}

/// What comes back, within seconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UndoDocument {
    /// The last day on which it is kept now, `YYYY-MM-DD`.
    last_day: String,
    /// How many links.
    links: u64,
    /// Their size, bytes.
    bytes: u64,
}

/// What a day deletes and why: a dry run.
#[utoipa::path(get, operation_id = "preview_deletion", path = "/v1/retention/preview", tag = "retention",
    params(PreviewQuery),
    responses((status = 200, body = PreviewDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn preview(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromQuery(query): FromQuery<PreviewQuery>,
) -> Result<Json<PreviewDocument>, Problem> {
    let tomorrow = day_of(state.clock.now()).saturating_add(1);
    let day = query.day.as_deref().map(time::parse_day).transpose()?.unwrap_or(tomorrow);
    let scope = viewer.whole::<Report>().await?;
    let seen = scope.evidence().ask(move |store| retention::preview(store, day)).await?;
    Ok(Json(PreviewDocument {
        day: time::format_day(day),
        hide_bytes: seen.hidden_bytes,
        drop_bytes: seen.gone_bytes,
        keep_bytes: seen.kept_bytes,
        lines: seen.lines.into_iter().map(line).collect(),
        more_lines: seen.more_lines,
    }))
}

/// The days that are over: what is hidden and until when it can be brought back, and what is gone.
#[utoipa::path(get, operation_id = "list_deletions", path = "/v1/deletions", tag = "retention",
    responses((status = 200, body = DeletionList), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(viewer: Viewer) -> Result<Json<DeletionList>, Problem> {
    let scope = viewer.whole::<Report>().await?;
    let days = scope.evidence().ask(|store| store.days(0..u32::MAX).collect::<Result<Vec<_>>>()).await?;
    let deletions = days.into_iter().rev().take(LISTED_MAX).map(|(day, record)| DeletionDocument {
        last_day: time::format_day(day),
        hidden_at: time::format(record.hidden_at),
        due_at: time::format(record.due_at),
        gone_at: record.gone_at.map(time::format),
        links: record.links,
        bytes: record.bytes,
    });
    Ok(Json(DeletionList { deletions: deletions.collect() }))
}

/// Brings back what was deleted of a range and is not gone yet.
#[utoipa::path(post, operation_id = "undo_deletion", path = "/v1/deletions/undo", tag = "retention",
    request_body = NewUndo,
    responses((status = 202, description = "It comes back within seconds", body = UndoDocument),
        (status = 404, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn undo(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromJson(new): FromJson<NewUndo>,
) -> Result<Response, Problem> {
    let recorder = recorder_id(&new.recorder)?;
    let range = TimeRange::parse(&new.from, &new.to, DAYS_MAX)?;
    let days = new.days.unwrap_or(UNDO_DAYS);
    if !(1..=UNDO_DAYS_MAX).contains(&days) {
        return Err(Problem::invalid(format!("days must be from 1 to {UNDO_DAYS_MAX}")));
    }
    let act = holds::act(&viewer, &state, new.reason)?;
    let permit = viewer.of::<Undo>(recorder).await?;
    let (from, to) = (time::format(range.from), time::format(range.to));
    let entry = viewer.entry(Event::Deletion, format!("undo the deletion of {recorder} from {from} to {to}"));
    state.trail.write(entry.about(recorder.to_string()).because(act.reason.clone())).await?;
    let retention = state.retention(&permit)?;
    let undone = permit.evidence().ask(move |_| retention.undo(recorder, range.from..range.to, days, act));
    let undone = undone.await?.ok_or_else(|| {
        Error::new(Kind::NotFound, "nothing of the range is within its seven days: it was not deleted, or it is gone")
    })?;
    let document =
        UndoDocument { last_day: time::format_day(undone.until_day), links: undone.links, bytes: undone.bytes };
    Ok((StatusCode::ACCEPTED, Json(document)).into_response())
}

fn line(line: Line) -> PreviewLine {
    let (action, kept) = match line.planned {
        Planned::Hidden => (PlannedDocument::Hide, None),
        Planned::Gone => (PlannedDocument::Drop, None),
        Planned::Kept { until_day, by } => (PlannedDocument::Keep, Some((by.to_string(), time::format_day(until_day)))),
    };
    let (kept_by, kept_until) = kept.unzip();
    PreviewLine {
        recorder: line.recorder.to_string(),
        action,
        last_day: time::format_day(line.day),
        rule: line.rule.to_string(),
        links: line.links,
        bytes: line.bytes,
        first_sequence: line.sequences.map(|(first, _)| first),
        last_sequence: line.sequences.map(|(_, last)| last),
        kept_by,
        kept_until,
    }
}
