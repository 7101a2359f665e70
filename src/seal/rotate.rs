//! Exchanging the master key, while no server runs.
//!
//! Only the heads of the key files are written anew, one file after the other; no data key and no footage changes. With a file as master
//! key: the new one is durable beside the old one before the first head names it, and takes its name after the last. With
//! commands: every head is wrapped by them anew, also those that the file had wrapped. Cut off anywhere, everything stays
//! readable, and the same again goes on.

use std::fs;
use std::path::Path;

use super::file::{self, KeyFile};
use super::master::{self, Master};
use super::{Settings, master::path as master_path};
use crate::error::{Context, Kind, Result};

/// Exchanges the master key of the directory of keys `dir`. Returns how many files have a new head. Blocks.
///
/// # Errors
/// Those of unwrapping and wrapping: [`Kind::Busy`] when a KMS is away, [`Kind::Damaged`] for a file that does not open;
/// [`Kind::Internal`] when the disk does not obey.
pub fn rotate(dir: &Path, settings: &Settings) -> Result<u64> {
    file::sweep(dir).context(Kind::Internal, "cannot list the directory of the keys")?;
    let by_command = !settings.wrap_command.is_empty();
    let next = master::next_path(dir, settings);
    if !by_command && !next.exists() {
        master::make(&next)?;
    }
    let master = Master::load(dir, settings)?;
    let mut written = 0;
    for day in file::days(dir)? {
        let Some(KeyFile { head, slots, .. }) = KeyFile::read(dir, day)? else { continue };
        if !by_command && master.is_next(&head) {
            continue;
        }
        let secret = master.unwrap(&head)?;
        let head = if by_command { master.wrap(day, &secret)? } else { master.wrap_next(day, &secret)? };
        file::put_day(dir, &head, &slots).context(Kind::Internal, format!("cannot write the key file of day {day}"))?;
        written += 1;
    }
    if !by_command {
        let path = master_path(dir, settings);
        let exchange = || {
            let old = fs::OpenOptions::new().write(true).open(&path).ok();
            fs::rename(&next, &path)?;
            file::sync_above(&path)?;
            old.map_or(Ok(()), |old| file::blank(&old))
        };
        exchange().context(Kind::Internal, format!("cannot write {}", path.display()))?;
    }
    Ok(written)
}
