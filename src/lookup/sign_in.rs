//! `POST /v1/sign-in` for people with a password, `POST /v1/token` for services with a secret (OAuth 2.0 client credentials, RFC 6749
//! section 4.4): either gives a bearer token for a while.
//!
//! Whoever is refused is not told whether the name or the secret was wrong, and neither the time nor the answer tells it. The audit
//! entry is durable before the token goes out; it never holds what was shown.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{FromRequestParts, State as Shared};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::State;
use super::problem::Problem;
use super::request::{self, FromForm, FromJson};
use super::time;
use crate::access::{Proven, Refused, SignedIn};
use crate::error::{Error, Kind, Result};
use crate::http::Source;
use crate::store::records::{AuditRecord, Event};

/// Longest reason, characters.
const REASON_CHARS_MAX: usize = 500;

/// Somebody who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "anna", "password": "correct horse battery staple" }))]
pub(super) struct NewSignIn {
    /// The name of the account.
    name: String,
    /// Its password.
    password: String,
    /// Why; at most 500 characters. Only an account that is for emergencies needs it.
    reason: Option<String>,
}

/// Somebody who is signed in.
#[derive(Serialize, ToSchema)]
pub(super) struct SignedInDocument {
    /// The bearer token; it is shown once.
    token: String,
    /// When it ends at the latest, RFC 3339 UTC; earlier without requests.
    ends_at: String,
    /// The name of the session.
    session: String,
}

/// A request for a token, as a form.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "grant_type": "client_credentials", "client_id": "cad", "client_secret": "the secret of aigaq client add" }))]
pub(super) struct TokenRequest {
    /// `client_credentials`.
    grant_type: String,
    /// The name of the client, here or in HTTP Basic.
    client_id: Option<String>,
    /// Its secret, here or in HTTP Basic.
    client_secret: Option<String>,
    /// Is ignored: a client has the roles that it was given.
    #[serde(rename = "scope")]
    _scope: Option<String>,
}

/// A token (RFC 6749 section 5.1).
#[derive(Serialize, ToSchema)]
pub(super) struct TokenDocument {
    /// The bearer token.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds until it ends.
    expires_in: u64,
}

/// Somebody who has not shown who they are yet: from where they come, and the entry of what they ask.
pub(super) struct Stranger {
    address: Option<IpAddr>,
    asked: AuditRecord,
}

impl FromRequestParts<State> for Stranger {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> std::result::Result<Self, Self::Rejection> {
        let address = parts.extensions.get::<Source>().map(|source| source.0);
        let source = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        // The path alone: what is shown may be in the query.
        let action = format!("{} {}", parts.method, parts.uri.path());
        Ok(Self { address, asked: AuditRecord::new(0, Event::SignIn, "anonymous", &source, action) })
    }
}

impl Stranger {
    /// From where they come.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Their session, once it is written down that they signed in.
    pub(super) async fn sign_in(&self, state: &State, who: Proven, reason: &str) -> Result<SignedIn> {
        let entry = AuditRecord { actor: who.actor.clone(), ..self.asked.clone() };
        if who.break_glass {
            state.metrics.break_glass.inc();
            tracing::error!("the glass was broken: somebody signed in with an account that is for emergencies");
        }
        let action = if who.break_glass { format!("{}: break-glass", entry.action) } else { entry.action.clone() };
        state.trail.write(AuditRecord { action, ..entry }.because(reason)).await?;
        let actor = who.actor.clone();
        let begun = state.access.begin(who, &self.asked.source).await;
        if begun.as_ref().is_err_and(|error| error.kind() == Kind::Unauthorised) {
            self.deny(state, actor).await?;
        }
        let result = if begun.is_ok() { "granted" } else { "failed" };
        state.metrics.sign_ins.with_label_values(&[result]).inc();
        begun
    }

    /// Writes down that somebody has shown who they are and is not let in.
    pub(super) async fn deny(&self, state: &State, actor: String) -> Result<()> {
        let entry = AuditRecord { event: Event::Denial, actor, ..self.asked.clone() };
        state.trail.write(entry.ended("denied")).await
    }

    /// What somebody is told who is not signed in, once it is written down. `tried` is named if it is there.
    pub(super) async fn refuse(&self, state: &State, tried: &str, why: Refused) -> Problem {
        let object = if state.access.is_known(tried) { tried } else { "" };
        let entry = AuditRecord { event: Event::Denial, ..self.asked.clone() }.about(object);
        state.trail.write_denial(entry).await;
        let (result, problem) = match why {
            Refused::Wrong => ("wrong", Error::new(Kind::Unauthorised, "the name or the secret is wrong").into()),
            Refused::TooOften => {
                let detail = "wrong too often, under this name or from this network: wait some minutes";
                ("too_often", Problem::new(StatusCode::TOO_MANY_REQUESTS, detail))
            }
            Refused::Failed(error) => ("failed", error.into()),
        };
        state.metrics.sign_ins.with_label_values(&[result]).inc();
        problem
    }
}

