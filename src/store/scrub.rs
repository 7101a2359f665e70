//! What the scrub asks of the store: bodies one after another, whether each is what was received, and where it stands.

use super::engine::{Batch, Direction, Family};
use super::records::{self, ExpiryRecord, Owner, ScrubRecord};
use super::{ExpiryEntry, Store, keys};
use crate::error::{Kind, Result};
use aigaq_proto::RecorderId;

/// Where a body stands in the order of a scrub. The empty place is before the first.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Place(#[serde(with = "serde_bytes")] Vec<u8>);

impl Store {
    /// The bodies after a place, by the day on which they expire, with the place of each; an entry that does not decode stands for
    /// itself, and ends nothing. Copies that nobody owns are left out.
    pub fn bodies_after(&self, place: &Place) -> impl Iterator<Item = Result<(Place, Result<ExpiryEntry>)>> + '_ {
        // The least key after one is that key and a zero byte.
        let start = if place.0.is_empty() { Vec::new() } else { [&place.0[..], &[0]].concat() };
        let range = start..keys::everything().end;
        self.scan(Family::Expiry, range, Direction::Forward).filter_map(|entry| {
            let (key, value) = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            let read = keys::read_expiry(&key).and_then(|(day, recorder, owner)| {
                let record = records::decode(&value, "expiry")?;
                Ok(ExpiryEntry { day, recorder, owner, record })
            });
            let is_copy = read.as_ref().is_ok_and(|read| matches!(read.record, ExpiryRecord::Moved { .. }));
            (!is_copy).then_some(Ok((Place(key.into()), read)))
        })
    }

    /// Whether the body of an entry has the digest that was signed for it; one that went meanwhile, or with its key,
    /// counts as whole.
    ///
    /// # Errors
    /// Those of reading, but for damage.
    pub fn is_whole(&self, entry: &ExpiryEntry) -> Result<bool> {
        let stored = self.stored(entry.recorder, entry.owner);
        if stored.as_ref().is_ok_and(|stored| self.is_destroyed(entry.recorder, stored.body())) {
            return Ok(true);
        }
        match stored.and_then(|stored| self.payload_of(entry.recorder, &stored)) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => {
                Ok(entry.day < self.dropped_floor())
            }
            Err(error) => Err(error),
        }
    }

    /// Whose body lies at a place.
    ///
    /// # Errors
    /// [`Kind::Damaged`] for a place that is none.
    pub fn owner_at(&self, place: &Place) -> Result<(RecorderId, Owner)> {
        keys::read_expiry(&place.0).map(|(_, recorder, owner)| (recorder, owner))
    }

    /// Where the scrub stands; `None` before the first.
    ///
    /// # Errors
    /// [`Kind::Damaged`].
    pub fn scrub(&self) -> Result<Option<ScrubRecord>> {
        let value = self.engine().get(Family::Meta, keys::META_SCRUB)?;
        value.map(|value| records::decode(&value, "meta")).transpose()
    }

    /// Writes down where it stands.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put_scrub(&self, scrub: &ScrubRecord) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Family::Meta, keys::META_SCRUB, records::encode(scrub)?);
        self.engine().commit(&[], &batch)
    }
}
