//! Small files that survive a crash: written whole under another name, synced, renamed, and the directory synced.
//!
//! A reader sees the old file or the new one, never a part. Keys are created with the mode they keep.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Context as _, Kind, Result};

/// Mode of files with secrets.
pub(crate) const SECRET: u32 = 0o600;
/// Mode of files that everybody may read.
pub(crate) const PUBLIC: u32 = 0o644;

/// Held while the files of one directory are made, by every process that may make them.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock file `path`, which is made if need be and stays.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let lock = || -> io::Result<File> {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(SECRET).open(path)?;
            rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
            Ok(file)
        };
        Ok(Self { _file: lock().context(Kind::Internal, format!("cannot lock {}", path.display()))? })
    }
}

/// Makes a directory that only its owner may enter, with its parents.
pub(super) fn make_private_dir(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .context(Kind::Internal, format!("cannot make the directory {}", dir.display()))
}

/// The text of a file, `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(Kind::Internal, format!("cannot read {}", path.display())),
    }
}

/// The `.toml` files of a directory, in no order and without drafts; none if the directory is not there.
pub(super) fn waiting(dir: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot read {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(Kind::Internal, context()),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.context(Kind::Internal, context())?.path();
        let draft = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !draft && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Writes or replaces a file, durable on return.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace(path, bytes, mode).context(Kind::Internal, format!("cannot write {}", path.display()))
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(ErrorKind::InvalidInput));
    };
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = dir.join(format!(".{}.{}-{number}", name.to_string_lossy(), std::process::id()));
    let written = (|| {
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written?;
    File::open(dir)?.sync_all()
}
