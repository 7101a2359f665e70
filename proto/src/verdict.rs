//! What a run of links is worth, and which links decide it: shared by the server and by whoever checks a bundle. Pure: no I/O,
//! no clock.
//!
//! A [`Judge`] takes the links of one recorder by sequence, each with what its holder could find out about it, and keeps a
//! bounded amount of memory however many come. A link that is not what it should be is named for what it is, and blamed on
//! nobody else: neighbours of an altered link stay sound.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::signature::PublicKey;
use crate::{Content, Digest, LinkHeader, RecorderId, Sequence, link};

/// Findings that are listed; more are counted.
pub const FINDINGS_MAX: usize = 1_000;
/// Payload digests that are remembered, so that a payload that lies in another's place is known for whose it is.
const REMEMBERED_MAX: usize = 4_096;
/// Findings among which one that goes on is looked for.
const RECENT: usize = 4;
/// Statements of loss that are remembered.
const LOST_MAX: usize = 4_096;

/// What footage is worth. A greater one outweighs a smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Whole, unaltered, signed, in the log.
    Authentic,
    /// What is there is unaltered; something is not there.
    AuthenticWithGaps,
    /// Unaltered as far as can be said; its proof is not complete yet.
    Pending,
    /// No signature of a recorder is there.
    Unsigned,
    /// Something is not what was recorded, or there are two versions of it.
    NotAuthentic,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authentic => "authentic",
            Self::AuthenticWithGaps => "authentic-with-gaps",
            Self::Pending => "pending",
            Self::Unsigned => "unsigned",
            Self::NotAuthentic => "not-authentic",
        })
    }
}

/// What a link is that is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The header, or what stands beside it, is not what was signed.
    AlteredHeader,
    /// The payload has its length and not its digest.
    AlteredPayload,
    /// The payload is footage of another length than what was signed: it was encoded anew.
    ReEncoded,
    /// The payload has another length, and is no footage.
    CutPayload,
    /// The payload is that of another link, whose place has this one's.
    SwappedPayload,
    /// The payload is that of another link, which has it too.
    DuplicatedPayload,
    /// The links do not stand in their order.
    Swapped,
    /// The same link again.
    Duplicate,
    /// The link belongs to another recorder's chain.
    Spliced,
    /// Another link claims the same sequence.
    Fork,
    /// The signature is by no key of the recorder.
    BadSignature,
    /// The proof does not lead to the root of the log.
    NotInLog,
    /// The link names another predecessor than the one that is there; both are signed.
    Broken,
    /// It has no signature.
    Unsigned,
    /// It is not in a log that enough others have signed.
    NotYetWitnessed,
    /// The link is not there, or its footage is not, and nothing says why.
    Dropped,
    /// The link is not there, and a later one states that it was lost on the device.
    LostOnDevice,
    /// The payload was deleted when its time was over, or destroyed with its key, and the log has the statement that says so.
    Deleted,
    /// The payload is said to be deleted, and nothing that the log has says so.
    DeletionUnproved,
    /// The payload is not there, because what was stored is not what was received.
    Damaged,
    /// No signed link says what came after this one.
    UnprovedTail,
}

impl What {
    /// The verdict that it allows at best.
    #[must_use]
    pub const fn weighs(self) -> Verdict {
        match self {
            Self::Dropped
            | Self::LostOnDevice
            | Self::Deleted
            | Self::DeletionUnproved
            | Self::Damaged
            | Self::UnprovedTail => Verdict::AuthenticWithGaps,
            Self::NotYetWitnessed => Verdict::Pending,
            Self::Unsigned => Verdict::Unsigned,
            _ => Verdict::NotAuthentic,
        }
    }

