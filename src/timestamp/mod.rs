//! Time stamps of RFC 3161: how an authority is asked for one, and how its answer is checked. Pure: no network, no clock, no files.
//!
//! The path of an answer: [`Question`] (what is asked for) → [`Token`] (`token`: status, what was stamped, nonce, signature, the
//! certificate that the signature names) → [`Token::leads`] (the purpose of that certificate, and its way to an authority that is
//! believed, at the time of the stamp).
//!
//! CMS is read by the crate `cms`; the few types of RFC 3161 around and within it are read here (`asn1`), because what authorities
//! send goes beyond the DER of the crates for it: fractions of a second. Nothing that a token says is believed before its
//! signature is checked.

mod asn1;
mod token;

use aws_lc_rs::digest::{SHA256, digest};

use crate::error::{Context as _, Kind, Result};

pub use token::Token;

/// Media type of a question and of an answer.
pub const QUERY: &str = "application/timestamp-query";
/// Media type of an answer.
pub const REPLY: &str = "application/timestamp-reply";
/// Longest answer that is looked at, bytes.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;

/// Why an answer is no time stamp, or none that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not an answer of RFC 3161.
    Malformed,
    /// The authority grants no stamp.
    NotGranted,
    /// It stamps something else.
    Imprint,
    /// It answers another question.
    Nonce,
    /// Its signature is not by the certificate that it names, or the two do not belong together.
    Signature,
    /// The certificate is not for time stamps, and for them alone.
    Usage,
    /// The certificate, or one on its way, was not valid at the time of the stamp.
    Expired,
    /// Its way leads to no authority that is believed.
    Untrusted,
    /// Its time is not that of our clock.
    Time,
}

impl Refusal {
    /// Its name in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotGranted => "not_granted",
            Self::Imprint => "imprint",
            Self::Nonce => "nonce",
            Self::Signature => "signature",
            Self::Usage => "usage",
            Self::Expired => "expired",
            Self::Untrusted => "untrusted",
            Self::Time => "time",
        }
    }

    /// The same for people.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Malformed => "it is not an answer of RFC 3161",
            Self::NotGranted => "the authority grants no time stamp",
            Self::Imprint => "it stamps something else",
            Self::Nonce => "it answers another question",
            Self::Signature => "its signature is not by the certificate that it names",
            Self::Usage => "its certificate is not for time stamps alone",
            Self::Expired => "its certificate was not valid at the time of the stamp",
            Self::Untrusted => "nothing that is trusted leads to its certificate",
            Self::Time => "its time is not that of this clock",
        }
    }
}

/// What an authority is asked: to stamp the SHA-256 of something, with a nonce, and to send its certificate along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    imprint: [u8; 32],
    nonce: u64,
}

impl Question {
    /// A question about `stamped`. The nonce is to be random.
    #[must_use]
    pub fn new(stamped: &[u8], nonce: u64) -> Self {
        let mut imprint = [0; 32];
        imprint.copy_from_slice(digest(&SHA256, stamped).as_ref());
        Self { imprint, nonce }
    }

    /// What is sent.
    ///
    /// # Errors
    /// [`Kind::Internal`] if it does not encode, which does not happen.
    pub fn to_der(&self) -> Result<Vec<u8>> {
        asn1::request(&self.imprint, self.nonce).context(Kind::Internal, "a question for a time stamp does not encode")
    }

    /// Reads the answer to this question: a token by the certificate that it names, over what was asked about.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(&self, answer: &[u8]) -> Result<Token, Refusal> {
        let token = Token::read(answer, &self.imprint)?;
        if token.has_nonce(self.nonce) { Ok(token) } else { Err(Refusal::Nonce) }
    }
}
