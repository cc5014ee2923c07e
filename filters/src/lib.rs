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
    /// The time that one call may take where the host's default does not suit it.
    pub call_timeout: Option<Duration>,
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

static BUNDLED: [Bundled; 4] = [
    Bundled {
        name: "basic-auth",
        description: "HTTP basic authentication against htpasswd hashes",
        module: include_bytes!(concat!(env!("OUT_DIR"), "/basic-auth.wasm")),
        schema: include_str!("../basic-auth/schema.json"),
        // A bcrypt hash of cost 12 takes a quarter of a second.
        call_timeout: Some(Duration::from_millis(500)),
    },
    Bundled {
        name: "cors",
        description: "Cross-origin resource sharing, as the Gateway API and as ingress-nginx define it",
        module: include_bytes!(concat!(env!("OUT_DIR"), "/cors.wasm")),
        schema: include_str!("../cors/schema.json"),
        call_timeout: None,
    },
    Bundled {
        name: "rate-limit",
        description: "Local rate limits with counters shared by all workers",
        module: include_bytes!(concat!(env!("OUT_DIR"), "/rate-limit.wasm")),
        schema: include_str!("../rate-limit/schema.json"),
        call_timeout: None,
    },
    Bundled {
        name: "rewrite",
        description: "Rewrites of path, query and host with regular expressions",
        module: include_bytes!(concat!(env!("OUT_DIR"), "/rewrite.wasm")),
        schema: include_str!("../rewrite/schema.json"),
        call_timeout: None,
    },
];
