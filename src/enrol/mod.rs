//! Identities: the server's own CA, the certificates it issues, and who is enrolled.
//!
//! `authority` is the CA in `DIR/ca`; `registry` knows the enrolled keys; this file has the act of enrolling. A recorder is
//! who holds the key it enrolled with: names in certificates mean nothing. Nothing here opens the store by itself, so
//! that enrolling works before the first start, while the server runs, and in between: word is left in `DIR/enrolled`.

mod authority;
mod files;
mod registry;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use aigaq_proto::{Micros, RecorderId};
use aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::HEXLOWER;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};
use crate::log;
use crate::store::records::RecorderKind;

pub use authority::{Authority, ServerIdentity};
pub(crate) use files::{SECRET, read, write};
pub use registry::Registry;

/// The name in the server's certificate, and the server name (SNI) that every recorder asks for, wherever it connects.
pub const SERVER_NAME: &str = "gateway.aigaq";

/// Where a recorder connects if it is told nothing else.
pub const SERVER_ADDRESS: &str = "127.0.0.1:4433";

/// How long a recorder's certificate is good. A year: there is no renewal over the wire; enrol again before it ends.
const RECORDER_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Who is to be enrolled.
#[derive(Debug, Clone)]
pub struct EnrolRequest {
    /// What carries the recorder.
    pub kind: RecorderKind,
    /// The department that owns it; not empty.
    pub department: String,
    /// What people call it; may be empty.
    pub label: String,
    /// `HOST:PORT` of the server for `recorder.toml`; [`SERVER_ADDRESS`] if not given.
    pub server: Option<String>,
}

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

/// `DIR/enrolled/<id>.toml`: word to the server that a recorder was enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct EnrolledFile {
    id: String,
    kind: RecorderKind,
    department: String,
    label: String,
    /// DER `SubjectPublicKeyInfo`, hexadecimal.
    spki: String,
    enrolled_at: Micros,
    /// When its certificate ends; absent where an existing CA says that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_after: Option<Micros>,
}

/// Makes a key and a certificate for a new recorder: `cert.pem`, `key.pem` (Ed25519, PKCS #8 version 1, mode 0600), `ca.pem` and
/// `recorder.toml` in `out`, and word for the server in `data`. Durable on return; a running server knows the recorder when
/// it connects.
///
/// # Errors
/// [`Kind::Invalid`] for a bad request or when `out` holds an identity already, [`Kind::Internal`] when a file cannot be
/// read or written.
pub fn enrol(data: &Path, request: EnrolRequest, out: &Path, clock: &Clock) -> Result<RecorderId> {
    check(&request)?;
    files::make_private_dir(out)?;
    let key_path = out.join("key.pem");
    if files::read(&key_path)?.is_some() {
        return Err(Error::new(Kind::Invalid, format!("{} holds an identity already", out.display())));
    }
    let authority = Authority::load_or_create(data, clock)?;
    let log_key = log::Identity::load_or_create(data)?.key();
    let key = new_key()?;
    let spki = key.subject_public_key_info();
    let id = RecorderId::of_spki(&spki);
    let certificate = authority.recorder(&id.to_string(), &key, RECORDER_LIFE, clock)?;
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
    files::write(&out.join("cert.pem"), certificate.pem().as_bytes(), files::PUBLIC)?;
    files::write(&out.join("ca.pem"), authority.pem().as_bytes(), files::PUBLIC)?;
    files::write(&out.join("recorder.toml"), text(&about)?.as_bytes(), files::PUBLIC)?;
    let word = EnrolledFile {
        id: id.to_string(),
        kind: request.kind,
        department: request.department,
        label: request.label,
        spki: HEXLOWER.encode(&spki),
        enrolled_at: clock.now(),
        not_after: Some(clock.now().saturating_add(micros(RECORDER_LIFE))),
    };
    leave_word(data, &word)?;
    Ok(id)
}

/// An Ed25519 key in version 1 of PKCS #8 (RFC 5208), without the public half: what every other tool reads. Version 2, which
/// rcgen makes, is refused by OpenSSL 3.0 and all that is built on it.
fn new_key() -> Result<KeyPair> {
    let made = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8v1());
    let der = made.map_err(|_| Error::new(Kind::Internal, "cannot make a key"))?;
    let der = PrivatePkcs8KeyDer::from(der.as_ref());
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).context(Kind::Internal, "cannot make a key")
}

fn check(request: &EnrolRequest) -> Result<()> {
    let fits = |text: &str| text.chars().count() <= 100 && !text.chars().any(char::is_control);
    if request.department.trim().is_empty() || !fits(&request.department) {
        return Err(Error::new(Kind::Invalid, "a department has a name of 1 to 100 characters on one line"));
    }
    if !request.server.as_deref().is_none_or(is_address) {
        return Err(Error::new(Kind::Invalid, "a server is HOST:PORT, such as gateway.example.org:4433"));
    }
    if !fits(&request.label) {
        return Err(Error::new(Kind::Invalid, "a label has at most 100 characters on one line"));
    }
    Ok(())
}

/// Whether the text is a host and a port: a name, an IPv4 address, or an IPv6 address in brackets.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.chars().all(is_name),
    };
    is_host && port.chars().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn leave_word(data: &Path, word: &EnrolledFile) -> Result<()> {
    let dir = data.join(registry::DIR);
    files::make_private_dir(&dir)?;
    files::write(&dir.join(format!("{}.toml", word.id)), text(word)?.as_bytes(), files::SECRET)
}

fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn text<T: Serialize>(value: &T) -> Result<String> {
    toml::to_string(value).context(Kind::Internal, "cannot write TOML")
}
