//! The initialisation segment of a file: its `ftyp` and `moov` without samples, announcing fragments.
//!
//! Boxes are copied as they are, in their order. Left away are sample tables, tracks and references that are not carried, and
//! descriptions of the file longer than [`NOTES_BYTES_MAX`]; durations become 0, as the fragments say them.

use aigaq_proto::limits::INIT_BYTES_MAX;

use super::tables::word;
use super::trak::Trak;
use crate::media::boxes::{Child, Error, Kind, children};

/// Greatest size of a `udta` or `meta` that is kept, bytes: names, places and settings fit, cover pictures do not.
const NOTES_BYTES_MAX: usize = 16 * 1024;
/// Fragments that stand alone (`default-base-is-moof`) came with this brand.
const BRAND: Kind = *b"iso5";

/// What `mvhd` and `mdhd` have in common.
#[derive(Debug, Clone, Copy)]
pub(in crate::media) struct Head {
    /// Seconds since 1904.
    pub(super) created_at: u64,
    /// Ticks per second.
    pub(in crate::media) timescale: u32,
}

impl Head {
    pub(in crate::media) fn read(body: &[u8], what: &'static str) -> Result<Self, Error> {
        let (created_at, timescale) = if body.first() == Some(&1) {
            let at = body.get(4..).and_then(|rest| rest.first_chunk()).map(|bytes| u64::from_be_bytes(*bytes));
            (at, word(body, 20))
        } else {
            (word(body, 4).map(u64::from), word(body, 12))
        };
        match (created_at, timescale) {
            (Some(created_at), Some(timescale)) if timescale > 0 => Ok(Self { created_at, timescale }),
            _ => Err(Error::Malformed(what)),
        }
    }
}

/// A box.
pub(in crate::media) fn boxed(kind: Kind, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let size = u32::try_from(body.len() + 8).unwrap_or(u32::MAX);
    [&size.to_be_bytes()[..], &kind, &body].concat()
}

/// `ftyp` and `moov` for the tracks that are carried.
///
/// # Errors
/// [`Error::InitTooLarge`] if it is larger than a link may carry, [`Error::Malformed`] if a box cannot be read.
pub(super) fn segment(
    ftyp: Option<&[u8]>,
    moov: &[u8],
    traks: &[Trak],
    notes: &mut Vec<String>,
) -> Result<Vec<u8>, Error> {
    let mut parts = Vec::new();
    for child in children(moov) {
        let child = child?;
        match &child.kind {
            b"mvhd" => parts.push(boxed(child.kind, &[&without_duration(child.body, 16, 24)?])),
            b"trak" => {
                if let Some(trak) = traks.iter().find(|trak| std::ptr::eq(trak.body.as_ptr(), child.body.as_ptr())) {
                    parts.push(track(trak, notes)?);
                }
            }
            b"udta" | b"meta" => parts.extend(note(&child, notes)),
            b"mvex" | b"free" | b"skip" | b"wide" => {}
            _ => parts.push(boxed(child.kind, &[child.body])),
        }
    }
    let trex = |trak: &Trak| {
        let number = trak.id.to_be_bytes();
        boxed(*b"trex", &[&[0; 4], &number, &1u32.to_be_bytes(), &[0; 12]])
    };
    parts.push(boxed(*b"mvex", &[&traks.iter().flat_map(trex).collect::<Vec<_>>()]));
    let moov = boxed(*b"moov", &[&parts.concat()]);
    let init = [brands(ftyp), moov].concat();
    let (limit, actual) = (u64::from(INIT_BYTES_MAX), init.len() as u64);
    if actual > limit { Err(Error::InitTooLarge { limit, actual }) } else { Ok(init) }
}

/// The `ftyp` of the file with the brand of its new form; readers tell QuickTime's sample descriptions by it.
fn brands(ftyp: Option<&[u8]>) -> Vec<u8> {
    let body = ftyp.filter(|body| body.len() >= 8).unwrap_or(b"qt  \0\0\0\0qt  ");
    let known = body.chunks_exact(4).any(|brand| brand == BRAND);
    boxed(*b"ftyp", &[body.get(..body.len() / 4 * 4).unwrap_or_default(), if known { &[] } else { &BRAND }])
}

fn track(trak: &Trak, notes: &mut Vec<String>) -> Result<Vec<u8>, Error> {
    let mut parts = Vec::new();
    for child in children(&trak.body) {
        let child = child?;
        match &child.kind {
            b"tkhd" => {
                parts.push(boxed(child.kind, &[&without_duration(child.body, 20, 28)?]));
                parts.extend(trak.edit.as_ref().map(super::edit::Edit::write));
            }
            b"mdia" => parts.push(media(child.body)?),
            b"udta" | b"meta" => parts.extend(note(&child, notes)),
            b"edts" | b"tref" => {}
            _ => parts.push(boxed(child.kind, &[child.body])),
        }
    }
    Ok(boxed(*b"trak", &[&parts.concat()]))
}

fn media(mdia: &[u8]) -> Result<Vec<u8>, Error> {
    let mut parts = Vec::new();
    for child in children(mdia) {
        let child = child?;
        parts.push(match &child.kind {
            b"mdhd" => boxed(child.kind, &[&without_duration(child.body, 16, 24)?]),
            b"minf" => boxed(child.kind, &[&information(child.body)?]),
            _ => boxed(child.kind, &[child.body]),
        });
    }
    Ok(boxed(*b"mdia", &[&parts.concat()]))
}

fn information(minf: &[u8]) -> Result<Vec<u8>, Error> {
    let mut parts = Vec::new();
    for child in children(minf) {
        let child = child?;
        if child.kind != *b"stbl" {
            parts.push(boxed(child.kind, &[child.body]));
            continue;
        }
        let stsd = super::find(child.body, *b"stsd")?.ok_or(Error::Malformed("stbl without stsd"))?;
        let empty = |kind: Kind, bytes: usize| boxed(kind, &[&vec![0; bytes]]);
        let tables = [empty(*b"stts", 8), empty(*b"stsc", 8), empty(*b"stsz", 12), empty(*b"stco", 8)].concat();
        parts.push(boxed(*b"stbl", &[&boxed(*b"stsd", &[stsd.body]), &tables]));
    }
    Ok(parts.concat())
}

/// A description of the file or a track, unless it is too long.
fn note(child: &Child<'_>, notes: &mut Vec<String>) -> Option<Vec<u8>> {
    if child.body.len() <= NOTES_BYTES_MAX {
        return Some(boxed(child.kind, &[child.body]));
    }
    notes.push(format!("{} of {} bytes is left out", child.kind.escape_ascii(), child.body.len()));
    None
}

/// The body of a header with duration 0; `short` and `long` are where versions 0 and 1 have it.
fn without_duration(body: &[u8], short: usize, long: usize) -> Result<Vec<u8>, Error> {
    let span = if body.first() == Some(&1) { long..long + 8 } else { short..short + 4 };
    let mut body = body.to_vec();
    body.get_mut(span).ok_or(Error::Malformed("a header is too short"))?.fill(0);
    Ok(body)
}
