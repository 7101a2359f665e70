//! Renders HLS media playlists (RFC 8216, and rfc8216bis for `EXT-X-GAP` and `EXT-X-DATERANGE`) of one recorder.
//!
//! The same input gives the same text. A playlist tells the truth about time: what is missing inside a recording becomes
//! gap entries of the missing length, a change of recording becomes a discontinuity, and nothing is stretched to hide it.
//!
//! Nothing here may decide what a viewer may see, or read a payload.

use std::fmt::Write as _;

use aigaq_proto::{Micros, Sequence};
use jiff::Timestamp;

/// More missing segments than this in one place become a discontinuity instead of gap entries.
pub const GAP_ENTRIES_MAX: u64 = 300;

/// A hole in a closed range that is no longer is none; the clocks of devices are not exact.
const JITTER_US: u64 = 50_000;
/// Gap entries of a closed range are no shorter than this on average: a wrong ordinal cannot make millions of them.
const GAP_US_MIN: u64 = 1_000_000;

/// The version that fragmented MP4 with `EXT-X-MAP` needs (RFC 8216 section 7).
const VERSION: u8 = 7;
/// The version that `EXT-X-GAP` needs (rfc8216bis section 8).
const VERSION_WITH_GAPS: u8 = 8;

/// One entry of a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Address of the segment, relative to the playlist.
    pub uri: String,
    /// Its length, microseconds.
    pub duration_us: u64,
    /// Device clock at its first sample.
    pub captured_at: Micros,
    /// Address of the initialisation segment of its recording.
    pub init_uri: String,
    /// Sequence of the `Start` link of its recording.
    pub recording: Sequence,
    /// Its number among the recorder's segments, as the recorder says. In a closed range it only tells how many segments
    /// a hole stands for; in a live window it is the media sequence number and must rise.
    pub ordinal: u64,
    /// Whether it begins with a key frame.
    pub independent: bool,
    /// Whether its bytes cannot be had (not here yet, or damaged): the entry keeps the timeline's length.
    pub gap: bool,
}

/// An event on the timeline, rendered as a date range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Unique within the playlist.
    pub id: String,
    /// Class of the date range, such as `aigaq.mark`.
    pub class: String,
    /// When it begins.
    pub start: Micros,
    /// How long it lasts, microseconds; 0 for a moment.
    pub duration_us: u64,
    /// Further attributes: name without its `X-`, such as `CATEGORY`, and value.
    pub attributes: Vec<(String, String)>,
}

/// What a playlist is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A closed range: complete, will never change.
    Vod,
    /// A range that still grows at its end.
    Event,
    /// A window that slides along with what arrives.
    Live {
        /// How many discontinuities have left the window since the recorder's first segment.
        discontinuities: u64,
    },
}

/// The text of a playlist, which has every one of `segments` in the order given: by time within a recording. An empty
/// list gives a valid playlist without entries.
///
/// What is missing inside a recording is filled with gap entries. In a closed range ordinals are hints: they say how many
/// segments a hole in time stands for, and where there is no hole nothing is missing. In a live window the media sequence number
/// of a segment is its ordinal; the caller vouches that ordinals rise. Where a hole cannot be filled - between recordings, or
/// for more than [`GAP_ENTRIES_MAX`] - a closed range just goes on after a discontinuity, and a live window begins after it.
#[must_use]
pub fn render(kind: Kind, segments: &[Segment], marks: &[Mark]) -> String {
    let segments = match kind {
        Kind::Live { .. } => consecutive_tail(segments),
        Kind::Vod | Kind::Event => segments,
    };
    let entries = fill(kind, segments);
    let mut text = head(kind, &entries);
    for mark in marks {
        write_mark(&mut text, mark);
    }
    let mut before: Option<&Entry<'_>> = None;
    for entry in &entries {
        write_entry(&mut text, before, entry);
        before = Some(entry);
    }
    if kind == Kind::Vod {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    text
}

/// A line of the playlist: a segment, or the place of one that is missing before it.
struct Entry<'a> {
    segment: &'a Segment,
    captured_at: Micros,
    duration_us: u64,
    missing: Option<u64>,
    /// Whether the entry before it does not lead up to it: another recording, or too much is missing.
    discontinuity: bool,
}

impl Entry<'_> {
    fn is_gap(&self) -> bool {
        self.segment.gap || self.missing.is_some()
    }

    /// Whether this entry begins where the other one ends.
    fn follows(&self, before: &Self) -> bool {
        before.captured_at.saturating_add(before.duration_us).abs_diff(self.captured_at) <= JITTER_US
    }
}

/// How much time lies between two neighbours.
fn hole_us(before: &Segment, after: &Segment) -> u64 {
    after.captured_at.saturating_sub(before.captured_at.saturating_add(before.duration_us))
}

/// How many ordinals are missing between two neighbours.
fn ordinals_between(before: &Segment, after: &Segment) -> u64 {
    after.ordinal.saturating_sub(before.ordinal).saturating_sub(1)
}

/// How many entries stand for what is missing between two neighbours.
fn missing(kind: Kind, before: &Segment, after: &Segment) -> u64 {
    let missing = ordinals_between(before, after);
    match (kind, hole_us(before, after)) {
        (Kind::Live { .. }, _) => missing,
        (_, ..=JITTER_US) => 0,
        (_, hole) => missing.min(hole.div_ceil(GAP_US_MIN)),
    }
}

