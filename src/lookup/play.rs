//! `GET /v1/recorders/{id}/hls/{from}/{to}/…`: a closed range as HLS with fragmented MP4, the segments byte for byte
//! as they were recorded.
//!
//! Every segment that touches the range is in it, whole: recordings in the order of the chain, segments by device time, whatever
//! ordinals the recorder gave them. What is missing stays visible: the renderer makes gaps and
//! discontinuities of it. A file is served only if its link touches the range that the path names, so that the audit
//! entry tells the truth.

use std::collections::HashMap;

use aigaq_proto::{Content as LinkContent, Sequence};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, header};

use super::footage::{self, DAYS_MAX, TimelineSegment, entries};
use super::problem::Problem;
use super::request::{FromPath, MediaFile, recorder_id};
use super::time::TimeRange;
use super::viewer::{Permit, Viewer, Watch};
use crate::error::{Error, Kind, Result};
use crate::media::playlist::{self, Mark, Segment};
use crate::store::Store;
use crate::store::records::TimelineKind;

/// Media type of a playlist (RFC 8216 section 4).
pub(super) const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";
/// Class of the date range of a mark.
const MARK_CLASS: &str = "aigaq.mark";
/// Most segments and most marks in one playlist.
const LISTED_MAX: usize = 100_000;

/// A playlist of a closed range.
#[utoipa::path(get, operation_id = "playlist", path = "/v1/recorders/{id}/hls/{from}/{to}/index.m3u8", tag = "footage",
    params(("id" = String, Path, description = "Recorder"),
        ("x-aigaq-reason" = Option<String>, Header, description = "Why; footage that is not open is shown to nobody without it"),
        ("from" = String, Path, description = "Beginning, RFC 3339 UTC"),
        ("to" = String, Path, description = "End, exclusive, at most one day later")),
    responses(
        (status = 200, description = "HLS playlist", body = String, content_type = "application/vnd.apple.mpegurl"),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn index(
    viewer: Viewer,
    FromPath((id, from, to)): FromPath<(String, String, String)>,
) -> Result<Response, Problem> {
    let id = recorder_id(&id)?;
    let range = TimeRange::parse(&from, &to, DAYS_MAX)?;
    let permit = viewer.of::<Watch>(id).await?;
    let evidence = permit.evidence().clone();
    Ok(playlist_response(evidence.ask(move |store| render(store, &permit, range)).await?))
}

/// An initialisation segment (`init-{sequence}.mp4`) or a segment (`seg-{sequence}.m4s`) of a closed range.
#[utoipa::path(get, operation_id = "playlist_file", path = "/v1/recorders/{id}/hls/{from}/{to}/{file}", tag = "footage",
    params(("id" = String, Path, description = "Recorder"),
        ("x-aigaq-reason" = Option<String>, Header, description = "Why; footage that is not open is shown to nobody without it"),
        ("from" = String, Path, description = "Beginning, RFC 3339 UTC"),
        ("to" = String, Path, description = "End, exclusive"),
        ("file" = String, Path, description = "`init-{sequence}.mp4` or `seg-{sequence}.m4s`")),
    responses((status = 200, description = "The bytes as recorded", body = Vec<u8>, content_type = "video/mp4"),
        (status = 206, description = "The bytes of the range", body = Vec<u8>, content_type = "video/mp4"),
        (status = 304, description = "The same as the client has"),
        (status = 409, response = Problem),
        (status = 410, response = Problem),
        (status = 416, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn file(
    viewer: Viewer,
    method: Method,
    headers: HeaderMap,
    FromPath((id, from, to, file)): FromPath<(String, String, String, String)>,
) -> Result<Response, Problem> {
    let id = recorder_id(&id)?;
    let range = TimeRange::parse(&from, &to, DAYS_MAX)?;
    let file = MediaFile::parse(&file)?;
    let permit = viewer.of::<Watch>(id).await?;
    let of_find = permit.clone();
    let find = move |store: &Store| {
        let found = footage::find(store, &of_find, file)?;
        let header = &found.header;
        let outside = matches!(file, MediaFile::Segment(_)) && !range.touches(header.captured_at, header.duration_us);
        if outside { Err(Error::new(Kind::NotFound, "the segment lies outside the range")) } else { Ok(found) }
    };
    let found = permit.evidence().ask(find).await?;
    Ok(footage::serve(&permit, found, &method, &headers).await?)
}

/// A playlist may gain segments as late ones arrive: it is never kept without asking again.
pub(super) fn playlist_response(text: String) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PLAYLIST_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

fn render(store: &Store, permit: &Permit<Watch>, range: TimeRange) -> Result<String> {
    let id = permit.id();
    let mut segments = Vec::new();
    let mut marks = Vec::new();
    for entry in entries(store, id, range) {
        let entry = entry?;
        if let Some(segment) = TimelineSegment::of(&entry) {
            segments.push(segment);
        } else if let TimelineKind::Mark(category) = &entry.record.kind {
            marks.push(mark(entry.sequence, entry.captured_at, entry.record.duration_us, category));
        }
        if segments.len().max(marks.len()) > LISTED_MAX {
            return Err(Error::new(Kind::Invalid, format!("the range has over {LISTED_MAX} segments: ask for less")));
        }
    }
    segments.sort_by_key(TimelineSegment::place);
    let deleted_before = store.deleted_before(id)?;
    let mut starts = HashMap::new();
    let listed = segments.iter().map(|segment| {
        let playable = match starts.get(&segment.recording) {
            Some(playable) => *playable,
            None => *starts.entry(segment.recording).or_insert(is_start(store, permit, segment.recording)?),
        };
        let deleted = segment.captured_at < deleted_before && footage::is_deleted(store, id, segment.sequence)?;
        Ok(listed(segment, "", !playable || deleted))
    });
    let listed = listed.collect::<Result<Vec<Segment>>>()?;
    Ok(playlist::render(playlist::Kind::Vod, &listed, &marks))
}

/// Whether the recording's initialisation segment is there; without it none of its segments can be played.
///
/// # Errors
/// Those of the store.
pub(super) fn is_start(store: &Store, permit: &Permit<Watch>, recording: Sequence) -> Result<bool> {
    match footage::find(store, permit, MediaFile::Init(recording)) {
        Ok(found) => Ok(matches!(found.header.content, LinkContent::Start { .. })),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A segment as the playlist lists it, its files under `folder`.
#[must_use]
pub(super) fn listed(segment: &TimelineSegment, folder: &str, gap: bool) -> Segment {
    Segment {
        uri: format!("{folder}seg-{}.m4s", segment.sequence),
        duration_us: u64::from(segment.duration_us),
        captured_at: segment.captured_at,
        init_uri: format!("{folder}init-{}.mp4", segment.recording),
        recording: segment.recording,
        ordinal: segment.ordinal,
        independent: segment.independent,
        gap,
    }
}

fn mark(sequence: Sequence, start: u64, duration_us: u32, category: &str) -> Mark {
    let attributes = vec![("CATEGORY".to_owned(), category.to_owned())];
    let duration_us = u64::from(duration_us);
    Mark { id: format!("mark-{sequence}"), class: MARK_CLASS.to_owned(), start, duration_us, attributes }
}
