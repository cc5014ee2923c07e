//! Forwarding headers and the request id: what the host itself knows, and from trusted peers what they add to it.

use std::net::{IpAddr, SocketAddr};

use http::uri::Scheme;
use http::{HeaderName, HeaderValue};
use tidegate_model::RequestHead;

use crate::config::Trust;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// Envoy's: what proxies in front know of the client's certificate.
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A peer's address as the headers need it, made once for a connection.
pub(crate) struct Peer {
    ip: IpAddr,
    value: HeaderValue,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        Self {
            ip,
            value: value(&ip.to_string()),
        }
    }
}

impl Trust {
    fn covers(&self, peer: IpAddr) -> bool {
        match self {
            Self::None => false,
            Self::Hops(hops) => *hops > 0,
            Self::Networks(networks) => networks.iter().any(|network| network.contains(&peer)),
        }
    }
}

/// Sets `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `X-Real-IP`.
///
/// From an untrusted peer they are replaced, and `Forwarded` and `X-Forwarded-Client-Cert` removed; from a trusted one `X-Forwarded-For` is appended
/// to and what is there of the others is kept.
pub(crate) fn set(head: &mut RequestHead, peer: &Peer, port: u16, trust: &Trust) {
    let peer_ip = peer.ip;
    let trusted = trust.covers(peer_ip);
    let own = peer.value.clone();
    let proto = if head.scheme == Scheme::HTTPS {
        "https"
    } else {
        "http"
    };
    let known = [
        (PROTO, HeaderValue::from_static(proto)),
        (HOST, head.authority.clone()),
        (PORT, HeaderValue::from(port)),
        (REAL_IP, own.clone()),
    ];
    for (name, known) in known {
        if !(trusted && head.headers.contains_key(&name)) {
            head.headers.insert(name, known);
        }
    }
    if trusted {
        let chain = head
            .headers
            .get_all(FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect::<Vec<_>>();
        let chain = if chain.is_empty() {
            own
        } else {
            value(&format!("{}, {peer_ip}", chain.join(", ")))
        };
        head.headers.insert(FOR, chain);
    } else {
        head.headers.insert(FOR, own);
        head.headers.remove(http::header::FORWARDED);
        head.headers.remove(CLIENT_CERT);
    }
}

/// The client behind a trusted peer, as far as the trusted hops tell it; `None` where the peer is the client.
pub(crate) fn client_address(
    head: &RequestHead,
    peer: SocketAddr,
    trust: &Trust,
) -> Option<SocketAddr> {
    if !trust.covers(peer.ip().to_canonical()) {
        return None;
    }
    let chain: Vec<&str> = head
        .headers
        .get_all(FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    let mut client = None;
    // The last entry is the peer itself, put there by `set`.
    for (at, hop) in chain.into_iter().rev().skip(1).enumerate() {
        let is_trusted = match trust {
            Trust::None => false,
            Trust::Hops(count) => at < *count,
            Trust::Networks(_) => client.is_none_or(|client| trust.covers(client)),
        };
        // What a trusted hop wrote and nobody can read ends the search there: what stands before it is the client's own word.
        let Some(address) = address(hop).filter(|_| is_trusted) else {
            break;
        };
        client = Some(address);
    }
    client.map(|ip| SocketAddr::new(ip, 0))
}

/// An entry as proxies write it: `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(entry);
    let with_port = || entry.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let address = bare.parse().ok().or_else(with_port)?;
    Some(address.to_canonical())
}

/// Keeps a well-formed `X-Request-Id` (one token of at most 128 visible characters), else makes one.
pub(crate) fn request_id(head: &mut RequestHead) -> HeaderValue {
    let mut given = head.headers.get_all(REQUEST_ID).iter();
    if let (Some(id), None) = (given.next(), given.next())
        && (1..=128).contains(&id.len())
        && id
            .as_bytes()
            .iter()
            .all(|byte| byte.is_ascii_graphic() && *byte != b',')
    {
        return id.clone();
    }
    let id = HeaderValue::from_bytes(&uuid(fastrand::u128(..)))
        .unwrap_or_else(|_| HeaderValue::from_static("0"));
    head.headers.insert(REQUEST_ID, id.clone());
    id
}

/// A version 4 UUID (RFC 9562) of these random bits. Every request gets one, so it is written without the formatter.
fn uuid(bits: u128) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = bits & !(0xf << 76) | (4 << 76);
    let bytes = (bits & !(0b11 << 62) | (0b10 << 62)).to_be_bytes();
    let mut text = [b'-'; 36];
    let places = (0..36).filter(|at| !matches!(at, 8 | 13 | 18 | 23));
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    for (at, digit) in places.zip(digits) {
        text[at] = DIGITS[usize::from(digit)];
    }
    text
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    fn head(headers: &[(&'static str, &'static str)]) -> RequestHead {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        RequestHead {
            method: Method::GET,
            scheme: Scheme::HTTPS,
            authority: HeaderValue::from_static("a.test"),
            path: "/".parse().expect("a path"),
            headers: map,
        }
    }

    const SPOOFED: [(&str, &str); 6] = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-port", "1"),
        ("x-real-ip", "1.1.1.1"),
        ("forwarded", "for=1.1.1.1"),
    ];

    fn get<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
        head.headers
            .get(name)
            .map(|value| value.to_str().expect("text"))
    }

    #[test]
    fn an_untrusted_peer_is_not_believed() {
        let mut head = head(&SPOOFED);
        let peer = "192.0.2.1:5000".parse().expect("an address");
        set(&mut head, &Peer::new(peer), 443, &Trust::None);
        assert_eq!(get(&head, "x-forwarded-for"), Some("192.0.2.1"));
        assert_eq!(get(&head, "x-forwarded-proto"), Some("https"));
        assert_eq!(get(&head, "x-forwarded-host"), Some("a.test"));
        assert_eq!(get(&head, "x-forwarded-port"), Some("443"));
        assert_eq!(get(&head, "x-real-ip"), Some("192.0.2.1"));
        assert_eq!(get(&head, "forwarded"), None);
        assert_eq!(client_address(&head, peer, &Trust::None), None);
    }

    #[test]
    fn a_trusted_peer_is_appended_to() {
        let mut head = head(&SPOOFED);
        let peer = "192.0.2.1:5000".parse().expect("an address");
        let trust = Trust::Networks(vec!["192.0.2.0/24".parse().expect("a network")]);
        set(&mut head, &Peer::new(peer), 443, &trust);
        assert_eq!(get(&head, "x-forwarded-for"), Some("1.1.1.1, 192.0.2.1"));
        assert_eq!(get(&head, "x-forwarded-host"), Some("evil.test"));
        assert_eq!(get(&head, "forwarded"), Some("for=1.1.1.1"));
        assert_eq!(
            client_address(&head, peer, &trust)
                .map(|a| a.ip().to_string())
                .as_deref(),
            Some("1.1.1.1")
        );
    }

    #[test]
    fn so_many_hops_are_skipped() {
        let mut head = head(&[("x-forwarded-for", "9.9.9.9, 1.1.1.1, 10.0.0.1")]);
        let peer = "10.0.0.2:1".parse().expect("an address");
        let trust = Trust::Hops(2);
        set(&mut head, &Peer::new(peer), 80, &trust);
        assert_eq!(
            client_address(&head, peer, &trust)
                .map(|a| a.ip().to_string())
                .as_deref(),
            Some("1.1.1.1")
        );
    }

    #[test]
    fn what_a_trusted_hop_wrote_is_never_passed_over() {
        let peer = "127.0.0.1:1".parse().expect("an address");
        let networks = Trust::Networks(vec!["127.0.0.0/8".parse().expect("a network")]);
        for (chain, expected) in [
            ("6.6.6.6, 1.1.1.1", Some("1.1.1.1")),
            ("6.6.6.6, 1.1.1.1:4711", Some("1.1.1.1")),
            ("6.6.6.6, [2001:db8::1]:99", Some("2001:db8::1")),
            ("6.6.6.6, [2001:db8::1]", Some("2001:db8::1")),
            ("6.6.6.6, ::ffff:1.1.1.1", Some("1.1.1.1")),
            // The proxy is the last that is known.
            ("6.6.6.6, unknown", None),
            ("6.6.6.6, \"1.1.1.1\"", None),
            ("6.6.6.6, ", None),
        ] {
            for trust in [&Trust::Hops(1), &networks] {
                let mut head = head(&[("x-forwarded-for", chain)]);
                set(&mut head, &Peer::new(peer), 80, trust);
                let client = client_address(&head, peer, trust).map(|a| a.ip().to_string());
                assert_eq!(client.as_deref(), expected, "{chain}");
            }
        }
    }

    #[test]
    fn a_request_id_is_one_visible_token() {
        let kept = request_id(&mut head(&[("x-request-id", "abc-1")]));
        assert_eq!(kept, "abc-1");
        for bad in [
            &[("x-request-id", "a b")][..],
            &[("x-request-id", "a"), ("x-request-id", "b")],
            &[],
        ] {
            let mut head = head(bad);
            let made = request_id(&mut head);
            assert_eq!(made.len(), 36);
            assert_eq!(head.headers.get_all("x-request-id").iter().count(), 1);
        }
    }

    #[test]
    fn made_ids_are_version_4_uuids() {
        assert_eq!(&uuid(0), b"00000000-0000-4000-8000-000000000000");
        assert_eq!(&uuid(u128::MAX), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
