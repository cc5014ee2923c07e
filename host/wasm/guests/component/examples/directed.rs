//! A filter that does what fields of a request, of a response or its configuration ask for. The gateway's tests have guests in WAT
//! for that; this one does the same as all of them, so that the same tests run on a component.
//!
//! | Field of a request | What it does |
//! |---|---|
//! | `x-trap`, `x-trap-request`, `x-trap-request-body`, `x-trap-log` | traps there; of a response `x-trap-response`, `x-trap-response-body` |
//! | `x-loop`, `x-grow` | runs for ever, takes memory until there is no more |
//! | `x-wait`, `x-go` | spins until somebody has sent `x-go` to the same shared data |
//! | `x-break`, `x-mend` | configurations are refused from then on, or no longer |
//! | `x-answer`, `x-pause` | answers with 418, pauses for ever |
//!
//! | Configuration | What it does |
//! |---|---|
//! | three bytes | is refused |
//! | `tick` | one tick, which writes the shared value `ticked` |
//! | `call` | calls the cluster `there` at once |
//! | `asks` | asks the cluster `authz` about each request: its answer's `x-allow` lets it pass |

#![cfg(all(target_arch = "wasm32", target_env = "p2"))]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use exports::tidegate::filter::{
    on_answer, on_end, on_log, on_plugin, on_request, on_request_body, on_response,
    on_response_body, on_tick,
};
use tidegate::filter::http::{Answer, Exchange, HeaderMap, Plugin};
use tidegate::filter::log;
use tidegate::filter::metrics::{Kind, Metric};
use tidegate::filter::shared_data;
use tidegate::filter::types::{Action, Direction, Error, Field};

wit_bindgen::generate!({
    path: "../../../../wit",
    world: "filter",
    generate_all,
});

struct Guest;

export!(Guest);

/// Tests write another text over it, to have components that differ, and know each.
static STAMP: [u8; 16] = *b"stamp:original  ";

thread_local! {
    /// Requests that this memory has seen.
    static COUNT: Cell<u32> = const { Cell::new(0) };
    static PLUGINS: RefCell<BTreeMap<u32, (Plugin, Vec<u8>)>> = const { RefCell::new(BTreeMap::new()) };
    /// Exchanges that wait for an answer, by its token.
    static WAITING: RefCell<BTreeMap<u32, Exchange>> = const { RefCell::new(BTreeMap::new()) };
    /// Exchanges in which a body is to trap.
    static REQUEST_BODY: RefCell<BTreeSet<u32>> = const { RefCell::new(BTreeSet::new()) };
    static RESPONSE_BODY: RefCell<BTreeSet<u32>> = const { RefCell::new(BTreeSet::new()) };
}

fn stamp() -> &'static [u8] {
    let stamp = std::hint::black_box(&STAMP);
    stamp["stamp:".len()..].trim_ascii_end()
}

fn configuration(exchange: &Exchange) -> Vec<u8> {
    let id = exchange.plugin().id();
    PLUGINS
        .with_borrow(|plugins| plugins.get(&id).map(|(_, text)| text.clone()))
        .unwrap_or_default()
}

fn count(name: &str) {
    let counted = Metric::define(Kind::Counter, name).and_then(|counter| counter.increment(1));
    told(counted);
}

fn told(done: Result<(), Error>) {
    if let Err(error) = done {
        log::write(log::Level::Error, error.name());
    }
}

fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

fn share(key: &str, value: &[u8]) {
    told(shared_data::set(key, value, 0));
}

fn shared(key: &str) -> Option<Vec<u8>> {
    shared_data::get(key).ok().map(|(value, _)| value)
}

fn field(name: &str, value: &str) -> Field {
    Field {
        name: name.into(),
        value: value.into(),
    }
}

fn ask(plugin: &Plugin, cluster: &str) -> Result<u32, Error> {
    let headers = [
        field(":method", "GET"),
        field(":path", "/"),
        field(":authority", "asked.test"),
    ];
    plugin.http_call(cluster, &headers, b"", 1000)
}

/// Does what never returns, if the request asks for it.
fn fail(has: impl Fn(&str) -> bool) {
    if has("x-wait") {
        share("spins", b"1");
        while shared("go").is_none() {}
    }
    if has("x-loop") {
        loop {
            std::hint::black_box(());
        }
    }
    if has("x-grow") {
        while core::arch::wasm32::memory_grow::<0>(16) != usize::MAX {}
        trap();
    }
    if has("x-trap") || has("x-trap-request") {
        trap();
    }
}

impl on_plugin::Guest for Guest {
    fn configure(plugin: Plugin) -> Result<(), String> {
        let text = plugin.configuration();
        if text.len() == 3 {
            return Err("three bytes are no configuration".into());
        }
        if shared("broken").as_deref() == Some(b"1") {
            return Err("somebody has sent x-break".into());
        }
        let asked = match &text[..] {
            b"tick" => plugin.set_tick_period(5),
            b"call" => ask(&plugin, "there").map(|_| ()),
            _ => Ok(()),
        };
        asked.map_err(|error| error.name().to_owned())?;
        PLUGINS.with_borrow_mut(|plugins| plugins.insert(plugin.id(), (plugin, text)));
        Ok(())
    }

