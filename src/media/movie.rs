//! What a `moov` says of its tracks, and what a `moof` says of its fragment (ISO/IEC 14496-12 sections 8.2 to 8.8).
//!
//! Only what cutting and playing need is read: timescales, defaults, codecs, decode times, durations, sync samples.

use std::num::NonZeroU32;

use mp4_atom::{Mdhd, Tfdt, Tfhd, Tkhd, Trex, Trun, TrunSamples};

use aigaq_proto::limits::CODECS_BYTES_MAX;

use super::boxes::{Child, Error, Kind, children, find, leaf};
use super::codecs::codec;

/// Greatest number of tracks that a recording may have.
const TRACKS_MAX: usize = 32;
/// Greatest number of track fragments in one fragment.
const RUNS_MAX: usize = 256;
/// Set in the flags of a sample that is no sync sample (section 8.8.3.1).
pub(super) const SAMPLE_IS_NON_SYNC: u32 = 0x0001_0000;

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Anything else.
    Other,
}

/// A track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Number of the track in the file.
    pub id: u32,
    /// What it carries.
    pub kind: TrackKind,
    /// Ticks per second.
    pub timescale: NonZeroU32,
    /// RFC 6381 codec string.
    pub codec: String,
    /// Duration of a sample that does not say its own, ticks.
    pub(super) sample_duration: u32,
    /// Size of a sample that does not say its own, bytes.
    pub(super) sample_size: u32,
    /// Flags of a sample that does not say its own.
    pub(super) sample_flags: u32,
    /// Sample description of a fragment that does not say its own, from 1.
    pub(super) sample_description: u32,
}

impl Track {
    /// Microseconds of so many ticks, rounded down.
    #[must_use]
    pub fn micros(&self, ticks: u64) -> u64 {
        let micros = u128::from(ticks) * 1_000_000 / u128::from(self.timescale.get());
        u64::try_from(micros).unwrap_or(u64::MAX)
    }

    /// Ticks of so many microseconds, rounded down.
    #[must_use]
    pub fn ticks(&self, micros: u64) -> u64 {
        let ticks = u128::from(micros) * u128::from(self.timescale.get()) / 1_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// The tracks of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Movie {
    tracks: Vec<Track>,
}

impl Movie {
    /// Reads the body of a `moov`.
    ///
    /// # Errors
    /// [`Error::NotFragmented`] if it does not announce fragments, [`Error::Malformed`] if it cannot be read.
    pub fn read(moov: &[u8]) -> Result<Self, Error> {
        let mvex = find(moov, *b"mvex")?.ok_or(Error::NotFragmented)?;
        let mut tracks = Vec::new();
        for child in children(moov) {
            let child = child?;
            if child.kind != *b"trak" {
                continue;
            }
            if tracks.len() == TRACKS_MAX {
                return Err(Error::Malformed("too many tracks"));
            }
            tracks.push(read_track(child.body)?);
        }
        if tracks.is_empty() {
            return Err(Error::Malformed("moov without tracks"));
        }
        for child in children(mvex.body) {
            let child = child?;
            if child.kind == *b"trex" {
                let defaults: Trex = leaf(child.body, "trex")?;
                if let Some(track) = tracks.iter_mut().find(|track| track.id == defaults.track_id) {
                    track.sample_duration = defaults.default_sample_duration;
                    track.sample_size = defaults.default_sample_size;
                    track.sample_flags = defaults.default_sample_flags;
                    track.sample_description = defaults.default_sample_description_index;
                }
            }
        }
        Ok(Self { tracks })
    }

    /// The tracks in the order of the file.
    #[must_use]
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// The track with this number.
    #[must_use]
    pub fn track(&self, id: u32) -> Option<&Track> {
        self.tracks.iter().find(|track| track.id == id)
    }

    /// Whether there are pictures.
    #[must_use]
    pub fn has_video(&self) -> bool {
        self.tracks.iter().any(|track| track.kind == TrackKind::Video)
    }

