//! Puts the pictures and the sound that a camera sends, one by one, into an initialisation segment and fragments.
//!
//! A camera says when each picture is shown, in the order in which they are decoded. Decode times are made of these: those of
//! a fragment in rising order, so that pictures keep the times that the camera gave, whether or not they are reordered. A
//! recording begins with a key frame, and a fragment with the first key frame after a second. Sample bytes are not changed.
//!
//! Memory is bounded by one fragment: [`Live::push`] ends it at the limits, key frame or not.

use std::num::NonZeroU32;

use bytes::Bytes;

use super::boxes::{Error, find};
use super::cutter::{LINK_US_MAX, LINK_US_MIN};
use super::fragment::{Fragment, Init};
use super::movie::{Movie, TrackKind};
use super::remux::fragment::{self, Run};
use super::remux::init::boxed;
use super::remux::tables::Sample;

/// A fragment is ended before the sample that would make it larger than this.
const FRAGMENT_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Times that jump by more than this are those of another recording, microseconds.
const JUMP_US_MAX: u64 = 10_000_000;
/// Duration of the last picture of a recording, if there is only one, microseconds.
const PICTURE_US: u64 = 40_000;
/// The unity matrix of `mvhd` and `tkhd`.
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// A track of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// What it carries: pictures or sound.
    pub kind: TrackKind,
    /// Ticks per second.
    pub timescale: NonZeroU32,
    /// The sample entry, a whole box.
    pub entry: Vec<u8>,
    /// Width and height, pixels; zero for sound.
    pub size: (u16, u16),
}

/// A picture or a piece of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Index of its track.
    pub track: usize,
    /// When it is shown, ticks from a zero that all tracks have in common.
    pub time: i64,
    /// Its length, ticks, if it says so.
    pub duration: Option<u32>,
    /// Whether decoding can begin here.
    pub sync: bool,
    /// The sample.
    pub data: Bytes,
}

/// A recording that is being put together.
#[derive(Debug)]
pub struct Live {
    tracks: Vec<Track>,
    init: Init,
    pending: Vec<Vec<Frame>>,
    /// Decode time after the newest sample of each track, ticks from the zero of the recording.
    next: Vec<u64>,
    /// Time of the first sample of the track that keeps time, its ticks.
    zero: Option<i64>,
    bytes: usize,
    sequence: u32,
}

impl Live {
    /// A recording with these tracks; the first with pictures keeps time, or else the first.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a sample entry cannot be read.
    pub fn new(tracks: Vec<Track>) -> Result<Self, Error> {
        let bytes = Bytes::from(init(&tracks));
        let moov = find(&bytes, *b"moov")?.ok_or(Error::Malformed("moov"))?;
        let movie = Movie::read(moov.body)?;
        let init = Init { codecs: movie.codecs(), bytes, movie };
        let count = tracks.len();
        Ok(Self {
            tracks,
            init,
            pending: vec![Vec::new(); count],
            next: vec![0; count],
            zero: None,
            bytes: 0,
            sequence: 0,
        })
    }

    /// The beginning of the recording.
    #[must_use]
    pub fn init(&self) -> &Init {
        &self.init
    }

    /// Takes the next sample; gives the fragment that ends before it, if one does. What comes before the first key frame is
    /// left out.
    ///
    /// # Errors
    /// [`Error::Malformed`] if its time jumps: it belongs to another recording. [`Error::TooLarge`] if it can be no link.
    pub fn push(&mut self, frame: Frame) -> Result<Option<Fragment>, Error> {
        let Some(timescale) = self.tracks.get(frame.track).map(|track| track.timescale) else { return Ok(None) };
        if frame.data.len() > FRAGMENT_BYTES_MAX {
            let (limit, actual) = (FRAGMENT_BYTES_MAX as u64, frame.data.len() as u64);
            return Err(Error::TooLarge { what: "frame", limit, actual });
        }
        let keeps_time = frame.track == self.keeps_time();
        let Some(zero) = self.zero else {
            if keeps_time && frame.sync {
                self.zero = Some(frame.time);
                self.take(frame);
            }
            return Ok(None);
        };
        let zero_here = rescale(zero, self.timescale(self.keeps_time()), timescale);
        let Ok(at) = u64::try_from(frame.time.saturating_sub(zero_here)) else { return Ok(None) };
        let end = self.next.get(frame.track).copied().unwrap_or(0);
        let last = self.pending.get(frame.track).and_then(|pending| pending.last());
        let last = last.map_or(end, |last| u64::try_from(last.time.saturating_sub(zero_here)).unwrap_or(0));
        if micros(at.abs_diff(last), timescale) > JUMP_US_MAX {
            return Err(Error::Malformed("its times jump"));
        }
        let fragment = if keeps_time && self.ends_before(&frame, at) { self.cut(Some(at))? } else { None };
        self.take(frame);
        Ok(fragment)
    }

