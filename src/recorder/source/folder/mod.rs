//! A folder that is watched: the card of a dashcam, a docking station. Its files become recordings at their own time, and each
//! is removed once the server's receipts for every link of it were verified; never before.
//!
//! ```text
//! scan -> whole and still? -> oldest first -> ledger: begins at -> links -> ledger: ends at -> receipts -> remove
//! ```
//!
//! The ledger says, durably, with which segment of the chain a file begins before its first link is made. After a kill the
//! number of segments made since is the number of that file's segments that are in the spool already: those are left out. A file
//! that cannot be recorded is told once, stays where it is, and stops no other. Only files that it recorded are removed, and
//! only if they are still what they were.

mod ledger;
mod scan;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use aigaq_proto::Micros;
use aigaq_proto::link::StopCause;

use super::file;
use super::item::{Ask, Fate, Item, Standing};
use super::sink::Sink;
use crate::clock::Clock;
use crate::error::{Context, Error, Kind, Result};
use ledger::Ledger;
use scan::{Found, Key};

/// How long a file must not change to be taken as whole.
const STILL: Duration = Duration::from_secs(2);
/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A folder to watch.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder; its subfolders belong to it.
    pub path: PathBuf,
    /// Where the ledger is kept: the directory of the recorder's identity.
    pub state: PathBuf,
    /// Whether to end when all its files are recorded and received.
    pub once: bool,
}

/// What is known of a file that was seen.
struct Seen {
    since: Instant,
    /// When it was recorded, once that was looked at.
    recorded_at: Option<Micros>,
    bad: bool,
}

/// A folder that is being watched.
struct Watch {
    folder: Folder,
    clock: Clock,
    items: mpsc::Sender<Result<Item>>,
    ledger: Ledger,
    seen: BTreeMap<Key, Seen>,
    /// Why the first file could not be recorded, and how many could not.
    faults: (Option<Error>, usize),
}

/// Watches a folder until nobody wants more; if it is to be emptied once, until it is empty.
///
/// # Errors
/// [`Kind::Invalid`] if the folder cannot be read, or, at the end, if files in it could not be recorded;
/// [`Kind::Internal`] if the ledger cannot be kept.
pub(super) async fn watch(folder: Folder, clock: Clock, items: mpsc::Sender<Result<Item>>) -> Result<()> {
    let state = folder.state.clone();
    let ledger = blocking(move || Ledger::load(&state)).await?;
    let mut watch = Watch { folder, clock, items, ledger, seen: BTreeMap::new(), faults: (None, 0) };
    while watch.look().await? {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = watch.items.closed() => return Ok(()),
        }
    }
    match watch.faults {
        (Some(first), 1) => Err(first),
        (Some(first), count) => {
            Err(Error::new(Kind::Invalid, format!("{count} files could not be recorded, the first: {first}")))
        }
        (None, _) => Ok(()),
    }
}

impl Watch {
    /// Looks at the folder once and does what there is to do. False when all is done, or nobody wants more.
    async fn look(&mut self) -> Result<bool> {
        let path = self.folder.path.clone();
        let found = blocking(move || scan::scan(&path)).await?;
        self.seen.retain(|key, _| found.iter().any(|found| found.key == *key));
        let now = Instant::now();
        for found in &found {
            let seen = Seen { since: now, recorded_at: None, bad: self.ledger.is_bad(&found.key) };
            self.seen.entry(found.key.clone()).or_insert(seen);
        }
        if !self.clear(&found).await? {
            return Ok(false);
        }
        while let Some(next) = self.next(&found).await? {
            if !self.record(next).await? {
                return Ok(false);
            }
        }
        let waits = |found: &Found| self.seen.get(&found.key).is_some_and(|seen| !seen.bad);
        Ok(!self.folder.once || found.iter().any(waits))
    }

