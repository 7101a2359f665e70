//! When a batch is full enough: the policy, pure. It is told sizes and times and says what to do; it holds no link.
//!
//! A batch ends when it reaches its size, when its first link has waited its age, or when nothing has arrived for the
//! idle bound. While one batch is being committed the next one gathers in the queue, and a lone link waits no longer than the
//! idle bound. A batch that grows so fast that it will soon be *bulk*, large enough for the store to write it to disk once instead
//! of twice, is given a longer age: at full load that saves half of the disk's work, and below it nobody waits.

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
}

impl Batch {
    /// A batch with its first link.
    #[must_use]
    pub fn begin(bytes: usize, now: Instant) -> Self {
        Self { bytes, links: 1, began: now, latest: now }
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
    /// longer age. No longer than it takes once it is bulk.
    fn patience(&self, policy: &Policy) -> Instant {
        if self.bytes >= policy.bulk_bytes {
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
        let batch = Batch::begin(10, start);
        assert_eq!(batch.next(&POLICY, start), Next::TakeUntil(at(start, 2000)));
        assert_eq!(batch.next(&POLICY, at(start, 1999)), Next::TakeUntil(at(start, 2000)));
        assert_eq!(batch.next(&POLICY, at(start, 2000)), Next::Commit);
    }

    #[test]
    fn a_steady_trickle_ends_at_the_age_of_the_first_link() {
        let start = Instant::now();
        let mut batch = Batch::begin(10, start);
        batch.add(10, at(start, 1900));
        batch.add(10, at(start, 3700));
        assert_eq!(batch.next(&POLICY, at(start, 3700)), Next::TakeUntil(at(start, 5000)));
        assert_eq!(batch.next(&POLICY, at(start, 5000)), Next::Commit);
    }

    #[test]
    fn a_batch_that_grows_fast_is_given_the_time_to_become_bulk() {
        let start = Instant::now();
        let mut batch = Batch::begin(200, start);
        assert_eq!(batch.next(&POLICY, at(start, 5000)), Next::TakeUntil(at(start, 8000)));
        batch.add(200, at(start, 7000));
        assert_eq!(batch.next(&POLICY, at(start, 8000)), Next::TakeUntil(at(start, 16_000)));
        batch.add(200, at(start, 15_000));
        assert_eq!(batch.next(&POLICY, at(start, 15_000)), Next::Commit, "it is bulk now");
    }

    #[test]
    fn a_batch_that_stops_growing_does_not_wait_to_become_bulk() {
        let start = Instant::now();
        let mut batch = Batch::begin(100, start);
        batch.add(150, at(start, 1000));
        assert_eq!(batch.next(&POLICY, at(start, 3000)), Next::TakeUntil(at(start, 10_000)));
        assert_eq!(batch.next(&POLICY, at(start, 10_000)), Next::Commit);
    }

    #[test]
    fn size_ends_a_batch_at_once_in_bytes_and_in_links() {
        let start = Instant::now();
        let mut batch = Batch::begin(999, start);
        assert_ne!(batch.next(&POLICY, start), Next::Commit);
        batch.add(1, start);
        assert_eq!(batch.next(&POLICY, start), Next::Commit);

        let mut batch = Batch::begin(0, start);
        for _ in 0..3 {
            assert_ne!(batch.next(&POLICY, start), Next::Commit);
            batch.add(0, start);
        }
        assert_eq!(batch.next(&POLICY, start), Next::Commit);
    }

    #[test]
    fn one_link_larger_than_a_batch_is_a_batch() {
        let start = Instant::now();
        assert_eq!(Batch::begin(usize::MAX, start).next(&POLICY, start), Next::Commit);
    }
}
