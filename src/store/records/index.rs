//! What the index of footage says: runs of ten minutes, places of segments. Each follows from links alone and could be made again
//! from them.

use aigaq_proto::Sequence;
use aigaq_proto::link::Fix;
use serde::{Deserialize, Serialize};

/// Segments of a recorder that begin in the same ten minutes with no pause between them that ends a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Beginning of the first, microseconds after that of the ten minutes.
    pub from_us: u32,
    /// Latest end, the same.
    pub to_us: u32,
    /// The lowest sequence.
    pub first: Sequence,
    /// The greatest sequence.
    pub last: Sequence,
    /// How many there are.
    pub segments: u32,
    /// Their payload, bytes.
    pub bytes: u64,
}

impl RunRecord {
    fn join(&mut self, other: Self) {
        self.from_us = self.from_us.min(other.from_us);
        self.to_us = self.to_us.max(other.to_us);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.segments = self.segments.saturating_add(other.segments);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The runs of a recorder in ten minutes, by their beginning. At most eleven, because the pauses between them are a minute long: a row
/// stays small whatever a recorder sends.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunsRecord {
    /// The runs.
    pub runs: Vec<RunRecord>,
}

impl RunsRecord {
    /// Adds a segment or a run. In whatever order they come, the same ones make the same runs; `pause_us` is the longest pause within one.
    pub fn add(&mut self, new: RunRecord, pause_us: u32) {
        let near = |run: &RunRecord| {
            run.from_us <= new.to_us.saturating_add(pause_us) && new.from_us <= run.to_us.saturating_add(pause_us)
        };
        let first = self.runs.iter().position(near);
        let Some(first) = first else {
            let at = self.runs.partition_point(|run| run.from_us < new.from_us);
            self.runs.insert(at, new);
            return;
        };
        let count = self.runs.iter().skip(first).take_while(|run| near(run)).count();
        let mut joined = new;
        self.runs.drain(first..first + count).for_each(|run| joined.join(run));
        self.runs.insert(first, joined);
    }
}

/// Where a segment was taken, as far as one cell goes. A value of the family `presence` is any number of these, each encoded by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceRecord {
    /// The segment's sequence, less that of its block.
    pub sequence: u16,
    /// Its begin, microseconds after that of the ten minutes.
    pub captured_us: u32,
    /// Its fixes in the cell, by rising time: the first as it is, each other one as the difference from the one before it.
    pub steps: Vec<Step>,
}

/// A fix, or how much further and later it is than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Milliseconds after the segment's begin.
    pub later_ms: u32,
    /// Latitude, ten-millionths of a degree.
    pub north_e7: i32,
    /// Longitude, the same; the difference may be a whole turn.
    pub east_e7: i64,
}

impl PresenceRecord {
    /// Adds a fix, not before the one that was added last.
    pub fn push(&mut self, fix: &Fix) {
        let (later, north, east) = self.end();
        self.steps.push(Step {
            later_ms: fix.offset_ms.saturating_sub(later),
            north_e7: fix.latitude_e7.saturating_sub(north),
            east_e7: i64::from(fix.longitude_e7) - east,
        });
    }

    fn end(&self) -> (u32, i32, i64) {
        self.fixes().last().map_or((0, 0, 0), |(later, north, east)| (later, north, i64::from(east)))
    }

    /// Its fixes: milliseconds after the segment's begin, latitude, longitude.
    pub fn fixes(&self) -> impl Iterator<Item = (u32, i32, i32)> + '_ {
        self.steps.iter().scan((0_u32, 0_i32, 0_i64), |(later, north, east), step| {
            *later = later.saturating_add(step.later_ms);
            *north = north.saturating_add(step.north_e7);
            *east = east.saturating_add(step.east_e7);
            Some((*later, *north, i32::try_from(*east).unwrap_or_default()))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_same_segments_make_the_same_runs_in_whatever_order_they_come(
            segments in prop::collection::vec((0_u32..600, 0_u32..300), 1..60), seed: u64,
        ) {
            let made = |order: &[usize]| {
                let mut runs = RunsRecord::default();
                for index in order {
                    let (from, length) = segments[*index];
                    let sequence = *index as u64;
                    runs.add(
                        RunRecord {
                            from_us: from, to_us: from + length, first: sequence, last: sequence, segments: 1, bytes: 10,
                        },
                        60,
                    );
                }
                runs
            };
            let order: Vec<usize> = (0..segments.len()).collect();
            let mut other = order.clone();
            other.sort_by_key(|index| (*index as u64).wrapping_mul(seed | 1).rotate_left(17));
            let runs = made(&order);
            prop_assert_eq!(&runs, &made(&other));
            prop_assert!(runs.runs.windows(2).all(|pair| pair[0].to_us + 60 < pair[1].from_us));
            prop_assert_eq!(runs.runs.iter().map(|run| run.segments as usize).sum::<usize>(), segments.len());
            prop_assert!(runs.runs.len() <= 11);
        }

        #[test]
        fn fixes_read_back_as_they_were(
            fixes in prop::collection::vec((0_u32..10_000, -900_000_000_i32..=900_000_000, -1_800_000_000_i32..=1_800_000_000), 0..20),
        ) {
            let mut fixes = fixes;
            fixes.sort_by_key(|fix| fix.0);
            let mut record = PresenceRecord { sequence: 0, captured_us: 0, steps: Vec::new() };
            for (offset_ms, latitude_e7, longitude_e7) in &fixes {
                let (offset_ms, latitude_e7, longitude_e7) = (*offset_ms, *latitude_e7, *longitude_e7);
                record.push(&Fix { offset_ms, latitude_e7, longitude_e7, accuracy_dm: 0, speed_cms: 0, course_cdeg: 0 });
            }
            prop_assert_eq!(record.fixes().collect::<Vec<_>>(), fixes);
        }
    }
}
