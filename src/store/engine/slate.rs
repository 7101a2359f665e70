//! The engine on an object store: the ledger in SlateDB, bodies in packs beside it.
//!
//! A commit puts its bodies as packs, then writes the ledger batch with a row for each body that says where it lies, and returns when
//! the batch is durable. Below `prefix` lie `ledger/`, which is SlateDB's, and `packs/` (`slate/packs.rs`).
//!
//! Promises: `Ok` means durable in the object store. Any error or time-out of a write poisons the engine for ever; so does the news that
//! another process has opened the ledger, which fences this one: whoever opens last is the one writer. A reader is told nothing that is
//! not durable. Each call ends within a bounded time. It must never overwrite a pack, never write to the ledger past
//! `Ledger::write`, and never name a secret in an error.

mod bridge;
pub mod bucket;
mod ledger;
mod packs;
pub mod probe;
mod rows;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore;
use object_store::path::Path;
use slatedb::{CloseReason, IterationOrder, WriteBatch};

use super::{Batch, Direction, Engine, Entry, Family, NewBody, Space};
use crate::error::{Error, Kind, Result};
use crate::store::keys;
use crate::store::records::FootageKey;
use bridge::Bridge;
use ledger::{Ledger, Rows};
use packs::{Packs, Place};

/// A read that has no answer after this fails; it can be asked for again.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// The opening replays the write-ahead log.
const OPEN_DEADLINE: Duration = Duration::from_secs(120);
/// The removal of days may touch every pack of a day.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(600);
/// Rows that are removed in one batch.
const REMOVED_AT_ONCE: usize = 1_000;
/// Packs of one commit that are put at the same time.
const PUTS_AT_ONCE: usize = 4;
/// What an object store can hold is told by nobody; this much is said to be free, bytes.
const ROOM: u64 = 1 << 60;

/// A client of an object store.
pub type Objects = Arc<dyn ObjectStore>;

/// How the engine works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Cache for blocks of the ledger, bytes.
    pub cache_bytes: usize,
    /// How long the write-ahead log gathers before it is put as one object. Default 50 ms: a receipt waits as long, and twice as long halves
    /// the requests of an idle gateway.
    pub flush_interval: Duration,
    /// A commit that is not durable after this has failed, and the engine with it. Default 60 s: a store whose leader died was seen to stall
    /// for 20 s.
    pub commit_deadline: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            flush_interval: Duration::from_millis(50),
            commit_deadline: Duration::from_secs(60),
        }
    }
}

/// The engine.
pub struct Slate {
    bridge: Bridge,
    ledger: Ledger,
    packs: Packs,
    commit_deadline: Duration,
    poison: OnceLock<String>,
}

impl Slate {
    /// Opens what lies below `prefix`, which is made if it is missing, and fences whoever has it open.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the object store does not answer, [`Kind::Damaged`] when the ledger does not read.
    pub fn open(objects: Objects, prefix: &str, settings: Settings) -> Result<Self> {
        let bridge = Bridge::start()?;
        let prefix = Path::from(prefix);
        let packs = Packs::new(Arc::clone(&objects), prefix.clone().join("packs"))?;
        let opening = Ledger::open(objects, prefix.join("ledger"), settings);
        let ledger = bridge.wait(OPEN_DEADLINE, async { opening.await.map_err(|error| open_error(&error)) })?;
        Ok(Self { bridge, ledger, packs, commit_deadline: settings.commit_deadline, poison: OnceLock::new() })
    }

    /// Whether a ledger was ever made below `prefix`.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the object store does not answer.
    pub fn exists(objects: &Objects, prefix: &str) -> Result<bool> {
        let (objects, ledger) = (Arc::clone(objects), Path::from(prefix).join("ledger"));
        Bridge::start()?.wait(READ_DEADLINE, async move {
            let found = objects.list(Some(&ledger)).try_next().await;
            found.map(|found| found.is_some()).map_err(packs::read_error)
        })
    }

    /// Marks the engine as failed for ever.
    fn poisoned(&self, what: &str, error: impl std::fmt::Display) -> Error {
        let why = self.poison.get_or_init(|| format!("{what}: {error}"));
        Error::new(Kind::Fatal, format!("the store has failed: {why}"))
    }

    /// Makes `writes` durable; the one way from here into the ledger.
    fn write(&self, writes: WriteBatch, what: &str) -> Result<()> {
        self.healthy()?;
        if writes.is_empty() {
            return Ok(());
        }
        let ledger = self.ledger.clone();
        let written = self
            .bridge
            .wait(self.commit_deadline, async move { ledger.write(writes).await.map_err(|error| lost(&error)) });
        written.map_err(|error| self.poisoned(what, error))
    }

