//! Taking a backup: side files, a snapshot of the store, and only then the name that says it is whole; then the mirror of the keys.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use aigaq_proto::{Digest, Micros};

use super::copy::{self, Pace};
use super::set::{self, About, Backup};
use super::{DIRECTORIES, FILES, Source};
use crate::error::{Context as _, Error, Kind, Result};
use crate::seal::{self, Mirrored};
use crate::{log, store};

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Where backups lie; made if need be.
    pub to: PathBuf,
    /// Where the wrapped keys of footage are mirrored, if they are.
    pub keys: Option<PathBuf>,
    /// Bytes read and written a second at most.
    pub bytes_per_s: Option<u64>,
    /// How many backups are kept, this one among them; all if not said.
    pub keep: Option<usize>,
    /// The server's configuration, to go along.
    pub config: Option<PathBuf>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Where the backup is.
    pub dir: PathBuf,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were copied; the others were there already.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Entries of the log in it.
    pub log_size: u64,
    /// What became of the mirror of the keys.
    pub keys: Option<Mirrored>,
    /// Older backups that were removed.
    pub removed: u64,
    /// Files of the backup before that are not what was copied into it: here they were copied again.
    pub damaged: Vec<PathBuf>,
}

/// A backup that is being written.
struct Draft<'a> {
    dir: PathBuf,
    /// The one before, if there is one.
    before: Option<Backup>,
    pace: Pace<'a>,
    files: BTreeMap<String, Digest>,
    /// Those that were copied, with their lengths.
    copied: BTreeMap<String, u64>,
    bytes: u64,
    /// Files of the one before that have changed since they were copied.
    damaged: Vec<PathBuf>,
}

/// Takes a backup. Durable, and read again, on return. Blocks, for as long as copying takes.
///
/// # Errors
/// [`Kind::Invalid`] when there are backups of another server in the directory, its keys are not what the mirror is of, or the end of its
/// log was cut off, so that no server starts on it;
/// [`Kind::Busy`] when another backup is being taken or the server goes; [`Kind::Damaged`] when what was written reads as
/// something else; [`Kind::StorageFull`] without room; those of the store. What was written is no backup then, but where the error
/// says so: a mirror that cannot follow takes no backup away.
pub fn take(source: &Source, wanted: &Wanted) -> Result<Taken> {
    let unusable = || format!("cannot use {}", wanted.to.display());
    DirBuilder::new().recursive(true).mode(0o700).create(&wanted.to).context(Kind::Invalid, unusable())?;
    let lock = File::options().create(true).append(true).open(wanted.to.join(".lock"));
    let lock = lock.context(Kind::Invalid, unusable())?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .context(Kind::Busy, format!("another backup is being taken into {}", wanted.to.display()))?;
    let (owner, log_key) = (log::first_key(source.data())?, log::current_key(source.data())?);
    let before = match Backup::find(&wanted.to) {
        Ok(before) if before.about.owner == owner => Some(before),
        Ok(_) => {
            let text = format!("{} has backups of another server", wanted.to.display());
            return Err(Error::new(Kind::Invalid, text));
        }
        Err(error) if error.kind() == Kind::NotFound => None,
        Err(error) => {
            tracing::warn!(%error, "the backup before does not hold: everything is copied");
            None
        }
    };
    for left in set::partial(&wanted.to)? {
        remove(&left)?;
    }
    let data = source.data().to_owned();
    let mut draft = Draft {
        dir: draft_dir(&wanted.to)?,
        before,
        pace: Pace::new(wanted.bytes_per_s, source.heard()),
        files: BTreeMap::new(),
        copied: BTreeMap::new(),
        bytes: 0,
        damaged: Vec::new(),
    };
    // What lies beside the store is read first, so that none of it knows of more than the store does.
    draft.beside(&data, wanted.config.as_deref())?;
    let shown = source.snapshot(&wanted.to)?;
    draft.store(&shown.dir)?;
    let about = About {
        format: set::FORMAT,
        taken_at: rfc3339(shown.at),
        taken_at_us: shown.at,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        owner,
        log_key: log_key.as_str().to_owned(),
        log_size: shown.log_size,
        stopped: source.is_stopped(),
    };
    draft.finish(&about)?;
    draft.verify()?;
    let (files, bytes) = (draft.files.len() as u64, draft.bytes);
    let (copied, copied_bytes) = (draft.copied.len() as u64, draft.copied.values().sum());
    let name = about.taken_at.replace(':', "-");
    let dir = wanted.to.join(&name);
    fs::rename(&draft.dir, &dir).context(Kind::Internal, format!("cannot name the backup {}", dir.display()))?;
    let behind = |what: &'static str| {
        let text = format!("the backup {} is whole, but {what}", dir.display());
        move |error: Error| Error::new(error.kind(), text).because(error)
    };
    copy::sync_dir(&wanted.to).map_err(behind("its name may go with a loss of power"))?;
    let mirrored = wanted.keys.as_deref().map(|mirror| seal::mirror(&data.join(seal::DIR), mirror, || source.keys()));
    let noted = source.done(files, bytes);
    let keys = mirrored.transpose().map_err(behind("the mirror of the keys is not brought up to it"))?;
    noted.map_err(behind("the audit trail does not say so"))?;
    let removed = wanted.keep.map_or(Ok(0), |keep| prune(&wanted.to, &about.owner, &name, keep));
    let removed = removed.map_err(behind("older ones are not removed"))?;
    let (log_size, damaged) = (about.log_size, draft.damaged);
    Ok(Taken { dir, files, bytes, copied, copied_bytes, log_size, keys, removed, damaged })
}

