//! Places: points on the earth, areas that somebody asks about, and the cells of the index that cover an area.
//!
//! Pure. A point is what a fix says (WGS 84, ten-millionths of a degree), so that nothing is lost between a link and an answer. Distances
//! are those on a sphere with the mean radius of the earth: off by at most 0.6 %, which is below what a fix knows of itself. Cells are
//! those of H3 at one resolution; they are computed without the mathematics of the machine, so that every machine names the same cell.
//!
//! Promise: the cells of an area hold every point that the area contains. What comes from outside is parsed here and bounded here.

mod area;
mod cells;
mod polygon;
#[cfg(test)]
mod tests;

use aigaq_proto::link::Fix;

pub use area::{Area, METRES_MAX, VERTICES_MAX};
pub use cells::{CELLS_MAX, Cell};

/// Mean radius of the earth, metres (IUGG).
const EARTH_RADIUS_M: f64 = 6_371_008.8;
/// Ten-millionths in a degree.
const E7: f64 = 1e7;

/// A point on the earth, WGS 84.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    /// Latitude, ten-millionths of a degree, −900,000,000 to 900,000,000.
    pub latitude_e7: i32,
    /// Longitude, ten-millionths of a degree, −1,800,000,000 to 1,800,000,000.
    pub longitude_e7: i32,
}

impl Point {
    /// Where a fix was.
    #[must_use]
    pub const fn of(fix: &Fix) -> Self {
        Self { latitude_e7: fix.latitude_e7, longitude_e7: fix.longitude_e7 }
    }

    /// Latitude, degrees.
    #[must_use]
    pub fn latitude(self) -> f64 {
        f64::from(self.latitude_e7) / E7
    }

    /// Longitude, degrees.
    #[must_use]
    pub fn longitude(self) -> f64 {
        f64::from(self.longitude_e7) / E7
    }

    /// Metres to another point, along the surface (haversine).
    #[must_use]
    pub fn metres_to(self, other: Self) -> f64 {
        let (a, b) = (self.latitude().to_radians(), other.latitude().to_radians());
        let east = (f64::from(other.longitude_e7) - f64::from(self.longitude_e7)) / E7;
        let (north, east) = (((b - a) / 2.0).sin(), (east.to_radians() / 2.0).sin());
        let half = north * north + a.cos() * b.cos() * east * east;
        2.0 * EARTH_RADIUS_M * half.sqrt().min(1.0).asin()
    }
}
