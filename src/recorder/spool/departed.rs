//! Which links left the spool as links should: against a receipt, refused for good, or named by a `Lost` link. A link that was
//! made, is not held, and is not here has vanished: somebody or the file system took its file.
//!
//! A file of 16 bytes for each stretch, first and last sequence, big-endian, appended before the link's own file is deleted, and
//! written anew, joined, when it has grown. It is not synced: after a loss of power it may lack its end, so that nothing counts as
//! vanished which the server says it has. What makes no sense in it is passed over. Where it cannot be written it is removed, and
//! then nothing counts as vanished. Bounded: of very many stretches the oldest are joined with what lies between them.
//!
//! It never makes a link count as delivered: it only keeps one that was from being called lost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aigaq_proto::limits::SEQUENCE_MAX;
use aigaq_proto::{Sequence, SequenceRange};

/// Greatest number of stretches that are known.
const STRETCHES_MAX: usize = 4_096;
const ENTRY_BYTES: usize = 16;
/// Entries that are appended before the file is written anew: with its stretches it has at most 128 KiB.
const APPENDED_MAX: usize = 4_096;
/// More than any file that was written here.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Links that left.
#[derive(Debug)]
pub(super) struct Departed {
    path: PathBuf,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// Last sequence by first; neither touching nor overlapping.
    stretches: BTreeMap<Sequence, Sequence>,
    /// `None` once it could not be written.
    file: Option<File>,
    appended: usize,
}

impl Departed {
    /// Reads the file, or begins one for a chain of which the links below `next` were made: of those, nothing is known.
    pub(super) fn open(path: &Path, next: Sequence) -> Self {
        let departed = Self { path: path.to_owned(), books: Mutex::default() };
        let mut books = departed.books();
        match entries(path) {
            Ok(entries) => entries.into_iter().for_each(|range| books.join(range)),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(%error, "what left the spool does not read");
                }
                if let Some(last) = next.checked_sub(1) {
                    books.join(SequenceRange { first: 0, last });
                }
            }
        }
        departed.anew(&mut books);
        drop(books);
        departed
    }

    /// Everything that left.
    pub(super) fn stretches(&self) -> Vec<SequenceRange> {
        let books = self.books();
        books.stretches.iter().map(|(first, last)| SequenceRange { first: *first, last: *last }).collect()
    }

    /// These leave now.
    pub(super) fn add(&self, range: SequenceRange) {
        let mut books = self.books();
        books.join(range);
        books.appended += 1;
        if books.appended > APPENDED_MAX {
            return self.anew(&mut books);
        }
        if let Some(file) = &mut books.file
            && let Err(error) = file.write_all(&entry(range))
        {
            self.give_up(&mut books, &error);
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn anew(&self, books: &mut Books) {
        let bytes: Vec<u8> = self.bytes(books);
        let draft = self.path.with_extension("draft");
        let written = std::fs::write(&draft, bytes).and_then(|()| std::fs::rename(&draft, &self.path));
        books.appended = 0;
        match written.and_then(|()| File::options().append(true).open(&self.path)) {
            Ok(file) => books.file = Some(file),
            Err(error) => self.give_up(books, &error),
        }
    }

    fn bytes(&self, books: &Books) -> Vec<u8> {
        books.stretches.iter().flat_map(|(first, last)| entry(SequenceRange { first: *first, last: *last })).collect()
    }

    /// A file that misses entries would make delivered links look as if they had vanished.
    fn give_up(&self, books: &mut Books, error: &std::io::Error) {
        tracing::warn!(%error, "what leaves the spool cannot be written down: links that vanish will not be noticed");
        books.file = None;
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Books {
    fn join(&mut self, range: SequenceRange) {
        let (mut first, mut last) = (range.first, range.last);
        if let Some((before, end)) = self.stretches.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            (first, last) = (*before, last.max(*end));
        }
        while let Some((next, end)) = self.stretches.range(first..).next().map(|(next, end)| (*next, *end))
            && next <= last.saturating_add(1)
        {
            last = last.max(end);
            self.stretches.remove(&next);
        }
        self.stretches.insert(first, last);
        if self.stretches.len() > STRETCHES_MAX
            && let Some((oldest, _)) = self.stretches.pop_first()
            && let Some((_, end)) = self.stretches.pop_first()
        {
            self.stretches.insert(oldest, end);
        }
    }
}

fn entry(range: SequenceRange) -> [u8; ENTRY_BYTES] {
    (u128::from(range.first) << 64 | u128::from(range.last)).to_be_bytes()
}

fn entries(path: &Path) -> std::io::Result<Vec<SequenceRange>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
    let ranges = entries.iter().map(|entry| {
        let (first, last) = entry.split_at(ENTRY_BYTES / 2);
        SequenceRange { first: number(first), last: number(last) }
    });
    Ok(ranges.filter(|range| range.first <= range.last && range.last <= SEQUENCE_MAX).collect())
}

/// The sequences up to `greatest` that are in none of these ranges.
pub(in crate::recorder) fn holes(mut there: Vec<SequenceRange>, greatest: Sequence) -> Vec<SequenceRange> {
    there.sort_unstable_by_key(|range| range.first);
    let mut next: Sequence = 0;
    let mut holes = Vec::new();
    for range in there {
        if next > greatest {
            break;
        }
        if range.first > next {
            holes.push(SequenceRange { first: next, last: (range.first - 1).min(greatest) });
        }
        next = next.max(range.last.saturating_add(1));
    }
    if next <= greatest {
        holes.push(SequenceRange { first: next, last: greatest });
    }
    holes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: Sequence, last: Sequence) -> SequenceRange {
        SequenceRange { first, last }
    }

    #[test]
    fn what_left_is_known_again_and_touching_stretches_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("departed");
        let departed = Departed::open(&path, 0);
        for (first, last) in [(5, 5), (0, 1), (3, 3), (2, 2), (9, 12), (10, 10), (6, 8)] {
            departed.add(range(first, last));
        }
        assert_eq!(departed.stretches(), [range(0, 3), range(5, 12)]);
        assert_eq!(Departed::open(&path, 40).stretches(), [range(0, 3), range(5, 12)], "the file says it");
    }

    #[test]
    fn of_a_chain_that_was_begun_without_the_file_nothing_vanished() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Departed::open(&dir.path().join("departed"), 7).stretches(), [range(0, 6)]);
    }

    #[test]
    fn a_torn_end_and_an_entry_without_sense_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("departed");
        let bytes = [&entry(range(4, 6))[..], &entry(range(9, 8)), &entry(range(0, u64::MAX)), &[7; 5]].concat();
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Departed::open(&path, 40).stretches(), [range(4, 6)]);
    }

    #[test]
    fn very_many_stretches_stay_bounded_and_the_newest_exact() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("departed");
        let departed = Departed::open(&path, 0);
        (0..10_000).for_each(|number| departed.add(range(number * 2, number * 2)));
        let stretches = departed.stretches();
        assert_eq!((stretches.len(), stretches.last()), (STRETCHES_MAX, Some(&range(19_998, 19_998))));
        assert!(std::fs::metadata(&path).unwrap().len() <= 128 * 1024);
        assert_eq!(Departed::open(&path, 0).stretches(), stretches);
    }

    #[test]
    fn holes_are_what_no_range_covers() {
        assert_eq!(holes(vec![range(5, 9), range(2, 3), range(3, 3)], 12), [range(0, 1), range(4, 4), range(10, 12)]);
        assert_eq!(holes(vec![range(0, 1), range(4, 90)], 12), [range(2, 3)]);
        assert_eq!(holes(vec![range(20, 90)], 12), [range(0, 12)]);
    }
}
