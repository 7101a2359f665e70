//! `GET /v1/recorders/{id}/path` and `GET /v1/recorders/{id}/together`: where a recorder was, and who was with it.

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Response};
use http::header;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::coverage::RangeQuery;
use super::problem::Problem;
use super::request::{FromPath, FromQuery, recorder_id};
use super::state::State;
use super::time::{self, TimeRange};
use super::viewer::{Find, Viewer};
use crate::error::{Context as _, Error, Kind, Result};
use crate::find::{self, PathFix, SECONDS_MAX, WITHIN_METRES_MAX};
use crate::store::records::RecorderRecord;

/// Longest range of a path, days.
const PATH_DAYS_MAX: u64 = 31;
/// Longest range in which it is looked who was together, days.
const TOGETHER_DAYS_MAX: u64 = 1;
/// Media type of GeoJSON (RFC 7946 section 12).
const GEO_JSON: &str = "application/geo+json";
/// An accuracy that is not known.
const UNKNOWN_DM: u16 = u16::MAX;

/// A path: a GeoJSON feature (RFC 7946 section 3.2).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PathDocument {
    /// `Feature`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The line; a point if there is one position, null if there is none.
    geometry: Option<PathGeometry>,
    /// Whose it is and when it was where.
    properties: PathProperties,
}

/// The geometry of a path.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", content = "coordinates")]
pub(super) enum PathGeometry {
    /// One position: longitude and latitude, degrees.
    Point([f64; 2]),
    /// Positions in order of time.
    LineString(Vec<[f64; 2]>),
}

/// What is said of a path beside its line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PathProperties {
    /// Whose.
    recorder: String,
    /// Beginning of the range, RFC 3339 UTC.
    from: String,
    /// End, exclusive.
    to: String,
    /// When it was at each position, RFC 3339 UTC, by its clock.
    times: Vec<String>,
    /// How accurate each position is, metres (68 %); null if the device did not know.
    accuracy_m: Vec<Option<f64>>,
    /// The link that says each.
    sequences: Vec<u64>,
}

/// Who is asked about, and how near.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TogetherQuery {
    /// Beginning, RFC 3339 UTC.
    from: String,
    /// End, exclusive; at most a day later.
    to: String,
    /// How near somebody has to be, 1 to 1,000 metres; 50 if not given.
    metres: Option<String>,
    /// How much earlier or later at most, 1 to 600 seconds; 60 if not given.
    seconds: Option<u64>,
}

/// Who was with a recorder.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TogetherDocument {
    /// Whom is asked about.
    recorder: String,
    /// By recorder.
    with: Vec<CompanionDocument>,
}

/// Somebody who was with a recorder.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CompanionDocument {
    /// Which recorder.
    recorder: String,
    /// What people call it.
    label: String,
    /// The department that owns it.
    department: String,
    /// When, in order.
    meetings: Vec<MeetingDocument>,
}

/// One time that they were together.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MeetingDocument {
    /// The first position that is near, RFC 3339 UTC.
    from: String,
    /// The last.
    to: String,
    /// Least distance, metres.
    metres: f64,
    /// Who had the other recorder when it began; null for nobody.
    assignee: Option<String>,
}

