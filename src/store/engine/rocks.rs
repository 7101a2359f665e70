//! The engine on RocksDB.
//!
//! A commit whose bodies reach `ingest_bytes_min` writes them as one file (one for each expiry day), syncs and *ingests* it,
//! then writes the ledger batch with a sync of the write-ahead log: each body byte goes to disk once. A smaller commit is one
//! batch with one sync. Which settings and why is in `options`.
//!
//! Promises: `Ok` means durable. Any error of a write or of the background work poisons the engine for ever; it never
//! resumes, never retries and never reports success after it. A read that fails its checksum is damage, never other bytes.

mod frames;
mod options;
mod removal;
mod snapshot;

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rocksdb::{
    ColumnFamily, DB, FlushOptions, IngestExternalFileOptions, IteratorMode, Options, SstFileWriter, WriteBatch,
    WriteOptions, properties,
};
use rustix::fs::{FlockOperation, fcntl_lock, statvfs};

use super::{Batch, Direction, Engine, Entry, Family, NewBody, Space};
use crate::error::{Context, Error, Kind, Result};
use crate::store::records::FootageKey;
use crate::store::{Settings, keys};

/// Where files are written before they are ingested, below the directory of the database.
const STAGING: &str = "staging";

/// The engine.
pub struct Rocks {
    db: DB,
    dir: PathBuf,
    ingest_bytes_min: usize,
    free_bytes_min: u64,
    footage_options: Options,
    durable: WriteOptions,
    staged: AtomicU64,
    poison: OnceLock<String>,
    /// Held while the database is open for reading, so that no server opens it meanwhile.
    reading: Option<File>,
}

