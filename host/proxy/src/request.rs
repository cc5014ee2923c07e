//! The request's way through the filters.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use http::Response;
use http_body::Body as _;
use tidegate_model::{
    Filter, FilterMode, FilterSpec, ListenerHost, Mirror, PathMatch, RequestHead,
};
use tidegate_wasm::{Action, Callback, Direction, LocalReply, StreamIo};

use crate::attributes;
use crate::body::Body;
use crate::chain::{Called, Next, Place, local_reply};
use crate::error::Error;
use crate::exchange::Exchange;
use crate::native;
use crate::plugin::WorkerFilter;
use crate::shadow::{Shadow, Tap};

/// How a list of filters ended.
pub(crate) enum Flow {
    Continue,
    /// A filter answers.
    Reply(Response<Body>),
}

/// Where the request's head is. It is moved once or twice in a request's life, which costs less than a box would.
#[expect(
    clippy::large_enum_variant,
    reason = "one lives per request, and only for the request phase"
)]
pub(crate) enum Held {
    /// No module has seen it.
    Plain(RequestHead),
    /// In the exchange's data.
    Chain,
}

/// What a filter that held the head back for the body has let pass of the body.
pub(crate) struct Prefix {
    /// Its step.
    pub(crate) after: usize,
    pub(crate) data: Bytes,
    pub(crate) end: bool,
}

impl Exchange {
    /// Takes the request past `filters` in order.
    pub(crate) async fn request_filters(
        &mut self,
        held: &mut Held,
        body: &mut Body,
        filters: &[Filter],
        place: impl Fn(usize) -> Place,
        matched: &PathMatch,
    ) -> Result<Flow, Error> {
        let port = self.stream.connection.listener.port;
        for (index, filter) in filters.iter().enumerate() {
            self.stream.settle_io().await;
            match filter {
                Filter::RequestHeaders(modifier) => {
                    self.on_head(held, |head| native::modify_request(head, modifier))
                }
                Filter::ResponseHeaders(_) => {
                    self.stream.chain.borrow_mut().pass_headers(place(index))
                }
                Filter::Rewrite(rewrite) => {
                    self.on_head(held, |head| native::rewrite(head, rewrite, matched))
                }
                Filter::Redirect(redirect) => {
                    let mut response = None;
                    self.on_head(held, |head| {
                        response = Some(native::redirect(head, redirect, matched, port))
                    });
                    return Ok(Flow::Reply(
                        response.unwrap_or_else(|| Response::new(Body::Empty)),
                    ));
                }
                Filter::Mirror(mirror) if takes(mirror) => self.mirrors.push(mirror.clone()),
                Filter::Mirror(_) => {}
                Filter::Unresolved { reference, reason } => {
                    return Err(Error::UnresolvedFilter {
                        reference: reference.clone(),
                        reason: reason.clone(),
                    });
                }
                Filter::Wasm(spec) => match self.module(held, body, spec).await? {
                    Next::Continue => {}
                    Next::Reply(reply) => return Ok(Flow::Reply(reply_response(reply))),
                },
            }
        }
        Ok(Flow::Continue)
    }

    /// The listener's own filters: what they change, the route is chosen by. Modules see heads only here.
    pub(crate) async fn listener_filters(
        &mut self,
        listener: &ListenerHost,
        head: &mut RequestHead,
    ) -> Result<Flow, Error> {
        let port = self.stream.connection.listener.port;
        let everything = PathMatch::prefix("/");
        for filter in &listener.filters {
            match filter {
                Filter::RequestHeaders(modifier) => native::modify_request(head, modifier),
                Filter::Rewrite(rewrite) => native::rewrite(head, rewrite, &everything),
                Filter::Redirect(redirect) => {
                    return Ok(Flow::Reply(native::redirect(
                        head,
                        redirect,
                        &everything,
                        port,
                    )));
                }
                Filter::Mirror(mirror) if takes(mirror) => self.mirrors.push(mirror.clone()),
                Filter::Mirror(_) | Filter::ResponseHeaders(_) => {}
                Filter::Unresolved { reference, reason } => {
                    return Err(Error::UnresolvedFilter {
                        reference: reference.clone(),
                        reason: reason.clone(),
                    });
                }
                Filter::Wasm(spec) => {
                    let mut held = Held::Plain(head.clone());
                    let mut body = Body::Empty;
                    match self.module(&mut held, &mut body, spec).await? {
                        Next::Reply(reply) => return Ok(Flow::Reply(reply_response(reply))),
                        Next::Continue => {
                            self.stream.settle_io().await;
                            self.on_head(&mut held, |changed| *head = changed.clone())
                        }
                    }
                }
            }
        }
        Ok(Flow::Continue)
    }

    /// Changes the head, wherever it is.
    fn on_head(&self, held: &mut Held, change: impl FnOnce(&mut RequestHead)) {
        match held {
            Held::Plain(head) => change(head),
            Held::Chain => drop(
                self.stream
                    .chain
                    .borrow_mut()
                    .with_io(|io| change(&mut io.request)),
            ),
        }
    }

