//! Where a chain goes on, so that no sequence is ever used twice (SPEC.md section 11.3). Pure.
//!
//! A recorder whose state proves to be its own goes on from it at once. One that has lost its state, or holds a copy of it,
//! does not know what it sent since; it waits for the server's first word and goes on after everything that either has heard
//! of. What neither has is named by `Lost` links.

use aigaq_proto::limits::{RANGES_MAX, SEQUENCE_MAX};
use aigaq_proto::message::ChainEnd;
use aigaq_proto::{Digest, Micros, Sequence, SequenceRange};

use super::links::ChainState;
use super::spool::{Last, Vanished, holes};
use super::state::Place;
use super::uplink::Greeting;
use crate::error::{Error, Kind, Result};

/// The most `Lost` links that one restore makes.
const LOST_MAX: usize = 256;

/// What a recorder remembers of its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Memory {
    /// The greatest sequence that it knows to be used.
    last: Option<Sequence>,
    /// The newest link of which it knows the digest.
    end: Option<ChainEnd>,
    /// Number of the next segment, as far as it knows.
    ordinal: u64,
    /// Device clock at the end of the newest segment that it knows.
    captured: Micros,
    /// Where it may go on at once.
    own: Option<ChainState>,
}

/// How a chain goes on after a greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resumed {
    pub(super) standing: ChainState,
    /// What is gone, by rising sequence.
    pub(super) lost: Vec<SequenceRange>,
}

impl Memory {
    /// What the newest file of the spool says, or else the place that an older version of the recorder wrote down.
    pub(super) fn of(last: Last, older: Option<Place>) -> Self {
        match last {
            Last::Known { end, after, own } => {
                let place =
                    Place { sequence: end.sequence.saturating_add(1), previous: end.digest, ordinal: after.ordinal };
                let standing = ChainState { place, recording: after.recording, end: after.end, settled: true };
                Self {
                    last: Some(end.sequence),
                    end: Some(end),
                    ordinal: after.ordinal,
                    captured: after.end,
                    own: own.then_some(standing),
                }
            }
            Last::Unreadable { sequence, before } => Self { last: Some(sequence), end: before, ..Self::default() },
            Last::Nothing => {
                let Some(place) = older else { return Self::default() };
                let end = place.sequence.checked_sub(1).map(|sequence| ChainEnd { sequence, digest: place.previous });
                Self { last: end.map(|end| end.sequence), end, ordinal: place.ordinal, ..Self::default() }
            }
        }
    }

    /// Where it may go on at once, if its state is its own.
    pub(super) fn own(&self) -> Option<ChainState> {
        self.own
    }

    /// Device clock at the end of the newest segment that it knows.
    pub(super) fn captured(&self) -> Micros {
        self.captured
    }

    /// Where it goes on after the server has said what it knows; `held` is what the recorder still has, by rising sequence.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if the chain is at the end of the sequences.
    pub(super) fn resume(&self, greeting: &Greeting, held: &[SequenceRange]) -> Result<Resumed> {
        let newest = greeting.newest.map(|end| end.sequence);
        let Some(greatest) = self.last.max(newest).max(greeting.reserved) else {
            let place = Place { sequence: 0, previous: Digest::ZERO, ordinal: 0 };
            return Ok(Resumed { standing: settled(place, self.captured), lost: Vec::new() });
        };
        let sequence = greatest.checked_add(1).filter(|sequence| *sequence <= SEQUENCE_MAX);
        let sequence = sequence.ok_or_else(|| Error::new(Kind::Invalid, "the chain is full"))?;
        let known = [greeting.newest, self.end].into_iter().flatten().max_by_key(|end| end.sequence);
        // Of a chain of which nobody has any link, no digest is known: any but zero will do.
        let previous = known.map_or(Digest::EMPTY, |end| end.digest);
        let ordinal =
            if Some(greatest) == self.last && self.own.is_some() { self.ordinal } else { self.ordinal.max(sequence) };
        let place = Place { sequence, previous, ordinal };
        Ok(Resumed { standing: settled(place, self.captured), lost: missing(greatest, greeting, held) })
    }
}

fn settled(place: Place, end: Micros) -> ChainState {
    ChainState { place, recording: None, end, settled: true }
}

/// What the server has, or may have: of a chain with more holes than a greeting holds, all after the last that it names.
fn durable(greeting: &Greeting) -> Vec<SequenceRange> {
    let newest = greeting.newest.map(|end| end.sequence);
    let mut durable = greeting.durable.clone();
    if let (true, Some(last), Some(newest)) = (durable.len() >= RANGES_MAX, greeting.durable.last(), newest) {
        durable.push(SequenceRange { first: last.last, last: newest.max(last.last) });
    }
    durable
}

/// What of these the server does not have either, the newest of very many.
pub(super) fn gone(vanished: &[Vanished], greeting: &Greeting) -> Vec<Vanished> {
    let durable = durable(greeting);
    let mut gone = Vec::new();
    for Vanished { links, span } in vanished {
        let mut there = durable.clone();
        there.extend(links.first.checked_sub(1).map(|last| SequenceRange { first: 0, last }));
        gone.extend(holes(there, links.last).into_iter().map(|links| Vanished { links, span: *span }));
    }
    let surplus = gone.len().saturating_sub(LOST_MAX);
    gone.drain(..surplus);
    gone
}

