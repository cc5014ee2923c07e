//! The story of one request: checks, route, filters, upstream, and back.

mod outgoing;
mod routing;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tidegate_model::{BackendTarget, Mirror, RequestHead, RouteEntry};
use tidegate_wasm::Direction;
use tokio::time::Instant;

use self::outgoing::{declared_length, settle_length};
pub(crate) use self::routing::choose;
use self::routing::{find, lower_host};
use crate::activity::Lengths;
use crate::attributes;
use crate::body::Body;
use crate::chain::{Chain, Place};
use crate::check::{self, Refused};
use crate::connection::Connection;
use crate::error::Error;
use crate::filtered::Filtered;
use crate::forward::{self, Plan, Tries};
use crate::forwarded;
use crate::request::{Flow, Held, reply_response};
use crate::response::ResponseBody;
use crate::session::{self, Bound};
use crate::stream::{FILTER_REPLY, Record, Stream};
use crate::upgrade;

/// What one request needs while it is being answered.
pub(crate) struct Exchange {
    pub(crate) stream: Rc<Stream>,
    /// Where the client asks to leave HTTP.
    upgrade: Option<(HeaderValue, OnUpgrade)>,
    /// End of `timeouts.request`.
    deadline: Option<Instant>,
    pub(crate) mirrors: Vec<Mirror>,
}

