//! From a recorder and a sequence to the bytes of a link: shared by playback, live view and clips.
//!
//! A link is looked up under its recorder's key, so that one recorder's playlist can never show another's footage.
//! Whoever wants any needs leave to watch that recorder, and this is the only file of the room that reads payloads.
//! Bytes leave only after the store has compared their digest with the signed header.

use aigaq_proto::limits::DURATION_US_MAX;
use aigaq_proto::{Content as LinkContent, LinkHeader, RecorderId, Sequence};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method};

use super::content::{Content, Held, Wanted};
use super::request::MediaFile;
use super::time::TimeRange;
use super::viewer::{Permit, Watch};
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::engine::Direction;
use crate::store::records::{LinkRecord, TimelineKind};
use crate::store::{Store, TimelineEntry};

/// Media type of initialisation segments, segments and clips.
pub(super) const MEDIA_TYPE: &str = "video/mp4";
/// Longest range of a playlist or a clip, days.
pub(super) const DAYS_MAX: u64 = 1;

/// A stored link with its header decoded.
pub(super) struct Found {
    /// What the link says.
    pub(super) header: LinkHeader,
    /// How it is stored.
    record: LinkRecord,
}

impl Found {
    /// The link's payload; blocks.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it is not what was received, [`Kind::NotFound`] when it was deleted.
    pub(super) fn payload(&self, store: &Store) -> Result<Bytes> {
        store.body(&self.record)
    }

    /// The link's payload as something to ask for.
    #[must_use]
    pub(super) fn content(&self) -> Content {
        Content {
            media_type: MEDIA_TYPE,
            digest: self.header.payload_digest,
            length: u64::from(self.header.payload_length),
        }
    }
}

/// The link that a file of a playlist stands for; blocks.
///
/// # Errors
/// [`Kind::NotFound`] when the recorder has no such link or the link is of another kind,
/// [`Kind::Damaged`] when its header is not what was received.
pub(super) fn find(store: &Store, permit: &Permit<Watch>, file: MediaFile) -> Result<Found> {
    let id = permit.id();
    let absent = || Error::new(Kind::NotFound, "the recorder has no such segment");
    let (MediaFile::Init(sequence) | MediaFile::Segment(sequence)) = file;
    let record = store.link(id, sequence)?.ok_or_else(absent)?;
    let header = LinkHeader::decode(&record.header).context(Kind::Damaged, "a stored header does not decode")?;
    if header.recorder != id || header.sequence != sequence {
        return Err(Error::new(Kind::Damaged, "a stored header belongs to another link"));
    }
    let right = match (file, &header.content) {
        (MediaFile::Init(_), LinkContent::Start { .. }) | (MediaFile::Segment(_), LinkContent::Media { .. }) => true,
        (MediaFile::Init(_) | MediaFile::Segment(_), _) => false,
    };
    if right { Ok(Found { header, record }) } else { Err(absent()) }
}

/// Answers a request for the payload of one link.
///
/// # Errors
/// [`Kind::Damaged`] when the payload is not what was received.
pub(super) async fn serve(
    permit: &Permit<Watch>,
    found: Found,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response> {
    let evidence = permit.evidence();
    let content = found.content();
    let wanted = content.wanted(method, headers);
    let part = match &wanted {
        Wanted::Nothing | Wanted::Outside => return Ok(content.answer(&wanted, Body::empty())),
        Wanted::All => 0..content.length,
        Wanted::Part(part) => part.clone(),
    };
    let room = evidence.room(content.length).await?;
    let bytes = evidence.ask(move |store| found.payload(store)).await?;
    let body = Held::new(slice(&bytes, part)?, room);
    Ok(content.answer(&wanted, Body::new(body)))
}

/// A part of a payload whose length the header has promised.
///
/// # Errors
/// [`Kind::Damaged`] when the payload is shorter.
pub(super) fn slice(bytes: &Bytes, part: std::ops::Range<u64>) -> Result<Bytes> {
    let bound = |at: u64| usize::try_from(at).ok().filter(|at| *at <= bytes.len());
    match (bound(part.start), bound(part.end)) {
        (Some(start), Some(end)) if start <= end => Ok(bytes.slice(start..end)),
        _ => Err(Error::new(Kind::Damaged, "a stored payload is shorter than its header says")),
    }
}

/// Whether the payload of a link was deleted by policy.
///
/// # Errors
/// Those of the store.
pub(super) fn is_deleted(store: &Store, id: RecorderId, sequence: Sequence) -> Result<bool> {
    Ok(store.link(id, sequence)?.is_some_and(|link| store.is_deleted(id, &link.body)))
}

/// A segment as the timeline knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimelineSegment {
    /// Its link's sequence.
    pub(super) sequence: Sequence,
    /// Device clock at its first sample.
    pub(super) captured_at: u64,
    /// Its length, microseconds.
    pub(super) duration_us: u32,
    /// Sequence of the `Start` link of its recording.
    pub(super) recording: Sequence,
    /// Its number among the recorder's segments, as the recorder says; nothing is ordered by it.
    pub(super) ordinal: u64,
    /// Its size, bytes.
    pub(super) bytes: u32,
    /// Whether it begins with a key frame.
    pub(super) independent: bool,
}

impl TimelineSegment {
    /// The segment of an entry, if the entry is one.
    #[must_use]
    pub(super) fn of(entry: &TimelineEntry) -> Option<Self> {
        let TimelineKind::Media { recording, ordinal, bytes, independent } = entry.record.kind else { return None };
        let (sequence, captured_at, duration_us) = (entry.sequence, entry.captured_at, entry.record.duration_us);
        Some(Self { sequence, captured_at, duration_us, recording, ordinal, bytes, independent })
    }

    /// What playlists and clips order segments by: the recording, then device time, then the chain.
    #[must_use]
    pub(super) fn place(&self) -> (Sequence, u64, Sequence) {
        (self.recording, self.captured_at, self.sequence)
    }
}

/// The entries of the timeline that touch a range, in order of captured-at; blocks.
pub(super) fn entries(store: &Store, id: RecorderId, range: TimeRange) -> impl Iterator<Item = Result<TimelineEntry>> {
    let from = range.from.saturating_sub(u64::from(DURATION_US_MAX));
    let near = store.timeline(id, from..range.to, Direction::Forward);
    near.filter(move |entry| {
        entry.as_ref().map_or(true, |entry| range.touches(entry.captured_at, entry.record.duration_us))
    })
}
