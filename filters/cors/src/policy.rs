//! Cross-origin resource sharing: which requests are answered as preflights, and what responses carry.
//!
//! One implementation for the Gateway API's `HTTPCORSFilter` (GEP-1767) and for ingress-nginx's `enable-cors`; [`Mode`] says which
//! of the two decides where they differ. Pure: the host's headers come in as values, edits go out as values.

mod config;
mod origin;
#[cfg(test)]
mod tests;

use tidegate_sdk::{Reply, header};

pub use config::Mode;
use origin::{Origin, Pattern};

const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const ALLOW_CREDENTIALS: &str = "access-control-allow-credentials";
const ALLOW_METHODS: &str = "access-control-allow-methods";
const ALLOW_HEADERS: &str = "access-control-allow-headers";
const EXPOSE_HEADERS: &str = "access-control-expose-headers";
const MAX_AGE: &str = "access-control-max-age";

/// What an upstream might say and this filter decides instead.
const OWNED: [&str; 6] = [
    ALLOW_ORIGIN,
    ALLOW_CREDENTIALS,
    ALLOW_METHODS,
    ALLOW_HEADERS,
    EXPOSE_HEADERS,
    MAX_AGE,
];

/// Longest `Access-Control-Request-Headers` that is echoed, in bytes; browsers send far less.
const MAX_ECHO: usize = 4096;

/// A compiled configuration.
#[derive(Debug)]
pub struct Cors {
    mode: Mode,
    origins: Origins,
    allow_methods: Names,
    allow_headers: Names,
    expose_headers: Names,
    allow_credentials: bool,
    max_age: String,
}

#[derive(Debug)]
enum Origins {
    Any,
    Listed(Vec<Pattern>),
}

/// A list of methods or header names.
#[derive(Debug)]
enum Names {
    None,
    Any,
    /// As a header's value.
    Listed(String),
}

/// What the decision needs of a request: all values of each header, in order.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `:method`.
    pub method: Vec<u8>,
    /// `Origin`.
    pub origin: Vec<Vec<u8>>,
    /// `Access-Control-Request-Method`.
    pub request_method: Vec<Vec<u8>>,
    /// `Access-Control-Request-Headers`.
    pub request_headers: Vec<Vec<u8>>,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The filter answers; nothing goes upstream.
    Reply(Reply),
    /// The request goes on; the grant decides what its response carries.
    Continue(Grant),
}

/// Whether the request's origin may read the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It may; the value of `Access-Control-Allow-Origin`.
    Allowed(String),
    /// It may not, or there is none.
    Denied,
}

