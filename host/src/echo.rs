//! A demo backend: answers every request with what it received, as JSON. Speaks HTTP/1, HTTP/2 in the clear and WebSocket-like
//! upgrades (it echoes the bytes), so that examples and tests need nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;

use crate::args::Echo;

/// Bytes of a request body that come back.
const MOST_BYTES: usize = 1 << 20;

#[derive(Serialize)]
struct Received<'a> {
    backend: &'a str,
    method: &'a str,
    path: String,
    host: String,
    protocol: String,
    headers: std::collections::BTreeMap<String, Vec<String>>,
    body: String,
    client: String,
}

/// Runs until the process is ended.
pub(crate) fn run(arguments: &Echo) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(arguments.listen)
            .await
            .with_context(|| format!("cannot listen on {}", arguments.listen))?;
        tracing::info!(address = %listener.local_addr()?, name = arguments.name, "echo serves");
        serve(listener, arguments.name.as_str().into()).await
    })
}

/// Accepts for ever.
pub(crate) async fn serve(listener: tokio::net::TcpListener, name: Arc<str>) -> anyhow::Result<u8> {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let name = name.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, name.clone(), client));
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let served = builder
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

async fn answer(
    mut request: Request<Incoming>,
    name: Arc<str>,
    client: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Some(protocol) = request.headers().get(header::UPGRADE).cloned() {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
                // The tunnel's end is the client's business.
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, protocol);
        return Ok(response);
    }
    let (parts, body) = request.into_parts();
    let body = http_body_util::Limited::new(body, MOST_BYTES)
        .collect()
        .await
        .map(|body| body.to_bytes());
    let Ok(body) = body else {
        let mut response = Response::new(Full::from("body too large or broken off\n"));
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return Ok(response);
    };
    let mut headers: std::collections::BTreeMap<String, Vec<String>> =
        std::collections::BTreeMap::new();
    for (name, value) in &parts.headers {
        headers
            .entry(name.to_string())
            .or_default()
            .push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let host = parts
        .uri
        .authority()
        .map(ToString::to_string)
        .or_else(|| headers.get("host").map(|h| h.join(",")));
    let received = Received {
        backend: &name,
        method: parts.method.as_str(),
        path: parts
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        host: host.unwrap_or_default(),
        protocol: format!("{:?}", parts.version),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        client: client.to_string(),
    };
    let mut text = serde_json::to_vec_pretty(&received).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response.headers_mut().insert(
        "x-backend",
        HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("echo")),
    );
    Ok(response)
}
