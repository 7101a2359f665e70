//! The CA that issues: the server's own, `DIR/ca/ca.pem` and `DIR/ca/ca.key`, or an intermediate of an existing one with its key.
//!
//! The own CA is made at first use, by `serve` or `enrol`, whichever comes first; a lock file keeps the two from making two. All keys
//! made here are P-256. Validity begins a little in the past, because the clocks of recorders are not exact. Every certificate has a
//! serial number of its own, also under the same key. The private key of the CA never leaves this file and has no `Debug`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aigaq_proto::Micros;
use cms::cert::x509::Certificate as Strict;
use der::Decode as _;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::SERVER_NAME;
use super::files::{self, Lock};
use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How far in the past validity begins: more than a recorder's clock is commonly off.
const BACKDATED: Duration = DAY;
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(20 * 365);
const SERVER_LIFE: Duration = DAY.saturating_mul(365);
/// A certificate of the server with less than this left is renewed: a third of its life.
pub(super) const SERVER_LEFT_MIN: Duration = DAY.saturating_mul(365 / 3);

/// `id-kp-documentSigning` (RFC 9336): for signing manifests, and no recorder's certificate.
const DOCUMENT_SIGNING: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 36];

/// Random bytes in a serial number.
const SERIAL_BYTES: usize = 16;
/// Which CA the server issues with, `DIR/ca/issuing`: the fingerprint of its anchor, so that the command line notices when it
/// would issue with another.
const ISSUING: &str = "issuing";

/// A CA that issues.
pub struct Authority {
    /// The issuing certificate first, then what leads from it to its root; never empty.
    chain: Vec<CertificateDer<'static>>,
    issuer: Issuer<'static, KeyPair>,
}

/// Where an intermediate of an existing CA is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerFiles {
    /// Its certificate, PEM, and what leads from it to the root.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// A server certificate chain with its key. Has no `Debug`.
pub struct ServerIdentity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS #8.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for ServerIdentity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// That the bytes are those that the CA signed, to the last one: recorders are given their fingerprint.
fn signed_by_itself(certificate: &CertificateDer<'_>) -> Result<()> {
    let altered = || Error::new(Kind::Invalid, "it is not what the CA signed");
    // What the signature does not cover says the same as what it covers (RFC 5280 section 4.1.1.2).
    let strict = Strict::from_der(certificate).map_err(|_| altered())?;
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| altered())?;
    let is_plain = strict.signature_algorithm == strict.tbs_certificate.signature;
    if is_plain && parsed.verify_signature(None).is_ok() { Ok(()) } else { Err(altered()) }
}

impl Authority {
    /// The CA that issues for the data directory `data`: `issuer` if there is one, else the own.
    ///
    /// # Errors
    /// Those of [`Authority::load_or_create`]; [`Kind::Invalid`] for an `issuer` that is not a CA with its key.
    pub fn open(data: &Path, issuer: Option<&IssuerFiles>, clock: &Clock) -> Result<Self> {
        let Some(files) = issuer else { return Self::load_or_create(data, clock) };
        let unreadable = || format!("cannot read {}", files.certificate.display());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
            .and_then(Iterator::collect)
            .context(Kind::Invalid, unreadable())?;
        let text = files::read(&files.key)?
            .ok_or_else(|| Error::new(Kind::Invalid, format!("there is no {}", files.key.display())))?;
        let key = parse_key(&text, &files.key)?;
        Self::assemble(chain, key).context(Kind::Invalid, format!("{} cannot issue", files.certificate.display()))
    }

    /// Says in the data directory which CA the server issues with.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it cannot be written.
    pub(super) fn announce(&self, data: &Path) -> Result<()> {
        files::make_private_dir(&data.join("ca"))?;
        files::write(&data.join("ca").join(ISSUING), self.fingerprint_text().as_bytes(), files::PUBLIC)
    }

