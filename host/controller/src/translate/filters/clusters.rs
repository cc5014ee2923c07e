//! Where a filter may call: `spec.clusters`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Uri;
use http::uri::Scheme;
use tidegate_model::{Backend, BackendProtocol, BackendTls, Endpoint, LoadBalancer, Trust};

use crate::api::Kind;
use crate::api::tidegate::{self as api, ClusterTarget, ServiceRef};
use crate::translate::backends::{PortName, Speaks, Wanted};
use crate::translate::context::Context;
use crate::translate::endpoints;
use crate::translate::grants::Referrer;
use crate::translate::problem::Problem;

/// The clusters of a Filter. One that leads nowhere is left out, so that a call to it fails as a call to an unknown
/// cluster does in Envoy; the filter itself runs.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    /// By the name the filter knows.
    pub(super) found: BTreeMap<Arc<str>, Backend>,
    /// Ports of Services among them.
    pub(super) uses: BTreeSet<(String, String, String)>,
    /// What leads nowhere.
    pub(super) problems: Vec<Problem>,
    /// What deserves attention.
    pub(super) warnings: Vec<String>,
}

/// Resolves all of them.
pub(super) fn read(context: &mut Context<'_>, object: &api::Filter) -> Clusters {
    let mut clusters = Clusters::default();
    // The route at hand did not ask for these ports: they are put on its account when it gets the filter.
    let account = std::mem::take(&mut context.service_uses);
    for (index, cluster) in object.spec.clusters.iter().enumerate() {
        let place = format!("spec.clusters[{index}]");
        let found = match &cluster.target {
            ClusterTarget::Service(reference) => {
                service(context, &object.meta.namespace, reference)
                    .map_err(|problem| problem.at(&format!("{place}.backendRef")))
            }
            ClusterTarget::Url(url) => {
                let warnings = &mut clusters.warnings;
                self::url(url, context.options.standalone, &place, warnings)
                    .map_err(|what| Problem::new("InvalidReference", format!("{place}.url {what}")))
            }
        };
        match found {
            Ok(backend) => drop(clusters.found.insert(cluster.name.as_str().into(), backend)),
            Err(problem) => clusters.problems.push(problem),
        }
    }
    clusters.uses = std::mem::replace(&mut context.service_uses, account);
    clusters
}

fn service(
    context: &mut Context<'_>,
    namespace: &str,
    reference: &ServiceRef,
) -> Result<Backend, Problem> {
    context.backend(&Wanted {
        from: Referrer {
            group: Kind::Filter.group(),
            kind: Kind::Filter.name(),
            namespace,
        },
        namespace: reference.namespace.as_deref().unwrap_or(namespace),
        name: &reference.name,
        port: PortName::Number(reference.port),
        speaks: Speaks::Http,
        client_certificate: None,
    })
}

/// The origin of a URL as a backend, for filters that the translator puts in.
///
/// # Errors
/// What is wrong with the URL, without it.
pub(super) fn origin(text: &str, standalone: bool) -> Result<Backend, String> {
    url(text, standalone, "", &mut Vec::new())
}

/// The origin of a URL as a backend: what is asked for there is the filter's business.
fn url(
    text: &str,
    standalone: bool,
    place: &str,
    warnings: &mut Vec<String>,
) -> Result<Backend, String> {
    let uri: Uri = text
        .parse()
        .map_err(|error| format!("is no URL ({error}): give https://host or http://host"))?;
    let secure = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err("is neither http nor https: give https://host or http://host".to_owned()),
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("holds credentials, which nothing would send: let the filter set a header from configFrom".to_owned());
    }
    let bracketed = uri.host().unwrap_or_default().to_ascii_lowercase();
    let host = bracketed
        .trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.');
    if host.is_empty() {
        return Err("has no host: give https://host or http://host".to_owned());
    }
    if uri
        .path_and_query()
        .is_some_and(|path| path.as_str() != "/")
    {
        warnings.push(format!(
            "{place}.url: only scheme, host and port of {text:?} count; the filter itself names the path of each call"
        ));
    }
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let local = host == "localhost" || host.ends_with(".localhost");
    if local && !standalone {
        return Err("is the gateway's own machine, which a filter in a cluster must not reach: name a Service with backendRef".to_owned());
    }
    let endpoint: Endpoint = endpoints::external(host, port, standalone).map_err(|why| {
        format!("leads nowhere: {why}; name a host, or a Service with backendRef")
    })?;
    Ok(Backend {
        slot: 0,
        key: format!(
            "{}://{bracketed}:{port}",
            if secure { "https" } else { "http" }
        )
        .into(),
        protocol: BackendProtocol::Http1,
        tls: secure.then(|| BackendTls {
            server_name: host.into(),
            subject_alt_names: Vec::new(),
            trust: Trust::System,
            client_certificate: None,
        }),
        endpoints: vec![endpoint],
        load_balancer: LoadBalancer::default(),
        connect_timeout: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, standalone: bool) -> (Result<Backend, String>, Vec<String>) {
        let mut warnings = Vec::new();
        let backend = url(text, standalone, "spec.clusters[0]", &mut warnings);
        (backend, warnings)
    }

    #[test]
    fn origins() {
        let cases = [
            (
                "https://idp.example/",
                "https://idp.example:443",
                "idp.example:443",
                true,
            ),
            (
                "http://IdP.example:8080",
                "http://idp.example:8080",
                "idp.example:8080",
                false,
            ),
            (
                "http://10.0.0.1",
                "http://10.0.0.1:80",
                "10.0.0.1:80",
                false,
            ),
            (
                "https://[2001:db8::1]:8443/",
                "https://[2001:db8::1]:8443",
                "[2001:db8::1]:8443",
                true,
            ),
        ];
        for (text, key, endpoint, secure) in cases {
            let (backend, warnings) = read(text, false);
            let backend = backend.unwrap();
            assert_eq!(
                (&*backend.key, backend.tls.is_some()),
                (key, secure),
                "{text}"
            );
            assert_eq!(backend.endpoints[0].to_string(), endpoint, "{text}");
            assert!(warnings.is_empty(), "{text}: {warnings:?}");
        }
        assert_eq!(read("https://idp.example/keys", true).1.len(), 1);
    }

    #[test]
    fn what_a_cluster_must_not_reach() {
        for text in [
            "http://127.0.0.1",
            "http://localhost:9901",
            "http://169.254.169.254/latest",
            "http://[::1]/",
        ] {
            assert!(read(text, false).0.is_err(), "{text}");
            assert!(read(text, true).0.is_ok(), "{text}");
        }
        for text in [
            "ftp://a.example",
            "https://me:secret@a.example",
            "idp.example",
        ] {
            assert!(read(text, true).0.is_err(), "{text}");
        }
    }
}
