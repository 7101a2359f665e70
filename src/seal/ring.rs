//! The keys of a data directory, in use.
//!
//! Day keys stay in memory, as many as a year and a half has; of the tables of sealed data keys only a few days' do. A data key is opened
//! anew for each use, which costs a microsecond. Nothing here waits for a KMS unless it says so: who cannot wait, as the
//! writer cannot, is told to come again while a thread asks.
//!
//! An append whose `sync` failed ends all sealing of this process: what the kernel did not write it may have forgotten.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aigaq_proto::RecorderId;

use super::Settings;
use super::file::{self, Head, KeyFile, SealedKey, Slot};
use super::key::{Key, Secret};
use super::master::{self, Master};
use crate::error::{Context, Error, Kind, Result};

/// Day keys in memory at most.
const DAY_KEYS_MAX: usize = 512;
/// Days whose tables are in memory at most: with ten thousand recorders a megabyte each.
const TABLES_MAX: usize = 32;
/// For how long a KMS that was away is not asked again.
const AWAY: Duration = Duration::from_secs(2);
/// Days for which a KMS is asked at once.
const ASKING_MAX: usize = 8;

/// The keys. Cheap to clone; every clone is the same ring. Everything blocks, for the disk at least.
#[derive(Clone)]
pub struct Ring {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    master: Master,
    writable: bool,
    failed: AtomicBool,
    state: Mutex<State>,
    /// Held while files change.
    changing: Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: HashMap<u32, Arc<Key>>,
    tables: HashMap<u32, (u64, Arc<Table>)>,
    /// Counts uses of tables.
    uses: u64,
    asking: HashSet<u32>,
    away: HashMap<u32, Instant>,
}

/// The sealed data keys of a day.
struct Table(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    of: HashMap<RecorderId, Slot>,
    next: u32,
    end: u64,
}

/// Whether there is time for a KMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    None,
    Some,
}

/// What [`Ring::check`] counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files.
    pub days: u64,
    /// Keys of recorders that open.
    pub keys: u64,
    /// Slots at the end of files that were never finished.
    pub unfinished: u64,
}

