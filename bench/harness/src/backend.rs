//! An upstream that answers everything alike and counts: a thread for each connection.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Starts it; the port it serves on, and how many requests it has answered. It ends with the process.
///
/// # Errors
/// When no port can be bound.
pub fn start() -> io::Result<(u16, Arc<AtomicU64>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let answered = Arc::new(AtomicU64::new(0));
    let count = answered.clone();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let count = count.clone();
            // A connection that breaks is the gateway's to notice.
            thread::spawn(move || drop(serve(&connection, &count)));
        }
    });
    Ok((port, answered))
}

/// Requests come without bodies here, so a blank line ends each.
fn serve(connection: &TcpStream, count: &AtomicU64) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut writer = connection;
    for line in BufReader::new(connection).lines() {
        if line?.is_empty() {
            count.fetch_add(1, Ordering::Relaxed);
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nhello, world\n")?;
        }
    }
    Ok(())
}
