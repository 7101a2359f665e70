//! The chains: every link, fork and quarantined link, and what heads and timeline say of them.

use std::collections::BTreeMap;

use aigaq_proto::chain::{Chain, Joint};
use aigaq_proto::signature::PublicKey;
use aigaq_proto::{Content, Digest, LinkHeader, RecorderId, Sequence, link};

use super::footage::Owned;
use super::index::Expected;
use super::tree::{Claim, Log};
use super::{Findings, Walk, place_of, walk};
use crate::error::{Context, Error, Kind, Result};
use crate::store::engine::{Entry, Family};
use crate::store::records::{
    self, Body, CountedRecord, Entered, HeadRecord, LinkRecord, LossRecord, MarkPlace, Owner, QuarantineRecord, Raiser,
    TimelineRecord,
};
use crate::store::{Store, keys};

/// What the links of one recorder add up to.
#[derive(Default)]
struct Sum {
    chain: Chain,
    forks: u32,
    quarantined: u32,
}

/// The keys of a recorder.
enum Key {
    Known(Vec<PublicKey>),
    Missing,
    Unread,
}

/// The families that make up a chain.
pub(super) const CHAIN: [Family; 3] = [Family::Links, Family::Forks, Family::Quarantine];

/// The state of the walk.
struct Chains<'a, 'b, 'c> {
    store: &'a Store,
    log: &'a mut Log<'b>,
    findings: &'a mut Findings<'c>,
    keys: BTreeMap<RecorderId, Key>,
    sums: BTreeMap<RecorderId, Sum>,
    /// Number of `Lost` links.
    lost: u64,
    /// Number of marks.
    marks: u64,
    bodies: Vec<Owned>,
    /// What the index must say of the links.
    index: Expected,
}

/// Walks every chain; returns the bodies that must be in the footage.
pub(super) fn check<'b>(store: &Store, log: &mut Log<'b>, findings: &mut Findings<'_>) -> Vec<Owned> {
    let (keys, sums, bodies, index) = (BTreeMap::new(), BTreeMap::new(), Vec::new(), Expected::of(store));
    let mut chains = Chains { store, log, findings, keys, sums, lost: 0, marks: 0, bodies, index };
    chains.each(Family::Links, Chains::link);
    chains.index.finish(store, chains.findings);
    chains.each(Family::Forks, Chains::fork);
    chains.each(Family::Quarantine, Chains::quarantined);
    let mut times = 0;
    chains.each(Family::Timeline, |_, (key, _)| {
        times += 1;
        keys::read_timeline(&key).map(|_| ())
    });
    let links = chains.findings.report.links;
    if chains.findings.has_hole(&[Family::Links, Family::Timeline]) {
        chains.findings.not_checked("count of the timeline", 1);
    } else if times != links {
        chains.findings.problem("timeline", format!("timeline: it has {times} entries for {links} links"));
    }
    chains.losses();
    chains.counted();
    chains.heads();
    chains.bodies
}

fn damaged(what: impl Into<String>) -> Error {
    Error::new(Kind::Damaged, what)
}

impl<'a> Chains<'a, '_, '_> {
    /// Gives every entry of a family to `take`; what it does not like is a problem, and the walk goes on.
    fn each(&mut self, family: Family, mut take: impl FnMut(&mut Self, Entry) -> Result<()>) {
        let store: &'a Store = self.store;
        for entry in Walk::new(store.engine(), family) {
            let Some(entry) = self.findings.read(entry) else { continue };
            let place = place_of(family, &entry.0);
            let taken = take(self, entry);
            self.findings.keep(family.name(), place, taken);
        }
    }

    fn sum(&mut self, recorder: RecorderId) -> &mut Sum {
        self.sums.entry(recorder).or_default()
    }

    fn link(&mut self, (key, value): Entry) -> Result<()> {
        self.findings.report.links += 1;
        let (recorder, sequence) = keys::read_link(&key)?;
        let record: LinkRecord = records::decode(&value, "links")?;
        let (header, digest) = self.stated(recorder, sequence, &record, None)?;
        self.index.add(self.store, &header, &record.body, self.findings);
        self.sum(recorder).chain.insert(Joint { sequence, previous: header.previous, digest });
        self.lost += u64::from(matches!(header.content, Content::Lost { .. }));
        self.marks += u64::from(matches!(header.content, Content::Mark { .. }));
        let key = keys::timeline(recorder, header.captured_at, sequence);
        let Ok(time) = self.store.engine().get(Family::Timeline, &key) else {
            self.findings.not_checked("entries of the timeline", 1);
            return Ok(());
        };
        let time = time.map(|value| records::decode::<TimelineRecord>(&value, "timeline")).transpose()?;
        if time != Some(TimelineRecord::of(&header)) {
            self.findings.problem("timeline", format!("{recorder}/{sequence}: the timeline says something else of it"));
        }
        Ok(())
    }

