//! Keys and certificates of a bundle: which key signed, whether what is trusted leads to it at the time it was used, and whether it
//! was taken back before.

use std::time::Duration;

use aigaq_proto::{Digest, Micros};
use data_encoding::BASE64_MIME_PERMISSIVE;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

/// The key purpose of exporters: signing documents (RFC 9336), as DER writes the identifier's content.
const DOCUMENT_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 36];
/// Most blocks that are taken from one PEM file.
const BLOCKS_MAX: usize = 256;

/// The blocks with this label in PEM text. What does not read is left out.
pub(super) fn pem(text: &[u8], label: &str) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(text);
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let blocks = text.split(&begin).skip(1).take(BLOCKS_MAX);
    let bodies = blocks.filter_map(|block| block.split_once(&end));
    bodies.filter_map(|(body, _)| BASE64_MIME_PERMISSIVE.decode(body.trim().as_bytes()).ok()).collect()
}

/// The DER `SubjectPublicKeyInfo` of a certificate.
pub(super) fn spki(der: &[u8]) -> Option<Vec<u8>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate.public_key().raw.to_vec())
}

/// What a certificate is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// By a recorder.
    Recorder,
    /// By an exporter.
    Exporter,
}

/// Whether one of `certificates` holds this key, and was good at `at` under one of `anchors`.
pub(super) fn leads(key: &Digest, certificates: &[Vec<u8>], anchors: &[Vec<u8>], at: Micros, used: Use) -> bool {
    let all: Vec<CertificateDer<'_>> = certificates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let roots: Vec<CertificateDer<'_>> = anchors.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let roots: Vec<_> = roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let usage = || match used {
        Use::Recorder => KeyUsage::client_auth(),
        Use::Exporter => KeyUsage::required(DOCUMENT_SIGNING),
    };
    let time = UnixTime::since_unix_epoch(Duration::from_micros(at));
    all.iter().filter(|der| spki(der).is_some_and(|spki| Digest::of(&spki) == *key)).any(|der| {
        EndEntityCert::try_from(der)
            .is_ok_and(|leaf| leaf.verify_for_usage(algorithms, &roots, &all, time, usage(), None, None).is_ok())
    })
}

/// When keys were taken back, by the digest of the key, if the issuer of their certificates signed this list and it says so.
pub(super) fn revoked(certificates: &[Vec<u8>], anchors: &[Vec<u8>], list: &[u8]) -> Vec<(Digest, Micros)> {
    let Ok((_, list)) = CertificateRevocationList::from_der(list) else { return Vec::new() };
    let leaves: Vec<_> = certificates.iter().filter_map(|der| X509Certificate::from_der(der).ok()).collect();
    let roots: Vec<_> = anchors.iter().filter_map(|der| X509Certificate::from_der(der).ok()).collect();
    let mut issuers = leaves.iter().chain(&roots).filter(|(_, issuer)| issuer.subject() == list.issuer());
    if !issuers.any(|(_, issuer)| list.verify_signature(issuer.public_key()).is_ok()) {
        return Vec::new();
    }
    let issued = leaves.iter().filter(|(_, leaf)| leaf.issuer() == list.issuer());
    let entries = issued.filter_map(|(_, leaf)| {
        let entry = list.iter_revoked_certificates().find(|entry| entry.raw_serial() == leaf.raw_serial())?;
        let at = u64::try_from(entry.revocation_date.timestamp()).unwrap_or(0).saturating_mul(1_000_000);
        Some((Digest::of(leaf.public_key().raw), at))
    });
    entries.collect()
}
