//! `/v1/checks`: integrity checks, for inspectors alone.
//!
//! Nobody else learns whether there is one: whoever is no inspector gets the same refusal whatever there is, and for an inspector of another
//! department a check is not there. What is asked here is in the audit trail as of the kind `check`, which inspectors of the department alone
//! are shown; it is in no event and no metric. Until a check is closed its assessors see what they scored themselves, and neither the other
//! nor whether there is one, in the trail neither.

mod cases;
mod draws;
mod results;
mod scores;

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::State;
use super::holds::{ActDocument, act, act_document};
use super::problem::Problem;
use super::request::{FromJson, FromPath, FromQuery, recorder_id, words};
use super::time::{self, TimeRange};
use super::viewer::{Check, Scope, Viewer};
use crate::error::{Error, Kind, Result};
use crate::integrity::case::Case;
use crate::integrity::check::{self, Part, State as Standing};
use crate::integrity::said;
use crate::store::Store;
use crate::store::records::{CheckId, CheckRecord, Event, SheetRecord};

pub(super) use cases::{__path_add_case, __path_case, __path_list_cases, add_case, case, list_cases};
pub(super) use draws::{
    __path_commit_draw, __path_draw, __path_list_draws, __path_reveal_draw, commit_draw, draw, list_draws, reveal_draw,
};
pub(super) use results::{__path_check_figures, __path_results, check_figures, results};
pub(super) use scores::{__path_name_third, __path_score, name_third, score};

/// What is said of a check that is not there, or not for them.
pub(super) const ABSENT: &str = "there is no such check";
/// What is said of somebody who cannot score a check.
const NO_INSPECTOR: &str = "nobody of this name is an inspector of the department";
/// Things on a page when nothing else is asked for, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Longest name of a person or an assessor, characters.
const NAME_CHARS_MAX: usize = 100;
/// Longest span of footage that a check is about, days.
const DAYS_MAX: u64 = 7;

/// Which page is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Most things on the page, 1 to 1000; 100 if not given.
    limit: Option<usize>,
}

impl PageQuery {
    fn limit(&self) -> Result<usize> {
        let limit = self.limit.unwrap_or(PAGE_DEFAULT);
        let fits = (1..=PAGE_MAX).contains(&limit);
        if fits { Ok(limit) } else { Err(Error::new(Kind::Invalid, format!("limit must be from 1 to {PAGE_MAX}"))) }
    }

    fn after(&self) -> Result<Option<CheckId>> {
        self.cursor.as_deref().map(check_id).transpose()
    }
}

/// A check that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "case": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "recorder": "ab25d58504dd103930f03e729a98f929", "person": "badge 4711",
    "from": "2026-01-17T09:00:00Z", "to": "2026-01-17T10:00:00Z",
    "assessors": ["account:saule", "account:marat"], "reason": "plan of the first quarter"
}))]
pub(super) struct NewCheck {
    /// Digest of the version of the case.
    case: String,
    /// The recorder whose footage shows it.
    recorder: String,
    /// Who is checked, as the roster names them.
    person: String,
    /// Beginning of the footage that may be bound, RFC 3339 UTC.
    from: String,
    /// End, exclusive; at most 7 days later.
    to: String,
    /// The two inspectors who score, as the audit trail names them; neither of them makes the check.
    assessors: [String; 2],
    /// The draw by which the person was chosen, if it was one: one check of each by a draw.
    draw: Option<String>,
    /// Why; at most 500 characters.
    reason: String,
}

/// Where a check stands, for the one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CheckState {
    /// For an assessor: it is to be scored.
    ToScore,
    /// For an assessor: they have scored it.
    Scored,
    /// Not both have scored.
    Open,
    /// The two disagree, and somebody has to decide.
    Disputed,
    /// Nothing is left to decide.
    Closed,
}

