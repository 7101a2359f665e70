//! Whether the server is the one that the recorder was enrolled with (SPEC.md section 1): it leads to the CA of `ca.pem`, or to the one
//! that an enrolment code announces, is named as `recorder.toml` says, and is valid now.
//!
//! A device whose battery was empty may wake up in 1970, or believe that it is 2100. Where its clock lies outside of the life of its own
//! certificate (of the CA's, where it has none yet) it is plainly wrong, or the server will say that the certificate is over; only then the
//! dates of the server's certificate are left out, and nothing else. The server tells it the time, and judges its certificate by its own
//! clock. What somebody could win who has an old key of the server is footage without receipts, which the recorder keeps and
//! sends again; what would be lost otherwise is every recorder whose clock is ahead.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use aigaq_proto::Micros;

use crate::clock::Clock;
use crate::est::Fingerprint;

/// How the recorder's own certificate stands by a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validity {
    /// The clock is before its beginning.
    NotYet,
    Valid,
    /// The clock is after its end.
    Ended,
}

/// From when to when a certificate is valid, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dates {
    pub(super) begin: Micros,
    pub(super) end: Micros,
}

impl Dates {
    /// The dates of a certificate; `None` if it cannot be parsed.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let micros = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000);
        let validity = parsed.validity();
        Some(Self { begin: micros(validity.not_before.timestamp()), end: micros(validity.not_after.timestamp()) })
    }

    /// How it stands at a time.
    pub(super) fn at(self, now: Micros) -> Validity {
        match now {
            now if now < self.begin => Validity::NotYet,
            now if now > self.end => Validity::Ended,
            _ => Validity::Valid,
        }
    }
}

/// The device's clock, for TLS.
#[derive(Debug)]
pub(super) struct DeviceTime(pub(super) Clock);

impl rustls::time_provider::TimeProvider for DeviceTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_micros(self.0.now())))
    }
}

/// Verifies the server.
#[derive(Debug)]
pub(super) struct Verifier {
    anchors: Anchors,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Anchors {
    /// The CAs that the recorder was given, and when its clock can be believed.
    Given { inner: Arc<WebPkiServerVerifier>, own: Dates },
    /// The CA with this fingerprint, which must be among the certificates that the server shows.
    Announced(Fingerprint),
}

impl Verifier {
    /// Trusts the CAs in `roots`; `own` are the dates of the recorder's certificate.
    ///
    /// # Errors
    /// That there is no CA.
    pub(super) fn new(roots: RootCertStore, own: Dates, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let inner = of_roots(roots, provider)?;
        Ok(Self { anchors: Anchors::Given { inner, own }, provider: Arc::clone(provider) })
    }

    /// Trusts the CA that an enrolment code announces.
    pub(super) fn announced(ca: Fingerprint, provider: &Arc<CryptoProvider>) -> Self {
        Self { anchors: Anchors::Announced(ca), provider: Arc::clone(provider) }
    }
}

fn of_roots(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    inner.map_err(|error| Error::General(error.to_string()))
}

fn dates(certificate: &CertificateDer<'_>) -> Result<Dates, Error> {
    Dates::of(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// The moment at which the youngest of these certificates begins: then all of them are valid, if they ever are together.
fn beginning(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<UnixTime, Error> {
    let mut latest = 0;
    for certificate in std::iter::once(leaf).chain(others) {
        latest = latest.max(dates(certificate)?.begin);
    }
    Ok(UnixTime::since_unix_epoch(Duration::from_micros(latest)))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (inner, own) = match &self.anchors {
            Anchors::Given { inner, own } => (Arc::clone(inner), *own),
            Anchors::Announced(fingerprint) => {
                let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
                let ca = intermediates.iter().find(|shown| Fingerprint::of(shown) == *fingerprint);
                let ca = ca.ok_or_else(unknown)?;
                let mut roots = RootCertStore::empty();
                roots.add(ca.clone().into_owned()).map_err(|_| unknown())?;
                (of_roots(roots, &self.provider)?, dates(ca)?)
            }
        };
        let now = match own.at(now.as_secs().saturating_mul(1_000_000)) {
            Validity::NotYet | Validity::Ended => beginning(end_entity, intermediates)?,
            Validity::Valid => now,
        };
        inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    const NAME: &str = "gateway.aigaq";

    fn year(year: i32) -> UnixTime {
        let seconds = u64::try_from(date_time_ymd(year, 6, 1).unix_timestamp()).unwrap();
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn dated(names: &[&str], from: i32, to: i32) -> CertificateParams {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        params
    }

    fn ca() -> (Issuer<'static, KeyPair>, CertificateDer<'static>) {
        let mut params = dated(&[], 2025, 2045);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        (Issuer::new(params, key), certificate)
    }

    /// What a recorder with a certificate from the middle of 2026 to that of 2028 makes of a server's, from 2026 to 2027, in the middle of
    /// a given year.
    fn judged(signed_by_its_ca: bool, name: &str, now: i32) -> bool {
        let ((issuer, certificate), (stranger, _)) = (ca(), ca());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let micros = |at: i32| year(at).as_secs() * 1_000_000;
        let verifier = Verifier::new(roots, Dates { begin: micros(2026), end: micros(2028) }, &provider).unwrap();
        let issuer = if signed_by_its_ca { issuer } else { stranger };
        let server = dated(&[name], 2026, 2027).signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        let expected = ServerName::try_from(NAME).unwrap();
        verifier.verify_server_cert(server.der(), &[], &expected, &[], year(now)).is_ok()
    }

    #[test]
    fn a_recorder_whose_clock_is_plainly_wrong_knows_its_server_by_signature_and_name() {
        for now in [1970, 2100] {
            assert!(judged(true, NAME, now));
            assert!(!judged(false, NAME, now), "another CA");
            assert!(!judged(true, "other.aigaq", now), "another name");
        }
    }

    #[test]
    fn where_the_clock_may_be_right_the_dates_count() {
        assert!(judged(true, NAME, 2026));
        assert!(!judged(true, NAME, 2027), "over");
    }

    #[test]
    fn a_certificate_stands_by_its_dates() {
        let dates = Dates { begin: 10, end: 20 };
        assert_eq!(
            [9, 10, 20, 21].map(|now| dates.at(now)),
            [Validity::NotYet, Validity::Valid, Validity::Valid, Validity::Ended]
        );
    }
}
