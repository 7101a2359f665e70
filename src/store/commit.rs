//! What a commit becomes on its way down: the bodies that go to the footage and the one batch of the ledger.
//!
//! The payloads of media links and of quarantined links are footage; every other payload is small and lies in its record.
//! Bodies are durable before the batch that refers to them: the engine promises it, this file relies on it.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId};
use bytes::Bytes;

use super::engine::{Batch, Family};
use super::feed::Happening;
use super::incidents::Arrival;
use super::index::{self, Index};
use super::policy::{Rule, day_of};
use super::records::{
    self, Body, Cause, Entered, ExpiryRecord, ExtensionRecord, FootageKey, HeadRecord, LeafRecord, LinkRecord,
    LossRecord, MarkPlace, MarkRecord, Occurrence, Owner, QuarantineRecord, Raiser, RecorderRecord,
};
use super::sealed::Received;
use super::{ENTRY_BYTES, HASH_BYTES, Store, TILE_ITEMS, keys};
use crate::error::{Error, Kind, Result};

/// How far from a mark its recording reaches at most, microseconds: a shift, and not the weeks of a recorder that never stops.
pub(super) const MARK_REACH_US: u64 = 12 * 3_600 * 1_000_000;

/// What becomes durable together.
#[derive(Debug, Default)]
pub struct Commit {
    /// Its number, or a greater one where bodies were moved meanwhile.
    pub number: u64,
    /// Links that extend chains.
    pub links: Vec<NewLink>,
    /// Links that claim a sequence which another one has.
    pub forks: Vec<NewLink>,
    /// Links that failed a check.
    pub quarantined: Vec<NewQuarantine>,
    /// The chains after this commit.
    pub heads: Vec<(RecorderId, HeadRecord)>,
    /// Audit entries that the log takes in: number in the trail, index in the log; in order.
    pub statements: Vec<(u64, u64)>,
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
struct Cut<'a> {
    store: &'a Store,
    number: u64,
    bodies: Vec<Received>,
    batch: Batch,
    /// Marks that keep footage longer.
    claims: u64,
    /// What those who watch are told.
    happened: Vec<Happening>,
    /// Where and when the footage is found.
    index: Index<'a>,
    /// What those are told who look at what arrives.
    arrived: Vec<Arrival>,
}

