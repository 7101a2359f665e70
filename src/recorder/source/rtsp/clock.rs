//! When pictures were taken, by the camera's own clock: RTCP sender reports (RFC 3550 section 6.4.1) say at which wall-clock
//! time which RTP timestamp was.
//!
//! A camera's clock is believed only while it agrees with the recorder's to within [`AGREES`]: then its times leave out how long
//! footage was on its way. Otherwise times are those of arrival. What a recording goes by is settled once, before its first segment, if
//! need be by waiting for the camera's first report ([`WAITS`]); afterwards times count on by the camera's pictures alone, and are set right only
//! when they are off by more than [`OFF_MAX`], which the chain then says. Pure: handed the recorder's time.

use std::time::Duration;

use aigaq_proto::Micros;

/// How long the first segment waits for the camera's first report, which is due within four seconds and takes its way. Until then
/// footage is in memory alone.
pub(super) const WAITS: Duration = Duration::from_secs(6);
/// How far a camera's clock may be from the recorder's to be believed, microseconds. Reports arrive as late as footage does.
const AGREES: i64 = 5_000_000;
/// By how much the times of a recording may be off before they are set right, microseconds: what a crystal drifts in hours, and more
/// than arrival varies.
const OFF_MAX: u128 = 2_000_000;
/// Seconds from 1900, where NTP counts from, to 1970.
const NTP_UNIX_S: u64 = 2_208_988_800;

/// A camera's clock, as far as it has told it.
#[derive(Debug, Default)]
pub(super) struct CameraClock {
    reported: bool,
    /// Device clock at media time 0, if the camera is believed.
    zero: Option<i128>,
    /// What the recording goes by: device clock at decode time 0.
    told: Option<i128>,
}

impl CameraClock {
    /// A sender report: this NTP timestamp (32.32 bits, of any era) was at this media time, microseconds; it came `now`, device clock.
    /// Returns how far the camera's clock is ahead, if it was believed until now and is no more.
    pub(super) fn report(&mut self, ntp: u64, media_us: i64, now: Micros) -> Option<i64> {
        let ahead = ahead(ntp, now);
        let agrees = ahead.abs() <= AGREES;
        let lost = !agrees && self.zero.is_some();
        self.reported = true;
        self.zero = agrees.then(|| i128::from(now) + i128::from(ahead) - i128::from(media_us));
        lost.then_some(ahead)
    }

    /// Whether it is known what the next recording goes by.
    pub(super) fn has_reported(&self) -> bool {
        self.reported
    }

    /// A recording begins anew.
    pub(super) fn begin(&mut self) {
        self.told = None;
    }

    /// When a segment was captured, if the recorder has to be told: `media_us` is the media time of the recording's decode time
    /// 0, the segment begins and ends at these decode times, and was complete at `arrived`.
    pub(super) fn at(&mut self, media_us: i64, decode_us: (u64, u64), arrived: Micros) -> Option<Micros> {
        let zero = match self.zero {
            Some(zero) => zero + i128::from(media_us),
            None => i128::from(arrived) - i128::from(decode_us.1),
        };
        if self.told.is_some_and(|told| told.abs_diff(zero) <= OFF_MAX) {
            return None;
        }
        self.told = Some(zero);
        u64::try_from((zero + i128::from(decode_us.0)).max(0)).ok()
    }
}

