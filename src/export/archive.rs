//! The ZIP on its way to disk: entries stored as they are, one after the other, each hashed while it is written.
//!
//! Nothing in it depends on the time or the machine: entries carry the zero of ZIP's calendar and the same mode. An entry that
//! nobody finished never ends in a file that is offered: the file has its name only after [`Archive::finish`].

use std::fs::File;
use std::io::{BufWriter, Write as _};

use aigaq_proto::Digest;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::bundle::{self, FILES_MAX, LINE_BYTES_MAX, PATH_BYTES_MAX, manifest};
use crate::error::{Context as _, Error, Kind, Result};

/// What is gathered before it goes to disk, bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// A ZIP that is being written.
pub(super) struct Archive {
    zip: ZipWriter<BufWriter<File>>,
    directory: String,
    open: Option<Open>,
    files: Vec<manifest::File>,
}

/// The entry that is being written.
struct Open {
    path: String,
    bytes: u64,
    hasher: Sha256,
}

impl Archive {
    /// An empty one whose entries lie below `directory`.
    pub(super) fn new(file: File, directory: &str) -> Self {
        let zip = ZipWriter::new(BufWriter::with_capacity(BUFFER_BYTES, file));
        Self { zip, directory: directory.to_owned(), open: None, files: Vec::new() }
    }

    /// Begins an entry; the one before is finished.
    ///
    /// # Errors
    /// [`Kind::Invalid`] beyond the limits of a bundle, [`Kind::StorageFull`] without room, [`Kind::Internal`] when it cannot be written.
    pub(super) fn begin(&mut self, path: &str) -> Result<()> {
        self.end()?;
        check_files(self.files.len().saturating_add(1))?;
        if path.len() > PATH_BYTES_MAX {
            return Err(Error::new(
                Kind::Internal,
                format!("a path of a bundle is longer than {PATH_BYTES_MAX} bytes"),
            ));
        }
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644)
            .large_file(true);
        self.zip
            .start_file(format!("{}/{path}", self.directory), options)
            .map_err(|error| failed(std::io::Error::from(error)))?;
        self.open = Some(Open { path: path.to_owned(), bytes: 0, hasher: Sha256::new() });
        Ok(())
    }

    /// Adds to the entry that was begun; returns where in it the bytes lie.
    ///
    /// # Errors
    /// As [`Archive::begin`].
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<u64> {
        let Some(open) = &mut self.open else {
            return Err(Error::new(Kind::Internal, "an entry of a bundle was not begun"));
        };
        let at = open.bytes;
        open.hasher.update(bytes);
        open.bytes = open.bytes.saturating_add(bytes.len() as u64);
        self.zip.write_all(bytes).map_err(failed)?;
        Ok(at)
    }

    /// A whole entry.
    ///
    /// # Errors
    /// As [`Archive::begin`].
    pub(super) fn add(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.begin(path)?;
        self.write(bytes)?;
        self.end()
    }

    /// A whole entry of JSON, for people to read as well.
    ///
    /// # Errors
    /// As [`Archive::begin`].
    pub(super) fn add_json(&mut self, path: &str, value: &impl Serialize) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(value).context(Kind::Internal, "cannot write JSON")?;
        text.push(b'\n');
        self.add(path, &text)?;
        Ok(text)
    }

    /// One line of JSON of the entry that was begun.
    ///
    /// # Errors
    /// As [`Archive::begin`].
    pub(super) fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(value).context(Kind::Internal, "cannot write JSON")?;
        if text.len() > LINE_BYTES_MAX {
            return Err(Error::new(
                Kind::Internal,
                format!("a line of a bundle is longer than {LINE_BYTES_MAX} bytes"),
            ));
        }
        text.push(b'\n');
        self.write(&text).map(|_| ())
    }

    fn end(&mut self) -> Result<()> {
        let Some(Open { path, bytes, hasher }) = self.open.take() else { return Ok(()) };
        if bundle::bytes_max(&path).is_some_and(|most| bytes > most) {
            let text = format!(
                "{path} would be longer than a bundle may have it: order fewer recorders, or the range in parts"
            );
            return Err(Error::new(Kind::Invalid, text));
        }
        self.files.push(manifest::File { path, bytes, sha256: Digest(hasher.finalize().into()) });
        Ok(())
    }

    /// The entries so far.
    ///
    /// # Errors
    /// As [`Archive::begin`].
    pub(super) fn files(&mut self) -> Result<&[manifest::File]> {
        self.end()?;
        Ok(&self.files)
    }

    /// Finishes the file and makes it durable; returns its length, bytes.
    ///
    /// # Errors
    /// As [`Archive::begin`].
    pub(super) fn finish(mut self) -> Result<u64> {
        self.end()?;
        let buffered = self.zip.finish().map_err(|error| failed(std::io::Error::from(error)))?;
        let file = buffered.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok(file.metadata().map_err(failed)?.len())
    }
}

/// That a bundle has room for so many files.
///
/// # Errors
/// [`Kind::Invalid`] if it has not: says what to do.
pub(super) fn check_files(files: usize) -> Result<()> {
    if files <= FILES_MAX {
        return Ok(());
    }
    let text =
        format!("the bundle would have more than {FILES_MAX} files: order fewer recorders, or the range in parts");
    Err(Error::new(Kind::Invalid, text))
}

fn failed(error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::StorageFull,
        _ => Kind::Internal,
    };
    Error::new(kind, "cannot write a bundle").because(error)
}

/// An entry that is an array of JSON values, written one by one.
pub(super) struct Array {
    empty: bool,
}

impl Array {
    /// Begins the entry.
    ///
    /// # Errors
    /// As [`Archive::begin`].
    pub(super) fn begin(archive: &mut Archive, path: &str) -> Result<Self> {
        archive.begin(path)?;
        archive.write(b"[")?;
        Ok(Self { empty: true })
    }

    /// Adds a value.
    ///
    /// # Errors
    /// As [`Archive::begin`].
    pub(super) fn push(&mut self, archive: &mut Archive, value: &impl Serialize) -> Result<()> {
        archive.write(if std::mem::take(&mut self.empty) { b"\n" } else { b",\n" })?;
        let text = serde_json::to_vec(value).context(Kind::Internal, "cannot write JSON")?;
        archive.write(&text).map(|_| ())
    }

    /// Ends it.
    ///
    /// # Errors
    /// As [`Archive::begin`].
    pub(super) fn end(self, archive: &mut Archive) -> Result<()> {
        archive.write(b"\n]\n").map(|_| ())
    }
}
