//! Reading payloads.
//!
//! A sealed payload is opened, and every payload is hashed on every read and compared with what its header says: damage is an error, never other bytes. What
//! was deleted by policy is told as that; its links, their digests and their places in the log stay.

use aigaq_proto::{Digest, LinkHeader, RecorderId};
use bytes::Bytes;

use super::Store;
use super::records::{Body, LinkRecord, QuarantineRecord};
use crate::error::{Context, Error, Kind, Result};

impl Store {
    /// The payload of a link, empty where it has none. `link` may have been read a while ago: a body that was moved since is found.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it is missing, has lost its key or has not the digest of its header; [`Kind::NotFound`] if it was deleted by
    /// policy or destroyed with its key; [`Kind::Busy`] while a KMS does not give its key.
    pub fn body(&self, link: &LinkRecord) -> Result<Bytes> {
        let header = LinkHeader::decode(&link.header).context(Kind::Damaged, "a stored link header does not decode")?;
        let visible = |body: &Body| self.visible(header.recorder, body, header.payload_digest);
        match visible(&link.body) {
            Err(error) if error.kind() == Kind::NotFound => match self.moved_since(link, &header)? {
                Some(body) => visible(&body),
                None => Err(error),
            },
            read => read,
        }
    }

    /// The payload of a link in quarantine, as it arrived.
    ///
    /// # Errors
    /// As [`Store::body`].
    pub fn quarantined_body(&self, recorder: RecorderId, link: &QuarantineRecord) -> Result<Bytes> {
        self.visible(recorder, &link.body, link.payload_digest)
    }

    fn visible(&self, recorder: RecorderId, body: &Body, digest: Digest) -> Result<Bytes> {
        let gone = || self.is_deleted(recorder, body);
        let read = if gone() { Err(self.deleted(recorder, body)) } else { self.read(recorder, body, digest) };
        // What was visible a moment ago may have gone since.
        read.map_err(|error| if gone() { self.deleted(recorder, body) } else { error })
    }

    /// What became of a payload that was deleted.
    fn deleted(&self, recorder: RecorderId, body: &Body) -> Error {
        let day = body.place().map_or(0, |key| key.day);
        let text = match self.destruction(day, recorder) {
            Ok(Some(done)) if self.is_destroyed(recorder, body) => {
                format!("the footage was destroyed with its key, by {}: {}", done.act.by, done.act.reason)
            }
            _ => format!("the footage was deleted by policy: it was kept until the end of day {day} after 1970-01-01"),
        };
        Error::new(Kind::NotFound, text)
    }

    /// The payload, also where it is hidden.
    pub(super) fn read(&self, recorder: RecorderId, body: &Body, digest: Digest) -> Result<Bytes> {
        let stored = |key| {
            let missing = || Error::new(Kind::Damaged, "the footage of a stored link is missing");
            self.engine().body(key)?.ok_or_else(missing)
        };
        let bytes = match body {
            Body::None => Bytes::new(),
            Body::Inline(bytes) => Bytes::copy_from_slice(bytes),
            Body::Footage(key) => stored(*key)?,
            Body::Sealed(key) => self.open_body(recorder, *key, digest, &stored(*key)?)?,
        };
        if Digest::of(&bytes) != digest {
            return Err(Error::new(Kind::Damaged, "a stored payload has not the digest of its header"));
        }
        Ok(bytes)
    }
}
