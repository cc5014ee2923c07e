//! The listeners of Ingresses: one in the clear, and one over TLS where some host has a certificate.

use std::net::SocketAddr;

use tidegate_model::{HostPattern, Protocol};

use super::Entry;
use super::tls::HostCertificates;
use crate::translate::context::Context;
use crate::translate::options::Options;
use crate::translate::routes::Placed;
use crate::translate::sites::Ports;
use crate::translate::tables::Site;

/// The listeners, at every address that listeners bind by default.
pub(super) fn all(
    context: &Context<'_>,
    entries: &mut [Entry<'_>],
    certificates: &HostCertificates,
    ports: &mut Ports,
) -> Vec<Site> {
    let mut sites = Vec::new();
    if entries.iter().all(|entry| entry.unusable.is_some()) {
        return sites;
    }
    let clear = (Protocol::Http, context.options.http_port, None);
    let secure = certificates
        .listener_tls()
        .map(|tls| (Protocol::Https, context.options.https_port, Some(tls)));
    let mut asked = Vec::new();
    for wanted in entries.iter().filter_map(|entry| entry.asked.as_ref()) {
        if !asked.contains(wanted) {
            asked.push(wanted.clone());
        }
    }
    for (protocol, port, tls) in std::iter::once(clear).chain(secure) {
        for address in &context.options.bind {
            let bind = SocketAddr::new(*address, port);
            if !ports.take(bind, protocol) {
                let spoken = if protocol == Protocol::Http {
                    "HTTP"
                } else {
                    "HTTPS"
                };
                warn_all(
                    entries,
                    &format!(
                        "nothing is served over {spoken} on {bind}, where a Gateway listens with another protocol; give the Gateway another port, or Ingresses with --http-port and --https-port"
                    ),
                );
                continue;
            }
            if let Some(why) = context.options.bind_errors.get(&bind) {
                warn_all(
                    entries,
                    &format!(
                        "cannot listen on {bind}: {why}; free the port, or choose others with --http-port and --https-port"
                    ),
                );
            }
            let routes = placed(entries, |host| {
                protocol == Protocol::Http || certificates.serve(host)
            });
            sites.push(Site {
                owner: "Ingress".into(),
                name: "Ingress".into(),
                bind,
                port: seen_port(context.options, bind.port()),
                protocol,
                hostname: HostPattern::Any,
                filters: Vec::new(),
                tls: tls.clone(),
                asked: asked.clone(),
                routes,
            });
        }
    }
    sites
}

/// What stands under the hosts that are `wanted`.
fn placed(entries: &[Entry<'_>], wanted: impl Fn(&HostPattern) -> bool) -> Vec<Placed> {
    let plans = entries.iter().flat_map(|entry| &entry.plans);
    plans
        .filter(|plan| wanted(&plan.host))
        .map(|plan| Placed {
            hostnames: vec![plan.host.clone()],
            entries: vec![plan.entry.clone()],
        })
        .collect()
}

/// The port that clients see where this one is bound.
fn seen_port(options: &Options, bound: u16) -> u16 {
    let mapped = options.port_map.iter().find(|(_, to)| **to == bound);
    mapped.map_or(bound, |(from, _)| *from)
}

fn warn_all(entries: &mut [Entry<'_>], message: &str) {
    for entry in entries.iter_mut().filter(|entry| entry.unusable.is_none()) {
        entry.warnings.push(message.to_owned());
    }
}
