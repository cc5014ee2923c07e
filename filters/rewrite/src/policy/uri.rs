//! Text in and out of URIs (RFC 3986): percent-encoding, dot segments, authorities.

use std::borrow::Cow;

/// Which characters stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Component {
    /// A path with its slashes.
    Path,
    /// A query as an author writes it: with `&` and `=` between parameters.
    Query,
    /// A name or a value inside a query.
    Parameter,
}

/// What a percent sign in a text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Percent {
    /// With two hexadecimal digits it is an encoded byte, and stays.
    Encoded,
    /// It is a percent sign, and is encoded.
    Literal,
}

impl Component {
    fn allows(self, byte: u8) -> bool {
        // unreserved
        byte.is_ascii_alphanumeric()
            || b"-._~".contains(&byte)
            || match self {
                Self::Path => b"!$&'()*+,;=:@/".contains(&byte),
                Self::Query => b"!$&'()*+,;=:@/?".contains(&byte),
                Self::Parameter => b"!$'()*,;:@/?".contains(&byte),
            }
    }
}

/// Appends `text` to `out` so that nothing in it can end the component: what may not stand there is percent-encoded.
pub(super) fn encode(text: &[u8], component: Component, percent: Percent, out: &mut String) {
    for (index, byte) in text.iter().copied().enumerate() {
        let keep = match byte {
            b'%' => percent == Percent::Encoded && triplet(&text[index..]).is_some(),
            _ => component.allows(byte),
        };
        if keep {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
}

/// The bytes that percent-encoded text stands for.
pub(super) fn decode(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first() {
        let (byte, length) = triplet(rest).map_or((*first, 1), |byte| (byte, 3));
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes
}

fn triplet(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// Whether a path would climb or stand still when somebody resolves it, encoded dots included.
pub(super) fn has_dot_segments(path: &str) -> bool {
    path.split('/').any(|segment| {
        let dots: Cow<'_, [u8]> = match segment.contains('%') {
            true => decode(segment.as_bytes()).into(),
            false => segment.as_bytes().into(),
        };
        matches!(&*dots, b"." | b"..")
    })
}

/// A decoded path without dot segments and without empty ones inside, as nginx normalises it before it matches. `None` when it
/// climbs above the root.
pub(super) fn normalize(path: &[u8]) -> Option<Vec<u8>> {
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut directory = false;
    for segment in path.split(|byte| *byte == b'/') {
        directory = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => {
                segments.pop()?;
            }
            segment => segments.push(segment),
        }
    }
    let mut normal = b"/".to_vec();
    normal.extend_from_slice(&segments.join(&b'/'));
    if directory && !segments.is_empty() {
        normal.push(b'/');
    }
    Some(normal)
}

/// Whether `text` is a host with an optional port, and nothing else.
pub(super) fn is_authority(text: &str) -> bool {
    let after_address = text.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match text[after_address..].split_once(':') {
        Some((rest, port)) => (&text[..after_address + rest.len()], Some(port)),
        None => (text, None),
    };
    let port_is_fine = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let host_is_fine = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(address) => {
            address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
        }
        None => {
            (1..=253).contains(&host.len())
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    port_is_fine && host_is_fine
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str, component: Component, percent: Percent) -> String {
        let mut out = String::new();
        encode(text.as_bytes(), component, percent, &mut out);
        out
    }

    #[test]
    fn what_may_not_stand_in_a_component_is_encoded() {
        let text = "/a b\r\n?#é\"<>\\^`{|}&=+;%2F%zz%\0";
        assert_eq!(
            encoded(text, Component::Path, Percent::Encoded),
            "/a%20b%0D%0A%3F%23%C3%A9%22%3C%3E%5C%5E%60%7B%7C%7D&=+;%2F%25zz%25%00"
        );
        assert_eq!(
            encoded("&=+#?%41", Component::Query, Percent::Encoded),
            "&=+%23?%41"
        );
        assert_eq!(
            encoded("&=+#?%41", Component::Parameter, Percent::Encoded),
            "%26%3D%2B%23?%41"
        );
        assert_eq!(
            encoded("%41", Component::Parameter, Percent::Literal),
            "%2541"
        );
    }

    #[test]
    fn decoding_leaves_what_is_no_encoding() {
        assert_eq!(decode(b"/a%2Fb%c3%A9%zz%4"), b"/a/b\xc3\xa9%zz%4");
        assert_eq!(decode(b"%00%ff"), b"\0\xff");
    }

    #[test]
    fn dot_segments_however_they_are_written() {
        for path in [
            "/..",
            "/a/../b",
            "/.",
            "/a/./b",
            "/%2e%2e/a",
            "/.%2E",
            "/a/%2E",
        ] {
            assert!(has_dot_segments(path), "{path}");
        }
        for path in [
            "/",
            "/a..b/...",
            "/.well-known",
            "/..a",
            "/%2e%2e%2e",
            "/%252e%252e",
        ] {
            assert!(!has_dot_segments(path), "{path}");
        }
    }

    #[test]
    fn normal_paths() {
        for (path, normal) in [
            ("/", Some("/")),
            ("//", Some("/")),
            ("/a//b", Some("/a/b")),
            ("/a/./b/", Some("/a/b/")),
            ("/a/../b", Some("/b")),
            ("/a/..", Some("/")),
            ("/a/b/..", Some("/a/")),
            ("/a/.", Some("/a/")),
            ("/..", None),
            ("/a/../../b", None),
        ] {
            assert_eq!(
                super::normalize(path.as_bytes()),
                normal.map(|text| text.as_bytes().to_vec()),
                "{path}"
            );
        }
    }

    #[test]
    fn authorities() {
        for text in [
            "a.test",
            "A-b_c.test:8080",
            "192.0.2.1:1",
            "[2001:db8::1]",
            "[::1]:443",
        ] {
            assert!(is_authority(text), "{text}");
        }
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a b",
            "a/b",
            "a@b",
            "a\r\nx:y",
            "a:b:c",
            "[::1",
            "[zz]",
            "2001:db8::1",
            "a?b",
            "a#b",
            "é",
        ] {
            assert!(!is_authority(text), "{text:?}");
        }
    }
}
