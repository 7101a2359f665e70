//! The footage of one recorder: each recording as one file, its initialisation segment and whole payloads, byte for byte.
//!
//! At most one payload is in memory. What is stored and is not what was received never goes in: its link says so.

use std::collections::BTreeMap;
use std::ops::Range;

use aigaq_proto::limits::DURATION_US_MAX;
use aigaq_proto::{Content, LinkHeader, Micros, RecorderId, Sequence};

use super::archive::Archive;
use super::job::Job;
use super::plan::Plan;
use super::trail::Statements;
use crate::bundle::line::Clock;
use crate::bundle::{self, about, line, manifest};
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::Store;
use crate::store::engine::Direction;
use crate::store::records::LinkRecord;

/// What became of the payloads of a recorder.
#[derive(Debug, Default)]
pub(super) struct Footage {
    /// Where the payload of each link went.
    pub(super) placed: BTreeMap<Sequence, Placed>,
    /// The files, in order of their recordings.
    pub(super) media: Vec<manifest::Media>,
    /// Spans whose payload is damaged, device clock.
    pub(super) damaged: Vec<(Micros, Micros)>,
}

/// Where the payload of a link went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// Into the file of its recording, at this offset; whether that file begins with its initialisation segment.
    File {
        /// Sequence of the recording's `Start` link.
        recording: Sequence,
        /// Bytes before it.
        offset: u64,
        /// Whether the file plays.
        plays: bool,
    },
    /// It was deleted, as the log entry with this index says, if it has one.
    Deleted(Option<u64>),
    /// It is not what was received.
    Damaged,
}

impl Placed {
    /// The same as a line says it.
    pub(super) fn payload(self, recorder: RecorderId, length: u32) -> line::Payload {
        match self {
            Self::File { recording, offset, plays } => {
                line::Payload::File { path: path(recorder, recording, plays), offset, length: u64::from(length) }
            }
            Self::Deleted(statement) => line::Payload::Deleted { statement },
            Self::Damaged => line::Payload::Damaged,
        }
    }
}

fn path(recorder: RecorderId, recording: Sequence, plays: bool) -> String {
    if plays { bundle::media(recorder, recording) } else { bundle::media_without_start(recorder, recording) }
}

/// The file that is being written.
struct File {
    path: String,
    from: Micros,
    to: Micros,
    segments: u64,
    clock: Option<Clock>,
}

/// Writes what the plan of `range` names; blocks.
///
/// # Errors
/// Those of the store but for damage, and those of the archive.
pub(super) fn write(
    store: &Store,
    recorder: RecorderId,
    range: &Range<Micros>,
    plan: &Plan,
    statements: &Statements,
    archive: &mut Archive,
    job: &Job,
) -> Result<Footage> {
    let mut footage = Footage::default();
    let of = Of { store, recorder, range, plan, statements, job };
    for (recording, segments) in &plan.recordings {
        footage.recording(&of, *recording, segments, archive)?;
    }
    Ok(footage)
}

/// What the writing of every recording needs.
struct Of<'a> {
    store: &'a Store,
    recorder: RecorderId,
    range: &'a Range<Micros>,
    plan: &'a Plan,
    statements: &'a Statements,
    job: &'a Job,
}

/// What reading a payload came to.
enum Body {
    Bytes(bytes::Bytes),
    Deleted,
    Damaged,
}

