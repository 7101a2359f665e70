//! How often something may be done: a bucket for each source and one for all, so that one stranger costs little.
//!
//! The table of sources is bounded: what has been quiet long enough to be full again is forgotten first, and when none is, the source
//! is refused. Time is handed in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::limits::network;

/// Sources that are known at once.
const SOURCES_MAX: usize = 4_096;

/// How often something may be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// So often at once.
    pub burst: f64,
    /// And then so often in a second.
    pub per_s: f64,
}

/// A bucket with what is left in it.
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: &Rate, now: Instant) -> Self {
        Self { left: rate.burst, at: now }
    }

    fn refill(&mut self, rate: &Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * rate.per_s).min(rate.burst);
        self.at = now;
    }

    fn take(&mut self, rate: &Rate, now: Instant) -> bool {
        self.refill(rate, now);
        let has = self.left >= 1.0;
        if has {
            self.left -= 1.0;
        }
        has
    }
}

struct Buckets {
    all: Bucket,
    sources: HashMap<IpAddr, Bucket>,
}

/// Who may do it now. A source is an IPv4 address, or an IPv6 network of 64 bits.
pub struct Rates {
    source: Rate,
    all: Rate,
    buckets: Mutex<Buckets>,
}

impl Rates {
    /// At most so often for each source, and for all together; at first all of it is left.
    #[must_use]
    pub fn new(source: Rate, all: Rate, now: Instant) -> Self {
        let buckets = Buckets { all: Bucket::full(&all, now), sources: HashMap::new() };
        Self { source, all, buckets: Mutex::new(buckets) }
    }

    /// Whether `source` may do it once more; without one, whether all together may.
    pub fn admit(&self, source: Option<IpAddr>, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        source.is_none_or(|source| self.admit_source(&mut buckets.sources, network(source), now))
            && buckets.all.take(&self.all, now)
    }

    fn admit_source(&self, sources: &mut HashMap<IpAddr, Bucket>, source: IpAddr, now: Instant) -> bool {
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&source) {
            sources.retain(|_, bucket| {
                bucket.refill(&self.source, now);
                bucket.left < self.source.burst
            });
            if sources.len() >= SOURCES_MAX {
                return false;
            }
        }
        sources.entry(source).or_insert_with(|| Bucket::full(&self.source, now)).take(&self.source, now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::time::Duration;

    use super::*;

    fn fresh(now: Instant) -> Rates {
        Rates::new(Rate { burst: 60.0, per_s: 2.0 }, Rate { burst: 400.0, per_s: 100.0 }, now)
    }

    fn source(number: u32) -> Option<IpAddr> {
        Some(std::net::Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn one_source_is_slowed_down_and_the_others_are_not() {
        let now = Instant::now();
        let rates = fresh(now);
        let taken = (0..200).filter(|_| rates.admit(source(1), now)).count();
        assert_eq!(taken, 60);
        assert!(rates.admit(source(2), now));
        assert!(rates.admit(source(1), now + Duration::from_secs(1)), "it may go on slowly");
    }

    #[test]
    fn all_together_are_slowed_down_and_addresses_of_one_network_are_one_source() {
        let now = Instant::now();
        let rates = fresh(now);
        let taken = (0..1_000).filter(|number| rates.admit(source(*number), now)).count();
        assert_eq!(taken, 400);
        let rates = fresh(now);
        let of = |host: u16| Some(IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host)));
        assert_eq!((0..200).filter(|host| rates.admit(of(*host), now)).count(), 60);
    }

    #[test]
    fn who_has_no_source_of_its_own_counts_among_all() {
        let now = Instant::now();
        let rates = fresh(now);
        assert_eq!((0..1_000).filter(|_| rates.admit(None, now)).count(), 400);
        assert!(!rates.admit(source(1), now));
    }

    #[test]
    fn the_table_of_sources_is_bounded_and_forgets_the_quiet() {
        let mut now = Instant::now();
        let rates = fresh(now);
        for number in 0..20_000 {
            now += Duration::from_millis(10);
            rates.admit(source(number), now);
        }
        assert!(rates.buckets.lock().unwrap().sources.len() <= SOURCES_MAX);
        assert!(rates.admit(source(30_000), now + Duration::from_secs(60)));
    }
}
