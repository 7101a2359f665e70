//! The table of contents of a ZIP, read strictly: only what a bundle may be, so that no two readers of it can see two things.
//!
//! Entries are stored, not deflated: their bytes are read where they lie, and nothing can grow. Every entry has its bytes for
//! itself. The table is read as it comes: nothing is allocated for a number that the file only claims.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::source::{FILES_MAX, is_plain, unreadable};
use crate::error::{Context as _, Kind, Result};

/// End of central directory without its comment, bytes.
const END_BYTES: u64 = 22;
/// Locator and record of the ZIP64 end of central directory, bytes.
const LOCATOR_BYTES: u64 = 20;
const END64_BYTES: u64 = 56;
/// How much of the table is read at a time, and the longest that is read, bytes.
const PIECE_BYTES: usize = 64 * 1024;
const TABLE_BYTES_MAX: u64 = 16 << 20;
/// Fixed part of an entry of the table and of a local header, bytes.
const ENTRY_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;

/// Offset of the bytes and length of every file, by its path below the one directory of the bundle.
///
/// # Errors
/// [`Kind::Invalid`] for anything that a bundle may not be, [`Kind::Internal`] when the disk does not give it.
pub(super) fn entries(file: &File, length: u64) -> Result<BTreeMap<String, (u64, u64)>> {
    let (table_at, table_bytes, count) = table(file, length)?;
    let mut entries = BTreeMap::new();
    let mut taken = Vec::new();
    let mut root: Option<String> = None;
    let mut rest = Rest { file, at: table_at, left: table_bytes, piece: Vec::new(), start: 0 };
    for _ in 0..count {
        let none = || unreadable("the table of the ZIP does not read");
        let fixed: [u8; ENTRY_BYTES] =
            rest.take(ENTRY_BYTES)?.and_then(|fixed| fixed.try_into().ok()).ok_or_else(none)?;
        let variable = rest.take(Entry::variable_bytes(&fixed))?.ok_or_else(none)?;
        let entry = Entry::read(&fixed, variable).ok_or_else(none)?;
        let name = entry.name()?;
        let (dir, path) = name.split_once('/').ok_or_else(|| unreadable("the ZIP has a file outside a directory"))?;
        if root.get_or_insert_with(|| dir.to_owned()) != dir || !is_plain(dir) {
            return Err(unreadable("the ZIP has more than one directory"));
        }
        let start = entry.start(file, table_at)?;
        taken.push((entry.local, start.saturating_add(entry.length)));
        if entry.length == 0 && (path.is_empty() || path.ends_with('/')) {
            continue;
        }
        if !is_plain(path) {
            return Err(unreadable(format!("the ZIP has a file with the path {path:?}")));
        }
        if entries.insert(path.to_owned(), (start, entry.length)).is_some() {
            return Err(unreadable(format!("the ZIP has {path} twice")));
        }
    }
    if rest.left > 0 || rest.start < rest.piece.len() {
        return Err(unreadable("the table of the ZIP has more than it says"));
    }
    taken.sort_unstable();
    let mut next = 0;
    for (local, end) in taken {
        if local != next {
            return Err(unreadable("files of the ZIP overlap, or something lies between them"));
        }
        next = end;
    }
    if next == table_at { Ok(entries) } else { Err(unreadable("something lies before the table of the ZIP")) }
}

