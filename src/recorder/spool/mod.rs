//! The spool: links that have no receipt yet. A link leaves only when its receipt was verified ([`Spool::settle`]), when the
//! server will never take it ([`Spool::give_up`]), or when a signed `Lost` link names it ([`Spool::forget`]).
//!
//! On a device the links are files ([`disk`]) and in memory there are only the [`Facts`] of each: a link is durable before it
//! is offered, and it is read again, and verified, when it is sent. For load and for demonstrations they may live in memory;
//! such links are lost with the process. What goes next, and what is under way, is the [`Queue`]'s.

mod departed;
mod disk;
mod facts;
mod file;
mod missing;
pub(super) mod queue;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use aigaq_proto::message::{ChainEnd, SpoolSummary};
use aigaq_proto::{Digest, Micros, RecorderId, Sequence, SequenceRange};

use super::links::Link;
use super::source::Fate;
use crate::clock::Clock;
use crate::error::{Context, Kind, Result};
use departed::Departed;
pub(super) use departed::holes;
pub(super) use disk::Last;
use disk::{Disk, Found, NotWritten};
pub(super) use facts::Facts;
pub(super) use file::After;
use missing::Missing;
use queue::{Left, Queue};

/// Greatest number of links held in memory; small links are bounded by it.
const LINKS_MAX: usize = 512;
/// What footage leaves of the limit to marks, stops and the links that say what is lost: a part of the limit, and at most so
/// many bytes.
const SPARE_PART: u64 = 8;
const SPARE_BYTES_MAX: u64 = 1024 * 1024;

/// Links that wait for their receipts.
#[derive(Debug)]
pub(super) struct Spool {
    bodies: Bodies,
    queue: Queue,
    /// Files that did not read back and that no `Lost` link names yet.
    damaged: Mutex<Vec<Facts>>,
    damage: Notify,
    /// Links that left without a receipt.
    missing: Missing,
    /// Links that left for a reason; `None` in memory.
    departed: Option<Arc<Departed>>,
    /// Links that were made, did not leave, and were not there when the spool was opened.
    vanished: Mutex<Vec<Vanished>>,
    /// Links that were there when the spool was opened.
    found: Vec<SequenceRange>,
    /// The first link that was made since.
    first_made: OnceLock<Sequence>,
    /// Something left.
    left: Notify,
}

#[derive(Debug)]
enum Bodies {
    Memory { bytes_max: u64, links: Mutex<BTreeMap<Sequence, Link>> },
    Disk(Arc<Disk>),
}

/// Neighbouring links that are gone from the device without a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vanished {
    pub(super) links: SequenceRange,
    /// Device clock from the end of what is held before them to the beginning of what is held after.
    pub(super) span: (Micros, Micros),
}

/// What is left of the limit, and what is to be kept free, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) free: u64,
    pub(super) held: u64,
}

impl Spool {
    /// A spool in memory that holds so many bytes of payload; a single larger link is taken alone.
    pub(super) fn in_memory(bytes_max: u64, clock: Clock) -> Self {
        Self::of(Bodies::Memory { bytes_max, links: Mutex::default() }, clock)
    }

    /// The spool of `recorder` in `dir` with everything that it holds, and what its newest file says; what leaves it is written
    /// down in `departed`. Blocks.
    ///
    /// # Errors
    /// [`Kind::Internal`] if the directory cannot be used.
    pub(super) fn open(
        dir: &Path,
        departed: &Path,
        recorder: RecorderId,
        bytes_max: u64,
        clock: Clock,
    ) -> Result<(Self, Last)> {
        let (disk, found) = Disk::open(dir, recorder, bytes_max)?;
        let aside = disk.aside();
        let departed = Departed::open(departed, next_of(found.last));
        let vanished = vanished(&found, &aside, &departed);
        let mut spool = Self::of(Bodies::Disk(Arc::new(disk)), clock);
        (spool.departed, spool.vanished) = (Some(Arc::new(departed)), Mutex::new(vanished));
        spool.queue.found(found.links);
        aside.into_iter().for_each(|sequence| spool.missing(SequenceRange { first: sequence, last: sequence }));
        for facts in found.damaged {
            spool.queue.found([facts]);
            spool.damaged_now(facts);
        }
        spool.found = spool.queue.waiting();
        Ok((spool, found.last))
    }

