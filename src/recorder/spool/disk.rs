//! The spool's directory: one file for each link that has no receipt yet, and the newest link's head for ever.
//!
//! A file is written as `draft`, synced, renamed to the name that its [`Facts`] give, and the directory is synced: then the
//! link is durable, and only then may anybody hear of it. It is deleted when its receipt was verified. Of the newest link
//! the head stays behind as `tail-SEQUENCE`, so that the chain's next place always comes from what is on disk. A link that the
//! server refused for good stays as `aside-…` until its room is needed. Every size counts in whole blocks, drafts and heads
//! among them, and their sum never exceeds the limit.
//!
//! A loss of power at any byte leaves either a draft, which nobody heard of (it is taken if it is whole, else removed), or
//! whole files. Should storage break its promises, a file that is cut or altered does not verify: it is found by its size when
//! the directory is opened, or when it is read, and is given up by name. Deleting is not synced: a file that comes back is
//! sent again and gets the same receipt.
//!
//! **What a restore looks like.** Each file names its own inode and time of birth. Where those of the newest file differ, the
//! directory is a copy and its chain may have gone on elsewhere. An image of the whole file system, put back block by block,
//! carries the sign along and cannot be told from the state that it shows, nor can a directory from which only the newest files
//! were taken: the recorder then goes on from it, and what the server says at the next greeting ends that.
//!
//! All of this blocks; callers in tasks use the blocking pool.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use rustix::fs::StatVfs;

use aigaq_proto::limits::PAYLOAD_BYTES_MAX;
use aigaq_proto::message::ChainEnd;
use aigaq_proto::{Digest, RecorderId, Sequence};

use super::facts::Facts;
use super::file::{self, After, HEAD_BYTES_MAX, Head, PREFIX_BYTES, Sign};
use crate::error::{Context, Error, Kind, Result};
use crate::recorder::links::Link;

const DRAFT: &str = "draft";
const TAIL: &str = "tail-";
const ASIDE: &str = "aside-";
/// Blocks are at least this large, whatever the file system says.
const BLOCK_MIN: u64 = 4096;
/// The largest file that a link can have.
const FILE_BYTES_MAX: u64 = HEAD_BYTES_MAX as u64 + PAYLOAD_BYTES_MAX as u64;
/// Free space that is left to others on the same file system.
const FREE_MIN: u64 = 16 * 1024 * 1024;
/// Files that are read backwards from one that does not read to find the digest before it.
const BACKWARDS_MAX: usize = 8;

/// A spool on disk.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    recorder: RecorderId,
    block: u64,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    /// Bytes that all files together may take: what was asked for, or what the file system has.
    limit: u64,
    asked: u64,
    used: u64,
    /// The greatest sequence of a link that was ever here.
    newest: Option<Sequence>,
    tail: Option<(Sequence, u64)>,
    /// Links that the server will never take, oldest first.
    aside: VecDeque<Facts>,
}

/// What was in the directory.
#[derive(Debug)]
pub(super) struct Found {
    /// Links whose files are as long as they should be, by rising sequence.
    pub(super) links: Vec<Facts>,
    /// Links whose files are not what they were.
    pub(super) damaged: Vec<Facts>,
    pub(super) last: Last,
}

/// What the newest file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::recorder) enum Last {
    /// There is none.
    Nothing,
    /// Where the chain stands. Only if it is the recorder's `own` may it simply go on.
    Known { end: ChainEnd, after: After, own: bool },
    /// The newest file does not read; the end before it, if that is there.
    Unreadable { sequence: Sequence, before: Option<ChainEnd> },
}

/// Why a link was not written.
#[derive(Debug)]
pub(super) enum NotWritten {
    /// The limit, or the file system itself, leaves no room. Nothing has changed.
    Full,
    /// Storage failed: whether the link is there is not known.
    Failed(Error),
}

