//! Signing in with a provider of OpenID Connect: authorisation code with PKCE (RFC 7636), state and nonce.
//!
//! Promises: an answer of the provider is good once, within ten minutes, in the browser that asked; a token is believed only if the
//! provider's key of today signed it with an algorithm that is allowed here, for this client, for this very question, and has not
//! expired. Roles come from groups that the site has named; whoever is in none has none. Neither code nor token is ever logged.

mod claims;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use aigaq_proto::{Digest, Micros};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::{Method, Request, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq as _;
use url::Url;

use super::secrets;
use super::{Proven, Refused};
use crate::error::{Context as _, Error, Kind, Result};
use crate::http::Client;
use crate::store::records::Grant;
use claims::{Expected, Keys};

/// How long somebody may take at the provider, microseconds.
const PENDING_US: Micros = 10 * 60 * 1_000_000;
/// Sign-ins that may be under way; beyond it the oldest is given up.
const PENDING_MAX: usize = 1_000;
/// What the provider says of itself is asked again after so long; its keys also when one is not known, but not more often than that.
const DISCOVERY_US: Micros = 60 * 60 * 1_000_000;
const KEYS_US: Micros = 5 * 1_000_000;

/// Which provider, and what its groups mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its issuer identifier.
    pub issuer: Url,
    /// What this site is called there.
    pub client_id: String,
    /// The file with the secret of this site, if the provider gave it one.
    pub secret_file: Option<PathBuf>,
    /// Where the provider sends people back to: the API's `/v1/sign-in/oidc/callback` as browsers reach it.
    pub redirect: Url,
    /// Certificates of the CAs that vouch for it.
    pub ca: Option<PathBuf>,
    /// What is asked for beside `openid`.
    pub scopes: String,
    /// The claim that has the groups.
    pub groups_claim: String,
    /// Which roles a group has.
    pub groups: BTreeMap<String, Vec<Grant>>,
}

/// What the provider says of itself (OpenID Connect Discovery section 3).
#[derive(Debug, Clone, Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
}

/// A sign-in that waits for the provider's answer.
struct Pending {
    began_at: Micros,
    /// Digest of what the browser was given.
    browser: Digest,
    nonce: String,
    verifier: String,
}

/// Where a browser is sent, and what it has to bring back.
pub(super) struct Departure {
    /// The provider, with the question.
    pub location: String,
    /// For a cookie.
    pub browser: String,
}

/// The answer of the provider, as the browser brings it.
#[derive(Deserialize)]
pub struct Arrival {
    /// Which question it answers.
    pub state: Option<String>,
    /// What the token is given for.
    pub code: Option<String>,
    /// Who answers (RFC 9207).
    pub iss: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: String,
}

/// A provider.
pub(super) struct Provider {
    settings: Settings,
    secret: Option<String>,
    client: Client,
    discovery: Mutex<Option<(Micros, Discovery)>>,
    keys: Mutex<Option<(Micros, Keys)>>,
    pending: Mutex<HashMap<Digest, Pending>>,
}

