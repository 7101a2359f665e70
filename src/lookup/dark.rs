//! Sums of time: planned, recorded, dark and why. Pure.
//!
//! Planned is the time for which a recorder was assigned to somebody, dark is the part of it that lies in holes of its coverage, and
//! recorded is the rest; so the three always agree, and pauses of at most 50 ms count as recorded.

use aigaq_proto::Micros;
use aigaq_proto::link::StopCause;

use super::span::{Cause, Hole};

/// Why time is dark, in the order in which reports list it: the causes of coverage, being off by the cause of the stop.
pub(super) const REASONS: [&str; 16] = [
    "off-wearer",
    "off-battery",
    "off-schedule",
    "off-fault",
    "off-shutdown",
    "off-storage-full",
    "off-source-ended",
    "not-uploaded",
    "lost-on-device",
    "lost-with-restore",
    "rejected",
    "deleted-by-policy",
    "clock-step",
    "before-first",
    "pending",
    "unknown",
];

/// The name of why a hole is there: one of [`REASONS`].
#[must_use]
pub(super) fn reason(hole: &Hole) -> &'static str {
    match (hole.cause, hole.stop) {
        (Cause::Off, Some(stop)) => match stop {
            StopCause::Wearer => "off-wearer",
            StopCause::Battery => "off-battery",
            StopCause::Schedule => "off-schedule",
            StopCause::Fault => "off-fault",
            StopCause::Shutdown => "off-shutdown",
            StopCause::StorageFull => "off-storage-full",
            StopCause::SourceEnded => "off-source-ended",
        },
        // Only a stop makes a hole of this kind.
        (Cause::Off, None) => "unknown",
        (cause, _) => cause.label(),
    }
}

/// Sums of time, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Time that was to be recorded.
    pub(super) planned: Micros,
    /// Time that was.
    pub(super) recorded: Micros,
    /// Time that was not, by [`REASONS`].
    pub(super) dark: [Micros; REASONS.len()],
}

impl Tally {
    /// Time that was not recorded.
    #[must_use]
    pub(super) fn dark_in_all(&self) -> Micros {
        self.dark.iter().copied().fold(0, Micros::saturating_add)
    }

    /// Adds another.
    pub(super) fn add(&mut self, other: &Self) {
        self.planned = self.planned.saturating_add(other.planned);
        self.recorded = self.recorded.saturating_add(other.recorded);
        for (sum, other) in self.dark.iter_mut().zip(other.dark) {
            *sum = sum.saturating_add(other);
        }
    }
}

/// A stretch of the range for which somebody had the recorder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shift {
    /// Beginning.
    pub(super) from: Micros,
    /// End, exclusive.
    pub(super) to: Micros,
    /// Who.
    pub(super) assignee: String,
}

/// The sums of one recorder: one for each shift, in order, and what it recorded while nobody had it.
#[derive(Debug, Clone)]
pub(super) struct Sums<'a> {
    range: (Micros, Micros),
    shifts: &'a [Shift],
    tallies: Vec<Tally>,
    /// Time in holes, all together.
    holes: Micros,
}

impl<'a> Sums<'a> {
    /// For a half-open range; shifts lie in it, rise and do not overlap.
    #[must_use]
    pub(super) fn new(range: (Micros, Micros), shifts: &'a [Shift]) -> Self {
        let planned = |shift: &Shift| Tally { planned: shift.to.saturating_sub(shift.from), ..Tally::default() };
        Self { range, shifts, tallies: shifts.iter().map(planned).collect(), holes: 0 }
    }

    /// Counts a hole; holes do not overlap.
    pub(super) fn hole(&mut self, hole: &Hole) {
        let named = reason(hole);
        let index = REASONS.iter().position(|reason| *reason == named);
        self.holes = self.holes.saturating_add(hole.to.saturating_sub(hole.from));
        let first = self.shifts.partition_point(|shift| shift.to <= hole.from);
        for (shift, tally) in self.shifts.iter().zip(&mut self.tallies).skip(first) {
            if shift.from >= hole.to {
                break;
            }
            let part = shift.to.min(hole.to).saturating_sub(shift.from.max(hole.from));
            if let Some(sum) = index.and_then(|index| tally.dark.get_mut(index)) {
                *sum = sum.saturating_add(part);
            }
        }
    }