    /// Whether this is what the server of the data directory issues with, as far as it has ever said so.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it is not.
    pub(super) fn check_announced(&self, data: &Path) -> Result<()> {
        match files::read(&data.join("ca").join(ISSUING))? {
            Some(announced) if announced.trim() != self.fingerprint_text() => {
                let text = "the server issues certificates with another CA: give --config FILE, as the server gets it";
                Err(Error::new(Kind::Invalid, text))
            }
            _ => Ok(()),
        }
    }

    fn fingerprint_text(&self) -> String {
        aigaq_proto::Digest::of(self.anchor()).to_string()
    }

    /// The own CA of the data directory `data`, made at first use together with the directory.
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
        CertificateDer::from_pem_slice(pem.as_bytes())
            .context(Kind::Invalid, "no certificate")
            .and_then(|certificate| {
                signed_by_itself(&certificate).and_then(|()| Self::assemble(vec![certificate], key))
            })
            .context(Kind::Invalid, format!("{} is not the CA of ca.key", pem_path.display()))
    }

    fn assemble(chain: Vec<CertificateDer<'static>>, key: KeyPair) -> Result<Self> {
        let certificate = chain.first().ok_or_else(|| Error::new(Kind::Invalid, "no certificate"))?;
        let (_, parsed) = X509Certificate::from_der(certificate).context(Kind::Invalid, "no certificate")?;
        if !parsed.is_ca() || parsed.public_key().raw != key.subject_public_key_info() {
            return Err(Error::new(Kind::Invalid, "not a CA, or of another key"));
        }
        let issuer = Issuer::from_ca_cert_der(certificate, key).context(Kind::Invalid, "not a CA")?;
        Ok(Self { chain, issuer })
    }

    /// The certificate that others are signed with.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        static NONE: CertificateDer<'static> = CertificateDer::from_slice(&[]);
        self.chain.first().unwrap_or(&NONE)
    }

    /// What recorders trust: the last certificate of the chain.
    #[must_use]
    pub fn anchor(&self) -> &CertificateDer<'static> {
        self.chain.last().unwrap_or_else(|| self.certificate())
    }

    /// The issuing certificate and what leads from it to what recorders trust.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The certificate of the server, `DIR/server.pem` and `DIR/server.key`, with `names` beside its own: made at first use, renewed
    /// under the same key when it is near its end or has other names.
    ///
    /// # Errors
    /// [`Kind::Internal`] when its files cannot be read or written, [`Kind::Invalid`] for a key file that is none.
    pub fn server_identity(&self, data: &Path, names: &[String], clock: &Clock) -> Result<ServerIdentity> {
        files::make_private_dir(&data.join("ca"))?;
        let _lock = Lock::take(&data.join("ca").join("lock"))?;
        let (key_path, pem_path) = (data.join("server.key"), data.join("server.pem"));
        self.identity(&key_path, &pem_path, &server_params(names, clock)?, clock)
    }

    /// The certificate that exports are signed under, `DIR/export.pem` and `DIR/export.key`: made at first use, renewed under the
    /// same key when it is near its end.
    ///
    /// # Errors
    /// As [`Authority::server_identity`].
    pub fn export_identity(&self, data: &Path, clock: &Clock) -> Result<ServerIdentity> {
        files::make_private_dir(&data.join("ca"))?;
        let _lock = Lock::take(&data.join("ca").join("lock"))?;
        self.identity(&data.join("export.key"), &data.join("export.pem"), &export_params(clock), clock)
    }

    /// What is kept in two files, made or renewed if need be. The caller holds the lock.
    fn identity(
        &self,
        key_path: &Path,
        pem_path: &Path,
        params: &CertificateParams,
        clock: &Clock,
    ) -> Result<ServerIdentity> {
        let key = match files::read(key_path)? {
            Some(text) => parse_key(&text, key_path)?,
            None => new_key(key_path)?,
        };
        let kept = files::read(pem_path)?.and_then(|pem| self.still_good(&pem, &key, params, clock));
        let leaf = match kept {
            Some(leaf) => leaf,
            None => {
                let made = self.sign(params, &key)?;
                files::write(pem_path, made.pem().as_bytes(), files::PUBLIC)?;
                made.into()
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(ServerIdentity { chain: std::iter::once(leaf).chain(self.chain.iter().cloned()).collect(), key })
    }

    fn still_good(
        &self,
        pem: &str,
        key: &KeyPair,
        wanted: &CertificateParams,
        clock: &Clock,
    ) -> Option<CertificateDer<'static>> {
        let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, parsed) = X509Certificate::from_der(&leaf).ok()?;
        let (_, own) = X509Certificate::from_der(self.certificate()).ok()?;
        let left = parsed.validity().not_after.timestamp() - i64::try_from(clock.now() / 1_000_000).ok()?;
        let good = parsed.public_key().raw == key.subject_public_key_info()
            && parsed.verify_signature(Some(own.public_key())).is_ok()
            && names_in(&parsed) == names_wanted(wanted)
            && u64::try_from(left).is_ok_and(|left| left > SERVER_LEFT_MIN.as_secs());
        good.then_some(leaf)
    }

    /// A certificate for a recorder with this public key, DER `SubjectPublicKeyInfo`: client authentication only, not a CA. Also when
    /// it ends.
    ///
    /// # Errors
    /// [`Kind::Internal`] for a key of a type that recorders may not have.
    pub(super) fn recorder(
        &self,
        name: &str,
        spki: &[u8],
        life: Duration,
        clock: &Clock,
    ) -> Result<(CertificateDer<'static>, Micros)> {
        let key = SubjectPublicKeyInfo::from_der(spki).context(Kind::Internal, "not a public key")?;
        let mut params = params(name, life, clock);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let end = u64::try_from(params.not_after.unix_timestamp()).unwrap_or(0).saturating_mul(1_000_000);
        Ok((self.sign(&params, &key)?.into(), end))
    }

    fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Result<Certificate> {
        let mut params = params.clone();
        params.serial_number = Some(serial()?);
        params.signed_by(key, &self.issuer).context(Kind::Internal, "cannot issue a certificate")
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

fn server_params(names: &[String], clock: &Clock) -> Result<CertificateParams> {
    let own = [SERVER_NAME, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let names: Vec<String> = own.into_iter().chain(names.iter().cloned()).collect();
    let mut params = params(SERVER_NAME, SERVER_LIFE, clock);
    params.subject_alt_names =
        CertificateParams::new(names).context(Kind::Internal, "cannot name the server")?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn export_params(clock: &Clock) -> CertificateParams {
    let mut params = params("Aigaq export", SERVER_LIFE, clock);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(DOCUMENT_SIGNING.to_vec())];
    params
}

/// The names and addresses in a certificate.
fn names_in(certificate: &X509Certificate<'_>) -> BTreeSet<Vec<u8>> {
    let names = certificate.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
    let bytes = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => name.as_bytes().to_vec(),
        GeneralName::IPAddress(address) => address.to_vec(),
        other => other.to_string().into_bytes(),
    };
    names.map(|names| names.iter().map(bytes).collect()).unwrap_or_default()
}

fn names_wanted(params: &CertificateParams) -> BTreeSet<Vec<u8>> {
    let bytes = |name: &SanType| match name {
        SanType::IpAddress(IpAddr::V4(address)) => address.octets().to_vec(),
        SanType::IpAddress(IpAddr::V6(address)) => address.octets().to_vec(),
        SanType::DnsName(name) => name.as_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    params.subject_alt_names.iter().map(bytes).collect()
}

/// Positive, and never used before.
fn serial() -> Result<SerialNumber> {
    let mut bytes = [0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::new(Kind::Internal, "the system gives no random bytes"))?;
    let [first, ..] = &mut bytes;
    *first = (*first & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn parse_key(text: &str, path: &Path) -> Result<KeyPair> {
    KeyPair::from_pem(text).map_err(|_| Error::new(Kind::Invalid, format!("{} is not a private key", path.display())))
}

fn new_key(path: &Path) -> Result<KeyPair> {
    let key = KeyPair::generate().context(Kind::Internal, "cannot make a key")?;
    files::write(path, key.serialize_pem().as_bytes(), files::SECRET)?;
    Ok(key)
}
