//! The receipts of links that were durable before, proved on a thread of their own: a recorder that sends again what it has
//! sent costs nobody who sends something new.
//!
//! The writer hands a duplicate over where it would have answered it, so the order of the promises stays: after the commit of
//! its batch. At most [`WAITING_MAX`] wait; one more is told to come again. When the writer has failed, whoever waits is told by a
//! dropped reply. The thread lets go of the store before [`Again`] is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use aigaq_proto::message::{Advice, RefusalReason};
use aigaq_proto::{Digest, Micros};
use tokio::sync::oneshot;

use super::Outcome;
use super::answer::Teller;
use super::metrics::Fate;
use crate::error::{Context as _, Kind, Result};
use crate::log::Reader;
use crate::store::records::LinkRecord;

/// Duplicates that wait for their receipts at most.
const WAITING_MAX: usize = 4_096;
/// When a duplicate for which there was no place may come again, milliseconds.
const RETRY_MS: u32 = 2_000;

/// A link that is durable already.
pub(super) struct Duplicate {
    /// How it is stored.
    pub(super) record: Box<LinkRecord>,
    pub(super) digest: Digest,
    /// When it arrived again.
    pub(super) received_at: Micros,
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// The writer's side.
pub(super) struct Again {
    queue: Option<SyncSender<Duplicate>>,
    thread: Option<JoinHandle<()>>,
    given_up: Arc<AtomicBool>,
}

impl Again {
    /// Starts the thread. It ends when this is dropped, with everybody answered.
    ///
    /// # Errors
    /// [`Kind::Internal`] if there is no thread to be had.
    pub(super) fn start(reader: Reader, teller: Teller) -> Result<Self> {
        Self::with_room(WAITING_MAX, reader, teller)
    }

    fn with_room(waiting_max: usize, reader: Reader, teller: Teller) -> Result<Self> {
        let (queue, waiting) = sync_channel(waiting_max);
        let given_up = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&given_up);
        let thread = std::thread::Builder::new()
            .name("receipts".to_owned())
            .spawn(move || answer_all(&waiting, &reader, &teller, &seen))
            .context(Kind::Internal, "cannot start the thread for the receipts of duplicates")?;
        Ok(Self { queue: Some(queue), thread: Some(thread), given_up })
    }

    /// Takes a duplicate, to be answered soon. Never waits: where there is no place, the answer is given at once.
    ///
    /// # Returns
    /// What to count a duplicate as that was not taken.
    pub(super) fn take(&self, duplicate: Duplicate) -> Option<Fate> {
        match self.queue.as_ref()?.try_send(duplicate) {
            Ok(()) => None,
            Err(TrySendError::Full(duplicate)) => {
                let _ = duplicate.reply.send(busy());
                Some(Fate::Busy)
            }
            // The thread died. The dropped reply says so.
            Err(TrySendError::Disconnected(_)) => Some(Fate::Failed),
        }
    }

    /// Answers nobody any more.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer_all(waiting: &Receiver<Duplicate>, reader: &Reader, teller: &Teller, given_up: &AtomicBool) {
    for Duplicate { record, digest, received_at, reply } in waiting {
        if given_up.load(Ordering::Acquire) {
            continue;
        }
        match reader.receipt(&record, &digest) {
            Ok(receipt) => teller.receipt(Fate::Duplicate, receipt, received_at, reply),
            Err(error) => teller.failed(&error),
        }
    }
}

fn busy() -> Outcome {
    Outcome::Refused {
        reason: RefusalReason::Busy,
        advice: Advice::RetryAfter { delay_ms: RETRY_MS },
        detail: "the link is stored; too many wait for the receipts of such links".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::clock::Clock;
    use crate::commit::Metrics;
    use crate::log::Identity;
    use crate::store::Store;
    use crate::store::records::Body;

    fn again(waiting_max: usize) -> Again {
        let reader = Reader::new(Store::memory(), Identity::ephemeral().unwrap());
        let metrics = Metrics::register(&Registry::new()).unwrap();
        Again::with_room(waiting_max, reader, Teller { clock: Clock::fixed(1), metrics }).unwrap()
    }

    fn duplicate() -> (Duplicate, oneshot::Receiver<Outcome>) {
        let record = Box::new(LinkRecord {
            header: vec![1],
            signature: vec![2],
            received_at: 1,
            clock: None,
            body: Body::None,
            log_index: 0,
            tree_size: 1,
        });
        let (reply, answer) = oneshot::channel();
        (Duplicate { record, digest: Digest::ZERO, received_at: 1, reply }, answer)
    }

    #[test]
    fn who_finds_no_place_is_told_to_come_again() {
        let (queue, _waiting) = sync_channel(1);
        let again = Again { queue: Some(queue), thread: None, given_up: Arc::default() };
        let (first, _kept) = duplicate();
        assert_eq!(again.take(first), None);
        let (second, mut answer) = duplicate();
        assert_eq!(again.take(second), Some(Fate::Busy));
        assert_eq!(answer.try_recv().unwrap(), busy());
    }

    #[test]
    fn when_it_ends_nobody_waits_any_more() {
        let again = again(64);
        let answers: Vec<_> = (0..64)
            .map(|_| {
                let (duplicate, answer) = duplicate();
                assert_eq!(again.take(duplicate), None);
                answer
            })
            .collect();
        drop(again);
        for mut answer in answers {
            assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed), "damaged, so without a receipt");
        }
    }
}
