//! Which endpoint is next: round robin or the less busy of two, leaving out what has lately failed.

use std::rc::Rc;

use tidegate_model::{Endpoint, LoadBalancer};

use super::{Cluster, Host};

impl Cluster {
    /// An endpoint for a try: the `wanted` one if it is fit and not `tried` yet, else another that was not where there is one.
    /// `None` without endpoints.
    pub(crate) fn pick(&self, tried: &[Rc<Host>], wanted: Option<&Endpoint>) -> Option<Rc<Host>> {
        let hosts = self.hosts.borrow();
        if let Some(wanted) = wanted.filter(|_| tried.is_empty()) {
            let bound = hosts.iter().find(|host| host.endpoint == *wanted);
            if let Some(bound) = bound.filter(|host| !host.is_ejected()) {
                return Some(bound.clone());
            }
        }
        let fresh = |host: &&Rc<Host>| !tried.iter().any(|other| Rc::ptr_eq(other, host));
        // With every endpoint ejected, failing ones are better than none (Envoy's panic threshold).
        let healthy =
            hosts.len() == 1 || hosts.iter().any(|host| fresh(&host) && !host.is_ejected());
        let usable =
            |host: &&Rc<Host>| fresh(host) && (!healthy || hosts.len() == 1 || !host.is_ejected());
        if tried.is_empty() || hosts.iter().any(|host| fresh(&host)) {
            self.choose(&hosts, usable)
        } else {
            self.choose(&hosts, |_| true)
        }
    }

    fn choose(&self, hosts: &[Rc<Host>], usable: impl Fn(&&Rc<Host>) -> bool) -> Option<Rc<Host>> {
        let next = || {
            let turn = self.turn.get().wrapping_add(1);
            self.turn.set(turn);
            let from = turn % hosts.len().max(1);
            hosts
                .iter()
                .cycle()
                .skip(from)
                .take(hosts.len())
                .find(|host| usable(host))
        };
        match self.backend.borrow().load_balancer {
            LoadBalancer::RoundRobin => next().cloned(),
            LoadBalancer::LeastRequest => {
                let candidates: Vec<_> = hosts.iter().filter(|host| usable(host)).collect();
                let first = candidates.get(fastrand::usize(..candidates.len().max(1)))?;
                let second = candidates.get(fastrand::usize(..candidates.len()))?;
                let less_busy = if second.active() < first.active() {
                    second
                } else {
                    first
                };
                Some(Rc::clone(less_busy))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use tidegate_model::{Backend, BackendProtocol};

    use super::*;
    use crate::config::Limits;

    fn cluster(ports: &[u16], load_balancer: LoadBalancer) -> Cluster {
        let backend = Backend {
            slot: 0,
            key: "d/s:80".into(),
            protocol: BackendProtocol::Http1,
            tls: None,
            endpoints: ports
                .iter()
                .map(|port| Endpoint::Address(([127, 0, 0, 1], *port).into()))
                .collect(),
            load_balancer,
            connect_timeout: None,
        };
        Cluster::new(&Arc::new(backend), &Limits::default())
    }

    fn count(cluster: &Cluster, picks: usize) -> BTreeMap<String, usize> {
        let mut seen = BTreeMap::new();
        for _ in 0..picks {
            *seen
                .entry(
                    cluster
                        .pick(&[], None)
                        .expect("an endpoint")
                        .endpoint
                        .to_string(),
                )
                .or_default() += 1;
        }
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn round_robin_is_even_and_leaves_out_the_ejected() {
        let cluster = cluster(&[1, 2, 3], LoadBalancer::RoundRobin);
        assert_eq!(
            count(&cluster, 9).into_values().collect::<Vec<_>>(),
            [3, 3, 3]
        );
        let bad = cluster.pick(&[], None).expect("an endpoint");
        for _ in 0..super::super::host::FAILURES {
            bad.failed();
        }
        let seen = count(&cluster, 8);
        assert_eq!(seen.len(), 2, "{seen:?}");
        tokio::time::advance(std::time::Duration::from_secs(31)).await;
        assert_eq!(count(&cluster, 9).len(), 3, "it comes back");
    }

    #[tokio::test(start_paused = true)]
    async fn all_ejected_is_as_good_as_none() {
        let cluster = cluster(&[1, 2], LoadBalancer::RoundRobin);
        for host in [cluster.pick(&[], None), cluster.pick(&[], None)]
            .into_iter()
            .flatten()
        {
            (0..super::super::host::FAILURES).for_each(|_| host.failed());
        }
        assert_eq!(count(&cluster, 4).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_try_goes_elsewhere() {
        let cluster = cluster(&[1, 2], LoadBalancer::RoundRobin);
        for _ in 0..10 {
            let first = cluster.pick(&[], None).expect("an endpoint");
            let second = cluster
                .pick(std::slice::from_ref(&first), None)
                .expect("another");
            assert!(!Rc::ptr_eq(&first, &second));
        }
        let only = self::cluster(&[1], LoadBalancer::RoundRobin);
        let first = only.pick(&[], None).expect("the endpoint");
        assert!(
            only.pick(std::slice::from_ref(&first), None).is_some(),
            "the only endpoint is tried again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_less_busy_of_two_is_chosen() {
        let cluster = cluster(&[1, 2], LoadBalancer::LeastRequest);
        let busy = cluster.pick(&[], None).expect("an endpoint");
        let _held: Vec<_> = (0..5).map(|_| busy.begin()).collect();
        let seen = count(&cluster, 200);
        assert!(seen[&busy.endpoint.to_string()] < 100, "{seen:?}");
    }
}
