//! A clip that is exact to the frame without a sample being touched: an ordinary MP4 whose one `mdat` holds whole payloads, byte
//! for byte, before which stands a `moov` that says where in them the samples lie and, by an edit list, which are shown.
//!
//! ```text
//! ftyp moov(stbl: where each sample lies, edts: what is shown) mdat( payload | payload | ... )
//! ```
//!
//! Why not the recorder's `moov` with an edit list: players, those on ffmpeg among them, take from the edit list of a fragmented
//! file where its time begins and show every frame all the same. Samples before the first that is shown are there only as far as
//! decoding needs them.
//!
//! What is shown first of a payload, of the track that keeps time, was taken when its link says; every other time follows from the
//! time stamps of the media. Pictures are shown that begin within the range, and sound for just as long.

mod tables;

use bytes::Bytes;

use super::boxes::{Error, Kind, children, find};
use super::movie::{Movie, Track, TrackKind};
use super::remux::edit::Edit;
use super::remux::init::{Head as Header, boxed};
use super::samples::{self, Sample};
use tables::Shown;

/// Samples of sound before the first that is heard: decoders need some to begin.
const PREROLL: usize = 2;

/// A sample of one of the payloads.
#[derive(Debug, Clone, Copy)]
struct Placed {
    sample: Sample,
    /// Index of its payload.
    payload: usize,
}

impl Placed {
    fn shown_at(&self) -> i64 {
        signed(self.sample.decode_time).saturating_add(self.sample.composition)
    }

    fn shown_until(&self) -> i64 {
        self.shown_at().saturating_add(i64::from(self.sample.duration))
    }

    /// Whether nothing is missing between this and the next of its track.
    fn leads_to(&self, next: &Self) -> bool {
        self.sample.decode_time.saturating_add(u64::from(self.sample.duration)) == next.sample.decode_time
    }
}

/// A track with its samples so far, in the order of decoding.
struct Lane {
    track: Track,
    /// Movie time before the track begins, ticks of the recording's movie.
    empty: u64,
    /// Time of the track at which it begins, ticks.
    media_time: u64,
    samples: Vec<Placed>,
}

/// A payload that was looked at.
struct Payload {
    length: u64,
    captured_at: u64,
    /// When its first sample of the track that keeps time is decoded, and when the first of them is shown, ticks.
    first: Option<(u64, i64)>,
}

/// Looks at payloads, one by one in their order.
pub struct Indexer {
    init: Bytes,
    movie: Movie,
    lanes: Vec<Lane>,
    /// Index of the track that keeps time.
    primary: usize,
    movie_timescale: u32,
    payloads: Vec<Payload>,
}

/// What stands before the payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `ftyp`, `moov` and the header of `mdat`.
    pub bytes: Bytes,
    /// Which of the payloads follow, in the order in which they were pushed.
    pub payloads: std::ops::Range<usize>,
}

impl Indexer {
    /// For payloads of the recording with this initialisation segment.
    ///
    /// # Errors
    /// [`Error::Malformed`] and the like for what is none.
    pub fn new(init: Bytes) -> Result<Self, Error> {
        let moov = find(&init, *b"moov")?.ok_or(Error::NotMp4)?.body;
        let movie = Movie::read(moov)?;
        let mvhd = find(moov, *b"mvhd")?.ok_or(Error::Malformed("moov without mvhd"))?;
        let movie_timescale = Header::read(mvhd.body, "mvhd")?.timescale;
        let traks = children(moov).filter(|child| child.as_ref().map_or(true, |child| child.kind == *b"trak"));
        let mut lanes = Vec::new();
        for (trak, track) in traks.zip(movie.tracks()) {
            let edit = Edit::read(trak?.body, movie_timescale, track.timescale.get())?;
            let (empty, media_time) = edit.map_or((0, 0), |edit| (edit.empty, edit.media_time));
            lanes.push(Lane { track: track.clone(), empty, media_time, samples: Vec::new() });
        }
        let first = |kind: TrackKind| lanes.iter().position(|lane| lane.track.kind == kind);
        let primary = first(TrackKind::Video).or_else(|| first(TrackKind::Audio)).unwrap_or(0);
        Ok(Self { init, movie, lanes, primary, movie_timescale, payloads: Vec::new() })
    }

