//! A request to an upstream: the choice of an endpoint, the connection, further tries, and the head of the response.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header};
use hyper::body::Incoming;
use tidegate_model::{Endpoint, PackedHeaders, RequestHead, Retry, Timeouts};

use crate::body::{Body, Received, Replay};
use crate::error::Error;
use crate::silence::Silence;
use crate::upstream::{Cluster, Host, Pooled};
use crate::worker::Worker;

/// Further tries that are always safe: nothing of the request was sent.
const SAFE_RETRIES: u32 = 2;
/// Least wait between tries that a route asks for but gives no backoff.
const BACKOFF: Duration = Duration::from_millis(25);

/// What a request is sent with.
pub(crate) struct Plan<'a> {
    pub(crate) retry: Option<&'a Retry>,
    /// Limits for each try.
    pub(crate) timeouts: &'a Timeouts,
    /// `Upgrade`, where the client asks to leave HTTP.
    pub(crate) upgrade: Option<HeaderValue>,
    /// Where the client's session leads: asked first, while it is fit.
    pub(crate) endpoint: Option<&'a Endpoint>,
    /// Tells whether the client broke off.
    pub(crate) received: &'a Received,
}

/// What is known of the tries, for the access log and the properties of filters.
#[derive(Default)]
pub(crate) struct Tries {
    pub(crate) count: u32,
    pub(crate) host: Option<Rc<Host>>,
}

/// Sends a request until one try is answered or none is left.
pub(crate) async fn send(
    worker: &Worker,
    cluster: &Rc<Cluster>,
    head: RequestHead,
    body: Body,
    plan: &Plan<'_>,
    tries: &mut Tries,
) -> Result<(Response<Incoming>, Pooled), Error> {
    match plan.retry.filter(|retry| retry.attempts > 0) {
        None => attempt(worker, cluster, head, body, plan, tries).await,
        // Boxed, so that the many requests without tries of their route do not carry the room for them.
        Some(retry) => Box::pin(send_again(worker, cluster, head, body, plan, retry, tries)).await,
    }
}

/// The tries that a route asks for.
async fn send_again(
    worker: &Worker,
    cluster: &Rc<Cluster>,
    head: RequestHead,
    body: Body,
    plan: &Plan<'_>,
    retry: &Retry,
    tries: &mut Tries,
) -> Result<(Response<Incoming>, Pooled), Error> {
    let replay = match body {
        Body::Empty => None,
        body => Some(Replay::new(body, worker.config.limits.replay_bytes)),
    };
    let mut left = retry.attempts;
    loop {
        let body = match &replay {
            None => Body::Empty,
            // Only the latest copy is read; the recording is what the tries have in common.
            Some(replay) => Body::Replay(replay.again().ok_or(Error::RequestBody)?),
        };
        let outcome = attempt(worker, cluster, head.clone(), body, plan, tries).await;
        let again = left > 0
            && replay
                .as_ref()
                .is_none_or(|replay| replay.again().is_some())
            && match &outcome {
                Ok((response, _)) => retry.codes.contains(&response.status().as_u16()),
                Err(Error::Connect { .. } | Error::Upstream { .. } | Error::BackendTimeout(_)) => {
                    true
                }
                Err(_) => false,
            };
        if !again {
            return outcome;
        }
        left -= 1;
        worker.metrics.count(&worker.metrics.retries);
        tokio::time::sleep(retry.backoff.unwrap_or(BACKOFF)).await;
    }
}

/// One try within its time, as the route counts them.
async fn attempt(
    worker: &Worker,
    cluster: &Rc<Cluster>,
    head: RequestHead,
    body: Body,
    plan: &Plan<'_>,
    tries: &mut Tries,
) -> Result<(Response<Incoming>, Pooled), Error> {
    // A route that asks for no attempts gets none, not even safe ones.
    let safe_retries = if plan.retry.is_some_and(|retry| retry.attempts == 0) {
        0
    } else {
        SAFE_RETRIES
    };
    let (silence, body) = Silence::on(plan.timeouts, body);
    let parts = Parts::new(head, body, plan.upgrade.as_ref());
    let bounds = Some((plan, silence.as_ref()));
    let exchange = exchange(worker, cluster, parts, bounds, safe_retries, tries);
    // Pinned here once: a copy in each branch would double the size of every request's future.
    let mut exchange = pin!(exchange);
    match plan.timeouts.backend_request {
        None => exchange.await,
        Some(limit) => {
            let tried = tokio::time::timeout(limit, exchange.as_mut()).await;
            tried.unwrap_or(Err(Error::BackendTimeout(limit)))
        }
    }
}

