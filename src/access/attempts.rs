//! How often somebody may be wrong: a bucket for each name and one for each network they come from, full again after some minutes.
//!
//! A name has a bucket whether there is such an account or not. Who is right gets back what the attempt took. What strangers make up is
//! bounded: beyond it the emptier half is forgotten, those of names that somebody has never, so that nobody keeps others from trying
//! by trying much. Time is handed in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use aigaq_proto::{Digest, Micros};

/// Buckets of names that nobody has, and of networks, that are known at once, each.
const BUCKETS_MAX: usize = 20_000;

/// So many attempts at once, and then one in so many microseconds.
#[derive(Debug, Clone, Copy)]
struct Limit {
    burst: u64,
    every_us: Micros,
}

const NAME: Limit = Limit { burst: 5, every_us: 30_000_000 };
const NETWORK: Limit = Limit { burst: 30, every_us: 2_000_000 };

/// What a bucket belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whose {
    /// A name that somebody has: there are no more of these than accounts that ever were.
    Known(Digest),
    /// A name that nobody has.
    Unknown(Digest),
    Network(IpAddr),
}

impl Whose {
    fn limit(&self) -> Limit {
        match self {
            Self::Known(_) | Self::Unknown(_) => NAME,
            Self::Network(_) => NETWORK,
        }
    }
}

/// Of buckets of one kind, until when each is emptied by what was taken.
type Buckets = HashMap<Whose, Micros>;

#[derive(Debug, Default)]
struct Tables {
    known: Buckets,
    unknown: Buckets,
    networks: Buckets,
}

impl Tables {
    fn of(&mut self, whose: &Whose) -> &mut Buckets {
        match whose {
            Whose::Known(_) => &mut self.known,
            Whose::Unknown(_) => &mut self.unknown,
            Whose::Network(_) => &mut self.networks,
        }
    }
}

/// The attempts that were wrong lately.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Tables>);

/// What an attempt took.
#[derive(Debug)]
pub(super) struct Taken(Vec<Whose>);

impl Attempts {
    /// Whether one more attempt may be made under this name, which somebody has or not, from this network. Without a network it is not
    /// counted: a proxy on this machine stands for everybody.
    pub(super) fn take(&self, name: &str, is_known: bool, network: Option<IpAddr>, now: Micros) -> Option<Taken> {
        let digest = Digest::of(name.as_bytes());
        let name = if is_known { Whose::Known(digest) } else { Whose::Unknown(digest) };
        let wanted: Vec<Whose> = std::iter::once(name).chain(network.map(Whose::Network)).collect();
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for whose in &wanted {
            let Limit { burst, every_us } = whose.limit();
            let until = tables.of(whose).get(whose).map_or(now, |until| (*until).max(now));
            if until.saturating_sub(now) > every_us.saturating_mul(burst - 1) {
                return None;
            }
        }
        for whose in &wanted {
            let buckets = tables.of(whose);
            make_room(buckets, now);
            let until = buckets.entry(whose.clone()).or_insert(now);
            *until = (*until).max(now).saturating_add(whose.limit().every_us);
        }
        Some(Taken(wanted))
    }

    /// The attempt was right.
    pub(super) fn give_back(&self, taken: Taken) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for whose in taken.0 {
            if let Some(until) = tables.of(&whose).get_mut(&whose) {
                *until = until.saturating_sub(whose.limit().every_us);
            }
        }
    }
}

/// Forgets what is full again where there are as many as there may be, and the emptier half where that is nothing.
fn make_room(buckets: &mut Buckets, now: Micros) {
    if buckets.len() < BUCKETS_MAX {
        return;
    }
    buckets.retain(|_, until| *until > now);
    // Of those that somebody has none is forgotten before its time.
    let is_strangers = buckets.keys().next().is_some_and(|whose| !matches!(whose, Whose::Known(_)));
    if is_strangers && buckets.len() >= BUCKETS_MAX {
        let mut all: Vec<Micros> = buckets.values().copied().collect();
        let (_, middle, _) = all.select_nth_unstable(BUCKETS_MAX / 2);
        let middle = *middle;
        buckets.retain(|_, until| *until > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = 1_000_000_000_000;

    fn network(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from((0x0a00_0000 + number).to_be_bytes()))
    }

    #[test]
    fn a_name_may_be_tried_a_few_times_from_wherever_and_again_after_a_while() {
        let attempts = Attempts::default();
        let count = |name: &str, now| {
            (0..100).filter(|number| attempts.take(name, name == "anna", network(*number), now).is_some()).count()
        };
        assert_eq!(count("anna", NOW), 5);
        assert_eq!(count("nobody", NOW), 5, "also a name that nobody has");
        assert_eq!(count("anna", NOW + 30_000_000), 1);
        assert_eq!(count("anna", NOW + 600_000_000), 5);
    }

    #[test]
    fn a_network_may_try_a_few_names() {
        let attempts = Attempts::default();
        let tries = (0..100).filter(|name| attempts.take(&name.to_string(), false, network(1), NOW).is_some());
        assert_eq!(tries.count(), 30);
        let elsewhere = attempts.take("99", false, network(2), NOW);
        assert!(elsewhere.is_some() && attempts.take("98", false, None, NOW).is_some());
    }

    #[test]
    fn whoever_is_right_may_be_right_again() {
        let attempts = Attempts::default();
        for _ in 0..1_000 {
            attempts.give_back(attempts.take("anna", true, network(1), NOW).unwrap());
        }
    }

    #[test]
    fn names_that_are_made_up_fill_bounded_memory_and_keep_nobody_out() {
        let attempts = Attempts::default();
        for _ in 0..5 {
            assert!(attempts.take("anna", true, None, NOW).is_some());
        }
        for number in 0..3 * BUCKETS_MAX {
            let now = NOW + u64::try_from(number).unwrap();
            let number = u32::try_from(number).unwrap();
            assert!(attempts.take(&format!("made up {number}"), false, network(number), now).is_some());
        }
        let now = NOW + 1_000_000;
        assert!(attempts.take("berik", true, network(0), now).is_some(), "somebody who has not tried yet");
        assert!(attempts.take("anna", true, network(1), now).is_none(), "and none of a known name is forgotten");
        let tables = attempts.0.lock().unwrap();
        assert!(tables.unknown.len() <= BUCKETS_MAX && tables.networks.len() <= BUCKETS_MAX);
    }
}
