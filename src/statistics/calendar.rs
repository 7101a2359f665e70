//! Days of a site, what they add up to, and the same day of the year before.
//!
//! A day is counted from the Unix epoch in the time zone of the site. A day of the year before is compared with the same date of this
//! one; 29 February with the 28th, since every year has that.

use std::ops::Range;

use aigaq_proto::Micros;
use jiff::civil::{Date, Weekday, date};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};

use crate::error::{Error, Kind, Result};

/// The first day.
const EPOCH: Date = date(1970, 1, 1);

/// Over how long is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bucket {
    /// Each day.
    Day,
    /// Each week, from Monday.
    Week,
    /// Each month.
    Month,
    /// Each year.
    Year,
}

impl Bucket {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The first day of what this day is counted with.
    #[must_use]
    pub fn first(self, day: u32) -> u32 {
        let civil = civil(day);
        let first = match self {
            Self::Day => civil,
            Self::Week => {
                let since = i64::from(civil.weekday().since(Weekday::Monday));
                civil.checked_sub(since.days()).unwrap_or(EPOCH)
            }
            Self::Month => civil.first_of_month(),
            Self::Year => civil.first_of_year(),
        };
        number(first)
    }

    /// How that is written: `2026-01-17`, `2026-W03`, `2026-01`, `2026`.
    #[must_use]
    pub fn label(self, day: u32) -> String {
        let civil = civil(day);
        match self {
            Self::Day => civil.to_string(),
            Self::Week => {
                let week = civil.iso_week_date();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            Self::Month => format!("{:04}-{:02}", civil.year(), civil.month()),
            Self::Year => format!("{:04}", civil.year()),
        }
    }
}

/// A day from its number; what lies beyond the year 9999 is its end.
fn civil(day: u32) -> Date {
    Span::new().try_days(i64::from(day)).and_then(|days| EPOCH.checked_add(days)).unwrap_or(Date::MAX)
}

/// The number of a day; 0 for one before 1970.
fn number(day: Date) -> u32 {
    day.since(EPOCH).ok().and_then(|span| u32::try_from(span.get_days()).ok()).unwrap_or(0)
}

/// The same date of the year after; of 29 February the 28th.
#[must_use]
pub fn year_after(day: u32) -> u32 {
    number(civil(day).checked_add(1.year()).unwrap_or(Date::MAX))
}

/// The first day whose date of the year after is not before this day.
#[must_use]
pub fn year_before(day: u32) -> u32 {
    let before = number(civil(day).checked_sub(1.year()).unwrap_or(EPOCH));
    if year_after(before) < day { before + 1 } else { before }
}

/// Days of a site, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    /// The first.
    pub from: u32,
    /// The one after the last.
    pub to: u32,
}

impl Days {
    /// Whether a day is one of them.
    #[must_use]
    pub fn has(&self, day: u32) -> bool {
        (self.from..self.to).contains(&day)
    }

    /// Those of the year before that they are compared with.
    #[must_use]
    pub fn before(&self) -> Self {
        Self { from: year_before(self.from), to: year_before(self.to) }
    }

    /// When they begin and end.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for days that the time zone does not have.
    pub fn times(&self, zone: &TimeZone) -> Result<Range<Micros>> {
        Ok(begin(self.from, zone)?..begin(self.to, zone)?)
    }
}

/// When a day begins.
fn begin(day: u32, zone: &TimeZone) -> Result<Micros> {
    let wrong = || Error::new(Kind::Invalid, "there is no such day");
    let begin = civil(day).to_zoned(zone.clone()).and_then(|day| day.start_of_day()).map_err(|_| wrong())?;
    // East of Greenwich the first day begins before the epoch.
    Ok(Micros::try_from(begin.timestamp().as_microsecond()).unwrap_or(0))
}

/// The day of a moment.
#[must_use]
pub fn day_of(at: Micros, zone: &TimeZone) -> u32 {
    let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_microsecond(at).ok()).unwrap_or(Timestamp::MAX);
    number(zone.to_datetime(at).date())
}