/// Connects and sends, and again elsewhere as long as nothing of the request can have been processed.
async fn exchange(
    worker: &Worker,
    cluster: &Rc<Cluster>,
    mut parts: Parts,
    bounds: Option<(&Plan<'_>, Option<&Silence>)>,
    safe_retries: u32,
    tries: &mut Tries,
) -> Result<(Response<Incoming>, Pooled), Error> {
    let plan = bounds.map(|(plan, _)| plan);
    let silence = bounds.and_then(|(_, silence)| silence);
    let mut tried: Vec<Rc<Host>> = Vec::new();
    let (mut fresh, mut repeated) = (false, false);
    loop {
        let host = cluster
            .pick(&tried, plan.and_then(|plan| plan.endpoint))
            .ok_or_else(|| Error::NoEndpoint(cluster.key()))?;
        tries.count += 1;
        tries.host = Some(host.clone());
        let timeout = plan
            .and_then(|plan| plan.timeouts.connect)
            .unwrap_or_else(|| cluster.connect_timeout());
        let connection = if fresh {
            Box::pin(host.open(timeout)).await
        } else {
            host.checkout(timeout).await
        };
        let mut pooled = match connection {
            Ok(pooled) => pooled,
            Err(error) => {
                host.failed();
                worker.metrics.count(&worker.metrics.connect_failures);
                if tries.count <= safe_retries && tried.len() + 1 < cluster.len() {
                    tried.push(host);
                    continue;
                }
                return Err(Error::Connect {
                    endpoint: host.endpoint.to_string(),
                    error,
                });
            }
        };
        let http2 = pooled.is_http2();
        let kept = if http2 {
            // Any request may be told that it was not processed.
            Some(parts.keep_with_body(worker.config.limits.replay_bytes))
        } else {
            // A call of a filter is nothing that its client sent: that it may be repeated, nobody has said.
            let repeatable = plan.is_some() && pooled.reused && parts.is_repeatable();
            repeatable.then(|| parts.keep())
        };
        let sent = {
            let mut sending = pin!(pooled.send(parts.request(http2)?));
            match silence {
                None => sending.await,
                Some(silence) => match silence.during(sending.as_mut()).await {
                    Ok(sent) => sent,
                    Err(limit) => {
                        host.failed();
                        return Err(Error::Silent {
                            endpoint: host.endpoint.to_string(),
                            limit,
                        });
                    }
                },
            }
        };
        match sent {
            Ok(response) => {
                if let Some(kept) = kept {
                    kept.settle();
                }
                if matches!(response.status().as_u16(), 502..=504) {
                    host.failed()
                } else {
                    host.succeeded()
                }
                return Ok((response, pooled));
            }
            // The connection was closed while it was idle: nothing of the request was read.
            Err(failed) if failed.unsent.is_some() && tries.count <= safe_retries + 1 => {
                parts = Parts::from_request(failed.unsent.unwrap_or_default());
                (fresh, repeated) = (!http2, true);
            }
            // Refused, or above what a connection that ends still takes: the endpoint itself says that it did nothing.
            Err(failed)
                if failed.unprocessed
                    && tries.count <= safe_retries + 1
                    && kept.as_ref().is_some_and(Kept::is_whole) =>
            {
                parts = kept.map_or_else(Parts::nothing, Kept::parts);
            }
            // Closed at the same moment: an idempotent request without a body may be sent once more (RFC 9110 section 9.2.2).
            Err(failed)
                if plan.is_some()
                    && pooled.reused
                    && !repeated
                    && kept.as_ref().is_some_and(Kept::is_repeatable)
                    && is_close(&failed.error) =>
            {
                parts = kept.map_or_else(Parts::nothing, Kept::parts);
                (fresh, repeated) = (!http2, true);
            }
            // The endpoint is not to blame, and must not be left out for it.
            Err(_) if plan.is_some_and(|plan| plan.received.broken.get()) => {
                return Err(Error::RequestBody);
            }
            Err(failed) => {
                host.failed();
                return Err(Error::Upstream {
                    endpoint: host.endpoint.to_string(),
                    error: failed.error,
                });
            }
        }
    }
}

/// A single call, without a route's tries: sent again only where its endpoint cannot have done anything about it.
pub(crate) async fn once(
    worker: &Worker,
    cluster: &Rc<Cluster>,
    head: RequestHead,
    body: Body,
) -> Result<(Response<Incoming>, Pooled), Error> {
    let mut tries = Tries::default();
    exchange(
        worker,
        cluster,
        Parts::new(head, body, None),
        None,
        SAFE_RETRIES,
        &mut tries,
    )
    .await
}

/// A body of one piece that ends with trailers.
pub(crate) async fn with_trailers(bytes: Bytes, trailers: HeaderMap) -> Body {
    let (mut sender, body) = http_body_util::channel::Channel::new(2);
    // Room for both was made just now.
    let _ = sender.send_data(bytes).await;
    let _ = sender.send_trailers(trailers).await;
    Body::Channel(body)
}

fn is_close(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_closed() || error.is_canceled()
}

/// A request that can be written for either version of HTTP.
struct Parts {
    method: Method,
    scheme: Scheme,
    authority: HeaderValue,
    target: http::uri::PathAndQuery,
    headers: HeaderMap,
    body: Body,
}

/// A request that is kept until it is answered. Hardly any is sent again.
struct Kept {
    method: Method,
    scheme: Scheme,
    authority: HeaderValue,
    target: http::uri::PathAndQuery,
    headers: PackedHeaders,
    body: KeptBody,
}

enum KeptBody {
    Empty,
    /// What was read of it is kept; by us alone, or for the tries of the route, too.
    Replay {
        body: Replay,
        ours: bool,
    },
    /// Too much was read of it.
    Lost,
}

impl Kept {
    fn is_repeatable(&self) -> bool {
        self.method.is_idempotent() && matches!(self.body, KeptBody::Empty)
    }

    /// Whether not more was read of the body than is kept.
    fn is_whole(&self) -> bool {
        match &self.body {
            KeptBody::Empty => true,
            KeptBody::Replay { body, .. } => body.again().is_some(),
            KeptBody::Lost => false,
        }
    }

    /// The request is answered.
    fn settle(&self) {
        if let KeptBody::Replay { body, ours: true } = &self.body {
            body.settle();
        }
    }

    fn parts(self) -> Parts {
        Parts {
            method: self.method,
            scheme: self.scheme,
            authority: self.authority,
            target: self.target,
            headers: self.headers.unpack(),
            body: match self.body {
                KeptBody::Empty | KeptBody::Lost => Body::Empty,
                KeptBody::Replay { body, .. } => body.again().map_or(Body::Empty, Body::Replay),
            },
        }
    }
}

impl Parts {
    fn new(head: RequestHead, body: Body, upgrade: Option<&HeaderValue>) -> Self {
        let RequestHead {
            method,
            scheme,
            authority,
            path,
            mut headers,
        } = head;
        if let Some(protocol) = upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol.clone());
        }
        Self {
            method,
            scheme,
            authority,
            target: path,
            headers,
            body,
        }
    }

    /// Takes apart what [`Parts::request`] put together.
    fn from_request(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let mut headers = parts.headers;
        let host = headers.remove(header::HOST);
        let in_target = || {
            parts
                .uri
                .authority()
                .and_then(|a| HeaderValue::from_str(a.as_str()).ok())
        };
        Self {
            method: parts.method,
            scheme: parts.uri.scheme().cloned().unwrap_or(Scheme::HTTP),
            authority: host
                .or_else(in_target)
                .unwrap_or_else(|| HeaderValue::from_static("")),
            target: parts
                .uri
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")),
            headers,
            body,
        }
    }

    fn is_repeatable(&self) -> bool {
        self.method.is_idempotent() && matches!(self.body, Body::Empty)
    }

    /// Stands where there is nothing to send.
    fn nothing() -> Self {
        Self::from_request(Request::default())
    }

    /// What it takes to send this once more, its body as far as `room` goes.
    fn keep_with_body(&mut self, room: usize) -> Kept {
        let body = match std::mem::take(&mut self.body) {
            Body::Empty => {
                return self.keep();
            }
            Body::Replay(body) => {
                let kept = body.again();
                self.body = Body::Replay(body);
                kept.map(|body| KeptBody::Replay { body, ours: false })
            }
            body => {
                let replay = Replay::new(body, room);
                let kept = replay.again();
                self.body = Body::Replay(replay);
                kept.map(|body| KeptBody::Replay { body, ours: true })
            }
        };
        Kept {
            body: body.unwrap_or(KeptBody::Lost),
            ..self.keep()
        }
    }

    /// What it takes to send this once more, if it has no body.
    fn keep(&self) -> Kept {
        Kept {
            method: self.method.clone(),
            scheme: self.scheme.clone(),
            authority: self.authority.clone(),
            target: self.target.clone(),
            headers: PackedHeaders::pack(&self.headers),
            body: KeptBody::Empty,
        }
    }

    fn request(self, http2: bool) -> Result<Request<Body>, Error> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(self.target);
        *request.headers_mut() = self.headers;
        if http2 {
            let authority = http::uri::Authority::try_from(self.authority.as_bytes());
            uri.scheme = Some(self.scheme);
            uri.authority =
                Some(authority.map_err(|_| Error::Unsendable("the authority is not one"))?);
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(header::CONNECTION);
        } else {
            request.headers_mut().insert(header::HOST, self.authority);
        }
        *request.uri_mut() =
            http::Uri::from_parts(uri).map_err(|_| Error::Unsendable("the target is not one"))?;
        Ok(request)
    }
}
