//! The request's way through the filters.

use std::rc::Rc;
use std::sync::Arc;

use http::{Response, StatusCode};
use http_body::Body as _;
use tidegate_model::{
    Concurrency, Filter, FilterMode, FilterSpec, ListenerHost, Mirror, PathMatch, RequestHead,
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
    Reply(Box<Response<Body>>),
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
                    let response = response.unwrap_or_else(|| Response::new(Body::Empty));
                    return Ok(Flow::Reply(Box::new(response)));
                }
                Filter::Mirror(mirror) if takes(mirror) => self.mirrors.push(mirror.clone()),
                Filter::Mirror(_) => {}
                Filter::Concurrency(limit) => self.enter(limit)?,
                Filter::Refuse { status, reason } => return Err(refusal(*status, reason)),
                Filter::Unresolved { reference, reason } => {
                    return Err(Error::UnresolvedFilter {
                        reference: reference.clone(),
                        reason: reason.clone(),
                    });
                }
                Filter::Wasm(spec) => match self.module(held, body, spec).await? {
                    Next::Continue => {}
                    Next::Reply(reply) => return Ok(Flow::Reply(Box::new(reply_response(*reply)))),
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
                    let response = native::redirect(head, redirect, &everything, port);
                    return Ok(Flow::Reply(Box::new(response)));
                }
                Filter::Mirror(mirror) if takes(mirror) => self.mirrors.push(mirror.clone()),
                Filter::Mirror(_) | Filter::ResponseHeaders(_) => {}
                Filter::Concurrency(limit) => self.enter(limit)?,
                Filter::Refuse { status, reason } => return Err(refusal(*status, reason)),
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
                        Next::Reply(reply) => {
                            return Ok(Flow::Reply(Box::new(reply_response(*reply))));
                        }
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

    /// Takes a place among the requests of this client.
    fn enter(&self, limit: &Concurrency) -> Result<(), Error> {
        let stream = &self.stream;
        let client = stream.record.borrow().client.ip();
        let in_flight = &stream.connection.worker.in_flight;
        let permit = in_flight
            .enter(limit, client)
            .ok_or_else(|| Error::TooMany {
                zone: limit.zone.clone(),
                most: limit.most,
                status: limit.status,
            })?;
        stream.permits.borrow_mut().push(permit);
        Ok(())
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
            attributes::downstream(&stream, &mut io.attributes);
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
                Box::pin(stream.await_body(at, Direction::Request, body)).await
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
        attributes::downstream(&self.stream, &mut io.attributes);
        let shadow = Shadow::begin(filter, plugin, io, body.is_end_stream());
        let source = std::mem::take(body);
        *body = Tap::on(source, Direction::Request, std::iter::once(&shadow));
        chain.pass_shadow(shadow);
    }
}

fn refusal(status: StatusCode, reason: &Arc<str>) -> Error {
    Error::Answered {
        status,
        reason: reason.clone(),
    }
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
