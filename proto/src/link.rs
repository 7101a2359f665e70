//! A link: one signed entry of a recorder's chain (SPEC.md section 4).
//!
//! A link header stands alone: its digest covers everything it says, its payload's digest included, so that it can be
//! accepted before its predecessors arrive. The digest is taken over the header bytes as they were received; the decoder
//! refuses any but the canonical encoding.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::limits::{
    BATTERY_PERCENT_MAX, CATEGORY_BYTES_MAX, CODECS_BYTES_MAX, COURSE_CDEG_MAX, DURATION_US_MAX, FIX_OFFSET_MS_MAX,
    FIXES_MAX, HEADER_BYTES_MAX, INIT_BYTES_MAX, LATITUDE_E7_MAX, LONGITUDE_E7_MAX, PAYLOAD_BYTES_MAX, SEQUENCE_MAX,
    TEXT_BYTES_MAX, TIME_US_MAX,
};
use crate::{Digest, Error, Micros, RecorderId, Sequence, wire};

/// What is hashed before the header bytes to make a link digest.
pub const DIGEST_DOMAIN: &[u8] = b"aigaq/1 link\n";

/// The header of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkHeader {
    /// Whose chain this is; equal to the identity of the connection that brings it.
    pub recorder: RecorderId,
    /// Position in the chain.
    pub sequence: Sequence,
    /// Digest of the link with the previous sequence; [`Digest::ZERO`] for sequence 0.
    pub previous: Digest,
    /// Device clock at the first sample or at the event.
    pub captured_at: Micros,
    /// Length of the time span that the link covers, microseconds; 0 for everything but `Media`.
    pub duration_us: u32,
    /// Length of the payload, bytes.
    pub payload_length: u32,
    /// SHA-256 of the payload; of the empty string where there is none.
    pub payload_digest: Digest,
    /// What the link states.
    pub content: Content,
    /// Where the recorder was during the span, oldest first; none later than its end.
    pub fixes: Vec<Fix>,
}

/// The kind of a link with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// A recording begins. The payload is its initialisation segment (`ftyp` and `moov`).
    Start {
        /// RFC 6381 codecs of the tracks, comma-separated: printable ASCII without the double quote, so that it can stand
        /// in a playlist. Empty if not known.
        codecs: String,
    },
    /// One media segment. The payload is one or more whole fragments (`moof` and `mdat`).
    Media {
        /// Sequence of the `Start` link of this recording.
        recording: Sequence,
        /// Number of `Media` links of this recorder before this one; players need consecutive numbers. Below the
        /// sequence, because at least one `Start` comes before.
        ordinal: u64,
        /// Whether the segment begins with a key frame.
        independent: bool,
    },
    /// An event. No payload.
    Mark {
        /// Category of the event, not empty, no characters that control how it is shown; a server accepts those it does
        /// not know.
        category: String,
        /// Free text.
        note: String,
        /// How much before `captured_at` belongs to the event, seconds.
        before_s: u16,
        /// How much after `captured_at` belongs to the event, seconds.
        after_s: u16,
    },
    /// The state of the device. No payload.
    Health {
        /// Battery charge, percent.
        battery_percent: u8,
        /// Free space for recordings, bytes.
        storage_free_bytes: u64,
        /// Recorded but not yet receipted, bytes.
        backlog_bytes: u64,
        /// Temperature, hundredths of a degree Celsius.
        temperature_centi: i16,
        /// Firmware version.
        firmware: String,
    },
    /// A recording ends. No payload.
    Stop {
        /// Sequence of the `Start` link of this recording.
        recording: Sequence,
        /// Why it ended.
        cause: StopCause,
    },
    /// The device clock was set. No payload.
    ClockStep {
        /// What the clock said just before the step.
        before: Micros,
        /// What it said just after.
        after: Micros,
    },
    /// Links of this chain that were made, or may have been, and will never come. No payload.
    Lost {
        /// The first sequence that is lost.
        first: Sequence,
        /// The last, below the sequence of this link.
        last: Sequence,
        /// Device clock at the beginning of what they covered.
        from: Micros,
        /// Device clock at its end, not before `from`.
        to: Micros,
        /// Why they are lost.
        cause: LossCause,
    },
}

