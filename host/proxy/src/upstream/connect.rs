//! Opening a connection to an endpoint: name look-up, TCP, TLS, HTTP handshake.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tidegate_model::{Backend, BackendProtocol, BackendTls, Endpoint};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

use super::tls;
use crate::body::Body;
use crate::gather::Gather;
use crate::local::LocalExecutor;

/// How endpoints of a backend are connected to.
#[derive(Clone)]
pub(crate) struct Connector {
    protocol: BackendProtocol,
    local_names: bool,
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
    #[error(
        "{0} leads to this machine or its link only, which a gateway in a cluster does not connect to"
    )]
    LocalName(Arc<str>),
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
    #[error("the backend speaks no HTTP")]
    NoHttp,
}

/// A connection of a stream.
pub(crate) enum Opened {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<Gather<TcpStream>>>),
}

/// A new connection.
pub(super) enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connector {
    pub(super) fn new(backend: &Backend, local_names: bool) -> Self {
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
            local_names,
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

    /// A connection, and this host's end of it.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<(Sender, Option<SocketAddr>), ConnectError> {
        let connecting = async {
            let stream = tcp(endpoint, self.local_names).await?;
            let local = stream.0.local_addr().ok();
            let sender = match &self.tls {
                None => self.handshake(stream).await,
                Some(tls) => {
                    let stream = tls.begin(stream).await?;
                    self.handshake(stream).await
                }
            };
            Ok((sender?, local))
        };
        tokio::time::timeout(timeout, connecting)
            .await
            .unwrap_or(Err(ConnectError::Timeout(timeout)))
    }

    /// A connection for a stream.
    pub(super) async fn open(
        &self,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<Opened, ConnectError> {
        let opening = async {
            let stream = tcp(endpoint, self.local_names).await?;
            Ok(match &self.tls {
                None => Opened::Plain(stream.0),
                Some(tls) => Opened::Tls(Box::new(tls.begin(stream).await?)),
            })
        };
        tokio::time::timeout(timeout, opening)
            .await
            .unwrap_or(Err(ConnectError::Timeout(timeout)))
    }

    /// A socket for a session of UDP.
    pub(super) async fn open_udp(&self, endpoint: &Endpoint) -> Result<UdpSocket, ConnectError> {
        let mut last = None;
        for address in addresses(endpoint, self.local_names).await? {
            let any: SocketAddr = match address {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any).await?;
            match socket.connect(address).await {
                Ok(()) => return Ok(socket),
                Err(error) => last = Some(error),
            }
        }
        Err(last
            .unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())
            .into())
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
            BackendProtocol::Tcp | BackendProtocol::Udp => Err(ConnectError::NoHttp),
        }
    }
}

impl Tls {
    async fn begin(
        &self,
        stream: Gather<TcpStream>,
    ) -> Result<tokio_rustls::client::TlsStream<Gather<TcpStream>>, ConnectError> {
        let (config, name) = self
            .config
            .as_ref()
            .map_err(|error| ConnectError::TlsSettings(error.clone()))?;
        let connector = TlsConnector::from(config.clone());
        connector
            .connect(name.clone(), stream)
            .await
            .map_err(ConnectError::Tls)
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

async fn tcp(endpoint: &Endpoint, local_names: bool) -> Result<Gather<TcpStream>, ConnectError> {
    let stream = match endpoint {
        Endpoint::Address(address) => TcpStream::connect(address).await?,
        // The addresses that were looked at are those that are connected to: a name may change in between.
        Endpoint::Name(..) => TcpStream::connect(&*addresses(endpoint, local_names).await?).await?,
    };
    stream.set_nodelay(true)?;
    Ok(Gather(stream))
}

/// Where an endpoint is; one at least.
async fn addresses(
    endpoint: &Endpoint,
    local_names: bool,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let (name, port) = match endpoint {
        Endpoint::Address(address) => return Ok(vec![*address]),
        Endpoint::Name(name, port) => (name, *port),
    };
    let found: Vec<_> = tokio::net::lookup_host((&**name, port))
        .await
        .map_err(|error| ConnectError::Lookup(name.clone(), error))?
        .filter(|address| local_names || !is_local(address.ip()))
        .collect();
    if found.is_empty() {
        return Err(ConnectError::LocalName(name.clone()));
    }
    Ok(found)
}

/// Addresses of this machine and of its link, where clouds have their metadata services.
fn is_local(address: IpAddr) -> bool {
    // The metadata service of AWS over IPv6 is not link-local.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_link_local() || v4.is_loopback() || v4.octets()[0] == 0 || v4.is_multicast()
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6 == METADATA
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_must_not_lead_to() {
        for local in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "::ffff:169.254.169.254",
            "::ffff:127.0.0.1",
            "ff02::1",
            "fd00:ec2::254",
        ] {
            assert!(is_local(local.parse().expect("an address")), "{local}");
        }
        for other in [
            "10.0.0.1",
            "192.168.1.1",
            "93.184.216.34",
            "2001:db8::1",
            "fd00::1",
        ] {
            assert!(!is_local(other.parse().expect("an address")), "{other}");
        }
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_refused_where_names_are_checked() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let name = Endpoint::Name("localhost".into(), port);
        let refused = tcp(&name, false).await.err();
        assert!(
            matches!(refused, Some(ConnectError::LocalName(_))),
            "{refused:?}"
        );
        assert!(tcp(&name, true).await.is_ok());
    }
}