/// Where the table is, its length, and how many entries it has.
fn table(file: &File, length: u64) -> Result<(u64, u64, u64)> {
    let none = || unreadable("this is no ZIP, or it has a comment or ends too early");
    let end_at = length.checked_sub(END_BYTES).ok_or_else(none)?;
    let mut end = [0; END_BYTES as usize];
    read(file, end_at, &mut end)?;
    let mut fields = Cursor(&end);
    if fields.u32() != Some(0x0605_4b50) {
        return Err(none());
    }
    let narrow = (|| {
        let disks = (fields.u16()?, fields.u16()?);
        let counts = (u64::from(fields.u16()?), u64::from(fields.u16()?));
        let place = (u64::from(fields.u32()?), u64::from(fields.u32()?));
        let comment = fields.u16()?;
        (disks.0 == disks.1 && counts.0 == counts.1 && comment == 0).then_some((place.1, place.0, counts.0))
    })();
    let narrow = narrow.ok_or_else(none)?;
    let locator_at = end_at.checked_sub(LOCATOR_BYTES);
    let wide = match locator_at {
        Some(at) => wide(file, at)?,
        None => None,
    };
    let ((at, bytes, count), ends) = match wide {
        Some((place, record_at)) => {
            let agrees = |narrow: u64, wide: u64, all: u64| narrow == wide || narrow == all;
            let both = agrees(narrow.0, place.0, u64::from(u32::MAX))
                && agrees(narrow.1, place.1, u64::from(u32::MAX))
                && agrees(narrow.2, place.2, u64::from(u16::MAX));
            if !both || record_at.checked_add(END64_BYTES) != locator_at {
                return Err(unreadable("the ZIP has two tables"));
            }
            (place, record_at)
        }
        None => (narrow, end_at),
    };
    if at.checked_add(bytes) != Some(ends) {
        return Err(unreadable("the table of the ZIP is not at its end"));
    }
    if bytes > TABLE_BYTES_MAX || count > FILES_MAX as u64 {
        return Err(unreadable(format!("the ZIP has more than {FILES_MAX} files, or too long a table")));
    }
    Ok((at, bytes, count))
}

/// The place that the ZIP64 records name, and where the record is; none if there are none.
#[expect(clippy::type_complexity, reason = "place, then where it was read")]
fn wide(file: &File, locator_at: u64) -> Result<Option<((u64, u64, u64), u64)>> {
    let mut locator = [0; LOCATOR_BYTES as usize];
    read(file, locator_at, &mut locator)?;
    let mut fields = Cursor(&locator);
    if fields.u32() != Some(0x0706_4b50) {
        return Ok(None);
    }
    let none = || unreadable("the ZIP64 records do not read");
    let record_at = (|| {
        let disk = fields.u32()?;
        let at = fields.u64()?;
        (disk == 0 && fields.u32()? == 1).then_some(at)
    })();
    let record_at = record_at.filter(|at| at.checked_add(END64_BYTES) == Some(locator_at)).ok_or_else(none)?;
    let mut record = [0; END64_BYTES as usize];
    read(file, record_at, &mut record)?;
    let mut fields = Cursor(&record);
    let place = (|| {
        let signature = fields.u32()?;
        let bytes = fields.u64()?;
        fields.take(4)?;
        let disks = (fields.u32()?, fields.u32()?);
        let counts = (fields.u64()?, fields.u64()?);
        let place = (fields.u64()?, fields.u64()?);
        let fine = signature == 0x0606_4b50 && bytes == END64_BYTES - 12 && disks == (0, 0) && counts.0 == counts.1;
        fine.then_some((place.1, place.0, counts.0))
    })();
    Ok(Some((place.ok_or_else(none)?, record_at)))
}

