//! The first message of TLS, read before it is decided who ends TLS: this host, or the backend whose name the client asks for.
//!
//! What is read is kept, since a backend has to get it too. For this host rustls goes on where the message ends.

use std::io;
use std::sync::Arc;

use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes of a first message; clients send some hundred, with post-quantum keys some thousand.
const MOST: usize = 64 << 10;

/// A ClientHello.
pub(crate) struct ClientHello {
    /// Its bytes, and what came behind them.
    pub(crate) seen: Vec<u8>,
    /// The same as rustls took it.
    pub(crate) accepted: Accepted,
    /// Whether rustls has taken all that came. Early data may come behind the message; only a backend can have asked for it.
    pub(crate) is_all: bool,
    /// The name that the client asks for, lower case.
    pub(crate) server_name: Option<Arc<str>>,
}

/// What rustls took, and whether that is all that came.
type Taken = (Accepted, bool);

/// Reads it; `None` where the client leaves before.
///
/// # Errors
/// When reading fails, or what comes is no TLS; then the client has been told.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Option<ClientHello>> {
    let mut acceptor = Acceptor::default();
    let mut seen = Vec::with_capacity(2 << 10);
    loop {
        let before = seen.len();
        if stream.read_buf(&mut seen).await? == 0 {
            return match before {
                0 => Ok(None),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        match take(&mut acceptor, &seen[before..]) {
            Ok(Some((accepted, is_all))) => {
                let server_name = accepted.client_hello().server_name().map(lower);
                return Ok(Some(ClientHello {
                    seen,
                    accepted,
                    is_all,
                    server_name,
                }));
            }
            Ok(None) if seen.len() < MOST => {}
            Ok(None) => return Err(invalid("a first message without end")),
            Err((error, alert)) => {
                // Whoever cannot be told has left.
                let _ = stream.write_all(&alert).await;
                return Err(invalid(error));
            }
        }
    }
}

/// Gives rustls what has come, and says whether it took all of it; an error with the alert for the client.
fn take(acceptor: &mut Acceptor, mut bytes: &[u8]) -> Result<Option<Taken>, (io::Error, Vec<u8>)> {
    loop {
        let taken = acceptor
            .read_tls(&mut bytes)
            .map_err(|error| (error, Vec::new()))?;
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(Some((accepted, bytes.is_empty()))),
            Ok(None) if bytes.is_empty() || taken == 0 => return Ok(None),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut message = Vec::new();
                // Writing into memory cannot fail.
                let _ = alert.write_all(&mut message);
                return Err((invalid(error), message));
            }
        }
    }
}

fn lower(name: &str) -> Arc<str> {
    name.to_ascii_lowercase().into()
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use tokio::net::TcpListener;

    use super::*;

    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("memory");
        }
        bytes
    }

    async fn read_of(pieces: Vec<Vec<u8>>) -> io::Result<Option<ClientHello>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let client = async {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.set_nodelay(true).expect("TCP");
            for piece in pieces {
                stream.write_all(&piece).await.expect("written");
                tokio::task::yield_now().await;
            }
            stream.shutdown().await.expect("shut down");
            stream
        };
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            read(&mut stream).await
        };
        let (_client, read) = tokio::join!(client, server);
        read
    }

    #[tokio::test]
    async fn the_name_is_read_however_the_message_is_cut() {
        let bytes = hello("Shop.Test");
        for size in [1, 7, 100, bytes.len()] {
            let pieces = bytes.chunks(size).map(<[u8]>::to_vec).collect();
            let read = read_of(pieces).await.expect("TLS").expect("a message");
            assert_eq!(read.server_name.as_deref(), Some("shop.test"), "{size}");
            assert_eq!(read.seen, bytes, "nothing is lost");
        }
    }

    #[tokio::test]
    async fn what_comes_behind_the_message_is_kept_for_a_backend() {
        let mut bytes = hello("a.test");
        bytes.extend_from_slice(&[0x17; 8 << 10]);
        let read = read_of(vec![bytes.clone()]).await.expect("TLS");
        let read = read.expect("a message");
        assert_eq!(read.server_name.as_deref(), Some("a.test"));
        assert!(bytes.starts_with(&read.seen) && read.seen.len() > hello("a.test").len());
    }

    #[tokio::test]
    async fn who_leaves_and_who_does_not_speak_tls() {
        assert!(read_of(Vec::new()).await.expect("no error").is_none());
        assert!(read_of(vec![hello("a.test")[..40].to_vec()]).await.is_err());
        assert!(
            read_of(vec![b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec()])
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn an_address_is_no_name() {
        let read = read_of(vec![hello("127.0.0.1")]).await.expect("TLS");
        assert_eq!(read.expect("a message").server_name, None);
    }
}
