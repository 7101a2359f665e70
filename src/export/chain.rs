//! The links of one recorder: a line each, by sequence, then forks and what is in quarantine; with what is taken from them, positions,
//! marks, keys and proofs.

use std::collections::{BTreeMap, BTreeSet};

use aigaq_proto::link::Fix;
use aigaq_proto::signature::PublicKey;
use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId, Sequence, SignatureBytes, link, receipt};

use super::archive::{Archive, Array};
use super::footage::{Footage, clock};
use super::job::Job;
use super::plan::Plan;
use crate::bundle::line::{Clock, Line, Link, Payload, Quarantined, Says};
use crate::bundle::{self, about};
use crate::error::{Context as _, Error, Kind, Result};
use crate::log::{Reader, Tree};
use crate::store::Store;
use crate::store::records::{LinkRecord, QuarantineRecord, RecorderRecord};

/// Progress and the wish to give up are looked at every so many links.
const EVERY: u64 = 256;

/// What the links of a recorder came to.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// The first and the last sequence that has a line.
    pub(super) sequences: Option<(Sequence, Sequence)>,
    /// The last link of every run without a hole: its entry and index.
    pub(super) run_ends: Vec<(Sequence, [u8; receipt::ENTRY_BYTES], u64)>,
    /// Keys that links are signed with, by digest.
    pub(super) keys: BTreeMap<Digest, Vec<u8>>,
    /// First and last arrival.
    pub(super) arrived: Option<(Micros, Micros)>,
    /// The offset of the clock that the first link of the range has.
    pub(super) clock: Option<Clock>,
    /// Marks of the range.
    pub(super) markers: Vec<about::Marker>,
    /// Links from the first to the last of the range.
    present: u64,
    /// Sequences from the first to the last of the range that are not there.
    pub(super) missing: u64,
    /// Places where a link does not name the one before it.
    pub(super) breaks: u64,
    /// Forks.
    pub(super) forks: u64,
    /// Links that no key of the recorder signed.
    pub(super) unsigned: u64,
}

/// What the writing of every line needs.
pub(super) struct Writer<'a> {
    pub(super) store: &'a Store,
    pub(super) log: &'a Reader,
    pub(super) tree: &'a Tree,
    pub(super) recorder: &'a RecorderRecord,
    pub(super) plan: &'a Plan,
    pub(super) footage: &'a Footage,
    pub(super) job: &'a Job,
}

