//! `GET /v1/recordings`: which footage there is, by time, place, recorder, department, person, mark and words.
//!
//! A page is in the order of recorders and of time; `next` names the last recording that was told, which is one that the viewer sees. What
//! is not theirs takes no part: no count, no cursor. A question that reads too much is refused whosever rows they are.

use aigaq_proto::{Micros, RecorderId};
use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::categories::Categories;
use super::marks::{self, MarkDocument};
use super::problem::Problem;
use super::request::{FromQuery, exactly, recorder_id, words};
use super::state::State;
use super::time::{self, TimeRange};
use super::viewer::{Find, Scope, Viewer};
use crate::error::{Error, Kind, Result};
use crate::find::{self, Question, Recording};
use crate::place::Area;
use crate::store::records::{RecorderKind, RecorderRecord};
use crate::store::{Directory, Store};

/// Recordings on a page when nothing else is asked for, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Longest range, days.
const DAYS_MAX: u64 = 31;
/// Longest words, characters.
const WORDS_CHARS_MAX: usize = 100;

/// Which recordings are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RecordingsQuery {
    /// Recordings with a part at or after this time, RFC 3339 UTC, by the recorder's clock.
    #[param(example = "2026-01-17T09:00:00Z")]
    from: String,
    /// And before this time; at most 31 days later.
    #[param(example = "2026-01-17T09:30:00Z")]
    to: String,
    /// Only of this recorder.
    recorder: Option<String>,
    /// Only of recorders of this kind.
    #[param(inline)]
    kind: Option<RecorderKind>,
    /// Only of recorders of this department.
    department: Option<String>,
    /// Only of recorders that this person, vehicle or place had during some of it, in the range.
    assignee: Option<String>,
    /// Only with a mark of this category in the range.
    mark: Option<String>,
    /// Only where these words are in the recorder's label or, in the range, in the name of who had it, in a mark's category or text; case
    /// does not matter.
    text: Option<String>,
    /// Only taken within so many metres of a place, in the range: `latitude,longitude,metres`, 1 to 10,000 metres.
    #[param(example = "51.1282,71.4304,300")]
    near: Option<String>,
    /// Only taken in a box, in the range: `west,south,east,north` in degrees (RFC 7946); west is east of east across the antimeridian.
    bbox: Option<String>,
    /// Only taken in a polygon, in the range: a GeoJSON geometry `Polygon`, or `latitude,longitude;latitude,longitude;…`; at most 256
    /// vertices, as many as fit into a path of 2,048 bytes.
    polygon: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Most recordings on the page, 1 to 1000; 100 if not given.
    limit: Option<usize>,
}

/// A page of recordings.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecordingPage {
    /// By recorder and begin.
    recordings: Vec<RecordingDocument>,
    /// Cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What a recorder recorded without a pause of more than a minute, the whole of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecordingDocument {
    /// The recorder.
    recorder: String,
    /// What people call it.
    label: String,
    /// What carries it.
    kind: RecorderKind,
    /// The department that owns it.
    department: String,
    /// When it begins, RFC 3339 UTC, by the recorder's clock.
    from: String,
    /// When it ends.
    to: String,
    /// It began earlier than a day before the range; earlier footage of it is not counted.
    #[serde(skip_serializing_if = "is_not")]
    begins_earlier: bool,
    /// It goes on for more than a day after the range; later footage of it is not counted.
    #[serde(skip_serializing_if = "is_not")]
    ends_later: bool,
    /// The lowest sequence of a segment.
    first_sequence: u64,
    /// The greatest sequence of a segment.
    last_sequence: u64,
    /// Number of segments.
    segments: u64,
    /// Their size, bytes.
    bytes: u64,
    /// Whether the recorder is connected and recorded in the last minute: `/v1/recorders/{id}/live.m3u8` shows it.
    live: bool,
    /// Who had the recorder while it was recorded, in order.
    assignments: Vec<HeldDocument>,
    /// Marks in it and in the minute before and after, those that were corrected left out, in order; the first hundred.
    marks: Vec<MarkDocument>,
    /// There are more marks than are listed.
    #[serde(skip_serializing_if = "is_not")]
    more_marks: bool,
    /// Where it was nearest, in the range, if `near` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<NearestDocument>,
}

/// Who had a recorder.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeldDocument {
    /// Officer, vehicle or premises.
    assignee: String,
    /// Since when, RFC 3339 UTC.
    from: String,
    /// Until when, exclusive; null while it lasts.
    to: Option<String>,
}

/// Where a recorder was nearest.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NearestDocument {
    /// When, RFC 3339 UTC.
    at: String,
    /// How far from the place, metres.
    metres: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_not(said: &bool) -> bool {
    !*said
}