impl Disk {
    /// Opens the spool of `recorder` in `dir`, which is made if it is not there; it may use `limit` bytes, or what is free.
    ///
    /// # Errors
    /// [`Kind::Internal`] if the directory cannot be read or written.
    pub(super) fn open(dir: &Path, recorder: RecorderId, limit: u64) -> Result<(Self, Found)> {
        let cannot = || format!("cannot use the spool {}", dir.display());
        DirBuilder::new().recursive(true).mode(0o700).create(dir).context(Kind::Internal, cannot())?;
        let space = rustix::fs::statvfs(dir).context(Kind::Internal, cannot())?;
        let books = Books { limit: 0, asked: limit, used: 0, newest: None, tail: None, aside: VecDeque::new() };
        let disk =
            Self { dir: dir.to_owned(), recorder, block: space.f_frsize.max(BLOCK_MIN), books: Mutex::new(books) };
        let found = disk.look().context(Kind::Internal, cannot())?;
        // A name that is here may not be durable yet, if the recorder was killed before it had synced the directory.
        disk.sync().context(Kind::Internal, cannot())?;
        disk.grow(&space);
        Ok((disk, found))
    }

    /// Where the file system has less room than was asked for: takes what it has by now.
    pub(super) fn look_again(&self) {
        if let Ok(space) = rustix::fs::statvfs(&self.dir) {
            self.grow(&space);
        }
    }

    fn grow(&self, space: &StatVfs) {
        let free = space.f_bavail.saturating_mul(space.f_frsize).saturating_sub(FREE_MIN);
        let mut books = self.books();
        books.limit = books.asked.min(books.used.saturating_add(free)).max(books.limit);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn blocks(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.block).saturating_mul(self.block)
    }

    /// The smallest size of a file.
    pub(super) fn block(&self) -> u64 {
        self.block
    }

    /// What the file of this link takes.
    pub(super) fn size(&self, facts: &Facts) -> u64 {
        self.blocks(file_bytes(facts))
    }

    /// What a link with so much payload may take at most.
    pub(super) fn size_max(&self, payload: u64) -> u64 {
        self.blocks(payload.saturating_add(HEAD_BYTES_MAX as u64))
    }

    /// The limit, and how much of it is used by what must stay, bytes.
    pub(super) fn room(&self) -> (u64, u64) {
        let books = self.books();
        let aside: u64 = books.aside.iter().map(|facts| self.size(facts)).sum();
        (books.limit, books.used.saturating_sub(aside))
    }

    /// Takes `size` bytes of the limit, if need be from the oldest links that were put aside.
    fn reserve(&self, size: u64) -> bool {
        let mut books = self.books();
        while books.used.saturating_add(size) > books.limit {
            let newest = books.newest;
            let Some(place) = books.aside.iter().position(|facts| Some(facts.sequence) != newest) else { return false };
            let Some(facts) = books.aside.remove(place) else { return false };
            if self.unlink(&aside_name(&facts)).is_err() {
                return false;
            }
            books.used = books.used.saturating_sub(self.size(&facts));
        }
        books.used = books.used.saturating_add(size);
        true
    }

