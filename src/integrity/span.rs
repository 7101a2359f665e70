//! Which footage shows a thing: the media links that have a part in a span, and one digest over theirs.
//!
//! What is bound is what the device signed, so that a score can be held against footage years later, or against its links when the footage
//! is gone.

use std::ops::Range;

use aigaq_proto::{Digest, Micros, RecorderId, limits, link};

use crate::error::Result;
use crate::store::records::{SpanRecord, TimelineKind};
use crate::store::{Direction, Store};

/// Most links of a span: a day of segments of one second.
const LINKS_MAX: usize = 90_000;

/// Binds a span to the footage of a recorder; `None` if there is none.
///
/// # Errors
/// Those of the store.
pub fn bind(store: &Store, recorder: RecorderId, span: Range<Micros>) -> Result<Option<SpanRecord>> {
    let reach = u64::from(limits::DURATION_US_MAX);
    let mut sequences = Vec::new();
    for entry in store.timeline(recorder, span.start.saturating_sub(reach)..span.end, Direction::Forward) {
        let entry = entry?;
        let is_media = matches!(entry.record.kind, TimelineKind::Media { .. });
        let end = entry.captured_at.saturating_add(u64::from(entry.record.duration_us));
        if is_media && end > span.start {
            sequences.push(entry.sequence);
        }
        if sequences.len() > LINKS_MAX {
            break;
        }
    }
    sequences.sort_unstable();
    let (Some(first), Some(last)) = (sequences.first().copied(), sequences.last().copied()) else { return Ok(None) };
    let mut digests = Vec::with_capacity(sequences.len() * 32);
    for sequence in sequences {
        if let Some(link) = store.link(recorder, sequence)? {
            digests.extend(link::digest(&link.header).0);
        }
    }
    Ok(Some(SpanRecord { from: span.start, to: span.end, first, last, digest: Digest::of(&digests) }))
}
