//! Text with variables of the request in it: `https://${request.host}${request.target}`.
//!
//! | variable | |
//! |---|---|
//! | `request.method`, `.scheme`, `.authority`, `.host` | the host in lower case and without port |
//! | `request.target`, `.path`, `.query` | path and query; the one; the other |
//! | `header.NAME`, `cookie.NAME`, `query.NAME` | the first value; empty where there is none |
//! | `client.address` | see [`address::client`](crate::address::client) |
//! | `claim.NAME` | a claim that the filter `jwt` or `oidc` has verified before |
//! | `property.PATH` | a property of the host that is text |
//! | `1`, `name` | what an expression has captured, where the filter has one |
//!
//! `$$` is a dollar sign. `${variable|encode}` is percent-encoded for a query, `${variable|noslash}` without one slash at its end.
//! `${variable|question}` stands behind a question mark, and `${variable|ampersand}` behind an ampersand, where there is something.

use std::net::IpAddr;

use crate::{Request, header, property};

/// A compiled text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Variable(Variable, Modifier),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Variable {
    Method,
    Scheme,
    Authority,
    Host,
    Target,
    Path,
    Query,
    Header(String),
    Cookie(String),
    Parameter(String),
    ClientAddress,
    Property(Vec<String>),
    Capture(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Modifier {
    None,
    Encode,
    NoSlash,
    Behind(u8),
}

/// Where values come from.
pub trait Source {
    /// A header of the request, pseudo-headers included.
    fn header(&self, name: &str) -> Option<Vec<u8>>;
    /// The client's address.
    fn address(&self) -> Option<IpAddr>;
    /// A property of the host.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;
    /// What an expression has captured under a number or a name.
    fn capture(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }
}

/// The request in hand as a source.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The request.
    pub request: &'a Request,
    /// Proxies to be believed about the client's address.
    pub trusted_hops: u32,
}

/// Path under which filters that verify a token leave its claims for others: this and the claim's name.
pub const CLAIMS: &str = "jwt";

// === impl Template ===

impl Template {
    /// Reads a text. `captures` says which captured groups there are.
    ///
    /// # Errors
    ///
    /// What is wrong with it: a variable that does not exist, a brace that is not closed.
    pub fn parse(text: &str, captures: &[&str]) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            literal.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let braced = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let (name, after) =
                braced.ok_or("has a $ that begins no ${variable}; write $$ for a dollar sign")?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(variable(name, captures)?);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self(pieces))
    }

    /// The text if it has no variables.
    #[must_use]
    pub fn constant(&self) -> Option<&str> {
        match &self.0[..] {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The text before the first variable.
    #[must_use]
    pub fn leading_literal(&self) -> &str {
        match self.0.first() {
            Some(Piece::Literal(text)) => text,
            _ => "",
        }
    }

    /// The text for one request. Control characters that a value may hold are left out, so that it fits into a header.
    #[must_use]
    pub fn render(&self, source: &dyn Source) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable, modifier) => {
                    let value = variable.value(source).unwrap_or_default();
                    let value = value.as_slice();
                    match modifier {
                        Modifier::None => push_visible(value, &mut out),
                        Modifier::Encode => encode(value, &mut out),
                        Modifier::NoSlash => {
                            push_visible(value.strip_suffix(b"/").unwrap_or(value), &mut out)
                        }
                        Modifier::Behind(mark) => {
                            out.extend((!value.is_empty()).then_some(*mark));
                            push_visible(value, &mut out);
                        }
                    }
                }
            }
        }
        out
    }

    /// Whether nothing of the request gave anything: literals alone, or variables that are all empty.
    #[must_use]
    pub fn is_empty_for(&self, source: &dyn Source) -> bool {
        let mut variables = self.0.iter().filter_map(|piece| match piece {
            Piece::Variable(variable, _) => Some(variable),
            Piece::Literal(_) => None,
        });
        self.constant().is_none()
            && variables.all(|variable| variable.value(source).is_none_or(|value| value.is_empty()))
    }
}

