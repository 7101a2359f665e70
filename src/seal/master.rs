//! What wraps day keys: the master key in its file, or a KMS by two commands.
//!
//! The file holds 64 hexadecimal digits and is for its owner alone: with wider permissions it is refused. While the master key is being
//! exchanged there is a second file whose name ends in `.next`; either unwraps what it has wrapped.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::file::{self, Head, WrappedBy};
use super::key::{Key, Secret};
use super::{Settings, command};
use crate::error::{Context, Error, Kind, Result};

/// Where the master key lies if nothing else is said.
const FILE: &str = "master.key";
/// How the name of the one that takes its place ends.
const NEXT_SUFFIX: &str = ".next";
/// Longest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 128;

/// Wraps and unwraps day keys.
pub(super) struct Master {
    file: Option<FromFile>,
    next: Option<FromFile>,
    commands: Option<Commands>,
}

struct FromFile {
    which: [u8; 8],
    key: Key,
}

struct Commands {
    wrap: Vec<String>,
    unwrap: Vec<String>,
    timeout: Duration,
}

/// Where the file of the master key is.
pub(super) fn path(dir: &Path, settings: &Settings) -> PathBuf {
    settings.master_key.clone().unwrap_or_else(|| dir.join(FILE))
}

/// Where the one is that takes its place.
pub(super) fn next_path(dir: &Path, settings: &Settings) -> PathBuf {
    let mut next = path(dir, settings).into_os_string();
    next.push(NEXT_SUFFIX);
    next.into()
}

/// Makes a master key in a file.
pub(super) fn make(path: &Path) -> Result<()> {
    let secret = Secret::random()?;
    let text = Zeroizing::new(format!("{}\n", data_encoding::HEXLOWER.encode(secret.bytes())));
    file::put(path, text.as_bytes()).context(Kind::Internal, format!("cannot write {}", path.display()))
}

impl Master {
    /// What there is; whether it is enough shows when it is asked.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a file that others may read, or that holds no key.
    pub(super) fn load(dir: &Path, settings: &Settings) -> Result<Self> {
        let commands = (!settings.wrap_command.is_empty()).then(|| Commands {
            wrap: settings.wrap_command.clone(),
            unwrap: settings.unwrap_command.clone(),
            timeout: settings.command_timeout,
        });
        Ok(Self { file: read(&path(dir, settings))?, next: read(&next_path(dir, settings))?, commands })
    }

    /// Whether it can wrap.
    pub(super) fn is_ready(&self) -> bool {
        self.file.is_some() || self.commands.is_some()
    }

    /// Whether asking it may take long.
    pub(super) fn is_remote(&self) -> bool {
        self.commands.is_some()
    }

    /// Wraps a day key: by the commands where there are any.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the KMS is away or what it wraps does not unwrap.
    pub(super) fn wrap(&self, day: u32, secret: &Secret) -> Result<Head> {
        let of = |by, wrapped| Head { day, by, check: check_value(secret), wrapped };
        if let Some(Commands { wrap, timeout, .. }) = &self.commands {
            let wrapped = command::ask(wrap, secret.bytes(), *timeout)?.to_vec();
            let head = of(WrappedBy::Command, wrapped);
            // Nothing is sealed under a key that cannot be had again.
            let again = self.unwrap(&head);
            return again.context(Kind::Busy, "what the key command wraps does not unwrap").map(|_| head);
        }
        let master = self.file.as_ref().ok_or_else(|| Error::new(Kind::Invalid, "there is no master key"))?;
        let wrapped = master.key.seal(&bound(day), secret.bytes())?;
        Ok(of(WrappedBy::Master(master.which), wrapped))
    }

    /// Wraps by the key that takes the master key's place.
    pub(super) fn wrap_next(&self, day: u32, secret: &Secret) -> Result<Head> {
        let next = self.next.as_ref().ok_or_else(|| Error::new(Kind::Internal, "there is no next master key"))?;
        let wrapped = next.key.seal(&bound(day), secret.bytes())?;
        Ok(Head { day, by: WrappedBy::Master(next.which), check: check_value(secret), wrapped })
    }

    /// Whether [`Master::wrap_next`] made this.
    pub(super) fn is_next(&self, head: &Head) -> bool {
        self.next.as_ref().is_some_and(|next| head.by == WrappedBy::Master(next.which))
    }

    /// Unwraps a day key.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the KMS is away, [`Kind::Damaged`] when the master key is missing or another, or what is wrapped has
    /// changed.
    pub(super) fn unwrap(&self, head: &Head) -> Result<Secret> {
        let day = head.day;
        let damaged = |what: &str| Error::new(Kind::Damaged, format!("the keys of day {day}: {what}"));
        let secret = match head.by {
            WrappedBy::Command => {
                let missing = || damaged("a key command wrapped them and none is set");
                let Commands { unwrap, timeout, .. } = self.commands.as_ref().ok_or_else(missing)?;
                Secret::of(&command::ask(unwrap, &head.wrapped, *timeout)?)
            }
            WrappedBy::Master(which) => {
                let with = [&self.file, &self.next].into_iter().flatten().find(|master| master.which == which);
                let with = with.ok_or_else(|| damaged("the master key that wrapped them is not here"))?;
                with.key.open(&bound(day), &head.wrapped).and_then(|bytes| Secret::of(&bytes))
            }
        };
        let right = secret.filter(|secret| check_value(secret) == head.check);
        right.ok_or_else(|| damaged("what unwraps is not their key"))
    }
}

fn read(path: &Path) -> Result<Option<FromFile>> {
    let invalid = |what: &str| Error::new(Kind::Invalid, format!("the master key {} {what}", path.display()));
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(invalid("does not read").because(error)),
    };
    let mode = file.metadata().context(Kind::Internal, "a file says nothing of itself")?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(invalid(&format!("has mode {:04o}, open to others: make it 0600", mode & 0o7777)));
    }
    // Enough room, so that no copy is left behind when it grows.
    let mut text = Zeroizing::new(String::with_capacity(2 * FILE_BYTES_MAX as usize));
    let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| invalid("does not read").because(error))?;
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).map(Zeroizing::new);
    let secret = bytes.ok().and_then(|bytes| Secret::of(&bytes));
    let secret = secret.ok_or_else(|| invalid("must hold 64 hexadecimal digits"))?;
    Ok(Some(FromFile { which: secret.fingerprint("aigaq master key v1\n"), key: secret.key()? }))
}

fn check_value(secret: &Secret) -> [u8; 16] {
    secret.fingerprint("aigaq day key v1\n")
}

fn bound(day: u32) -> Vec<u8> {
    [&b"aigaq wrapped day key v1\n"[..], &day.to_be_bytes()].concat()
}