    /// The same for people, one clause.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::AlteredHeader => "the header, or what stands beside it, is not what was signed",
            Self::AlteredPayload => "the payload was altered: its length is right and its digest is not",
            Self::ReEncoded => "the payload is footage of another length than what was signed: re-encoded",
            Self::CutPayload => "the payload was cut or overwritten: its length is wrong and it is no footage",
            Self::SwappedPayload => "the payload was swapped with that of another link",
            Self::DuplicatedPayload => "the payload is a copy of another link's",
            Self::Swapped => "the links do not stand in their order",
            Self::Duplicate => "the same link stands there again",
            Self::Spliced => "the link was taken from another recorder's chain",
            Self::Fork => "two different links claim this sequence",
            Self::BadSignature => "the signature is by no key of the recorder",
            Self::NotInLog => "the proof does not lead to the root of the log",
            Self::Broken => "the link names another predecessor than the one that is there",
            Self::Unsigned => "there is no signature",
            Self::NotYetWitnessed => "not yet in a checkpoint that enough witnesses have signed",
            Self::Dropped => "the link, or its payload, is missing, and nothing says why",
            Self::LostOnDevice => "links are missing; the recorder states that it lost them",
            Self::Deleted => "the payload was deleted, as a statement in the log says",
            Self::DeletionUnproved => "the payload is said to be deleted, and no statement in the log says so",
            Self::Damaged => "the payload is not there: what was stored is damaged",
            Self::UnprovedTail => "nothing signed says what came after",
        }
    }
}

/// What is wrong with a run of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The first.
    pub first: Sequence,
    /// The last.
    pub last: Sequence,
    /// What it is.
    pub what: What,
}

/// Where a link is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its proof leads to a checkpoint that counts.
    Proven,
    /// It is not in such a checkpoint yet.
    Pending,
    /// It has a proof that leads elsewhere.
    Refuted,
}

/// What is there of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// It was not asked for, or the link has none: nothing to check. Footage of the range that is judged is missed.
    Absent,
    /// Whoever holds the link has it and has not looked at it now.
    Unread,
    /// These bytes.
    Present {
        /// Their digest.
        digest: Digest,
        /// Their number.
        length: u64,
        /// Whether they are whole boxes of ISO base media.
        boxes: bool,
    },
    /// Deleted, and the log has the statement that says so.
    Deleted,
    /// Said to be deleted, without such a statement.
    DeletionUnproved,
    /// Not there because it was damaged.
    Damaged,
}

/// One link with what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its place, as whoever holds it says.
    pub sequence: Sequence,
    /// Its digest, as whoever holds it says.
    pub digest: Digest,
    /// The header as received.
    pub header: &'a [u8],
    /// The signature as received.
    pub signature: &'a [u8],
    /// Whether what stands beside the header agrees with it.
    pub agrees: bool,
    /// Where it is in the log.
    pub place: Place,
    /// What is there of its payload.
    pub payload: Payload,
    /// Whether its span touches the range that is judged. Links beside it only show that nothing lies between.
    pub inside: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What it comes to.
    pub verdict: Verdict,
    /// Links that were looked at, those beside the range and of forks among them.
    pub links: u64,
    /// What decides it: at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
}

/// The link before, as far as it matters.
#[derive(Debug, Clone, Copy)]
struct Before {
    sequence: Sequence,
    digests: [Digest; 2],
    sound: bool,
    inside: bool,
    stops: bool,
}

/// A payload that is not what its header says.
#[derive(Debug, Clone, Copy)]
struct Wrong {
    sequence: Sequence,
    expected: Digest,
    found: Digest,
    otherwise: What,
}

/// Judges the links of one recorder.
#[derive(Debug)]
pub struct Judge {
    recorder: RecorderId,
    keys: Vec<PublicKey>,
    links: u64,
    signed: u64,
    unsigned: u64,
    worst: Verdict,
    findings: Vec<Finding>,
    more: u64,
    before: Option<Before>,
    payloads: VecDeque<(Digest, Sequence)>,
    wrong: Vec<Wrong>,
    missing: Vec<(Sequence, Sequence)>,
    lost: Vec<(Sequence, Sequence)>,
}

