//! What makes an ID token good (OpenID Connect Core section 3.1.3.7): the signature by a key of the provider, and every claim.
//!
//! Pure: keys, token and time are handed in. The algorithm is one of a list of ours and fits the key that the token names; the token
//! never chooses how it is checked.

use aigaq_proto::Micros;
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

/// Algorithms that are believed: signatures with a key that only the provider has.
const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
/// How far the provider's clock may be off, seconds.
const LEEWAY_S: u64 = 30;
/// Keys of a provider that are looked at.
const KEYS_MAX: usize = 50;
/// Longest subject, characters (OpenID Connect Core section 2).
const SUBJECT_CHARS_MAX: usize = 255;

/// What a token has to say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) now: Micros,
}

/// One or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// What a token says.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    iss: String,
    sub: String,
    aud: OneOrMany,
    exp: u64,
    iat: u64,
    nonce: Option<String>,
    azp: Option<String>,
    nbf: Option<u64>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl Claims {
    /// Whom the provider knows by this name for ever; nothing that controls how a text is shown.
    pub(super) fn subject(&self) -> &str {
        &self.sub
    }

    /// The groups in a claim: a text, or several.
    pub(super) fn groups(&self, claim: &str) -> Vec<String> {
        match self.more.get(claim) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        }
    }

    fn check(&self, expected: &Expected<'_>) -> Result<(), &'static str> {
        let now = expected.now / 1_000_000;
        let audience = self.aud.all();
        let is_nonce = |nonce: &String| bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes()));
        let subject_fits =
            (1..=SUBJECT_CHARS_MAX).contains(&self.sub.len()) && self.sub.bytes().all(|byte| byte.is_ascii_graphic());
        match () {
            () if self.iss != expected.issuer => Err("another issuer"),
            () if !audience.iter().any(|one| one == expected.client_id) => Err("for another client"),
            () if audience.len() > 1 && self.azp.is_none() => Err("for several clients, without azp"),
            () if self.azp.as_ref().is_some_and(|azp| azp != expected.client_id) => Err("azp is another client"),
            () if now >= self.exp.saturating_add(LEEWAY_S) => Err("expired"),
            () if self.iat > now.saturating_add(LEEWAY_S) => Err("issued in the future"),
            () if self.nbf.is_some_and(|nbf| nbf > now.saturating_add(LEEWAY_S)) => Err("not good yet"),
            () if !self.nonce.as_ref().is_some_and(is_nonce) => Err("another nonce"),
            () if !subject_fits => Err("a subject that is none"),
            () => Ok(()),
        }
    }
}

/// The keys of a provider.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(Vec<Jwk>);

impl Keys {
    /// Those of a JWK set (RFC 7517) that can check a signature here.
    pub(super) fn read(set: &Value) -> Self {
        let all = set.get("keys").and_then(Value::as_array).into_iter().flatten().take(KEYS_MAX);
        let read = all.filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
        let signs = |key: &Jwk| matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
        Self(read.filter(signs).collect())
    }

    /// Whether the key that a token names is among them.
    pub(super) fn know(&self, token: &str) -> bool {
        jsonwebtoken::decode_header(token).is_ok_and(|header| self.find(header.kid.as_deref()).is_some())
    }

    fn find(&self, name: Option<&str>) -> Option<&Jwk> {
        match name {
            Some(name) => self.0.iter().find(|key| key.common.key_id.as_deref() == Some(name)),
            // Without a name there is no choice.
            None => self.0.first().filter(|_| self.0.len() == 1),
        }
    }

    /// What a token says, if it is good.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn verify(&self, token: &str, expected: &Expected<'_>) -> Result<Claims, &'static str> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| "not a token")?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err("signed with an algorithm that is not allowed");
        }
        let key = self.find(header.kid.as_deref()).ok_or("signed with a key that the provider does not have")?;
        let fits = |algorithm: KeyAlgorithm| algorithm.to_string() == format!("{:?}", header.alg);
        if !key.common.key_algorithm.is_none_or(fits) {
            return Err("signed with another algorithm than the key is for");
        }
        let mut validation = Validation::new(header.alg);
        // Every claim is checked below, against our clock.
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let key = DecodingKey::from_jwk(key).map_err(|_| "signed with a key of no use here")?;
        let token = jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|_| "the signature is wrong")?;
        token.claims.check(expected).map(|()| token.claims)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW_S: u64 = 1_768_641_240;

    fn check(change: impl FnOnce(&mut Value)) -> Result<(), &'static str> {
        let mut claims = json!({
            "iss": "https://id.example", "sub": "anna", "aud": "aigaq", "exp": NOW_S + 60, "iat": NOW_S, "nonce": "n1",
            "groups": ["a", "b"], "role": "c"
        });
        change(&mut claims);
        let claims: Claims = serde_json::from_value(claims).map_err(|_| "does not read")?;
        let now = NOW_S * 1_000_000;
        claims.check(&Expected { issuer: "https://id.example", client_id: "aigaq", nonce: "n1", now })
    }

    #[test]
    fn every_claim_counts() {
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(check(|claims| claims["aud"] = json!(["aigaq"])), Ok(()));
        assert_eq!(check(|claims| claims["exp"] = json!(NOW_S - 29)), Ok(()), "clocks are not exact");
        let both = |claims: &mut Value| (claims["aud"], claims["azp"]) = (json!(["x", "aigaq"]), json!("aigaq"));
        assert_eq!(check(both), Ok(()));
        for (key, value, why) in [
            ("iss", json!("https://id.example/"), "another issuer"),
            ("aud", json!("other"), "for another client"),
            ("aud", json!([]), "for another client"),
            ("aud", json!(["aigaq", "other"]), "for several clients, without azp"),
            ("azp", json!("other"), "azp is another client"),
            ("exp", json!(NOW_S - 30), "expired"),
            ("iat", json!(NOW_S + 31), "issued in the future"),
            ("nbf", json!(NOW_S + 31), "not good yet"),
            ("nonce", json!("n2"), "another nonce"),
            ("nonce", json!(null), "another nonce"),
            ("sub", json!(""), "a subject that is none"),
            ("sub", json!("two words"), "a subject that is none"),
            ("exp", json!(null), "does not read"),
        ] {
            assert_eq!(check(|claims| claims[key] = value.clone()), Err(why), "{key}: {value}");
        }
    }

    #[test]
    fn a_token_without_a_signature_or_with_one_that_anybody_can_make_is_none() {
        let keys = Keys::read(&json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0", "kid": "a" }] }));
        let expected = Expected { issuer: "i", client_id: "c", nonce: "n", now: 0 };
        let encoded = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
        for header in
            [r#"{"alg":"none","kid":"a"}"#, r#"{"alg":"HS256","kid":"a"}"#, r#"{"alg":"RS256","kid":"b"}"#, "{}"]
        {
            let token = format!("{}.{}.{}", encoded(header), encoded("{}"), encoded("x"));
            assert!(keys.verify(&token, &expected).is_err(), "{header}");
        }
        assert!(keys.verify("", &expected).is_err() && keys.verify("a.b.c", &expected).is_err());
    }
}