    /// The oldest recording among the files that are whole and not recorded.
    async fn next<'a>(&mut self, found: &'a [Found]) -> Result<Option<&'a Found>> {
        let mut oldest: Option<(Micros, &Found)> = None;
        for found in found {
            let Some(seen) = self.seen.get_mut(&found.key) else { continue };
            if seen.bad || seen.since.elapsed() < STILL || self.ledger.recorded(&found.key).is_some() {
                continue;
            }
            let at = match seen.recorded_at {
                Some(at) => at,
                None => {
                    let (path, modified, now) = (found.path.clone(), found.key.modified_us, self.clock.now());
                    let at = blocking(move || Ok(scan::recorded_at(&path, modified, now))).await?;
                    *seen.recorded_at.insert(at)
                }
            };
            if oldest.is_none_or(|(oldest, _)| at < oldest) {
                oldest = Some((at, found));
            }
        }
        Ok(oldest.map(|(_, found)| found))
    }

    /// Records a file. False when nobody wants more.
    async fn record(&mut self, found: &Found) -> Result<bool> {
        let Some(standing) = self.ask(0..0).await else { return Ok(false) };
        let begun = self.ledger.begin(&found.key, &standing).await?;
        let skip = standing.ordinal.saturating_sub(begun);
        let at = self.seen.get(&found.key).and_then(|seen| seen.recorded_at).unwrap_or(found.key.modified_us);
        let (items, path) = (self.items.clone(), found.path.clone());
        let read = tokio::task::spawn_blocking(move || file::read(&path, &mut Sink::at(&items, at, skip))).await;
        let read = read.context(Kind::Internal, "reading a file died")?;
        let cause = if read.is_ok() { StopCause::SourceEnded } else { StopCause::Fault };
        if self.items.send(Ok(Item::End(cause))).await.is_err() {
            return Ok(false);
        }
        let Some(standing) = self.ask(0..0).await else { return Ok(false) };
        match read {
            Ok(()) => self.ledger.end(&found.key, &standing).await?,
            Err(fault) => self.bad(found, fault).await?,
        }
        Ok(true)
    }

    /// Remembers that a file cannot be recorded, and says so.
    async fn bad(&mut self, found: &Found, fault: Error) -> Result<()> {
        if !found.path.exists() {
            return self.ledger.forget(&found.key).await;
        }
        self.ledger.bad(&found.key).await?;
        if let Some(seen) = self.seen.get_mut(&found.key) {
            seen.bad = true;
        }
        let _ = self.items.send(Ok(Item::Note(format!("{fault}; it stays where it is")))).await;
        self.faults.1 += 1;
        self.faults.0.get_or_insert(fault);
        Ok(())
    }

    /// Removes the files of which every link has its receipt. False when nobody wants more.
    async fn clear(&mut self, found: &[Found]) -> Result<bool> {
        for file in found {
            // A file that is not there, because the card was pulled out, may come back.
            let Some(sequences) = self.ledger.recorded(&file.key) else { continue };
            let Some(standing) = self.ask(sequences).await else { return Ok(false) };
            match standing.fate {
                Fate::Waiting => {}
                Fate::Received => {
                    let (path, key) = (file.path.clone(), file.key.clone());
                    blocking(move || scan::remove(&path, &key)).await?;
                    self.seen.remove(&file.key);
                    self.ledger.forget(&file.key).await?;
                }
                Fate::Missing => {
                    let text = format!("{}: the server will not have every link of it", file.path.display());
                    self.bad(file, Error::new(Kind::Invalid, text)).await?;
                }
            }
        }
        Ok(true)
    }

    /// Where the chain stands when everything so far is in the spool, and what became of some links; `None` if the recorder
    /// has ended.
    async fn ask(&self, about: std::ops::Range<u64>) -> Option<Standing> {
        let (ask, mut answer) = Ask::about(about);
        self.items.send(Ok(Item::Ask(ask))).await.ok()?;
        answer.recv().await
    }
}

/// Runs what blocks.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(run).await.context(Kind::Internal, "work on a folder died")?
}

#[cfg(test)]
mod tests;
