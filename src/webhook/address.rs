//! Which addresses a webhook may have: those of the whole internet, and of others what the configuration names. Pure.
//!
//! The address is looked at that is connected to, each time anew, so that a name that leads elsewhere tomorrow leads nowhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What may be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Networks that may be reached although they are not of the whole internet; also without TLS.
    pub private: Vec<IpNet>,
}

impl Reach {
    /// Whether a webhook may be there, with TLS or without.
    #[must_use]
    pub fn allows(&self, address: IpAddr, tls: bool) -> bool {
        let address = address.to_canonical();
        self.private.iter().any(|network| network.contains(&address)) || tls && is_of_the_internet(address)
    }
}

/// Whether an address is one of the whole internet, and none that leads back into the site.
fn is_of_the_internet(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_v4_of_the_internet(address),
        IpAddr::V6(address) => is_v6_of_the_internet(address),
    }
}

fn is_v4_of_the_internet(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocols = (a, b, c) == (192, 0, 0);
    let benchmarks = a == 198 && (18..20).contains(&b);
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || shared
        || protocols
        || benchmarks)
}

fn is_v6_of_the_internet(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // What is given out to the internet, and of that nothing that carries an address of version 4 or is for examples.
    let given_out = first & 0xe000 == 0x2000;
    let carries_v4 = first == 0x2002 || (first, second) == (0x2001, 0);
    let examples = (first, second) == (0x2001, 0x0db8) || first == 0x3fff;
    given_out && !carries_v4 && !examples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_the_whole_internet_is_reached_by_name_of_the_configuration_alone() {
        let reach = Reach { private: vec!["10.20.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()] };
        for (address, plain, tls) in [
            ("1.1.1.1", false, true),
            ("10.20.3.4", true, true),
            ("::ffff:10.20.3.4", true, true),
            ("10.21.0.1", false, false),
            ("127.0.0.1", false, false),
            ("169.254.169.254", false, false),
            ("100.64.0.1", false, false),
            ("0.0.0.0", false, false),
            ("255.255.255.255", false, false),
            ("224.0.0.1", false, false),
            ("::1", false, false),
            ("::ffff:127.0.0.1", false, false),
            ("64:ff9b::7f00:1", false, false),
            ("2002:7f00:1::", false, false),
            ("fe80::1", false, false),
            ("fd12::1", true, true),
            ("2606:4700::1111", false, true),
            ("2001:db8::1", false, false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!((reach.allows(address, false), reach.allows(address, true)), (plain, tls), "{address}");
        }
    }
}
