//! What a server that was put back to an older copy lost of a recorder: worked out when the recorder shows a receipt that the copy does not
//! have, from what both knew before.
//!
//! A recorder lets a link go only with its receipt, or says in a signed link that it is lost. So what it had made when the copy was
//! taken or made since, holds no more, and this server does not have, was receipted in between. It is asked to send what it holds like
//! everything that is not durable; the rest is told in coverage as what it is.

use aigaq_proto::limits::RANGES_MAX;
use aigaq_proto::{Sequence, SequenceRange};

use super::{Fleet, Seat};
use crate::error::Result;
use crate::store::records::AnnouncementRecord;

/// A receipt that shows that something was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Its link.
    pub sequence: Sequence,
    /// Its place in the log that gave it.
    pub log_index: u64,
}

impl Fleet {
    /// The recorder of a seat has shown that links of it were lost. `before` is what was known of it before it said hello, `newest` the
    /// greatest of its sequences that is durable. Whether this receipt shows it for the first time; it is durable then. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn forgot(
        &self,
        seat: &Seat,
        before: Option<&AnnouncementRecord>,
        newest: Option<Sequence>,
        shown: Shown,
    ) -> Result<bool> {
        let was = before.map_or(&[][..], |before| &before.waiting);
        let live = seat.live();
        let now = live.record().waiting;
        if !live.forget(&forgotten(was, &now, newest, shown.sequence), shown.log_index) {
            return Ok(false);
        }
        live.write(&self.shared.store, self.shared.clock.now())?;
        Ok(true)
    }
}

/// What waited when the copy was taken or was made since, and waits no more.
fn forgotten(
    was: &[SequenceRange],
    now: &[SequenceRange],
    newest: Option<Sequence>,
    shown: Sequence,
) -> Vec<SequenceRange> {
    let last = |ranges: &[SequenceRange]| ranges.last().map(|range| range.last);
    let first = newest.map_or(0, |newest| newest.saturating_add(1));
    let last = shown.max(last(was).unwrap_or(0)).max(last(now).unwrap_or(0));
    let mut all = was.to_vec();
    if first <= last {
        all.push(SequenceRange { first, last });
    }
    without(&joined(all), now)
}

/// Rising ranges that hold the same sequences; those that touch are one.
pub(super) fn joined(mut all: Vec<SequenceRange>) -> Vec<SequenceRange> {
    all.sort_unstable_by_key(|range| range.first);
    let mut joined: Vec<SequenceRange> = Vec::new();
    for range in all {
        match joined.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => last.last = last.last.max(range.last),
            _ => joined.push(range),
        }
    }
    let surplus = joined.len().saturating_sub(RANGES_MAX);
    joined.drain(..surplus);
    joined
}

/// Rising ranges without what is in other rising ranges.
fn without(all: &[SequenceRange], others: &[SequenceRange]) -> Vec<SequenceRange> {
    let mut left = Vec::new();
    for range in all {
        let mut first = range.first;
        for other in others.iter().filter(|other| other.first <= range.last && other.last >= range.first) {
            if other.first > first {
                left.push(SequenceRange { first, last: other.first - 1 });
            }
            first = first.max(other.last.saturating_add(1));
        }
        if first <= range.last {
            left.push(SequenceRange { first, last: range.last });
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> SequenceRange {
        SequenceRange { first, last }
    }

    #[test]
    fn what_waited_or_was_made_since_and_waits_no_more_is_forgotten() {
        // The copy has 0 to 9; 4 to 6 waited then, 10 to 20 were made since, 5 and 18 to 19 wait still.
        let gone = forgotten(&[range(4, 6)], &[range(5, 5), range(18, 19)], Some(9), 17);
        assert_eq!(gone, [range(4, 4), range(6, 6), range(10, 17)]);
        assert_eq!(forgotten(&[], &[], None, 3), [range(0, 3)]);
        assert_eq!(forgotten(&[], &[range(8, 9)], Some(7), 7), []);
        assert_eq!(joined(vec![range(5, 9), range(0, 4), range(8, 12), range(20, 20)]), [range(0, 12), range(20, 20)]);
    }
}
