//! The client's address: from the host's `source.address`, or from `X-Forwarded-For` behind trusted proxies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::header;

/// Reads an address as hosts write it: `192.0.2.1:80`, `[2001:db8::1]:80`, or without port. IPv4 in IPv6 becomes IPv4, a zone is
/// dropped. `None` for anything else, a Unix socket for example.
#[must_use]
pub fn parse(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let address = text
        .parse::<SocketAddr>()
        .map(|socket| socket.ip())
        .or_else(|_| {
            let inner = text
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .unwrap_or(text);
            inner.split('%').next().unwrap_or(inner).parse()
        })
        .ok()?;
    Some(address.to_canonical())
}

/// The client's address behind `trusted_hops` proxies, from the connection's peer and the values of `X-Forwarded-For`.
///
/// Hosts append the peer to the header before filters run, and some do not: the peer is taken as the last hop once. With fewer
/// entries than trusted hops the request came around some of the proxies, and what the header says is not to be believed: the
/// peer counts. The same rule as Envoy's `xff_num_trusted_hops`.
///
/// A host that trusts proxies itself (Tidegate's `--trusted-hops`, Envoy's `xff_num_trusted_hops`) names the client as `peer` and
/// appends the proxy that it spoke with. So a peer that stands in the header, but not last, is the client already: no hop is
/// skipped twice. (To a host that appends nothing a client can name the proxy's own address as its own, and no other.)
#[must_use]
pub fn client<V: AsRef<[u8]>>(
    peer: Option<IpAddr>,
    forwarded_for: &[V],
    trusted_hops: u32,
) -> Option<IpAddr> {
    if trusted_hops == 0 {
        return peer;
    }
    let mut hops: Vec<Option<IpAddr>> = header::list(forwarded_for).map(parse).collect();
    if hops.last() != Some(&peer) {
        if peer.is_some() && hops.contains(&peer) {
            return peer;
        }
        hops.push(peer);
    }
    let back = usize::try_from(trusted_hops).unwrap_or(usize::MAX);
    let index = hops.len().checked_sub(1)?.checked_sub(back);
    index.and_then(|index| hops[index]).or(peer)
}

/// The client's address behind proxies that are known by their addresses: the first entry of `X-Forwarded-For`, from the right, that
/// is none of them. The peer counts where it is no such proxy, and an entry that cannot be read ends the search at the proxy
/// that wrote it.
#[must_use]
pub fn client_behind<V: AsRef<[u8]>>(
    peer: Option<IpAddr>,
    forwarded_for: &[V],
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let hops: Vec<Option<IpAddr>> = header::list(forwarded_for).map(parse).collect();
    let mut client = peer?;
    for hop in hops.into_iter().rev() {
        if !is_proxy(client) {
            break;
        }
        match hop {
            Some(hop) => client = hop,
            None => break,
        }
    }
    Some(client)
}

/// The first `bits` of an address, the rest zero.
#[must_use]
pub fn prefix(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(bits.min(32)))
                .unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(bits.min(128)))
                .unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_with_and_without_port() {
        for (text, expected) in [
            ("192.0.2.1:8080", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
            ("fe80::1%eth0", "fe80::1"),
            (" 192.0.2.1 ", "192.0.2.1"),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(ip(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_no_address() {
        for text in [
            "",
            "unknown",
            "/run/socket",
            "192.0.2.1:x",
            "1.2.3",
            "[::1",
            "_hidden",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(&[0xff, 0xfe]), None);
    }

    #[test]
    fn without_trusted_hops_the_header_says_nothing() {
        let peer = Some(ip("192.0.2.1"));
        assert_eq!(client(peer, &["198.51.100.7"], 0), peer);
        assert_eq!(client::<&str>(None, &[], 0), None);
    }

    #[test]
    fn hops_count_from_the_right_whether_or_not_the_host_appended_the_peer() {
        let peer = Some(ip("10.0.0.1"));
        let client_address = Some(ip("198.51.100.7"));
        assert_eq!(client(peer, &["198.51.100.7"], 1), client_address);
        assert_eq!(client(peer, &["198.51.100.7, 10.0.0.1"], 1), client_address);
        assert_eq!(
            client(peer, &["6.6.6.6, 198.51.100.7", "10.0.0.1"], 1),
            client_address
        );
        assert_eq!(
            client(peer, &["198.51.100.7, 10.0.0.2, 10.0.0.1"], 2),
            client_address
        );
    }

    #[test]
    fn a_client_that_the_host_has_found_behind_proxies_is_kept() {
        let found = Some(ip("198.51.100.7"));
        for forwarded_for in [
            "198.51.100.7, 10.0.0.1",
            "6.6.6.6, 198.51.100.7, 10.0.0.1",
            "198.51.100.7, 10.0.0.2, 10.0.0.1",
        ] {
            for hops in [1, 2, 3] {
                assert_eq!(client(found, &[forwarded_for], hops), found);
            }
        }
        // An entry that cannot be read is no peer that is not known.
        assert_eq!(client(None, &["unknown, 198.51.100.7"], 1), found);
    }

    #[test]
    fn too_few_or_unreadable_hops_fall_back_to_the_peer() {
        let peer = Some(ip("10.0.0.1"));
        assert_eq!(client::<&str>(peer, &[], 1), peer);
        assert_eq!(client(peer, &["198.51.100.7"], 5), peer);
        assert_eq!(client(peer, &["198.51.100.7"], u32::MAX), peer);
        assert_eq!(client(peer, &["garbage"], 1), peer);
    }

    #[test]
    fn known_proxies_are_passed_from_the_right() {
        let is_proxy = |address: IpAddr| address.to_string().starts_with("10.");
        let peer = Some(ip("10.0.0.1"));
        for (forwarded_for, expected) in [
            ("198.51.100.7", "198.51.100.7"),
            ("6.6.6.6, 198.51.100.7, 10.0.0.2, 10.0.0.1", "198.51.100.7"),
            ("198.51.100.7, unknown, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.3", "10.0.0.3"),
            ("", "10.0.0.1"),
        ] {
            let found = client_behind(peer, &[forwarded_for], is_proxy);
            assert_eq!(found, Some(ip(expected)), "{forwarded_for}");
        }
        let direct = Some(ip("203.0.113.9"));
        assert_eq!(client_behind(direct, &["198.51.100.7"], is_proxy), direct);
        assert_eq!(client_behind(None, &["198.51.100.7"], is_proxy), None);
    }

    #[test]
    fn prefixes() {
        assert_eq!(prefix(ip("192.0.2.129"), 24), ip("192.0.2.0"));
        assert_eq!(prefix(ip("192.0.2.129"), 32), ip("192.0.2.129"));
        assert_eq!(prefix(ip("192.0.2.129"), 0), ip("0.0.0.0"));
        assert_eq!(prefix(ip("2001:db8:1:2:3:4:5:6"), 64), ip("2001:db8:1:2::"));
        assert_eq!(prefix(ip("2001:db8::1"), 0), ip("::"));
        assert_eq!(prefix(ip("2001:db8::1"), 255), ip("2001:db8::1"));
    }
}
