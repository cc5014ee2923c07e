//! Streams of datagrams: a client's address is a session, which has a backend and a socket of its own towards it.
//!
//! The system gives the datagrams of one client to one worker always. A session ends after some silence, since nothing else tells;
//! when the listener goes, sessions get what is still on its way to them, and no new ones begin.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::layer4::{Destination, End, Protocol, Record};
use crate::metrics::StreamCounters;
use crate::worker::{ListenerKey, Worker};

/// Bytes of the largest datagram.
const LARGEST: usize = 65_535;
/// Datagrams of one client that may wait for its backend.
const WAITING: usize = 64;
/// Silence after which a session ends once its listener has gone.
const LINGER: Duration = Duration::from_secs(2);
/// How long a listener that has gone keeps its port for sessions that are never silent.
const LONGEST_LINGER: Duration = Duration::from_secs(30);

/// A bound address of one worker.
struct Listening {
    worker: Rc<Worker>,
    key: ListenerKey,
    local: SocketAddr,
    socket: UdpSocket,
    stop: CancellationToken,
    sessions: RefCell<HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>>,
}

/// Makes room for another session when it goes.
struct Entry {
    listening: Rc<Listening>,
    peer: SocketAddr,
}

/// Passes datagrams on until told to stop, and then those of the sessions that there are.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    key: ListenerKey,
    socket: std::net::UdpSocket,
    stop: CancellationToken,
) {
    let bound = UdpSocket::from_std(socket).and_then(|socket| Ok((socket.local_addr()?, socket)));
    let (local, socket) = match bound {
        Ok(bound) => bound,
        Err(error) => return tracing::error!(bind = %key.bind, %error, "cannot listen"),
    };
    let listening = Rc::new(Listening {
        worker,
        key,
        local,
        socket,
        stop,
        sessions: RefCell::default(),
    });
    let mut buffer = vec![0; LARGEST];
    tokio::select! {
        () = receive(&listening, &mut buffer, true) => {}
        () = listening.stop.cancelled() => {}
    }
    let ended = async {
        while !listening.sessions.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = receive(&listening, &mut buffer, false) => {}
        () = ended => {}
        () = tokio::time::sleep(LONGEST_LINGER) => {}
    }
    // Without their senders the sessions end.
    listening.sessions.borrow_mut().clear();
}

async fn receive(listening: &Rc<Listening>, buffer: &mut [u8], is_open: bool) {
    loop {
        match listening.socket.recv_from(buffer).await {
            Ok((length, peer)) => listening.pass_on(peer, &buffer[..length], is_open),
            Err(error) => {
                tracing::debug!(bind = %listening.key.bind, %error, "cannot receive; waiting");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Listening {
    /// Hands a datagram to its session, or to a new one.
    fn pass_on(self: &Rc<Self>, peer: SocketAddr, datagram: &[u8], is_open: bool) {
        let known = self.sessions.borrow().get(&peer).cloned();
        let sender = match known {
            Some(sender) => sender,
            None if !is_open => return,
            None => match self.begin(peer) {
                Ok(sender) => sender,
                Err(why) => return self.counters().fail(why),
            },
        };
        // Datagrams may be lost: better that than memory without bound.
        if sender.try_send(datagram.to_vec()).is_err() {
            self.counters().fail("queue_full");
        }
    }

    /// Begins a session; an error says why there is none.
    fn begin(self: &Rc<Self>, peer: SocketAddr) -> Result<mpsc::Sender<Vec<u8>>, &'static str> {
        let worker = &self.worker;
        if worker.udp_sessions.get() >= worker.config.limits.udp_sessions {
            return Err("too_many_sessions");
        }
        let state = worker.state();
        let listener = state.listener(&self.key);
        let streams = listener.and_then(|listener| listener.hosts.find("")?.streams.as_ref());
        let rule = streams.and_then(|streams| streams.find(""));
        let destination = Destination::choose(worker, &state, rule.ok_or("no_route")?);
        let (sender, datagrams) = mpsc::channel(WAITING);
        self.sessions.borrow_mut().insert(peer, sender.clone());
        worker.udp_sessions.set(worker.udp_sessions.get() + 1);
        let entry = Entry {
            listening: self.clone(),
            peer,
        };
        let idle = worker.settings(&self.key).limits.udp_idle;
        tokio::task::spawn_local(async move {
            let listening = entry.listening.clone();
            let record = Record::new(
                listening.worker.clone(),
                Protocol::Udp,
                peer,
                listening.local,
                None,
            );
            let end = session(&listening, &record, destination, datagrams, idle).await;
            record.end.set(end);
            drop(record);
            drop(entry);
        });
        Ok(sender)
    }

    fn counters(&self) -> &StreamCounters {
        &self.worker.metrics.streams[Protocol::Udp as usize]
    }
}

/// A session to its end, which comes after so much silence.
async fn session(
    listening: &Listening,
    record: &Record,
    destination: Destination,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
    idle: Duration,
) -> End {
    let connected = destination
        .connect(record, |host, timeout| async move {
            tokio::time::timeout(timeout, host.open_udp())
                .await
                .unwrap_or(Err(crate::upstream::ConnectError::Timeout(timeout)))
        })
        .await;
    let (host, upstream) = match connected {
        Ok(connected) => connected,
        Err(end) => return end,
    };
    let _active = host.begin();
    let mut silent = pin!(silent(record, idle, &listening.stop));
    loop {
        let moved = tokio::select! {
            datagram = datagrams.recv() => match datagram {
                None => return End::Shutdown,
                Some(datagram) => {
                    record.received(datagram.len());
                    upstream.send(&datagram).await.map(drop)
                }
            },
            ready = upstream.readable() => match ready {
                Ok(()) => answer(listening, record, &upstream).await,
                Err(error) => Err(error),
            },
            () = silent.as_mut() => return End::Idle,
        };
        if let Err(error) = moved {
            // The system tells that nobody listens there (ICMP): the next datagram begins a session elsewhere.
            tracing::debug!(endpoint = %host.endpoint, %error, "session of UDP ended");
            host.failed();
            return End::Reset;
        }
    }
}

/// Sends the client what has come for it.
async fn answer(listening: &Listening, record: &Record, upstream: &UdpSocket) -> io::Result<()> {
    // One for all sessions of the worker; nobody waits while it is in use.
    loop {
        let datagram = {
            let mut buffer = listening.worker.datagram.borrow_mut();
            buffer.resize(LARGEST, 0);
            match upstream.try_recv(&mut buffer) {
                Ok(length) => buffer[..length].to_vec(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        };
        match listening.socket.send_to(&datagram, record.peer).await {
            Ok(sent) => record.sent(sent),
            // A client that cannot be reached is its own affair; the session ends by silence.
            Err(error) => tracing::debug!(peer = %record.peer, %error, "datagram not sent"),
        }
    }
}

/// Returns once a session was silent for too long, which is soon when the listener has gone.
async fn silent(record: &Record, idle: Duration, stop: &CancellationToken) {
    loop {
        let stopped = stop.is_cancelled();
        let limit = if stopped { idle.min(LINGER) } else { idle };
        let until = record.last.get() + limit;
        if until <= Instant::now() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = stop.cancelled(), if !stopped => {}
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.listening.sessions.borrow_mut().remove(&self.peer);
        let sessions = &self.listening.worker.udp_sessions;
        sessions.set(sessions.get() - 1);
    }
}