/// A check. What the one who asks may not know yet is not there.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CheckDocument {
    /// Its name.
    id: String,
    /// The department.
    department: String,
    /// The recorder whose footage shows it.
    recorder: String,
    /// Digest of the version of the case.
    case: String,
    /// Who is checked.
    person: String,
    /// The draw by which they were chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    draw: Option<String>,
    /// Beginning of the footage that may be bound, RFC 3339 UTC.
    from: String,
    /// End, exclusive.
    to: String,
    /// Who made it, when and why.
    made: ActDocument,
    /// Where it stands.
    #[schema(inline)]
    state: CheckState,
    /// Criteria that the one who asks has to judge, or has judged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    to_judge: Vec<String>,
    /// Who scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    assessors: Option<[String; 2]>,
    /// Who decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    third: Option<String>,
    /// What was scored: before it is closed, by the one who asks.
    sheets: Vec<SheetDocument>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeDocument>,
    /// When nothing was left to decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<String>,
}

/// What an assessor scored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SheetDocument {
    /// Who.
    by: String,
    /// When, RFC 3339 UTC.
    at: String,
    /// Which response the checked person chose.
    option: String,
    /// Criterion by criterion.
    scores: Vec<ScoreDocument>,
}

/// What was judged of one criterion, and what shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScoreDocument {
    /// The criterion.
    criterion: String,
    /// Points, or for a time seconds.
    value: u32,
    /// Beginning of the footage that shows it.
    from: String,
    /// End, exclusive.
    to: String,
    /// The first media link of that footage, and the last.
    sequences: [u64; 2],
    /// SHA-256 of the digests of those links.
    digest: String,
}

/// What came of a check.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutcomeDocument {
    /// Which response the checked person chose.
    option: String,
    /// What all criteria are worth together, 0 to 1.
    share: f64,
    /// Criterion by criterion.
    values: Vec<ValueDocument>,
}

/// What a criterion came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ValueDocument {
    /// The criterion.
    criterion: String,
    /// Points, or for a time seconds.
    value: f64,
}

/// A page of checks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CheckPage {
    /// In the order in which they were made.
    checks: Vec<CheckDocument>,
    /// Cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Makes a check. Whoever makes it does not score it.
#[utoipa::path(post, operation_id = "create_check", path = "/v1/checks", tag = "checks", request_body = NewCheck,
    responses((status = 201, description = "It is made", body = CheckDocument), (status = 409, response = Problem),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn create(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromJson(new): FromJson<NewCheck>,
) -> Result<Response, Problem> {
    let recorder = recorder_id(&new.recorder)?;
    let range = TimeRange::parse(&new.from, &new.to, DAYS_MAX)?;
    let case = digest("case", &new.case)?;
    let draw = new.draw.as_deref().map(check_id).transpose()?;
    let person = words("person", new.person, NAME_CHARS_MAX)?;
    let [one, other] = new.assessors;
    let assessors = [words("assessors", one, NAME_CHARS_MAX)?, words("assessors", other, NAME_CHARS_MAX)?];
    let made = act(&viewer, &state, new.reason)?;
    if assessors[0] == assessors[1] || assessors.contains(&made.by) {
        return Err(Problem::invalid("two others score a check, each by themselves: name two, and not yourself"));
    }
    let permit = viewer.of::<Check>(recorder).await?;
    let check = CheckRecord {
        id: new_id(&state)?,
        department: permit.record().department.clone(),
        recorder,
        case,
        draw,
        person,
        from: range.from,
        to: range.to,
        made,
        assessors,
        third: None,
        sheets: Vec::new(),
        closed_at: None,
    };
    let id = id_text(check.id);
    let mut entry = viewer.entry(Event::Check, format!("make check {id} with case {case}")).about(id.clone());
    (entry.at, entry.content) = (check.made.at, Some(said::made(&check)?));
    let actor = viewer.actor().to_owned();
    let access = state.access.clone();
    let made = permit.evidence().ask(move |store| {
        let (case, _) = logged_case(store, check.case)?;
        if !check.assessors.iter().all(|one| access.could(one, crate::access::Verb::Check, &check.department)) {
            return Ok(Err(NO_INSPECTOR));
        }
        if let Some(refused) = store.add_check(&check, &entry, || not_drawn(store, &check))? {
            return Ok(Err(refused));
        }
        Ok(Ok(document(&case, &check, &actor)))
    });
    let document = made.await?.map_err(|refused| Problem::new(StatusCode::CONFLICT, refused))?;
    let place = [(header::LOCATION, format!("/v1/checks/{id}"))];
    Ok((StatusCode::CREATED, place, Json(document)).into_response())
}

/// Why a check does not go with the draw that it names.
fn not_drawn(store: &Store, check: &CheckRecord) -> Result<Option<&'static str>> {
    let Some(id) = check.draw else { return Ok(None) };
    let draw = store.draw(id)?.filter(|draw| draw.department == check.department);
    let Some(draw) = draw else { return Ok(Some("there is no such draw in the department of the recorder")) };
    let Some(revealed) = draw.revealed else { return Ok(Some("the seed of the draw was not shown yet")) };
    let drawn = |place: &u32| usize::try_from(*place).ok().and_then(|place| draw.roster.get(place));
    let is_drawn = revealed.drawn.iter().filter_map(drawn).any(|person| *person == check.person);
    if !is_drawn {
        return Ok(Some("the draw did not draw this person"));
    }
    let again = checked_by(store, id)?.contains(&check.person);
    Ok(again.then_some("there is a check of this person by this draw already"))
}