/// Days of many moments that rise, so that the calendar is asked once for each day.
#[derive(Debug)]
pub struct Clock {
    zone: TimeZone,
    known: (Range<Micros>, u32),
}

impl Clock {
    /// In this time zone.
    #[must_use]
    pub fn new(zone: TimeZone) -> Self {
        Self { zone, known: (0..0, 0) }
    }

    /// The day of a moment.
    pub fn day(&mut self, at: Micros) -> u32 {
        if !self.known.0.contains(&at) {
            let day = day_of(at, &self.zone);
            let times = Days { from: day, to: day.saturating_add(1) }.times(&self.zone);
            self.known = (times.unwrap_or(0..0), day);
        }
        self.known.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(year: i16, month: i8, day: i8) -> u32 {
        number(date(year, month, day))
    }

    #[test]
    fn a_day_is_counted_with_its_week_month_and_year() {
        let of = day(2026, 1, 17);
        assert_eq!(Bucket::Day.label(of), "2026-01-17");
        assert_eq!((Bucket::Week.first(of), Bucket::Week.label(of)), (day(2026, 1, 12), "2026-W03".to_owned()));
        assert_eq!((Bucket::Month.first(of), Bucket::Month.label(of)), (day(2026, 1, 1), "2026-01".to_owned()));
        assert_eq!((Bucket::Year.first(of), Bucket::Year.label(of)), (day(2026, 1, 1), "2026".to_owned()));
        assert_eq!(Bucket::Week.label(day(2027, 1, 1)), "2026-W53", "a week belongs to the year of its Thursday");
    }

    #[test]
    fn the_year_before_has_the_same_dates_and_every_day_of_it_is_compared_once() {
        let january = Days { from: day(2026, 1, 1), to: day(2026, 2, 1) };
        assert_eq!(january.before(), Days { from: day(2025, 1, 1), to: day(2025, 2, 1) });
        // Leap days on either side.
        let february = Days { from: day(2025, 2, 1), to: day(2025, 3, 1) };
        assert_eq!(february.before(), Days { from: day(2024, 2, 1), to: day(2024, 3, 1) });
        let leap = Days { from: day(2024, 2, 1), to: day(2024, 3, 1) };
        assert_eq!(leap.before(), Days { from: day(2023, 2, 1), to: day(2023, 3, 1) });
        let only = Days { from: day(2024, 2, 29), to: day(2024, 3, 1) };
        assert_eq!(only.before(), Days { from: day(2023, 3, 1), to: day(2023, 3, 1) }, "there was none");
        for to in day(2023, 1, 1)..day(2027, 1, 1) {
            let days = Days { from: to - 1, to };
            for before in days.from - 370..days.to - 360 {
                assert_eq!(days.before().has(before), days.has(year_after(before)), "{days:?} {before}");
            }
        }
    }

    #[test]
    fn a_day_is_that_of_the_site_and_every_moment_has_one() {
        for zone in ["UTC", "Asia/Almaty", "Europe/Berlin", "America/Sao_Paulo"] {
            let zone = TimeZone::get(zone).unwrap();
            let mut clock = Clock::new(zone.clone());
            for of in [day(2018, 11, 4), day(2026, 1, 17), day(2026, 3, 29), day(2026, 10, 25)] {
                let times = Days { from: of, to: of + 1 }.times(&zone).unwrap();
                for at in [times.start, times.start + 1, times.end - 1] {
                    assert_eq!((day_of(at, &zone), clock.day(at)), (of, of), "{at}");
                }
                assert_eq!((day_of(times.end, &zone), clock.day(times.end)), (of + 1, of + 1));
                assert_eq!(day_of(times.start - 1, &zone), of - 1);
            }
        }
        assert!(day_of(u64::MAX, &TimeZone::UTC) > day(9999, 12, 1), "the clock of a device may say anything");
    }
}
