//! A backup as it lies there: what it says of itself, and the list of its files.
//!
//! Every bit of it is under a digest: the list names every file but itself, `SHA256SUMS.sha256` names the list, and a bit of that makes
//! the two differ. Names are taken from the list only if they lead nowhere else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use aigaq_proto::{Digest, Micros};
use serde::{Deserialize, Serialize};

use super::copy::{self, Pace};
use crate::error::{Context, Error, Kind, Result};

/// What a backup says of itself.
pub(super) const ABOUT: &str = "backup.toml";
/// The list of its files.
pub(super) const SUMS: &str = "SHA256SUMS";
/// The digest of the list.
pub(super) const SUM_OF_SUMS: &str = "SHA256SUMS.sha256";
/// What one is called that is being written, before how its name ends.
pub(super) const NEW: &str = "new";
/// How the name of one ends that is not whole.
pub(super) const PARTIAL: &str = ".partial";
/// Version of the layout.
pub(super) const FORMAT: u32 = 1;
/// Longest list that is read, bytes: some ten million files.
const SUMS_BYTES_MAX: u64 = 1 << 30;
const ABOUT_BYTES_MAX: u64 = 64 << 10;

/// `backup.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Version of the layout.
    pub format: u32,
    /// When it was begun, RFC 3339, server clock.
    pub taken_at: String,
    /// The same, microseconds since the Unix epoch.
    pub taken_at_us: Micros,
    /// The release that made it.
    pub release: String,
    /// Which store: the first key that its log ever had.
    pub owner: String,
    /// The key of its log.
    pub log_key: String,
    /// Entries of its log.
    pub log_size: u64,
    /// Whether no server was running.
    pub stopped: bool,
}

/// A backup that is whole by its own word.
#[derive(Debug, Clone)]
pub struct Backup {
    /// Where.
    pub dir: PathBuf,
    /// What it says of itself.
    pub about: About,
    /// Its files by their names in it, with the digests of their bytes.
    pub(super) files: BTreeMap<String, Digest>,
}

/// What a look at every file found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Files that are what the list says.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are not, are missing, or are not in the list.
    pub problems: u64,
}

impl Backup {
    /// The backup `dir`, or the newest one in `dir`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none, [`Kind::Damaged`] when its list is not whole.
    pub fn find(dir: &Path) -> Result<Self> {
        if dir.join(SUMS).exists() || dir.join(ABOUT).exists() {
            return Self::open(dir);
        }
        let newest = names(dir)?.pop();
        let newest = newest.ok_or_else(|| Error::new(Kind::NotFound, format!("no backup in {}", dir.display())))?;
        Self::open(&dir.join(newest))
    }

