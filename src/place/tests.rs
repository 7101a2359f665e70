//! The cells of an area hold every point of it, wherever on the earth it lies; what is no area is refused.

use proptest::prelude::*;

use super::cells::REACH_M;
use super::*;
use crate::error::Kind;

fn at(latitude: f64, longitude: f64) -> Point {
    Point { latitude_e7: (latitude * E7).round() as i32, longitude_e7: (longitude * E7).round() as i32 }
}

/// Metres along the surface by the chord between two points: another way than that of the library.
fn metres_by_chord(a: Point, b: Point) -> f64 {
    let unit = |point: Point| {
        let (north, east) = (point.latitude().to_radians(), point.longitude().to_radians());
        [north.cos() * east.cos(), north.cos() * east.sin(), north.sin()]
    };
    let chord: f64 = unit(a).into_iter().zip(unit(b)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    2.0 * EARTH_RADIUS_M * (chord / 2.0).min(1.0).asin()
}

/// Places where something may go wrong, and any.
fn place() -> impl Strategy<Value = Point> {
    let strange = prop::sample::select(vec![
        (51.1282, 71.4304),
        (0.0, 0.0),
        (0.001, 179.999),
        (-17.5, -179.9995),
        (89.9995, 12.0),
        (-89.999, -120.0),
        (90.0, 0.0),
        (64.7, 10.536),
        (50.1, -144.0),
    ]);
    prop_oneof![
        strange.prop_map(|(latitude, longitude)| at(latitude, longitude)),
        (-90.0_f64..=90.0, -180.0_f64..=180.0).prop_map(|(latitude, longitude)| at(latitude, longitude)),
    ]
}

/// A point some metres to the north and the east of another.
fn beside(from: Point, north_m: f64, east_m: f64) -> Point {
    let degrees = |metres: f64| (metres / EARTH_RADIUS_M).to_degrees();
    let latitude = (from.latitude() + degrees(north_m)).clamp(-90.0, 90.0);
    let longitude =
        from.longitude() + (degrees(east_m) / from.latitude().to_radians().cos().abs().max(1e-6)).clamp(-400.0, 400.0);
    at(latitude, (longitude + 180.0).rem_euclid(360.0) - 180.0)
}

proptest! {
    #[test]
    fn the_cells_of_a_circle_hold_every_point_of_it(
        centre in place(), metres in 1.0_f64..3_000.0, beside_m in prop::collection::vec((-1.1_f64..1.1, -1.1_f64..1.1), 1..40),
    ) {
        let area = Area::Near { centre, metres };
        let cells = area.cells().unwrap();
        for (north, east) in beside_m {
            let point = beside(centre, north * metres, east * metres);
            let away = metres_by_chord(centre, point);
            prop_assume!((away - metres).abs() > 0.01);
            prop_assert_eq!(area.holds(point).is_some(), away < metres, "{:?} {}", point, away);
            prop_assert!(area.holds(point).is_none_or(|said| (said - away).abs() < 0.01));
            prop_assert!(area.holds(point).is_none() || cells.contains(&Cell::of(point)), "{:?}", point);
        }
    }

    #[test]
    fn the_cells_of_a_box_hold_every_point_of_it(
        corner in place(), size in (0.0_f64..0.05, 0.0_f64..0.05), inside in prop::collection::vec((-0.2_f64..1.2, -0.2_f64..1.2), 1..40),
    ) {
        let north = (corner.latitude() + size.0).min(90.0);
        let east = (corner.longitude() + size.1 + 180.0).rem_euclid(360.0) - 180.0;
        let area = Area::Box { south_west: corner, north_east: at(north, east) };
        let cells = area.cells().unwrap();
        for (up, right) in inside {
            let latitude = (corner.latitude() + up * size.0).clamp(-90.0, 90.0);
            let longitude = (corner.longitude() + right * size.1 + 180.0).rem_euclid(360.0) - 180.0;
            let point = at(latitude, longitude);
            let margin = |part: f64, size: f64| (part * size).abs() > 1e-6 && ((1.0 - part) * size).abs() > 1e-6;
            if margin(up, size.0) && margin(right, size.1) {
                let is_in = (corner.latitude()..=north).contains(&latitude) && (0.0..=1.0).contains(&right);
                prop_assert_eq!(area.holds(point).is_some(), is_in, "{:?}", point);
            }
            prop_assert!(area.holds(point).is_none() || cells.contains(&Cell::of(point)), "{:?}", point);
        }
    }

    #[test]
    fn the_cells_of_a_polygon_hold_every_point_of_it_and_a_box_is_a_polygon(
        middle in place(),
        corners in prop::collection::vec((0.0_f64..1.0, 100.0_f64..2_000.0), 3..12),
        points in prop::collection::vec((-2_000.0_f64..2_000.0, -2_000.0_f64..2_000.0), 1..40),
    ) {
        prop_assume!(middle.latitude().abs() < 89.0);
        let mut turns: Vec<(f64, f64)> = corners;
        turns.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ring: Vec<Point> = turns.iter().map(|(turn, metres)| {
            let angle = turn * std::f64::consts::TAU;
            beside(middle, angle.sin() * metres, angle.cos() * metres)
        }).collect();
        let text: Vec<String> = ring.iter().map(|point| format!("{:.7},{:.7}", point.latitude(), point.longitude())).collect();
        let area = Area::parse_polygon(&text.join(";")).unwrap();
        let cells = area.cells().unwrap();
        for (north, east) in points {
            let point = beside(middle, north, east);
            prop_assert_eq!(area.holds(point).is_some(), winds(&ring, point), "{:?}", point);
            prop_assert!(area.holds(point).is_none() || cells.contains(&Cell::of(point)), "{:?}", point);
        }
    }

    #[test]
    fn no_point_of_a_cell_is_further_from_its_centre_than_is_reckoned_with(place in place()) {
        let cell = Cell::of(place);
        let corners = h3o::CellIndex::try_from(cell.0).unwrap().boundary();
        for corner in corners.iter() {
            let corner = at(corner.lat(), corner.lng());
            prop_assert!(cell.centre().unwrap().metres_to(corner) < REACH_M);
        }
    }

    #[test]
    fn no_text_makes_an_area_panic(text in "[-0-9.,;eE{}\\[\\]: \"a-zPN]{0,60}") {
        for parse in [Area::parse_near, Area::parse_box, Area::parse_polygon] {
            if let Ok(area) = parse(&text) {
                let _ = (area.holds(at(1.0, 2.0)), area.cells());
            }
        }
    }
}

/// Whether a ring winds around a point, by angles: another way than that of the library.
fn winds(ring: &[Point], point: Point) -> bool {
    let east = |other: Point| (other.longitude() - point.longitude() + 180.0).rem_euclid(360.0) - 180.0;
    let seen: Vec<(f64, f64)> =
        ring.iter().map(|vertex| (east(*vertex), vertex.latitude() - point.latitude())).collect();
    let turned: f64 = seen
        .iter()
        .zip(seen.iter().cycle().skip(1))
        .map(|(a, b)| (a.0 * b.1 - a.1 * b.0).atan2(a.0 * b.0 + a.1 * b.1))
        .sum();
    turned.abs() > 1.0
}

#[test]
fn a_polygon_over_the_antimeridian_and_one_with_a_hole_hold_what_is_between() {
    let over = Area::parse_polygon("-1,179;1,179;1,-179;-1,-179").unwrap();
    assert!(over.holds(at(0.0, 179.5)).is_some() && over.holds(at(0.0, -179.5)).is_some());
    assert!(over.holds(at(0.0, 180.0)).is_some() && over.holds(at(0.0, -180.0)).is_some());
    assert!(over.holds(at(0.0, 178.5)).is_none() && over.holds(at(0.0, 0.0)).is_none());
    let ring = |text: &str| {
        Area::parse_polygon(&format!(
            r#"{{"type":"Polygon","coordinates":[[[71,51],[72,51],[72,52],[71,52],[71,51]]{text}]}}"#
        ))
        .unwrap()
    };
    let hole = ",[[71.4,51.4],[71.6,51.4],[71.6,51.6],[71.4,51.6],[71.4,51.4]]";
    assert!(ring("").holds(at(51.5, 71.5)).is_some());
    assert!(ring(hole).holds(at(51.5, 71.5)).is_none());
    assert!(ring(hole).holds(at(51.5, 71.3)).is_some());
    assert!(ring("").holds(at(51.0, 71.5)).is_some(), "an edge belongs to it");
}

#[test]
fn what_is_no_area_is_refused() {
    let refused = |parse: fn(&str) -> crate::error::Result<Area>, text: &str| {
        let error = parse(text).and_then(|area| area.cells().map(|_| area)).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{text}: {error}");
    };
    for near in [
        "", "1,2", "1,2,3,4", "NaN,2,3", "1,inf,3", "1,2,-3", "1,2,0", "1,2,1e9", "91,2,3", "1,181,3", "a,b,c",
        "1,2,nan", " 1,2,3",
    ] {
        refused(Area::parse_near, near);
    }
    for bbox in ["", "1,2,3", "1,2,3,4,5", "1,NaN,2,3", "1,3,2,2", "1,2,181,3", "1,-91,2,3", "-180,-90,180,90"] {
        refused(Area::parse_box, bbox);
    }
    let many = |count: usize| vec!["0,0"; count].join(";");
    for polygon in [
        "",
        "1,2;3,4",
        "1,2;1,2;1,2;1",
        "1,2;3,NaN;4,5",
        "95,2;3,3;4,5",
        "0,0;0,120;0,-120",
        "-60,-90;60,-90;60,80;-60,80",
        "{}",
        r#"{"type":"Point","coordinates":[1,2]}"#,
        r#"{"type":"Polygon","coordinates":[]}"#,
        r#"{"type":"Polygon","coordinates":[[[1,2],[3,4]]]}"#,
        r#"{"type":"Polygon","coordinates":[[[1,2],[3,1e99],[4,4]]]}"#,
        "0,0;10,0;10,10;0,10",
        &many(VERTICES_MAX + 1),
        &many(10_001),
        &many(1_000_000),
    ] {
        refused(Area::parse_polygon, polygon);
    }
}
