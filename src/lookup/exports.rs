//! `/v1/exports`: what was recorded, with everything that proves it, as one file. An order is durable when it is answered; its
//! bundle can be fetched, also in parts, until it expires.

use std::sync::Arc;

use aigaq_proto::{Digest, Micros, RecorderId};
use axum::Json;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;

use super::content::{Content, Wanted};
use super::coverage;
use super::problem::Problem;
use super::pulls::idempotency_key;
use super::request::{self, FromJson, FromPath, recorder_id};
use super::state::State;
use super::time::{self, TimeRange};
use super::viewer::{Export, Fetch, Permit, Verb, Viewer};
use crate::error::{Context as _, Error, Kind, Result};
use crate::export::{Bundle, Hole, Holes, Order, Ordered, Progress, Record, State as JobState};
use crate::fleet::Fleet;
use crate::store::records::Event;

/// Longest range, days.
const DAYS_MAX: u64 = 31;
/// Most recorders in one export.
const RECORDERS_MAX: usize = 32;
/// Longest purpose and reason, characters.
const PURPOSE_CHARS_MAX: usize = 200;
const REASON_CHARS_MAX: usize = 500;
/// Piece of a bundle that is read at a time, bytes.
const PIECE_BYTES: usize = 64 * 1024;
const MEDIA_TYPE: &str = "application/zip";
/// What is said of an export that is not there, or not for the one who asks.
const ABSENT: &str = "there is no such export";

/// An export that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "recorders": ["ab25d58504dd103930f03e729a98f929"], "from": "2026-01-17T09:14:00Z",
    "to": "2026-01-17T09:15:00Z", "purpose": "case 7", "reason": "asked for by the court" }))]
pub(super) struct NewExport {
    /// The recorders, 1 to 32, each once.
    recorders: Vec<String>,
    /// Beginning, RFC 3339 UTC, by the clocks of the recorders.
    from: String,
    /// End, exclusive, at most 31 days later.
    to: String,
    /// What for, such as the number of a case; at most 200 characters.
    purpose: String,
    /// Why, for the audit; at most 500 characters.
    reason: String,
}

/// Where an export stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ExportState {
    /// Others come first.
    Waiting,
    /// The bundle is being written.
    Running,
    /// The bundle is there.
    Done,
    /// There is no bundle; `failure` says why.
    Failed,
    /// Nobody wants it any more.
    Cancelled,
}

/// How far an export is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExportProgress {
    /// Payload that is written, bytes.
    bytes: u64,
    /// Payload in all, bytes; 0 until it is known.
    bytes_total: u64,
    /// Links that are written.
    links: u64,
}

/// Why an export has no bundle.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExportFailure {
    /// Kind of the error, of a closed set.
    kind: String,
    /// The same for people.
    detail: String,
}

/// A bundle that can be fetched.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExportBundle {
    /// Where.
    href: String,
    /// Name of the file for whoever saves it.
    name: String,
    /// Length.
    bytes: u64,
    /// SHA-256 of its manifest.
    manifest_sha256: String,
    /// What the exporter found, by recorder.
    verdicts: Vec<ExportVerdict>,
}

/// What the exporter found of a recorder.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExportVerdict {
    /// The recorder.
    recorder: String,
    /// `authentic`, `authentic-with-gaps`, `pending`, `unsigned` or `not-authentic`.
    verdict: String,
}

/// An export.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExportDocument {
    /// Its number.
    id: String,
    /// The recorders.
    recorders: Vec<String>,
    /// Beginning of the range, RFC 3339 UTC.
    from: String,
    /// End, exclusive.
    to: String,
    /// What for.
    purpose: String,
    /// Why.
    reason: String,
    /// Who asked.
    operator: String,
    /// Where it stands.
    #[schema(inline)]
    state: ExportState,
    /// How far it is.
    progress: ExportProgress,
    /// When it was asked for.
    created_at: String,
    /// When it came to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    /// When it goes, with its bundle.
    expires_at: String,
    /// Why there is no bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<ExportFailure>,
    /// The bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<ExportBundle>,
}

/// All exports.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExportList {
    /// The newest first; there are never more than a few hundred.
    exports: Vec<ExportDocument>,
}