    /// A module's turn at the head, pauses included.
    async fn module(
        &mut self,
        held: &mut Held,
        body: &mut Body,
        spec: &std::sync::Arc<FilterSpec>,
    ) -> Result<Next, Error> {
        let stream = self.stream.clone();
        let filter = stream.state.filter(&stream.connection.worker, spec);
        if spec.mode == FilterMode::Shadow {
            self.shadow(held, body, &filter);
            return Ok(Next::Continue);
        }
        let Some(at) = stream.open_module(&filter).await? else {
            return Ok(Next::Continue);
        };
        if let Held::Plain(head) = std::mem::replace(held, Held::Chain) {
            let mut io = Box::new(StreamIo::new(head));
            io.attributes = attributes::downstream(&stream);
            stream.chain.borrow_mut().put_io(io);
        }
        let end_of_stream = body.is_end_stream();
        match stream
            .call(at, Callback::RequestHeaders { end_of_stream })
            .await?
        {
            Called::Skipped | Called::Action(Action::Continue) => Ok(Next::Continue),
            Called::Reply(reply) => Ok(Next::Reply(reply)),
            Called::Action(Action::PauseHeaders) if !end_of_stream => {
                Box::pin(self.await_body(at, body)).await
            }
            Called::Action(_) => stream.resumed(at, Direction::Request).await,
        }
    }

    /// Lets a filter in shadow mode follow from here on. One that cannot run has nothing to say.
    fn shadow(&self, held: &Held, body: &mut Body, filter: &Rc<WorkerFilter>) {
        let Some(plugin) = filter.plugin() else {
            return;
        };
        let mut chain = self.stream.chain.borrow_mut();
        let head = match held {
            Held::Plain(head) => Some(head.clone()),
            Held::Chain => chain.with_io(|io| io.request.clone()),
        };
        let Some(head) = head else { return };
        let mut io = Box::new(StreamIo::new(head));
        io.attributes = attributes::downstream(&self.stream);
        let shadow = Shadow::begin(filter, plugin, io, body.is_end_stream());
        let source = std::mem::take(body);
        *body = Tap::on(source, Direction::Request, std::iter::once(&shadow));
        chain.pass_shadow(shadow);
    }

    /// The head waits while the body callbacks go on (`headersWaitForBody`), until one of them or a resume lets go.
    async fn await_body(&mut self, at: usize, body: &mut Body) -> Result<Next, Error> {
        let stream = self.stream.clone();
        loop {
            let frame = tokio::select! {
                biased;
                next = stream.resumed(at, Direction::Request) => {
                    self.keep_prefix(at, false).await;
                    return next;
                }
                frame = poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)) => frame,
            };
            let (data, end) = match frame {
                None => (Bytes::new(), true),
                Some(Err(_)) => return Err(Error::RequestBody),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => (data, false),
                    // Trailers release a body; they themselves are not sent on in this rare case.
                    Err(_) => (Bytes::new(), true),
                },
            };
            let bound = spec_bound(&stream, at);
            stream.settle_io().await;
            let held = stream.chain.borrow_mut().with_io(|io| {
                io.request_body.extend_from_slice(&data);
                io.request_body.len()
            });
            if held.unwrap_or_default() > bound {
                let filter = stream
                    .chain
                    .borrow()
                    .module(at)
                    .map(|module| module.plugin.spec.id.clone());
                return Err(filter.map_or(Error::RequestBody, Error::RequestTooLarge));
            }
            match stream
                .call(at, Callback::RequestBody { end_of_stream: end })
                .await?
            {
                Called::Reply(reply) => return Ok(Next::Reply(reply)),
                Called::Skipped | Called::Action(Action::Continue) => {
                    self.keep_prefix(at, end).await;
                    return Ok(Next::Continue);
                }
                Called::Action(_) if end => {
                    let next = stream.resumed(at, Direction::Request).await;
                    self.keep_prefix(at, true).await;
                    return next;
                }
                Called::Action(_) => {}
            }
        }
    }

    /// Keeps what a filter held of the body for the filters behind it.
    async fn keep_prefix(&mut self, after: usize, end: bool) {
        self.stream.settle_io().await;
        let data = self
            .stream
            .chain
            .borrow_mut()
            .with_io(|io| std::mem::take(&mut io.request_body));
        self.prefix = Some(Prefix {
            after,
            data: data.unwrap_or_default().freeze(),
            end,
        });
    }
}

fn spec_bound(stream: &crate::stream::Stream, at: usize) -> usize {
    stream
        .chain
        .borrow()
        .module(at)
        .map_or(usize::MAX, |module| module.plugin.spec.limits.buffered_body)
}

/// Whether a mirror's share takes this request.
fn takes(mirror: &Mirror) -> bool {
    mirror.numerator >= mirror.denominator || fastrand::u32(..mirror.denominator) < mirror.numerator
}

/// A filter's answer as a response.
pub(crate) fn reply_response(reply: LocalReply) -> Response<Body> {
    let (head, body) = local_reply(reply);
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}
