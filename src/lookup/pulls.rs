//! `/v1/pulls`: ranges that a recorder is asked to send now, before what it records and before its backlog. A pull is
//! durable when it is answered; it goes to the recorder at once or as soon as it connects, until it is done, expired or cancelled.

use aigaq_proto::{Digest, Micros, RecorderId};
use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{self, FromJson, FromPath, FromQuery, recorder_id};
use super::state::State;
use super::time::{self, TimeRange};
use super::viewer::{Find, Pull, Viewer};
use crate::error::{Error, Kind, Result};
use crate::fleet::{Fleet, Order, Ordered};
use crate::store::records::{Event, RequestRecord, RequestState};

/// Longest range, days.
const DAYS_MAX: u64 = 31;
/// How long a pull is wanted when nothing else is said, and at most, seconds.
const EXPIRES_DEFAULT_S: u64 = 86_400;
const EXPIRES_MAX_S: u64 = 7 * 86_400;
/// Longest reason, characters.
const REASON_CHARS_MAX: usize = 500;
/// Longest idempotency key, bytes.
const KEY_BYTES_MAX: usize = 255;
/// Pulls on a page when nothing else is asked for, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Pulls that are looked through for one page at most; a page may be short and still have a next one.
const SCANNED_MAX: usize = 20_000;
/// The header that makes a POST repeatable.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// What is said of a pull that is not there, or not for the one who asks.
const ABSENT: &str = "there is no such pull";

/// A range that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "recorder": "ab25d58504dd103930f03e729a98f929", "from": "2026-01-17T09:14:00Z",
    "to": "2026-01-17T09:15:00Z",
    "expires_in_s": 3600, "reason": "case 7" }))]
pub(super) struct NewPull {
    /// The recorder.
    recorder: String,
    /// Beginning, RFC 3339 UTC.
    from: String,
    /// End, exclusive, at most 31 days later.
    to: String,
    /// Seconds after which it is no longer wanted, 1 to 604800; 86400 if not given.
    expires_in_s: Option<u64>,
    /// Why, for the audit; at most 500 characters.
    reason: String,
}

/// Where a pull stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PullState {
    /// The recorder is not connected.
    Waiting,
    /// The recorder has been told.
    Sent,
    /// The recorder has said how far it is.
    Progress,
    /// The recorder has sent all that it held of the range.
    Done,
    /// Its time was over.
    Expired,
    /// Nobody wants it any more.
    Cancelled,
}

/// How far the recorder says it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PullProgress {
    /// When it said so, RFC 3339 UTC.
    at: String,
    /// Links of the range that it held, and those made since; 0 if it never held any.
    links: u64,
    /// Those that the server has not yet.
    links_left: u64,
    /// Payload of all of them, bytes.
    bytes: u64,
    /// Payload that the server has not yet, bytes.
    bytes_left: u64,
}

/// A pull.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PullDocument {
    /// Its name.
    id: String,
    /// The recorder.
    recorder: String,
    /// Beginning of the range, RFC 3339 UTC.
    from: String,
    /// End, exclusive.
    to: String,
    /// Why it was asked for.
    reason: String,
    /// Where it stands.
    #[schema(inline)]
    state: PullState,
    /// When it was asked for.
    created_at: String,
    /// When it is, or was, no longer wanted.
    expires_at: String,
    /// When it first went to the recorder.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_at: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    /// What the recorder said last; what is durable, coverage shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<PullProgress>,
}

/// Which pulls are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those of this recorder.
    recorder: Option<String>,
    /// Only those that stand here.
    #[param(inline)]
    state: Option<PullState>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Most pulls on the page, 1 to 1000; 100 if not given.
    limit: Option<usize>,
}

/// A page of pulls.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PullPage {
    /// By recorder, then in the order in which they were asked for.
    pulls: Vec<PullDocument>,
    /// Cursor of the next page, if there is more to look through; a page may be short.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Asks a recorder for a range.
