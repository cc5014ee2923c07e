//! What is run of a filter's cases, and where.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tidegate_filter_cases::{Case, Exchange};

use super::cut::Cut;
use super::subject::Subject;

/// Name of a forwarding header that each host writes in a way of its own.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Other forwarding headers: this host takes them from trusted peers only.
const FORWARDED: [&str; 4] = [
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
];

/// A subject, and what of it can be run in which host.
pub(crate) struct Plan {
    pub(crate) subject: Subject,
    pub(crate) cases: Vec<Planned>,
    /// Names of all clusters that calls of any case go to, and whether only gRPC is spoken there.
    clusters: BTreeMap<String, bool>,
}

/// A case.
pub(crate) struct Planned {
    pub(crate) case: Case,
    /// Why it cannot be run in this host.
    pub(crate) not_here: Option<&'static str>,
    /// Why it cannot be run in Envoy.
    pub(crate) not_in_envoy: Option<&'static str>,
}

/// One run of a case.
#[derive(Clone)]
pub(crate) struct Run<'a> {
    /// The case's place in the plan.
    pub(crate) case_at: usize,
    pub(crate) case: &'a Case,
    pub(crate) cut: Cut,
    /// The clusters of all cases, and whether this one speaks gRPC there: a call that was not expected is to be seen, too.
    pub(crate) clusters: BTreeMap<String, bool>,
}

impl Plan {
    pub(crate) fn new(subject: Subject, only: Option<&str>) -> Self {
        let mut clusters = BTreeMap::new();
        for call in subject
            .cases
            .iter()
            .flat_map(Case::exchanges)
            .flat_map(|exchange| exchange.calls)
        {
            *clusters.entry(call.cluster.clone()).or_insert(true) &= call.grpc.is_some();
        }
        let chosen = |case: &&Case| only.is_none_or(|only| case.name.contains(only));
        let cases = subject
            .cases
            .iter()
            .filter(chosen)
            .map(Planned::new)
            .collect();
        Self {
            subject,
            cases,
            clusters,
        }
    }

    /// All runs in this host.
    pub(crate) fn here(&self) -> Vec<Run<'_>> {
        let cases = self.cases.iter().enumerate();
        let cases = cases.filter(|(_, planned)| planned.not_here.is_none());
        cases
            .flat_map(|(at, planned)| {
                let cuts = Cut::of(&planned.case);
                cuts.into_iter().map(move |cut| self.run(at, cut))
            })
            .collect()
    }

    /// All runs in Envoy: what arrives in pieces there depends on how it reads, so bodies are as they are written.
    pub(crate) fn in_envoy(&self) -> Vec<Run<'_>> {
        let cases = self.cases.iter().enumerate();
        let cases = cases.filter(|(_, planned)| planned.not_in_envoy.is_none());
        cases.map(|(at, _)| self.run(at, Cut::Written)).collect()
    }

    fn run(&self, case_at: usize, cut: Cut) -> Run<'_> {
        let case = &self.cases[case_at].case;
        let mut clusters = self.clusters.clone();
        for call in case
            .exchanges()
            .into_iter()
            .flat_map(|exchange| exchange.calls)
        {
            clusters.insert(call.cluster, call.grpc.is_some());
        }
        Run {
            case_at,
            case,
            cut,
            clusters,
        }
    }
}

impl Planned {
    fn new(case: &Case) -> Self {
        let exchanges = case.exchanges();
        let any = |is: fn(&Exchange) -> bool| exchanges.iter().any(is);
        let properties =
            any(|exchange| !exchange.request.properties.is_empty()).then_some("it sets properties");
        let peer = any(|exchange| !has_peer(exchange)).then_some("its peer has no address");
        let forwarded = any(|exchange| gives(exchange, &[FORWARDED_FOR]))
            .then_some("it sends x-forwarded-for, which this host says itself");
        let path = any(|exchange| !is_resolved(&exchange.request.path))
            .then_some("this host resolves or refuses its path before any filter sees it");
        let clock = case.needs_clock().then_some("it rules the clock");
        let scheme = any(contradicts)
            .then_some("Envoy takes the scheme from x-forwarded-proto, which says another one");
        let invalid = |exchange: &Exchange| {
            let certificate = case.certificate(&exchange.request);
            certificate.is_some_and(|certificate| certificate.problem.is_some())
        };
        let certificate = exchanges.iter().any(invalid).then_some(
            "its client certificate is not valid: Envoy ends such a connection before any filter",
        );
        Self {
            case: case.clone(),
            not_here: properties.or(peer).or(forwarded).or(path),
            not_in_envoy: properties.or(peer).or(clock).or(scheme).or(certificate),
        }
    }
}

impl Run<'_> {
    /// Whether the client must be trusted with forwarding headers for those of the case to reach the filter.
    pub(crate) fn is_trusted(&self) -> bool {
        let exchanges = self.case.exchanges();
        exchanges.iter().any(|exchange| gives(exchange, &FORWARDED))
    }

    /// Whether requests bring `x-forwarded-for`.
    pub(crate) fn is_forwarded(&self) -> bool {
        let exchanges = self.case.exchanges();
        exchanges
            .iter()
            .any(|exchange| gives(exchange, &[FORWARDED_FOR]))
    }

    /// Whether requests come over TLS.
    pub(crate) fn is_https(&self) -> bool {
        let exchanges = self.case.exchanges();
        exchanges
            .iter()
            .any(|exchange| exchange.request.scheme == "https")
    }

    /// Whether listeners for TLS ask clients for certificates, which they may leave out.
    pub(crate) fn asks_for_certificates(&self) -> bool {
        self.is_https() && !self.case.certificates.is_empty()
    }

    /// The time at the beginning, where the run rules the clock.
    pub(crate) fn clock(&self) -> Option<Duration> {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.case.needs_clock().then(|| {
            let named = self.case.clock.map(Duration::from_secs);
            named.unwrap_or_else(|| now().unwrap_or_default())
        })
    }
}

/// Whether `x-forwarded-proto` says another scheme than the request has.
fn contradicts(exchange: &Exchange) -> bool {
    let request = &exchange.request;
    let mut headers = request.headers.iter();
    headers.any(|(name, value)| {
        name.eq_ignore_ascii_case(FORWARDED[0])
            && value.values() != std::slice::from_ref(&request.scheme)
    })
}

fn has_peer(exchange: &Exchange) -> bool {
    let from = exchange.request.from.as_deref();
    from.is_none_or(|from| from.parse::<SocketAddr>().is_ok())
}

/// Whether the path has one reading, and is written as it is read.
fn is_resolved(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    !path.starts_with('/')
        || tidegate_model::path::resolve(path).is_ok_and(|resolved| resolved == path)
}

fn gives(exchange: &Exchange, names: &[&str]) -> bool {
    let mut given = exchange.request.headers.keys();
    given.any(|name| names.iter().any(|known| name.eq_ignore_ascii_case(known)))
}
