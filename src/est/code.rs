//! An enrolment code: `SECRET.FINGERPRINT`, what a person gives a device once instead of a secret that lasts.
//!
//! ```text
//! 7K3M-9QXT-02FD-HPVA.C4ZN-8W1R-5JTE-GG0B-YX6S-2M9K
//! secret, 80 bits     the first 120 bits of SHA-256 over the CA's certificate, DER
//! ```
//!
//! Base 32 after Crockford: no letter that looks like a digit, and I, L and O are read as 1, 1 and 0; small letters and missing or
//! other hyphens are no fault. All of it is in the alphanumeric set of QR codes. With the fingerprint a device knows the server
//! before it says the secret. The secret is random, so its digest may be kept where it must not be known; it has no `Debug`.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use aigaq_proto::Digest;
use data_encoding::{Encoding, Specification};

use crate::error::{Context as _, Error, Kind, Result};

/// Sets the digest of a secret apart from every other digest.
const DOMAIN: &[u8] = b"aigaq enrolment code\n";
const SECRET_BYTES: usize = 10;
const FINGERPRINT_BYTES: usize = 15;
/// Characters between hyphens.
const GROUP: usize = 4;

static CROCKFORD: LazyLock<Option<Encoding>> = LazyLock::new(|| {
    let mut of = Specification::new();
    of.symbols.push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    of.translate.from.push_str("abcdefghjkmnpqrstvwxyzIiLlOo");
    of.translate.to.push_str("ABCDEFGHJKMNPQRSTVWXYZ111100");
    of.ignore.push_str("- ");
    of.encoding().ok()
});

/// What a code proves its holder's right with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

/// Which CA the device will meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

/// A whole code.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    /// What it proves its holder's right with.
    pub secret: Secret,
    /// Which CA the device will meet.
    pub ca: Fingerprint,
}

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the system gives no random bytes.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_| Error::new(Kind::Internal, "the system gives no random bytes"))?;
        Ok(Self(bytes))
    }

    /// The secret in the password of a request: the first part of a code, or the whole code.
    ///
    /// # Errors
    /// [`Kind::Unauthorised`] for anything else.
    pub fn of_password(password: &str) -> Result<Self> {
        let part = password.split_once('.').map_or(password, |(secret, _)| secret);
        decode(part).map(Self).ok_or_else(|| Error::new(Kind::Unauthorised, "the password is not an enrolment code"))
    }

    /// What is kept of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&[DOMAIN, &self.0].concat())
    }

    /// As it is said.
    #[must_use]
    pub fn text(&self) -> String {
        encode(&self.0)
    }
}

impl Fingerprint {
    /// The fingerprint of a certificate, DER.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        let mut bytes = [0; FINGERPRINT_BYTES];
        let Digest(digest) = Digest::of(certificate);
        bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(bytes)
    }
}

impl Code {
    /// The code as a person gets it.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}.{}", self.secret.text(), encode(&self.ca.0))
    }
}

impl FromStr for Code {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.trim().split_once('.').and_then(|(secret, ca)| Some((decode(secret)?, decode(ca)?)));
        let wanted = "an enrolment code has four groups of four characters, a dot, and six more groups";
        parts
            .map(|(secret, ca)| Self { secret: Secret(secret), ca: Fingerprint(ca) })
            .ok_or_else(|| Error::new(Kind::Invalid, wanted))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code")
    }
}

fn encode(bytes: &[u8]) -> String {
    let symbols: Vec<char> = CROCKFORD.as_ref().map(|of| of.encode(bytes)).unwrap_or_default().chars().collect();
    let groups: Vec<String> = symbols.chunks(GROUP).map(|group| group.iter().collect()).collect();
    groups.join("-")
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = CROCKFORD.as_ref()?.decode(text.as_bytes()).context(Kind::Invalid, "not base 32").ok()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_back_also_when_it_was_said_aloud() {
        let code = Code { secret: Secret::random().unwrap(), ca: Fingerprint::of(b"a certificate") };
        let text = code.text();
        assert_eq!(text.len(), 4 * 4 + 3 + 1 + 6 * 4 + 5);
        let qr = |c: char| c.is_ascii_digit() || c.is_ascii_uppercase() || "-.".contains(c);
        assert!(text.chars().all(qr), "{text}");
        let heard = text.to_lowercase().replace('-', " ").replace('1', "l").replace('0', "o");
        assert!(heard.parse::<Code>().unwrap() == code, "{text} was heard as {heard}");
        assert!(Secret::of_password(&text).unwrap() == code.secret);
        assert!(Secret::of_password(&code.secret.text()).unwrap() == code.secret);
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let good = Code { secret: Secret([7; 10]), ca: Fingerprint([9; 15]) }.text();
        let (secret, ca) = good.split_once('.').unwrap();
        for bad in ["", ".", secret, ca, &good[1..], &good[..good.len() - 1], &format!("{good}0"), "U.U"] {
            assert_eq!(bad.parse::<Code>().unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
        assert_eq!(Secret::of_password("hunter2").err().unwrap().kind(), Kind::Unauthorised);
    }
}