    /// Puts the bodies; they are durable on return.
    fn put(&self, bodies: &[NewBody]) -> Result<Vec<(FootageKey, Place)>> {
        let cut = self.packs.cut(bodies)?;
        let places = cut.iter().flat_map(|pack| pack.places.iter().copied()).collect();
        let packs = self.packs.clone();
        self.bridge.wait(self.commit_deadline, async move {
            let puts = stream::iter(cut).map(|pack| {
                let packs = packs.clone();
                async move { packs.put(pack).await }
            });
            puts.buffer_unordered(PUTS_AT_ONCE).try_collect::<()>().await
        })?;
        Ok(places)
    }

    /// Removes the rows in `range`, whose keys are whole.
    fn remove_rows(&self, range: Range<Vec<u8>>, what: &str) -> Result<bool> {
        let mut removed = false;
        loop {
            let (ledger, range) = (self.ledger.clone(), range.clone());
            let keys = self.bridge.wait(READ_DEADLINE, async move {
                let mut rows = ledger.scan(range, IterationOrder::Ascending).await?;
                Ok(rows.next(REMOVED_AT_ONCE).await?.into_iter().map(|(key, _)| key).collect::<Vec<_>>())
            })?;
            if keys.is_empty() {
                return Ok(removed);
            }
            let mut writes = WriteBatch::new();
            keys.iter().for_each(|key| writes.delete(key));
            self.write(writes, what)?;
            removed = true;
        }
    }

    /// The first body at or after `from`.
    fn first_body(&self, from: FootageKey) -> Result<Option<FootageKey>> {
        let first = Scan::open(self, rows::footage_from(from), Direction::Forward, 1).next();
        first.transpose()?.map(|(key, _)| keys::read_footage(&key)).transpose()
    }

    fn place(&self, key: FootageKey) -> Result<Option<Place>> {
        let (ledger, row) = (self.ledger.clone(), rows::footage(key));
        let value = self.bridge.wait(READ_DEADLINE, async move { ledger.get(&row).await })?;
        value.map(|value| Place::decode(&value)).transpose()
    }
}

impl Engine for Slate {
    fn commit(&self, bodies: &[NewBody], batch: &Batch) -> Result<()> {
        self.healthy()?;
        let mut writes = WriteBatch::new();
        if !bodies.is_empty() {
            let places = self.put(bodies).map_err(|error| self.poisoned("cannot put footage", error))?;
            places.iter().for_each(|(key, place)| writes.put(rows::footage(*key), place.encode()));
        }
        for (family, key, value) in &batch.puts {
            writes.put(rows::of(*family, key), value);
        }
        for (family, key, bytes) in &batch.appends {
            writes.merge(rows::of(*family, key), bytes);
        }
        self.write(writes, "cannot write a commit")
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let (ledger, row) = (self.ledger.clone(), rows::of(family, key));
        let value = self.bridge.wait(READ_DEADLINE, async move { ledger.get(&row).await })?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan<'a>(
        &'a self,
        family: Family,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Entry>> + 'a> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let rows = rows::of(family, &range.start)..rows::of(family, &range.end);
        Box::new(Scan::open(self, rows, direction, CHUNK_FIRST))
    }

    fn body(&self, key: FootageKey) -> Result<Option<Bytes>> {
        let Some(place) = self.place(key)? else { return Ok(None) };
        let packs = self.packs.clone();
        let read = self.bridge.wait(READ_DEADLINE, async move { packs.read(key, place).await });
        match read {
            // Its day may have been dropped between the row and the pack.
            Err(_) if self.place(key)?.is_none() => Ok(None),
            read => read.map(Some),
        }
    }