/// Of whom there are checks by a draw.
fn checked_by(store: &Store, draw: CheckId) -> Result<BTreeSet<String>> {
    let mut persons = BTreeSet::new();
    for check in store.checks(None) {
        let check = check?;
        if check.draw == Some(draw) {
            persons.insert(check.person);
        }
    }
    Ok(persons)
}

/// Checks, a page at a time.
#[utoipa::path(get, operation_id = "list_checks", path = "/v1/checks", tag = "checks", params(PageQuery),
    responses((status = 200, body = CheckPage), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(viewer: Viewer, FromQuery(query): FromQuery<PageQuery>) -> Result<Json<CheckPage>, Problem> {
    let (limit, after) = (query.limit()?, query.after()?);
    let actor = viewer.actor().to_owned();
    let scope = viewer.over::<Check>().await?;
    let evidence = scope.evidence().clone();
    let page = evidence.ask(move |store| {
        let mut checks = Vec::new();
        let mut last = None;
        for check in store.checks(after) {
            let check = check?;
            if !scope.sees_department(&check.department) {
                continue;
            }
            if checks.len() == limit {
                return Ok(CheckPage { checks, next: last.map(id_text) });
            }
            last = Some(check.id);
            checks.push(document(&case_of(store, &check)?, &check, &actor));
        }
        Ok(CheckPage { checks, next: None })
    });
    Ok(Json(page.await?))
}

/// One check, as far as the one who asks may know it.
#[utoipa::path(get, operation_id = "check", path = "/v1/checks/{id}", tag = "checks",
    params(("id" = String, Path, description = "Check")),
    responses((status = 200, body = CheckDocument), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn one(viewer: Viewer, FromPath(id): FromPath<String>) -> Result<Json<CheckDocument>, Problem> {
    let id = check_id(&id)?;
    let actor = viewer.actor().to_owned();
    let scope = of_check(&viewer, id).await?;
    let document = scope.evidence().ask(move |store| {
        let check = store.check(id)?.ok_or_else(absent)?;
        Ok(document(&case_of(store, &check)?, &check, &actor))
    });
    Ok(Json(document.await?))
}

/// Leave to deal with a check of their department.
async fn of_check(viewer: &Viewer, id: CheckId) -> Result<Scope<Check>, Problem> {
    let theirs = move |store: &Store, scope: &Scope<Check>| {
        Ok(store.check(id)?.is_some_and(|check| scope.sees_department(&check.department)))
    };
    viewer.over_if(ABSENT, theirs).await
}

fn absent() -> Error {
    Error::new(Kind::NotFound, ABSENT)
}

/// A version of a case that the log has, with its place there.
fn logged_case(store: &Store, digest: aigaq_proto::Digest) -> Result<(Case, u64)> {
    let record = store.case(digest)?.ok_or_else(|| Error::new(Kind::NotFound, "there is no such case"))?;
    let leaf = store.audit_leaf(record.entry)?;
    let leaf = leaf.ok_or_else(|| Error::new(Kind::Busy, "the case is not in the log yet: ask again in a second"))?;
    Ok((Case::read(&record.canonical)?, leaf.log_index))
}

/// The case of a check.
fn case_of(store: &Store, check: &CheckRecord) -> Result<Case> {
    let record = store.case(check.case)?;
    let record = record.ok_or_else(|| Error::new(Kind::Damaged, "the case of a check is gone"))?;
    Case::read(&record.canonical)
}

/// Reads the name of a check or of a draw.
pub(super) fn check_id(text: &str) -> Result<CheckId> {
    let wrong = || Error::new(Kind::Invalid, "the id of a check or a draw has 32 lower-case hexadecimal digits");
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| wrong())?;
    Ok(CheckId(bytes.try_into().map_err(|_| wrong())?))
}

pub(super) fn id_text(id: CheckId) -> String {
    data_encoding::HEXLOWER.encode(&id.0)
}

/// A name for something new.
fn new_id(state: &State) -> Result<CheckId> {
    let random = crate::access::random()?;
    let random = data_encoding::HEXLOWER.decode(random.as_bytes()).unwrap_or_default();
    let random = random.first_chunk().copied().unwrap_or_default();
    Ok(CheckId::new(state.clock.now(), random))
}

/// Reads a digest.
fn digest(name: &str, text: &str) -> Result<aigaq_proto::Digest> {
    let wrong = || Error::new(Kind::Invalid, format!("{name} must be 64 lower-case hexadecimal digits"));
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| wrong())?;
    Ok(aigaq_proto::Digest(bytes.try_into().map_err(|_| wrong())?))
}

