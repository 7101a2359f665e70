//! `GET /v1/statistics/marks/rows`: exactly the rows that a figure counts, a page at a time.
//!
//! All pages are of one size of the log, which the cursor carries: what arrives meanwhile is on none of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::document::Computed;
use super::{Asked, REPORTED_DAYS_MAX, Seen, computed, each_mark, reported, reported_row, source_of, turn};
use crate::error::{Error, Kind, Result};
use crate::lookup::State;
use crate::lookup::problem::Problem;
use crate::lookup::request::FromQuery;
use crate::lookup::time;
use crate::lookup::viewer::{Report, Viewer};
use crate::statistics::{Source, Tally};
use crate::store::records::{Entered, MarkPlace, Raiser, RecorderKind, ReportedRecord};
use crate::store::{CountedEntry, ReportedKey};

/// Rows on a page when nothing else is asked for, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Which rows are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::lookup) struct RowsQuery {
    /// First day in the time zone, such as `2026-01-01`.
    from: String,
    /// The day after the last one.
    to: String,
    /// Only of this category.
    category: Option<String>,
    /// Only of this department.
    department: Option<String>,
    /// Only of this kind of recorder; empty for counts without one.
    kind: Option<String>,
    /// Only from these, separated by commas: `recorder`, `operator`, `reported`; all if not given.
    source: Option<String>,
    /// IANA name; that of the site if not given.
    time_zone: Option<String>,
    /// What the first so many entries of the log have; all of them if not given. A cursor says it itself.
    at: Option<u64>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Most rows on the page, 1 to 1000; 100 if not given.
    limit: Option<usize>,
}

/// A row that is counted.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct CountedRow {
    /// Where it was counted: `recorder`, `operator` or `reported`.
    source: &'static str,
    /// Category.
    category: String,
    /// The department for which it counts.
    department: String,
    /// Kind of recorder; empty for a count that does not say.
    kind: &'static str,
    /// How many it stands for: 1 for a mark.
    count: u64,
    /// When the mark was made, RFC 3339 UTC, by the clock of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    /// On which recorder.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorder: Option<String>,
    /// Its place in the chain, of a mark that was made on a recorder.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    /// Its index in the log, of a mark that was made on a recorder.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_index: Option<u64>,
    /// Number of the audit entry with which it came, of anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<u64>,
    /// Who counted, of a reported count.
    #[serde(skip_serializing_if = "Option::is_none")]
    counted_by: Option<String>,
    /// First day of its period.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// The day after the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

/// A page of the rows that are counted.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct RowPage {
    /// What was asked, in canonical form.
    query: String,
    /// Up to where was counted.
    at: Computed,
    /// Marks by their time, then reported counts by period, department, category and source.
    rows: Vec<CountedRow>,
    /// Cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// After this mark.
    Mark(MarkPlace),
    /// With this one of the reported counts.
    Reported(usize),
}

impl Place {
    fn write(self, tree_size: u64) -> String {
        match self {
            Self::Mark(MarkPlace { at, recorder, raiser }) => {
                let (raiser, number) = match raiser {
                    Raiser::Recorder(sequence) => ("r", sequence),
                    Raiser::Operator(number) => ("o", number),
                };
                format!("{tree_size}-{at}-{recorder}-{raiser}-{number}")
            }
            Self::Reported(index) => format!("{tree_size}-{index}"),
        }
    }

    fn read(text: &str) -> Option<(u64, Self)> {
        let parts: Vec<&str> = text.split('-').collect();
        match parts[..] {
            [size, index] => Some((size.parse().ok()?, Self::Reported(index.parse().ok()?))),
            [size, at, recorder, raiser, number] => {
                let number = number.parse().ok()?;
                let raiser = match raiser {
                    "r" => Raiser::Recorder(number),
                    "o" => Raiser::Operator(number),
                    _ => return None,
                };
                let place = MarkPlace { at: at.parse().ok()?, recorder: recorder.parse().ok()?, raiser };
                Some((size.parse().ok()?, Self::Mark(place)))
            }
            _ => None,
        }
    }
}

