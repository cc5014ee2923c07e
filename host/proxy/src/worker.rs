//! One data-plane thread: its runtime, its listeners, its upstreams and its VMs. Nothing on it is shared with another worker but
//! the published state, so nothing here locks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tidegate_model::{Backend, FilterSpec, Listener, ListenerSettings, Protocol, Rule};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access_log::{LogBuffer, Unfinished};
use crate::activity::{Activity, Clock};
use crate::clients::ClientSettings;
use crate::concurrency::InFlight;
use crate::config::ProxyConfig;
use crate::connection::{self, Accepted};
use crate::metrics::WorkerMetrics;
use crate::plugin::{Filters, WorkerFilter};
use crate::publish::{FilterState, Published};
use crate::session::SessionTable;
use crate::shadow::Shadow;
use crate::side::SideThreads;
use crate::udp_proxy;
use crate::upstream::{Cluster, Upstreams};
use crate::wake::{self, Mailbox, Post};

/// A listener by the address it is bound to and the port it is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ListenerKey {
    pub(crate) bind: SocketAddr,
    pub(crate) port: u16,
    /// Whether datagrams come there, whose ports are others than those of connections.
    pub(crate) udp: bool,
}

impl ListenerKey {
    pub(crate) fn of(listener: &Listener) -> Self {
        Self {
            bind: listener.bind,
            port: listener.port,
            udp: listener.protocol == Protocol::Udp,
        }
    }
}

/// What the control side tells a worker.
pub(crate) enum Command {
    /// Accept here.
    Listen(ListenerKey, TcpListener),
    /// Take datagrams here.
    Receive(ListenerKey, UdpSocket),
    /// Accept what is queued, and no more.
    Unlisten(ListenerKey),
    /// A new state was published.
    Refresh,
    /// Let connections end.
    Drain,
}

/// The state of a worker.
pub(crate) struct Worker {
    pub(crate) config: Arc<ProxyConfig>,
    pub(crate) upstreams: Upstreams,
    pub(crate) filters: Filters,
    /// Where VMs are known by all workers, and what comes for those of this one.
    pub(crate) post: Arc<Post>,
    pub(crate) mailbox: Arc<Mailbox>,
    /// For what would hold this worker up.
    pub(crate) side: Arc<SideThreads>,
    /// Requests of clients whose number is bounded.
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) log: RefCell<LogBuffer>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) connections: Cell<usize>,
    pub(crate) udp_sessions: Cell<usize>,
    /// Where datagrams are received.
    pub(crate) datagram: RefCell<Vec<u8>>,
    /// Lines of the access log that wait for shadows.
    unwritten: Cell<usize>,
    pub(crate) draining: CancellationToken,
    /// For listeners that ask for nothing of their own.
    clients: Rc<ClientSettings>,
    clock: Clock,
    /// One moment on both clocks, at most a second ago.
    moment: Cell<(Instant, SystemTime)>,
    watched: RefCell<Vec<(Weak<Activity>, AbortHandle)>>,
    published: RefCell<arc_swap::Cache<Arc<arc_swap::ArcSwap<Published>>, Arc<Published>>>,
    state: RefCell<Rc<State>>,
    /// States before, until the filters that stay are in the new one: without them their VMs would end meanwhile.
    left: RefCell<Vec<Rc<State>>>,
    ids: Cell<u64>,
}

/// A published state as this worker uses it. Requests hold it to their end.
pub(crate) struct State {
    pub(crate) published: Arc<Published>,
    listeners: HashMap<ListenerKey, Arc<Listener>>,
    /// Of listeners whose class asks for something of its own.
    clients: HashMap<ListenerKey, Rc<ClientSettings>>,
    /// Where sessions of rules lead, by the rule's address: found out when the first client brings one.
    sessions: RefCell<HashMap<usize, Rc<SessionTable>>>,
    clusters: Vec<RefCell<Option<Rc<Cluster>>>>,
    filters: Vec<RefCell<Option<Rc<WorkerFilter>>>>,
}

/// What a worker is started with.
pub(crate) struct Start {
    pub(crate) config: Arc<ProxyConfig>,
    pub(crate) published: Arc<arc_swap::ArcSwap<Published>>,
    pub(crate) log: LogBuffer,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) commands: UnboundedReceiver<Command>,
    pub(crate) post: Arc<Post>,
    pub(crate) side: Arc<SideThreads>,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) index: usize,
}

