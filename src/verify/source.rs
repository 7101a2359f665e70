//! Where the bytes of a bundle come from: a ZIP or a directory, both as named sections of files on disk.
//!
//! Names are judged before anything is opened: relative, of plain parts, each once. Nothing is ever written.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::zip;
use crate::bundle::{self, PATH_BYTES_MAX};
use crate::error::{Context as _, Error, Kind, Result};

/// Most files of a bundle, and the length of their paths together, bytes.
pub(super) const FILES_MAX: usize = bundle::FILES_MAX;
const PATHS_BYTES_MAX: usize = 16 << 20;
/// Deepest directory.
const DEPTH_MAX: usize = 8;

/// A bundle that can be read.
pub(super) struct Source {
    /// The ZIP; none for a directory.
    archive: Option<Arc<File>>,
    root: PathBuf,
    /// Offset (0 in a directory) and length of each file.
    entries: BTreeMap<String, (u64, u64)>,
}

/// The bytes of one file of a bundle.
#[derive(Debug, Clone)]
pub(super) struct Section {
    file: Arc<File>,
    start: u64,
    /// Their number.
    pub(super) length: u64,
}

impl Section {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`Kind::Invalid`] beyond the end, [`Kind::Internal`] when the disk does not give it.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.length);
        let at = end.and_then(|_| self.start.checked_add(offset));
        let at = at.ok_or_else(|| Error::new(Kind::Invalid, "a file of the bundle ends too early"))?;
        match self.file.read_exact_at(buffer, at) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(changed()),
            result => result.context(Kind::Internal, "cannot read the bundle"),
        }
    }
}

/// What somebody else writes to while it is read cannot be judged.
fn changed() -> Error {
    unreadable("a file of the bundle changed while it was read")
}

/// A failure to read what is no bundle.
pub(super) fn unreadable(text: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, text)
}

impl Source {
    /// # Errors
    /// As [`super::verify`].
    pub(super) fn open(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot read {}", path.display());
        let meta = std::fs::metadata(path).context(Kind::Internal, cannot())?;
        if meta.is_dir() {
            let mut entries = BTreeMap::new();
            walk(path, "", 0, &mut entries, &mut 0)?;
            return Ok(Self { archive: None, root: path.to_owned(), entries });
        }
        if !meta.is_file() {
            return Err(unreadable(format!("{} is neither a file nor a directory", path.display())));
        }
        let file = File::open(path).context(Kind::Internal, cannot())?;
        let entries = zip::entries(&file, meta.len())?;
        Ok(Self { archive: Some(Arc::new(file)), root: path.to_owned(), entries })
    }

    /// All paths.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Length of the file with this path, bytes, if it is there.
    pub(super) fn length(&self, path: &str) -> Option<u64> {
        self.entries.get(path).map(|(_, length)| *length)
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.values().fold(0, |sum, (_, length)| sum.saturating_add(*length))
    }

    /// The file with this path, if it is there.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it cannot be opened.
    pub(super) fn section(&self, path: &str) -> Result<Option<Section>> {
        let Some((start, length)) = self.entries.get(path).copied() else { return Ok(None) };
        let file = match &self.archive {
            Some(archive) => Arc::clone(archive),
            None => Arc::new(open(&self.root.join(path), path, length)?),
        };
        Ok(Some(Section { file, start, length }))
    }

    /// The whole of a small file, if it is there.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it is longer than `limit`, and those of [`Source::section`].
    pub(super) fn whole(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(section) = self.section(path)? else { return Ok(None) };
        if section.length > limit {
            return Err(unreadable(format!("{path} is longer than {limit} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(section.length).unwrap_or(usize::MAX)];
        section.read(0, &mut bytes)?;
        Ok(Some(bytes))
    }
}

/// Opens a file of a directory that was seen before. One that has become something else meanwhile is neither followed nor waited for.
fn open(at: &Path, path: &str, length: u64) -> Result<File> {
    let cannot = || format!("cannot read {path}");
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(at, flags, Mode::empty()).context(Kind::Internal, cannot())?);
    let meta = file.metadata().context(Kind::Internal, cannot())?;
    if meta.is_file() && meta.len() == length { Ok(file) } else { Err(changed()) }
}

/// Whether a path stays within its directory, and means the same everywhere.
pub(super) fn is_plain(path: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    path.len() <= PATH_BYTES_MAX
        && path.split('/').all(plain)
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b':'))
}

fn walk(
    root: &Path,
    below: &str,
    depth: usize,
    entries: &mut BTreeMap<String, (u64, u64)>,
    paths_bytes: &mut usize,
) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(unreadable("the directories of the bundle are too deep"));
    }
    let dir = root.join(below);
    let cannot = || format!("cannot read {}", dir.display());
    for entry in std::fs::read_dir(&dir).context(Kind::Internal, cannot())? {
        let entry = entry.context(Kind::Internal, cannot())?;
        let name = entry.file_name();
        let path = match name.to_str() {
            Some(name) if below.is_empty() => name.to_owned(),
            Some(name) => format!("{below}/{name}"),
            None => return Err(unreadable(format!("a name in {} is no text", dir.display()))),
        };
        if !is_plain(&path) {
            return Err(unreadable(format!("the bundle has a file with the path {path:?}")));
        }
        let meta = entry.path().symlink_metadata().context(Kind::Internal, cannot())?;
        if meta.is_dir() {
            walk(root, &path, depth + 1, entries, paths_bytes)?;
        } else if meta.is_file() {
            *paths_bytes = paths_bytes.saturating_add(path.len());
            if entries.len() >= FILES_MAX || *paths_bytes > PATHS_BYTES_MAX {
                return Err(unreadable(format!("the bundle has more than {FILES_MAX} files, or too long paths")));
            }
            entries.insert(path, (0, meta.len()));
        } else {
            return Err(unreadable(format!("{path} is neither a file nor a directory")));
        }
    }
    Ok(())
}
