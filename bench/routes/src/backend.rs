//! An upstream that answers everything alike: a thread for each connection, which is enough for one client at a time.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

/// Starts it; the port it serves on. It ends with the process.
///
/// # Errors
/// When no port can be bound.
pub(crate) fn start() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // A connection that breaks is the gateway's to notice.
            thread::spawn(move || drop(serve(&connection)));
        }
    });
    Ok(port)
}

/// Requests come without bodies here, so a blank line ends each.
fn serve(connection: &TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut writer = connection;
    for line in BufReader::new(connection).lines() {
        if line?.is_empty() {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nhello, world\n")?;
        }
    }
    Ok(())
}
