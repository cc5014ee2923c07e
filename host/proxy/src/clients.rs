//! How the clients of a listener are treated: bounds, trust, and the settings of HTTP that follow from them.

use hyper::server::conn::{http1, http2};
use tidegate_model::{ListenerLimits, ListenerSettings};

use crate::config::{Limits, ProxyConfig, Trust};
use crate::connection;
use crate::local::LocalExecutor;

/// Settings of connections from clients. A connection keeps those that it began with.
pub(crate) struct ClientSettings {
    pub(crate) limits: Limits,
    pub(crate) trust: Trust,
    pub(crate) http1: http1::Builder,
    pub(crate) http2: http2::Builder<LocalExecutor>,
}

impl ClientSettings {
    /// Those of the process, and what a listener's class asks for beyond them.
    pub(crate) fn new(config: &ProxyConfig, settings: &ListenerSettings) -> Self {
        let limits = limits(&config.limits, &settings.limits);
        let trust = match settings.trusted_hops {
            None => config.trust.clone(),
            Some(0) => Trust::None,
            Some(hops) => Trust::Hops(hops as usize),
        };
        Self {
            http1: connection::http1(&limits),
            http2: connection::http2(&limits),
            limits,
            trust,
        }
    }
}

fn limits(of_process: &Limits, asked: &ListenerLimits) -> Limits {
    Limits {
        head_bytes: asked.head_bytes.unwrap_or(of_process.head_bytes),
        headers: asked.headers.unwrap_or(of_process.headers),
        target_bytes: asked.target_bytes.unwrap_or(of_process.target_bytes),
        head_timeout: asked.head_timeout.unwrap_or(of_process.head_timeout),
        idle_timeout: asked.idle_timeout.unwrap_or(of_process.idle_timeout),
        body_idle: asked.body_idle_timeout.unwrap_or(of_process.body_idle),
        handshake_timeout: asked
            .handshake_timeout
            .unwrap_or(of_process.handshake_timeout),
        streams: asked.streams.unwrap_or(of_process.streams),
        stream_idle: asked.stream_idle_timeout.unwrap_or(of_process.stream_idle),
        udp_idle: asked.session_idle_timeout.unwrap_or(of_process.udp_idle),
        ..of_process.clone()
    }
}
