//! What filters cost in this host: time for each request, memory for each VM, time to load.
//!
//! `cargo bench -p tidegate-wasm --bench cost` prints a table. Times are the least of several rounds, in wall time of one
//! thread: compare rows with each other, not machines. One request is context, request headers, response headers, log, done
//! and delete, on an exchange with twenty request headers that is made anew each time; `host alone` is what that costs
//! without a filter, and is subtracted from the rows below it.
//!
//! Rows about components compare bundled filters with themselves, in their two forms; they are there once `filters/components` has
//! built the second one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tidegate_model::{RequestHead, ResponseHead};
use tidegate_wasm::{
    Callback, Capabilities, CodeKey, Engine, Limits, Module, PluginConfig, Pool, RootId, Shared,
    Snapshot, StreamIo, Vm, VmConfig,
};
use tidegate_wasm_guests as guests;

const ROUNDS: u32 = 7;
const REQUESTS: u32 = 3_000;
/// VMs for the memory row.
const VMS: usize = 300;

fn main() {
    // `cargo test --benches` runs this too: once is enough there.
    let rounds = if std::env::args().any(|argument| argument == "--bench") {
        ROUNDS
    } else {
        1
    };
    let engine = Engine::new().expect("wasmtime runs here");
    let shared = Shared::new();
    let alone = least(rounds, REQUESTS, || drop(exchange()));
    println!(
        "{:<44} {:>10.0} ns",
        "host alone: an exchange",
        nanoseconds(alone)
    );
    for (name, wasm) in [
        ("no-op", guests::NOOP),
        ("header", guests::HEADER),
        ("HMAC", guests::HMAC),
    ] {
        let module = engine.compile(wasm).expect("a guest of ours");
        for filters in [1, 5, 10] {
            let mut chain: Vec<(Vm, RootId)> =
                (0..filters).map(|_| configured(&module, &shared)).collect();
            let time = least(rounds, REQUESTS, || through(&mut chain));
            row(&format!("{filters} × {name}, shared VMs"), time, alone);
        }
    }
    isolation(&engine, &shared, rounds, alone);
    for (filter, config) in [
        (
            "headers",
            r#"{"request": {"set": {"x-client": "${client.address}"}}, "response": {"set": {"x-frame-options": "DENY"}}}"#,
        ),
        ("csrf", "{}"),
    ] {
        forms(&engine, &shared, rounds, alone, (filter, config));
    }
    memory(&engine, &shared);
    loading(&engine);
}

fn isolation(engine: &Engine, shared: &Arc<Shared>, rounds: u32, alone: Duration) {
    let module = engine.compile(guests::HEADER).expect("a guest of ours");
    let mut chain = vec![configured(&module, shared)];
    let together = least(rounds, REQUESTS, || through(&mut chain));
    let snapshot = Snapshot::take(
        &module,
        guests::HEADER,
        vm_config(),
        plugin(),
        Arc::clone(shared),
        Pool::default(),
    )
    .expect("a Rust filter suits");
    let recycled = least(rounds, REQUESTS, || {
        let vm = isolated(&snapshot);
        snapshot.recycle(vm);
    });
    let fresh = least(rounds, REQUESTS / 10, || drop(isolated(&snapshot)));
    let booted = least(rounds, REQUESTS / 10, || {
        let (vm, root) = configured(&module, shared);
        through(&mut [(vm, root)]);
    });
    row("1 × header, an instance of a snapshot", recycled, alone);
    row("  on top of a shared VM", recycled, together);
    row("  never recycled, on top of a shared VM", fresh, together);
    row("  booted for each, on top of a shared VM", booted, together);
}

