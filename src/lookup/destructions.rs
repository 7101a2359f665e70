//! `/v1/destructions`: keys of footage that are destroyed before their day is over. One person asks, another one confirms: nobody makes
//! footage unreadable alone. What a hold covers is not destroyed, whoever wants it.

use aigaq_proto::RecorderId;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::holds::{ActDocument, NewRelease, act, act_document};
use super::problem::Problem;
use super::request::{FromJson, FromPath, recorder_id};
use super::state::State;
use super::time;
use super::viewer::{Release, Viewer};
use crate::error::{Error, Kind, Result};
use crate::retention::{Destroyed, Outcome};
use crate::store::records::{Act, WishRecord};
use crate::store::{Store, Wished};

/// What is said of a destruction that nobody asked for, or not for the one who asks.
const ABSENT: &str = "nobody has asked for this destruction";
/// Most destructions that one answer lists.
const LISTED_MAX: usize = 10_000;

/// A key that is to be destroyed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "recorder": "ab25d58504dd103930f03e729a98f929", "day": "2026-04-18", "reason": "order 17/26" }))]
pub(super) struct NewDestruction {
    /// The recorder.
    recorder: String,
    /// The last day on which the footage is kept, `YYYY-MM-DD`: the day that the dry run of the deletion shows.
    day: String,
    /// Whose order it is, such as the number of a ruling; at most 500 characters.
    reason: String,
}

/// Where a destruction stands.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DestructionState {
    /// Somebody has asked for it, and another person has to confirm.
    Asked,
    /// The key is gone.
    Destroyed,
    /// It was taken back.
    Withdrawn,
}

/// The destruction of a key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DestructionDocument {
    /// Its name.
    id: String,
    /// The recorder.
    recorder: String,
    /// The last day on which the footage was to be kept, `YYYY-MM-DD`.
    day: String,
    /// Where it stands.
    #[schema(inline)]
    state: DestructionState,
    /// Who asked for it.
    asked: ActDocument,
    /// Who else confirmed it, or who took it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<ActDocument>,
}

/// Destructions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DestructionList {
    /// By day and recorder; at most ten thousand.
    destructions: Vec<DestructionDocument>,
}

/// What went with a key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DestroyedDocument {
    /// Links whose payload nobody can read any more.
    links: u64,
    /// Its length, bytes.
    bytes: u64,
}

