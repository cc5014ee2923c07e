//! A real Envoy as a process: one listener for each case, on a port of its own choice.

mod config;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_loopback::{Envoy as Process, EnvoyError, GuestLine, Line as Said};

use crate::case::Case;
use crate::exchange::Host;
use crate::journal::{Journal, Line};
use crate::modules;
use crate::upstream::Upstream;

/// How long Envoy may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running Envoy. It is killed when it is dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    journal: Arc<Journal>,
    listeners: HashMap<String, SocketAddr>,
    upstreams: HashMap<String, Upstream>,
    callouts: HashMap<String, Upstream>,
}

impl Envoy {
    /// Starts one with a listener, an upstream and a callout cluster for each case, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(cases: &[Case]) -> Self {
        let started = Self::try_start(cases).await;
        started.unwrap_or_else(|ended| panic!("Envoy ended ({ended}); what it said stands above"))
    }

    /// The same.
    ///
    /// # Errors
    /// How it ended, if it did not start.
    ///
    /// # Panics
    /// When it neither starts nor ends.
    pub async fn try_start(cases: &[Case]) -> Result<Self, String> {
        let journal = Journal::new();
        let mut upstreams = HashMap::new();
        let mut callouts = HashMap::new();
        for case in cases {
            let plugins: Vec<String> = (0..case.plugins.len())
                .map(|at| case.plugin_name(at))
                .collect();
            let upstream = Upstream::start(case.upstream.clone(), journal.clone(), plugins).await;
            upstreams.insert(case.case.clone(), upstream);
            if let Some(callout) = case.start_callout(&journal).await {
                callouts.insert(case.case.clone(), callout);
            }
        }
        let names = cases
            .iter()
            .flat_map(|case| (0..case.plugins.len()).map(|at| case.plugin_name(at)))
            .collect();
        let bootstrap = config::bootstrap(cases, &upstreams, &callouts);
        let hear = hear(journal.clone(), names);
        let mut process = Process::start(&modules::envoy(), &bootstrap, &[], hear)
            .unwrap_or_else(|error| panic!("Envoy: {error}"));
        match process.await_ready(PATIENCE).await {
            Ok(()) => {}
            Err(EnvoyError::Ended(ended)) => return Err(ended),
            Err(error) => panic!("Envoy: {error}"),
        }
        let listeners = process.listeners().await.into_iter().collect();
        Ok(Self {
            process,
            journal,
            listeners,
            upstreams,
            callouts,
        })
    }

    /// A page of its administration; empty if it does not answer.
    pub async fn admin(&self, page: &str) -> String {
        self.process.admin(page).await
    }

    /// How it ends, if it serves no more. What it says about a crash takes a while.
    pub async fn end(&mut self) -> Option<String> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(ended) = self.ended() {
                return Some(ended);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<String> {
        self.process.ended()
    }
}

impl Host for Envoy {
    fn address(&self, case: &Case) -> SocketAddr {
        *self
            .listeners
            .get(&case.case)
            .unwrap_or_else(|| panic!("Envoy has no listener for {}", case.case))
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn upstream(&self, case: &Case) -> &Upstream {
        &self.upstreams[&case.case]
    }

    fn callout(&self, case: &Case) -> Option<&Upstream> {
        self.callouts.get(&case.case)
    }

    async fn metric(&self, name: &str) -> String {
        let page = self
            .admin(&format!("/stats?filter=wasmcustom.{name}$"))
            .await;
        let value = page.lines().find_map(|line| {
            let line = line.strip_prefix("wasmcustom.")?;
            line.strip_prefix(name)?.strip_prefix(": ")
        });
        value.unwrap_or_default().to_owned()
    }
}

/// Keeps what guests say in the journal, and prints errors.
fn hear(journal: Arc<Journal>, names: HashSet<String>) -> impl FnMut(Said<'_>) + Send + 'static {
    let mut skipping = true;
    move |said| match said {
        Said::More(line) if !skipping => journal.go_on(line),
        Said::More(_) => {}
        Said::First {
            main,
            level,
            message,
        } => {
            let guest = guest_line(&names, level, message);
            // The main thread has a VM of its own, which sees no requests.
            skipping = guest.is_none() || main;
            match guest {
                Some(line) if !skipping => journal.push(line),
                None if level == "error" || level == "critical" => eprintln!("envoy: {message}"),
                _ => {}
            }
        }
    }
}

/// What a guest said. Root contexts leave out the name; then it is in one of the ids.
fn guest_line(names: &HashSet<String>, level: &str, message: &str) -> Option<Line> {
    let GuestLine { who, text } = GuestLine::read(message)?;
    let known = who
        .split(' ')
        .find(|part| names.contains(*part))
        .map(str::to_owned);
    let begins = || names.iter().find(|name| who.starts_with(*name)).cloned();
    let plugin = known.or_else(begins)?;
    Some(Line {
        plugin,
        level: level.to_owned(),
        text: text.to_owned(),
    })
}
