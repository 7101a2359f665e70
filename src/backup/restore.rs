//! Putting a backup back: into an empty directory, each file as its list says, and nothing a server would start on before all of it is
//! there.
//!
//! The mark [`UNFINISHED`] is durable before the first file and goes after the last; in between no command takes the directory for a data
//! directory. What the store learns is in [`crate::store::PutBack`]: sessions end, keys that were destroyed since stay
//! destroyed, and the audit trail says from which copy it goes on. Accounts and recorders are those of the copy: whoever calls says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use aigaq_proto::Digest;

use super::UNFINISHED;
use super::copy::{self, Pace};
use super::set::{self, About, Backup};
use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};
use crate::seal;
use crate::store::records::{AccountRecord, Act, AuditRecord, Event, RestoreRecord, Standing};
use crate::store::{self, PutBack, Settings, Store};

/// What may lie in a directory that counts as empty: what the one who restores locked it with.
const LOCK: &str = "lock";

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// A backup, or where backups lie: then the newest.
    pub from: PathBuf,
    /// The data directory that is made. Whoever calls has it locked.
    pub to: PathBuf,
    /// The mirror of the keys of footage.
    pub keys: Option<PathBuf>,
    /// The master key that wraps them, where it is a file and goes beside them.
    pub master_key: Option<PathBuf>,
}

/// What was put back.
#[derive(Debug)]
pub struct Restored {
    /// Of what, and of when.
    pub about: About,
    /// Files of the backup.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Days of which there are keys; `None` without a mirror.
    pub key_days: Option<u64>,
    /// Keys that were destroyed since the backup, and are here too.
    pub destroyed: u64,
    /// Sessions that were ended.
    pub sessions: usize,
    /// Whoever may sign in again, as of the backup.
    pub accounts: Vec<AccountRecord>,
    /// Recorders that may connect, as of the backup, and those that were revoked by then.
    pub recorders: (usize, usize),
}

