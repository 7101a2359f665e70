//! A key in memory, and the one cipher: AES-256-GCM.
//!
//! Sealed bytes are a random nonce of 96 bits, the ciphertext of the same length as the plaintext, and the tag of 128 bits. A data key
//! seals the footage of one recorder and day, some hundred thousand bodies, where NIST SP 800-38D allows 2^32 for random nonces.
//! What is bound to the ciphertext is the business of the caller: the same bytes in another place do not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};

/// Length of a key, bytes.
pub(super) const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// By how much sealing lengthens, bytes.
pub const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// The bytes of a key. Wiped when dropped, and shown by nothing.
pub(super) struct Secret(Zeroizing<[u8; KEY_BYTES]>);

impl Secret {
    pub(super) fn random() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(&mut *bytes).map_err(|_| Error::new(Kind::Internal, "no random bytes for a key"))?;
        Ok(Self(bytes))
    }

    /// `None` for any other length.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != KEY_BYTES {
            return None;
        }
        let mut kept = Zeroizing::new([0; KEY_BYTES]);
        kept.copy_from_slice(bytes);
        Some(Self(kept))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// What tells this key from others and nothing about it. `domain` says for what.
    pub(super) fn fingerprint<const N: usize>(&self, domain: &str) -> [u8; N] {
        let digest = Sha256::new().chain_update(domain).chain_update(*self.0).finalize();
        let mut first = [0; N];
        first.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        first
    }

    pub(super) fn key(&self) -> Result<Key> {
        let key = UnboundKey::new(&AES_256_GCM, &*self.0);
        let key = key.map_err(|_| Error::new(Kind::Internal, "a key is not taken by the cipher"))?;
        Ok(Key(LessSafeKey::new(key)))
    }
}

/// A key that seals and opens.
pub struct Key(LessSafeKey);

impl Key {
    /// Seals `plain`; it opens under this key and with the same `bound` alone. [`OVERHEAD_BYTES`] longer than `plain`.
    ///
    /// # Errors
    /// [`Kind::Internal`] without random bytes.
    pub fn seal(&self, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let failed = || Error::new(Kind::Internal, "cannot seal");
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce).map_err(|_| failed())?;
        let mut sealed = vec![0; plain.len() + OVERHEAD_BYTES];
        let (head, rest) = sealed.split_at_mut(NONCE_BYTES);
        let (ciphertext, tag) = rest.split_at_mut(plain.len());
        head.copy_from_slice(&nonce);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let done = self.0.seal_out_of_place_scatter(nonce, Aad::from(bound), plain, ciphertext, &[], tag);
        done.map_err(|_| failed())?;
        Ok(sealed)
    }

    /// Undoes [`Key::seal`]. `None` if the bytes, what they are bound to or the key are others.
    #[must_use]
    pub fn open(&self, bound: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_BYTES)?;
        let (ciphertext, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = Zeroizing::new(vec![0; ciphertext.len()]);
        self.0.open_separate_gather(nonce, Aad::from(bound), ciphertext, tag, &mut plain).ok()?;
        Some(plain)
    }
}