/// A change of a response header: the value that replaces all others, or none to remove it.
pub type Edit = (&'static str, Option<String>);

// === impl Cors ===

impl Cors {
    /// Decides about a request.
    #[must_use]
    pub fn request(&self, request: &Request) -> Decision {
        let grant = self.grant(&request.origin);
        let options = request.method == b"OPTIONS";
        let preflight = options && !request.origin.is_empty() && !request.request_method.is_empty();
        match (self.mode, &grant) {
            // The filter has the last word: a path with it never passes a preflight on (GEP-1767).
            (Mode::Gateway, _) if preflight => Decision::Reply(self.preflight(&grant, request)),
            // Every OPTIONS is one for ingress-nginx, as soon as the origin is allowed.
            (Mode::Nginx, Grant::Allowed(_)) if options => {
                Decision::Reply(self.preflight(&grant, request))
            }
            _ => Decision::Continue(grant),
        }
    }

    /// The edits of a response whose request got `grant`; `vary` holds the values of its `Vary` header.
    #[must_use]
    pub fn response<V: AsRef<[u8]>>(&self, grant: &Grant, vary: &[V]) -> Vec<Edit> {
        let mut edits: Vec<Edit> = Vec::new();
        // ingress-nginx leaves the upstream's headers alone where it adds none of its own.
        if self.mode == Mode::Gateway || matches!(grant, Grant::Allowed(_)) {
            edits.extend(OWNED.map(|name| (name, None)));
        }
        if let Grant::Allowed(origin) = grant {
            let mut set = |name: &'static str, value: Option<String>| {
                if let (Some(value), Some(edit)) =
                    (value, edits.iter_mut().find(|edit| edit.0 == name))
                {
                    edit.1 = Some(value);
                }
            };
            set(ALLOW_ORIGIN, Some(origin.clone()));
            set(ALLOW_CREDENTIALS, self.credentials());
            set(EXPOSE_HEADERS, self.exposed());
            if self.mode == Mode::Nginx {
                set(ALLOW_METHODS, self.allow_methods.fixed());
                set(ALLOW_HEADERS, self.allow_headers.fixed());
                set(MAX_AGE, Some(self.max_age.clone()));
            }
        }
        edits.extend(self.vary(vary));
        edits
    }

    fn grant(&self, origin: &[Vec<u8>]) -> Grant {
        if self.is_constant() {
            return Grant::Allowed(String::from("*"));
        }
        // Two origins are a mistake or an attack: neither is allowed.
        let [origin] = origin else {
            return Grant::Denied;
        };
        let allowed = match &self.origins {
            Origins::Any => origin == b"null" || Origin::parse(origin).is_some(),
            Origins::Listed(patterns) => Origin::parse(origin)
                .is_some_and(|origin| patterns.iter().any(|pattern| pattern.allows(&origin))),
        };
        match String::from_utf8(origin.clone()) {
            Ok(origin) if allowed => Grant::Allowed(origin),
            _ => Grant::Denied,
        }
    }

    /// Whether every response says `Access-Control-Allow-Origin: *`. It is then sent to requests without an origin too, or a
    /// cache could serve a response without it to one with (Fetch, "CORS protocol and HTTP caches").
    fn is_constant(&self) -> bool {
        matches!(self.origins, Origins::Any)
            && (self.mode == Mode::Nginx || !self.allow_credentials)
    }

    fn preflight(&self, grant: &Grant, request: &Request) -> Reply {
        let mut reply = Reply::new(204);
        let mut add = |name: &str, value: Option<String>| {
            reply
                .headers
                .extend(value.map(|value| (name.to_owned(), value)));
        };
        if let Grant::Allowed(origin) = grant {
            add(ALLOW_ORIGIN, Some(origin.clone()));
            add(ALLOW_CREDENTIALS, self.credentials());
            add(
                ALLOW_METHODS,
                self.asked(&self.allow_methods, &request.request_method),
            );
            add(
                ALLOW_HEADERS,
                self.asked(&self.allow_headers, &request.request_headers),
            );
            add(EXPOSE_HEADERS, self.exposed());
            add(MAX_AGE, Some(self.max_age.clone()));
        }
        let vary = self.vary::<&[u8]>(&[]).and_then(|(_, value)| value);
        add("vary", vary);
        reply
    }

    /// A list in the answer to a preflight. A wildcard repeats what was asked for: with credentials `*` means nothing to a
    /// browser, and without them it does not cover `Authorization`.
    fn asked(&self, names: &Names, asked: &[Vec<u8>]) -> Option<String> {
        if !matches!(names, Names::Any) {
            return names.fixed();
        }
        let members: Vec<&[u8]> = header::list(asked).collect();
        let size: usize = members.iter().map(|member| member.len() + 2).sum();
        let valid = !members.is_empty()
            && size <= MAX_ECHO
            && members.iter().all(|member| header::is_token(member));
        if valid {
            return String::from_utf8(members.join(&b", "[..])).ok();
        }
        (!self.allow_credentials).then(|| String::from("*"))
    }

    fn exposed(&self) -> Option<String> {
        match &self.expose_headers {
            // With credentials a browser reads `*` as the name of a header.
            Names::Any if self.allow_credentials => None,
            names => names.fixed(),
        }
    }

    fn credentials(&self) -> Option<String> {
        self.allow_credentials.then(|| String::from("true"))
    }

    /// `Vary` with `Origin` added, where the response depends on it and does not say so yet.
    fn vary<V: AsRef<[u8]>>(&self, values: &[V]) -> Option<Edit> {
        if self.is_constant() {
            return None;
        }
        let members: Vec<_> = header::list(values).map(String::from_utf8_lossy).collect();
        let said = members
            .iter()
            .any(|member| member == "*" || member.eq_ignore_ascii_case("origin"));
        (!said).then(|| {
            let mut value = members.join(", ");
            if !value.is_empty() {
                value.push_str(", ");
            }
            value.push_str("Origin");
            ("vary", Some(value))
        })
    }
}

// === impl Names ===

impl Names {
    /// The value that does not depend on the request.
    fn fixed(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Any => Some(String::from("*")),
            Self::Listed(value) => Some(value.clone()),
        }
    }
}
