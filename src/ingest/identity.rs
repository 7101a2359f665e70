//! Who connects: the certificate check within the TLS handshake, and what it makes known of the recorder.
//!
//! A certificate must lead to the server's own CA, be good now by the server's clock, be for client authentication and not a CA's,
//! and hold an Ed25519 or P-256 key that is enrolled. Who a recorder is, its key says; the names in the certificate mean nothing.
//! Every refusal is counted by its reason. No connection comes about without all of this.

use std::sync::Arc;
use std::time::Duration;

use aigaq_proto::Micros;
use aigaq_proto::signature::PublicKey;
use prometheus::IntCounterVec;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, PeerIncompatible, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::Clock;
use crate::enrol::{Authority, Registry};
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::records::RecorderRecord;

/// Longest chain that is looked at: the leaf and two more.
const CHAIN_MAX: usize = 3;

/// The time that certificates are judged by.
#[derive(Debug)]
pub(super) struct ServerTime(pub(super) Clock);

impl TimeProvider for ServerTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_micros(self.0.now())))
    }
}

/// An authenticated recorder.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) record: Arc<RecorderRecord>,
    /// The key of its certificate, which signs its links.
    pub(super) key: PublicKey,
    /// When its certificate ends.
    pub(super) not_after: Micros,
}

impl Identity {
    /// The recorder at the other end of an established connection.
    pub(super) fn of(connection: &quinn::Connection, registry: &Registry) -> Result<Self> {
        let unknown = || Error::new(Kind::Unauthorised, "no enrolled identity");
        let chain = connection
            .peer_identity()
            .and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok())
            .ok_or_else(unknown)?;
        let leaf = chain.first().ok_or_else(unknown)?;
        let (_, parsed) = X509Certificate::from_der(leaf).context(Kind::Unauthorised, "unreadable certificate")?;
        let spki = parsed.public_key().raw;
        let key = PublicKey::from_spki(spki).context(Kind::Unauthorised, "key type not allowed")?;
        let record = registry.by_spki(spki).ok_or_else(unknown)?;
        let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self { record, key, not_after: seconds.saturating_mul(1_000_000) })
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
            Self::NotEnrolled => CertificateError::Revoked,
        }
    }

    fn of(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(error) = error else { return Self::Other };
        match error {
            CertificateError::BadEncoding => Self::Unreadable,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Issuer,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Self::Usage,
            CertificateError::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
                Some(webpki::Error::CaUsedAsEndEntity) => Self::Authority,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// The check of client certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    chain: Arc<dyn ClientCertVerifier>,
    registry: Arc<Registry>,
    handshakes: IntCounterVec,
}

impl Verifier {
    /// A verifier that counts refusals in `handshakes` by their reason.
    pub(super) fn new(
        authority: &Authority,
        registry: Arc<Registry>,
        handshakes: IntCounterVec,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).context(Kind::Invalid, "the CA's certificate cannot be used")?;
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .context(Kind::Internal, "cannot check certificates")?;
        Ok(Self { chain, registry, handshakes })
    }

    fn judge(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Rejection> {
        if others.len() >= CHAIN_MAX {
            return Err(Rejection::ChainTooLong);
        }
        self.chain.verify_client_cert(leaf, others, now).map_err(|error| Rejection::of(&error))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Rejection::Unreadable)?;
        let usage = parsed.extended_key_usage().map_err(|_| Rejection::Unreadable)?;
        if !usage.is_some_and(|usage| usage.value.client_auth) {
            return Err(Rejection::Usage);
        }
        if parsed.is_ca() {
            return Err(Rejection::Authority);
        }
        let spki = parsed.public_key().raw;
        PublicKey::from_spki(spki).map_err(|_| Rejection::KeyType)?;
        self.registry.by_spki(spki).map(|_| ()).ok_or(Rejection::NotEnrolled)
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(leaf, others, now).map(|()| ClientCertVerified::assertion()).map_err(|rejection| {
            self.handshakes.with_label_values(&[rejection.label()]).inc();
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
        self.chain.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

    use super::*;
    use crate::store::Store;

    /// What the verifier of a fresh CA says to a certificate for `key`, shown together with `others` more certificates.
    fn judge(key: &KeyPair, others: usize) -> Result<(), Rejection> {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(1_760_000_000_000_000);
        let authority = Authority::load_or_create(dir.path(), &clock).unwrap();
        let registry = Arc::new(Registry::open(Store::memory(), dir.path()).unwrap());
        let handshakes = IntCounterVec::new(Opts::new("handshakes", "For a test."), &["result"]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Verifier::new(&authority, registry, handshakes, &provider).unwrap();
        let ca_key = std::fs::read_to_string(dir.path().join("ca/ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_der(authority.certificate(), KeyPair::from_pem(&ca_key).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::NoCa;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(key, &issuer).unwrap();
        let others = vec![authority.certificate().clone(); others];
        verifier.judge(leaf.der(), &others, ServerTime(clock).current_time().unwrap())
    }

    #[test]
    fn only_key_types_that_may_sign_links_are_taken() {
        let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        for key in [&rsa, &p384] {
            assert_eq!(judge(key, 0), Err(Rejection::KeyType));
        }
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            assert_eq!(judge(&key, 1), Err(Rejection::NotEnrolled), "right in all but enrolment");
        }
    }

    #[test]
    fn a_long_chain_is_not_looked_at() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert_eq!(judge(&key, CHAIN_MAX), Err(Rejection::ChainTooLong));
    }
}
