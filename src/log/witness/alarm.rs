//! How long the log has been ahead of its quorum. Pure.

use std::time::{Duration, Instant};

/// From here on a person should know.
const ALARM_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// When the log was first seen to be ahead of what the quorum cosigned.
    since: Option<Instant>,
    rung: bool,
}

impl Alarm {
    /// The log is ahead.
    pub(super) fn grown(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// The quorum cosigned what the log was when it was seen to be ahead.
    pub(super) fn cosigned(&mut self) {
        *self = Self::default();
    }

    /// How long it has been ahead.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Whether it is to be said, once for each time without a quorum.
    pub(super) fn rings(&mut self, now: Instant) -> bool {
        let rings = !self.rung && self.age(now) >= ALARM_AFTER;
        self.rung |= rings;
        rings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_without_a_quorum_is_told_once() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!alarm.rings(at(1_000)), "a log that does not grow is not late");
        alarm.grown(at(0));
        alarm.grown(at(30));
        assert!(!alarm.rings(at(59)));
        assert_eq!(alarm.age(at(59)), Duration::from_secs(59));
        assert!(alarm.rings(at(60)));
        assert!(!alarm.rings(at(61)));
        alarm.cosigned();
        assert_eq!(alarm.age(at(62)), Duration::ZERO);
        alarm.grown(at(70));
        assert!(!alarm.rings(at(129)));
        assert!(alarm.rings(at(130)));
    }
}
