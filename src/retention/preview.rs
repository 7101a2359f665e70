//! The dry run: what is deleted on a day, what stays, and why. Reads alone, so it also works on the store of a stopped server.

use std::collections::BTreeMap;

use aigaq_proto::RecorderId;

use super::pass::{self, Fate};
use crate::error::Result;
use crate::store::Store;
use crate::store::policy::{DAY_US, Rule};
use crate::store::records::Owner;

/// Most lines of a preview; what lies beyond is only counted.
const LINES_MAX: usize = 10_000;

/// What happens to bodies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planned {
    /// They are hidden, and can be brought back for seven days.
    Hidden,
    /// Their bytes go for ever.
    Gone,
    /// They are moved to a later day.
    Kept {
        /// The last day on which they are kept.
        until_day: u32,
        /// Why.
        by: Rule,
    },
}

/// What happens to bodies of one recorder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Their expiry day.
    pub day: u32,
    /// Whose.
    pub recorder: RecorderId,
    /// By which rule they were kept until then.
    pub rule: Rule,
    /// What happens.
    pub planned: Planned,
    /// How many.
    pub links: u64,
    /// Their length, bytes.
    pub bytes: u64,
    /// The first and the last sequence, if there are links of the chain among them.
    pub sequences: Option<(u64, u64)>,
}

/// What happens to bodies of one recorder, by rule and fate.
type Lines = BTreeMap<(Rule, Planned), Line>;

/// A dry run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// By expiry day and recorder.
    pub lines: Vec<Line>,
    /// Lines beyond ten thousand.
    pub more_lines: u64,
    /// Bytes that are hidden, that go, and that stay.
    pub hidden_bytes: u64,
    /// See above.
    pub gone_bytes: u64,
    /// See above.
    pub kept_bytes: u64,
}

/// What a round on the day `on` does, as far as is known now. Blocks.
///
/// # Errors
/// Those of the store.
pub fn preview(store: &Store, on: u32) -> Result<Preview> {
    let mut preview = Preview::default();
    let end_us = u64::from(on.saturating_add(1)).saturating_mul(DAY_US);
    let mut due = BTreeMap::new();
    for day in store.days(store.dropped_floor()..store.footage_floor()) {
        let (day, record) = day?;
        due.insert(day, record.due_at < end_us);
    }
    let mut from = store.dropped_floor();
    let mut goes_on = true;
    while let Some(day) = store.first_expiring(from)?.filter(|day| *day < on) {
        let hidden = day < store.footage_floor();
        // Days go in order.
        goes_on &= due.get(&day).copied().unwrap_or_default();
        let goes = if hidden && goes_on { Planned::Gone } else { Planned::Hidden };
        let mut open: Option<(RecorderId, Lines)> = None;
        pass::each(store, day, on, |seen| {
            let planned = match seen.fate {
                Fate::Stays(until_day, by) => Planned::Kept { until_day, by },
                // It is hidden already, and stays so.
                Fate::Goes if hidden && goes == Planned::Hidden => return Ok(()),
                Fate::Goes => goes.clone(),
            };
            let recorder = seen.entry.recorder;
            if open.as_ref().is_some_and(|(last, _)| *last != recorder) {
                preview.take(open.take());
            }
            let (_, lines) = open.get_or_insert_with(|| (recorder, BTreeMap::new()));
            let line = lines.entry((seen.rule.clone(), planned)).or_insert_with_key(|(rule, planned)| Line {
                day,
                recorder,
                rule: rule.clone(),
                planned: planned.clone(),
                links: 0,
                bytes: 0,
                sequences: None,
            });
            line.links += 1;
            line.bytes = line.bytes.saturating_add(u64::from(seen.bytes));
            if let Owner::Link(sequence) = seen.entry.owner {
                line.sequences = Some(line.sequences.map_or((sequence, sequence), |(first, _)| (first, sequence)));
            }
            Ok(())
        })?;
        preview.take(open.take());
        from = day + 1;
    }
    Ok(preview)
}

impl Preview {
    fn take(&mut self, of: Option<(RecorderId, Lines)>) {
        for line in of.into_iter().flat_map(|(_, lines)| lines.into_values()) {
            let sum = match line.planned {
                Planned::Hidden => &mut self.hidden_bytes,
                Planned::Gone => &mut self.gone_bytes,
                Planned::Kept { .. } => &mut self.kept_bytes,
            };
            *sum = sum.saturating_add(line.bytes);
            if self.lines.len() < LINES_MAX {
                self.lines.push(line);
            } else {
                self.more_lines += 1;
            }
        }
    }
}
