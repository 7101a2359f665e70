//! Groups fragments into the payloads of links: one to four seconds each, near two, beginning with a key frame where
//! the source allows. A fragment is never split, and the bytes are those of the fragments, one after the other.
//!
//! A cut is decided when the next fragment is seen, so the last link of a recording needs [`Cutter::flush`].

use bytes::{Bytes, BytesMut};

use aigaq_proto::limits::DURATION_US_MAX;

use super::boxes::Error;
use super::fragment::Fragment;

/// Links shorter than this are not cut off, microseconds.
pub const LINK_US_MIN: u64 = 1_000_000;
/// The length that cuts come near to, microseconds.
pub const LINK_US_TARGET: u64 = 2_000_000;
/// Links are cut here although no key frame follows, microseconds; only a single longer fragment exceeds it.
pub const LINK_US_MAX: u64 = 4_000_000;

/// One link's worth of media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The fragments, one after the other, as they came.
    pub bytes: Bytes,
    /// Decode time of the first sample, microseconds since the recording's zero.
    pub decode_time_us: u64,
    /// Length, microseconds.
    pub duration_us: u64,
    /// Whether it begins with a key frame.
    pub independent: bool,
}

/// Groups fragments.
#[derive(Debug)]
pub struct Cutter {
    segment_bytes_max: usize,
    pending: Vec<Fragment>,
    pending_bytes: usize,
    /// Length of what is pending, by the track that keeps time.
    primary_us: u64,
    /// Length of the fragments that lack that track.
    other_us: u64,
}

impl Cutter {
    /// Makes segments of at most this many bytes.
    #[must_use]
    pub fn new(segment_bytes_max: u32) -> Self {
        let segment_bytes_max = usize::try_from(segment_bytes_max).unwrap_or(usize::MAX);
        Self { segment_bytes_max, pending: Vec::new(), pending_bytes: 0, primary_us: 0, other_us: 0 }
    }

    /// Takes the next fragment; gives the segment that ends before it, if one does.
    ///
    /// # Errors
    /// [`Error::TooLarge`] or [`Error::TooLong`] if the fragment cannot be a link by itself; it is then not taken.
    pub fn push(&mut self, fragment: Fragment) -> Result<Option<Segment>, Error> {
        if fragment.bytes.len() > self.segment_bytes_max {
            let (limit, actual) = (self.segment_bytes_max as u64, fragment.bytes.len() as u64);
            return Err(Error::TooLarge { what: "fragment", limit, actual });
        }
        if fragment.duration_us > u64::from(DURATION_US_MAX) {
            let (limit_s, actual_s) = (u64::from(DURATION_US_MAX) / 1_000_000, fragment.duration_us / 1_000_000);
            return Err(Error::TooLong { limit_s, actual_s });
        }
        let segment = if self.cuts_before(&fragment) { self.flush() } else { None };
        self.pending_bytes += fragment.bytes.len();
        if fragment.primary {
            self.primary_us += fragment.duration_us;
        } else {
            self.other_us += fragment.duration_us;
        }
        self.pending.push(fragment);
        Ok(segment)
    }

    /// What is left: the recording is at its end.
    pub fn flush(&mut self) -> Option<Segment> {
        let begin = self.pending.iter().find(|fragment| fragment.primary).or(self.pending.first())?;
        let decode_time_us = begin.decode_time_us;
        let duration_us = if begin.primary { self.primary_us } else { self.other_us };
        let independent = self.pending.first().is_some_and(|first| first.independent);
        let bytes = match self.pending.as_slice() {
            [only] => only.bytes.clone(),
            several => {
                let mut bytes = BytesMut::with_capacity(self.pending_bytes);
                several.iter().for_each(|fragment| bytes.extend_from_slice(&fragment.bytes));
                bytes.freeze()
            }
        };
        self.pending.clear();
        (self.pending_bytes, self.primary_us, self.other_us) = (0, 0, 0);
        let duration_us = duration_us.min(u64::from(DURATION_US_MAX));
        Some(Segment { bytes, decode_time_us, duration_us, independent })
    }

