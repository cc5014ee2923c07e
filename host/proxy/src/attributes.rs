//! What filters can ask of an exchange beside its heads (`proxy_get_property`).

use std::sync::Arc;

use tidegate_model::Rule;
use tidegate_wasm::{Attributes, ConnectionAttributes, TlsAttributes};

use crate::client_certificate;
use crate::connection::{Connection, TlsInfo};
use crate::stream::Stream;
use crate::upstream::Pooled;

/// What is known when the request arrives.
pub(crate) fn downstream(stream: &Stream, attributes: &mut Attributes) {
    let record = stream.record.borrow();
    attributes.connection = Some(connection(stream));
    attributes.protocol = Some(record.version);
    attributes.start = Some(stream.connection.worker.wall_time(record.started));
    attributes.rule.clone_from(&record.rule);
}

/// Where the request goes. Filters of the listener have seen it before it had a rule.
pub(crate) fn backend(attributes: &mut Attributes, rule: &Arc<Rule>, chosen: usize) {
    attributes.rule.get_or_insert_with(|| rule.clone());
    attributes.backend = Some(chosen);
}

/// What is known once an upstream has answered.
pub(crate) fn upstream(stream: &Stream, pooled: &Pooled) {
    let record = stream.record.borrow();
    stream.chain.borrow_mut().with_io(|io| {
        io.attributes.upstream = record
            .tries
            .host
            .as_ref()
            .map(|host| host.attributes().clone());
        io.attributes.attempts = record.tries.count;
        io.attributes.upstream_local = pooled.local;
        io.attributes.pool_ready = Some(pooled.opened_in);
        io.attributes.response_code_details = Some("via_upstream".into());
    });
}

/// What is known of an answer that the host gives itself.
pub(crate) fn own_answer(stream: &Stream) {
    let record = stream.record.borrow();
    let mut chain = stream.chain.borrow_mut();
    chain.begin_response();
    chain.with_io(|io| {
        io.attributes.response_code_details = Some(record.details.into());
        io.attributes.response_flags = record.flags;
        io.attributes.attempts = record.tries.count;
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

fn tls(info: &TlsInfo) -> TlsAttributes {
    let certificate = info.client_certificate.as_ref();
    let of_certificate = certificate.map(|one| client_certificate::attributes(one, info.version));
    match of_certificate {
        Some(Ok(attributes)) => attributes,
        // What was validated can be read; were it not so, filters would rather know of none than of half of one.
        _ => TlsAttributes {
            version: info.version.to_owned(),
            ..TlsAttributes::default()
        },
    }
}

fn made(connection: &Connection) -> ConnectionAttributes {
    ConnectionAttributes {
        id: Some(connection.id),
        source: Some(connection.peer),
        destination: Some(connection.local),
        listener_name: Some(connection.listener.bind.to_string().into()),
        server_name: connection
            .tls
            .as_ref()
            .and_then(|tls| tls.server_name.as_deref().map(str::to_owned)),
        tls: connection.tls.as_ref().map(tls),
        ..ConnectionAttributes::default()
    }
}
