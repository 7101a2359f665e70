//! Lines of a file, read in pieces and fed to its digest on the way; and a file as a stream that is hashed while it is read.

use std::io::Read;

use aigaq_proto::Digest;
use aws_lc_rs::digest::{self, Context, SHA256};

use super::hashing::{Hashed, Hasher, finished};
use super::source::{Section, unreadable};
use crate::bundle::LINE_BYTES_MAX;
use crate::error::{Context as _, Error, Kind, Result};

/// How much is read at a time, bytes.
const PIECE_BYTES: u64 = 256 * 1024;

/// The lines of a file.
pub(super) struct Lines {
    file: Hashed,
    read: u64,
    pending: Vec<u8>,
    /// Where in `pending` the next line begins, and up to where it has no line break.
    start: usize,
    scanned: usize,
}

impl Lines {
    pub(super) fn new(file: Hashed) -> Self {
        Self { file, read: 0, pending: Vec::new(), start: 0, scanned: 0 }
    }

    /// The next line that is not empty, without its break.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a line that is too long, and those of reading.
    pub(super) fn next(&mut self, hasher: &mut Hasher) -> Result<Option<&[u8]>> {
        loop {
            let unscanned = self.pending.get(self.scanned..).unwrap_or_default();
            let found = unscanned.iter().position(|byte| *byte == b'\n').map(|at| self.scanned.saturating_add(at));
            let left = self.file.section.length.saturating_sub(self.read);
            let end = match found {
                Some(end) => end,
                None if left == 0 && self.start >= self.pending.len() => return Ok(None),
                None if left == 0 => self.pending.len(),
                None => {
                    self.pending.drain(..self.start);
                    (self.start, self.scanned) = (0, self.pending.len());
                    if self.pending.len() > LINE_BYTES_MAX {
                        return Err(unreadable(format!("there is a line of more than {LINE_BYTES_MAX} bytes")));
                    }
                    let want = left.min(PIECE_BYTES);
                    hasher.bytes(&mut self.file, self.read, want, &mut self.pending)?;
                    self.read = self.read.saturating_add(want);
                    continue;
                }
            };
            let line = self.start..end;
            self.start = end.saturating_add(1);
            self.scanned = self.start;
            if !line.is_empty() {
                return Ok(self.pending.get(line));
            }
        }
    }

    /// The digest of the whole file.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn end(self, hasher: &mut Hasher) -> Result<Digest> {
        hasher.end(self.file)
    }
}

/// A file from its beginning to its end.
pub(super) struct Stream {
    section: Section,
    at: u64,
    context: Context,
}

impl Stream {
    pub(super) fn new(section: Section) -> Self {
        Self { section, at: 0, context: Context::new(&SHA256) }
    }

    /// Goes through what was not read yet; the digest of the whole.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn end(mut self) -> Result<digest::Digest> {
        std::io::copy(&mut self, &mut std::io::sink()).context(Kind::Internal, "cannot read the bundle")?;
        Ok(self.context.finish())
    }

    /// The same as a digest of the project.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn digest(self) -> Result<Digest> {
        self.end().map(|digest| finished(&digest))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.section.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        let Some(part) = buffer.get_mut(..count) else { return Ok(0) };
        self.section.read(self.at, part).map_err(std::io::Error::other)?;
        self.context.update(part);
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }
}

/// A JSON document that was read from a stream, or why it was not.
///
/// # Errors
/// [`Kind::Internal`] when the disk does not give it.
pub(super) fn document<T>(read: std::result::Result<T, serde_json::Error>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_io() => Err(Error::new(Kind::Internal, "cannot read the bundle").because(error)),
        Err(_) => Ok(None),
    }
}
