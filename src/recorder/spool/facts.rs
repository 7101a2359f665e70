//! What is known of a link without reading it, and the name that its file gets from that.
//!
//! The name carries everything that order, requests and room need, so that a spool of many gigabytes opens by listing a
//! directory. It is a hint for all but the sequence: what goes to the server comes out of the file and is verified.
//!
//! ```text
//! 00000000000002a6-000648a1b3c2d400-001e8480-00080000-00f7-m
//! sequence         begin            span     payload  prelude, kind     (hexadecimal)
//! ```

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
    const LETTERS: [(Self, &'static str); 7] = [
        (Self::Start, "s"),
        (Self::Media, "m"),
        (Self::Mark, "k"),
        (Self::Health, "h"),
        (Self::Stop, "p"),
        (Self::ClockStep, "c"),
        (Self::Lost, "l"),
    ];

    fn letter(self) -> &'static str {
        Self::LETTERS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, letter)| letter)
    }

    fn of_letter(letter: &str) -> Option<Self> {
        Self::LETTERS.iter().find(|(_, known)| *known == letter).map(|(kind, _)| *kind)
    }

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

    /// The name of its file.
    pub(super) fn file_name(&self) -> String {
        let Self { sequence, begin, span, bytes, prelude, kind } = self;
        format!("{sequence:016x}-{begin:016x}-{span:08x}-{bytes:08x}-{prelude:04x}-{}", kind.letter())
    }

    /// Reads a name; `None` if it is none that [`Facts::file_name`] gives.
    pub(super) fn of_file_name(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            u64::from_str_radix(part, 16).ok()
        };
        let (sequence, begin) = (hex(16)?, hex(16)?);
        let (span, bytes, prelude) = (hex(8)?, hex(8)?, hex(4)?);
        let kind = LinkKind::of_letter(parts.next()?)?;
        let (span, bytes) = (u32::try_from(span).ok()?, u32::try_from(bytes).ok()?);
        let facts = Self { sequence, begin, span, bytes, prelude: u16::try_from(prelude).ok()?, kind };
        (facts.file_name() == name).then_some(facts)
    }
}
