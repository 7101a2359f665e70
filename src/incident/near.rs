//! Who came near a place: read from the positions in the links of each recorder that may have.
//!
//! Bounded: at most [`ENTRIES_MAX`] links of a recorder are read at a time.

use std::ops::Range;

use aigaq_proto::limits::DURATION_US_MAX;
use aigaq_proto::{LinkHeader, Micros, RecorderId};

use crate::error::Result;
use crate::store::records::PlaceRecord;
use crate::store::{Direction, Store};

/// Mean radius of the earth, metres.
const EARTH_M: f64 = 6_371_008.8;
/// How far the clock of a device may be off without what it recorded being passed over, microseconds.
pub(super) const CLOCK_US: Micros = 120_000_000;
/// Links of one recorder that are read for one incident at a time.
const ENTRIES_MAX: usize = 20_000;

/// How near a recorder came to the middle of a place within a range of time, metres; `None` if it was never within it, as far as its
/// links say that began in the half-open span `captured` of device time. Blocks.
///
/// # Errors
/// Those of the store.
pub(super) fn nearest(
    store: &Store,
    recorder: RecorderId,
    place: &PlaceRecord,
    within: &Range<Micros>,
    captured: &Range<Micros>,
) -> Result<Option<u32>> {
    let begin = within.start.saturating_sub(CLOCK_US).saturating_sub(u64::from(DURATION_US_MAX));
    let begin = begin.max(captured.start);
    let end = within.end.saturating_add(CLOCK_US).min(captured.end);
    let mut nearest: Option<f64> = None;
    for entry in store.timeline(recorder, begin..end.max(begin), Direction::Forward).take(ENTRIES_MAX) {
        let Some(link) = store.link(recorder, entry?.sequence)? else { continue };
        let Ok(header) = LinkHeader::decode(&link.header) else { continue };
        // The time that the server had, where it is known how far the device was off.
        let offset = link.clock.map_or(0, |clock| clock.offset_us);
        for fix in &header.fixes {
            let at = header.captured_at.saturating_add(u64::from(fix.offset_ms) * 1_000);
            if !within.contains(&at.saturating_add_signed(offset.saturating_neg())) {
                continue;
            }
            let metres = metres((fix.latitude_e7, fix.longitude_e7), (place.latitude_e7, place.longitude_e7));
            if metres <= f64::from(place.metres) && nearest.is_none_or(|before| metres < before) {
                nearest = Some(metres);
            }
        }
    }
    // Between 0 and the radius of the place, which is such a number.
    Ok(nearest.map(|metres| metres.round() as u32))
}

/// The distance of two points on the earth (haversine), metres; latitude and longitude in ten-millionths of a degree.
fn metres(a: (i32, i32), b: (i32, i32)) -> f64 {
    let radians = |e7: i32| (f64::from(e7) / 1e7).to_radians();
    let (latitude_a, latitude_b) = (radians(a.0), radians(b.0));
    let half = |from: f64, to: f64| ((to - from) / 2.0).sin().powi(2);
    let h = half(latitude_a, latitude_b) + latitude_a.cos() * latitude_b.cos() * half(radians(a.1), radians(b.1));
    2.0 * EARTH_M * h.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_map() {
        let astana = (511_694_000, 714_491_000);
        let almaty = (432_389_000, 769_455_000);
        let between = metres(astana, almaty);
        assert!((970_000.0..975_000.0).contains(&between), "{between}");
        assert!(metres(astana, astana) < 1e-6);
        // A thousandth of a degree of latitude is 111.2 m; on the 180th meridian both sides are near.
        assert!((metres((0, 0), (10_000, 0)) - 111.2).abs() < 0.1);
        assert!(metres((0, 1_799_999_999), (0, -1_799_999_999)) < 1.0);
    }
}
