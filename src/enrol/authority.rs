//! The server's own CA: `DIR/ca/ca.pem` and `DIR/ca/ca.key`, and the certificates that it issues.
//!
//! The CA is made at first use, by `serve` or `enrol`, whichever comes first; a lock file keeps the two from making two.
//! All keys made here are P-256 except those of recorders, which are Ed25519. Validity begins a little in the past, because the
//! clocks of recorders are not exact. The private key of the CA never leaves this file and has no `Debug`.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::SERVER_NAME;
use super::files::{self, Lock};
use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How far in the past validity begins: more than a recorder's clock is commonly off.
const BACKDATED: Duration = DAY;
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(20 * 365);
const SERVER_LIFE: Duration = DAY.saturating_mul(365);
/// A server certificate with less than this left is renewed at start.
const SERVER_LEFT_MIN: Duration = DAY.saturating_mul(120);

/// The CA of one data directory.
pub struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A server certificate chain with its key.
#[derive(Debug)]
pub struct ServerIdentity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS #8.
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    /// The CA of the data directory `data`, made at first use together with the directory.
    ///
    /// # Errors
    /// [`Kind::Internal`] when its files cannot be read or written, [`Kind::Invalid`] when they are not a CA's.
    pub fn load_or_create(data: &Path, clock: &Clock) -> Result<Self> {
        let dir = data.join("ca");
        files::make_private_dir(&dir)?;
        let _lock = Lock::take(&dir.join("lock"))?;
        let (key_path, pem_path) = (dir.join("ca.key"), dir.join("ca.pem"));
        let pem = files::read(&pem_path)?;
        let key = match (files::read(&key_path)?, &pem) {
            (Some(text), _) => parse_key(&text, &key_path)?,
            (None, Some(_)) => {
                let lost = format!("{} is missing beside ca.pem: restore it from a backup", key_path.display());
                return Err(Error::new(Kind::Invalid, lost));
            }
            (None, None) => new_key(&key_path)?,
        };
        let pem = match pem {
            Some(pem) => pem,
            None => {
                let made = authority_params(clock).self_signed(&key).context(Kind::Internal, "cannot make the CA")?;
                files::write(&pem_path, made.pem().as_bytes(), files::PUBLIC)?;
                made.pem()
            }
        };
        Self::assemble(pem, key).context(Kind::Invalid, format!("{} is not the CA of ca.key", pem_path.display()))
    }

    fn assemble(pem: String, key: KeyPair) -> Result<Self> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).context(Kind::Invalid, "no certificate")?;
        let (_, parsed) = X509Certificate::from_der(&certificate).context(Kind::Invalid, "no certificate")?;
        if !parsed.is_ca() || parsed.public_key().raw != key.subject_public_key_info() {
            return Err(Error::new(Kind::Invalid, "not a CA, or of another key"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).context(Kind::Invalid, "not a CA")?;
        Ok(Self { certificate, pem, issuer })
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same as PEM text: what recorders trust.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate of the server, `DIR/server.pem` and `DIR/server.key`: made at first use, renewed under the same key
    /// when it is near its end.
    ///
    /// # Errors
    /// [`Kind::Internal`] when its files cannot be read or written, [`Kind::Invalid`] for a key file that is none.
    pub fn server_identity(&self, data: &Path, clock: &Clock) -> Result<ServerIdentity> {
        let _lock = Lock::take(&data.join("ca").join("lock"))?;
        let (key_path, pem_path) = (data.join("server.key"), data.join("server.pem"));
        let key = match files::read(&key_path)? {
            Some(text) => parse_key(&text, &key_path)?,
            None => new_key(&key_path)?,
        };
        let kept = files::read(&pem_path)?.and_then(|pem| self.still_good(&pem, &key, clock));
        let leaf = match kept {
            Some(leaf) => leaf,
            None => {
                let made = self.sign(&server_params(clock)?, &key)?;
                files::write(&pem_path, made.pem().as_bytes(), files::PUBLIC)?;
                made.into()
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(ServerIdentity { chain: vec![leaf, self.certificate.clone()], key })
    }

    fn still_good(&self, pem: &str, key: &KeyPair, clock: &Clock) -> Option<CertificateDer<'static>> {
        let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, parsed) = X509Certificate::from_der(&leaf).ok()?;
        let (_, own) = X509Certificate::from_der(&self.certificate).ok()?;
        let left = parsed.validity().not_after.timestamp() - i64::try_from(clock.now() / 1_000_000).ok()?;
        let good = parsed.public_key().raw == key.subject_public_key_info()
            && parsed.verify_signature(Some(own.public_key())).is_ok()
            && u64::try_from(left).is_ok_and(|left| left > SERVER_LEFT_MIN.as_secs());
        good.then_some(leaf)
    }

    /// A certificate for a recorder with this public key: client authentication only, not a CA.
    pub(super) fn recorder(
        &self,
        name: &str,
        key: &impl PublicKeyData,
        life: Duration,
        clock: &Clock,
    ) -> Result<Certificate> {
        let mut params = params(name, life, clock);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params, key)
    }

    fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Result<Certificate> {
        params.clone().signed_by(key, &self.issuer).context(Kind::Internal, "cannot issue a certificate")
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

fn params(name: &str, life: Duration, clock: &Clock) -> CertificateParams {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_micros(clock.now());
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATED;
    params.not_after = now + life;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority_params(clock: &Clock) -> CertificateParams {
    let mut params = params("Aigaq CA", AUTHORITY_LIFE, clock);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = false;
    params
}

fn server_params(clock: &Clock) -> Result<CertificateParams> {
    let names = [SERVER_NAME, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = params(SERVER_NAME, SERVER_LIFE, clock);
    params.subject_alt_names =
        CertificateParams::new(names).context(Kind::Internal, "cannot name the server")?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn parse_key(text: &str, path: &Path) -> Result<KeyPair> {
    KeyPair::from_pem(text).map_err(|_| Error::new(Kind::Invalid, format!("{} is not a private key", path.display())))
}

fn new_key(path: &Path) -> Result<KeyPair> {
    let key = KeyPair::generate().context(Kind::Internal, "cannot make a key")?;
    files::write(path, key.serialize_pem().as_bytes(), files::SECRET)?;
    Ok(key)
}
