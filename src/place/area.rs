//! Areas that somebody asks about: a circle, a box of latitudes and longitudes, a polygon.
//!
//! A box whose west is east of its east goes over the antimeridian. Bounds belong to the area.

use super::polygon::Polygon;
use super::{Cell, E7, EARTH_RADIUS_M, Point, cells};
use crate::error::{Error, Kind, Result};

/// Greatest radius of a circle, metres.
pub const METRES_MAX: f64 = 10_000.0;
/// Vertices that a polygon may have, its holes' among them.
pub const VERTICES_MAX: usize = 256;
/// Half a turn, ten-millionths of a degree.
const HALF_TURN_E7: i32 = 1_800_000_000;

/// An area.
#[derive(Debug, Clone, PartialEq)]
pub enum Area {
    /// Everything within so many metres of a point.
    Near {
        /// The point.
        centre: Point,
        /// The distance.
        metres: f64,
    },
    /// Everything between two latitudes and two longitudes.
    Box {
        /// The corner of the least latitude, in the west.
        south_west: Point,
        /// The corner of the greatest latitude, in the east.
        north_east: Point,
    },
    /// Everything in a polygon and in none of its holes; its edges are straight in latitude and longitude.
    Polygon(Polygon),
}

/// Reads one number of degrees or metres.
pub(super) fn number(what: &str, text: &str, least: f64, most: f64) -> Result<f64> {
    let wrong = || Error::new(Kind::Invalid, format!("{what} must be a number from {least} to {most}"));
    // What `parse` takes beside decimals: words such as NaN and infinity.
    let is_plain = text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let value: f64 = text.parse().ok().filter(|_| is_plain).ok_or_else(wrong)?;
    if (least..=most).contains(&value) { Ok(value) } else { Err(wrong()) }
}

/// A point from degrees that are in range.
///
/// # Errors
/// [`Kind::Invalid`] if they are not.
pub(super) fn point(latitude: f64, longitude: f64) -> Result<Point> {
    if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
        return Ok(Point {
            latitude_e7: (latitude * E7).round() as i32,
            longitude_e7: (longitude * E7).round() as i32,
        });
    }
    Err(Error::new(Kind::Invalid, "a latitude is from -90 to 90, a longitude from -180 to 180 degrees"))
}

impl Area {
    /// Reads a circle: `latitude,longitude,metres`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for anything else, and for a radius that is not from 1 m to [`METRES_MAX`].
    pub fn parse_near(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(',').collect();
        let [latitude, longitude, metres] = parts[..] else {
            return Err(Error::new(
                Kind::Invalid,
                "near must be latitude,longitude,metres, such as 51.1282,71.4304,300",
            ));
        };
        let latitude = number("the latitude of near", latitude, -90.0, 90.0)?;
        let longitude = number("the longitude of near", longitude, -180.0, 180.0)?;
        let metres = number("the metres of near", metres, 1.0, METRES_MAX)?;
        Ok(Self::Near { centre: point(latitude, longitude)?, metres })
    }

    /// Reads a box: `west,south,east,north` in degrees, as in RFC 7946 section 5.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for anything else, and for a south above the north.
    pub fn parse_box(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(',').collect();
        let [west, south, east, north] = parts[..] else {
            return Err(Error::new(
                Kind::Invalid,
                "bbox must be west,south,east,north, such as 71.38,51.10,71.46,51.15",
            ));
        };
        let longitude = |text| number("a longitude of bbox", text, -180.0, 180.0);
        let latitude = |text| number("a latitude of bbox", text, -90.0, 90.0);
        let south_west = point(latitude(south)?, longitude(west)?)?;
        let north_east = point(latitude(north)?, longitude(east)?)?;
        if south_west.latitude_e7 > north_east.latitude_e7 {
            return Err(Error::new(Kind::Invalid, "the south of bbox is above its north"));
        }
        Ok(Self::Box { south_west, north_east })
    }

    /// Reads a polygon: a GeoJSON geometry of the type `Polygon` (RFC 7946), or `latitude,longitude` of each vertex with semicolons
    /// between them.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for anything else, for more than [`VERTICES_MAX`] vertices, for fewer than three, and for one that goes around a
    /// pole or half around the earth.
    pub fn parse_polygon(text: &str) -> Result<Self> {
        Polygon::parse(text).map(Self::Polygon)
    }

