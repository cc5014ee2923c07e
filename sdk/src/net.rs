//! Sets of addresses and networks (CIDR).

use std::net::IpAddr;

use crate::{ConfigError, address};

/// Addresses and networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<(IpAddr, u8)>);

impl Networks {
    /// Reads members such as `192.0.2.1`, `10.0.0.0/8` and `2001:db8::/32`; `field` is named in errors.
    ///
    /// # Errors
    ///
    /// A member that is none.
    pub fn parse(field: &str, members: &[String]) -> Result<Self, ConfigError> {
        members
            .iter()
            .enumerate()
            .map(|(index, member)| {
                network(member).ok_or_else(|| {
                    ConfigError::new(
                        format!("{field}[{index}]"),
                        format!(
                            "{member:?} is neither an address nor a network such as 10.0.0.0/8"
                        ),
                    )
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address belongs to one. IPv4 in IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, of: IpAddr) -> bool {
        let of = of.to_canonical();
        self.0.iter().any(|(network, bits)| {
            network.is_ipv4() == of.is_ipv4() && address::prefix(of, *bits) == *network
        })
    }
}

/// The length of `::ffff:0:0/96`, the network of IPv4 in IPv6.
const MAPPED_BITS: u8 = 96;

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let text = text.trim();
    let (base, bits) = match text.split_once('/') {
        Some((base, bits)) => (base, Some(bits)),
        None => (text, None),
    };
    let base: IpAddr = base.parse().ok()?;
    let width = if base.is_ipv4() { 32 } else { 128 };
    let bits: u8 = match bits {
        // No sign and no further zeros, so that nothing has two spellings.
        Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok()?,
        Some(_) => return None,
        None => width,
    };
    if bits > width {
        return None;
    }
    // Addresses are compared as IPv4 where they are IPv4 in IPv6, so their networks have to be.
    let (base, bits) = match (base, bits.checked_sub(MAPPED_BITS)) {
        (IpAddr::V6(v6), Some(rest)) => match v6.to_ipv4_mapped() {
            Some(v4) => (IpAddr::V4(v4), rest),
            None => (base, bits),
        },
        _ => (base, bits),
    };
    Some((address::prefix(base, bits), bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(members: &[&str]) -> Result<Networks, ConfigError> {
        let members: Vec<String> = members.iter().map(ToString::to_string).collect();
        Networks::parse("allow", &members)
    }

    #[test]
    fn members() {
        let set = networks(&["192.0.2.7", "10.1.2.3/8", "2001:db8::/32", "::1"]).unwrap();
        for (text, expected) in [
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("::ffff:10.0.0.1", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::1", true),
            ("::", false),
        ] {
            assert_eq!(set.contains(text.parse().unwrap()), expected, "{text}");
        }
        let all = networks(&["0.0.0.0/0"]).unwrap();
        assert!(all.contains("1.2.3.4".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
    }

    #[test]
    fn networks_of_ipv4_in_ipv6_are_of_ipv4() {
        let set = networks(&["::ffff:127.0.0.0/104", "::ffff:192.0.2.7"]).unwrap();
        for (text, expected) in [
            ("127.255.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("128.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
        ] {
            assert_eq!(set.contains(text.parse().unwrap()), expected, "{text}");
        }
        let all = networks(&["::ffff:0:0/96"]).unwrap();
        assert!(all.contains("1.2.3.4".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "a",
            "10.0.0.0/",
        ] {
            assert_eq!(
                networks(&["::1", text]).unwrap_err().field(),
                "allow[1]",
                "{text}"
            );
        }
    }
}