    /// What is left: the recording is at its end.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if sizes do not fit.
    pub fn flush(&mut self) -> Result<Option<Fragment>, Error> {
        self.cut(None)
    }

    /// Index of the track that keeps time.
    fn keeps_time(&self) -> usize {
        self.tracks.iter().position(|track| track.kind == TrackKind::Video).unwrap_or(0)
    }

    fn timescale(&self, track: usize) -> NonZeroU32 {
        self.tracks.get(track).map_or(NonZeroU32::MIN, |track| track.timescale)
    }

    fn take(&mut self, frame: Frame) {
        self.bytes += frame.data.len();
        if let Some(pending) = self.pending.get_mut(frame.track) {
            pending.push(frame);
        }
    }

    fn ends_before(&self, frame: &Frame, at: u64) -> bool {
        let begin = self.next.get(frame.track).copied().unwrap_or(0);
        let length = micros(at.saturating_sub(begin), self.timescale(frame.track));
        let full = self.bytes + frame.data.len() > FRAGMENT_BYTES_MAX;
        (frame.sync && length >= LINK_US_MIN) || length >= LINK_US_MAX || full
    }

    /// Ends the fragment where the track that keeps time is at `end`, its ticks; at the end of the recording everything goes.
    fn cut(&mut self, end: Option<u64>) -> Result<Option<Fragment>, Error> {
        let (keeper, zero) = (self.keeps_time(), self.zero.unwrap_or(0));
        let keeper_scale = self.timescale(keeper);
        let (mut runs, mut data, mut span) = (Vec::new(), Vec::new(), None);
        for track in 0..self.tracks.len() {
            let timescale = self.timescale(track);
            let zero_here = rescale(zero, keeper_scale, timescale);
            let end_here = end.map(|end| rescale(i64::try_from(end).unwrap_or(i64::MAX), keeper_scale, timescale));
            let end_here = end_here.map(|end| u64::try_from(end).unwrap_or(0));
            let Some(pending) = self.pending.get_mut(track) else { continue };
            let time = |frame: &Frame| u64::try_from(frame.time.saturating_sub(zero_here)).unwrap_or(0);
            let count = match end_here {
                Some(end) if track != keeper => pending.iter().take_while(|frame| time(frame) < end).count(),
                _ => pending.len(),
            };
            let follows = pending.get(count).map(&time);
            let frames: Vec<Frame> = pending.drain(..count).collect();
            let next = self.next.get(track).copied().unwrap_or(0);
            let end_here = if track == keeper { end_here } else { follows };
            let (samples, after) = samples(&frames, &time, next, end_here, timescale);
            if track == keeper {
                let begin = samples.first().map_or(next, |sample| sample.decode_time);
                span = Some((
                    micros(begin, timescale),
                    micros(after, timescale),
                    frames.first().is_some_and(|first| first.sync),
                ));
            }
            if let Some(next) = self.next.get_mut(track) {
                *next = after;
            }
            runs.extend(Run::of(u32::try_from(track).unwrap_or(0) + 1, samples));
            data.extend(frames.into_iter().map(|frame| frame.data));
        }
        self.bytes = self.pending.iter().flatten().map(|frame| frame.data.len()).sum();
        let Some((begin, end, independent)) = span.filter(|_| !data.is_empty()) else { return Ok(None) };
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = fragment::begin(self.sequence, &runs)?;
        data.iter().for_each(|data| bytes.extend_from_slice(data));
        Ok(Some(Fragment {
            bytes: bytes.into(),
            decode_time_us: begin,
            duration_us: end.saturating_sub(begin),
            independent,
            primary: true,
        }))
    }
}

