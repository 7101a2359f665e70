//! What a commit becomes on its way down: the bodies that go to the footage and the one batch of the ledger.
//!
//! The payloads of media links and of quarantined links are footage; every other payload is small and lies in its record.
//! Bodies are durable before the batch that refers to them: the engine promises it, this file relies on it.

use std::sync::atomic::Ordering;

use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId};
use bytes::Bytes;

use super::engine::{Batch, Family, NewBody};
use super::records::{
    self, AuditRecord, Body, FootageKey, HeadRecord, LinkRecord, LossRecord, QuarantineRecord, RecorderRecord,
};
use super::{ENTRY_BYTES, HASH_BYTES, Store, TILE_ITEMS, keys};
use crate::error::{Error, Kind, Result};

/// Microseconds in a day.
const DAY_US: u64 = 86_400_000_000;

/// What becomes durable together.
#[derive(Debug, Default)]
pub struct Commit {
    /// Its number: greater than that of every commit before it.
    pub number: u64,
    /// Links that extend chains.
    pub links: Vec<NewLink>,
    /// Links that claim a sequence which another one has.
    pub forks: Vec<NewLink>,
    /// Links that failed a check.
    pub quarantined: Vec<NewQuarantine>,
    /// The chains after this commit.
    pub heads: Vec<(RecorderId, HeadRecord)>,
    /// What is appended to the log.
    pub log_rows: Vec<LogRow>,
    /// Size of the log's tree after this commit.
    pub log_size: u64,
}

/// A link on its way into the store.
#[derive(Debug)]
pub struct NewLink {
    /// The decoded header.
    pub header: LinkHeader,
    /// The link's digest.
    pub digest: Digest,
    /// What will be stored; its `body` is filled in here.
    pub record: LinkRecord,
    /// The payload, empty where there is none.
    pub payload: Bytes,
}

/// A link that failed a check, on its way into quarantine.
#[derive(Debug)]
pub struct NewQuarantine {
    /// Who sent it.
    pub recorder: RecorderId,
    /// What will be stored; its `body` is filled in here.
    pub record: QuarantineRecord,
    /// The payload as it arrived.
    pub payload: Bytes,
}

/// Consecutive items of one level of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// 0: entries of 40 bytes; above: hashes of 32 bytes, each of a complete tile of the level below.
    pub level: u8,
    /// Index of the first item. A row never crosses a multiple of 256.
    pub first: u64,
    /// The items.
    pub bytes: Vec<u8>,
}

/// Length of an item of a level of the log, bytes.
pub(super) fn item_bytes(level: u8) -> usize {
    if level == 0 { ENTRY_BYTES } else { HASH_BYTES }
}

/// A commit cut into what the engine takes.
struct Cut {
    number: u64,
    retention_days: u32,
    bodies: Vec<NewBody>,
    batch: Batch,
}

impl Cut {
    /// Where a payload will lie; it joins the bodies if that is the footage.
    fn place(&mut self, payload: Bytes, received_at: Micros, is_footage: bool) -> Result<Body> {
        if payload.is_empty() {
            return Ok(Body::None);
        }
        if !is_footage {
            return Ok(Body::Inline(payload.to_vec()));
        }
        let day = u32::try_from(received_at / DAY_US).unwrap_or(u32::MAX).saturating_add(self.retention_days);
        let index = u32::try_from(self.bodies.len()).map_err(|_| wrong("has too many bodies"))?;
        let key = FootageKey { day, commit: self.number, index };
        self.bodies.push(NewBody { key, bytes: payload });
        Ok(Body::Footage(key))
    }

    fn link(&mut self, link: NewLink) -> Result<()> {
        let NewLink { header, mut record, payload, .. } = link;
        record.body = self.place(payload, record.received_at, header.is_media())?;
        let key = keys::link(header.recorder, header.sequence);
        self.batch.put(Family::Links, key, records::encode(&record)?);
        let key = keys::timeline(header.recorder, header.captured_at, header.sequence);
        self.batch.put(Family::Timeline, key, records::encode(&records::TimelineRecord::of(&header))?);
        if let Content::Lost { first, last, from, to, cause } = header.content {
            let key = keys::loss(header.recorder, first, header.sequence);
            self.batch.put(Family::Losses, key, records::encode(&LossRecord { last, from, to, cause })?);
        }
        Ok(())
    }

