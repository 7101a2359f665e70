//! Why sequences of a chain are missing: what its recorder announced, what it says is lost, what was refused, what this server lost.
//!
//! Every missing sequence has exactly one reason. What a signed `Lost` link says counts before what was announced, since it was said
//! later; what was announced counts before a refusal, since it may still come. What nothing explains stays unknown.

use std::collections::BTreeSet;

use aigaq_proto::link::LossCause;
use aigaq_proto::{LinkHeader, RecorderId, Sequence, SequenceRange};

use crate::error::Result;
use crate::fleet::Fleet;
use crate::store::Store;
use crate::store::records::{AnnouncementRecord, HeadRecord};

/// Losses of one recorder that are looked at; a recorder that has more is beyond explaining.
const LOSSES_MAX: usize = 10_000;

/// Why a sequence is missing; the more pressing reason is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It was refused, or is in quarantine.
    Rejected,
    /// The recorder says, signed, that it is lost.
    Lost(LossCause),
    /// The server had it, and was put back to an older copy.
    Forgotten,
    /// It was made after the recorder announced anything last.
    Pending,
    /// The recorder holds it.
    NotUploaded,
    /// Nothing says why.
    Unknown,
}

impl Why {
    fn weight(self) -> u8 {
        match self {
            Self::Rejected => 0,
            Self::Lost(_) => 1,
            Self::Forgotten => 2,
            Self::Pending => 3,
            Self::NotUploaded => 4,
            Self::Unknown => 5,
        }
    }
}

/// Missing sequences with one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The first.
    pub(super) first: Sequence,
    /// The last.
    pub(super) last: Sequence,
    /// Why.
    pub(super) why: Why,
}

/// What the server knows about a recorder that explains holes.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What it announced last.
    pub(super) announced: Option<AnnouncementRecord>,
    /// What it says is lost: by rising first sequence.
    pub(super) lost: Vec<(SequenceRange, LossCause)>,
    /// What was refused: rising.
    pub(super) rejected: Vec<SequenceRange>,
}

impl Known {
    /// Looks it up; blocks. What explains missing sequences is read only where some are missing.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn of(store: &Store, fleet: &Fleet, id: RecorderId, head: &HeadRecord) -> Result<Self> {
        let announced = fleet.announcement(id)?;
        if head.chain.gaps().is_empty() {
            return Ok(Self { announced, ..Self::default() });
        }
        let mut lost = Vec::new();
        for loss in store.losses(id).take(LOSSES_MAX) {
            let loss = loss?;
            lost.push((SequenceRange { first: loss.first, last: loss.record.last }, loss.record.cause));
        }
        let mut rejected = announced.as_ref().map_or_else(Vec::new, |announced| announced.refused.clone());
        if head.quarantined > 0 {
            for entry in store.quarantine(id) {
                let sequence = LinkHeader::sequence_of(&entry?.record.header);
                rejected.extend(sequence.map(|sequence| SequenceRange { first: sequence, last: sequence }));
            }
            rejected.sort_unstable_by_key(|range| (range.first, range.last));
        }
        Ok(Self { announced, lost, rejected })
    }

    /// The last sequence that the recorder had made when it announced; `None` if it never announced anything.
    fn up_to(&self) -> Option<Option<Sequence>> {
        self.announced.as_ref().map(|announced| announced.up_to)
    }
}

/// The missing sequences of a chain, in order, each with its reason.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    pieces: Vec<Piece>,
}

/// What is missing between two links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Between<'a> {
    /// In order; a piece that reaches beyond is not cut.
    pub(super) pieces: &'a [Piece],
    /// The most pressing reason, if anything is missing.
    pub(super) why: Option<Why>,
}

impl Gaps {
    /// Finds the reason of each.
    #[must_use]
    pub(super) fn explain(gaps: &[SequenceRange], known: &Known) -> Self {
        let mut pieces: Vec<Piece> =
            gaps.iter().map(|gap| Piece { first: gap.first, last: gap.last, why: Why::Unknown }).collect();
        if let Some(up_to) = known.up_to() {
            let first = up_to.map_or(0, |up_to| up_to.saturating_add(1));
            pieces = overlay(pieces, [(SequenceRange { first, last: Sequence::MAX }, Why::Pending)]);
        }
        pieces = overlay(pieces, known.rejected.iter().map(|range| (*range, Why::Rejected)));
        if let Some(announced) = &known.announced {
            pieces = overlay(pieces, announced.forgotten.iter().map(|range| (*range, Why::Forgotten)));
            pieces = overlay(pieces, announced.waiting.iter().map(|range| (*range, Why::NotUploaded)));
        }
        Self { pieces: overlay(pieces, known.lost.iter().map(|(range, cause)| (*range, Why::Lost(*cause)))) }
    }

