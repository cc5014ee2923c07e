//! The response as it goes out: its bytes counted, its time bounded, and the host's own answers.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BodyError};
use crate::error::{Error, flags};
use crate::stream::Stream;

/// The body of a response to a client. It holds the exchange, which ends with it.
pub(crate) struct ResponseBody {
    body: Body,
    stream: Rc<Stream>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Bytes still to come, where the head says how many there are: hyper asks for nothing behind the last one.
    left: Option<u64>,
}

impl ResponseBody {
    /// `bodiless`: the response ends with its head whatever the body is. `length`: what its head says.
    pub(crate) fn new(
        body: Body,
        stream: Rc<Stream>,
        deadline: Option<Instant>,
        bodiless: bool,
        length: Option<u64>,
    ) -> Self {
        if bodiless || body.is_end_stream() {
            stream.record.borrow_mut().complete = true;
        }
        Self {
            body,
            stream,
            deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
            left: length,
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Pending => {
                if let Some(deadline) = &mut self.deadline
                    && deadline.as_mut().poll(cx).is_ready()
                {
                    let mut record = self.stream.record.borrow_mut();
                    record.details = "request_timeout";
                    record.flags |= flags::UPSTREAM_REQUEST_TIMEOUT;
                    drop(record);
                    return Poll::Ready(Some(Err(BodyError::Timeout)));
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    let count = data.len() as u64;
                    self.stream.sent.set(self.stream.sent.get() + count);
                    self.left = self.left.map(|left| left.saturating_sub(count));
                } else if let Some(trailers) = frame.trailers_ref()
                    && self.stream.chain.borrow().has_modules()
                {
                    self.stream.record.borrow_mut().trailers = Some(Box::new(trailers.clone()));
                }
                if self.body.is_end_stream() || self.left == Some(0) {
                    self.stream.record.borrow_mut().complete = true;
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let mut record = self.stream.record.borrow_mut();
                record.complete = true;
                record.details = match error {
                    BodyError::Peer(_) | BodyError::Cancelled(_) => {
                        record.flags |= flags::UPSTREAM_CONNECTION_TERMINATION;
                        "upstream_reset_after_response_started"
                    }
                    BodyError::Filter(details) => details,
                    BodyError::Timeout => "request_timeout",
                };
            }
            Poll::Ready(None) => self.stream.record.borrow_mut().complete = true,
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The host's own answer. It says no more than the status: reasons are for the access log.
pub(crate) fn own(error: &Error) -> Response<Body> {
    let status = error.status();
    let text = format!(
        "{} {}\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    let text_length = text.len();
    let mut response = Response::new(Body::full(text.into()));
    *response.status_mut() = status;
    let length = HeaderValue::from(text_length);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(header::CONTENT_LENGTH, length);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        // RFC 9110 section 15.5.6 demands it. What is refused here are CONNECT and TRACE, whatever the resource allows.
        response.headers_mut().insert(
            header::ALLOW,
            HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        );
    }
    response
}