impl Ring {
    /// Opens the directory of the keys. Where there is none, and with `settings.footage`, it and a master key are made.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the master key may be read by others, holds no key, or is missing while there are keys that it wrapped.
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let days = file::days(dir)?;
        if settings.footage {
            let mut builder = std::fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(dir).and_then(|()| file::sync_above(dir));
            made.context(Kind::Internal, format!("cannot make the directory {}", dir.display()))?;
        }
        if dir.is_dir() {
            file::sweep(dir).context(Kind::Internal, "cannot remove a key file that was never finished")?;
        }
        let path = master::path(dir, settings);
        let mut master = Master::load(dir, settings)?;
        if !master.is_ready() && !days.is_empty() {
            let text = format!(
                "the master key {} is missing, and there are keys that it wrapped: put it back, or take the key files of \
                 {} away for good",
                path.display(),
                dir.display()
            );
            return Err(Error::new(Kind::Invalid, text));
        }
        if !master.is_ready() && settings.footage {
            master::make(&path)?;
            tracing::info!(path = %path.display(), "made the master key of the footage: keep a copy apart from all backups");
            master = Master::load(dir, settings)?;
        }
        Ok(Self::over(dir, master, true))
    }

    /// Opens the directory of the keys and changes nothing.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a master key that others may read or that is none.
    pub fn open_read_only(dir: &Path, settings: &Settings) -> Result<Self> {
        Ok(Self::over(dir, Master::load(dir, settings)?, false))
    }

    fn over(dir: &Path, master: Master, writable: bool) -> Self {
        let inner = Inner {
            dir: dir.to_owned(),
            master,
            writable,
            failed: AtomicBool::new(false),
            state: Mutex::default(),
            changing: Mutex::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The keys of these recorders and footage days to seal with; those that are missing are made and durable on return. Waits for no
    /// KMS.
    ///
    /// # Errors
    /// [`Kind::Busy`] while a KMS is asked or away, [`Kind::StorageFull`] without room, [`Kind::Fatal`] when it cannot be told what is
    /// durable.
    pub fn keys(&self, wanted: &BTreeSet<(u32, RecorderId)>) -> Result<HashMap<(u32, RecorderId), Key>> {
        let mut keys = HashMap::with_capacity(wanted.len());
        let wanted: Vec<_> = wanted.iter().copied().collect();
        for of_day in wanted.chunk_by(|a, b| a.0 == b.0) {
            let Some((day, _)) = of_day.first().copied() else { continue };
            let day_key = self.making(day, Patience::None)?;
            let table = self.with_all(day, &day_key, of_day)?;
            let slots = table.slots();
            for (_, recorder) in of_day {
                let slot = slots.of.get(recorder).ok_or_else(|| Error::new(Kind::Internal, "a new key is missing"))?;
                keys.insert((day, *recorder), opened(day, slot, &day_key)?);
            }
        }
        Ok(keys)
    }

    /// The table of a day, with a key for each of these recorders.
    fn with_all(&self, day: u32, day_key: &Key, wanted: &[(u32, RecorderId)]) -> Result<Arc<Table>> {
        loop {
            let table = self.table(day)?;
            let table = table.ok_or_else(|| Error::new(Kind::Internal, "a key file went away"))?;
            let missing: Vec<_> = {
                let slots = table.slots();
                wanted.iter().map(|(_, of)| *of).filter(|of| !slots.of.contains_key(of)).collect()
            };
            if missing.is_empty() || self.append(day, day_key, &table, &missing)? {
                return Ok(table);
            }
        }
    }

    /// Makes sure that [`Ring::keys`] need not wait for anybody on this day. May wait for a KMS.
    ///
    /// # Errors
    /// As [`Ring::keys`].
    pub fn prepare(&self, day: u32) -> Result<()> {
        self.making(day, Patience::Some).map(|_| ())
    }

    /// Whether [`Ring::keys`] can do with what there is on this day. Waits for nobody; if not, it is asked for.
    ///
    /// # Errors
    /// As [`Ring::keys`].
    pub fn is_prepared(&self, day: u32) -> Result<()> {
        self.making(day, Patience::None).map(|_| ())
    }

    /// The key of a recorder and footage day; `None` if there is none. May wait for a KMS.
    ///
    /// # Errors
    /// [`Kind::Busy`] when a KMS is away, [`Kind::Damaged`] when the key is there and does not open.
    pub fn key(&self, day: u32, recorder: RecorderId) -> Result<Option<Key>> {
        let Some(table) = self.table(day)? else { return Ok(None) };
        let Some(slot) = table.slots().of.get(&recorder).copied() else { return Ok(None) };
        let Some(day_key) = self.day_key(day, Patience::Some)? else { return Ok(None) };
        opened(day, &slot, &day_key).map(Some)
    }

    /// Destroys every key of the days before `day` (exclusive). They are gone durably on return.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when that cannot be told.
    pub fn destroy_before(&self, day: u32) -> Result<()> {
        let _changing = self.changing();
        for gone in file::days(&self.inner.dir)?.into_iter().take_while(|gone| *gone < day) {
            self.forget(gone);
            let erased = file::erase(&file::path(&self.inner.dir, gone));
            erased.map_err(|error| self.poisoned(&format!("cannot destroy the keys of day {gone}"), error))?;
        }
        Ok(())
    }

    /// Destroys the key of one recorder and day; it is gone durably on return. Whether there was one. Needs no KMS.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the file does not hold, [`Kind::Fatal`] when it cannot be told whether the key is gone.
    pub fn destroy(&self, day: u32, recorder: RecorderId) -> Result<bool> {
        let _changing = self.changing();
        let Some(mut file) = KeyFile::read(&self.inner.dir, day)? else { return Ok(false) };
        let mut found = false;
        for slot in file.slots.iter_mut().filter(|slot| slot.recorder == recorder) {
            *slot = Slot::void(slot.ordinal);
            found = true;
        }
        if found {
            let put = file::put_day(&self.inner.dir, &file.head, &file.slots);
            self.forget(day);
            put.map_err(|error| self.poisoned(&format!("cannot destroy a key of day {day}"), error))?;
        }
        Ok(found)
    }

    /// Opens every key and tells each problem. Files of days before `floor` are those of a destruction that was cut off, and count not.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the directory does not read.
    pub fn check(&self, floor: u32, on_problem: &mut dyn FnMut(&str)) -> Result<Counts> {
        let mut counts = Counts::default();
        for day in file::days(&self.inner.dir)?.into_iter().filter(|day| *day >= floor) {
            counts.days += 1;
            let read = KeyFile::read(&self.inner.dir, day).and_then(|file| {
                let Some(file) = file else { return Ok(()) };
                counts.unfinished += u64::from(file.unfinished);
                if file.lost > 0 {
                    on_problem(&format!("the key file of day {day}: {} keys of recorders do not read", file.lost));
                }
                let day_key = self.inner.master.unwrap(&file.head)?.key()?;
                for slot in file.slots.iter().filter(|slot| !slot.is_void()) {
                    match opened(day, slot, &day_key) {
                        Ok(_) => counts.keys += 1,
                        Err(error) => on_problem(&error.to_string()),
                    }
                }
                Ok(())
            });
            if let Err(error) = read {
                on_problem(&error.to_string());
            }
        }
        Ok(counts)
    }

    /// The day key, from memory or from the file. `None` if there is no file.
    fn day_key(&self, day: u32, patience: Patience) -> Result<Option<Arc<Key>>> {
        if let Some(key) = self.state().keys.get(&day) {
            return Ok(Some(Arc::clone(key)));
        }
        let Some(file) = KeyFile::read(&self.inner.dir, day)? else { return Ok(None) };
        let secret = self.asking(day, patience, move |ring| ring.inner.master.unwrap(&file.head))?;
        let key = Arc::new(secret.key()?);
        self.remember(day, &key);
        Ok(Some(key))
    }

    /// The day key of a day that has or gets a file.
    fn making(&self, day: u32, patience: Patience) -> Result<Arc<Key>> {
        if self.inner.failed.load(Ordering::Acquire) {
            return Err(Error::new(Kind::Fatal, "the directory of the keys has failed"));
        }
        if let Some(key) = self.day_key(day, patience)? {
            return Ok(key);
        }
        if !self.inner.writable {
            return Err(Error::new(Kind::Internal, "the keys are open for reading"));
        }
        let (head, secret) = self.asking(day, patience, move |ring| {
            let secret = Secret::random()?;
            Ok((ring.inner.master.wrap(day, &secret)?, secret))
        })?;
        self.begin(&head, &secret)
    }

    /// Puts the file of a new day in its place, unless another was quicker.
    fn begin(&self, head: &Head, secret: &Secret) -> Result<Arc<Key>> {
        let day = head.day;
        let _changing = self.changing();
        if let Some(file) = KeyFile::read(&self.inner.dir, day)? {
            let quicker = self.state().keys.get(&day).map(Arc::clone);
            return match quicker {
                Some(key) => Ok(key),
                None => self.inner.master.unwrap(&file.head)?.key().map(Arc::new),
            };
        }
        file::put_day(&self.inner.dir, head, &[]).map_err(|error| self.unwritten(day, error))?;
        let key = Arc::new(secret.key()?);
        self.remember(day, &key);
        Ok(key)
    }

    /// Does `ask`, which may ask a KMS: here and now, or, where there is no patience and the KMS is not this process, on a thread whose
    /// success the next one to come finds.
    fn asking<T: 'static>(&self, day: u32, patience: Patience, ask: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        if !self.inner.master.is_remote() {
            return ask(self);
        }
        {
            let mut state = self.state();
            if state.away.get(&day).is_some_and(|since| since.elapsed() < AWAY) {
                return Err(Error::new(Kind::Busy, "the key command does not give keys"));
            }
            state.away.remove(&day);
            if patience == Patience::None {
                if state.asking.len() < ASKING_MAX && state.asking.insert(day) {
                    drop(state);
                    self.ask_apart(day);
                }
                return Err(Error::new(Kind::Busy, "the key of the footage's day is being fetched"));
            }
        }
        let answer = ask(self);
        if let Err(error) = &answer {
            tracing::warn!(day, %error, "no key");
            let mut state = self.state();
            if state.away.len() > DAY_KEYS_MAX {
                state.away.clear();
            }
            state.away.insert(day, Instant::now());
        }
        answer
    }

    fn ask_apart(&self, day: u32) {
        let ring = self.clone();
        let thread = std::thread::Builder::new().name("keys".to_owned());
        let spawned = thread.spawn(move || {
            // Whoever comes next is told what became of it.
            let _ = if ring.inner.writable { ring.prepare(day) } else { ring.day_key(day, Patience::Some).map(|_| ()) };
            ring.state().asking.remove(&day);
        });
        if spawned.is_err() {
            self.state().asking.remove(&day);
        }
    }

    /// The sealed keys of a day, from memory or from its file.
    fn table(&self, day: u32) -> Result<Option<Arc<Table>>> {
        {
            let mut state = self.state();
            state.uses += 1;
            let uses = state.uses;
            if let Some((used, table)) = state.tables.get_mut(&day) {
                *used = uses;
                return Ok(Some(Arc::clone(table)));
            }
        }
        // So that nothing is appended between the reading and the keeping.
        let _changing = self.changing();
        if let Some((_, table)) = self.state().tables.get(&day) {
            return Ok(Some(Arc::clone(table)));
        }
        let Some(file) = KeyFile::read(&self.inner.dir, day)? else { return Ok(None) };
        if file.lost > 0 {
            tracing::error!(
                day,
                lost = file.lost,
                "keys of recorders do not read; aigaq check says whose footage that is"
            );
        }
        let there = file.slots.into_iter().filter(|slot| !slot.is_void());
        let of = there.map(|slot| (slot.recorder, slot)).collect();
        let table = Arc::new(Table(Mutex::new(Slots { of, next: file.next, end: file.end })));
        let mut state = self.state();
        if state.tables.len() >= TABLES_MAX {
            let oldest = state.tables.iter().min_by_key(|(_, (used, _))| *used).map(|(day, _)| *day);
            oldest.and_then(|day| state.tables.remove(&day));
        }
        let uses = state.uses;
        state.tables.insert(day, (uses, Arc::clone(&table)));
        Ok(Some(table))
    }

    /// Makes keys for recorders. Durable on return. Nothing is done, and `false` returned, if the table is no longer that of the file.
    fn append(&self, day: u32, day_key: &Key, table: &Arc<Table>, recorders: &[RecorderId]) -> Result<bool> {
        if !self.inner.writable {
            return Err(Error::new(Kind::Internal, "the keys are open for reading"));
        }
        let _changing = self.changing();
        if !self.state().tables.get(&day).is_some_and(|(_, current)| Arc::ptr_eq(current, table)) {
            return Ok(false);
        }
        let (next, end) = {
            let slots = table.slots();
            (slots.next, slots.end)
        };
        let new: Result<Vec<Slot>> = (next..)
            .zip(recorders)
            .map(|(ordinal, recorder)| sealed(day, ordinal, *recorder, &Secret::random()?, day_key))
            .collect();
        let new = new?;
        let end = file::append(&self.inner.dir, day, end, &new).map_err(|error| self.unwritten(day, error))?;
        let mut slots = table.slots();
        slots.next = new.last().map_or(next, |slot| slot.ordinal + 1);
        slots.end = end;
        slots.of.extend(new.into_iter().map(|slot| (slot.recorder, slot)));
        Ok(true)
    }

    fn remember(&self, day: u32, key: &Arc<Key>) {
        let mut state = self.state();
        if state.keys.len() >= DAY_KEYS_MAX {
            let oldest = state.keys.keys().min().copied();
            oldest.and_then(|day| state.keys.remove(&day));
        }
        state.keys.insert(day, Arc::clone(key));
    }

    fn forget(&self, day: u32) {
        let mut state = self.state();
        state.keys.remove(&day);
        state.tables.remove(&day);
    }

    /// A key that could not be written. Without room nothing was given away, and the next one is written in the same place.
    fn unwritten(&self, day: u32, error: io::Error) -> Error {
        if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            return Error::new(Kind::StorageFull, "no room for a key").because(error);
        }
        self.poisoned(&format!("cannot write a key of day {day}"), error)
    }

    fn poisoned(&self, what: &str, error: io::Error) -> Error {
        self.inner.failed.store(true, Ordering::Release);
        Error::new(Kind::Fatal, what).because(error)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sealed(day: u32, ordinal: u32, recorder: RecorderId, secret: &Secret, day_key: &Key) -> Result<Slot> {
    let sealed = day_key.seal(&bound(day, ordinal, recorder), secret.bytes())?;
    let sealed =
        SealedKey::try_from(sealed).map_err(|_| Error::new(Kind::Internal, "a sealed key has another length"))?;
    Ok(Slot { recorder, ordinal, sealed })
}

fn opened(day: u32, slot: &Slot, day_key: &Key) -> Result<Key> {
    let bytes = day_key.open(&bound(day, slot.ordinal, slot.recorder), &slot.sealed);
    bytes.and_then(|bytes| Secret::of(&bytes)).ok_or_else(|| unopened(day, slot.recorder))?.key()
}

fn unopened(day: u32, recorder: RecorderId) -> Error {
    Error::new(Kind::Damaged, format!("the key of {recorder} for day {day} does not open"))
}

fn bound(day: u32, ordinal: u32, recorder: RecorderId) -> Vec<u8> {
    [&b"aigaq data key v1\n"[..], &day.to_be_bytes(), &ordinal.to_be_bytes(), &recorder.0].concat()
}