/// Why links were lost on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossCause {
    /// No room was left, and newer footage took theirs.
    StorageFull,
    /// They could not be read back from the device's storage, or are gone from it.
    StorageFault,
    /// The device's state was lost or put back to an older one; its links since then are gone.
    Restored,
}

/// Why a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopCause {
    /// The wearer switched it off.
    Wearer,
    /// The battery ran out.
    Battery,
    /// No room was left for recordings.
    StorageFull,
    /// The device was shut down.
    Shutdown,
    /// The device failed.
    Fault,
    /// A schedule ended it.
    Schedule,
    /// The source of the footage ended, such as a file that was read to its end.
    SourceEnded,
}

/// A position during a link's span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fix {
    /// Time since the link's `captured_at`, milliseconds; not before the fix that precedes it.
    pub offset_ms: u32,
    /// Latitude, ten-millionths of a degree, WGS 84.
    pub latitude_e7: i32,
    /// Longitude, ten-millionths of a degree, WGS 84.
    pub longitude_e7: i32,
    /// Radius of 68 % confidence, decimetres; 65535 if not known or more.
    pub accuracy_dm: u16,
    /// Speed over ground, centimetres per second; 65535 if not known or more.
    pub speed_cms: u16,
    /// Course over ground, hundredths of a degree from true north; 65535 if not known.
    pub course_cdeg: u16,
}

/// The digest of the link whose header has these bytes.
#[must_use]
pub fn digest(header_bytes: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(DIGEST_DOMAIN);
    hasher.update(header_bytes);
    Digest(hasher.finalize().into())
}

fn within(field: &'static str, limit: u64, actual: u64) -> Result<(), Error> {
    if actual > limit { Err(Error::OverLimit { field, limit, actual }) } else { Ok(()) }
}

impl LinkHeader {
    /// The canonical encoding.
    ///
    /// # Errors
    /// [`Error::OverLimit`] for a field beyond its limit.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        self.check_limits()?;
        let bytes = wire::encode(self, "link header")?;
        within("header bytes", HEADER_BYTES_MAX as u64, bytes.len() as u64)?;
        Ok(bytes)
    }

    /// Reads a header from its canonical encoding.
    ///
    /// # Errors
    /// Whatever [`wire::decode`] finds, and [`Error::OverLimit`], [`Error::Mismatch`] or [`Error::Malformed`] for fields
    /// that SPEC.md section 4 does not allow; [`Error::OverLimit`] of `payload_length` only if nothing else is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        within("header bytes", HEADER_BYTES_MAX as u64, bytes.len() as u64)?;
        let header: Self = wire::decode(bytes, "link header")?;
        header.check_limits()?;
        Ok(header)
    }

    /// The sequence in a header that decodes, also where [`LinkHeader::decode`] refuses it for what it says.
    #[must_use]
    pub fn sequence_of(bytes: &[u8]) -> Option<Sequence> {
        let header: Self = wire::decode(bytes, "link header").ok()?;
        (bytes.len() <= HEADER_BYTES_MAX && header.sequence <= SEQUENCE_MAX).then_some(header.sequence)
    }

    /// Whether the payload belongs in footage (`Media`); all others are small and live in the ledger.
    #[must_use]
    pub fn is_media(&self) -> bool {
        matches!(self.content, Content::Media { .. })
    }

    fn check_limits(&self) -> Result<(), Error> {
        within("sequence", SEQUENCE_MAX, self.sequence)?;
        within("captured_at", TIME_US_MAX, self.captured_at)?;
        self.check_span()?;
        if (self.sequence == 0) != (self.previous == Digest::ZERO) {
            return Err(Error::Mismatch("previous digest and sequence 0"));
        }
        let has_payload = matches!(self.content, Content::Start { .. } | Content::Media { .. });
        if has_payload != (self.payload_length > 0) {
            return Err(Error::Mismatch("payload and content"));
        }
        if !has_payload && self.payload_digest != Digest::EMPTY {
            return Err(Error::Mismatch("payload digest and empty payload"));
        }
        self.content.check_limits(self.sequence)?;
        check_fixes(&self.fixes)?;
        let limit = if matches!(self.content, Content::Start { .. }) { INIT_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
        within("payload_length", u64::from(limit), u64::from(self.payload_length))
    }

    fn check_span(&self) -> Result<(), Error> {
        within("duration_us", u64::from(DURATION_US_MAX), u64::from(self.duration_us))?;
        if self.duration_us > 0 && !self.is_media() {
            return Err(Error::Mismatch("duration and content"));
        }
        within("end of the span", TIME_US_MAX, self.captured_at.saturating_add(u64::from(self.duration_us)))
    }
}

