//! Why bytes from a peer were not understood. Small, comparable, with what was expected and what was found.

/// A decoding or verification failure. It never carries payload bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input ended before the structure did.
    #[error("input ends early: {0}")]
    Truncated(&'static str),
    /// The input is not an encoding of the structure.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The input decodes, but is not the one encoding that SPEC.md allows (section 2).
    #[error("not the canonical encoding of a {0}")]
    NotCanonical(&'static str),
    /// Bytes follow the end of the structure.
    #[error("{0} bytes follow the end of the structure")]
    TrailingBytes(usize),
    /// A field is outside its limit (SPEC.md section 9).
    #[error("{field} is {actual}, the limit is {limit}")]
    OverLimit {
        /// The field's name as in SPEC.md.
        field: &'static str,
        /// The greatest value allowed.
        limit: u64,
        /// The value found.
        actual: u64,
    },
    /// Two values that must agree do not.
    #[error("mismatch of {0}")]
    Mismatch(&'static str),
    /// A signature does not verify under the key.
    #[error("signature does not verify")]
    BadSignature,
    /// The key is of a type that recorders may not use.
    #[error("key type not allowed: use Ed25519 or ECDSA P-256")]
    KeyType,
}
