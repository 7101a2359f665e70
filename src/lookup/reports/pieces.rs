//! The report as it goes out, piece by piece, as JSON or CSV; and the shapes that the document of the API shows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aigaq_proto::Micros;
use bytes::Bytes;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use crate::error::{Error, Kind, Result};
use crate::lookup::csv::quote;
use crate::lookup::dark::{REASONS, Tally};
use crate::store::records::RecorderKind;

/// A piece goes out when it has this many bytes.
const PIECE_BYTES: usize = 16 * 1024;
/// Microseconds in a hundredth of a minute.
const CENTIMINUTE_US: Micros = 600_000;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::lookup) enum Format {
    /// One JSON object.
    Json,
    /// Comma-separated values (RFC 4180), with a header line.
    Csv,
}

/// What a report is about.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::lookup) struct DarkHead {
    /// The day.
    pub(super) day: String,
    /// Time zone of the site, IANA name.
    pub(super) time_zone: String,
    /// Beginning of the day, RFC 3339 UTC.
    pub(super) from: String,
    /// End of the day, exclusive.
    pub(super) to: String,
    /// End of what is counted: that of the day if it is over, else the last link that arrived.
    pub(super) until: String,
}

/// Sums of time, in minutes, each rounded to a hundredth by itself.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct Minutes {
    /// Assigned to somebody.
    planned_minutes: f64,
    /// Recorded.
    recorded_minutes: f64,
    /// Not recorded though planned.
    dark_minutes: f64,
    /// The same by why: the causes of coverage, `off` by the cause of the stop (`off-wearer`, `off-battery` …).
    #[serde(serialize_with = "by_reason")]
    #[schema(value_type = BTreeMap<String, f64>)]
    dark: [Micros; REASONS.len()],
}

/// One recorder in the hands of one assignee.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct DarkRow {
    /// Department that owns the recorder.
    pub(super) department: String,
    /// Recorder.
    pub(super) recorder: String,
    /// What people call it.
    pub(super) label: String,
    /// What carries it.
    pub(super) kind: RecorderKind,
    /// Who had it; null for what was recorded while nobody had it.
    pub(super) assignee: Option<String>,
    #[serde(flatten)]
    #[schema(inline)]
    pub(super) minutes: Minutes,
}

/// The sums of one department.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct DarkSum {
    /// The department.
    pub(super) department: String,
    /// Number of its recorders, those without a row among them.
    recorders: u64,
    #[serde(flatten)]
    #[schema(inline)]
    pub(super) minutes: Minutes,
}

/// The report as JSON.
#[derive(ToSchema)]
#[expect(dead_code, reason = "says what the rows, which go out one by one, add up to")]
pub(in crate::lookup) struct DarkReport {
    #[schema(inline)]
    #[serde(flatten)]
    head: DarkHead,
    /// By department, label, recorder and assignee.
    rows: Vec<DarkRow>,
    /// By name.
    departments: Vec<DarkSum>,
}

/// Hundredths of a minute, rounded half up.
fn centiminutes(time: Micros) -> u64 {
    time.saturating_add(CENTIMINUTE_US / 2) / CENTIMINUTE_US
}

#[expect(clippy::cast_precision_loss, reason = "hundredths of a minute of any report are far below 2^53")]
fn in_minutes(time: Micros) -> f64 {
    centiminutes(time) as f64 / 100.0
}

impl Minutes {
    /// The same as minutes.
    #[must_use]
    pub(super) fn of(tally: &Tally) -> Self {
        Self {
            planned_minutes: in_minutes(tally.planned),
            recorded_minutes: in_minutes(tally.recorded),
            dark_minutes: in_minutes(tally.dark_in_all()),
            dark: tally.dark,
        }
    }
}

fn by_reason<S: Serializer>(dark: &[Micros; REASONS.len()], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (reason, time) in REASONS.iter().zip(dark).filter(|(_, time)| **time > 0) {
        map.serialize_entry(reason, &in_minutes(*time))?;
    }
    map.end()
}

/// A report on its way out.
pub(super) struct Pieces {
    out: mpsc::Sender<std::io::Result<Bytes>>,
    text: String,
    rows: u64,
}

impl Pieces {
    /// Over the way to the reader.
    pub(super) fn new(out: mpsc::Sender<std::io::Result<Bytes>>) -> Self {
        Self { out, text: String::new(), rows: 0 }
    }

    /// Sends what has gathered; an error when nobody reads any more.
    fn flush(&mut self, all: bool) -> Result<()> {
        if self.text.is_empty() || (!all && self.text.len() < PIECE_BYTES) {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.text));
        self.out.blocking_send(Ok(piece)).map_err(|_| Error::new(Kind::Invalid, "nobody reads the report"))
    }

    /// Writes what comes before the rows.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when nobody reads any more; so do the others.
    pub(super) fn open(&mut self, format: Format, head: &DarkHead) -> Result<()> {
        match format {
            Format::Json => {
                let head = json(head)?;
                self.text.push_str(head.trim_end_matches('}'));
                self.text.push_str(",\"rows\":[");
            }
            Format::Csv => {
                let columns =
                    "row,department,recorder,label,kind,assignee,planned_minutes,recorded_minutes,dark_minutes";
                self.text.push_str(columns);
                for reason in REASONS {
                    let _ = write!(self.text, ",dark_{}", reason.replace('-', "_"));
                }
                self.text.push_str("\r\n");
            }
        }
        Ok(())
    }

    /// Writes a row.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when nobody reads any more.
    pub(super) fn row(&mut self, format: Format, row: DarkRow, tally: &Tally) -> Result<()> {
        match format {
            Format::Json => {
                self.text.push_str(if self.rows == 0 { "\n" } else { ",\n" });
                self.text.push_str(&json(&row)?);
            }
            Format::Csv => {
                let kind = json(&row.kind)?;
                let assignee = row.assignee.as_deref().unwrap_or_default();
                let cells = ["recorder", &row.department, &row.recorder, &row.label, kind.trim_matches('"'), assignee];
                self.line(cells, tally);
            }
        }
        self.rows += 1;
        self.flush(false)
    }

    /// Writes the sums of the departments and what comes after them.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when nobody reads any more.
    pub(super) fn sums(&mut self, format: Format, departments: BTreeMap<String, (u64, Tally)>) -> Result<()> {
        let mut sums = Vec::new();
        for (department, (recorders, tally)) in departments {
            if format == Format::Csv {
                self.line(["department", &department, "", "", "", ""], &tally);
            }
            sums.push(DarkSum { department, recorders, minutes: Minutes::of(&tally) });
        }
        if format == Format::Json {
            let _ = writeln!(self.text, "\n],\"departments\":{}}}", json(&sums)?);
        }
        self.flush(true)
    }

    fn line(&mut self, cells: [&str; 6], tally: &Tally) {
        for cell in cells {
            quote(&mut self.text, cell);
            self.text.push(',');
        }
        let times = [tally.planned, tally.recorded, tally.dark_in_all()].into_iter().chain(tally.dark);
        let numbers: Vec<String> = times
            .map(|time| {
                let hundredths = centiminutes(time);
                format!("{}.{:02}", hundredths / 100, hundredths % 100)
            })
            .collect();
        self.text.push_str(&numbers.join(","));
        self.text.push_str("\r\n");
    }
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::new(Kind::Internal, "cannot write a report").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_rounded_half_up_to_a_hundredth() {
        assert_eq!([0, 299_999, 300_000, 60_000_000].map(centiminutes), [0, 0, 1, 100]);
    }
}
