//! A clip: the initialisation segment of one recording and whole segments of it, one after the other, byte for byte.
//!
//! The bytes are never held together in memory: a [`Plan`] says how long the clip is and which stretch of which part
//! a byte range falls on, so that an HTTP `Range` costs no more than the parts that it touches.

use std::ops::Range;

/// Where each part of a clip lies. Part 0 is the initialisation segment; the others are the segments in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// End of each part, bytes from the beginning of the clip; never falling.
    ends: Vec<u64>,
}

/// A stretch of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Index of the part.
    pub part: usize,
    /// Bytes of the part, counted from its own beginning; never empty.
    pub bytes: Range<u64>,
}

impl Plan {
    /// A plan of parts of these lengths, bytes.
    #[must_use]
    pub fn new(lengths: impl IntoIterator<Item = u64>) -> Self {
        let mut end = 0u64;
        let ends = lengths.into_iter().map(|length| {
            end = end.saturating_add(length);
            end
        });
        Self { ends: ends.collect() }
    }

    /// Length of the whole clip, bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The stretches that make up `range` of the clip, in order. What lies beyond the end is left out.
    pub fn slices(&self, range: Range<u64>) -> impl Iterator<Item = Slice> + '_ {
        let first = self.ends.partition_point(|end| *end <= range.start);
        let mut start = first.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends
            .iter()
            .enumerate()
            .skip(first)
            .map_while(move |(part, end)| {
                let part_start = std::mem::replace(&mut start, *end);
                if part_start >= range.end {
                    return None;
                }
                let from = range.start.max(part_start) - part_start;
                let to = range.end.min(*end) - part_start;
                Some(Slice { part, bytes: from..to })
            })
            .filter(|slice| !slice.bytes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(part: usize, bytes: Range<u64>) -> Slice {
        Slice { part, bytes }
    }

    #[test]
    fn a_range_falls_on_the_parts_it_touches() {
        let plan = Plan::new([10, 0, 5, 20]);
        assert_eq!(plan.length(), 35);
        assert_eq!(plan.slices(0..35).collect::<Vec<_>>(), [slice(0, 0..10), slice(2, 0..5), slice(3, 0..20)]);
        assert_eq!(plan.slices(9..11).collect::<Vec<_>>(), [slice(0, 9..10), slice(2, 0..1)]);
        assert_eq!(plan.slices(12..14).collect::<Vec<_>>(), [slice(2, 2..4)]);
        assert_eq!(plan.slices(30..99).collect::<Vec<_>>(), [slice(3, 15..20)]);
    }

    #[test]
    fn nothing_lies_beyond_the_end_or_in_an_empty_range() {
        let plan = Plan::new([10, 5]);
        assert_eq!(plan.slices(15..20).count(), 0);
        assert_eq!(plan.slices(3..3).count(), 0);
        assert_eq!(Plan::new([]).length(), 0);
        assert_eq!(Plan::new([]).slices(0..1).count(), 0);
    }
}
