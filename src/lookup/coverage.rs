//! `GET /v1/recorders/{id}/coverage`: what exists of a range, and for each hole its cause. Always 200 for a known
//! recorder, also when nothing exists: that is the answer.

use std::collections::BTreeSet;

use aigaq_proto::limits::DURATION_US_MAX;
use aigaq_proto::link::{LossCause, StopCause};
use aigaq_proto::{Micros, RecorderId, Sequence};
use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::explain::{Gaps, Known};
use super::footage;
use super::problem::Problem;
use super::request::{FromPath, FromQuery, recorder_id};
use super::span::{Builder, Cause, Coverage, Missing, Tail};
use super::state::State;
use super::time::{self, TimeRange};
use super::viewer::{Find, Permit, Viewer};
use crate::error::{Kind, Result};
use crate::fleet::Fleet;
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

/// Recorded without a hole.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Span {
    /// Beginning, RFC 3339 UTC.
    from: String,
    /// End, exclusive.
    to: String,
    /// Sequence of the recording's `Start` link.
    recording: u64,
    /// Sequence of the first segment.
    first_sequence: u64,
    /// Sequence of the last segment.
    last_sequence: u64,
    /// Number of segments.
    segments: u64,
    /// Their size, bytes.
    bytes: u64,
    /// How far the device clock was off when the first segment arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<ClockDocument>,
}

/// The clock of a device against that of the server.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(super) struct ClockDocument {
    /// Device clock minus server clock, microseconds.
    offset_us: i64,
    /// The measurement may be wrong by this much either way.
    error_us: u32,
}

/// Nothing is there, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Hole {
    /// Beginning, RFC 3339 UTC.
    from: String,
    /// End, exclusive.
    to: String,
    /// Why.
    cause: Cause,
    /// Why the recording before the hole ended, where a `Stop` link says so: `wearer`, `battery`, `storage-full`,
    /// `shutdown`, `fault`, `schedule` or `source-ended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    stop: Option<StopCause>,
    /// Why it was lost on the device, where that is the cause: `storage-full`, `storage-fault` or `restored`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    loss: Option<LossCause>,
    /// The missing sequences, where they are the cause; the first hundred runs of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<Missing>,
    /// How many sequences are missing, those that are not listed among them.
    #[serde(skip_serializing_if = "is_zero")]
    missing_count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A mark.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Mark {
    /// When, RFC 3339 UTC.
    at: String,
    /// Its sequence.
    sequence: u64,
    /// Its category, as the recorder named it.
    category: String,
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
    /// Every sequence that is missing between the links of the range; the first ten thousand runs of them.
    pub(super) missing: Vec<Missing>,
}

