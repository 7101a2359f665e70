//! The links of one recorder: a line each, by sequence, then forks and what is in quarantine; with what is taken from them, positions,
//! marks, keys and proofs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aigaq_proto::signature::PublicKey;
use aigaq_proto::verdict::{self, Facts, Judge, Place};
use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId, Sequence, link, receipt};

use super::archive::{Archive, Array};
use super::footage::{Footage, clock};
use super::job::Job;
use super::plan::Plan;
use super::trail::Statements;
use crate::bundle::line::{Clock, Line, Link, Payload, Quarantined, Says};
use crate::bundle::{self, about};
use crate::error::{Context as _, Error, Kind, Result};
use crate::log::{Reader, Tree};
use crate::store::Store;
use crate::store::records::{Body, LinkRecord, QuarantineRecord, RecorderRecord};

/// Progress and the wish to give up are looked at every so many links.
const EVERY: u64 = 256;

/// What the links of a recorder came to.
#[derive(Debug)]
pub(super) struct Chain {
    /// What they are worth: the rule is that of whoever checks the bundle.
    pub(super) judge: Judge,
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
}

/// What the writing of every line needs.
pub(super) struct Writer<'a> {
    pub(super) store: &'a Store,
    pub(super) log: &'a Reader,
    pub(super) tree: &'a Tree,
    pub(super) recorder: &'a RecorderRecord,
    pub(super) range: &'a Range<Micros>,
    pub(super) plan: &'a Plan,
    pub(super) footage: &'a Footage,
    pub(super) statements: &'a Statements,
    /// Whether the proof of the tree is complete.
    pub(super) place: Place,
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
        let mut chain = Chain::new(self.recorder);
        let mut last: Option<(Sequence, [u8; receipt::ENTRY_BYTES], u64)> = None;
        archive.begin(&bundle::chain(id))?;
        for range in self.plan.ranges() {
            for found in self.store.links(id, range) {
                let (sequence, record) = match found {
                    Err(error) if error.kind() == Kind::Damaged => continue,
                    found => found?,
                };
                if !self.plan.has(&record) {
                    continue;
                }
                self.job.add_link();
                if sequence % EVERY == 0 {
                    self.job.go_on()?;
                }
                let Ok(header) = LinkHeader::decode(&record.header) else { continue };
                let digest = link::digest(&record.header);
                let payload = self.payload(&header, &record)?;
                let line = self.link(&mut chain, &header, digest, &record, payload, false)?;
                let entry = receipt::entry(&digest, record.received_at);
                if let Some((before, entry, index)) = &last
                    && before.checked_add(1) != Some(sequence)
                {
                    chain.run_ends.push((*before, *entry, *index));
                }
                chain.note(&header, &record, self.range);
                last = Some((sequence, entry, record.log_index));
                archive.line(&Line::Link(line))?;
            }
        }
        chain.run_ends.extend(last);
        for (digest, record, payload) in forks {
            let header =
                LinkHeader::decode(&record.header).context(Kind::Damaged, "a stored header does not decode")?;
            let line = self.link(&mut chain, &header, digest, &record, payload, true)?;
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
                Err(error) => self.lost(error, Some(header.sequence), &record.body),
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
        fork: bool,
    ) -> Result<Link> {
        let entry = receipt::entry(&digest, record.received_at);
        let clock = record.clock.map(clock);
        let proof = self.log.prove_entry(&entry, record.log_index, self.tree)?;
        let facts = Facts {
            sequence: header.sequence,
            digest,
            header: &record.header,
            signature: &record.signature,
            agrees: true,
            place: self.place,
            payload: seen(&payload, header),
            inside: about::touches(self.range, header),
        };
        let key = if fork { chain.judge.fork(&facts) } else { chain.judge.link(&facts) };
        let key = key.map(|key| {
            let spki = key.to_spki();
            let digest = Digest::of(&spki);
            chain.keys.insert(digest, spki);
            digest
        });
        Ok(Link {
            sequence: header.sequence,
            digest,
            header: record.header.clone(),
            signature: record.signature.clone(),
            key,
            received_at: record.received_at,
            clock,
            log_index: record.log_index,
            proof,
            payload,
            says: Says::of(header, clock),
        })
    }

    /// A payload that cannot be read, as its line says it.
    fn lost(&self, error: Error, sequence: Option<Sequence>, body: &Body) -> Result<Payload> {
        match error.kind() {
            Kind::Damaged => Ok(Payload::Damaged),
            Kind::NotFound => {
                Ok(Payload::Deleted { statement: self.statements.about(self.recorder.id, sequence, body) })
            }
            _ => Err(error),
        }
    }

    /// Writes the payloads of forks; what their lines need.
    fn forks(&self, archive: &mut Archive) -> Result<Vec<(Digest, LinkRecord, Payload)>> {
        let id = self.recorder.id;
        let mut forks = Vec::new();
        for fork in self.store.forks(id) {
            let fork = fork?;
            if !self.plan.contains(fork.sequence) || !self.plan.has(&fork.record) {
                continue;
            }
            let path = bundle::fork(id, fork.sequence, &fork.digest);
            let payload = self.apart(archive, path, &fork.record)?;
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
                Err(error) => self.lost(error, None, &record.body)?,
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

    /// The payload of a fork as a file of its own.
    fn apart(&self, archive: &mut Archive, path: String, record: &LinkRecord) -> Result<Payload> {
        match self.store.body(record) {
            Ok(bytes) if bytes.is_empty() => Ok(Payload::None),
            Ok(bytes) => {
                self.job.go_on()?;
                archive.add(&path, &bytes)?;
                Ok(Payload::File { path, offset: 0, length: bytes.len() as u64 })
            }
            Err(error) => self.lost(error, None, &record.body),
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
            let Ok((_, record)) = found else { continue };
            let Ok(header) = LinkHeader::decode(&record.header) else { continue };
            if !self.plan.has(&record) || !about::touches(self.range, &header) {
                continue;
            }
            for position in about::Position::all(&header, record.clock.map(clock)) {
                array.push(archive, &position)?;
            }
        }
        array.end(archive)
    }
}

impl Chain {
    fn new(recorder: &RecorderRecord) -> Self {
        let keys = recorder.keys.iter().rev().filter_map(|key| PublicKey::from_spki(&key.spki).ok()).collect();
        Self {
            judge: Judge::new(recorder.id, keys),
            sequences: None,
            run_ends: Vec::new(),
            keys: BTreeMap::new(),
            arrived: None,
            clock: None,
            markers: Vec::new(),
        }
    }

    fn note(&mut self, header: &LinkHeader, record: &LinkRecord, range: &Range<Micros>) {
        let sequence = header.sequence;
        let (first, last) = self.sequences.unwrap_or((sequence, sequence));
        self.sequences = Some((first.min(sequence), last.max(sequence)));
        let (early, late) = self.arrived.unwrap_or((record.received_at, record.received_at));
        self.arrived = Some((early.min(record.received_at), late.max(record.received_at)));
        if about::touches(range, header) {
            let clock = record.clock.map(clock);
            self.clock = self.clock.or(clock);
            self.markers.extend(about::Marker::of(header, clock));
        }
    }
}

/// What is there of a payload: what goes into a bundle was compared with its header when it was read.
fn seen(payload: &Payload, header: &LinkHeader) -> verdict::Payload {
    match payload {
        Payload::None | Payload::Outside => verdict::Payload::Absent,
        Payload::File { .. } | Payload::Line { .. } => verdict::Payload::Present {
            digest: header.payload_digest,
            length: u64::from(header.payload_length),
            boxes: true,
        },
        Payload::Deleted { statement: Some(_) } => verdict::Payload::Deleted,
        Payload::Deleted { statement: None } => verdict::Payload::DeletionUnproved,
        Payload::Damaged => verdict::Payload::Damaged,
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
