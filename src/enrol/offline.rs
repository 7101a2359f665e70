//! What the command line does, with or without a running server: whole identities for devices that cannot enrol themselves, codes for
//! those that can, keys that an existing CA has certified, and revocations.
//!
//! Everything is durable on return. What the server must know is left as a word (`words`) or a code (`codes`).

use std::path::Path;
use std::time::Duration;

use aigaq_proto::RecorderId;
use aigaq_proto::signature::PublicKey;
use aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::HEXLOWER;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::words::{Enrolled, Revoked};
use super::{Authority, EnrolRequest, SERVER_ADDRESS, SERVER_NAME, Settings, check, codes, files, text};
use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};
use crate::est::{self, Code, Fingerprint};
use crate::log;
use crate::store::records::RecorderKind;
use crate::store::{self, Store};

/// `recorder.toml`: what a recorder knows of itself and of its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderFile {
    /// The recorder's identity, as the server prints it.
    pub id: String,
    /// `HOST:PORT` of the server.
    pub server: String,
    /// The server name to ask for.
    pub server_name: String,
    /// The `vkey` of the server's log: receipts are checked with it.
    pub log_key: String,
    /// What carries the recorder.
    pub kind: RecorderKind,
    /// The department that owns it.
    pub department: String,
    /// What people call it.
    pub label: String,
}

/// Makes a key and a certificate for a new recorder: `cert.pem`, `key.pem` (Ed25519, PKCS #8 version 1, mode 0600), `ca.pem` and
/// `recorder.toml` in `out`, and word for the server in `data`. A running server knows the recorder when it connects. The
/// certificate lives as long as any other: the recorder renews it.
///
/// # Errors
/// [`Kind::Invalid`] for a bad request or when `out` holds an identity already, [`Kind::Internal`] when a file cannot be
/// read or written.
pub fn enrol(data: &Path, request: EnrolRequest, out: &Path, settings: &Settings, clock: &Clock) -> Result<RecorderId> {
    check(&request)?;
    files::make_private_dir(out)?;
    let key_path = out.join("key.pem");
    if files::read(&key_path)?.is_some() {
        return Err(Error::new(Kind::Invalid, format!("{} holds an identity already", out.display())));
    }
    let authority = authority(data, settings, clock)?;
    let log_key = log::Identity::load_or_create(data)?.key();
    let key = new_key()?;
    let spki = key.subject_public_key_info();
    let id = RecorderId::of_spki(&spki);
    let (certificate, end) = authority.recorder(&id.to_string(), &spki, settings.certificate_life, clock)?;
    let about = RecorderFile {
        id: id.to_string(),
        server: request.server.unwrap_or_else(|| SERVER_ADDRESS.to_owned()),
        server_name: SERVER_NAME.to_owned(),
        log_key: log_key.as_str().to_owned(),
        kind: request.kind,
        department: request.department.clone(),
        label: request.label.clone(),
    };
    files::write(&key_path, key.serialize_pem().as_bytes(), files::SECRET)?;
    files::write(&out.join("cert.pem"), est::to_pem(&certificate).as_bytes(), files::PUBLIC)?;
    files::write(&out.join("ca.pem"), est::to_pem(authority.anchor()).as_bytes(), files::PUBLIC)?;
    files::write(&out.join("recorder.toml"), text(&about)?.as_bytes(), files::PUBLIC)?;
    word(request.kind, request.department, request.label, &spki, Some(end), clock).leave(data)?;
    Ok(id)
}

/// Makes an enrolment code that lives for `life`. A running server takes it at once.
///
/// # Errors
/// [`Kind::Invalid`] for a bad request, [`Kind::Internal`] when a file cannot be read or written.
pub fn make_code(
    data: &Path,
    request: EnrolRequest,
    life: Duration,
    settings: &Settings,
    clock: &Clock,
) -> Result<Code> {
    let authority = authority(data, settings, clock)?;
    codes::make(data, request, life, Fingerprint::of(authority.anchor()), clock)
}

