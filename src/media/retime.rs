//! Shifts fragments in time, so that a clip can be sent over and over as one continuous recording. For the bundled clip
//! and for load only: footage is never retimed.
//!
//! Only `mfhd.sequence_number` and `tfdt.baseMediaDecodeTime` change, in place; every length stays.

use bytes::{Bytes, BytesMut};

use super::boxes::{Error, children};
use super::fragment::{Event, Fragment, Fragmenter, Init};
use super::movie::Movie;

/// A clip without end.
#[derive(Debug, Clone)]
pub struct Loop {
    init: Init,
    fragments: Vec<Fragment>,
    lap_us: u64,
}

impl Loop {
    /// Reads a whole fragmented MP4 with one recording.
    ///
    /// # Errors
    /// What the fragmenter finds; [`Error::Malformed`] if there is more than one recording or it lasts no time.
    pub fn read(clip: &[u8]) -> Result<Self, Error> {
        let mut fragmenter = Fragmenter::new(u64::MAX);
        fragmenter.push(clip);
        fragmenter.end();
        let mut init = None;
        let mut fragments = Vec::new();
        while let Some(event) = fragmenter.poll()? {
            match event {
                Event::Init(_) if init.is_some() => return Err(Error::Malformed("a loop of two recordings")),
                Event::Init(first) => init = Some(first),
                Event::Fragment(fragment) => fragments.push(fragment),
            }
        }
        let init = init.ok_or(Error::NotMp4)?;
        let begin = fragments.iter().map(|fragment| fragment.decode_time_us).min().unwrap_or(0);
        let end = fragments.iter().map(|fragment| fragment.decode_time_us.saturating_add(fragment.duration_us)).max();
        let lap_us = end.unwrap_or(0).saturating_sub(begin);
        if lap_us == 0 {
            return Err(Error::Malformed("a loop that lasts no time"));
        }
        Ok(Self { init, fragments, lap_us })
    }

    /// The beginning of the recording.
    #[must_use]
    pub fn init(&self) -> &Init {
        &self.init
    }

    /// Number of fragments in one lap.
    #[must_use]
    pub fn fragments_per_lap(&self) -> u64 {
        self.fragments.len() as u64
    }

    /// Length of one lap, microseconds.
    #[must_use]
    pub fn lap_us(&self) -> u64 {
        self.lap_us
    }

    /// The fragment with this number, counted from 0 over all laps.
    ///
    /// # Errors
    /// [`Error::Malformed`] if its time no longer fits its box.
    pub fn fragment(&self, number: u64) -> Result<Fragment, Error> {
        let count = self.fragments_per_lap();
        let index = usize::try_from(number % count).unwrap_or(0);
        let fragment = self.fragments.get(index).ok_or(Error::NoFragments)?;
        let shift_us = (number / count).saturating_mul(self.lap_us);
        let sequence = u32::try_from(number % u64::from(u32::MAX)).unwrap_or(0) + 1;
        Ok(Fragment {
            bytes: shift(&fragment.bytes, &self.init.movie, shift_us, sequence)?,
            decode_time_us: fragment.decode_time_us.saturating_add(shift_us),
            ..fragment.clone()
        })
    }
}

/// The fragment with its decode times moved by `shift_us` microseconds and this sequence number.
///
/// # Errors
/// [`Error::Malformed`] if it is no fragment of `movie`, or a time no longer fits its box.
pub fn shift(fragment: &[u8], movie: &Movie, shift_us: u64, sequence: u32) -> Result<Bytes, Error> {
    let mut shifted = BytesMut::from(fragment);
    for top in children(fragment) {
        let top = top?;
        if top.kind != *b"moof" {
            continue;
        }
        for child in children(top.body) {
            let child = child?;
            let at = top.body_at + child.body_at;
            match &child.kind {
                b"mfhd" => put(&mut shifted, at + 4, &sequence.to_be_bytes())?,
                b"traf" => shift_track(&mut shifted, child.body, at, movie, shift_us)?,
                _ => {}
            }
        }
    }
    Ok(shifted.freeze())
}

