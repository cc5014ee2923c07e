//! HTTP calls of filters to the clusters they declare. A call that fails is answered as Envoy answers it: 503 or 504 with a text.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tidegate_model::{FilterSpec, RequestHead, ResponseHead};
use tidegate_wasm::HttpCallResponse;

use crate::body::Body;
use crate::budget::Held;
use crate::error::Error;
use crate::forward;
use crate::upstream::ConnectError;
use crate::worker::Worker;

/// Bytes of a response, or of a gRPC message, that every filter may get.
const BYTES: usize = 4 << 20;

/// Envoy's answer where a bound on what is pending stands in the way.
pub(crate) const OVERFLOW: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: overflow";

/// What a filter asked for.
pub(crate) struct Call {
    pub(crate) cluster: String,
    pub(crate) head: RequestHead,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) timeout: Option<Duration>,
}

/// The response broke off, or is larger than the filter may have: there is nothing to give it.
pub(crate) struct Broken;

/// Makes the call. What fails before a response came is a response too. `held` is to be kept until the guest has the answer.
pub(crate) async fn perform(
    worker: &Worker,
    spec: &Arc<FilterSpec>,
    held: &mut Held,
    call: Call,
) -> Result<HttpCallResponse, Broken> {
    let timeout = call.timeout;
    if held.grow(call.body.len()).is_err() {
        return Ok(failed(StatusCode::SERVICE_UNAVAILABLE, OVERFLOW));
    }
    let exchange = exchange(worker, spec, held, call);
    match timeout {
        None => exchange.await,
        Some(timeout) => tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| {
                Ok(failed(
                    StatusCode::GATEWAY_TIMEOUT,
                    "upstream request timeout",
                ))
            }),
    }
}

/// Bytes that a filter may get in one response or message: 4 MiB, or its `limits.bufferedBody` where that is more.
pub(crate) fn most_bytes(spec: &FilterSpec) -> usize {
    spec.limits.buffered_body.max(BYTES)
}

/// What Envoy says in the place of a response that did not come. Some guests decide on it.
pub(crate) fn reset_text(error: &Error) -> String {
    let reason = match error {
        Error::NoEndpoint(_) => return "no healthy upstream".to_owned(),
        Error::Connect {
            error: ConnectError::Timeout(_),
            ..
        } => "connection timeout",
        Error::Connect { .. } => "remote connection failure",
        Error::Upstream { error, .. } if was_reset(error) => "remote reset",
        Error::Upstream { .. } => "connection termination",
        _ => "local reset",
    };
    format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}")
}

/// Whether the upstream ended this stream only.
fn was_reset(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(h2::Error::is_reset)
}

async fn exchange(
    worker: &Worker,
    spec: &Arc<FilterSpec>,
    held: &mut Held,
    call: Call,
) -> Result<HttpCallResponse, Broken> {
    let sent = match spec.clusters.get(call.cluster.as_str()) {
        // It was there when the guest was told of its clusters.
        None => Err(Error::NoEndpoint(call.cluster.as_str().into())),
        Some(backend) => {
            let cluster = worker.upstreams.cluster(backend);
            let body = match call.trailers {
                None => Body::full(call.body),
                Some(trailers) => forward::with_trailers(call.body, trailers).await,
            };
            forward::once(worker, &cluster, call.head, body).await
        }
    };
    let (response, mut pooled) = match sent {
        Ok(answered) => answered,
        Err(error) => {
            let text = reset_text(&error);
            return Ok(failed(StatusCode::SERVICE_UNAVAILABLE, &text));
        }
    };
    let (parts, body) = response.into_parts();
    let (body, trailers) = collect(body, held, most_bytes(spec)).await?;
    pooled.give_back();
    let head = ResponseHead {
        status: parts.status,
        headers: parts.headers,
    };
    Ok(HttpCallResponse {
        head,
        body,
        trailers,
    })
}

/// Reads a body that must fit what one response may have, and what all calls of the VM may hold.
async fn collect(
    mut body: Incoming,
    held: &mut Held,
    most: usize,
) -> Result<(Bytes, HeaderMap), Broken> {
    let mut bytes = BytesMut::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        match frame.map_err(|_| Broken)?.into_data() {
            Ok(data) => {
                if bytes.len() + data.len() > most || held.grow(data.len()).is_err() {
                    return Err(Broken);
                }
                bytes.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok((bytes.freeze(), trailers))
}

fn failed(status: StatusCode, text: &str) -> HttpCallResponse {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain"),
    );
    HttpCallResponse {
        head: ResponseHead { status, headers },
        body: Bytes::copy_from_slice(text.as_bytes()),
        trailers: HeaderMap::new(),
    }
}
