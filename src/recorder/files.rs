//! The small files of an identity: whole on disk or not at all, durable on return, keys readable by their owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::error::{Context as _, Kind, Result};

/// Mode of a key.
pub(super) const SECRET: u32 = 0o600;
/// Mode of everything else.
pub(super) const PUBLIC: u32 = 0o644;

/// Makes the directory of an identity with its parents.
pub(super) fn make_dir(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.context(Kind::Invalid, format!("cannot make the directory {}", dir.display()))
}

/// The text of a file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(Kind::Invalid, format!("cannot read {}", path.display())),
    }
}

/// Writes or replaces `dir/name`.
pub(super) fn write(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let draft = dir.join(format!(".{name}.new"));
    let written = || -> std::io::Result<()> {
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, dir.join(name))?;
        File::open(dir)?.sync_all()
    };
    written().context(Kind::Internal, format!("cannot write {}", dir.join(name).display()))
}
