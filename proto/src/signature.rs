//! Signatures of links: Ed25519 or ECDSA P-256 with SHA-256, over the 32 bytes of a link digest (SPEC.md section 4.2).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    UnparsedPublicKey,
};

use crate::{Digest, Error, RecorderId, SignatureBytes};

/// DER `SubjectPublicKeyInfo` of Ed25519 up to the 32 key bytes (RFC 8410 section 4).
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// DER `SubjectPublicKeyInfo` of an uncompressed P-256 point up to its 65 bytes (RFC 5480 section 2).
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The public key of a recorder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// 32 bytes as RFC 8032 writes them.
    Ed25519([u8; 32]),
    /// An uncompressed point: 0x04, x, y.
    P256([u8; 65]),
}

impl PublicKey {
    /// Reads a DER `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`Error::KeyType`] for any key that is not Ed25519 or an uncompressed P-256 point.
    pub fn from_spki(der: &[u8]) -> Result<Self, Error> {
        if let Some(key) = der.strip_prefix(&SPKI_ED25519) {
            return key.try_into().map(Self::Ed25519).map_err(|_| Error::KeyType);
        }
        if let Some(point) = der.strip_prefix(&SPKI_P256) {
            return point.try_into().map(Self::P256).map_err(|_| Error::KeyType);
        }
        Err(Error::KeyType)
    }

    /// The DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn to_spki(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => [&SPKI_ED25519[..], key].concat(),
            Self::P256(point) => [&SPKI_P256[..], point].concat(),
        }
    }

    /// The identifier of a recorder that enrols with this key.
    #[must_use]
    pub fn recorder_id(&self) -> RecorderId {
        RecorderId::of_spki(&self.to_spki())
    }

    /// Checks a signature over a link digest.
    ///
    /// # Errors
    /// [`Error::BadSignature`] if it is not by this key.
    pub fn verify(&self, digest: &Digest, signature: &SignatureBytes) -> Result<(), Error> {
        let result = match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(&digest.0, signature),
            Self::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(&digest.0, signature),
        };
        result.map_err(|_| Error::BadSignature)
    }
}

/// The private key of a recorder. Has no `Debug`, so that it cannot reach a log.
pub enum SigningKey {
    /// An Ed25519 key pair.
    Ed25519(Box<Ed25519KeyPair>),
    /// A P-256 key pair.
    P256(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// Reads a PKCS #8 private key.
    ///
    /// # Errors
    /// [`Error::KeyType`] for anything but an Ed25519 or a P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            return Ok(Self::Ed25519(Box::new(pair)));
        }
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map(|pair| Self::P256(Box::new(pair)))
            .map_err(|_| Error::KeyType)
    }

    /// The public half.
    ///
    /// # Errors
    /// [`Error::KeyType`] if the key pair does not give its public key in a form that recorders may use.
    pub fn public_key(&self) -> Result<PublicKey, Error> {
        match self {
            Self::Ed25519(pair) => pair.public_key().as_ref().try_into().map(PublicKey::Ed25519),
            Self::P256(pair) => pair.public_key().as_ref().try_into().map(PublicKey::P256),
        }
        .map_err(|_| Error::KeyType)
    }

    /// Signs a link digest.
    ///
    /// # Errors
    /// [`Error::BadSignature`] if the key pair cannot sign.
    pub fn sign(&self, digest: &Digest) -> Result<SignatureBytes, Error> {
        let bytes = match self {
            Self::Ed25519(pair) => pair.sign(&digest.0).as_ref().try_into(),
            Self::P256(pair) => {
                pair.sign(&SystemRandom::new(), &digest.0).map_err(|_| Error::BadSignature)?.as_ref().try_into()
            }
        };
        bytes.map_err(|_| Error::BadSignature)
    }
}
