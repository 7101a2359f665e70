//! One recorder: each line of its chain against the log, its keys and its own words, the footage that it names, and what other files
//! say of it.
//!
//! A payload lies where the one before it ended; where it does not, both places are looked at before anything is said, so that
//! a line that was changed is blamed and not the next one.

use std::collections::BTreeMap;
use std::ops::Range;

use aigaq_proto::signature::PublicKey;
use aigaq_proto::verdict::{self, Facts, Judge, Place, What};
use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId, Sequence, link, receipt};

use super::custody::{Custody, Stated};
use super::files::Files;
use super::gaps::{Declared, Timeline};
use super::hashing::{Hashed, Hasher};
use super::lines::Lines;
use super::proofs::Proofs;
use super::report::Fault;
use super::source::Source;
use super::told::{Tally, Told};
use crate::bundle::line::{Clock, Line, Link, Payload, Says};
use crate::bundle::manifest::{Delivered, Media};
use crate::bundle::{self, about};
use crate::error::Result;

/// Values that are looked for in one line, should its line break be gone.
const VALUES_MAX: usize = 4;
/// Files whose payloads are gone through at the same time; one more, and the one that was asked for longest ago is finished.
const OPEN_MAX: usize = 16;

/// The tree that all proofs lead to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree {
    pub(super) size: u64,
    pub(super) root: Digest,
    /// Whether enough witnesses signed it.
    pub(super) witnessed: bool,
}

/// What the lines of a recorder come to.
pub(super) struct Chain {
    pub(super) report: verdict::Report,
    pub(super) quarantined: u64,
    /// First and last arrival under each key.
    pub(super) used: BTreeMap<Digest, (Micros, Micros)>,
    /// What the marks must be, and whether every line of the chain is what it should be.
    pub(super) marks: (Tally, bool),
}

/// A file of media as the lines describe it.
struct Film {
    path: String,
    segments: u64,
    from: Micros,
    to: Micros,
    clock: Option<Clock>,
}

/// A file whose payloads are being gone through.
#[derive(Default)]
struct Open {
    /// None once all of it was hashed and compared.
    file: Option<Hashed>,
    length: u64,
    /// Where the last payload that was right ended.
    position: u64,
    covered: u64,
    /// Whether a payload was wrong, so that its bytes are spoken for.
    wrong: bool,
    hashed: bool,
    /// When it was asked for last.
    turn: u64,
}

/// Goes through the lines of one recorder.
pub(super) struct Walker<'a> {
    pub(super) source: &'a Source,
    pub(super) hasher: &'a mut Hasher,
    pub(super) files: &'a mut Files,
    pub(super) recorder: RecorderId,
    pub(super) tree: Option<Tree>,
    pub(super) range: Range<Micros>,
    pub(super) keys: Vec<PublicKey>,
    pub(super) proofs: Proofs,
    pub(super) custody: &'a Custody,
    /// What is said of its gaps, and what was delivered of it.
    pub(super) declared: Option<&'a Declared>,
    pub(super) delivered: Option<&'a Delivered>,
}

/// What is gathered on the way.
struct Progress {
    judge: Judge,
    /// At most [`OPEN_MAX`].
    open: BTreeMap<String, Open>,
    done: BTreeMap<String, Open>,
    turn: u64,
    quarantined: u64,
    used: BTreeMap<Digest, (Micros, Micros)>,
    told: Told,
    timeline: Timeline,
    films: BTreeMap<Sequence, Film>,
    /// First and last sequence of the chain.
    sequences: Option<(Sequence, Sequence)>,
    /// Whether every line so far reads, and says what its header says.
    clear: bool,
}

