//! Where the recorder was: the points of a GPX file, given to links as their position fixes.
//!
//! Only what the file says becomes part of a signed header: points with a time, at their own time and place, and their speed
//! where the file has it (GPX 1.0). What a reader can work out from neighbouring points - speed, course, places between
//! them - is left to the reader, and a GPX file gives no radius of confidence; those fields say "not known".

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jiff::Timestamp;

use aigaq_proto::Micros;
use aigaq_proto::limits::{FIX_OFFSET_MS_MAX, FIXES_MAX};
use aigaq_proto::link::Fix;

use crate::error::{Context, Error, Kind, Result};

/// Greatest size of a GPX file, bytes: more than a week of a point every second.
const TRACK_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Stands for "not known" in a fix.
const UNKNOWN: u16 = u16::MAX;

/// A recorder's way, in the order of time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Track {
    points: Vec<Point>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    at: Micros,
    latitude_e7: i32,
    longitude_e7: i32,
    speed_cms: u16,
}

impl Track {
    /// Reads a GPX file: the points of all its tracks that have a time.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if the file cannot be read, is no GPX, or has no such point.
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.display();
        let file = File::open(path).context(Kind::Invalid, format!("cannot read {name}"))?;
        Self::read(file.take(TRACK_BYTES_MAX), &name.to_string())
    }

    /// The same from a stream; `name` is for messages.
    fn read(gpx: impl Read, name: &str) -> Result<Self> {
        let gpx = gpx::read(gpx).context(Kind::Invalid, format!("{name} is not a GPX file that can be read"))?;
        let waypoints = gpx.tracks.iter().flat_map(|track| &track.segments).flat_map(|segment| &segment.points);
        let mut points: Vec<Point> = waypoints.filter_map(Point::of).collect();
        if points.is_empty() {
            return Err(Error::new(Kind::Invalid, format!("{name} has no track point with a time")));
        }
        points.sort_by_key(|point| point.at);
        Ok(Self { points })
    }

    /// The fixes of a link that was captured at `captured_at`, device clock, and lasts `duration_us`: the points in
    /// `[captured_at, captured_at + duration_us)`, thinned evenly if they are more than a link may have, first and last kept.
    #[must_use]
    pub fn fixes(&self, captured_at: Micros, duration_us: u64) -> Vec<Fix> {
        let from = self.points.partition_point(|point| point.at < captured_at);
        let end = captured_at.saturating_add(duration_us);
        let count = self.points.iter().skip(from).take_while(|point| point.at < end).count();
        let kept = count.min(FIXES_MAX);
        let index = |number: usize| if kept > 1 { number * (count - 1) / (kept - 1) } else { 0 };
        (0..kept)
            .filter_map(|number| self.points.get(from + index(number)))
            .filter_map(|point| point.fix(captured_at))
            .collect()
    }
}

impl Point {
    fn of(waypoint: &gpx::Waypoint) -> Option<Self> {
        let time: Timestamp = waypoint.time?.format().ok()?.parse().ok()?;
        let place = waypoint.point();
        Some(Self {
            at: u64::try_from(time.as_microsecond()).ok()?,
            latitude_e7: e7(place.y())?,
            longitude_e7: e7(place.x())?,
            speed_cms: waypoint.speed.and_then(centimetres).unwrap_or(UNKNOWN),
        })
    }

    fn fix(&self, captured_at: Micros) -> Option<Fix> {
        let offset_ms = u32::try_from(self.at.checked_sub(captured_at)? / 1_000).ok()?;
        (offset_ms <= FIX_OFFSET_MS_MAX).then_some(Fix {
            offset_ms,
            latitude_e7: self.latitude_e7,
            longitude_e7: self.longitude_e7,
            accuracy_dm: UNKNOWN,
            speed_cms: self.speed_cms,
            course_cdeg: UNKNOWN,
        })
    }
}

/// Degrees as ten-millionths; `None` for what is no place on Earth.
#[allow(clippy::cast_possible_truncation, reason = "within 180 degrees it fits")]
fn e7(degrees: f64) -> Option<i32> {
    (degrees.abs() <= 180.0).then(|| (degrees * 1e7).round() as i32)
}