/// Orders an export.
#[utoipa::path(post, operation_id = "create_export", path = "/v1/exports", tag = "exports", request_body = NewExport,
    params(("idempotency-key" = Option<String>, Header, description = "The same request under the same key is one export")),
    responses((status = 202, description = "It is taken, now or before under the same key", body = ExportDocument),
        (status = 404, response = Problem), (status = 422, response = Problem), (status = 503, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn create(
    viewer: Viewer,
    Shared(state): Shared<State>,
    headers: HeaderMap,
    FromJson(new): FromJson<NewExport>,
) -> Result<Response, Problem> {
    let range = TimeRange::parse(&new.from, &new.to, DAYS_MAX)?;
    if new.recorders.is_empty() || new.recorders.len() > RECORDERS_MAX {
        let text = format!("recorders needs 1 to {RECORDERS_MAX} recorders: order more than one export for more");
        return Err(Problem::invalid(text));
    }
    let mut recorders = Vec::with_capacity(new.recorders.len());
    for text in &new.recorders {
        let id = recorder_id(text)?.to_string();
        if recorders.contains(&id) {
            return Err(Problem::invalid(format!("the recorder {id} is there twice")));
        }
        recorders.push(id);
    }
    let order = Order {
        recorders,
        from: range.from,
        to: range.to,
        purpose: request::words("purpose", new.purpose, PURPOSE_CHARS_MAX)?,
        reason: request::words("reason", new.reason, REASON_CHARS_MAX)?,
        operator: viewer.actor().to_owned(),
    };
    let ids = order.recorders.iter().map(|id| recorder_id(id)).collect::<Result<Vec<_>>>()?;
    let permits = viewer.each::<Export>(&ids, "no such recorder is enrolled").await?;
    let permit = first(&permits)?;
    let exports = state.exports(permit)?;
    let action =
        format!("export from {} to {} for {}", time::format(order.from), time::format(order.to), order.purpose,);
    let entry = viewer.entry(Event::Export, action);
    state.trail.write(entry.about(order.recorders.join(" ")).because(order.reason.clone())).await?;
    let key = idempotency_key(&headers)?.map(Digest::of);
    let record = match permit.evidence().ask(move |_| exports.order(order, key)).await? {
        Ordered::New(record) | Ordered::Again(record) => record,
        Ordered::OtherOrder => {
            let detail = "the idempotency key came with another request before";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
    };
    let document = document(record, Progress::default());
    let place = [(header::LOCATION, format!("/v1/exports/{}", document.id))];
    Ok((StatusCode::ACCEPTED, place, Json(document)).into_response())
}

/// Exports that are kept.
#[utoipa::path(get, operation_id = "list_exports", path = "/v1/exports", tag = "exports",
    responses((status = 200, body = ExportList), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(viewer: Viewer, Shared(state): Shared<State>) -> Result<Json<ExportList>, Problem> {
    let scope = viewer.over::<Export>().await?;
    let (all, evidence) = (state.exports(&scope)?.list(), scope.evidence().clone());
    let listed = evidence.ask(move |store| {
        let mut glance = scope.glance();
        let mut listed = Vec::new();
        for (record, progress) in all {
            if glance.sees_each(store, &recorders(&record))? {
                listed.push(document(record, progress));
            }
        }
        Ok(listed)
    });
    Ok(Json(ExportList { exports: listed.await? }))
}

/// One export.
#[utoipa::path(get, operation_id = "export", path = "/v1/exports/{id}", tag = "exports",
    params(("id" = String, Path, description = "Export")),
    responses((status = 200, body = ExportDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn one(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
) -> Result<Json<ExportDocument>, Problem> {
    let permits = granted::<Export>(&viewer, &state, &id).await?;
    let (record, progress) = state.exports(first(&permits)?)?.get(&id)?;
    Ok(Json(document(record, progress)))
}

/// Gives up an export that has not ended; removes one that has, with its bundle.
#[utoipa::path(delete, operation_id = "cancel_export", path = "/v1/exports/{id}", tag = "exports",
    params(("id" = String, Path, description = "Export")),
    responses((status = 200, description = "As it was left", body = ExportDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn cancel(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
) -> Result<Json<ExportDocument>, Problem> {
    let permits = granted::<Export>(&viewer, &state, &id).await?;
    let permit = first(&permits)?;
    let exports = state.exports(permit)?;
    let record = permit.evidence().ask(move |_| exports.cancel(&id)).await?;
    Ok(Json(document(record, Progress::default())))
}

/// The bundle of an export: one ZIP.
#[utoipa::path(get, operation_id = "export_bundle", path = "/v1/exports/{id}/bundle.zip", tag = "exports",
    params(("id" = String, Path, description = "Export"),
        ("x-aigaq-reason" = Option<String>, Header, description = "Why; footage that is not open is shown to nobody without it")),
    responses(
        (status = 200, description = "The bundle", body = Vec<u8>, content_type = "application/zip"),
        (status = 206, description = "The bytes of the range", body = Vec<u8>, content_type = "application/zip"),
        (status = 304, description = "The same as the client has"),
        (status = 404, response = Problem),
        (status = 416, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn bundle(
    viewer: Viewer,
    Shared(state): Shared<State>,
    method: Method,
    headers: HeaderMap,
    FromPath(id): FromPath<String>,
) -> Result<Response, Problem> {
    let permits = granted::<Fetch>(&viewer, &state, &id).await?;
    let (bundle, path) = state.exports(first(&permits)?)?.file(&id)?;
    // The manifest names its export and every file, so that no two bundles have the same.
    let content = Content { media_type: MEDIA_TYPE, digest: bundle.manifest, length: bundle.bytes };
    let wanted = content.wanted(&method, &headers);
    let part = match &wanted {
        Wanted::Nothing | Wanted::Outside => return Ok(content.answer(&wanted, Body::empty())),
        Wanted::All => 0..content.length,
        Wanted::Part(part) => part.clone(),
    };
    let body = if method == Method::HEAD { Body::empty() } else { read(&path, part).await? };
    let mut response = content.answer(&wanted, body);
    // Made of hexadecimal digits, decimal digits and fixed text: always a header value.
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{}\"", bundle.name)) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

async fn read(path: &std::path::Path, part: std::ops::Range<u64>) -> Result<Body> {
    let opened = async {
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(std::io::SeekFrom::Start(part.start)).await?;
        Ok::<_, std::io::Error>(file.take(part.end.saturating_sub(part.start)))
    };
    let file = opened.await.context(Kind::NotFound, "the bundle is not there any more")?;
    Ok(Body::from_stream(ReaderStream::with_capacity(file, PIECE_BYTES)))
}

/// Leave to do `V` to every recorder of an export.
async fn granted<V: Verb>(viewer: &Viewer, state: &State, id: &str) -> Result<Vec<Permit<V>>, Problem> {
    viewer.each::<V>(&state.recorders_of(id), ABSENT).await
}

/// Leave for the first recorder of an export, of which there is always one.
fn first<V>(permits: &[Permit<V>]) -> Result<&Permit<V>> {
    permits.first().ok_or_else(|| Error::new(Kind::NotFound, ABSENT))
}

/// The recorders of an export.
pub(super) fn recorders(record: &Record) -> Vec<RecorderId> {
    record.order.recorders.iter().filter_map(|id| recorder_id(id).ok()).collect()
}

fn document(record: Record, progress: Progress) -> ExportDocument {
    let Record { id, order, created_at, ended_at, expires_at, state, .. } = record;
    let (state, failure, bundle) = match state {
        JobState::Waiting => (ExportState::Waiting, None, None),
        JobState::Running => (ExportState::Running, None, None),
        JobState::Cancelled => (ExportState::Cancelled, None, None),
        JobState::Failed { kind, detail } => (ExportState::Failed, Some(ExportFailure { kind, detail }), None),
        JobState::Done(bundle) => (ExportState::Done, None, Some(bundle)),
    };
    let bundle = bundle.map(|Bundle { name, bytes, manifest, verdicts }| ExportBundle {
        href: format!("/v1/exports/{id}/bundle.zip"),
        name,
        bytes,
        manifest_sha256: manifest.to_string(),
        verdicts: verdicts.into_iter().map(|(recorder, verdict)| ExportVerdict { recorder, verdict }).collect(),
    });
    let time = |at: Micros| time::format(at);
    ExportDocument {
        recorders: order.recorders,
        from: time(order.from),
        to: time(order.to),
        purpose: order.purpose,
        reason: order.reason,
        operator: order.operator,
        state,
        progress: ExportProgress { bytes: progress.bytes, bytes_total: progress.bytes_total, links: progress.links },
        created_at: time(created_at),
        ended_at: ended_at.map(time),
        expires_at: time(expires_at),
        failure,
        bundle,
        id,
    }
}

/// What exports are told of what is missing: the same that coverage said when the log had the size of the export.
#[must_use]
pub fn holes(fleet: Fleet, clock: crate::Clock) -> Holes {
    Arc::new(move |store, recorder: RecorderId, (from, to), cut| {
        let coverage = coverage::as_of(store, &fleet, recorder, TimeRange { from, to }, clock.now(), cut)?;
        let name = |value: Option<serde_json::Value>| value.and_then(|value| value.as_str().map(str::to_owned));
        let hole = |hole: super::span::Hole| Hole {
            from: hole.from,
            to: hole.to,
            cause: hole.cause.label(),
            stop: name(hole.stop.and_then(|stop| serde_json::to_value(stop).ok())),
            loss: name(hole.loss.and_then(|loss| serde_json::to_value(loss).ok())),
            missing: hole.missing.iter().map(|run| (run.first, run.last, run.cause.label())).collect(),
            missing_count: hole.missing_count,
        };
        Ok(coverage.holes.into_iter().map(hole).collect())
    })
}
