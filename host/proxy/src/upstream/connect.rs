//! Opening a connection to an endpoint: name look-up, TCP, TLS, HTTP handshake.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tidegate_model::{Backend, BackendProtocol, BackendTls, Endpoint};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls;
use crate::body::Body;
use crate::gather::Gather;
use crate::local::LocalExecutor;

/// How endpoints of a backend are connected to.
#[derive(Clone)]
pub(crate) struct Connector {
    protocol: BackendProtocol,
    tls: Option<Rc<Tls>>,
}

struct Tls {
    policy: BackendTls,
    config: Result<(Arc<rustls::ClientConfig>, ServerName<'static>), String>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("name look-up of {0} failed: {1}")]
    Lookup(Arc<str>, io::Error),
    #[error("connection failed: {0}")]
    Tcp(#[from] io::Error),
    #[error("TLS settings of the backend are unusable: {0}")]
    TlsSettings(String),
    #[error("TLS handshake failed: {0}")]
    Tls(io::Error),
    #[error("HTTP handshake failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

/// A new connection.
pub(super) enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connector {
    pub(super) fn new(backend: &Backend) -> Self {
        let tls = backend.tls.as_ref().map(|policy| {
            let name = ServerName::try_from(policy.server_name.to_string())
                .map_err(|error| format!("{}: {error}", policy.server_name));
            let config =
                tls::client_config(policy, backend.protocol).and_then(|config| Ok((config, name?)));
            Rc::new(Tls {
                policy: policy.clone(),
                config,
            })
        });
        Self {
            protocol: backend.protocol,
            tls,
        }
    }

    /// Whether connections made by `other` are as good as ours.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.tls.as_ref().map(|tls| &tls.policy) == other.tls.as_ref().map(|tls| &tls.policy)
    }

    pub(super) fn shares_connections(&self) -> bool {
        self.protocol == BackendProtocol::Http2
    }

    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<Sender, ConnectError> {
        let connecting = async {
            let stream = tcp(endpoint).await?;
            match &self.tls {
                None => self.handshake(stream).await,
                Some(tls) => {
                    let (config, name) = tls
                        .config
                        .as_ref()
                        .map_err(|error| ConnectError::TlsSettings(error.clone()))?;
                    let connector = TlsConnector::from(config.clone());
                    let stream = connector
                        .connect(name.clone(), stream)
                        .await
                        .map_err(ConnectError::Tls)?;
                    self.handshake(stream).await
                }
            }
        };
        tokio::time::timeout(timeout, connecting)
            .await
            .unwrap_or(Err(ConnectError::Timeout(timeout)))
    }

    async fn handshake<S>(&self, stream: S) -> Result<Sender, ConnectError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        match self.protocol {
            BackendProtocol::Http1 => {
                let (sender, connection) = http1::Builder::new()
                    .max_headers(200)
                    .max_buf_size(256 << 10)
                    .handshake(io)
                    .await?;
                spawn_quietly(connection.with_upgrades());
                Ok(Sender::Http1(sender))
            }
            BackendProtocol::Http2 => {
                let (sender, connection) = http2::Builder::new(LocalExecutor)
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(256 << 10)
                    .initial_connection_window_size(1 << 20)
                    .max_header_list_size(256 << 10)
                    .keep_alive_interval(Duration::from_secs(30))
                    .handshake(io)
                    .await?;
                spawn_quietly(connection);
                Ok(Sender::Http2(sender))
            }
        }
    }
}

/// Runs a connection; its errors reach the request that it carries.
fn spawn_quietly(connection: impl Future<Output = hyper::Result<()>> + 'static) {
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
}

async fn tcp(endpoint: &Endpoint) -> Result<Gather<TcpStream>, ConnectError> {
    let stream = match endpoint {
        Endpoint::Address(address) => TcpStream::connect(address).await?,
        Endpoint::Name(name, port) => {
            let addresses: Vec<_> = tokio::net::lookup_host((&**name, *port))
                .await
                .map_err(|error| ConnectError::Lookup(name.clone(), error))?
                .collect();
            TcpStream::connect(&*addresses).await?
        }
    };
    stream.set_nodelay(true)?;
    Ok(Gather(stream))
}
