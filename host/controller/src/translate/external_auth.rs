//! The externalAuth filter of a route or listener (GEP-1494, experimental): the bundled filter `ext-auth`, configured as the Gateway
//! API writes it.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tidegate_model::{Certificate, Filter, path};

use super::backends::Speaks;
use super::context::Context;
use super::filters::{self, Bundle};
use super::grants::Referrer;
use super::problem::Problem;
use crate::api::filter::{ExternalAuth, ExternalAuthProtocol, HttpAuth};

/// Who asks for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    /// The object, for grants.
    pub(super) referrer: Referrer<'a>,
    /// The filter's name in the snapshot: object and place.
    pub(super) name: &'a str,
    /// The filter's place within the object, for messages: `spec.rules[0].filters[1]`.
    pub(super) place: &'a str,
    /// Shown to backends.
    pub(super) client_certificate: Option<&'a Arc<Certificate>>,
}

/// The cluster that the filter calls, as it knows it.
const CLUSTER: &str = "external-auth";

/// The longest body that `ext-auth` sends along, in bytes.
const MAX_BODY: u32 = 8 << 20;

/// What stands in the way of a service that fails: 403, as Envoy's filter has it. The specification says nothing.
const FAILURE_STATUS: u16 = 403;

/// Headers that every call has by itself, or that belong to a connection.
const NOT_LISTED: [&str; 6] = [
    "authority",
    "connection",
    "content-length",
    "host",
    "transfer-encoding",
    "upgrade",
];

/// The filter, and whether its reference leads somewhere. One whose does not refuses its requests: a filter must not be skipped.
///
/// # Errors
/// What we cannot do, for condition `Accepted`.
pub(super) fn filter(
    context: &mut Context<'_>,
    caller: Caller<'_>,
    written: &ExternalAuth,
) -> Result<(Filter, Result<(), Problem>), Problem> {
    let (config, speaks) = match &written.protocol {
        ExternalAuthProtocol::Http => (http(&written.http)?, Speaks::Http),
        ExternalAuthProtocol::Grpc => (grpc(&written.grpc.allowed_headers)?, Speaks::Grpc),
        ExternalAuthProtocol::Other(name) => {
            return Err(unsupported(format!(
                "externalAuth.protocol: {name:?} is not known; use HTTP or GRPC"
            )));
        }
    };
    let config = with_body(config, written.forward_body.max_size)?;
    let found = context.route_backend(
        caller.referrer,
        &written.backend_ref,
        speaks,
        caller.client_certificate,
    );
    let backend = match found {
        Ok(backend) => backend,
        Err(problem) => {
            let problem = problem.at(&format!("{}.externalAuth.backendRef", caller.place));
            let unresolved = Filter::Unresolved {
                reference: caller.name.into(),
                reason: problem.message.as_str().into(),
            };
            return Ok((unresolved, Err(problem)));
        }
    };
    let bundle = Bundle {
        namespace: caller.referrer.namespace.into(),
        name: caller.name.to_owned(),
        module: "ext-auth",
        config: &Value::Object(config),
        secret: false,
        clusters: vec![(CLUSTER, backend)],
    };
    Ok((filters::bundled(context, bundle), Ok(())))
}

/// "The following headers must always be sent […]: Host, Method, Path, Content-Length, Authorization." Only 200 lets pass, and any other
/// answer goes to the client as it is, unless it is the service's own failure.
fn http(written: &HttpAuth) -> Result<Map<String, Value>, Problem> {
    let mut forwarded = vec!["authorization".to_owned()];
    for name in names("http.allowedHeaders", &written.allowed_headers)? {
        if !forwarded.contains(&name) {
            forwarded.push(name);
        }
    }
    // "If this list is empty, then all headers […] except Authority or Host must be copied."
    let copied = match written.allowed_response_headers.as_slice() {
        [] => vec!["*".to_owned()],
        listed => names("http.allowedResponseHeaders", listed)?,
    };
    let config = json!({
        "cluster": CLUSTER,
        "url": format!("http://{CLUSTER}{}", prefix(&written.path)?),
        "method": "",
        "forwardTarget": true,
        "originalHeaders": false,
        "allowedStatuses": [200],
        "forwardHeaders": forwarded,
        "responseHeaders": copied,
        "deniedHeaders": ["*"],
        "deniedBody": true,
        "failureStatus": FAILURE_STATUS,
    });
    Ok(map(config))
}

fn grpc(allowed: &[String]) -> Result<Map<String, Value>, Problem> {
    let mut config = map(json!({
        "cluster": CLUSTER,
        "grpc": {},
        "failureStatus": FAILURE_STATUS,
    }));
    // "If this list is empty, then all headers must be sent."
    if !allowed.is_empty() {
        let names = names("grpc.allowedHeaders", allowed)?;
        config.insert("forwardHeaders".to_owned(), names.into());
    }
    Ok(config)
}

/// A longer body is refused with 413: "Bodies over that size must be rejected with a 4xx series error". (`maxSize` itself says that it is
/// to be truncated; a service that sees half of a body would judge something else than what the backend gets.)
fn with_body(mut config: Map<String, Value>, max_size: u32) -> Result<Map<String, Value>, Problem> {
    if max_size > MAX_BODY {
        return Err(unsupported(format!(
            "externalAuth.forwardBody.maxSize: {max_size} is more than the {MAX_BODY} bytes that can be held back; give at most that"
        )));
    }
    if max_size > 0 {
        config.insert("forwardBody".to_owned(), max_size.into());
    }
    Ok(config)
}

/// What comes before the request's path; `$` begins a variable in the filter's configuration.
fn prefix(written: &str) -> Result<String, Problem> {
    let slashed = match written.starts_with('/') {
        true => written.to_owned(),
        false => format!("/{written}"),
    };
    let visible = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    match path::resolve(&slashed) {
        Ok(resolved) if slashed.bytes().all(visible) => Ok(resolved.replace('$', "$$")),
        _ => Err(unsupported(format!(
            "externalAuth.http.path: {written:?} is no path; use letters that may stand in one, without ? and #"
        ))),
    }
}

/// Names in lower case.
fn names(field: &str, listed: &[String]) -> Result<Vec<String>, Problem> {
    let mut out: Vec<String> = Vec::new();
    for name in listed {
        let valid = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            unsupported(format!("externalAuth.{field}: {name:?} is no header name"))
        })?;
        let name = valid.as_str();
        if !NOT_LISTED.contains(&name) && name != "*" && !out.iter().any(|known| known == name) {
            out.push(name.to_owned());
        }
    }
    Ok(out)
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn unsupported(message: String) -> Problem {
    Problem::new("UnsupportedValue", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for (written, prefix) in [
            ("", "/"),
            ("/check", "/check"),
            ("check/", "/check/"),
            ("/a/../b/./c", "/b/c"),
            ("/$a", "/$$a"),
            ("/%2e%2e/x", "/x"),
        ] {
            assert_eq!(super::prefix(written).as_deref(), Ok(prefix), "{written}");
        }
        for written in ["/a?b", "/a#b", "/a b", "/%zz"] {
            assert!(super::prefix(written).is_err(), "{written}");
        }
    }

    #[test]
    fn names_that_calls_have_by_themselves_are_left_out() {
        let listed = ["X-A", "Host", "x-a", "Content-Length", "X-B"].map(str::to_owned);
        assert_eq!(names("f", &listed).unwrap(), ["x-a", "x-b"]);
        assert!(names("f", &["a b".to_owned()]).is_err());
    }
}
