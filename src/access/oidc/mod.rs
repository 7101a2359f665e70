//! Signing in with a provider of OpenID Connect: authorisation code with PKCE (RFC 7636), state and nonce.
//!
//! Promises: an answer of the provider is good once, within ten minutes, in the browser that asked; a token is believed only if the
//! provider's key of today signed it with an algorithm that is allowed here, for this client, for this very question, and has not
//! expired. Roles come from groups that the site has named; whoever is in none has none. Neither code nor token is ever logged.

mod claims;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
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

/// How the names of those begin whom the provider knows.
pub(super) const ACTOR: &str = "oidc:";
/// How long somebody may take at the provider, microseconds.
const PENDING_US: Micros = 10 * 60 * 1_000_000;
/// Sign-ins that may be under way; beyond it the oldest of the network that has most is given up.
const PENDING_MAX: usize = 1_000;
/// What the provider says of itself is asked again after so long; its keys also when one is not known, but not more often than that.
const DISCOVERY_US: Micros = 60 * 60 * 1_000_000;
const KEYS_US: Micros = 5 * 1_000_000;
/// A provider that did not answer as it should is left alone for so long.
const FAILED_US: Micros = 5 * 1_000_000;

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
    /// From where.
    network: Option<IpAddr>,
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
    /// Held while it is asked what it says of itself; since when it did not say so.
    failed: tokio::sync::Mutex<Option<Micros>>,
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
        Ok(Self { settings, secret, client, discovery, failed: tokio::sync::Mutex::default(), keys, pending })
    }

    /// Whether browsers reach this site by HTTPS.
    pub(super) fn is_secure(&self) -> bool {
        self.settings.redirect.scheme() == "https"
    }

    /// Sends a browser of this network to the provider.
    pub(super) async fn depart(&self, network: Option<IpAddr>, now: Micros) -> Result<Departure> {
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
        let pending = Pending { began_at: now, network, browser: Digest::of(browser.as_bytes()), nonce, verifier };
        let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, pending| now.saturating_sub(pending.began_at) < PENDING_US);
        if all.len() >= PENDING_MAX {
            give_up_one(&mut all);
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
        Ok(Proven { actor: format!("{ACTOR}{}", claims.subject()), grants, break_glass: false, changed_at: None })
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

    /// What it says of itself. It is asked once at a time, and after a failure not for some seconds, however many wait for it.
    async fn discover(&self, now: Micros) -> Result<Discovery> {
        if let Some(known) = self.discovered(now) {
            return Ok(known);
        }
        let mut failed = self.failed.lock().await;
        if let Some(known) = self.discovered(now) {
            return Ok(known);
        }
        if failed.is_some_and(|at| now.saturating_sub(at) < FAILED_US) {
            return Err(Error::new(Kind::Busy, "the OpenID provider did not answer as it should a moment ago"));
        }
        let found = self.ask().await;
        *failed = found.is_err().then_some(now);
        let found = found?;
        *self.discovery.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, found.clone()));
        Ok(found)
    }

    fn discovered(&self, now: Micros) -> Option<Discovery> {
        let known = self.discovery.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(at, _)| now.saturating_sub(*at) < DISCOVERY_US).map(|(_, known)| known.clone())
    }

    async fn ask(&self) -> Result<Discovery> {
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

/// Gives up the oldest sign-in of the network that has most under way, so that nobody gives up those of others by beginning many.
fn give_up_one(all: &mut HashMap<Digest, Pending>) {
    let mut counts: HashMap<Option<IpAddr>, usize> = HashMap::new();
    for pending in all.values() {
        *counts.entry(pending.network).or_default() += 1;
    }
    let of = |pending: &Pending| counts.get(&pending.network).copied().unwrap_or_default();
    let first = all.iter().max_by_key(|(_, pending)| (of(pending), std::cmp::Reverse(pending.began_at)));
    let first = first.map(|(state, _)| *state);
    first.map(|state| all.remove(&state));
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = 1_000_000_000_000;

    fn provider(issuer: &str) -> Provider {
        let settings = Settings {
            issuer: issuer.parse().unwrap(),
            client_id: "aigaq".to_owned(),
            secret_file: None,
            redirect: "http://localhost/v1/sign-in/oidc/callback".parse().unwrap(),
            ca: None,
            scopes: String::new(),
            groups_claim: "groups".to_owned(),
            groups: BTreeMap::new(),
        };
        Provider::new(settings).unwrap()
    }

    #[tokio::test]
    async fn whoever_begins_many_sign_ins_gives_up_their_own_alone() {
        let provider = provider("http://localhost");
        let endpoint: Url = "http://localhost/authorize".parse().unwrap();
        let discovery = Discovery {
            issuer: "http://localhost".to_owned(),
            authorization_endpoint: endpoint.clone(),
            token_endpoint: endpoint.clone(),
            jwks_uri: endpoint,
            code_challenge_methods_supported: Vec::new(),
        };
        *provider.discovery.lock().unwrap() = Some((NOW, discovery));
        let depart = async |number: u8, now| {
            let network = Some(IpAddr::from([10, 0, 0, number]));
            let location: Url = provider.depart(network, now).await.unwrap().location.parse().unwrap();
            let state = location.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
            Digest::of(state.as_bytes())
        };
        let first = depart(1, NOW).await;
        let own = depart(2, NOW).await;
        for later in 1..=1_000 {
            depart(2, NOW + later).await;
        }
        let pending = provider.pending.lock().unwrap();
        assert!(pending.contains_key(&first) && !pending.contains_key(&own));
        assert_eq!(pending.len(), PENDING_MAX);
    }

    #[tokio::test]
    async fn a_provider_that_does_not_answer_is_left_alone_for_some_seconds() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = provider(&format!("http://{}", listener.local_addr().unwrap()));
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&asked);
        let listening = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                drop(connection);
            }
        });
        let all = (0..10).map(|_| provider.depart(None, NOW));
        assert!(futures_util::future::join_all(all).await.iter().all(Result::is_err));
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
        assert!(provider.depart(None, NOW + FAILED_US).await.is_err());
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 2, "and asked again then");
        listening.abort();
    }
}