/// Runs a worker until its commands end and its connections with them.
pub(crate) fn run(start: Start) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let Start {
            config,
            published,
            log,
            metrics,
            commands,
            post,
            side,
            in_flight,
            index,
        } = start;
        let mut cache = arc_swap::Cache::new(published);
        let first = cache.load().clone();
        let worker = Rc::new(Worker {
            upstreams: Upstreams::new(config.limits.clone()),
            filters: Filters::default(),
            post,
            mailbox: Arc::default(),
            side,
            in_flight,
            log: RefCell::new(log),
            metrics,
            connections: Cell::new(0),
            udp_sessions: Cell::new(0),
            datagram: RefCell::default(),
            unwritten: Cell::new(0),
            draining: CancellationToken::new(),
            clients: Rc::new(ClientSettings::new(&config, &ListenerSettings::default())),
            state: RefCell::new(Rc::new(State::new(first, &config))),
            config,
            published: RefCell::new(cache),
            left: RefCell::default(),
            clock: Clock::default(),
            moment: Cell::new((Instant::now(), SystemTime::now())),
            watched: RefCell::default(),
            // Connection ids are unique over the workers.
            ids: Cell::new((index as u64) << 48),
        });
        let mailbox = worker.mailbox.clone();
        tokio::task::spawn_local(wake::deliver(Rc::downgrade(&worker), mailbox));
        worker.obey(commands).await;
    });
    Ok(())
}

impl Worker {
    /// The current state.
    pub(crate) fn state(&self) -> Rc<State> {
        let mut cache = self.published.borrow_mut();
        let published = cache.load();
        let state = self.state.borrow();
        if Arc::ptr_eq(&state.published, published) {
            return state.clone();
        }
        drop(state);
        let state = Rc::new(State::new(published.clone(), &self.config));
        let before = self.state.replace(state.clone());
        self.left.borrow_mut().push(before);
        state
    }

    /// The time of day of a moment that is not long ago, without asking for it: every request has one, few are asked for.
    pub(crate) fn wall_time(&self, at: Instant) -> SystemTime {
        let (instant, time) = self.moment.get();
        match at.checked_duration_since(instant) {
            Some(since) => time + since,
            None => time - (instant - at),
        }
    }

    pub(crate) fn next_id(&self) -> u64 {
        let id = self.ids.get() + 1;
        self.ids.set(id);
        id
    }

    async fn obey(self: Rc<Self>, mut commands: UnboundedReceiver<Command>) {
        let mut listening: HashMap<ListenerKey, CancellationToken> = HashMap::new();
        let mut housekeeping = tokio::time::interval(Duration::from_secs(1));
        let mut drained = false;
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Listen(key, socket)) => {
                        let stop = CancellationToken::new();
                        listening.insert(key, stop.clone());
                        tokio::task::spawn_local(accept(self.clone(), key, socket, stop));
                    }
                    Some(Command::Receive(key, socket)) => {
                        let stop = CancellationToken::new();
                        listening.insert(key, stop.clone());
                        tokio::task::spawn_local(udp_proxy::serve(self.clone(), key, socket, stop));
                    }
                    Some(Command::Unlisten(key)) => drop(listening.remove(&key).map(|stop| stop.cancel())),
                    Some(Command::Refresh) => self.refresh(),
                    Some(Command::Drain) => {
                        listening.drain().for_each(|(_, stop)| stop.cancel());
                        // What is queued is accepted first, so that it hears the drain as well.
                        tokio::task::yield_now().await;
                        self.draining.cancel();
                        drained = true;
                    }
                    None => break,
                },
                _ = housekeeping.tick() => {
                    self.clock.tick();
                    self.moment.set((Instant::now(), SystemTime::now()));
                    self.close_overdue();
                    self.upstreams.close_idle();
                    self.filters.look(self.config.limits.vms);
                    self.log.borrow_mut().flush();
                }
                () = tokio::time::sleep(Duration::from_millis(20)), if drained => {
                    let open = self.connections.get() + self.udp_sessions.get();
                    if open == 0 && self.unwritten.get() == 0 {
                        break;
                    }
                }
            }
        }
        self.log.borrow_mut().flush();
    }

    /// Writes a line of the access log when the shadows of its exchange have come to their ends.
    pub(crate) fn log_later(self: Rc<Self>, line: Unfinished, shadows: Vec<Shadow>) {
        self.unwritten.set(self.unwritten.get() + 1);
        tokio::task::spawn_local(async move {
            let mut verdicts = Vec::with_capacity(shadows.len());
            for shadow in shadows {
                verdicts.push(shadow.verdict().await);
            }
            self.log.borrow_mut().finish(line, "shadow", &verdicts);
            self.unwritten.set(self.unwritten.get() - 1);
        });
    }

    /// The settings of a listener: its own, or those of the process.
    pub(crate) fn settings(&self, key: &ListenerKey) -> Rc<ClientSettings> {
        let own = self.state().clients.get(key).cloned();
        own.unwrap_or_else(|| self.clients.clone())
    }

    /// Serves a connection and watches over it.
    fn serve(self: &Rc<Self>, key: ListenerKey, stream: tokio::net::TcpStream, peer: SocketAddr) {
        let settings = self.settings(&key);
        let activity = Activity::new(&self.clock, &settings.limits);
        let weak = Arc::downgrade(&activity);
        let accepted = Accepted {
            listener: key,
            stream,
            peer,
            settings,
            activity,
        };
        let task = tokio::task::spawn_local(connection::serve(self.clone(), accepted));
        self.watched.borrow_mut().push((weak, task.abort_handle()));
    }

    /// Ends connections that have kept us waiting for too long, and forgets those that are gone. A tunnel has left HTTP and is
    /// not looked at any more.
    fn close_overdue(&self) {
        self.watched.borrow_mut().retain(|(activity, task)| {
            let Some(activity) = activity.upgrade() else {
                return false;
            };
            match activity.overdue() {
                None => true,
                Some(overdue) => {
                    tracing::debug!(?overdue, "connection closed");
                    task.abort();
                    false
                }
            }
        });
    }

    /// Lets go of the old state and of what only it needed.
    fn refresh(self: &Rc<Self>) {
        let state = self.state();
        let snapshot = &state.published.snapshot;
        let wanted: std::collections::HashSet<&str> =
            snapshot.backends.iter().map(|b| &*b.key).collect();
        self.upstreams.retain(|key| wanted.contains(key));
        self.filters.adopt(self, &state);
        // What ends with them may call into VMs, so nothing is borrowed meanwhile.
        let left = self.left.take();
        drop(left);
    }
}

