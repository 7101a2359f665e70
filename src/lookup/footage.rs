//! From a recorder and a sequence to the bytes of a link: shared by playback, live view and clips; and to those of what is kept beside
//! the chain as evidence.
//!
//! A link is looked up under its recorder's key, so that one recorder's playlist can never show another's footage.
//! Whoever wants any needs leave to watch that recorder, or to take its evidence away, and this is the only file of the room that reads
//! payloads. For a verdict they are hashed, and none of them leaves.
//! Bytes leave only after the store has compared their digest with the signed header.

use aigaq_proto::limits::DURATION_US_MAX;
use aigaq_proto::{Content as LinkContent, Digest, LinkHeader, RecorderId, Sequence, link, verdict};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};

use super::content::{Content, Held, Wanted};
use super::gone::{self, Statements};
use super::request::MediaFile;
use super::time::TimeRange;
use super::viewer::{Evidence, Fetch, Permit, Watch};
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::engine::Direction;
use crate::store::records::{LinkRecord, QuarantineRecord, TimelineKind};
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
    /// [`Kind::Damaged`] when it is not what was received, [`Kind::NotFound`] because of [`Gone`](gone::Gone) when it was deleted.
    pub(super) fn payload(&self, store: &Store) -> Result<Bytes> {
        let LinkHeader { recorder, sequence, .. } = self.header;
        let explained = |error| gone::explained(store, recorder, Some(sequence), &self.record.body, error);
        store.body(&self.record).map_err(explained)
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
    let content = found.content();
    answer(permit.evidence(), &content, method, headers, move |store| found.payload(store)).await
}

/// Answers a request for bytes that `read` reads.
async fn answer(
    evidence: &Evidence,
    content: &Content,
    method: &Method,
    headers: &HeaderMap,
    read: impl FnOnce(&Store) -> Result<Bytes> + Send + 'static,
) -> Result<Response> {
    let wanted = content.wanted(method, headers);
    let part = match &wanted {
        Wanted::Nothing | Wanted::Outside => return Ok(content.answer(&wanted, Body::empty())),
        Wanted::All => 0..content.length,
        Wanted::Part(part) => part.clone(),
    };
    let room = evidence.room(content.length).await?;
    let bytes = evidence.ask(read).await?;
    let body = Held::new(slice(&bytes, part)?, room);
    Ok(content.answer(&wanted, Body::new(body)))
}

/// What is kept beside the chain, or on the other side of what is.
pub(super) enum Kept {
    /// One side of a fork.
    Link(Found),
    /// A link that failed a check.
    Quarantined(RecorderId, QuarantineRecord),
}

/// One side of a fork, by the digest of its link: the one in the chain or another; blocks.
///
/// # Errors
/// [`Kind::NotFound`] when there is none, [`Kind::Damaged`] when its header is not what was received.
pub(super) fn side(store: &Store, permit: &Permit<Fetch>, sequence: Sequence, digest: Digest) -> Result<Kept> {
    let absent = || Error::new(Kind::NotFound, "the recorder has no fork with this sequence and digest");
    let id = permit.id();
    let record = match store.fork(id, sequence, digest)? {
        Some(record) => record,
        None => {
            let kept = store.link(id, sequence)?.filter(|kept| link::digest(&kept.header) == digest);
            let forked = || store.forks(id).any(|fork| fork.is_ok_and(|fork| fork.sequence == sequence));
            kept.filter(|_| forked()).ok_or_else(absent)?
        }
    };
    let header = LinkHeader::decode(&record.header).context(Kind::Damaged, "a stored header does not decode")?;
    Ok(Kept::Link(Found { header, record }))
}

/// A link in quarantine, by the commit that stored it and its place therein; blocks.
///
/// # Errors
/// [`Kind::NotFound`] when there is none.
pub(super) fn quarantined(store: &Store, permit: &Permit<Fetch>, (commit, index): (u64, u32)) -> Result<Kept> {
    let absent = || Error::new(Kind::NotFound, "the recorder has nothing in quarantine under this name");
    let record = store.quarantined(permit.id(), commit, index)?.ok_or_else(absent)?;
    Ok(Kept::Quarantined(permit.id(), record))
}

/// Answers a request for the payload of what is kept as evidence: a file to be saved, whatever it says of itself.
///
/// # Errors
/// [`Kind::Damaged`] when it is not what was received, [`Kind::NotFound`] when it is gone.
pub(super) async fn serve_kept(
    permit: &Permit<Fetch>,
    kept: Kept,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response> {
    let media_type = "application/octet-stream";
    let evidence = permit.evidence();
    let mut response = match kept {
        Kept::Link(found) => {
            let content = Content { media_type, ..found.content() };
            answer(evidence, &content, method, headers, move |store| found.payload(store)).await?
        }
        Kept::Quarantined(id, record) => {
            let content = Content { media_type, digest: record.payload_digest, length: record.payload_length };
            let read = move |store: &Store| {
                let explained = |error| gone::explained(store, id, None, &record.body, error);
                store.quarantined_body(id, &record).map_err(explained)
            };
            answer(evidence, &content, method, headers, read).await?
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// What is there of the payload of a link, which is read and hashed; blocks. A statement of a deletion counts if the log has it below
/// `tree_size`.
///
/// # Errors
/// Those of the store but for damage and deletion.
pub(super) fn hashed(
    store: &Store,
    (header, record): (&LinkHeader, &LinkRecord),
    fork: bool,
    statements: &mut Statements,
    tree_size: u64,
) -> Result<verdict::Payload> {
    match store.body(record) {
        Ok(bytes) => {
            let length = bytes.len() as u64;
            Ok(verdict::Payload::Present { digest: header.payload_digest, length, boxes: true })
        }
        Err(error) if error.kind() == Kind::Damaged => Ok(verdict::Payload::Damaged),
        Err(error) if error.kind() == Kind::NotFound => {
            let sequence = (!fork).then_some(header.sequence);
            let stated = statements.about(store, header.recorder, sequence, &record.body)?;
            let proven = stated.is_some_and(|stated| stated.log_index.is_some_and(|index| index < tree_size));
            Ok(if proven { verdict::Payload::Deleted } else { verdict::Payload::DeletionUnproved })
        }
        Err(error) => Err(error),
    }
}

/// That the payload of a link is gone, and what says so.
///
/// # Errors
/// Those of the store.
pub(super) fn gone(store: &Store, id: RecorderId, sequence: Sequence) -> Result<Error> {
    let error = Error::new(Kind::NotFound, "what was recorded in the range was deleted by policy");
    let Some(record) = store.link(id, sequence)? else { return Ok(error) };
    Ok(gone::explained(store, id, Some(sequence), &record.body, error))
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