    /// Takes the next payload, whose first sample was taken at `captured_at`, microseconds.
    ///
    /// # Errors
    /// Those of a payload that cannot be read or does not follow the ones before.
    pub fn push(&mut self, payload: &[u8], captured_at: u64) -> Result<(), Error> {
        let index = self.payloads.len();
        let keeps_time = self.lanes.get(self.primary).map(|lane| lane.track.id);
        let mut first: Option<(u64, i64)> = None;
        for sample in samples::read(payload, &self.movie)? {
            let placed = Placed { sample, payload: index };
            if Some(sample.track) == keeps_time {
                let shown = placed.shown_at();
                first = Some(first.map_or((sample.decode_time, shown), |(decoded, at)| (decoded, at.min(shown))));
            }
            let Some(lane) = self.lanes.iter_mut().find(|lane| lane.track.id == sample.track) else { continue };
            if lane.samples.last().is_some_and(|last| last.sample.decode_time >= sample.decode_time) {
                return Err(Error::Malformed("decode times that do not rise"));
            }
            lane.samples.push(placed);
        }
        self.payloads.push(Payload { length: payload.len() as u64, captured_at, first });
        Ok(())
    }

    /// What shows `[from, to)` of the device's time, microseconds; `None` if nothing begins within it.
    ///
    /// # Errors
    /// [`Error::Malformed`] for tracks that cannot be described.
    pub fn finish(self, from: u64, to: u64) -> Result<Option<Head>, Error> {
        let Some(keeper) = self.lanes.get(self.primary) else { return Ok(None) };
        let delay = self.delay();
        let within = |placed: &&Placed| self.taken_at(keeper, delay, placed).is_some_and(|at| from <= at && at < to);
        let (mut begin, mut end) = (i64::MAX, i64::MIN);
        for placed in keeper.samples.iter().filter(within) {
            (begin, end) = (begin.min(placed.shown_at()), end.max(placed.shown_until()));
        }
        if begin >= end {
            return Ok(None);
        }
        let timescale = keeper.track.timescale.get();
        let (opens, closes) = self.sound(keeper, delay, (from, to), (begin, end));
        let mut chosen = Vec::new();
        for (index, lane) in self.lanes.iter().enumerate() {
            let window = if index == self.primary {
                (begin, end)
            } else {
                (self.converted(keeper, lane, opens), self.converted(keeper, lane, closes))
            };
            chosen.push(choose(lane, window).map(|samples| Chosen::new(samples, window)));
        }
        let starts = self.lanes.iter().zip(&chosen);
        let starts = starts.filter_map(|(lane, chosen)| Some(self.converted(lane, keeper, chosen.as_ref()?.begin)));
        let origin = starts.min().unwrap_or(begin);
        let shown = self.lanes.iter().zip(chosen).map(|(lane, chosen)| {
            chosen.map(|chosen| Shown::new(&lane.track, &chosen, self.converted(keeper, lane, origin), timescale))
        });
        let shown: Vec<_> = shown.collect();
        let used = shown.iter().flatten().flat_map(|shown| shown.payloads());
        let (first, last) = used.fold((usize::MAX, 0), |(first, last), index| (first.min(index), last.max(index)));
        let payloads = first..last.saturating_add(1);
        self.head(&shown, timescale, payloads).map(Some)
    }

    /// How long after its decoding a sample is shown where none comes out of turn, ticks: what frames that are decoded before
    /// those they are shown after cost all of them. A payload that begins amid such frames shows less of it.
    fn delay(&self) -> i64 {
        let of_each = self.payloads.iter().filter_map(|payload| payload.first);
        of_each.map(|(decoded, shown)| shown.saturating_sub(signed(decoded))).max().unwrap_or(0)
    }

    /// Device time of a sample of the track that keeps time, microseconds.
    fn taken_at(&self, keeper: &Lane, delay: i64, placed: &Placed) -> Option<u64> {
        let payload = self.payloads.get(placed.payload)?;
        let (decoded, _) = payload.first?;
        let after = i128::from(placed.shown_at()) - i128::from(decoded) - i128::from(delay);
        let after_us = rounded(after * 1_000_000, i128::from(keeper.track.timescale.get()));
        u64::try_from(i128::from(payload.captured_at) + after_us).ok()
    }

