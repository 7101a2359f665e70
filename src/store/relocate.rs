//! Moving bodies away from a day that is over.
//!
//! A body is sealed anew for where it goes, under the key of that day.
//!
//! Promises: the copy is durable before the link says that it lies there, in one commit of its own, and the old copy goes with its
//! day and not before: a crash loses nothing, and a reader sees one place or the other. What a link says, its digest and its place in
//! the log are never touched.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use aigaq_proto::{Digest, LinkHeader, Micros, RecorderId, link};
use bytes::Bytes;

use super::engine::{Batch, Family};
use super::policy::Rule;
use super::records::{self, Body, ExpiryRecord, FootageKey, LinkRecord, Owner, QuarantineRecord};
use super::sealed::Received;
use super::{Store, keys};
use crate::error::{Context, Error, Kind, Result};

/// A link of any kind, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Of the chain, or the other side of a fork.
    Link(LinkRecord),
    /// In quarantine.
    Quarantined(QuarantineRecord),
}

impl Stored {
    /// Where its payload is.
    #[must_use]
    pub fn body(&self) -> &Body {
        match self {
            Self::Link(record) => &record.body,
            Self::Quarantined(record) => &record.body,
        }
    }

    /// When it arrived.
    #[must_use]
    pub fn received_at(&self) -> Micros {
        match self {
            Self::Link(record) => record.received_at,
            Self::Quarantined(record) => record.received_at,
        }
    }

    /// Its header, if that decodes: one in quarantine may not.
    #[must_use]
    pub fn header(&self) -> Option<LinkHeader> {
        LinkHeader::decode(self.header_bytes()).ok()
    }

    /// Its header as received.
    #[must_use]
    pub fn header_bytes(&self) -> &[u8] {
        match self {
            Self::Link(record) => &record.header,
            Self::Quarantined(record) => &record.header,
        }
    }

    fn payload_digest(&self) -> Result<Digest> {
        match self {
            Self::Link(record) => {
                let header = LinkHeader::decode(&record.header);
                header
                    .context(Kind::Damaged, "a stored link header does not decode")
                    .map(|header| header.payload_digest)
            }
            Self::Quarantined(record) => Ok(record.payload_digest),
        }
    }

    fn moved_to(mut self, body: Body) -> Result<Vec<u8>> {
        match &mut self {
            Self::Link(record) => {
                record.body = body;
                records::encode(record)
            }
            Self::Quarantined(record) => {
                record.body = body;
                records::encode(record)
            }
        }
    }
}

/// A body that is to lie under a later day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Whose.
    pub recorder: RecorderId,
    /// Which of their links.
    pub owner: Owner,
    /// The last day on which it is kept.
    pub until_day: u32,
    /// Why.
    pub rule: Rule,
}

impl Store {
    /// The link that an entry of the family `expiry` speaks of.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if there is none.
    pub fn stored(&self, recorder: RecorderId, owner: Owner) -> Result<Stored> {
        let (family, key) = place_of(recorder, owner);
        let value = self.engine().get(family, &key)?;
        let value = value.ok_or_else(|| Error::new(Kind::Damaged, "what expires has no link"))?;
        match owner {
            Owner::Link(_) | Owner::Fork(..) => records::decode(&value, family.name()).map(Stored::Link),
            Owner::Quarantined(..) => records::decode(&value, family.name()).map(Stored::Quarantined),
        }
    }

    /// Moves bodies to later days, all or none. For one thread at a time.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if a body cannot be read, [`Kind::StorageFull`] if there is no room for the copies, and as [`Store::commit`].
    pub fn relocate(&self, moves: &[Move]) -> Result<()> {
        let mut read = Vec::with_capacity(moves.len());
        for wanted in moves {
            let stored = self.stored(wanted.recorder, wanted.owner)?;
            // What is gone with its key stays where it is, and goes with its day.
            let is_gone = self.is_destroyed(wanted.recorder, stored.body());
            if let Some(from) = stored.body().place().filter(|_| !is_gone) {
                read.push((wanted, from, self.payload_of(wanted.recorder, &stored)?, stored));
            }
        }
        if let Some(ring) = self.inner.sealing.sealing() {
            // May wait for a KMS, which the writer never does.
            let days: BTreeSet<u32> = moves.iter().map(|wanted| wanted.until_day).collect();
            days.into_iter().try_for_each(|day| ring.prepare(day.max(self.first_open_day())))?;
        }
        let _writing = self.writing();
        let commit = self.next_commit();
        let (mut bodies, mut batch) = (Vec::with_capacity(read.len()), Batch::default());
        for (index, (wanted, from, bytes, stored)) in (0_u32..).zip(read) {
            let day = wanted.until_day.max(self.first_open_day());
            if day <= from.day {
                continue;
            }
            let key = FootageKey { day, commit, index };
            let (recorder, owner) = (wanted.recorder, wanted.owner);
            let captured_at = match &stored {
                Stored::Link(_) => stored.header().map_or(0, |header| header.captured_at),
                Stored::Quarantined(_) => 0,
            };
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let kept = ExpiryRecord::Kept { rule: wanted.rule.clone(), bytes: length, captured_at };
            let (family, place) = place_of(recorder, owner);
            let digest = stored.payload_digest()?;
            batch.put(family, place, stored.moved_to(self.inner.sealing.place(key))?);
            batch.put(Family::Expiry, keys::expiry(day, recorder, owner), records::encode(&kept)?);
            let left = records::encode(&ExpiryRecord::Moved { from })?;
            batch.put(Family::Expiry, keys::expiry(from.day, recorder, owner), left);
            bodies.push(Received { key, recorder, digest, bytes });
        }
        if bodies.is_empty() {
            return Ok(());
        }
        batch.put(Family::Meta, keys::META_LAST_COMMIT, commit.to_be_bytes());
        let bodies = self.inner.sealing.seal(bodies)?;
        self.engine().relocate(&bodies, &batch)?;
        self.inner.last_commit.store(commit, Ordering::Release);
        Ok(())
    }

    /// The payload of a link that may be hidden.
    pub(super) fn payload_of(&self, recorder: RecorderId, stored: &Stored) -> Result<Bytes> {
        self.read(recorder, stored.body(), stored.payload_digest()?)
    }

    /// Where the payload of a link lies, if it was moved since `read` was read.
    pub(super) fn moved_since(&self, read: &LinkRecord, header: &LinkHeader) -> Result<Option<Body>> {
        let digest = link::digest(&read.header);
        let now = match self.link(header.recorder, header.sequence)? {
            Some(now) if link::digest(&now.header) == digest => Some(now),
            _ => self.fork(header.recorder, header.sequence, digest)?,
        };
        Ok(now.map(|now| now.body).filter(|body| *body != read.body))
    }
}

/// Where the link of an owner is stored.
fn place_of(recorder: RecorderId, owner: Owner) -> (Family, Vec<u8>) {
    match owner {
        Owner::Link(sequence) => (Family::Links, keys::link(recorder, sequence).into()),
        Owner::Fork(sequence, digest) => (Family::Forks, keys::fork(recorder, sequence, digest).into()),
        Owner::Quarantined(commit, index) => (Family::Quarantine, keys::quarantine(recorder, commit, index).into()),
    }
}
