//! The file of one footage day's keys. Big-endian:
//!
//! ```text
//! head  0  "aigaqkey"   8  version 1 (1)   9  wrapped by: 1 master key, 2 command (1)   10  day (4)
//!      14  which master key (8; zeros for a command)   22  check value of the day key (16)
//!      38  length n of the wrapped day key (2)   40  wrapped day key (n)   40+n  CRC-32C of all before (4)
//! slot  0  recorder (16)   16  ordinal (4)   20  data key sealed under the day key (60)   80  CRC-32C of all before (4)
//! ```
//!
//! Slots follow the head and one another without a gap. The ordinal of a slot is the number of good slots before it, so a slot that
//! went bad shows itself by those behind it, and what a loss of power left half written at the end does not: nobody was given that
//! key, the next slot takes no notice of it. Where a key was that is destroyed, recorder and key are zeros. The day key and a data key are each bound to the day, a data key also to its ordinal and
//! recorder.
//!
//! A file is made and replaced under another name that takes its place when it is durable; it grows in place. What is taken away is
//! overwritten first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aigaq_proto::RecorderId;

use super::command::OUTPUT_BYTES_MAX;
use super::key::{KEY_BYTES, OVERHEAD_BYTES};
use crate::error::{Error, Kind, Result};

const MAGIC: &[u8; 8] = b"aigaqkey";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 40;
const SLOT_BYTES: usize = 84;
const CRC_BYTES: usize = 4;
/// How the name of a file ends.
const SUFFIX: &str = ".keys";
/// How the name of one ends that is being written.
const NEW_SUFFIX: &str = ".new";

/// A data key sealed under its day key.
pub(super) type SealedKey = [u8; KEY_BYTES + OVERHEAD_BYTES];

/// Who wrapped a day key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WrappedBy {
    /// The master key with this fingerprint.
    Master([u8; 8]),
    /// The command.
    Command,
}

/// What a file begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) day: u32,
    pub(super) by: WrappedBy,
    /// Tells whether what was unwrapped is the day key.
    pub(super) check: [u8; 16],
    pub(super) wrapped: Vec<u8>,
}

/// A recorder's key of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) recorder: RecorderId,
    pub(super) ordinal: u32,
    pub(super) sealed: SealedKey,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyFile {
    pub(super) head: Head,
    pub(super) slots: Vec<Slot>,
    /// Slots that went bad: there were good ones behind them.
    pub(super) lost: u32,
    /// Slots, and a part of one, at the end that were never finished, or went bad.
    pub(super) unfinished: u32,
    /// The ordinal of the next slot.
    pub(super) next: u32,
    /// Where that goes, bytes from the beginning.
    pub(super) end: u64,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (by, which) = match self.by {
            WrappedBy::Master(which) => (1, which),
            WrappedBy::Command => (2, [0; 8]),
        };
        let length = u16::try_from(self.wrapped.len()).unwrap_or(u16::MAX).to_be_bytes();
        let day = self.day.to_be_bytes();
        summed([&MAGIC[..], &[VERSION, by], &day, &which, &self.check, &length, &self.wrapped].concat())
    }

    /// The head and its length.
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let (fixed, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let length = usize::from(u16::from_be_bytes(fixed.last_chunk::<2>().copied()?));
        if length == 0 || length > OUTPUT_BYTES_MAX || rest.len() < length + CRC_BYTES {
            return None;
        }
        let whole = HEAD_BYTES + length + CRC_BYTES;
        whole_of(bytes.get(..whole)?)?;
        let by = match (fixed.get(9)?, *fixed.get(14..22)?.first_chunk()?) {
            (1, which) => WrappedBy::Master(which),
            (2, [0, 0, 0, 0, 0, 0, 0, 0]) => WrappedBy::Command,
            _ => return None,
        };
        let known = fixed.starts_with(MAGIC) && *fixed.get(8)? == VERSION;
        let head = Self {
            day: u32::from_be_bytes(*fixed.get(10..14)?.first_chunk()?),
            by,
            check: *fixed.get(22..38)?.first_chunk()?,
            wrapped: rest.get(..length)?.to_vec(),
        };
        known.then_some((head, whole))
    }
}

impl Slot {
    /// What stands where a key was that is destroyed.
    pub(super) fn void(ordinal: u32) -> Self {
        Self { recorder: RecorderId([0; 16]), ordinal, sealed: [0; KEY_BYTES + OVERHEAD_BYTES] }
    }

    pub(super) fn is_void(&self) -> bool {
        *self == Self::void(self.ordinal)
    }

    fn encode(&self) -> Vec<u8> {
        summed([&self.recorder.0[..], &self.ordinal.to_be_bytes(), &self.sealed].concat())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let fields = whole_of(bytes)?;
        Some(Self {
            recorder: RecorderId(*fields.first_chunk()?),
            ordinal: u32::from_be_bytes(*fields.get(16..20)?.first_chunk()?),
            sealed: *fields.get(20..)?.first_chunk()?,
        })
    }
}

