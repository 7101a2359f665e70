//! `GET /v1/recorders/{id}/coverage`: what exists of a range, and for each hole its cause. Always 200 for a known
//! recorder, also when nothing exists: that is the answer.

use aigaq_proto::RecorderId;
use aigaq_proto::limits::DURATION_US_MAX;
use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::recorders::require;
use super::request::{FromPath, FromQuery, recorder_id};
use super::span::{Builder, Coverage, Hole, Mark, Missing, Span};
use super::time::{self, TimeRange};
use super::viewer::Viewer;
use crate::error::Result;
use crate::store::engine::Direction;
use crate::store::records::TimelineKind;
use crate::store::{Store, TimelineEntry};

/// Longest range, days.
pub(super) const DAYS_MAX: u64 = 31;
/// How many entries of the timeline are looked through for the one that explains a hole at the edge of the range.
const EXPLAINING_ENTRIES_MAX: usize = 10_000;

/// The range that is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RangeQuery {
    /// Beginning, RFC 3339 UTC, such as `2026-01-17T09:14:02Z`.
    pub(super) from: String,
    /// End, exclusive.
    pub(super) to: String,
}

/// Coverage of a range.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CoverageDocument {
    /// Whose.
    pub(super) recorder: String,
    /// Beginning, RFC 3339 UTC.
    pub(super) from: String,
    /// End, exclusive.
    pub(super) to: String,
    /// What was recorded, in order of time, cut to the range.
    pub(super) spans: Vec<Span>,
    /// What was not, and why; spans and holes leave at most 50 ms unaccounted for between them.
    pub(super) holes: Vec<Hole>,
    /// Marks in the range.
    pub(super) marks: Vec<Mark>,
    /// Every sequence that is missing between the links of the range.
    pub(super) missing: Vec<Missing>,
}

/// What exists of a range of a recorder, and why the rest does not.
#[utoipa::path(get, path = "/v1/recorders/{id}/coverage", tag = "footage",
    params(("id" = String, Path, description = "Recorder"), RangeQuery),
    responses((status = 200, body = CoverageDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn coverage(
    viewer: Viewer,
    FromPath(id): FromPath<String>,
    FromQuery(query): FromQuery<RangeQuery>,
) -> Result<Json<CoverageDocument>, Problem> {
    let id = recorder_id(&id)?;
    let range = TimeRange::parse(&query.from, &query.to, DAYS_MAX)?;
    let Coverage { spans, holes, marks, missing } = viewer.evidence().ask(move |store| of(store, id, range)).await?;
    let (from, to) = (time::format(range.from), time::format(range.to));
    Ok(Json(CoverageDocument { recorder: id.to_string(), from, to, spans, holes, marks, missing }))
}

/// The coverage of a range; blocks.
fn of(store: &Store, id: RecorderId, range: TimeRange) -> Result<Coverage> {
    require(store, id)?;
    let gaps = store.head(id)?.unwrap_or_default().chain.gaps();
    let mut builder = Builder::new(range, &gaps);
    let from = range.from.saturating_sub(u64::from(DURATION_US_MAX));
    if let Some(before) = first_bound(store.timeline(id, 0..from, Direction::Backward))? {
        builder.push(&before)?;
    }
    for entry in store.timeline(id, from..range.to, Direction::Forward) {
        builder.push(&entry?)?;
    }
    if let Some(after) = first_bound(store.timeline(id, range.to..u64::MAX, Direction::Forward))? {
        builder.push(&after)?;
    }
    Ok(builder.finish())
}

fn first_bound(entries: impl Iterator<Item = Result<TimelineEntry>>) -> Result<Option<TimelineEntry>> {
    let bounds = |kind: &TimelineKind| {
        matches!(kind, TimelineKind::Start | TimelineKind::Media { .. } | TimelineKind::Stop { .. })
    };
    let mut near = entries.take(EXPLAINING_ENTRIES_MAX);
    near.find(|entry| entry.as_ref().map_or(true, |entry| bounds(&entry.record.kind))).transpose()
}
