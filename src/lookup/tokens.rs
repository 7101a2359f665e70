//! Named tokens: whoever asks with one is in the audit trail under its name, which a second person needs.
//!
//! A token is a file in the data directory, named as the token is and with its digest inside, mode 0600; the token itself is shown
//! once and kept nowhere. A running server looks every two seconds at most, so that one that was removed soon opens nothing, and
//! writes down what has changed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aigaq_proto::Digest;
use subtle::ConstantTimeEq as _;

use crate::error::{Context as _, Error, Kind, Result};

/// Where the files lie in the data directory.
const DIR: &str = "tokens";
/// How old may be what is known of them.
const READ_EVERY: Duration = Duration::from_secs(2);
/// Tokens that are taken notice of.
const TOKENS_MAX: usize = 1_000;
/// Random bytes in a token.
const RANDOM_BYTES: usize = 32;
/// Longest name, characters.
const NAME_CHARS_MAX: usize = 64;
/// The name of the token that is made at the first start.
const FIRST: &str = "first-start";

/// A token as it is known here: its name and its digest.
type Known = Vec<(String, Digest)>;

/// Makes a token and returns it.
///
/// # Errors
/// [`Kind::Invalid`] for a name that cannot be one or is taken, [`Kind::NotFound`] without the data directory.
pub fn make_token(data: &Path, name: &str) -> Result<String> {
    let path = path(data, name)?;
    let mut bytes = [0; RANDOM_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::new(Kind::Internal, "no random bytes for the token"))?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let dir = data.join(DIR);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.context(Kind::Internal, format!("cannot make {}", dir.display()))?;
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        writeln!(file, "{}", Digest::of(token.as_bytes()))?;
        file.sync_all()?;
        File::open(&dir)?.sync_all()
    };
    match write() {
        Ok(()) => Ok(token),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Error::new(Kind::Invalid, format!("there is a token {name}: remove it first")))
        }
        Err(error) => Err(Error::new(Kind::Internal, format!("cannot write {}", path.display())).because(error)),
    }
}

/// Removes a token: a running server takes it no more within seconds.
///
/// # Errors
/// [`Kind::NotFound`] if there is none of this name.
pub fn remove_token(data: &Path, name: &str) -> Result<()> {
    let path = path(data, name)?;
    match fs::remove_file(&path).and_then(|()| File::open(data.join(DIR))?.sync_all()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Error::new(Kind::NotFound, format!("there is no token {name}")))
        }
        Err(error) => Err(Error::new(Kind::Internal, format!("cannot remove {}", path.display())).because(error)),
    }
}

/// What tells one set of tokens from another, for the entry of a configuration. Blocks.
///
/// # Errors
/// When they cannot be read.
pub fn tokens_digest(data: &Path) -> Result<Digest> {
    Ok(Digest::of(format!("{:?}", read(&data.join(DIR))?).as_bytes()))
}

fn path(data: &Path, name: &str) -> Result<PathBuf> {
    if !is_name(name) || name == FIRST {
        let text = format!("a token's name has 1 to {NAME_CHARS_MAX} letters, digits, - and _, and is not {FIRST}");
        return Err(Error::new(Kind::Invalid, text));
    }
    if !data.is_dir() {
        return Err(Error::new(Kind::NotFound, format!("there is no data directory {}", data.display())));
    }
    Ok(data.join(DIR).join(name))
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(fits)
}

/// The tokens in a directory, by name; one that is being made does not count yet.
fn read(dir: &Path) -> Result<Known> {
    let context = || format!("cannot read the tokens in {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(Kind::Internal, context()),
    };
    let mut known = Vec::new();
    for entry in entries.take(TOKENS_MAX) {
        let entry = entry.context(Kind::Internal, context())?;
        let Some(name) = entry.file_name().to_str().filter(|name| is_name(name)).map(str::to_owned) else { continue };
        match fs::read_to_string(entry.path()) {
            Ok(text) => known.extend(digest(text.trim()).map(|digest| (name, digest))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(Kind::Internal, context()),
        }
    }
    known.sort();
    Ok(known)
}

fn digest(text: &str) -> Option<Digest> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Digest)
}

/// A change that was seen: the name, and whether the token is there now.
pub(super) type Change = (String, bool);

/// The named tokens of a server. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Named {
    dir: Option<PathBuf>,
    state: Arc<Mutex<(Option<Instant>, Known)>>,
}

impl Named {
    /// Those of a data directory. Blocks.
    pub(super) fn open(data: &Path) -> Result<Self> {
        let dir = data.join(DIR);
        let state = Arc::new(Mutex::new((Some(Instant::now()), read(&dir)?)));
        Ok(Self { dir: Some(dir), state })
    }

    /// Whose token this is.
    pub(super) fn owner(&self, presented: &str) -> Option<String> {
        let presented = Digest::of(presented.as_bytes());
        let state = self.state();
        // Every digest is looked at, so that the time says nothing of them.
        state.1.iter().fold(
            None,
            |owner, (name, digest)| {
                if bool::from(digest.0.ct_eq(&presented.0)) { Some(name.clone()) } else { owner }
            },
        )
    }

    /// Looks again if it is time to; what has changed since. Cancel-safe.
    ///
    /// # Errors
    /// When they cannot be read: none counts then.
    pub(super) async fn refresh(&self) -> Result<Vec<Change>> {
        let Some(dir) = self.dir.clone() else { return Ok(Vec::new()) };
        let now = Instant::now();
        {
            let mut state = self.state();
            if state.0.is_some_and(|read_at| now.saturating_duration_since(read_at) < READ_EVERY) {
                return Ok(Vec::new());
            }
            state.0 = Some(now);
        }
        let named = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let read = read(&dir);
            let before = std::mem::replace(&mut named.state().1, read.as_ref().cloned().unwrap_or_default());
            read.map(|after| changes(&before, &after))
        });
        task.await.map_err(|error| Error::new(Kind::Internal, "the tokens could not be read").because(error))?
    }

    fn state(&self) -> MutexGuard<'_, (Option<Instant>, Known)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn changes(before: &Known, after: &Known) -> Vec<Change> {
    let gone = before.iter().filter(|token| !after.contains(token)).map(|(name, _)| (name.clone(), false));
    let new = after.iter().filter(|token| !before.contains(token)).map(|(name, _)| (name.clone(), true));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_opens_under_its_name_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let token = make_token(dir.path(), "anna").unwrap();
        let file = dir.path().join(DIR).join("anna");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&file).unwrap().contains(&token), "only the digest is kept");
        let named = Named::open(dir.path()).unwrap();
        assert_eq!(named.owner(&token).as_deref(), Some("anna"));
        assert_eq!(named.owner(&token[1..]), None);
        assert_eq!(make_token(dir.path(), "anna").unwrap_err().kind(), Kind::Invalid);
        remove_token(dir.path(), "anna").unwrap();
        assert_eq!(Named::open(dir.path()).unwrap().owner(&token), None);
        assert_eq!(remove_token(dir.path(), "anna").unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn a_name_is_no_path_and_not_that_of_the_first_token() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "../a", "a/b", ".a", "first-start", "a b", "ә", &"a".repeat(65)] {
            assert_eq!(make_token(dir.path(), name).unwrap_err().kind(), Kind::Invalid, "{name}");
        }
        assert_eq!(make_token(&dir.path().join("none"), "a").unwrap_err().kind(), Kind::NotFound);
    }
}
