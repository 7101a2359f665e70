//! `/v1/checks/{id}/scores` and `/v1/checks/{id}/third`: what assessors judge, each criterion bound to footage that shows it.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{CheckDocument, absent, case_of, check_id, document, id_text, of_check};
use crate::access;
use crate::error::{Error, Kind, Result};
use crate::integrity::case::{Case, Measure};
use crate::integrity::check::{self, Refusal};
use crate::integrity::{said, span};
use crate::lookup::State;
use crate::lookup::problem::Problem;
use crate::lookup::request::{FromJson, FromPath, words};
use crate::lookup::time::TimeRange;
use crate::lookup::viewer::Viewer;
use crate::store::records::{CheckRecord, Event, JudgedRecord, SheetRecord};
use crate::store::{Changed, Store};

/// Longest span of footage of one criterion, days.
const SPAN_DAYS_MAX: u64 = 1;

/// What an assessor scores.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "option": "refused-and-reported",
    "scores": [
        { "criterion": "courtesy", "points": 4, "from": "2026-01-17T09:14:00Z", "to": "2026-01-17T09:15:00Z" },
        { "criterion": "appeal", "from": "2026-01-17T09:14:10Z", "to": "2026-01-17T09:16:40Z" }]
}))]
pub(in crate::lookup) struct NewSheet {
    /// Which response the checked person chose.
    option: String,
    /// Each criterion of the case; who decides, each that is disputed.
    scores: Vec<NewScore>,
}

/// What is judged of one criterion, and what shows it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::lookup) struct NewScore {
    /// The criterion.
    criterion: String,
    /// Points; not for a time, which is that of the footage.
    #[serde(default)]
    points: Option<u32>,
    /// Beginning of the footage that shows it, RFC 3339 UTC; for a time, the appeal.
    from: String,
    /// End, exclusive; for a time, the answer.
    to: String,
}

/// Who is to decide.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "assessor": "account:aigul" }))]
pub(in crate::lookup) struct NewThird {
    /// An inspector who neither scored the check nor made it, as the audit trail names them.
    assessor: String,
}