    /// RFC 6381 codecs of pictures and sound, comma-separated, within the limit of a link header.
    #[must_use]
    pub fn codecs(&self) -> String {
        let mut text = String::new();
        for track in self.tracks.iter().filter(|track| track.kind != TrackKind::Other) {
            let known = text.split(',').any(|codec| codec == track.codec);
            if !known && text.len() + 1 + track.codec.len() <= CODECS_BYTES_MAX {
                if !text.is_empty() {
                    text.push(',');
                }
                text.push_str(&track.codec);
            }
        }
        text
    }
}

fn require<'a>(body: &'a [u8], kind: Kind, what: &'static str) -> Result<Child<'a>, Error> {
    find(body, kind)?.ok_or(Error::Malformed(what))
}

fn read_track(trak: &[u8]) -> Result<Track, Error> {
    let id = leaf::<Tkhd>(require(trak, *b"tkhd", "trak without tkhd")?.body, "tkhd")?.track_id;
    let mdia = require(trak, *b"mdia", "trak without mdia")?.body;
    let mdhd: Mdhd = leaf(require(mdia, *b"mdhd", "mdia without mdhd")?.body, "mdhd")?;
    let timescale = NonZeroU32::new(mdhd.timescale).ok_or(Error::Malformed("timescale 0"))?;
    let hdlr = require(mdia, *b"hdlr", "mdia without hdlr")?.body;
    let kind = match hdlr.get(8..12) {
        Some(b"vide") => TrackKind::Video,
        Some(b"soun") => TrackKind::Audio,
        Some(_) => TrackKind::Other,
        None => return Err(Error::Malformed("hdlr")),
    };
    let minf = require(mdia, *b"minf", "mdia without minf")?.body;
    let stbl = require(minf, *b"stbl", "minf without stbl")?.body;
    let stsd = require(stbl, *b"stsd", "stbl without stsd")?.body;
    let entries = stsd.get(8..).ok_or(Error::Malformed("stsd"))?;
    let codec = match children(entries).next().transpose()? {
        Some(entry) => codec(entry.kind, entry.body)?,
        None => return Err(Error::Malformed("stsd without entries")),
    };
    Ok(Track { id, kind, timescale, codec, sample_duration: 0, sample_size: 0, sample_flags: 0, sample_description: 1 })
}

/// The samples of one track in one fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Number of the track.
    pub track: u32,
    /// Decode time of the first sample, ticks; `None` if the fragment leaves it to be counted.
    pub decode_time: Option<u64>,
    /// Length of all samples, ticks.
    pub duration: u64,
    /// Whether the first sample is a sync sample.
    pub sync: bool,
}

/// Reads the body of a `moof`: the runs of known tracks that have samples, in the order of the file.
///
/// # Errors
/// [`Error::AbsoluteOffsets`] if the fragment cannot stand alone, [`Error::Malformed`] if it cannot be read.
pub fn read_runs(moof: &[u8], movie: &Movie) -> Result<Vec<Run>, Error> {
    let mut runs = Vec::new();
    for child in children(moof) {
        let child = child?;
        if child.kind != *b"traf" {
            continue;
        }
        if runs.len() == RUNS_MAX {
            return Err(Error::Malformed("too many track fragments"));
        }
        runs.extend(read_run(child.body, movie)?);
    }
    Ok(runs)
}

fn read_run(traf: &[u8], movie: &Movie) -> Result<Option<Run>, Error> {
    let header: Tfhd = leaf(require(traf, *b"tfhd", "traf without tfhd")?.body, "tfhd")?;
    if header.base_data_offset.is_some() {
        return Err(Error::AbsoluteOffsets);
    }
    let track = movie.track(header.track_id).ok_or(Error::Malformed("fragment of an unknown track"))?;
    let sample_duration = header.default_sample_duration.unwrap_or(track.sample_duration);
    let sample_flags = header.default_sample_flags.unwrap_or(track.sample_flags);
    let mut run: Option<Run> = None;
    let mut decode_time = None;
    for child in children(traf) {
        let child = child?;
        match &child.kind {
            b"tfdt" => decode_time = Some(leaf::<Tfdt>(child.body, "tfdt")?.base_media_decode_time),
            b"trun" => {
                let samples = leaf::<Trun>(child.body, "trun")?.samples;
                let Some(first) = samples.get(0) else { continue };
                let sync = first.flags.unwrap_or(sample_flags) & SAMPLE_IS_NON_SYNC == 0;
                let run = run.get_or_insert(Run { track: track.id, decode_time: None, duration: 0, sync });
                run.duration = run.duration.saturating_add(duration(&samples, sample_duration));
            }
            _ => {}
        }
    }
    Ok(run.map(|run| Run { decode_time, ..run }))
}

fn duration(samples: &TrunSamples, sample_duration: u32) -> u64 {
    match samples {
        TrunSamples::Inherited { count, .. } => u64::from(*count) * u64::from(sample_duration),
        TrunSamples::Explicit(entries) => {
            entries.iter().map(|entry| u64::from(entry.duration.unwrap_or(sample_duration))).sum()
        }
    }
}
