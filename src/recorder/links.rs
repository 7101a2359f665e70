//! Makes links: the header that chains each to the one before it, its digest, and the signature. Pure but for the key.
//!
//! Making a link does not move the chain on: that is [`Links::went`], once the link is durable. A link for which there was no
//! room has left no trace, and its sequence goes to the next one.

use std::sync::Arc;

use bytes::Bytes;

use aigaq_proto::link::{Fix, LossCause, StopCause};
use aigaq_proto::{Content, Digest, LinkHeader, Micros, Sequence, SequenceRange, frame, link};

use super::Identity;
use super::spool::{After, Facts};
use super::state::Place;
use crate::error::{Context, Error, Kind, Result};
use crate::media::Segment;

/// A link as it goes to the server.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// What the spool goes by.
    pub(super) facts: Facts,
    pub(super) digest: Digest,
    /// Everything of the stream before the payload.
    pub(super) prelude: Bytes,
    pub(super) payload: Bytes,
}

/// Where a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChainState {
    /// The next place.
    pub(super) place: Place,
    /// `Start` of the recording that is open.
    pub(super) recording: Option<Sequence>,
    /// Device clock at the end of the newest segment.
    pub(super) end: Micros,
    /// Whether the place is settled: false on the way back from a restore.
    pub(super) settled: bool,
}

impl ChainState {
    /// What the spool remembers with the link that brought the chain here.
    pub(super) fn after(&self) -> After {
        After { ordinal: self.place.ordinal, recording: self.recording, end: self.end, settled: self.settled }
    }
}

/// A link, and where the chain stands once it is durable.
pub(super) type Next = (Link, ChainState);

/// Makes the links of one chain, in order.
pub(super) struct Links {
    identity: Arc<Identity>,
    standing: ChainState,
}

impl Links {
    pub(super) fn new(identity: Arc<Identity>, standing: ChainState) -> Self {
        Self { identity, standing }
    }

    /// Where the chain stands.
    pub(super) fn standing(&self) -> ChainState {
        self.standing
    }

    /// A link is durable, or the chain goes on elsewhere.
    pub(super) fn went(&mut self, standing: ChainState) {
        self.standing = standing;
    }

    /// Begins a recording.
    pub(super) fn start(&self, init: Bytes, codecs: String, at: Micros) -> Result<Next> {
        let (link, standing) = self.make(Content::Start { codecs }, init, (at, at), Vec::new())?;
        let recording = Some(link.facts.sequence);
        Ok((link, ChainState { recording, end: at, ..standing }))
    }

    /// One segment of the recording.
    pub(super) fn media(&self, segment: Segment, at: Micros, fixes: Vec<Fix>) -> Result<Next> {
        let ChainState { place: Place { ordinal, .. }, recording, .. } = self.standing;
        let recording = recording.ok_or_else(|| Error::new(Kind::Internal, "a segment outside of a recording"))?;
        let content = Content::Media { recording, ordinal, independent: segment.independent };
        let end = at.saturating_add(segment.duration_us);
        let (link, mut standing) = self.make(content, segment.bytes, (at, end), fixes)?;
        standing.place.ordinal = ordinal.saturating_add(1);
        Ok((link, ChainState { end, ..standing }))
    }

    /// Ends the recording.
    pub(super) fn stop(&self, cause: StopCause, at: Micros) -> Result<Next> {
        let recording = self.standing.recording.ok_or_else(|| Error::new(Kind::Internal, "no recording to stop"))?;
        let (link, standing) = self.small(Content::Stop { recording, cause }, at)?;
        Ok((link, ChainState { recording: None, ..standing }))
    }

    /// An event at a place, as far as that is known.
    pub(super) fn mark(
        &self,
        (category, note): (String, String),
        span: (u16, u16),
        at: Micros,
        fixes: Vec<Fix>,
    ) -> Result<Next> {
        let content = Content::Mark { category, note, before_s: span.0, after_s: span.1 };
        self.make(content, Bytes::new(), (at, at), fixes)
    }

    /// The device clock jumped from `before` to `after`.
    pub(super) fn clock_step(&self, before: Micros, after: Micros) -> Result<Next> {
        self.small(Content::ClockStep { before, after }, after)
    }

    /// Links that will never come, with the time that they covered.
    pub(super) fn lost(
        &self,
        range: SequenceRange,
        span: (Micros, Micros),
        cause: LossCause,
        at: Micros,
    ) -> Result<Next> {
        let SequenceRange { first, last } = range;
        self.small(Content::Lost { first, last, from: span.0, to: span.1, cause }, at)
    }

    /// A link without payload.
    pub(super) fn small(&self, content: Content, at: Micros) -> Result<Next> {
        self.make(content, Bytes::new(), (at, at), Vec::new())
    }

    fn make(&self, content: Content, payload: Bytes, captured: (Micros, Micros), fixes: Vec<Fix>) -> Result<Next> {
        let place = self.standing.place;
        let header = LinkHeader {
            recorder: self.identity.id,
            sequence: place.sequence,
            previous: place.previous,
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
        let sequence = place.sequence.checked_add(1).ok_or_else(|| Error::new(Kind::Invalid, "the chain is full"))?;
        let place = Place { sequence, previous: digest, ..place };
        let facts = Facts::of(&header, prelude.len());
        Ok((Link { facts, digest, prelude: prelude.into(), payload }, ChainState { place, ..self.standing }))
    }
}
