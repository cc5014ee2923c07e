//! `tidegate serve`: a folder of manifests, or a cluster, is the source of truth.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tidegate_controller::translate::Options;
use tidegate_modules::{Loader, Settings};
use tidegate_proxy::{AccessLog, AccessLogWriter, Limits, Proxy, ProxyConfig, Trust};
use tidegate_wasm::Shared;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, Pages};
use crate::args::{AddressOrOff, Process, Serve};
use crate::control::{Control, View};
use crate::source::{Origin, Source};
use crate::{FINE, check};

/// Where probes and scrapers ask in a cluster.
const HEALTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8081);

/// How long it waits for what its control threads are doing.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// How long the end of the process waits for the last lines of the access log.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, and then until connections have ended.
pub(crate) fn run(arguments: Serve) -> anyhow::Result<u8> {
    let mut options = check::options(&arguments.binding)?;
    let mut process = arguments.process;
    let state = arguments.kubernetes.state_dir.as_deref();
    let cache = state.map(|folder| folder.join("modules"));
    let origin = if arguments.kubernetes.kubernetes {
        options.standalone = false;
        options.allow_external_name = arguments.kubernetes.allow_external_name;
        process.health.get_or_insert(AddressOrOff(Some(HEALTH)));
        Origin::Cluster(arguments.kubernetes)
    } else {
        check::readable(&arguments.manifests)?;
        Origin::Files(arguments.manifests)
    };
    serve(origin, options, &process, cache)
}

/// Serves what `origin` says. Modules and compiled code are kept in `cache`, if there is one.
pub(crate) fn serve(
    origin: Origin,
    options: Options,
    process: &Process,
    cache: Option<PathBuf>,
) -> anyhow::Result<u8> {
    let shared = Shared::new();
    if let Some(name) = replica() {
        shared.name_node(&name);
    }
    let loader = Loader::with(
        shared,
        &Settings {
            // The gateway's own loopback is no place that a tenant of a cluster may name.
            loopback: options.standalone,
            cache,
            ..Settings::default()
        },
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        // Filters are tried out on these threads, and guests may use a megabyte of stack.
        .thread_stack_size(8 << 20)
        .enable_all()
        .build()?;
    let (log, writer): (_, Option<AccessLogWriter>) = access_log(&process.access_log)?.unzip();
    let proxy = Arc::new(Proxy::start(
        proxy_config(process, options.standalone),
        log.as_ref(),
    )?);
    let serving = serve_until_ended(origin, options, process, proxy.clone(), loader, log);
    let ended = runtime.block_on(serving);
    // The admin pages know the proxy, and guests that are tried out may take their time.
    runtime.shutdown_timeout(LAST_TASKS);
    if let Some(proxy) = Arc::into_inner(proxy) {
        stop(proxy);
    }
    if writer.is_some_and(|writer| !writer.close(LAST_LINES)) {
        tracing::warn!("the output of the access log is blocked; its last lines are lost");
    }
    ended.map(|()| FINE)
}

/// Ends the workers, so that what they still serve is logged; one that does not come back is left.
fn stop(proxy: Proxy) {
    let (done, stopped) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        proxy.stop();
        // Nobody may be waiting any more.
        let _ = done.send(());
    });
    if stopped.recv_timeout(LAST_TASKS).is_err() {
        tracing::warn!(
            "a worker does not end; what it serves is cut off without a line in the access log"
        );
    }
}

async fn serve_until_ended(
    origin: Origin,
    options: Options,
    process: &Process,
    proxy: Arc<Proxy>,
    loader: Arc<Loader>,
    log: Option<AccessLog>,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A terminal that closes is no reason to stop serving.
    let mut hang_up = signal(SignalKind::hangup())?;
    let keep = tokio::spawn(loader.clone().keep());
    let source = Source::open(origin, &options).await?;
    let mut control = Control::new(source, options, proxy.clone(), loader.clone());
    let view = control.view();
    if let Some(log) = log {
        view.know_access_log(log);
    }
    for (address, pages) in [
        (process.admin.0, Pages::All),
        (process.health.and_then(|health| health.0), Pages::Health),
    ] {
        if let Some(address) = address {
            let bound = admin::serve(address, pages, view.clone()).await?;
            tracing::info!(address = %bound, "admin pages");
        }
    }
    let mut verdicts = loader.changes();
    control.reload();
    control.apply().await;
    let mut housekeeping = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {}
            () = control.changed() => {
                if control.reload() {
                    control.apply().await;
                }
            }
            Ok(()) = verdicts.changed() => control.apply().await,
            _ = housekeeping.tick() => {
                proxy.bury();
                control.keep();
                if control.has_bind_errors() {
                    control.apply().await;
                }
            }
        }
    }
    keep.abort();
    // An API server that does not answer must not take the time that connections have.
    tokio::join!(
        drain(&view, &proxy, Duration::from_secs(process.drain)),
        control.end(),
    );
    Ok(())
}

/// Readiness goes first, then the listeners, then the connections as they end.
async fn drain(view: &View, proxy: &Proxy, limit: Duration) {
    view.drain();
    tracing::info!(seconds = limit.as_secs(), "draining");
    proxy.drain();
    let deadline = tokio::time::Instant::now() + limit;
    while !proxy.has_ended() {
        if tokio::time::Instant::now() >= deadline {
            tracing::warn!("connections are still open at the end of the drain; they are closed");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn proxy_config(process: &Process, standalone: bool) -> ProxyConfig {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let trust = match (process.trusted_hops, process.trusted_proxies.as_slice()) {
        (Some(hops), _) if hops > 0 => Trust::Hops(hops),
        (_, []) => Trust::None,
        (_, networks) => Trust::Networks(networks.to_vec()),
    };
    ProxyConfig {
        workers: process.workers.unwrap_or_else(cores),
        trust,
        limits: Limits {
            local_names: standalone,
            ..Limits::default()
        },
        ..ProxyConfig::default()
    }
}

fn access_log(target: &str) -> anyhow::Result<Option<(AccessLog, AccessLogWriter)>> {
    let started = match target {
        "off" => return Ok(None),
        "stdout" => AccessLog::start(std::io::stdout()),
        path => {
            let file = File::options().create(true).append(true).open(path);
            AccessLog::start(file.with_context(|| format!("--access-log {path}"))?)
        }
    };
    Ok(Some(started?))
}

/// What this replica is called: its pod, else its host.
pub(crate) fn replica() -> Option<String> {
    ["POD_NAME", "HOSTNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}
