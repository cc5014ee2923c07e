//! The control side of the data plane: starts the workers, publishes states to them, ends them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tidegate_model::Snapshot;
use tokio::sync::mpsc::UnboundedSender;

use crate::access_log::{AccessLog, LogBuffer};
use crate::config::ProxyConfig;
use crate::metrics::{self, WorkerMetrics};
use crate::publish::{Current, FilterState, Published};
use crate::side::SideThreads;
use crate::sockets;
use crate::worker::{Command, ListenerKey, Start, run};

/// A running data plane.
pub struct Proxy {
    current: Current,
    workers: Vec<Handle>,
    bound: Mutex<BTreeMap<ListenerKey, SocketAddr>>,
}

struct Handle {
    commands: UnboundedSender<Command>,
    metrics: Arc<WorkerMetrics>,
    thread: Option<JoinHandle<()>>,
}

/// An address that cannot be bound. Its listeners do not serve; all others do.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {}{address}: {error}; free the port, or choose another with --port-map or --bind",
    if *.udp { "UDP " } else { "" }
)]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// It was to be bound for datagrams.
    pub udp: bool,
    /// Why.
    pub error: io::Error,
}

impl Proxy {
    /// Starts the workers. They accept nothing before the first [`Proxy::publish`].
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(config: ProxyConfig, log: Option<&AccessLog>) -> io::Result<Self> {
        let current = Current::new();
        let config = Arc::new(config);
        let post = Arc::default();
        let in_flight = Arc::default();
        let side = SideThreads::new();
        let mut workers = Vec::new();
        for index in 0..config.workers.max(1) {
            let (sender, commands) = tokio::sync::mpsc::unbounded_channel();
            let metrics = Arc::new(WorkerMetrics::default());
            let start = Start {
                config: config.clone(),
                published: current.cell.clone(),
                log: LogBuffer::new(log.cloned()),
                metrics: metrics.clone(),
                commands,
                post: Arc::clone(&post),
                side: Arc::clone(&side),
                in_flight: Arc::clone(&in_flight),
                index,
            };
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .stack_size(8 << 20)
                .spawn(move || {
                    if let Err(error) = run(start) {
                        tracing::error!(%error, "worker cannot run");
                    }
                })?;
            workers.push(Handle {
                commands: sender,
                metrics,
                thread: Some(thread),
            });
        }
        Ok(Self {
            current,
            workers,
            bound: Mutex::default(),
        })
    }

    /// Replaces the state: the next request sees the new one, those in flight end on theirs. `filters` tells for each filter of
    /// the snapshot, by slot, whether it can run.
    ///
    /// Returns the addresses that could not be bound; they are tried again at the next call.
    pub fn publish(&self, snapshot: Arc<Snapshot>, filters: Vec<FilterState>) -> Vec<BindError> {
        let tls = self.current.cell.load().tls.updated(&snapshot);
        let wanted: Vec<ListenerKey> = snapshot
            .listeners
            .iter()
            .map(|listener| ListenerKey::of(listener))
            .collect();
        // First the state, then its sockets: a new listener must find its routes.
        self.current.replace(Published {
            snapshot,
            filters,
            tls,
        });
        let errors = self.bind(&wanted);
        self.tell(|| Command::Refresh);
        errors
    }

    fn bind(&self, wanted: &[ListenerKey]) -> Vec<BindError> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let unwanted: Vec<_> = bound
            .keys()
            .filter(|key| !wanted.contains(key))
            .copied()
            .collect();
        for key in unwanted {
            bound.remove(&key);
            self.tell(|| Command::Unlisten(key));
        }
        let mut errors = Vec::new();
        for key in wanted {
            if bound.contains_key(key) {
                continue;
            }
            match self.listen(*key) {
                Err(error) => errors.push(BindError {
                    address: key.bind,
                    udp: key.udp,
                    error,
                }),
                Ok(address) => drop(bound.insert(*key, address)),
            }
        }
        errors
    }

    /// Binds an address for every worker.
    fn listen(&self, key: ListenerKey) -> io::Result<SocketAddr> {
        let (address, commands): (_, Vec<Command>) = if key.udp {
            let sockets = sockets::bind_udp(key.bind, self.workers.len())?;
            let address = sockets[0].local_addr()?;
            let receive = |socket| Command::Receive(key, socket);
            (address, sockets.into_iter().map(receive).collect())
        } else {
            let sockets = sockets::bind(key.bind, self.workers.len())?;
            let address = sockets[0].local_addr()?;
            let listen = |socket| Command::Listen(key, socket);
            (address, sockets.into_iter().map(listen).collect())
        };
        for (worker, command) in self.workers.iter().zip(commands) {
            // A worker that has ended accepts nothing, which its thread has reported.
            let _ = worker.commands.send(command);
        }
        Ok(address)
    }

    /// The bound addresses: the port that the snapshot names, and where it is served.
    pub fn addresses(&self) -> Vec<(u16, SocketAddr)> {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound
            .iter()
            .map(|(key, address)| (key.port, *address))
            .collect()
    }

    /// Drops states that nobody uses any more; call it now and then.
    pub fn bury(&self) {
        self.current.bury();
    }

    /// Adds the data plane's metrics to a page in Prometheus' text format.
    pub fn write_metrics(&self, out: &mut String) {
        metrics::write(
            out,
            &self
                .workers
                .iter()
                .map(|worker| worker.metrics.clone())
                .collect::<Vec<_>>(),
        );
    }

    /// Stops accepting and lets connections end: requests in flight are answered, HTTP/1 connections close after their answer,
    /// HTTP/2 ones get GOAWAY. [`Proxy::has_ended`] tells when all are gone.
    pub fn drain(&self) {
        self.tell(|| Command::Drain);
    }

    /// Whether all workers have ended.
    pub fn has_ended(&self) -> bool {
        self.workers
            .iter()
            .all(|worker| worker.thread.as_ref().is_none_or(JoinHandle::is_finished))
    }

    /// Ends the workers with whatever they still serve.
    pub fn stop(mut self) {
        for worker in &mut self.workers {
            // Without a sender the worker's loop ends.
            worker.commands = tokio::sync::mpsc::unbounded_channel().0;
        }
        for thread in self
            .workers
            .iter_mut()
            .filter_map(|worker| worker.thread.take())
        {
            drop(thread.join());
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // A worker that has ended needs no orders.
            let _ = worker.commands.send(command());
        }
    }
}
