//! HTTP calls of filters to the clusters they declare. A call that fails is answered as Envoy answers it: 503 or 504 with a text.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use tidegate_model::{FilterSpec, RequestHead, ResponseHead};
use tidegate_wasm::HttpCallResponse;

use crate::body::Body;
use crate::forward;
use crate::worker::Worker;

/// Bytes of a response that a filter gets; a longer one is a failed call.
const MOST_BYTES: usize = 4 << 20;

/// What a filter asked for.
pub(crate) struct Call {
    pub(crate) cluster: String,
    pub(crate) head: RequestHead,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) timeout: Option<Duration>,
}

/// Makes the call. Never fails: a failure is a response too.
pub(crate) async fn perform(
    worker: &Worker,
    spec: &Arc<FilterSpec>,
    call: Call,
) -> HttpCallResponse {
    let timeout = call.timeout;
    let exchange = exchange(worker, spec, call);
    match timeout {
        None => exchange.await,
        Some(timeout) => tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| failed(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout")),
    }
}

async fn exchange(worker: &Worker, spec: &Arc<FilterSpec>, call: Call) -> HttpCallResponse {
    let disconnected = "upstream connect error or disconnect/reset before headers";
    let Some(backend) = spec.clusters.get(call.cluster.as_str()) else {
        return failed(StatusCode::SERVICE_UNAVAILABLE, disconnected);
    };
    let cluster = worker.upstreams.cluster(backend);
    let body = match call.trailers {
        None => Body::full(call.body),
        Some(trailers) => forward::with_trailers(call.body, trailers).await,
    };
    let sent = forward::once(worker, &cluster, call.head, body).await;
    let Ok((response, mut pooled)) = sent else {
        return failed(StatusCode::SERVICE_UNAVAILABLE, disconnected);
    };
    let (parts, body) = response.into_parts();
    let Ok(collected) = http_body_util::Limited::new(body, MOST_BYTES)
        .collect()
        .await
    else {
        return failed(StatusCode::SERVICE_UNAVAILABLE, disconnected);
    };
    pooled.give_back();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let head = ResponseHead {
        status: parts.status,
        headers: parts.headers,
    };
    HttpCallResponse {
        head,
        body: collected.to_bytes(),
        trailers,
    }
}

fn failed(status: StatusCode, text: &'static str) -> HttpCallResponse {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain"),
    );
    HttpCallResponse {
        head: ResponseHead { status, headers },
        body: Bytes::from_static(text.as_bytes()),
        trailers: HeaderMap::new(),
    }
}