/// A bundled filter as a module and as a component.
fn forms(
    engine: &Engine,
    shared: &Arc<Shared>,
    rounds: u32,
    alone: Duration,
    (filter, config): (&str, &'static str),
) {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/filters");
    for (form, target) in [("module", "wasm32-wasip1"), ("component", "wasm32-wasip2")] {
        let file = format!("{built}/{target}/filter/tidegate_filter_{filter}.wasm");
        let Ok(wasm) = std::fs::read(&file) else {
            println!("{filter} as a {form}: not built; run filters/components");
            continue;
        };
        let began = Instant::now();
        let module = engine.compile(&wasm).expect("a filter of ours");
        let compiled = began.elapsed();
        let start = || {
            let mut vm = Vm::start(&module, vm_config(), Arc::clone(shared)).expect("it starts");
            let root = vm.add_root(plugin_with(config)).expect("it is configured");
            (vm, root)
        };
        let mut one = [start()];
        let together = least(rounds, REQUESTS, || through(&mut one));
        let booted = least(rounds, REQUESTS / 10, || through(&mut [start()]));
        row(&format!("1 × {filter}, a {form}"), together, alone);
        row("  booted for each, on top of a shared VM", booted, together);
        let compiled = milliseconds(compiled);
        println!("{:<44} {compiled:>10.1} ms", "  compiled");
        if let Some(before) = resident() {
            let vms: Vec<_> = (0..VMS).map(|_| start()).collect();
            let used = resident().unwrap_or(before).saturating_sub(before) / VMS;
            println!("{:<44} {:>10} KiB", "  memory of an idle VM", used / 1024);
            drop(vms);
        }
    }
}

fn isolated(snapshot: &Snapshot) -> Vm {
    let mut vm = snapshot.instantiate().expect("there is room");
    request(&mut vm, snapshot.root(), Box::new(exchange()));
    vm
}

fn memory(engine: &Engine, shared: &Arc<Shared>) {
    let module = engine.compile(guests::HEADER).expect("a guest of ours");
    drop(configured(&module, shared));
    let Some(before) = resident() else {
        return;
    };
    let vms: Vec<_> = (0..VMS)
        .map(|_| {
            let mut one = [configured(&module, shared)];
            through(&mut one);
            one
        })
        .collect();
    let used = resident().unwrap_or(before).saturating_sub(before) / VMS;
    println!("{:<44} {:>10} KiB", "memory of an idle VM", used / 1024);
    drop(vms);
}

fn loading(engine: &Engine) {
    let (key, _) = CodeKey::random().expect("the system has randomness");
    for count in [1_u32, 10, 100] {
        let modules: Vec<Vec<u8>> = (0..count).map(distinct).collect();
        let began = Instant::now();
        let sealed: Vec<Vec<u8>> = modules
            .iter()
            .map(|wasm| {
                let module = engine.compile(wasm).expect("a guest of ours");
                module.serialize(&key).expect("it was compiled")
            })
            .collect();
        let cold = began.elapsed();
        let began = Instant::now();
        for (wasm, sealed) in modules.iter().zip(&sealed) {
            Module::deserialize(engine, wasm, sealed, &key).expect("our own code");
        }
        let cached = began.elapsed();
        let name = |how: &str| format!("{count} modules, {how}");
        println!(
            "{:<44} {:>10.1} ms",
            name("compiled and sealed"),
            milliseconds(cold)
        );
        println!(
            "{:<44} {:>10.1} ms",
            name("from compiled code"),
            milliseconds(cached)
        );
    }
}

/// The header filter with a custom section of its own, so that each is another module.
fn distinct(index: u32) -> Vec<u8> {
    let mut wasm = guests::HEADER.to_vec();
    // Section 0, 6 bytes: a name of one byte, and the number.
    wasm.extend_from_slice(&[0, 6, 1, b'n']);
    wasm.extend_from_slice(&index.to_le_bytes());
    wasm
}

fn configured(module: &Module, shared: &Arc<Shared>) -> (Vm, RootId) {
    let mut vm = Vm::start(module, vm_config(), Arc::clone(shared)).expect("it starts");
    let root = vm.add_root(plugin()).expect("it takes its configuration");
    (vm, root)
}

/// One request through a chain.
fn through(chain: &mut [(Vm, RootId)]) {
    let mut io = Box::new(exchange());
    for (vm, root) in chain {
        io = request(vm, *root, io);
    }
}

fn request(vm: &mut Vm, root: RootId, io: Box<StreamIo>) -> Box<StreamIo> {
    let stream = vm.create_stream(root).expect("there is room");
    vm.attach(stream, io);
    for callback in [
        Callback::RequestHeaders {
            end_of_stream: true,
        },
        Callback::ResponseHeaders {
            end_of_stream: false,
        },
        Callback::Log,
        Callback::Done,
    ] {
        vm.call(stream, callback).expect("the guest does not trap");
    }
    let io = vm.delete_stream(stream).expect("the guest does not trap");
    vm.effects();
    io.expect("it was attached")
}

fn exchange() -> StreamIo {
    let mut headers = HeaderMap::with_capacity(24);
    for n in 0..16_u8 {
        let name = HeaderName::from_bytes(format!("x-header-{n}").as_bytes());
        headers.insert(
            name.expect("a name"),
            HeaderValue::from_static("some value of usual length"),
        );
    }
    headers.insert("user-agent", HeaderValue::from_static("bench/1"));
    headers.insert(
        "x-signature",
        HeaderValue::from_static(
            "b2a4d4ee0b7a0a3b5f2dd1e0c9a9c8f1c3b2a1908f7e6d5c4b3a29180706f5e4",
        ),
    );
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("cookie", HeaderValue::from_static("session=1234567890"));
    let mut io = StreamIo::new(RequestHead {
        method: Method::GET,
        scheme: Scheme::HTTPS,
        authority: HeaderValue::from_static("shop.test"),
        path: PathAndQuery::from_static("/products/17?page=2"),
        headers,
    });
    io.response = Some(ResponseHead {
        status: StatusCode::OK,
        headers: HeaderMap::from_iter([(http::header::SERVER, HeaderValue::from_static("up"))]),
    });
    io
}

fn vm_config() -> Arc<VmConfig> {
    Arc::new(VmConfig {
        namespace: "bench".into(),
        vm_id: String::new(),
        scope: "filter".into(),
        vm_config: Bytes::new(),
        env: BTreeMap::new(),
        limits: Limits {
            call_timeout: Duration::from_secs(1),
            ..Limits::default()
        },
    })
}

fn plugin() -> Arc<PluginConfig> {
    plugin_with("{}")
}

fn plugin_with(config: &'static str) -> Arc<PluginConfig> {
    Arc::new(PluginConfig {
        namespace: "bench".into(),
        name: "filter".into(),
        root_id: String::new(),
        config: Bytes::from_static(config.as_bytes()),
        secrets: Default::default(),
        capabilities: Capabilities::ALL,
        clusters: BTreeSet::new(),
        headers_wait_for_body: false,
        buffered_body: 1 << 20,
        old_property_names: true,
    })
}

/// The least time that one call took on average in a round.
fn least(rounds: u32, calls: u32, mut call: impl FnMut()) -> Duration {
    let calls = if rounds == 1 { 10 } else { calls };
    (0..rounds)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..calls {
                call();
            }
            began.elapsed() / calls
        })
        .min()
        .unwrap_or_default()
}

/// Proportional set size of this process, where the system tells it.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    let kibibytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn row(name: &str, time: Duration, without: Duration) {
    let rest = time.saturating_sub(without);
    println!("{name:<44} {:>10.0} ns", nanoseconds(rest));
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
