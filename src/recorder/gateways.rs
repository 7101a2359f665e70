//! Which server a recorder connects to: one of the gateways that it was given, in turn, the last good one first.

use std::net::SocketAddr;

use crate::error::{Context, Error, Kind, Result};

/// The gateways of a recorder.
#[derive(Debug)]
pub(super) struct Gateways {
    /// `HOST:PORT` of each; never empty.
    hosts: Vec<String>,
    /// Tries since the last welcome.
    tries: usize,
    /// The host of the current try.
    at: usize,
    /// What has said its welcome last.
    good: Option<SocketAddr>,
}

impl Gateways {
    /// The gateways of a list, `HOST:PORT` separated by commas.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it names none, or one without a port.
    pub(super) fn parse(list: &str) -> Result<Self> {
        let hosts: Vec<String> = list.split(',').map(|host| host.trim().to_owned()).collect();
        for host in &hosts {
            let port = host.rsplit_once(':').filter(|(name, _)| !name.is_empty()).map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                return Err(Error::new(Kind::Invalid, format!("the server is HOST:PORT, not {host:?}")));
            }
        }
        Ok(Self { hosts, tries: 0, at: 0, good: None })
    }

    /// The gateway of the current try, for a person.
    pub(super) fn name(&self) -> &str {
        self.hosts.get(self.at).map_or("", String::as_str)
    }

    /// How often every gateway was tried in vain since the last welcome.
    pub(super) fn rounds(&self) -> u32 {
        u32::try_from(self.tries.checked_div(self.hosts.len()).unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// The address of the current try; names are looked up each time. A name with several addresses gives another
    /// in each round.
    ///
    /// # Errors
    /// [`Kind::Busy`] if the name has no address now.
    pub(super) async fn address(&self) -> Result<SocketAddr> {
        let unknown = || format!("cannot find the server {}", self.name());
        let found = tokio::net::lookup_host(self.name()).await.context(Kind::Busy, unknown())?;
        self.choose(found.collect()).ok_or_else(|| Error::new(Kind::Busy, unknown()))
    }

    fn choose(&self, mut addresses: Vec<SocketAddr>) -> Option<SocketAddr> {
        if let Some(good) = addresses.iter().position(|address| Some(*address) == self.good) {
            addresses.rotate_left(good);
        }
        let turn = usize::try_from(self.rounds()).unwrap_or(0).checked_rem(addresses.len())?;
        addresses.get(turn).copied()
    }

    /// The current try has come to a welcome, from this address.
    pub(super) fn welcomed(&mut self, address: SocketAddr) {
        self.good = Some(address);
        self.tries = 0;
    }

    /// The current try is over: whoever said a welcome is tried again first, else the next one.
    pub(super) fn ended(&mut self, welcomed: bool) {
        if !welcomed {
            self.tries = self.tries.saturating_add(1);
            self.at = self.at.saturating_add(1).checked_rem(self.hosts.len()).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 4433))
    }

    #[test]
    fn gateways_are_tried_in_turn_and_the_last_good_one_first() {
        let mut gateways = Gateways::parse("a:1, b:2,c:3").unwrap();
        let mut tried = Vec::new();
        for _ in 0..4 {
            tried.push((gateways.name().to_owned(), gateways.rounds()));
            gateways.ended(false);
        }
        let tried: Vec<_> = tried.iter().map(|(name, round)| (name.as_str(), *round)).collect();
        assert_eq!(tried, [("a:1", 0), ("b:2", 0), ("c:3", 0), ("a:1", 1)]);
        gateways.welcomed(address(1));
        gateways.ended(true);
        assert_eq!((gateways.name(), gateways.rounds()), ("b:2", 0), "where it was welcome it goes back to");
    }

    #[test]
    fn a_name_with_several_addresses_begins_with_the_good_one() {
        let mut gateways = Gateways::parse("a:1").unwrap();
        let addresses = || vec![address(1), address(2), address(3)];
        gateways.welcomed(address(2));
        let mut chosen = Vec::new();
        for _ in 0..3 {
            chosen.extend(gateways.choose(addresses()));
            gateways.ended(false);
        }
        assert_eq!(chosen, [address(2), address(3), address(1)]);
        assert_eq!(gateways.choose(Vec::new()), None);
    }

    #[test]
    fn what_is_no_address_is_said_at_once() {
        for list in ["", "a", "a:", "a:0", "a:1,", ":1", "a:70000"] {
            assert_eq!(Gateways::parse(list).unwrap_err().kind(), Kind::Invalid, "{list}");
        }
        assert!(Gateways::parse("[::1]:4433").is_ok());
    }
}