    fn cuts_before(&self, fragment: &Fragment) -> bool {
        let Some(first) = self.pending.first() else { return false };
        let length = self.primary_us.max(self.other_us);
        let longer = length.saturating_add(fragment.duration_us);
        if self.pending_bytes + fragment.bytes.len() > self.segment_bytes_max || longer > LINK_US_MAX {
            return true;
        }
        if !fragment.independent {
            return false;
        }
        let nearer = longer.abs_diff(LINK_US_TARGET) >= length.abs_diff(LINK_US_TARGET);
        !first.independent || (length >= LINK_US_MIN && nearer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts fragments given as (milliseconds, independent); gives each segment as (milliseconds, independent).
    fn cut(fragments: &[(u64, bool)]) -> Vec<(u64, bool)> {
        let mut cutter = Cutter::new(1_000);
        let mut decode_time_us = 0;
        let mut segments = Vec::new();
        for (index, (milliseconds, independent)) in fragments.iter().enumerate() {
            let fragment = Fragment {
                bytes: Bytes::from(vec![index as u8]),
                decode_time_us,
                duration_us: milliseconds * 1_000,
                independent: *independent,
                primary: true,
            };
            decode_time_us += fragment.duration_us;
            segments.extend(cutter.push(fragment).unwrap());
        }
        segments.extend(cutter.flush());
        let bytes: Vec<u8> = segments.iter().flat_map(|segment| segment.bytes.to_vec()).collect();
        assert_eq!(
            bytes,
            (0..fragments.len()).map(|index| index as u8).collect::<Vec<_>>(),
            "nothing lost, nothing moved"
        );
        segments.iter().map(|segment| (segment.duration_us / 1_000, segment.independent)).collect()
    }

    #[test]
    fn groups_of_one_second_make_links_of_two() {
        assert_eq!(cut(&[(1_000, true); 5]), [(2_000, true), (2_000, true), (1_000, true)]);
    }

    #[test]
    fn the_cut_nearest_to_the_target_is_taken() {
        assert_eq!(cut(&[(1_600, true); 3]), [(1_600, true); 3]);
        assert_eq!(cut(&[(700, true); 6]), [(2_100, true), (2_100, true)]);
    }

    #[test]
    fn small_fragments_are_cut_at_key_frames() {
        let group = [(500, true), (500, false), (500, false), (500, false), (500, false)];
        assert_eq!(cut(&group.repeat(3)), [(2_500, true); 3]);
    }

    #[test]
    fn a_long_group_of_small_fragments_is_cut_at_four_seconds_and_again_at_its_end() {
        let mut group = vec![(500, true)];
        group.extend([(500, false); 9]);
        assert_eq!(cut(&group.repeat(2)), [(4_000, true), (1_000, false), (4_000, true), (1_000, false)]);
    }

    #[test]
    fn a_fragment_longer_than_a_link_is_kept_whole() {
        assert_eq!(cut(&[(10_000, true), (10_000, true)]), [(10_000, true), (10_000, true)]);
    }

    #[test]
    fn a_segment_never_exceeds_its_bytes() {
        let mut cutter = Cutter::new(10);
        let fragment = |bytes: usize| Fragment {
            bytes: Bytes::from(vec![0; bytes]),
            decode_time_us: 0,
            duration_us: 1,
            independent: false,
            primary: true,
        };
        assert_eq!(cutter.push(fragment(6)).unwrap(), None);
        assert_eq!(cutter.push(fragment(6)).unwrap().unwrap().bytes.len(), 6);
        assert!(matches!(cutter.push(fragment(11)), Err(Error::TooLarge { limit: 10, actual: 11, .. })));
        assert_eq!(cutter.flush().unwrap().bytes.len(), 6);
        assert_eq!(cutter.flush(), None);
    }

    #[test]
    fn sound_in_fragments_of_its_own_does_not_lengthen_the_pictures() {
        let mut cutter = Cutter::new(1_000);
        let fragment = |decode_time_us, duration_us, primary| Fragment {
            bytes: Bytes::from_static(b"x"),
            decode_time_us,
            duration_us,
            independent: primary,
            primary,
        };
        for second in 0..2 {
            assert_eq!(cutter.push(fragment(second * 1_000_000, 1_000_000, true)).unwrap(), None);
            assert_eq!(cutter.push(fragment(second * 1_024_000, 1_024_000, false)).unwrap(), None);
        }
        let segment = cutter.push(fragment(2_000_000, 1_000_000, true)).unwrap().unwrap();
        assert_eq!((segment.decode_time_us, segment.duration_us, segment.bytes.len()), (0, 2_000_000, 4));
    }
}
