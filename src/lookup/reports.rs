//! `GET /v1/reports/dark`: for one day of the site, who was to record, what was recorded, what was not and why. As JSON or CSV.
//!
//! Rows go out as they are found, in the order of department, label and identifier, one recorder at a time, so that a large site costs
//! little memory and no time before the first byte. Nothing in a report tells when it was asked for: the same data give the
//! same bytes. A day that is over is counted whole, however long nothing has come; one that is not ends with the last link that
//! arrived from one of its recorders.

mod pieces;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use aigaq_proto::{Digest, Micros};
use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;

use super::coverage::scan;
use super::dark::{Shift, Sums, Tally};
use super::problem::Problem;
use super::request::FromQuery;
use super::state::State;
use super::time::{self, TimeRange};
use super::viewer::{self, Scope, Viewer};
use crate::error::{Error, Kind, Result};
use crate::fleet::Fleet;
use crate::store::Store;
use crate::store::records::RecorderRecord;
pub(super) use pieces::Format;
use pieces::{DarkHead, DarkReport, DarkRow, Minutes, Pieces};

/// Reports that are written at once: each keeps a thread busy until its reader has it.
pub(super) const REPORTS_MAX: usize = 2;
/// Pieces of a report that wait for a slow reader.
const PIECES_WAITING: usize = 16;

/// Which report is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DarkQuery {
    /// Only recorders of this department.
    department: Option<String>,
    /// The day in the time zone of the site, such as `2026-01-17`.
    day: String,
    /// `json` or `csv`; without it what `Accept` says.
    #[param(inline)]
    format: Option<Format>,
}

