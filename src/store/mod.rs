//! The only room that knows disks: what is durable, under which key, and how it is read back.
//!
//! [`Store`] has the verbs of the domain, written once over the small contract of [`engine`]. What a commit becomes is in
//! `commit`, who may bring nothing more in `revoked`, the reading of small things in `ledger`, what recorders in the field say and
//! are asked in `field`, marks by their time in `marks`, incidents in `incidents`, where events are sent in `webhooks`, answers that may be
//! asked for again in `answers`, what arrived since somebody looked in `arrivals`, what happens, for those who watch, in `feed`, which
//! certificates they showed in `shown`, what was done with all of it in `trail`, what is copied and put back in `copied`, what figures are
//! made of in `statistics`, checks of people in `integrity`, who may sign in and has done so in `access`, the reading of payloads in `footage`, how they are
//! sealed in `sealed`, what is gone with its key in `destroyed`, where and when footage is found in [`index`], who is enrolled, for those who ask
//! often, in `directory`, every key in [`keys`], every value in [`records`].
//!
//! Promises: what [`Store::commit`] returned `Ok` for survives the loss of power; a body is never returned unless it has
//! the digest that its device signed. It must never remove a stored link, never change of it
//! but where its payload lies, and never write after an error.

mod access;
mod answers;
mod arrivals;
mod commit;
mod copied;
mod destroyed;
mod directory;
pub mod engine;
mod feed;
mod field;
mod footage;
mod incidents;
pub mod index;
mod integrity;
pub mod keys;
mod ledger;
mod marks;
pub mod policy;
pub mod records;
mod relocate;
mod retention;
mod revoked;
mod scrub;
mod sealed;
mod shown;
mod statistics;
#[cfg(test)]
mod tests;
mod trail;
mod webhooks;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use aigaq_proto::RecorderId;

pub use commit::{Commit, LogRow, NewLink, NewQuarantine};
pub use copied::{PutBack, Snapshot};
pub use destroyed::Wished;
pub use directory::Directory;
pub use engine::{Direction, Space};
pub use feed::{FeedPage, Happening, KEPT as FEED_KEPT};
pub use field::LossEntry;
pub use incidents::{Arrival, Change, Opened};
pub use integrity::Changed;
pub use ledger::{ForkEntry, QuarantineEntry, TimelineEntry};
pub use marks::NewMark;
pub use policy::Policy;
pub use relocate::{Move, Stored};
pub use retention::{ExpiryEntry, Hidden, Released};
pub use revoked::Revoked;
pub use scrub::Place;
pub use statistics::{CountedEntry, ReportedKey};
pub use trail::Statement;

use crate::error::{Error, Kind, Result};
use crate::seal::{self, Ring};
use engine::memory::Memory;
use engine::rocks::Rocks;
use engine::{Batch, Engine, Family};

/// Where the store lies within a data directory.
pub const DIR: &str = "store";
/// Version of everything on disk; a store with another one is refused.
pub const FORMAT: u32 = 5;
/// Items in a full tile of the log; a row never crosses a multiple of it.
pub const TILE_ITEMS: u64 = 256;
/// Length of an item of the log's level 0, bytes: an entry.
pub const ENTRY_BYTES: usize = aigaq_proto::receipt::ENTRY_BYTES;
/// Length of an item of a level above, bytes: a hash.
pub const HASH_BYTES: usize = 32;

/// Refuses a store of another format than [`FORMAT`].
fn refuse_format(format: u32) -> Result<()> {
    if format == FORMAT {
        return Ok(());
    }
    let text = format!(
        "the store has format {format}; this release reads format {FORMAT}: go on with the release that wrote it, or move the data \
         directory away and begin with an empty one"
    );
    Err(Error::new(Kind::Invalid, text))
}

