//! What comes in of an incident, parsed strictly.

use aigaq_proto::limits::CATEGORY_BYTES_MAX;
use aigaq_proto::{Micros, limits};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::{Error, Kind, Result};
use crate::lookup::request;
use crate::lookup::time::{self, TimeRange};
use crate::store::records::{IncidentCall, IncidentSource, PlaceRecord};

/// Longest time of an incident, days.
const DAYS_MAX: u64 = 31;
/// What belongs to an incident of which one moment is known, seconds before and after it.
const BEFORE_US: Micros = 600_000_000;
const AFTER_US: Micros = 1_800_000_000;
/// Longest texts, characters.
const DEPARTMENT_CHARS_MAX: usize = 100;
const REFERENCE_CHARS_MAX: usize = 128;
const TEXT_CHARS_MAX: usize = 1_000;
const BADGE_CHARS_MAX: usize = 100;
/// Most badges and most categories.
const BADGES_MAX: usize = 100;
const CATEGORIES_MAX: usize = 16;
/// Largest radius of a place, metres.
const METRES_MAX: u32 = 50_000;

/// An incident that came in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "department": "Astana", "source": "dispatch", "reference": "2026-17-0815",
    "text": "disorder at the market", "place": { "latitude": 51.1694, "longitude": 71.4491, "metres": 300 },
    "at": "2026-01-17T09:14:00Z", "badges": ["1234"], "categories": ["disorder"] }))]
pub(in crate::lookup) struct NewIncident {
    /// Which department deals with it.
    department: String,
    /// Where it comes from.
    source: IncidentSource,
    /// What it is called there: the id of the dispatch system, or the reference of the call. Needed from dispatch and the hotline; at most
    /// 128 characters.
    reference: Option<String>,
    /// What is said of it; at most 1000 characters.
    text: String,
    /// What kinds of things it is, at most 16.
    #[serde(default)]
    categories: Vec<String>,
    /// Where.
    place: Option<PlaceDocument>,
    /// When, RFC 3339 UTC; ten minutes before it and half an hour after it belong to the incident. Either this or `from` and `to`.
    at: Option<String>,
    /// Beginning.
    from: Option<String>,
    /// End, exclusive, at most 31 days later.
    to: Option<String>,
    /// Who has to do with it, as assignments name them, at most 100.
    #[serde(default)]
    badges: Vec<String>,
}

/// A circle on the map.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::lookup) struct PlaceDocument {
    /// Latitude of its middle, degrees, WGS 84.
    latitude: f64,
    /// Longitude.
    longitude: f64,
    /// Its radius, metres, 1 to 50000.
    metres: u32,
}

impl PlaceDocument {
    pub(super) fn of(place: PlaceRecord) -> Self {
        let degrees = |e7: i32| f64::from(e7) / 1e7;
        let (latitude, longitude) = (degrees(place.latitude_e7), degrees(place.longitude_e7));
        Self { latitude, longitude, metres: place.metres }
    }

    fn record(self) -> Result<PlaceRecord> {
        let e7 = |degrees: f64, limit: u32| {
            let e7 = (degrees * 1e7).round();
            (e7.is_finite() && e7.abs() <= f64::from(limit)).then_some(e7 as i32)
        };
        let place = e7(self.latitude, limits::LATITUDE_E7_MAX).zip(e7(self.longitude, limits::LONGITUDE_E7_MAX));
        let place = place.filter(|_| (1..=METRES_MAX).contains(&self.metres));
        let wrong = "place needs a latitude from -90 to 90, a longitude from -180 to 180 and 1 to 50000 metres";
        let (latitude_e7, longitude_e7) = place.ok_or_else(|| invalid(wrong))?;
        Ok(PlaceRecord { latitude_e7, longitude_e7, metres: self.metres })
    }
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, text)
}

impl NewIncident {
    /// What came in.
    ///
    /// # Errors
    /// [`Kind::Invalid`].
    pub(super) fn call(self) -> Result<IncidentCall> {
        let reference = self
            .reference
            .map_or(Ok(String::new()), |reference| request::words("reference", reference, REFERENCE_CHARS_MAX))?;
        if reference.is_empty() && matches!(self.source, IncidentSource::Dispatch | IncidentSource::Hotline) {
            return Err(invalid(format!("an incident from {} needs its reference", self.source.name())));
        }
        if self.badges.len() > BADGES_MAX || self.categories.len() > CATEGORIES_MAX {
            return Err(invalid(format!("at most {BADGES_MAX} badges and {CATEGORIES_MAX} categories")));
        }
        let each = |name: &'static str, all: Vec<String>, chars_max: usize| {
            let mut all: Vec<String> =
                all.into_iter().map(|one| request::words(name, one, chars_max)).collect::<Result<_>>()?;
            all.sort();
            all.dedup();
            Ok::<_, Error>(all)
        };
        let range = match (&self.at, &self.from, &self.to) {
            (Some(at), None, None) => {
                let at = time::parse("at", at)?;
                TimeRange { from: at.saturating_sub(BEFORE_US), to: at.saturating_add(AFTER_US) }
            }
            (None, Some(from), Some(to)) => TimeRange::parse(from, to, DAYS_MAX)?,
            _ => return Err(invalid("an incident needs either at, or from and to")),
        };
        Ok(IncidentCall {
            department: request::words("department", self.department, DEPARTMENT_CHARS_MAX)?,
            source: self.source,
            reference,
            text: request::words("text", self.text, TEXT_CHARS_MAX)?,
            categories: each("categories", self.categories, CATEGORY_BYTES_MAX)?,
            place: self.place.map(PlaceDocument::record).transpose()?,
            from: range.from,
            to: range.to,
            badges: each("badges", self.badges, BADGE_CHARS_MAX)?,
        })
    }
}