    /// How long sound is heard: with the pictures that are shown, and where there are none before or after them, in all of the range.
    fn sound(&self, keeper: &Lane, delay: i64, (from, to): (u64, u64), (begin, end): (i64, i64)) -> (i64, i64) {
        let at = |time: u64, shown: i64| {
            let of = keeper.samples.iter().find(|placed| placed.shown_at() == shown).map(|placed| placed.payload);
            let payload = of.and_then(|index| self.payloads.get(index))?;
            let after = i128::from(time) - i128::from(payload.captured_at);
            let ticks = rounded(after * i128::from(keeper.track.timescale.get()), 1_000_000);
            let ticks = ticks + i128::from(payload.first?.0) + i128::from(delay);
            i64::try_from(ticks).ok()
        };
        let is_first = keeper.samples.iter().all(|placed| placed.shown_at() >= begin);
        let is_last = keeper.samples.iter().all(|placed| placed.shown_at() < end);
        let last = keeper.samples.iter().map(Placed::shown_at).filter(|at| *at < end).max().unwrap_or(begin);
        let opens = at(from, begin).filter(|_| is_first).map_or(begin, |opens| opens.min(begin));
        let closes = at(to, last).filter(|_| is_last).map_or(end, |closes| closes.max(end));
        (opens, closes)
    }

    /// A time of one track, as another counts it.
    fn converted(&self, lane: &Lane, other: &Lane, at: i64) -> i64 {
        let wide = |number: u32| i128::from(number);
        let (of_lane, of_other) = (wide(lane.track.timescale.get()), wide(other.track.timescale.get()));
        let of_movie = wide(self.movie_timescale);
        let shown = (i128::from(at) - i128::from(lane.media_time)) * of_movie;
        let empty = (i128::from(lane.empty) - i128::from(other.empty)) * of_lane;
        let ticks = rounded((shown + empty) * of_other, of_lane * of_movie) + i128::from(other.media_time);
        i64::try_from(ticks).unwrap_or(i64::MAX)
    }