impl KeyFile {
    /// Reads the bytes of the file of `day`.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it has no head that holds, or that of another day.
    pub(super) fn parse(bytes: &[u8], day: u32) -> Result<Self> {
        let damaged = |what: &str| Error::new(Kind::Damaged, format!("the key file of day {day} {what}"));
        let (head, length) = Head::read(bytes).ok_or_else(|| damaged("has no head that holds"))?;
        if head.day != day {
            return Err(damaged(&format!("is that of day {}", head.day)));
        }
        let mut file = Self { head, slots: Vec::new(), lost: 0, unfinished: 0, next: 0, end: length as u64 };
        for bytes in bytes.get(length..).unwrap_or_default().chunks(SLOT_BYTES) {
            match Slot::read(bytes) {
                Some(slot) if slot.ordinal >= file.next => {
                    file.lost = file.lost.saturating_add(slot.ordinal - file.next);
                    (file.next, file.unfinished) = (slot.ordinal.saturating_add(1), 0);
                    file.slots.push(slot);
                }
                // One that is there twice, or in another order.
                Some(_) => file.lost = file.lost.saturating_add(1),
                None => file.unfinished += 1,
            }
            if bytes.len() == SLOT_BYTES {
                file.end += SLOT_BYTES as u64;
            }
        }
        Ok(file)
    }

    /// The file of a day, if there is one.
    ///
    /// # Errors
    /// As [`KeyFile::parse`], and [`Kind::Internal`] when it does not read.
    pub(super) fn read(dir: &Path, day: u32) -> Result<Option<Self>> {
        match fs::read(path(dir, day)) {
            Ok(bytes) => Self::parse(&bytes, day).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(Error::new(Kind::Internal, format!("cannot read the key file of day {day}")).because(error))
            }
        }
    }
}

fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

/// What stands before a checksum that holds.
fn whole_of(bytes: &[u8]) -> Option<&[u8]> {
    let (fields, crc) = bytes.split_last_chunk::<CRC_BYTES>()?;
    (crc32c::crc32c(fields) == u32::from_be_bytes(*crc)).then_some(fields)
}

/// Where the file of a day lies.
pub(super) fn path(dir: &Path, day: u32) -> PathBuf {
    dir.join(format!("{day}{SUFFIX}"))
}

/// The days that have a file, in order. None if there is no directory.
///
/// # Errors
/// [`Kind::Internal`] when the directory does not read.
pub(super) fn days(dir: &Path) -> Result<Vec<u32>> {
    let failed = |error| Error::new(Kind::Internal, "cannot list the directory of the keys").because(error);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut days = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let day: Option<u32> =
            name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).and_then(|day| day.parse().ok());
        days.extend(day);
    }
    days.sort_unstable();
    Ok(days)
}

/// Removes what was being written when the power went.
pub(super) fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.to_str().is_some_and(|path| path.ends_with(NEW_SUFFIX)) {
            erase(&path)?;
        }
    }
    Ok(())
}

/// Puts a file in its place, durably, for its owner alone. What was there before is overwritten.
pub(super) fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(NEW_SUFFIX);
    let new = PathBuf::from(new);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let old = match OpenOptions::new().write(true).open(path) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    fs::rename(&new, path)?;
    sync_above(path)?;
    old.map_or(Ok(()), |old| blank(&old))
}

/// Puts a day's file in its place.
pub(super) fn put_day(dir: &Path, head: &Head, slots: &[Slot]) -> io::Result<()> {
    let slots = slots.iter().flat_map(Slot::encode);
    put(&path(dir, head.day), &head.encode().into_iter().chain(slots).collect::<Vec<_>>())
}

/// Appends slots at `end`; they are durable on return. Returns the new end.
pub(super) fn append(dir: &Path, day: u32, end: u64, slots: &[Slot]) -> io::Result<u64> {
    let bytes: Vec<u8> = slots.iter().flat_map(Slot::encode).collect();
    let file = OpenOptions::new().write(true).open(path(dir, day))?;
    file.write_all_at(&bytes, end)?;
    file.sync_all()?;
    Ok(end + bytes.len() as u64)
}

/// Overwrites a file and takes it away, durably.
pub(super) fn erase(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => blank(&file)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    fs::remove_file(path)?;
    sync_above(path)
}

/// Overwrites what is in a file.
pub(super) fn blank(file: &File) -> io::Result<()> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    file.write_all_at(&vec![0; length], 0)?;
    file.sync_all()
}

/// Makes the entry of a file in its directory durable.
pub(super) fn sync_above(path: &Path) -> io::Result<()> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(above)?.sync_all()
}