impl Judge {
    /// A judge of this recorder's links, whose keys these are.
    #[must_use]
    pub fn new(recorder: RecorderId, keys: Vec<PublicKey>) -> Self {
        Self {
            recorder,
            keys,
            links: 0,
            signed: 0,
            unsigned: 0,
            worst: Verdict::Authentic,
            findings: Vec::new(),
            more: 0,
            before: None,
            payloads: VecDeque::new(),
            wrong: Vec::new(),
            missing: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// The next link of the chain. Returns the key that signed it.
    pub fn link(&mut self, facts: &Facts<'_>) -> Option<PublicKey> {
        let (header, key, sound) = self.alone(facts);
        let sequence = facts.sequence;
        let computed = link::digest(facts.header);
        if let Some(before) = self.before {
            if sequence <= before.sequence {
                let again = sequence == before.sequence && before.digests.contains(&computed);
                let forks = sequence == before.sequence && !again && sound && before.sound;
                self.find(
                    sequence,
                    if again {
                        What::Duplicate
                    } else if forks {
                        What::Fork
                    } else {
                        What::Swapped
                    },
                );
                self.found_after_all(sequence);
                return key;
            }
            if sequence.saturating_sub(before.sequence) == 1 {
                let joined = header.as_ref().is_none_or(|header| before.digests.contains(&header.previous));
                if !joined && sound && before.sound {
                    self.find(sequence, What::Broken);
                }
            } else {
                self.hole(before, sequence, facts.inside);
            }
        } else if facts.inside
            && let Some(missing) = sequence.checked_sub(1)
        {
            self.miss(missing, missing);
        }
        if let Some(header) = &header {
            if let (Content::Lost { first, last, .. }, true) = (&header.content, sound && self.lost.len() < LOST_MAX) {
                self.lost.push((*first, *last));
            }
            self.payload(header, facts);
        }
        let stops = header.is_some_and(|header| matches!(header.content, Content::Stop { .. }));
        self.before = Some(Before { sequence, digests: [facts.digest, computed], sound, inside: facts.inside, stops });
        key
    }

    /// The other side of a fork. Returns the key that signed it.
    pub fn fork(&mut self, facts: &Facts<'_>) -> Option<PublicKey> {
        let (header, key, sound) = self.alone(facts);
        if sound {
            self.find(facts.sequence, What::Fork);
        }
        if let Some(header) = &header {
            self.payload(header, facts);
        }
        key
    }

    /// Footage of the range is missing, which was said.
    pub fn gap(&mut self) {
        self.worst = self.worst.max(Verdict::AuthenticWithGaps);
    }

    /// Something else that was found about a link.
    pub fn find(&mut self, sequence: Sequence, what: What) {
        self.find_run(sequence, sequence, what);
    }

    /// The report.
    #[must_use]
    pub fn finish(mut self) -> Report {
        if let Some(before) = self.before.filter(|before| before.inside && !before.stops) {
            self.find(before.sequence, What::UnprovedTail);
        }
        for (first, last) in core::mem::take(&mut self.missing) {
            let stated = self.lost.iter().any(|lost| lost.0 <= first && last <= lost.1);
            self.find_run(first, last, if stated { What::LostOnDevice } else { What::Dropped });
        }
        let wrong = core::mem::take(&mut self.wrong);
        for one in &wrong {
            let there = wrong.iter().any(|other| other.expected == one.found && other.sequence != one.sequence);
            let elsewhere = || self.payloads.iter().any(|(digest, of)| *digest == one.found && *of != one.sequence);
            let what = if there {
                What::SwappedPayload
            } else if elsewhere() {
                What::DuplicatedPayload
            } else {
                one.otherwise
            };
            self.find(one.sequence, what);
        }
        if self.unsigned > 0 && self.signed > 0 {
            self.worst = Verdict::NotAuthentic;
        }
        self.findings.sort_by_key(|finding| (finding.first, finding.what));
        Report { verdict: self.worst, links: self.links, findings: self.findings, more: self.more }
    }

    /// What a link is by itself: its header if it decodes, the key that signed it, and whether all of it holds.
    fn alone(&mut self, facts: &Facts<'_>) -> (Option<LinkHeader>, Option<PublicKey>, bool) {
        self.links = self.links.saturating_add(1);
        let computed = link::digest(facts.header);
        let header = LinkHeader::decode(facts.header).ok();
        let key = self.signer(&computed, facts.signature);
        let named = header.as_ref().is_some_and(|header| header.sequence == facts.sequence);
        let what = match &header {
            Some(header) if header.recorder != self.recorder => Some(What::Spliced),
            Some(header) if !named && key.is_some() && header.sequence != facts.sequence => Some(What::Swapped),
            None => Some(What::AlteredHeader),
            Some(_) if computed != facts.digest || !facts.agrees || !named => Some(What::AlteredHeader),
            Some(_) if facts.signature.iter().all(|byte| *byte == 0) => {
                self.unsigned = self.unsigned.saturating_add(1);
                Some(What::Unsigned)
            }
            Some(_) if key.is_none() => Some(What::BadSignature),
            Some(_) => None,
        };
        self.signed = self.signed.saturating_add(u64::from(key.is_some()));
        if let Some(what) = what {
            self.find(facts.sequence, what);
        }
        match facts.place {
            Place::Proven => {}
            Place::Pending => self.find(facts.sequence, What::NotYetWitnessed),
            Place::Refuted => {
                if what.is_none() {
                    self.find(facts.sequence, What::NotInLog);
                }
            }
        }
        (header, key, what.is_none() && facts.place != Place::Refuted)
    }

    /// The key that signed; the one that signed last is tried first.
    fn signer(&mut self, digest: &Digest, signature: &[u8]) -> Option<PublicKey> {
        let signature = signature.try_into().ok()?;
        let found = self.keys.iter().position(|key| key.verify(digest, &signature).is_ok())?;
        self.keys.swap(0, found);
        self.keys.first().cloned()
    }

    fn hole(&mut self, before: Before, sequence: Sequence, inside: bool) {
        let (first, last) = (before.sequence.saturating_add(1), sequence.saturating_sub(1));
        match (before.inside, inside) {
            (true, true) => self.miss(first, last),
            (true, false) => self.miss(first, first),
            (false, true) => self.miss(last, last),
            (false, false) => {}
        }
    }

    fn miss(&mut self, first: Sequence, last: Sequence) {
        if self.missing.len() < FINDINGS_MAX {
            self.missing.push((first, last));
        } else {
            self.count(What::Dropped);
        }
    }

    /// A link that seemed to be missing stands in another place.
    fn found_after_all(&mut self, sequence: Sequence) {
        let Some(at) = self.missing.iter().position(|(first, last)| (*first..=*last).contains(&sequence)) else {
            return;
        };
        let (first, last) = self.missing.swap_remove(at);
        self.missing.extend(sequence.checked_sub(1).filter(|end| *end >= first).map(|end| (first, end)));
        self.missing.extend(sequence.checked_add(1).filter(|start| *start <= last).map(|start| (start, last)));
    }

    fn payload(&mut self, header: &LinkHeader, facts: &Facts<'_>) {
        match facts.payload {
            Payload::Absent => {
                // Footage of the range that is neither there nor said to be gone was left out.
                if facts.inside && matches!(header.content, Content::Media { .. }) {
                    self.find(facts.sequence, What::Dropped);
                }
            }
            Payload::Unread => {}
            Payload::Deleted => self.find(facts.sequence, What::Deleted),
            Payload::DeletionUnproved => self.find(facts.sequence, What::DeletionUnproved),
            Payload::Damaged => self.find(facts.sequence, What::Damaged),
            Payload::Present { digest, length, boxes } => {
                if digest != header.payload_digest {
                    let otherwise = if length == u64::from(header.payload_length) {
                        What::AlteredPayload
                    } else if boxes {
                        What::ReEncoded
                    } else {
                        What::CutPayload
                    };
                    self.wrong(Wrong {
                        sequence: facts.sequence,
                        expected: header.payload_digest,
                        found: digest,
                        otherwise,
                    });
                }
            }
        }
        if header.payload_length > 0 {
            if self.payloads.len() >= REMEMBERED_MAX {
                self.payloads.pop_front();
            }
            self.payloads.push_back((header.payload_digest, facts.sequence));
        }
    }

    fn wrong(&mut self, wrong: Wrong) {
        if self.wrong.len() < FINDINGS_MAX {
            self.wrong.push(wrong);
        } else {
            self.count(wrong.otherwise);
        }
    }

    fn find_run(&mut self, first: Sequence, last: Sequence, what: What) {
        self.worst = self.worst.max(what.weighs());
        let recent = self.findings.len().saturating_sub(RECENT);
        let recent = self.findings.get_mut(recent..).unwrap_or_default();
        for finding in recent.iter_mut().filter(|finding| finding.what == what) {
            if (finding.first, finding.last) == (first, last) {
                return;
            }
            if finding.last.checked_add(1) == Some(first) {
                finding.last = last;
                return;
            }
        }
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { first, last, what });
        } else {
            self.count(what);
        }
    }

    fn count(&mut self, what: What) {
        self.worst = self.worst.max(what.weighs());
        self.more = self.more.saturating_add(1);
    }
}
