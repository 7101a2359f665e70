//! `/v1/recorders/{id}/class`: how much the footage of a recorder is kept from eyes, who said so and why.
//!
//! What is said here can only add to what the configuration says of departments and kinds. Whoever raises or lowers it must be
//! somebody for whom both what it was and what it becomes is.

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::State;
use super::holds::{self, ActDocument};
use super::problem::Problem;
use super::request::{FromJson, FromPath, recorder_id};
use super::viewer::{Classify, Find, Viewer};
use crate::access::Class;
use crate::error::Result;
use crate::store::records::{ClassRecord, Event, RecorderRecord};

/// How much the footage of a recorder is to be kept from eyes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "class": "restricted", "reason": "a child is in the footage" }))]
pub(super) struct NewClass {
    /// How much.
    class: Class,
    /// Why; at most 500 characters.
    reason: String,
}

/// How much the footage of a recorder is kept from eyes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClassDocument {
    /// The recorder.
    recorder: String,
    /// What holds.
    class: Class,
    /// What somebody has said, if anybody has.
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<SaidClass>,
}

/// What somebody has said.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SaidClass {
    /// How much.
    class: Class,
    /// Who, when and why.
    #[serde(flatten)]
    act: ActDocument,
}

/// How much the footage of a recorder is kept from eyes.
#[utoipa::path(get, operation_id = "class", path = "/v1/recorders/{id}/class", tag = "recorders",
    params(("id" = String, Path, description = "Recorder")),
    responses((status = 200, body = ClassDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn class(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
) -> Result<Json<ClassDocument>, Problem> {
    let permit = viewer.of::<Find>(recorder_id(&id)?).await?;
    Ok(Json(document(&state, permit.record())))
}

/// Says how much the footage of a recorder is kept from eyes.
#[utoipa::path(put, operation_id = "classify", path = "/v1/recorders/{id}/class", tag = "recorders",
    params(("id" = String, Path, description = "Recorder")), request_body = NewClass,
    responses((status = 200, body = ClassDocument), (status = 403, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn classify(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromJson(new): FromJson<NewClass>,
) -> Result<Json<ClassDocument>, Problem> {
    let recorder = recorder_id(&id)?;
    let said = holds::act(&viewer, &state, new.reason)?;
    let permit = viewer.of::<Classify>(recorder).await?;
    if !viewer.may(&permit, new.class) {
        return Err(viewer.refused("your roles do not reach that class").await);
    }
    let entry = viewer.entry(Event::Class, format!("say that {recorder} is {}", new.class.name()));
    state.trail.write(entry.about(recorder.to_string()).because(said.reason.clone())).await?;
    state.access.classify(ClassRecord { recorder, class: new.class, said }).await?;
    Ok(Json(document(&state, permit.record())))
}

fn document(state: &State, recorder: &RecorderRecord) -> ClassDocument {
    let said = state.access.said_of(recorder.id);
    ClassDocument {
        recorder: recorder.id.to_string(),
        class: state.access.class_of(recorder),
        said: said.map(|said| SaidClass { class: said.class, act: holds::act_document(said.said) }),
    }
}