    fn fork(&mut self, link: NewLink) -> Result<()> {
        let NewLink { header, digest, mut record, payload } = link;
        record.body = self.place(payload, record.received_at, header.is_media())?;
        let key = keys::fork(header.recorder, header.sequence, digest);
        self.batch.put(Family::Forks, key, records::encode(&record)?);
        Ok(())
    }

    fn quarantined(&mut self, index: usize, quarantined: NewQuarantine) -> Result<()> {
        let NewQuarantine { recorder, mut record, payload } = quarantined;
        record.body = self.place(payload, record.received_at, true)?;
        let index = u32::try_from(index).map_err(|_| wrong("has too many quarantined links"))?;
        let key = keys::quarantine(recorder, self.number, index);
        self.batch.put(Family::Quarantine, key, records::encode(&record)?);
        Ok(())
    }

    fn row(&mut self, row: LogRow) -> Result<()> {
        let bytes = item_bytes(row.level);
        let items = (row.bytes.len() / bytes) as u64;
        let fits = row.first % TILE_ITEMS + items <= TILE_ITEMS;
        if items == 0 || !row.bytes.len().is_multiple_of(bytes) || !fits {
            return Err(wrong("has a row of the log that crosses a tile or holds parts of items"));
        }
        self.batch.put(Family::Tiles, keys::tile(row.level, row.first), row.bytes);
        Ok(())
    }
}

fn wrong(what: &str) -> Error {
    Error::new(Kind::Internal, format!("a commit {what}"))
}

impl Store {
    /// Makes a commit durable; when it returns `Ok`, all of it is. For the one writer's thread.
    ///
    /// # Errors
    /// [`Kind::StorageFull`] when nothing was written for want of room, [`Kind::Internal`] when nothing was written because
    /// the commit contradicts itself, [`Kind::Fatal`] when it cannot be told what is durable: never acknowledge again.
    pub fn commit(&self, commit: Commit) -> Result<()> {
        let Commit { number, links, forks, quarantined, heads, log_rows, log_size } = commit;
        if number <= self.last_commit() {
            return Err(wrong("has a number that was used before"));
        }
        let retention_days = self.inner.retention_days;
        let mut cut = Cut { number, retention_days, bodies: Vec::new(), batch: Batch::default() };
        links.into_iter().try_for_each(|link| cut.link(link))?;
        forks.into_iter().try_for_each(|link| cut.fork(link))?;
        quarantined.into_iter().enumerate().try_for_each(|(index, link)| cut.quarantined(index, link))?;
        log_rows.into_iter().try_for_each(|row| cut.row(row))?;
        for (recorder, head) in heads {
            cut.batch.put(Family::Heads, keys::recorder(recorder), records::encode(&head)?);
        }
        cut.batch.put(Family::Meta, keys::META_LAST_COMMIT, number.to_be_bytes());
        cut.batch.put(Family::Meta, keys::META_LOG_SIZE, log_size.to_be_bytes());
        cut.bodies.sort_unstable_by_key(|body| body.key);
        self.inner.engine.commit(&cut.bodies, &cut.batch)?;
        self.inner.last_commit.store(number, Ordering::Release);
        Ok(())
    }

    /// Makes what is known of a recorder durable, in the place of what was known before. With a revocation no commit brings
    /// a link of the recorder once this has returned.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn enrol(&self, recorder: &RecorderRecord) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Family::Recorders, keys::recorder(recorder.id), records::encode(recorder)?);
        self.with_revocation(recorder, || self.inner.engine.commit(&[], &batch))
    }

    /// Makes an audit entry durable. May be called from many threads, also while a commit is under way.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn audit(&self, entry: &AuditRecord) -> Result<()> {
        self.audit_all(std::slice::from_ref(entry))
    }

    /// Makes audit entries durable with one sync, all or none. Otherwise as [`Store::audit`].
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn audit_all(&self, entries: &[AuditRecord]) -> Result<()> {
        let mut batch = Batch::default();
        for entry in entries {
            let counter = self.inner.audit_counter.fetch_add(1, Ordering::Relaxed);
            batch.put(Family::Audit, keys::audit(entry.at, counter), records::encode(entry)?);
        }
        self.inner.engine.commit(&[], &batch)
    }
}
