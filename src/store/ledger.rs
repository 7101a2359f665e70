//! Reading the small things: heads, links, forks, quarantine, timeline, recorders and the rows of the log.
//!
//! Every scan sees the store as of one moment. A value that does not decode is [`Kind::Damaged`]; nothing here repairs or skips.

use std::ops::Range;

use aigaq_proto::{Digest, Micros, RecorderId, Sequence};

use super::commit::item_bytes;
use super::engine::{Direction, Entry, Family};
use super::records::{self, HeadRecord, LinkRecord, QuarantineRecord, RecorderRecord, TimelineRecord};
use super::{Store, TILE_ITEMS, keys};
use crate::error::{Error, Kind, Result};

/// A link's place in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEntry {
    /// Device clock at its first sample or at the event.
    pub captured_at: Micros,
    /// Its place in the chain.
    pub sequence: Sequence,
    /// What it is.
    pub record: TimelineRecord,
}

/// The other side of a fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkEntry {
    /// The sequence that both sides claim.
    pub sequence: Sequence,
    /// Its digest.
    pub digest: Digest,
    /// The link.
    pub record: LinkRecord,
}

/// A link in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineEntry {
    /// The commit that stored it.
    pub commit: u64,
    /// Its place among the quarantined links of that commit.
    pub index: u32,
    /// The link as it came, and why it is here.
    pub record: QuarantineRecord,
}

impl Store {
    pub(super) fn scan(
        &self,
        family: Family,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Entry>> + '_> {
        if range.is_empty() { Box::new(std::iter::empty()) } else { self.engine().scan(family, range, direction) }
    }

    /// The state of a recorder's chain; none before its first link.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn head(&self, recorder: RecorderId) -> Result<Option<HeadRecord>> {
        let value = self.engine().get(Family::Heads, &keys::recorder(recorder))?;
        value.map(|value| records::decode(&value, "heads")).transpose()
    }

    /// Every recorder that has sent something, with the state of its chain.
    pub fn heads(&self) -> impl Iterator<Item = Result<(RecorderId, HeadRecord)>> + '_ {
        self.scan(Family::Heads, keys::everything(), Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            Ok((keys::read_recorder(&key)?, records::decode(&value, "heads")?))
        })
    }

    /// One link of a chain.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn link(&self, recorder: RecorderId, sequence: Sequence) -> Result<Option<LinkRecord>> {
        let value = self.engine().get(Family::Links, &keys::link(recorder, sequence))?;
        value.map(|value| records::decode(&value, "links")).transpose()
    }

    /// The links of a chain with sequences in the half-open range, in order; missing ones are passed over.
    pub fn links(
        &self,
        recorder: RecorderId,
        sequences: Range<Sequence>,
    ) -> impl Iterator<Item = Result<(Sequence, LinkRecord)>> + '_ {
        let range = keys::link(recorder, sequences.start).into()..keys::link(recorder, sequences.end).into();
        self.scan(Family::Links, range, Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            Ok((keys::read_link(&key)?.1, records::decode(&value, "links")?))
        })
    }

    /// The other side of a fork, by its digest.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn fork(&self, recorder: RecorderId, sequence: Sequence, digest: Digest) -> Result<Option<LinkRecord>> {
        let value = self.engine().get(Family::Forks, &keys::fork(recorder, sequence, digest))?;
        value.map(|value| records::decode(&value, "forks")).transpose()
    }

    /// Every other side of a fork of a recorder, by sequence.
    pub fn forks(&self, recorder: RecorderId) -> impl Iterator<Item = Result<ForkEntry>> + '_ {
        self.scan(Family::Forks, keys::all_under(&recorder.0), Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            let (_, sequence, digest) = keys::read_fork(&key)?;
            Ok(ForkEntry { sequence, digest, record: records::decode(&value, "forks")? })
        })
    }

    /// A link in quarantine, by the commit that stored it and its place therein.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn quarantined(&self, recorder: RecorderId, commit: u64, index: u32) -> Result<Option<QuarantineRecord>> {
        let value = self.engine().get(Family::Quarantine, &keys::quarantine(recorder, commit, index))?;
        value.map(|value| records::decode(&value, "quarantine")).transpose()
    }

    /// A recorder's links in quarantine, in order of arrival.
    pub fn quarantine(&self, recorder: RecorderId) -> impl Iterator<Item = Result<QuarantineEntry>> + '_ {
        self.scan(Family::Quarantine, keys::all_under(&recorder.0), Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            let (_, commit, index) = keys::read_quarantine(&key)?;
            Ok(QuarantineEntry { commit, index, record: records::decode(&value, "quarantine")? })
        })
    }

    /// The links of a recorder that begin in the half-open range of device time. A link that begins before the range may
    /// reach into it, by at most `DURATION_US_MAX`.
    pub fn timeline(
        &self,
        recorder: RecorderId,
        captured: Range<Micros>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<TimelineEntry>> + '_ {
        let range =
            keys::timeline(recorder, captured.start, 0).into()..keys::timeline(recorder, captured.end, 0).into();
        self.scan(Family::Timeline, range, direction).map(|entry| {
            let (key, value) = entry?;
            let (_, captured_at, sequence) = keys::read_timeline(&key)?;
            Ok(TimelineEntry { captured_at, sequence, record: records::decode(&value, "timeline")? })
        })
    }

    /// An enrolled recorder.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn recorder(&self, recorder: RecorderId) -> Result<Option<RecorderRecord>> {
        let value = self.engine().get(Family::Recorders, &keys::recorder(recorder))?;
        value.map(|value| records::decode(&value, "recorders")).transpose()
    }

    /// Every enrolled recorder, by identity.
    pub fn recorders(&self) -> impl Iterator<Item = Result<RecorderRecord>> + '_ {
        self.scan(Family::Recorders, keys::everything(), Direction::Forward)
            .map(|entry| records::decode(&entry?.1, "recorders"))
    }

    /// Size of the log's tree after the last commit.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn log_size(&self) -> Result<u64> {
        let value = self.engine().get(Family::Meta, keys::META_LOG_SIZE)?;
        value.map_or(Ok(0), |value| keys::read_u64(&value, "meta"))
    }

    /// The items of a level of the log with these indexes, one after another.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if the stored rows do not cover the range exactly.
    pub fn log_rows(&self, level: u8, indexes: Range<u64>) -> Result<Vec<u8>> {
        if indexes.is_empty() {
            return Ok(Vec::new());
        }
        let damaged = |at: u64| Error::new(Kind::Damaged, format!("the log lacks item {at} of level {level}"));
        let from = indexes.start - indexes.start % TILE_ITEMS;
        let range = keys::tile(level, from).into()..keys::tile(level, indexes.end).into();
        let mut items = Vec::new();
        let mut next = from;
        for entry in self.scan(Family::Tiles, range, Direction::Forward) {
            let (key, value) = entry?;
            let (_, first) = keys::read_tile(&key)?;
            if first != next || value.len() % item_bytes(level) != 0 {
                return Err(damaged(next));
            }
            next += (value.len() / item_bytes(level)) as u64;
            items.extend_from_slice(&value);
        }
        let bytes = |count: u64| usize::try_from(count).ok()?.checked_mul(item_bytes(level));
        let wanted = bytes(indexes.start - from).zip(bytes(indexes.end - from));
        wanted.and_then(|(start, end)| items.get(start..end)).map(<[u8]>::to_vec).ok_or_else(|| damaged(next))
    }
}
