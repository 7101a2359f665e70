//! The feed: what happens, in the order in which it became durable, for those who watch and come back to where they were.
//!
//! Things are numbered from 1 without gaps. The newest [`KEPT`] of them lie in a ring of slots, each in that of its number, so that the
//! feed never grows beyond it and nothing has to be removed; whoever stayed away for longer is told what is gone. What a commit brings
//! (marks, forks, quarantine) is part of its batch: it is in the feed exactly if it is durable. Nothing here is evidence: chain, trail
//! and log have all of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aigaq_proto::{Micros, RecorderId};
use tokio::sync::watch;

use super::engine::{Batch, Family};
use super::records::{self, FeedRecord, Occurrence};
use super::{Store, keys};
use crate::error::Result;

/// How many things the feed keeps: of a fleet of ten thousand whose recorders come and go ten times a day each, five days.
pub const KEPT: u64 = 1 << 20;

/// A thing on its way into the feed.
pub type Happening = (Micros, Option<RecorderId>, Occurrence);

/// What is known of the feed in memory.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// The last number; held while things are written.
    last: Mutex<u64>,
    /// The same, for those who wait for the next.
    written: watch::Sender<u64>,
}

impl Feed {
    fn last(&self) -> MutexGuard<'_, u64> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers that a batch will bring. While it lives nobody else takes one.
pub(super) struct Numbered<'a> {
    feed: &'a Feed,
    last: MutexGuard<'a, u64>,
    number: u64,
}

impl Numbered<'_> {
    /// The batch is durable.
    pub(super) fn written(mut self) {
        *self.last = self.number;
        self.feed.written.send_replace(self.number);
    }
}

/// A part of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPage {
    /// What happened, by number.
    pub records: Vec<FeedRecord>,
    /// Whether things are gone between what was asked for and the first of the records.
    pub missed: bool,
    /// Where the next page begins.
    pub next: u64,
}

impl Store {
    /// Makes things that happened durable, with one sync; at once if there are none.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn happen(&self, things: &[Happening]) -> Result<()> {
        let mut batch = Batch::default();
        let Some(numbered) = self.number(things, &mut batch)? else { return Ok(()) };
        self.engine().commit(&[], &batch)?;
        numbered.written();
        Ok(())
    }

    /// Numbers things and puts them into a batch; `None` for none.
    pub(super) fn number<'a>(&'a self, things: &[Happening], batch: &mut Batch) -> Result<Option<Numbered<'a>>> {
        if things.is_empty() {
            return Ok(None);
        }
        let feed = &self.inner.feed;
        let last = feed.last();
        let mut number = *last;
        for (at, recorder, what) in things {
            number += 1;
            let record = FeedRecord { number, at: *at, recorder: *recorder, what: what.clone() };
            batch.put(Family::Feed, keys::feed(number % KEPT), records::encode(&record)?);
        }
        batch.put(Family::Meta, keys::META_FEED, number.to_be_bytes());
        Ok(Some(Numbered { feed, last, number }))
    }

    /// Tells whenever something has happened: the last number.
    #[must_use]
    pub fn watch_feed(&self) -> watch::Receiver<u64> {
        self.inner.feed.written.subscribe()
    }

    /// What happened after the thing with the number `after`, at most `limit` of it.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn feed(&self, after: u64, limit: u64) -> Result<FeedPage> {
        let last = *self.inner.feed.written.borrow();
        let oldest = last.saturating_sub(KEPT);
        // Numbers that were never given: the store was put back to an older copy.
        let from = if after > last { last } else { after.max(oldest) };
        let mut page = FeedPage { records: Vec::new(), missed: from != after, next: from };
        for number in from + 1..=last.min(from.saturating_add(limit)) {
            let value = self.engine().get(Family::Feed, &keys::feed(number % KEPT))?;
            let record = value.map(|value| records::decode::<FeedRecord>(&value, "feed")).transpose()?;
            page.next = number;
            match record.filter(|record| record.number == number) {
                Some(record) => page.records.push(record),
                None => page.missed = true,
            }
        }
        Ok(page)
    }

    /// Finds out where the feed ends.
    pub(super) fn load_feed(&self) -> Result<()> {
        let value = self.engine().get(Family::Meta, keys::META_FEED)?;
        let number = value.map_or(Ok(0), |value| keys::read_u64(&value, "meta"))?;
        *self.inner.feed.last() = number;
        self.inner.feed.written.send_replace(number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::engine::memory::{FailAt, Memory};

    fn connected(number: u64) -> Happening {
        (number, Some(RecorderId([7; 16])), Occurrence::Connected)
    }

    fn numbers(page: &FeedPage) -> Vec<u64> {
        page.records.iter().map(|record| record.number).collect()
    }

    #[test]
    fn things_are_numbered_in_their_order_and_read_on_from_anywhere() {
        let store = Store::memory();
        store.happen(&[connected(1), connected(2)]).unwrap();
        store.happen(&[]).unwrap();
        store.happen(&[connected(3)]).unwrap();
        let page = store.feed(0, 2).unwrap();
        assert_eq!((numbers(&page), page.missed, page.next), (vec![1, 2], false, 2));
        let page = store.feed(2, 2).unwrap();
        assert_eq!((numbers(&page), page.missed, page.next), (vec![3], false, 3));
        let page = store.feed(3, 2).unwrap();
        assert_eq!((numbers(&page), page.missed, page.next), (vec![], false, 3));
    }

    #[test]
    fn numbers_go_on_after_a_restart() {
        let engine = Memory::default();
        let open = || Store::with_engine(Arc::new(engine.clone())).unwrap();
        open().happen(&[connected(1)]).unwrap();
        let store = open();
        store.happen(&[connected(2)]).unwrap();
        assert_eq!(numbers(&store.feed(0, 9).unwrap()), [1, 2]);
    }

    #[test]
    fn one_who_was_away_for_too_long_is_told_what_is_gone() {
        let store = Store::memory();
        let many: Vec<_> = (0..=KEPT + 1).map(connected).collect();
        store.happen(&many).unwrap();
        let page = store.feed(1, 1).unwrap();
        assert_eq!((numbers(&page), page.missed), (vec![3], true), "1 and 2 were written over");
        let page = store.feed(2, 1).unwrap();
        assert_eq!((numbers(&page), page.missed), (vec![3], false));
    }

    #[test]
    fn numbers_that_were_never_given_begin_anew_at_the_end() {
        let store = Store::memory();
        store.happen(&[connected(1)]).unwrap();
        let page = store.feed(99, 9).unwrap();
        assert_eq!((numbers(&page), page.missed, page.next), (vec![], true, 1));
    }

    #[tokio::test]
    async fn one_who_waits_is_told_of_what_is_durable_alone() {
        let engine = Memory::default();
        let store = Store::with_engine(Arc::new(engine.clone())).unwrap();
        let mut watch = store.watch_feed();
        watch.mark_unchanged();
        engine.fail_commit(1, FailAt::Start);
        assert!(store.happen(&[connected(1)]).is_err());
        assert!(!watch.has_changed().unwrap(), "it is not durable");
    }
}
