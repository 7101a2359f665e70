//! Looks at the write-ahead logs and the manifest before RocksDB does.
//!
//! Both are sequences of frames in blocks of 32 KiB, and RocksDB's reader has two weak places. A flipped bit in a frame's
//! type makes it read the same frame again for ever, so that the open hangs; a flipped bit in a frame's length looks like the torn
//! end of a crash, so that whole frames behind it are passed over. Here the two are told apart: behind a torn end
//! nothing reads as a frame, and the end itself does not become whole by another length.
//!
//! ```text
//! | crc32c of type and payload, masked 4 LE | length 2 LE | type 1 | payload |      no frame crosses a block
//! ```
//!
//! Promises: refuses nothing that a crash can leave behind; changes nothing.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::error::{Context, Error, Kind, Result};

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// Types of frames: 1 a whole record, 2 to 4 its first, middle and last part. Others are not written with our options.
const TYPES: std::ops::RangeInclusive<u8> = 1..=4;

/// Checks every write-ahead log in `dir` and the manifest that `CURRENT` names. A directory without a store passes.
///
/// # Errors
/// [`Kind::Damaged`] with the name of the first file that does not hold.
pub(super) fn check_dir(dir: &Path) -> Result<()> {
    let current = fs::read_to_string(dir.join("CURRENT")).unwrap_or_default();
    for entry in fs::read_dir(dir).context(Kind::Internal, "cannot list the store")? {
        let path = entry.context(Kind::Internal, "cannot list the store")?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if is_log || name == current.trim_end() {
            let file = File::open(&path).context(Kind::Damaged, format!("cannot read {name} of the store"))?;
            if let Some(at) = damage_in(file).context(Kind::Damaged, format!("cannot read {name} of the store"))? {
                return Err(Error::new(Kind::Damaged, format!("{name} of the store is damaged at byte {at}")));
            }
        }
    }
    Ok(())
}

/// What stands at a place.
enum Frame {
    /// A frame of this length, header and all.
    Whole(usize),
    /// Bytes that only damage can have left.
    Damaged,
    /// Bytes that a crash may have left, or that RocksDB itself refuses.
    Torn,
}

/// Where the first damage lies, if there is any.
fn damage_in(mut file: impl Read) -> std::io::Result<Option<u64>> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let mut start = 0;
    let mut torn = None;
    loop {
        block.clear();
        file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(None);
        }
        if torn.is_some() && has_frame(&block) {
            return Ok(torn);
        }
        if torn.is_none() {
            match walk(&block) {
                Ok(()) => {}
                Err((at, Frame::Torn)) if !has_frame(block.get(at + 1..).unwrap_or_default()) => {
                    torn = Some(start + at as u64);
                }
                Err((at, _)) => return Ok(Some(start + at as u64)),
            }
        }
        start += block.len() as u64;
    }
}

/// Walks the frames of a block up to the first place where there is none.
fn walk(block: &[u8]) -> Result<(), (usize, Frame)> {
    let mut at = 0;
    while let Some(rest) = block.get(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
        match frame(rest) {
            Frame::Whole(length) => at += length,
            other => return Err((at, other)),
        }
    }
    let is_filled = block.get(at..).unwrap_or_default().iter().all(|byte| *byte == 0);
    // What is too short for a header fills a block with zeros; at the end of a file a crash may have cut a header.
    if is_filled || block.len() < BLOCK_BYTES { Ok(()) } else { Err((at, Frame::Damaged)) }
}

/// The header of a frame and what follows it.
fn header_of(bytes: &[u8]) -> Option<(u32, usize, u8, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    Some((u32::from_le_bytes([c0, c1, c2, c3]), usize::from(u16::from_le_bytes([l0, l1])), kind, rest))
}

fn is_sound(crc: u32, kind: u8, payload: &[u8]) -> bool {
    TYPES.contains(&kind) && masked(crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload)) == crc
}

fn frame(bytes: &[u8]) -> Frame {
    let Some((crc, length, kind, rest)) = header_of(bytes) else { return Frame::Torn };
    match rest.get(..length) {
        Some(payload) if is_sound(crc, kind, payload) => Frame::Whole(HEADER_BYTES + length),
        _ if is_sound(crc, kind, rest) || kind > *TYPES.end() => Frame::Damaged,
        _ => Frame::Torn,
    }
}

/// Whether a frame begins anywhere in the bytes.
fn has_frame(bytes: &[u8]) -> bool {
    (0..bytes.len()).filter_map(|at| header_of(bytes.get(at..)?)).any(|(crc, length, kind, rest)| {
        TYPES.contains(&kind) && rest.get(..length).is_some_and(|payload| is_sound(crc, kind, payload))
    })
}

/// RocksDB stores checksums rotated and shifted, so that a checksum over a checksum is no special case.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
        let crc = masked(crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload));
        let length = u16::try_from(payload.len()).unwrap();
        [&crc.to_le_bytes()[..], &length.to_le_bytes(), &[kind], payload].concat()
    }

    /// A block that is filled, with zeros at its end, and three frames behind it.
    fn log() -> Vec<u8> {
        let mut log = framed(1, &[30; 20_000]);
        log.extend(framed(2, &vec![40; BLOCK_BYTES - log.len() - HEADER_BYTES - 3]));
        log.extend([0; 3]);
        log.extend([framed(4, b"end"), framed(1, b"one"), framed(1, b"two")].concat());
        log
    }

    #[test]
    fn a_sound_log_and_one_cut_anywhere_pass() {
        let log = log();
        for end in (0..200).chain(BLOCK_BYTES - 100..=log.len()) {
            assert_eq!(damage_in(&log[..end]).unwrap(), None, "cut at {end}");
        }
    }

    #[test]
    fn a_log_that_ends_in_zeros_passes() {
        assert_eq!(damage_in(&[log(), vec![0; 500]].concat()[..]).unwrap(), None);
    }

    #[test]
    fn a_flipped_bit_before_the_last_frame_is_damage() {
        let log = log();
        let last = log.len() - framed(1, b"two").len();
        for at in (0..40).chain(20_000..20_040).chain(BLOCK_BYTES - 10..last) {
            for bit in 0..8 {
                let mut bad = log.clone();
                bad[at] ^= 1 << bit;
                assert!(damage_in(&bad[..]).unwrap().is_some(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_length_or_type_of_the_last_frame_is_damage_unless_rocksdb_refuses_it() {
        let log = log();
        let last = log.len() - framed(1, b"two").len();
        for bit in 2..8 {
            let mut bad = log.clone();
            bad[last + 4] ^= 1 << bit;
            assert!(damage_in(&bad[..]).unwrap().is_some(), "bit {bit} of the length");
            let mut bad = log.clone();
            bad[last + 6] ^= 1 << bit;
            assert!(damage_in(&bad[..]).unwrap().is_some(), "bit {bit} of the type");
        }
    }
}
