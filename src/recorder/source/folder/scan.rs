//! What is in a folder, when each file of it was recorded, and removing one.
//!
//! A card belongs to no one: links to elsewhere are not followed, files that change are not removed, and nothing but films
//! is looked at.

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use aigaq_proto::Micros;

use crate::error::{Context, Kind, Result};
use crate::media::remux;

/// Folders inside folders that are looked into.
const DEPTH_MAX: usize = 8;
/// Greatest number of files that are looked at at once; the others are when these are gone.
const FILES_MAX: usize = 10_000;
/// 2000-01-01: clocks that were never set say less.
const SANE_SINCE: Micros = 946_684_800_000_000;
/// How far ahead of this device's clock a camera's may be.
const SANE_AHEAD: Micros = 86_400_000_000;

/// What makes a file the same file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Its name in the folder.
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) modified_us: Micros,
}

/// A film in the folder.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) key: Key,
    pub(super) path: PathBuf,
}

/// The films in a folder.
///
/// # Errors
/// [`Kind::Invalid`] if the folder itself cannot be read.
pub(super) fn scan(folder: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((path, depth)) = folders.pop() {
        let entries = match std::fs::read_dir(&path) {
            Err(_) if depth > 0 => continue,
            entries => entries.context(Kind::Invalid, format!("cannot read {}", path.display()))?,
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() && depth < DEPTH_MAX {
                folders.push((path, depth + 1));
            } else if kind.is_file() && is_film(&path) && found.len() < FILES_MAX {
                let Ok(metadata) = entry.metadata() else { continue };
                let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
                found.push(Found { key: key(name, &metadata), path });
            }
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

fn is_film(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["mp4", "m4v", "mov"].iter().any(|film| extension.eq_ignore_ascii_case(film))
}

fn key(name: String, metadata: &Metadata) -> Key {
    let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Key { name, bytes: metadata.len(), modified_us: u64::try_from(modified.as_micros()).unwrap_or(u64::MAX) }
}

/// When a film was recorded: what its header says, if that can be true, else when it was last changed.
pub(super) fn recorded_at(path: &Path, modified_us: Micros, now: Micros) -> Micros {
    let created = File::open(path).ok().and_then(|mut file| remux::created_at(&mut file).ok().flatten());
    created.filter(|at| (SANE_SINCE..now.saturating_add(SANE_AHEAD)).contains(at)).unwrap_or(modified_us)
}

/// Removes a film, if it is still what it was.
///
/// # Errors
/// [`Kind::Internal`] if it cannot be removed.
pub(super) fn remove(path: &Path, key_then: &Key) -> Result<()> {
    let now = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => key(key_then.name.clone(), &metadata),
        _ => return Ok(()),
    };
    if now != *key_then {
        return Ok(());
    }
    std::fs::remove_file(path).context(Kind::Internal, format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn films_are_found_in_folders_of_folders_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(name), name).unwrap();
        };
        ["b.mp4", "DCIM/100/A.MOV", "c.m4v", "note.txt", "._b.mp4", ".trash/d.mp4", "e.avi"]
            .iter()
            .for_each(|name| put(name));
        std::os::unix::fs::symlink(dir.path().join("note.txt"), dir.path().join("link.mp4")).unwrap();
        let names: Vec<_> = scan(dir.path()).unwrap().into_iter().map(|found| found.key.name).collect();
        assert_eq!(names, ["DCIM/100/A.MOV", "b.mp4", "c.m4v"]);
        assert!(scan(&dir.path().join("none")).is_err());
    }

    #[test]
    fn only_a_film_that_is_what_it_was_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mp4");
        std::fs::write(&path, "one").unwrap();
        let key = scan(dir.path()).unwrap().remove(0).key;
        std::fs::write(&path, "another").unwrap();
        remove(&path, &key).unwrap();
        assert!(path.exists());
        let key = scan(dir.path()).unwrap().remove(0).key;
        remove(&path, &key).unwrap();
        assert!(!path.exists());
        remove(&path, &key).unwrap();
    }

    #[test]
    fn a_time_that_cannot_be_true_gives_way_to_that_of_the_last_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mp4");
        let now = 1_768_641_242_000_000;
        let header = |since_1904: u32| {
            let mvhd = [&[0; 4][..], &since_1904.to_be_bytes(), &[0; 4], &1_000u32.to_be_bytes(), &[0; 84]].concat();
            let boxed = |kind: &[u8; 4], body: &[u8]| {
                [&u32::try_from(body.len() + 8).unwrap().to_be_bytes()[..], kind, body].concat()
            };
            let file = [boxed(b"ftyp", b"isom\0\0\0\0"), boxed(b"moov", &boxed(b"mvhd", &mvhd))].concat();
            std::fs::write(&path, file).unwrap();
            recorded_at(&path, 7, now)
        };
        let since_1904 = |seconds: u64| u32::try_from(seconds + 2_082_844_800).unwrap();
        assert_eq!(header(since_1904(1_768_641_000)), 1_768_641_000_000_000);
        assert_eq!(header(0), 7);
        assert_eq!(header(since_1904(100)), 7, "1970");
        assert_eq!(header(since_1904(1_768_641_242 + 2 * 86_400)), 7, "the day after tomorrow");
        assert_eq!(recorded_at(&dir.path().join("none"), 7, now), 7);
    }
}
