//! The request as it goes out: its head past the filters, its framing, and its copies for mirrors.

use http::{HeaderValue, Method, StatusCode, header, response};
use http_body::Body as _;
use tidegate_model::RequestHead;
use tidegate_wasm::{Direction, PseudoSet};

use super::Exchange;
use crate::body::{Body, Tee};
use crate::error::Error;
use crate::filtered::Filtered;
use crate::request::Held;
use crate::{check, forward};

impl Exchange {
    /// The head as it goes out: what filters left must be a request, and framing is ours.
    pub(super) fn sendable(&self, held: Held) -> Result<RequestHead, Error> {
        let mut head = match held {
            Held::Plain(head) => head,
            Held::Chain => {
                let mut chain = self.stream.chain.borrow_mut();
                let sent = chain.with_io(|io| {
                    // As in Envoy; a scheme is not sent, so that it may be missing.
                    if io.missing.intersects(PseudoSet::PATH) {
                        return Err(Error::NoRoute);
                    }
                    let needed = [PseudoSet::METHOD, PseudoSet::AUTHORITY];
                    if needed.iter().any(|which| io.missing.intersects(*which)) {
                        return Err(Error::Unsendable("it lacks a pseudo-header"));
                    }
                    Ok(io.send_request())
                });
                sent.ok_or(Error::Unsendable("its head is gone"))??
            }
        };
        if self.stream.chain.borrow().has_modules() {
            check::remove_hop_by_hop(&mut head.headers);
        }
        {
            // What has changed since it was checked is checked again.
            let record = self.stream.record.borrow();
            let unchanged = head.authority == record.authority
                && head.path == record.path
                && head.method == record.method;
            if !unchanged {
                check::changed_head(&head).map_err(Error::Unsendable)?;
            }
        }
        // The body is read and sent at once, so there is nothing left to wait for (RFC 9110 section 10.1.1).
        head.headers.remove(header::EXPECT);
        Ok(head)
    }

    /// Puts the body filters in front of the body, and makes length and body agree.
    pub(super) fn outgoing(&mut self, mut head: RequestHead, body: Body) -> (RequestHead, Body) {
        let exact = exact_length(&body);
        let declared = declared_length(&head.headers);
        let unframed = self.upgrade.is_some();
        let (body, filtered) = match Filtered::new(&self.stream, Direction::Request, body, declared)
        {
            Ok(filtered) => (Body::Filtered(filtered), true),
            Err(body) => (body, false),
        };
        if !filtered && !unframed {
            // Whatever a filter wrote there, the body is as long as it is.
            match exact {
                Some(0)
                    if means_nothing_by_a_body(&head.method)
                        && !head.headers.contains_key(header::CONTENT_LENGTH) => {}
                Some(length) => drop(
                    head.headers
                        .insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
                ),
                None => drop(head.headers.remove(header::CONTENT_LENGTH)),
            }
        }
        (head, body)
    }

    /// Starts the mirrors; they get what the upstream gets.
    pub(super) fn mirror(&mut self, head: &RequestHead, body: Body) -> Body {
        let mirrors = std::mem::take(&mut self.mirrors);
        if mirrors.is_empty() {
            return body;
        }
        let (body, copies) = Tee::split(body, mirrors.len());
        for (mirror, copy) in mirrors.into_iter().zip(copies) {
            let (head, stream) = (head.clone(), self.stream.clone());
            let worker = stream.connection.worker.clone();
            let cluster = stream.state.cluster(&worker, &mirror.backend);
            drop(stream);
            tokio::task::spawn_local(async move {
                let sent = forward::once(&worker, &cluster, head, copy).await;
                match sent {
                    Ok((response, mut pooled)) => {
                        // Its answer is read to the end, so that the connection can be used again.
                        let read = http_body_util::BodyExt::collect(response.into_body()).await;
                        if read.is_ok() {
                            pooled.give_back();
                        }
                    }
                    Err(error) => tracing::debug!(%error, "mirror"),
                }
            });
        }
        body
    }
}

/// Whether a request of this method without a body says nothing about its length (RFC 9110 section 8.6); Envoy's list.
fn means_nothing_by_a_body(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::DELETE,
        Method::CONNECT,
        Method::TRACE,
    ]
    .contains(method)
}

/// How long a body is, where that is known before it is read. One that filters have taken all of is empty.
pub(super) fn exact_length(body: &Body) -> Option<u64> {
    if body.is_end_stream() {
        Some(0)
    } else {
        body.size_hint().exact()
    }
}

/// Makes the length that a response says agree with its body, whoever wrote it (RFC 9112 section 6.3): to a client that believed another
/// one the rest would be the next response. Gives what the body's length is, where that is said.
pub(super) fn settle_length(
    parts: &mut response::Parts,
    method: &Method,
    body: &Body,
) -> Option<u64> {
    let (status, headers) = (parts.status, &mut parts.headers);
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        // RFC 9110 section 8.6.
        headers.remove(header::CONTENT_LENGTH);
        return None;
    }
    if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        return None;
    }
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let is_said = values.next().is_some();
    let is_repeated = values.next().is_some();
    // Those that filters read see to it themselves.
    if !is_said || matches!(body, Body::Filtered(_)) {
        return declared_length(headers);
    }
    let exact = exact_length(body);
    if is_repeated || exact.is_none() || declared_length(headers) != exact {
        match exact {
            Some(length) => drop(headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length))),
            None => drop(headers.remove(header::CONTENT_LENGTH)),
        }
    }
    exact
}

/// `Content-Length`, if it is one.
pub(super) fn declared_length(headers: &http::HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
