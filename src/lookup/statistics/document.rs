//! Figures as they are written: as JSON and as CSV.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;
use utoipa::ToSchema;

use crate::lookup::csv;
use crate::lookup::time::format_day;
use crate::statistics::{Days, Dimension, Figure, Group, Question, Source, Tally, ratio};

/// Up to where the log was counted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::lookup) struct Computed {
    /// Number of entries of the log: as `at` of the same question it gives the same figures.
    pub(super) tree_size: u64,
    /// Root of the tree of those entries, hexadecimal.
    pub(super) root: String,
}

/// Figures.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct FigureList {
    /// What was asked, in canonical form: equal questions are equal texts.
    query: String,
    /// Up to where was counted.
    at: Computed,
    /// In which departments whoever asked may see figures; null for all.
    within: Option<BTreeSet<String>>,
    /// First day.
    from: String,
    /// The day after the last one.
    to: String,
    /// First day of the year before that is compared.
    before_from: String,
    /// The day after the last one.
    before_to: String,
    /// By category, department, kind, source and period.
    rows: Vec<FigureRow>,
    /// Their sum.
    total: FigureDocument,
    /// Reported counts of periods that reach over a bound of what was asked: they are in no figure.
    left_out: u64,
}

/// How many.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct FigureDocument {
    /// In the days that were asked about.
    count: u64,
    /// In the same days of the year before.
    before: u64,
    /// How many times as many, to three decimals; null if there were none before.
    ratio: Option<f64>,
}

/// One figure. What was not told apart is not there.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::lookup) struct FigureRow {
    /// Category.
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    /// Department.
    #[serde(skip_serializing_if = "Option::is_none")]
    department: Option<String>,
    /// Kind of recorder; empty for counts that do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Where it was counted: `recorder`, `operator` or `reported`.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    /// The period: `2026-01-17`, `2026-W03`, `2026-01` or `2026`.
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<String>,
    /// How many.
    #[serde(flatten)]
    #[schema(inline)]
    figure: FigureDocument,
    /// Where exactly the rows are that were counted.
    rows: String,
}

impl From<Figure> for FigureDocument {
    fn from(figure: Figure) -> Self {
        Self { count: figure.count, before: figure.before, ratio: ratio(figure) }
    }
}

impl FigureList {
    /// What was counted.
    pub(super) fn new(question: &Question, at: Computed, within: Option<BTreeSet<String>>, tally: Tally<'_>) -> Self {
        let (groups, total, left_out) = tally.finish();
        let (days, before) = (question.days, question.days.before());
        Self {
            query: question.canonical(format_day),
            rows: groups.into_iter().map(|(group, figure)| row(question, &at, group, figure)).collect(),
            at,
            within,
            from: format_day(days.from),
            to: format_day(days.to),
            before_from: format_day(before.from),
            before_to: format_day(before.to),
            total: total.into(),
            left_out,
        }
    }

    /// The rows as CSV. Each says what was asked and up to where was counted.
    pub(super) fn csv(&self) -> String {
        let mut text = "category,department,kind,source,period,count,before,ratio,query,tree_size,root\r\n".to_owned();
        let (size, root) = (self.at.tree_size.to_string(), self.at.root.as_str());
        for row in &self.rows {
            let some = |value: &Option<String>| value.clone().unwrap_or_default();
            let FigureDocument { count, before, ratio } = &row.figure;
            let named = [some(&row.category), some(&row.department), some(&row.kind)];
            for cell in named.iter().map(String::as_str).chain([row.source.unwrap_or_default(), &some(&row.period)]) {
                csv::quote(&mut text, cell);
                text.push(',');
            }
            let ratio = ratio.map(|ratio| ratio.to_string()).unwrap_or_default();
            let _ = write!(text, "{count},{before},{ratio},");
            csv::line(&mut text, [&self.query, size.as_str(), root]);
        }
        text
    }
}

fn row(question: &Question, at: &Computed, group: Group, figure: Figure) -> FigureRow {
    let rows = of_group(question, &group).canonical(format_day);
    // It names no `by` and no `period`: rows are not told apart.
    let rows = rows.strip_prefix("by=&").unwrap_or(&rows);
    FigureRow {
        rows: format!("/v1/statistics/marks/rows?at={}&{rows}", at.tree_size),
        period: group.period.zip(question.by.bucket).map(|(first, bucket)| bucket.label(first)),
        category: group.category,
        department: group.department,
        kind: group.kind,
        source: group.source.map(Source::name),
        figure: figure.into(),
    }
}

/// The question whose rows are those of a group.
fn of_group(question: &Question, group: &Group) -> Question {
    let mut of = question.clone();
    if let Some((first, bucket)) = group.period.zip(question.by.bucket) {
        // The last day of the period is the one before the next one begins.
        let next = (first..first.saturating_add(400)).find(|day| bucket.first(*day) != first);
        let Days { from, to } = question.days;
        of.days = Days { from: from.max(first), to: to.min(next.unwrap_or(to)) };
    }
    of.by = crate::statistics::By::default();
    of.category = group.category.clone().or(of.category);
    of.department = group.department.clone().or(of.department);
    of.kind = group.kind.clone().or(of.kind);
    if question.by.dimensions.contains(&Dimension::Source) {
        of.sources = group.source.into_iter().collect();
    }
    of
}
