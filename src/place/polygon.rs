//! Polygons: read, unrolled over the antimeridian, and asked what they contain; in whole numbers, so that a point on an edge is on it.
//!
//! Each edge goes the shorter way around the earth. The first ring is the outline, the others are holes; a point is inside if an odd number
//! of edges lies east of it, or if it lies on an edge.

use serde::Deserialize;

use super::Point;
use super::area::{Around, VERTICES_MAX, number, point};
use crate::error::{Error, Kind, Result};

/// A whole turn, ten-millionths of a degree.
const TURN_E7: i64 = 3_600_000_000;
/// Longest text that is read, bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A vertex: longitude, which may lie beyond half a turn, and latitude.
type Vertex = (i64, i64);

/// A polygon with its holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polygon {
    /// The outline, then the holes; none has its first vertex twice.
    rings: Vec<Vec<Vertex>>,
}

/// RFC 7946 section 3.1.6.
#[derive(Deserialize)]
struct GeoJson {
    #[serde(rename = "type")]
    kind: String,
    coordinates: Vec<Vec<Vec<f64>>>,
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, what)
}

impl Polygon {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(wrong(format!("a polygon may have {VERTICES_MAX} vertices")));
        }
        let rings = if text.starts_with('{') { geo_json(text)? } else { vec![list(text)?] };
        Self::of(&rings)
    }

    fn of(rings: &[Vec<Point>]) -> Result<Self> {
        let vertices: usize = rings.iter().map(Vec::len).sum();
        if vertices > VERTICES_MAX {
            return Err(wrong(format!("the polygon has {vertices} vertices, it may have {VERTICES_MAX}")));
        }
        let rings = rings.iter().map(|ring| unrolled(ring)).collect::<Result<Vec<_>>>()?;
        let longitudes = || rings.iter().flatten().map(|(longitude, _)| *longitude);
        let width = longitudes().max().unwrap_or(0) - longitudes().min().unwrap_or(0);
        if width >= TURN_E7 / 2 {
            return Err(wrong("the polygon goes half around the earth"));
        }
        if rings.is_empty() { Err(wrong("the polygon has no ring")) } else { Ok(Self { rings }) }
    }

    /// Its vertices, as points of the earth.
    pub(super) fn vertices(&self) -> Vec<Point> {
        let longitude = |longitude: i64| (longitude + TURN_E7 / 2).rem_euclid(TURN_E7) - TURN_E7 / 2;
        let point = |&(east, north): &Vertex| Point {
            latitude_e7: i32::try_from(north).unwrap_or_default(),
            longitude_e7: i32::try_from(longitude(east)).unwrap_or_default(),
        };
        self.rings.iter().flatten().map(point).collect()
    }

    pub(super) fn contains(&self, point: Point) -> bool {
        let (east, north) = (i64::from(point.longitude_e7), i64::from(point.latitude_e7));
        [-TURN_E7, 0, TURN_E7].iter().any(|by| self.contains_unrolled((east + by, north)))
    }

    fn contains_unrolled(&self, (x, y): Vertex) -> bool {
        let mut inside = false;
        for (a, b) in self.edges() {
            let side = side_of((a, b), (x, y));
            let beside = (a.0.min(b.0)..=a.0.max(b.0)).contains(&x) && (a.1.min(b.1)..=a.1.max(b.1)).contains(&y);
            if side == 0 && beside {
                return true;
            }
            // An edge that rises has the point on its left (greater than 0) if it lies east of it.
            if (a.1 > y) != (b.1 > y) && (side > 0) == (b.1 > a.1) {
                inside = !inside;
            }
        }
        inside
    }

    /// Whether it has a point in common with a box of latitudes and longitudes.
    pub(super) fn touches(&self, around: &Around) -> bool {
        [-TURN_E7, 0, TURN_E7].iter().any(|by| {
            let around = Around { west: around.west + by, east: around.east + by, ..*around };
            self.edges().any(|edge| crosses(edge, &around)) || self.contains_unrolled((around.west, around.south))
        })
    }

    fn edges(&self) -> impl Iterator<Item = (Vertex, Vertex)> + '_ {
        self.rings.iter().flat_map(|ring| {
            let next = ring.iter().cycle().skip(1);
            ring.iter().copied().zip(next.copied())
        })
    }
}