    fn head(
        &self,
        shown: &[Option<Shown<'_>>],
        timescale: u32,
        payloads: std::ops::Range<usize>,
    ) -> Result<Head, Error> {
        let ftyp = find(&self.init, *b"ftyp")?.ok_or(Error::Malformed("moov without ftyp before it"))?;
        let ftyp = boxed(*b"ftyp", &[ftyp.body]);
        let mut at = 0u64;
        let mut starts = vec![0; self.payloads.len()];
        for index in payloads.clone() {
            if let (Some(start), Some(payload)) = (starts.get_mut(index), self.payloads.get(index)) {
                *start = at;
                at = at.saturating_add(payload.length);
            }
        }
        // Every number in it has a fixed width, so that its length does not depend on where the payloads begin.
        let length = self.moov(shown, timescale, &starts, 0)?.len() as u64;
        let begin = (ftyp.len() as u64).saturating_add(length).saturating_add(MDAT_HEADER_BYTES);
        let moov = self.moov(shown, timescale, &starts, begin)?;
        let size = at.saturating_add(MDAT_HEADER_BYTES);
        let mdat = [&1u32.to_be_bytes()[..], b"mdat", &size.to_be_bytes()].concat();
        Ok(Head { bytes: [ftyp, moov, mdat].concat().into(), payloads })
    }

    fn moov(&self, shown: &[Option<Shown<'_>>], timescale: u32, starts: &[u64], begin: u64) -> Result<Vec<u8>, Error> {
        let moov = find(&self.init, *b"moov")?.ok_or(Error::NotMp4)?.body;
        let duration = shown.iter().flatten().map(Shown::movie_duration).max().unwrap_or(0);
        let mut tracks = shown.iter();
        let mut parts = Vec::new();
        for child in children(moov) {
            let child = child?;
            match &child.kind {
                b"mvex" => {}
                b"mvhd" => parts.push(boxed(child.kind, &[&header(child.body, Some(timescale), duration, 12, 20)?])),
                b"trak" => {
                    if let Some(Some(shown)) = tracks.next() {
                        parts.push(trak(child.body, shown, starts, begin)?);
                    }
                }
                _ => parts.push(boxed(child.kind, &[child.body])),
            }
        }
        Ok(boxed(*b"moov", &[&parts.concat()]))
    }
}

/// Length of the header of `mdat`, in its long form.
const MDAT_HEADER_BYTES: u64 = 16;

/// Samples of a track, and what of them is shown, ticks.
struct Chosen<'a> {
    samples: &'a [Placed],
    begin: i64,
    end: i64,
}

impl<'a> Chosen<'a> {
    fn new(samples: &'a [Placed], (begin, end): (i64, i64)) -> Self {
        let first = samples.iter().map(Placed::shown_at).min().unwrap_or(begin);
        let last = samples.iter().map(Placed::shown_until).max().unwrap_or(end);
        Self { samples, begin: begin.max(first), end: end.min(last) }
    }
}

/// The samples of a track that show `[begin, end)`, with those that decoding needs; `None` if there are none.
fn choose(lane: &Lane, (begin, end): (i64, i64)) -> Option<&[Placed]> {
    let shows = |placed: &Placed| placed.shown_at() < end && placed.shown_until() > begin;
    let mut first = lane.samples.iter().position(shows)?;
    let last = lane.samples.iter().rposition(shows)?;
    let before = |index: usize| {
        let before = index.checked_sub(1)?;
        lane.samples.get(before).zip(lane.samples.get(index)).filter(|(a, b)| a.leads_to(b)).map(|_| before)
    };
    // What is shown before the key frame that it follows may need the one before that.
    let shown = lane.samples.get(first..=last)?.iter().filter(|placed| shows(placed)).map(Placed::shown_at).min()?;
    let begins =
        |index: usize| lane.samples.get(index).is_some_and(|placed| placed.sample.sync && placed.shown_at() <= shown);
    while !begins(first)
        && let Some(index) = before(first)
    {
        first = index;
    }
    if lane.track.kind == TrackKind::Audio {
        for _ in 0..PREROLL {
            first = before(first).unwrap_or(first);
        }
    }
    lane.samples.get(first..=last)
}

fn trak(trak: &[u8], shown: &Shown<'_>, starts: &[u64], begin: u64) -> Result<Vec<u8>, Error> {
    let mut parts = Vec::new();
    for child in children(trak) {
        let child = child?;
        match &child.kind {
            b"edts" => {}
            b"tkhd" => {
                parts.push(boxed(child.kind, &[&header(child.body, None, shown.movie_duration(), 20, 28)?]));
                parts.push(shown.edts());
            }
            b"mdia" => parts.push(mdia(child.body, shown, starts, begin)?),
            _ => parts.push(boxed(child.kind, &[child.body])),
        }
    }
    Ok(boxed(*b"trak", &[&parts.concat()]))
}

fn mdia(mdia: &[u8], shown: &Shown<'_>, starts: &[u64], begin: u64) -> Result<Vec<u8>, Error> {
    let mut parts = Vec::new();
    for child in children(mdia) {
        let child = child?;
        match &child.kind {
            b"mdhd" => parts.push(boxed(child.kind, &[&header(child.body, None, shown.duration(), 16, 24)?])),
            b"minf" => {
                let mut inner = Vec::new();
                for child in children(child.body) {
                    let child = child?;
                    inner.push(if child.kind == *b"stbl" {
                        let stsd = find(child.body, *b"stsd")?.ok_or(Error::Malformed("stbl without stsd"))?;
                        let stsd = boxed(*b"stsd", &[stsd.body]);
                        boxed(*b"stbl", &[&stsd, &shown.tables(starts, begin)])
                    } else {
                        boxed(child.kind, &[child.body])
                    });
                }
                parts.push(boxed(*b"minf", &[&inner.concat()]));
            }
            _ => parts.push(boxed(child.kind, &[child.body])),
        }
    }
    Ok(boxed(*b"mdia", &[&parts.concat()]))
}

/// The body of a header with another duration, and another timescale where one is given, which stands before the duration. `short`
/// and `long` are where versions 0 and 1 have the duration, or the timescale.
fn header(body: &[u8], timescale: Option<u32>, duration: u64, short: usize, long: usize) -> Result<Vec<u8>, Error> {
    let is_long = body.first() == Some(&1);
    let mut at = if is_long { long } else { short };
    let mut body = body.to_vec();
    let mut put = |bytes: &[u8]| -> Result<(), Error> {
        let end = at.saturating_add(bytes.len());
        body.get_mut(at..end).ok_or(Error::Malformed("a header is too short"))?.copy_from_slice(bytes);
        at = end;
        Ok(())
    };
    if let Some(timescale) = timescale {
        put(&timescale.to_be_bytes())?;
    }
    if is_long {
        put(&duration.to_be_bytes())?;
    } else {
        put(&u32::try_from(duration).unwrap_or(u32::MAX).to_be_bytes())?;
    }
    Ok(body)
}

/// `a / b` to the nearest whole number; `b` is positive.
fn rounded(a: i128, b: i128) -> i128 {
    (2 * a + b).div_euclid(2 * b.max(1))
}

fn signed(ticks: u64) -> i64 {
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

/// A box with version and flags.
fn full(kind: Kind, version: u8, parts: &[&[u8]]) -> Vec<u8> {
    boxed(kind, &[&[version, 0, 0, 0], &parts.concat()])
}
