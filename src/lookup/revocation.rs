//! `POST /v1/recorders/{id}/revoke`: takes the identity of a recorder back, for ever.
//!
//! The answer comes when the revocation is durable; its connections are then being closed. Once more changes nothing and answers the
//! same, with the first reason.

use axum::Json;
use axum::extract::State as FromState;
use serde::Deserialize;
use utoipa::ToSchema;

use super::State;
use super::problem::Problem;
use super::recorders::{RecorderDocument, document};
use super::request::{self, FromJson, FromPath, recorder_id};
use super::viewer::{Revoke, Viewer};
use crate::error::{Error, Kind, Result};

/// Longest reason, characters.
const REASON_CHARS_MAX: usize = 500;

/// Why an identity is taken back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "the recorder was lost" }))]
pub(super) struct NewRevocation {
    /// For people, such as "stolen on 17 January"; 1 to 500 characters.
    reason: String,
}

/// Takes the identity of a recorder back: its connections end, and nothing that it sends is taken any more.
#[utoipa::path(post, operation_id = "revoke_recorder", path = "/v1/recorders/{id}/revoke", tag = "recorders",
    params(("id" = String, Path, description = "Recorder")), request_body = NewRevocation,
    responses((status = 200, body = RecorderDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn revoke(
    viewer: Viewer,
    FromState(state): FromState<State>,
    FromPath(id): FromPath<String>,
    FromJson(new): FromJson<NewRevocation>,
) -> Result<Json<RecorderDocument>, Problem> {
    let id = recorder_id(&id)?;
    let reason = request::words("reason", new.reason, REASON_CHARS_MAX)?;
    let (actor, source) = (viewer.actor().to_owned(), viewer.source().to_owned());
    let permit = viewer.of::<Revoke>(id).await?;
    let revoked = permit.evidence().ask(move |store| {
        let registry = state.registry.as_ref().ok_or_else(|| Error::new(Kind::Internal, "there is no registry"))?;
        document(store, &state.fleet, (*registry.revoke(id, (&actor, &source), reason)?).clone())
    });
    Ok(Json(revoked.await?))
}
