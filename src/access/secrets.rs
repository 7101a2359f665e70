//! Secrets: how they are made, what is kept of them, how one that is shown is compared.
//!
//! What people choose is hashed with argon2id, each under a salt of its own; what is made here has 256 random bits and is kept as its
//! SHA-256. Comparing takes the same work whether there is something to compare with or not.

use aigaq_proto::Digest;
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use subtle::ConstantTimeEq as _;

use crate::error::{Error, Kind, Result};
use crate::store::records::Secret;

/// Random bytes in a secret that is made here.
const RANDOM_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// Length of a password, characters. A longer one than the most costs no more to hash.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 12..=256;

/// A new secret: 64 hexadecimal digits.
///
/// # Errors
/// [`Kind::Internal`] without randomness.
pub fn random() -> Result<String> {
    let mut bytes = [0; RANDOM_BYTES];
    fill(&mut bytes)?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| Error::new(Kind::Internal, "no random bytes are to be had"))
}

/// What is kept of a password. Takes some ten milliseconds and 19 MiB.
///
/// # Errors
/// [`Kind::Invalid`] if it is too short or too long.
pub(super) fn hash(password: &str) -> Result<Secret> {
    if !PASSWORD_CHARS.contains(&password.chars().count()) {
        let (least, most) = (PASSWORD_CHARS.start(), PASSWORD_CHARS.end());
        return Err(Error::new(Kind::Invalid, format!("a password has {least} to {most} characters")));
    }
    let mut salt = [0; SALT_BYTES];
    fill(&mut salt)?;
    let failed = |error: argon2::password_hash::Error| {
        Error::new(Kind::Internal, "the password cannot be hashed").because(error.to_string())
    };
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(failed)?;
    Ok(Secret::Password(hash.to_string()))
}

/// The hash of nothing that anybody knows: what is compared with where there is no password.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Whether this is the password.
pub(super) fn is_password(shown: &str, kept: Option<&Secret>) -> bool {
    let (hash, there) = match kept {
        Some(Secret::Password(hash)) => (hash.as_str(), true),
        _ => (NOBODYS, false),
    };
    let long = shown.chars().count() > *PASSWORD_CHARS.end();
    let shown = if long { "" } else { shown };
    let is =
        PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(shown.as_bytes(), &hash).is_ok());
    is && there && !long
}

/// Whether this is the secret.
pub(super) fn is_secret(shown: &str, kept: Option<&Secret>) -> bool {
    let there = matches!(kept, Some(Secret::Digest(_)));
    let kept = if let Some(Secret::Digest(digest)) = kept { *digest } else { Digest::ZERO };
    bool::from(kept.0.ct_eq(&Digest::of(shown.as_bytes()).0)) && there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_what_was_hashed_and_nothing_else() {
        let kept = hash("correct horse battery").unwrap();
        assert!(is_password("correct horse battery", Some(&kept)));
        for shown in ["correct horse batterz", "", &"x".repeat(1_000)] {
            assert!(!is_password(shown, Some(&kept)));
            assert!(!is_password(shown, None) && !is_password(shown, Some(&Secret::Digest(Digest::of(b"")))));
        }
        let Secret::Password(text) = &kept else { panic!("{kept:?}") };
        let work = |text: &str| text.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(work(text), work(NOBODYS), "comparing with nothing is the same work");
        assert!(PasswordHash::new(NOBODYS).is_ok());
        assert_ne!(hash("correct horse battery").unwrap(), kept, "each has a salt of its own");
        for wrong in ["short", &"x".repeat(257)] {
            assert_eq!(hash(wrong).unwrap_err().kind(), Kind::Invalid);
        }
    }

    #[test]
    fn a_secret_is_compared_with_what_is_kept_of_it() {
        let secret = random().unwrap();
        let kept = Secret::Digest(Digest::of(secret.as_bytes()));
        assert!(is_secret(&secret, Some(&kept)));
        assert!(!is_secret(&random().unwrap(), Some(&kept)) && !is_secret(&secret, None));
        assert!(!is_secret("x", Some(&hash("correct horse battery").unwrap())));
    }
}
