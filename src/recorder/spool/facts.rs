//! What is known of a link without reading it.

use aigaq_proto::{Content, LinkHeader, Micros, Sequence};

/// What a link states, as far as the spool cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::recorder) enum LinkKind {
    Start,
    Media,
    Mark,
    Health,
    Stop,
    ClockStep,
    Lost,
}

impl LinkKind {
    /// The kind of a link that states this.
    pub(in crate::recorder) fn of(content: &Content) -> Self {
        match content {
            Content::Start { .. } => Self::Start,
            Content::Media { .. } => Self::Media,
            Content::Mark { .. } => Self::Mark,
            Content::Health { .. } => Self::Health,
            Content::Stop { .. } => Self::Stop,
            Content::ClockStep { .. } => Self::ClockStep,
            Content::Lost { .. } => Self::Lost,
        }
    }
}

/// What is known of a link without reading it. 32 bytes, since there is one in memory for each link that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::recorder) struct Facts {
    /// Its place in the chain.
    pub(in crate::recorder) sequence: Sequence,
    /// Device clock at its beginning.
    pub(in crate::recorder) begin: Micros,
    /// Of a segment its length, microseconds; of a mark the seconds before it (upper 16 bits) and after it.
    pub(super) span: u32,
    /// Its payload, bytes.
    pub(in crate::recorder) bytes: u32,
    /// What its stream has before the payload, bytes.
    pub(super) prelude: u16,
    /// What it states.
    pub(in crate::recorder) kind: LinkKind,
}

impl Facts {
    /// The facts of a link with this header, of which `prelude` bytes come before the payload.
    pub(in crate::recorder) fn of(header: &LinkHeader, prelude: usize) -> Self {
        let span = match header.content {
            Content::Mark { before_s, after_s, .. } => u32::from(before_s) << 16 | u32::from(after_s),
            _ => header.duration_us,
        };
        Self {
            sequence: header.sequence,
            begin: header.captured_at,
            span,
            bytes: header.payload_length,
            prelude: u16::try_from(prelude).unwrap_or(u16::MAX),
            kind: LinkKind::of(&header.content),
        }
    }

    /// Device clock at the end of what it covers.
    pub(in crate::recorder) fn end(&self) -> Micros {
        match self.kind {
            LinkKind::Media => self.begin.saturating_add(u64::from(self.span)),
            _ => self.begin,
        }
    }

    /// Of a mark, the time that belongs to its event.
    pub(in crate::recorder) fn event(&self) -> Option<(Micros, Micros)> {
        let seconds = |count: u32| u64::from(count).saturating_mul(1_000_000);
        (self.kind == LinkKind::Mark).then(|| {
            let (before, after) = (seconds(self.span >> 16), seconds(self.span & 0xffff));
            (self.begin.saturating_sub(before), self.begin.saturating_add(after))
        })
    }

    /// Whether it goes before everything else: a mark or a stop.
    pub(in crate::recorder) fn urgent(&self) -> bool {
        matches!(self.kind, LinkKind::Mark | LinkKind::Stop)
    }
}
