//! `/v1/holds`: footage that nothing deletes while the hold stands. One person places it, one asks for its release, and another one
//! confirms: nobody ends a hold alone.

use aigaq_proto::RecorderId;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{self, FromJson, FromPath, FromQuery, recorder_id};
use super::state::State;
use super::time::{self, TimeRange};
use super::viewer::{Find, Hold, Release, Viewer};
use crate::error::{Error, Kind, Result};
use crate::incident::object;
use crate::store::Released;
use crate::store::records::{Act, Event, HoldRecord};

/// Longest range, days.
const DAYS_MAX: u64 = 36_500;
/// Longest reason, characters.
const REASON_CHARS_MAX: usize = 500;
/// Most holds that one answer lists.
const LISTED_MAX: usize = 10_000;

/// What is said of a hold that is not there, or not for the one who asks.
const ABSENT: &str = "there is no such hold";

/// Footage that is to be held.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "recorder": "ab25d58504dd103930f03e729a98f929", "from": "2026-01-17T09:14:00Z",
    "to": "2026-01-17T09:15:00Z", "reason": "case 7" }))]
pub(super) struct NewHold {
    /// The recorder.
    recorder: String,
    /// Beginning, RFC 3339 UTC, by the clock of the recorder. Every link that touches the range is held, and no other.
    from: String,
    /// End, exclusive; what arrives later of the range is held too.
    to: String,
    /// Why, such as the number of a case; at most 500 characters.
    reason: String,
}

/// Why a hold is to be released, or a key to be destroyed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "case 7 is closed" }))]
pub(super) struct NewRelease {
    /// At most 500 characters.
    pub(super) reason: String,
}

/// Where a hold stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum HoldState {
    /// Nothing deletes what it covers.
    Standing,
    /// The same; one person has asked for its release, and another has to confirm it.
    ReleaseAsked,
    /// It holds nothing any more.
    Released,
}

/// What somebody did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ActDocument {
    /// When, RFC 3339 UTC.
    at: String,
    /// Who.
    by: String,
    /// Why; empty where nothing was said.
    reason: String,
}

/// A hold.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HoldDocument {
    /// Its name.
    id: String,
    /// The recorder.
    recorder: String,
    /// Beginning, RFC 3339 UTC, by the clock of the recorder.
    from: String,
    /// End, exclusive.
    to: String,
    /// Where it stands.
    #[schema(inline)]
    state: HoldState,
    /// Footage whose last day was before this one was gone when the hold was placed, `YYYY-MM-DD`; null if nothing was ever deleted.
    gone_before: Option<String>,
    /// The incident that placed it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<String>,
    /// Who placed it, when and why.
    placed: ActDocument,
    /// Who asked for its release.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<ActDocument>,
    /// Who else confirmed that.
    #[serde(skip_serializing_if = "Option::is_none")]
    released: Option<ActDocument>,
}

/// Which holds are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those of this recorder.
    recorder: Option<String>,
    /// Only those that stand here.
    #[param(inline)]
    state: Option<HoldState>,
}

/// Holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HoldList {
    /// By recorder, then in the order in which they were placed; at most ten thousand.
    holds: Vec<HoldDocument>,
}

