//! What the command line leaves for the server: one file for each change of an account, mode 0600, taken in and removed by the one
//! process that has the store. A file holds no password and no secret, only what is kept of them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aigaq_proto::Digest;

use super::secrets;
use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::records::{self, AccountRecord, Grant, Secret};

/// Where the files lie in the data directory.
const DIR: &str = "accounts";
/// Files that are taken in at once, and the longest of them, bytes.
const WORDS_MAX: usize = 1_000;
const WORD_BYTES_MAX: u64 = 64 * 1024;
/// Longest name, characters.
const NAME_CHARS_MAX: usize = 64;

/// Leaves word that a person may sign in with this password; one of this name that is there is replaced.
///
/// # Errors
/// [`Kind::Invalid`] for a name or a password that cannot be one, [`Kind::Internal`] when it cannot be written.
pub fn add_account(data: &Path, name: &str, password: &str, grants: Vec<Grant>, break_glass: bool) -> Result<()> {
    let actor = actor("account", name)?;
    let secret = secrets::hash(password)?;
    leave(data, &AccountRecord { actor, secret, grants, break_glass, changed_at: 0, removed: false })
}

/// Leaves word that a service may sign in with the secret that is returned; one of this name that is there is replaced.
///
/// # Errors
/// As [`add_account`].
pub fn add_client(data: &Path, name: &str, grants: Vec<Grant>) -> Result<String> {
    let actor = actor("client", name)?;
    let shown = secrets::random()?;
    let secret = Secret::Digest(Digest::of(shown.as_bytes()));
    leave(data, &AccountRecord { actor, secret, grants, break_glass: false, changed_at: 0, removed: false })?;
    Ok(shown)
}

/// Leaves word that a person (`account`) or a service (`client`) may sign in no more.
///
/// # Errors
/// As [`add_account`].
pub fn remove(data: &Path, kind: &'static str, name: &str) -> Result<()> {
    let (actor, secret) = (actor(kind, name)?, Secret::Digest(Digest::ZERO));
    leave(data, &AccountRecord { actor, secret, grants: Vec::new(), break_glass: false, changed_at: 0, removed: true })
}

/// The actor of a name.
fn actor(kind: &'static str, name: &str) -> Result<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !(1..=NAME_CHARS_MAX).contains(&name.len()) || !name.bytes().all(fits) {
        let text = format!("a name has 1 to {NAME_CHARS_MAX} letters, digits, -, _ and .");
        return Err(Error::new(Kind::Invalid, text));
    }
    Ok(format!("{kind}:{name}"))
}

fn leave(data: &Path, account: &AccountRecord) -> Result<()> {
    let dir = data.join(DIR);
    let context = || format!("cannot write into {}", dir.display());
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).context(Kind::Invalid, context())?;
    let now = Clock::system().now();
    // In the order in which they were left; what tells two of one moment apart is random.
    let name = format!("{now:020}-{}", secrets::random()?.get(..8).unwrap_or_default());
    let write = || -> std::io::Result<()> {
        let new = dir.join(format!(".{name}"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&records::encode(account).map_err(std::io::Error::other)?)?;
        file.sync_all()?;
        fs::rename(&new, dir.join(name))?;
        File::open(&dir)?.sync_all()
    };
    write().context(Kind::Internal, context())
}

/// A word that was left: the file, and the account in it if it reads.
pub(super) type Word = (PathBuf, Result<AccountRecord>);

/// What was left, in that order. Blocks.
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn read(data: &Path) -> Result<Vec<Word>> {
    let dir = data.join(DIR);
    let context = || format!("cannot read {}", dir.display());
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(Kind::Internal, context()),
    };
    let mut paths = Vec::new();
    for entry in entries.take(WORDS_MAX) {
        let entry = entry.context(Kind::Internal, context())?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths.into_iter().map(|path| (path.clone(), word(&path))).collect())
}

fn word(path: &Path) -> Result<AccountRecord> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(WORD_BYTES_MAX).read_to_end(&mut bytes));
    read.context(Kind::Internal, format!("cannot read {}", path.display()))?;
    records::decode(&bytes, "accounts")
}

/// What is in the store now is left no more.
pub(super) fn forget(path: &Path) -> Result<()> {
    fs::remove_file(path).context(Kind::Internal, format!("cannot remove {}", path.display()))
}
