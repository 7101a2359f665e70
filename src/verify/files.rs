//! The files that the manifest names, each compared once with the bytes that were really used, and what is wrong with any.
//!
//! What is read to be believed is compared in the same breath, so that a file which changes between two readings is noticed.

use aigaq_proto::Digest;

use super::report::{Fault, FileFinding};
use super::source::{FILES_MAX, Source, is_plain, unreadable};
use crate::bundle::{self, SMALL_BYTES_MAX, manifest};
use crate::error::Result;

/// File findings that are listed; more are counted.
const FINDINGS_MAX: usize = 1_000;
/// The files that a manifest cannot name.
const UNNAMED: [&str; 3] = [bundle::MANIFEST, bundle::SUMS, bundle::SIGNATURE];
/// The files that every bundle has.
const MUST: [&str; 5] = [bundle::CHECKPOINT, bundle::EXPORTER, bundle::GAPS, bundle::MARKERS, bundle::CUSTODY];

/// What is wrong with files.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) list: Vec<FileFinding>,
    pub(super) more: u64,
}

impl Faults {
    /// Whether the bytes of this file are not those that were exported, or do not read: what others say of it is then not held
    /// against them.
    pub(super) fn broken(&self, path: &str) -> bool {
        let broken = |fault: Fault| matches!(fault, Fault::Altered | Fault::Missing | Fault::Unreadable);
        self.list.iter().any(|known| known.path == path && broken(known.fault))
    }

    /// Whether anything is wrong with this file.
    pub(super) fn any(&self, path: &str) -> bool {
        self.list.iter().any(|known| known.path == path)
    }

    /// Adds a finding, once.
    pub(super) fn add(&mut self, path: &str, fault: Fault) {
        if self.list.iter().any(|known| known.fault == fault && known.path == path) {
            return;
        }
        if self.list.len() >= FINDINGS_MAX {
            self.more = self.more.saturating_add(1);
        } else {
            self.list.push(FileFinding { path: path.to_owned(), fault });
        }
    }
}

/// A file that the manifest names.
struct Named {
    path: Box<str>,
    sha256: Digest,
    /// Whether its bytes were compared.
    compared: bool,
    /// Whether the list of `sha256sum` has it.
    listed: bool,
}

/// All of them, by path.
pub(super) struct Files {
    named: Vec<Named>,
    pub(super) faults: Faults,
}

impl Files {
    /// Takes the files of a manifest; those that are not there, or not in it, are told.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for names that mean something else elsewhere, and one that is there twice.
    pub(super) fn new(files: Vec<manifest::File>, source: &Source) -> Result<Self> {
        let mut faults = Faults::default();
        let mut named = Vec::with_capacity(files.len().min(FILES_MAX));
        for manifest::File { path, bytes, sha256 } in files {
            if !is_plain(&path) || UNNAMED.contains(&path.as_str()) {
                return Err(unreadable(format!("the manifest names the path {path:?}")));
            }
            if source.length(&path).is_some_and(|length| length != bytes) {
                faults.add(&path, Fault::Altered);
            }
            named.push(Named { path: path.into_boxed_str(), sha256, compared: false, listed: false });
        }
        named.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let neighbours = named.iter().zip(named.iter().skip(1));
        if let Some((twice, _)) = neighbours.into_iter().find(|(a, b)| a.path == b.path) {
            return Err(unreadable(format!("the manifest names {} twice", twice.path)));
        }
        let mut files = Self { named, faults };
        for path in source.paths() {
            if files.find(path).is_none() && !UNNAMED.contains(&path) {
                files.faults.add(path, Fault::NotNamed);
            }
        }
        for path in MUST {
            if files.find(path).is_none() {
                files.faults.add(path, Fault::Missing);
            }
        }
        Ok(files)
    }

    fn find(&mut self, path: &str) -> Option<&mut Named> {
        let at = self.named.binary_search_by(|named| (*named.path).cmp(path)).ok()?;
        self.named.get_mut(at)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.named.len()
    }

    /// The paths that begin so, in order.
    pub(super) fn below(&self, prefix: &str) -> impl Iterator<Item = &str> {
        let from = self.named.partition_point(|named| *named.path < *prefix);
        let rest = self.named.get(from..).unwrap_or_default();
        rest.iter().map(|named| &*named.path).take_while(move |path| path.starts_with(prefix))
    }

    /// The first file from this one on that was not compared yet.
    pub(super) fn next_left(&self, from: usize) -> Option<(usize, String)> {
        let rest = self.named.get(from..)?;
        let (at, named) = rest.iter().enumerate().find(|(_, named)| !named.compared)?;
        Some((from.saturating_add(at), named.path.to_string()))
    }

    /// Compares a file with what the manifest says.
    pub(super) fn compare(&mut self, path: &str, digest: Digest) {
        let fault = match self.find(path) {
            Some(named) => {
                named.compared = true;
                (named.sha256 != digest).then_some(Fault::Altered)
            }
            None if UNNAMED.contains(&path) => None,
            None => Some(Fault::NotNamed),
        };
        if let Some(fault) = fault {
            self.faults.add(path, fault);
        }
    }

    /// Whether a line of the list of `sha256sum` is about a file of the manifest, and the first about it.
    pub(super) fn list(&mut self, path: &str, digest: &str) -> bool {
        let named = self.find(path).filter(|named| !named.listed && named.sha256.to_string() == digest);
        named.map(|named| named.listed = true).is_some()
    }

    /// A small file; empty if it is not there, which is told.
    ///
    /// # Errors
    /// Those of [`Source::whole`].
    pub(super) fn small(&mut self, source: &Source, path: &str) -> Result<Vec<u8>> {
        let bytes = self.small_if_there(source, path)?;
        if bytes.is_none() {
            self.faults.add(path, Fault::Missing);
        }
        Ok(bytes.unwrap_or_default())
    }

    /// A small file, if it is there.
    ///
    /// # Errors
    /// Those of [`Source::whole`].
    pub(super) fn small_if_there(&mut self, source: &Source, path: &str) -> Result<Option<Vec<u8>>> {
        self.whole_if_there(source, path, SMALL_BYTES_MAX)
    }

    /// A file of at most `limit` bytes, if it is there.
    ///
    /// # Errors
    /// Those of [`Source::whole`].
    pub(super) fn whole_if_there(&mut self, source: &Source, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let bytes = source.whole(path, limit)?;
        if let Some(bytes) = &bytes {
            self.compare(path, Digest::of(bytes));
        }
        Ok(bytes)
    }
}
