//! Which links left the spool without a receipt, so that nothing that they came from is removed.
//!
//! Bounded: of very many stretches the newest are known, and everything before them counts as missing.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use aigaq_proto::{Sequence, SequenceRange};

/// Greatest number of stretches that are known.
const STRETCHES_MAX: usize = 4_096;

/// Links that left without a receipt.
#[derive(Debug, Default)]
pub(super) struct Missing(Mutex<Stretches>);

#[derive(Debug, Default)]
struct Stretches {
    known: VecDeque<SequenceRange>,
    /// Links below this count as missing.
    before: Sequence,
}

impl Missing {
    /// These left without a receipt.
    pub(super) fn add(&self, links: SequenceRange) {
        let mut stretches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match stretches.known.back_mut() {
            Some(last) if last.last.checked_add(1) == Some(links.first) => last.last = links.last,
            _ => stretches.known.push_back(links),
        }
        if stretches.known.len() > STRETCHES_MAX
            && let Some(oldest) = stretches.known.pop_front()
        {
            stretches.before = stretches.before.max(oldest.last.saturating_add(1));
        }
    }

    /// Whether any of these did.
    pub(super) fn has_any(&self, links: &Range<Sequence>) -> bool {
        let stretches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let touches = |range: &SequenceRange| range.first < links.end && range.last >= links.start;
        !links.is_empty() && (links.start < stretches.before || stretches.known.iter().any(touches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_left_without_a_receipt_is_missing_from_what_it_belongs_to() {
        let missing = Missing::default();
        [(3, 3), (4, 4), (9, 12)]
            .iter()
            .for_each(|(first, last)| missing.add(SequenceRange { first: *first, last: *last }));
        let has = |links: Range<Sequence>| missing.has_any(&links);
        assert_eq!(
            [has(0..3), has(0..4), has(4..5), has(5..9), has(5..10), has(12..40), has(13..40)],
            [false, true, true, false, true, true, false]
        );
        assert!(!has(4..4), "of nothing, nothing is missing");
    }

    #[test]
    fn of_very_many_the_oldest_are_taken_as_missing_and_never_as_received() {
        let missing = Missing::default();
        (0..5_000).for_each(|number| missing.add(SequenceRange { first: number * 2, last: number * 2 }));
        assert!(missing.has_any(&(1..2)) && !missing.has_any(&(9_997..9_998)) && missing.has_any(&(9_998..9_999)));
    }
}