    /// How far a point is from the centre of a circle, metres, if the area contains it; 0 for other areas.
    #[must_use]
    pub fn holds(&self, point: Point) -> Option<f64> {
        match self {
            Self::Near { centre, metres } => {
                let away = centre.metres_to(point);
                (away <= *metres).then_some(away)
            }
            Self::Box { south_west, north_east } => {
                let latitudes = south_west.latitude_e7..=north_east.latitude_e7;
                let is_in = latitudes.contains(&point.latitude_e7)
                    && is_between(south_west.longitude_e7, point.longitude_e7, north_east.longitude_e7);
                is_in.then_some(0.0)
            }
            Self::Polygon(polygon) => polygon.contains(point).then_some(0.0),
        }
    }

    /// Every cell of the index that holds a point of the area, and a few beside them; in order.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if the area is too large.
    pub fn cells(&self) -> Result<Vec<Cell>> {
        cells::cover(self, cells::CELLS_MAX)
    }

    /// The same for an area that may touch so many cells.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if the area is too large.
    pub fn cells_at_most(&self, most: usize) -> Result<Vec<Cell>> {
        cells::cover(self, most)
    }

    /// Points of the area, at least one of each piece of it.
    pub(super) fn corners(&self) -> Vec<Point> {
        match self {
            Self::Near { centre, .. } => vec![*centre],
            Self::Box { south_west, .. } => vec![*south_west],
            Self::Polygon(polygon) => polygon.vertices(),
        }
    }

    /// Whether a point of the area may be within `reach_m` metres of `centre`; `true` if in doubt.
    pub(super) fn may_touch(&self, centre: Point, reach_m: f64) -> bool {
        if let Self::Near { centre: middle, metres } = self {
            return middle.metres_to(centre) <= metres + reach_m;
        }
        let around = Around::of(centre, reach_m);
        match self {
            Self::Near { .. } => true,
            Self::Box { south_west, north_east } => {
                let apart = around.north < i64::from(south_west.latitude_e7)
                    || i64::from(north_east.latitude_e7) < around.south;
                let (west, east) = (i64::from(south_west.longitude_e7), i64::from(north_east.longitude_e7));
                let turn = 2 * i64::from(HALF_TURN_E7);
                let east = if east < west { east + turn } else { east };
                !apart && [-turn, 0, turn].iter().any(|by| around.west <= east + by && west + by <= around.east)
            }
            Self::Polygon(polygon) => polygon.touches(&around),
        }
    }
}

/// Whether a longitude lies on the way from west to east.
fn is_between(west: i32, longitude: i32, east: i32) -> bool {
    let is_in = |longitude: i32| {
        if west <= east { (west..=east).contains(&longitude) } else { longitude >= west || longitude <= east }
    };
    // The antimeridian has two names.
    is_in(longitude) || (longitude.abs() == HALF_TURN_E7 && is_in(-longitude))
}

/// Latitudes and longitudes around a point, ten-millionths of a degree; longitudes may lie beyond half a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    pub(super) south: i64,
    pub(super) north: i64,
    pub(super) west: i64,
    pub(super) east: i64,
}

impl Around {
    /// Everything within `reach_m` metres of a point, and a little more.
    fn of(centre: Point, reach_m: f64) -> Self {
        let reach = (reach_m / EARTH_RADIUS_M).to_degrees();
        let latitude = centre.latitude();
        let widest = (latitude.abs() + reach).to_radians().cos();
        // Close to a pole every longitude is near.
        let sideways = if latitude.abs() + reach < 89.9 { (reach / widest).min(180.0) } else { 180.0 };
        let e7 = |degrees: f64| (degrees * E7).ceil() as i64 + 1;
        let (at, along) = (i64::from(centre.latitude_e7), i64::from(centre.longitude_e7));
        Self { south: at - e7(reach), north: at + e7(reach), west: along - e7(sideways), east: along + e7(sideways) }
    }
}