    fn of(bodies: Bodies, clock: Clock) -> Self {
        let (damage, left) = (Notify::new(), Notify::new());
        Self {
            bodies,
            queue: Queue::new(clock),
            damaged: Mutex::default(),
            damage,
            missing: Missing::default(),
            departed: None,
            vanished: Mutex::default(),
            found: Vec::new(),
            first_made: OnceLock::new(),
            left,
        }
    }

    /// What goes next, and what is under way.
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Whether links outlive the process.
    pub(super) fn is_durable(&self) -> bool {
        matches!(self.bodies, Bodies::Disk(_))
    }

    /// Whether a link with so much payload has room now. Footage leaves some to small links.
    pub(super) fn fits(&self, payload: usize) -> bool {
        match &self.bodies {
            Bodies::Memory { bytes_max, .. } => {
                let held = self.queue.held();
                let fits = held.bytes.saturating_add(payload as u64) <= *bytes_max && held.links < LINKS_MAX;
                payload == 0 || held.links == 0 || fits
            }
            Bodies::Disk(disk) => {
                let (limit, used) = disk.room();
                let spare = if payload == 0 { 0 } else { spare(limit) };
                used.saturating_add(disk.size_max(payload as u64)).saturating_add(spare) <= limit
            }
        }
    }

    /// Whether a link with so much payload would have room if everything else left.
    pub(super) fn can_ever_fit(&self, payload: usize) -> bool {
        match &self.bodies {
            Bodies::Memory { .. } => true,
            Bodies::Disk(disk) => {
                let limit = disk.room().0;
                disk.size_max(payload as u64).saturating_add(disk.size_max(0)).saturating_add(spare(limit)) <= limit
            }
        }
    }

    /// Waits until a link of this size has room. Cancel-safe.
    pub(super) async fn room_for(&self, payload: usize) {
        loop {
            let left = self.left.notified();
            if self.fits(payload) {
                return;
            }
            left.await;
        }
    }

    /// The oldest segments that may go so that a link with so much payload has room; empty if that is not enough. More than
    /// needed go at once, so that what names them stays small.
    pub(super) fn victims(&self, payload: usize) -> Vec<Facts> {
        let Bodies::Disk(disk) = &self.bodies else { return Vec::new() };
        let (limit, used) = disk.room();
        let wanted =
            used.saturating_add(disk.size_max(payload as u64)).saturating_add(spare(limit)).saturating_sub(limit);
        let (mut freed, mut last) = (0_u64, None);
        let victims = self.queue.victims(|facts| {
            // A link that names them takes room as well.
            let named = if last.is_some_and(|last: u64| last.checked_add(1) == Some(facts.sequence)) {
                0
            } else {
                disk.block()
            };
            last = Some(facts.sequence);
            freed = freed.saturating_add(disk.size(facts)).saturating_sub(named);
            freed >= wanted.max(limit / 64)
        });
        if freed >= wanted { victims } else { Vec::new() }
    }

    /// Takes a link that was just made, with which the chain stands as `after` says. Where links are files it is durable
    /// on return. False if there is no room: then nothing has changed.
    ///
    /// # Errors
    /// That storage failed: nothing more may be pushed.
    pub(super) async fn push(&self, link: Link, after: After) -> Result<bool> {
        let facts = link.facts;
        let _ = self.first_made.set(facts.sequence);
        match &self.bodies {
            Bodies::Memory { links, .. } => {
                lock(links).insert(facts.sequence, link);
            }
            Bodies::Disk(disk) => match on_disk(disk, move |disk| disk.write(&link, &after)).await? {
                Ok(()) => {}
                Err(NotWritten::Full) => return Ok(false),
                Err(NotWritten::Failed(error)) => return Err(error),
            },
        }
        self.queue.push(facts);
        Ok(true)
    }

    /// No link will be pushed any more.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// The link, to be sent now; `None` if it has left meanwhile or does not read back.
    ///
    /// # Errors
    /// A failure here, never one of the link's file.
    pub(super) async fn load(&self, sequence: Sequence) -> Result<Option<Link>> {
        let Some(facts) = self.queue.facts(sequence) else { return Ok(None) };
        match &self.bodies {
            Bodies::Memory { links, .. } => Ok(lock(links).get(&sequence).cloned()),
            Bodies::Disk(disk) => {
                let read = on_disk(disk, move |disk| disk.read(&facts)).await?;
                if read.is_err() && self.queue.facts(sequence).is_some() {
                    self.damaged_now(facts);
                }
                Ok(read.ok())
            }
        }
    }

