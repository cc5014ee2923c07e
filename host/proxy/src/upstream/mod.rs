//! Upstreams: clusters of endpoints, their pools, balancing and passive health.
//!
//! ```text
//!   Upstreams (one per worker) ── Cluster (stable key) ── Host (endpoint) ── idle and shared connections
//! ```
//!
//! All of it outlives snapshots: an edit of a route never costs a connection. A new snapshot only tells a cluster its endpoints
//! anew, and those that stay keep their connections.

mod balance;
mod connect;
mod host;
mod pool;
mod tls;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{Backend, BackendProtocol};

pub(crate) use self::connect::{ConnectError, Opened};
pub(crate) use self::host::Host;
pub(crate) use self::pool::Pooled;
use crate::config::Limits;

/// The clusters of one worker.
pub(crate) struct Upstreams {
    clusters: RefCell<HashMap<Arc<str>, Rc<Cluster>>>,
    over_http2: RefCell<HashMap<Arc<str>, OverHttp2>>,
    limits: Limits,
}

/// A backend as it was declared, and as it is spoken to for gRPC.
struct OverHttp2 {
    declared: Arc<Backend>,
    spoken_to: Arc<Backend>,
}

/// Ends the keys of clusters that are spoken to in HTTP/2 though they were not declared so.
const OVER_HTTP2: &str = "+grpc";

/// The endpoints of one backend.
pub(crate) struct Cluster {
    backend: RefCell<Arc<Backend>>,
    hosts: RefCell<Vec<Rc<Host>>>,
    turn: Cell<usize>,
    connect_timeout: Cell<Duration>,
    default_connect_timeout: Duration,
    idle_timeout: Duration,
    local_names: bool,
}

impl Upstreams {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            clusters: RefCell::default(),
            over_http2: RefCell::default(),
            limits,
        }
    }

    /// The cluster of this backend for gRPC, which is HTTP/2 always: a declared URL or port has no place to say so.
    pub(crate) fn http2_cluster(&self, backend: &Arc<Backend>) -> Rc<Cluster> {
        if backend.protocol == BackendProtocol::Http2 {
            return self.cluster(backend);
        }
        let derive = || {
            let derived = Backend {
                key: format!("{}{OVER_HTTP2}", backend.key).into(),
                protocol: BackendProtocol::Http2,
                ..Backend::clone(backend)
            };
            OverHttp2 {
                declared: backend.clone(),
                spoken_to: Arc::new(derived),
            }
        };
        let derived = {
            let mut known = self.over_http2.borrow_mut();
            let entry = known.entry(backend.key.clone()).or_insert_with(derive);
            if !Arc::ptr_eq(&entry.declared, backend) {
                *entry = derive();
            }
            entry.spoken_to.clone()
        };
        self.cluster(&derived)
    }

    /// The cluster of this backend, brought up to date with it.
    pub(crate) fn cluster(&self, backend: &Arc<Backend>) -> Rc<Cluster> {
        let mut clusters = self.clusters.borrow_mut();
        let cluster = clusters
            .entry(backend.key.clone())
            .or_insert_with(|| Rc::new(Cluster::new(backend, &self.limits)));
        cluster.update(backend);
        cluster.clone()
    }

    /// Forgets clusters that no snapshot names any more; connections in use end with their requests.
    pub(crate) fn retain(&self, wanted: impl Fn(&str) -> bool) {
        let wanted = |key: &str| wanted(key.strip_suffix(OVER_HTTP2).unwrap_or(key));
        self.clusters.borrow_mut().retain(|key, _| wanted(key));
        self.over_http2.borrow_mut().retain(|key, _| wanted(key));
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn close_idle(&self) {
        for cluster in self.clusters.borrow().values() {
            for host in cluster.hosts.borrow().iter() {
                host.close_idle(cluster.idle_timeout);
            }
        }
    }
}

impl Cluster {
    fn new(backend: &Arc<Backend>, limits: &Limits) -> Self {
        let cluster = Self {
            backend: RefCell::new(backend.clone()),
            hosts: RefCell::default(),
            turn: Cell::new(fastrand::usize(..)),
            connect_timeout: Cell::new(limits.connect_timeout),
            default_connect_timeout: limits.connect_timeout,
            idle_timeout: limits.upstream_idle,
            local_names: limits.local_names,
        };
        cluster.replace_hosts(backend);
        cluster
    }

    fn update(&self, backend: &Arc<Backend>) {
        let current = self.backend.borrow().clone();
        if Arc::ptr_eq(&current, backend) {
            return;
        }
        if *current != **backend {
            self.replace_hosts(backend);
        }
        self.backend.replace(backend.clone());
    }

    /// Endpoints that stay keep their connections unless they are spoken to in another way now.
    fn replace_hosts(&self, backend: &Arc<Backend>) {
        self.connect_timeout.set(
            backend
                .connect_timeout
                .unwrap_or(self.default_connect_timeout),
        );
        let mut hosts = self.hosts.borrow_mut();
        let old = std::mem::take(&mut *hosts);
        let connector = connect::Connector::new(backend, self.local_names);
        *hosts = backend
            .endpoints
            .iter()
            .map(|endpoint| {
                let kept = old
                    .iter()
                    .find(|host| host.endpoint == *endpoint && host.connector.same(&connector));
                kept.cloned()
                    .unwrap_or_else(|| Rc::new(Host::new(endpoint.clone(), connector.clone())))
            })
            .collect();
    }

    /// The stable key.
    pub(crate) fn key(&self) -> Arc<str> {
        self.backend.borrow().key.clone()
    }

    /// How many endpoints there are.
    pub(crate) fn len(&self) -> usize {
        self.hosts.borrow().len()
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout.get()
    }
}