fn variable(text: &str, captures: &[&str]) -> Result<Piece, String> {
    let (name, modifier) = match text.split_once('|') {
        None => (text, Modifier::None),
        Some((name, "encode")) => (name, Modifier::Encode),
        Some((name, "noslash")) => (name, Modifier::NoSlash),
        Some((name, "question")) => (name, Modifier::Behind(b'?')),
        Some((name, "ampersand")) => (name, Modifier::Behind(b'&')),
        Some((_, other)) => {
            return Err(format!(
                "has the modifier {other:?}; there are encode, noslash, question and ampersand"
            ));
        }
    };
    let variable = match name {
        "request.method" => Variable::Method,
        "request.scheme" => Variable::Scheme,
        "request.authority" => Variable::Authority,
        "request.host" => Variable::Host,
        "request.target" => Variable::Target,
        "request.path" => Variable::Path,
        "request.query" => Variable::Query,
        "client.address" => Variable::ClientAddress,
        name if captures.contains(&name) => Variable::Capture(name.to_owned()),
        name => match name.split_once('.') {
            Some(("header", name)) if header::is_token(name.as_bytes()) => {
                Variable::Header(name.to_ascii_lowercase())
            }
            Some(("cookie", name)) if header::is_token(name.as_bytes()) => {
                Variable::Cookie(name.to_owned())
            }
            Some(("query", name)) if !name.is_empty() => Variable::Parameter(name.to_owned()),
            Some(("claim", name)) if !name.is_empty() => {
                Variable::Property(vec![CLAIMS.to_owned(), name.to_owned()])
            }
            Some(("property", path)) if !path.is_empty() => {
                Variable::Property(path.split('.').map(str::to_owned).collect())
            }
            _ => {
                return Err(format!(
                    "has the variable ${{{name}}}, which does not exist"
                ));
            }
        },
    };
    Ok(Piece::Variable(variable, modifier))
}

// === impl Variable ===

impl Variable {
    fn value(&self, source: &dyn Source) -> Option<Vec<u8>> {
        match self {
            Self::Method => source.header(":method"),
            Self::Scheme => source.header(":scheme"),
            Self::Authority => source.header(":authority"),
            Self::Host => source
                .header(":authority")
                .map(|authority| host(&authority)),
            Self::Target => source.header(":path"),
            Self::Path => source
                .header(":path")
                .map(|target| split(&target).0.to_vec()),
            Self::Query => source
                .header(":path")
                .map(|target| split(&target).1.to_vec()),
            Self::Header(name) => source.header(name),
            Self::Cookie(name) => {
                let cookies = source.header("cookie")?;
                header::cookie(&[cookies], name).map(<[u8]>::to_vec)
            }
            Self::Parameter(name) => {
                let target = source.header(":path")?;
                parameter(split(&target).1, name)
            }
            Self::ClientAddress => source
                .address()
                .map(|address| address.to_string().into_bytes()),
            Self::Property(path) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                source.property(&path)
            }
            Self::Capture(name) => source.capture(name),
        }
    }
}

/// A request's target as path and query, the question mark gone.
#[must_use]
pub fn split(target: &[u8]) -> (&[u8], &[u8]) {
    match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&target[..mark], &target[mark + 1..]),
        None => (target, &[]),
    }
}

/// An authority without its port, in lower case.
#[must_use]
pub fn host(authority: &[u8]) -> Vec<u8> {
    let colon = authority.iter().rposition(|byte| *byte == b':');
    let host = match colon {
        Some(colon) if authority[colon + 1..].iter().all(u8::is_ascii_digit) => &authority[..colon],
        _ => authority,
    };
    host.to_ascii_lowercase()
}

/// The first value of a query's parameter, decoded.
#[must_use]
pub fn parameter(query: &[u8], name: &str) -> Option<Vec<u8>> {
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let (key, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &[][..]),
        };
        (decode(key) == name.as_bytes()).then(|| decode(value))
    })
}

