//! How long the log has been ahead of its quorum, or of its newest time stamp. Pure.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Alarm {
    after: Duration,
    /// When the log was first seen to be ahead.
    since: Option<Instant>,
    rung: bool,
}

impl Alarm {
    /// Rings when the log has been ahead for so long.
    pub(super) fn after(after: Duration) -> Self {
        Self { after, since: None, rung: false }
    }

    /// The log is ahead.
    pub(super) fn begins(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// It is no more, or what it was when it was seen to be ahead is behind.
    pub(super) fn over(&mut self) {
        *self = Self::after(self.after);
    }

    /// How long it has been ahead.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Whether it is to be said, once for each time.
    pub(super) fn rings(&mut self, now: Instant) -> bool {
        let rings = !self.rung && self.age(now) >= self.after;
        self.rung |= rings;
        rings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_without_a_quorum_is_told_once() {
        let (mut alarm, start) = (Alarm::after(Duration::from_secs(60)), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!alarm.rings(at(1_000)), "a log that does not grow is not late");
        alarm.begins(at(0));
        alarm.begins(at(30));
        assert!(!alarm.rings(at(59)));
        assert_eq!(alarm.age(at(59)), Duration::from_secs(59));
        assert!(alarm.rings(at(60)));
        assert!(!alarm.rings(at(61)));
        alarm.over();
        assert_eq!(alarm.age(at(62)), Duration::ZERO);
        alarm.begins(at(70));
        assert!(!alarm.rings(at(129)));
        assert!(alarm.rings(at(130)));
    }
}
