//! When pictures were taken, by the camera's own clock: RTCP sender reports (RFC 3550 section 6.4.1) say at which wall-clock
//! time which RTP timestamp was.
//!
//! A camera's clock is believed only while it agrees with the recorder's to within [`AGREES`]: then its times leave out how long
//! footage was on its way, and do not drift as its crystal does. Otherwise times are those of arrival. Pure: handed the
//! recorder's time.

use aigaq_proto::Micros;

/// How far a camera's clock may be from the recorder's to be believed, microseconds. Reports arrive as late as footage does.
const AGREES: i64 = 5_000_000;
/// What is told is corrected when it is off by so much, microseconds; what is less would only tear footage apart.
const DRIFT_MAX: u64 = 100_000;
/// The same for times of arrival, which vary.
const ARRIVAL_MAX: u64 = 2_000_000;
/// Seconds from 1900, where NTP counts from, to 1970.
const NTP_UNIX_S: u64 = 2_208_988_800;

/// A camera's clock, as far as it has told it.
#[derive(Debug, Default)]
pub(super) struct CameraClock {
    /// Device clock at media time 0, if the camera is believed.
    zero: Option<i128>,
    /// What the recorder was told last: device clock at decode time 0.
    told: Option<i128>,
}

impl CameraClock {
    /// A sender report: this NTP timestamp (32.32 bits, of any era) was at this media time, microseconds; it came `now`, device clock.
    /// Returns how far the camera's clock is ahead, if that has become too far.
    pub(super) fn report(&mut self, ntp: u64, media_us: i64, now: Micros) -> Option<i64> {
        let ahead = ahead(ntp, now);
        let agrees = ahead.abs() <= AGREES;
        let lost = !agrees && self.zero.is_some();
        self.zero = agrees.then(|| i128::from(now) + i128::from(ahead) - i128::from(media_us));
        lost.then_some(ahead)
    }

    /// A recording begins anew.
    pub(super) fn begin(&mut self) {
        self.told = None;
    }

    /// When a segment was captured, if the recorder has to be told: `media_us` is the media time of the recording's decode time
    /// 0, the segment begins and ends at these decode times, and is complete `now`.
    pub(super) fn at(&mut self, media_us: i64, decode_us: (u64, u64), now: Micros) -> Option<Micros> {
        let (zero, most) = match self.zero {
            Some(zero) => (zero + i128::from(media_us), DRIFT_MAX),
            // The recorder goes by arrival itself until it is told otherwise.
            None if self.told.is_none() => return None,
            None => (i128::from(now) - i128::from(decode_us.1), ARRIVAL_MAX),
        };
        if self.told.is_some_and(|told| told.abs_diff(zero) <= u128::from(most)) {
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
        assert_eq!(clock.at(0, (0, SECOND), NOW), None, "by arrival as long as it has said nothing");
        // Three seconds of media; the report was under way for 1.2 s.
        assert_eq!(clock.report(ntp(NOW - 1_200_000), 3_000_000, NOW), None);
        let zero = NOW - 4_200_000;
        let at = clock.at(0, (SECOND, 2 * SECOND), NOW).unwrap();
        assert!(at.abs_diff(zero + SECOND) <= 1, "{at}");
        assert_eq!(clock.at(0, (2 * SECOND, 3 * SECOND), NOW + SECOND), None, "it is counted on from there");
    }

    #[test]
    fn a_crystal_that_drifts_is_followed_in_steps() {
        let mut clock = CameraClock::default();
        clock.report(ntp(NOW), 0, NOW);
        assert!(clock.at(0, (0, SECOND), NOW).is_some());
        // A tenth of a second in a thousand, and a little.
        let later = NOW + 1_000 * SECOND;
        clock.report(ntp(later), 1_000_120_000, later);
        let at = clock.at(0, (1_000 * SECOND, 1_001 * SECOND), later).unwrap();
        assert!(at.abs_diff(later - 120_000) <= 1, "{at}");
    }

    #[test]
    fn a_camera_that_disagrees_is_not_believed() {
        let mut clock = CameraClock::default();
        assert_eq!(clock.report(ntp(NOW - 86_400 * SECOND), 0, NOW), None);
        assert_eq!(clock.at(0, (0, SECOND), NOW), None);
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
