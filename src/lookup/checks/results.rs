//! What came of integrity checks: `/v1/checks/results` for inspectors, with persons and agreement; `/v1/statistics/checks` for others, of quarters
//! that are over, and of no fewer people than so many that nobody can be told from them.
//!
//! Whole quarters do not overlap and do not change any more, and there are no sums over rows: no two answers have a difference that is one person.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use aigaq_proto::Digest;
use axum::Json;
use axum::extract::State as Shared;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::{Error, Kind, Result};
use crate::integrity::case::Case;
use crate::integrity::results::{Group, PERSONS_MIN, Sum, add_up, for_others};
use crate::lookup::State;
use crate::lookup::problem::Problem;
use crate::lookup::request::FromQuery;
use crate::lookup::time::{format_day, parse_day};
use crate::lookup::viewer::{Check, Report, Viewer};
use crate::statistics::Days;
use crate::store::Store;
use crate::store::records::CheckRecord;

use super::case_of;

/// Checks that are added up at once.
const CHECKS_MAX: usize = 50_000;

/// Which results are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::lookup) struct ResultsQuery {
    /// Of checks that were closed on this day of the site or later, such as `2026-01-01`.
    from: String,
    /// And before this day.
    to: String,
    /// Only of this department.
    department: Option<String>,
}

/// Results of checks.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct ResultList {
    /// By department, case and criterion.
    results: Vec<ResultRow>,
}

/// What a criterion came to in a department.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct ResultRow {
    /// What it came to.
    #[serde(flatten)]
    #[schema(inline)]
    sum: ResultSum,
    /// How many checks.
    checks: usize,
    /// The share of pairs of scores that are within the bound of the criterion, 0 to 1.
    agreement: Option<f64>,
    /// Cohen's kappa of those pairs, over points, or over whether a time was within its target; null where chance alone would always agree.
    kappa: Option<f64>,
    /// Who was checked, with what it came to.
    values: Vec<PersonValue>,
}

/// What a criterion came to in a department, without anybody's name.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct ResultSum {
    /// The department.
    department: String,
    /// Digest of the version of the case.
    case: String,
    /// What people call it.
    case_name: String,
    /// The criterion.
    criterion: String,
    /// How many different people.
    persons: usize,
    /// What it is worth on the mean, 0 to 1.
    share: f64,
    /// The median time in which an appeal was answered, seconds; null where points are given.
    median_s: Option<f64>,
}

/// What a criterion came to for somebody.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct PersonValue {
    /// Who was checked.
    person: String,
    /// Points, or for a time seconds.
    value: f64,
}

/// Which quarter is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::lookup) struct QuarterQuery {
    /// A quarter that is over, such as `2026-Q1`, in days of the site.
    quarter: String,
}

/// What checks came to in a quarter.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct CheckFigures {
    /// The quarter.
    quarter: String,
    /// First day.
    from: String,
    /// The day after the last one.
    to: String,
    /// What fewer different people add up to is not here.
    persons_min: usize,
    /// By department, case and criterion.
    rows: Vec<ResultSum>,
}

