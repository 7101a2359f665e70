//! What keeps the footage of one recorder beyond its day: holds that stand, and extensions.
//!
//! A range is by the clock of the device, as coverage shows it. Where the error of that clock was measured when a link arrived, the
//! link is also kept if it touches the range by the clock of the server: what may be meant is kept.

use std::ops::Range;

use aigaq_proto::{Micros, RecorderId};

use crate::error::Result;
use crate::store::policy::Rule;
use crate::store::records::{Cause, ExtensionRecord, TimelineKind};
use crate::store::{Direction, Store, Stored};

/// For how long held footage is moved on at a time, days: after its release it is kept so much longer at most.
pub const HELD_DAYS: u32 = 30;
/// Entries of the timeline that are looked through on either side of a mark for the ends of its recording.
const ENTRIES_MAX: usize = 200_000;

/// What keeps the footage of a recorder.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Range, last day, why. A hold is kept up to [`HELD_DAYS`] from the day on which it is asked.
    holds: Vec<(Range<Micros>, u64)>,
    extensions: Vec<(Range<Micros>, u32, Rule)>,
}

impl Claims {
    /// What counts on the day `today`. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn of(store: &Store, recorder: RecorderId, today: u32) -> Result<Self> {
        let mut claims = Self::default();
        for hold in store.holds(Some(recorder)) {
            let hold = hold?;
            if hold.stands() {
                claims.holds.push((hold.from..hold.to, hold.id));
            }
        }
        for extension in store.extensions(recorder) {
            let extension = extension?;
            if extension.until_day < today {
                continue;
            }
            let widest = extension.from..extension.to;
            let range = match &extension.cause {
                Cause::Mark { at, before_s, after_s, .. } => {
                    around(store, recorder, *at, (*before_s, *after_s), widest)?
                }
                Cause::Incident { .. } | Cause::Undo(_) | Cause::OperatorMark { .. } => widest,
            };
            claims.extensions.push((range, extension.until_day, extension.cause.rule()));
        }
        Ok(claims)
    }

    /// Holds that stand and came in time for footage that expires on `day`, and nothing else.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn holds(store: &Store, recorder: RecorderId, day: u32) -> Result<Self> {
        let mut claims = Self::default();
        for hold in store.holds(Some(recorder)) {
            let hold = hold?;
            if hold.stands() && hold.gone_before <= day {
                claims.holds.push((hold.from..hold.to, hold.id));
            }
        }
        Ok(claims)
    }

    /// One extension and nothing else.
    pub(super) fn only(extension: ExtensionRecord) -> Self {
        let rule = extension.cause.rule();
        Self { holds: Vec::new(), extensions: vec![(extension.from..extension.to, extension.until_day, rule)] }
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.extensions.is_empty()
    }

    /// Until when a link is kept beyond its own day, and why: the longest wins.
    pub(super) fn keep(&self, link: &Stored, today: u32) -> Option<(u32, Rule)> {
        let spans = spans(link);
        let touched = |range: &Range<Micros>| spans.iter().any(|span| span.start < range.end && range.start < span.end);
        let held = self.holds.iter().find(|(range, _)| touched(range));
        let held = held.map(|(_, id)| (today.saturating_add(HELD_DAYS), Rule::Hold { id: *id }));
        let extended = self.extensions.iter().filter(|(range, ..)| touched(range));
        let extended = extended.max_by_key(|(_, until, _)| *until).map(|(_, until, rule)| (*until, rule.clone()));
        match (held, extended) {
            (Some(held), Some(extended)) => Some(if extended.0 > held.0 { extended } else { held }),
            (held, extended) => held.or(extended),
        }
    }
}

/// Where a link lies in time: by its device's clock, and by the server's; an event counts as its first microsecond. One in quarantine
/// whose header does not decode lies where it arrived.
fn spans(link: &Stored) -> Vec<Range<Micros>> {
    let arrived = link.received_at()..link.received_at().saturating_add(1);
    let Some(header) = link.header() else { return vec![arrived] };
    let length = u64::from(header.duration_us).max(1);
    let captured = header.captured_at..header.captured_at.saturating_add(length);
    let mut spans = Vec::with_capacity(2);
    spans.push(captured);
    match link {
        Stored::Link(record) => {
            if let Some(clock) = record.clock {
                let at = header.captured_at.saturating_add_signed(clock.offset_us.saturating_neg());
                let error = u64::from(clock.error_us);
                spans.push(at.saturating_sub(error)..at.saturating_add(length).saturating_add(error));
            }
        }
        // What its header says is not proved.
        Stored::Quarantined(_) => spans.push(arrived),
    }
    spans
}

/// The recording around a mark, no further than `widest`, and what the mark itself says belongs to it.
fn around(
    store: &Store,
    recorder: RecorderId,
    at: Micros,
    (before_s, after_s): (u16, u16),
    widest: Range<Micros>,
) -> Result<Range<Micros>> {
    let mut range = widest.clone();
    let after = at.saturating_add(1);
    for entry in store.timeline(recorder, widest.start..after, Direction::Backward).take(ENTRIES_MAX) {
        let entry = entry?;
        match entry.record.kind {
            TimelineKind::Start => range.start = entry.captured_at,
            // The mark lies in no recording.
            TimelineKind::Stop { .. } => range.start = at,
            _ => continue,
        }
        break;
    }
    for entry in store.timeline(recorder, after..widest.end, Direction::Forward).take(ENTRIES_MAX) {
        let entry = entry?;
        if matches!(entry.record.kind, TimelineKind::Start | TimelineKind::Stop { .. }) {
            range.end = entry.captured_at.saturating_add(1);
            break;
        }
    }
    let micros = |seconds: u16| u64::from(seconds) * 1_000_000;
    let own = at.saturating_sub(micros(before_s))..after.saturating_add(micros(after_s));
    Ok(range.start.min(own.start)..range.end.max(own.end))
}