impl Walker<'_> {
    /// Goes through all of it; blocks. None if there is no chain.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for lines without an end, and those of reading.
    pub(super) fn walk(mut self) -> Result<Option<Chain>> {
        let path = bundle::chain(self.recorder);
        let Some(section) = self.source.section(&path)? else { return Ok(None) };
        let mut lines = Lines::new(self.hasher.file(section));
        let mut progress = Progress {
            judge: Judge::new(self.recorder, self.keys.clone()),
            open: BTreeMap::new(),
            done: BTreeMap::new(),
            turn: 0,
            quarantined: 0,
            used: BTreeMap::new(),
            told: Told::default(),
            timeline: Timeline::default(),
            films: BTreeMap::new(),
            sequences: None,
            clear: true,
        };
        while let Some(line) = lines.next(self.hasher)? {
            self.line(line, &path, &mut progress)?;
        }
        let digest = lines.end(self.hasher)?;
        self.files.compare(&path, digest);
        progress.clear &= !self.files.faults.broken(&path);
        self.finish(progress).map(Some)
    }

    fn finish(mut self, mut progress: Progress) -> Result<Chain> {
        if self.declared.is_some_and(|declared| declared.count() > 0) {
            progress.judge.gap();
        }
        let clear = progress.clear;
        if clear && !self.delivers(&progress) {
            self.files.faults.add(bundle::MANIFEST, Fault::Contradicts);
        }
        let Progress { judge, open, done, quarantined, used, told, timeline, .. } = progress;
        let marks = told.compare(self.source, self.files, self.recorder, clear)?;
        if clear && !self.files.faults.broken(bundle::GAPS) {
            for wrong in timeline.faults(self.declared, &self.range) {
                self.files.faults.add(bundle::GAPS, wrong.fault());
            }
        }
        for (path, mut open) in open.into_iter().chain(done) {
            if !open.wrong && open.covered != open.length {
                self.files.faults.add(&path, Fault::Uncovered);
            }
            self.close(&path, &mut open)?;
        }
        self.proofs.finish(self.files, clear);
        Ok(Chain { report: judge.finish(), quarantined, used, marks: (marks, clear) })
    }

    /// Whether the manifest says of the footage what the lines say.
    fn delivers(&self, progress: &Progress) -> bool {
        let Some(delivered) = self.delivered else { return false };
        let media = progress.films.iter().map(|(recording, film)| {
            let corrected = film
                .clock
                .map(|clock| (about::time(clock.corrected(film.from)), about::time(clock.corrected(film.to))));
            Media {
                path: film.path.clone(),
                recording: *recording,
                segments: film.segments,
                from: about::time(film.from),
                to: about::time(film.to),
                corrected,
            }
        });
        delivered.sequences == progress.sequences && delivered.media.iter().cloned().eq(media)
    }

    /// Goes through what is left of a file.
    fn close(&mut self, path: &str, open: &mut Open) -> Result<()> {
        if let Some(file) = open.file.take() {
            let digest = self.hasher.end(file)?;
            self.files.compare(path, digest);
            open.hashed = true;
        }
        Ok(())
    }

    /// A line; more than one value if the break between two of them is gone.
    fn line(&mut self, mut text: &[u8], path: &str, progress: &mut Progress) -> Result<()> {
        for _ in 0..VALUES_MAX {
            let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Line>();
            let value = values.next();
            let end = values.byte_offset();
            match value {
                Some(Ok(line)) => self.value(&line, progress)?,
                Some(Err(_)) => {
                    self.files.faults.add(path, Fault::Unreadable);
                    progress.clear = false;
                    return Ok(());
                }
                None => return Ok(()),
            }
            // What follows a value on its line is not what was exported; one byte of it may have been the line break.
            match text.get(end..) {
                None | Some([]) => return Ok(()),
                Some([_, rest @ ..]) => {
                    self.files.faults.add(path, Fault::Unreadable);
                    text = rest;
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, line: &Line, progress: &mut Progress) -> Result<()> {
        match line {
            Line::Link(link) => self.link(link, false, progress),
            Line::Fork(link) => self.link(link, true, progress),
            Line::Quarantined(quarantined) => {
                progress.quarantined = progress.quarantined.saturating_add(1);
                if let Payload::Deleted { statement } = &quarantined.payload
                    && self.custody.states(*statement, self.recorder, None) == Stated::Otherwise
                {
                    self.files.faults.add(&bundle::chain(self.recorder), Fault::Contradicts);
                }
                if let Payload::File { path, offset, length } = &quarantined.payload {
                    let found = self.payload(path, *offset, *length, &quarantined.payload_digest, *length, progress)?;
                    if !matches!(found, Some(Found { digest, .. }) if digest == quarantined.payload_digest) {
                        self.files.faults.add(path, Fault::Contradicts);
                    }
                }
                Ok(())
            }
        }
    }

    fn link(&mut self, link: &Link, fork: bool, progress: &mut Progress) -> Result<()> {
        let header = LinkHeader::decode(&link.header).ok();
        let place = self.place(link);
        let mut agrees = header.as_ref().is_some_and(|header| Says::of(header, link.clock) == link.says);
        let named = header.as_ref().is_some_and(|header| header.sequence == link.sequence);
        let sound = agrees && named && link::digest(&link.header) == link.digest;
        let payload = match (&link.payload, &header) {
            (Payload::Deleted { statement }, _) => {
                let stated = self.custody.states(*statement, self.recorder, (!fork).then_some(link.sequence));
                if stated == Stated::Otherwise {
                    self.files.faults.add(&bundle::chain(self.recorder), Fault::Contradicts);
                }
                if stated == Stated::Yes { verdict::Payload::Deleted } else { verdict::Payload::DeletionUnproved }
            }
            (Payload::Damaged, _) => verdict::Payload::Damaged,
            (Payload::Line { bytes }, _) => verdict::Payload::Present {
                digest: Digest::of(bytes),
                length: bytes.len() as u64,
                boxes: is_box(bytes.get(4..8).unwrap_or_default()),
            },
            (Payload::File { path, offset, length }, Some(header)) => {
                let wanted = u64::from(header.payload_length);
                match self.payload(path, *offset, *length, &header.payload_digest, wanted, progress)? {
                    Some(found) => {
                        agrees &= found.as_said;
                        verdict::Payload::Present { digest: found.digest, length: found.length, boxes: found.boxes }
                    }
                    None => verdict::Payload::Damaged,
                }
            }
            (Payload::File { .. } | Payload::None | Payload::Outside, _) => verdict::Payload::Absent,
        };
        let inside = header.as_ref().is_some_and(|header| about::touches(&self.range, header));
        if !fork {
            progress.clear &= sound;
            if let Some(header) = header.as_ref().filter(|_| sound) {
                self.proofs.link(link, self.source, self.files, self.tree)?;
                progress.note(link, header, &payload, inside);
            }
        }
        let facts = Facts {
            sequence: link.sequence,
            digest: link.digest,
            header: &link.header,
            signature: &link.signature,
            agrees,
            place,
            payload,
            inside,
        };
        let key = if fork { progress.judge.fork(&facts) } else { progress.judge.link(&facts) };
        if let Some(key) = key.map(|key| Digest::of(&key.to_spki())) {
            if link.key != Some(key) {
                progress.judge.find(link.sequence, What::AlteredHeader);
            }
            let (first, last) = progress.used.entry(key).or_insert((link.received_at, link.received_at));
            (*first, *last) = ((*first).min(link.received_at), (*last).max(link.received_at));
        }
        Ok(())
    }

    fn place(&self, link: &Link) -> Place {
        let Some(tree) = self.tree else { return Place::Pending };
        let entry = receipt::entry(&link.digest, link.received_at);
        match receipt::verify_inclusion(&entry, link.log_index, &link.proof, tree.size, &tree.root) {
            Ok(()) if tree.witnessed => Place::Proven,
            Ok(()) => Place::Pending,
            Err(_) => Place::Refuted,
        }
    }

    /// The payload that a line says is there; none if the file is not.
    fn payload(
        &mut self,
        path: &str,
        offset: u64,
        length: u64,
        digest: &Digest,
        wanted: u64,
        progress: &mut Progress,
    ) -> Result<Option<Found>> {
        let Some(mut open) = self.opened(path, progress)? else { return Ok(None) };
        let mut file = match open.file.take() {
            Some(file) => file,
            None => match self.source.section(path)? {
                Some(section) => self.hasher.hashed_file(section),
                None => return Ok(None),
            },
        };
        let found = self.search(&mut open, &mut file, (offset, length), (wanted, digest))?;
        if found.as_ref().is_some_and(|found| found.again) {
            self.files.faults.add(path, Fault::Uncovered);
        }
        if !open.hashed {
            open.file = Some(file);
            // All of it is spoken for: more of it will be asked for only if something is wrong.
            if open.covered == open.length && !open.wrong {
                self.close(path, &mut open)?;
            }
        }
        let to = if open.hashed { &mut progress.done } else { &mut progress.open };
        to.insert(path.to_owned(), open);
        Ok(found)
    }

    /// A file of payloads, as far as it was gone through; none if it is not there.
    fn opened(&mut self, path: &str, progress: &mut Progress) -> Result<Option<Open>> {
        progress.turn = progress.turn.saturating_add(1);
        let turn = progress.turn;
        if let Some(open) = progress.open.remove(path).or_else(|| progress.done.remove(path)) {
            return Ok(Some(Open { turn, ..open }));
        }
        // The files of a recorder are its own; no line names what something else is.
        let own =
            ["media", "forks", "quarantine"].iter().any(|dir| path.starts_with(&format!("{dir}/{}/", self.recorder)));
        let section = if own { self.source.section(path)? } else { None };
        let Some(section) = section else {
            self.files.faults.add(path, if own { Fault::Missing } else { Fault::Contradicts });
            return Ok(None);
        };
        if progress.open.len() >= OPEN_MAX {
            let oldest = progress.open.iter().min_by_key(|(_, open)| open.turn).map(|(path, _)| path.clone());
            if let Some((path, mut open)) = oldest.and_then(|path| progress.open.remove_entry(&path)) {
                self.close(&path, &mut open)?;
                progress.done.insert(path, open);
            }
        }
        let length = section.length;
        Ok(Some(Open { file: Some(self.hasher.file(section)), length, turn, ..Open::default() }))
    }

    /// Looks for a payload where it should be, then where the line says that it is.
    fn search(
        &mut self,
        open: &mut Open,
        file: &mut Hashed,
        (offset, length): (u64, u64),
        (wanted, digest): (u64, &Digest),
    ) -> Result<Option<Found>> {
        let mut places = vec![open.position, offset];
        places.dedup();
        for at in places {
            if at.checked_add(wanted).is_none_or(|end| end > open.length)
                || self.hasher.part(file, at, wanted)? != *digest
            {
                continue;
            }
            let again = at < open.position;
            if again {
                open.wrong = true;
            } else {
                open.position = at.saturating_add(wanted);
                open.covered = open.covered.saturating_add(wanted);
            }
            let as_said = at == offset && length == wanted;
            return Ok(Some(Found { digest: *digest, length: wanted, boxes: true, as_said, again }));
        }
        open.wrong = true;
        let length = length.min(open.length.saturating_sub(offset));
        let digest = if offset > open.length || length > u64::from(u32::MAX) {
            Digest::ZERO
        } else {
            self.hasher.part(file, offset, length)?
        };
        let mut head = [0; 8];
        if length >= 8 {
            file.section.read(offset, &mut head)?;
        }
        let boxes = is_box(head.get(4..).unwrap_or_default());
        Ok(Some(Found { digest, length, boxes, as_said: true, again: false }))
    }
}

impl Progress {
    /// What a link of the chain says that other files say too.
    fn note(&mut self, link: &Link, header: &LinkHeader, payload: &verdict::Payload, inside: bool) {
        let (first, last) = self.sequences.unwrap_or((link.sequence, link.sequence));
        self.sequences = Some((first.min(link.sequence), last.max(link.sequence)));
        self.timeline.link(header, payload, link.clock, inside);
        if inside {
            self.told.link(header, link.clock);
        }
        if let (Payload::File { path, .. }, Content::Media { recording, .. }) = (&link.payload, &header.content) {
            let (from, to) = (header.captured_at, header.captured_at.saturating_add(u64::from(header.duration_us)));
            let film = self.films.entry(*recording).or_insert_with(|| Film {
                path: path.clone(),
                segments: 0,
                from,
                to,
                clock: link.clock,
            });
            film.segments = film.segments.saturating_add(1);
            (film.from, film.to) = (film.from.min(from), film.to.max(to));
        }
    }
}

/// What lies where a payload should.
struct Found {
    digest: Digest,
    length: u64,
    boxes: bool,
    /// Whether the line names the right place.
    as_said: bool,
    /// Whether the bytes belong to a line before.
    again: bool,
}

fn is_box(name: &[u8]) -> bool {
    matches!(name, b"ftyp" | b"styp" | b"moov" | b"moof" | b"sidx" | b"emsg" | b"prft" | b"mdat" | b"free")
}
