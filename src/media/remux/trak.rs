//! A track of an ordinary file: what it is, whether a recording carries it, and its samples on their way out.

use bytes::Bytes;

use super::edit::Edit;
use super::init::Head;
use super::tables::{Sample, Samples, word};
use crate::media::boxes::{Child, Error, Kind, children, find};
use crate::media::movie::TrackKind;

/// Sample entries of still pictures.
const STILLS: [Kind; 3] = [*b"jpeg", *b"png ", *b"tiff"];
/// Sample entries of protected samples.
const PROTECTED: [Kind; 5] = [*b"encv", *b"enca", *b"drmi", *b"drms", *b"drmt"];
/// Sample entries of uncompressed sound.
const PCM: [Kind; 7] = [*b"sowt", *b"twos", *b"lpcm", *b"in24", *b"in32", *b"fl32", *b"fl64"];

/// What a `trak` says.
#[derive(Debug)]
pub(super) struct Trak {
    /// The body of the `trak`.
    pub(super) body: Bytes,
    pub(super) id: u32,
    pub(super) kind: TrackKind,
    pub(super) edit: Option<Edit>,
    timescale: u32,
    handler: Kind,
    /// The type of its first sample entry.
    entry: Kind,
    /// What cannot be read of a track that may not matter.
    samples: Result<Samples, Error>,
    external: bool,
    old_sound: bool,
}

impl Trak {
    /// Reads the body of a `trak`.
    pub(super) fn read(body: Bytes, movie_timescale: u32) -> Result<Self, Error> {
        let within = |parent: &Bytes, kind: Kind, what| -> Result<Bytes, Error> {
            let child = find(parent, kind)?.ok_or(Error::Malformed(what))?;
            Ok(parent.slice_ref(child.body))
        };
        let tkhd = within(&body, *b"tkhd", "trak without tkhd")?;
        let id_at = if tkhd.first() == Some(&1) { 20 } else { 12 };
        let id = word(&tkhd, id_at).ok_or(Error::Malformed("tkhd"))?;
        let mdia = within(&body, *b"mdia", "trak without mdia")?;
        let timescale = Head::read(&within(&mdia, *b"mdhd", "mdia without mdhd")?, "mdhd")?.timescale;
        let hdlr = within(&mdia, *b"hdlr", "mdia without hdlr")?;
        let handler = *hdlr.get(8..).and_then(|rest| rest.first_chunk()).ok_or(Error::Malformed("hdlr"))?;
        let kind = match &handler {
            b"vide" => TrackKind::Video,
            b"soun" => TrackKind::Audio,
            _ => TrackKind::Other,
        };
        let minf = within(&mdia, *b"minf", "mdia without minf")?;
        let stbl = within(&minf, *b"stbl", "minf without stbl")?;
        let stsd = within(&stbl, *b"stsd", "stbl without stsd")?;
        let entry = children(stsd.get(8..).unwrap_or_default()).next().transpose()?;
        let samples = Samples::read(&stbl);
        let old_sound = match (&samples, &entry) {
            (Ok(samples), Some(entry)) => kind == TrackKind::Audio && is_old_sound(samples, entry),
            _ => false,
        };
        Ok(Self {
            edit: Edit::read(&body, movie_timescale, timescale)?,
            external: is_external(&minf)?,
            entry: entry.map_or([0; 4], |entry| entry.kind),
            id,
            kind,
            timescale,
            handler,
            samples,
            old_sound,
            body,
        })
    }

    /// Whether it is a picture rather than pictures: a cover, a preview.
    pub(super) fn is_still(&self) -> bool {
        let one = self.samples.as_ref().is_ok_and(|samples| samples.left() == 1);
        self.kind == TrackKind::Video && (one || STILLS.contains(&self.entry))
    }

    /// Whether a recording carries it; `moving` says that the file has moving pictures.
    pub(super) fn is_carried(&self, moving: bool) -> bool {
        let empty = self.samples.as_ref().is_ok_and(|samples| samples.left() == 0);
        let spare = empty || self.old_sound || (moving && self.is_still());
        self.kind != TrackKind::Other && !spare
    }

    /// Whether its samples are protected.
    pub(super) fn is_encrypted(&self) -> bool {
        PROTECTED.contains(&self.entry)
    }

    /// A line that says that it is left out, and what it is.
    pub(super) fn left_out(&self) -> String {
        let name = |kind: &Kind| kind.escape_ascii().to_string();
        format!("track {} ({}, {}) is left out", self.id, name(&self.handler), name(&self.entry))
    }

