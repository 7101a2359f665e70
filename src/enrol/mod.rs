//! Identities: the CA that issues, who is enrolled, how devices enrol and renew, and how an identity is taken back.
//!
//! A recorder is who holds the key it enrolled with: names in certificates mean nothing. The path of a device: a person makes a code
//! (`codes`) → the device asks on the listener ([`router`]) → `csr` (what of its request counts) → `authority` (issues) → [`Registry`]
//! (who is enrolled) → [`Verifier`] (every handshake, with [`Trust`] for where chains lead). The command line never opens the store:
//! it leaves `words`, so that it works before the first start, while the server runs, and in between.
//!
//! Why a listener of its own beside the API: recorders reach it from anywhere, with the address that they know for QUIC and the CA
//! that they trust for it; the API stays where the control centre put it, with the certificate that browsers trust.

mod authority;
mod codes;
mod csr;
mod files;
mod listener;
mod metrics;
mod offline;
mod registry;
mod serving;
#[cfg(test)]
mod tests;
mod trust;
mod verifier;
mod words;

use std::path::PathBuf;
use std::time::Duration;

use aigaq_proto::Micros;
use serde::Serialize;

use crate::error::{Context as _, Error, Kind, Result};
use crate::store::records::RecorderKind;

pub use authority::{Authority, IssuerFiles, ServerIdentity};
pub(crate) use files::{SECRET, read, write};
pub use listener::{Desk, Office, router};
pub use metrics::Metrics;
pub use offline::{RecorderFile, Revocation, check_revocation, enrol, make_code, register, revocation, revoke};
pub use registry::{NoEntry, Registry};
pub use serving::Serving;
pub use trust::{Trust, anchors};
pub use verifier::{ServerTime, Verifier};

/// The name in the server's certificate, and the server name (SNI) that every recorder asks for, wherever it connects.
pub const SERVER_NAME: &str = "gateway.aigaq";

/// Where a recorder connects if it is told nothing else.
pub const SERVER_ADDRESS: &str = "127.0.0.1:4433";

/// How identities are given. Made by [`Settings::default`] and changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a recorder's certificate is good: 30 days. It renews by itself at two thirds.
    pub certificate_life: Duration,
    /// What the server is called in its certificate beside its own names.
    pub names: Vec<String>,
    /// An intermediate of an existing CA, which then issues instead of the own CA.
    pub issuer: Option<IssuerFiles>,
    /// Certificates of an existing CA, PEM: recorders with enrolled keys may come with certificates of it.
    pub trust_anchors: Option<PathBuf>,
    /// Its revocation lists, PEM or DER.
    pub crl: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            certificate_life: Duration::from_secs(30 * 24 * 60 * 60),
            names: Vec::new(),
            issuer: None,
            trust_anchors: None,
            crl: None,
        }
    }
}

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

fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn text<T: Serialize>(value: &T) -> Result<String> {
    toml::to_string(value).context(Kind::Internal, "cannot write TOML")
}
