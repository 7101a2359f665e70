//! Identifiers, digests, times and ranges: one newtype each, so that none can stand for another (SPEC.md section 3).

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// SHA-256 of something, 32 bytes; printed as lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest that stands for "no predecessor" in the link with sequence 0.
    pub const ZERO: Self = Self([0; 32]);

    /// SHA-256 of the empty string: the payload digest of a link without a payload.
    pub const EMPTY: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae,
        0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);

    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// A recorder: the first 16 bytes of the SHA-256 of the DER `SubjectPublicKeyInfo` of the key it first enrolled with.
/// Printed as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecorderId(pub [u8; 16]);

impl RecorderId {
    /// The identifier that belongs to a public key, given as DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn of_spki(spki_der: &[u8]) -> Self {
        let digest = Digest::of(spki_der);
        let mut id = [0; 16];
        id.copy_from_slice(digest.0.split_at(16).0);
        Self(id)
    }
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex<const N: usize>(text: &str, what: &'static str) -> Result<[u8; N], Error> {
    let digits = text.as_bytes();
    let (pairs, []) = digits.as_chunks::<2>() else { return Err(Error::Malformed(what)) };
    if pairs.len() != N {
        return Err(Error::Malformed(what));
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit & 0x0f),
        b'a'..=b'f' => Ok((digit & 0x0f).wrapping_add(9)),
        _ => Err(Error::Malformed(what)),
    };
    let mut out = [0; N];
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = (value(*high)? << 4) | value(*low)?;
    }
    Ok(out)
}

macro_rules! hex_text {
    ($name:ident, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                parse_hex(text, $what).map(Self)
            }
        }
    };
}
hex_text!(Digest, "digest");
hex_text!(RecorderId, "recorder id");

/// Position of a link in its recorder's chain, from 0 to [`SEQUENCE_MAX`](crate::limits::SEQUENCE_MAX), never reused.
pub type Sequence = u64;

/// Microseconds since the Unix epoch, UTC, to [`TIME_US_MAX`](crate::limits::TIME_US_MAX).
pub type Micros = u64;

/// A 64-byte signature: Ed25519 as RFC 8032 writes it, or ECDSA P-256 as `r || s`, 32 bytes each, big-endian.
pub type SignatureBytes = [u8; 64];

/// Sequences `first..=last`, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceRange {
    /// The first sequence of the range.
    pub first: Sequence,
    /// The last sequence of the range, not below `first`.
    pub last: Sequence,
}