fn shift_track(shifted: &mut BytesMut, traf: &[u8], traf_at: usize, movie: &Movie, shift_us: u64) -> Result<(), Error> {
    let mut ticks = None;
    for child in children(traf) {
        let child = child?;
        match &child.kind {
            b"tfhd" => {
                let id =
                    child.body.get(4..).and_then(|rest| rest.first_chunk::<4>()).ok_or(Error::Malformed("tfhd"))?;
                ticks = movie.track(u32::from_be_bytes(*id)).map(|track| track.ticks(shift_us));
            }
            b"tfdt" => {
                let ticks = ticks.ok_or(Error::Malformed("tfdt before tfhd"))?;
                let at = traf_at + child.body_at;
                match child.body {
                    [0, _, _, _, time @ ..] => {
                        let time = u32::from_be_bytes(*time.first_chunk().ok_or(Error::Malformed("tfdt"))?);
                        let later = u32::try_from(u64::from(time).saturating_add(ticks));
                        let later = later.map_err(|_| Error::Malformed("decode time beyond 32 bits"))?;
                        put(shifted, at + 4, &later.to_be_bytes())?;
                    }
                    [1, _, _, _, time @ ..] => {
                        let time = u64::from_be_bytes(*time.first_chunk().ok_or(Error::Malformed("tfdt"))?);
                        put(shifted, at + 4, &time.saturating_add(ticks).to_be_bytes())?;
                    }
                    _ => return Err(Error::Malformed("tfdt")),
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn put(bytes: &mut BytesMut, at: usize, value: &[u8]) -> Result<(), Error> {
    let place = bytes.get_mut(at..at + value.len()).ok_or(Error::Malformed("box too short"))?;
    place.copy_from_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIP: &[u8] = include_bytes!("../../deploy/clip/clip.mp4");

    #[test]
    fn a_lap_is_as_long_as_the_pictures_and_the_first_is_the_clip_itself() {
        let clip = Loop::read(CLIP).unwrap();
        assert_eq!((clip.lap_us(), clip.fragments_per_lap()), (12_000_000, 12));
        for number in 0..12 {
            assert_eq!(clip.fragment(number).unwrap(), clip.fragments[usize::try_from(number).unwrap()]);
        }
    }

    #[test]
    fn later_laps_are_one_recording_with_the_first() {
        let clip = Loop::read(CLIP).unwrap();
        let mut fragmenter = Fragmenter::new(u64::MAX);
        fragmenter.push(&clip.init().bytes);
        (0..30).for_each(|number| fragmenter.push(&clip.fragment(number).unwrap().bytes));
        fragmenter.end();
        let mut times = Vec::new();
        while let Some(event) = fragmenter.poll().unwrap() {
            if let Event::Fragment(fragment) = event {
                times.push(fragment.decode_time_us);
            }
        }
        assert_eq!(times, (0..30).map(|second| second * 1_000_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_32_bit_time_is_shifted_within_its_box_or_not_at_all() {
        let movie = Loop::read(CLIP).unwrap().init().movie.clone();
        let timescale = u64::from(movie.tracks()[0].timescale.get());
        let moof = |time: u32| {
            let tfhd = [&16u32.to_be_bytes()[..], b"tfhd", &[0, 2, 0, 0], &movie.tracks()[0].id.to_be_bytes()].concat();
            let tfdt = [&16u32.to_be_bytes()[..], b"tfdt", &[0; 4], &time.to_be_bytes()].concat();
            let traf = [&40u32.to_be_bytes()[..], b"traf", &tfhd, &tfdt].concat();
            [&48u32.to_be_bytes()[..], b"moof", &traf].concat()
        };
        assert_eq!(shift(&moof(5), &movie, 2_000_000, 1).unwrap(), moof(5 + 2 * u32::try_from(timescale).unwrap()));
        assert_eq!(shift(&moof(u32::MAX), &movie, 1_000_000, 1), Err(Error::Malformed("decode time beyond 32 bits")));
    }

    #[test]
    fn nothing_that_is_no_single_recording_loops() {
        assert!(Loop::read(b"").is_err());
        assert!(Loop::read(&[CLIP, CLIP].concat()).is_err());
    }
}
