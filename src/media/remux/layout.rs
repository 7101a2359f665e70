//! What lies where in a file: its top-level boxes, of which `ftyp` and `moov` are read and the others passed by.

use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;

use super::Fault;
use crate::media::boxes::{Error, Header, Kind, Size, find as find_box};
use crate::media::fragment::{BEGINNINGS, LEAD_BYTES_MAX};

/// Greatest size of a `moov` that is read, bytes: the tables of some thirty hours of pictures and sound.
const MOOV_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Greatest number of boxes walked over.
const BOXES_MAX: usize = 65_536;

/// What a file is.
pub(super) enum Found {
    /// Fragments, or what is announced as such.
    Fragmented,
    /// Samples with an index.
    Plain(Layout),
}

/// The parts of an ordinary file.
pub(super) struct Layout {
    /// The body of `ftyp`; old QuickTime files have none.
    pub(super) ftyp: Option<Bytes>,
    /// The body of `moov`.
    pub(super) moov: Bytes,
    /// Length of the file, bytes.
    pub(super) length: u64,
}

/// Walks over a file.
pub(super) fn find(input: &mut (impl Read + Seek)) -> Result<Found, Fault> {
    let length = input.seek(SeekFrom::End(0))?;
    let (mut ftyp, mut moov) = (None, None);
    let mut at = 0;
    for number in 0.. {
        let Some(header) = header_at(input, at, length, number == 0)? else { break };
        if number == BOXES_MAX {
            return Err(Error::Malformed("too many boxes").into());
        }
        let end = match header.size {
            Size::Bytes(size) => at.checked_add(size).ok_or(Error::Malformed("box size"))?,
            Size::ToEnd => length,
        };
        if end > length {
            return Err(Error::Truncated.into());
        }
        let body = (at + header.header_bytes as u64, end);
        match &header.kind {
            b"ftyp" if ftyp.is_none() => ftyp = Some(read(input, body, "ftyp", LEAD_BYTES_MAX)?),
            b"moov" if moov.is_some() => return Err(Error::Malformed("more than one moov").into()),
            b"moov" => {
                let bytes = read(input, body, "moov", MOOV_BYTES_MAX)?;
                if find_box(&bytes, *b"mvex")?.is_some() {
                    return Ok(Found::Fragmented);
                }
                moov = Some(bytes);
            }
            b"moof" if moov.is_some() => return Err(Error::Mixed.into()),
            b"moof" => return Ok(Found::Fragmented),
            _ => {}
        }
        at = end;
    }
    match moov {
        Some(moov) => Ok(Found::Plain(Layout { ftyp, moov, length })),
        None if length == 0 => Err(Error::Empty.into()),
        None => Err(Error::NoIndex.into()),
    }
}

/// The body of the `mvhd` of a file.
pub(super) fn movie_header(input: &mut (impl Read + Seek)) -> Result<Bytes, Fault> {
    let length = input.seek(SeekFrom::End(0))?;
    let moov = first(input, (0, length), *b"moov")?.ok_or(Error::NoIndex)?;
    let mvhd = first(input, moov, *b"mvhd")?.ok_or(Error::Malformed("moov without mvhd"))?;
    read(input, mvhd, "mvhd", LEAD_BYTES_MAX)
}

/// The body of the first box of this type in a stretch of the file.
fn first(input: &mut (impl Read + Seek), span: (u64, u64), kind: Kind) -> Result<Option<(u64, u64)>, Fault> {
    let mut at = span.0;
    for _ in 0..BOXES_MAX {
        let Some(header) = header_at(input, at, span.1, false)?.filter(|_| at < span.1) else { break };
        let end = match header.size {
            Size::Bytes(size) => at.checked_add(size).filter(|end| *end <= span.1).ok_or(Error::Truncated)?,
            Size::ToEnd => span.1,
        };
        if header.kind == kind {
            return Ok(Some((at + header.header_bytes as u64, end)));
        }
        at = end;
    }
    Ok(None)
}

/// The header of the box at `at`; `None` at the end, where fewer than eight bytes are padding.
fn header_at(input: &mut (impl Read + Seek), at: u64, length: u64, first: bool) -> Result<Option<Header>, Fault> {
    let mut bytes = Vec::with_capacity(16);
    input.seek(SeekFrom::Start(at))?;
    input.by_ref().take(16).read_to_end(&mut bytes)?;
    if bytes.len() < 8 {
        return if first && length > 0 { Err(Error::NotMp4.into()) } else { Ok(None) };
    }
    let header = Header::read(&bytes);
    if first && !header.as_ref().is_ok_and(|header| header.is_some_and(|header| BEGINNINGS.contains(&header.kind))) {
        return Err(Error::NotMp4.into());
    }
    match header? {
        Some(header) => Ok(Some(header)),
        None => Err(Error::Truncated.into()),
    }
}

/// The bytes of `span`, which lies inside the file.
fn read(input: &mut (impl Read + Seek), span: (u64, u64), what: &'static str, limit: u64) -> Result<Bytes, Fault> {
    let actual = span.1.checked_sub(span.0).ok_or(Error::Malformed("box size below its header"))?;
    if actual > limit {
        return Err(Error::TooLarge { what, limit, actual }.into());
    }
    let mut bytes = Vec::new();
    input.seek(SeekFrom::Start(span.0))?;
    input.by_ref().take(actual).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == actual { Ok(bytes.into()) } else { Err(Error::Truncated.into()) }
}
