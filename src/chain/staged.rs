//! A batch judged link by link, on copies of the chain states it touches.
//!
//! [`Staged::decide`] says what a link is, with the links of the same batch already counted, and [`Staged::settle`]
//! makes the copies the truth once they are durable. Dropped, it leaves no trace: that is how a refused commit is
//! rolled back.

use std::collections::{HashMap, HashSet};

use aigaq_proto::chain::{Joint, Step};
use aigaq_proto::{Digest, LinkHeader, Micros, RecorderId, Sequence, link};

use super::Heads;
use crate::error::{Error, Kind, Result};
use crate::store::records::{HeadRecord, LinkRecord};

/// What of an arrived link matters for the decision.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Its header.
    pub header: &'a LinkHeader,
    /// Its digest.
    pub digest: Digest,
    /// Server clock when it had arrived.
    pub received_at: Micros,
    /// Whether it failed a check.
    pub faulty: bool,
}

impl Offer<'_> {
    fn joint(&self) -> Joint {
        Joint { sequence: self.header.sequence, previous: self.header.previous, digest: self.digest }
    }
}

/// What becomes of a link. "To be stored" means with this batch's commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A new link of the chain, to be stored; with it neighbours came to touch that do not agree, so many times.
    New {
        /// Number of breaks that the link opened, 0 to 2.
        breaks: usize,
    },
    /// The very link is durable already.
    Duplicate(Box<LinkRecord>),
    /// The very link is to be stored.
    Repeat,
    /// Another link holds its sequence: to be stored as the other side of a fork.
    Fork,
    /// The same, and it is stored or to be stored already.
    KnownFork,
    /// The chain cannot take it yet.
    TooFar {
        /// The first sequence that is missing.
        resend_from: Sequence,
    },
    /// It failed a check: to be stored in quarantine.
    Quarantine,
    /// The same, and a link with its digest is stored or to be stored there already.
    KnownQuarantine,
    /// It is the other side of a fork and would be kept, but its recorder has used up its quota.
    OverQuota,
    /// It failed a check and would be kept, but its recorder has used up its quota.
    Unkept {
        /// Whether a link with its digest failed before and was not kept either, as far as is remembered.
        again: bool,
    },
}

/// The chain states as they will be after the commit.
pub struct Staged<'a> {
    heads: &'a mut Heads,
    changed: HashMap<RecorderId, HeadRecord>,
    links: HashMap<(RecorderId, Sequence), Digest>,
    forks: HashSet<(RecorderId, Sequence, Digest)>,
    quarantined: HashSet<(RecorderId, Digest)>,
}

impl<'a> Staged<'a> {
    pub(super) fn new(heads: &'a mut Heads) -> Self {
        Self {
            heads,
            changed: HashMap::new(),
            links: HashMap::new(),
            forks: HashSet::new(),
            quarantined: HashSet::new(),
        }
    }

    /// Judges a link and, where it is to be stored, counts it from now on.
    ///
    /// # Errors
    /// Those of the store, and [`Kind::Damaged`] when a link that the chain knows is not stored. The link was not
    /// counted then.
    pub fn decide(&mut self, offer: &Offer<'_>) -> Result<Decision> {
        if offer.faulty {
            return self.quarantine(offer);
        }
        match self.head(offer.header.recorder)?.chain.admit(&offer.joint()) {
            Step::New => self.extend(offer),
            Step::Known => self.known(offer),
            Step::TooFar { resend_from } => Ok(Decision::TooFar { resend_from }),
        }
    }

    /// The states that the commit has to store, in the order of the recorders' identities.
    #[must_use]
    pub fn changed(&self) -> Vec<(RecorderId, HeadRecord)> {
        let mut changed: Vec<_> = self.changed.iter().map(|(recorder, head)| (*recorder, head.clone())).collect();
        changed.sort_unstable_by_key(|(recorder, _)| *recorder);
        changed
    }

    /// Makes the staged states the truth. Only after the commit that stored them is durable.
    pub fn settle(self) {
        for (recorder, head) in self.changed {
            self.heads.put(recorder, head);
        }
        for (recorder, digest) in self.quarantined {
            self.heads.put_quarantined(recorder, digest);
        }
    }

    fn extend(&mut self, offer: &Offer<'_>) -> Result<Decision> {
        let header = offer.header;
        let head = self.change(header.recorder)?;
        let before = head.chain.breaks().len();
        head.chain.insert(offer.joint());
        head.last_received_at = head.last_received_at.max(offer.received_at);
        let breaks = head.chain.breaks().len().saturating_sub(before);
        self.links.insert((header.recorder, header.sequence), offer.digest);
        Ok(Decision::New { breaks })
    }

    fn known(&mut self, offer: &Offer<'_>) -> Result<Decision> {
        let (recorder, sequence) = (offer.header.recorder, offer.header.sequence);
        if let Some(digest) = self.links.get(&(recorder, sequence)) {
            return if *digest == offer.digest { Ok(Decision::Repeat) } else { self.fork(offer) };
        }
        let Some(stored) = self.heads.store.link(recorder, sequence)? else {
            return Err(Error::new(Kind::Damaged, "a link that the chain knows is not stored"));
        };
        if link::digest(&stored.header) == offer.digest {
            return Ok(Decision::Duplicate(Box::new(stored)));
        }
        self.fork(offer)
    }

    fn fork(&mut self, offer: &Offer<'_>) -> Result<Decision> {
        let (recorder, sequence) = (offer.header.recorder, offer.header.sequence);
        let key = (recorder, sequence, offer.digest);
        if self.forks.contains(&key) || self.heads.store.fork(recorder, sequence, offer.digest)?.is_some() {
            return Ok(Decision::KnownFork);
        }
        if self.head(recorder)?.forks >= self.heads.quotas.forks_max {
            return Ok(Decision::OverQuota);
        }
        let head = self.change(recorder)?;
        head.forks += 1;
        head.last_received_at = head.last_received_at.max(offer.received_at);
        self.forks.insert(key);
        Ok(Decision::Fork)
    }

    fn quarantine(&mut self, offer: &Offer<'_>) -> Result<Decision> {
        let recorder = offer.header.recorder;
        let key = (recorder, offer.digest);
        if self.quarantined.contains(&key) || self.heads.is_quarantined(recorder, &offer.digest)? {
            return Ok(Decision::KnownQuarantine);
        }
        if self.head(recorder)?.quarantined >= self.heads.quotas.quarantined_max {
            return Ok(Decision::Unkept { again: !self.heads.remember_unkept(recorder, offer.digest) });
        }
        self.change(recorder)?.quarantined += 1;
        self.quarantined.insert(key);
        Ok(Decision::Quarantine)
    }

    fn head(&mut self, recorder: RecorderId) -> Result<&HeadRecord> {
        match self.changed.get(&recorder) {
            Some(head) => Ok(head),
            None => self.heads.head(recorder),
        }
    }

    fn change(&mut self, recorder: RecorderId) -> Result<&mut HeadRecord> {
        if !self.changed.contains_key(&recorder) {
            let head = self.heads.head(recorder)?.clone();
            self.changed.insert(recorder, head);
        }
        Ok(self.changed.entry(recorder).or_default())
    }
}