impl Cut<'_> {
    /// Where a payload will lie; it joins the bodies if that is the footage.
    fn place(
        &mut self,
        (recorder, captured_at): (RecorderId, Micros),
        owner: Owner,
        (payload, digest): (Bytes, Digest),
        received_at: Micros,
        is_footage: bool,
    ) -> Result<Body> {
        if payload.is_empty() {
            return Ok(Body::None);
        }
        if !is_footage {
            return Ok(Body::Inline(payload.to_vec()));
        }
        let (day, rule) = self.store.footage_day(recorder, received_at)?;
        let index = u32::try_from(self.bodies.len()).map_err(|_| wrong("has too many bodies"))?;
        let key = FootageKey { day, commit: self.number, index };
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.bodies.push(Received { key, recorder, digest, bytes: payload });
        let kept = records::encode(&ExpiryRecord::Kept { rule, bytes, captured_at })?;
        self.batch.put(Family::Expiry, keys::expiry(day, recorder, owner), kept);
        Ok(self.store.inner.sealing.place(key))
    }

    /// A mark of a category with a longer policy keeps the recording around it, also what is stored of it.
    fn mark(&mut self, header: &LinkHeader, received_at: Micros) -> Result<()> {
        let Content::Mark { category, before_s, after_s, .. } = &header.content else { return Ok(()) };
        let Some(days) = self.store.inner.policy.categories.get(category) else { return Ok(()) };
        if *days <= self.store.rule_of(header.recorder)?.days() {
            return Ok(());
        }
        let (at, reach) = (header.captured_at, |seconds: u16| MARK_REACH_US.max(u64::from(seconds) * 1_000_000));
        let extension = ExtensionRecord {
            from: at.saturating_sub(reach(*before_s)),
            to: at.saturating_add(reach(*after_s)).saturating_add(1),
            until_day: day_of(received_at).saturating_add(*days),
            cause: Cause::Mark { at, category: category.clone(), before_s: *before_s, after_s: *after_s },
        };
        let key = keys::extension(header.recorder, &extension.cause, header.sequence);
        self.batch.put(Family::Extensions, key, records::encode(&extension)?);
        self.claims += 1;
        Ok(())
    }

    fn link(&mut self, link: NewLink) -> Result<()> {
        let NewLink { header, mut record, payload, .. } = link;
        self.arrived.extend(self.store.inner.arrivals.span(&header));
        if let Content::Mark { category, note, before_s, after_s } = &header.content {
            let (sequence, captured_at) = (header.sequence, header.captured_at);
            let place = MarkPlace { at: captured_at, recorder: header.recorder, raiser: Raiser::Recorder(sequence) };
            let seconds = |seconds: u16| u64::from(seconds) * 1_000_000;
            let mark = MarkRecord {
                place,
                category: category.clone(),
                note: note.clone(),
                from: captured_at.saturating_sub(seconds(*before_s)),
                to: captured_at.saturating_add(seconds(*after_s)).saturating_add(1),
                recorded_at: record.received_at,
                by: String::new(),
                corrects: None,
            };
            let encoded = records::encode(&mark)?;
            index::index_mark(&mark, &encoded, &mut self.batch);
            self.batch.put(Family::Marks, keys::mark(place), encoded);
            let what = Occurrence::Mark { sequence, captured_at, category: category.clone(), note: note.clone() };
            self.happened.push((record.received_at, Some(header.recorder), what));
            self.store.count(&mut self.batch, place, category, Entered::Link(record.log_index))?;
        }
        let owner = Owner::Link(header.sequence);
        let (payload, of) = ((payload, header.payload_digest), (header.recorder, header.captured_at));
        record.body = self.place(of, owner, payload, record.received_at, header.is_media())?;
        self.mark(&header, record.received_at)?;
        self.index.add(&header, &mut self.batch)?;
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
        let what = Occurrence::Fork { sequence: header.sequence, digest };
        self.happened.push((record.received_at, Some(header.recorder), what));
        let owner = Owner::Fork(header.sequence, digest);
        let (payload, of) = ((payload, header.payload_digest), (header.recorder, header.captured_at));
        record.body = self.place(of, owner, payload, record.received_at, header.is_media())?;
        let key = keys::fork(header.recorder, header.sequence, digest);
        self.batch.put(Family::Forks, key, records::encode(&record)?);
        Ok(())
    }

    fn quarantined(&mut self, index: usize, quarantined: NewQuarantine) -> Result<()> {
        let NewQuarantine { recorder, mut record, payload } = quarantined;
        let index = u32::try_from(index).map_err(|_| wrong("has too many quarantined links"))?;
        let what = Occurrence::Quarantined { reason: record.reason, commit: self.number, index };
        self.happened.push((record.received_at, Some(recorder), what));
        let owner = Owner::Quarantined(self.number, index);
        let payload = (payload, record.payload_digest);
        record.body = self.place((recorder, 0), owner, payload, record.received_at, true)?;
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
    /// [`Kind::StorageFull`] when nothing was written for want of room, [`Kind::Busy`] when nothing was written because a KMS gives no
    /// key, [`Kind::Internal`] when nothing was written because the commit contradicts itself, [`Kind::Fatal`] when it cannot be told what is durable: never acknowledge again.
    pub fn commit(&self, commit: Commit) -> Result<()> {
        let Commit { number, links, forks, quarantined, heads, statements, log_rows, log_size } = commit;
        let mut writing = self.writing();
        let number = number.max(self.next_commit());
        let (bodies, batch, happened, index) = (Vec::new(), Batch::default(), Vec::new(), Index::of(self));
        let mut cut = Cut { store: self, number, bodies, batch, claims: 0, happened, index, arrived: Vec::new() };
        links.into_iter().try_for_each(|link| cut.link(link))?;
        forks.into_iter().try_for_each(|link| cut.fork(link))?;
        quarantined.into_iter().enumerate().try_for_each(|(index, link)| cut.quarantined(index, link))?;
        log_rows.into_iter().try_for_each(|row| cut.row(row))?;
        for (recorder, head) in heads {
            cut.batch.put(Family::Heads, keys::recorder(recorder), records::encode(&head)?);
        }
        for (number, log_index) in &statements {
            let leaf = LeafRecord { log_index: *log_index, tree_size: log_size };
            cut.batch.put(Family::Leaves, keys::audit(*number), records::encode(&leaf)?);
        }
        cut.index.finish(&mut cut.batch)?;
        cut.batch.put(Family::Meta, keys::META_LAST_COMMIT, number.to_be_bytes());
        cut.batch.put(Family::Meta, keys::META_LOG_SIZE, log_size.to_be_bytes());
        let bodies = self.inner.sealing.seal(cut.bodies)?;
        let numbered = self.number(&cut.happened, &mut cut.batch)?;
        self.inner.engine.commit(&bodies, &cut.batch)?;
        if let Some(numbered) = numbered {
            numbered.written();
        }
        self.inner.arrivals.note(cut.arrived);
        self.inner.last_commit.store(number, Ordering::Release);
        statements.last().into_iter().for_each(|(number, _)| self.logged(*number));
        *writing += cut.claims;
        Ok(())
    }

    /// The last day on which footage is kept that arrives now, and why.
    fn footage_day(&self, recorder: RecorderId, received_at: Micros) -> Result<(u32, Rule)> {
        let rule = self.rule_of(recorder)?;
        // A day that is hidden takes nothing more, whatever the clock says.
        Ok((day_of(received_at).saturating_add(rule.days()).max(self.first_open_day()), rule))
    }

    /// Whether footage of a recorder can be sealed that arrived at this moment. Waits for nobody.
    ///
    /// # Errors
    /// [`Kind::Busy`] while a KMS is asked for the key of the day, or is away; [`Kind::StorageFull`] without room for a key.
    pub fn can_seal(&self, recorder: RecorderId, received_at: Micros) -> Result<()> {
        let Some(ring) = self.inner.sealing.sealing() else { return Ok(()) };
        ring.is_prepared(self.footage_day(recorder, received_at)?.0)
    }

    /// Has the keys ready that footage needs which arrives today or tomorrow. May wait for a KMS.
    ///
    /// # Errors
    /// Those of the keys.
    pub fn prepare_keys(&self, now: Micros) -> Result<()> {
        let Some(ring) = self.inner.sealing.sealing() else { return Ok(()) };
        let policy = &self.inner.policy;
        let lives: BTreeSet<u32> = policy.departments.values().copied().chain([policy.default_days]).collect();
        for day in [0, 1].into_iter().flat_map(|later| lives.iter().map(move |days| day_of(now) + days + later)) {
            ring.prepare(day.max(self.first_open_day()))?;
        }
        Ok(())
    }

    /// By what rule the footage of a recorder is kept.
    fn rule_of(&self, recorder: RecorderId) -> Result<Rule> {
        let known = self.inner.rules.read().unwrap_or_else(PoisonError::into_inner).get(&recorder).cloned();
        if let Some(rule) = known {
            return Ok(rule);
        }
        let enrolled = self.recorder(recorder)?;
        let rule = self.inner.policy.of(enrolled.as_ref().map(|enrolled| enrolled.department.as_str()));
        if enrolled.is_some() {
            self.inner.rules.write().unwrap_or_else(PoisonError::into_inner).insert(recorder, rule.clone());
        }
        Ok(rule)
    }

    /// Makes what is known of a recorder durable, in the place of what was known before. With a revocation no commit brings
    /// a link of the recorder once this has returned.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn enrol(&self, recorder: &RecorderRecord) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Family::Recorders, keys::recorder(recorder.id), records::encode(recorder)?);
        self.with_revocation(recorder, || {
            let _writing = self.writing();
            self.inner.engine.commit(&[], &batch)?;
            self.forget_directory();
            self.inner.rules.write().unwrap_or_else(PoisonError::into_inner).remove(&recorder.id);
            Ok(())
        })
    }
}