/// Whether a directory may be made a data directory: it is empty, or holds what a restore left that was cut off.
///
/// # Errors
/// [`Kind::Internal`] when it does not read.
pub fn is_empty(dir: &Path) -> Result<bool> {
    if dir.join(UNFINISHED).exists() {
        return Ok(true);
    }
    let failed = || format!("cannot list {}", dir.display());
    for entry in fs::read_dir(dir).context(Kind::Internal, failed())? {
        if entry.context(Kind::Internal, failed())?.file_name() != LOCK {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes a data directory of a backup. Durable on return; blocks.
///
/// # Errors
/// [`Kind::Invalid`] when the directory is not empty, [`Kind::Damaged`] when the backup is not whole, [`Kind::StorageFull`] without room,
/// and those of the keys and the store. The directory is then none that a server would start on.
pub fn restore(wish: &Wish, clock: &Clock) -> Result<Restored> {
    let backup = Backup::find(&wish.from)?;
    if let Some(missing) = backup.missing() {
        let text = format!("the backup {} is not whole: {missing} is missing", backup.dir.display());
        return Err(Error::new(Kind::Damaged, text));
    }
    if !is_empty(&wish.to)? {
        let text = format!("{} is not empty: a backup is put back into an empty directory alone", wish.to.display());
        return Err(Error::new(Kind::Invalid, text));
    }
    let mark = wish.to.join(UNFINISHED);
    let marked = File::create(&mark).and_then(|mark| mark.sync_all());
    marked.context(Kind::Internal, format!("cannot write into {}", wish.to.display()))?;
    copy::sync_dir(&wish.to)?;
    clear(&wish.to)?;
    let bytes = copy_all(&backup, &wish.to)?;
    let store = Store::open_unkeyed(&wish.to.join(store::DIR), &Settings::default())?;
    let floor = store.dropped_floor().max(store.keys_floor());
    let keys = put_keys(wish, &backup.about.owner, floor)?;
    let restored = tell(&store, &backup, bytes, keys, clock)?;
    drop(store);
    fs::remove_file(&mark).context(Kind::Internal, format!("cannot remove {}", mark.display()))?;
    copy::sync_dir(&wish.to)?;
    Ok(restored)
}

/// Takes away what a restore left that was cut off.
fn clear(dir: &Path) -> Result<()> {
    let failed = || format!("cannot empty {}", dir.display());
    for entry in fs::read_dir(dir).context(Kind::Internal, failed())? {
        let entry = entry.context(Kind::Internal, failed())?;
        if entry.file_name() == LOCK || entry.file_name() == UNFINISHED {
            continue;
        }
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let path = entry.path();
        if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) }.context(Kind::Internal, failed())?;
    }
    Ok(())
}

/// Copies every file that the list has, and compares it; the bytes.
fn copy_all(backup: &Backup, to: &Path) -> Result<u64> {
    let (_alive, heard) = sync_channel(1);
    let mut pace = Pace::new(None, &heard);
    let (mut bytes, mut dirs) = (0, BTreeSet::new());
    for (name, digest) in backup.files.iter().filter(|(name, _)| *name != set::ABOUT) {
        let target = to.join(name);
        let dir = target.parent().unwrap_or(to).to_owned();
        if dir != to && !dirs.contains(&dir) {
            private_dir(&dir)?;
            dirs.insert(dir);
        }
        let (found, length) = copy::copy(&backup.dir.join(name), &target, &mut pace)?;
        if found != *digest {
            let text = format!("the backup {} is damaged: {name} is not what was copied", backup.dir.display());
            return Err(Error::new(Kind::Damaged, text));
        }
        bytes += length;
    }
    dirs.iter().try_for_each(|dir| copy::sync_dir(dir))?;
    copy::sync_dir(to)?;
    Ok(bytes)
}

fn private_dir(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.context(Kind::Internal, format!("cannot make the directory {}", dir.display()))
}

/// The keys of days from `floor` on: what their store said last, and how many days there are.
fn put_keys(wish: &Wish, owner: &str, floor: u32) -> Result<Option<(seal::Told, u64)>> {
    let dir = wish.to.join(seal::DIR);
    let put = wish.keys.as_deref().map(|mirror| seal::put_back(mirror, &dir, owner, floor)).transpose()?;
    if let Some(master) = &wish.master_key {
        seal::put_master(master, &dir)?;
    }
    Ok(put)
}

/// Tells the store what it is, and closes it.
fn tell(
    store: &Store,
    backup: &Backup,
    bytes: u64,
    keys: Option<(seal::Told, u64)>,
    clock: &Clock,
) -> Result<Restored> {
    let (about, now) = (backup.about.clone(), clock.now());
    if store.log_size()? < about.log_size {
        let text = format!("the store of the backup {} ends before its log does", backup.dir.display());
        return Err(Error::new(Kind::Damaged, text));
    }
    let (told, key_days) = keys.map_or((None, None), |(told, days)| (Some(told), Some(days)));
    let known = store.destructions()?.into_iter().map(|(day, recorder, record)| ((day, recorder), record.act.at));
    // Keys of which the mirror had not been told when it followed last: it still has them.
    let mut behind: BTreeMap<_, _> = known.filter(|_| told.is_some()).collect();
    let mut destroyed = Vec::new();
    for one in told.iter().flat_map(|told| &told.destroyed) {
        let of = (one.day, one.recorder()?);
        match behind.get(&of) {
            Some(at) if *at > one.at => continue,
            Some(at) if *at == one.at => {}
            _ => {
                let act = Act { at: one.at, by: one.by.clone(), reason: one.reason.clone() };
                destroyed.push((of.0, of.1, act));
            }
        }
        behind.remove(&of);
    }
    let text = format!("put back the backup of {}: {} entries of the log", about.taken_at, about.log_size);
    let entry = AuditRecord::new(now, Event::Restore, "command line", "local", text);
    let of = Digest::of(set::lists(&backup.files).0.as_bytes());
    let (taken_at, log_size) = (about.taken_at_us, store.log_size()?);
    let count = destroyed.len() as u64;
    let standing = if about.stopped { Standing::UnsaidOfStopped } else { Standing::Unsaid };
    let sessions = store.put_back(PutBack {
        record: RestoreRecord { taken_at, restored_at: now, log_size, standing },
        keys_floor: told.as_ref().map_or(0, |told| told.floor),
        destroyed,
        come_back: behind.into_keys().collect(),
        entry: AuditRecord { content: Some(of), ..entry },
    })?;
    let accounts: Result<Vec<_>> = store.accounts().filter(|one| !one.as_ref().is_ok_and(|one| one.removed)).collect();
    let recorders = store.recorders().collect::<Result<Vec<_>>>()?;
    let revoked = recorders.iter().filter(|one| one.revoked.is_some()).count();
    store.close()?;
    Ok(Restored {
        about,
        files: backup.files.len() as u64,
        bytes,
        key_days,
        destroyed: count,
        sessions,
        accounts: accounts?,
        recorders: (recorders.len() - revoked, revoked),
    })
}
