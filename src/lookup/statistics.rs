//! `/v1/statistics`: how many marks there were, of what, where and when, against the same time of the year before.
//!
//! An answer says what was asked, in canonical form, and up to which entry of the log it was counted: the same again with `at` gives the same
//! figure for the same person, whatever has arrived since. What is counted are marks, each for the department that had the recorder when it
//! became durable and at the time at which it was made, unless another one took its place, and the counts that were reported. What is kept from whoever asks is in
//! no figure. [`rows`] gives exactly the rows that a figure counts.

mod document;
mod reported;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;

use aigaq_proto::RecorderId;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

use super::State;
use super::problem::Problem;
use super::reports::{Format, accepted};
use super::request::{self, FromQuery};
use super::time;
use super::viewer::{Report, Scope, Viewer};
use crate::error::{Error, Kind, Result};
use crate::log::Reader;
use crate::statistics::{Bucket, Days, Latest, Question, Row, Source, Tally, Wanted, calendar};
use crate::store::records::{Entered, MarkPlace, Raiser, RecorderKind, ReportedRecord};
use crate::store::{CountedEntry, ReportedKey, Store};
use document::{Computed, FigureList};

pub(super) use reported::{__path_report, report};
pub(super) use rows::{__path_rows, rows};

/// Figures that are counted at once; others wait their turn.
pub(super) const COUNTING_MAX: usize = 4;
/// Groups of one answer.
const GROUPS_MAX: usize = 10_000;
/// Longest category, department, source or time zone, characters.
const NAME_CHARS_MAX: usize = 100;
/// Longest period of a reported count, days.
const REPORTED_DAYS_MAX: u32 = 366;

/// Which figures are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FiguresQuery {
    /// First day in the time zone, such as `2026-01-01`.
    from: String,
    /// The day after the last one, such as `2026-02-01`; at most ten years later.
    to: String,
    /// What is told apart, separated by commas: `category`, `department`, `kind`, `source`; `category` if not given, empty for one sum.
    by: Option<String>,
    /// Each of these is told apart, too: `day`, `week` (from Monday), `month`, `year`.
    #[param(inline)]
    period: Option<Bucket>,
    /// Only of this category.
    category: Option<String>,
    /// Only of this department.
    department: Option<String>,
    /// Only of this kind of recorder: `officer`, `vehicle`, `premises`; empty for counts without one.
    kind: Option<String>,
    /// Only from these, separated by commas: `recorder`, `operator`, `reported`; all if not given.
    source: Option<String>,
    /// IANA name; that of the site if not given.
    time_zone: Option<String>,
    /// Count what the first so many entries of the log have; all of them if not given.
    at: Option<u64>,
    /// `json` or `csv`; without it what `Accept` says.
    #[param(inline)]
    format: Option<Format>,
}

/// What is asked, beside how it is told apart.
struct Asked<'a> {
    from: &'a str,
    to: &'a str,
    by: Option<&'a str>,
    period: Option<Bucket>,
    category: Option<String>,
    department: Option<String>,
    kind: Option<String>,
    source: Option<&'a str>,
    time_zone: Option<&'a str>,
}

impl Asked<'_> {
    /// The question, in the time zone of the site unless another one is named.
    fn question(self, state: &State) -> Result<Question> {
        let days = (day("from", self.from)?, day("to", self.to)?);
        let zone = match self.time_zone {
            Some(name) if name.len() > NAME_CHARS_MAX => "",
            Some(name) => name,
            None => state.time_zone.iana_name().unwrap_or("UTC"),
        };
        let wanted = Wanted { days, zone, by: self.by, source: self.source };
        let name = |what, text: Option<String>| text.map(|text| request::words(what, text, NAME_CHARS_MAX)).transpose();
        let kinds = [RecorderKind::Officer, RecorderKind::Vehicle, RecorderKind::Premises].map(RecorderKind::name);
        if self.kind.as_deref().is_some_and(|kind| !kind.is_empty() && !kinds.contains(&kind)) {
            return Err(Error::new(Kind::Invalid, format!("kind must be one of {}, or empty", kinds.join(", "))));
        }
        Ok(Question {
            category: self.category.map(|text| request::exactly("category", text, NAME_CHARS_MAX)).transpose()?,
            department: name("department", self.department)?,
            kind: self.kind,
            ..Question::read(&wanted, self.period)?
        })
    }
}

