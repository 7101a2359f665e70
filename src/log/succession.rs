//! The end of a log and its successor (SPEC.md section 10.3), in the data directory.
//!
//! `DIR/succession` has the statements of all ends, oldest first; the last of them names the key in `DIR/log.key`. What the log that
//! ended left beside the store (newest checkpoint, cosigned one, time stamps) lies in `DIR/retired`, under the id of its key; its private
//! key is gone with its last signature, which is the statement. The successor has the same entries as far as they go, so that nothing in
//! the store changes.
//!
//! The order: the new key lies beside the old one, then the statement is durable, then what is retired is moved, then the new key takes
//! its place. Cut off before the statement nothing has happened; behind it no server starts until the same again has gone on.

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aigaq_proto::Micros;
use aigaq_proto::receipt::LogKey;
use aigaq_proto::succession::{self, Succession};

use super::sidecar::write_durable;
use super::{Identity, Reader, identity};
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::Store;

/// The statements.
const FILE: &str = "succession";
/// What logs that ended left.
const RETIRED: &str = "retired";
/// The key of the successor, until it takes its place.
const NEXT: &str = "log.key.next";
/// Longest reason, bytes, so that some thirty ends fit into what a recorder is sent.
const REASON_BYTES_MAX: usize = 512;
/// What is left beside the store by a log: files, and one directory of files.
const LEFT: [&str; 2] = ["checkpoint", "cosigned"];
const STAMPS: &str = "timestamps";

/// The statements in the data directory `dir`, checked; empty for a log that never ended.
///
/// # Errors
/// [`Kind::Damaged`] when they do not hold, [`Kind::Internal`] when the file does not read.
pub(super) fn read(dir: &Path) -> Result<(String, Vec<Succession>)> {
    let path = dir.join(FILE);
    let notes = match fs::read_to_string(&path) {
        Ok(notes) => notes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((String::new(), Vec::new())),
        Err(error) => return Err(error).context(Kind::Internal, format!("cannot read {}", path.display())),
    };
    let statements = succession::read(&notes).context(Kind::Damaged, format!("{} does not hold", path.display()))?;
    Ok((notes, statements))
}

/// The first key that the log of the data directory `dir` ever had, as a vkey: what tells this log, and whatever lies with it, apart from
/// every other.
///
/// # Errors
/// [`Kind::NotFound`] when there is no key, and those of [`Identity::load`].
pub fn first_key(dir: &Path) -> Result<String> {
    if let Some(first) = read(dir)?.1.first() {
        return Ok(first.old.as_str().to_owned());
    }
    let identity = Identity::load(dir)?;
    let missing = || Error::new(Kind::NotFound, format!("there is no log.key in {}", dir.display()));
    Ok(identity.ok_or_else(missing)?.key().as_str().to_owned())
}

/// Whether the key in `dir` is the one that its statements lead to.
///
/// # Errors
/// [`Kind::Invalid`] when a succession was cut off, and as [`read`].
pub(super) fn check_key(dir: &Path, key: &LogKey) -> Result<String> {
    let (notes, statements) = read(dir)?;
    if statements.last().is_some_and(|newest| newest.next != *key) {
        let text = "log.key is not the key that the succession of the log leads to: run aigaq log succeed again";
        return Err(Error::new(Kind::Invalid, text));
    }
    Ok(notes)
}

/// The key of the log in the data directory `dir`, which its statements lead to.
///
/// # Errors
/// [`Kind::NotFound`] when there is none, [`Kind::Invalid`] when a succession was cut off, and those of reading the statements.
pub fn current_key(dir: &Path) -> Result<LogKey> {
    let identity = Identity::load(dir)?;
    let missing = || Error::new(Kind::NotFound, format!("there is no log.key in {}", dir.display()));
    let key = identity.ok_or_else(missing)?.key();
    check_key(dir, &key)?;
    Ok(key)
}