impl State {
    fn new(published: Arc<Published>, config: &ProxyConfig) -> Self {
        let snapshot = &published.snapshot;
        let key = |listener: &Arc<Listener>| ListenerKey::of(listener);
        Self {
            listeners: snapshot
                .listeners
                .iter()
                .map(|listener| (key(listener), listener.clone()))
                .collect(),
            clients: snapshot
                .listeners
                .iter()
                .filter(|listener| !listener.settings.is_empty())
                .map(|listener| {
                    let settings = ClientSettings::new(config, &listener.settings);
                    (key(listener), Rc::new(settings))
                })
                .collect(),
            sessions: RefCell::default(),
            clusters: (0..snapshot.backends.len())
                .map(|_| RefCell::default())
                .collect(),
            filters: (0..snapshot.filters.len())
                .map(|_| RefCell::default())
                .collect(),
            published,
        }
    }

    pub(crate) fn listener(&self, key: &ListenerKey) -> Option<&Arc<Listener>> {
        self.listeners.get(key)
    }

    /// Where the sessions of a rule of this state's snapshot lead.
    pub(crate) fn sessions(&self, rule: &Arc<Rule>) -> Rc<SessionTable> {
        let mut tables = self.sessions.borrow_mut();
        // The snapshot keeps its rules where they are.
        let table = tables.entry(Arc::as_ptr(rule).addr());
        table
            .or_insert_with(|| Rc::new(SessionTable::new(rule)))
            .clone()
    }

    /// The cluster of a backend of this state's snapshot.
    pub(crate) fn cluster(&self, worker: &Worker, backend: &Arc<Backend>) -> Rc<Cluster> {
        let Some(slot) = self.clusters.get(backend.slot) else {
            return worker.upstreams.cluster(backend);
        };
        slot.borrow_mut()
            .get_or_insert_with(|| worker.upstreams.cluster(backend))
            .clone()
    }

    /// Whether a filter runs before the first request comes.
    pub(crate) fn is_resident(&self, spec: &FilterSpec) -> bool {
        matches!(self.published.filters.get(spec.slot), Some(FilterState::Ready(plugin)) if plugin.resident)
    }

    /// The filter of this state's snapshot as this worker runs it.
    pub(crate) fn filter(&self, worker: &Rc<Worker>, spec: &Arc<FilterSpec>) -> Rc<WorkerFilter> {
        let mut slot = self.filters[spec.slot].borrow_mut();
        slot.get_or_insert_with(|| {
            worker
                .filters
                .get(worker, spec, &self.published.filters[spec.slot])
        })
        .clone()
    }
}

/// Accepts until told to stop, then takes what is already queued: a connection that the kernel completed is never lost.
async fn accept(
    worker: Rc<Worker>,
    key: ListenerKey,
    socket: TcpListener,
    stop: CancellationToken,
) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(bind = %key.bind, %error, "cannot listen"),
    };
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                worker.serve(key, stream, worker.config.peers.peer(peer));
            }
            Err(error) => back_off(key, &error).await,
        }
        while worker.connections.get() >= worker.config.limits.connections {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Out of descriptors is a state that passes; spinning would keep it from passing.
async fn back_off(key: ListenerKey, error: &std::io::Error) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset) {
        tracing::warn!(bind = %key.bind, %error, "cannot accept; waiting");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