    /// The digest of a link, to claim it; `None` if it has left or does not read back.
    ///
    /// # Errors
    /// A failure here, never one of the link's file.
    pub(super) async fn digest(&self, sequence: Sequence) -> Result<Option<Digest>> {
        let Some(facts) = self.queue.facts(sequence) else { return Ok(None) };
        match &self.bodies {
            Bodies::Memory { links, .. } => Ok(lock(links).get(&sequence).map(|link| link.digest)),
            Bodies::Disk(disk) => {
                let read = on_disk(disk, move |disk| disk.digest(&facts)).await?;
                if read.is_err() && self.queue.facts(sequence).is_some() {
                    self.damaged_now(facts);
                }
                Ok(read.ok())
            }
        }
    }

    /// The link stays where it is, out of the way, until a `Lost` link names it.
    fn damaged_now(&self, facts: Facts) {
        self.queue.shelve(facts.sequence);
        let mut damaged = lock(&self.damaged);
        if !damaged.contains(&facts) {
            damaged.push(facts);
        }
        drop(damaged);
        self.damage.notify_one();
    }

    /// Waits until some link is found not to read back. Cancel-safe.
    pub(super) async fn damage(&self) {
        self.damage.notified().await;
    }

    /// Links that do not read back, by rising sequence, each told once.
    pub(super) fn take_damaged(&self) -> Vec<Facts> {
        let mut damaged = std::mem::take(&mut *lock(&self.damaged));
        damaged.sort_unstable_by_key(|facts| facts.sequence);
        damaged
    }

    /// Whether links are gone without a reason.
    pub(super) fn has_vanished(&self) -> bool {
        !lock(&self.vanished).is_empty()
    }

    /// Links that are gone without a reason, by rising sequence, each told once.
    pub(super) fn take_vanished(&self) -> Vec<Vanished> {
        std::mem::take(&mut *lock(&self.vanished))
    }

    /// These are not here for a reason that the server knows.
    ///
    /// # Errors
    /// That the spool's thread died.
    pub(super) async fn departed(&self, links: Vec<SequenceRange>) -> Result<()> {
        let Some(departed) = self.departed.clone() else { return Ok(()) };
        let done = tokio::task::spawn_blocking(move || links.into_iter().for_each(|range| departed.add(range))).await;
        done.context(Kind::Internal, "the spool's thread died")
    }

    /// The link's receipt was verified: it leaves.
    pub(super) async fn settle(&self, sequence: Sequence) -> Option<Left> {
        self.leave(sequence, |disk, facts| disk.remove(facts)).await
    }

    /// The server will never take the link: it leaves. Whether it was there. Where links are files it stays for a person as
    /// long as there is room.
    pub(super) async fn give_up(&self, sequence: Sequence) -> bool {
        self.missing(SequenceRange { first: sequence, last: sequence });
        self.leave(sequence, |disk, facts| disk.put_aside(facts)).await.is_some()
    }

    /// A durable `Lost` link names these: they leave.
    pub(super) async fn forget(&self, links: &[Facts]) {
        for facts in links {
            self.leave(facts.sequence, |disk, facts| disk.remove(facts)).await;
        }
    }

    /// No receipt for these will ever come.
    pub(super) fn missing(&self, links: SequenceRange) {
        self.missing.add(links);
    }

    /// What became of these links, where the server has said that it has `durable`. How a link left before this spool was
    /// opened is not remembered here: of such a one only the server's word says that it was received.
    pub(super) fn fate(&self, links: Range<Sequence>, durable: Option<&[SequenceRange]>) -> Fate {
        if self.queue.holds_any(links.clone()) {
            return Fate::Waiting;
        }
        if self.missing.has_any(&links) {
            return Fate::Missing;
        }
        let before = links.start..links.end.min(self.first_made.get().copied().unwrap_or(Sequence::MAX));
        if covers(&before, self.found.iter().chain(durable.unwrap_or_default())) {
            return Fate::Received;
        }
        if durable.is_none() { Fate::Waiting } else { Fate::Missing }
    }