    fn fork(&mut self, (key, value): Entry) -> Result<()> {
        self.findings.report.forks += 1;
        let (recorder, sequence, expected) = keys::read_fork(&key)?;
        self.sum(recorder).forks += 1;
        let record: LinkRecord = records::decode(&value, "forks")?;
        let (_, digest) = self.stated(recorder, sequence, &record, Some(expected))?;
        if digest != expected {
            return Err(damaged("a fork has not the digest of its key"));
        }
        match self.store.engine().get(Family::Links, &keys::link(recorder, sequence)) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(damaged("a fork has no other side")),
            Err(_) => {
                self.findings.not_checked("other sides of forks", 1);
                Ok(())
            }
        }
    }

    fn quarantined(&mut self, (key, value): Entry) -> Result<()> {
        self.findings.report.quarantined += 1;
        let (recorder, commit, index) = keys::read_quarantine(&key)?;
        self.sum(recorder).quarantined += 1;
        let record: QuarantineRecord = records::decode(&value, "quarantine")?;
        self.body(&record.body, record.payload_digest, (recorder, Owner::Quarantined(commit, index)))
    }

    /// What a link states by itself: its header, its signature, its place in the log, its body.
    fn stated(
        &mut self,
        recorder: RecorderId,
        sequence: Sequence,
        record: &LinkRecord,
        fork: Option<Digest>,
    ) -> Result<(LinkHeader, Digest)> {
        let header = LinkHeader::decode(&record.header).context(Kind::Damaged, "its header does not decode")?;
        if (header.recorder, header.sequence) != (recorder, sequence) {
            return Err(damaged("its header names another place"));
        }
        let digest = link::digest(&record.header);
        if let Err(error) = self.signed(recorder, &digest, &record.signature) {
            self.findings.problem("signatures", format!("{recorder}/{sequence}: {error}"));
        }
        match self.log.claim(record.log_index, record.tree_size, &digest, record.received_at) {
            Claim::Held => {}
            Claim::Unread => self.findings.not_checked("places in the log", 1),
            Claim::Wrong(why) => self.findings.problem("log", format!("{recorder}/{sequence}: {why}")),
        }
        let owner = fork.map_or(Owner::Link(sequence), |digest| Owner::Fork(sequence, digest));
        self.body(&record.body, header.payload_digest, (recorder, owner))?;
        Ok((header, digest))
    }

    fn signed(&mut self, recorder: RecorderId, digest: &Digest, signature: &[u8]) -> Result<()> {
        let enrolled = self.keys.entry(recorder).or_insert_with(|| match self.store.recorder(recorder) {
            Ok(Some(enrolled)) => {
                let keys = enrolled.keys.iter().filter_map(|key| PublicKey::from_spki(&key.spki).ok());
                Key::Known(keys.collect())
            }
            Ok(None) => Key::Missing,
            Err(_) => Key::Unread,
        });
        let keys = match enrolled {
            Key::Known(keys) if !keys.is_empty() => keys,
            Key::Known(_) | Key::Missing => return Err(damaged("no key of its recorder is enrolled")),
            Key::Unread => {
                self.findings.not_checked("signatures", 1);
                return Ok(());
            }
        };
        let signature = signature.try_into().map_err(|_| damaged("its signature has not 64 bytes"))?;
        let verifies = keys.iter().any(|key| key.verify(digest, signature).is_ok());
        if verifies { Ok(()) } else { Err(damaged("its signature does not verify")) }
    }

    fn body(&mut self, body: &Body, digest: Digest, owner: (RecorderId, Owner)) -> Result<()> {
        let is_sound = match body {
            Body::None => Digest::of(&[]) == digest,
            Body::Inline(bytes) => Digest::of(bytes) == digest,
            Body::Footage(key) | Body::Sealed(key) => {
                let is_sealed = matches!(body, Body::Sealed(_));
                self.bodies.push(Owned { key: *key, digest, owner, is_sealed });
                true
            }
        };
        if is_sound { Ok(()) } else { Err(damaged("its payload has not the digest that its header says")) }
    }

    /// Compares the index of what is lost with the links that say so.
    fn losses(&mut self) {
        let mut count = 0;
        self.each(Family::Losses, |chains, (key, value)| {
            count += 1;
            let (recorder, first, sequence) = keys::read_loss(&key)?;
            let found: LossRecord = records::decode(&value, "losses")?;
            let Ok(link) = chains.store.engine().get(Family::Links, &keys::link(recorder, sequence)) else {
                chains.findings.not_checked("entries of losses", 1);
                return Ok(());
            };
            let link = link.map(|value| records::decode::<LinkRecord>(&value, "links")).transpose()?;
            let header = link.and_then(|link| LinkHeader::decode(&link.header).ok());
            let stated = header.and_then(|header| match header.content {
                Content::Lost { first, last, from, to, cause } => Some((first, LossRecord { last, from, to, cause })),
                _ => None,
            });
            if stated == Some((first, found)) { Ok(()) } else { Err(damaged("no link says that these are lost")) }
        });
        if self.findings.has_hole(&[Family::Links, Family::Losses]) {
            self.findings.not_checked("count of losses", 1);
        } else if count != self.lost {
            self.findings.problem("losses", format!("losses: there are {count} entries for {} links", self.lost));
        }
    }

    /// Compares the marks that are counted with the links that are marks.
    fn counted(&mut self) {
        let mut count = 0;
        self.each(Family::Counted, |chains, (key, value)| {
            let MarkPlace { at, recorder, raiser } = keys::read_mark(&key)?;
            let found: CountedRecord = records::decode(&value, "counted")?;
            let Raiser::Recorder(sequence) = raiser else { return Ok(()) };
            count += 1;
            let Ok(link) = chains.store.engine().get(Family::Links, &keys::link(recorder, sequence)) else {
                chains.findings.not_checked("marks that are counted", 1);
                return Ok(());
            };
            let link = link.map(|value| records::decode::<LinkRecord>(&value, "links")).transpose()?;
            let stated = link.and_then(|link| {
                let header = LinkHeader::decode(&link.header).ok()?;
                let Content::Mark { category, .. } = header.content else { return None };
                Some((header.captured_at, category, Entered::Link(link.log_index)))
            });
            let counted = Some((at, found.category, found.entered));
            if stated == counted { Ok(()) } else { Err(damaged("no link is the mark that is counted")) }
        });
        if self.findings.has_hole(&[Family::Links, Family::Counted]) {
            self.findings.not_checked("count of marks", 1);
        } else if count != self.marks {
            self.findings.problem("counted", format!("counted: there are {count} entries for {} marks", self.marks));
        }
    }

    /// Compares what the heads say with what the links add up to.
    fn heads(&mut self) {
        for (key, value) in walk(self.store, Family::Heads, self.findings) {
            let head = keys::read_recorder(&key)
                .and_then(|recorder| Ok((recorder, records::decode::<HeadRecord>(&value, "heads")?)));
            let place = place_of(Family::Heads, &key);
            let Some((recorder, head)) = self.findings.keep("heads", place, head) else { continue };
            let sum = self.sums.remove(&recorder).unwrap_or_default();
            let missing = sum.chain.gaps().iter().map(|gap| gap.last - gap.first + 1).sum::<u64>();
            self.findings.report.gaps += missing;
            self.findings.report.breaks += sum.chain.breaks().len() as u64;
            if self.findings.has_hole_of(&CHAIN, recorder) {
                self.findings.not_checked("heads", 1);
                continue;
            }
            if head.chain != sum.chain {
                self.findings.problem("heads", format!("{recorder}: the head does not agree with the links"));
            }
            if (head.forks, head.quarantined) != (sum.forks, sum.quarantined) {
                let what = "the head counts other forks or quarantined links";
                self.findings.problem("heads", format!("{recorder}: {what}"));
            }
        }
        for recorder in std::mem::take(&mut self.sums).into_keys() {
            if self.findings.has_hole_of(&[Family::Heads], recorder) {
                self.findings.not_checked("heads", 1);
            } else {
                self.findings.problem("heads", format!("{recorder}: it has links but no head"));
            }
        }
    }
}