/// Signs a person in.
#[utoipa::path(post, operation_id = "sign_in", path = "/v1/sign-in", tag = "access", request_body = NewSignIn,
    responses((status = 200, description = "Signed in", body = SignedInDocument), (status = 401, response = Problem),
        (status = 403, response = Problem), (status = 429, response = Problem), (status = "default", response = Problem)))]
pub(super) async fn sign_in(
    stranger: Stranger,
    Shared(state): Shared<State>,
    FromJson(new): FromJson<NewSignIn>,
) -> Result<Response, Problem> {
    let reason = new.reason.map(|reason| request::words("reason", reason, REASON_CHARS_MAX)).transpose()?;
    let proven = match state.access.person(&new.name, new.password, stranger.address).await {
        Ok(proven) => proven,
        Err(why) => return Ok(challenged(stranger.refuse(&state, &format!("account:{}", new.name), why).await)),
    };
    if proven.break_glass && reason.is_none() {
        stranger.deny(&state, proven.actor).await?;
        let detail = "this account is for emergencies: say why you need it";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    match stranger.sign_in(&state, proven, &reason.unwrap_or_default()).await {
        Ok(signed_in) => Ok(signed_in_response(signed_in)),
        Err(error) => Ok(challenged(error.into())),
    }
}

/// Gives a service a bearer token for a quarter of an hour.
#[utoipa::path(post, operation_id = "token", path = "/v1/token", tag = "access",
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "A token", body = TokenDocument), (status = 400, response = Problem),
        (status = 401, response = Problem), (status = 429, response = Problem), (status = "default", response = Problem)))]
pub(super) async fn token(
    stranger: Stranger,
    Shared(state): Shared<State>,
    headers: HeaderMap,
    FromForm(asked): FromForm<TokenRequest>,
) -> Result<Response, Problem> {
    let coded = |problem: Problem, error: &str| Problem { error: Some(error.to_owned()), ..problem };
    if asked.grant_type != "client_credentials" {
        let problem = Problem::invalid("grant_type must be client_credentials");
        return Err(coded(problem, "unsupported_grant_type"));
    }
    let Some((name, secret)) = credentials(&headers, asked) else {
        let problem =
            Problem::invalid("send client_id and client_secret, in the form or in HTTP Basic, in one of them");
        return Err(coded(problem, "invalid_request"));
    };
    match state.access.client(&name, &secret, stranger.address).await {
        Ok(proven) => {
            let signed_in = match stranger.sign_in(&state, proven, "").await {
                Ok(signed_in) => signed_in,
                Err(error) => return Ok(challenged(error.into())),
            };
            let expires_in = signed_in.ends_at.saturating_sub(state.clock.now()) / 1_000_000;
            let document = TokenDocument { access_token: signed_in.token, token_type: "Bearer", expires_in };
            Ok(unkept(Json(document).into_response()))
        }
        Err(why) => {
            let problem = stranger.refuse(&state, &format!("client:{name}"), why).await;
            let is_wrong = problem.status == StatusCode::UNAUTHORIZED;
            Ok(challenged(if is_wrong { coded(problem, "invalid_client") } else { problem }))
        }
    }
}

/// Name and secret from exactly one of the two places.
fn credentials(headers: &HeaderMap, asked: TokenRequest) -> Option<(String, String)> {
    let basic = headers.get(header::AUTHORIZATION);
    match (basic, asked.client_id, asked.client_secret) {
        (None, Some(name), Some(secret)) => Some((name, secret)),
        (Some(basic), None, None) => {
            let (scheme, text) = basic.to_str().ok()?.split_once(' ')?;
            let text = String::from_utf8(BASE64.decode(text.trim().as_bytes()).ok()?).ok()?;
            let (name, secret) = text.split_once(':').filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
            Some((name.to_owned(), secret.to_owned()))
        }
        _ => None,
    }
}

/// The answer with a session in it.
pub(super) fn signed_in_response(signed_in: SignedIn) -> Response {
    let SignedIn { token, ends_at, id } = signed_in;
    unkept(Json(SignedInDocument { token, ends_at: time::format(ends_at), session: id }).into_response())
}

/// The same, for nobody to keep.
fn unkept(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A refusal; where it is 401, with what HTTP wants then.
fn challenged(problem: Problem) -> Response {
    let mut response = problem.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static(r#"Bearer realm="aigaq""#);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
