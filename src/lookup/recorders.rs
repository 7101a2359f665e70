//! `GET /v1/recorders` and `GET /v1/recorders/{id}`: who records, and the state of each chain. In the order of the
//! identifiers; a page ends in a cursor while there is more.

use aigaq_proto::{RecorderId, SequenceRange};
use axum::Json;
use axum::extract::State as FromState;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::State;
use super::problem::Problem;
use super::request::{FromPath, FromQuery, recorder_id};
use super::time;
use super::viewer::{Find, Scope, Viewer};
use crate::error::Result;
use crate::fleet::Fleet;
use crate::store::Store;
use crate::store::records::{AnnouncementRecord, RecorderKind, RecorderRecord, Revocation};

/// Recorders on a page when nothing else is asked for, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Which recorders are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those of this department.
    department: Option<String>,
    /// Only those of this kind.
    #[param(inline)]
    kind: Option<RecorderKind>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Most recorders on the page, 1 to 1000; 100 if not given.
    limit: Option<usize>,
}

/// A page of recorders.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecorderPage {
    /// In the order of their identifiers.
    pub(super) recorders: Vec<RecorderDocument>,
    /// Cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// A link's place in a chain.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LinkPlace {
    /// Its sequence.
    pub(super) sequence: u64,
    /// Its digest, hexadecimal.
    pub(super) digest: String,
}

/// What a recorder holds without a receipt, as it says.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HoldsDocument {
    /// When it said so, RFC 3339 UTC.
    pub(super) at: String,
    /// Number of links.
    pub(super) links: u64,
    /// Their size, bytes.
    pub(super) bytes: u64,
    /// Beginning of the oldest, by its clock.
    pub(super) oldest: Option<String>,
    /// End of the newest, by its clock.
    pub(super) newest: Option<String>,
}

/// A recorder and the state of its chain.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecorderDocument {
    /// Identifier, 32 hexadecimal digits.
    pub(super) id: String,
    /// What carries it.
    pub(super) kind: RecorderKind,
    /// The department that owns it.
    pub(super) department: String,
    /// What people call it.
    pub(super) label: String,
    /// When it was enrolled, RFC 3339 UTC.
    pub(super) enrolled_at: String,
    /// When its last link arrived; null before the first.
    pub(super) last_received_at: Option<String>,
    /// Last link of the contiguous, verified prefix of its chain.
    pub(super) head: Option<LinkPlace>,
    /// Link with the greatest sequence.
    pub(super) newest: Option<LinkPlace>,
    /// Number of gaps in its chain.
    pub(super) gaps: usize,
    /// Number of sequences missing in them.
    pub(super) missing: u64,
    /// Number of places where neighbouring links do not agree.
    pub(super) breaks: usize,
    /// Number of links kept as the other side of a fork.
    pub(super) forks: u32,
    /// Number of links in quarantine.
    pub(super) quarantined: u32,
    /// Whether it is connected now.
    pub(super) connected: bool,
    /// What it said last that it holds and the server does not have; null before it said anything.
    pub(super) holds: Option<HoldsDocument>,
    /// That its identity was taken back, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revoked: Option<RevocationDocument>,
}

/// That the identity of a recorder was taken back.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevocationDocument {
    /// When, RFC 3339 UTC.
    pub(super) at: String,
    /// Who did it: a token, or `command line`.
    pub(super) by: String,
    /// Why; may be empty.
    pub(super) reason: String,
}

/// Recorders, a page at a time.
#[utoipa::path(get, operation_id = "list_recorders", path = "/v1/recorders", tag = "recorders", params(ListQuery),
    responses((status = 200, body = RecorderPage), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(
    viewer: Viewer,
    FromState(state): FromState<State>,
    FromQuery(query): FromQuery<ListQuery>,
) -> Result<Json<RecorderPage>, Problem> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if limit == 0 || limit > PAGE_MAX {
        return Err(Problem::invalid(format!("limit must be between 1 and {PAGE_MAX}")));
    }
    let after = query.cursor.as_deref().map(recorder_id).transpose()?;
    let scope = viewer.over::<Find>().await?;
    let evidence = scope.evidence().clone();
    let page = evidence.ask(move |store| {
        (state.import)()?;
        page(store, &state.fleet, &scope, &query, after, limit)
    });
    Ok(Json(page.await?))
}

/// One recorder.
#[utoipa::path(get, operation_id = "recorder", path = "/v1/recorders/{id}", tag = "recorders",
    params(("id" = String, Path, description = "Recorder")),
    responses((status = 200, body = RecorderDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn one(
    viewer: Viewer,
    FromState(state): FromState<State>,
    FromPath(id): FromPath<String>,
) -> Result<Json<RecorderDocument>, Problem> {
    let permit = viewer.of::<Find>(recorder_id(&id)?).await?;
    let evidence = permit.evidence().clone();
    let document = evidence.ask(move |store| document(store, &state.fleet, permit.record().clone()));
    Ok(Json(document.await?))
}

fn page(
    store: &Store,
    fleet: &Fleet,
    scope: &Scope<Find>,
    query: &ListQuery,
    after: Option<RecorderId>,
    limit: usize,
) -> Result<RecorderPage> {
    let mut recorders = Vec::new();
    for record in store.recorders() {
        let record = record?;
        let wanted = scope.sees(&record)
            && after.is_none_or(|after| record.id > after)
            && query.kind.is_none_or(|kind| record.kind == kind)
            && query.department.as_ref().is_none_or(|department| record.department == *department);
        if !wanted {
            continue;
        }
        if recorders.len() == limit {
            let next = recorders.last().map(|last: &RecorderDocument| last.id.clone());
            return Ok(RecorderPage { recorders, next });
        }
        recorders.push(document(store, fleet, record)?);
    }
    Ok(RecorderPage { recorders, next: None })
}

pub(super) fn document(store: &Store, fleet: &Fleet, record: RecorderRecord) -> Result<RecorderDocument> {
    let head = store.head(record.id)?;
    let last_received_at = head.as_ref().map(|head| time::format(head.last_received_at));
    let head = head.unwrap_or_default();
    let gaps = head.chain.gaps();
    let place =
        |end: aigaq_proto::message::ChainEnd| LinkPlace { sequence: end.sequence, digest: end.digest.to_string() };
    Ok(RecorderDocument {
        id: record.id.to_string(),
        kind: record.kind,
        department: record.department,
        label: record.label,
        enrolled_at: time::format(record.enrolled_at),
        last_received_at,
        head: head.chain.head().map(place),
        newest: head.chain.newest().map(place),
        gaps: gaps.len(),
        missing: gaps
            .iter()
            .map(|gap| gap.last.saturating_sub(gap.first).saturating_add(1))
            .fold(0, u64::saturating_add),
        breaks: head.chain.breaks().len(),
        forks: head.forks,
        quarantined: head.quarantined,
        connected: fleet.is_connected(record.id),
        holds: fleet.announcement(record.id)?.filter(|announced| announced.at > 0).map(holds),
        revoked: record.revoked.map(|Revocation { at, by, reason }| RevocationDocument {
            at: time::format(at),
            by,
            reason,
        }),
    })
}

fn holds(announced: AnnouncementRecord) -> HoldsDocument {
    let count = |range: &SequenceRange| range.last.saturating_sub(range.first).saturating_add(1);
    HoldsDocument {
        at: time::format(announced.at),
        links: announced.waiting.iter().map(count).fold(0, u64::saturating_add),
        bytes: announced.bytes,
        oldest: announced.oldest.map(time::format),
        newest: announced.newest.map(time::format),
    }
}