    /// The same with links that are not there yet.
    #[must_use]
    pub(super) fn with_pending(mut self, sequences: &BTreeSet<Sequence>) -> Self {
        self.pieces.extend(sequences.iter().map(|at| Piece { first: *at, last: *at, why: Why::Pending }));
        if !sequences.is_empty() {
            self.pieces.sort_by_key(|piece| piece.first);
        }
        self
    }

    /// What is missing between two links of the chain.
    #[must_use]
    pub(super) fn between(&self, a: Sequence, b: Sequence) -> Between<'_> {
        let (low, high) = (a.min(b), a.max(b));
        let begin = self.pieces.partition_point(|piece| piece.last < low);
        let end = self.pieces.partition_point(|piece| piece.first <= high);
        let pieces = self.pieces.get(begin..end).unwrap_or_default();
        let mut why: Option<Why> = None;
        for piece in pieces {
            if why.is_none_or(|why| piece.why.weight() > why.weight()) {
                why = Some(piece.why);
            }
            if why == Some(Why::Unknown) {
                break;
            }
        }
        Between { pieces, why }
    }
}

/// Gives the parts of `pieces` that lie in `ranges` (by rising first sequence; where they overlap the earlier one counts) another reason.
fn overlay(pieces: Vec<Piece>, ranges: impl IntoIterator<Item = (SequenceRange, Why)>) -> Vec<Piece> {
    let mut ranges = ranges.into_iter().peekable();
    let mut found = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let mut next = Some(piece.first);
        while let Some(first) = next {
            while ranges.next_if(|(range, _)| range.last < first).is_some() {}
            let (last, why) = match ranges.peek() {
                Some((range, why)) if range.first <= first => (range.last.min(piece.last), *why),
                Some((range, _)) if range.first <= piece.last => (range.first.saturating_sub(1), piece.why),
                _ => (piece.last, piece.why),
            };
            found.push(Piece { first, last, why });
            next = last.checked_add(1).filter(|next| *next <= piece.last);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(first: u64, last: u64) -> SequenceRange {
        SequenceRange { first, last }
    }

    fn ranges() -> impl Strategy<Value = Vec<SequenceRange>> {
        prop::collection::vec((0_u64..60, 0_u64..6), 0..8).prop_map(|mut all| {
            all.sort_unstable();
            all.into_iter().map(|(first, length)| range(first, first + length)).collect()
        })
    }

    fn disjoint(all: Vec<SequenceRange>) -> Vec<SequenceRange> {
        let mut next = 0;
        let after = |range: &SequenceRange| {
            let is_after = range.first >= next;
            if is_after {
                next = range.last + 1;
            }
            is_after
        };
        all.into_iter().filter(after).collect()
    }

    proptest! {
        #[test]
        fn each_missing_sequence_has_the_reason_that_a_model_gives_it(
            gaps in ranges(), lost in ranges(), waiting in ranges(), rejected in ranges(),
            up_to in prop::option::of(0_u64..70), announced: bool,
        ) {
            let (gaps, waiting) = (disjoint(gaps), disjoint(waiting));
            let known = Known {
                announced: announced.then(|| AnnouncementRecord { waiting: waiting.clone(), up_to, ..Default::default() }),
                lost: lost.iter().map(|range| (*range, LossCause::Restored)).collect(),
                rejected: rejected.clone(),
            };
            let explained = Gaps::explain(&gaps, &known);
            let within = |all: &[SequenceRange], at: u64| all.iter().any(|range| range.first <= at && at <= range.last);
            let mut model = Vec::new();
            for at in (0..80).filter(|at| within(&gaps, *at)) {
                model.push((at, if within(&lost, at) {
                    Why::Lost(LossCause::Restored)
                } else if announced && within(&waiting, at) {
                    Why::NotUploaded
                } else if within(&rejected, at) {
                    Why::Rejected
                } else if announced && up_to.is_none_or(|up_to| at > up_to) {
                    Why::Pending
                } else {
                    Why::Unknown
                }));
            }
            let each = |piece: &Piece| (piece.first..=piece.last).map(|at| (at, piece.why)).collect::<Vec<_>>();
            prop_assert_eq!(explained.pieces.iter().flat_map(each).collect::<Vec<_>>(), model);
        }
    }

    #[test]
    fn the_most_pressing_reason_is_that_of_the_hole() {
        let known = Known {
            announced: Some(AnnouncementRecord { waiting: vec![range(4, 4)], up_to: Some(20), ..Default::default() }),
            lost: vec![(range(5, 6), LossCause::StorageFull)],
            rejected: vec![range(7, 7)],
        };
        let gaps = Gaps::explain(&[range(4, 7), range(9, 9)], &known);
        assert_eq!(gaps.between(3, 8).why, Some(Why::NotUploaded));
        assert_eq!(gaps.between(3, 10).why, Some(Why::Unknown));
        assert_eq!(gaps.between(10, 11).why, None);
        let lost = Gaps::explain(&[range(5, 7)], &known);
        assert_eq!(lost.between(8, 4).why, Some(Why::Lost(LossCause::StorageFull)));
    }
}
