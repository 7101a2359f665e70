//! The certificate check within the TLS handshake, of recorders over QUIC and of those that enrol.
//!
//! A certificate must lead to a trusted CA, be good now by the server's clock, be for client authentication and not a CA's, and hold an
//! Ed25519 or P-256 key that is enrolled and not revoked. Who a recorder is, its key says; the names in the certificate mean nothing.
//! Every refusal is counted by its reason. No connection with a certificate comes about without all of this.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aigaq_proto::signature::PublicKey;
use prometheus::IntCounterVec;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible, SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::registry::{NoEntry, Registry};
use super::trust::Trust;
use crate::clock::Clock;
use crate::error::{Error, Kind};

/// Longest chain that is looked at: the leaf and two more.
const CHAIN_MAX: usize = 3;
/// Largest certificate that is looked at, bytes: ten times what one with a large RSA signature needs.
const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
/// Longest serial number, bytes (RFC 5280 section 4.1.2.2).
const SERIAL_BYTES_MAX: usize = 20;

/// The time that certificates are judged by.
#[derive(Debug)]
pub struct ServerTime(pub Clock);

impl TimeProvider for ServerTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_micros(self.0.now())))
    }
}

/// Why a certificate was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rejection {
    ChainTooLong,
    Unreadable,
    Issuer,
    Expired,
    NotYetValid,
    Usage,
    Authority,
    KeyType,
    NotEnrolled,
    Revoked,
    RevocationUnknown,
    ListExpired,
    Other,
}

impl Rejection {
    fn label(self) -> &'static str {
        match self {
            Self::ChainTooLong => "chain_too_long",
            Self::Unreadable => "unreadable",
            Self::Issuer => "wrong_issuer",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Usage => "wrong_usage",
            Self::Authority => "ca_as_leaf",
            Self::KeyType => "key_type",
            Self::NotEnrolled => "not_enrolled",
            Self::Revoked => "revoked",
            Self::RevocationUnknown => "revocation_unknown",
            Self::ListExpired => "crl_expired",
            Self::Other => "certificate",
        }
    }

    /// What the recorder is told, as a TLS alert.
    fn error(self) -> CertificateError {
        match self {
            Self::ChainTooLong | Self::Authority | Self::Other => CertificateError::ApplicationVerificationFailure,
            Self::Unreadable => CertificateError::BadEncoding,
            Self::Issuer => CertificateError::UnknownIssuer,
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            Self::Usage | Self::KeyType => CertificateError::InvalidPurpose,
            Self::NotEnrolled | Self::Revoked => CertificateError::Revoked,
            // A fault of this side that passes: nothing that a device should answer with a new enrolment.
            Self::RevocationUnknown | Self::ListExpired => CertificateError::Other(OtherError(Arc::new(Error::new(
                Kind::Busy,
                "it cannot be told whether the certificate was revoked",
            )))),
        }
    }

    fn of(error: &rustls::Error) -> Self {
        let error = match error {
            rustls::Error::InvalidCertificate(error) => error,
            rustls::Error::InvalidCertRevocationList(_) => return Self::RevocationUnknown,
            _ => return Self::Other,
        };
        match error {
            CertificateError::BadEncoding => Self::Unreadable,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Issuer,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Self::Usage,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownRevocationStatus => Self::RevocationUnknown,
            CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
                Self::ListExpired
            }
            CertificateError::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
                Some(webpki::Error::CaUsedAsEndEntity) => Self::Authority,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// The check of client certificates.
pub struct Verifier {
    trust: Arc<Trust>,
    registry: Arc<Registry>,
    refusals: IntCounterVec,
    mandatory: bool,
}

impl Verifier {
    /// A verifier that counts refusals in `refusals`, whose one label is the reason. With `mandatory` nobody comes in without
    /// a certificate.
    #[must_use]
    pub fn new(trust: Arc<Trust>, registry: Arc<Registry>, refusals: IntCounterVec, mandatory: bool) -> Self {
        Self { trust, registry, refusals, mandatory }
    }

    fn judge(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Rejection> {
        if others.len() >= CHAIN_MAX {
            return Err(Rejection::ChainTooLong);
        }
        if std::iter::once(leaf).chain(others).any(|certificate| certificate.len() > CERTIFICATE_BYTES_MAX) {
            return Err(Rejection::Other);
        }
        self.trust.judge(leaf, others, now).map_err(|error| Rejection::of(&error))?;
        others.iter().try_for_each(|other| may_issue(other))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Rejection::Unreadable)?;
        let serial = parsed.raw_serial();
        if serial.len() > SERIAL_BYTES_MAX || serial.first().is_none_or(|first| first & 0x80 != 0) {
            return Err(Rejection::Other);
        }
        let usage = parsed.extended_key_usage().map_err(|_| Rejection::Unreadable)?;
        if !usage.is_some_and(|usage| usage.value.client_auth) {
            return Err(Rejection::Usage);
        }
        // The handshake is signed (RFC 8446 section 4.4.2.2); the library does not look at it.
        let usage = parsed.key_usage().map_err(|_| Rejection::Unreadable)?;
        if usage.is_some_and(|usage| !usage.value.digital_signature()) {
            return Err(Rejection::Usage);
        }
        if parsed.is_ca() {
            return Err(Rejection::Authority);
        }
        let spki = parsed.public_key().raw;
        PublicKey::from_spki(spki).map_err(|_| Rejection::KeyType)?;
        match self.registry.entry(spki) {
            Ok(_) => Ok(()),
            Err(NoEntry::Unknown) => Err(Rejection::NotEnrolled),
            Err(NoEntry::Revoked) => Err(Rejection::Revoked),
            Err(NoEntry::Ended) => Err(Rejection::Expired),
        }
    }
}

/// What the library does not look at: whether the key of a CA may sign certificates (RFC 5280 section 4.2.1.3).
fn may_issue(authority: &CertificateDer<'_>) -> Result<(), Rejection> {
    let (_, parsed) = X509Certificate::from_der(authority).map_err(|_| Rejection::Unreadable)?;
    let usage = parsed.key_usage().map_err(|_| Rejection::Unreadable)?;
    if usage.is_none_or(|usage| usage.value.key_cert_sign()) { Ok(()) } else { Err(Rejection::Usage) }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("mandatory", &self.mandatory).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.hints()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(leaf, others, now).map(|()| ClientCertVerified::assertion()).map_err(|rejection| {
            self.refusals.with_label_values(&[rejection.label()]).inc();
            rustls::Error::InvalidCertificate(rejection.error())
        })
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trust.signatures().verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
