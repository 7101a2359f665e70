//! Lines of a file, read in pieces and fed to its digest on the way; and a file as a stream that is hashed while it is read, as a
//! whole document or as an array of which one value at a time is in memory.

use std::cell::Cell;
use std::fmt;
use std::io::{BufReader, Read};
use std::marker::PhantomData;

use aigaq_proto::Digest;
use aws_lc_rs::digest::{self, Context, SHA256};
use serde::Deserializer as _;
use serde::de::{DeserializeOwned, SeqAccess, Visitor};

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

/// Shows each value of a file that is a JSON array, none of which is longer than a line may be. Returns whether all of it read, and
/// the digest of the file.
///
/// # Errors
/// [`Kind::Internal`] when the disk does not give it.
pub(super) fn elements<T: DeserializeOwned>(section: Section, each: impl FnMut(T)) -> Result<(bool, Digest)> {
    let left = Cell::new(LINE_BYTES_MAX);
    let mut bounded = Bounded { inner: BufReader::new(Stream::new(section)), left: &left };
    let mut values = serde_json::Deserializer::from_reader(&mut bounded);
    let read = values.deserialize_seq(Each { each, left: &left, value: PhantomData::<T> }).and_then(|()| values.end());
    let read = document(read)?.is_some();
    Ok((read, bounded.inner.into_inner().digest()?))
}

/// A reader that is at its end after so many bytes, unless more are granted.
struct Bounded<'a, R> {
    inner: R,
    left: &'a Cell<usize>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.left.get());
        let Some(part) = buffer.get_mut(..count) else { return Ok(0) };
        let read = self.inner.read(part)?;
        self.left.set(self.left.get().saturating_sub(read));
        Ok(read)
    }
}

/// Hands out the values of a sequence; each grants the next its bytes.
struct Each<'a, T, F> {
    each: F,
    left: &'a Cell<usize>,
    value: PhantomData<T>,
}

impl<'de, T: DeserializeOwned, F: FnMut(T)> Visitor<'de> for Each<'_, T, F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element()? {
            self.left.set(LINE_BYTES_MAX);
            (self.each)(value);
        }
        Ok(())
    }
}