impl Writer<'_> {
    /// Writes the files of the chain and of quarantined and forked payloads; blocks.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the log does not prove what it must, and those of the store and the archive.
    pub(super) fn write(&self, archive: &mut Archive) -> Result<Chain> {
        let id = self.recorder.id;
        let forks = self.forks(archive)?;
        let mut chain = Chain::default();
        let mut last: Option<(Sequence, Digest, [u8; receipt::ENTRY_BYTES], u64)> = None;
        archive.begin(&bundle::chain(id))?;
        for range in self.plan.ranges() {
            for found in self.store.links(id, range) {
                let (sequence, record) = match found {
                    Err(error) if error.kind() == Kind::Damaged => continue,
                    found => found?,
                };
                if record.log_index >= self.tree.size {
                    continue;
                }
                self.job.add_link();
                if sequence % EVERY == 0 {
                    self.job.go_on()?;
                }
                let Ok(header) = LinkHeader::decode(&record.header) else { continue };
                let digest = link::digest(&record.header);
                let payload = self.payload(&header, &record)?;
                let line = self.link(&mut chain, &header, digest, &record, payload)?;
                let entry = receipt::entry(&digest, record.received_at);
                if let Some((before, expected, entry, index)) = &last {
                    if before.checked_add(1) != Some(sequence) {
                        chain.run_ends.push((*before, *entry, *index));
                    } else if header.previous != *expected {
                        chain.breaks += 1;
                    }
                }
                chain.note(&header, &record, self.plan);
                last = Some((sequence, digest, entry, record.log_index));
                archive.line(&Line::Link(line))?;
            }
        }
        chain.run_ends.extend(last.map(|(sequence, _, entry, index)| (sequence, entry, index)));
        let here = self.plan.main.end.saturating_sub(self.plan.main.start);
        chain.missing = here.saturating_sub(chain.present);
        for (digest, record, payload) in forks {
            chain.forks += 1;
            let header =
                LinkHeader::decode(&record.header).context(Kind::Damaged, "a stored header does not decode")?;
            let line = self.link(&mut chain, &header, digest, &record, payload)?;
            archive.line(&Line::Fork(line))?;
        }
        self.quarantine(&chain, archive)?;
        Ok(chain)
    }

    fn payload(&self, header: &LinkHeader, record: &LinkRecord) -> Result<Payload> {
        let placed = self.footage.placed.get(&header.sequence);
        match (placed, &header.content) {
            (Some(placed), _) => Ok(placed.payload(self.recorder.id, header.payload_length)),
            (None, Content::Start { .. }) => match self.store.body(record) {
                Ok(bytes) => Ok(Payload::Line { bytes: bytes.to_vec() }),
                Err(error) if error.kind() == Kind::Damaged => Ok(Payload::Damaged),
                Err(error) if error.kind() == Kind::NotFound => Ok(Payload::Deleted { statement: None }),
                Err(error) => Err(error),
            },
            (None, Content::Media { .. }) => Ok(Payload::Outside),
            (None, _) => Ok(Payload::None),
        }
    }

    fn link(
        &self,
        chain: &mut Chain,
        header: &LinkHeader,
        digest: Digest,
        record: &LinkRecord,
        payload: Payload,
    ) -> Result<Link> {
        let key = self.key(chain, &digest, &record.signature);
        if key.is_none() {
            chain.unsigned += 1;
        }
        let entry = receipt::entry(&digest, record.received_at);
        let clock = record.clock.map(clock);
        Ok(Link {
            sequence: header.sequence,
            digest,
            header: record.header.clone(),
            signature: record.signature.clone(),
            key,
            received_at: record.received_at,
            clock,
            log_index: record.log_index,
            proof: self.log.prove_entry(&entry, record.log_index, self.tree)?,
            payload,
            says: Says::of(header, clock),
        })
    }

    /// Which of the recorder's keys signed; the newest that was found is tried first.
    fn key(&self, chain: &mut Chain, digest: &Digest, signature: &[u8]) -> Option<Digest> {
        let signature: SignatureBytes = signature.try_into().ok()?;
        let signed = |spki: &[u8]| PublicKey::from_spki(spki).is_ok_and(|key| key.verify(digest, &signature).is_ok());
        let known = chain.keys.iter().rev().find(|(_, spki)| signed(spki)).map(|(digest, _)| *digest);
        known.or_else(|| {
            let spki = self.recorder.keys.iter().rev().map(|key| &key.spki).find(|spki| signed(spki))?;
            let digest = Digest::of(spki);
            chain.keys.insert(digest, spki.clone());
            Some(digest)
        })
    }

    /// Writes the payloads of forks; what their lines need.
    fn forks(&self, archive: &mut Archive) -> Result<Vec<(Digest, LinkRecord, Payload)>> {
        let id = self.recorder.id;
        let mut forks = Vec::new();
        for fork in self.store.forks(id) {
            let fork = fork?;
            if !self.plan.contains(fork.sequence) || fork.record.log_index >= self.tree.size {
                continue;
            }
            let path = bundle::fork(id, fork.sequence, &fork.digest);
            let payload = self.apart(archive, path, self.store.body(&fork.record))?;
            forks.push((fork.digest, fork.record, payload));
        }
        Ok(forks)
    }

    /// Writes the payloads of quarantined links of these times and sequences, then their lines, after those of the chain.
    fn quarantine(&self, chain: &Chain, archive: &mut Archive) -> Result<()> {
        let id = self.recorder.id;
        let mut lines = Vec::new();
        for entry in self.store.quarantine(id) {
            let record = entry?.record;
            let belongs = match LinkHeader::sequence_of(&record.header) {
                Some(sequence) => self.plan.contains(sequence),
                None => chain.arrived.is_some_and(|(first, last)| (first..=last).contains(&record.received_at)),
            };
            if belongs {
                lines.push(record);
            }
        }
        let mut whole = Vec::new();
        for (number, record) in (0_u64..).zip(&lines) {
            self.job.go_on()?;
            let path = bundle::quarantined(id, number);
            let payload = match self.store.quarantined_body(id, record) {
                Ok(bytes) if bytes.is_empty() => Payload::None,
                Ok(_) => {
                    whole.push((path.clone(), record));
                    Payload::File { path, offset: 0, length: record.payload_length }
                }
                Err(error) => lost(error)?,
            };
            archive.line(&Line::Quarantined(quarantined(record, payload)))?;
        }
        // Only now is the entry of the chain whole.
        for (path, record) in whole {
            self.job.go_on()?;
            archive.add(&path, &self.store.quarantined_body(id, record)?)?;
        }
        Ok(())
    }

    /// A payload as a file of its own.
    fn apart(&self, archive: &mut Archive, path: String, body: Result<bytes::Bytes>) -> Result<Payload> {
        match body {
            Ok(bytes) if bytes.is_empty() => Ok(Payload::None),
            Ok(bytes) => {
                self.job.go_on()?;
                archive.add(&path, &bytes)?;
                Ok(Payload::File { path, offset: 0, length: bytes.len() as u64 })
            }
            Err(error) => lost(error),
        }
    }

    /// Writes the positions of the range; blocks.
    ///
    /// # Errors
    /// Those of the store and the archive.
    pub(super) fn track(&self, archive: &mut Archive) -> Result<()> {
        let mut array = Array::begin(archive, &bundle::track(self.recorder.id))?;
        let main = self.plan.main.clone();
        for found in self.store.links(self.recorder.id, main) {
            let Ok((sequence, record)) = found else { continue };
            let Ok(header) = LinkHeader::decode(&record.header) else { continue };
            if record.log_index >= self.tree.size {
                continue;
            }
            let clock = record.clock.map(clock);
            for fix in &header.fixes {
                array.push(archive, &position(header.captured_at, sequence, fix, clock))?;
            }
        }
        array.end(archive)
    }
}