/// The samples of one track in one fragment, decoded from `next` at the earliest and until `end`; and where they end.
fn samples(
    frames: &[Frame],
    time: &impl Fn(&Frame) -> u64,
    next: u64,
    end: Option<u64>,
    timescale: NonZeroU32,
) -> (Vec<Sample>, u64) {
    let mut rising: Vec<u64> = frames.iter().map(time).collect();
    rising.sort_unstable();
    let mut earliest = next;
    for at in &mut rising {
        *at = (*at).max(earliest);
        earliest = *at;
    }
    let last = rising.last().copied().unwrap_or(next);
    let usual = match rising.as_slice() {
        [.., before, last] if last > before => last - before,
        _ => ticks(PICTURE_US, timescale),
    };
    let own = frames.last().and_then(|frame| frame.duration).map_or(usual, u64::from);
    let after = end.unwrap_or(last.saturating_add(own)).max(last);
    let ends = rising.iter().skip(1).copied().chain([after]);
    let mut samples = Vec::with_capacity(frames.len());
    for ((frame, decode_time), end) in frames.iter().zip(&rising).zip(ends) {
        let shown = i128::from(time(frame)) - i128::from(*decode_time);
        samples.push(Sample {
            offset: 0,
            size: u32::try_from(frame.data.len()).unwrap_or(u32::MAX),
            decode_time: *decode_time,
            duration: u32::try_from(end.saturating_sub(*decode_time)).unwrap_or(u32::MAX),
            composition: i32::try_from(shown).unwrap_or(0),
            sync: frame.sync,
            description: 1,
        });
    }
    (samples, after)
}

fn micros(ticks: u64, timescale: NonZeroU32) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(timescale.get())).unwrap_or(u64::MAX)
}

fn ticks(micros: u64, timescale: NonZeroU32) -> u64 {
    micros.saturating_mul(u64::from(timescale.get())) / 1_000_000
}

fn rescale(ticks: i64, from: NonZeroU32, to: NonZeroU32) -> i64 {
    let ticks = i128::from(ticks) * i128::from(to.get()) / i128::from(from.get());
    i64::try_from(ticks).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// `ftyp` and `moov` (ISO/IEC 14496-12 section 8) without samples.
fn init(tracks: &[Track]) -> Vec<u8> {
    let ftyp = boxed(*b"ftyp", &[b"iso5\0\0\x02\0iso5iso6mp41"]);
    let next_id = u32::try_from(tracks.len()).unwrap_or(0) + 1;
    let mvhd = words(&[0, 0, 0, 1_000, 0, 0x1_0000, 0x0100_0000, 0, 0]);
    let mvhd = boxed(*b"mvhd", &[&mvhd, &words(&MATRIX), &[0; 24], &words(&[next_id])]);
    let (mut traks, mut trex) = (Vec::new(), Vec::new());
    for (track, id) in tracks.iter().zip(1u32..) {
        traks.extend_from_slice(&trak(track, id));
        trex.extend_from_slice(&boxed(*b"trex", &[&words(&[0, id, 1, 0, 0, 0])]));
    }
    [ftyp, boxed(*b"moov", &[&mvhd, &traks, &boxed(*b"mvex", &[&trex])])].concat()
}

fn trak(track: &Track, id: u32) -> Vec<u8> {
    let video = track.kind == TrackKind::Video;
    let volume = if video { 0 } else { 0x0100_0000 };
    let size = words(&[u32::from(track.size.0) << 16, u32::from(track.size.1) << 16]);
    let tkhd = boxed(*b"tkhd", &[&words(&[3, 0, 0, id, 0, 0, 0, 0, 0, volume]), &words(&MATRIX), &size]);
    let mdhd = boxed(*b"mdhd", &[&words(&[0, 0, 0, track.timescale.get(), 0, 0x55c4_0000])]);
    let (handler, header) = if video {
        (b"vide", boxed(*b"vmhd", &[&words(&[1, 0, 0])]))
    } else {
        (b"soun", boxed(*b"smhd", &[&words(&[0, 0])]))
    };
    let hdlr = boxed(*b"hdlr", &[&words(&[0, 0]), handler, &[0; 13]]);
    let dref = boxed(*b"dref", &[&words(&[0, 1]), &boxed(*b"url ", &[&words(&[1])])]);
    let stsd = boxed(*b"stsd", &[&words(&[0, 1]), &track.entry]);
    let empty = |kind: [u8; 4], count: usize| boxed(kind, &[&vec![0; count]]);
    let tables = [empty(*b"stts", 8), empty(*b"stsc", 8), empty(*b"stsz", 12), empty(*b"stco", 8)].concat();
    let stbl = boxed(*b"stbl", &[&stsd, &tables]);
    let minf = boxed(*b"minf", &[&header, &boxed(*b"dinf", &[&dref]), &stbl]);
    boxed(*b"trak", &[&tkhd, &boxed(*b"mdia", &[&mdhd, &hdlr, &minf])])
}

#[cfg(test)]
mod tests;