impl Provider {
    /// The provider of these settings; it is not asked before somebody signs in.
    pub(super) fn new(settings: Settings) -> Result<Self> {
        let client = Client::new(settings.ca.as_deref(), "access.oidc_ca")?;
        let read = |path: &PathBuf| {
            let unreadable = || format!("cannot read {} (access.oidc_secret_file)", path.display());
            std::fs::read_to_string(path).map(|text| text.trim().to_owned()).context(Kind::Invalid, unreadable())
        };
        let secret = settings.secret_file.as_ref().map(read).transpose()?;
        let (discovery, keys, pending) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Self { settings, secret, client, discovery, keys, pending })
    }

    /// Whether browsers reach this site by HTTPS.
    pub(super) fn is_secure(&self) -> bool {
        self.settings.redirect.scheme() == "https"
    }

    /// Sends a browser to the provider.
    pub(super) async fn depart(&self, now: Micros) -> Result<Departure> {
        let discovery = self.discover(now).await?;
        let (state, nonce, browser, verifier) =
            (secrets::random()?, secrets::random()?, secrets::random()?, secrets::random()?);
        let mut location = discovery.authorization_endpoint;
        location
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", self.settings.redirect.as_str())
            .append_pair("scope", format!("openid {}", self.settings.scopes).trim())
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &BASE64URL_NOPAD.encode(&Digest::of(verifier.as_bytes()).0))
            .append_pair("code_challenge_method", "S256");
        let pending = Pending { began_at: now, browser: Digest::of(browser.as_bytes()), nonce, verifier };
        let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, pending| now.saturating_sub(pending.began_at) < PENDING_US);
        if all.len() >= PENDING_MAX {
            let oldest = all.iter().min_by_key(|(_, pending)| pending.began_at).map(|(state, _)| *state);
            oldest.map(|oldest| all.remove(&oldest));
        }
        all.insert(Digest::of(state.as_bytes()), pending);
        Ok(Departure { location: location.into(), browser })
    }

    /// Who came back.
    pub(super) async fn arrive(&self, arrival: Arrival, browser: &str, now: Micros) -> Result<Proven, Refused> {
        let state = arrival.state.ok_or(Refused::Wrong)?;
        // Taken out whatever comes of it: no answer is good twice.
        let pending = {
            let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            all.remove(&Digest::of(state.as_bytes())).ok_or(Refused::Wrong)?
        };
        let same_browser: bool = pending.browser.0.ct_eq(&Digest::of(browser.as_bytes()).0).into();
        let other_issuer = arrival.iss.is_some_and(|iss| iss != self.issuer());
        if !same_browser || other_issuer || now.saturating_sub(pending.began_at) >= PENDING_US {
            return Err(Refused::Wrong);
        }
        let code = arrival.code.filter(|_| arrival.error.is_none()).ok_or(Refused::Wrong)?;
        let discovery = self.discover(now).await?;
        let token = self.exchange(&discovery, &code, &pending.verifier).await?;
        let expected =
            Expected { issuer: self.issuer(), client_id: &self.settings.client_id, nonce: &pending.nonce, now };
        let mut keys = self.keys(&discovery, now, false).await?;
        if !keys.know(&token) {
            keys = self.keys(&discovery, now, true).await?;
        }
        let claims = keys.verify(&token, &expected).map_err(|why| {
            tracing::warn!(why, "a token of the OpenID provider was not believed");
            Refused::Wrong
        })?;
        let mut grants = Vec::new();
        for group in claims.groups(&self.settings.groups_claim) {
            grants.extend(self.settings.groups.get(&group).cloned().unwrap_or_default());
        }
        Ok(Proven { actor: format!("oidc:{}", claims.subject()), grants, break_glass: false, changed_at: None })
    }

    /// The issuer identifier, which has no slash that nobody wrote.
    fn issuer(&self) -> &str {
        let text = self.settings.issuer.as_str();
        if self.settings.issuer.path() == "/" { text.trim_end_matches('/') } else { text }
    }

    async fn exchange(&self, discovery: &Discovery, code: &str, verifier: &str) -> Result<String, Refused> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", self.settings.redirect.as_str())
            .append_pair("code_verifier", verifier)
            .append_pair("client_id", &self.settings.client_id)
            .finish();
        let mut request = Request::builder()
            .method(Method::POST)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        if let Some(secret) = &self.secret {
            let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let both = format!("{}:{}", encoded(&self.settings.client_id), encoded(secret));
            request = request.header(header::AUTHORIZATION, format!("Basic {}", BASE64.encode(both.as_bytes())));
        }
        let (status, body) = self.client.ask(&discovery.token_endpoint, request, form).await?;
        if status != 200 {
            tracing::warn!(status, "the OpenID provider gave no token");
            return Err(Refused::Wrong);
        }
        let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| Refused::Wrong)?;
        Ok(answer.id_token)
    }

    async fn discover(&self, now: Micros) -> Result<Discovery> {
        {
            let known = self.discovery.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, known)) = known.as_ref().filter(|(at, _)| now.saturating_sub(*at) < DISCOVERY_US) {
                return Ok(known.clone());
            }
        }
        let mut url = self.settings.issuer.clone();
        url.set_path(&format!("{}/.well-known/openid-configuration", url.path().trim_end_matches('/')));
        let found: Discovery = self.get(&url).await?;
        let wrong = |text: &str| Err(Error::new(Kind::Busy, format!("the OpenID provider {text}")));
        if found.issuer != self.issuer() {
            return wrong("says that it is another issuer");
        }
        if !found.code_challenge_methods_supported.iter().any(|method| method == "S256") {
            return wrong("does not say that it supports PKCE with S256");
        }
        let secure = self.settings.issuer.scheme() == "https";
        let endpoints = [&found.authorization_endpoint, &found.token_endpoint, &found.jwks_uri];
        if secure && endpoints.iter().any(|url| url.scheme() != "https") {
            return wrong("has an endpoint without TLS");
        }
        *self.discovery.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, found.clone()));
        Ok(found)
    }

    /// Its keys; `anew` for those of now, which are not asked for more often than every few seconds.
    async fn keys(&self, discovery: &Discovery, now: Micros, anew: bool) -> Result<Keys> {
        let oldest = if anew { KEYS_US } else { DISCOVERY_US };
        {
            let known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, known)) = known.as_ref().filter(|(at, _)| now.saturating_sub(*at) < oldest) {
                return Ok(known.clone());
            }
        }
        let keys = Keys::read(&self.get(&discovery.jwks_uri).await?);
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, keys.clone()));
        Ok(keys)
    }

    async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<T> {
        let request = Request::builder().method(Method::GET).header(header::ACCEPT, "application/json");
        let (status, body) = self.client.ask(url, request, String::new()).await?;
        if status != 200 {
            return Err(Error::new(Kind::Busy, format!("the OpenID provider answers {status}")));
        }
        serde_json::from_slice(&body).context(Kind::Busy, "what the OpenID provider says cannot be read")
    }
}