/// What somebody may know of a check.
fn document(case: &Case, check: &CheckRecord, actor: &str) -> CheckDocument {
    let (part, standing) = (check::part(check, actor), check::state(case, check));
    let is_closed = standing == Standing::Closed;
    let own = check::sheet_of(check, actor);
    let state = match (standing, part) {
        (Standing::Closed, _) => CheckState::Closed,
        (_, Part::Assessor | Part::Third) if own.is_some() => CheckState::Scored,
        (_, Part::Assessor | Part::Third) => CheckState::ToScore,
        (Standing::Open, Part::Other) => CheckState::Open,
        (Standing::Disputed, Part::Other) => CheckState::Disputed,
    };
    let knows_who = is_closed || part == Part::Other;
    let sheets = if is_closed { check.sheets.iter().collect() } else { own.into_iter().collect::<Vec<_>>() };
    let outcome = check::outcome(case, check).map(|outcome| OutcomeDocument {
        option: outcome.option,
        share: outcome.share,
        values: outcome.values.into_iter().map(|(criterion, value)| ValueDocument { criterion, value }).collect(),
    });
    CheckDocument {
        id: id_text(check.id),
        department: check.department.clone(),
        recorder: check.recorder.to_string(),
        case: check.case.to_string(),
        person: check.person.clone(),
        draw: check.draw.map(id_text),
        from: time::format(check.from),
        to: time::format(check.to),
        made: act_document(check.made.clone()),
        state,
        to_judge: if part == Part::Other { Vec::new() } else { check::to_judge(case, check, actor) },
        assessors: knows_who.then(|| check.assessors.clone()),
        third: check.third.clone().filter(|third| knows_who || third == actor),
        sheets: sheets.into_iter().map(sheet_document).collect(),
        outcome,
        closed_at: check.closed_at.map(time::format),
    }
}

fn sheet_document(sheet: &SheetRecord) -> SheetDocument {
    let score = |judged: &crate::store::records::JudgedRecord| ScoreDocument {
        criterion: judged.criterion.clone(),
        value: judged.value,
        from: time::format(judged.span.from),
        to: time::format(judged.span.to),
        sequences: [judged.span.first, judged.span.last],
        digest: judged.span.digest.to_string(),
    };
    SheetDocument {
        by: sheet.by.clone(),
        at: time::format(sheet.at),
        option: sheet.option.clone(),
        scores: sheet.judged.iter().map(score).collect(),
    }
}
