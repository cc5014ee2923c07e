//! Leaving HTTP: bytes are tunnelled only after the upstream has said 101 (RFC 9110 section 7.8), so that nothing a client sends
//! early is taken for something else.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::body::{Body, BodyError};
use crate::check;
use crate::concurrency::Permit;
use crate::connection::Connection;
use crate::error::Error;
use crate::silence::{Heard, ReadLimit, silent};
use crate::upstream::Pooled;

/// The body of an upstream's response. At its end the connection goes back to the pool.
pub(crate) struct UpstreamBody {
    body: Incoming,
    pooled: Option<Pooled>,
    limit: Option<ReadLimit>,
}

/// The upstream's response as ours: a tunnel after 101, a body otherwise. Neither may be silent for longer than `silence`; a tunnel
/// keeps the `permits` of its request.
pub(crate) fn join(
    response: Response<Incoming>,
    pooled: Pooled,
    connection: &Rc<Connection>,
    client: Option<(HeaderValue, OnUpgrade)>,
    silence: Option<Duration>,
    permits: &RefCell<Vec<Permit>>,
) -> Result<Response<Body>, Error> {
    let (mut parts, body) = response.into_parts();
    if parts.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Response::from_parts(
            parts,
            UpstreamBody::around(body, pooled, silence),
        ));
    }
    let asked = client.filter(|(offered, _)| check::is_offered(offered, &parts.headers));
    let Some((_, client)) = asked else {
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
    let permits = permits.take();
    tokio::task::spawn_local(async move {
        let (_tunnel, _permits) = (tunnel, permits);
        let _active = host.begin();
        drop(pooled);
        let (client, upstream) = match tokio::try_join!(client, upstream) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "upgrade failed"),
        };
        let last = Rc::new(Cell::new(Instant::now()));
        let mut client = Heard::new(TokioIo::new(client), &last);
        let mut upstream = Heard::new(TokioIo::new(upstream), &last);
        tokio::select! {
            copied = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {
                if let Err(error) = copied {
                    tracing::debug!(%error, "tunnel ended");
                }
            }
            () = silent(&last, silence) => tracing::debug!(?silence, "silent tunnel ended"),
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
    fn around(body: Incoming, mut pooled: Pooled, silence: Option<Duration>) -> Body {
        if body.is_end_stream() {
            pooled.give_back();
            return Body::Empty;
        }
        Body::Upstream(Box::new(Self {
            body,
            pooled: Some(pooled),
            limit: silence.map(ReadLimit::new),
        }))
    }

    pub(crate) fn inner(&self) -> &Incoming {
        &self.body
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                return match self.limit.as_mut().map(|limit| limit.poll_passed(cx)) {
                    Some(Poll::Ready(())) => Poll::Ready(Some(Err(BodyError::Timeout))),
                    _ => Poll::Pending,
                };
            }
        };
        if let Some(limit) = &mut self.limit {
            limit.heard();
        }
        if (frame.is_none() || self.body.is_end_stream())
            && let Some(mut pooled) = self.pooled.take()
        {
            pooled.give_back();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Peer)))
    }
}
