//! Listening sockets: one for each worker on the same address (`SO_REUSEPORT`), and an honest error where the port is taken.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Binds `count` sockets to `address`. With port 0 all share the port that the first one got.
///
/// # Errors
/// When the address cannot be bound; also when another process listens there, which `SO_REUSEPORT` alone would hide.
pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    probe(address)?;
    let first = listen(address)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(listen(bound)?);
    }
    Ok(sockets)
}

/// Whether anybody listens there, ourselves included.
fn probe(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = socket(address)?;
    // Without SO_REUSEPORT a socket that listens there refuses us; with SO_REUSEADDR connections in TIME_WAIT do not.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_an_error() {
        let free: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let sockets = bind(free, 3).expect("a free port");
        let taken = sockets[0].local_addr().expect("bound");
        assert!(
            sockets
                .iter()
                .all(|socket| socket.local_addr().is_ok_and(|address| address == taken))
        );
        assert_eq!(
            bind(taken, 1).expect_err("taken").kind(),
            io::ErrorKind::AddrInUse
        );
        drop(sockets);
        bind(taken, 1).expect("free again");
    }
}