    /// A line about an edit list that says more than a recording keeps.
    pub(super) fn edit_note(&self) -> Option<String> {
        let edit = self.edit.as_ref().filter(|edit| edit.simplified)?;
        let (id, shift) = (self.id, edit.media_time);
        Some(format!(
            "track {id}: of its edit list the beginning (at {shift} of its ticks) is kept; all that was recorded is carried"
        ))
    }
}

/// Whether sound is laid out as before QuickTime 3: its sizes are then counted in frames, not in bytes.
fn is_old_sound(samples: &Samples, entry: &Child<'_>) -> bool {
    let half =
        |at: usize| entry.body.get(at..).and_then(|rest| rest.first_chunk().map(|half| u16::from_be_bytes(*half)));
    let frame = u32::from(half(16).unwrap_or(0)) * (u32::from(half(18).unwrap_or(0)) / 8);
    PCM.contains(&entry.kind) && half(8) != Some(2) && samples.common_size() == Some(1) && frame > 1
}

/// Whether any of its data references is to another file.
fn is_external(minf: &Bytes) -> Result<bool, Error> {
    let Some(dinf) = find(minf, *b"dinf")? else { return Ok(false) };
    let Some(dref) = find(dinf.body, *b"dref")? else { return Ok(false) };
    for entry in children(dref.body.get(8..).unwrap_or_default()) {
        if entry?.body.get(3).is_some_and(|flags| flags & 1 == 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The samples of a track that is carried, on their way out.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: u32,
    pub(super) kind: TrackKind,
    timescale: u32,
    samples: Samples,
    next: Option<Sample>,
    /// Movie time at decode time 0, microseconds; negative if the edit list cuts into the track.
    shift_us: i64,
}

impl Lane {
    pub(super) fn new(trak: &Trak) -> Result<Self, Error> {
        if trak.external {
            return Err(Error::Malformed("its samples are in another file"));
        }
        let mut samples = trak.samples.clone()?;
        let next = samples.next()?;
        let shift_us = trak.edit.as_ref().map_or(0, |edit| edit.shift_us);
        Ok(Self { id: trak.id, kind: trak.kind, timescale: trak.timescale, samples, next, shift_us })
    }

    /// Walks over all samples; the number of bytes that they claim.
    ///
    /// # Errors
    /// [`Error::Truncated`] if one lies beyond the end of the file, [`Error::Malformed`] if the tables do not fit together.
    pub(super) fn check(&self, length: u64) -> Result<u64, Error> {
        let (mut samples, mut next) = (self.samples.clone(), self.next);
        let mut claimed = 0u64;
        while let Some(sample) = next {
            let end = sample.offset.saturating_add(u64::from(sample.size));
            claimed = claimed.saturating_add(u64::from(sample.size));
            if end > length {
                return Err(Error::Truncated);
            }
            if claimed > length {
                return Err(Error::Malformed("samples that lie on one another"));
            }
            next = samples.next()?;
        }
        Ok(claimed)
    }

    pub(super) fn peek(&self) -> Option<Sample> {
        self.next
    }

    pub(super) fn take(&mut self) -> Result<Option<Sample>, Error> {
        let next = self.samples.next()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    /// Movie time at which the next sample begins, microseconds.
    pub(super) fn begins_us(&self) -> Option<i64> {
        self.next.map(|sample| self.movie_us(sample.decode_time))
    }

    /// Makes `base` the zero of movie time.
    pub(super) fn count_from(&mut self, base: i64) {
        self.shift_us = self.shift_us.saturating_sub(base);
    }

    /// Movie time at so many ticks, microseconds; not before its zero.
    pub(super) fn micros(&self, ticks: u64) -> u64 {
        u64::try_from(self.movie_us(ticks)).unwrap_or(0)
    }

    /// Movie time at the end of these samples of the track; 0 if there are none.
    pub(super) fn end_us(&self, samples: &[Sample]) -> u64 {
        samples.last().map_or(0, |last| self.micros(last.decode_time.saturating_add(u64::from(last.duration))))
    }

    fn movie_us(&self, ticks: u64) -> i64 {
        let micros = u128::from(ticks) * 1_000_000 / u128::from(self.timescale.max(1));
        i64::try_from(micros).unwrap_or(i64::MAX).saturating_add(self.shift_us)
    }
}