#[utoipa::path(post, operation_id = "create_pull", path = "/v1/pulls", tag = "pulls", request_body = NewPull,
    params(("idempotency-key" = Option<String>, Header, description = "The same request under the same key is one pull, for a day")),
    responses((status = 201, description = "It is taken", body = PullDocument),
        (status = 200, description = "It was taken before, under the same key", body = PullDocument),
        (status = 422, response = Problem), (status = 429, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn create(
    viewer: Viewer,
    Shared(state): Shared<State>,
    headers: HeaderMap,
    FromJson(new): FromJson<NewPull>,
) -> Result<Response, Problem> {
    let recorder = recorder_id(&new.recorder)?;
    let range = TimeRange::parse(&new.from, &new.to, DAYS_MAX)?;
    let seconds = new.expires_in_s.unwrap_or(EXPIRES_DEFAULT_S);
    if !(1..=EXPIRES_MAX_S).contains(&seconds) {
        return Err(Problem::invalid(format!("expires_in_s must be from 1 to {EXPIRES_MAX_S}")));
    }
    let reason = request::words("reason", new.reason, REASON_CHARS_MAX)?;
    let key = idempotency_key(&headers)?.map(|key| {
        let said = format!("{recorder}\n{}\n{}\n{seconds}\n{reason}", range.from, range.to);
        (Digest::of(key), Digest::of(said.as_bytes()))
    });
    let expires_at = state.clock.now().saturating_add(seconds.saturating_mul(1_000_000));
    let order = Order { recorder, from: range.from, to: range.to, expires_at, reason, key };
    let fleet = state.fleet.clone();
    let permit = viewer.of::<Pull>(recorder).await?;
    let (from, to) = (time::format(range.from), time::format(range.to));
    let entry = viewer.entry(Event::Request, format!("pull from {from} to {to}"));
    state.trail.write(entry.about(recorder.to_string()).because(order.reason.clone())).await?;
    let (status, record) = match permit.evidence().ask(move |_| fleet.order(order)).await? {
        Ordered::New(record) => (StatusCode::CREATED, record),
        Ordered::Again(record) => (StatusCode::OK, record),
        Ordered::OtherOrder => {
            let detail = "the idempotency key came with another request before";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        Ordered::TooMany => {
            let detail = "the recorder has as many open pulls as it follows: cancel one, or wait";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail));
        }
    };
    let document = document(&state.fleet, record);
    let place = [(header::LOCATION, format!("/v1/pulls/{}", document.id))];
    Ok((status, place, Json(document)).into_response())
}

/// Pulls, a page at a time.
#[utoipa::path(get, operation_id = "list_pulls", path = "/v1/pulls", tag = "pulls", params(ListQuery),
    responses((status = 200, body = PullPage), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromQuery(query): FromQuery<ListQuery>,
) -> Result<Json<PullPage>, Problem> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if limit == 0 || limit > PAGE_MAX {
        return Err(Problem::invalid(format!("limit must be between 1 and {PAGE_MAX}")));
    }
    let recorder = query.recorder.as_deref().map(recorder_id).transpose()?;
    let after = query.cursor.as_deref().map(parse_id).transpose()?;
    let scope = viewer.over::<Find>().await?;
    let evidence = scope.evidence().clone();
    let page = evidence.ask(move |store| {
        let mut glance = scope.glance();
        let mut pulls = Vec::new();
        let mut last = None;
        let mut scanned = 0;
        for record in store.requests(recorder, after) {
            if pulls.len() == limit || scanned == SCANNED_MAX {
                return Ok(PullPage { pulls, next: last });
            }
            let record = record?;
            if !glance.sees(store, record.recorder)? {
                continue;
            }
            scanned += 1;
            let document = document(&state.fleet, record);
            last = Some(document.id.clone());
            if query.state.is_none_or(|state| state == document.state) {
                pulls.push(document);
            }
        }
        Ok(PullPage { pulls, next: None })
    });
    Ok(Json(page.await?))
}