/// How the store keeps things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long footage is kept that arrives from now on.
    pub policy: Policy,
    /// From this sum of bodies on, bytes, a commit's bodies go to disk as one ingested file; below it through the write-ahead
    /// log. Default 8 MiB: lower writes fewer bytes at medium load and makes more files.
    pub ingest_bytes_min: usize,
    /// Room that footage leaves on the disk, bytes. Default 256 MiB. Half of it stays for what has no payload, so that a full disk
    /// still takes the audit entries that reading needs.
    pub free_bytes_min: u64,
    /// Cache for the blocks of the ledger, bytes. Default 32 MiB.
    pub cache_bytes: usize,
    /// Table files held open at most. Default 512; more than the process may open is never asked for.
    pub open_files_max: u32,
    /// How footage is sealed.
    pub seal: seal::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            ingest_bytes_min: 8 << 20,
            free_bytes_min: 256 << 20,
            cache_bytes: 32 << 20,
            open_files_max: 512,
            seal: seal::Settings::default(),
        }
    }
}

/// What is durable. Cheap to clone; every clone is the same store. All verbs block: call them from a thread that may.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("last_commit", &self.last_commit()).finish_non_exhaustive()
    }
}

struct Inner {
    engine: Arc<dyn Engine>,
    sealing: sealed::Sealing,
    policy: Policy,
    /// By what rule the footage of a recorder is kept, where that was asked before.
    rules: RwLock<HashMap<RecorderId, policy::Rule>>,
    /// Held while a commit, a hold, an extension or the end of a day is written; counts holds and extensions.
    writing: Mutex<u64>,
    last_commit: AtomicU64,
    footage_floor: AtomicU32,
    dropped_floor: AtomicU32,
    /// What expires before this day lost its keys before the store was put back.
    keys_floor: AtomicU32,
    trail: trail::Trail,
    feed: feed::Feed,
    arrivals: arrivals::Arrivals,
    revoked: revoked::Set,
    destroyed: destroyed::Set,
    /// Who is enrolled, as it was read last; nothing once somebody was enrolled since.
    directory: directory::Kept,
}

