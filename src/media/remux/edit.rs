//! Edit lists (ISO/IEC 14496-12 section 8.6.6): where the time of a track begins in the time of the movie.
//!
//! A fragmented file has one shift per track in practice: players take a first empty edit and the media time of the first
//! edit after it, and nothing else. That is what is kept. The last edit of a fragmented file has duration 0, to the end of all
//! fragments; so what an edit list hides at the end of a track, or repeats, is recorded as it was captured.

use crate::media::boxes::{Error, find};

/// Real edit lists have one or two entries.
const ENTRIES_MAX: usize = 1_024;
/// Speed 1.0.
const NORMAL: [u8; 4] = [0, 1, 0, 0];

/// What is kept of an edit list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::media) struct Edit {
    /// Length of the empty edit before the track begins, ticks of the movie.
    pub(in crate::media) empty: u64,
    /// Media time at which the track begins, its ticks.
    pub(in crate::media) media_time: u64,
    /// Movie time at media time 0, microseconds.
    pub(super) shift_us: i64,
    /// Whether the list says more than that.
    pub(super) simplified: bool,
}

impl Edit {
    /// The edit list of a `trak`, if it has one that says anything.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is shorter than it says.
    pub(in crate::media) fn read(trak: &[u8], movie_timescale: u32, timescale: u32) -> Result<Option<Self>, Error> {
        let Some(edts) = find(trak, *b"edts")? else { return Ok(None) };
        let Some(elst) = find(edts.body, *b"elst")? else { return Ok(None) };
        let (mut empty, mut media_time, mut others) = (0u64, None, false);
        for (length, time, rate) in entries(elst.body)? {
            match (time, media_time) {
                (None, None) => empty = empty.saturating_add(length),
                (Some(time), None) => {
                    media_time = Some(time);
                    others |= rate != NORMAL;
                }
                _ => others = true,
            }
        }
        let Some(media_time) = media_time else { return Ok(None) };
        let micros = |ticks: u64, timescale: u32| {
            i64::try_from(u128::from(ticks) * 1_000_000 / u128::from(timescale.max(1))).unwrap_or(i64::MAX)
        };
        let shift_us = micros(empty, movie_timescale).saturating_sub(micros(media_time, timescale));
        Ok(Some(Self { empty, media_time, shift_us, simplified: others }))
    }

    /// The `edts` that says the same for a fragmented file.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut entries = Vec::new();
        if self.empty > 0 {
            entries.extend_from_slice(&self.empty.to_be_bytes());
            entries.extend_from_slice(&(-1i64).to_be_bytes());
            entries.extend_from_slice(&NORMAL);
        }
        entries.extend_from_slice(&0u64.to_be_bytes());
        entries.extend_from_slice(&self.media_time.to_be_bytes());
        entries.extend_from_slice(&NORMAL);
        let count: u32 = if self.empty > 0 { 2 } else { 1 };
        let elst = super::init::boxed(*b"elst", &[&[1, 0, 0, 0], &count.to_be_bytes(), &entries]);
        super::init::boxed(*b"edts", &[&elst])
    }
}

/// Duration, media time (`None` is an empty edit) and rate.
type Entry = (u64, Option<u64>, [u8; 4]);

fn entries(elst: &[u8]) -> Result<Vec<Entry>, Error> {
    let broken = Error::Malformed("elst");
    let (head, rest) = elst.split_first_chunk::<8>().ok_or(broken)?;
    let [version, _, _, _, count @ ..] = *head;
    let count = usize::try_from(u32::from_be_bytes(count)).map_err(|_| broken)?;
    let bytes = if version == 1 { 20 } else { 12 };
    if count > ENTRIES_MAX || count.saturating_mul(bytes) > rest.len() {
        return Err(broken);
    }
    let entry = |entry: &[u8]| -> Option<Entry> {
        let (length, time) = if version == 1 {
            let (length, rest) = entry.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*length), i64::from_be_bytes(*rest.first_chunk()?))
        } else {
            let (length, rest) = entry.split_first_chunk::<4>()?;
            (u64::from(u32::from_be_bytes(*length)), i64::from(i32::from_be_bytes(*rest.first_chunk()?)))
        };
        Some((length, u64::try_from(time).ok(), *entry.last_chunk()?))
    };
    rest.chunks_exact(bytes).take(count).map(|bytes| entry(bytes).ok_or(broken)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::remux::init::boxed;

    /// An edit list of version 1 in a movie of 1,000 ticks a second and a track of 90,000; and how it is written again.
    fn read(entries: &[(u64, i64, [u8; 4])]) -> Option<(Edit, Vec<u8>)> {
        let entry = |(length, time, rate): &(u64, i64, [u8; 4])| {
            [&length.to_be_bytes()[..], &time.to_be_bytes(), rate].concat()
        };
        let count = u32::try_from(entries.len()).unwrap().to_be_bytes();
        let list: Vec<u8> = entries.iter().flat_map(entry).collect();
        let edts = boxed(*b"edts", &[&boxed(*b"elst", &[&[1, 0, 0, 0], &count, &list])]);
        let edit = Edit::read(&edts, 1_000, 90_000).unwrap()?;
        Some((edit, edit.write()))
    }

    #[test]
    fn the_shift_of_a_track_is_its_empty_edit_less_where_it_begins() {
        let (edit, written) = read(&[(1_500, -1, NORMAL), (9_000, 180, NORMAL)]).unwrap();
        assert_eq!(edit, Edit { empty: 1_500, media_time: 180, shift_us: 1_498_000, simplified: false });
        let again = Edit::read(&written, 1_000, 90_000).unwrap().unwrap();
        assert_eq!(again, edit, "and the recording says the same");
        assert_eq!(read(&[(0, 180, NORMAL)]).unwrap().0.shift_us, -2_000);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn what_a_recording_does_not_keep_of_an_edit_list_is_known() {
        for more in
            [&[(5, 90, NORMAL), (5, 900, NORMAL)][..], &[(5, 90, [0, 2, 0, 0])], &[(5, 90, NORMAL), (5, -1, NORMAL)]]
        {
            let (edit, _) = read(more).unwrap();
            assert!(edit.simplified && edit.media_time == 90, "{more:?}");
        }
    }

    #[test]
    fn a_list_that_is_shorter_than_it_says_is_an_error() {
        let elst = boxed(*b"elst", &[&[1, 0, 0, 0], &9u32.to_be_bytes(), &[0; 20]]);
        assert!(Edit::read(&boxed(*b"edts", &[&elst]), 1_000, 90_000).is_err());
    }
}
