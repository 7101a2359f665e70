//! A mirror of the wrapped keys, kept apart from every copy of the store: it follows destructions, and nothing else takes a key away.
//!
//! ```text
//! MIRROR/mirror.json     whose keys these are, and what is destroyed
//! MIRROR/<day>.keys      as in the directory of the keys; the master key is never here
//! ```
//!
//! A day's file goes from the mirror when the store says that the day is over and the file is gone; a single key goes when the file
//! says that it is destroyed. Anything else that is missing is a loss, and the mirror is then what mends it: a file that is absent
//! before its time, that does not read, that has lost keys or has other ones, ends the run before anything was changed. Whatever is
//! taken away is overwritten first.
//!
//! `mirror.json` says which keys are about to be destroyed before the first file follows. A run that was cut off in between left it so, and
//! whoever takes keys from the mirror passes those over.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use aigaq_proto::{Micros, RecorderId};
use serde::{Deserialize, Serialize};

use super::file::{self, KeyFile, Slot};
use super::{Settings, master};
use crate::error::{Context, Error, Kind, Result};

/// What says whose keys these are.
const ABOUT: &str = "mirror.json";
/// Held by the run that changes the mirror, shared by whoever reads it.
const LOCK: &str = "lock";
const FORMAT: u32 = 1;
/// Longest files that are read, bytes: a day of a million recorders, and as many destructions.
const KEYS_BYTES_MAX: u64 = 128 << 20;
const ABOUT_BYTES_MAX: u64 = 512 << 20;

/// A key that was destroyed before its day was over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destruction {
    /// The footage day.
    pub day: u32,
    /// Whose, 32 hexadecimal digits.
    pub recorder: String,
    /// When, server clock.
    pub at: Micros,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What a store says of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Which store: the first key of its log.
    pub owner: String,
    /// Days before this one are over, their keys destroyed.
    pub floor: u32,
    /// What was destroyed of later days.
    pub destroyed: Vec<Destruction>,
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Files of days in the mirror.
    pub days: u64,
    /// Those that are new or were replaced.
    pub written: u64,
    /// Days whose keys were destroyed here too.
    pub days_destroyed: u64,
    /// Single keys that were.
    pub keys_destroyed: u64,
}

/// `mirror.json`.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    format: u32,
    #[serde(flatten)]
    told: Told,
    /// Keys that are about to be destroyed in the files, by day and ordinal.
    pending: Vec<(u32, u32)>,
}