impl Store {
    /// Whether a store was ever opened in `dir`. Reads nothing of it.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        Rocks::exists(dir)
    }

    /// Opens the store in `dir`, which is made if it is missing, and removes what an unfinished commit left behind.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another process has it open, [`Kind::Damaged`] when it does not read, [`Kind::Invalid`] when
    /// another release wrote it, or the keys of its footage are gone.
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        Self::sealed_over(Arc::new(Rocks::open(dir, settings)?), dir, settings)
    }

    /// The same over another engine than that of the disk: of what is beside `dir` it needs the keys of the footage alone.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn sealed_over(engine: Arc<dyn Engine>, dir: &Path, settings: &Settings) -> Result<Self> {
        let keys = dir.with_file_name(seal::DIR);
        if !keys.exists() && engine.get(Family::Meta, keys::META_SEALED)?.is_some() {
            let text = format!(
                "there is no {}, and footage was sealed under its keys: put it back, or an empty directory to give that footage up",
                keys.display()
            );
            return Err(Error::new(Kind::Invalid, text));
        }
        Self::over(engine, sealed::Sealing::open(dir, &settings.seal)?, settings.policy.clone())
    }

    /// Opens the store in `dir` for reading; writes not one byte. For `aigaq check`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_read_only(dir: &Path, settings: &Settings) -> Result<Self> {
        let engine = Rocks::open_read_only(dir, settings)?;
        if engine.get(Family::Meta, keys::META_FORMAT)?.is_none() {
            return Err(Error::new(Kind::Damaged, "the store has no format version"));
        }
        let sealing = sealed::Sealing::open_read_only(dir, &settings.seal)?;
        let store = Self::loaded(Arc::new(engine), sealing, settings.policy.clone())?;
        store.load_destroyed()?;
        Ok(store)
    }

    /// A store in memory that forgets; for tests.
    #[must_use]
    pub fn memory() -> Self {
        let fresh = Inner {
            engine: Arc::new(Memory::default()),
            sealing: sealed::Sealing::none(),
            policy: Policy::default(),
            rules: RwLock::default(),
            writing: Mutex::new(0),
            last_commit: AtomicU64::new(0),
            footage_floor: AtomicU32::new(0),
            dropped_floor: AtomicU32::new(0),
            keys_floor: AtomicU32::new(0),
            trail: trail::Trail::default(),
            feed: feed::Feed::default(),
            arrivals: arrivals::Arrivals::default(),
            revoked: revoked::Set::default(),
            destroyed: destroyed::Set::default(),
            directory: directory::Kept::default(),
        };
        Self { inner: Arc::new(fresh) }
    }

    /// A store over any engine, with the default settings, that seals nothing.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn with_engine(engine: Arc<dyn Engine>) -> Result<Self> {
        Self::over(engine, sealed::Sealing::none(), Policy::default())
    }

    /// The same with a policy.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn with_policy(engine: Arc<dyn Engine>, policy: Policy) -> Result<Self> {
        Self::over(engine, sealed::Sealing::none(), policy)
    }

    /// The same that seals footage under the keys of a ring.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn with_keys(engine: Arc<dyn Engine>, policy: Policy, ring: Ring) -> Result<Self> {
        Self::over(engine, sealed::Sealing::with(ring), policy)
    }

    fn over(engine: Arc<dyn Engine>, sealing: sealed::Sealing, policy: Policy) -> Result<Self> {
        let store = Self::loaded(engine, sealing, policy)?;
        store.load_revoked()?;
        store.finish_destructions(store.load_destroyed()?)?;
        store.load_trail()?;
        store.load_feed()?;
        let mut batch = Batch::default();
        batch.put(Family::Meta, keys::META_FORMAT, FORMAT.to_be_bytes());
        if store.inner.sealing.sealing().is_some() {
            batch.put(Family::Meta, keys::META_SEALED, []);
        }
        store.inner.engine.commit(&[], &batch)?;
        if store.inner.engine.sweep_after(store.last_commit())? {
            tracing::info!("removed the bodies of a commit that was never finished");
        }
        Ok(store)
    }

    fn loaded(engine: Arc<dyn Engine>, sealing: sealed::Sealing, policy: Policy) -> Result<Self> {
        let meta = |key| engine.get(Family::Meta, key);
        if let Some(value) = meta(keys::META_FORMAT)? {
            refuse_format(keys::read_u32(&value, "meta")?)?;
        }
        let last_commit = meta(keys::META_LAST_COMMIT)?.map_or(Ok(0), |value| keys::read_u64(&value, "meta"))?;
        let floor = meta(keys::META_FOOTAGE_FLOOR)?.map_or(Ok(0), |value| keys::read_u32(&value, "meta"))?;
        let dropped = meta(keys::META_DROPPED_FLOOR)?.map_or(Ok(0), |value| keys::read_u32(&value, "meta"))?;
        let keyless = meta(keys::META_KEYS_FLOOR)?.map_or(Ok(0), |value| keys::read_u32(&value, "meta"))?;
        let inner = Inner {
            engine,
            sealing,
            policy,
            rules: RwLock::default(),
            writing: Mutex::new(0),
            last_commit: AtomicU64::new(last_commit),
            footage_floor: AtomicU32::new(floor),
            dropped_floor: AtomicU32::new(dropped),
            keys_floor: AtomicU32::new(keyless),
            trail: trail::Trail::default(),
            feed: feed::Feed::default(),
            arrivals: arrivals::Arrivals::default(),
            revoked: revoked::Set::default(),
            destroyed: destroyed::Set::default(),
            directory: directory::Kept::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Number of the last durable commit; 0 before the first.
    #[must_use]
    pub fn last_commit(&self) -> u64 {
        self.inner.last_commit.load(Ordering::Acquire)
    }

    /// The number that the next commit takes.
    #[must_use]
    pub fn next_commit(&self) -> u64 {
        self.last_commit() + 1
    }

    /// Room left.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it cannot be told.
    pub fn space(&self) -> Result<Space> {
        self.inner.engine.space()
    }

    /// Fails for ever after the engine has met an error on the way to disk.
    ///
    /// # Errors
    /// [`Kind::Fatal`] then.
    pub fn healthy(&self) -> Result<()> {
        self.inner.engine.healthy()
    }

    /// Writes out what a clean stop should leave tidy, so that the next open is quick. Correctness never needs it. The files
    /// are let go when the last clone is dropped.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when it could not.
    pub fn close(&self) -> Result<()> {
        self.inner.engine.close()
    }

    /// Held while anything is written that is numbered or that decides about deletion.
    fn writing(&self) -> MutexGuard<'_, u64> {
        self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine below, for the offline check.
    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.inner.engine
    }
}
