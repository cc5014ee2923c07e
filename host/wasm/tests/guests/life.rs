//! Start, contexts, ticks, logs, and the end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_wasm::{Action, Callback, Cause, Effect, Shared, Vm};
use tidegate_wasm_guests as guests;

use crate::run::{Run, compile, plugin, vm_config};

#[test]
pub(crate) fn lifecycle() {
    let mut run = Run::of(guests::LIFECYCLE);
    run.request();
    assert_eq!(
        run.header("x-steps"),
        "vm-start:2=2 configure:6=6 created request "
    );
    run.call(Callback::Log);
    run.call(Callback::Done);
    run.again("/p");
    run.request();
    assert!(
        run.header("x-steps")
            .ends_with("request log done deleted created request "),
        "{}",
        run.header("x-steps")
    );
    run.vm.delete_stream(run.stream).unwrap();
    assert!(!run.vm.remove_root(run.root).unwrap(), "it wants to wait");
    run.vm.on_tick(run.root).unwrap();
    assert!(matches!(&run.effects()[..], [Effect::RootDone { root }] if *root == run.root));
    assert_eq!(run.vm.contexts(), 0);

    let mut refused = plugin();
    refused.config = bytes::Bytes::from_static(b"refuse");
    let module = compile(guests::LIFECYCLE);
    let mut vm = Vm::start(&module, Arc::new(vm_config()), Shared::new()).unwrap();
    let failure = vm.add_root(Arc::new(refused)).unwrap_err();
    assert_eq!(failure.cause(), Cause::Configure);
    assert!(vm.add_root(Arc::new(plugin())).is_ok(), "the VM lives on");
}

#[test]
pub(crate) fn timers() {
    let mut run = Run::of(guests::TIMERS);
    let period = |effects: &[Effect]| match effects {
        [Effect::SetTickPeriod { period, .. }] => *period,
        other => panic!("{other:?}"),
    };
    assert_eq!(period(&run.effects()), Some(Duration::from_millis(250)));
    run.vm.on_tick(run.root).unwrap();
    assert!(run.effects().is_empty());
    run.vm.on_tick(run.root).unwrap();
    assert_eq!(period(&run.effects()), None);
    run.again("/p");
    run.request();
    assert_eq!(run.header("x-ticks"), "2 true");
}

#[test]
pub(crate) fn contexts() {
    let mut run = Run::of(guests::CONTEXTS);
    assert_ne!(run.request(), Action::Continue);
    run.vm.on_tick(run.root).unwrap();
    assert_eq!(run.header("x-released"), run.stream.get().to_string());
    assert!(
        matches!(&run.effects()[..], [Effect::Resume { context, .. }] if *context == run.stream)
    );
}

/// Lines of guests, as a subscriber sees them.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(String, String)>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "guest"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let level = event.metadata().level().to_string();
        self.0.lock().unwrap().push((level, message.0));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
pub(crate) fn logs() {
    let lines = Lines::default();
    let said = tracing::subscriber::with_default(lines.clone(), || {
        let mut run = Run::of(guests::LOGS);
        run.request();
        run.header("x-level")
    });
    assert_eq!(said, "Ok(()) Ok(Trace)");
    let lines = lines.0.lock().unwrap();
    let expected = [
        ("TRACE", "at trace"),
        ("DEBUG", "at debug"),
        ("INFO", "at info"),
        ("WARN", "at warn"),
        ("ERROR", "at error"),
        ("ERROR", "at critical"),
    ];
    let lines: Vec<(&str, &str)> = lines
        .iter()
        .map(|(level, text)| (level.as_str(), text.as_str()))
        .collect();
    assert_eq!(lines, expected);
}

fn started(wasm: &[u8]) -> Vec<u8> {
    let mut run = Run::of(wasm);
    run.request();
    run.property("started")
}

#[test]
pub(crate) fn start_section() {
    assert_eq!(started(guests::START_SECTION), b"1", "once");
}

#[test]
pub(crate) fn start_initialize() {
    assert_eq!(started(guests::START_INITIALIZE), b"im");
}

#[test]
pub(crate) fn start_start() {
    assert_eq!(started(guests::START_START), b"s");
}
