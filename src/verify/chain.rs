//! One recorder: each line of its chain against the log, its keys and its own words, and the footage that it names.
//!
//! A payload lies where the one before it ended; where it does not, both places are looked at before anything is said, so that
//! a line that was changed is blamed and not the next one.

use std::collections::BTreeMap;
use std::ops::Range;

use aigaq_proto::signature::PublicKey;
use aigaq_proto::verdict::{self, Facts, Judge, Place, What};
use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId, receipt};

use super::hashing::{Hashed, Hasher};
use super::report::Fault;
use super::source::{Source, unreadable};
use crate::bundle;
use crate::bundle::line::{Line, Link, Payload, Says};
use crate::error::Result;

/// Longest line, bytes: an initialisation segment in base64, and what belongs to it.
const LINE_BYTES_MAX: usize = 2 << 20;
/// How much of a chain is read at a time, bytes.
const PIECE_BYTES: u64 = 256 * 1024;
/// Values that are looked for in one line, should its line break be gone.
const VALUES_MAX: usize = 4;

/// The tree that all proofs lead to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree {
    pub(super) size: u64,
    pub(super) root: Digest,
    /// Whether enough witnesses signed it.
    pub(super) witnessed: bool,
}

/// What the files of a recorder come to.
pub(super) struct Chain {
    pub(super) report: verdict::Report,
    pub(super) quarantined: u64,
    /// First and last arrival under each key.
    pub(super) used: BTreeMap<Digest, (Micros, Micros)>,
    /// Digests of the files that were gone through on the way.
    pub(super) digests: Vec<(String, Digest)>,
    pub(super) faults: Vec<(String, Fault)>,
}

/// A file whose payloads are being gone through.
struct Open {
    file: Hashed,
    /// Where the last payload that was right ended.
    position: u64,
    covered: u64,
    /// Whether a payload was wrong, so that its bytes are spoken for.
    wrong: bool,
}

/// Goes through the lines of one recorder.
pub(super) struct Walker<'a> {
    pub(super) source: &'a Source,
    pub(super) hasher: &'a mut Hasher,
    pub(super) recorder: RecorderId,
    pub(super) tree: Option<Tree>,
    pub(super) range: Range<Micros>,
    pub(super) keys: Vec<PublicKey>,
}

/// What is gathered on the way.
struct Progress {
    judge: Judge,
    open: BTreeMap<String, Open>,
    chain: Chain,
}

