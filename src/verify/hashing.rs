//! Both digests of every byte in one pass: of the file on a thread of its own, of the payload here, over the same buffer.
//!
//! Each file is fed to its digest from its beginning to its end exactly once, in whatever order its parts are asked for; at most
//! a few buffers exist. What is read again - because what a line says did not hold - is bounded by an allowance for the bundle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use aigaq_proto::Digest;
use aws_lc_rs::digest::{self, Context, SHA256};

use super::source::{Section, unreadable};
use crate::error::{Context as _, Error, Kind, Result};

/// Length of a buffer, bytes, and how many wait for the other thread at most.
const BUFFER_BYTES: usize = 512 * 1024;
const WAITING_MAX: usize = 6;
/// What may be read again beyond the length of the bundle, bytes.
const AGAIN_BYTES: u64 = 1 << 30;

/// A piece of work for the other thread.
enum Work {
    /// The next bytes of a file; how many of them from the start of the buffer do not count, and how many do.
    Feed { file: u64, buffer: Arc<Vec<u8>>, skip: usize, end: usize },
    /// No more of it comes.
    End { file: u64, answer: SyncSender<Digest> },
}

/// A file that is being hashed.
#[derive(Debug)]
pub(super) struct Hashed {
    number: u64,
    /// Where its bytes are.
    pub(super) section: Section,
    fed: u64,
}

/// The two hashers.
pub(super) struct Hasher {
    work: Option<SyncSender<Work>>,
    back: Receiver<Arc<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
    files: u64,
    /// One that did not go to the other thread.
    spare: Option<Arc<Vec<u8>>>,
    buffers: usize,
    again: u64,
}

impl Hasher {
    /// Hashers for a bundle of `bytes`.
    ///
    /// # Errors
    /// [`Kind::Internal`] without a thread.
    pub(super) fn start(bytes: u64) -> Result<Self> {
        let (work, todo) = sync_channel(WAITING_MAX);
        // More than there ever are buffers: giving one back never waits.
        let (done, back) = sync_channel(2 * WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("digests".into())
            .spawn(move || hash(&todo, &done))
            .context(Kind::Internal, "cannot start a thread")?;
        Ok(Self {
            work: Some(work),
            back,
            thread: Some(thread),
            files: 0,
            spare: None,
            buffers: 0,
            again: bytes.saturating_add(AGAIN_BYTES),
        })
    }

    /// A file of which nothing was hashed yet.
    pub(super) fn file(&mut self, section: Section) -> Hashed {
        self.files = self.files.wrapping_add(1);
        Hashed { number: self.files, section, fed: 0 }
    }

    /// A file all of which was hashed: parts of it may be asked for again.
    pub(super) fn hashed_file(&mut self, section: Section) -> Hashed {
        let fed = section.length;
        Hashed { fed, ..self.file(section) }
    }

    /// The digest of a part of a file.
    ///
    /// # Errors
    /// Those of [`Section::read`]; [`Kind::Invalid`] when too much is asked for again.
    pub(super) fn part(&mut self, file: &mut Hashed, offset: u64, length: u64) -> Result<Digest> {
        self.feed_to(file, offset)?;
        let mut context = Context::new(&SHA256);
        self.pass(file, offset, length, |bytes| context.update(bytes))?;
        Ok(finished(&context.finish()))
    }

    /// The digest of the whole file.
    ///
    /// # Errors
    /// Those of [`Section::read`].
    pub(super) fn end(&mut self, mut file: Hashed) -> Result<Digest> {
        let length = file.section.length;
        self.feed_to(&mut file, length)?;
        let (answer, digest) = sync_channel(1);
        self.send(Work::End { file: file.number, answer })?;
        digest.recv().context(Kind::Internal, "a thread has ended")
    }

    /// The bytes of a file from `offset` on, fed on the way.
    ///
    /// # Errors
    /// Those of [`Section::read`].
    pub(super) fn bytes(&mut self, file: &mut Hashed, offset: u64, length: u64, into: &mut Vec<u8>) -> Result<()> {
        self.feed_to(file, offset)?;
        self.pass(file, offset, length, |bytes| into.extend_from_slice(bytes))
    }

    fn feed_to(&mut self, file: &mut Hashed, end: u64) -> Result<()> {
        let from = file.fed;
        match end.checked_sub(from) {
            Some(length) => self.pass(file, from, length, |_| {}),
            None => Ok(()),
        }
    }

    /// Goes over a part that does not begin beyond what was fed.
    fn pass(&mut self, file: &mut Hashed, offset: u64, length: u64, mut with: impl FnMut(&[u8])) -> Result<()> {
        let beyond = || unreadable("a file of the bundle ends too early");
        let end = offset.checked_add(length).filter(|end| *end <= file.section.length).ok_or_else(beyond)?;
        let mut at = offset;
        while at < end {
            let want = usize::try_from(end.saturating_sub(at)).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
            let mut buffer = self.buffer();
            let room = Arc::get_mut(&mut buffer).and_then(|buffer| buffer.get_mut(..want));
            file.section.read(at, room.ok_or_else(|| Error::new(Kind::Internal, "a buffer is in use"))?)?;
            let next = at.saturating_add(want as u64);
            let skip = usize::try_from(file.fed.saturating_sub(at)).unwrap_or(want).min(want);
            self.again = self.again.checked_sub(skip as u64).ok_or_else(|| unreadable("lines name the same bytes"))?;
            if skip < want {
                let buffer = Arc::clone(&buffer);
                self.send(Work::Feed { file: file.number, buffer, skip, end: want })?;
                file.fed = next;
            }
            with(buffer.get(..want).unwrap_or_default());
            if skip == want {
                self.spare = Some(buffer);
            }
            at = next;
        }
        Ok(())
    }

    /// A buffer that nobody else has.
    fn buffer(&mut self) -> Arc<Vec<u8>> {
        while let Some(mut back) = self.spare.take().or_else(|| self.come_back()) {
            if Arc::get_mut(&mut back).is_some() {
                return back;
            }
            self.buffers = self.buffers.saturating_sub(1);
        }
        self.buffers = self.buffers.saturating_add(1);
        Arc::new(vec![0; BUFFER_BYTES])
    }

    /// One that the other thread is done with; waits for it when there are enough.
    fn come_back(&self) -> Option<Arc<Vec<u8>>> {
        if self.buffers > WAITING_MAX + 2 { self.back.recv().ok() } else { self.back.try_recv().ok() }
    }

    fn send(&self, work: Work) -> Result<()> {
        let sent = self.work.as_ref().is_some_and(|sender| sender.send(work).is_ok());
        if sent { Ok(()) } else { Err(Error::new(Kind::Internal, "a thread has ended")) }
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A digest as this project has it.
pub(super) fn finished(from: &digest::Digest) -> Digest {
    let mut digest = Digest::ZERO;
    for (to, from) in digest.0.iter_mut().zip(from.as_ref()) {
        *to = *from;
    }
    digest
}

/// The other thread.
fn hash(todo: &Receiver<Work>, done: &SyncSender<Arc<Vec<u8>>>) {
    let mut files: BTreeMap<u64, Context> = BTreeMap::new();
    for work in todo {
        match work {
            Work::Feed { file, buffer, skip, end } => {
                let context = files.entry(file).or_insert_with(|| Context::new(&SHA256));
                context.update(buffer.get(skip..end).unwrap_or_default());
                let _ = done.send(buffer);
            }
            Work::End { file, answer } => {
                let context = files.remove(&file).unwrap_or_else(|| Context::new(&SHA256));
                let _ = answer.send(finished(&context.finish()));
            }
        }
    }
}
