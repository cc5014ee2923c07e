//! What filters can ask of an exchange beside its heads (`proxy_get_property`).

use std::sync::Arc;

use tidegate_wasm::{Attributes, ConnectionAttributes, TlsAttributes};

use crate::connection::Connection;
use crate::stream::Stream;

/// What is known when the request arrives.
pub(crate) fn downstream(stream: &Stream) -> Attributes {
    let record = stream.record.borrow();
    let origin = record.rule.as_ref().map(|rule| &rule.origin);
    Attributes {
        connection: Some(connection(stream)),
        protocol: Some(record.version),
        start: Some(stream.connection.worker.wall_time(record.started)),
        route_name: origin.map(|origin| origin.label().clone()),
        virtual_host_name: origin.map(|origin| origin.label().clone()),
        ..Attributes::default()
    }
}

/// What is known once an upstream has answered.
pub(crate) fn upstream(stream: &Stream) {
    let record = stream.record.borrow();
    let latency = record
        .upstream_started
        .zip(record.upstream_answered)
        .map(|(from, to)| to - from);
    stream.chain.borrow_mut().with_io(|io| {
        io.attributes.upstream = record
            .tries
            .host
            .as_ref()
            .map(|host| host.attributes().clone());
        io.attributes.attempts = record.tries.count;
        io.attributes.backend_latency = latency;
        io.attributes.response_code_details = Some("via_upstream".into());
    });
}

/// Made once for a connection; behind trusted proxies the client differs from request to request.
fn connection(stream: &Stream) -> Arc<ConnectionAttributes> {
    let connection = &stream.connection;
    let made = connection
        .attributes
        .get_or_init(|| Arc::new(made(connection)));
    let client = stream.record.borrow().client;
    if client == connection.peer {
        return made.clone();
    }
    Arc::new(ConnectionAttributes {
        source: Some(client),
        ..ConnectionAttributes::clone(made)
    })
}

fn made(connection: &Connection) -> ConnectionAttributes {
    ConnectionAttributes {
        id: Some(connection.id),
        source: Some(connection.peer),
        destination: Some(connection.local),
        server_name: connection
            .tls
            .as_ref()
            .and_then(|tls| tls.server_name.as_deref().map(str::to_owned)),
        tls: connection.tls.as_ref().map(|tls| TlsAttributes {
            version: tls.version.to_owned(),
            ..TlsAttributes::default()
        }),
        ..ConnectionAttributes::default()
    }
}
