//! The response's way back past the filters.

use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use tidegate_model::ResponseHead;
use tidegate_wasm::{Action, Callback, Direction, LocalReply, PseudoSet};

use super::{Called, Next};
use crate::body::Body;
use crate::error::Error;
use crate::stream::{FILTER_REPLY, Stream};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

impl Stream {
    /// Takes a response head past the filters that have seen the request, the last one first. A reply on the way takes its place
    /// for those that follow.
    pub(crate) async fn respond(
        self: &Rc<Self>,
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
            mut headers,
            extensions,
            version,
            ..
        } = parts;
        // As in Envoy: what else belongs to the connection is taken out behind the filters.
        headers.remove(KEEP_ALIVE);
        self.settle_io().await;
        self.chain.borrow_mut().with_io(|io| {
            io.receive_response(ResponseHead { status, headers });
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
                    Box::pin(self.await_body(at, Direction::Response, &mut body)).await?
                }
                Called::Action(_) => self.resumed(at, Direction::Response).await?,
            };
            if let Next::Reply(reply) = next {
                self.settle_io().await;
                self.record.borrow_mut().details = FILTER_REPLY;
                let (head, replaced) = local_reply(*reply);
                body = replaced;
                let mut chain = self.chain.borrow_mut();
                chain.replaced = true;
                chain.begin_response();
                chain.with_io(|io| io.receive_response(head));
            }
        }
        self.settle_io().await;
        let mut chain = self.chain.borrow_mut();
        let sent = chain.with_io(|io| {
            if io.missing.intersects(PseudoSet::STATUS) {
                // The answer that takes its place has one.
                io.missing.remove(PseudoSet::STATUS);
                return Err(Error::NoStatus);
            }
            Ok(io.send_response())
        });
        let head = match sent {
            Some(Err(error)) => {
                chain.replaced = true;
                return Err(error);
            }
            Some(Ok(head)) => head,
            None => None,
        };
        drop(chain);
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
