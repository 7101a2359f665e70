//! Takes a stream of bytes apart into initialisation segments and fragments, byte for byte. Sans I/O: bytes are pushed in
//! as they come, events are polled out.
//!
//! ```text
//! ftyp moov | styp? prft? emsg* moof .. mdat | moof .. mdat | ...        ftyp moov begins another recording
//! └─ Init ─┘  └───────── Fragment ─────────┘
//! ```
//!
//! Index boxes and padding between fragments (`sidx`, `ssix`, `mfra`, `free`, `skip`) are not media and are left out;
//! whatever else stands before a fragment stays with it, and from `moof` to `mdat` nothing is touched. Memory is bounded by
//! one fragment and the limits below; nothing is allocated because a length field asks for it.

use std::collections::BTreeMap;

use aigaq_proto::limits::INIT_BYTES_MAX;
use bytes::{Buf, Bytes, BytesMut};

use super::boxes::{Error, Header, Kind, Size};
use super::movie::{Movie, Run, TrackKind, read_runs};

/// Greatest size of a `moov` that is looked at, bytes. It must be smaller to be taken, but one with all the samples of a file in
/// it says better what is wrong.
pub const MOOV_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Greatest size of a `moof`, bytes.
pub const MOOF_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Greatest size of an `ftyp`, and of all that stands before a fragment, bytes.
pub const LEAD_BYTES_MAX: u64 = 256 * 1024;
/// Latest decode time taken, microseconds: ten years of one recording.
pub const DECODE_TIME_US_MAX: u64 = 10 * 366 * 86_400 * 1_000_000;

/// The beginning of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// `ftyp` and `moov`, as they came.
    pub bytes: Bytes,
    /// RFC 6381 codecs of its tracks, comma-separated.
    pub codecs: String,
    /// Its tracks.
    pub movie: Movie,
}

/// The smallest stretch of media that can be decoded from its bytes and the initialisation segment alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The boxes, as they came.
    pub bytes: Bytes,
    /// Decode time of the first sample, microseconds since the zero of the recording.
    pub decode_time_us: u64,
    /// Length, microseconds.
    pub duration_us: u64,
    /// Whether it begins with a key frame; without pictures, whether every track begins with a sync sample.
    pub independent: bool,
    /// Whether the times are those of the track that keeps time: of pictures, where the recording has any.
    pub primary: bool,
}

/// What a stream contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A recording begins.
    Init(Init),
    /// A fragment of the recording that began last.
    Fragment(Fragment),
}

/// Takes a stream apart. After an error it gives the same error for ever.
#[derive(Debug)]
pub struct Fragmenter {
    fragment_bytes_max: u64,
    input: BytesMut,
    ended: bool,
    state: State,
    ftyp: Option<Bytes>,
    movie: Option<Movie>,
    /// Boxes that belong to the fragment that comes next.
    lead: BytesMut,
    /// Decode time after the last fragment, by track, ticks.
    next: BTreeMap<u32, u64>,
    fragments: u64,
    started: bool,
    failed: Option<Error>,
}

#[derive(Debug)]
enum State {
    /// At a box between fragments.
    Between,
    /// Leaving out the rest of a box; `None` reaches to the end.
    Skipping(Option<u64>),
    /// `moof` is at the beginning of the input; `scanned` bytes of the fragment are known.
    InFragment { scanned: usize, runs: Vec<Run> },
}

enum Step {
    Event(Event),
    Again,
    NeedBytes,
}

impl Fragmenter {
    /// Takes fragments of at most this many bytes.
    #[must_use]
    pub fn new(fragment_bytes_max: u64) -> Self {
        Self {
            fragment_bytes_max,
            input: BytesMut::new(),
            ended: false,
            state: State::Between,
            ftyp: None,
            movie: None,
            lead: BytesMut::new(),
            next: BTreeMap::new(),
            fragments: 0,
            started: false,
            failed: None,
        }
    }

