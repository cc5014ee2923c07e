//! A filter against the world of `wit/` without the SDK: the path of the request says what it does with each function.

#![cfg(all(target_arch = "wasm32", target_env = "p2"))]

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use exports::tidegate::filter::{
    on_answer, on_end, on_log, on_plugin, on_request, on_request_body, on_response,
    on_response_body, on_tick,
};
use tidegate::filter::http::{Answer, Exchange, HeaderMap, Plugin};
use tidegate::filter::metrics::{Kind, Metric};
use tidegate::filter::types::{Action, Direction, Error, Field};
use tidegate::filter::{clock, log, shared_data};

wit_bindgen::generate!({
    path: "../../../../wit",
    world: "filter",
    generate_all,
});

struct Guest;

export!(Guest);

thread_local! {
    static PLUGIN: RefCell<Option<Plugin>> = const { RefCell::new(None) };
    /// Exchanges that wait for an answer.
    static WAITING: RefCell<Vec<Exchange>> = const { RefCell::new(Vec::new()) };
    static TICKS: RefCell<u32> = const { RefCell::new(0) };
    /// Exchanges whose request's body is changed: the head is gone by then.
    static CHANGED: RefCell<BTreeSet<u32>> = const { RefCell::new(BTreeSet::new()) };
}

fn field(name: &str, value: &str) -> Field {
    Field {
        name: name.into(),
        value: value.into(),
    }
}

fn path(exchange: &Exchange) -> String {
    let path = exchange.header(HeaderMap::RequestHeaders, ":path");
    String::from_utf8(path.unwrap_or_default()).unwrap_or_default()
}

/// Tells the test what came of it.
fn tell(exchange: &Exchange, what: &str) {
    let told = exchange.set_header(HeaderMap::RequestHeaders, "x-told", what.as_bytes());
    if told.is_err() {
        log::write(log::Level::Error, "nobody to tell");
    }
}

fn headers(exchange: &Exchange) -> Result<(), Error> {
    let map = HeaderMap::RequestHeaders;
    exchange.add_header(map, "x-one", b"2")?;
    exchange.set_header(map, "X-Two", b"two")?;
    exchange.remove_header(map, "user-agent")?;
    let all: Vec<String> = exchange
        .headers(map)
        .iter()
        .map(|field| format!("{}={}", field.name, String::from_utf8_lossy(&field.value)))
        .collect();
    tell(exchange, &all.join(" "));
    // What no host writes.
    match exchange.set_header(map, "x-bad", b"a\r\nb") {
        Err(Error::BadArgument) => Ok(()),
        other => other,
    }
}

fn shared(exchange: &Exchange) -> Result<(), Error> {
    assert_eq!(shared_data::get("count"), Err(Error::NotFound));
    shared_data::set("count", b"1", 0)?;
    let (value, version) = shared_data::get("count")?;
    shared_data::set("count", b"2", version)?;
    assert_eq!(
        shared_data::set("count", b"3", version),
        Err(Error::Mismatch)
    );
    tell(exchange, &String::from_utf8_lossy(&value));
    Ok(())
}

fn metrics(exchange: &Exchange) -> Result<(), Error> {
    let counter = Metric::define(Kind::Counter, "seen")?;
    counter.increment(2)?;
    let gauge = Metric::define(Kind::Gauge, "level")?;
    gauge.observe(7)?;
    Metric::define(Kind::Histogram, "times")?.observe(3)?;
    tell(
        exchange,
        &format!("{} {}", counter.value()?, gauge.value()?),
    );
    Ok(())
}

fn properties(exchange: &Exchange) -> Result<(), Error> {
    let name = exchange.property(&["plugin_name".into()])?;
    exchange.set_property(&["mine".into()], &name)?;
    let back = exchange.property(&["wasm".into(), "mine".into()]);
    let back = back.or_else(|_| exchange.property(&["mine".into()]))?;
    tell(exchange, &String::from_utf8_lossy(&back));
    Ok(())
}

fn call(exchange: &Exchange) -> Result<u32, Error> {
    let headers = [
        field(":method", "GET"),
        field(":path", "/check"),
        field(":authority", "idp.test"),
    ];
    exchange.plugin().http_call("idp", &headers, b"who", 2000)
}

fn grpc(exchange: &Exchange) -> Result<u32, Error> {
    exchange.plugin().grpc_call(
        "idp",
        "pkg.Service",
        "Method",
        &[field("x-a", "1")],
        b"ask",
        500,
    )
}

fn wait(exchange: &Exchange, token: Result<u32, Error>) -> Action {
    match token {
        Ok(_) => {
            WAITING.with(|waiting| waiting.borrow_mut().push(exchange.hold()));
            Action::Pause
        }
        Err(error) => {
            tell(exchange, error.name());
            Action::Continue
        }
    }
}

fn answered(what: &str) {
    let waiting = WAITING.with(RefCell::take);
    for exchange in &waiting {
        tell(exchange, what);
        let resumed = exchange.resume(Direction::Request);
        assert_eq!(resumed, Ok(()));
    }
}