/// Enrols the key in a certificate that an existing CA made, PEM. The server must trust that CA to let it in.
///
/// # Errors
/// [`Kind::Invalid`] for a bad request or a certificate that no recorder may have, [`Kind::Internal`] when a file cannot be written.
pub fn register(data: &Path, request: EnrolRequest, certificate: &Path, clock: &Clock) -> Result<RecorderId> {
    check(&request)?;
    let wrong = |why: &str| Error::new(Kind::Invalid, format!("{}: {why}", certificate.display()));
    let leaf = CertificateDer::from_pem_file(certificate).map_err(|error| wrong("cannot be read").because(error))?;
    let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|_| wrong("is not a certificate"))?;
    if parsed.is_ca() {
        return Err(wrong("is a CA's certificate"));
    }
    let spki = parsed.public_key().raw;
    PublicKey::from_spki(spki).map_err(|_| wrong("its key must be Ed25519, or P-256 as an uncompressed point"))?;
    files::make_private_dir(data)?;
    word(request.kind, request.department, request.label, spki, None, clock).leave(data)?;
    Ok(RecorderId::of_spki(spki))
}

/// Takes the identity of a recorder back, for ever: leaves word of it. A running server takes it in within seconds and closes the
/// recorder's connection; another does it at its start. Whether it did, [`revocation`] tells.
///
/// # Errors
/// [`Kind::Invalid`] for a reason that is too long or `data` that is no directory, [`Kind::Internal`] when a file cannot be written.
pub fn revoke(data: &Path, id: RecorderId, reason: &str) -> Result<()> {
    if reason.chars().count() > 500 || reason.chars().any(char::is_control) {
        return Err(Error::new(Kind::Invalid, "a reason has at most 500 characters on one line"));
    }
    if !data.is_dir() {
        return Err(Error::new(Kind::Invalid, format!("there is no data directory {}", data.display())));
    }
    Revoked { id: id.to_string(), reason: reason.to_owned() }.leave(data)
}

/// What has become of the word that [`revoke`] left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// It waits for a server.
    Waits,
    /// The server has taken it in: the recorder is revoked.
    Taken,
    /// The server knows no such recorder.
    Unknown,
}

/// What has become of the word that was left for this recorder. That it is unknown is told once.
///
/// # Errors
/// [`Kind::Internal`] when the directory cannot be read or written.
pub fn revocation(data: &Path, id: RecorderId) -> Result<Revocation> {
    if Revoked::waits(data, id) {
        return Ok(Revocation::Waits);
    }
    Ok(if Revoked::take_refusal(data, id)? { Revocation::Unknown } else { Revocation::Taken })
}

/// Takes back the word of a revocation that no server has seen, if the recorder was never enrolled in `data`. For a directory
/// that no server uses. Blocks.
///
/// # Errors
/// [`Kind::NotFound`] then, and those of the store.
pub fn check_revocation(data: &Path, id: RecorderId) -> Result<()> {
    let dir = data.join(store::DIR);
    let enrolled = Enrolled::waits(data, id)
        || (Store::exists(&dir) && Store::open_read_only(&dir, &store::Settings::default())?.recorder(id)?.is_some());
    if enrolled {
        return Ok(());
    }
    Revoked::take_back(data, id)?;
    Err(Error::new(Kind::NotFound, format!("{id} was never enrolled here")))
}

fn authority(data: &Path, settings: &Settings, clock: &Clock) -> Result<Authority> {
    let authority = Authority::open(data, settings.issuer.as_ref(), clock)?;
    authority.check_announced(data)?;
    Ok(authority)
}

fn word(
    kind: RecorderKind,
    department: String,
    label: String,
    spki: &[u8],
    not_after: Option<aigaq_proto::Micros>,
    clock: &Clock,
) -> Enrolled {
    let id = RecorderId::of_spki(spki).to_string();
    Enrolled { id, kind, department, label, spki: HEXLOWER.encode(spki), enrolled_at: clock.now(), not_after }
}

/// An Ed25519 key in version 1 of PKCS #8 (RFC 5208), without the public half: what every other tool reads. Version 2, which
/// rcgen makes, is refused by OpenSSL 3.0 and all that is built on it.
fn new_key() -> Result<KeyPair> {
    let made = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8v1());
    let der = made.map_err(|_| Error::new(Kind::Internal, "cannot make a key"))?;
    let der = PrivatePkcs8KeyDer::from(der.as_ref());
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).context(Kind::Internal, "cannot make a key")
}