/// Ends the log of the store in the data directory `dir` and begins its successor; with one that was cut off, goes on, also where nothing
/// but the store's word is missing. The statement, and whether it is a new one. Blocks.
///
/// # Errors
/// [`Kind::Invalid`] for a reason that is none or too long, or after more ends than a recorder can be told of, [`Kind::NotFound`] without a key, [`Kind::Damaged`] when the log does not hold,
/// [`Kind::Internal`] when the disk does not obey.
pub fn succeed(dir: &Path, store: &Store, reason: &str, at: &str) -> Result<(Succession, bool)> {
    let identity = Identity::load(dir)?.ok_or_else(|| Error::new(Kind::NotFound, "there is no log.key"))?;
    let (notes, statements) = read(dir)?;
    if let Some(cut_off) = statements.last().filter(|newest| newest.next != identity.key()).cloned() {
        finish(dir, &cut_off)?;
        return Ok((cut_off, false));
    }
    if reason.trim().is_empty() {
        return Err(Error::new(Kind::Invalid, "a reason is missing"));
    }
    if reason.len() > REASON_BYTES_MAX {
        return Err(Error::new(Kind::Invalid, format!("a reason has at most {REASON_BYTES_MAX} bytes")));
    }
    let reader = Reader::new(store.clone(), identity.clone());
    let (old, size) = (identity.key(), reader.size()?);
    if let Some(unsettled) = store.restored()?.filter(|restored| !restored.is_settled()) {
        let is_of_this = |newest: &Succession| newest.size == size && is_since(&newest.at, unsettled.restored_at);
        if let Some(said) = statements.last().filter(|newest| is_of_this(newest)).cloned() {
            return Ok((said, false));
        }
    }
    let (text, next) = identity::make(&successor_of(&old, size))?;
    let (root, at, reason) = (reader.root(size)?, at.to_owned(), reason.trim().to_owned());
    let note = identity.end(&Succession { old, size, root, next, at, reason })?;
    let statement = Succession::open(&note).context(Kind::Internal, "the statement does not read as it was written")?;
    // Nobody could start on statements that do not read, and the old key would be gone.
    let notes = format!("{notes}{note}");
    succession::read(&notes).context(Kind::Invalid, "the log has ended too often for another successor")?;
    put_secret(dir, &text)?;
    write_durable(&dir.join(FILE), &dir.join(format!("{FILE}.new")), notes.as_bytes())?;
    finish(dir, &statement)?;
    Ok((statement, true))
}

/// An origin that no other log has: of one that ends twice, in two copies, the successors are two logs.
fn successor_of(old: &LogKey, size: u64) -> String {
    use rand_core::{OsRng, RngCore as _};
    format!("{}/after-{size}-{:08x}", base_of(old.origin()), OsRng.next_u32())
}

/// Whether a time of a statement, RFC 3339, is not before another one.
fn is_since(at: &str, since: Micros) -> bool {
    let at = at.parse::<jiff::Timestamp>().ok().and_then(|at| Micros::try_from(at.as_microsecond()).ok());
    at.is_some_and(|at| at >= since)
}

/// What an origin was before any end.
fn base_of(origin: &str) -> &str {
    origin.split("/after-").next().unwrap_or(origin)
}

/// Moves what is retired, and gives the new key its place.
fn finish(dir: &Path, statement: &Succession) -> Result<()> {
    let failed = || "cannot end the log".to_owned();
    let id = statement.old.as_str().split('+').nth(1).unwrap_or("old");
    let retired = dir.join(RETIRED);
    DirBuilder::new().recursive(true).mode(0o700).create(&retired).context(Kind::Internal, failed())?;
    let keep = |from: PathBuf, name: String| match fs::rename(from, retired.join(format!("{id}-{name}"))) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context(Kind::Internal, failed()),
        _ => Ok(()),
    };
    LEFT.iter().try_for_each(|name| keep(dir.join(name), (*name).to_owned()))?;
    if let Ok(entries) = fs::read_dir(dir.join(STAMPS)) {
        for entry in entries {
            let entry = entry.context(Kind::Internal, failed())?;
            keep(entry.path(), format!("{STAMPS}-{}", entry.file_name().to_string_lossy()))?;
        }
    }
    for synced in [retired.as_path(), dir] {
        fs::File::open(synced).and_then(|synced| synced.sync_all()).context(Kind::Internal, failed())?;
    }
    let next = dir.join(NEXT);
    let there = identity::read(&next)?.filter(|there| there.key() == statement.next);
    there.ok_or_else(|| Error::new(Kind::Damaged, format!("{} is not the key of the successor", next.display())))?;
    let placed = fs::rename(&next, dir.join(identity::FILE)).and_then(|()| fs::File::open(dir)?.sync_all());
    placed.context(Kind::Internal, failed())
}

fn put_secret(dir: &Path, text: &str) -> Result<()> {
    let path = dir.join(NEXT);
    let write = || {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::File::open(dir)?.sync_all()
    };
    write().context(Kind::Internal, format!("cannot write {}", path.display()))
}

impl Reader {
    /// Checks the statements in the data directory `dir` against this log: each has the entries that it says. How many there are.
    ///
    /// # Errors
    /// [`Kind::Damaged`] or [`Kind::Invalid`] when they do not hold, and those of [`Reader::root`].
    pub fn check_succession(&self, dir: &Path) -> Result<u64> {
        check_key(dir, &self.key())?;
        let statements = read(dir)?.1;
        for Succession { old, size, root, .. } in &statements {
            if *size > self.size()? || self.root(*size)? != *root {
                let text = format!("the log {} ended with {size} entries, and these are others", old.origin());
                return Err(Error::new(Kind::Damaged, text));
            }
        }
        Ok(statements.len() as u64)
    }
}
