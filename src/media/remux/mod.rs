//! Cuts an ordinary MP4 or MOV file into an initialisation segment and fragments, without encoding: what a camera leaves
//! on a card becomes what a recorder sends.
//!
//! ```text
//! ftyp mdat moov(stbl: where each sample lies)  ->  ftyp moov(mvex)  moof mdat  moof mdat ...
//! ```
//!
//! Promises: every sample of the tracks that are carried comes through once, in order, byte for byte, with its decode time,
//! composition offset and sync flag; sample descriptions are copied as they are; edit lists keep their shift, so that
//! pictures and sound stay together. A fragment begins with a key frame wherever one falls in the last four seconds. Tracks
//! that are neither pictures nor sound are left out, and [`Remux::notes`] names them.
//!
//! Everything that the tables say is checked against the bytes that are there before the first fragment is given. Memory
//! is bounded by `moov` and one fragment; the tables are walked where they lie and nothing is allocated for a count.
//!
//! The file is read through `Read + Seek` alone, so that the caller decides what a file is.

pub(super) mod edit;
pub(super) mod fragment;
pub(super) mod init;
mod layout;
pub(super) mod tables;
mod trak;

use std::io::{self, Read, Seek};

use bytes::Bytes;

use super::boxes::{Error, children, find};
use super::cutter::{LINK_US_MAX, LINK_US_MIN, LINK_US_TARGET};
use super::fragment::{Fragment, Init};
use super::movie::{Movie, TrackKind};
use fragment::Run;
use layout::Found;
use tables::Sample;
use trak::{Lane, Trak};

/// A fragment of at least this many bytes ends at the next key frame, however short it is.
const FRAGMENT_BYTES_TARGET: u64 = 8 * 1024 * 1024;
/// A fragment is ended before the sample that would make it larger than this, key frame or not.
const FRAGMENT_BYTES_MAX: u64 = 24 * 1024 * 1024;
/// Greatest number of tracks looked at.
const TRACKS_MAX: usize = 32;
/// Seconds from 1904, where MP4 counts from, to 1970.
const EPOCH_1904: u64 = 2_082_844_800;

