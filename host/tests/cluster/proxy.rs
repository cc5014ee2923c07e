//! A proxy between gateway and API server that fails on demand, and counts.
//!
//! Behind it is `kubectl proxy`, which speaks for the administrator; so it is plain HTTP on loopback.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::api::{Cluster, binaries};

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not at all.
    Nothing,
    /// Connections end where they begin.
    Away,
    /// Requests get no answer.
    Silence,
    /// Requests get this status: 401 is what an expired token gets, 429 and 503 a busy API server says.
    Status(u16),
    /// Watches are too old (410), as the API server says it: in the first event.
    Gone,
    /// The same as the answer to the request.
    GoneAtOnce,
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// A proxy that runs until it is dropped.
pub(super) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    kubectl: Child,
    accept: tokio::task::JoinHandle<()>,
}

struct Shared {
    behind: SocketAddr,
    fault: Mutex<Fault>,
    asked: Mutex<Vec<String>>,
    /// Connections end when it changes.
    cut: watch::Sender<u64>,
}

impl Proxy {
    pub(super) async fn start(cluster: &Cluster) -> Self {
        let mut kubectl = Command::new(binaries().join("kubectl"))
            .args(["--kubeconfig", &cluster.kubeconfig, "proxy", "--port=0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(kubectl.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let behind = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            behind,
            fault: Mutex::new(Fault::Nothing),
            asked: Mutex::default(),
            cut: watch::Sender::new(0),
        });
        let accept = tokio::spawn(accept(listener, shared.clone()));
        Self {
            address,
            shared,
            kubectl,
            accept,
        }
    }

    /// A kubeconfig that leads here.
    pub(super) fn kubeconfig(&self) -> String {
        let (address, user) = (self.address, "{name: u, user: {}}");
        format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: k, cluster: {{server: \"http://{address}\"}}}}]\nusers: [{user}]\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\ncurrent-context: c\n"
        )
    }

    /// Fails like this from now on; what is under way ends.
    pub(super) fn set(&self, fault: Fault) {
        *self.shared.fault() = fault;
        self.shared.asked().clear();
        self.shared.cut.send_modify(|count| *count += 1);
    }

    /// Requests since the last fault was set.
    pub(super) fn asked(&self) -> Vec<String> {
        self.shared.asked().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accept.abort();
        // It may have ended by itself.
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

impl Shared {
    fn fault(&self) -> MutexGuard<'_, Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, Vec<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        let mut cut = shared.cut.subscribe();
        if *shared.fault() == Fault::Away {
            shared.asked().push("a connection".to_owned());
            continue;
        }
        tokio::spawn(async move {
            let service = service_fn(|request| answer(shared.clone(), request));
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // The gateway is told by the end of the connection, whatever the reason.
                _ = serving => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let target = request.uri().to_string();
    let watches = target.contains("watch=true");
    shared
        .asked()
        .push(format!("{} {target}", request.method()));
    let fault = *shared.fault();
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
    Ok(match fault {
        Fault::Silence => std::future::pending().await,
        Fault::Status(code) => said(
            code,
            &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "Test", "message": "made to fail"}),
        ),
        Fault::Gone if watches => said(200, &json!({"type": "ERROR", "object": gone})),
        Fault::GoneAtOnce if watches => said(410, &gone),
        Fault::Nothing | Fault::Away | Fault::Gone | Fault::GoneAtOnce => {
            let failed = said(
                502,
                &json!({"kind": "Status", "code": 502, "message": "kubectl proxy does not answer"}),
            );
            forward(shared.behind, request).await.unwrap_or(failed)
        }
    })
}

fn said(code: u16, body: &serde_json::Value) -> Answer {
    let body = Full::new(Bytes::from(format!("{body}\n")));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

async fn forward(behind: SocketAddr, mut request: Request<Incoming>) -> Option<Answer> {
    let stream = TcpStream::connect(behind).await.ok()?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.ok()?;
    tokio::spawn(connection);
    let host = http::HeaderValue::from_str(&behind.to_string()).ok()?;
    request.headers_mut().insert("host", host);
    let response = sender.send_request(request).await.ok()?;
    Some(response.map(BodyExt::boxed))
}
