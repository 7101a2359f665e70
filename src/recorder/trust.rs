//! Whether the server is the one that the recorder was enrolled with (SPEC.md section 1): signed by the CA of `ca.pem`, named as
//! `recorder.toml` says, and valid now.
//!
//! A device whose battery was empty may wake up in 1970. Where its clock is earlier than the beginning of its own certificate
//! it is plainly wrong, and only then the dates of the server's certificate are left out, and nothing else: the server tells it
//! the time, and refuses it if its own certificate is over.

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
    inner: Arc<WebPkiServerVerifier>,
    own: Dates,
}

impl Verifier {
    /// Trusts the CAs in `roots`; `own` are the dates of the recorder's certificate.
    ///
    /// # Errors
    /// That there is no CA.
    pub(super) fn new(roots: RootCertStore, own: Dates, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        Ok(Self { inner: inner.map_err(|error| Error::General(error.to_string()))?, own })
    }
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
        let clock = now.as_secs().saturating_mul(1_000_000);
        let now = match self.own.at(clock) {
            // At its own beginning a certificate is valid, and so was whoever signed it.
            Validity::NotYet => {
                let dates = Dates::of(end_entity).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
                UnixTime::since_unix_epoch(Duration::from_micros(dates.begin))
            }
            Validity::Valid | Validity::Ended => now,
        };
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
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

    /// What a recorder with a certificate from 2026 to 2027 makes of a server's, from 2026 to 2028, in a given year.
    fn judged(signed_by_its_ca: bool, name: &str, now: i32) -> bool {
        let ((issuer, certificate), (stranger, _)) = (ca(), ca());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let micros = |at: i32| year(at).as_secs() * 1_000_000;
        let verifier = Verifier::new(roots, Dates { begin: micros(2026), end: micros(2027) }, &provider).unwrap();
        let issuer = if signed_by_its_ca { issuer } else { stranger };
        let server = dated(&[name], 2026, 2028).signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        let expected = ServerName::try_from(NAME).unwrap();
        verifier.verify_server_cert(server.der(), &[], &expected, &[], year(now)).is_ok()
    }

    #[test]
    fn a_recorder_that_woke_up_in_1970_knows_its_server_by_signature_and_name() {
        assert!(judged(true, NAME, 1970));
        assert!(!judged(false, NAME, 1970), "another CA");
        assert!(!judged(true, "other.aigaq", 1970), "another name");
    }

    #[test]
    fn where_the_clock_may_be_right_the_dates_count() {
        assert!(judged(true, NAME, 2027));
        assert!(!judged(true, NAME, 2030), "over");
        assert!(!judged(true, NAME, 2100), "a clock that is ahead is no sign by itself");
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