/// What exists of a range of a recorder, and why the rest does not.
#[utoipa::path(get, path = "/v1/recorders/{id}/coverage", tag = "footage",
    params(("id" = String, Path, description = "Recorder"), RangeQuery),
    responses((status = 200, body = CoverageDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn coverage(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromQuery(query): FromQuery<RangeQuery>,
) -> Result<Json<CoverageDocument>, Problem> {
    let id = recorder_id(&id)?;
    let range = TimeRange::parse(&query.from, &query.to, DAYS_MAX)?;
    let now = state.clock.now();
    let permit = viewer.of::<Find>(id).await?;
    let evidence = permit.evidence().clone();
    Ok(Json(evidence.ask(move |store| document(store, &state.fleet, &permit, range, now)).await?))
}

fn document(
    store: &Store,
    fleet: &Fleet,
    permit: &Permit<Find>,
    range: TimeRange,
    now: Micros,
) -> Result<CoverageDocument> {
    let id = permit.id();
    let Coverage { spans, holes, marks, missing } = of(store, fleet, id, range, Some(now))?;
    let spans = spans.into_iter().map(|span| {
        let clock = store.link(id, span.first_sequence)?.and_then(|link| link.clock);
        Ok(Span {
            from: time::format(span.from),
            to: time::format(span.to),
            recording: span.recording,
            first_sequence: span.first_sequence,
            last_sequence: span.last_sequence,
            segments: span.segments,
            bytes: span.bytes,
            clock: clock.map(|clock| ClockDocument { offset_us: clock.offset_us, error_us: clock.error_us }),
        })
    });
    let holes = holes.into_iter().map(|hole| Hole {
        from: time::format(hole.from),
        to: time::format(hole.to),
        cause: hole.cause,
        stop: hole.stop,
        loss: hole.loss,
        missing: hole.missing,
        missing_count: hole.missing_count,
    });
    let marks = marks.into_iter().map(|mark| {
        let (sequence, category) = (mark.sequence, mark.category);
        Mark { at: time::format(mark.at), sequence, category }
    });
    Ok(CoverageDocument {
        recorder: id.to_string(),
        from: time::format(range.from),
        to: time::format(range.to),
        spans: spans.collect::<Result<_>>()?,
        holes: holes.collect(),
        marks: marks.collect(),
        missing,
    })
}

/// The coverage of a range. Nothing is said about what comes after `now`, where it is given. Blocks.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when the range holds more than one answer can list, and those of the store.
fn of(store: &Store, fleet: &Fleet, id: RecorderId, range: TimeRange, now: Option<Micros>) -> Result<Coverage> {
    scan(store, fleet, id, range, now, |_| {})
}

/// The same for one that sums up: `look` is given the builder after each entry and may drain it; what is left is returned. Blocks.
///
/// # Errors
/// Those of the store, and of the builder if it is not drained.
pub(super) fn scan(
    store: &Store,
    fleet: &Fleet,
    id: RecorderId,
    range: TimeRange,
    now: Option<Micros>,
    look: impl FnMut(&mut Builder<'_>),
) -> Result<Coverage> {
    scan_without(store, fleet, id, range, now, &BTreeSet::new(), look)
}

/// The coverage of a range as the first `cut` entries of the log tell it: links that came in later are missing, for the time being.
/// Blocks.
///
/// # Errors
/// As [`scan`].
pub(super) fn as_of(
    store: &Store,
    fleet: &Fleet,
    id: RecorderId,
    range: TimeRange,
    now: Micros,
    cut: u64,
) -> Result<Coverage> {
    let mut late = BTreeSet::new();
    if store.log_size()? > cut {
        let from = range.from.saturating_sub(u64::from(DURATION_US_MAX));
        let before = store.timeline(id, 0..from, Direction::Backward).take(EXPLAINING_ENTRIES_MAX);
        let after = store.timeline(id, range.to..u64::MAX, Direction::Forward).take(EXPLAINING_ENTRIES_MAX);
        let within = store.timeline(id, from..range.to, Direction::Forward);
        // On either side the search ends with the first that bounds and was there.
        late_until(store, id, before, cut, &mut late)?;
        late_until(store, id, after, cut, &mut late)?;
        for entry in within {
            note_late(store, id, &entry?, cut, &mut late)?;
        }
    }
    scan_without(store, fleet, id, range, Some(now), &late, |_| {})
}

fn late_until(
    store: &Store,
    id: RecorderId,
    entries: impl Iterator<Item = Result<TimelineEntry>>,
    cut: u64,
    late: &mut BTreeSet<Sequence>,
) -> Result<()> {
    for entry in entries {
        let entry = entry?;
        if !note_late(store, id, &entry, cut, late)? && bounds(&entry.record.kind) {
            break;
        }
    }
    Ok(())
}

/// Notes a link that came into the log too late; whether it did.
fn note_late(
    store: &Store,
    id: RecorderId,
    entry: &TimelineEntry,
    cut: u64,
    late: &mut BTreeSet<Sequence>,
) -> Result<bool> {
    let link = match store.link(id, entry.sequence) {
        Err(error) if error.kind() == Kind::Damaged => None,
        link => link?,
    };
    let is_late = link.is_some_and(|link| link.log_index >= cut);
    if is_late {
        late.insert(entry.sequence);
    }
    Ok(is_late)
}

fn scan_without(
    store: &Store,
    fleet: &Fleet,
    id: RecorderId,
    range: TimeRange,
    now: Option<Micros>,
    late: &BTreeSet<Sequence>,
    mut look: impl FnMut(&mut Builder<'_>),
) -> Result<Coverage> {
    let head = store.head(id)?.unwrap_or_default();
    let known = Known::of(store, fleet, id, &head)?;
    let gaps = Gaps::explain(&head.chain.gaps(), &known).with_pending(late);
    let mut builder = Builder::new(range, &gaps);
    let was_there =
        |entry: &Result<TimelineEntry>| entry.as_ref().map_or(true, |entry| !late.contains(&entry.sequence));
    let from = range.from.saturating_sub(u64::from(DURATION_US_MAX));
    if let Some(before) = first_bound(store.timeline(id, 0..from, Direction::Backward).filter(was_there))? {
        builder.push(&before)?;
    }
    let deleted_before = store.deleted_before(id)?;
    for entry in store.timeline(id, from..range.to, Direction::Forward).filter(was_there) {
        let entry = entry?;
        if entry.captured_at < deleted_before && is_deleted(store, id, &entry)? {
            builder.push_deleted(&entry);
        } else {
            builder.push(&entry)?;
        }
        look(&mut builder);
    }
    if let Some(after) = first_bound(store.timeline(id, range.to..u64::MAX, Direction::Forward).filter(was_there))? {
        builder.push(&after)?;
    }
    Ok(builder.finish(&Tail::of(known.announced.as_ref(), now)))
}

/// Whether the footage of a segment was deleted by policy.
fn is_deleted(store: &Store, id: RecorderId, entry: &TimelineEntry) -> Result<bool> {
    Ok(matches!(entry.record.kind, TimelineKind::Media { .. }) && footage::is_deleted(store, id, entry.sequence)?)
}

fn bounds(kind: &TimelineKind) -> bool {
    matches!(kind, TimelineKind::Start | TimelineKind::Media { .. } | TimelineKind::Stop { .. })
}

fn first_bound(entries: impl Iterator<Item = Result<TimelineEntry>>) -> Result<Option<TimelineEntry>> {
    let mut near = entries.take(EXPLAINING_ENTRIES_MAX);
    near.find(|entry| entry.as_ref().map_or(true, |entry| bounds(&entry.record.kind))).transpose()
}
