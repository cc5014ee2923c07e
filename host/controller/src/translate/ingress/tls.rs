//! TLS of Ingresses: which certificate each host gets.
//!
//! A host gets the certificate that some Ingress names for it, and no other: what a certificate itself is valid for decides
//! nothing, or an Ingress could put its certificate before the hosts of another tenant.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_model::{Certificate, HostPattern, Labels, ListenerTls};

use super::{Entry, rules};
use crate::api::Kind;
use crate::api::core::IngressTLS;
use crate::translate::absent::absent;
use crate::translate::certificates::{covers, of_secret};
use crate::translate::context::Context;
use crate::translate::problem::Problem;

/// Hosts with a certificate.
#[derive(Debug, Default)]
pub(super) struct HostCertificates {
    /// In order of claims, oldest Ingress first.
    hosts: Vec<(HostPattern, Arc<Certificate>, usize)>,
    by_host: HashMap<HostPattern, usize>,
}

impl HostCertificates {
    /// Whether some request for this host of a rule can come over TLS.
    pub(super) fn serve(&self, host: &HostPattern) -> bool {
        if !matches!(host, HostPattern::Exact(_)) {
            return self
                .hosts
                .iter()
                .any(|(claimed, _, _)| claimed.intersects(host));
        }
        self.covering(host).is_some()
    }

    /// Whether the host has a certificate of its own, so that requests in the clear are sent to TLS: that of some other host, or the
    /// one for no host in particular, was put there by whoever it may be, and is no reason.
    pub(super) fn has_own(&self, host: &HostPattern) -> bool {
        self.own(host).is_some()
    }

    /// The certificates as the listener takes them: each names the hosts it is meant for, exact ones before wildcards,
    /// because the first that names a host is shown for it. The one for no host in particular comes first of all: it is
    /// shown to clients that name no known host.
    pub(super) fn listener_tls(&self) -> Option<Arc<ListenerTls>> {
        let mut certificates: Vec<Certificate> = Vec::new();
        let mut known: HashMap<(u8, &str), usize> = HashMap::new();
        let mut hosts: Vec<_> = self.hosts.iter().collect();
        let rank = |host: &HostPattern| match host {
            HostPattern::Any => 0,
            HostPattern::Exact(_) => 1,
            HostPattern::Wildcard { .. } => 2,
        };
        hosts.sort_by_key(|(host, _, _)| rank(host));
        for (host, certificate, _) in hosts {
            let at = *known
                .entry((rank(host), &certificate.name))
                .or_insert_with(|| {
                    let names = Vec::new();
                    certificates.push(Certificate {
                        names,
                        ..Certificate::clone(certificate)
                    });
                    certificates.len() - 1
                });
            if *host != HostPattern::Any {
                certificates[at].names.push(host.to_string().into());
            }
        }
        let certificates: Vec<_> = certificates.into_iter().map(Arc::new).collect();
        (!certificates.is_empty()).then(|| {
            Arc::new(ListenerTls {
                certificates,
                client_validation: None,
            })
        })
    }

    /// Gives a host the certificate that another one has, unless it has one; only if the certificate names it, where that is asked.
    pub(super) fn extend(&mut self, from: &HostPattern, to: &HostPattern, if_named: bool) {
        // What covers every host covers the other one, too.
        let Some(at) = self.own(from) else {
            return;
        };
        let (_, certificate, index) = &self.hosts[at];
        let (certificate, index) = (certificate.clone(), *index);
        if if_named && !covers(&certificate.names, &to.to_string()) {
            return;
        }
        // Where the host has another one already, that stays.
        let _ = self.claim(to.clone(), &certificate, index);
    }

    /// The certificate that an exact host gets: its own, its wildcard's, or that for any.
    fn covering(&self, host: &HostPattern) -> Option<usize> {
        let any = || self.by_host.get(&HostPattern::Any).copied();
        self.own(host).or_else(any)
    }

    /// The certificate that names the host: itself, or an exact one's wildcard.
    fn own(&self, host: &HostPattern) -> Option<usize> {
        let wildcard = match host {
            HostPattern::Exact(name) => {
                name.split_once('.')
                    .map(|(_, parent)| HostPattern::Wildcard {
                        suffix: parent.into(),
                        labels: Labels::One,
                    })
            }
            _ => None,
        };
        let mut own = std::iter::once(host).chain(&wildcard);
        own.find_map(|pattern| self.by_host.get(pattern).copied())
    }