/// One pull.
#[utoipa::path(get, operation_id = "pull", path = "/v1/pulls/{id}", tag = "pulls",
    params(("id" = String, Path, description = "Pull")),
    responses((status = 200, body = PullDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn one(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
) -> Result<Json<PullDocument>, Problem> {
    let (recorder, id) = parse_id(&id)?;
    let fleet = state.fleet.clone();
    let permit = viewer.one::<Find>(Some(recorder), ABSENT).await?;
    let record = permit.evidence().ask(move |_| fleet.request(recorder, id)?.ok_or_else(absent)).await?;
    Ok(Json(document(&state.fleet, record)))
}

/// Cancels a pull; one that has ended stays as it is.
#[utoipa::path(delete, operation_id = "cancel_pull", path = "/v1/pulls/{id}", tag = "pulls",
    params(("id" = String, Path, description = "Pull")),
    responses((status = 200, body = PullDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn cancel(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
) -> Result<Json<PullDocument>, Problem> {
    let (recorder, id) = parse_id(&id)?;
    let fleet = state.fleet.clone();
    let permit = viewer.one::<Pull>(Some(recorder), ABSENT).await?;
    let record = permit.evidence().ask(move |_| fleet.cancel(recorder, id)?.ok_or_else(absent)).await?;
    Ok(Json(document(&state.fleet, record)))
}

fn absent() -> Error {
    Error::new(Kind::NotFound, ABSENT)
}

/// Reads `{recorder}-{number}`.
fn parse_id(text: &str) -> Result<(RecorderId, u64)> {
    let wrong = || Error::new(Kind::Invalid, "a pull's id is that of its recorder, a hyphen and a number");
    let (recorder, number) = text.split_once('-').ok_or_else(wrong)?;
    let number: u64 = number.parse().ok().filter(|id: &u64| id.to_string() == number).ok_or_else(wrong)?;
    Ok((recorder.parse().map_err(|_| wrong())?, number))
}

/// The key of the header (draft-ietf-httpapi-idempotency-key-header), if there is one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&[u8]>> {
    let mut all = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = all.next() else { return Ok(None) };
    let key = key.as_bytes();
    let fine = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.is_ascii() && all.next().is_none();
    if fine {
        Ok(Some(key))
    } else {
        Err(Error::new(Kind::Invalid, "one Idempotency-Key of 1 to 255 ASCII characters"))
    }
}

fn document(fleet: &Fleet, record: RequestRecord) -> PullDocument {
    let record = fleet.refreshed(record);
    let (state, ended_at) = match record.state {
        RequestState::Open if !fleet.is_connected(record.recorder) => (PullState::Waiting, None),
        RequestState::Open if record.progress.is_some() => (PullState::Progress, None),
        RequestState::Open if record.sent_at.is_some() => (PullState::Sent, None),
        RequestState::Open => (PullState::Waiting, None),
        RequestState::Done(at) => (PullState::Done, Some(at)),
        RequestState::Expired(at) => (PullState::Expired, Some(at)),
        RequestState::Cancelled(at) => (PullState::Cancelled, Some(at)),
    };
    let time = |at: Micros| time::format(at);
    PullDocument {
        id: format!("{}-{}", record.recorder, record.id),
        recorder: record.recorder.to_string(),
        from: time(record.from),
        to: time(record.to),
        reason: record.reason,
        state,
        created_at: time(record.created_at),
        expires_at: time(record.expires_at),
        sent_at: record.sent_at.map(time),
        ended_at: ended_at.map(time),
        progress: record.progress.map(|progress| PullProgress {
            at: time(progress.at),
            links: progress.links,
            links_left: progress.links_left,
            bytes: progress.bytes,
            bytes_left: progress.bytes_left,
        }),
    }
}