impl Rocks {
    /// Whether there is a database in `dir`, whole or not.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        dir.join("CURRENT").exists()
    }

    /// Opens the database in `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another process has it open, [`Kind::Damaged`] when it does not read.
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        create_durable(dir)?;
        frames::check_dir(dir)?;
        refuse_other_format(dir)?;
        snapshot::remove(dir)?;
        let staging = dir.join(STAGING);
        let db = DB::open_cf_descriptors(&options::database(settings)?, dir, options::families(settings)?)
            .map_err(|error| open_error(&error))?;
        fs::create_dir_all(&staging).context(Kind::Internal, "cannot make the staging directory of the store")?;
        for entry in fs::read_dir(&staging).context(Kind::Internal, "cannot list the staging directory")? {
            let path = entry.context(Kind::Internal, "cannot list the staging directory")?.path();
            fs::remove_file(path).context(Kind::Internal, "cannot remove a file that an unfinished commit left")?;
        }
        Self::over(db, dir, settings, None)
    }

    /// Opens the database in `dir` for reading. Writes nothing: what the write-ahead log holds is replayed in memory.
    ///
    /// # Errors
    /// As [`Rocks::open`]; [`Kind::NotFound`] when there is none.
    pub fn open_read_only(dir: &Path, settings: &Settings) -> Result<Self> {
        let lock = File::options().read(true).write(true).open(dir.join("LOCK"));
        let lock = lock.context(Kind::NotFound, format!("no store in {}", dir.display()))?;
        fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive)
            .context(Kind::Busy, "another process has the store open")?;
        Self::reading(dir, settings, lock)
    }

    /// Opens a copy of a database that no process has open, without taking its lock: it may lie on what cannot be written. Writes nothing.
    ///
    /// # Errors
    /// As [`Rocks::open_read_only`].
    pub fn open_copy(dir: &Path, settings: &Settings) -> Result<Self> {
        let reading = File::open(dir).context(Kind::NotFound, format!("no store in {}", dir.display()))?;
        Self::reading(dir, settings, reading)
    }

    fn reading(dir: &Path, settings: &Settings, lock: File) -> Result<Self> {
        frames::check_dir(dir)?;
        refuse_other_format(dir)?;
        let db =
            DB::open_cf_descriptors_read_only(&options::database(settings)?, dir, options::families(settings)?, false)
                .map_err(|error| open_error(&error))?;
        Self::over(db, dir, settings, Some(lock))
    }

    fn over(db: DB, dir: &Path, settings: &Settings, reading: Option<File>) -> Result<Self> {
        Ok(Self {
            db,
            dir: dir.to_owned(),
            ingest_bytes_min: settings.ingest_bytes_min,
            free_bytes_min: settings.free_bytes_min,
            footage_options: options::footage()?,
            durable: options::durable(),
            staged: AtomicU64::new(0),
            poison: OnceLock::new(),
            reading,
        })
    }

    fn handle(&self, name: &str) -> Result<&ColumnFamily> {
        self.db.cf_handle(name).ok_or_else(|| Error::new(Kind::Damaged, format!("the store lacks the family {name}")))
    }

    /// Marks the engine as failed for ever.
    fn poisoned(&self, what: &str, error: impl std::fmt::Display) -> Error {
        let why = self.poison.get_or_init(|| format!("{what}: {error}"));
        Error::new(Kind::Fatal, format!("the store has failed: {why}"))
    }

    fn write(&self, batch: WriteBatch, what: &str) -> Result<()> {
        self.db.write_opt(batch, &self.durable).map_err(|error| self.poisoned(what, error))
    }

    /// Makes the bodies and the batch durable, leaving `reserve` bytes of the disk free.
    fn persist(&self, bodies: &[NewBody], batch: &Batch, reserve: u64) -> Result<()> {
        self.healthy()?;
        if self.reading.is_some() {
            return Err(Error::new(Kind::Invalid, "the store is open for reading"));
        }
        let bodies_bytes: usize = bodies.iter().map(|body| body.bytes.len()).sum();
        let all = batch.puts.iter().chain(&batch.appends);
        let batch_bytes: usize = all.map(|(_, key, value)| key.len() + value.len()).sum();
        self.check_room(bodies_bytes, batch_bytes, reserve)?;
        let mut writes = WriteBatch::default();
        if bodies_bytes >= self.ingest_bytes_min && !bodies.is_empty() {
            self.ingest(bodies)?;
        } else {
            let family = self.handle(options::TRICKLE)?;
            bodies.iter().for_each(|body| writes.put_cf(family, keys::footage(body.key), &body.bytes));
        }
        for (family, key, value) in &batch.puts {
            writes.put_cf(self.handle(family.name())?, key, value);
        }
        for (family, key, bytes) in &batch.appends {
            writes.merge_cf(self.handle(family.name())?, key, bytes);
        }
        self.write(writes, "cannot write a commit")?;
        self.healthy()
    }

    /// Refuses while nothing has been written.
    fn check_room(&self, bodies_bytes: usize, batch_bytes: usize, reserve: u64) -> Result<()> {
        let needed = (bodies_bytes as u64).saturating_add(batch_bytes as u64).saturating_add(reserve);
        if self.space()?.free < needed {
            return Err(Error::new(Kind::StorageFull, "the disk is nearly full"));
        }
        Ok(())
    }

    /// Writes the bodies as one file for each day and ingests them together. They are durable on return.
    fn ingest(&self, bodies: &[NewBody]) -> Result<()> {
        let mut paths = Vec::new();
        for day in bodies.chunk_by(|a, b| a.key.day == b.key.day) {
            let name = format!("{}.sst", self.staged.fetch_add(1, Ordering::Relaxed));
            let path = self.dir.join(STAGING).join(name);
            self.write_file(&path, day).map_err(|error| self.poisoned("cannot write footage", error))?;
            paths.push(path);
        }
        let mut how = IngestExternalFileOptions::default();
        how.set_move_files(true);
        how.set_snapshot_consistency(false);
        let family = self.handle(options::FOOTAGE)?;
        let done = self.db.ingest_external_file_cf_opts(family, &how, paths);
        done.map_err(|error| self.poisoned("cannot ingest footage", error))
    }

    fn write_file(&self, path: &Path, bodies: &[NewBody]) -> Result<(), rocksdb::Error> {
        let writer = SstFileWriter::create(&self.footage_options);
        write_sst(writer, path, bodies)
    }

    fn footage_families(&self) -> Result<[&ColumnFamily; 2]> {
        Ok([self.handle(options::FOOTAGE)?, self.handle(options::TRICKLE)?])
    }

    /// Writes every family's memory out.
    fn flush(&self) -> Result<()> {
        let mut families = self.footage_families()?.to_vec();
        for family in Family::ALL {
            families.push(self.handle(family.name())?);
        }
        let flushed = self.db.flush_cfs_opt(&families.iter().collect::<Vec<_>>(), &FlushOptions::default());
        flushed.map_err(|error| self.poisoned("cannot flush", error))
    }

    fn family_bodies(&self, name: &str) -> Box<dyn Iterator<Item = Result<(FootageKey, Bytes)>> + '_> {
        let family = match self.handle(name) {
            Ok(family) => family,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let mut how = options::read();
        how.set_readahead_size(4 << 20);
        Box::new(self.db.iterator_cf_opt(family, how, IteratorMode::Start).map(|entry| {
            let (key, value) = entry.map_err(|error| read_error(&error))?;
            Ok((keys::read_footage(&key)?, Bytes::from(value)))
        }))
    }
}

