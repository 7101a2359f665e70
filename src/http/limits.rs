//! What a listener grants: connections, and the time that each step of one may take.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The limits of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once from one source: an IPv4 address, or an IPv6 network of 64 bits. A listener on a loopback address,
    /// where a proxy may stand for everybody, does not count sources.
    pub source_connections_max: usize,
    /// A TLS handshake may take so long.
    pub handshake_max: Duration,
    /// A peer has this long for its first bytes.
    pub first_bytes_max: Duration,
    /// The head of a request may take so long; also how long an HTTP/1 connection may wait for its next request.
    pub head_max: Duration,
    /// How often a connection is looked at. One that is slow for three looks in a row, or without a request for six, is given
    /// up.
    pub look_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            source_connections_max: 128,
            handshake_max: Duration::from_secs(5),
            first_bytes_max: Duration::from_secs(5),
            head_max: Duration::from_secs(10),
            look_every: Duration::from_secs(10),
        }
    }
}

/// How many connections each source has. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of a source, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    /// A seat for one more connection from `address`, if it has fewer than `max`.
    pub(super) fn enter(&self, address: IpAddr, max: usize) -> Option<Seat> {
        let source = network(address);
        let mut counts = self.counts();
        let count = counts.entry(source).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Seat { sources: self.clone(), source })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.sources.counts();
        if let Some(count) = counts.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

/// What one customer of a provider is given: an IPv4 address, or 64 bits of an IPv6 address.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let host = u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !host))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_so_many_seats_and_gets_them_back() {
        let sources = Sources::default();
        let enter = |address: &str| sources.enter(address.parse().unwrap(), 2);
        let (first, second) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some(), "another address is another source");
        drop(first);
        let again = enter("192.0.2.1");
        assert!(again.is_some() && enter("192.0.2.1").is_none());
        drop((second, again));
        assert!(sources.counts().is_empty(), "a source that is gone is forgotten");
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let sources = Sources::default();
        let enter = |address: &str| sources.enter(address.parse().unwrap(), 1);
        let _seat = enter("2001:db8:1:2::1");
        assert!(enter("2001:db8:1:2:ffff::9").is_none());
        assert!(enter("2001:db8:1:3::1").is_some());
    }
}