/// Scores a check. Nothing changes it afterwards; the same again is the same.
#[utoipa::path(post, operation_id = "score_check", path = "/v1/checks/{id}/scores", tag = "checks",
    params(("id" = String, Path, description = "Check")), request_body = NewSheet,
    responses((status = 200, description = "It is scored", body = CheckDocument), (status = 409, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn score(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromJson(new): FromJson<NewSheet>,
) -> Result<Json<CheckDocument>, Problem> {
    let id = check_id(&id)?;
    let (actor, at) = (viewer.actor().to_owned(), state.clock.now());
    let scope = of_check(&viewer, id).await?;
    let mut entry = viewer.entry(Event::Check, format!("score check {}", id_text(id))).about(id_text(id));
    entry.at = at;
    let scored = scope.evidence().ask(move |store| {
        let check = store.check(id)?.ok_or_else(absent)?;
        if check::part(&check, &actor) == check::Part::Other {
            return Ok(Err(Refusal::NotTheirs));
        }
        let case = case_of(store, &check)?;
        let sheet = SheetRecord {
            by: actor.clone(),
            at,
            option: new.option.clone(),
            judged: judged(store, &case, &check, new)?,
        };
        entry.content = Some(said::scored(id, &sheet)?);
        let changed = store.change_check(id, &entry, |check| Ok(check::score(&case, check, sheet).err()))?;
        Ok(match changed {
            Changed::Done(check) => Ok(document(&case, &check, &actor)),
            Changed::Refused(Refusal::Same) => Ok(document(&case, &store.check(id)?.ok_or_else(absent)?, &actor)),
            Changed::Refused(refusal) => Err(refusal),
            Changed::Missing => return Err(absent()),
        })
    });
    match scored.await? {
        Ok(document) => Ok(Json(document)),
        Err(Refusal::NotTheirs) => Err(viewer.refused("this check is not yours to score").await),
        Err(refusal) => Err(refused(refusal)),
    }
}

/// Names who decides what the two disagree about.
#[utoipa::path(post, operation_id = "name_third", path = "/v1/checks/{id}/third", tag = "checks",
    params(("id" = String, Path, description = "Check")), request_body = NewThird,
    responses((status = 200, description = "They are to decide", body = CheckDocument), (status = 409, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn name_third(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromPath(id): FromPath<String>,
    FromJson(new): FromJson<NewThird>,
) -> Result<Json<CheckDocument>, Problem> {
    let id = check_id(&id)?;
    let third = words("assessor", new.assessor, super::NAME_CHARS_MAX)?;
    let actor = viewer.actor().to_owned();
    let scope = of_check(&viewer, id).await?;
    let action = format!("name {third} who decides check {}", id_text(id));
    let access = state.access.clone();
    let mut entry = viewer.entry(Event::Check, action).about(id_text(id));
    entry.at = state.clock.now();
    let named = scope.evidence().ask(move |store| {
        let check = store.check(id)?.ok_or_else(absent)?;
        let case = case_of(store, &check)?;
        if !access.could(&third, access::Verb::Check, &check.department) {
            return Ok(Err(Refusal::NotToDecide(super::NO_INSPECTOR)));
        }
        let changed =
            store.change_check(id, &entry, |check| Ok(check::name_third(&case, check, &actor, &third).err()))?;
        Ok(match changed {
            Changed::Done(check) => Ok(document(&case, &check, &actor)),
            Changed::Refused(Refusal::Same) => Ok(document(&case, &store.check(id)?.ok_or_else(absent)?, &actor)),
            Changed::Refused(refusal) => Err(refusal),
            Changed::Missing => return Err(absent()),
        })
    });
    named.await?.map(Json).map_err(refused)
}

fn refused(refusal: Refusal) -> Problem {
    let told = match refusal {
        Refusal::NotTheirs => "this check is not yours to score",
        Refusal::Already | Refusal::Same => "you have scored this check already",
        Refusal::OtherCriteria => return Problem::invalid("the scores must be of the criteria of to_judge, each once"),
        Refusal::NotToDecide(why) => why,
    };
    Problem::new(StatusCode::CONFLICT, told)
}

/// What is scored, each criterion once and bound to footage of the check.
fn judged(store: &Store, case: &Case, check: &CheckRecord, new: NewSheet) -> Result<Vec<JudgedRecord>> {
    let invalid = |text: String| Error::new(Kind::Invalid, text);
    if !case.options.iter().any(|option| option.id == new.option) {
        return Err(invalid("option must be one of the case".to_owned()));
    }
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for NewScore { criterion, points, from, to } in new.scores {
        let known =
            case.criterion(&criterion).ok_or_else(|| invalid(format!("{criterion} is no criterion of the case")))?;
        if !seen.insert(criterion.clone()) {
            return Err(invalid(format!("{criterion} is scored twice")));
        }
        let range = TimeRange::parse(&from, &to, SPAN_DAYS_MAX)?;
        if range.from < check.from || range.to > check.to {
            return Err(invalid(format!("the footage of {criterion} must lie within that of the check")));
        }
        let value = match (known.measure, points) {
            (Measure::Points { max, .. }, Some(points)) if points <= max => points,
            (Measure::Points { max, .. }, _) => return Err(invalid(format!("{criterion} needs 0 to {max} points"))),
            (Measure::ResponseTime { .. }, None) => {
                // A second that has begun counts: nobody is in time who was not.
                u32::try_from((range.to - range.from).div_ceil(1_000_000)).unwrap_or(u32::MAX)
            }
            (Measure::ResponseTime { .. }, Some(_)) => {
                return Err(invalid(format!("{criterion} is a time: it is that of its footage, and has no points")));
            }
        };
        let bound = span::bind(store, check.recorder, range.from..range.to)?;
        let bound =
            bound.ok_or_else(|| invalid(format!("there is no footage of that time, which {criterion} needs")))?;
        all.push(JudgedRecord { criterion, value, span: bound });
    }
    Ok(check::in_order(case, all))
}