fn day(name: &str, text: &str) -> Result<u32> {
    time::parse_day(text).map_err(|_| Error::new(Kind::Invalid, format!("{name} must be a day, such as 2026-01-17")))
}

/// How many marks there were, by category or otherwise, and how many in the same time of the year before.
#[utoipa::path(get, operation_id = "mark_figures", path = "/v1/statistics/marks", tag = "statistics",
    params(FiguresQuery),
    responses(
        (status = 200, description = "The figures", content(
            (FigureList = "application/json", example = json!({
                "query": "by=category&from=2026-01-01&source=operator,recorder,reported&time_zone=Asia/Almaty&to=2026-02-01",
                "at": { "tree_size": 4711, "root": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
                "within": null,
                "from": "2026-01-01", "to": "2026-02-01", "before_from": "2025-01-01", "before_to": "2025-02-01",
                "rows": [{ "category": "bribe-attempt", "count": 34, "before": 13, "ratio": 2.615,
                    "rows": "/v1/statistics/marks/rows?at=4711&category=bribe-attempt&from=2026-01-01&source=operator,recorder,reported&time_zone=Asia/Almaty&to=2026-02-01" }],
                "total": { "count": 34, "before": 13, "ratio": 2.615 }, "left_out": 0
            })),
            (String = "text/csv"))),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn figures(
    viewer: Viewer,
    Shared(state): Shared<State>,
    headers: HeaderMap,
    FromQuery(query): FromQuery<FiguresQuery>,
) -> Result<Response, Problem> {
    let format = query.format.unwrap_or_else(|| accepted(&headers));
    let asked = Asked {
        from: &query.from,
        to: &query.to,
        by: query.by.as_deref(),
        period: query.period,
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
    let list = evidence.ask(move |store| {
        let _turn = turn;
        let at = computed(store, &log, query.at)?;
        let mut tally = Tally::new(&question);
        let mut seen = Seen::new(store, &scope, &at)?;
        for days in ranges(question.days) {
            each_mark(store, &mut seen, &question, days, None, |row, _| {
                tally.add(row);
                enough(&tally).map(|()| true)
            })?;
        }
        if question.sources.contains(&Source::Reported) {
            let from = question.days.before().from.saturating_sub(REPORTED_DAYS_MAX);
            for (key, record) in reported(store, &seen, from..question.days.to)? {
                tally.add(&reported_row(&key, &record));
                enough(&tally)?;
            }
        }
        Ok(FigureList::new(&question, at, scope.departments(), tally))
    });
    let list = list.await?;
    Ok(match format {
        Format::Json => Json(list).into_response(),
        Format::Csv => {
            let name = HeaderValue::from_static("attachment; filename=\"marks.csv\"");
            let media_type = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
            ([(header::CONTENT_TYPE, media_type), (header::CONTENT_DISPOSITION, name)], list.csv()).into_response()
        }
    })
}

/// One of the turns.
async fn turn(state: &State) -> Result<OwnedSemaphorePermit> {
    let turn = Arc::clone(&state.figures).acquire_owned().await;
    turn.map_err(|error| Error::new(Kind::Internal, "nothing is counted any more").because(error))
}

fn enough(tally: &Tally<'_>) -> Result<()> {
    if tally.groups() > GROUPS_MAX {
        let text = format!("the answer has more than {GROUPS_MAX} rows: ask for fewer days, or tell less apart");
        return Err(Error::new(Kind::Invalid, text));
    }
    Ok(())
}

/// Up to where is counted.
fn computed(store: &Store, log: &Reader, at: Option<u64>) -> Result<Computed> {
    let size = store.log_size()?;
    let tree_size = at.unwrap_or(size);
    if tree_size > size {
        return Err(Error::new(Kind::Invalid, format!("the log has {size} entries, and at must not be more")));
    }
    Ok(Computed { tree_size, root: log.root(tree_size)?.to_string() })
}

/// The days that have to be read for these and for those of the year before, none twice.
fn ranges(days: Days) -> Vec<Days> {
    let before = days.before();
    if before.to >= days.from { vec![Days { from: before.from, to: days.to }] } else { vec![before, days] }
}

/// Which rows are counted: those that the log has, of recorders that are not kept from whoever asks.
struct Seen<'a> {
    scope: &'a Scope<Report>,
    tree_size: u64,
    /// The last audit entry that the log has.
    entry: u64,
    known: HashMap<(RecorderId, String), bool>,
}

impl<'a> Seen<'a> {
    fn new(store: &Store, scope: &'a Scope<Report>, at: &Computed) -> Result<Self> {
        let entry = store.audit_within(at.tree_size)?;
        Ok(Self { scope, tree_size: at.tree_size, entry, known: HashMap::new() })
    }

    /// Whether a mark is one of them.
    fn has(&mut self, store: &Store, mark: &CountedEntry) -> Result<bool> {
        let is_logged = match mark.record.entered {
            Entered::Link(index) => index < self.tree_size,
            Entered::Entry(number) => number <= self.entry,
        };
        if !is_logged {
            return Ok(false);
        }
        let key = (mark.place.recorder, mark.record.department.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let record = store.recorder(mark.place.recorder)?;
        let seen = record.is_some_and(|record| self.scope.sees_of(&mark.record.department, &record));
        self.known.insert(key, seen);
        Ok(seen)
    }
}

/// Gives each mark of these days that is counted and asked for to `take`, as long as that returns `true`. Returns whether it went to the end.
fn each_mark(
    store: &Store,
    seen: &mut Seen<'_>,
    question: &Question,
    days: Days,
    after: Option<MarkPlace>,
    mut take: impl FnMut(&Row<'_>, &CountedEntry) -> Result<bool>,
) -> Result<bool> {
    if !question.sources.contains(&Source::Recorder) && !question.sources.contains(&Source::Operator) {
        return Ok(true);
    }
    let mut clock = calendar::Clock::new(question.zone.clone());
    let times = days.times(&question.zone)?;
    let replaced = store.replaced(times.clone(), seen.entry)?;
    for mark in store.counted(times, after) {
        let mark = mark?;
        if replaced.contains(&mark.place) {
            continue;
        }
        let day = clock.day(mark.place.at);
        let row = Row {
            category: &mark.record.category,
            department: &mark.record.department,
            kind: mark.record.kind.name(),
            source: source_of(mark.place.raiser),
            days: (day, day),
            count: 1,
        };
        if Tally::takes(question, &row) && seen.has(store, &mark)? && !take(&row, &mark)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn source_of(raiser: Raiser) -> Source {
    match raiser {
        Raiser::Recorder(_) => Source::Recorder,
        Raiser::Operator(_) => Source::Operator,
    }
}

/// What a reported count is about: what is said again of the same takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct About {
    from: u32,
    to: u32,
    department: String,
    category: String,
    kind: Option<&'static str>,
    source: String,
}

/// The reported counts that hold of periods that begin on these days, in the order of what they are about.
fn reported(store: &Store, seen: &Seen<'_>, from: std::ops::Range<u32>) -> Result<Vec<(ReportedKey, ReportedRecord)>> {
    let mut latest = Latest::default();
    for entry in store.reported(from) {
        let (key, record) = entry?;
        if key.entry > seen.entry || !seen.scope.sees_department(&record.department) {
            continue;
        }
        let about = About {
            from: key.from,
            to: key.to,
            department: record.department.clone(),
            category: record.category.clone(),
            kind: record.kind.map(RecorderKind::name),
            source: record.source.clone(),
        };
        latest.say(about, key.entry, (key, record));
    }
    Ok(latest.finish().into_iter().map(|(_, found)| found).collect())
}

fn reported_row<'a>(key: &ReportedKey, record: &'a ReportedRecord) -> Row<'a> {
    Row {
        category: &record.category,
        department: &record.department,
        kind: record.kind.map_or("", RecorderKind::name),
        source: Source::Reported,
        days: (key.from, key.to.saturating_sub(1)),
        count: record.count,
    }
}