/// Who was to record on a day, what was recorded, what was not and why.
#[utoipa::path(get, operation_id = "dark_report", path = "/v1/reports/dark", tag = "reports", params(DarkQuery),
    responses(
        (status = 200, description = "The report", content((DarkReport = "application/json"), (String = "text/csv"))),
        (status = 304, description = "The same as the client has"),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn dark(
    viewer: Viewer,
    Shared(state): Shared<State>,
    headers: HeaderMap,
    FromQuery(query): FromQuery<DarkQuery>,
) -> Result<Response, Problem> {
    let format = query.format.unwrap_or_else(|| accepted(&headers));
    let (from, to) = day_of(&query.day, &state.time_zone)?;
    let head = DarkHead {
        day: query.day,
        time_zone: state.time_zone.iana_name().unwrap_or("UTC").to_owned(),
        from: time::format(from),
        to: time::format(to),
        until: String::new(),
    };
    let turn = Arc::clone(&state.reports).try_acquire_owned();
    let turn = turn.map_err(|_| Error::new(Kind::Busy, "other reports are being written"))?;
    let fleet = state.fleet.clone();
    // What is known to be over when the report is made; for a day that is not, the data say how far it goes.
    let known = (state.clock.now() >= to).then_some(to);
    let scope = viewer.over::<viewer::Report>().await?;
    let evidence = scope.evidence().clone();
    let report =
        evidence.ask(move |store| Report::of(store, &fleet, &scope, query.department, (from, to), known, head));
    let report = report.await?;
    let etag = report.etag(format);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let name = format!("attachment; filename=\"dark-{}.csv\"", report.head.day);
    let (pieces, body) = mpsc::channel(PIECES_WAITING);
    let fleet = state.fleet;
    tokio::spawn(async move {
        let _turn = turn;
        let failed = pieces.clone();
        let written = evidence.ask(move |store| report.write(store, &fleet, format, &mut Pieces::new(pieces))).await;
        if let Err(error) = written {
            // The connection ends without its last piece, so that nobody takes the part for the whole.
            match error.kind() {
                Kind::Invalid => tracing::debug!(%error, "a report was not finished"),
                _ => tracing::error!(%error, "a report was not finished"),
            }
            let _ = failed.send(Err(std::io::Error::other("the report was not finished"))).await;
        }
    });
    let body = futures_util::stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
    let mut response = Body::from_stream(body).into_response();
    let values = response.headers_mut();
    values.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    values.insert(header::VARY, HeaderValue::from_static("accept"));
    let media_type = match format {
        Format::Json => "application/json",
        Format::Csv => "text/csv; charset=utf-8; header=present",
    };
    values.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    for (name, value) in [(header::ETAG, etag), (header::CONTENT_DISPOSITION, name)] {
        // The day was parsed and the tag is hexadecimal, so both are header values.
        if let Ok(value) = HeaderValue::from_str(&value)
            && (name == header::ETAG || format == Format::Csv)
        {
            values.insert(name, value);
        }
    }
    Ok(response)
}

/// The form that a client accepts first.
pub(super) fn accepted(headers: &HeaderMap) -> Format {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = accepts.split(',').filter_map(|one| one.split(';').next()).map(str::trim);
    let known = |one: &str| match one {
        "text/csv" => Some(Format::Csv),
        "application/json" | "*/*" => Some(Format::Json),
        _ => None,
    };
    first.filter_map(known).next().unwrap_or(Format::Json)
}

/// A day of the site as a half-open range.
fn day_of(text: &str, zone: &TimeZone) -> Result<(Micros, Micros)> {
    let wrong = || Error::new(Kind::Invalid, "day must be a day from 1970 on, such as 2026-01-17");
    let shaped = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let day: Date = if shaped { text.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
    let begin = |day: Date| {
        let begin = day.to_zoned(zone.clone()).and_then(|day| day.start_of_day()).map_err(|_| wrong())?;
        Micros::try_from(begin.timestamp().as_microsecond()).map_err(|_| wrong())
    };
    Ok((begin(day)?, begin(day.tomorrow().map_err(|_| wrong())?)?))
}

/// One recorder of a report, before its timeline is read.
struct Entry {
    record: RecorderRecord,
    shifts: Vec<Shift>,
}

/// A report that is about to be written.
struct Report {
    head: DarkHead,
    range: TimeRange,
    /// In the order of the rows.
    entries: Vec<Entry>,
    /// Of everything that the report is made of.
    digest: Digest,
}

impl Report {
    /// Everything but the timelines. `until` is where the report ends; without it, with the last link that arrived.
    fn of(
        store: &Store,
        fleet: &Fleet,
        scope: &Scope<viewer::Report>,
        department: Option<String>,
        (from, to): (Micros, Micros),
        until: Option<Micros>,
        head: DarkHead,
    ) -> Result<Self> {
        let mut records = Vec::new();
        for record in store.recorders() {
            let record = record?;
            if scope.sees(&record) && department.as_ref().is_none_or(|department| record.department == *department) {
                records.push(record);
            }
        }
        records.sort_by(|a, b| (&a.department, &a.label, a.id).cmp(&(&b.department, &b.label, b.id)));
        let until = match until {
            Some(until) => until,
            None => last_arrival(store, &records)?.clamp(from, to),
        };
        let mut said = format!("{head:?} {until} {}\n", store.footage_floor());
        let mut entries = Vec::with_capacity(records.len());
        for record in records {
            let shifts: Vec<Shift> = fleet
                .assigned_within(record.id, from, until)?
                .into_iter()
                .map(|one| Shift { from: one.from.max(from), to: one.end().min(until), assignee: one.assignee })
                .filter(|shift| shift.from < shift.to)
                .collect();
            let announced = fleet.announcement(record.id)?;
            let announced = announced.map(|one| (one.waiting, one.oldest, one.newest, one.up_to, one.refused));
            let RecorderRecord { id, kind, department, label, .. } = &record;
            let chain = store.head(*id)?;
            let _ = writeln!(said, "{id} {kind:?} {department:?} {label:?} {shifts:?} {announced:?} {chain:?}");
            said = Digest::of(said.as_bytes()).to_string();
            entries.push(Entry { record, shifts });
        }
        let head = DarkHead { until: time::format(until), ..head };
        Ok(Self { head, range: TimeRange { from, to: until }, entries, digest: Digest::of(said.as_bytes()) })
    }

    fn etag(&self, format: Format) -> String {
        format!("\"{}-{}\"", self.digest, if format == Format::Csv { "csv" } else { "json" })
    }

    /// Reads the timelines and writes the rows, then the sums.
    fn write(self, store: &Store, fleet: &Fleet, format: Format, out: &mut Pieces) -> Result<()> {
        out.open(format, &self.head)?;
        let mut departments: BTreeMap<String, (u64, Tally)> = BTreeMap::new();
        for entry in self.entries {
            let sum = departments.entry(entry.record.department.clone()).or_default();
            sum.0 += 1;
            for row in rows(store, fleet, &entry, self.range)? {
                sum.1.add(&row.1);
                out.row(format, row.0, &row.1)?;
            }
        }
        out.sums(format, departments)
    }
}

/// When the last link of one of these recorders arrived; 0 if none ever did.
fn last_arrival(store: &Store, records: &[RecorderRecord]) -> Result<Micros> {
    records
        .iter()
        .try_fold(0, |last, record| Ok(store.head(record.id)?.map_or(0, |head| head.last_received_at).max(last)))
}

/// The rows of one recorder: one for each assignee, and one for what was recorded while nobody had it, if anything was.
fn rows(store: &Store, fleet: &Fleet, entry: &Entry, range: TimeRange) -> Result<Vec<(DarkRow, Tally)>> {
    let mut sums = Sums::new((range.from, range.to), &entry.shifts);
    if range.from < range.to {
        let rest = scan(store, fleet, entry.record.id, range, None, |builder| {
            builder.drain().holes.iter().for_each(|hole| sums.hole(hole));
        })?;
        rest.holes.iter().for_each(|hole| sums.hole(hole));
    }
    let (of_each, unplanned) = sums.finish();
    let mut rows: Vec<_> = of_each.into_iter().map(|(name, tally)| (Some(name.to_owned()), tally)).collect();
    if unplanned > 0 {
        rows.push((None, Tally { recorded: unplanned, ..Tally::default() }));
    }
    let record = &entry.record;
    let row = |(assignee, tally): (Option<String>, Tally)| {
        let row = DarkRow {
            department: record.department.clone(),
            recorder: record.id.to_string(),
            label: record.label.clone(),
            kind: record.kind,
            assignee,
            minutes: Minutes::of(&tally),
        };
        (row, tally)
    };
    Ok(rows.into_iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_the_site() {
        let utc = day_of("2026-01-17", &TimeZone::UTC).unwrap();
        assert_eq!((utc.1 - utc.0, time::format(utc.0)), (time::DAY_US, "2026-01-17T00:00:00.000000Z".to_owned()));
        let almaty = day_of("2026-01-17", &TimeZone::get("Asia/Almaty").unwrap()).unwrap();
        assert_eq!(time::format(almaty.0), "2026-01-16T19:00:00.000000Z");
        let berlin = day_of("2026-03-29", &TimeZone::get("Europe/Berlin").unwrap()).unwrap();
        assert_eq!(berlin.1 - berlin.0, 23 * 3_600_000_000, "the clocks go forward");
        for text in
            ["", "today", "2026-1-7", "2026-02-30", "1969-12-31", "2026-01-17T00:00:00Z", "+02026-01-1", "9999-12-31"]
        {
            assert_eq!(day_of(text, &TimeZone::UTC).unwrap_err().kind(), Kind::Invalid, "{text}");
        }
    }

    #[test]
    fn the_form_is_what_is_accepted_first() {
        let accepts =
            |value: &'static str| accepted(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]));
        assert_eq!(accepted(&HeaderMap::new()), Format::Json);
        assert_eq!([accepts("text/csv"), accepts("text/csv;q=0.9, */*")], [Format::Csv; 2]);
        assert_eq!([accepts("*/*"), accepts("text/html, application/json"), accepts("x")], [Format::Json; 3]);
    }
}
