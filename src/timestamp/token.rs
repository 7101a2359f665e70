//! One token: read, checked against what was stamped and against its own certificate; then, whether that certificate counts.

use std::time::Duration;

use aigaq_proto::Micros;
use aigaq_proto::link::controls;
use aws_lc_rs::digest::{self, Algorithm as Digest, digest};
use cms::attr::MessageDigest;
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::{ObjectIdentifier, OctetString};
use der::{Decode as _, Encode as _};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::aws_lc_rs as algorithms;
use webpki::{EndEntityCert, Error as PathError, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::asn1::{self, Info};
use super::{REPLY_BYTES_MAX, Refusal};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
/// The key purpose of time stamps, as DER writes the identifier's content.
const TIME_STAMPING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];
/// Granted, and granted with changes (RFC 3161 section 2.4.2).
const GRANTED: [u8; 2] = [0, 1];

/// A time stamp whose signature is by the certificate that it carries. Whether that certificate counts is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// When what is stamped was there, by the authority's clock.
    pub at: Micros,
    /// The name in the authority's certificate: what it says of itself.
    pub authority: String,
    nonce: Option<Vec<u8>>,
    /// The signer's certificate.
    signer: Vec<u8>,
    /// Those that came with it.
    others: Vec<Vec<u8>>,
}

impl Token {
    /// Reads an answer (`TimeStampResp`) and checks everything but the way of its certificate: that it was granted, stamps what has
    /// this SHA-256, and is signed by the certificate that it names.
    ///
    /// # Errors
    /// Why it is no such stamp.
    pub fn read(answer: &[u8], sha256: &[u8; 32]) -> Result<Self, Refusal> {
        if answer.len() > REPLY_BYTES_MAX {
            return Err(Refusal::Malformed);
        }
        let malformed = |_| Refusal::Malformed;
        let (status, token) = asn1::response(answer).map_err(malformed)?;
        if !GRANTED.contains(&status) {
            return Err(Refusal::NotGranted);
        }
        let token = ContentInfo::from_der(&token.ok_or(Refusal::Malformed)?).map_err(malformed)?;
        if token.content_type != SIGNED_DATA {
            return Err(Refusal::Malformed);
        }
        let signed: SignedData = token.content.decode_as().map_err(malformed)?;
        if signed.encap_content_info.econtent_type != TST_INFO {
            return Err(Refusal::Malformed);
        }
        let content = signed.encap_content_info.econtent.as_ref().ok_or(Refusal::Malformed)?;
        let content: OctetString = content.decode_as().map_err(malformed)?;
        let info = Info::from_der(content.as_bytes()).map_err(malformed)?;
        if info.algorithm != asn1::SHA256 || info.imprint != sha256 {
            return Err(Refusal::Imprint);
        }
        let [by] = signed.signer_infos.0.as_slice() else { return Err(Refusal::Malformed) };
        let (signer, others) = signer(&signed, by)?;
        check_signature(by, content.as_bytes(), &signer).ok_or(Refusal::Signature)?;
        let authority = subject(&signer).ok_or(Refusal::Malformed)?;
        Ok(Self { at: info.at, authority, nonce: info.nonce, signer, others })
    }

    /// Whether it answers the question with this nonce.
    pub(super) fn has_nonce(&self, nonce: u64) -> bool {
        let wanted = nonce.to_be_bytes();
        let bare = |bytes: &[u8]| bytes.iter().skip_while(|byte| **byte == 0).copied().collect::<Vec<u8>>();
        self.nonce
            .as_deref()
            .is_some_and(|nonce| nonce.first().is_some_and(|first| *first < 0x80) && bare(nonce) == bare(&wanted))
    }

    /// Checks that its certificate is for time stamps and for them alone, and leads to one of `anchors` (DER certificates) at the
    /// time of the stamp.
    ///
    /// # Errors
    /// [`Refusal::Usage`], [`Refusal::Expired`] or [`Refusal::Untrusted`].
    pub fn leads(&self, anchors: &[Vec<u8>]) -> Result<(), Refusal> {
        if !for_time_stamps_alone(&self.signer) {
            return Err(Refusal::Usage);
        }
        let roots: Vec<CertificateDer<'_>> = anchors.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let roots: Vec<_> = roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
        let others: Vec<_> = self.others.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let signer = CertificateDer::from(self.signer.as_slice());
        let signer = EndEntityCert::try_from(&signer).map_err(|_| Refusal::Untrusted)?;
        let (usage, time) =
            (KeyUsage::required(TIME_STAMPING), UnixTime::since_unix_epoch(Duration::from_micros(self.at)));
        let path = signer.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &roots, &others, time, usage, None, None);
        match path {
            Ok(_) => Ok(()),
            Err(PathError::CertExpired { .. } | PathError::CertNotValidYet { .. }) => Err(Refusal::Expired),
            Err(PathError::RequiredEkuNotFoundContext(_)) => Err(Refusal::Usage),
            Err(_) => Err(Refusal::Untrusted),
        }
    }
}

