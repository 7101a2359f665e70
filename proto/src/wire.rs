//! The one encoding of structures on the wire: postcard 1.x (SPEC.md section 2), decoded strictly.

use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// The encoding of `value`.
///
/// # Errors
/// [`Error::Malformed`] if the type cannot be encoded, which no type of this crate can bring about.
pub fn encode<T: Serialize>(value: &T, what: &'static str) -> Result<Vec<u8>, Error> {
    postcard::to_allocvec(value).map_err(|_| Error::Malformed(what))
}

/// Reads `bytes` as exactly one `T` in its canonical encoding.
///
/// # Errors
/// [`Error::Malformed`] for other bytes, [`Error::TrailingBytes`] if some are left over, and
/// [`Error::NotCanonical`] if encoding the value again gives different bytes.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, Error> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|error| match error {
        postcard::Error::DeserializeUnexpectedEnd => Error::Truncated(what),
        _ => Error::Malformed(what),
    })?;
    if !rest.is_empty() {
        return Err(Error::TrailingBytes(rest.len()));
    }
    if encode(&value, what)? != bytes {
        return Err(Error::NotCanonical(what));
    }
    Ok(value)
}