/// An entry of the table.
struct Entry<'a> {
    flags: u16,
    method: u16,
    length: u64,
    packed: u64,
    local: u64,
    name: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Length of what follows the fixed part: name, extra field and comment.
    fn variable_bytes(fixed: &[u8; ENTRY_BYTES]) -> usize {
        let mut lengths = Cursor(fixed.get(28..34).unwrap_or_default());
        (0..3).filter_map(|_| lengths.u16()).map(usize::from).sum()
    }

    fn read(fixed: &[u8; ENTRY_BYTES], variable: &'a [u8]) -> Option<Self> {
        let (mut fixed, mut from) = (Cursor(fixed), Cursor(variable));
        if fixed.u32()? != 0x0201_4b50 {
            return None;
        }
        fixed.take(4)?;
        let (flags, method) = (fixed.u16()?, fixed.u16()?);
        fixed.take(8)?;
        let (packed, length) = (fixed.u32()?, fixed.u32()?);
        let (name, extra, comment) = (fixed.u16()?, fixed.u16()?, fixed.u16()?);
        let disk = fixed.u16()?;
        fixed.take(6)?;
        let local = fixed.u32()?;
        let name = from.take(usize::from(name))?;
        let extra = from.take(usize::from(extra))?;
        from.take(usize::from(comment))?;
        let mut wide = Cursor(extended(extra)?);
        let mut field = |narrow: u32| if narrow == u32::MAX { wide.u64() } else { Some(u64::from(narrow)) };
        let (length, packed, local) = (field(length)?, field(packed)?, field(local)?);
        (disk == 0).then_some(Self { flags, method, length, packed, local, name })
    }

    fn name(&self) -> Result<&'a str> {
        let stored = self.method == 0 && self.length == self.packed;
        // Encrypted, strongly encrypted, and with its sizes behind the bytes.
        if self.flags & 0x2049 != 0 || !stored {
            return Err(unreadable(
                "the ZIP has entries that are packed or encrypted; a bundle has not: unpack it first",
            ));
        }
        std::str::from_utf8(self.name).ok().ok_or_else(|| unreadable("a name in the ZIP is no text"))
    }

    /// Where the bytes begin, after the local header, which must say the same.
    fn start(&self, file: &File, table_at: u64) -> Result<u64> {
        let differs = || unreadable("the ZIP says two things about one file");
        let mut fixed = [0; LOCAL_BYTES];
        let header_ends = self.local.checked_add(LOCAL_BYTES as u64).filter(|end| *end <= table_at);
        header_ends.ok_or_else(differs)?;
        read(file, self.local, &mut fixed)?;
        let mut fields = Cursor(&fixed);
        let said = (|| {
            let signature = fields.u32()?;
            fields.take(2)?;
            let (flags, method) = (fields.u16()?, fields.u16()?);
            fields.take(8)?;
            let (packed, length) = (fields.u32()?, fields.u32()?);
            let (name, extra) = (fields.u16()?, fields.u16()?);
            Some((signature, flags, method, packed, length, usize::from(name), usize::from(extra)))
        })();
        let (signature, flags, method, packed, length, name_bytes, extra_bytes) = said.ok_or_else(differs)?;
        if (signature, flags, method, name_bytes) != (0x0403_4b50, self.flags, self.method, self.name.len()) {
            return Err(differs());
        }
        let mut rest = vec![0; name_bytes + extra_bytes];
        let start = header_ends.and_then(|end| end.checked_add(rest.len() as u64));
        let start = start.filter(|start| start.checked_add(self.length).is_some_and(|end| end <= table_at));
        let start = start.ok_or_else(differs)?;
        read(file, self.local.saturating_add(LOCAL_BYTES as u64), &mut rest)?;
        let (name, extra) = rest.split_at(name_bytes);
        let mut wide = Cursor(extended(extra).ok_or_else(differs)?);
        let mut field = |narrow: u32| if narrow == u32::MAX { wide.u64() } else { Some(u64::from(narrow)) };
        let sizes = (field(length), field(packed));
        if name == self.name && sizes == (Some(self.length), Some(self.length)) { Ok(start) } else { Err(differs()) }
    }
}

/// The ZIP64 field of an extra field; empty if there is none.
fn extended(extra: &[u8]) -> Option<&[u8]> {
    let mut rest = Cursor(extra);
    let mut found: &[u8] = &[];
    while !rest.0.is_empty() {
        let (id, bytes) = (rest.u16()?, rest.u16()?);
        let field = rest.take(usize::from(bytes))?;
        if id == 1 {
            found = field;
        }
    }
    Some(found)
}

/// The rest of the table.
struct Rest<'a> {
    file: &'a File,
    at: u64,
    left: u64,
    piece: Vec<u8>,
    start: usize,
}

impl Rest<'_> {
    /// The next bytes of it; none if there are not so many.
    fn take(&mut self, bytes: usize) -> Result<Option<&[u8]>> {
        if self.piece.len().saturating_sub(self.start) < bytes {
            self.piece.drain(..self.start);
            self.start = 0;
            let want = bytes.saturating_sub(self.piece.len()).max(PIECE_BYTES);
            let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(want);
            let old = self.piece.len();
            self.piece.resize(old.saturating_add(want), 0);
            read(self.file, self.at, self.piece.get_mut(old..).unwrap_or_default())?;
            self.at = self.at.saturating_add(want as u64);
            self.left = self.left.saturating_sub(want as u64);
        }
        let end = self.start.saturating_add(bytes);
        let taken = self.piece.get(self.start..end);
        if taken.is_some() {
            self.start = end;
        }
        Ok(taken)
    }
}

fn read(file: &File, at: u64, buffer: &mut [u8]) -> Result<()> {
    match file.read_exact_at(buffer, at) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(unreadable("the ZIP ends too early")),
        result => result.context(Kind::Internal, "cannot read the bundle"),
    }
}

/// Numbers in little-endian, as long as there are bytes.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}
