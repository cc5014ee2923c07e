//! Ports for listeners that must know theirs before they bind.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A free port of 127.0.0.1, kept free for whoever is told of it.
///
/// A socket stays bound to it without listening: the system gives the port to nobody else, and a listener with `SO_REUSEADDR`
/// (which ours and tokio's set) can take it all the same.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _kept: Socket,
}

impl Port {
    /// A port that is free now.
    ///
    /// # Panics
    /// When the system has none.
    pub fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("SO_REUSEADDR");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("a free port");
        let address = socket
            .local_addr()
            .expect("bound")
            .as_socket()
            .expect("an address");
        Self {
            address,
            _kept: socket,
        }
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port.
    pub fn number(&self) -> u16 {
        self.address.port()
    }
}
