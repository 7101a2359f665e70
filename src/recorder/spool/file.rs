//! The file of one link: a prefix that says where the chain stands after it, then the link exactly as its stream has it.
//! Pure: bytes in, bytes out.
//!
//! ```text
//! 0         8              16            24        32        40       48           56               head
//! | magic 8 | next ordinal | recording   | end     | inode   | born   | check 8    | 01 H header signature | payload |
//!             u64 BE         u64 BE, all   u64 BE    u64 BE    u64 BE   SHA-256 of bytes 0..48 and the
//!                            ones: none    µs                  ns       prelude, its first 8 bytes
//! ```
//!
//! *Next ordinal*, *recording* (sequence of the open recording's `Start`) and *end* (of the newest segment) let a recorder go
//! on after its newest file alone. *Inode* and *born* are those of the file itself: a copy of the file has others, so that a
//! state that was restored from a copy is told from one that is the recorder's own. Both zero: the link was made while that
//! was not settled yet.
//!
//! A file that is cut, torn or altered anywhere does not verify. The check covers header and signature, and the header covers
//! the payload, so the signature itself need not be verified with the public key: that would also refuse links that were
//! signed before the key was renewed.

use aigaq_proto::frame::{LINK_PREFIX_BYTES, decode_link_prefix};
use aigaq_proto::limits::HEADER_BYTES_MAX;
use aigaq_proto::{Digest, LinkHeader, Micros, RecorderId, Sequence, link};

const MAGIC: &[u8; 8] = b"aigaqsp1";
const SIGNED_BYTES: usize = 48;
/// Bytes before the link's own.
pub(super) const PREFIX_BYTES: usize = 56;
const SIGNATURE_BYTES: usize = 64;
/// The most that comes before a payload.
pub(super) const HEAD_BYTES_MAX: usize = PREFIX_BYTES + LINK_PREFIX_BYTES + HEADER_BYTES_MAX + SIGNATURE_BYTES;

/// Where a chain stands after a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::recorder) struct After {
    /// Number of the next segment.
    pub(in crate::recorder) ordinal: u64,
    /// `Start` of the recording that is open.
    pub(in crate::recorder) recording: Option<Sequence>,
    /// Device clock at the end of the newest segment.
    pub(in crate::recorder) end: Micros,
    /// Whether the chain's place is settled: false for links made on the way back from a restore.
    pub(in crate::recorder) settled: bool,
}

/// What a copy of a file does not carry: the file's own inode and time of birth, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sign {
    pub(super) inode: u64,
    pub(super) born: u64,
}

/// The beginning of a file, verified.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) header: LinkHeader,
    pub(super) digest: Digest,
    pub(super) after: After,
    pub(super) sign: Sign,
    /// Bytes before the payload.
    pub(super) bytes: usize,
}

/// Why a file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

/// The first [`PREFIX_BYTES`] of the file of a link with this prelude.
pub(super) fn prefix(after: &After, sign: Sign, prelude: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX_BYTES);
    bytes.extend_from_slice(MAGIC);
    let sign = if after.settled { sign } else { Sign::default() };
    for value in [after.ordinal, after.recording.unwrap_or(u64::MAX), after.end, sign.inode, sign.born] {
        bytes.extend_from_slice(&value.to_be_bytes());
    }
    let check = check(&bytes, prelude);
    bytes.extend_from_slice(&check);
    bytes
}

fn check(signed: &[u8], prelude: &[u8]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = Digest::of(&[signed, prelude].concat()).0;
    [a, b, c, d, e, f, g, h]
}

/// Reads the beginning of a file, of which `bytes` may be more.
///
/// # Errors
/// [`Damaged`] if anything is not as [`prefix`] and the recorder's own links have it.
pub(super) fn head(bytes: &[u8], recorder: RecorderId) -> Result<Head, Damaged> {
    let (prefix, rest) = bytes.split_at_checked(PREFIX_BYTES).ok_or(Damaged)?;
    let (signed, expected) = prefix.split_at_checked(SIGNED_BYTES).ok_or(Damaged)?;
    let opening = rest.first_chunk::<LINK_PREFIX_BYTES>().ok_or(Damaged)?;
    let header_bytes = decode_link_prefix(*opening).map_err(|_| Damaged)?;
    let prelude = rest.get(..LINK_PREFIX_BYTES + header_bytes + SIGNATURE_BYTES).ok_or(Damaged)?;
    if !signed.starts_with(MAGIC) || check(signed, prelude) != expected {
        return Err(Damaged);
    }
    let encoded = prelude.get(LINK_PREFIX_BYTES..LINK_PREFIX_BYTES + header_bytes).ok_or(Damaged)?;
    let header = LinkHeader::decode(encoded).map_err(|_| Damaged)?;
    if header.recorder != recorder {
        return Err(Damaged);
    }
    let number = |index: usize| {
        let bytes = signed.get(8 * index..).and_then(|rest| rest.first_chunk()).ok_or(Damaged)?;
        Ok(u64::from_be_bytes(*bytes))
    };
    let (recording, sign) = (number(2)?, Sign { inode: number(4)?, born: number(5)? });
    let after = After {
        ordinal: number(1)?,
        recording: (recording != u64::MAX).then_some(recording),
        end: number(3)?,
        settled: sign != Sign::default(),
    };
    Ok(Head { digest: link::digest(encoded), header, after, sign, bytes: PREFIX_BYTES + prelude.len() })
}

/// Reads a whole file.
///
/// # Errors
/// [`Damaged`] if a byte is missing, too many or altered.
pub(super) fn whole(bytes: &[u8], recorder: RecorderId) -> Result<Head, Damaged> {
    let head = head(bytes, recorder)?;
    let payload = bytes.get(head.bytes..).ok_or(Damaged)?;
    let sound = payload.len() as u64 == u64::from(head.header.payload_length)
        && Digest::of(payload) == head.header.payload_digest;
    if sound { Ok(head) } else { Err(Damaged) }
}
