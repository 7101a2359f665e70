//! The index of an exact clip: which segments it needs, and what stands before them ([`crate::media::exact`]).
//!
//! Every payload is read and compared with its digest once for the index, so that damage is a 409 before the first byte; the index
//! of the newest clips is kept, so that a player that asks for one part after another does not cost that again. Footage that cannot be
//! read as MP4, and ranges for which an index would take too long, have no exact clip: they are given as whole segments.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use aigaq_proto::limits::DURATION_US_MAX;
use aigaq_proto::{Content as LinkContent, Digest, Sequence};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::footage::{self, Found, TimelineSegment};
use super::request::MediaFile;
use super::time::TimeRange;
use super::viewer::{Permit, Watch};
use crate::error::{Error, Kind, Result};
use crate::media::exact::Indexer;
use crate::store::Store;
use crate::store::engine::Direction;

/// Most segments of an exact clip: an hour.
const SEGMENTS_MAX: usize = 1_800;
/// Most payload that is read for one, bytes.
const BYTES_MAX: u64 = 1 << 30;
/// What making an index takes in memory at most, bytes: the samples of an hour, and one payload.
pub(super) const ROOM_BYTES: u64 = 64 << 20;
/// Segments before the range that are looked through for a key frame, and entries of the timeline for them.
const LEAD_MAX: usize = 32;
const LEAD_ENTRIES_MAX: usize = 256;
/// Indexes that are kept.
const KEPT_MAX: usize = 16;
/// Changes when the bytes of exact clips do.
const VERSION: &[u8] = b"exact clip 1\n";

/// An exact clip.
pub(super) struct Exact {
    /// What stands before the segments.
    pub(super) head: Bytes,
    /// The segments with their lengths, bytes.
    pub(super) segments: Vec<(Sequence, u64)>,
    /// What its entity tag is made of.
    pub(super) digest: Digest,
}

/// The newest indexes.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<VecDeque<Arc<Exact>>>>);

impl Kept {
    fn find(&self, digest: &Digest) -> Option<Arc<Exact>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|exact| exact.digest == *digest).map(Arc::clone)
    }

    fn keep(&self, exact: &Arc<Exact>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(KEPT_MAX - 1);
        kept.push_front(Arc::clone(exact));
    }
}

/// A segment that may be needed.
struct Candidate {
    found: Found,
    /// Whether it touches the range: then it must be whole.
    asked_for: bool,
}

/// The exact clip of `range`, which these segments of one recording touch; `None` if there is none. Blocks.
///
/// # Errors
/// [`Kind::NotFound`] when nothing begins within the range, [`Kind::Damaged`] when one of the segments is.
pub(super) fn of(
    store: &Store,
    kept: &Kept,
    permit: &Permit<Watch>,
    range: TimeRange,
    segments: &[TimelineSegment],
) -> Result<Option<Arc<Exact>>> {
    let bytes = segments.iter().map(|segment| u64::from(segment.bytes)).fold(0, u64::saturating_add);
    let Some(recording) = segments.first().map(|segment| segment.recording) else { return Ok(None) };
    if segments.len() > SEGMENTS_MAX || bytes > BYTES_MAX {
        return Ok(None);
    }
    let init = match footage::find(store, permit, MediaFile::Init(recording)) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        found => found?,
    };
    let Ok(mut indexer) = Indexer::new(init.payload(store)?) else { return Ok(None) };
    let candidates = candidates(store, permit, range, recording, segments)?;
    let mut hasher = Sha256::new_with_prefix(VERSION);
    hasher.update(range.from.to_be_bytes());
    hasher.update(range.to.to_be_bytes());
    hasher.update(init.header.payload_digest.0);
    candidates.iter().for_each(|one| hasher.update(one.found.header.payload_digest.0));
    let digest = Digest(hasher.finalize().into());
    if let Some(exact) = kept.find(&digest) {
        return Ok(Some(exact));
    }
    let mut pushed = Vec::with_capacity(candidates.len());
    for Candidate { found, asked_for } in candidates {
        let body = match found.payload(store) {
            Err(error) if !asked_for && matches!(error.kind(), Kind::Damaged | Kind::NotFound) => continue,
            body => body?,
        };
        if indexer.push(&body, found.header.captured_at).is_err() {
            return Ok(None);
        }
        pushed.push((found.header.sequence, body.len() as u64));
    }
    let Ok(head) = indexer.finish(range.from, range.to) else { return Ok(None) };
    let head = head.ok_or_else(|| Error::new(Kind::NotFound, "nothing that is shown begins in the range"))?;
    let segments = pushed.get(head.payloads).unwrap_or_default().to_vec();
    let exact = Arc::new(Exact { head: head.bytes, segments, digest });
    kept.keep(&exact);
    Ok(Some(exact))
}

/// The segments, with those before them that decoding needs and the one after them: sound does not end where pictures do.
fn candidates(
    store: &Store,
    permit: &Permit<Watch>,
    range: TimeRange,
    recording: Sequence,
    segments: &[TimelineSegment],
) -> Result<Vec<Candidate>> {
    let id = permit.id();
    let mut around = Vec::new();
    let begin = segments.iter().map(|segment| segment.captured_at).min().unwrap_or(range.from);
    let of_recording = |entry: crate::store::TimelineEntry| {
        TimelineSegment::of(&entry).filter(|segment| segment.recording == recording)
    };
    let asked = |sequence: Sequence| segments.iter().any(|segment| segment.sequence == sequence);
    for entry in store.timeline(id, 0..begin, Direction::Backward).take(LEAD_ENTRIES_MAX) {
        let Some(segment) = of_recording(entry?) else { continue };
        around.push(segment.sequence);
        if segment.independent || around.len() >= LEAD_MAX {
            break;
        }
    }
    let end = range.to.saturating_add(u64::from(DURATION_US_MAX));
    for entry in store.timeline(id, range.to..end, Direction::Forward).take(LEAD_ENTRIES_MAX) {
        if let Some(segment) = of_recording(entry?) {
            around.push(segment.sequence);
            break;
        }
    }
    let mut sequences: Vec<Sequence> = around.into_iter().filter(|sequence| !asked(*sequence)).collect();
    sequences.extend(segments.iter().map(|segment| segment.sequence));
    sequences.sort_unstable();
    let mut candidates = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        let found = footage::find(store, permit, MediaFile::Segment(sequence))?;
        if !matches!(found.header.content, LinkContent::Media { recording: of, .. } if of == recording) {
            return Err(Error::new(Kind::Damaged, "the timeline and a link do not agree"));
        }
        candidates.push(Candidate { found, asked_for: asked(sequence) });
    }
    Ok(candidates)
}
