//! How often somebody may be wrong: a bucket for each name and one for each address, full again after some minutes.
//!
//! A name has a bucket whether there is such an account or not. Who is right gets back what the attempt took. The table is bounded:
//! buckets that are full again are forgotten first, and when none is, nobody new may try. Time is handed in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aigaq_proto::{Digest, Micros};

/// Buckets that are known at once.
const BUCKETS_MAX: usize = 20_000;

/// So many attempts at once, and then one in so many microseconds.
#[derive(Debug, Clone, Copy)]
struct Limit {
    burst: u64,
    every_us: Micros,
}

const NAME: Limit = Limit { burst: 5, every_us: 30_000_000 };
const ADDRESS: Limit = Limit { burst: 30, every_us: 2_000_000 };

/// The attempts that were wrong lately: for each bucket, until when it is emptied by what was taken.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<Digest, (Micros, Limit)>>);

/// What an attempt took.
#[derive(Debug)]
pub(super) struct Taken(Vec<(Digest, Limit)>);

impl Attempts {
    /// Whether one more attempt may be made under this name from this address. Without an address it is not counted: a proxy on this
    /// machine stands for everybody.
    pub(super) fn take(&self, name: &str, address: Option<&str>, now: Micros) -> Option<Taken> {
        let name = (Digest::of(format!("name {name}").as_bytes()), NAME);
        let address = address.map(|address| (Digest::of(format!("address {address}").as_bytes()), ADDRESS));
        let wanted: Vec<_> = std::iter::once(name).chain(address).collect();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() + wanted.len() > BUCKETS_MAX {
            buckets.retain(|_, (until, _)| *until > now);
        }
        let full = |(key, limit): &(Digest, Limit)| {
            let until = buckets.get(key).map_or(now, |(until, _)| (*until).max(now));
            until.saturating_sub(now) > limit.every_us.saturating_mul(limit.burst - 1)
        };
        if buckets.len() + wanted.len() > BUCKETS_MAX || wanted.iter().any(full) {
            return None;
        }
        for (key, limit) in &wanted {
            let (until, _) = buckets.entry(*key).or_insert((now, *limit));
            *until = (*until).max(now).saturating_add(limit.every_us);
        }
        Some(Taken(wanted))
    }

    /// The attempt was right.
    pub(super) fn give_back(&self, taken: Taken) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, limit) in taken.0 {
            if let Some((until, _)) = buckets.get_mut(&key) {
                *until = until.saturating_sub(limit.every_us);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = 1_000_000_000_000;

    #[test]
    fn a_name_may_be_tried_a_few_times_from_wherever_and_again_after_a_while() {
        let attempts = Attempts::default();
        let count = |name: &str, now| {
            let tries = (0..100).map(|number| format!("10.0.0.{number}"));
            tries.filter(|address| attempts.take(name, Some(address), now).is_some()).count()
        };
        assert_eq!(count("anna", NOW), 5);
        assert_eq!(count("nobody", NOW), 5, "also a name that nobody has");
        assert_eq!(count("anna", NOW + 30_000_000), 1);
        assert_eq!(count("anna", NOW + 600_000_000), 5);
    }

    #[test]
    fn an_address_may_try_a_few_names() {
        let attempts = Attempts::default();
        let tries = (0..100).filter(|name| attempts.take(&name.to_string(), Some("10.0.0.1"), NOW).is_some());
        assert_eq!(tries.count(), 30);
        assert!(attempts.take("99", Some("10.0.0.2"), NOW).is_some() && attempts.take("98", None, NOW).is_some());
    }

    #[test]
    fn whoever_is_right_may_be_right_again() {
        let attempts = Attempts::default();
        for _ in 0..1_000 {
            attempts.give_back(attempts.take("anna", Some("10.0.0.1"), NOW).unwrap());
        }
    }

    #[test]
    fn the_table_is_bounded() {
        let attempts = Attempts::default();
        let tries = (0..2 * BUCKETS_MAX).filter(|name| attempts.take(&name.to_string(), None, NOW).is_some());
        assert_eq!(tries.count(), BUCKETS_MAX);
        assert!(attempts.take("new", None, NOW + 60_000_000).is_some(), "what is full again is forgotten");
    }
}