/// What came of checks by department and criterion, with persons, and how far assessors agree.
#[utoipa::path(get, operation_id = "check_results", path = "/v1/checks/results", tag = "checks", params(ResultsQuery),
    responses((status = 200, body = ResultList, example = json!({ "results": [{
            "department": "Astana", "case": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "case_name": "money in the papers", "criterion": "appeal", "persons": 1, "share": 1.0, "median_s": 150.0,
            "checks": 1, "agreement": 1.0, "kappa": null, "values": [{ "person": "badge 4711", "value": 150.0 }] }] })),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn results(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromQuery(query): FromQuery<ResultsQuery>,
) -> Result<Json<ResultList>, Problem> {
    let days = Days { from: day("from", &query.from)?, to: day("to", &query.to)? };
    if days.from >= days.to {
        return Err(Problem::invalid("from must be before to"));
    }
    let times = days.times(&state.time_zone)?;
    let scope = viewer.over::<Check>().await?;
    let evidence = scope.evidence().clone();
    let list = evidence.ask(move |store| {
        let wanted = |check: &CheckRecord| {
            query.department.as_ref().is_none_or(|department| check.department == *department)
                && scope.sees_department(&check.department)
                && check.closed_at.is_some_and(|at| times.contains(&at))
        };
        let results = sums(store, wanted)?.into_iter().map(|(group, sum)| ResultRow {
            checks: sum.values.len(),
            agreement: sum.agreement(),
            kappa: sum.kappa(),
            values: sum
                .values
                .iter()
                .map(|(person, value)| PersonValue { person: person.clone(), value: *value })
                .collect(),
            sum: result(group, &sum),
        });
        Ok(ResultList { results: results.collect() })
    });
    Ok(Json(list.await?))
}

/// What checks came to in a quarter that is over, without anybody's name.
#[utoipa::path(get, operation_id = "check_figures", path = "/v1/statistics/checks", tag = "statistics",
    params(QuarterQuery),
    responses((status = 200, body = CheckFigures, example = json!({
            "quarter": "2026-Q1", "from": "2026-01-01", "to": "2026-04-01", "persons_min": 5, "rows": [{
                "department": "Astana", "case": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "case_name": "money in the papers", "criterion": "appeal", "persons": 17, "share": 0.82, "median_s": 214.0 }] })),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn check_figures(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromQuery(query): FromQuery<QuarterQuery>,
) -> Result<Json<CheckFigures>, Problem> {
    let days = quarter(&query.quarter)?;
    let times = days.times(&state.time_zone)?;
    if state.clock.now() < times.end {
        return Err(Problem::invalid("the quarter is not over"));
    }
    let scope = viewer.over::<Report>().await?;
    let evidence = scope.evidence().clone();
    let rows = evidence.ask(move |store| {
        let wanted = |check: &CheckRecord| {
            scope.sees_department(&check.department) && check.closed_at.is_some_and(|at| times.contains(&at))
        };
        Ok(for_others(sums(store, wanted)?).into_iter().map(|(group, sum)| result(group, &sum)).collect())
    });
    Ok(Json(CheckFigures {
        quarter: query.quarter,
        from: format_day(days.from),
        to: format_day(days.to),
        persons_min: PERSONS_MIN,
        rows: rows.await?,
    }))
}

fn day(name: &str, text: &str) -> Result<u32> {
    parse_day(text).map_err(|_| Error::new(Kind::Invalid, format!("{name} must be a day, such as 2026-01-17")))
}

/// The days of a quarter such as `2026-Q1`.
fn quarter(text: &str) -> Result<Days> {
    let wrong = || Error::new(Kind::Invalid, "quarter must be one such as 2026-Q1");
    let (year, number) = text.split_once("-Q").ok_or_else(wrong)?;
    let is_year = year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit());
    let year: i16 = year.parse().ok().filter(|year| is_year && (1970..9999).contains(year)).ok_or_else(wrong)?;
    let first: i8 = match number {
        "1" => 1,
        "2" => 4,
        "3" => 7,
        "4" => 10,
        _ => return Err(wrong()),
    };
    let begin = Date::new(year, first, 1).map_err(|_| wrong())?;
    let end = if first == 10 { Date::new(year + 1, 1, 1) } else { Date::new(year, first + 3, 1) };
    let number = |date: Date| parse_day(&date.to_string());
    Ok(Days { from: number(begin)?, to: number(end.map_err(|_| wrong())?)? })
}

/// Adds up the checks that are wanted.
fn sums(store: &Store, wanted: impl Fn(&CheckRecord) -> bool) -> Result<BTreeMap<Group, Sum>> {
    let (mut checks, mut cases): (Vec<CheckRecord>, HashMap<Digest, Case>) = Default::default();
    for check in store.checks(None) {
        let check = check?;
        if !wanted(&check) {
            continue;
        }
        if checks.len() == CHECKS_MAX {
            return Err(Error::new(Kind::Invalid, "there are too many checks in these days: ask for fewer"));
        }
        if let Entry::Vacant(unread) = cases.entry(check.case) {
            unread.insert(case_of(store, &check)?);
        }
        checks.push(check);
    }
    Ok(add_up(checks.iter().filter_map(|check| Some((cases.get(&check.case)?, check)))))
}

fn result(group: Group, sum: &Sum) -> ResultSum {
    ResultSum {
        department: group.department,
        case: group.case.to_string(),
        case_name: sum.case_name.clone(),
        criterion: group.criterion,
        persons: sum.persons(),
        share: sum.share(),
        median_s: sum.median_s(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_follow_one_another_without_a_gap() {
        let names = ["2025-Q4", "2026-Q1", "2026-Q2", "2026-Q3", "2026-Q4", "2027-Q1"];
        for pair in names.windows(2) {
            assert_eq!(quarter(pair[0]).unwrap().to, quarter(pair[1]).unwrap().from, "{pair:?}");
        }
        assert_eq!(format_day(quarter("2026-Q3").unwrap().from), "2026-07-01");
        for text in ["", "2026", "2026-Q0", "2026-Q5", "26-Q1", "+026-Q1", "9999-Q1", "2026-Q1 "] {
            assert!(quarter(text).is_err(), "{text}");
        }
    }
}
