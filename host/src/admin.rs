//! The admin pages, and the smaller set that probes and scrapers get.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;

use crate::control::View;
use crate::explain;

/// Which pages an address serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// All of them.
    All,
    /// `/healthz`, `/readyz` and `/metrics`.
    Health,
}

const PATHS: &str = "/healthz\n/readyz\n/metrics\n/status\n/config\n/filters\n/explain?method=GET&url=…&header=k:v\n";

/// Serves the pages until the process ends.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) async fn serve(
    address: SocketAddr,
    pages: Pages,
    view: Arc<View>,
) -> anyhow::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for admin pages; choose another with --admin or --health"))?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let view = view.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, pages, view.clone()));
                // A client that goes away is no news.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(bound)
}

async fn answer(
    request: Request<Incoming>,
    pages: Pages,
    view: Arc<View>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Ok(text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"));
    }
    let path = request.uri().path();
    let response = match (path, pages) {
        ("/healthz", _) => text(StatusCode::OK, "ok\n"),
        ("/readyz", _) => match view.unready() {
            None => text(StatusCode::OK, "ready\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        ("/metrics", _) => metrics(&view),
        ("/status", Pages::All) => json(&view.status()),
        ("/config", Pages::All) => json(&*view.snapshot()),
        ("/filters", Pages::All) => json(&view.filters()),
        ("/explain", Pages::All) => {
            let explained = explain::question(request.uri().query().unwrap_or_default())
                .and_then(|question| explain::explain(&view.snapshot(), &question));
            match explained {
                Ok(answer) => json(&answer),
                Err(error) => {
                    let mut response = json(&json!({"error": format!("{error:#}")}));
                    *response.status_mut() = StatusCode::BAD_REQUEST;
                    response
                }
            }
        }
        ("/", Pages::All) => text(StatusCode::OK, PATHS),
        _ => text(StatusCode::NOT_FOUND, "no such page; / lists them\n"),
    };
    Ok(response)
}

fn metrics(view: &View) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, view.metrics());
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn json(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec_pretty(value) {
        Ok(body) => {
            let mut response = text(StatusCode::OK, body);
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