/// Where a recorder was: every position that its links in the range say. They stay when footage is deleted, because the chain stays.
#[utoipa::path(get, operation_id = "path", path = "/v1/recorders/{id}/path", tag = "footage",
    params(("id" = String, Path, description = "Recorder"), RangeQuery),
    responses((status = 200, description = "A GeoJSON feature", body = PathDocument, content_type = "application/geo+json",
            example = json!({ "type": "Feature",
                "geometry": { "type": "LineString", "coordinates": [[71.4304, 51.1282], [71.4311, 51.1285]] },
                "properties": { "recorder": "ab25d58504dd103930f03e729a98f929", "from": "2026-01-17T09:14:00.000000Z",
                    "to": "2026-01-17T09:15:00.000000Z", "times": ["2026-01-17T09:14:00.500000Z", "2026-01-17T09:14:05.500000Z"],
                    "accuracy_m": [4.5, null], "sequences": [1, 3] } })),
        (status = 400, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn path(
    viewer: Viewer,
    FromPath(id): FromPath<String>,
    FromQuery(query): FromQuery<RangeQuery>,
) -> Result<Response, Problem> {
    let id = recorder_id(&id)?;
    let range = TimeRange::parse(&query.from, &query.to, PATH_DAYS_MAX)?;
    let permit = viewer.of::<Find>(id).await?;
    let json = permit.evidence().ask(move |store| {
        let fixes = find::path(store, id, range.from..range.to)?;
        let positions: Vec<[f64; 2]> = fixes.iter().map(|fix| [fix.point.longitude(), fix.point.latitude()]).collect();
        let geometry = match positions[..] {
            [] => None,
            [one] => Some(PathGeometry::Point(one)),
            _ => Some(PathGeometry::LineString(positions)),
        };
        let known = |fix: &PathFix| (fix.accuracy_dm != UNKNOWN_DM).then(|| f64::from(fix.accuracy_dm) / 10.0);
        let properties = PathProperties {
            recorder: id.to_string(),
            from: time::format(range.from),
            to: time::format(range.to),
            times: fixes.iter().map(|fix| time::format(fix.at)).collect(),
            accuracy_m: fixes.iter().map(known).collect(),
            sequences: fixes.iter().map(|fix| fix.sequence).collect(),
        };
        let document = PathDocument { kind: "Feature", geometry, properties };
        serde_json::to_vec(&document).context(Kind::Internal, "a path has no JSON form")
    });
    Ok(([(header::CONTENT_TYPE, GEO_JSON)], json.await?).into_response())
}

/// Who was with a recorder: whose positions were near one of its own, in place and in time. Only those whom the viewer sees, and only footage that
/// was not deleted.
#[utoipa::path(get, operation_id = "together", path = "/v1/recorders/{id}/together", tag = "footage",
    params(("id" = String, Path, description = "Recorder"), TogetherQuery),
    responses((status = 200, body = TogetherDocument, example = json!({ "recorder": "ab25d58504dd103930f03e729a98f929", "with": [{
            "recorder": "0b1c2d3e4f5061728394a5b6c7d8e9f0", "label": "Car 8", "department": "Astana", "meetings": [{
                "from": "2026-01-17T09:14:02.000000Z", "to": "2026-01-17T09:20:10.000000Z", "metres": 3.2, "assignee": "badge 1043" }] }] })),
        (status = 400, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn together(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromQuery(query): FromQuery<TogetherQuery>,
) -> Result<Json<TogetherDocument>, Problem> {
    let id = recorder_id(&id)?;
    let range = TimeRange::parse(&query.from, &query.to, TOGETHER_DAYS_MAX)?;
    let (metres, seconds) = nearness(&query)?;
    let (permit, scope) = viewer.of_among::<Find>(id).await?;
    let document = permit.evidence().ask(move |store| {
        let mut sees = |record: &RecorderRecord| scope.sees(record);
        let with = find::together(store, id, range.from..range.to, metres, seconds, &mut sees)?;
        let directory = store.directory()?;
        let mut companions = Vec::with_capacity(with.len());
        for one in with {
            let Some(record) = directory.get(one.recorder) else { continue };
            let meetings = one.meetings.into_iter().map(|meeting| {
                let held = state.fleet.assigned_at(one.recorder, meeting.from)?;
                Ok(MeetingDocument {
                    from: time::format(meeting.from),
                    to: time::format(meeting.to),
                    metres: meeting.metres,
                    assignee: held.map(|held| held.assignee),
                })
            });
            companions.push(CompanionDocument {
                recorder: one.recorder.to_string(),
                label: record.label.clone(),
                department: record.department.clone(),
                meetings: meetings.collect::<Result<_>>()?,
            });
        }
        Ok(TogetherDocument { recorder: id.to_string(), with: companions })
    });
    Ok(Json(document.await?))
}

fn nearness(query: &TogetherQuery) -> Result<(f64, u64)> {
    let metres = query.metres.as_deref().map_or(Ok(50.0), str::parse::<f64>);
    let metres = metres.ok().filter(|metres| (1.0..=WITHIN_METRES_MAX).contains(metres));
    let metres = metres
        .ok_or_else(|| Error::new(Kind::Invalid, format!("metres must be a number from 1 to {WITHIN_METRES_MAX}")))?;
    let seconds = query.seconds.unwrap_or(60);
    if !(1..=SECONDS_MAX).contains(&seconds) {
        return Err(Error::new(Kind::Invalid, format!("seconds must be from 1 to {SECONDS_MAX}")));
    }
    Ok((metres, seconds))
}
