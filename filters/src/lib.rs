//! The bundled filters: portable proxy-wasm modules that come with the host, compiled by build.rs and embedded here.
//!
//! Each is an ordinary module that Envoy loads too; what bundling adds is a name, the JSON Schema of its configuration and limits
//! that suit it.

use std::time::Duration;

/// A filter that a `Filter` object names with `module.builtin`.
#[derive(Clone, Copy, Debug)]
pub struct Bundled {
    /// Its name, `cors` for example.
    pub name: &'static str,
    /// What it does, one line.
    pub description: &'static str,
    /// The module, stripped.
    pub module: &'static [u8],
    /// JSON Schema (2020-12) of its configuration; the module carries the same text in its custom section
    /// [`SCHEMA_SECTION`].
    pub schema: &'static str,
    /// Its black-box cases, as `sdk/cases` reads them.
    pub cases: &'static str,
    /// The time that one call may take where the host's default does not suit it.
    pub call_timeout: Option<Duration>,
    /// The field of its configuration that makes it hold heads back until bodies are there: `true`, or the most bytes. It needs
    /// `headersWaitForBody` then (in Envoy `allow_on_headers_stop_iteration`).
    pub holds_head: Option<&'static str>,
}

/// Custom section of a module that holds the JSON Schema of its configuration.
pub const SCHEMA_SECTION: &str = "tidegate.config.schema";

/// All bundled filters, by name.
#[must_use]
pub fn all() -> &'static [Bundled] {
    &BUNDLED
}

/// The bundled filter of that name.
#[must_use]
pub fn get(name: &str) -> Option<&'static Bundled> {
    BUNDLED.iter().find(|filter| filter.name == name)
}

/// A filter whose module build.rs has left in OUT_DIR under its name.
macro_rules! bundled {
    ($name:literal, $description:literal, $call_timeout:expr) => {
        Bundled {
            name: $name,
            description: $description,
            module: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm")),
            schema: include_str!(concat!("../", $name, "/schema.json")),
            cases: include_str!(concat!("../", $name, "/cases.yaml")),
            call_timeout: $call_timeout,
            holds_head: holds_head($name),
        }
    };
}

const fn holds_head(name: &str) -> Option<&'static str> {
    match name.as_bytes() {
        b"ext-auth" => Some("forwardBody"),
        b"hmac" => Some("holdHead"),
        _ => None,
    }
}

static BUNDLED: [Bundled; 19] = [
    bundled!(
        "api-key",
        "API keys in a header, a query parameter or a cookie",
        None
    ),
    // A bcrypt hash of cost 12 takes a quarter of a second.
    bundled!(
        "basic-auth",
        "HTTP basic authentication against htpasswd hashes",
        Some(Duration::from_millis(500))
    ),
    bundled!("body-limit", "Limits the length of request bodies", None),
    bundled!(
        "client-cert",
        "Rules over the verified client certificate",
        None
    ),
    bundled!(
        "cookie-rewrite",
        "Rewrites the cookies that upstreams set",
        None
    ),
    bundled!(
        "cors",
        "Cross-origin resource sharing, as the Gateway API and as ingress-nginx define it",
        None
    ),
    bundled!(
        "csrf",
        "Refuses state-changing requests from other origins",
        None
    ),
    bundled!("error-pages", "Replaces error responses with pages", None),
    bundled!(
        "ext-auth",
        "Asks a service, over HTTP or gRPC, whether a request may pass",
        None
    ),
    bundled!("fault", "Delays and aborts a percentage of requests", None),
    bundled!(
        "headers",
        "Sets, adds and removes headers, with templates over the request",
        None
    ),
    bundled!(
        "hmac",
        "Signed requests: webhooks and clients of one's own",
        None
    ),
    bundled!("ip-acl", "Allows and denies clients by address", None),
    // An RSA signature of 4096 bits, or one over P-521, takes some milliseconds, and several keys may have to be tried.
    bundled!(
        "jwt",
        "JSON Web Tokens, checked against inline or fetched keys",
        Some(Duration::from_millis(20))
    ),
    bundled!(
        "oidc",
        "Log-in with OpenID Connect, sessions in encrypted cookies",
        Some(Duration::from_millis(20))
    ),
    bundled!(
        "rate-limit",
        "Rate limits of a host, and of all replicas through a rate limit service",
        None
    ),
    bundled!(
        "redirect",
        "Redirects by rules, and rewrites of the upstream's Location",
        None
    ),
    bundled!(
        "request-block",
        "Refuses requests by method, path, query, header or body",
        None
    ),
    bundled!(
        "rewrite",
        "Rewrites of path, query and host with regular expressions",
        None
    ),
];
