//! Which footage shows a thing: the media links that have a part in a span, and one digest over theirs.
//!
//! What is bound is what the device signed, so that a score can be held against footage years later, or against its links when the footage
//! is gone.

use std::ops::Range;

use aigaq_proto::{Digest, Micros, RecorderId, limits, link};

use crate::error::{Error, Kind, Result};
use crate::store::records::{SpanRecord, TimelineKind};
use crate::store::{Direction, Store};

/// Most links of a span: a day of segments of one second.
const LINKS_MAX: usize = 90_000;

/// Binds a span to the footage of a recorder; `None` if there is none.
///
/// # Errors
/// [`Kind::Invalid`] for a span of more links than one may have, and those of the store.
pub fn bind(store: &Store, recorder: RecorderId, span: Range<Micros>) -> Result<Option<SpanRecord>> {
    bind_to(store, recorder, span, LINKS_MAX)
}

fn bind_to(store: &Store, recorder: RecorderId, span: Range<Micros>, links_max: usize) -> Result<Option<SpanRecord>> {
    let reach = u64::from(limits::DURATION_US_MAX);
    let mut sequences = Vec::new();
    for entry in store.timeline(recorder, span.start.saturating_sub(reach)..span.end, Direction::Forward) {
        let entry = entry?;
        let is_media = matches!(entry.record.kind, TimelineKind::Media { .. });
        let end = entry.captured_at.saturating_add(u64::from(entry.record.duration_us));
        if is_media && end > span.start {
            sequences.push(entry.sequence);
        }
        if sequences.len() > links_max {
            let text = format!("the footage of one criterion has at most {links_max} links: choose a shorter span");
            return Err(Error::new(Kind::Invalid, text));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::memory::Memory;
    use crate::store::engine::{Batch, Engine as _, Family};
    use crate::store::keys;
    use crate::store::records::{self, TimelineRecord};

    #[test]
    fn a_span_of_more_links_than_one_may_have_is_refused_and_not_bound_in_part() {
        let (engine, recorder) = (Memory::default(), RecorderId([7; 16]));
        let mut batch = Batch::default();
        for sequence in 1..=3 {
            let kind = TimelineKind::Media { recording: 1, ordinal: 1, bytes: 1, independent: true };
            let record = TimelineRecord { duration_us: 1_000_000, kind };
            let key = keys::timeline(recorder, sequence * 1_000_000, sequence);
            batch.put(Family::Timeline, key, records::encode(&record).unwrap());
        }
        engine.commit(&[], &batch).unwrap();
        let store = Store::with_engine(std::sync::Arc::new(engine)).unwrap();
        let bound = |links_max| bind_to(&store, recorder, 0..5_000_000, links_max);
        let whole = bound(3).unwrap().unwrap();
        assert_eq!((whole.first, whole.last), (1, 3));
        assert_eq!(bound(2).unwrap_err().kind(), Kind::Invalid);
    }
}
