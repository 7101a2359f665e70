//! `POST /v1/statistics/reported`: counts that were not made here, such as the table of a city.
//!
//! They are written down as they came, with who brought them in, in the audit trail and with it in the log; they come out of the figures as they
//! went in. What is reported again of the same source, period, department, category and kind takes the place of what was said before, in
//! figures of the log from then on; figures of the log before stay.

use std::collections::BTreeSet;

use aigaq_proto::Digest;
use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{NAME_CHARS_MAX, REPORTED_DAYS_MAX, day};
use crate::error::{Context as _, Error, Kind, Result};
use crate::lookup::State;
use crate::lookup::problem::Problem;
use crate::lookup::request::{FromJson, words};
use crate::lookup::time::format_day;
use crate::lookup::viewer::{Count, Viewer};
use crate::store::records::{Event, RecorderKind, ReportedRecord};

/// Counts at once.
const COUNTS_MAX: usize = 500;
/// The greatest count.
const COUNT_MAX: u64 = 1_000_000_000_000;
/// What is said of a department that is not theirs.
const ABSENT: &str = "there is no such department";

/// Counts of one period.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "source": "city table", "department": "Astana", "from": "2026-01-01", "to": "2026-02-01",
    "counts": [{ "category": "drunk-driving", "count": 187 }, { "category": "speeding", "count": 16600 }]
}))]
pub(in crate::lookup) struct NewCounts {
    /// Who counted; at most 100 characters.
    source: String,
    /// Where.
    department: String,
    /// First day of the period, in the time zone of the site.
    from: String,
    /// The day after the last one, at most 366 days later.
    to: String,
    /// 1 to 500 counts, each of another category or kind.
    #[schema(min_items = 1, max_items = 500)]
    counts: Vec<NewCount>,
}

/// One count.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::lookup) struct NewCount {
    /// Of what.
    category: String,
    /// Of which kind of recorder, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<RecorderKind>,
    /// How many.
    #[schema(maximum = 1_000_000_000_000_u64)]
    count: u64,
}

/// Counts that are written down.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct CountsDocument {
    /// Number of the audit entry; they are in figures as soon as the log has it, about half a second later.
    entry: u64,
    /// SHA-256 of them as they are written down, which the entry has, too.
    content: String,
    /// What is written down.
    #[serde(flatten)]
    #[schema(inline)]
    counts: NewCounts,
}

/// Brings in counts that were not made here.
#[utoipa::path(post, operation_id = "report_counts", path = "/v1/statistics/reported", tag = "statistics",
    request_body = NewCounts,
    responses((status = 201, description = "They are written down", body = CountsDocument),
        (status = 404, response = Problem), (status = "default", response = Problem)),
    security(("token" = [])))]
pub(in crate::lookup) async fn report(
    viewer: Viewer,
    Shared(state): Shared<State>,
    FromJson(new): FromJson<NewCounts>,
) -> Result<(StatusCode, Json<CountsDocument>), Problem> {
    let (days, counts) = read(new)?;
    let stored = serde_json::to_vec(&counts).context(Kind::Internal, "cannot write counts")?;
    let content = Digest::of(&stored);
    let department = counts.department.clone();
    let scope = viewer.over_if::<Count>(ABSENT, move |_, scope| Ok(scope.sees_department(&department))).await?;
    let action = format!("report {} counts of {}", counts.counts.len(), counts.department);
    let mut entry = viewer.entry(Event::Figures, action).about(counts.department.clone());
    (entry.at, entry.content) = (state.clock.now(), Some(content));
    let by = viewer.actor().to_owned();
    let record = |count: &NewCount| ReportedRecord {
        source: counts.source.clone(),
        department: counts.department.clone(),
        category: count.category.clone(),
        kind: count.kind,
        count: count.count,
        at: 0,
        by: by.clone(),
    };
    let records: Vec<ReportedRecord> = counts.counts.iter().map(record).collect();
    let entry = scope.evidence().ask(move |store| store.report(days.0..days.1, &records, &entry)).await?;
    Ok((StatusCode::CREATED, Json(CountsDocument { entry, content: content.to_string(), counts })))
}

/// The period and the counts, each as it is written down.
fn read(new: NewCounts) -> Result<((u32, u32), NewCounts)> {
    let invalid = |text: String| Error::new(Kind::Invalid, text);
    let (from, to) = (day("from", &new.from)?, day("to", &new.to)?);
    if from >= to || to - from > REPORTED_DAYS_MAX {
        return Err(invalid(format!("from must be before to, by {REPORTED_DAYS_MAX} days at most")));
    }
    if !(1..=COUNTS_MAX).contains(&new.counts.len()) {
        return Err(invalid(format!("counts must be 1 to {COUNTS_MAX}")));
    }
    let mut seen = BTreeSet::new();
    let mut counts = Vec::with_capacity(new.counts.len());
    for count in new.counts {
        let category = words("category", count.category, NAME_CHARS_MAX)?;
        if count.count > COUNT_MAX {
            return Err(invalid(format!("a count must not be more than {COUNT_MAX}")));
        }
        if !seen.insert((category.clone(), count.kind.map(RecorderKind::name))) {
            return Err(invalid(format!("{category} is counted twice")));
        }
        counts.push(NewCount { category, ..count });
    }
    let counts = NewCounts {
        source: words("source", new.source, NAME_CHARS_MAX)?,
        department: words("department", new.department, NAME_CHARS_MAX)?,
        from: format_day(from),
        to: format_day(to),
        counts,
    };
    Ok(((from, to), counts))
}