    fn bodies<'a>(&'a self) -> Box<dyn Iterator<Item = Result<(FootageKey, Bytes)>> + 'a> {
        let mut rows = Scan::open(self, rows::every_body(), Direction::Forward, CHUNK_FIRST);
        let (mut open, mut has_failed) = (None, false);
        let mut next = move || -> Result<Option<(FootageKey, Bytes)>> {
            let Some((key, value)) = rows.next().transpose()? else { return Ok(None) };
            let (key, place) = (keys::read_footage(&key)?, Place::decode(&value)?);
            let path = self.packs.path(key, place);
            if open.as_ref().is_none_or(|(of, _)| *of != path) {
                let (packs, at) = (self.packs.clone(), path.clone());
                open = Some((path, self.bridge.wait(READ_DEADLINE, async move { packs.whole(&at).await })?));
            }
            let pack = open.as_ref().map_or_else(Bytes::new, |(_, pack)| pack.clone());
            place.cut(&pack).map(|body| Some((key, body)))
        };
        Box::new(std::iter::from_fn(move || {
            if has_failed {
                return None;
            }
            let entry = next().transpose();
            has_failed = matches!(entry, Some(Err(_)));
            entry
        }))
    }

    fn sweep_after(&self, last: u64) -> Result<bool> {
        let mut found = false;
        let mut at = FootageKey { day: 0, commit: 0, index: 0 };
        while let Some(key) = self.first_body(at)? {
            let orphans = FootageKey { day: key.day, commit: last.saturating_add(1), index: 0 };
            let Some(day) = key.day.checked_add(1) else { break };
            at = FootageKey { day, commit: 0, index: 0 };
            found |= self.remove_rows(rows::footage(orphans)..rows::footage(at), "cannot remove footage")?;
        }
        let packs = self.packs.clone();
        Ok(self.bridge.wait(REMOVAL_DEADLINE, async move { packs.sweep_after(last).await })? | found)
    }

    fn forget(&self, family: Family, keys: &[Vec<u8>]) -> Result<()> {
        let mut writes = WriteBatch::new();
        keys.iter().for_each(|key| writes.delete(rows::of(family, key)));
        self.write(writes, "cannot remove rows")
    }

    /// [`Kind::Busy`] when packs stay that no row names any more; they are found again by their day.
    fn drop_days_before(&self, day: u32) -> Result<()> {
        self.healthy()?;
        let (from, to) = (FootageKey { day: 0, commit: 0, index: 0 }, FootageKey { day, commit: 0, index: 0 });
        self.remove_rows(rows::footage(from)..rows::footage(to), "cannot drop footage")?;
        let packs = self.packs.clone();
        self.bridge.wait(REMOVAL_DEADLINE, async move { packs.drop_days_before(day).await })?;
        let expired = rows::of(Family::Expiry, &keys::day(0))..rows::of(Family::Expiry, &keys::day(day));
        self.remove_rows(expired, "cannot forget what has expired").map(drop)
    }

    fn space(&self) -> Result<Space> {
        Ok(Space { free: ROOM, total: ROOM })
    }

    fn healthy(&self) -> Result<()> {
        if let Some(why) = self.poison.get() {
            return Err(Error::new(Kind::Fatal, format!("the store has failed: {why}")));
        }
        match self.ledger.ended() {
            None => Ok(()),
            Some(CloseReason::Fenced) => Err(self.poisoned("fenced", FENCED)),
            Some(reason) => Err(self.poisoned("the ledger has ended", format!("{reason:?}"))),
        }
    }

    fn settle(&self) -> Result<()> {
        self.healthy()?;
        let ledger = self.ledger.clone();
        let settled =
            self.bridge.wait(OPEN_DEADLINE, async move { ledger.settle().await.map_err(|error| lost(&error)) });
        settled.map_err(|error| self.poisoned("cannot write out", error))
    }

    fn close(&self) -> Result<()> {
        self.settle()
    }
}

/// Entries that a scan fetches first; then twice as many each time.
const CHUNK_FIRST: usize = 16;
/// … and at most.
const CHUNK_MAX: usize = 1_024;

/// A scan under way, fetched in chunks.
struct Scan<'a> {
    engine: &'a Slate,
    rows: Option<Rows>,
    ready: VecDeque<(Bytes, Bytes)>,
    chunk: usize,
    failed: Option<Error>,
}

impl<'a> Scan<'a> {
    /// The rows in `range`, whose keys are whole, as of now.
    fn open(engine: &'a Slate, range: Range<Vec<u8>>, direction: Direction, chunk: usize) -> Self {
        let order = match direction {
            Direction::Forward => IterationOrder::Ascending,
            Direction::Backward => IterationOrder::Descending,
        };
        let ledger = engine.ledger.clone();
        let opened = engine.bridge.wait(READ_DEADLINE, async move { ledger.scan(range, order).await });
        let (rows, failed) = match opened {
            Ok(rows) => (Some(rows), None),
            Err(error) => (None, Some(error)),
        };
        Self { engine, rows, ready: VecDeque::new(), chunk, failed }
    }

    fn fetch(&mut self) -> Result<()> {
        let Some(mut rows) = self.rows.take() else { return Ok(()) };
        let chunk = self.chunk;
        let (rows, found) = self.engine.bridge.wait(READ_DEADLINE, async move {
            let found = rows.next(chunk).await?;
            Ok((rows, found))
        })?;
        if found.len() == chunk || rows.has_more() {
            self.rows = Some(rows);
        }
        self.chunk = (chunk * 2).min(CHUNK_MAX);
        self.ready = found.into();
        Ok(())
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        if self.ready.is_empty()
            && let Err(error) = self.fetch()
        {
            return Some(Err(error));
        }
        let (key, value) = self.ready.pop_front()?;
        Some(Ok((rows::without_name(&key).into(), value.as_ref().into())))
    }
}

/// Who has the store now; whoever reads this stops one of the two.
const FENCED: &str = "another process has opened this store";

/// An error of a write.
fn lost(error: &slatedb::Error) -> Error {
    match error.kind() {
        slatedb::ErrorKind::Closed(CloseReason::Fenced) => Error::new(Kind::Fatal, FENCED),
        _ => Error::new(Kind::Fatal, error.to_string()),
    }
}

fn open_error(error: &slatedb::Error) -> Error {
    let (kind, text) = match error.kind() {
        slatedb::ErrorKind::Unavailable => (Kind::Busy, "the object store does not answer"),
        slatedb::ErrorKind::Data => (Kind::Damaged, "the ledger in the object store does not read"),
        _ => (Kind::Internal, "cannot open the ledger in the object store"),
    };
    Error::new(kind, text).because(error.to_string())
}
