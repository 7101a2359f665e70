//! Where a recording stands in time: when each segment was captured by the device clock, and when it may be offered.
//!
//! Positions count on from the first sample by decode times, whatever the clock does. The clock only says where position 0 lies,
//! so that a clock that is set moves everything after the step and nothing before it. Pure: handed the clock's time and the
//! monotonic one.

use std::time::Duration;

use tokio::time::Instant;

use aigaq_proto::Micros;
use aigaq_proto::limits::{DURATION_US_MAX, TIME_US_MAX};

use crate::media::Segment;

/// The greatest device clock: a segment more is within the protocol's times.
const CLOCK_MAX: Micros = TIME_US_MAX - DURATION_US_MAX as u64;
/// What the clock may be off from the monotonic one before it counts as a step, microseconds.
const STEP_MIN: u64 = 2_000_000;
/// A new recording of a live source that begins so much later than the last one ended leaves a hole, microseconds.
const PAUSE_MIN: u64 = 1_000_000;

/// Position and time of everything that is recorded.
#[derive(Debug)]
pub(super) struct Timeline {
    real_time: bool,
    start: Option<Micros>,
    /// Device clock at position 0, which may be before 1970, and when position 0 was.
    begun: Option<(i128, Instant)>,
    /// Position at the end of the newest segment.
    end: u64,
    /// Position and decode time of the first sample of this recording; the latter is that of the next, if not known yet.
    zero: Option<(u64, Option<u64>)>,
    /// Whether the source says itself when its samples were captured.
    told: bool,
    /// Device clock at the first sample of all and at the end of the newest segment.
    recorded: Option<(Micros, Micros)>,
}

/// A segment's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    position: u64,
    /// When it has been captured, in real time.
    pub(super) due: Option<Instant>,
}

impl Timeline {
    /// A timeline in real time or as fast as it goes, from `start` or, without it, from now.
    pub(super) fn new(real_time: bool, start: Option<Micros>) -> Self {
        Self { real_time, start, begun: None, end: 0, zero: None, told: false, recorded: None }
    }

    /// Whether what is recorded happens now, by the device clock.
    pub(super) fn is_live(&self) -> bool {
        self.real_time && self.start.is_none()
    }

    /// The next segment was captured at this time, as the source knows.
    pub(super) fn go_to(&mut self, at: Micros, now: Instant) {
        let clock = i128::from(at) - i128::from(self.end);
        let released = self.begun.map_or(now, |(_, released)| released);
        self.begun = Some((clock, released));
        self.zero = Some((self.end, None));
        self.told = true;
    }

    /// Places the next segment. In real time the first one is here at once, so it was begun its own length ago.
    pub(super) fn place(&mut self, segment: &Segment, clock: Micros, now: Instant) -> Placed {
        let length = if self.real_time { segment.duration_us } else { 0 };
        let live = self.is_live();
        let (_, released) = *self.begun.get_or_insert_with(|| {
            let clock = self.start.map_or(i128::from(clock) - i128::from(length), i128::from);
            (clock, now.checked_sub(Duration::from_micros(length)).unwrap_or(now))
        });
        let (zero, decode_time_us) = self.zero.get_or_insert_with(|| {
            let here = micros(now.saturating_duration_since(released)).saturating_sub(length);
            let paused = live && here > self.end.saturating_add(PAUSE_MIN);
            (if paused { here } else { self.end }, None)
        });
        let (zero, decode_time_us) = (*zero, *decode_time_us.get_or_insert(segment.decode_time_us));
        let position = zero.saturating_add(segment.decode_time_us.saturating_sub(decode_time_us));
        let end = position.saturating_add(segment.duration_us);
        Placed { position, due: self.real_time.then(|| released + Duration::from_micros(end)) }
    }

    /// The segment is recorded: captured-at, by the clock as it stands now.
    pub(super) fn record(&mut self, placed: Placed, duration_us: u64) -> Micros {
        self.end = placed.position.saturating_add(duration_us);
        let at = self.at(placed.position);
        self.recorded = Some((self.recorded.map_or(at, |(first, _)| first), self.at(self.end)));
        at
    }

    /// The recording has ended; the next one has decode times of its own.
    pub(super) fn pause(&mut self) {
        self.zero = None;
    }

    /// Device clock at the first sample of all and at the end of the newest segment; `None` before the first.
    pub(super) fn recorded(&self) -> Option<(Micros, Micros)> {
        self.recorded
    }

    /// Now, on this timeline: that of an event.
    pub(super) fn now(&self, clock: Micros, now: Instant) -> Micros {
        match self.begun {
            Some((_, released)) if self.real_time => self.at(micros(now.saturating_duration_since(released))),
            Some(_) => self.at(self.end),
            None => self.start.unwrap_or(clock).min(CLOCK_MAX),
        }
    }

    /// The device clock went from `before` to `after`: what follows goes by it, unless the source has a clock of its own.
    pub(super) fn step(&mut self, before: Micros, after: Micros) {
        if let (Some((clock, _)), false) = (&mut self.begun, self.told) {
            *clock += i128::from(after) - i128::from(before);
        }
    }

    fn at(&self, position: u64) -> Micros {
        let clock = self.begun.map_or(0, |(clock, _)| clock) + i128::from(position);
        u64::try_from(clock.max(0)).unwrap_or(CLOCK_MAX).min(CLOCK_MAX)
    }
}

/// Notices when the device clock is set.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    last: Option<(Micros, Instant)>,
}