/// Holds footage. When the answer is there nothing deletes it, also if its deletion was under way.
#[utoipa::path(post, operation_id = "place_hold", path = "/v1/holds", tag = "retention", request_body = NewHold,
    responses((status = 201, description = "It stands", body = HoldDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn place(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromJson(new): FromJson<NewHold>,
) -> Result<Response, Problem> {
    let recorder = recorder_id(&new.recorder)?;
    let range = TimeRange::parse(&new.from, &new.to, DAYS_MAX)?;
    let act = act(&viewer, &state, new.reason)?;
    let permit = viewer.of::<Hold>(recorder).await?;
    let (from, to) = (time::format(range.from), time::format(range.to));
    let entry = viewer.entry(Event::Hold, format!("hold {recorder} from {from} to {to}"));
    state.trail.write(entry.about(recorder.to_string()).because(act.reason.clone())).await?;
    let retention = state.retention(&permit)?;
    let placed = permit.evidence().ask(move |_| retention.hold(recorder, range.from..range.to, act));
    let document = document(placed.await?);
    let place = [(header::LOCATION, format!("/v1/holds/{}", document.id))];
    Ok((StatusCode::CREATED, place, Json(document)).into_response())
}

/// Holds, released ones among them.
#[utoipa::path(get, operation_id = "list_holds", path = "/v1/holds", tag = "retention", params(ListQuery),
    responses((status = 200, body = HoldList), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(viewer: Viewer, FromQuery(query): FromQuery<ListQuery>) -> Result<Json<HoldList>, Problem> {
    let recorder = query.recorder.as_deref().map(recorder_id).transpose()?;
    let wanted = query.state;
    let scope = viewer.over::<Find>().await?;
    let evidence = scope.evidence().clone();
    let holds = evidence.ask(move |store| {
        let mut glance = scope.glance();
        let mut holds = Vec::new();
        for hold in store.holds(recorder) {
            let hold = hold?;
            if wanted.is_none_or(|wanted| wanted == state_of(&hold)) && glance.sees(store, hold.recorder)? {
                holds.push(document(hold));
            }
            if holds.len() > LISTED_MAX {
                let text = format!("there are more than {LISTED_MAX} holds: ask for one recorder");
                return Err(Error::new(Kind::Invalid, text));
            }
        }
        Ok(holds)
    });
    Ok(Json(HoldList { holds: holds.await? }))
}

/// Asks for the release of a hold. It stands until another person confirms with `DELETE`.
#[utoipa::path(post, operation_id = "ask_release", path = "/v1/holds/{id}/release", tag = "retention",
    params(("id" = String, Path, description = "Hold")), request_body = NewRelease,
    responses((status = 202, description = "Another person has to confirm", body = HoldDocument),
        (status = 409, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn ask(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromJson(new): FromJson<NewRelease>,
) -> Result<Response, Problem> {
    let (recorder, number) = hold_id(&id)?;
    let act = act(&viewer, &state, new.reason)?;
    let permit = viewer.one::<Release>(Some(recorder), ABSENT).await?;
    let entry = viewer.entry(Event::Release, format!("ask for the release of hold {id}"));
    state.trail.write(entry.about(id.clone()).because(act.reason.clone())).await?;
    let retention = state.retention(&permit)?;
    let asked = permit.evidence().ask(move |_| retention.ask_release(recorder, number, act)).await?;
    say_released(&viewer, &state, &id, &asked).await?;
    Ok(answer(asked, StatusCode::ACCEPTED))
}

/// Confirms the release of a hold, as another person than the one who asked for it.
#[utoipa::path(delete, operation_id = "confirm_release", path = "/v1/holds/{id}", tag = "retention",
    params(("id" = String, Path, description = "Hold")),
    responses((status = 200, description = "It is released", body = HoldDocument), (status = 403, response = Problem),
        (status = 409, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn confirm(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
) -> Result<Response, Problem> {
    let (recorder, number) = hold_id(&id)?;
    let permit = viewer.one::<Release>(Some(recorder), ABSENT).await?;
    let entry = viewer.entry(Event::Release, format!("confirm the release of hold {id}"));
    state.trail.write(entry.about(id.clone())).await?;
    let act = Act { at: state.clock.now(), by: viewer.actor().to_string(), reason: String::new() };
    let retention = state.retention(&permit)?;
    let released = permit.evidence().ask(move |_| retention.confirm_release(recorder, number, act)).await?;
    say_released(&viewer, &state, &id, &released).await?;
    Ok(answer(released, StatusCode::OK))
}

/// What the one who asks does, for this reason.
pub(super) fn act(viewer: &Viewer, state: &State, reason: String) -> Result<Act> {
    let reason = request::words("reason", reason, REASON_CHARS_MAX)?;
    Ok(Act { at: state.clock.now(), by: viewer.actor().to_string(), reason })
}

/// Writes down what became of the request to release a hold; durable on return.
async fn say_released(viewer: &Viewer, state: &State, hold: &str, released: &Released) -> Result<()> {
    if matches!(released, Released::Done(_)) {
        return Ok(());
    }
    let entry = viewer.entry(Event::Release, format!("the release of hold {hold} is refused"));
    state.trail.write(entry.about(hold).ended("refused")).await
}

fn answer(released: Released, status: StatusCode) -> Response {
    let conflict = |text: &str| Problem::new(StatusCode::CONFLICT, text).into_response();
    match released {
        Released::Done(hold) => (status, Json(document(hold))).into_response(),
        Released::Missing => Problem::from(Error::new(Kind::NotFound, ABSENT)).into_response(),
        Released::Over(_) => conflict("the hold was released before"),
        Released::Asked(hold) => {
            let by = hold.asked.map(|asked| asked.by).unwrap_or_default();
            let text = format!("{by} has asked for its release; confirm with DELETE as another person");
            conflict(&text)
        }
        Released::NotAsked => conflict("nobody has asked for its release: POST …/release first"),
        Released::SamePerson => {
            let text = "whoever asked for the release cannot confirm it: another person has to";
            Problem::new(StatusCode::FORBIDDEN, text).into_response()
        }
    }
}

/// Reads `{recorder}-{number}`.
fn hold_id(text: &str) -> Result<(RecorderId, u64)> {
    let missing = || Error::new(Kind::NotFound, ABSENT);
    let (recorder, number) = text.rsplit_once('-').ok_or_else(missing)?;
    let number = number.parse().ok().filter(|id: &u64| id.to_string() == number).ok_or_else(missing)?;
    Ok((recorder_id(recorder).map_err(|_| missing())?, number))
}

/// What somebody did, as it is shown.
pub(super) fn act_document(act: Act) -> ActDocument {
    ActDocument { at: time::format(act.at), by: act.by, reason: act.reason }
}

fn state_of(hold: &HoldRecord) -> HoldState {
    match hold {
        HoldRecord { released: Some(_), .. } => HoldState::Released,
        HoldRecord { asked: Some(_), .. } => HoldState::ReleaseAsked,
        _ => HoldState::Standing,
    }
}

fn document(hold: HoldRecord) -> HoldDocument {
    let act = act_document;
    HoldDocument {
        id: format!("{}-{}", hold.recorder, hold.id),
        recorder: hold.recorder.to_string(),
        from: time::format(hold.from),
        to: time::format(hold.to),
        state: state_of(&hold),
        gone_before: (hold.gone_before > 0).then(|| time::format_day(hold.gone_before)),
        incident: hold.incident.map(object),
        placed: act(hold.placed),
        asked: hold.asked.map(act),
        released: hold.released.map(act),
    }
}