/// Brings the mirror `to` up to what is in the directory of keys `from`. `ask` is asked what the store says once all files have been
/// read, so that it knows of everything that they say is destroyed. Blocks.
///
/// # Errors
/// [`Kind::Invalid`] when `from` is not what the mirror is of, or has lost anything; [`Kind::Damaged`] when a file does not hold;
/// [`Kind::Internal`] when the disk does not obey. What was not told to be destroyed is still in the mirror then.
pub fn mirror(from: &Path, to: &Path, ask: impl FnOnce() -> Result<Told>) -> Result<Mirrored> {
    let unusable = || format!("cannot use the mirror {}", to.display());
    DirBuilder::new().recursive(true).mode(0o700).create(to).context(Kind::Invalid, unusable())?;
    let lock = File::options().create(true).append(true).open(to.join(LOCK)).context(Kind::Invalid, unusable())?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .context(Kind::Busy, format!("another run is at the mirror {}", to.display()))?;
    file::sweep(to).context(Kind::Internal, unusable())?;
    let about = read_about(to)?;
    let kept = read_all(to)?;
    let there = read_all(from)?;
    let told = ask()?;
    match &about {
        Some(about) if about.told.owner != told.owner => {
            let text = format!("{} is the mirror of another server's keys: nothing was changed in it", to.display());
            return Err(Error::new(Kind::Invalid, text));
        }
        None if !kept.is_empty() => {
            let text = format!("{} has keys and no {ABOUT}: it is no mirror, and stays as it is", to.display());
            return Err(Error::new(Kind::Invalid, text));
        }
        _ => {}
    }
    let mut pending = Vec::new();
    for (day, old) in &kept {
        match there.get(day) {
            _ if *day < told.floor => {}
            Some(new) => {
                let gone = follows(old, new).map_err(|what| unlike(from, to, *day, what))?;
                pending.extend(gone.into_iter().map(|ordinal| (*day, ordinal)));
            }
            None => return Err(unlike(from, to, *day, "are not there, and that day is not over")),
        }
    }
    let mut done = Mirrored { keys_destroyed: pending.len() as u64, ..Mirrored::default() };
    let mut about = About { format: FORMAT, told, pending };
    write_about(to, &about)?;
    for day in kept.keys().filter(|day| **day < about.told.floor) {
        file::erase(&file::path(to, *day)).context(Kind::Internal, format!("cannot destroy the keys of day {day}"))?;
        done.days_destroyed += 1;
    }
    for (day, new) in there.iter().filter(|(day, _)| **day >= about.told.floor) {
        done.days += 1;
        if kept.get(day).is_some_and(|old| old.head == new.head && old.slots == new.slots) {
            continue;
        }
        let put = file::put_day(to, &new.head, &new.slots);
        put.context(Kind::Internal, format!("cannot write the keys of day {day} into the mirror"))?;
        done.written += 1;
    }
    about.pending.clear();
    write_about(to, &about)?;
    Ok(done)
}

/// Puts the keys of a mirror into the directory `to`, which is made: without what is destroyed, and of days from `floor` on alone, because
/// a mirror that has not followed still has those before. Returns what the store said last, and how many days there are. Blocks.
///
/// # Errors
/// [`Kind::Busy`] while the mirror is brought up to its keys, [`Kind::Invalid`] if `mirror` is no mirror or that of another store than `owner`, [`Kind::Damaged`] when a file does not hold,
/// [`Kind::Internal`] when the disk does not obey.
pub fn put_back(mirror: &Path, to: &Path, owner: &str, floor: u32) -> Result<(Told, u64)> {
    let _lock = reading(mirror)?;
    let about = read_about(mirror)?;
    let about = about.ok_or_else(|| Error::new(Kind::Invalid, format!("{} is no mirror of keys", mirror.display())))?;
    if about.told.owner != owner {
        let text = format!("{} is the mirror of another server's keys", mirror.display());
        return Err(Error::new(Kind::Invalid, text));
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(to);
    made.context(Kind::Internal, format!("cannot make the directory {}", to.display()))?;
    let mut days = 0;
    for (day, mut keys) in read_all(mirror)?.into_iter().filter(|(day, _)| *day >= about.told.floor.max(floor)) {
        for slot in keys.slots.iter_mut().filter(|slot| about.pending.contains(&(day, slot.ordinal))) {
            *slot = Slot::void(slot.ordinal);
        }
        let put = file::put_day(to, &keys.head, &keys.slots);
        put.context(Kind::Internal, format!("cannot write the keys of day {day}"))?;
        days += 1;
    }
    Ok((about.told, days))
}

/// Puts a copy of the master key `from` in its place in the directory of keys `dir`, for its owner alone.
///
/// # Errors
/// [`Kind::Invalid`] when it does not read or is no master key, [`Kind::Internal`] when it cannot be written.
pub fn put_master(from: &Path, dir: &Path) -> Result<()> {
    let settings = Settings { master_key: Some(from.to_owned()), ..Settings::default() };
    if !master::Master::load(dir, &settings)?.is_ready() {
        return Err(Error::new(Kind::Invalid, format!("there is no master key {}", from.display())));
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.context(Kind::Internal, format!("cannot make the directory {}", dir.display()))?;
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(256));
    let read = File::open(from).and_then(|file| file.take(256).read_to_end(&mut bytes));
    read.context(Kind::Invalid, format!("cannot read the master key {}", from.display()))?;
    let to = master::path(dir, &Settings::default());
    file::put(&to, &bytes).context(Kind::Internal, format!("cannot write {}", to.display()))
}

/// Keeps whoever would change the mirror away while it is read. A copy of it, on media that cannot be written, may be without a lock.
fn reading(mirror: &Path) -> Result<Option<File>> {
    let failed = || format!("cannot lock the mirror {}", mirror.display());
    let lock = match File::open(mirror.join(LOCK)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.context(Kind::Internal, failed())?,
    };
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::new(Kind::Busy, format!("another run is at the mirror {}", mirror.display())))
        }
        locked => locked.context(Kind::Internal, failed()).map(|()| Some(lock)),
    }
}

