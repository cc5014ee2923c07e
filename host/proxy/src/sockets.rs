//! Listening sockets: one for each worker on the same address (`SO_REUSEPORT`), and an honest error where the port is taken.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

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

/// The same for datagrams: the system gives each client to one of the sockets and keeps to that.
///
/// # Errors
/// As for connections.
pub(crate) fn bind_udp(address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    if address.port() != 0 {
        // Without SO_REUSEPORT whoever is bound there already refuses us.
        datagrams(address)?.bind(&address.into())?;
    }
    let first = receive(address)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(receive(bound)?);
    }
    Ok(sockets)
}

fn receive(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = datagrams(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn datagrams(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
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

    #[test]
    fn a_port_of_datagrams_in_use_is_an_error() {
        let free: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        // TCP has ports of its own; few others look for one of UDP.
        let connections = bind(free, 1).expect("a free port");
        let taken = connections[0].local_addr().expect("bound");
        let sockets = bind_udp(taken, 2).expect("a free port");
        assert_eq!(sockets[0].local_addr().expect("bound"), taken);
        assert_eq!(sockets[1].local_addr().expect("bound"), taken);
        assert_eq!(
            bind_udp(taken, 1).expect_err("taken").kind(),
            io::ErrorKind::AddrInUse
        );
        drop(sockets);
        bind_udp(taken, 1).expect("free again");
    }
}