/// Exactly the rows that a figure counts, a page at a time.
#[utoipa::path(get, operation_id = "mark_rows", path = "/v1/statistics/marks/rows", tag = "statistics",
    params(RowsQuery),
    responses((status = 200, body = RowPage, example = json!({
            "query": "by=&category=bribe-attempt&from=2026-01-01&source=operator,recorder,reported&time_zone=Asia/Almaty&to=2026-02-01",
            "at": { "tree_size": 4711, "root": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
            "rows": [{ "source": "recorder", "category": "bribe-attempt", "department": "Astana", "kind": "officer", "count": 1,
                "at": "2026-01-17T09:14:02.000000Z", "recorder": "ab25d58504dd103930f03e729a98f929", "sequence": 12, "log_index": 4001 }]
        })),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn rows(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromQuery(query): FromQuery<RowsQuery>,
) -> Result<Json<RowPage>, Problem> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::invalid(format!("limit must be from 1 to {PAGE_MAX}")));
    }
    let wrong = || Error::new(Kind::Invalid, "cursor must be the next of a page of the same question");
    let cursor = query.cursor.as_deref().map(|text| Place::read(text).ok_or_else(wrong)).transpose()?;
    if cursor.is_some_and(|(size, _)| query.at.is_some_and(|at| at != size)) {
        return Err(wrong().into());
    }
    let asked = Asked {
        from: &query.from,
        to: &query.to,
        by: Some(""),
        period: None,
        category: query.category,
        department: query.department,
        kind: query.kind,
        source: query.source.as_deref(),
        time_zone: query.time_zone.as_deref(),
    };
    let question = asked.question(&state)?;
    let scope = viewer.over::<Report>().await?;
    let turn = turn(&state).await?;
    let (evidence, log) = (scope.evidence().clone(), Arc::clone(&state.log));
    let page = evidence.ask(move |store| {
        let _turn = turn;
        let at = computed(store, &log, cursor.map(|(size, _)| size).or(query.at))?;
        let mut seen = Seen::new(store, &scope, &at)?;
        let mut page = RowPage { query: question.canonical(time::format_day), at, rows: Vec::new(), next: None };
        let place = cursor.map(|(_, place)| place);
        let mut from = 0;
        match place {
            Some(Place::Reported(index)) => from = index,
            None | Some(Place::Mark(..)) => {
                let after = place.and_then(|place| match place {
                    Place::Mark(place) => Some(place),
                    Place::Reported(_) => None,
                });
                let mut last = None;
                let rows = &mut page.rows;
                let all = each_mark(store, &mut seen, &question, question.days, after, |_, mark| {
                    if rows.len() == limit {
                        return Ok(false);
                    }
                    last = Some(Place::Mark(mark.place));
                    rows.push(of_mark(mark));
                    Ok(true)
                })?;
                if !all {
                    page.next = last.map(|last| last.write(page.at.tree_size));
                    return Ok(page);
                }
            }
        }
        if question.sources.contains(&Source::Reported) {
            let begin = question.days.from.saturating_sub(REPORTED_DAYS_MAX);
            let counts = reported(store, &seen, begin..question.days.to)?.into_iter().filter(|(key, record)| {
                let within = question.days.from <= key.from && key.to <= question.days.to;
                within && Tally::takes(&question, &reported_row(key, record))
            });
            for (index, (key, record)) in counts.enumerate().skip(from) {
                if page.rows.len() == limit {
                    page.next = Some(Place::Reported(index).write(page.at.tree_size));
                    break;
                }
                page.rows.push(of_reported(key, record));
            }
        }
        Ok(page)
    });
    Ok(Json(page.await?))
}

fn of_mark(mark: &CountedEntry) -> CountedRow {
    let MarkPlace { at, recorder, raiser } = mark.place;
    let sequence = if let Raiser::Recorder(sequence) = raiser { Some(sequence) } else { None };
    let (log_index, entry) = match mark.record.entered {
        Entered::Link(index) => (Some(index), None),
        Entered::Entry(number) => (None, Some(number)),
    };
    CountedRow {
        source: source_of(raiser).name(),
        category: mark.record.category.clone(),
        department: mark.record.department.clone(),
        kind: mark.record.kind.name(),
        count: 1,
        at: Some(time::format(at)),
        recorder: Some(recorder.to_string()),
        sequence,
        log_index,
        entry,
        counted_by: None,
        from: None,
        to: None,
    }
}

fn of_reported(key: ReportedKey, record: ReportedRecord) -> CountedRow {
    CountedRow {
        source: Source::Reported.name(),
        kind: record.kind.map_or("", RecorderKind::name),
        category: record.category,
        department: record.department,
        count: record.count,
        at: None,
        recorder: None,
        sequence: None,
        log_index: None,
        entry: Some(key.entry),
        counted_by: Some(record.source),
        from: Some(time::format_day(key.from)),
        to: Some(time::format_day(key.to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_written_is_read_back_and_nothing_else() {
        let recorder = aigaq_proto::RecorderId([7; 16]);
        for place in [
            Place::Mark(MarkPlace { at: 5, recorder, raiser: Raiser::Recorder(u64::MAX) }),
            Place::Mark(MarkPlace { at: u64::MAX, recorder, raiser: Raiser::Operator(1) }),
            Place::Reported(3),
        ] {
            assert_eq!(Place::read(&place.write(9)), Some((9, place)));
        }
        for text in ["", "9", "9-", "-3", "9-x", "9-5-07-r-1", "9-5-07070707070707070707070707070707-x-1", "1-2-3"] {
            assert_eq!(Place::read(text), None, "{text}");
        }
    }
}
