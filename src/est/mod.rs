//! What both ends of an enrolment say to one another (RFC 7030, and SPEC.md section 15): the code, the paths, the bodies.
//!
//! No I/O, no clock, no keys. The server's side is in `enrol`, the device's in `recorder`; neither needs the other.

mod code;
pub mod pkcs7;

use data_encoding::{BASE64, BASE64_MIME};
use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Kind, Result};

pub use code::{Code, Fingerprint, Secret};

/// The CA certificates.
pub const CACERTS: &str = "/.well-known/est/cacerts";
/// A first certificate, for a code.
pub const SIMPLEENROLL: &str = "/.well-known/est/simpleenroll";
/// The next certificate, for the present one.
pub const SIMPLEREENROLL: &str = "/.well-known/est/simplereenroll";
/// What a request should hold.
pub const CSRATTRS: &str = "/.well-known/est/csrattrs";
/// What the server knows of the recorder that asks; not of EST.
pub const RECORDER: &str = "/v1/recorder";

/// Content type of certificates.
pub const PKCS7: &str = "application/pkcs7-mime";
/// Content type of a certificate request.
pub const PKCS10: &str = "application/pkcs10";

/// Characters in a line of PEM.
const PEM_LINE: usize = 64;

/// Longest body that either side takes, bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// What the server tells a recorder of itself, JSON: all of `recorder.toml` but the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its identity, 32 hexadecimal digits.
    pub id: String,
    /// The server name to ask for.
    pub server_name: String,
    /// The `vkey` of the server's log.
    pub log_key: String,
    /// What carries it: `officer`, `vehicle` or `premises`.
    pub kind: String,
    /// The department that owns it.
    pub department: String,
    /// What people call it.
    pub label: String,
}

/// A body as EST sends it: base64 in lines (RFC 8951 section 3.1).
#[must_use]
pub fn to_base64(der: &[u8]) -> String {
    BASE64_MIME.encode(der)
}

/// Reads a body of EST; white space may stand anywhere.
///
/// # Errors
/// [`Kind::Invalid`] for anything but base64.
pub fn from_base64(body: &[u8]) -> Result<Vec<u8>> {
    let dense: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64.decode(&dense).context(Kind::Invalid, "the body is not base64 of DER (no PEM lines, no raw bytes)")
}

/// A certificate as PEM (RFC 7468).
#[must_use]
pub fn to_pem(certificate: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let body = BASE64.encode(certificate);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_reads_back_from_its_pem() {
        use rustls_pki_types::CertificateDer;
        use rustls_pki_types::pem::PemObject as _;
        for length in [1, 47, 48, 49, 96, 500] {
            let der = vec![7; length];
            assert_eq!(CertificateDer::from_pem_slice(to_pem(&der).as_bytes()).unwrap().as_ref(), der);
        }
    }

    #[test]
    fn a_body_reads_back_in_one_line_and_in_many() {
        let der: Vec<u8> = (0..=255).collect();
        let text = to_base64(&der);
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.len() <= 76));
        assert_eq!(from_base64(text.as_bytes()).unwrap(), der);
        assert_eq!(from_base64(text.replace("\r\n", "").as_bytes()).unwrap(), der);
        for bad in ["-----BEGIN", "AAA", "AAAA=", "\u{1}"] {
            assert_eq!(from_base64(bad.as_bytes()).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }
}