/// Removes the oldest backups of this store until `keep` are left, never the one that is called `newest`; how many. What another store
/// has there stays, and so does what cannot be told.
fn prune(to: &Path, owner: &str, newest: &str, keep: usize) -> Result<u64> {
    let mut own = set::names(to)?;
    own.retain(|name| {
        set::is_own(name) && Backup::open(&to.join(name)).is_ok_and(|backup| backup.about.owner == owner)
    });
    let mut removed = 0;
    for old in own.iter().take(own.len().saturating_sub(keep.max(1))).filter(|old| *old != newest) {
        let old = to.join(old);
        let going = PathBuf::from(format!("{}{}", old.display(), set::PARTIAL));
        fs::rename(&old, &going).context(Kind::Internal, format!("cannot remove {}", old.display()))?;
        remove(&going)?;
        removed += 1;
    }
    Ok(removed)
}

impl Draft<'_> {
    /// Copies what lies beside the store.
    fn beside(&mut self, data: &Path, config: Option<&Path>) -> Result<()> {
        for name in FILES {
            self.if_there(&data.join(name), name.to_owned())?;
        }
        for name in DIRECTORIES {
            let dir = data.join(name);
            let entries = match fs::read_dir(&dir) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                listed => listed.context(Kind::Internal, format!("cannot list {}", dir.display()))?,
            };
            private_dir(&self.dir.join(name))?;
            for entry in entries {
                let entry = entry.context(Kind::Internal, format!("cannot list {}", dir.display()))?;
                let file = entry.file_name().to_string_lossy().into_owned();
                // Drafts are nobody's word yet.
                if entry.file_type().is_ok_and(|kind| kind.is_file()) && !file.starts_with('.') && set::is_plain(&file)
                {
                    self.if_there(&entry.path(), format!("{name}/{file}"))?;
                }
            }
        }
        if let Some(config) = config {
            self.copy(config, "server.toml".to_owned())?;
        }
        Ok(())
    }

    /// Copies a file unless it is not there, or went while it was looked for: what went is in the store.
    fn if_there(&mut self, from: &Path, name: String) -> Result<()> {
        match self.copy(from, name) {
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Copies a snapshot of the store, or links what the backup before has of it.
    fn store(&mut self, snapshot: &Path) -> Result<()> {
        private_dir(&self.dir.join(store::DIR))?;
        let failed = || format!("cannot list {}", snapshot.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(snapshot).context(Kind::Internal, failed())? {
            names.push(entry.context(Kind::Internal, failed())?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        for file in names {
            let (from, name) = (snapshot.join(&file), format!("{}/{file}", store::DIR));
            if file.ends_with(".sst") && self.link(&from, &name)? {
                continue;
            }
            self.copy(&from, name)?;
        }
        Ok(())
    }

    /// Links a file of the backup before, if it has the same; whether it has. What is linked was read to its end first: damage to it would
    /// be in every backup from then on.
    fn link(&mut self, from: &Path, name: &str) -> Result<bool> {
        let Some(before) = &self.before else { return Ok(false) };
        let Some(digest) = before.files.get(name).copied() else { return Ok(false) };
        let there = before.dir.join(name);
        if !copy::is_same(from, &there) {
            return Ok(false);
        }
        let length = match copy::read(&there, &mut self.pace) {
            Ok((found, length)) if found == digest => length,
            // The server has gone.
            Err(error) if error.kind() == Kind::Busy => return Err(error),
            _ => {
                tracing::warn!(
                    damaged = %there.display(), whole = %from.display(),
                    "a file of the backup before is not what was copied: it is copied again"
                );
                self.damaged.push(there);
                return Ok(false);
            }
        };
        // A file system without links, or with as many as it bears, gets a copy.
        if fs::hard_link(&there, self.dir.join(name)).is_err() {
            return Ok(false);
        }
        self.files.insert(name.to_owned(), digest);
        self.bytes += length;
        Ok(true)
    }

    fn copy(&mut self, from: &Path, name: String) -> Result<()> {
        if !set::is_plain(&name) {
            return Err(Error::new(Kind::Internal, format!("a file with the name {name:?} does not go into a backup")));
        }
        let (digest, length) = copy::copy(from, &self.dir.join(&name), &mut self.pace)?;
        self.files.insert(name.clone(), digest);
        self.copied.insert(name, length);
        self.bytes += length;
        Ok(())
    }

    /// Writes what the backup says of itself, and the list.
    fn finish(&mut self, about: &About) -> Result<()> {
        let text = toml::to_string(about).context(Kind::Internal, "what a backup says of itself cannot be written")?;
        self.write(set::ABOUT, &text)?;
        self.files.insert(set::ABOUT.to_owned(), Digest::of(text.as_bytes()));
        self.copied.insert(set::ABOUT.to_owned(), text.len() as u64);
        self.bytes += text.len() as u64;
        let (sums, sum) = set::lists(&self.files);
        self.write(set::SUMS, &sums)?;
        self.write(set::SUM_OF_SUMS, &sum)?;
        for dir in DIRECTORIES.iter().chain([&store::DIR]).map(|dir| self.dir.join(dir)).filter(|dir| dir.is_dir()) {
            copy::sync_dir(&dir)?;
        }
        copy::sync_dir(&self.dir)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        let write = || {
            fs::write(&path, text)?;
            File::open(&path)?.sync_all()
        };
        write().context(Kind::Internal, format!("cannot write {}", path.display()))
    }

    /// Reads again what was copied, from the disk, and the lists.
    fn verify(&mut self) -> Result<()> {
        let written = Backup::open(&self.dir)?;
        for name in self.copied.keys() {
            let (found, _) = copy::read(&self.dir.join(name), &mut self.pace)?;
            if written.files.get(name) != Some(&found) {
                let text = format!("{name} of the backup reads as something else than was written");
                return Err(Error::new(Kind::Damaged, text));
            }
        }
        Ok(())
    }
}

/// A directory for a backup that is not whole yet. There is one at a time.
fn draft_dir(to: &Path) -> Result<PathBuf> {
    let dir = to.join(format!("{}{}", set::NEW, set::PARTIAL));
    private_dir(&dir)?;
    Ok(dir)
}

fn private_dir(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().mode(0o700).create(dir);
    made.context(Kind::Internal, format!("cannot make the directory {}", dir.display()))
}

fn remove(dir: &Path) -> Result<()> {
    fs::remove_dir_all(dir).context(Kind::Internal, format!("cannot remove {}", dir.display()))
}

/// The time, to the microsecond, so that the names of backups sort by it.
fn rfc3339(at: Micros) -> String {
    let at = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_microsecond(at).ok()).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