/// How far an NTP timestamp is ahead of a time, microseconds.
fn ahead(ntp: u64, now: Micros) -> i64 {
    let (seconds, rest) = (now / 1_000_000, now % 1_000_000);
    let now = (seconds.wrapping_add(NTP_UNIX_S) << 32).wrapping_add((rest << 32) / 1_000_000);
    let ticks = i128::from(ntp.wrapping_sub(now).cast_signed());
    i64::try_from((ticks * 1_000_000) >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = 1_768_641_242_500_000;
    const SECOND: u64 = 1_000_000;

    fn ntp(at: Micros) -> u64 {
        ((at / SECOND + NTP_UNIX_S) << 32) + ((at % SECOND) << 32) / SECOND
    }

    #[test]
    fn ntp_timestamps_are_compared_in_every_era() {
        assert_eq!(ahead(ntp(NOW), NOW), 0);
        assert_eq!(ahead(ntp(NOW - SECOND), NOW), -1_000_000);
        // 2036-02-07T06:28:16Z is the beginning of era 1.
        let next_era = 2_085_978_496 * SECOND;
        assert_eq!(ahead(1 << 32, next_era), 1_000_000);
        assert!(ahead(0, NOW).abs() > AGREES, "a camera that does not know the time says zero");
    }

    #[test]
    fn a_camera_that_agrees_tells_when_footage_was_captured_however_late_it_comes() {
        let mut clock = CameraClock::default();
        // Three seconds of media; the report was under way for 1.2 s.
        assert_eq!(clock.report(ntp(NOW - 1_200_000), 3_000_000, NOW), None);
        let zero = NOW - 4_200_000;
        let at = clock.at(0, (0, SECOND), NOW).unwrap();
        assert!(at.abs_diff(zero) <= 1, "{at}");
        assert_eq!(clock.at(0, (SECOND, 2 * SECOND), NOW + SECOND), None, "it is counted on from there");
    }

    #[test]
    fn a_report_that_comes_too_late_for_the_first_segment_tears_nothing_apart() {
        let mut clock = CameraClock::default();
        assert_eq!(clock.at(0, (0, SECOND), NOW), Some(NOW - SECOND), "by arrival");
        clock.report(ntp(NOW), 1_800_000, NOW + 800_000);
        assert_eq!(clock.at(0, (SECOND, 2 * SECOND), NOW + SECOND), None);
        clock.begin();
        assert!(clock.at(0, (0, SECOND), NOW + 9 * SECOND).unwrap() < NOW, "the next recording goes by it");
    }

    #[test]
    fn a_crystal_that_drifts_is_set_right_when_it_is_far_off() {
        let mut clock = CameraClock::default();
        clock.report(ntp(NOW), 0, NOW);
        assert!(clock.at(0, (0, SECOND), NOW).is_some());
        let later = NOW + 10_000 * SECOND;
        clock.report(ntp(later), 10_001_900_000, later);
        assert_eq!(clock.at(0, (10_000 * SECOND, 10_001 * SECOND), later), None);
        clock.report(ntp(later), 10_002_100_000, later);
        let at = clock.at(0, (10_000 * SECOND, 10_001 * SECOND), later).unwrap();
        assert!(at.abs_diff(later - 2_100_000) <= 1, "{at}");
    }

    #[test]
    fn a_camera_that_disagrees_is_not_believed() {
        let mut clock = CameraClock::default();
        assert_eq!(clock.report(ntp(NOW - 86_400 * SECOND), 0, NOW), None);
        assert!(clock.has_reported());
        assert_eq!(clock.at(0, (0, SECOND), NOW), Some(NOW - SECOND));
        assert_eq!(clock.at(0, (SECOND, 2 * SECOND), NOW + SECOND + 300_000), None, "arrival varies");
    }

    #[test]
    fn when_the_clocks_part_times_are_those_of_arrival_again() {
        let mut clock = CameraClock::default();
        clock.report(ntp(NOW), 0, NOW);
        assert!(clock.at(0, (0, SECOND), NOW).is_some());
        // The recorder's clock was set an hour ahead.
        let hour = 3_600 * SECOND;
        let now = NOW + hour + 5 * SECOND;
        assert_eq!(clock.report(ntp(now - hour), 5_000_000, now), Some(-3_600_000_000));
        let at = clock.at(0, (4 * SECOND, 5 * SECOND), now).unwrap();
        assert_eq!(at, now - SECOND);
        assert_eq!(clock.at(0, (5 * SECOND, 6 * SECOND), now + SECOND + 30_000), None, "arrival varies");
    }
}