/// Percent-decoding as in forms: a plus is a space, and what is no encoding stays as it is.
#[must_use]
pub fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = after;
                }
                _ => out.push(b'%'),
            },
            (byte, _) => out.push(*byte),
        }
    }
    out
}

/// Percent-encodes everything but unreserved characters (RFC 3986 section 2.3).
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.extend(format!("%{byte:02X}").bytes());
        }
    }
}

fn push_visible(text: &[u8], out: &mut Vec<u8>) {
    out.extend(
        text.iter()
            .filter(|byte| **byte == b'\t' || (**byte >= 0x20 && **byte != 0x7f)),
    );
}

impl Source for Asked<'_> {
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.request.headers().get(name)
    }

    fn address(&self) -> Option<IpAddr> {
        self.request.client_address(self.trusted_hops)
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        property::get(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Example;

    impl Source for Example {
        fn header(&self, name: &str) -> Option<Vec<u8>> {
            let value = match name {
                ":method" => "GET",
                ":scheme" => "https",
                ":authority" => "Shop.Example:8443",
                ":path" => "/a/b?x=1&y=a%20b+c&x=2",
                "cookie" => "k=v; other=w",
                "x-evil" => "a\r\nb: c",
                _ => return None,
            };
            Some(value.into())
        }

        fn address(&self) -> Option<IpAddr> {
            "192.0.2.1".parse().ok()
        }

        fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
            (path == ["jwt", "sub"] || path == ["xds", "route_name"])
                .then(|| path.join("/").into_bytes())
        }

        fn capture(&self, name: &str) -> Option<Vec<u8>> {
            (name == "1").then(|| b"captured".to_vec())
        }
    }

    fn render(text: &str) -> Result<String, String> {
        let template = Template::parse(text, &["1"])?;
        Ok(String::from_utf8(template.render(&Example)).unwrap())
    }

    #[test]
    fn variables() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$$5", "$5"),
            ("${request.method} ${request.scheme}", "GET https"),
            (
                "${request.host}|${request.authority}",
                "shop.example|Shop.Example:8443",
            ),
            ("${request.path}?${request.query}", "/a/b?x=1&y=a%20b+c&x=2"),
            (
                "${request.target|encode}",
                "%2Fa%2Fb%3Fx%3D1%26y%3Da%2520b%2Bc%26x%3D2",
            ),
            ("${query.x}${query.y}${query.z}", "1a b c"),
            ("${cookie.other}", "w"),
            ("${header.X-None}.", "."),
            ("${header.x-evil}", "ab: c"),
            ("${client.address}", "192.0.2.1"),
            (
                "${claim.sub} ${property.xds.route_name}",
                "jwt/sub xds/route_name",
            ),
            ("${1}", "captured"),
            ("/n${request.query|question}", "/n?x=1&y=a%20b+c&x=2"),
            ("/n?o${query.x|ampersand}", "/n?o&1"),
            ("/n${query.z|question}${header.x-none|ampersand}.", "/n."),
            ("${header.x-evil|ampersand}", "&ab: c"),
        ] {
            assert_eq!(render(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_does_not_exist_is_named() {
        for (text, part) in [
            ("$", "$$ for a dollar sign"),
            ("${request.path", "$$ for a dollar sign"),
            ("${nothing}", "${nothing}"),
            ("${2}", "${2}"),
            ("${header.a b}", "does not exist"),
            ("${request.path|upper}", "modifier \"upper\""),
        ] {
            let problem = render(text).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }

    #[test]
    fn emptiness_is_about_variables() {
        let empty = |text| Template::parse(text, &[]).unwrap().is_empty_for(&Example);
        assert!(empty("Bearer ${cookie.none}"));
        assert!(!empty("Bearer ${cookie.k}") && !empty("constant"));
    }
}