impl Walker<'_> {
    /// Goes through all of it; blocks.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for lines without an end, and those of reading.
    pub(super) fn walk(mut self) -> Result<Option<Chain>> {
        let path = bundle::chain(self.recorder);
        let Some(section) = self.source.section(&path)? else { return Ok(None) };
        let mut file = self.hasher.file(section);
        let empty = verdict::Report { verdict: verdict::Verdict::Authentic, links: 0, findings: Vec::new(), more: 0 };
        let mut progress = Progress {
            judge: Judge::new(self.recorder, self.keys.clone()),
            open: BTreeMap::new(),
            chain: Chain {
                report: empty,
                quarantined: 0,
                used: BTreeMap::new(),
                digests: Vec::new(),
                faults: Vec::new(),
            },
        };
        let (mut at, mut pending) = (0, Vec::new());
        while at < file.section.length {
            let want = file.section.length.saturating_sub(at).min(PIECE_BYTES);
            self.hasher.bytes(&mut file, at, want, &mut pending)?;
            at = at.saturating_add(want);
            let whole = pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            let rest = pending.split_off(whole);
            for line in pending.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                self.line(line, &path, &mut progress)?;
            }
            pending = rest;
            if pending.len() > LINE_BYTES_MAX {
                return Err(unreadable(format!("{path} has a line that is longer than {LINE_BYTES_MAX} bytes")));
            }
        }
        if !pending.is_empty() {
            self.line(&pending, &path, &mut progress)?;
        }
        let digest = self.hasher.end(file)?;
        self.finish(progress, path, digest).map(Some)
    }

    fn finish(&mut self, progress: Progress, path: String, digest: Digest) -> Result<Chain> {
        let Progress { judge, open, mut chain } = progress;
        chain.digests.push((path, digest));
        for (path, open) in open {
            if !open.wrong && open.covered != open.file.section.length {
                chain.faults.push((path.clone(), Fault::Uncovered));
            }
            chain.digests.push((path, self.hasher.end(open.file)?));
        }
        chain.report = judge.finish();
        Ok(chain)
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
                    progress.fault(path, Fault::Unreadable);
                    return Ok(());
                }
                None => return Ok(()),
            }
            // What follows a value on its line is not what was exported; one byte of it may have been the line break.
            match text.get(end..) {
                None | Some([]) => return Ok(()),
                Some([_, rest @ ..]) => {
                    progress.fault(path, Fault::Unreadable);
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
                progress.chain.quarantined += 1;
                if let Payload::File { path, offset, length } = &quarantined.payload {
                    let found = self.payload(path, *offset, *length, &quarantined.payload_digest, *length, progress)?;
                    if !matches!(found, Some(Found { digest, .. }) if digest == quarantined.payload_digest) {
                        progress.fault(path, Fault::Contradicts);
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
        let payload = match (&link.payload, &header) {
            (Payload::Deleted { .. }, _) => verdict::Payload::Deleted,
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
        let inside = header.as_ref().is_some_and(|header| touches(&self.range, header));
        // Footage of the range that is neither there nor said to be gone was left out.
        let needed = header.as_ref().is_some_and(|header| matches!(header.content, Content::Media { .. }));
        if inside && needed && payload == verdict::Payload::Absent {
            progress.judge.find(link.sequence, What::Dropped);
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
            let (first, last) = progress.chain.used.entry(key).or_insert((link.received_at, link.received_at));
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
        if !progress.open.contains_key(path) {
            // The files of a recorder are its own; no line names what something else is.
            let own = ["media", "forks", "quarantine"]
                .iter()
                .any(|dir| path.starts_with(&format!("{dir}/{}/", self.recorder)));
            let section = if own { self.source.section(path)? } else { None };
            let Some(section) = section else {
                progress.fault(path, if own { Fault::Missing } else { Fault::Contradicts });
                return Ok(None);
            };
            let open = Open { file: self.hasher.file(section), position: 0, covered: 0, wrong: false };
            progress.open.insert(path.to_owned(), open);
        }
        let Some(open) = progress.open.get_mut(path) else { return Ok(None) };
        let here = open.position;
        let mut places = vec![(here, wanted), (offset, wanted)];
        places.dedup();
        let mut found = None;
        for (at, bytes) in places {
            if at.checked_add(bytes).is_none_or(|end| end > open.file.section.length) {
                continue;
            }
            if self.hasher.part(&mut open.file, at, bytes)? == *digest {
                found = Some(at);
                break;
            }
        }
        let mut head = [0; 8];
        if let Some(at) = found {
            let end = at.saturating_add(wanted);
            if at >= open.position {
                open.position = end;
                open.covered = open.covered.saturating_add(wanted);
            } else {
                open.wrong = true;
                progress.chain.faults.push((path.to_owned(), Fault::Uncovered));
            }
            return Ok(Some(Found {
                digest: *digest,
                length: wanted,
                boxes: true,
                as_said: at == offset && length == wanted,
            }));
        }
        open.wrong = true;
        let room = open.file.section.length.saturating_sub(offset);
        let length = length.min(room);
        let digest = if offset > open.file.section.length || length > u64::from(u32::MAX) {
            Digest::ZERO
        } else {
            self.hasher.part(&mut open.file, offset, length)?
        };
        if length >= 8 {
            open.file.section.read(offset, &mut head)?;
        }
        Ok(Some(Found { digest, length, boxes: is_box(head.get(4..).unwrap_or_default()), as_said: true }))
    }
}

impl Progress {
    fn fault(&mut self, path: &str, fault: Fault) {
        let known = self.chain.faults.iter().any(|(of, known)| of == path && *known == fault);
        if !known && self.chain.faults.len() < verdict::FINDINGS_MAX {
            self.chain.faults.push((path.to_owned(), fault));
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
}

fn is_box(name: &[u8]) -> bool {
    matches!(name, b"ftyp" | b"styp" | b"moov" | b"moof" | b"sidx" | b"emsg" | b"prft" | b"mdat" | b"free")
}

fn touches(range: &Range<Micros>, header: &LinkHeader) -> bool {
    let end = header.captured_at.saturating_add(u64::from(header.duration_us));
    header.captured_at < range.end && (header.captured_at >= range.start || end > range.start)
}
