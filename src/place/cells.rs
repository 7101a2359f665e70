//! The cells of the index: H3 at resolution 9, a tenth of a square kilometre each, and which of them an area touches.
//!
//! Coarser cells would hold more of what is not asked for, finer ones would have to be asked for more often: a circle of 300 m touches
//! about a dozen, a city a few thousand. A question about an area that touches more than [`CELLS_MAX`] is refused.

use std::collections::{HashSet, VecDeque};

use h3o::{CellIndex, LatLng, Resolution};

use super::{Area, E7, Point};
use crate::error::{Error, Kind, Result};

/// Cells that an area may touch: about 1,000 km².
pub const CELLS_MAX: usize = 10_000;
/// No point of a cell is further from its centre, metres.
pub(super) const REACH_M: f64 = 300.0;

/// A cell, by its H3 index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell(pub u64);

impl Cell {
    /// The cell that holds a point.
    #[must_use]
    pub fn of(point: Point) -> Self {
        Self(index_of(point).into())
    }

    /// Its centre; nothing if the number names no cell.
    #[must_use]
    pub fn centre(self) -> Option<Point> {
        CellIndex::try_from(self.0).ok().map(centre_of)
    }

    /// The cells that hold every point within `metres` of any point of this one.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if there are more than [`CELLS_MAX`], or the number names no cell.
    pub fn around(self, metres: f64) -> Result<Vec<Self>> {
        let centre = self.centre().ok_or_else(|| Error::new(Kind::Invalid, "there is no such cell"))?;
        cover(&Area::Near { centre, metres: metres + REACH_M }, CELLS_MAX)
    }
}

fn index_of(point: Point) -> CellIndex {
    // A latitude and a longitude in ten-millionths are finite.
    let place = LatLng::new(point.latitude(), point.longitude()).unwrap_or_default();
    place.to_cell(Resolution::Nine)
}

fn centre_of(cell: CellIndex) -> Point {
    let centre = LatLng::from(cell);
    let e7 = |degrees: f64, most: f64| (degrees * E7).round().clamp(-most * E7, most * E7) as i32;
    Point { latitude_e7: e7(centre.lat(), 90.0), longitude_e7: e7(centre.lng(), 180.0) }
}

/// Every cell that holds a point of the area, and a few beside them; in order.
///
/// From the cells of the area's own corners on, neighbour by neighbour: an area is in one piece, so that the cells which hold points
/// of it are, too.
///
/// # Errors
/// [`Kind::Invalid`] if there are more than `most`.
pub(super) fn cover(area: &Area, most: usize) -> Result<Vec<Cell>> {
    let mut waiting: VecDeque<CellIndex> = area.corners().into_iter().map(index_of).collect();
    let mut seen: HashSet<CellIndex> = waiting.iter().copied().collect();
    let mut touched = Vec::new();
    while let Some(cell) = waiting.pop_front() {
        if !area.may_touch(centre_of(cell), REACH_M) {
            continue;
        }
        if touched.len() >= most {
            let text = format!("the area is too large: it may have about {} square kilometres", most / 10);
            return Err(Error::new(Kind::Invalid, text));
        }
        touched.push(Cell(cell.into()));
        for near in cell.grid_disk::<Vec<_>>(1) {
            if seen.insert(near) {
                waiting.push_back(near);
            }
        }
    }
    touched.sort_unstable();
    Ok(touched)
}
