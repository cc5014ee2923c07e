//! What the data plane is told once, at start.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;

/// Settings of the data plane. Everything that can change while it runs is in the snapshot instead.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Data-plane threads.
    pub workers: usize,
    /// Whose forwarding headers count.
    pub trust: Trust,
    /// Bounds on what a client may send and how long it may take.
    pub limits: Limits,
    /// Peers that count as others; for runs of a filter's cases, which say whom a request is from.
    pub peers: Peers,
}

/// Addresses of clients, and the addresses that they count as from the beginning of their connection on.
#[derive(Clone, Debug, Default)]
pub struct Peers(Option<Arc<Mutex<HashMap<SocketAddr, SocketAddr>>>>);

/// Whose `X-Forwarded-*` headers are kept.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// Nobody's.
    #[default]
    None,
    /// The peer's, and so many proxies' before it.
    Hops(usize),
    /// Peers in these networks.
    Networks(Vec<IpNet>),
}

/// Bounds towards clients. The defaults are Envoy's recommendations for the edge where it has them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request's head; more is 431.
    pub head_bytes: usize,
    /// Header fields of a request; more is 431.
    pub headers: usize,
    /// Bytes of the request target; more is 414.
    pub target_bytes: usize,
    /// Time for a request's head to arrive, counted from the end of the exchange before.
    pub head_timeout: Duration,
    /// How long a connection without a request is kept.
    pub idle_timeout: Duration,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Streams at once on an HTTP/2 connection.
    pub streams: u32,
    /// Connections of one worker.
    pub connections: usize,
    /// Time for a connection to an endpoint, TLS included.
    pub connect_timeout: Duration,
    /// How long an idle upstream connection is kept.
    pub upstream_idle: Duration,
    /// Bytes of a request body kept for a further try.
    pub replay_bytes: usize,
    /// Time without a byte in either direction after which a body is given up.
    pub body_idle: Duration,
    /// How long a stream (TLS passed on, TCP) may be silent in both directions; Envoy's default.
    pub stream_idle: Duration,
    /// How long a session of UDP is kept without a datagram; Envoy's default.
    pub udp_idle: Duration,
    /// Sessions of UDP of one worker; datagrams of further clients are dropped.
    pub udp_sessions: usize,
    /// Whether names of backends and clusters may lead to this machine or its link: without a cluster they may. In one, a name
    /// that a tenant chose must not lead to the metadata service of a cloud or to the gateway's own admin pages.
    pub local_names: bool,
    /// VMs of filters that a worker keeps when they are idle. Each has some guarded memory, of which a process may have
    /// some ten thousand; beyond this the one that was idle for longest ends, and is made again when it is needed.
    pub vms: usize,
    /// Calls that may wait for one VM beside the workers; further ones fail by the policy of their filter.
    pub waiting_calls: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 << 10,
            headers: 100,
            target_bytes: 16 << 10,
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(300),
            handshake_timeout: Duration::from_secs(10),
            streams: 100,
            connections: 50_000,
            connect_timeout: Duration::from_secs(5),
            upstream_idle: Duration::from_secs(60),
            replay_bytes: 64 << 10,
            body_idle: Duration::from_secs(300),
            stream_idle: Duration::from_secs(3600),
            udp_idle: Duration::from_secs(60),
            udp_sessions: 10_000,
            local_names: true,
            vms: 1000,
            waiting_calls: 1024,
        }
    }
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            trust: Trust::None,
            limits: Limits::default(),
            peers: Peers::default(),
        }
    }
}

impl Peers {
    /// None yet, but there will be.
    pub fn some() -> Self {
        Self(Some(Arc::default()))
    }

    /// From now on a connection from `client` counts as one from `peer`. Nothing happens to [`Peers::default`].
    pub fn count_as(&self, client: SocketAddr, peer: SocketAddr) {
        if let Some(peers) = &self.0 {
            peers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(client, peer);
        }
    }

    /// What a client counts as.
    pub(crate) fn peer(&self, client: SocketAddr) -> SocketAddr {
        let Some(peers) = &self.0 else {
            return client;
        };
        let peers = peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.get(&client).copied().unwrap_or(client)
    }
}
