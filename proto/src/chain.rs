//! The step of a chain: what one more link means for what is already known (SPEC.md section 4.3). Pure: no I/O, no clock.
//!
//! A [`Chain`] is the sorted list of the runs that are known. A run is a stretch of links each of which names the digest of
//! the one before it. The run that begins at sequence 0 ends in the *head*; every other run is an *island*. Two runs with
//! sequences missing between them enclose a *gap*; two that touch and do not agree enclose a *break*. The state depends
//! only on which links were taken, never on the order of their arrival.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::limits::{RUNS_MAX, SEQUENCE_AHEAD_MAX, SEQUENCE_MAX};
use crate::message::ChainEnd;
use crate::{Digest, Sequence, SequenceRange};

/// What of a link matters for the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joint {
    /// The link's sequence.
    pub sequence: Sequence,
    /// Digest of its predecessor, as it says.
    pub previous: Digest,
    /// Its own digest.
    pub digest: Digest,
}

/// Links each of which names the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Sequence of the first link.
    pub first: Sequence,
    /// What the first link says of its predecessor.
    pub previous: Digest,
    /// Sequence of the last link.
    pub last: Sequence,
    /// Digest of the last link.
    pub digest: Digest,
}

/// All that is known of one recorder's chain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Chain {
    runs: Vec<Run>,
}

/// What a link does to a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A new sequence, to be taken with [`Chain::insert`].
    New,
    /// The sequence is already taken: the same digest is a duplicate, another one a fork.
    Known,
    /// The sequence is too far beyond the chain, or one more run would be too many: send from this sequence first.
    TooFar {
        /// The first sequence that is missing.
        resend_from: Sequence,
    },
}

/// Two runs that touch while the later one names another predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Break {
    /// The first sequence after the break.
    pub sequence: Sequence,
    /// Digest of the link before it.
    pub expected: Digest,
    /// What the link after it says of its predecessor.
    pub found: Digest,
}

impl Chain {
    /// The last link of the contiguous, verified prefix.
    #[must_use]
    pub fn head(&self) -> Option<ChainEnd> {
        self.runs.first().filter(|run| run.first == 0).map(|run| ChainEnd { sequence: run.last, digest: run.digest })
    }

    /// The link with the greatest sequence.
    #[must_use]
    pub fn newest(&self) -> Option<ChainEnd> {
        self.runs.last().map(|run| ChainEnd { sequence: run.last, digest: run.digest })
    }

    /// The runs, in order of sequence.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The sequences that are known, neighbouring runs joined.
    #[must_use]
    pub fn known(&self) -> Vec<SequenceRange> {
        let mut ranges: Vec<SequenceRange> = Vec::new();
        for run in &self.runs {
            match ranges.last_mut() {
                Some(range) if range.last.checked_add(1) == Some(run.first) => range.last = run.last,
                _ => ranges.push(SequenceRange { first: run.first, last: run.last }),
            }
        }
        ranges
    }

    /// The sequences missing before the greatest known one.
    #[must_use]
    pub fn gaps(&self) -> Vec<SequenceRange> {
        let mut next = 0;
        let mut gaps = Vec::new();
        for run in &self.runs {
            if run.first > next {
                gaps.push(SequenceRange { first: next, last: run.first.saturating_sub(1) });
            }
            next = run.last.saturating_add(1);
        }
        gaps
    }

    /// The places where neighbours do not agree.
    #[must_use]
    pub fn breaks(&self) -> Vec<Break> {
        self.runs
            .windows(2)
            .filter_map(|pair| match pair {
                [a, b] if a.last.checked_add(1) == Some(b.first) => {
                    Some(Break { sequence: b.first, expected: a.digest, found: b.previous })
                }
                _ => None,
            })
            .collect()
    }

    /// The first sequence that is missing.
    #[must_use]
    pub fn first_missing(&self) -> Sequence {
        let mut next = 0;
        for run in &self.runs {
            if run.first != next {
                break;
            }
            next = run.last.saturating_add(1);
        }
        next
    }

    /// What a link with this sequence would do, before more of it is known. Changes nothing. [`Chain::admit`] decides.
    #[must_use]
    pub fn step(&self, sequence: Sequence) -> Step {
        let place = self.place(sequence);
        self.decide(&place, sequence, place.touches_before() || place.touches_next())
    }

    /// What this link would do. Changes nothing. Stricter than [`Chain::step`] when there are `RUNS_MAX` runs: then only
    /// a link that agrees with a neighbour is new, so that a recorder whose links never agree cannot make runs for ever.
    #[must_use]
    pub fn admit(&self, joint: &Joint) -> Step {
        let place = self.place(joint.sequence);
        self.decide(&place, joint.sequence, place.joins_before(joint) || place.joins_next(joint))
    }

    /// Takes a link for which [`Chain::admit`] says [`Step::New`], and joins the runs that it connects. A link whose
    /// sequence is known changes nothing.
    pub fn insert(&mut self, joint: Joint) {
        debug_assert_eq!(self.admit(&joint), Step::New, "insert takes only links that are new");
        let place = self.place(joint.sequence);
        if place.known {
            return;
        }
        let mut run =
            Run { first: joint.sequence, previous: joint.previous, last: joint.sequence, digest: joint.digest };
        let mut taken = place.after..place.after;
        if let Some(before) = place.before.filter(|_| place.joins_before(&joint)) {
            run.first = before.first;
            run.previous = before.previous;
            taken.start = taken.start.saturating_sub(1);
        }
        if let Some(next) = place.next.filter(|_| place.joins_next(&joint)) {
            run.last = next.last;
            run.digest = next.digest;
            taken.end = taken.end.saturating_add(1);
        }
        self.runs.splice(taken, [run]);
    }

    fn decide(&self, place: &Place, sequence: Sequence, joins: bool) -> Step {
        if place.known {
            return Step::Known;
        }
        let newest = self.runs.last().map_or(0, |run| run.last);
        let too_far = sequence > SEQUENCE_MAX || sequence.saturating_sub(newest) > SEQUENCE_AHEAD_MAX;
        if too_far || (self.runs.len() >= RUNS_MAX && !joins) {
            return Step::TooFar { resend_from: self.first_missing() };
        }
        Step::New
    }

    fn place(&self, sequence: Sequence) -> Place {
        let after = self.runs.partition_point(|run| run.first <= sequence);
        let before = after.checked_sub(1).and_then(|index| self.runs.get(index)).copied();
        let known = before.is_some_and(|run| sequence <= run.last);
        Place { sequence, after, before, next: self.runs.get(after).copied(), known }
    }
}

/// Where a sequence belongs among the runs.
struct Place {
    sequence: Sequence,
    /// Index of the first run that begins after it.
    after: usize,
    /// The run that begins at or before it.
    before: Option<Run>,
    /// The run that begins after it.
    next: Option<Run>,
    /// Whether `before` contains it.
    known: bool,
}

impl Place {
    fn touches_before(&self) -> bool {
        self.before.is_some_and(|run| run.last.checked_add(1) == Some(self.sequence))
    }

    fn touches_next(&self) -> bool {
        self.next.is_some_and(|run| self.sequence.checked_add(1) == Some(run.first))
    }

    fn joins_before(&self, joint: &Joint) -> bool {
        self.touches_before() && self.before.is_some_and(|run| run.digest == joint.previous)
    }

    fn joins_next(&self, joint: &Joint) -> bool {
        self.touches_next() && self.next.is_some_and(|run| run.previous == joint.digest)
    }
}
