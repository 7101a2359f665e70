//! What of a certificate request counts: its key, and that its sender holds it (PKCS #10, RFC 2986).
//!
//! The subject and every attribute are passed over: who a recorder is, its key says, and what it is, the one who enrols it.

use aigaq_proto::signature::PublicKey;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use crate::error::{Error, Kind, Result};

/// The key of a request, DER `SubjectPublicKeyInfo`.
///
/// # Errors
/// [`Kind::Invalid`] with a text for the sender: not a request, a key that recorders may not have, or one that did not sign.
pub(super) fn key(request: &[u8]) -> Result<Vec<u8>> {
    let wrong = |text: &str| Error::new(Kind::Invalid, text);
    let (rest, parsed) = X509CertificationRequest::from_der(request)
        .map_err(|_| wrong("the body is not a certificate request (PKCS #10, DER in base64)"))?;
    if !rest.is_empty() {
        return Err(wrong("bytes follow the certificate request"));
    }
    let spki = parsed.certification_request_info.subject_pki.raw;
    PublicKey::from_spki(spki).map_err(|_| wrong("the key must be Ed25519, or P-256 as an uncompressed point"))?;
    let whole_bytes = parsed.signature_value.unused_bits == 0;
    if !whole_bytes || parsed.verify_signature().is_err() {
        return Err(wrong("the certificate request is not signed with its own key"));
    }
    Ok(spki.to_vec())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};

    use super::*;

    fn request(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn the_key_of_a_request_is_told_when_its_sender_holds_it() {
        for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256] {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            assert_eq!(key(&request(&pair)).unwrap(), pair.subject_public_key_info());
        }
    }

    #[test]
    fn a_request_that_was_altered_anywhere_is_refused() {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let good = request(&pair);
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            assert_eq!(key(&bad).unwrap_err().kind(), Kind::Invalid, "byte {index}");
        }
        assert!(key(&[&good[..], &[0]].concat()).is_err());
    }

    #[test]
    fn other_keys_are_refused() {
        for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ECDSA_P521_SHA512] {
            let error = key(&request(&KeyPair::generate_for(algorithm).unwrap())).unwrap_err();
            assert!(error.to_string().contains("Ed25519"), "{error}");
        }
    }
}
