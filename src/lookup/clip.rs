//! `GET /v1/recorders/{id}/clip.mp4`: one recording's part of a range as one file that is exact to the frame, in which whole
//! segments lie, each byte as it was recorded; where it cannot be ([`exact`]), the initialisation segment and the segments.
//!
//! The length is known before the first byte, and at most one segment per clip is in memory. Every digest is checked
//! before its bytes go out: damage in what comes first is a 409, damage found later breaks the connection off, so
//! that nobody takes half a clip for a whole one.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use aigaq_proto::{Content as LinkContent, Digest, LinkHeader, RecorderId, Sequence};
use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sha2::{Digest as _, Sha256};

use super::content::{Content, Held, Wanted};
use super::coverage::RangeQuery;
use super::exact::{self, Exact};
use super::footage::{self, DAYS_MAX, MEDIA_TYPE, TimelineSegment, entries};
use super::problem::{Problem, RecordingRange};
use super::request::{FromPath, FromQuery, MediaFile, recorder_id};
use super::state::State;
use super::time::{self, TimeRange};
use super::viewer::{Permit, Viewer, Watch};
use crate::error::{Context as _, Error, Kind, Result};
use crate::media::clip::{Plan, Slice};
use crate::store::Store;

/// Most segments in one clip: they are looked up before the first byte.
const SEGMENTS_MAX: usize = 100_000;
/// Links between two segments of a clip that are walked over rather than skipped. Bounds what a clip reads by its segments,
/// whatever lies between them in the chain.
const BETWEEN_MAX: u64 = 16;

/// The header that says what a clip is: `exact`, or `whole-segments`.
const CLIP: HeaderName = HeaderName::from_static("aigaq-clip");

/// What a clip is made of.
struct Clip {
    parts: Vec<Part>,
    plan: Plan,
    digest: Digest,
    is_exact: bool,
}

/// A part of a clip.
#[derive(Debug, Clone)]
enum Part {
    /// Made for it.
    Head(Bytes),
    /// The payload of a link.
    Link(MediaFile),
}

/// What was found in the range.
enum Selected {
    One(Vec<TimelineSegment>),
    Several(Vec<RecordingRange>),
}

