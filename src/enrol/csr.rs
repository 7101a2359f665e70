//! What of a certificate request counts: its key, and that its sender holds it (PKCS #10, RFC 2986).
//!
//! The subject and every attribute are passed over: who a recorder is, its key says, and what it is, the one who enrols it.

use aigaq_proto::signature::PublicKey;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use crate::error::{Error, Kind, Result};

/// Length of the `SubjectPublicKeyInfo` of an Ed25519 key, bytes; that of P-256 is longer.
const ED25519_SPKI_BYTES: usize = 44;
const ED25519: [u64; 4] = [1, 3, 101, 112];
const ECDSA_WITH_SHA256: [u64; 7] = [1, 2, 840, 10_045, 4, 3, 2];

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
    if parsed.verify_signature().is_err() || request != canonical(&parsed, spki) {
        return Err(wrong("the certificate request is not signed with its own key"));
    }
    Ok(spki.to_vec())
}

/// The one encoding of what was signed with its signature. The library is lenient with what stands around the signed part.
fn canonical(parsed: &X509CertificationRequest<'_>, spki: &[u8]) -> Vec<u8> {
    let algorithm = if spki.len() == ED25519_SPKI_BYTES { &ED25519[..] } else { &ECDSA_WITH_SHA256[..] };
    let signature = &parsed.signature_value.data;
    yasna::construct_der(|writer| {
        writer.write_sequence(|request| {
            request.next().write_der(parsed.certification_request_info.raw);
            let oid = yasna::models::ObjectIdentifier::from_slice(algorithm);
            request.next().write_sequence(|algorithm| algorithm.next().write_oid(&oid));
            request.next().write_bitvec_bytes(signature, signature.len() * 8);
        });
    })
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
            assert!(key(&bad).is_err_and(|error| error.kind() == Kind::Invalid), "byte {index}");
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
