//! How often devices may ask: a bucket for each source address and one for all, so that one stranger costs little and a site behind one
//! address still enrols a shelf of recorders.
//!
//! The table of sources is bounded: what has been quiet long enough to be full again is forgotten first, and when none is, the source
//! is refused. Time is handed in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Requests of one source at once, and then in a second.
const SOURCE: Rate = Rate { burst: 60.0, per_s: 2.0 };
/// Requests of all at once, and then in a second.
const ALL: Rate = Rate { burst: 400.0, per_s: 100.0 };
/// Sources that are known at once.
const SOURCES_MAX: usize = 4_096;

struct Rate {
    burst: f64,
    per_s: f64,
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

/// Who may ask now.
pub(super) struct Limits(Mutex<Buckets>);

impl Limits {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Buckets { all: Bucket::full(&ALL, now), sources: HashMap::new() }))
    }

    /// Whether a request of `source` is answered.
    pub(super) fn admit(&self, source: IpAddr, now: Instant) -> bool {
        let source = network(source);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.sources.len() >= SOURCES_MAX && !buckets.sources.contains_key(&source) {
            buckets.sources.retain(|_, bucket| {
                bucket.refill(&SOURCE, now);
                bucket.left < SOURCE.burst
            });
            if buckets.sources.len() >= SOURCES_MAX {
                return false;
            }
        }
        let own = buckets.sources.entry(source).or_insert_with(|| Bucket::full(&SOURCE, now));
        own.take(&SOURCE, now) && buckets.all.take(&ALL, now)
    }
}

/// Whoever has one IPv6 address has 2^64 of them.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn one_source_is_slowed_down_and_the_others_are_not() {
        let now = Instant::now();
        let limits = Limits::new(now);
        let taken = (0..200).filter(|_| limits.admit(source(1), now)).count();
        assert_eq!(taken, 60);
        assert!(limits.admit(source(2), now));
        assert!(limits.admit(source(1), now + Duration::from_secs(1)), "it may go on slowly");
    }

    #[test]
    fn all_together_are_slowed_down_and_addresses_of_one_network_are_one_source() {
        let now = Instant::now();
        let limits = Limits::new(now);
        let taken = (0..1_000).filter(|number| limits.admit(source(*number), now)).count();
        assert_eq!(taken, 400);
        let limits = Limits::new(now);
        let of = |host: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host));
        assert_eq!((0..200).filter(|host| limits.admit(of(*host), now)).count(), 60);
    }

    #[test]
    fn the_table_of_sources_is_bounded_and_forgets_the_quiet() {
        let mut now = Instant::now();
        let limits = Limits::new(now);
        for number in 0..20_000 {
            now += Duration::from_millis(10);
            limits.admit(source(number), now);
        }
        assert!(limits.0.lock().unwrap().sources.len() <= SOURCES_MAX);
        assert!(limits.admit(source(30_000), now + Duration::from_secs(60)));
    }
}
