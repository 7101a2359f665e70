//! `/v1/sign-in/oidc` and its callback: signing in with the site's provider of OpenID Connect.
//!
//! A browser is sent to the provider with a cookie that it has to bring back, so that nobody is signed in as somebody else by a link.
//! Neither the code nor the state that the provider's answer has in its query is written down.

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use utoipa::IntoParams;

use super::State;
use super::problem::Problem;
use super::request::FromQuery;
use super::sign_in::{SignedInDocument, Stranger, signed_in_response};
use crate::access::{Arrival, Refused};
use crate::error::{Error, Kind, Result};

/// The cookie that a browser brings back.
const COOKIE: &str = "aigaq-sign-in";

/// The answer of the provider.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ArrivalQuery {
    /// Which question it answers.
    state: Option<String>,
    /// What the token is given for.
    code: Option<String>,
    /// Who answers.
    iss: Option<String>,
    /// Why there is no code.
    error: Option<String>,
}

/// Sends a browser to the provider.
#[utoipa::path(get, operation_id = "begin_oidc", path = "/v1/sign-in/oidc", tag = "access",
    responses((status = 303, description = "To the provider"), (status = 404, response = Problem),
        (status = "default", response = Problem)))]
pub(super) async fn begin(stranger: Stranger, Shared(state): Shared<State>) -> Result<Response, Problem> {
    let departure = state.access.depart(stranger.address()).await?.ok_or_else(none)?;
    let secure = if departure.secure { "; Secure" } else { "" };
    let cookie =
        format!("{COOKIE}={}; Path=/v1/sign-in/oidc; Max-Age=600; HttpOnly; SameSite=Lax{secure}", departure.browser);
    let answer = [(header::LOCATION, departure.location), (header::SET_COOKIE, cookie)];
    Ok((StatusCode::SEE_OTHER, [(header::CACHE_CONTROL, "no-store")], answer).into_response())
}

/// Signs in whom the provider sends back.
#[utoipa::path(get, operation_id = "finish_oidc", path = "/v1/sign-in/oidc/callback", tag = "access", params(ArrivalQuery),
    responses((status = 200, description = "Signed in", body = SignedInDocument), (status = 401, response = Problem),
        (status = 403, response = Problem),
        (status = "default", response = Problem)))]
pub(super) async fn finish(
    stranger: Stranger,
    Shared(state): Shared<State>,
    headers: HeaderMap,
    FromQuery(query): FromQuery<ArrivalQuery>,
) -> Result<Response, Problem> {
    let ArrivalQuery { state: question, code, iss, error } = query;
    let arrival = Arrival { state: question, code, iss, error };
    let proven = match state.access.arrive(arrival, &cookie(&headers).unwrap_or_default()).await {
        Ok(Some(proven)) => proven,
        Ok(None) => return Err(none().into()),
        Err(Refused::Wrong) => {
            stranger.refuse(&state, "", Refused::Wrong).await;
            let detail = "the answer of the provider is not good, or not any more: begin again";
            return Err(Error::new(Kind::Unauthorised, detail).into());
        }
        Err(why) => return Err(stranger.refuse(&state, "", why).await),
    };
    if proven.grants.is_empty() {
        stranger.deny(&state, proven.actor).await?;
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the provider knows you, but nobody has given you a role here",
        ));
    }
    let mut response = signed_in_response(stranger.sign_in(&state, proven, "").await?);
    let over = HeaderValue::from_static("aigaq-sign-in=; Path=/v1/sign-in/oidc; Max-Age=0; HttpOnly; SameSite=Lax");
    response.headers_mut().insert(header::SET_COOKIE, over);
    Ok(response)
}

fn none() -> Error {
    Error::new(Kind::NotFound, "this site has no provider: sign in with POST /v1/sign-in")
}

/// What the browser brings back.
fn cookie(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut each = all.flat_map(|value| value.split(';')).filter_map(|one| one.trim().split_once('='));
    each.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned())
}
