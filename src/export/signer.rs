//! The key that signs manifests: P-256, made at first start, `DIR/export.key` with mode 0600, its certificate from the CA that the
//! server issues with.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls_pki_types::CertificateDer;

use crate::enrol::ServerIdentity;
use crate::error::{Context as _, Kind, Result};

/// Signs manifests. Has no `Debug`.
pub(super) struct Signer {
    key: EcdsaKeyPair,
    chain: Vec<CertificateDer<'static>>,
}

impl Signer {
    /// # Errors
    /// [`Kind::Invalid`] for a key that is none of P-256.
    pub(super) fn new(identity: &ServerIdentity) -> Result<Self> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, identity.key.secret_der())
            .context(Kind::Invalid, "the key of exports is not a P-256 key")?;
        Ok(Self { key, chain: identity.chain.clone() })
    }

    /// DER ECDSA with SHA-256 over `bytes`.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the system gives no random bytes.
    pub(super) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let signature = self.key.sign(&SystemRandom::new(), bytes).context(Kind::Internal, "cannot sign a manifest")?;
        Ok(signature.as_ref().to_vec())
    }

    /// Its certificate and what leads to the CA, PEM.
    pub(super) fn pem(&self) -> String {
        self.chain.iter().map(|certificate| crate::est::to_pem(certificate)).collect()
    }
}
