//! Reading payloads.
//!
//! A payload is hashed on every read and compared with what its header says: damage is an error, never other bytes. What
//! was deleted by policy is told as that; its links, their digests and their places in the log stay.

use aigaq_proto::{Digest, LinkHeader};
use bytes::Bytes;

use super::Store;
use super::records::{Body, LinkRecord, QuarantineRecord};
use crate::error::{Context, Error, Kind, Result};

impl Store {
    /// The payload of a link, empty where it has none. `link` may have been read a while ago: a body that was moved since is found.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it is missing or has not the digest of its header; [`Kind::NotFound`] if it was deleted by policy.
    pub fn body(&self, link: &LinkRecord) -> Result<Bytes> {
        let header = LinkHeader::decode(&link.header).context(Kind::Damaged, "a stored link header does not decode")?;
        match self.visible(&link.body, header.payload_digest) {
            Err(error) if error.kind() == Kind::NotFound => match self.moved_since(link, &header)? {
                Some(body) => self.visible(&body, header.payload_digest),
                None => Err(error),
            },
            read => read,
        }
    }

    /// The payload of a link in quarantine, as it arrived.
    ///
    /// # Errors
    /// As [`Store::body`].
    pub fn quarantined_body(&self, link: &QuarantineRecord) -> Result<Bytes> {
        self.visible(&link.body, link.payload_digest)
    }

    fn visible(&self, body: &Body, digest: Digest) -> Result<Bytes> {
        let read = if self.is_deleted(body) { Err(deleted(body)) } else { self.read(body, digest) };
        // What was visible a moment ago may have gone since.
        read.map_err(|error| if self.is_deleted(body) { deleted(body) } else { error })
    }

    /// The payload, also where it is hidden.
    pub(super) fn read(&self, body: &Body, digest: Digest) -> Result<Bytes> {
        let bytes = match body {
            Body::None => Bytes::new(),
            Body::Inline(bytes) => Bytes::copy_from_slice(bytes),
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
}

fn deleted(body: &Body) -> Error {
    let day = if let Body::Footage(key) = body { key.day } else { 0 };
    let text = format!("the footage was deleted by policy: it was kept until the end of day {day} after 1970-01-01");
    Error::new(Kind::NotFound, text)
}