/// The sequences up to `greatest` that neither the server nor the recorder has.
fn missing(greatest: Sequence, greeting: &Greeting, held: &[SequenceRange]) -> Vec<SequenceRange> {
    let mut there = durable(greeting);
    there.extend(held);
    let mut missing = holes(there, greatest);
    let surplus = missing.len().saturating_sub(LOST_MAX);
    missing.drain(..surplus);
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::spool::After;

    fn end(sequence: Sequence, digest: u8) -> ChainEnd {
        ChainEnd { sequence, digest: Digest([digest; 32]) }
    }

    fn range(first: Sequence, last: Sequence) -> SequenceRange {
        SequenceRange { first, last }
    }

    fn greeting(newest: Option<ChainEnd>, reserved: Option<Sequence>, durable: &[SequenceRange]) -> Greeting {
        Greeting { newest, reserved, durable: durable.to_vec(), payload_bytes_max: 1 }
    }

    fn known(own: bool) -> Memory {
        let after = After { ordinal: 5, recording: Some(0), end: 99, settled: true };
        Memory::of(Last::Known { end: end(6, 1), after, own }, None)
    }

    fn place(sequence: Sequence, digest: u8, ordinal: u64) -> Place {
        Place { sequence, previous: Digest([digest; 32]), ordinal }
    }

    fn resumed(memory: Memory, greeting: &Greeting, held: &[SequenceRange]) -> (Place, Vec<SequenceRange>) {
        let resumed = memory.resume(greeting, held).unwrap();
        (resumed.standing.place, resumed.lost)
    }

    #[test]
    fn a_new_recorder_begins_at_zero_and_one_with_its_own_state_at_once() {
        assert_eq!(Memory::default().own(), None);
        assert_eq!(resumed(Memory::default(), &greeting(None, None, &[]), &[]), (place(0, 0, 0), vec![]));
        let own = known(true).own().unwrap();
        assert_eq!((own.place, own.recording, own.end), (place(7, 1, 5), Some(0), 99));
        assert_eq!(known(false).own(), None);
    }

    #[test]
    fn a_recorder_whose_state_is_lost_or_old_goes_on_after_all_that_anybody_heard_of() {
        let newest = greeting(Some(end(9, 9)), Some(9), &[range(0, 9)]);
        assert_eq!(resumed(Memory::default(), &newest, &[]), (place(10, 9, 10), vec![]));
        assert_eq!(resumed(known(false), &newest, &[]), (place(10, 9, 10), vec![]));
        let reserved = greeting(Some(end(9, 9)), Some(14), &[range(0, 9)]);
        assert_eq!(resumed(known(false), &reserved, &[]), (place(15, 9, 15), vec![range(10, 14)]));
        let behind = greeting(Some(end(3, 9)), Some(4), &[range(0, 3)]);
        assert_eq!(resumed(known(false), &behind, &[range(4, 6)]), (place(7, 1, 7), vec![]));
        assert_eq!(resumed(known(false), &greeting(None, Some(2), &[]), &[range(1, 6)]).1, [range(0, 0)]);
    }

    #[test]
    fn every_hole_that_is_left_is_named() {
        let holes = greeting(Some(end(9, 9)), Some(12), &[range(0, 1), range(4, 4), range(8, 9)]);
        let lost = resumed(known(false), &holes, &[range(6, 6)]).1;
        assert_eq!(lost, [range(2, 3), range(5, 5), range(7, 7), range(10, 12)]);
        let durable: Vec<_> = (0..1024).map(|index| range(index * 2, index * 2)).collect();
        let many = greeting(Some(end(5000, 9)), Some(5003), &durable);
        let lost = resumed(Memory::default(), &many, &[]).1;
        assert_eq!((lost.len(), lost.last()), (LOST_MAX, Some(&range(5001, 5003))));
    }

    #[test]
    fn of_what_vanished_here_only_what_the_server_does_not_have_is_gone() {
        let vanished = |first, last| Vanished { links: range(first, last), span: (first, last) };
        let greeting = greeting(Some(end(9, 9)), Some(9), &[range(0, 3), range(5, 6), range(9, 9)]);
        let expected = [
            Vanished { links: range(4, 4), span: (2, 5) },
            Vanished { links: range(7, 8), span: (7, 9) },
            Vanished { links: range(20, 21), span: (20, 21) },
        ];
        assert_eq!(gone(&[vanished(2, 5), vanished(7, 9), vanished(20, 21)], &greeting), expected);
    }

    #[test]
    fn the_place_that_an_older_version_wrote_is_not_gone_on_from_before_the_server_was_asked() {
        let older = Memory::of(Last::Nothing, Some(place(7, 1, 5)));
        assert_eq!(older.own(), None);
        assert_eq!(resumed(older, &greeting(Some(end(5, 9)), Some(6), &[range(0, 5)]), &[]).0, place(7, 1, 7));
        assert_eq!(Memory::of(Last::Nothing, Some(place(0, 0, 0))), Memory::default());
    }

    #[test]
    fn a_newest_link_that_does_not_read_keeps_its_sequence() {
        let memory = Memory::of(Last::Unreadable { sequence: 6, before: Some(end(5, 2)) }, None);
        assert_eq!(memory.own(), None);
        assert_eq!(
            resumed(memory, &greeting(Some(end(4, 9)), Some(5), &[range(0, 4)]), &[range(5, 6)]).0,
            place(7, 2, 7)
        );
        assert_eq!(resumed(memory, &greeting(Some(end(6, 9)), Some(6), &[range(0, 6)]), &[]).0, place(7, 9, 7));
        let nothing = Memory::of(Last::Unreadable { sequence: 0, before: None }, None);
        let place = resumed(nothing, &greeting(None, None, &[]), &[range(0, 0)]).0;
        assert_eq!((place.sequence, place.previous), (1, Digest::EMPTY));
    }

    #[test]
    fn a_chain_at_the_end_of_the_sequences_goes_no_further() {
        assert!(known(false).resume(&greeting(Some(end(SEQUENCE_MAX, 9)), None, &[]), &[]).is_err());
    }
}