/// Answers a request. Never fails: whatever happens becomes a response or a broken body.
pub(crate) async fn serve(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (mut parts, incoming) = request.into_parts();
    connection.worker.metrics.begin();
    connection.activity.begin();
    let upgrade =
        check::upgrade(parts.version, &parts.headers).zip(parts.extensions.remove::<OnUpgrade>());
    let limits = &connection.settings.limits;
    let lengths = lengths(&connection, &parts);
    let (mut head, refused) =
        match check::request_head(&mut parts, connection.scheme.clone(), limits) {
            Ok(head) if lengths == Lengths::Two => (head, Some(check::TWO_LENGTHS)),
            Ok(head) => (head, None),
            Err(refused) => (
                check::refused_head(&parts, connection.scheme.clone()),
                Some(refused),
            ),
        };
    let record = record(&parts, &mut head, connection.peer);
    let stream = Rc::new(Stream {
        state: connection.worker.state(),
        connection,
        record: RefCell::new(record),
        chain: RefCell::new(Chain::default()),
        signal: Rc::default(),
        failure: RefCell::default(),
        reply: RefCell::default(),
        permits: RefCell::default(),
        received: Rc::default(),
        sent: Cell::new(0),
    });
    let mut exchange = Exchange {
        stream,
        upgrade,
        deadline: None,
        mirrors: Vec::new(),
    };
    let outcome = exchange.run(head, incoming, refused).await;
    let response = match outcome {
        Ok(response) => response,
        Err(error) => Box::pin(exchange.answer(&error)).await,
    };
    let mut response = exchange.seal(response, parts.version, &parts.method);
    if lengths == Lengths::Unknown {
        // RFC 9112 section 6.3: close after such a request.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// How a request says its length.
fn lengths(connection: &Connection, parts: &Parts) -> Lengths {
    if parts.version >= Version::HTTP_2 {
        return Lengths::One;
    }
    match connection.activity.next_lengths() {
        // `Content-Length` alone has one reading, wherever it begins.
        Lengths::Unknown if !parts.headers.contains_key(header::TRANSFER_ENCODING) => Lengths::One,
        lengths => lengths,
    }
}

fn record(parts: &Parts, head: &mut RequestHead, peer: std::net::SocketAddr) -> Record {
    Record {
        started: Instant::now(),
        version: parts.version,
        method: head.method.clone(),
        authority: head.authority.clone(),
        // As it was received: what has been resolved away may be what somebody looks for.
        path: parts
            .uri
            .path_and_query()
            .filter(|received| received.as_str().starts_with('/'))
            .unwrap_or(&head.path)
            .clone(),
        user_agent: head.headers.get(header::USER_AGENT).cloned(),
        request_id: forwarded::request_id(head),
        client: peer,
        rule: None,
        status: 0,
        details: "",
        flags: 0,
        trailers: None,
        filter: None,
        tries: Tries::default(),
        cluster: None,
        upstream_started: None,
        upstream_answered: None,
        complete: false,
    }
}

impl Exchange {
    async fn run(
        &mut self,
        mut head: RequestHead,
        incoming: Incoming,
        refused: Option<Refused>,
    ) -> Result<Response<Body>, Error> {
        if let Some(refused) = refused {
            return Err(Error::Refused(refused));
        }
        let stream = self.stream.clone();
        let connection = &stream.connection;
        check::remove_hop_by_hop(&mut head.headers);
        // hyper has said 100 (Continue) or will: nobody further on has to wait, as in Envoy.
        head.headers.remove(header::EXPECT);
        forwarded::set(
            &mut head,
            &connection.forwarded,
            connection.listener.port,
            &connection.settings.trust,
        );
        if let Some(client) =
            forwarded::client_address(&head, connection.peer, &connection.settings.trust)
        {
            stream.record.borrow_mut().client = client;
        }
        let body = Body::incoming(incoming, &stream.received);

        let listener = stream
            .state
            .listener(&connection.listener)
            .cloned()
            .ok_or(Error::NoListener)?;
        let listener_host = self.listener_host(&listener, &lower_host(&head))?;
        if !listener_host.filters.is_empty() {
            // Filters of the listener run before the route is chosen, and may change what it is chosen by.
            match Box::pin(self.listener_filters(listener_host, &mut head)).await? {
                Flow::Continue => {}
                Flow::Reply(response) => return Ok(*response),
            }
        }
        let entry = find(listener_host, &head)?;
        stream.record.borrow_mut().rule = Some(entry.rule.clone());
        let limit = entry.rule.timeouts.request;
        self.deadline = limit.map(|limit| Instant::now() + limit);
        // Pinned here once: a copy in each branch would double the size of every request's future.
        let mut routed = pin!(self.route(head, body, entry));
        match limit {
            None => routed.await,
            Some(limit) => {
                let answered = tokio::time::timeout(limit, routed.as_mut()).await;
                answered.unwrap_or(Err(Error::RequestTimeout(limit)))
            }
        }
    }

    /// Filters, backend, upstream, and the response past the filters.
    async fn route(
        &mut self,
        head: RequestHead,
        body: Body,
        entry: &RouteEntry,
    ) -> Result<Response<Body>, Error> {
        let stream = self.stream.clone();
        let rule = &entry.rule;
        let bound = session::find(&stream, rule, &head);
        let mut body = body;
        let mut held = Held::Plain(head);
        let place = |index| Place {
            rule: rule.clone(),
            backend: None,
            index,
        };
        match self
            .request_filters(
                &mut held,
                &mut body,
                &rule.filters,
                place,
                &entry.matches.path,
            )
            .await?
        {
            Flow::Continue => {}
            Flow::Reply(response) => return self.back(*response, FILTER_REPLY).await,
        }
        let chosen = match &bound {
            Some(bound) => bound.backend,
            None => choose(&rule.backends).ok_or(Error::NoBackend)?,
        };
        let backend = &rule.backends[chosen];
        if !backend.filters.is_empty() {
            let place = |index| Place {
                rule: rule.clone(),
                backend: Some(chosen),
                index,
            };
            match self
                .request_filters(
                    &mut held,
                    &mut body,
                    &backend.filters,
                    place,
                    &entry.matches.path,
                )
                .await?
            {
                Flow::Continue => {}
                Flow::Reply(response) => return self.back(*response, FILTER_REPLY).await,
            }
        }
        let backend = match &backend.target {
            BackendTarget::Backend(backend) => backend,
            BackendTarget::Unresolved { reason } => {
                return Err(Error::UnresolvedBackend(reason.clone()));
            }
        };
        let cluster = stream.state.cluster(&stream.connection.worker, backend);
        stream.record.borrow_mut().cluster = Some(backend.key.clone());
        stream.settle_io().await;
        stream
            .chain
            .borrow_mut()
            .with_io(|io| attributes::backend(&mut io.attributes, rule, chosen));
        let head = self.sendable(held)?;
        let (head, body) = self.outgoing(head, body);
        let body = self.mirror(&head, body);
        let response = self
            .upstream(&cluster, head, body, entry, bound.as_ref())
            .await?;
        self.back(response, "via_upstream").await
    }

    async fn upstream(
        &mut self,
        cluster: &Rc<crate::upstream::Cluster>,
        head: RequestHead,
        body: Body,
        entry: &RouteEntry,
        bound: Option<&Bound>,
    ) -> Result<Response<Body>, Error> {
        let stream = self.stream.clone();
        let rule = &entry.rule;
        let plan = Plan {
            retry: rule.retry.as_ref(),
            timeouts: &rule.timeouts,
            upgrade: self.upgrade.as_ref().map(|(protocol, _)| protocol.clone()),
            endpoint: bound.map(|bound| &bound.endpoint),
            received: &stream.received,
        };
        stream.record.borrow_mut().upstream_started = Some(Instant::now());
        let mut tries = Tries::default();
        let worker = &stream.connection.worker;
        let has_modules = stream.chain.borrow().has_modules();
        let sent = {
            let mut sending = pin!(forward::send(
                worker, cluster, head, body, &plan, &mut tries
            ));
            if has_modules {
                tokio::select! {
                    biased;
                    sent = sending.as_mut() => sent.map(Some),
                    interrupted = stream.interruption() => match interrupted {
                        Ok(reply) => {
                            *stream.reply.borrow_mut() = Some(reply);
                            Ok(None)
                        }
                        Err(error) => Err(error),
                    },
                }
            } else {
                sending.await.map(Some)
            }
        };
        {
            let mut record = stream.record.borrow_mut();
            record.upstream_answered = Some(Instant::now());
            record.tries = tries;
        }
        let (mut response, pooled) = match sent {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(self.reply_taken()),
            // What stopped the body is the reason, not that the upstream then broke off.
            Err(error) => match stream.interrupted() {
                Some(Ok(reply)) => {
                    stream.record.borrow_mut().details = FILTER_REPLY;
                    return Ok(reply_response(*reply));
                }
                Some(Err(cause)) => return Err(cause),
                None => return Err(error),
            },
        };
        if has_modules {
            stream.settle_io().await;
            attributes::upstream(&stream, &pooled);
        }
        if response.version() < Version::HTTP_2 {
            let endpoint = || pooled.host().endpoint.to_string();
            check::transfer_encoding(response.headers())
                .map_err(|_| Error::ResponseCoding(endpoint()))?;
        }
        session::keep(&stream, rule, bound, response.headers_mut());
        upgrade::join(
            response,
            pooled,
            &stream.connection,
            self.upgrade.take(),
            rule.timeouts.read,
            &stream.permits,
        )
    }

    fn reply_taken(&self) -> Response<Body> {
        let reply = self.stream.reply.borrow_mut().take();
        self.stream.record.borrow_mut().details = FILTER_REPLY;
        reply.map_or_else(
            || Response::new(Body::Empty),
            |reply| reply_response(*reply),
        )
    }

    /// The response past the filters, with its body.
    pub(crate) async fn back(
        &mut self,
        response: Response<Body>,
        details: &'static str,
    ) -> Result<Response<Body>, Error> {
        let stream = self.stream.clone();
        {
            let mut record = stream.record.borrow_mut();
            if record.details.is_empty() {
                record.details = details;
            }
        }
        let mut response = stream.respond(response).await?;
        let tunnel = response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
        if !tunnel {
            check::remove_hop_by_hop(response.headers_mut());
        }
        if !stream.chain.borrow().has_modules() || tunnel {
            return Ok(response);
        }
        Ok(self.past_body_filters(response))
    }

    /// Puts the body filters in front of the body.
    fn past_body_filters(&self, mut response: Response<Body>) -> Response<Body> {
        let declared = declared_length(response.headers());
        let body = std::mem::take(response.body_mut());
        let filtered = Filtered::new(&self.stream, Direction::Response, body, declared);
        *response.body_mut() = filtered.map_or_else(|body| body, Body::Filtered);
        response
    }

    /// The host's own answer to an error, past the filters that have seen the request.
    async fn answer(&mut self, error: &Error) -> Response<Body> {
        let stream = self.stream.clone();
        {
            let mut record = stream.record.borrow_mut();
            record.details = error.details();
            record.flags = error.flags();
            if let Error::Filter { filter, .. } = error {
                record.filter = Some(filter.to_string());
            }
        }
        stream.connection.worker.metrics.own_reply(error.details());
        if error.is_noteworthy() {
            let record = stream.record.borrow();
            let route = record.rule.as_ref().map(|rule| rule.origin.to_string());
            tracing::warn!(details = error.details(), route, path = record.path.as_str(), %error, "request failed");
        }
        let own = crate::response::own(error);
        // A filter that has failed is out of the chain; the others may still add to the answer, and if one fails over it the
        // answer goes out as it is.
        let plain = crate::response::own(error);
        let has_modules = stream.chain.borrow().has_modules();
        if has_modules {
            stream.settle_io().await;
            attributes::own_answer(&stream);
        }
        let mut response = match stream.respond(own).await {
            Ok(response) if has_modules => self.past_body_filters(response),
            Ok(response) => response,
            Err(_) => plain,
        };
        let version = stream.record.borrow().version;
        if matches!(error, Error::Refused(_) | Error::RequestBody) && version < Version::HTTP_2 {
            // Where the next request would begin is as doubtful as this one was.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }

    /// Ties the response to the exchange, so that its last byte ends both.
    fn seal(
        self,
        response: Response<Body>,
        version: Version,
        method: &Method,
    ) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        // hyper itself turns an answer in HTTP/1.1 into what a client of HTTP/1.0 can read, and keeps its connection if it asked for that.
        parts.version = version.max(Version::HTTP_11);
        self.stream.record.borrow_mut().status = parts.status.as_u16();
        let length = settle_length(&mut parts, method, &body);
        let bodiless =
            method == Method::HEAD || parts.status.as_u16() == 204 || parts.status.as_u16() == 304;
        // Over HTTP/1 hyper leaves such a body alone; over HTTP/2 it would send it.
        let body = match bodiless && version == Version::HTTP_2 {
            true => Body::Empty,
            false => body,
        };
        let deadline = self.deadline.filter(|_| !body.is_end_stream());
        Response::from_parts(
            parts,
            ResponseBody::new(body, self.stream, deadline, bodiless, length),
        )
    }
}