/// Every day's file of a directory: as it is on the disk, and not only in memory. One that went while it was looked for is not there.
fn read_all(dir: &Path) -> Result<BTreeMap<u32, KeyFile>> {
    let mut files = BTreeMap::new();
    for day in file::days(dir)? {
        let path = file::path(dir, day);
        let failed = || format!("cannot read {}", path.display());
        let opened = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            opened => opened.context(Kind::Internal, failed())?,
        };
        let bytes = read(&opened, KEYS_BYTES_MAX).context(Kind::Internal, failed())?;
        // What a loss of power would still take back is no key.
        opened.sync_all().context(Kind::Internal, failed())?;
        files.insert(day, KeyFile::parse(&bytes, day)?);
    }
    Ok(files)
}

fn read(file: &File, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Which keys of `old` are destroyed in `new`, by ordinal; or what else became of any.
fn follows(old: &KeyFile, new: &KeyFile) -> Result<Vec<u32>, &'static str> {
    if old.head.check != new.head.check {
        return Err("are other keys");
    }
    let of: BTreeMap<u32, &Slot> = new.slots.iter().map(|slot| (slot.ordinal, slot)).collect();
    let mut destroyed = Vec::new();
    for slot in &old.slots {
        match of.get(&slot.ordinal) {
            Some(same) if *same == slot => {}
            Some(_) if slot.is_void() => return Err("have a key again that was destroyed"),
            Some(void) if void.is_void() => destroyed.push(slot.ordinal),
            Some(_) => return Err("are other keys"),
            None => return Err("lack keys that were there"),
        }
    }
    Ok(destroyed)
}

fn unlike(from: &Path, to: &Path, day: u32, what: &str) -> Error {
    let text = format!(
        "the keys of day {day} in {} {what}; the mirror {} still has them, and nothing was changed in it",
        from.display(),
        to.display()
    );
    Error::new(Kind::Invalid, text)
}

fn read_about(dir: &Path) -> Result<Option<About>> {
    let path = dir.join(ABOUT);
    let failed = || format!("cannot read {}", path.display());
    let opened = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.context(Kind::Internal, failed())?,
    };
    let bytes = read(&opened, ABOUT_BYTES_MAX).context(Kind::Internal, failed())?;
    let about: About =
        serde_json::from_slice(&bytes).context(Kind::Damaged, format!("{} does not hold", path.display()))?;
    if about.format != FORMAT {
        return Err(Error::new(Kind::Invalid, format!("{} has another format", path.display())));
    }
    Ok(Some(about))
}

fn write_about(dir: &Path, about: &About) -> Result<()> {
    let path = dir.join(ABOUT);
    let failed = || format!("cannot write {}", path.display());
    let bytes = serde_json::to_vec_pretty(about).context(Kind::Internal, failed())?;
    file::put(&path, &bytes).context(Kind::Internal, failed())
}

impl Destruction {
    /// Whose.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if that is no recorder.
    pub fn recorder(&self) -> Result<RecorderId> {
        self.recorder.parse().map_err(|_| Error::new(Kind::Damaged, format!("{} is no recorder", self.recorder)))
    }
}
