//! What a server that was put back to an older copy lost of a recorder: worked out when the recorder shows a receipt that the copy does not
//! have, from what both knew before.
//!
//! A recorder lets a link go only with its receipt, or says in a signed link that it is lost. So what it had made when the copy was
//! taken or made since, holds no more, and this server does not have, was receipted in between. It is asked to send what it holds like
//! everything that is not durable; the rest is told in coverage as what it is.
//!
//! Receipts come in any order, so that links above the one that was shown may be lost too, and where nothing waits nobody knows how many there are.
//! The first link that comes from behind them says it: the recorder made it later, and whatever it made before and holds no more was receipted.

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

    /// The recorder of a seat is here again, and these of its sequences are durable: what it lost ends where the first link begins that came
    /// after the restore. Durable on return. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn forgot_up_to(&self, seat: &Seat, durable: &[SequenceRange]) -> Result<()> {
        let (live, store) = (seat.live(), &self.shared.store);
        let record = live.record();
        let Some((gone, next)) = open_end(&record, durable) else { return Ok(()) };
        let Some(restored) = store.restored()? else { return Ok(()) };
        // A hole that the copy had already is another one.
        if store.link(live.recorder(), next)?.is_some_and(|link| link.log_index >= restored.log_size) {
            live.forget_more(&gone);
            live.write(store, self.shared.clock.now())?;
        }
        Ok(())
    }
}

/// What lies between the last link that is known to be lost and the next one, which is durable: nothing of it waits or was refused.
fn open_end(record: &AnnouncementRecord, durable: &[SequenceRange]) -> Option<(Vec<SequenceRange>, Sequence)> {
    let first = record.forgotten.last()?.last.saturating_add(1);
    let after =
        |ranges: &[SequenceRange]| ranges.iter().find(|range| range.last >= first).map(|range| range.first.max(first));
    let next = after(durable)?;
    // A list at its limit is cut short: what comes after it may wait as well.
    if record.waiting.len() >= RANGES_MAX || after(&record.waiting).is_some_and(|waits| waits < next) {
        return None;
    }
    let gone =
        without(&[SequenceRange { first, last: next.checked_sub(1).filter(|last| *last >= first)? }], &record.refused);
    (!gone.is_empty()).then_some((gone, next))
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
        let record = |forgotten, waiting: &[SequenceRange], refused: &[SequenceRange]| AnnouncementRecord {
            forgotten,
            waiting: waiting.to_vec(),
            refused: refused.to_vec(),
            ..AnnouncementRecord::default()
        };
        // 20 came since; 18 was refused; while 19 waits nothing is known.
        let known = [range(0, 9), range(20, 22)];
        let open = record(vec![range(10, 16)], &[], &[range(18, 18)]);
        assert_eq!(open_end(&open, &known), Some((vec![range(17, 17), range(19, 19)], 20)));
        assert_eq!(open_end(&record(vec![range(10, 16)], &[range(19, 19)], &[]), &known), None);
        assert_eq!(open_end(&record(vec![range(10, 19)], &[], &[]), &known), None);
        assert_eq!(open_end(&record(vec![range(10, 16)], &[], &[]), &known[..1]), None);
        assert_eq!(open_end(&record(vec![], &[], &[]), &known), None);
        assert_eq!(joined(vec![range(5, 9), range(0, 4), range(8, 12), range(20, 20)]), [range(0, 12), range(20, 20)]);
    }
}