/// Which footage there is. A recording is what a recorder recorded without a pause of more than a minute; it is listed whole if any of it lies in
/// the range. Footage that was deleted is not listed. A question that would read more than 200,000 rows of the index is refused: narrow it.
#[utoipa::path(get, operation_id = "list_recordings", path = "/v1/recordings", tag = "footage", params(RecordingsQuery),
    responses((status = 200, body = RecordingPage, example = json!({ "recordings": [{
            "recorder": "ab25d58504dd103930f03e729a98f929", "label": "Car 7", "kind": "vehicle", "department": "Astana",
            "from": "2026-01-17T09:14:00.000000Z", "to": "2026-01-17T09:21:32.000000Z", "first_sequence": 1, "last_sequence": 226,
            "segments": 226, "bytes": 118_489_088, "live": false,
            "assignments": [{ "assignee": "badge 1042", "from": "2026-01-17T08:00:00.000000Z", "to": null }],
            "marks": [],
            "nearest": { "at": "2026-01-17T09:16:02.500000Z", "metres": 41.7 } }] })),
        (status = 400, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromQuery(query): FromQuery<RecordingsQuery>,
) -> Result<Json<RecordingPage>, Problem> {
    let question = question(query)?;
    let scope = viewer.over::<Find>().await?;
    let evidence = scope.evidence().clone();
    Ok(Json(evidence.ask(move |store| page(store, &state, &scope, &question)).await?))
}

fn page(store: &Store, state: &State, scope: &Scope<Find>, question: &Question) -> Result<RecordingPage> {
    (state.import)()?;
    let mut sees = |record: &RecorderRecord| scope.sees(record);
    let page = find::recordings(store, &state.fleet, question, state.clock.now(), &mut sees)?;
    let next = page.recordings.last().filter(|_| page.more).map(|last| format!("{}-{}", last.recorder, last.to));
    let directory = store.directory()?;
    let measures = matches!(question.area, Some(Area::Near { .. }));
    let recordings =
        page.recordings.into_iter().filter_map(|one| document(&directory, &state.categories, one, measures)).collect();
    Ok(RecordingPage { recordings, next })
}

fn question(query: RecordingsQuery) -> Result<Question> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Error::new(Kind::Invalid, format!("limit must be from 1 to {PAGE_MAX}")));
    }
    let range = TimeRange::parse(&query.from, &query.to, DAYS_MAX)?;
    let areas = [
        query.near.as_deref().map(Area::parse_near),
        query.bbox.as_deref().map(Area::parse_box),
        query.polygon.as_deref().map(Area::parse_polygon),
    ];
    let mut areas = areas.into_iter().flatten().collect::<Result<Vec<_>>>()?;
    let area = areas.pop();
    if !areas.is_empty() {
        return Err(Error::new(Kind::Invalid, "ask for one place: near, bbox or polygon"));
    }
    let named = |name, text: Option<String>| text.map(|text| words(name, text, WORDS_CHARS_MAX)).transpose();
    Ok(Question {
        range: range.from..range.to,
        recorder: query.recorder.as_deref().map(recorder_id).transpose()?,
        kind: query.kind,
        department: query.department,
        assignee: named("assignee", query.assignee)?,
        mark: query.mark.map(|text| exactly("mark", text, WORDS_CHARS_MAX)).transpose()?,
        text: named("text", query.text)?,
        area,
        after: query.cursor.as_deref().map(cursor).transpose()?,
        limit,
    })
}

/// Reads the place of a recording.
fn cursor(text: &str) -> Result<(RecorderId, Micros)> {
    let read = || {
        let (recorder, end) = text.split_once('-')?;
        let end = end.parse::<Micros>().ok().filter(|number| number.to_string() == end)?;
        Some((recorder_id(recorder).ok()?, end))
    };
    read().ok_or_else(|| Error::new(Kind::Invalid, "cursor must be what the page before had as next"))
}

fn document(
    directory: &Directory,
    categories: &Categories,
    recording: Recording,
    measures: bool,
) -> Option<RecordingDocument> {
    let record = directory.get(recording.recorder)?;
    let assignments = recording.assignments.into_iter().map(|held| HeldDocument {
        assignee: held.assignee,
        from: time::format(held.from),
        to: held.to.map(time::format),
    });
    let department = || record.department.clone();
    let marks = recording.marks.into_iter().map(|mark| marks::document(mark, department(), None, categories));
    let nearest = recording.nearest.filter(|_| measures);
    Some(RecordingDocument {
        recorder: record.id.to_string(),
        label: record.label.clone(),
        kind: record.kind,
        department: record.department.clone(),
        from: time::format(recording.from),
        to: time::format(recording.to),
        begins_earlier: recording.begins_earlier,
        ends_later: recording.ends_later,
        first_sequence: recording.first_sequence,
        last_sequence: recording.last_sequence,
        segments: recording.segments,
        bytes: recording.bytes,
        live: recording.live,
        assignments: assignments.collect(),
        marks: marks.collect(),
        more_marks: recording.more_marks,
        nearest: nearest.map(|(at, metres)| NearestDocument { at: time::format(at), metres }),
    })
}
