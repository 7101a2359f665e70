//! When a batch is full enough: the policy, pure. It is told sizes and times and says what to do; it holds no link.
//!
//! A batch ends when it reaches its size, when its first link has waited its age, or when nothing has arrived for the
//! idle bound. While one batch is being committed the next one gathers in the queue, and a lone link waits no longer than the
//! idle bound. While payload arrives so fast that batches can become *bulk*, large enough for the store to write them to disk once
//! instead of twice, a batch that grows is given a longer age: at full load that saves half of the disk's work. Below
//! that pace nobody waits, however much has gathered while the batch before was being committed. The pace is a mean, so the longer
//! age has room for lulls: a batch cut short in one would be written twice.

use std::time::{Duration, Instant};

/// The bounds of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Payload bytes that fill a batch.
    pub bytes_max: usize,
    /// Links that fill a batch.
    pub links_max: usize,
    /// Longest wait of the first link.
    pub age_max: Duration,
    /// Longest wait for one more link.
    pub idle_max: Duration,
    /// Payload bytes from which on a batch is bulk.
    pub bulk_bytes: usize,
    /// Longest wait of the first link of a batch that is becoming bulk.
    pub bulk_age_max: Duration,
}

/// Over how long the pace is a mean.
const PACE_MEMORY: Duration = Duration::from_millis(250);
/// Payload arrives at the pace of bulk when it fills a bulk batch in this time.
const BULK_WITHIN: Duration = Duration::from_millis(25);

/// How fast payload has arrived of late.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// Bytes that arrived, each the less the longer ago.
    bytes: f64,
    at: Option<Instant>,
}

impl Pace {
    /// A link arrived.
    pub fn note(&mut self, bytes: usize, now: Instant) {
        self.bytes = self.remembered(now) + bytes as f64;
        self.at = Some(now);
    }

    /// Whether payload arrives so fast that a batch becomes bulk in 25 ms.
    #[must_use]
    pub fn is_bulk(&self, policy: &Policy, now: Instant) -> bool {
        let per_s = self.remembered(now) / PACE_MEMORY.as_secs_f64();
        per_s * BULK_WITHIN.as_secs_f64() >= policy.bulk_bytes as f64
    }

    fn remembered(&self, now: Instant) -> f64 {
        let ago = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.bytes * (-ago.as_secs_f64() / PACE_MEMORY.as_secs_f64()).exp()
    }
}

/// What the writer does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Commit what there is.
    Commit,
    /// Take one more link, at this time at the latest.
    TakeUntil(Instant),
}

/// A batch that is being gathered: its sizes and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    bytes: usize,
    links: usize,
    began: Instant,
    latest: Instant,
    bulk_pace: bool,
}

impl Batch {
    /// A batch with its first link; `bulk_pace` says whether payload arrives at the pace of bulk.
    #[must_use]
    pub fn begin(bytes: usize, now: Instant, bulk_pace: bool) -> Self {
        Self { bytes, links: 1, began: now, latest: now, bulk_pace }
    }