    /// The sums of each assignee, by name, and what was recorded while nobody had the recorder.
    #[must_use]
    pub(super) fn finish(mut self) -> (Vec<(&'a str, Tally)>, Micros) {
        let (mut planned, mut dark) = (0_u64, 0_u64);
        let mut of_each: std::collections::BTreeMap<&str, Tally> = std::collections::BTreeMap::new();
        for (shift, tally) in self.shifts.iter().zip(&mut self.tallies) {
            tally.recorded = tally.planned.saturating_sub(tally.dark_in_all());
            planned = planned.saturating_add(tally.planned);
            dark = dark.saturating_add(tally.dark_in_all());
            of_each.entry(&shift.assignee).or_default().add(tally);
        }
        let outside = self.range.1.saturating_sub(self.range.0).saturating_sub(planned);
        let unplanned = outside.saturating_sub(self.holes.saturating_sub(dark));
        (of_each.into_iter().collect(), unplanned)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lookup::explain::Gaps;
    use crate::lookup::span::{Builder, Tail};
    use crate::lookup::time::TimeRange;
    use crate::store::TimelineEntry;
    use crate::store::records::{TimelineKind, TimelineRecord};

    const MINUTE: u64 = 60_000_000;
    /// Length of the range of the model, minutes.
    const DAY: u64 = 120;

    /// What happened in a minute: a segment begins that lasts so long, or a stop.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        Media(u64),
        Stop(StopCause),
    }

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let event = prop_oneof![
            4 => (1_u64..5).prop_map(Event::Media),
            1 => Just(Event::Stop(StopCause::Wearer)),
            1 => Just(Event::Stop(StopCause::Battery)),
        ];
        prop::collection::btree_map(0..DAY + 20, event, 0..60).prop_map(|events| events.into_iter().collect())
    }

    fn shifts() -> impl Strategy<Value = Vec<Shift>> {
        prop::collection::btree_set(0..=DAY, 0..8).prop_map(|bounds| {
            let bounds: Vec<u64> = bounds.into_iter().collect();
            let pairs = bounds.windows(2).enumerate().filter(|(index, _)| index % 3 != 1);
            pairs
                .map(|(index, pair)| Shift {
                    from: pair[0] * MINUTE,
                    to: pair[1] * MINUTE,
                    assignee: ["a", "b"][index % 2].to_owned(),
                })
                .collect()
        })
    }

    /// Why a minute is dark, found by looking at everything that happened.
    fn minute(events: &[(u64, Event)], at: u64) -> Option<&'static str> {
        let covered = |(from, event): &(u64, Event)| matches!(event, Event::Media(length) if (*from..from + length).contains(&at));
        if events.iter().any(covered) {
            return None;
        }
        let is_after = events.iter().any(|(from, _)| *from > at);
        match events.iter().rev().find(|(from, _)| *from <= at) {
            None if is_after => Some("before-first"),
            None => Some("pending"),
            Some((_, Event::Stop(StopCause::Battery))) => Some("off-battery"),
            Some((_, Event::Stop(_))) => Some("off-wearer"),
            Some((_, Event::Media(_))) if is_after => Some("unknown"),
            Some((_, Event::Media(_))) => Some("pending"),
        }
    }

    proptest! {
        #[test]
        fn sums_agree_with_a_model_that_looks_at_every_minute(events in events(), shifts in shifts()) {
            let entries = events.iter().enumerate().map(|(index, (from, event))| {
                let sequence = index as u64;
                let (length, kind) = match event {
                    Event::Media(length) => (*length, TimelineKind::Media {
                        recording: 0, ordinal: sequence, bytes: 1, independent: true,
                    }),
                    Event::Stop(cause) => (0, TimelineKind::Stop { recording: 0, cause: *cause }),
                };
                let record = TimelineRecord { duration_us: u32::try_from(length * MINUTE).unwrap(), kind };
                TimelineEntry { captured_at: from * MINUTE, sequence, record }
            });
            let gaps = Gaps::default();
            let mut builder = Builder::new(TimeRange { from: 0, to: DAY * MINUTE }, &gaps);
            let mut sums = Sums::new((0, DAY * MINUTE), &shifts);
            for entry in entries {
                builder.push(&entry).unwrap();
                builder.drain().holes.iter().for_each(|hole| sums.hole(hole));
            }
            builder.finish(&Tail::default()).holes.iter().for_each(|hole| sums.hole(hole));
            let (of_each, unplanned) = sums.finish();

            let mut model: std::collections::BTreeMap<&str, Tally> = std::collections::BTreeMap::new();
            let mut model_unplanned = 0;
            for at in 0..DAY {
                let shift = shifts.iter().find(|shift| (shift.from..shift.to).contains(&(at * MINUTE)));
                match (shift, minute(&events, at)) {
                    (None, None) => model_unplanned += MINUTE,
                    (None, Some(_)) => {}
                    (Some(shift), dark) => {
                        let tally = model.entry(&shift.assignee).or_default();
                        tally.planned += MINUTE;
                        match dark {
                            None => tally.recorded += MINUTE,
                            Some(why) => tally.dark[REASONS.iter().position(|one| *one == why).unwrap()] += MINUTE,
                        }
                    }
                }
            }
            prop_assert_eq!(of_each, model.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(unplanned, model_unplanned);
        }
    }

    #[test]
    fn every_cause_has_its_reason() {
        let causes = [
            Cause::Off,
            Cause::NotUploaded,
            Cause::LostOnDevice,
            Cause::LostWithRestore,
            Cause::Rejected,
            Cause::DeletedByPolicy,
            Cause::ClockStep,
            Cause::BeforeFirst,
            Cause::Pending,
            Cause::Unknown,
        ];
        for cause in causes {
            let stop = (cause == Cause::Off).then_some(StopCause::Wearer);
            let hole = Hole { from: 0, to: 1, cause, stop, loss: None, missing: Vec::new(), missing_count: 0 };
            assert!(REASONS.contains(&reason(&hole)), "{cause:?}");
        }
    }
}
