//! Leaving HTTP: bytes are tunnelled only after the upstream has said 101 (RFC 9110 section 7.8), so that nothing a client sends
//! early is taken for something else.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::{Body, BodyError};
use crate::connection::Connection;
use crate::error::Error;
use crate::upstream::Pooled;

/// The body of an upstream's response. At its end the connection goes back to the pool.
pub(crate) struct UpstreamBody {
    body: Incoming,
    pooled: Option<Pooled>,
}

/// The upstream's response as ours: a tunnel after 101, a body otherwise.
pub(crate) fn join(
    response: Response<Incoming>,
    pooled: Pooled,
    connection: &Rc<Connection>,
    client: Option<OnUpgrade>,
) -> Result<Response<Body>, Error> {
    let (mut parts, body) = response.into_parts();
    if parts.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Response::from_parts(
            parts,
            UpstreamBody::around(body, pooled),
        ));
    }
    let Some(client) = client else {
        return Err(Error::UnaskedUpgrade(pooled.host().endpoint.to_string()));
    };
    let upstream = parts.extensions.remove::<OnUpgrade>();
    let Some(upstream) = upstream else {
        return Err(Error::UnaskedUpgrade(pooled.host().endpoint.to_string()));
    };
    parts
        .headers
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    let host = pooled.host().clone();
    let tunnel = Tunnel::new(connection.clone());
    tokio::task::spawn_local(async move {
        let _tunnel = tunnel;
        let _active = host.begin();
        drop(pooled);
        let (client, upstream) = match tokio::try_join!(client, upstream) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "upgrade failed"),
        };
        let copied =
            tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream))
                .await;
        if let Err(error) = copied {
            tracing::debug!(%error, "tunnel ended");
        }
    });
    Ok(Response::from_parts(parts, Body::Empty))
}

/// A connection that has left HTTP: a drain waits for it as for any other, and its bytes are no head of a request.
struct Tunnel(Rc<Connection>);

impl Tunnel {
    fn new(connection: Rc<Connection>) -> Self {
        let connections = &connection.worker.connections;
        connections.set(connections.get() + 1);
        connection.activity.begin();
        connection.activity.leave_http();
        Self(connection)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let connections = &self.0.worker.connections;
        connections.set(connections.get() - 1);
        self.0.activity.end();
    }
}

impl UpstreamBody {
    fn around(body: Incoming, mut pooled: Pooled) -> Body {
        if body.is_end_stream() {
            pooled.give_back();
            return Body::Empty;
        }
        Body::Upstream(Box::new(Self {
            body,
            pooled: Some(pooled),
        }))
    }

    pub(crate) fn inner(&self) -> &Incoming {
        &self.body
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if (frame.is_none() || self.body.is_end_stream())
            && let Some(mut pooled) = self.pooled.take()
        {
            pooled.give_back();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Peer)))
    }
}