    /// Makes a link durable; `after` is where the chain stands with it.
    ///
    /// # Errors
    /// [`NotWritten`]; after [`NotWritten::Failed`] no other link may be written.
    pub(super) fn write(&self, link: &Link, after: &After) -> Result<(), NotWritten> {
        let size = self.size(&link.facts);
        if !self.reserve(size) {
            return Err(NotWritten::Full);
        }
        if let Err(error) = self.draft(link, after) {
            let _ = std::fs::remove_file(self.path(DRAFT));
            let mut books = self.books();
            books.used -= size;
            if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                books.limit = books.used;
                return Err(NotWritten::Full);
            }
            return Err(NotWritten::Failed(self.cannot("write", error)));
        }
        self.publish(&link.facts).map_err(|error| NotWritten::Failed(self.cannot("write", error)))?;
        let mut books = self.books();
        books.newest = Some(link.facts.sequence);
        if let Some((sequence, size)) = books.tail.take() {
            books.used -= size;
            let _ = std::fs::remove_file(self.path(&tail_name(sequence)));
        }
        Ok(())
    }

    fn draft(&self, link: &Link, after: &After) -> std::io::Result<()> {
        let mut file = File::options().write(true).create_new(true).open(self.path(DRAFT))?;
        let prefix = file::prefix(after, sign_of(&file.metadata()?), &link.prelude);
        let mut slices = [IoSlice::new(&prefix), IoSlice::new(&link.prelude), IoSlice::new(&link.payload)];
        let mut slices = &mut slices[..];
        while !slices.is_empty() {
            match file.write_vectored(slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut slices, count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        file.sync_all()
    }

    fn publish(&self, facts: &Facts) -> std::io::Result<()> {
        std::fs::rename(self.path(DRAFT), self.path(&facts.file_name()))?;
        self.sync()
    }

    fn sync(&self) -> std::io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn cannot(&self, what: &str, error: std::io::Error) -> Error {
        Error::new(Kind::Internal, format!("cannot {what} the spool {}", self.dir.display())).because(error)
    }

    /// Reads a link and verifies every byte of it.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if the file is gone, does not read, or is not what was written.
    pub(super) fn read(&self, facts: &Facts) -> Result<Link> {
        let damaged = || Error::new(Kind::Damaged, format!("link {} does not read back", facts.sequence));
        let bytes = self.bytes(facts).map_err(|error| damaged().because(error))?;
        let head = file::whole(&bytes, self.recorder).map_err(|_| damaged())?;
        let link = Link {
            facts: Facts::of(&head.header, head.bytes - PREFIX_BYTES),
            digest: head.digest,
            prelude: bytes.slice(PREFIX_BYTES..head.bytes),
            payload: bytes.slice(head.bytes..),
        };
        if link.facts == *facts { Ok(link) } else { Err(damaged()) }
    }

    fn bytes(&self, facts: &Facts) -> std::io::Result<Bytes> {
        let mut file = File::open(self.path(&facts.file_name()))?;
        let length = file_bytes(facts);
        if file.metadata()?.len() != length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| ErrorKind::FileTooLarge)?];
        file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }

    /// Digest of a link, from the beginning of its file.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it does not read.
    pub(super) fn digest(&self, facts: &Facts) -> Result<Digest> {
        let damaged = || Error::new(Kind::Damaged, format!("link {} does not read back", facts.sequence));
        let (head, _) = self.head(&facts.file_name()).map_err(|error| damaged().because(error))?;
        match head {
            Some(head) if head.header.sequence == facts.sequence => Ok(head.digest),
            _ => Err(damaged()),
        }
    }

    /// The beginning of a file, if it verifies, and whether it is the file itself and not a copy.
    fn head(&self, name: &str) -> std::io::Result<(Option<Head>, bool)> {
        let file = File::open(self.path(name))?;
        let sign = sign_of(&file.metadata()?);
        let mut bytes = Vec::with_capacity(HEAD_BYTES_MAX);
        file.take(HEAD_BYTES_MAX as u64).read_to_end(&mut bytes)?;
        let head = file::head(&bytes, self.recorder).ok();
        let own = head.as_ref().is_some_and(|head| head.after.settled && head.sign == sign);
        Ok((head, own))
    }

    /// Deletes a link. Of the newest one the head stays.
    ///
    /// # Errors
    /// [`Kind::Internal`] if storage fails.
    pub(super) fn remove(&self, facts: &Facts) -> Result<()> {
        let mut books = self.books();
        let newest = books.newest == Some(facts.sequence);
        let taken = std::fs::metadata(self.path(&facts.file_name())).map_or(0, |metadata| self.blocks(metadata.len()));
        let kept = if newest { self.keep_head(facts) } else { self.unlink(&facts.file_name()).map(|()| 0) };
        let kept = kept.map_err(|error| self.cannot("delete from", error))?;
        books.used = books.used.saturating_sub(taken).saturating_add(kept);
        if newest {
            books.tail = Some((facts.sequence, kept));
        }
        Ok(())
    }

    /// Links that the server refused for good and that are still here.
    pub(super) fn aside(&self) -> Vec<Sequence> {
        self.books().aside.iter().map(|facts| facts.sequence).collect()
    }

    /// Keeps a link that the server will never take for as long as there is room; it is not offered again.
    ///
    /// # Errors
    /// [`Kind::Internal`] if storage fails.
    pub(super) fn put_aside(&self, facts: &Facts) -> Result<()> {
        let moved = std::fs::rename(self.path(&facts.file_name()), self.path(&aside_name(facts)));
        moved.map_err(|error| self.cannot("write", error))?;
        self.books().aside.push_back(*facts);
        Ok(())
    }

    fn unlink(&self, name: &str) -> std::io::Result<()> {
        match std::fs::remove_file(self.path(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// First the name, then the length: a head under the link's own name would look like damage.
    fn keep_head(&self, facts: &Facts) -> std::io::Result<u64> {
        let tail = self.path(&tail_name(facts.sequence));
        match std::fs::rename(self.path(&facts.file_name()), &tail) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            result => result?,
        }
        let head = PREFIX_BYTES as u64 + u64::from(facts.prelude);
        File::options().write(true).open(&tail)?.set_len(head)?;
        Ok(self.blocks(head))
    }

    /// Reads the directory: names and sizes of all files, and the newest one.
    fn look(&self) -> std::io::Result<Found> {
        let (mut links, mut damaged, mut aside, mut tails) = (Vec::new(), Vec::new(), Vec::<Facts>::new(), Vec::new());
        let mut used = 0_u64;
        let mut draft = false;
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            if name == DRAFT {
                draft = true;
                continue;
            }
            let length = entry.metadata()?.len();
            used = used.saturating_add(self.blocks(length));
            if let Some(facts) = name.strip_prefix(ASIDE).and_then(Facts::of_file_name) {
                aside.push(facts);
            } else if let Some(facts) = Facts::of_file_name(name) {
                if length == file_bytes(&facts) { links.push(facts) } else { damaged.push(facts) }
            } else if let Some(sequence) = tail_of(name) {
                tails.push((sequence, self.blocks(length)));
            }
        }
        links.sort_unstable_by_key(|facts| facts.sequence);
        links.shrink_to_fit();
        damaged.sort_unstable_by_key(|facts| facts.sequence);
        aside.sort_unstable_by_key(|facts| facts.sequence);
        tails.sort_unstable();
        let mut books = self.books();
        books.used = used;
        books.aside = aside.iter().copied().collect();
        drop(books);
        if draft {
            let others = damaged.last().into_iter().chain(aside.last()).map(|facts| facts.sequence);
            let newest = others.chain(tails.last().map(|(sequence, _)| *sequence)).max();
            self.adopt(&mut links, newest)?;
        }
        let last = self.last(&mut links, &mut damaged, aside.last(), tails)?;
        Ok(Found { links, damaged, last })
    }

    /// A draft that is whole and comes next in the chain was written before the power went; another never left this device.
    fn adopt(&self, links: &mut Vec<Facts>, newest: Option<Sequence>) -> std::io::Result<()> {
        let newest = newest.max(links.last().map(|facts| facts.sequence));
        let next = newest.map_or(Some(0), |sequence| sequence.checked_add(1));
        let mut bytes = Vec::new();
        let mut draft = File::open(self.path(DRAFT))?;
        (&mut draft).take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        match file::whole(&bytes, self.recorder) {
            Ok(head) if Some(head.header.sequence) == next => {
                let facts = Facts::of(&head.header, head.bytes - PREFIX_BYTES);
                let size = self.size(&facts);
                draft.sync_all()?;
                self.publish(&facts)?;
                self.books().used += size;
                links.push(facts);
                Ok(())
            }
            _ => self.unlink(DRAFT),
        }
    }

    /// What the newest file says; heads of others are removed.
    fn last(
        &self,
        links: &mut Vec<Facts>,
        damaged: &mut Vec<Facts>,
        aside: Option<&Facts>,
        mut tails: Vec<(Sequence, u64)>,
    ) -> std::io::Result<Last> {
        let sequence_of = |facts: &Facts| facts.sequence;
        let newest_link = links.last().into_iter().chain(damaged.last()).chain(aside).map(sequence_of).max();
        let tail = tails.pop_if(|(sequence, _)| Some(*sequence) >= newest_link);
        for (sequence, size) in tails {
            self.unlink(&tail_name(sequence))?;
            self.books().used -= size;
        }
        if let Some((sequence, size)) = tail {
            return self.last_tail(sequence, size, links);
        }
        let Some(sequence) = newest_link else { return Ok(Last::Nothing) };
        self.books().newest = Some(sequence);
        if let Some(facts) = links.pop_if(|facts| facts.sequence == sequence) {
            if self.read(&facts).is_ok() { links.push(facts) } else { damaged.push(facts) }
        }
        let plain = links.last().into_iter().chain(damaged.last()).find(|facts| facts.sequence == sequence);
        let name = plain.map(Facts::file_name).or(aside.map(aside_name)).unwrap_or_default();
        match self.head(&name)? {
            (Some(head), own) if head.header.sequence == sequence => Ok(known(&head, own)),
            _ => Ok(Last::Unreadable { sequence, before: self.before(links) }),
        }
    }

    fn last_tail(&self, sequence: Sequence, size: u64, links: &[Facts]) -> std::io::Result<Last> {
        let mut books = self.books();
        books.newest = Some(sequence);
        books.tail = Some((sequence, size));
        drop(books);
        let name = tail_name(sequence);
        match self.head(&name)? {
            (Some(head), own) if head.header.sequence == sequence => {
                File::options().write(true).open(self.path(&name))?.set_len(head.bytes as u64)?;
                let kept = self.blocks(head.bytes as u64);
                let mut books = self.books();
                books.used = books.used.saturating_sub(size).saturating_add(kept);
                books.tail = Some((sequence, kept));
                Ok(known(&head, own))
            }
            _ => Ok(Last::Unreadable { sequence, before: self.before(links) }),
        }
    }

    /// The newest end of the chain that does read.
    fn before(&self, links: &[Facts]) -> Option<ChainEnd> {
        let read = |facts: &Facts| Some(ChainEnd { sequence: facts.sequence, digest: self.digest(facts).ok()? });
        links.iter().rev().take(BACKWARDS_MAX).find_map(read)
    }

    /// Free space for recordings, bytes: what the limit and the file system leave.
    pub(super) fn free(&self) -> u64 {
        let (limit, used) = self.room();
        let left = limit.saturating_sub(used);
        match rustix::fs::statvfs(&self.dir) {
            Ok(space) => left.min(space.f_bavail.saturating_mul(space.f_frsize)),
            Err(_) => left,
        }
    }
}

fn known(head: &Head, own: bool) -> Last {
    Last::Known { end: ChainEnd { sequence: head.header.sequence, digest: head.digest }, after: head.after, own }
}

fn file_bytes(facts: &Facts) -> u64 {
    PREFIX_BYTES as u64 + u64::from(facts.prelude) + u64::from(facts.bytes)
}

fn aside_name(facts: &Facts) -> String {
    format!("{ASIDE}{}", facts.file_name())
}

fn tail_name(sequence: Sequence) -> String {
    format!("{TAIL}{sequence:016x}")
}

fn tail_of(name: &str) -> Option<Sequence> {
    let sequence = Sequence::from_str_radix(name.strip_prefix(TAIL)?, 16).ok()?;
    (tail_name(sequence) == name).then_some(sequence)
}

/// A file system that does not know when a file was born leaves the inode alone.
fn sign_of(metadata: &std::fs::Metadata) -> Sign {
    let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let born = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
    Sign { inode: metadata.ino(), born }
}

#[cfg(test)]
pub(super) mod tests;