    /// A file that cannot be deleted is sent again one day, and gets the same receipt; until then it takes its room.
    async fn leave(
        &self,
        sequence: Sequence,
        how: impl FnOnce(&Disk, &Facts) -> Result<()> + Send + 'static,
    ) -> Option<Left> {
        let facts = self.queue.facts(sequence)?;
        let left = self.queue.remove(sequence);
        match &self.bodies {
            Bodies::Memory { links, .. } => {
                lock(links).remove(&sequence);
            }
            Bodies::Disk(disk) => {
                let departed = self.departed.clone();
                let leave = move |disk: &Disk| {
                    if let Some(departed) = departed {
                        departed.add(SequenceRange { first: sequence, last: sequence });
                    }
                    how(disk, &facts)
                };
                if let Ok(Err(error)) | Err(error) = on_disk(disk, leave).await {
                    tracing::warn!(%error, "a link that is done with stays in the spool");
                }
            }
        }
        self.left.notify_waiters();
        left
    }

    /// What is held, for the server.
    pub(super) fn summary(&self) -> SpoolSummary {
        self.queue.summary()
    }

    /// Takes the room that the file system has got since it was full.
    pub(super) fn look_again(&self) {
        if let Bodies::Disk(disk) = &self.bodies {
            disk.look_again();
        }
    }

    /// What is left for recordings, and what is held, bytes.
    pub(super) fn room(&self) -> Room {
        let held = self.queue.held().bytes;
        match &self.bodies {
            Bodies::Memory { bytes_max, .. } => Room { free: bytes_max.saturating_sub(held), held },
            Bodies::Disk(disk) => Room { free: disk.free(), held },
        }
    }
}

/// The next sequence, as far as the spool knows it.
fn next_of(last: Last) -> Sequence {
    match last {
        Last::Nothing => 0,
        Last::Known { end: ChainEnd { sequence, .. }, .. } | Last::Unreadable { sequence, .. } => {
            sequence.saturating_add(1)
        }
    }
}

/// What is gone without a reason. Where the chain does not go on by itself the server's first word says what is.
fn vanished(found: &Found, aside: &[Sequence], departed: &Departed) -> Vec<Vanished> {
    let Last::Known { end, after, own: true } = found.last else { return Vec::new() };
    let one = |sequence: Sequence| SequenceRange { first: sequence, last: sequence };
    let mut there = departed.stretches();
    let held = found.links.iter().chain(&found.damaged).map(|facts| facts.sequence);
    there.extend(held.chain(aside.iter().copied()).chain([end.sequence]).map(one));
    let span = |range: &SequenceRange| {
        let next = found.links.partition_point(|facts| facts.sequence < range.first);
        let to = found.links.get(next).map_or(after.end, |facts| facts.begin);
        let before = next.checked_sub(1).and_then(|before| found.links.get(before));
        let from = before.map_or(to, Facts::end);
        (from, to.max(from))
    };
    holes(there, end.sequence).into_iter().map(|links| Vanished { links, span: span(&links) }).collect()
}

fn spare(limit: u64) -> u64 {
    (limit / SPARE_PART).min(SPARE_BYTES_MAX)
}

/// Whether each of `links` is in one of these ranges.
fn covers<'a>(links: &Range<Sequence>, ranges: impl Iterator<Item = &'a SequenceRange>) -> bool {
    let mut ranges: Vec<_> = ranges.filter(|range| range.first < links.end && range.last >= links.start).collect();
    ranges.sort_unstable_by_key(|range| range.first);
    let mut next = links.start;
    for range in ranges {
        if range.first > next {
            break;
        }
        next = next.max(range.last.saturating_add(1));
    }
    next >= links.end
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Disk work runs to its end on a thread that may block, whatever becomes of the caller.
async fn on_disk<T: Send + 'static>(disk: &Arc<Disk>, work: impl FnOnce(&Disk) -> T + Send + 'static) -> Result<T> {
    let disk = Arc::clone(disk);
    let done = tokio::task::spawn_blocking(move || work(&disk)).await;
    done.context(Kind::Internal, "the spool's thread died")
}

#[cfg(test)]
mod tests;