/// The certificate that a signature names, and the others, DER.
fn signer(signed: &SignedData, by: &SignerInfo) -> Result<(Vec<u8>, Vec<Vec<u8>>), Refusal> {
    let SignerIdentifier::IssuerAndSerialNumber(name) = &by.sid else { return Err(Refusal::Signature) };
    let (mut signer, mut others) = (None, Vec::new());
    for choice in signed.certificates.iter().flat_map(|set| set.0.iter()) {
        let CertificateChoices::Certificate(certificate) = choice else { continue };
        let der = certificate.to_der().map_err(|_| Refusal::Malformed)?;
        let about = &certificate.tbs_certificate;
        if about.issuer == name.issuer && about.serial_number == name.serial_number {
            signer = Some(der);
        } else {
            others.push(der);
        }
    }
    Ok((signer.ok_or(Refusal::Signature)?, others))
}

/// The signature over the signed attributes, which name the content and the certificate. `None` if anything of it is wrong.
fn check_signature(by: &SignerInfo, content: &[u8], signer: &[u8]) -> Option<()> {
    let attributes = by.signed_attrs.as_ref()?;
    let value = |oid: ObjectIdentifier| {
        let mut of_type = attributes.iter().filter(|attribute| attribute.oid == oid);
        let (only, None) = (of_type.next()?, of_type.next()) else { return None };
        let [value] = only.values.as_slice() else { return None };
        Some(value)
    };
    let hash = algorithm(by.digest_alg.oid)?;
    let told: ObjectIdentifier = value(CONTENT_TYPE)?.decode_as().ok()?;
    let digested: MessageDigest = value(MESSAGE_DIGEST)?.decode_as().ok()?;
    if told != TST_INFO || digested.as_bytes() != digest(hash, content).as_ref() {
        return None;
    }
    let names = value(SIGNING_CERTIFICATE_V2).map(|value| (value, asn1::SHA256));
    let (names, default) = names.or_else(|| Some((value(SIGNING_CERTIFICATE)?, SHA1)))?;
    let (named_by, named) = asn1::signing_certificate(&names.to_der().ok()?, default).ok()?;
    if digest(algorithm(named_by)?, signer).as_ref() != named {
        return None;
    }
    let message = attributes.to_der().ok()?;
    let der = CertificateDer::from(signer);
    let certificate = EndEntityCert::try_from(&der).ok()?;
    let signed = |scheme: &&dyn SignatureVerificationAlgorithm| {
        certificate.verify_signature(*scheme, &message, by.signature.as_bytes()).is_ok()
    };
    schemes(by.digest_alg.oid).iter().any(signed).then_some(())
}

fn algorithm(oid: ObjectIdentifier) -> Option<&'static Digest> {
    match oid {
        asn1::SHA256 => Some(&digest::SHA256),
        SHA384 => Some(&digest::SHA384),
        SHA512 => Some(&digest::SHA512),
        // It names a certificate only, and nobody can choose that one: a second preimage of SHA-1 is out of reach.
        SHA1 => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        _ => None,
    }
}

/// The signatures with this digest. Which of them fits, the key of the certificate says.
fn schemes(hash: ObjectIdentifier) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
    match hash {
        asn1::SHA256 => vec![
            algorithms::RSA_PKCS1_2048_8192_SHA256,
            algorithms::ECDSA_P256_SHA256,
            algorithms::ECDSA_P384_SHA256,
            algorithms::ECDSA_P521_SHA256,
            algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        ],
        SHA384 => vec![
            algorithms::RSA_PKCS1_2048_8192_SHA384,
            algorithms::ECDSA_P256_SHA384,
            algorithms::ECDSA_P384_SHA384,
            algorithms::ECDSA_P521_SHA384,
            algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        ],
        SHA512 => vec![
            algorithms::RSA_PKCS1_2048_8192_SHA512,
            algorithms::ECDSA_P256_SHA512,
            algorithms::ECDSA_P384_SHA512,
            algorithms::ECDSA_P521_SHA512,
            algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
            algorithms::ED25519,
        ],
        _ => Vec::new(),
    }
}

/// RFC 3161 section 2.3: one purpose, and the extension is critical.
fn for_time_stamps_alone(der: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let Ok(Some(usage)) = certificate.extended_key_usage() else { return false };
    let of = usage.value;
    let others =
        of.any || of.server_auth || of.client_auth || of.code_signing || of.email_protection || of.ocsp_signing;
    usage.critical && of.time_stamping && !others && of.other.is_empty()
}

fn subject(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let text = certificate.subject().to_string();
    Some(text.chars().filter(|letter| !controls(*letter)).take(200).collect())
}
