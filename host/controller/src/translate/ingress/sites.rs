//! The listeners of Ingresses: one in the clear, and one over TLS where some host has a certificate.

use std::net::SocketAddr;

use tidegate_model::{HostPattern, Protocol};

use super::Entry;
use super::tls::HostCertificates;
use crate::translate::context::Context;
use crate::translate::options::Bind;
use crate::translate::routes::Placed;
use crate::translate::sites::Ports;
use crate::translate::tables::{Site, Terms};

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
            let terms = Terms {
                streams: None,
                client_validation: None,
            };
            if protocol == Protocol::Https && !ports.take_name(bind, &HostPattern::Any, &terms) {
                warn_all(
                    entries,
                    &format!(
                        "nothing is served over HTTPS on {bind}, where a Gateway passes every connection on or asks clients for certificates; give the Gateway's listener a hostname or another port, or Ingresses another one with --https-port"
                    ),
                );
                continue;
            }
            let tcp = Bind {
                address: bind,
                udp: false,
            };
            if let Some(why) = context.options.bind_errors.get(&tcp) {
                warn_all(
                    entries,
                    &format!(
                        "cannot listen on {bind}: {why}; free the port, or choose others with --http-port and --https-port"
                    ),
                );
            }
            let routes = placed(entries, protocol, |host| {
                protocol == Protocol::Http || certificates.serve(host)
            });
            sites.push(Site {
                owner: "Ingress".into(),
                name: "Ingress".into(),
                bind,
                port: context.options.seen_port(bind.port()),
                protocol,
                hostname: HostPattern::Any,
                filters: Vec::new(),
                tls: tls.clone(),
                asked: asked.clone(),
                routes,
                streams: None,
                passed_on: Vec::new(),
            });
        }
    }
    sites
}

/// What stands under the hosts that are `wanted`.
fn placed(
    entries: &[Entry<'_>],
    protocol: Protocol,
    wanted: impl Fn(&HostPattern) -> bool,
) -> Vec<Placed> {
    let plans = entries.iter().flat_map(|entry| &entry.plans);
    plans
        .filter(|plan| wanted(&plan.host))
        .map(|plan| Placed {
            hostnames: vec![plan.host.clone()],
            entries: vec![plan.entry_for(protocol)],
        })
        .collect()
}

fn warn_all(entries: &mut [Entry<'_>], message: &str) {
    for entry in entries.iter_mut().filter(|entry| entry.unusable.is_none()) {
        entry.warnings.push(message.to_owned());
    }
}
