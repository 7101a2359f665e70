//! The time stamps that authorities gave for checkpoints of this log: `DIR/timestamps/<tree size>-<time>.tsr`, each the whole
//! answer of RFC 3161, over the checkpoint with the signature of the log alone.
//!
//! A file is durable before anybody hears of it and never changes. All of a day are kept, of older ones the first of every hour, and
//! after ninety days the first of every day: some ten kilobytes a day. One that does not read is reported and passed over; nothing
//! rests on them being there.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use aigaq_proto::{Digest, Micros};

use super::sidecar::write_durable;
use super::{Reader, Tree};
use crate::error::{Context as _, Kind, Result};
use crate::timestamp::{REPLY_BYTES_MAX, Token};

/// Name of their directory in the data directory.
const DIR: &str = "timestamps";
const HOUR: Micros = 3_600_000_000;
const DAY: Micros = 24 * HOUR;
/// Until here one an hour is kept.
const HOURLY: Micros = 90 * DAY;

/// A checkpoint with the time stamp over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The tree; its checkpoint is what is stamped, byte for byte.
    pub tree: Tree,
    /// What the token says.
    pub token: Token,
    /// The answer of the authority (DER `TimeStampResp`).
    pub answer: Vec<u8>,
}

/// What is kept, by tree size. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stamped(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    dir: OnceLock<PathBuf>,
    at: Mutex<BTreeMap<u64, Micros>>,
}

impl Stamped {
    /// Size of the largest tree with a time stamp, and its time.
    #[must_use]
    pub fn newest(&self) -> Option<(u64, Micros)> {
        self.all().last_key_value().map(|(size, at)| (*size, *at))
    }

    /// Looks through what was kept in `dir`, and keeps what comes there. Blocks.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the directory cannot be used.
    pub(super) fn keep_in(&self, dir: &Path) -> Result<()> {
        let dir = dir.join(DIR);
        let unusable = || format!("cannot use {}", dir.display());
        fs::create_dir_all(&dir).context(Kind::Internal, unusable())?;
        *self.all() = named(&dir)?;
        let _ = self.0.dir.set(dir);
        Ok(())
    }

    /// Keeps the answer about the tree with `size` entries, durable on return, and removes those that are too many by now. Blocks.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it cannot be written.
    pub(super) fn keep(&self, size: u64, at: Micros, answer: &[u8]) -> Result<()> {
        let Some(dir) = self.0.dir.get() else { return Ok(()) };
        write_durable(&path(dir, size, at), &dir.join("new"), answer)?;
        let mut all = self.all();
        all.insert(size, at);
        for (size, at) in too_many(&all, at) {
            let path = path(dir, size, at);
            fs::remove_file(&path).context(Kind::Internal, format!("cannot remove {}", path.display()))?;
            all.remove(&size);
        }
        Ok(())
    }

    fn answer(&self, size: u64, at: Micros) -> Option<Vec<u8>> {
        read(&path(self.0.dir.get()?, size, at))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Micros>> {
        self.0.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// The first time stamp over a checkpoint whose tree has a size in `sizes`: the earliest proof that it was there. `None` where
    /// there is none. Blocks.
    ///
    /// # Errors
    /// Those of [`Reader::root`].
    pub fn stamp(&self, sizes: Range<u64>) -> Result<Option<Stamp>> {
        if sizes.is_empty() {
            return Ok(None);
        }
        let within: Vec<_> = self.stamped.all().range(sizes).map(|(size, at)| (*size, *at)).collect();
        for (size, at) in within {
            if size > self.size()? {
                break;
            }
            if let Some(stamp) = self.read_stamp(size, self.stamped.answer(size, at))? {
                return Ok(Some(stamp));
            }
            tracing::warn!(size, "a time stamp does not read, or is over another checkpoint");
        }
        Ok(None)
    }

    /// Looks at every time stamp that is kept in the data directory `dir`: how many hold, and the files of those that do not. Changes
    /// nothing; blocks.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the directory cannot be read.
    pub fn check_stamps(&self, dir: &Path) -> Result<(u64, Vec<PathBuf>)> {
        let dir = dir.join(DIR);
        let (mut good, mut bad) = (0, Vec::new());
        if !dir.exists() {
            return Ok((good, bad));
        }
        for (size, at) in named(&dir)? {
            let path = path(&dir, size, at);
            match self.read_stamp(size, read(&path)) {
                Ok(Some(_)) => good += 1,
                _ => bad.push(path),
            }
        }
        Ok((good, bad))
    }

    /// The time stamp over the tree with `size` entries that an answer is; `None` if it is none.
    fn read_stamp(&self, size: u64, answer: Option<Vec<u8>>) -> Result<Option<Stamp>> {
        let tree = self.tree(size)?;
        let imprint = Digest::of(tree.checkpoint.as_bytes()).0;
        let token = answer.as_deref().and_then(|answer| Token::read(answer, &imprint).ok());
        Ok(token.zip(answer).map(|(token, answer)| Stamp { tree, token, answer }))
    }

    /// What is stamped.
    #[must_use]
    pub fn stamped(&self) -> &Stamped {
        &self.stamped
    }
}

/// What the files in `dir` are called: tree sizes and times.
fn named(dir: &Path) -> Result<BTreeMap<u64, Micros>> {
    let unusable = || format!("cannot read {}", dir.display());
    let mut named = BTreeMap::new();
    for entry in fs::read_dir(dir).context(Kind::Internal, unusable())? {
        let path = entry.context(Kind::Internal, unusable())?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()?.split_once('-'));
        let name = name.and_then(|(size, at)| Some((size.parse().ok()?, at.parse().ok()?)));
        match name.filter(|_| path.extension().is_some_and(|extension| extension == "tsr")) {
            Some((size, at)) => drop(named.insert(size, at)),
            // A draft that a crash left, or nothing of ours.
            None => tracing::debug!(path = %path.display(), "no time stamp"),
        }
    }
    Ok(named)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).ok().filter(|answer| answer.len() <= REPLY_BYTES_MAX)
}

fn path(dir: &Path, size: u64, at: Micros) -> PathBuf {
    dir.join(format!("{size}-{at}.tsr"))
}

/// Those that need not be kept at `now`.
fn too_many(all: &BTreeMap<u64, Micros>, now: Micros) -> Vec<(u64, Micros)> {
    let mut last = None;
    let mut too_many = Vec::new();
    for (size, at) in all {
        let grain = match now.saturating_sub(*at) {
            age if age < DAY => continue,
            age if age < HOURLY => HOUR,
            _ => DAY,
        };
        let period = Some((grain, at / grain));
        if period == last {
            too_many.push((*size, *at));
        }
        last = period;
    }
    too_many
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_older_stamps_the_first_of_an_hour_and_then_of_a_day_stays() {
        let now = 200 * DAY;
        let every_ten_minutes = (0..200 * 144).map(|number| (number, number * HOUR / 6)).collect::<BTreeMap<_, _>>();
        let gone: BTreeMap<_, _> = too_many(&every_ten_minutes, now).into_iter().collect();
        let left: Vec<Micros> =
            every_ten_minutes.values().filter(|at| !gone.values().any(|one| one == *at)).copied().collect();
        let between = |from: Micros, to: Micros| left.iter().filter(|at| (from..to).contains(*at)).count();
        assert_eq!(between(0, 110 * DAY), 110);
        assert_eq!(between(111 * DAY, 198 * DAY), 87 * 24);
        assert_eq!(between(now - DAY + 1, now), 143);
        assert!(left.iter().take(110).all(|at| at % DAY == 0), "the first of each day");
    }
}
