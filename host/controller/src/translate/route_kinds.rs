//! HTTPRoutes and GRPCRoutes do not share a hostname of a listener: the older keeps it
//! (`GRPCRoute.spec.hostnames`: "merging MUST not be done between GRPCRoutes and HTTPRoutes").

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidegate_model::HostPattern;

use super::gateways::Gateways;
use super::parents::Parent;
use super::problem::Problem;
use super::routes::RouteFacts;
use crate::api::Kind;
use crate::resources::Resources;

/// The hostnames that routes took so far, by listener and kind.
#[derive(Debug)]
pub(super) struct Taken {
    /// Whether there are routes of both kinds at all.
    both: bool,
    by_listener: HashMap<(usize, Kind), Hosts>,
}

/// Hostnames with the routes that have them; exact names apart, because most are.
#[derive(Debug, Default)]
struct Hosts {
    exact: BTreeMap<Arc<str>, Arc<str>>,
    wide: Vec<(HostPattern, Arc<str>)>,
}

impl Taken {
    /// Nothing is taken yet.
    pub(super) fn new(resources: &Resources) -> Self {
        Self {
            both: !resources.http_routes.is_empty() && !resources.grpc_routes.is_empty(),
            by_listener: HashMap::new(),
        }
    }

    /// Notes what a route has on a listener with this hostname.
    pub(super) fn add(&mut self, index: usize, listener: &HostPattern, route: &RouteFacts<'_>) {
        if !self.both {
            return;
        }
        let title: Arc<str> = route.title().into();
        let hosts = self.by_listener.entry((index, route.kind)).or_default();
        for hostname in route
            .hostnames
            .iter()
            .filter_map(|hostname| hostname.intersect(listener))
        {
            match hostname {
                HostPattern::Exact(name) => {
                    hosts.exact.entry(name).or_insert_with(|| title.clone());
                }
                wide => hosts.wide.push((wide, title.clone())),
            }
        }
    }

    /// Takes from a parent the listeners on which an older route of the other kind has a hostname of this one, and says
    /// which that is.
    pub(super) fn yield_to(
        &self,
        gateways: &Gateways<'_>,
        route: &RouteFacts<'_>,
        parent: &mut Parent,
    ) -> Option<Problem> {
        let listeners = parent.listeners.as_mut().ok()?;
        let mut problem = None;
        listeners.retain(|index| {
            let theirs = self.conflict(*index, &gateways.listeners[*index].hostname, route);
            let free = theirs.is_none();
            if let Some((hostname, title)) = theirs {
                problem = Some(Problem::new(
                    "HostnameConflict",
                    format!(
                        "{title} is older and has hostname {hostname} on listener {}; routes of kind HTTPRoute and GRPCRoute cannot share a hostname: give one of them a hostname or a listener of its own",
                        gateways.listeners[*index].spec.name
                    ),
                ));
            }
            free
        });
        if let (true, Some(problem)) = (listeners.is_empty(), &problem) {
            parent.listeners = Err(problem.clone());
        }
        problem
    }

    fn conflict(
        &self,
        index: usize,
        listener: &HostPattern,
        route: &RouteFacts<'_>,
    ) -> Option<(HostPattern, Arc<str>)> {
        let other = match route.kind {
            Kind::GrpcRoute => Kind::HttpRoute,
            _ => Kind::GrpcRoute,
        };
        let hosts = self.by_listener.get(&(index, other))?;
        let mine = route
            .hostnames
            .iter()
            .filter_map(|hostname| hostname.intersect(listener));
        mine.into_iter().find_map(|mine| hosts.meets(&mine))
    }
}

impl Hosts {
    fn meets(&self, mine: &HostPattern) -> Option<(HostPattern, Arc<str>)> {
        let exact = match mine {
            HostPattern::Exact(name) => self.exact.get_key_value(name),
            wide => self.exact.iter().find(|(name, _)| wide.matches(name)),
        };
        if let Some((name, title)) = exact {
            return Some((HostPattern::Exact(name.clone()), title.clone()));
        }
        self.wide
            .iter()
            .find(|(hostname, _)| hostname.intersects(mine))
            .cloned()
    }
}