/// What keeps a file from being cut.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Something is wrong with what the file says.
    #[error(transparent)]
    Media(#[from] Error),
    /// The file cannot be read.
    #[error("reading failed: {0}")]
    Read(#[from] io::Error),
}

/// What a file turned out to be.
#[derive(Debug)]
pub enum Opened<R> {
    /// It is fragmented already: its bytes are for [`super::Fragmenter`].
    Fragmented(R),
    /// It is cut here.
    Plain(Remux<R>),
}

/// An ordinary file on its way to fragments.
#[derive(Debug)]
pub struct Remux<R> {
    input: R,
    init: Init,
    /// The tracks that are carried, the one that keeps time first.
    lanes: Vec<Lane>,
    notes: Vec<String>,
    sequence: u32,
    /// Where the last fragment ended, movie time.
    position_us: u64,
}

impl<R: Read + Seek> Remux<R> {
    /// Reads and checks everything but the samples themselves.
    ///
    /// # Errors
    /// [`Fault::Media`] with what is wrong with the file, [`Fault::Read`] if it cannot be read.
    pub fn open(mut input: R) -> Result<Opened<R>, Fault> {
        let layout = match layout::find(&mut input)? {
            Found::Fragmented => return Ok(Opened::Fragmented(input)),
            Found::Plain(layout) => layout,
        };
        let moov = layout.moov;
        let mvhd = find(&moov, *b"mvhd")?.ok_or(Error::Malformed("moov without mvhd"))?.body;
        let head = init::Head::read(mvhd, "mvhd")?;
        let mut notes = Vec::new();
        let traks = carried(&moov, head.timescale, &mut notes)?;
        let mut bytes_claimed = 0u64;
        let mut lanes = Vec::with_capacity(traks.len());
        for trak in &traks {
            let lane = Lane::new(trak)?;
            bytes_claimed = bytes_claimed.saturating_add(lane.check(layout.length)?);
            lanes.push(lane);
        }
        if bytes_claimed > layout.length {
            return Err(Error::Malformed("samples that lie on one another").into());
        }
        let bytes = Bytes::from(init::segment(layout.ftyp.as_deref(), &moov, &traks, &mut notes)?);
        let movie = read_movie(&bytes)?;
        lanes.sort_by_key(|lane| lane.kind != TrackKind::Video);
        let base = lanes.iter().filter_map(Lane::begins_us).min().unwrap_or(0);
        lanes.iter_mut().for_each(|lane| lane.count_from(base));
        let init = Init { codecs: movie.codecs(), bytes, movie };
        Ok(Opened::Plain(Self { input, init, lanes, notes, sequence: 0, position_us: 0 }))
    }

    /// The beginning of the recording.
    #[must_use]
    pub fn init(&self) -> &Init {
        &self.init
    }

    /// What was left out of the recording, a line for each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The next fragment; `None` after the last. Its decode time counts from the earliest sample of the file, edit lists
    /// applied.
    ///
    /// # Errors
    /// [`Fault::Read`] if the file cannot be read, [`Fault::Media`] if it has become shorter, or a sample is too large.
    pub fn next_fragment(&mut self) -> Result<Option<Fragment>, Fault> {
        let Some(begin) = self.lanes.iter().filter_map(Lane::begins_us).min() else { return Ok(None) };
        let begin = u64::try_from(begin).unwrap_or(0);
        let Some((first, others)) = self.lanes.split_first_mut() else { return Ok(None) };
        let mut runs = Vec::new();
        let wait = first.begins_us().map(|at| u64::try_from(at).unwrap_or(0).saturating_sub(begin));
        let (end, span, primary) = match wait {
            Some(wait) if wait < LINK_US_MIN => {
                let taken = take_primary(first)?;
                let from = first.micros(taken.first().map_or(0, |sample| sample.decode_time));
                let to = first.micros(taken.last().map_or(0, |sample| sample.decode_time + u64::from(sample.duration)));
                runs.extend(Run::of(first.id, taken));
                (to, (from, to), true)
            }
            wait => {
                let end = begin.saturating_add(wait.unwrap_or(LINK_US_TARGET).min(LINK_US_TARGET));
                // Samples of sound do not end where fragments do; their spans follow one another all the same.
                let follows = begin.abs_diff(self.position_us) < LINK_US_MIN;
                (end, (if follows { self.position_us } else { begin }, end), false)
            }
        };
        let mut bytes: u64 = runs.iter().map(Run::bytes).sum();
        let mut last = span.0;
        for lane in others {
            let taken = take_until(lane, end, &mut bytes)?;
            last = last.max(lane.end_us(&taken));
            runs.extend(Run::of(lane.id, taken));
        }
        let ended = self.lanes.iter().all(|lane| lane.begins_us().is_none());
        let to = if ended && !primary { last } else { span.1 };
        self.position_us = to;
        let has_video = self.init.movie.has_video();
        let video = |run: &&Run| self.init.movie.track(run.track).is_some_and(|track| track.kind == TrackKind::Video);
        let independent = (primary || !has_video) && runs.iter().filter(video).all(Run::begins_with_sync);
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = fragment::write(self.sequence, &runs, &mut self.input)?;
        let duration_us = to.saturating_sub(span.0);
        Ok(Some(Fragment { bytes, decode_time_us: span.0, duration_us, independent, primary }))
    }
}

/// When a file says that it was made, microseconds since the Unix epoch; `None` if it does not say. Reads no more than it
/// must, of ordinary and fragmented files alike.
///
/// # Errors
/// [`Fault::Media`] if it is no MP4 with an index, [`Fault::Read`] if it cannot be read.
pub fn created_at(input: &mut (impl Read + Seek)) -> Result<Option<u64>, Fault> {
    let head = init::Head::read(&layout::movie_header(input)?, "mvhd")?;
    Ok(unix_micros(head.created_at))
}

fn unix_micros(since_1904: u64) -> Option<u64> {
    let seconds = since_1904.checked_sub(EPOCH_1904).filter(|seconds| *seconds > 0)?;
    Some(seconds.saturating_mul(1_000_000))
}

/// Samples of the track that keeps time, up to the end of the fragment.
fn take_primary(lane: &mut Lane) -> Result<Vec<Sample>, Error> {
    let mut taken: Vec<Sample> = Vec::new();
    let mut bytes = 0u64;
    while let Some(next) = lane.peek() {
        if let Some(first) = taken.first() {
            let begin = lane.micros(first.decode_time);
            let length = lane.micros(next.decode_time).saturating_sub(begin);
            let longer = lane.micros(next.decode_time.saturating_add(u64::from(next.duration))).saturating_sub(begin);
            let key = next.sync && (length >= LINK_US_MIN || bytes >= FRAGMENT_BYTES_TARGET);
            if key || longer > LINK_US_MAX || bytes + u64::from(next.size) > FRAGMENT_BYTES_MAX {
                break;
            }
        }
        bytes += u64::from(next.size);
        taken.extend(lane.take()?);
    }
    Ok(taken)
}

/// Samples of another track that begin before `end`; pictures go on to their next key frame if it is near.
fn take_until(lane: &mut Lane, end: u64, bytes: &mut u64) -> Result<Vec<Sample>, Error> {
    let mut taken = Vec::new();
    while let Some(next) = lane.peek() {
        let at = lane.micros(next.decode_time);
        let follows = lane.kind == TrackKind::Video && !next.sync && at < end.saturating_add(LINK_US_TARGET);
        let full = *bytes + u64::from(next.size) > FRAGMENT_BYTES_MAX;
        if (at >= end && !follows) || (full && !taken.is_empty()) {
            break;
        }
        *bytes += u64::from(next.size);
        taken.extend(lane.take()?);
    }
    Ok(taken)
}

/// The tracks that a recording carries; what is left out is noted.
fn carried(moov: &Bytes, movie_timescale: u32, notes: &mut Vec<String>) -> Result<Vec<Trak>, Error> {
    let mut traks = Vec::new();
    for child in children(moov) {
        let child = child?;
        if child.kind != *b"trak" {
            continue;
        }
        if traks.len() == TRACKS_MAX {
            return Err(Error::Malformed("too many tracks"));
        }
        traks.push(Trak::read(moov.slice_ref(child.body), movie_timescale)?);
    }
    let moving = traks.iter().any(|trak| trak.kind == TrackKind::Video && !trak.is_still());
    let (kept, left_out): (Vec<_>, Vec<_>) = traks.into_iter().partition(|trak| trak.is_carried(moving));
    notes.extend(left_out.iter().map(Trak::left_out));
    if kept.iter().any(Trak::is_encrypted) {
        return Err(Error::Encrypted);
    }
    if kept.is_empty() {
        return Err(Error::NothingToCarry);
    }
    notes.extend(kept.iter().filter_map(Trak::edit_note));
    Ok(kept)
}

fn read_movie(init: &[u8]) -> Result<Movie, Error> {
    let moov = find(init, *b"moov")?.ok_or(Error::Malformed("moov"))?;
    Movie::read(moov.body)
}
