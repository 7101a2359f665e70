//! The spool: links that have no receipt yet. Bounded by bytes; when it is full the source is not read.
//!
//! This one lives in memory: links that wait are lost with the process, and their sequences stay missing. A link leaves only
//! through [`Spool::settle`] (its receipt was verified) or [`Spool::give_up`] (the server will never take it). Here are the
//! links; what goes next, and what is under way, is the [`Queue`]'s, which knows a few bytes of each.

mod facts;
pub(super) mod queue;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use aigaq_proto::message::SpoolSummary;
use aigaq_proto::{Digest, Sequence};

use super::links::Link;
use crate::clock::Clock;
use crate::error::Result;
pub(super) use facts::Facts;
use queue::{Left, Queue};

/// Greatest number of links held; small links are bounded by it.
const LINKS_MAX: usize = 512;

/// Links that wait for their receipts.
#[derive(Debug)]
pub(super) struct Spool {
    bytes_max: u64,
    links: Mutex<BTreeMap<Sequence, Link>>,
    queue: Queue,
    /// Something left.
    room: Notify,
}

impl Spool {
    /// Holds so many bytes of payload; a single larger link is taken alone.
    pub(super) fn new(bytes_max: u64, clock: Clock) -> Self {
        Self { bytes_max, links: Mutex::default(), queue: Queue::new(clock), room: Notify::new() }
    }

    /// What goes next, and what is under way.
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<Sequence, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a link of this size has room. Cancel-safe.
    pub(super) async fn room_for(&self, bytes: usize) {
        loop {
            let room = self.room.notified();
            let held = self.queue.held();
            let fits = held.bytes.saturating_add(bytes as u64) <= self.bytes_max && held.links < LINKS_MAX;
            if bytes == 0 || held.links == 0 || fits {
                return;
            }
            room.await;
        }
    }

    /// Takes a link that was just made.
    ///
    /// # Errors
    /// What keeps it from being kept.
    #[expect(clippy::unused_async, reason = "a spool that is durable waits here")]
    pub(super) async fn push(&self, link: Link) -> Result<()> {
        let facts = link.facts;
        self.links().insert(facts.sequence, link);
        self.queue.push(facts);
        Ok(())
    }

    /// No link will be pushed any more.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// The link, to be sent now; `None` if it has left meanwhile.
    ///
    /// # Errors
    /// That it cannot be read.
    #[expect(clippy::unused_async, reason = "a spool that is durable reads here")]
    pub(super) async fn load(&self, sequence: Sequence) -> Result<Option<Link>> {
        Ok(self.links().get(&sequence).cloned())
    }

    /// The digest of a link, to claim it; `None` if it has left.
    ///
    /// # Errors
    /// That it cannot be read.
    #[expect(clippy::unused_async, reason = "a spool that is durable reads here")]
    pub(super) async fn digest(&self, sequence: Sequence) -> Result<Option<Digest>> {
        Ok(self.links().get(&sequence).map(|link| link.digest))
    }

    /// The link's receipt was verified: it leaves.
    #[expect(clippy::unused_async, reason = "a spool that is durable deletes here")]
    pub(super) async fn settle(&self, sequence: Sequence) -> Option<Left> {
        self.remove(sequence)
    }

    /// The server will never take the link: it leaves. Whether it was there.
    #[expect(clippy::unused_async, reason = "a spool that is durable puts it aside here")]
    pub(super) async fn give_up(&self, sequence: Sequence) -> bool {
        self.remove(sequence).is_some()
    }

    fn remove(&self, sequence: Sequence) -> Option<Left> {
        self.links().remove(&sequence);
        let left = self.queue.remove(sequence)?;
        self.room.notify_one();
        Some(left)
    }

    /// What is held, for the server.
    pub(super) fn summary(&self) -> SpoolSummary {
        self.queue.summary()
    }
}

#[cfg(test)]
mod tests;
