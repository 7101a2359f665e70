//! What is asked: of which days, of what, added up by what; and its one canonical form.
//!
//! The canonical form is a query string (RFC 3986) with its parameters by name, lists sorted, everything said that has a default: equal
//! questions are equal bytes, and it can be asked as it is.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::calendar::{Bucket, Days};
use crate::error::{Error, Kind, Result};

/// What may stand in a value of a query as it is: the unreserved characters of RFC 3986, and `,` and `/`, which mean nothing there.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b',').remove(b'/');
/// Most days that are asked about at once: ten years.
const DAYS_MAX: u32 = 3_660;

/// Where a count comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Marks that people in the control centre made.
    Operator,
    /// Marks that were made on recorders.
    Recorder,
    /// Counts that were brought in.
    Reported,
}

impl Source {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Operator, Self::Recorder, Self::Reported];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Recorder => "recorder",
            Self::Reported => "reported",
        }
    }
}

/// By what is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    /// Each category.
    Category,
    /// Each department.
    Department,
    /// Each kind of recorder.
    Kind,
    /// Each source.
    Source,
}

impl Dimension {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Category, Self::Department, Self::Kind, Self::Source];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Category => "category",
            Self::Department => "department",
            Self::Kind => "kind",
            Self::Source => "source",
        }
    }
}

/// What figures are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct By {
    /// These.
    pub dimensions: BTreeSet<Dimension>,
    /// And each of these periods; without it the days are one.
    pub bucket: Option<Bucket>,
}

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// Of which days.
    pub days: Days,
    /// Whose days those are.
    pub zone: TimeZone,
    /// Told apart by what.
    pub by: By,
    /// Only of this category.
    pub category: Option<String>,
    /// Only of this department.
    pub department: Option<String>,
    /// Only of this kind of recorder.
    pub kind: Option<String>,
    /// From where.
    pub sources: BTreeSet<Source>,
}

/// A question as somebody writes it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// First day and the one after the last.
    pub days: (u32, u32),
    /// IANA name.
    pub zone: &'a str,
    /// Names of dimensions, separated by commas.
    pub by: Option<&'a str>,
    /// Names of sources, separated by commas.
    pub source: Option<&'a str>,
}

impl Question {
    /// Reads what somebody wrote; what is to be counted alone is filled in afterwards.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for no days, too many, a time zone that is none, and names that are none.
    pub fn read(wanted: &Wanted<'_>, bucket: Option<Bucket>) -> Result<Self> {
        let invalid = |text: String| Error::new(Kind::Invalid, text);
        let days = Days { from: wanted.days.0, to: wanted.days.1 };
        if days.from >= days.to || days.to - days.from > DAYS_MAX {
            return Err(invalid(format!("from must be before to, by {DAYS_MAX} days at most")));
        }
        let zone = TimeZone::get(wanted.zone);
        let zone = zone.map_err(|_| invalid("time_zone must be an IANA name, such as Asia/Almaty".to_owned()))?;
        let dimensions = match wanted.by {
            None => BTreeSet::from([Dimension::Category]),
            Some(names) => named("by", names, &Dimension::ALL, Dimension::name)?,
        };
        let sources = match wanted.source {
            None => Source::ALL.into(),
            Some(names) => named("source", names, &Source::ALL, Source::name)?,
        };
        if sources.is_empty() {
            return Err(invalid("source must name where counts come from".to_owned()));
        }
        let by = By { dimensions, bucket };
        Ok(Self { days, zone, by, category: None, department: None, kind: None, sources })
    }

    /// The canonical form.
    #[must_use]
    pub fn canonical(&self, format_day: fn(u32) -> String) -> String {
        let list = |names: Vec<&str>| names.join(",");
        let zone = self.zone.iana_name().unwrap_or("UTC");
        let (from, to) = (format_day(self.days.from), format_day(self.days.to));
        let by = list(self.by.dimensions.iter().map(|one| one.name()).collect());
        let source = list(self.sources.iter().map(|one| one.name()).collect());
        let parameters = [
            ("by", Some(by.as_str())),
            ("category", self.category.as_deref()),
            ("department", self.department.as_deref()),
            ("from", Some(&from)),
            ("kind", self.kind.as_deref()),
            ("period", self.by.bucket.map(Bucket::name)),
            ("source", Some(&source)),
            ("time_zone", Some(zone)),
            ("to", Some(&to)),
        ];
        let mut text = String::new();
        for (name, value) in parameters.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            let gap = if text.is_empty() { "" } else { "&" };
            let _ = write!(text, "{gap}{name}={}", utf8_percent_encode(value, ESCAPED));
        }
        text
    }
}

fn named<T: Copy + Ord>(
    parameter: &str,
    names: &str,
    all: &[T],
    name_of: impl Fn(T) -> &'static str,
) -> Result<BTreeSet<T>> {
    let one = |name: &str| {
        let known = all.iter().copied().find(|one| name_of(*one) == name);
        known.ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|one| name_of(*one)).collect();
            Error::new(Kind::Invalid, format!("{parameter} must be of {}", known.join(", ")))
        })
    };
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_questions_are_equal_bytes() {
        let read = |by, source| {
            let wanted = Wanted { days: (20_454, 20_485), zone: "Asia/Almaty", by, source };
            let question = Question::read(&wanted, Some(Bucket::Month)).unwrap();
            Question { department: Some("Нұр-Сұлтан & Co".to_owned()), ..question }.canonical(|day| day.to_string())
        };
        let one = read(Some("kind,category"), Some("reported, operator,recorder"));
        assert_eq!(one, read(Some("category,kind,kind"), None));
        assert_eq!(
            one,
            "by=category,kind&department=%D0%9D%D2%B1%D1%80-%D0%A1%D2%B1%D0%BB%D1%82%D0%B0%D0%BD%20%26%20Co&from=20454\
             &period=month&source=operator,recorder,reported&time_zone=Asia/Almaty&to=20485"
        );
        assert!(read(Some(""), None).starts_with("by=&department"), "one figure of all");
    }

    #[test]
    fn a_question_that_is_none_is_refused() {
        let good = Wanted { days: (1, 2), zone: "UTC", by: None, source: None };
        assert!(Question::read(&good, None).is_ok());
        for wanted in [
            Wanted { days: (2, 2), ..good },
            Wanted { days: (3, 2), ..good },
            Wanted { days: (0, u32::MAX), ..good },
            Wanted { zone: "Mars/Olympus", ..good },
            Wanted { by: Some("person"), ..good },
            Wanted { source: Some("rumour"), ..good },
            Wanted { source: Some(","), ..good },
        ] {
            assert_eq!(Question::read(&wanted, None).unwrap_err().kind(), Kind::Invalid, "{wanted:?}");
        }
    }
}