impl on_plugin::Guest for Guest {
    fn configure(plugin: Plugin) -> Result<(), String> {
        let text = plugin.configuration();
        if text == b"wrong" {
            return Err("field `a`: it is wrong; leave it out".into());
        }
        if text == b"tick" {
            plugin
                .set_tick_period(50)
                .map_err(|error| format!("no tick: {error:?}"))?;
        }
        PLUGIN.with(|kept| kept.replace(Some(plugin)));
        Ok(())
    }

    fn remove(id: u32) {
        log::write(log::Level::Info, &format!("{id} is gone"));
    }
}

impl on_request::Guest for Guest {
    fn headers(exchange: &Exchange, end_of_stream: bool) -> Action {
        let done = match path(exchange).as_str() {
            "/headers" => headers(exchange),
            "/body" => {
                CHANGED.with(|changed| changed.borrow_mut().insert(exchange.id()));
                Ok(())
            }
            "/shared" => shared(exchange),
            "/metrics" => metrics(exchange),
            "/properties" => properties(exchange),
            "/call" => return wait(exchange, call(exchange)),
            "/grpc" => return wait(exchange, grpc(exchange)),
            "/reply" => exchange.reply(403, "no", &[field("x-why", "so")], b"denied", Some(7)),
            "/reset" => exchange.reset(Direction::Request),
            "/loop" => loop {
                std::hint::black_box(end_of_stream);
            },
            "/trap" => panic!("as asked"),
            "/stack" => {
                std::hint::black_box(deep(1));
                Ok(())
            }
            "/memory" => {
                let mut all = Vec::new();
                loop {
                    all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            "/files" => {
                let there = std::fs::read("/etc/passwd").is_ok();
                tell(exchange, &format!("files: {there}"));
                Ok(())
            }
            "/system" => {
                let known: HashMap<&str, u64> = [("now", clock::now())].into_iter().collect();
                let since = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap_or_default();
                let gap = since.as_secs().abs_diff(known["now"] / 1_000_000_000);
                let team = std::env::var("TEAM").unwrap_or_default();
                println!("to standard output");
                tell(exchange, &format!("{} {team}", gap < 5));
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = done {
            tell(exchange, error.name());
        }
        Action::Continue
    }
}

#[allow(unconditional_recursion, reason = "it is what the test is about")]
fn deep(n: u64) -> u64 {
    std::hint::black_box(deep(n + 1)) + n
}

/// Bodies in capitals, once they are whole.
fn body(exchange: &Exchange, direction: Direction, end_of_stream: bool) -> Action {
    let is_changed = CHANGED.with(|changed| changed.borrow().contains(&exchange.id()));
    if !is_changed {
        return Action::Continue;
    }
    if !end_of_stream {
        return Action::Pause;
    }
    let size = exchange.body_size(direction);
    let mut whole = exchange.read_body(direction, 0, size);
    whole.make_ascii_uppercase();
    let written = exchange.write_body(direction, 0, size, &whole);
    assert_eq!(written, Ok(()));
    Action::Continue
}

impl on_request_body::Guest for Guest {
    fn data(exchange: &Exchange, _size: u32, end_of_stream: bool) -> Action {
        body(exchange, Direction::Request, end_of_stream)
    }

    fn trailers(exchange: &Exchange) -> Action {
        let added = exchange.add_header(HeaderMap::RequestTrailers, "x-end", b"1");
        assert_eq!(added, Ok(()));
        Action::Continue
    }
}

impl on_response::Guest for Guest {
    fn headers(exchange: &Exchange, _end_of_stream: bool) -> Action {
        let status = exchange.header(HeaderMap::ResponseHeaders, ":status");
        let set = exchange.set_header(
            HeaderMap::ResponseHeaders,
            "x-status",
            &status.unwrap_or_default(),
        );
        assert_eq!(set, Ok(()));
        Action::Continue
    }
}

impl on_response_body::Guest for Guest {
    fn data(exchange: &Exchange, _size: u32, end_of_stream: bool) -> Action {
        body(exchange, Direction::Response, end_of_stream)
    }

    fn trailers(_exchange: &Exchange) -> Action {
        Action::Continue
    }
}

impl on_log::Guest for Guest {
    fn log(exchange: &Exchange) {
        let told = exchange.header(HeaderMap::ResponseHeaders, "x-status");
        log::write(log::Level::Info, &format!("over: {told:?}"));
    }
}

impl on_end::Guest for Guest {
    fn end(id: u32) {
        CHANGED.with(|changed| changed.borrow_mut().remove(&id));
    }
}

impl on_tick::Guest for Guest {
    fn tick(_plugin: &Plugin) {
        let ticks = TICKS.with(|ticks| {
            *ticks.borrow_mut() += 1;
            *ticks.borrow()
        });
        answered(&format!("tick {ticks}"));
    }
}

impl on_answer::Guest for Guest {
    fn http(_plugin: &Plugin, token: u32, answer: &Answer) {
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default());
        answered(&format!(
            "{token} {} {} {} {}",
            text(answer.header(":status")).unwrap_or_default(),
            answer.headers().len(),
            text(Some(answer.body())).unwrap_or_default(),
            answer.trailers().len(),
        ));
    }

    fn grpc_message(_plugin: &Plugin, _token: u32, message: Vec<u8>) {
        answered(&String::from_utf8_lossy(&message));
    }

    fn grpc_close(_plugin: &Plugin, _token: u32, status: u32, message: String) {
        answered(&format!("{status} {message}"));
    }
}