/// On which side of an edge a vertex lies: above 0 on the left, 0 on its line.
fn side_of((a, b): (Vertex, Vertex), (x, y): Vertex) -> i128 {
    let wide = |value: i64| i128::from(value);
    wide(b.0 - a.0) * wide(y - a.1) - wide(x - a.0) * wide(b.1 - a.1)
}

/// Whether an edge has a point in common with a box (separating axes).
fn crosses((a, b): (Vertex, Vertex), around: &Around) -> bool {
    let beside = a.0.max(b.0) < around.west
        || around.east < a.0.min(b.0)
        || a.1.max(b.1) < around.south
        || around.north < a.1.min(b.1);
    let corners = [
        (around.west, around.south),
        (around.west, around.north),
        (around.east, around.south),
        (around.east, around.north),
    ];
    let sides = corners.map(|corner| side_of((a, b), corner));
    let apart = sides.iter().all(|side| *side > 0) || sides.iter().all(|side| *side < 0);
    !(beside || apart)
}

fn geo_json(text: &str) -> Result<Vec<Vec<Point>>> {
    let what = "the polygon must be a GeoJSON geometry of the type Polygon, or latitude,longitude;latitude,longitude;…";
    let read: GeoJson = serde_json::from_str(text).map_err(|error| wrong(format!("{what}: {error}")))?;
    if read.kind != "Polygon" {
        return Err(wrong(what));
    }
    let vertex = |position: &Vec<f64>| match position[..] {
        [longitude, latitude] | [longitude, latitude, _] => point(latitude, longitude),
        _ => Err(wrong("a position of the polygon must be a longitude and a latitude")),
    };
    read.coordinates.iter().map(|ring| ring.iter().map(vertex).collect()).collect()
}

fn list(text: &str) -> Result<Vec<Point>> {
    let vertex = |text: &str| {
        let (latitude, longitude) =
            text.split_once(',').ok_or_else(|| wrong("a vertex of the polygon must be latitude,longitude"))?;
        let latitude = number("a latitude of the polygon", latitude.trim(), -90.0, 90.0)?;
        point(latitude, number("a longitude of the polygon", longitude.trim(), -180.0, 180.0)?)
    };
    text.split(';').map(vertex).collect()
}

/// The vertices of a ring with longitudes that do not jump where the ring goes over the antimeridian.
fn unrolled(ring: &[Point]) -> Result<Vec<Vertex>> {
    let open = match ring {
        [rest @ .., last] if ring.first() == Some(last) => rest,
        _ => ring,
    };
    if open.len() < 3 {
        return Err(wrong("a ring of the polygon needs three vertices"));
    }
    let mut vertices: Vec<Vertex> = Vec::with_capacity(open.len());
    for point in open {
        let longitude = i64::from(point.longitude_e7);
        let shorter = vertices.last().map_or(longitude, |(before, _)| before + shorter_way(longitude - before));
        vertices.push((shorter, i64::from(point.latitude_e7)));
    }
    let (first, last) = (vertices.first().map_or(0, |vertex| vertex.0), vertices.last().map_or(0, |vertex| vertex.0));
    if last + shorter_way(first - last) != first {
        return Err(wrong("the polygon goes around a pole"));
    }
    Ok(vertices)
}

/// A difference of longitudes, at most half a turn.
fn shorter_way(difference: i64) -> i64 {
    (difference + TURN_E7 / 2).rem_euclid(TURN_E7) - TURN_E7 / 2
}
