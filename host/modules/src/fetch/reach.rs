//! Where modules may be fetched from: not from the host's own network, whatever a name, a redirect or a registry says.
//!
//! A Filter's author names the server, and the server names others (redirects, token services). The process asks all of them
//! from inside the cluster, so addresses that mean something only there, above all the metadata services of clouds, are
//! refused. What counts is the address that is connected to, after DNS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where connections may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Whether this machine itself may be asked.
    pub(crate) loopback: bool,
}

/// Metadata and platform services outside of link-local: Alibaba Cloud, Oracle Cloud (classic), Azure; and in IPv6 AWS (its
/// metadata, DNS and time) and Google.
const PLATFORM_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
const AWS_V6: u128 = 0xfd00_0ec2 << 96;
const GOOGLE_V6: u128 = 0xfd20_00ce << 96;

impl Reach {
    /// Why this address is not connected to, if it is not.
    pub(crate) fn refusal(self, address: IpAddr) -> Option<&'static str> {
        match address {
            IpAddr::V4(address) => self.refusal_v4(address),
            IpAddr::V6(address) => self.refusal_v6(address),
        }
    }

    fn refusal_v4(self, address: Ipv4Addr) -> Option<&'static str> {
        if address.is_link_local() {
            Some("link-local, where clouds have their metadata services")
        } else if PLATFORM_V4.contains(&address) {
            Some("a service of the cloud platform")
        } else if address.octets()[0] == 0 {
            Some("this host by another name")
        } else if address.is_multicast() || address.octets()[0] >= 240 {
            Some("no address of a server")
        } else if address.is_loopback() && !self.loopback {
            Some("the gateway's own loopback")
        } else {
            None
        }
    }

    fn refusal_v6(self, address: Ipv6Addr) -> Option<&'static str> {
        if let Some(inner) = embedded(address) {
            return self.refusal_v4(inner);
        }
        let bits = u128::from(address);
        let first = address.segments()[0];
        if address.is_unicast_link_local() {
            Some("link-local, where clouds have their metadata services")
        } else if bits >> 96 == AWS_V6 >> 96 || bits >> 96 == GOOGLE_V6 >> 96 {
            Some("a service of the cloud platform")
        } else if address.is_unspecified() {
            Some("this host by another name")
        } else if address.is_multicast() || first & 0xffc0 == 0xfec0 {
            Some("no address of a server")
        } else if address.is_loopback() && !self.loopback {
            Some("the gateway's own loopback")
        } else {
            None
        }
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(pair(high, low))
        }
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(pair(high, low)),
        [0x2002, high, low, ..] => Some(pair(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reach: Reach, address: &str) -> bool {
        reach.refusal(address.parse().expect(address)).is_some()
    }

    #[test]
    fn what_only_the_host_can_see_is_refused() {
        let reach = Reach { loopback: true };
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::",
            "ff02::1",
            "fec0::1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(refused(reach, address), "{address} is reachable");
        }
    }

    #[test]
    fn loopback_depends_on_the_process() {
        for address in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(!refused(Reach { loopback: true }, address), "{address}");
            assert!(refused(Reach { loopback: false }, address), "{address}");
        }
    }

    #[test]
    fn servers_are_reached_wherever_they_are() {
        for address in [
            "10.0.0.7",
            "172.20.1.1",
            "192.168.1.1",
            "203.0.113.7",
            "100.64.0.1",
            "fd12::7",
            "2001:db8::1",
            "64:ff9b::203.0.113.7",
        ] {
            assert!(!refused(Reach { loopback: false }, address), "{address}");
        }
    }
}
