//! Makes links: the header that chains each to the one before it, its digest, and the signature. Pure but for the key.

use std::sync::Arc;

use bytes::Bytes;

use aigaq_proto::link::{Fix, StopCause};
use aigaq_proto::{Content, Digest, LinkHeader, Micros, Sequence, frame, link};

use super::Identity;
use super::spool::Facts;
use super::state::Place;
use crate::error::{Context, Error, Kind, Result};
use crate::media::Segment;

/// A link as it goes to the server.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// What the spool's queue goes by.
    pub(super) facts: Facts,
    pub(super) digest: Digest,
    /// Everything of the stream before the payload.
    pub(super) prelude: Bytes,
    pub(super) payload: Bytes,
}

/// Makes the links of one chain, in order.
pub(super) struct Links {
    identity: Arc<Identity>,
    place: Place,
    recording: Option<Sequence>,
}

impl Links {
    pub(super) fn new(identity: Arc<Identity>, place: Place) -> Self {
        Self { identity, place, recording: None }
    }

    /// The place of the next link.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Whether a recording has begun and not ended.
    pub(super) fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// Begins a recording.
    pub(super) fn start(&mut self, init: Bytes, codecs: String, at: Micros) -> Result<Link> {
        let link = self.make(Content::Start { codecs }, init, (at, at), Vec::new())?;
        self.recording = Some(link.facts.sequence);
        Ok(link)
    }

    /// One segment of the recording, and where it was captured.
    pub(super) fn media(&mut self, segment: Segment, at: Micros, fixes: Vec<Fix>) -> Result<Link> {
        let recording = self.recording.ok_or_else(|| Error::new(Kind::Internal, "a segment outside of a recording"))?;
        let content = Content::Media { recording, ordinal: self.place.ordinal, independent: segment.independent };
        let link = self.make(content, segment.bytes, (at, at.saturating_add(segment.duration_us)), fixes)?;
        self.place.ordinal = self.place.ordinal.saturating_add(1);
        Ok(link)
    }

    /// Ends the recording.
    pub(super) fn stop(&mut self, cause: StopCause, at: Micros) -> Result<Link> {
        let recording = self.recording.take().ok_or_else(|| Error::new(Kind::Internal, "no recording to stop"))?;
        self.make(Content::Stop { recording, cause }, Bytes::new(), (at, at), Vec::new())
    }

    fn make(&mut self, content: Content, payload: Bytes, captured: (Micros, Micros), fixes: Vec<Fix>) -> Result<Link> {
        let header = LinkHeader {
            recorder: self.identity.id,
            sequence: self.place.sequence,
            previous: self.place.previous,
            captured_at: captured.0,
            duration_us: u32::try_from(captured.1.saturating_sub(captured.0)).unwrap_or(u32::MAX),
            payload_length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            payload_digest: Digest::of(&payload),
            content,
            fixes,
        };
        let header_bytes = header.encode().context(Kind::Invalid, "a link cannot be made")?;
        let digest = link::digest(&header_bytes);
        let signature = self.identity.key.sign(&digest).context(Kind::Internal, "a link cannot be signed")?;
        let prelude =
            frame::encode_link_prelude(&header_bytes, &signature).context(Kind::Internal, "a link is too long")?;
        let sequence = self.place.sequence;
        let next = sequence.checked_add(1).ok_or_else(|| Error::new(Kind::Invalid, "the chain is full"))?;
        self.place = Place { sequence: next, previous: digest, ordinal: self.place.ordinal };
        let facts = Facts::of(&header, prelude.len());
        Ok(Link { facts, digest, prelude: prelude.into(), payload })
    }
}
