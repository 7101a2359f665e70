//! The log: the room that keeps it computes its tree anew from the entries; here its rows are held against its size, and each
//! entry against the one link or audit entry that it belongs to.

use std::collections::HashMap;
use std::path::Path;

use aigaq_proto::{Digest, Micros, receipt};

use super::trail::TRAIL;
use super::{Findings, Walk};
use crate::error::{Error, Kind, Result};
use crate::log::{Identity, Reader, TILE_WIDTH};
use crate::store::engine::Family;
use crate::store::{ENTRY_BYTES, HASH_BYTES, Store, keys};

/// Tiles of entries kept in memory while the links are walked, about 10 KiB each.
const TILES_MAX: usize = 2_048;
/// Levels of tiles in a log of 2^64 entries.
const LEVELS: u8 = 8;

/// The entries of a log that was checked, and which of them a link has claimed.
pub(super) struct Log<'a> {
    store: &'a Store,
    reader: Reader,
    size: u64,
    claimed: Vec<bool>,
    tiles: HashMap<u64, Vec<u8>>,
}

/// Checks the log by itself, and the newest checkpoint and the time stamps in `dir` against it.
///
/// # Errors
/// When not even its size can be told.
pub(super) fn check<'a>(
    store: &'a Store,
    identity: Identity,
    dir: &Path,
    findings: &mut Findings<'_>,
) -> Result<Log<'a>> {
    let size = store.log_size()?;
    let reader = Reader::new(store.clone(), identity);
    findings.report.log_entries = size;
    let mut reached = 0;
    if findings.keep("log", "log", reader.check(|_, _| reached += 1)).is_none() {
        findings.not_checked("hashes of entries", size - reached);
    }
    findings.report.checkpoint = findings.keep("log", "checkpoint", reader.check_kept(dir)).flatten();
    findings.report.successions = findings.keep("log", "succession", reader.check_succession(dir)).unwrap_or_default();
    if let Some((good, bad)) = findings.keep("log", "timestamps", reader.check_stamps(dir)) {
        findings.report.timestamps = good;
        for path in bad {
            let text = format!("{} is no time stamp over this log", path.display());
            findings.keep::<()>("log", "timestamps", Err(Error::new(Kind::Damaged, text)));
        }
    }
    rows(store, size, findings);
    let claimed = vec![false; usize::try_from(size).unwrap_or_default()];
    Ok(Log { store, reader, size, claimed, tiles: HashMap::new() })
}

/// Reads every stored row: each level has as many items as the size of the log asks for, and no other.
fn rows(store: &Store, size: u64, findings: &mut Findings<'_>) {
    let expected = |level: u8| size.checked_shr(u32::from(level) * 8).unwrap_or_default();
    let mut ends = [0; LEVELS as usize];
    let mut behind_hole = false;
    for entry in Walk::new(store.engine(), Family::Tiles) {
        let Some((key, value)) = findings.read(entry) else {
            behind_hole = true;
            continue;
        };
        let Some((level, first)) = findings.keep("log", "log", keys::read_tile(&key)) else { continue };
        let bytes = if level == 0 { ENTRY_BYTES } else { HASH_BYTES };
        let last = first.saturating_add((value.len() / bytes) as u64);
        let goes_on = std::mem::take(&mut behind_hole);
        match ends.get_mut(usize::from(level)) {
            Some(end) if last <= expected(level) && value.len() % bytes == 0 && (*end == first || goes_on) => {
                *end = last
            }
            end => {
                end.into_iter().for_each(|end| *end = last);
                let what = format!("the row at item {first} of level {level} does not belong there");
                findings.problem("log", format!("log: {what}"));
            }
        }
    }
    if findings.has_hole(&[Family::Tiles]) {
        findings.not_checked("levels of the log", u64::from(LEVELS));
        return;
    }
    for (level, end) in (0..).zip(ends) {
        if end != expected(level) {
            let what = format!("level {level} has {end} items instead of {}", expected(level));
            findings.problem("log", format!("log: {what}"));
        }
    }
}

/// What came of a link's claim to an entry of the log.
pub(super) enum Claim {
    /// The entry is its own.
    Held,
    /// The entry does not read; the walk over the log says so.
    Unread,
    /// Why it is not.
    Wrong(String),
}

impl Log<'_> {
    /// The root of the tree of the first so many entries, from the stored tiles.
    pub(super) fn root(&self, size: u64) -> Result<Digest> {
        self.reader.root(size)
    }

    /// Checks that the entry at `index` is that of the link or the audit entry with this digest, and that nothing else claims it.
    pub(super) fn claim(&mut self, index: u64, tree_size: u64, digest: &Digest, received_at: Micros) -> Claim {
        if index >= tree_size || tree_size > self.size {
            let what = format!("it names entry {index} of a tree of {tree_size} in a log of {}", self.size);
            return Claim::Wrong(what);
        }
        let entry = self.entry(index);
        if entry.as_ref().is_some_and(|entry| *entry != receipt::entry(digest, received_at)) {
            return Claim::Wrong(format!("entry {index} of the log is not its own"));
        }
        match usize::try_from(index).ok().and_then(|index| self.claimed.get_mut(index)) {
            Some(claimed) if !*claimed => *claimed = true,
            _ => return Claim::Wrong(format!("entry {index} of the log has two owners")),
        }
        entry.map_or(Claim::Unread, |_| Claim::Held)
    }

    /// The entry, unless its tile does not read.
    fn entry(&mut self, index: u64) -> Option<Vec<u8>> {
        let first = index - index % TILE_WIDTH;
        if !self.tiles.contains_key(&first) {
            let end = self.size.min(first.saturating_add(TILE_WIDTH));
            let tile = self.store.log_rows(0, first..end).unwrap_or_default();
            if self.tiles.len() >= TILES_MAX {
                self.tiles.clear();
            }
            self.tiles.insert(first, tile);
        }
        let at = usize::try_from(index % TILE_WIDTH).unwrap_or_default() * ENTRY_BYTES;
        self.tiles.get(&first)?.get(at..at + ENTRY_BYTES).map(<[u8]>::to_vec)
    }

    /// Lists the entries that nothing has claimed.
    pub(super) fn check_owners(&self, findings: &mut Findings<'_>) {
        let orphans = self.claimed.iter().filter(|claimed| !**claimed).count();
        if findings.has_hole(&[Family::Links, Family::Forks]) || findings.has_hole(&TRAIL) {
            findings.not_checked("entries of the log", orphans as u64);
        } else if let Some(first) = self.claimed.iter().position(|claimed| !claimed) {
            findings.problem(
                "log",
                format!("log: {orphans} entries have neither link nor audit entry, the first is entry {first}"),
            );
        }
    }
}