    fn remove(id: u32) {
        PLUGINS.with_borrow_mut(|plugins| plugins.remove(&id));
    }
}

impl on_request::Guest for Guest {
    fn headers(exchange: &Exchange, _end_of_stream: bool) -> Action {
        let map = HeaderMap::RequestHeaders;
        let has = |name: &str| exchange.header(map, name).is_some();
        COUNT.set(COUNT.get() + 1);
        count("requests");
        for (name, key, value) in [
            ("x-go", "go", b"1"),
            ("x-break", "broken", b"1"),
            ("x-mend", "broken", b"0"),
        ] {
            if has(name) {
                share(key, value);
            }
        }
        fail(has);
        if has("x-trap-request-body") {
            REQUEST_BODY.with_borrow_mut(|all| all.insert(exchange.id()));
        }
        if let Some(ticked) = shared("ticked") {
            told(exchange.set_header(map, "x-ticked", &ticked));
        }
        told(exchange.set_header(map, "x-filtered", b"1"));
        if has("x-answer") {
            told(exchange.reply(418, "", &[], b"no", None));
        }
        if configuration(exchange) == b"asks" {
            match ask(&exchange.plugin(), "authz") {
                Ok(token) => {
                    WAITING.with_borrow_mut(|all| all.insert(token, exchange.hold()));
                }
                Err(error) => told(exchange.reply(500, error.name(), &[], b"", None)),
            }
            return Action::Pause;
        }
        if has("x-pause") {
            Action::Pause
        } else {
            Action::Continue
        }
    }
}

impl on_request_body::Guest for Guest {
    fn data(exchange: &Exchange, _size: u32, _end_of_stream: bool) -> Action {
        if REQUEST_BODY.with_borrow(|all| all.contains(&exchange.id())) {
            trap();
        }
        Action::Continue
    }

    fn trailers(_exchange: &Exchange) -> Action {
        Action::Continue
    }
}

impl on_response::Guest for Guest {
    fn headers(exchange: &Exchange, _end_of_stream: bool) -> Action {
        let map = HeaderMap::ResponseHeaders;
        let has = |name: &str| exchange.header(map, name).is_some();
        if has("x-trap-response") {
            trap();
        }
        if has("x-trap-response-body") {
            RESPONSE_BODY.with_borrow_mut(|all| all.insert(exchange.id()));
        }
        let count = COUNT.get().to_string();
        let version = configuration(exchange);
        for (name, value) in [
            ("x-filtered", &b"1"[..]),
            ("x-count", count.as_bytes()),
            ("x-stamp", stamp()),
            ("x-version", version.get(..1).unwrap_or_default()),
        ] {
            if !value.is_empty() {
                told(exchange.set_header(map, name, value));
            }
        }
        Action::Continue
    }
}

impl on_response_body::Guest for Guest {
    fn data(exchange: &Exchange, _size: u32, _end_of_stream: bool) -> Action {
        if RESPONSE_BODY.with_borrow(|all| all.contains(&exchange.id())) {
            trap();
        }
        Action::Continue
    }

    fn trailers(_exchange: &Exchange) -> Action {
        Action::Continue
    }
}

impl on_log::Guest for Guest {
    fn log(exchange: &Exchange) {
        if exchange
            .header(HeaderMap::RequestHeaders, "x-trap-log")
            .is_some()
        {
            trap();
        }
        count("logged");
    }
}

impl on_end::Guest for Guest {
    fn end(id: u32) {
        REQUEST_BODY.with_borrow_mut(|all| all.remove(&id));
        RESPONSE_BODY.with_borrow_mut(|all| all.remove(&id));
        WAITING.with_borrow_mut(|all| all.retain(|_, exchange| exchange.id() != id));
        count("ended");
    }
}

impl on_tick::Guest for Guest {
    fn tick(plugin: &Plugin) {
        told(plugin.set_tick_period(0));
        share("ticked", b"yes");
        count("ticks");
    }
}

impl on_answer::Guest for Guest {
    fn http(_plugin: &Plugin, token: u32, answer: &Answer) {
        count("answered");
        let Some(exchange) = WAITING.with_borrow_mut(|all| all.remove(&token)) else {
            return;
        };
        if answer.header("x-allow").is_some() {
            told(exchange.set_header(HeaderMap::RequestHeaders, "x-user", b"alice"));
            told(exchange.resume(Direction::Request));
        } else {
            told(exchange.reply(403, "", &[], b"not allowed", None));
        }
    }

    fn grpc_message(_plugin: &Plugin, _token: u32, _message: Vec<u8>) {}

    fn grpc_close(_plugin: &Plugin, _token: u32, _status: u32, _message: String) {}
}
