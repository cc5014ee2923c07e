//! `auth-url`, `auth-signin`, `auth-method`, `auth-response-headers`: the filter ext-auth and the one cluster that it may call.

use std::sync::Arc;

use serde_json::{Map, Value};
use tidegate_model::{Backend, HostPattern};

use super::reader::{PREFIX, Reader};
use super::{values, variables};
use crate::translate::backends::{PortName, Speaks, Wanted};
use crate::translate::context::Context;
use crate::translate::filters;
use crate::translate::grants::Referrer;

/// A service that is asked whether requests may pass.
#[derive(Debug)]
pub(super) struct ExtAuth {
    url: String,
    sign_in: Option<String>,
    method: Option<String>,
    response_headers: Vec<String>,
}

/// A URL in nginx's notation, its host known.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// `http://auth.test:8080`
    origin: String,
    /// Path and query, as a template.
    target: String,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<ExtAuth> {
    // As with ingress-nginx nothing else is looked at without it.
    let Some(url) = reader.text("auth-url") else {
        if reader.raw("auth-url").is_none() && reader.raw("auth-signin").is_some() {
            reader.warn(
                "auth-signin",
                &format!("has no effect without {PREFIX}auth-url"),
            );
        }
        return None;
    };
    let sign_in = reader.text("auth-signin").map(str::to_owned);
    let method = reader.text("auth-method").map(str::to_owned);
    let names = reader.list("auth-response-headers").unwrap_or_default();
    Some(ExtAuth {
        url: url.to_owned(),
        sign_in,
        method,
        response_headers: names.into_iter().map(str::to_owned).collect(),
    })
}

impl ExtAuth {
    /// Whether it differs from host to host.
    pub(super) fn is_by_host(&self) -> bool {
        let signs_by_host = self
            .sign_in
            .as_deref()
            .is_some_and(|url| variables::has_variables(authority(url)));
        variables::has_variables(authority(&self.url)) || signs_by_host
    }

    /// The filter's configuration and the cluster `auth` for requests to this host.
    ///
    /// # Errors
    /// The annotation that cannot be honoured, and why.
    pub(super) fn filter(
        &self,
        context: &mut Context<'_>,
        host: &HostPattern,
    ) -> Result<(Value, Arc<Backend>), (&'static str, String)> {
        let place = read_place(&self.url, host).map_err(|why| ("auth-url", why))?;
        let backend = cluster(context, &place.origin).map_err(|why| ("auth-url", why))?;
        let mut config = Map::new();
        let mut put = |key: &str, value: Value| drop(config.insert(key.to_owned(), value));
        put("url", format!("{}{}", place.origin, place.target).into());
        put("cluster", "auth".into());
        if let Some(method) = &self.method {
            put("method", method.as_str().into());
        }
        if !self.response_headers.is_empty() {
            put("responseHeaders", self.response_headers.clone().into());
        }
        if let Some(sign_in) = &self.sign_in {
            let place = read_place(sign_in, host).map_err(|why| ("auth-signin", why))?;
            put("signIn", format!("{}{}", place.origin, place.target).into());
        }
        Ok((Value::Object(config), backend))
    }
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default()
}

/// Splits a URL. Its host may be `$host`, which is known where the rule is for one host.
fn read_place(url: &str, host: &HostPattern) -> Result<Place, String> {
    values::Value::Url
        .check(url)
        .map_err(|why| format!("{url:?} {why}"))?;
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let written = authority(url);
    let target = &rest[written.len()..];
    let authority = if variables::has_variables(written) {
        let HostPattern::Exact(name) = host else {
            return Err(format!(
                "{written:?} depends on the request, and a rule for {host} has many hosts; write a host, or a rule for each host"
            ));
        };
        let known: &str = name;
        let fixed = ["host", "http_host", "server_name", "best_http_host"]
            .map(|variable| (variable, known));
        let text = variables::template(written, &fixed)?;
        if text.contains('$') {
            return Err(format!(
                "{written:?} depends on the request; write a host or $host"
            ));
        }
        text
    } else {
        written.to_owned()
    };
    let target = variables::template(target, &[])
        .map_err(|why| format!("{url:?}: {why}; write the URL without it"))?;
    Ok(Place {
        origin: format!("{scheme}://{authority}"),
        target,
    })
}

/// Where the service is: a Service that is named as the cluster's DNS names it, or whatever host the URL names.
fn cluster(context: &mut Context<'_>, origin: &str) -> Result<Arc<Backend>, String> {
    if let Some(backend) = service(context, origin) {
        return Ok(backend);
    }
    let backend = filters::origin(origin, context.options.standalone)
        .map_err(|why| format!("{origin:?} {why}"))?;
    Ok(context.backends.intern(backend))
}

/// The Service behind `http://name.namespace.svc:port`, asked directly; reachable for everybody in the cluster as it is, so
/// that no grant is asked for.
fn service(context: &mut Context<'_>, origin: &str) -> Option<Arc<Backend>> {
    let authority = origin.strip_prefix("http://")?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, 80),
    };
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let (name, namespace) = match labels.as_slice() {
        [name, namespace, "svc"] | [name, namespace, "svc", "cluster", "local"] => {
            (*name, *namespace)
        }
        _ => return None,
    };
    let from = Referrer {
        group: "",
        kind: "",
        namespace,
    };
    let wanted = Wanted {
        from,
        namespace,
        name,
        port: PortName::Number(port),
        speaks: Speaks::Http,
        client_certificate: None,
    };
    context.known_backend(&wanted).ok()
}

#[cfg(test)]
mod tests {
    use tidegate_model::Labels;

    use super::*;

    #[test]
    fn hosts_of_urls_are_known_beforehand() {
        let exact = HostPattern::parse("a.test", Labels::One);
        let place =
            read_place("https://$host/oauth2/start?rd=$escaped_request_uri", &exact).unwrap();
        assert_eq!(place.origin, "https://a.test");
        assert_eq!(place.target, "/oauth2/start?rd=${request.target|encode}");
        let any = HostPattern::parse("*.test", Labels::One);
        assert!(read_place("https://$host/x", &any).is_err());
        assert!(read_place("https://$http_x/x", &exact).is_err());
        assert_eq!(
            read_place("http://auth.test:8080", &any).unwrap().origin,
            "http://auth.test:8080"
        );
    }
}