impl Engine for Rocks {
    fn commit(&self, bodies: &[NewBody], batch: &Batch) -> Result<()> {
        // What has no bodies may use half of the reserve.
        let reserve = if bodies.is_empty() { self.free_bytes_min / 2 } else { self.free_bytes_min };
        self.persist(bodies, batch, reserve)
    }

    fn relocate(&self, bodies: &[NewBody], batch: &Batch) -> Result<()> {
        self.persist(bodies, batch, self.free_bytes_min / 2)
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = self.db.get_cf_opt(self.handle(family.name())?, key, &options::read());
        value.map_err(|error| read_error(&error))
    }

    fn scan<'a>(
        &'a self,
        family: Family,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Entry>> + 'a> {
        let family = match self.handle(family.name()) {
            Ok(family) => family,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let mut how = options::read();
        how.set_iterate_range(range);
        let mode = match direction {
            Direction::Forward => IteratorMode::Start,
            Direction::Backward => IteratorMode::End,
        };
        let entries = self.db.iterator_cf_opt(family, how, mode);
        Box::new(entries.map(|entry| entry.map_err(|error| read_error(&error))))
    }

    fn body(&self, key: FootageKey) -> Result<Option<Bytes>> {
        for family in self.footage_families()? {
            let value = self.db.get_pinned_cf_opt(family, keys::footage(key), &options::read());
            if let Some(value) = value.map_err(|error| read_error(&error))? {
                return Ok(Some(Bytes::copy_from_slice(&value)));
            }
        }
        Ok(None)
    }

    fn bodies<'a>(&'a self) -> Box<dyn Iterator<Item = Result<(FootageKey, Bytes)>> + 'a> {
        let mut ingested = self.family_bodies(options::FOOTAGE).peekable();
        let mut trickled = self.family_bodies(options::TRICKLE).peekable();
        Box::new(std::iter::from_fn(move || match (ingested.peek(), trickled.peek()) {
            (Some(Ok((a, _))), Some(Ok((b, _)))) if b < a => trickled.next(),
            (None, _) | (_, Some(Err(_))) => trickled.next(),
            _ => ingested.next(),
        }))
    }

    fn sweep_after(&self, last: u64) -> Result<bool> {
        self.sweep(last)
    }

    fn forget(&self, family: Family, keys: &[Vec<u8>]) -> Result<()> {
        self.healthy()?;
        if self.reading.is_some() {
            return Err(Error::new(Kind::Invalid, "the store is open for reading"));
        }
        let (handle, mut writes) = (self.handle(family.name())?, WriteBatch::default());
        keys.iter().for_each(|key| writes.delete_cf(handle, key));
        self.write(writes, "cannot remove rows")
    }

    fn drop_days_before(&self, day: u32) -> Result<()> {
        self.drop_before(day)
    }

    fn space(&self) -> Result<Space> {
        let room = statvfs(&self.dir).context(Kind::Internal, "cannot tell how much room the disk has")?;
        let bytes = |blocks: u64| blocks.saturating_mul(room.f_frsize);
        Ok(Space { free: bytes(room.f_bavail), total: bytes(room.f_blocks) })
    }

    fn healthy(&self) -> Result<()> {
        if let Some(why) = self.poison.get() {
            return Err(Error::new(Kind::Fatal, format!("the store has failed: {why}")));
        }
        match self.db.property_int_value(properties::BACKGROUND_ERRORS) {
            Ok(Some(0)) => Ok(()),
            Ok(errors) => Err(self.poisoned(
                "background work",
                format!(
                    "{} errors; the file LOG of the store says which, often that there is no space left",
                    errors.unwrap_or_default()
                ),
            )),
            Err(error) => Err(self.poisoned("background work", error)),
        }
    }

    fn close(&self) -> Result<()> {
        self.healthy()?;
        if self.reading.is_some() {
            return Ok(());
        }
        self.flush()?;
        self.db.flush_wal(true).map_err(|error| self.poisoned("cannot flush", error))?;
        self.healthy()
    }

    fn settle(&self) -> Result<()> {
        self.healthy()?;
        self.flush()
    }

    fn snapshot(&self) -> Result<PathBuf> {
        self.checkpoint()
    }

    fn drop_snapshot(&self) -> Result<()> {
        snapshot::remove(&self.dir)
    }
}