impl Content {
    fn check_limits(&self, sequence: Sequence) -> Result<(), Error> {
        match self {
            Self::Start { codecs } => {
                within("codecs", CODECS_BYTES_MAX as u64, codecs.len() as u64)?;
                let printable = codecs.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"');
                if printable { Ok(()) } else { Err(Error::Malformed("codecs")) }
            }
            Self::Media { recording, ordinal, .. } => {
                before("recording and sequence", *recording, sequence)?;
                before("ordinal and sequence", *ordinal, sequence)
            }
            Self::Stop { recording, .. } => before("recording and sequence", *recording, sequence),
            Self::Mark { category, note, .. } => {
                within("category", CATEGORY_BYTES_MAX as u64, category.len() as u64)?;
                within("note", TEXT_BYTES_MAX as u64, note.len() as u64)?;
                let sound = !category.is_empty() && !category.chars().any(controls);
                if sound { Ok(()) } else { Err(Error::Malformed("category")) }
            }
            Self::Health { battery_percent, firmware, .. } => {
                within("battery_percent", u64::from(BATTERY_PERCENT_MAX), u64::from(*battery_percent))?;
                within("firmware", TEXT_BYTES_MAX as u64, firmware.len() as u64)
            }
            Self::ClockStep { before, after } => {
                within("before", TIME_US_MAX, *before)?;
                within("after", TIME_US_MAX, *after)
            }
            Self::Lost { first, last, from, to, .. } => {
                before("last lost and sequence", *last, sequence)?;
                within("to", TIME_US_MAX, *to)?;
                if first <= last && from <= to { Ok(()) } else { Err(Error::Malformed("lost range")) }
            }
        }
    }
}

/// Whether a character controls how a text is shown: of category Cc, one that embeds, overrides or isolates a direction of
/// writing, or one that separates lines or paragraphs.
#[must_use]
pub fn controls(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn before(what: &'static str, earlier: u64, sequence: Sequence) -> Result<(), Error> {
    if earlier < sequence { Ok(()) } else { Err(Error::Mismatch(what)) }
}

fn check_fixes(fixes: &[Fix]) -> Result<(), Error> {
    within("fixes", FIXES_MAX as u64, fixes.len() as u64)?;
    for fix in fixes {
        within("offset_ms", u64::from(FIX_OFFSET_MS_MAX), u64::from(fix.offset_ms))?;
        within("latitude_e7", u64::from(LATITUDE_E7_MAX), u64::from(fix.latitude_e7.unsigned_abs()))?;
        within("longitude_e7", u64::from(LONGITUDE_E7_MAX), u64::from(fix.longitude_e7.unsigned_abs()))?;
        if fix.course_cdeg != u16::MAX {
            within("course_cdeg", u64::from(COURSE_CDEG_MAX), u64::from(fix.course_cdeg))?;
        }
    }
    if fixes.is_sorted_by_key(|fix| fix.offset_ms) { Ok(()) } else { Err(Error::Malformed("order of fixes")) }
}