fn can_fill(kind: Kind, before: &Segment, after: &Segment) -> bool {
    before.recording == after.recording && missing(kind, before, after) <= GAP_ENTRIES_MAX
}

/// The segments after the last place whose missing ordinals cannot be filled with entries.
fn consecutive_tail(segments: &[Segment]) -> &[Segment] {
    let live = Kind::Live { discontinuities: 0 };
    let broken = |pair: &[Segment]| matches!(pair, [a, b] if ordinals_between(a, b) > 0 && !can_fill(live, a, b));
    let first = segments.windows(2).rposition(broken).map_or(0, |before| before + 1);
    segments.get(first..).unwrap_or_default()
}

fn fill(kind: Kind, segments: &[Segment]) -> Vec<Entry<'_>> {
    let mut entries = Vec::with_capacity(segments.len());
    let mut before: Option<&Segment> = None;
    for segment in segments {
        let mut discontinuity = false;
        if let Some(before) = before {
            discontinuity = !can_fill(kind, before, segment);
            if !discontinuity {
                entries.extend(missing_entries(missing(kind, before, segment), before, segment));
            }
        }
        entries.push(Entry {
            segment,
            captured_at: segment.captured_at,
            duration_us: segment.duration_us,
            missing: None,
            discontinuity,
        });
        before = Some(segment);
    }
    entries
}

/// The places of what is missing between two segments of one recording, of equal length together as long as the hole.
fn missing_entries<'a>(count: u64, before: &Segment, after: &'a Segment) -> impl Iterator<Item = Entry<'a>> {
    let begin = before.captured_at.saturating_add(before.duration_us);
    let length = hole_us(before, after) / count.max(1);
    let first = before.ordinal;
    (0..count).map(move |index| Entry {
        segment: after,
        captured_at: begin.saturating_add(length.saturating_mul(index)),
        duration_us: length,
        missing: Some(first.saturating_add(1 + index)),
        discontinuity: false,
    })
}

fn head(kind: Kind, entries: &[Entry<'_>]) -> String {
    let version = if entries.iter().any(Entry::is_gap) { VERSION_WITH_GAPS } else { VERSION };
    let longest = entries.iter().map(|entry| entry.duration_us).max().unwrap_or(0);
    let target = (longest.saturating_add(500_000) / 1_000_000).max(1);
    let first = entries.first().map_or(0, |entry| entry.missing.unwrap_or(entry.segment.ordinal));
    let mut text =
        format!("#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
    match kind {
        Kind::Vod => text.push_str("#EXT-X-PLAYLIST-TYPE:VOD\n"),
        Kind::Event => text.push_str("#EXT-X-PLAYLIST-TYPE:EVENT\n"),
        Kind::Live { discontinuities } => {
            let _ = writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}");
        }
    }
    let mut present = entries.iter().filter(|entry| !entry.is_gap()).peekable();
    if present.peek().is_some() && present.all(|entry| entry.segment.independent) {
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    text
}

fn write_entry(text: &mut String, before: Option<&Entry<'_>>, entry: &Entry<'_>) {
    if entry.discontinuity {
        text.push_str("#EXT-X-DISCONTINUITY\n");
    }
    if before.is_none_or(|before| before.segment.init_uri != entry.segment.init_uri) {
        let _ = writeln!(text, "#EXT-X-MAP:URI=\"{}\"", quotable(&entry.segment.init_uri));
    }
    let leads_up = before.is_some_and(|before| entry.follows(before) && (entry.is_gap() || !before.is_gap()));
    if entry.discontinuity || !leads_up {
        let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{}", date_time(entry.captured_at));
    }
    if entry.is_gap() {
        text.push_str("#EXT-X-GAP\n");
    }
    let _ = writeln!(text, "#EXTINF:{},", seconds(entry.duration_us));
    match entry.missing {
        Some(ordinal) => {
            let _ = writeln!(text, "missing-{ordinal}.m4s");
        }
        None => {
            let _ = writeln!(text, "{}", entry.segment.uri);
        }
    }
}

fn write_mark(text: &mut String, mark: &Mark) {
    let _ = write!(
        text,
        "#EXT-X-DATERANGE:ID=\"{}\",CLASS=\"{}\",START-DATE=\"{}\",DURATION={}",
        quotable(&mark.id),
        quotable(&mark.class),
        date_time(mark.start),
        seconds(mark.duration_us)
    );
    for (name, value) in &mark.attributes {
        let name: String = name.chars().filter(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '-').collect();
        let _ = write!(text, ",X-{name}=\"{}\"", quotable(value));
    }
    text.push('\n');
}

/// What a quoted string may hold (RFC 8216 section 4.2): no quote and no line break. Marks come from devices.
fn quotable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == '"' {
                '\''
            } else if c.is_control() {
                ' '
            } else {
                c
            }
        })
        .collect()
}

/// Seconds with three decimals, or six where three would not be exact.
fn seconds(micros: u64) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    if part % 1_000 == 0 { format!("{whole}.{:03}", part / 1_000) } else { format!("{whole}.{part:06}") }
}

/// RFC 3339, UTC, milliseconds. A time beyond the calendar of the standard (year 9999) is shown as its end.
fn date_time(micros: Micros) -> String {
    let time = i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    time.unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests;