    /// One more link.
    pub fn add(&mut self, bytes: usize, now: Instant) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.links = self.links.saturating_add(1);
        self.latest = now;
    }

    /// Payload bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of links.
    #[must_use]
    pub fn links(&self) -> usize {
        self.links
    }

    /// What to do with the batch at `now`.
    #[must_use]
    pub fn next(&self, policy: &Policy, now: Instant) -> Next {
        if self.bytes >= policy.bytes_max || self.links >= policy.links_max {
            return Next::Commit;
        }
        let until = (self.began + policy.age_max).min(self.latest + policy.idle_max).max(self.patience(policy));
        if now >= until { Next::Commit } else { Next::TakeUntil(until) }
    }

    /// How long the batch is worth waiting for: as long as it has grown, on average, at the rate that makes it bulk within the
    /// longer age. No longer than it takes at a lower pace, or once it is bulk.
    fn patience(&self, policy: &Policy) -> Instant {
        if !self.bulk_pace || self.bytes >= policy.bulk_bytes {
            return self.began;
        }
        let part = self.bytes as u128 * policy.bulk_age_max.as_micros() / policy.bulk_bytes.max(1) as u128;
        self.began + Duration::from_micros(u64::try_from(part).unwrap_or(u64::MAX)).min(policy.bulk_age_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        bytes_max: 1000,
        links_max: 4,
        age_max: Duration::from_millis(5),
        idle_max: Duration::from_millis(2),
        bulk_bytes: 500,
        bulk_age_max: Duration::from_millis(20),
    };

    fn at(start: Instant, micros: u64) -> Instant {
        start + Duration::from_micros(micros)
    }

    #[test]
    fn a_lone_link_waits_for_the_idle_bound_and_no_longer() {
        let start = Instant::now();
        let batch = Batch::begin(10, start, true);
        assert_eq!(batch.next(&POLICY, start), Next::TakeUntil(at(start, 2000)));
        assert_eq!(batch.next(&POLICY, at(start, 1999)), Next::TakeUntil(at(start, 2000)));
        assert_eq!(batch.next(&POLICY, at(start, 2000)), Next::Commit);
    }

    #[test]
    fn a_steady_trickle_ends_at_the_age_of_the_first_link() {
        let start = Instant::now();
        let mut batch = Batch::begin(10, start, true);
        batch.add(10, at(start, 1900));
        batch.add(10, at(start, 3700));
        assert_eq!(batch.next(&POLICY, at(start, 3700)), Next::TakeUntil(at(start, 5000)));
        assert_eq!(batch.next(&POLICY, at(start, 5000)), Next::Commit);
    }

    #[test]
    fn a_batch_that_grows_fast_is_given_the_time_to_become_bulk() {
        let start = Instant::now();
        let mut batch = Batch::begin(200, start, true);
        assert_eq!(batch.next(&POLICY, at(start, 5000)), Next::TakeUntil(at(start, 8000)));
        batch.add(200, at(start, 7000));
        assert_eq!(batch.next(&POLICY, at(start, 8000)), Next::TakeUntil(at(start, 16_000)));
        batch.add(200, at(start, 15_000));
        assert_eq!(batch.next(&POLICY, at(start, 15_000)), Next::Commit, "it is bulk now");
    }

    #[test]
    fn a_batch_that_stops_growing_does_not_wait_to_become_bulk() {
        let start = Instant::now();
        let mut batch = Batch::begin(100, start, true);
        batch.add(150, at(start, 1000));
        assert_eq!(batch.next(&POLICY, at(start, 3000)), Next::TakeUntil(at(start, 10_000)));
        assert_eq!(batch.next(&POLICY, at(start, 10_000)), Next::Commit);
    }

    #[test]
    fn below_the_pace_of_bulk_a_batch_with_much_in_it_waits_no_longer_than_a_small_one() {
        let start = Instant::now();
        let mut batch = Batch::begin(400, start, false);
        assert_eq!(batch.next(&POLICY, start), Next::TakeUntil(at(start, 2000)));
        batch.add(50, at(start, 1900));
        assert_eq!(batch.next(&POLICY, at(start, 3900)), Next::Commit);
    }

    /// The pace after 2 s in which a link of 10 bytes came every `micros`.
    fn pace(micros: u64) -> (Pace, Instant) {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..(2_000_000 / micros) {
            now += Duration::from_micros(micros);
            pace.note(10, now);
        }
        (pace, now)
    }

    #[test]
    fn the_pace_is_that_of_bulk_from_a_batch_in_25_ms_on() {
        // 500 bytes in 25 ms are 10 bytes in 500 us.
        let (pace_above, now) = pace(450);
        assert!(pace_above.is_bulk(&POLICY, now));
        let (pace_below, now) = pace(550);
        assert!(!pace_below.is_bulk(&POLICY, now));
    }

    #[test]
    fn links_that_come_in_bursts_have_the_pace_of_their_mean() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..100 {
            now += Duration::from_millis(16);
            for _ in 0..20 {
                pace.note(10, now);
            }
            assert!(!pace.is_bulk(&POLICY, now), "200 bytes in 16 ms");
        }
    }

    #[test]
    fn a_lull_does_not_cut_a_batch_short_that_would_have_become_bulk() {
        let policy = Policy { bulk_age_max: Duration::from_millis(60), ..POLICY };
        let (pace, now) = pace(400);
        let mut batch = Batch::begin(250, now, pace.is_bulk(&policy, now));
        assert_eq!(
            batch.next(&policy, at(now, 25_000)),
            Next::TakeUntil(at(now, 30_000)),
            "later than 500 bytes take at this pace"
        );
        batch.add(250, at(now, 29_000));
        assert_eq!(batch.next(&policy, at(now, 29_000)), Next::Commit);
    }

    #[test]
    fn a_pace_is_forgotten() {
        let (pace, now) = pace(100);
        assert!(pace.is_bulk(&POLICY, now));
        assert!(!pace.is_bulk(&POLICY, now + Duration::from_secs(1)));
        assert!(!Pace::default().is_bulk(&POLICY, now));
    }

    #[test]
    fn size_ends_a_batch_at_once_in_bytes_and_in_links() {
        let start = Instant::now();
        let mut batch = Batch::begin(999, start, true);
        assert_ne!(batch.next(&POLICY, start), Next::Commit);
        batch.add(1, start);
        assert_eq!(batch.next(&POLICY, start), Next::Commit);

        let mut batch = Batch::begin(0, start, true);
        for _ in 0..3 {
            assert_ne!(batch.next(&POLICY, start), Next::Commit);
            batch.add(0, start);
        }
        assert_eq!(batch.next(&POLICY, start), Next::Commit);
    }

    #[test]
    fn one_link_larger_than_a_batch_is_a_batch() {
        let start = Instant::now();
        assert_eq!(Batch::begin(usize::MAX, start, true).next(&POLICY, start), Next::Commit);
    }
}
