//! Shared data, metrics, properties, foreign functions and WASI.

use std::sync::Arc;

use tidegate_wasm::{ConnectionAttributes, MetricValue, Vm};
use tidegate_wasm_guests as guests;

use crate::run::{REQUEST_HEADERS, Run, compile, exchange, plugin, vm_config};

#[test]
pub(crate) fn shared_data() {
    let mut run = Run::of(guests::SHARED_DATA);
    run.request();
    assert_eq!(run.header("x-count"), "1 true");
    // Another VM of the same filter goes on where this one is.
    let module = compile(guests::SHARED_DATA);
    let mut other = Vm::start(&module, Arc::new(vm_config()), Arc::clone(&run.shared)).unwrap();
    let root = other.add_root(Arc::new(plugin())).unwrap();
    let stream = other.create_stream(root).unwrap();
    other.attach(stream, exchange("/p"));
    other.call(stream, REQUEST_HEADERS).unwrap();
    let io = other.detach(stream).unwrap();
    assert_eq!(io.request.headers["x-count"], "2 true");
}

#[test]
pub(crate) fn metrics() {
    let mut run = Run::of(guests::METRICS);
    run.request();
    assert_eq!(run.header("x-metrics"), "true 2 3");
    let samples = run.shared.metrics();
    let value = |name: &str| {
        let sample = samples
            .iter()
            .find(|sample| &*sample.name == name)
            .expect(name);
        &sample.value
    };
    assert_eq!(*value("hits"), MetricValue::Counter(2));
    assert_eq!(*value("busy"), MetricValue::Gauge(1));
    assert!(matches!(value("sizes"), MetricValue::Histogram(_)));
}

#[test]
pub(crate) fn properties() {
    let mut run = Run::on(guests::PROPERTIES, "/a?b");
    run.io().attributes.connection = Some(Arc::new(ConnectionAttributes {
        source: Some("192.0.2.7:4711".parse().unwrap()),
        ..ConnectionAttributes::default()
    }));
    run.request();
    assert_eq!(
        run.header("x-said"),
        "/a?b|guest|root|shop|shop|Some(4711) true"
    );
}

#[test]
pub(crate) fn foreign() {
    let mut run = Run::on(guests::FOREIGN, "/a");
    run.request();
    assert_eq!(run.header("x-said"), "true /a true Ok(None) Err(NotFound)");
}

#[test]
pub(crate) fn wasi() {
    let mut run = Run::of(guests::WASI);
    run.request();
    assert_eq!(run.header("x-said"), "shop 1 0 true true true");
}