impl ClockWatch {
    /// Compares the clock with what it should be by the monotonic one since it was last looked at. A step is told with what the
    /// clock should say, and what it says.
    pub(super) fn look(&mut self, clock: Micros, now: Instant) -> Option<(Micros, Micros)> {
        let clock = clock.min(CLOCK_MAX);
        let (last, at) = self.last.replace((clock, now))?;
        let expected = last.saturating_add(micros(now.saturating_duration_since(at))).min(CLOCK_MAX);
        (expected.abs_diff(clock) > STEP_MIN).then_some((expected, clock))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const AT: Micros = 1_768_641_242_000_000;
    const SECOND: u64 = 1_000_000;

    fn segment(decode_time_us: u64, duration_us: u64) -> Segment {
        Segment { bytes: Bytes::from_static(b"0123456789"), decode_time_us, duration_us, independent: true }
    }

    /// Places and records a segment when it is due.
    fn record(timeline: &mut Timeline, segment: &Segment, clock: Micros, now: Instant) -> Micros {
        let placed = timeline.place(segment, clock, now);
        timeline.record(placed, segment.duration_us)
    }

    #[tokio::test(start_paused = true)]
    async fn times_follow_the_decode_times_from_the_start_that_was_given() {
        let mut timeline = Timeline::new(false, Some(AT));
        let mut at = |decode| record(&mut timeline, &segment(decode, 2 * SECOND), 5, Instant::now());
        assert_eq!([at(700), at(2_000_700), at(9_000_700)], [AT, AT + 2 * SECOND, AT + 9 * SECOND]);
        assert_eq!(at(0), AT, "a time before the first sample is that of the first");
    }

    #[tokio::test(start_paused = true)]
    async fn another_recording_goes_on_where_the_last_one_ended() {
        let mut timeline = Timeline::new(false, Some(AT));
        record(&mut timeline, &segment(0, 2 * SECOND), 5, Instant::now());
        timeline.pause();
        assert_eq!(record(&mut timeline, &segment(77, 1), 5, Instant::now()), AT + 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_knows_its_time_is_recorded_at_that_time() {
        let mut timeline = Timeline::new(false, None);
        timeline.go_to(AT, Instant::now());
        let at = |timeline: &mut Timeline, decode| record(timeline, &segment(decode, 1), 5, Instant::now());
        assert_eq!([at(&mut timeline, 70), at(&mut timeline, 90)], [AT, AT + 20]);
        timeline.go_to(AT - 1_000, Instant::now());
        assert_eq!([at(&mut timeline, 0), at(&mut timeline, 30)], [AT - 1_000, AT - 970], "also back in time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_live_recording_that_begins_after_a_pause_begins_now() {
        let mut timeline = Timeline::new(true, None);
        assert_eq!(record(&mut timeline, &segment(0, 2 * SECOND), AT, Instant::now()), AT - 2 * SECOND);
        timeline.pause();
        let later = Instant::now() + Duration::from_secs(600);
        assert_eq!(record(&mut timeline, &segment(9, 2 * SECOND), AT + 600 * SECOND, later), AT + 598 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn in_real_time_the_first_segment_has_just_been_captured() {
        let now = Instant::now();
        let placed = Timeline::new(true, None).place(&segment(0, 2 * SECOND), AT, now);
        assert_eq!(placed.due, Some(now));
        assert_eq!(Timeline::new(false, None).place(&segment(0, 2 * SECOND), AT, now).due, None);
    }

    /// The device clock stands at `clock`, jumps to `after` five seconds later, and recording goes on.
    fn stepped(clock: Micros, after: Micros) -> (Option<(Micros, Micros)>, Micros, Micros) {
        let (mut timeline, mut watch) = (Timeline::new(true, None), ClockWatch::default());
        let now = Instant::now();
        assert_eq!(watch.look(clock, now), None);
        let first = record(&mut timeline, &segment(0, 2 * SECOND), clock, now);
        let now = now + Duration::from_secs(5);
        let step = watch.look(after, now);
        if let Some((before, after)) = step {
            timeline.step(before, after);
        }
        assert_eq!(watch.look(after + SECOND, now + Duration::from_secs(1)), None, "one step is told once");
        (step, first, record(&mut timeline, &segment(5 * SECOND, 2 * SECOND), after, now))
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_moves_what_follows_and_nothing_before() {
        const HOUR: u64 = 3600 * SECOND;
        const YEAR_2100: Micros = 4_102_444_800_000_000;
        let expected = AT + 5 * SECOND;
        for after in [expected + HOUR, expected - HOUR, YEAR_2100, 3 * SECOND] {
            let (step, first, next) = stepped(AT, after);
            assert_eq!(step, Some((expected, after)));
            assert_eq!((first, next), (AT - 2 * SECOND, after - 2 * SECOND));
        }
        assert_eq!(stepped(AT, 0).2, 0, "before 1970 there is no time");
        let (step, first, next) = stepped(0, AT);
        assert_eq!((step, first, next), (Some((5 * SECOND, AT)), 0, AT - 2 * SECOND));
        let (step, _, next) = stepped(AT, u64::MAX - SECOND);
        assert_eq!((step, next), (Some((expected, CLOCK_MAX)), CLOCK_MAX - 2 * SECOND));
        assert_eq!(stepped(AT, expected + 2 * SECOND).0, None, "two seconds are drift");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_happens_now_in_real_time_and_else_after_the_newest_segment() {
        let now = Instant::now();
        let mut live = Timeline::new(true, None);
        assert_eq!(live.now(AT, now), AT);
        record(&mut live, &segment(0, 2 * SECOND), AT, now);
        assert_eq!(live.now(0, now + Duration::from_secs(3)), AT + 3 * SECOND);
        let mut fast = Timeline::new(false, Some(7));
        assert_eq!(fast.now(AT, now), 7);
        record(&mut fast, &segment(0, 2 * SECOND), AT, now);
        assert_eq!((fast.now(AT, now), fast.recorded()), (7 + 2 * SECOND, Some((7, 7 + 2 * SECOND))));
    }
}