/// Metres per second as centimetres per second.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to fit")]
fn centimetres(metres: f64) -> Option<u16> {
    let centimetres = (metres * 100.0).round();
    (0.0..f64::from(UNKNOWN)).contains(&centimetres).then_some(centimetres as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-17T09:14:02Z.
    const AT: Micros = 1_768_641_242_000_000;

    fn track(points: &str) -> Result<Track> {
        let gpx = format!(r#"<gpx version="1.1" creator="test"><trk><trkseg>{points}</trkseg></trk></gpx>"#);
        Track::read(gpx.as_bytes(), "way.gpx")
    }

    fn point(latitude: f64, longitude: f64, time: &str) -> String {
        format!(r#"<trkpt lat="{latitude}" lon="{longitude}"><ele>350</ele><time>{time}</time></trkpt>"#)
    }

    #[test]
    fn a_link_gets_the_points_of_its_span_and_no_others() {
        let points = [
            point(51.1, 71.4, "2026-01-17T09:14:01.999Z"),
            point(51.1605227, 71.4703558, "2026-01-17T09:14:02Z"),
            point(-0.5, -179.9999999, "2026-01-17T14:14:03.25+05:00"),
            point(51.3, 71.4, "2026-01-17T09:14:04Z"),
        ];
        let track = track(&points.concat()).unwrap();
        let fixes = track.fixes(AT, 2_000_000);
        let place = |fix: &Fix| (fix.offset_ms, fix.latitude_e7, fix.longitude_e7);
        assert_eq!(
            fixes.iter().map(place).collect::<Vec<_>>(),
            [(0, 511_605_227, 714_703_558), (1_250, -5_000_000, -1_799_999_999)]
        );
        assert!(
            fixes.iter().all(|fix| (fix.accuracy_dm, fix.speed_cms, fix.course_cdeg) == (UNKNOWN, UNKNOWN, UNKNOWN))
        );
        assert!(track.fixes(AT, 0).is_empty());
        assert!(track.fixes(AT + 10_000_000, 2_000_000).is_empty());
    }

    #[test]
    fn more_points_than_a_link_may_have_are_thinned_evenly() {
        let points: String = (0..1_000).map(|n| point(51.0, 71.0, &format!("2026-01-17T09:14:02.{n:03}Z"))).collect();
        let fixes = track(&points).unwrap().fixes(AT, 2_000_000);
        assert_eq!(fixes.len(), FIXES_MAX);
        assert_eq!((fixes[0].offset_ms, fixes[127].offset_ms), (0, 999));
        assert!(fixes.windows(2).all(|pair| (7..=8).contains(&(pair[1].offset_ms - pair[0].offset_ms))));
    }

    #[test]
    fn points_out_of_order_are_sorted_and_those_without_a_time_are_left_out() {
        let points = [
            point(2.0, 2.0, "2026-01-17T09:14:03Z"),
            point(1.0, 1.0, "2026-01-17T09:14:02Z"),
            r#"<trkpt lat="3" lon="3"></trkpt>"#.to_owned(),
        ];
        let fixes = track(&points.concat()).unwrap().fixes(AT, 2_000_000);
        assert_eq!(fixes.iter().map(|fix| fix.offset_ms).collect::<Vec<_>>(), [0, 1_000]);
    }

    #[test]
    fn the_speed_of_gpx_1_0_is_taken_over() {
        let gpx = r#"<gpx version="1.0" creator="test"><trk><trkseg><trkpt lat="1" lon="1">
            <time>2026-01-17T09:14:02Z</time><speed>12.345</speed></trkpt></trkseg></trk></gpx>"#;
        let track = Track::read(gpx.as_bytes(), "way.gpx").unwrap();
        assert_eq!(track.fixes(AT, 1)[0].speed_cms, 1_235);
    }

    #[test]
    fn what_is_no_track_is_refused_with_its_name() {
        assert!(track("").unwrap_err().to_string().contains("way.gpx has no track point with a time"));
        for bad in ["", "<gpx", "not xml", r#"<kml></kml>"#] {
            let error = Track::read(bad.as_bytes(), "way.gpx").unwrap_err().to_string();
            assert!(error.starts_with("way.gpx") && !error.contains('\n'), "{error}");
        }
    }
}
