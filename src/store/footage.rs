//! Reading payloads, and letting go of those whose time is over.
//!
//! A payload is hashed on every read and compared with what its header says: damage is an error, never other bytes. Expired
//! footage is gone as a whole day; its links, their digests and their places in the log stay.

use std::sync::atomic::Ordering;

use aigaq_proto::{Digest, LinkHeader};
use bytes::Bytes;

use super::engine::{Batch, Family};
use super::records::{Body, LinkRecord, QuarantineRecord};
use super::{Store, keys};
use crate::error::{Context, Error, Kind, Result};

impl Store {
    /// The payload of a link, empty where it has none.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it is missing or has not the digest of its header; [`Kind::NotFound`] if it has expired.
    pub fn body(&self, link: &LinkRecord) -> Result<Bytes> {
        let header = LinkHeader::decode(&link.header).context(Kind::Damaged, "a stored link header does not decode")?;
        self.checked(&link.body, header.payload_digest)
    }

    /// The payload of a link in quarantine, as it arrived.
    ///
    /// # Errors
    /// As [`Store::body`].
    pub fn quarantined_body(&self, link: &QuarantineRecord) -> Result<Bytes> {
        self.checked(&link.body, link.payload_digest)
    }

    fn checked(&self, body: &Body, digest: Digest) -> Result<Bytes> {
        let bytes = match body {
            Body::None => Bytes::new(),
            Body::Inline(bytes) => Bytes::copy_from_slice(bytes),
            Body::Footage(key) if key.day < self.footage_floor() => {
                return Err(Error::new(Kind::NotFound, "the footage has expired"));
            }
            Body::Footage(key) => self
                .engine()
                .body(*key)?
                .ok_or_else(|| Error::new(Kind::Damaged, "the footage of a stored link is missing"))?,
        };
        if Digest::of(&bytes) != digest {
            return Err(Error::new(Kind::Damaged, "a stored payload has not the digest of its header"));
        }
        Ok(bytes)
    }

    /// The first expiry day whose footage has not been dropped, days since the Unix epoch.
    #[must_use]
    pub fn footage_floor(&self) -> u32 {
        self.inner.footage_floor.load(Ordering::Acquire)
    }

    /// Lets go of the footage that expires before `day` (exclusive) and returns its room. The floor is durable before the
    /// first byte goes, so that what is gone is known as expired and never taken for lost.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when it could not be made durable.
    pub fn drop_days_before(&self, day: u32) -> Result<()> {
        if day > self.footage_floor() {
            let mut batch = Batch::default();
            batch.put(Family::Meta, keys::META_FOOTAGE_FLOOR, day.to_be_bytes());
            self.inner.engine.commit(&[], &batch)?;
            self.inner.footage_floor.fetch_max(day, Ordering::AcqRel);
        }
        self.inner.engine.drop_days_before(day)
    }
}
