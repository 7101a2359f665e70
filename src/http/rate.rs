//! How often something may be done: a bucket for each who asks, an address or a name, and one for all together, so that nobody
//! costs more than a share.
//!
//! The table is bounded: whoever has been quiet long enough for a full bucket is forgotten first, and when nobody has, who is new
//! is refused. Time is handed in.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Who is known at once.
const KNOWN_MAX: usize = 4_096;

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

struct Buckets<K> {
    all: Option<Bucket>,
    each: HashMap<K, Bucket>,
}

/// Who may do it now, told apart by `K`.
pub struct Rates<K> {
    each: Rate,
    all: Option<Rate>,
    buckets: Mutex<Buckets<K>>,
}

impl<K: Eq + Hash> Rates<K> {
    /// At most so often for each, and where `all` is given for all together; at first all of it is left.
    #[must_use]
    pub fn new(each: Rate, all: Option<Rate>, now: Instant) -> Self {
        let buckets = Buckets { all: all.map(|all| Bucket::full(&all, now)), each: HashMap::new() };
        Self { each, all, buckets: Mutex::new(buckets) }
    }

    /// Whether `who` may do it once more; where nobody is named, whether all together may.
    pub fn admit(&self, who: Option<K>, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { all, each } = &mut *buckets;
        who.is_none_or(|who| self.admit_one(each, who, now))
            && self.all.iter().zip(all).all(|(rate, bucket)| bucket.take(rate, now))
    }

    fn admit_one(&self, known: &mut HashMap<K, Bucket>, who: K, now: Instant) -> bool {
        if known.len() >= KNOWN_MAX && !known.contains_key(&who) {
            known.retain(|_, bucket| {
                bucket.refill(&self.each, now);
                bucket.left < self.each.burst
            });
            if known.len() >= KNOWN_MAX {
                return false;
            }
        }
        known.entry(who).or_insert_with(|| Bucket::full(&self.each, now)).take(&self.each, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn fresh(now: Instant) -> Rates<u32> {
        Rates::new(Rate { burst: 60.0, per_s: 2.0 }, Some(Rate { burst: 400.0, per_s: 100.0 }), now)
    }

    #[test]
    fn one_is_slowed_down_and_the_others_are_not() {
        let now = Instant::now();
        let rates = fresh(now);
        let taken = (0..200).filter(|_| rates.admit(Some(1), now)).count();
        assert_eq!(taken, 60);
        assert!(rates.admit(Some(2), now));
        assert!(rates.admit(Some(1), now + Duration::from_secs(1)), "it may go on slowly");
    }

    #[test]
    fn all_together_are_slowed_down_where_they_have_a_rate() {
        let now = Instant::now();
        let rates = fresh(now);
        let taken = (0..1_000).filter(|number| rates.admit(Some(*number), now)).count();
        assert_eq!(taken, 400);
        let rates = Rates::new(Rate { burst: 1.0, per_s: 1.0 }, None, now);
        assert_eq!((0..1_000).filter(|number| rates.admit(Some(*number), now)).count(), 1_000);
        assert!((0..1_000).all(|_| rates.admit(None, now)));
    }

    #[test]
    fn who_has_no_name_of_their_own_counts_among_all() {
        let now = Instant::now();
        let rates = fresh(now);
        assert_eq!((0..1_000).filter(|_| rates.admit(None, now)).count(), 400);
        assert!(!rates.admit(Some(1), now));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_quiet() {
        let mut now = Instant::now();
        let rates = fresh(now);
        for number in 0..20_000 {
            now += Duration::from_millis(10);
            rates.admit(Some(number), now);
        }
        assert!(rates.buckets.lock().unwrap().each.len() <= KNOWN_MAX);
        assert!(rates.admit(Some(30_000), now + Duration::from_secs(60)));
    }
}
