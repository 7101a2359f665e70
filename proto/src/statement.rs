//! A statement: an entry of the server's audit trail as a leaf of the log (SPEC.md section 10).

use sha2::{Digest as _, Sha256};

use crate::Digest;

/// What is hashed before the bytes of an entry to make a statement's digest. It differs from that of a link, so that neither can
/// pass for the other.
pub const DIGEST_DOMAIN: &[u8] = b"aigaq/1 statement\n";

/// The digest of a statement: over the entry as it is stored.
#[must_use]
pub fn digest(entry: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(DIGEST_DOMAIN);
    hasher.update(entry);
    Digest(hasher.finalize().into())
}
