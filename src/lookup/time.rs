//! Times and ranges of times, as the API writes them: RFC 3339 in UTC, half-open `[from, to)`, at microseconds.
//!
//! What is written is read back as the same time. Never a local time, never a rounded bound.

use jiff::civil::{Date, date};
use jiff::{Span, Timestamp};

use aigaq_proto::Micros;

use crate::error::{Error, Kind, Result};

/// Longest text that is tried, bytes: `2026-01-17T09:14:02.000000000Z` has 30.
const TEXT_BYTES_MAX: usize = 35;
/// The first day.
const EPOCH: Date = date(1970, 1, 1);
/// One day, microseconds.
pub const DAY_US: Micros = 86_400_000_000;

/// Reads a time such as `2026-01-17T09:14:02Z` or `2026-01-17T09:14:02.000001Z`.
///
/// # Errors
/// [`Kind::Invalid`] for anything else, for a time before 1970 and for one that is finer than a microsecond.
pub fn parse(name: &'static str, text: &str) -> Result<Micros> {
    let wrong = |what: &str| Error::new(Kind::Invalid, format!("{name} {what}, such as 2026-01-17T09:14:02.000001Z"));
    let shaped = text.len() <= TEXT_BYTES_MAX && text.as_bytes().get(10) == Some(&b'T') && text.ends_with('Z');
    if !shaped {
        return Err(wrong("must be an RFC 3339 time in UTC"));
    }
    let time: Timestamp = text.parse().map_err(|_| wrong("must be an RFC 3339 time in UTC"))?;
    if time.subsec_nanosecond() % 1_000 != 0 {
        return Err(wrong("must not be finer than a microsecond"));
    }
    Micros::try_from(time.as_microsecond()).map_err(|_| wrong("must not be before 1970"))
}

/// Writes a time. A clock of a device may say anything: what lies beyond the year 9999 is written as its end.
#[must_use]
pub fn format(at: Micros) -> String {
    let time = i64::try_from(at).ok().and_then(|at| Timestamp::from_microsecond(at).ok()).unwrap_or(Timestamp::MAX);
    format!("{time:.6}")
}

/// Reads a day such as `2026-01-17`, as days since the Unix epoch.
///
/// # Errors
/// [`Kind::Invalid`] for anything else, and for a day before 1970.
pub fn parse_day(text: &str) -> Result<u32> {
    let wrong = || Error::new(Kind::Invalid, "day must be a day from 1970 on, such as 2026-01-17");
    let shaped = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let day: Date = if shaped { text.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
    let days = day.since(EPOCH).map_err(|_| wrong())?.get_days();
    u32::try_from(days).map_err(|_| wrong())
}

/// Writes a day; what lies beyond the year 9999 is written as its end.
#[must_use]
pub fn format_day(day: u32) -> String {
    let days = Span::new().try_days(i64::from(day));
    days.and_then(|days| EPOCH.checked_add(days)).unwrap_or(Date::MAX).to_string()
}

/// A range of times, `from` below `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// Beginning.
    pub from: Micros,
    /// End, exclusive.
    pub to: Micros,
}

impl TimeRange {
    /// Reads both bounds.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a bound that is no time, a range that is empty or reversed, and one longer than
    /// `days_max`.
    pub fn parse(from: &str, to: &str, days_max: u64) -> Result<Self> {
        let range = Self { from: parse("from", from)?, to: parse("to", to)? };
        if range.from >= range.to {
            return Err(Error::new(Kind::Invalid, "the range is empty: from must be before to"));
        }
        if range.to - range.from > days_max.saturating_mul(DAY_US) {
            return Err(Error::new(Kind::Invalid, format!("the range is longer than {days_max} days")));
        }
        Ok(range)
    }

    /// Whether a span of this length from `at` on has a part in the range; an event (length 0) counts as a point.
    #[must_use]
    pub fn touches(&self, at: Micros, duration_us: u32) -> bool {
        at < self.to && (at >= self.from || at.saturating_add(u64::from(duration_us)) > self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_that_is_written_is_read_back() {
        for day in [0, 1, 19_782, 20_470, 2_932_896] {
            assert_eq!(parse_day(&format_day(day)).unwrap(), day, "{}", format_day(day));
        }
        assert_eq!(format_day(20_470), "2026-01-17");
        assert_eq!(format_day(u32::MAX), "9999-12-31");
        for wrong in ["", "1969-12-31", "2026-1-17", "2026-02-30", "20260117", "2026-01-17Z"] {
            assert!(parse_day(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for at in [0, 1, 1_768_641_242_000_001, 253_402_207_199_999_999] {
            assert_eq!(parse("from", &format(at)).unwrap(), at, "{}", format(at));
        }
        assert_eq!(format(1_768_641_242_000_000), "2026-01-17T09:14:02.000000Z");
        assert!(format(u64::MAX).starts_with("9999-"));
    }

    #[test]
    fn what_is_no_utc_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-01-17",
            "2026-01-17 09:14:02Z",
            "2026-01-17T09:14:02",
            "2026-01-17T09:14:02+05:00",
            "2026-13-17T09:14:02Z",
            "2026-01-17T25:14:02Z",
            "1969-12-31T23:59:59Z",
            "2026-01-17T09:14:02.0000001Z",
            "2026-01-17T09:14:02Z[Asia/Almaty]",
            "99999-01-17T09:14:02Z",
        ] {
            assert_eq!(parse("from", text).unwrap_err().kind(), Kind::Invalid, "{text}");
        }
    }

    #[test]
    fn a_range_is_half_open() {
        let range = TimeRange { from: 100, to: 200 };
        assert!(range.touches(100, 0) && range.touches(199, 0) && range.touches(50, 51));
        assert!(!range.touches(200, 10) && !range.touches(50, 50) && !range.touches(99, 0));
    }
}
