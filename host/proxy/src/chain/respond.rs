//! The response's way back past the filters.

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use tidegate_model::ResponseHead;
use tidegate_wasm::{Action, Callback, Direction, LocalReply, PseudoSet, StreamIo};

use super::{Called, Next};
use crate::body::Body;
use crate::error::Error;
use crate::request::Prefix;
use crate::stream::Stream;

impl Stream {
    /// Takes a response head past the filters that have seen the request, the last one first. A reply on the way takes its place
    /// for those that follow.
    pub(crate) async fn respond(
        &self,
        mut response: Response<Body>,
    ) -> Result<Response<Body>, Error> {
        if self.chain.borrow().has_shadows {
            let body = std::mem::take(response.body_mut());
            *response.body_mut() = self.chain.borrow().tapped(Direction::Response, body);
        }
        if !self.chain.borrow().has_modules {
            self.chain.borrow().modify_response(&mut response);
            return Ok(response);
        }
        let (parts, mut body) = response.into_parts();
        let http::response::Parts {
            status,
            headers,
            extensions,
            version,
            ..
        } = parts;
        self.settle_io().await;
        self.chain.borrow_mut().with_io(|io| {
            io.attributes.response_code = Some(status);
            io.response = Some(ResponseHead { status, headers });
        });
        let steps = self.chain.borrow().len();
        let head_only = self.record.borrow().method == http::Method::HEAD;
        for at in (0..steps).rev() {
            self.settle_io().await;
            let ends = body.is_end_stream();
            self.chain.borrow_mut().modify_response_at(at, ends);
            if self.chain.borrow().module(at).is_none() {
                continue;
            }
            if self.chain.borrow().replaced {
                continue;
            }
            let end_of_stream = http_body::Body::is_end_stream(&body) || head_only;
            let next = match self
                .call(at, Callback::ResponseHeaders { end_of_stream })
                .await?
            {
                Called::Skipped | Called::Action(Action::Continue) => Next::Continue,
                Called::Reply(reply) => Next::Reply(reply),
                Called::Action(Action::PauseHeaders) if !end_of_stream => {
                    Box::pin(self.await_response_body(at, &mut body)).await?
                }
                Called::Action(_) => self.resumed(at, Direction::Response).await?,
            };
            if let Next::Reply(reply) = next {
                self.settle_io().await;
                self.chain.borrow_mut().replaced = true;
                self.chain.borrow_mut().prefix = None;
                let (head, replaced) = local_reply(reply);
                body = replaced;
                self.chain
                    .borrow_mut()
                    .with_io(|io| io.response = Some(head));
            }
        }
        self.settle_io().await;
        let lacks_status = |io: &mut StreamIo| {
            let lacks = io.missing.intersects(PseudoSet::STATUS);
            // The answer that takes its place has one.
            io.missing.remove(PseudoSet::STATUS);
            lacks
        };
        if self.chain.borrow_mut().with_io(lacks_status) == Some(true) {
            self.chain.borrow_mut().replaced = true;
            return Err(Error::NoStatus);
        }
        let head = self
            .chain
            .borrow_mut()
            .with_io(StreamIo::send_response)
            .flatten();
        let head = head.unwrap_or(ResponseHead {
            status,
            headers: HeaderMap::new(),
        });
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        *response.version_mut() = version;
        *response.extensions_mut() = extensions;
        Ok(response)
    }
}

impl Stream {
    /// The response's head waits while the body callbacks of a step go on, until one of them or a resume lets go.
    async fn await_response_body(&self, at: usize, body: &mut Body) -> Result<Next, Error> {
        loop {
            let frame = tokio::select! {
                biased;
                next = self.resumed(at, Direction::Response) => {
                    self.settle_io().await;
                    self.keep_prefix(at, false);
                    return next;
                }
                frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)) => frame,
            };
            let (data, end) = match frame {
                None => (Bytes::new(), true),
                Some(Err(_)) => return Err(Error::Reset(self.filter_id(at))),
                // Trailers release a body; they themselves are not sent on in this rare case.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => (data, false),
                    Err(_) => (Bytes::new(), true),
                },
            };
            self.settle_io().await;
            let held = self.chain.borrow_mut().with_io(|io| {
                io.response_body.extend_from_slice(&data);
                io.response_body.len()
            });
            let bound = self
                .chain
                .borrow()
                .module(at)
                .map(|module| module.plugin.spec.limits.buffered_body);
            if bound.is_some_and(|bound| held.unwrap_or_default() > bound) {
                return Err(Error::ResponseTooLarge(self.filter_id(at)));
            }
            match self
                .call(at, Callback::ResponseBody { end_of_stream: end })
                .await?
            {
                Called::Reply(reply) => return Ok(Next::Reply(reply)),
                Called::Skipped | Called::Action(Action::Continue) => {
                    self.settle_io().await;
                    self.keep_prefix(at, end);
                    return Ok(Next::Continue);
                }
                Called::Action(_) if end => {
                    let next = self.resumed(at, Direction::Response).await;
                    self.settle_io().await;
                    self.keep_prefix(at, true);
                    return next;
                }
                Called::Action(_) => {}
            }
        }
    }

    /// Keeps what a filter held of the response's body for the filters behind it.
    fn keep_prefix(&self, after: usize, end: bool) {
        let mut chain = self.chain.borrow_mut();
        let data = chain.with_io(|io| std::mem::take(&mut io.response_body));
        let data = data.unwrap_or_default().freeze();
        chain.prefix = Some(Prefix { after, data, end });
    }

    fn filter_id(&self, at: usize) -> tidegate_model::FilterId {
        let chain = self.chain.borrow();
        let none = || tidegate_model::FilterId {
            namespace: "".into(),
            name: "".into(),
        };
        chain
            .module(at)
            .map_or_else(none, |module| module.plugin.spec.id.clone())
    }
}

/// A local reply as Envoy makes it: `content-type: text/plain` only where there is a body and none was given, the length ours.
pub(crate) fn local_reply(reply: LocalReply) -> (ResponseHead, Body) {
    let mut headers: HeaderMap = reply.headers;
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    if !reply.body.is_empty() {
        headers
            .entry(header::CONTENT_TYPE)
            .or_insert(HeaderValue::from_static("text/plain"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
    }
    // 1xx cannot end an exchange.
    let status = if reply.status.as_u16() < 200 {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        reply.status
    };
    (ResponseHead { status, headers }, Body::full(reply.body))
}
