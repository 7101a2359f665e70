//! How a message is signed (Standard Webhooks 1.0): HMAC-SHA256 over its id, the time of the attempt and its body. Pure.

use aws_lc_rs::hmac;
use data_encoding::BASE64;

use crate::error::{Error, Kind, Result};

/// What a secret begins with where people see it.
const PREFIX: &str = "whsec_";
/// Bytes of a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret as people see it.
#[must_use]
pub fn shown(secret: &[u8]) -> String {
    format!("{PREFIX}{}", BASE64.encode(secret))
}

/// Reads what [`shown`] made.
///
/// # Errors
/// [`Kind::Invalid`] for anything else; nothing of it is told again.
pub fn secret(text: &str) -> Result<Vec<u8>> {
    let read = text.trim().strip_prefix(PREFIX).and_then(|text| BASE64.decode(text.as_bytes()).ok());
    read.filter(|secret| SECRET_BYTES.contains(&secret.len()))
        .ok_or_else(|| Error::new(Kind::Invalid, "the secret of a webhook is whsec_ and the base64 of 24 to 64 bytes"))
}

/// The header `webhook-signature` of a message.
#[must_use]
pub fn signature(secret: &[u8], id: &str, seconds: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{id}.{seconds}.").as_bytes());
    context.update(body);
    format!("v1,{}", BASE64.encode(context.sign().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_signed_as_the_reference_implementations_sign_it() {
        // The example of the libraries of Standard Webhooks.
        let secret = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_reads_back_and_what_is_none_is_refused() {
        assert_eq!(secret(&shown(&[7; 32])).unwrap(), [7; 32]);
        for wrong in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!"] {
            let refused = secret(wrong).unwrap_err();
            assert!(wrong.is_empty() || !refused.to_string().contains("short"), "{wrong}");
        }
    }
}