impl Chain {
    fn note(&mut self, header: &LinkHeader, record: &LinkRecord, plan: &Plan) {
        let sequence = header.sequence;
        let (first, last) = self.sequences.unwrap_or((sequence, sequence));
        self.sequences = Some((first.min(sequence), last.max(sequence)));
        let (early, late) = self.arrived.unwrap_or((record.received_at, record.received_at));
        self.arrived = Some((early.min(record.received_at), late.max(record.received_at)));
        if !plan.main.contains(&sequence) {
            return;
        }
        self.present += 1;
        let clock = record.clock.map(clock);
        self.clock = self.clock.or(clock);
        if let Content::Mark { category, note, before_s, after_s } = &header.content {
            self.markers.push(about::Marker {
                recorder: header.recorder,
                at: about::time(header.captured_at),
                corrected: clock.map(|clock| about::time(clock.corrected(header.captured_at))),
                sequence,
                category: category.clone(),
                note: note.clone(),
                before_s: *before_s,
                after_s: *after_s,
            });
        }
    }
}

fn quarantined(record: &QuarantineRecord, payload: Payload) -> Quarantined {
    Quarantined {
        reason: record.reason.name().to_owned(),
        header: record.header.clone(),
        signature: record.signature.clone(),
        received_at: record.received_at,
        payload_digest: record.payload_digest,
        payload,
        says: LinkHeader::decode(&record.header).ok().map(|header| Says::of(&header, None)),
    }
}

/// A payload that cannot be read, as its line says it.
fn lost(error: Error) -> Result<Payload> {
    match error.kind() {
        Kind::Damaged => Ok(Payload::Damaged),
        Kind::NotFound => Ok(Payload::Deleted { statement: None }),
        _ => Err(error),
    }
}

fn position(captured_at: Micros, sequence: Sequence, fix: &Fix, clock: Option<Clock>) -> about::Position {
    let at = captured_at.saturating_add(u64::from(fix.offset_ms).saturating_mul(1_000));
    let degrees = |e7: i32| {
        let (sign, e7) = (if e7 < 0 { "-" } else { "" }, e7.unsigned_abs());
        format!("{sign}{}.{:07}", e7 / 10_000_000, e7 % 10_000_000)
    };
    let known = |value: u16| (value != u16::MAX).then_some(value);
    about::Position {
        at: about::time(at),
        corrected: clock.map(|clock| about::time(clock.corrected(at))),
        sequence,
        point: format!("POINT({} {})", degrees(fix.longitude_e7), degrees(fix.latitude_e7)),
        accuracy_dm: known(fix.accuracy_dm),
        speed_cms: known(fix.speed_cms),
        course_cdeg: known(fix.course_cdeg),
    }
}

/// The certificates of a recorder for these keys, PEM, and the keys themselves.
///
/// # Errors
/// Those of the store.
pub(super) fn certificates(store: &Store, id: RecorderId, keys: &BTreeMap<Digest, Vec<u8>>) -> Result<String> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let mut pem = String::new();
    let mut seen = BTreeSet::new();
    for shown in store.certificates(id) {
        let chain = shown?.chain;
        let of_key = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
        let of_key = of_key.is_some_and(|(_, leaf)| keys.contains_key(&Digest::of(leaf.public_key().raw)));
        for certificate in chain.iter().filter(|_| of_key) {
            if seen.insert(Digest::of(certificate)) {
                pem.push_str(&crate::est::to_pem(certificate));
            }
        }
    }
    Ok(pem)
}