/// Refuses a store that another release wrote, before a family is added to it that the other release does not know.
fn refuse_other_format(dir: &Path) -> Result<()> {
    if !Rocks::exists(dir) {
        return Ok(());
    }
    let there = DB::list_cf(&Options::default(), dir).map_err(|error| open_error(&error))?;
    let has = |name: &str| there.iter().any(|known| known == name);
    if Family::ALL.iter().all(|family| has(family.name())) || !has(Family::Meta.name()) {
        return Ok(());
    }
    let meta = DB::open_cf_for_read_only(&Options::default(), dir, [Family::Meta.name()], false);
    let meta = meta.map_err(|error| open_error(&error))?;
    let Some(handle) = meta.cf_handle(Family::Meta.name()) else { return Ok(()) };
    let value = meta.get_cf_opt(handle, keys::META_FORMAT, &options::read()).map_err(|error| read_error(&error))?;
    value.map_or(Ok(()), |value| super::super::refuse_format(keys::read_u32(&value, "meta")?))
}

fn write_sst(mut writer: SstFileWriter<'_>, path: &Path, bodies: &[NewBody]) -> Result<(), rocksdb::Error> {
    writer.open(path)?;
    for body in bodies {
        writer.put(keys::footage(body.key), &body.bytes)?;
    }
    writer.finish()
}

/// Makes a directory and syncs the one above, so that it is still there after a loss of power.
fn create_durable(dir: &Path) -> Result<()> {
    let failed = || format!("cannot make the directory {}", dir.display());
    fs::create_dir_all(dir).context(Kind::Internal, failed())?;
    let above = dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(above).and_then(|above| above.sync_all()).context(Kind::Internal, failed())
}

/// An error of a read: whatever it is, the bytes cannot be trusted, except where RocksDB asks to come again.
fn read_error(error: &rocksdb::Error) -> Error {
    use rocksdb::ErrorKind;
    let kind = match error.kind() {
        ErrorKind::Busy | ErrorKind::TryAgain | ErrorKind::TimedOut | ErrorKind::Incomplete => Kind::Busy,
        _ => Kind::Damaged,
    };
    Error::new(kind, "cannot read the store").because(error.clone())
}

/// An error of the opening, told apart for the one who has to act.
fn open_error(error: &rocksdb::Error) -> Error {
    use rocksdb::ErrorKind;
    match error.kind() {
        ErrorKind::IOError if error.as_ref().contains("lock") => {
            Error::new(Kind::Busy, "another process has the store open").because(error.clone())
        }
        ErrorKind::IOError => Error::new(Kind::Internal, "cannot open the store").because(error.clone()),
        _ => Error::new(Kind::Damaged, "the store does not read").because(error.clone()),
    }
}