    fn claim(
        &mut self,
        host: HostPattern,
        certificate: &Arc<Certificate>,
        index: usize,
    ) -> Result<(), usize> {
        match self.by_host.get(&host).map(|at| &self.hosts[*at]) {
            None => {
                self.by_host.insert(host.clone(), self.hosts.len());
                self.hosts.push((host, certificate.clone(), index));
                Ok(())
            }
            Some((_, known, _)) if known.fingerprint == certificate.fingerprint => Ok(()),
            Some((_, _, winner)) => Err(*winner),
        }
    }
}

/// Reads `spec.tls` of all Ingresses.
pub(super) fn read(context: &mut Context<'_>, entries: &mut [Entry<'_>]) -> HostCertificates {
    let mut certificates = HostCertificates::default();
    for index in 0..entries.len() {
        if entries[index].unusable.is_some() {
            continue;
        }
        let object = entries[index].object;
        for (at, tls) in object.spec.tls.iter().flatten().enumerate() {
            let place = format!("spec.tls[{at}]");
            let certificate = match certificate(context, &entries[index], tls) {
                Ok(certificate) => certificate,
                Err(problem) => {
                    let field = if tls.secret_name.is_some() {
                        ".secretName"
                    } else {
                        ""
                    };
                    entries[index]
                        .unresolved
                        .push(problem.at(&format!("{place}{field}")));
                    continue;
                }
            };
            warn_about_date(context, &mut entries[index], &certificate, &place);
            for host in hosts(&entries[index], tls) {
                warn_about_name(&mut entries[index], &certificate, &host, &place);
                if let Err(winner) = certificates.claim(host.clone(), &certificate, index) {
                    let older = entries[winner].object;
                    let whose = if winner == index {
                        "an earlier entry of spec.tls".to_owned()
                    } else {
                        format!("{older}, which is older,")
                    };
                    entries[index].warnings.push(format!(
                        "{place}: {whose} gives host {host} another certificate, which is the one that is used; name one Secret for the host"
                    ));
                }
            }
        }
    }
    certificates
}

fn certificate(
    context: &mut Context<'_>,
    entry: &Entry<'_>,
    tls: &IngressTLS,
) -> Result<Arc<Certificate>, Problem> {
    let namespace = &entry.object.meta.namespace;
    let problem = |message: String| Problem::new("InvalidCertificateRef", message);
    let Some(name) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else {
        return Err(problem(
            "there is no secretName, and the gateway has no certificate of its own: its hosts are not served over TLS; name a Secret of type kubernetes.io/tls".to_owned(),
        ));
    };
    let Some(secret) = context.secret(namespace, name) else {
        return Err(problem(format!(
            "{}; until then its hosts are not served over TLS",
            absent(context.resources, Kind::Secret, namespace, name)
        )));
    };
    of_secret(secret).map_err(problem)
}

/// The hosts of the entry; without any those of the rules.
fn hosts(entry: &Entry<'_>, tls: &IngressTLS) -> Vec<HostPattern> {
    let listed = tls.hosts.as_deref().unwrap_or_default();
    let mut hosts: Vec<HostPattern> = if listed.is_empty() {
        let rules = entry.object.spec.rules.as_deref().unwrap_or_default();
        rules.iter().map(rules::host).collect()
    } else {
        listed
            .iter()
            .map(|host| HostPattern::parse(host, Labels::One))
            .collect()
    };
    if hosts.is_empty() {
        hosts.push(HostPattern::Any);
    }
    let mut distinct = Vec::new();
    for host in hosts {
        if !distinct.contains(&host) {
            distinct.push(host);
        }
    }
    distinct
}

fn warn_about_date(
    context: &Context<'_>,
    entry: &mut Entry<'_>,
    certificate: &Certificate,
    place: &str,
) {
    if context
        .options
        .now
        .is_some_and(|now| now > certificate.not_after)
    {
        entry.warnings.push(format!(
            "{place}: the certificate in Secret {} has expired: renew it",
            certificate.name
        ));
    }
}

fn warn_about_name(
    entry: &mut Entry<'_>,
    certificate: &Certificate,
    host: &HostPattern,
    place: &str,
) {
    if *host == HostPattern::Any || covers(&certificate.names, &host.to_string()) {
        return;
    }
    let names: Vec<&str> = certificate.names.iter().map(|name| &**name).collect();
    entry.warnings.push(format!(
        "{place}: the certificate in Secret {} is not valid for {host} but for {}; clients will refuse it",
        certificate.name,
        if names.is_empty() { "no name".to_owned() } else { names.join(", ") }
    ));
}