impl Of<'_> {
    /// The link with this sequence, if it belongs to the bundle.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it does not read, or is another.
    fn link(&self, sequence: Sequence) -> Result<Option<(LinkHeader, LinkRecord)>> {
        let record = self.store.link(self.recorder, sequence)?;
        let Some(record) = record.filter(|record| self.plan.has(record)) else { return Ok(None) };
        let header = LinkHeader::decode(&record.header).context(Kind::Damaged, "a stored header does not decode")?;
        if (header.recorder, header.sequence) != (self.recorder, sequence) {
            return Err(Error::new(Kind::Damaged, "a stored header belongs to another link"));
        }
        Ok(Some((header, record)))
    }

    /// When a link that does not read was taken, as the timeline says.
    fn span(&self, sequence: Sequence) -> Result<Option<(Micros, Micros)>> {
        let from = self.range.start.saturating_sub(u64::from(DURATION_US_MAX));
        for entry in self.store.timeline(self.recorder, from..self.range.end, Direction::Forward) {
            let entry = entry?;
            if entry.sequence == sequence {
                let end = entry.captured_at.saturating_add(u64::from(entry.record.duration_us));
                return Ok(Some((entry.captured_at, end)));
            }
        }
        Ok(None)
    }

    fn body(&self, record: &LinkRecord) -> Result<Body> {
        match self.store.body(record) {
            Ok(bytes) => Ok(Body::Bytes(bytes)),
            Err(error) if error.kind() == Kind::Damaged => Ok(Body::Damaged),
            Err(error) if error.kind() == Kind::NotFound => Ok(Body::Deleted),
            Err(error) => Err(error),
        }
    }
}

impl Footage {
    fn recording(
        &mut self,
        of: &Of<'_>,
        recording: Sequence,
        segments: &[Sequence],
        archive: &mut Archive,
    ) -> Result<()> {
        let mut file: Option<File> = None;
        let mut init = self.init(of, recording)?;
        let plays = init.is_some();
        for sequence in segments {
            of.job.go_on()?;
            let (header, record) = match of.link(*sequence) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) if error.kind() == Kind::Damaged => {
                    self.damaged.extend(of.span(*sequence)?);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let placed = match of.body(&record)? {
                Body::Bytes(bytes) => {
                    let end = header.captured_at.saturating_add(u64::from(header.duration_us));
                    let file = match &mut file {
                        Some(file) => file,
                        none => {
                            let clock = record.clock.map(clock);
                            let path = path(of.recorder, recording, plays);
                            archive.begin(&path)?;
                            if let Some(init) = init.take() {
                                let offset = archive.write(&init)?;
                                self.placed.insert(recording, Placed::File { recording, offset, plays });
                            }
                            none.insert(File { path, from: header.captured_at, to: end, segments: 0, clock })
                        }
                    };
                    let offset = archive.write(&bytes)?;
                    (file.from, file.to) = (file.from.min(header.captured_at), file.to.max(end));
                    file.segments += 1;
                    of.job.add_bytes(bytes.len() as u64);
                    Placed::File { recording, offset, plays }
                }
                Body::Deleted => Placed::Deleted(of.statements.about(of.recorder, Some(*sequence), &record.body)),
                Body::Damaged => {
                    let end = header.captured_at.saturating_add(u64::from(header.duration_us));
                    self.damaged.push((header.captured_at, end));
                    Placed::Damaged
                }
            };
            self.placed.insert(*sequence, placed);
        }
        self.media.extend(file.map(|file| file.finish(recording)));
        Ok(())
    }

    /// The initialisation segment of a recording, if it is there and whole.
    fn init(&mut self, of: &Of<'_>, recording: Sequence) -> Result<Option<bytes::Bytes>> {
        let (header, record) = match of.link(recording) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == Kind::Damaged => return Ok(None),
            Err(error) => return Err(error),
        };
        if !matches!(header.content, Content::Start { .. }) {
            return Ok(None);
        }
        match of.body(&record)? {
            Body::Bytes(bytes) => Ok(Some(bytes)),
            Body::Deleted => {
                let statement = of.statements.about(of.recorder, Some(recording), &record.body);
                self.placed.insert(recording, Placed::Deleted(statement));
                Ok(None)
            }
            Body::Damaged => {
                self.placed.insert(recording, Placed::Damaged);
                Ok(None)
            }
        }
    }
}

impl File {
    fn finish(self, recording: Sequence) -> manifest::Media {
        let corrected =
            self.clock.map(|clock| (about::time(clock.corrected(self.from)), about::time(clock.corrected(self.to))));
        manifest::Media {
            path: self.path,
            recording,
            segments: self.segments,
            from: about::time(self.from),
            to: about::time(self.to),
            corrected,
        }
    }
}

/// As a bundle says it.
pub(super) fn clock(clock: crate::store::records::ClockOffset) -> Clock {
    Clock { offset_us: clock.offset_us, error_us: clock.error_us }
}