    /// More of the stream. Poll until `None` before the next push: that keeps the input small.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The stream is at its end.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The next event; `None` while more bytes are needed, and after the end when there is nothing left.
    ///
    /// # Errors
    /// What is wrong with the stream. Events before the fault were given before.
    pub fn poll(&mut self) -> Result<Option<Event>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        loop {
            match self.step() {
                Ok(Step::Event(event)) => return Ok(Some(event)),
                Ok(Step::Again) => {}
                Ok(Step::NeedBytes) if !self.ended => return Ok(None),
                Ok(Step::NeedBytes) => return self.check_end().map(|()| None).map_err(|error| self.fail(error)),
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    fn fail(&mut self, error: Error) -> Error {
        self.failed = Some(error);
        self.input = BytesMut::new();
        error
    }

    fn check_end(&self) -> Result<(), Error> {
        match &self.state {
            State::Skipping(Some(left)) if *left > 0 => Err(Error::Truncated),
            State::InFragment { .. } => Err(Error::Truncated),
            _ if !self.started && self.input.is_empty() => Err(Error::Empty),
            _ if !self.started => Err(Error::NotMp4),
            _ if !self.input.is_empty() => Err(Error::Truncated),
            _ if self.movie.is_none() => Err(Error::NotMp4),
            _ if self.fragments == 0 => Err(Error::NoFragments),
            _ => Ok(()),
        }
    }

    fn step(&mut self) -> Result<Step, Error> {
        match &mut self.state {
            State::Skipping(left) => {
                let here = self.input.len() as u64;
                let skip = left.map_or(here, |left| left.min(here));
                self.input.advance(usize::try_from(skip).unwrap_or(self.input.len()));
                match left {
                    Some(left) if *left == skip => self.state = State::Between,
                    Some(left) => {
                        *left -= skip;
                        return Ok(Step::NeedBytes);
                    }
                    None => return Ok(Step::NeedBytes),
                }
                Ok(Step::Again)
            }
            State::InFragment { scanned, .. } => {
                let scanned = *scanned;
                self.step_inside(scanned)
            }
            State::Between => self.step_between(),
        }
    }

    fn step_between(&mut self) -> Result<Step, Error> {
        let Some(header) = Header::read(&self.input).map_err(|error| self.at_start(error))? else {
            return Ok(Step::NeedBytes);
        };
        if !self.started && !BEGINNINGS.contains(&header.kind) {
            return Err(Error::NotMp4);
        }
        if !header.kind.iter().all(|byte| (0x20..0x7f).contains(byte) || *byte == 0xa9) {
            return Err(Error::Malformed("something between its fragments is no box"));
        }
        self.started = true;
        match &header.kind {
            b"ftyp" => self.take_ftyp(header),
            b"moov" => self.take_moov(header),
            b"moof" => self.enter_fragment(header),
            b"mdat" => self.pass_mdat(header),
            b"sidx" | b"ssix" | b"mfra" | b"free" | b"skip" | b"wide" | b"pdin" => Ok(self.skip(header)),
            _ => self.take_lead(header),
        }
    }

    fn at_start(&self, error: Error) -> Error {
        if self.started { error } else { Error::NotMp4 }
    }

    /// The whole box at the beginning of the input, or `None` while it is not all there.
    fn whole(&mut self, header: Header, what: &'static str, limit: u64) -> Result<Option<Bytes>, Error> {
        let Some(length) = self.length(0, header, what, limit)? else { return Ok(None) };
        Ok(Some(self.input.split_to(length).freeze()))
    }

    /// Length of the box that begins at `at`, when all of it is there.
    fn length(&self, at: usize, header: Header, what: &'static str, limit: u64) -> Result<Option<usize>, Error> {
        let here = (self.input.len() - at) as u64;
        let actual = match header.size {
            Size::Bytes(size) => size,
            Size::ToEnd => here,
        };
        if actual > limit {
            return Err(Error::TooLarge { what, limit, actual });
        }
        if here < actual || (header.size == Size::ToEnd && !self.ended) {
            return Ok(None);
        }
        Ok(usize::try_from(actual).ok())
    }

    fn skip(&mut self, header: Header) -> Step {
        self.state = State::Skipping(match header.size {
            Size::Bytes(size) => Some(size),
            Size::ToEnd => None,
        });
        Step::Again
    }

    fn take_ftyp(&mut self, header: Header) -> Result<Step, Error> {
        let Some(bytes) = self.whole(header, "ftyp", LEAD_BYTES_MAX)? else { return Ok(Step::NeedBytes) };
        self.ftyp = Some(bytes);
        Ok(Step::Again)
    }

    fn take_moov(&mut self, header: Header) -> Result<Step, Error> {
        let Some(moov) = self.whole(header, "moov", MOOV_BYTES_MAX)? else { return Ok(Step::NeedBytes) };
        let movie = Movie::read(moov.get(header.header_bytes..).unwrap_or_default())?;
        let ftyp = self.ftyp.take().ok_or(Error::Malformed("moov without ftyp before it"))?;
        let (limit, actual) = (u64::from(INIT_BYTES_MAX), (ftyp.len() + moov.len()) as u64);
        if actual > limit {
            return Err(Error::InitTooLarge { limit, actual });
        }
        let mut bytes = BytesMut::with_capacity(ftyp.len() + moov.len());
        bytes.extend_from_slice(&ftyp);
        bytes.extend_from_slice(&moov);
        self.next.clear();
        self.lead.clear();
        self.fragments = 0;
        self.movie = Some(movie.clone());
        Ok(Step::Event(Event::Init(Init { bytes: bytes.freeze(), codecs: movie.codecs(), movie })))
    }

    /// Samples outside of fragments: the file is not, or not wholly, fragmented. An `mdat` without content is padding.
    fn pass_mdat(&mut self, header: Header) -> Result<Step, Error> {
        if header.size == Size::Bytes(header.header_bytes as u64) {
            Ok(self.skip(header))
        } else {
            Err(Error::NotFragmented)
        }
    }

    fn take_lead(&mut self, header: Header) -> Result<Step, Error> {
        let left = LEAD_BYTES_MAX.saturating_sub(self.lead.len() as u64);
        let Some(bytes) = self.whole(header, "boxes before a fragment", left)? else { return Ok(Step::NeedBytes) };
        self.lead.extend_from_slice(&bytes);
        Ok(Step::Again)
    }

    fn enter_fragment(&mut self, header: Header) -> Result<Step, Error> {
        let Some(movie) = &self.movie else { return Err(Error::Malformed("fragment before moov")) };
        if header.size == Size::ToEnd {
            return Err(Error::Malformed("moof without size"));
        }
        let Some(length) = self.length(0, header, "moof", MOOF_BYTES_MAX)? else { return Ok(Step::NeedBytes) };
        let runs = read_runs(self.input.get(header.header_bytes..length).unwrap_or_default(), movie)?;
        self.state = State::InFragment { scanned: length, runs };
        Ok(Step::Again)
    }

    fn step_inside(&mut self, scanned: usize) -> Result<Step, Error> {
        let Some(header) = Header::read(self.input.get(scanned..).unwrap_or_default())? else {
            return Ok(Step::NeedBytes);
        };
        if matches!(&header.kind, b"moof" | b"moov" | b"ftyp") {
            return Err(Error::Malformed("moof without mdat after it"));
        }
        let left = self.fragment_bytes_max.saturating_sub(scanned as u64 + self.lead.len() as u64);
        let Some(length) =
            self.length(scanned, header, "fragment", left).map_err(|error| self.whole_fragment(error))?
        else {
            return Ok(Step::NeedBytes);
        };
        let end = scanned + length;
        if header.kind != *b"mdat" {
            if let State::InFragment { scanned, .. } = &mut self.state {
                *scanned = end;
            }
            return Ok(Step::Again);
        }
        match std::mem::replace(&mut self.state, State::Between) {
            State::InFragment { runs, .. } => self.emit(end, &runs),
            _ => Ok(Step::Again),
        }
    }

    /// Says the size of the whole fragment where the limit was that of what is left.
    fn whole_fragment(&self, error: Error) -> Error {
        match error {
            Error::TooLarge { what, limit, actual } => {
                let before = self.fragment_bytes_max.saturating_sub(limit);
                Error::TooLarge { what, limit: self.fragment_bytes_max, actual: actual.saturating_add(before) }
            }
            error => error,
        }
    }

    fn emit(&mut self, length: usize, runs: &[Run]) -> Result<Step, Error> {
        let body = self.input.split_to(length);
        let bytes = if self.lead.is_empty() {
            body.freeze()
        } else {
            let mut whole = self.lead.split();
            whole.extend_from_slice(&body);
            whole.freeze()
        };
        self.fragments += 1;
        let mut fragment = Fragment { bytes, decode_time_us: 0, duration_us: 0, independent: true, primary: false };
        self.time(runs, &mut fragment)?;
        Ok(Step::Event(Event::Fragment(fragment)))
    }

    /// Fills in the times from the runs, and counts decode times on for fragments that do not say theirs.
    fn time(&mut self, runs: &[Run], fragment: &mut Fragment) -> Result<(), Error> {
        let Some(movie) = &self.movie else { return Ok(()) };
        let mut timed = false;
        let mut keyed = !movie.has_video();
        for run in runs {
            let Some(track) = movie.track(run.track) else { continue };
            let next = self.next.entry(run.track).or_insert(0);
            let begin = run.decode_time.unwrap_or(*next);
            let end = begin.saturating_add(run.duration);
            *next = end;
            let (begin, end) = (track.micros(begin), track.micros(end));
            if end > DECODE_TIME_US_MAX {
                return Err(Error::Malformed("decode time beyond ten years"));
            }
            let keeps_time = track.kind == TrackKind::Video || !movie.has_video();
            if !timed || (keeps_time && !fragment.primary) {
                fragment.decode_time_us = begin;
                fragment.duration_us = end - begin;
            } else if keeps_time == fragment.primary {
                fragment.duration_us = fragment.duration_us.max(end.saturating_sub(fragment.decode_time_us));
            }
            timed = true;
            fragment.primary |= keeps_time;
            if track.kind == TrackKind::Video {
                keyed = true;
            }
            fragment.independent &= run.sync;
        }
        fragment.independent &= timed && keyed;
        Ok(())
    }
}

/// What a stream may begin with.
pub(super) const BEGINNINGS: [Kind; 14] = [
    *b"ftyp", *b"styp", *b"moov", *b"moof", *b"mdat", *b"free", *b"skip", *b"wide", *b"pdin", *b"sidx", *b"emsg",
    *b"prft", *b"uuid", *b"meta",
];

#[cfg(test)]
mod tests;