/// A range of one recording as one MP4 file.
///
/// It shows the pictures that begin in the range and plays the sound beside them, without anything being encoded again: an edit list
/// in front of whole segments, whose bytes are the recorder's. Ranges of more than about an hour, and footage that is no MP4, are
/// given as the initialisation segment and whole segments. The header `aigaq-clip` says which: `exact` or `whole-segments`.
///
/// 404 when nothing was recorded in the range, 410 when what was recorded is deleted, 409 when what was recorded is damaged, 422 when the range lies in
/// several recordings: the problem lists them.
#[utoipa::path(get, path = "/v1/recorders/{id}/clip.mp4", tag = "footage",
    params(("id" = String, Path, description = "Recorder"),
        ("x-aigaq-reason" = Option<String>, Header, description = "Why; footage that is not open is shown to nobody without it"),
        RangeQuery),
    responses(
        (status = 200, description = "The clip", body = Vec<u8>, content_type = "video/mp4"),
        (status = 206, description = "The bytes of the range", body = Vec<u8>, content_type = "video/mp4"),
        (status = 304, description = "The same as the client has"),
        (status = 404, response = Problem),
        (status = 409, response = Problem),
        (status = 410, response = Problem),
        (status = 416, response = Problem),
        (status = 422, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn clip(
    viewer: Viewer,
    Shared(state): Shared<State>,
    method: Method,
    headers: HeaderMap,
    FromPath(id): FromPath<String>,
    FromQuery(query): FromQuery<RangeQuery>,
) -> Result<Response, Problem> {
    let id = recorder_id(&id)?;
    let range = TimeRange::parse(&query.from, &query.to, DAYS_MAX)?;
    let permit = viewer.of::<Watch>(id).await?;
    let evidence = permit.evidence();
    let segments = match evidence.ask(move |store| select(store, id, range)).await? {
        Selected::One(segments) => segments,
        Selected::Several(recordings) => return Err(Problem::several(recordings)),
    };
    let clip = {
        let _room = evidence.room(exact::ROOM_BYTES).await?;
        let permit = permit.clone();
        let made = evidence.ask(move |store| match exact::of(store, &state.clips, &permit, range, &segments)? {
            Some(exact) => Ok(Clip::exact(&exact)),
            None => assemble(store, &permit, &segments),
        });
        made.await?
    };
    let shown = HeaderValue::from_static(if clip.is_exact { "exact" } else { "whole-segments" });
    let content = Content { media_type: MEDIA_TYPE, digest: clip.digest, length: clip.plan.length() };
    let wanted = content.wanted(&method, &headers);
    let part = match &wanted {
        Wanted::Nothing | Wanted::Outside => return Ok(content.answer(&wanted, Body::empty())),
        Wanted::All => 0..content.length,
        Wanted::Part(part) => part.clone(),
    };
    let slices: Vec<Slice> = clip.plan.slices(part).collect();
    let mut parts = Parts { clip, slices: slices.into_iter(), permit: permit.clone(), held: None };
    parts.advance().await?;
    let body = if method == Method::HEAD { Body::empty() } else { Body::from_stream(stream::try_unfold(parts, next)) };
    let mut response = content.answer(&wanted, body);
    response.headers_mut().insert(CLIP, shown);
    Ok(response)
}

impl Clip {
    fn exact(exact: &Exact) -> Self {
        let lengths = std::iter::once(exact.head.len() as u64).chain(exact.segments.iter().map(|(_, length)| *length));
        let links = exact.segments.iter().map(|(sequence, _)| Part::Link(MediaFile::Segment(*sequence)));
        let parts = std::iter::once(Part::Head(exact.head.clone())).chain(links);
        Self { plan: Plan::new(lengths), parts: parts.collect(), digest: exact.digest, is_exact: true }
    }
}

/// Looks up the segments in the range; blocks.
fn select(store: &Store, id: RecorderId, range: TimeRange) -> Result<Selected> {
    let mut segments = Vec::new();
    for entry in entries(store, id, range) {
        segments.extend(TimelineSegment::of(&entry?));
        if segments.len() > SEGMENTS_MAX {
            return Err(Error::new(Kind::Invalid, format!("the range has over {SEGMENTS_MAX} segments: ask for less")));
        }
    }
    let deleted_before = store.deleted_before(id)?;
    let mut left = Vec::with_capacity(segments.len());
    let mut deleted = None;
    for segment in segments {
        if segment.captured_at >= deleted_before || !footage::is_deleted(store, id, segment.sequence)? {
            left.push(segment);
        } else {
            deleted = deleted.or(Some(segment.sequence));
        }
    }
    let mut segments = left;
    if let Some(sequence) = deleted.filter(|_| segments.is_empty()) {
        return Err(footage::gone(store, id, sequence)?);
    }
    segments.sort_by_key(TimelineSegment::place);
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return Err(Error::new(Kind::NotFound, "nothing was recorded in the range; its coverage says why"));
    };
    if first.recording != last.recording {
        return Ok(Selected::Several(recordings(&segments, range)));
    }
    Ok(Selected::One(segments))
}

/// The clip of whole segments.
fn assemble(store: &Store, permit: &Permit<Watch>, segments: &[TimelineSegment]) -> Result<Clip> {
    let id = permit.id();
    let recording = segments.first().map_or(0, |segment| segment.recording);
    let init = match footage::find(store, permit, MediaFile::Init(recording)) {
        Err(error) if error.kind() == Kind::NotFound => {
            return Err(Error::new(Kind::NotFound, "the recording's initialisation segment has not arrived"));
        }
        found => found?,
    };
    let mut stored: HashMap<Sequence, (Digest, u64)> = HashMap::with_capacity(segments.len());
    let wanted: BTreeSet<Sequence> = segments.iter().map(|segment| segment.sequence).collect();
    for link in runs(&wanted).into_iter().flat_map(|run| store.links(id, run)) {
        let (sequence, record) = link?;
        if !wanted.contains(&sequence) {
            continue;
        }
        let header = LinkHeader::decode(&record.header).context(Kind::Damaged, "a stored header does not decode")?;
        if !matches!(header.content, LinkContent::Media { recording: of, .. } if of == recording) {
            return Err(Error::new(Kind::Damaged, "the timeline and a link do not agree"));
        }
        stored.insert(sequence, (header.payload_digest, u64::from(header.payload_length)));
    }
    let mut hasher = Sha256::new_with_prefix(init.header.payload_digest.0);
    let mut parts = vec![Part::Link(MediaFile::Init(recording))];
    let mut lengths = vec![u64::from(init.header.payload_length)];
    for segment in segments {
        let (digest, length) = stored
            .get(&segment.sequence)
            .ok_or_else(|| Error::new(Kind::Damaged, "the timeline lists a link that is not stored"))?;
        hasher.update(digest.0);
        parts.push(Part::Link(MediaFile::Segment(segment.sequence)));
        lengths.push(*length);
    }
    let (plan, digest) = (Plan::new(lengths), Digest(hasher.finalize().into()));
    Ok(Clip { parts, plan, digest, is_exact: false })
}

/// The ranges of sequences that hold those that are wanted, and few others.
fn runs(wanted: &BTreeSet<Sequence>) -> Vec<Range<Sequence>> {
    let wanted: Vec<Sequence> = wanted.iter().copied().collect();
    let near = |a: &Sequence, b: &Sequence| b.saturating_sub(*a) <= BETWEEN_MAX;
    let run = |run: &[Sequence]| Some(*run.first()?..run.last()?.saturating_add(1));
    wanted.chunk_by(near).filter_map(run).collect()
}

/// The part of the range that each recording covers, in order of time.
fn recordings(segments: &[TimelineSegment], range: TimeRange) -> Vec<RecordingRange> {
    let mut recordings: Vec<(Sequence, u64, u64)> = Vec::new();
    for segment in segments {
        let (from, to) = (segment.captured_at, segment.captured_at.saturating_add(u64::from(segment.duration_us)));
        match recordings.last_mut() {
            Some((recording, first, last)) if *recording == segment.recording => {
                (*first, *last) = ((*first).min(from), (*last).max(to));
            }
            _ => recordings.push((segment.recording, from, to)),
        }
    }
    let shown = recordings.into_iter().map(|(recording, from, to)| RecordingRange {
        recording,
        from: time::format(from.max(range.from)),
        to: time::format(to.min(range.to)),
    });
    shown.collect()
}

/// The rest of a clip on its way out.
struct Parts {
    clip: Clip,
    slices: std::vec::IntoIter<Slice>,
    permit: Permit<Watch>,
    held: Option<Held>,
}

impl Parts {
    /// Reads and checks the next part, if there is one.
    async fn advance(&mut self) -> Result<()> {
        self.held = None;
        let Some(Slice { part, bytes: range }) = self.slices.next() else { return Ok(()) };
        let evidence = self.permit.evidence();
        let file = match self.clip.parts.get(part) {
            Some(Part::Link(file)) => *file,
            Some(Part::Head(head)) => {
                let room = evidence.room(head.len() as u64).await?;
                self.held = Some(Held::new(footage::slice(head, range)?, room));
                return Ok(());
            }
            None => return Err(Error::new(Kind::Internal, "a clip has fewer parts than its plan")),
        };
        let permit = self.permit.clone();
        let found = evidence.ask(move |store| footage::find(store, &permit, file)).await?;
        let room = evidence.room(u64::from(found.header.payload_length)).await?;
        let bytes = evidence.ask(move |store| found.payload(store)).await?;
        self.held = Some(Held::new(footage::slice(&bytes, range)?, room));
        Ok(())
    }
}

/// The next piece. An error ends the connection, which is the only way left to say it.
async fn next(mut parts: Parts) -> Result<Option<(Bytes, Parts)>> {
    while let Some(held) = &mut parts.held {
        if let Some(piece) = held.next_piece() {
            return Ok(Some((piece, parts)));
        }
        if let Err(error) = parts.advance().await {
            tracing::error!(%error, "a clip broke off");
            return Err(error);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_far_segments_is_not_walked() {
        let runs = |sequences: &[Sequence]| runs(&sequences.iter().copied().collect());
        assert_eq!(runs(&[]), vec![]);
        assert_eq!(runs(&[3, 1, 2]), vec![1..4]);
        assert_eq!(runs(&[1, 1 + BETWEEN_MAX, 1_000_000, 1_000_001]), vec![1..2 + BETWEEN_MAX, 1_000_000..1_000_002]);
        assert_eq!(runs(&[u64::MAX]), vec![u64::MAX..u64::MAX], "no chain reaches it");
    }
}