/// Asks that a key be destroyed. It stands until another person confirms.
#[utoipa::path(post, operation_id = "ask_destruction", path = "/v1/destructions", tag = "retention",
    request_body = NewDestruction,
    responses((status = 202, description = "Another person has to confirm", body = DestructionDocument),
        (status = 404, response = Problem), (status = 409, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn ask(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromJson(new): FromJson<NewDestruction>,
) -> Result<Response, Problem> {
    let recorder = recorder_id(&new.recorder)?;
    let day = time::parse_day(&new.day)?;
    let act = act(&viewer, &state, new.reason)?;
    let permit = viewer.of::<Release>(recorder).await?;
    let (retention, source) = (state.retention(&permit)?, viewer.source().to_owned());
    let asked = permit.evidence().ask(move |_| retention.ask_destruction(recorder, day, act, &source)).await?;
    match asked {
        Wished::Done(wish) => {
            let document = shown(recorder, day, wish, false);
            let place = [(header::LOCATION, format!("/v1/destructions/{}", document.id))];
            Ok((StatusCode::ACCEPTED, place, Json(document)).into_response())
        }
        Wished::Waiting(wish) => {
            let text = format!("{} has asked for it; confirm as another person", wish.asked.by);
            Err(Problem::new(StatusCode::CONFLICT, text))
        }
        Wished::NotAsked => Err(Error::new(Kind::Internal, "a wish was not written down").into()),
    }
}

/// Destructions that were ever asked for.
#[utoipa::path(get, operation_id = "list_destructions", path = "/v1/destructions", tag = "retention",
    responses((status = 200, body = DestructionList), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(viewer: Viewer) -> Result<Json<DestructionList>, Problem> {
    let scope = viewer.over::<Release>().await?;
    let evidence = scope.evidence().clone();
    let listed = evidence.ask(move |store| {
        let mut glance = scope.glance();
        let mut listed = Vec::new();
        for wish in store.wishes() {
            let (day, recorder, wish) = wish?;
            if listed.len() < LISTED_MAX && glance.sees(store, recorder)? {
                let done = is_done(store, recorder, day, &wish)?;
                listed.push(shown(recorder, day, wish, done));
            }
        }
        Ok(listed)
    });
    Ok(Json(DestructionList { destructions: listed.await? }))
}

/// Destroys the key, as another person than the one who asked for it.
#[utoipa::path(post, operation_id = "confirm_destruction", path = "/v1/destructions/{id}/confirm", tag = "retention",
    params(("id" = String, Path, description = "Destruction")), request_body = NewRelease,
    responses((status = 200, description = "Nobody can read it any more", body = DestroyedDocument),
        (status = 403, response = Problem), (status = 409, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn confirm(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromJson(new): FromJson<NewRelease>,
) -> Result<Response, Problem> {
    let (recorder, day) = destruction_id(&id)?;
    let act = act(&viewer, &state, new.reason)?;
    let permit = viewer.one::<Release>(Some(recorder), ABSENT).await?;
    let (retention, source) = (state.retention(&permit)?, viewer.source().to_owned());
    let done = permit.evidence().ask(move |_| retention.confirm_destruction(recorder, day, &act, &source)).await?;
    match done {
        Outcome::Destroyed(Destroyed { links, bytes, .. }) => {
            Ok(Json(DestroyedDocument { links, bytes }).into_response())
        }
        Outcome::NotAsked => Err(Problem::new(StatusCode::CONFLICT, ABSENT)),
        Outcome::SamePerson => {
            let text = "whoever asked for the destruction cannot confirm it: another person has to";
            Err(Problem::new(StatusCode::FORBIDDEN, text))
        }
    }
}

/// Takes back what was asked for.
#[utoipa::path(delete, operation_id = "withdraw_destruction", path = "/v1/destructions/{id}", tag = "retention",
    params(("id" = String, Path, description = "Destruction")),
    responses((status = 200, description = "It is taken back", body = DestructionDocument),
        (status = 409, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn withdraw(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
) -> Result<Response, Problem> {
    let (recorder, day) = destruction_id(&id)?;
    let permit = viewer.one::<Release>(Some(recorder), ABSENT).await?;
    let act = Act { at: state.clock.now(), by: viewer.actor().to_owned(), reason: String::new() };
    let (retention, source) = (state.retention(&permit)?, viewer.source().to_owned());
    let ended = permit.evidence().ask(move |_| retention.withdraw_destruction(recorder, day, act, &source)).await?;
    match ended {
        Wished::Done(wish) => Ok(Json(shown(recorder, day, wish, false)).into_response()),
        Wished::Waiting(_) | Wished::NotAsked => Err(Problem::new(StatusCode::CONFLICT, ABSENT)),
    }
}

/// Reads `{recorder}-{day}`.
fn destruction_id(text: &str) -> Result<(RecorderId, u32)> {
    let missing = || Error::new(Kind::NotFound, ABSENT);
    let (recorder, day) = text.split_once('-').ok_or_else(missing)?;
    let day = time::parse_day(day).map_err(|_| missing())?;
    Ok((recorder_id(recorder).map_err(|_| missing())?, day))
}

/// Whether what was asked for was done.
fn is_done(store: &Store, recorder: RecorderId, day: u32, wish: &WishRecord) -> Result<bool> {
    let done = store.destruction(day, recorder)?;
    Ok(done.is_some_and(|done| wish.ended.as_ref() == Some(&done.act)))
}

fn shown(recorder: RecorderId, day: u32, wish: WishRecord, done: bool) -> DestructionDocument {
    let state = match (&wish.ended, done) {
        (None, _) => DestructionState::Asked,
        (Some(_), true) => DestructionState::Destroyed,
        (Some(_), false) => DestructionState::Withdrawn,
    };
    let day = time::format_day(day);
    DestructionDocument {
        id: format!("{recorder}-{day}"),
        recorder: recorder.to_string(),
        day,
        state,
        asked: act_document(wish.asked),
        ended: wish.ended.map(act_document),
    }
}