    /// Reads the list of the backup `dir` and what it says of itself.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when they do not hold.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let damaged = |what: String| Error::new(Kind::Damaged, format!("the backup {}: {what}", dir.display()));
        let file = |name: &str, limit| {
            read(&dir.join(name), limit).map_err(|error| damaged(format!("cannot read {name}")).because(error))
        };
        let (sums, sum, about) =
            (file(SUMS, SUMS_BYTES_MAX)?, file(SUM_OF_SUMS, ABOUT_BYTES_MAX)?, file(ABOUT, ABOUT_BYTES_MAX)?);
        if sum != line(SUMS, &Digest::of(sums.as_bytes())) {
            return Err(damaged(format!("{SUMS} is not the list that was made")));
        }
        let mut files = BTreeMap::new();
        for line in sums.lines() {
            let read = line.split_once("  ").filter(|(_, name)| is_plain(name));
            let read = read.and_then(|(digest, name)| Some((name.to_owned(), digest.parse::<Digest>().ok()?)));
            let (name, digest) = read.ok_or_else(|| damaged(format!("{SUMS} has a line that is none")))?;
            files.insert(name, digest);
        }
        if files.get(ABOUT) != Some(&Digest::of(about.as_bytes())) {
            return Err(damaged(format!("{ABOUT} is not what was written")));
        }
        let about: About =
            toml::from_str(&about).map_err(|error| damaged(format!("{ABOUT} does not read")).because(error))?;
        if about.format != FORMAT {
            let text = format!("the backup {} has format {}; this release reads {FORMAT}", dir.display(), about.format);
            return Err(Error::new(Kind::Invalid, text));
        }
        Ok(Self { dir: dir.to_owned(), about, files })
    }

    /// Reads every file and tells each that is not what the list says, is missing, or is not in it. Blocks.
    ///
    /// # Errors
    /// [`Kind::Internal`] when a directory does not read.
    pub fn verify(&self, on_problem: &mut dyn FnMut(&str)) -> Result<Seen> {
        let mut seen = Seen::default();
        let (_alive, heard) = sync_channel(1);
        let mut pace = Pace::new(None, &heard);
        for (name, digest) in &self.files {
            let problem = match copy::read(&self.dir.join(name), &mut pace) {
                Ok((found, bytes)) if found == *digest => {
                    seen.files += 1;
                    seen.bytes += bytes;
                    continue;
                }
                Ok(_) => format!("{name}: its bytes are not those that were copied"),
                Err(error) if error.kind() == Kind::NotFound => format!("{name}: it is missing"),
                Err(error) => format!("{name}: {error}"),
            };
            seen.problems += 1;
            on_problem(&problem);
        }
        for name in below(&self.dir)? {
            if !self.files.contains_key(&name) && name != SUMS && name != SUM_OF_SUMS {
                seen.problems += 1;
                on_problem(&format!("{name}: it is not in {SUMS}"));
            }
        }
        Ok(seen)
    }

    /// The first file of the list that is not there.
    pub(super) fn missing(&self) -> Option<&str> {
        self.files.keys().find(|name| !self.dir.join(name).is_file()).map(String::as_str)
    }
}

/// The list of files, and the digest of it as a list of one.
pub(super) fn lists(files: &BTreeMap<String, Digest>) -> (String, String) {
    let sums: String = files.iter().map(|(name, digest)| line(name, digest)).collect();
    let sum = line(SUMS, &Digest::of(sums.as_bytes()));
    (sums, sum)
}

fn line(name: &str, digest: &Digest) -> String {
    format!("{digest}  {name}\n")
}

/// The names of the backups in a directory, oldest first. None if there is no directory.
///
/// # Errors
/// [`Kind::Internal`] when it does not read.
pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in entries(dir)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(PARTIAL) && entry.path().join(SUM_OF_SUMS).exists() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Backups that were never finished, or were about to be removed. What anybody else called so is none of them.
///
/// # Errors
/// As [`names`].
pub(super) fn partial(dir: &Path) -> Result<Vec<PathBuf>> {
    let is_left = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        name.to_str().and_then(|name| name.strip_suffix(PARTIAL)).is_some_and(|name| name == NEW || is_own(name))
    };
    Ok(entries(dir)?.iter().filter(|entry| is_left(entry)).map(fs::DirEntry::path).collect())
}

/// Whether a name is one that a backup is given: its time, as in `2026-01-17T09-14-02.123456Z`.
pub(super) fn is_own(name: &str) -> bool {
    let form = b"0000-00-00T00-00-00.000000Z";
    let fits = |(byte, form): (u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form };
    name.len() == form.len() && name.bytes().zip(form).all(fits)
}

/// The files below a directory by their names in it, in order.
fn below(dir: &Path) -> Result<Vec<String>> {
    let (mut names, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(at) = open.pop() {
        for entry in entries(&at)? {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path);
            } else if let Ok(name) = path.strip_prefix(dir) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>> {
    let failed = || format!("cannot list {}", dir.display());
    match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.and_then(Iterator::collect).context(Kind::Internal, failed()),
    }
}

fn read(path: &Path, limit: u64) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

/// Whether a name is a path of plain parts that stays below where it begins.
pub(super) fn is_plain(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    name.bytes().all(fits) && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}
