//! `GET /v1/recorders/{id}/live.m3u8` and its files: a window over the newest segments of the newest recording, that
//! slides along as links become durable.
//!
//! What is newest is decided by the chain, never by the device's clock. The window holds one recording; its number is
//! the discontinuity sequence, so that a player knows a new recording from the old one. Media sequence numbers are the ordinals
//! of a recorder whose ordinals rise, and for ever after the sequences of one whose ordinals once did not: they never fall.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use aigaq_proto::{Content as LinkContent, LinkHeader, RecorderId};
use axum::extract::State as Shared;
use axum::response::Response;
use http::{HeaderMap, Method};

use super::footage::{self, TimelineSegment};
use super::play::{is_start, listed, playlist_response};
use super::problem::Problem;
use super::request::{FromPath, MediaFile, recorder_id};
use super::state::State;
use super::viewer::{Permit, Viewer, Watch};
use crate::error::{Context as _, Error, Kind, Result};
use crate::media::playlist::{self, Segment};
use crate::store::Store;

/// Segments in the window.
const WINDOW_SEGMENTS: u64 = 8;
/// Newest links that are looked through for them.
const NEWEST_LINKS: u64 = 128;

/// Which recorders number their segments wrong. At most as many as are enrolled; forgotten when the server stops, like
/// the connections of those who watch.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    by_sequence: Mutex<HashSet<RecorderId>>,
}

impl Numbering {
    /// Whether the recorder's ordinals can be media sequence numbers: they rise along the chain, now and whenever anybody
    /// looked. Every ordinal is below its link's sequence, so that going over to sequences only raises the numbers.
    fn is_by_ordinal(&self, id: RecorderId, newest: &[LinkHeader]) -> bool {
        let ordinals = newest.iter().filter_map(|header| match header.content {
            LinkContent::Media { ordinal, .. } => Some(ordinal),
            _ => None,
        });
        let rise = ordinals.is_sorted_by(|before, after| before < after);
        let mut by_sequence = self.by_sequence.lock().unwrap_or_else(PoisonError::into_inner);
        if !rise {
            by_sequence.insert(id);
        }
        !by_sequence.contains(&id)
    }
}

/// A playlist of what is being recorded now.
#[utoipa::path(get, operation_id = "live_playlist", path = "/v1/recorders/{id}/live.m3u8", tag = "footage",
    params(("id" = String, Path, description = "Recorder"),
        ("x-aigaq-reason" = Option<String>, Header, description = "Why; footage that is not open is shown to nobody without it")),
    responses(
        (status = 200, description = "HLS playlist", body = String, content_type = "application/vnd.apple.mpegurl"),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn index(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
) -> Result<Response, Problem> {
    let permit = viewer.of::<Watch>(recorder_id(&id)?).await?;
    let (numbering, evidence) = (state.numbering, permit.evidence().clone());
    Ok(playlist_response(evidence.ask(move |store| render(store, &numbering, &permit)).await?))
}

/// An initialisation segment (`init-{sequence}.mp4`) or a segment (`seg-{sequence}.m4s`) of the live playlist.
#[utoipa::path(get, operation_id = "live_file", path = "/v1/recorders/{id}/live/{file}", tag = "footage",
    params(("id" = String, Path, description = "Recorder"),
        ("x-aigaq-reason" = Option<String>, Header, description = "Why; footage that is not open is shown to nobody without it"),
        ("file" = String, Path, description = "`init-{sequence}.mp4` or `seg-{sequence}.m4s`")),
    responses((status = 200, description = "The bytes as recorded", body = Vec<u8>, content_type = "video/mp4"),
        (status = 206, description = "The bytes of the range", body = Vec<u8>, content_type = "video/mp4"),
        (status = 409, response = Problem),
        (status = 410, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn file(
    viewer: Viewer,
    method: Method,
    headers: HeaderMap,
    FromPath((id, file)): FromPath<(String, String)>,
) -> Result<Response, Problem> {
    let id = recorder_id(&id)?;
    let file = MediaFile::parse(&file)?;
    let permit = viewer.of::<Watch>(id).await?;
    let of_find = permit.clone();
    let found = permit.evidence().ask(move |store| footage::find(store, &of_find, file)).await?;
    Ok(footage::serve(&permit, found, &method, &headers).await?)
}

fn render(store: &Store, numbering: &Numbering, permit: &Permit<Watch>) -> Result<String> {
    let id = permit.id();
    let headers = newest(store, id)?;
    let recording = headers.iter().filter_map(recording_of).max();
    let recording = recording.ok_or_else(|| Error::new(Kind::NotFound, "the recorder has not recorded lately"))?;
    let of_it = |header: &&LinkHeader| recording_of(header) == Some(recording);
    let stopped = headers.iter().filter(of_it).any(|header| matches!(header.content, LinkContent::Stop { .. }));
    let gap = !is_start(store, permit, recording)?;
    let by_ordinal = numbering.is_by_ordinal(id, &headers);
    let of_it = headers.iter().filter(of_it);
    let mut segments: Vec<Segment> = of_it.filter_map(|header| segment(header, by_ordinal, gap)).collect();
    let end = segments.last().map_or(0, |segment| segment.ordinal.saturating_add(1));
    segments.retain(|segment| segment.ordinal >= end.saturating_sub(WINDOW_SEGMENTS));
    let mut text = playlist::render(playlist::Kind::Live { discontinuities: recording }, &segments, &[]);
    if stopped {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    Ok(text)
}

/// The headers of the newest links, in order of sequence.
fn newest(store: &Store, id: RecorderId) -> Result<Vec<LinkHeader>> {
    let Some(newest) = store.head(id)?.and_then(|head| head.chain.newest()) else { return Ok(Vec::new()) };
    let end = newest.sequence.saturating_add(1);
    let links = store.links(id, end.saturating_sub(NEWEST_LINKS)..end);
    links
        .map(|link| LinkHeader::decode(&link?.1.header).context(Kind::Damaged, "a stored header does not decode"))
        .collect()
}

fn recording_of(header: &LinkHeader) -> Option<u64> {
    match header.content {
        LinkContent::Start { .. } => Some(header.sequence),
        LinkContent::Media { recording, .. } | LinkContent::Stop { recording, .. } => Some(recording),
        _ => None,
    }
}

fn segment(header: &LinkHeader, by_ordinal: bool, gap: bool) -> Option<Segment> {
    let LinkContent::Media { recording, ordinal, independent } = header.content else { return None };
    let ordinal = if by_ordinal { ordinal } else { header.sequence };
    let (sequence, captured_at, duration_us) = (header.sequence, header.captured_at, header.duration_us);
    let bytes = header.payload_length;
    let segment = TimelineSegment { sequence, captured_at, duration_us, recording, ordinal, bytes, independent };
    Some(listed(&segment, "live/", gap))
}
