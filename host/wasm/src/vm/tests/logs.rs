//! What guests log, as records.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::guest::{Arg, Guest, Running};
use Arg::{Bytes, Int, Out};

/// Keeps records of target `guest` as "LEVEL field=value …".
#[derive(Clone)]
struct Recorder {
    level: Level,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "guest" && *metadata.level() <= self.level
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {field}={value}").unwrap();
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

/// Runs with records at that level and above.
fn recorded(level: Level, guest: &Guest, act: impl FnOnce(&mut Running)) -> Vec<String> {
    let recorder = Recorder {
        level,
        lines: Arc::default(),
    };
    let lines = Arc::clone(&recorder.lines);
    tracing::subscriber::with_default(recorder, || {
        let mut run = guest.start();
        act(&mut run);
    });
    std::mem::take(&mut *lines.lock().unwrap())
}

#[test]
fn records_name_the_filter_and_the_guests_level() {
    let mut guest = Guest::new();
    guest.call("_initialize", "proxy_log", &[Int(2), Bytes(b"starting")]);
    for level in 0..=5 {
        guest.call("proxy_on_tick", "proxy_log", &[Int(level), Bytes(b"text")]);
    }
    let too_high = guest.call("proxy_on_tick", "proxy_log", &[Int(6), Bytes(b"text")]);
    let lines = recorded(Level::TRACE, &guest, |run| {
        run.vm.on_tick(run.root).unwrap();
        assert_eq!(run.status(&too_high), 2);
    });
    let expected = [
        "INFO message=starting filter=shop/hello guest_level=info",
        "TRACE message=text filter=shop/hello guest_level=trace",
        "DEBUG message=text filter=shop/hello guest_level=debug",
        "INFO message=text filter=shop/hello guest_level=info",
        "WARN message=text filter=shop/hello guest_level=warn",
        "ERROR message=text filter=shop/hello guest_level=error",
        "ERROR message=text filter=shop/hello guest_level=critical",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_log_level_follows_the_hosts() {
    let mut guest = Guest::new();
    let level = guest.call("proxy_on_tick", "proxy_get_log_level", &[Out]);
    for (host, expected) in [
        (Level::TRACE, 0),
        (Level::DEBUG, 1),
        (Level::INFO, 2),
        (Level::WARN, 3),
        (Level::ERROR, 4),
    ] {
        recorded(host, &guest, |run| {
            run.vm.on_tick(run.root).unwrap();
            assert_eq!((run.status(&level), run.out(&level, 0)), (0, expected));
        });
    }
}

#[test]
fn long_lines_are_cut_and_bytes_made_text() {
    let mut guest = Guest::new();
    guest.call(
        "proxy_on_tick",
        "proxy_log",
        &[Int(2), Bytes(&[b'x'; 5000])],
    );
    guest.call("proxy_on_tick", "proxy_log", &[Int(2), Bytes(b"a\xffb")]);
    let lines = recorded(Level::INFO, &guest, |run| run.vm.on_tick(run.root).unwrap());
    assert!(lines[0].contains("x… (904 bytes more)"), "{}", lines[0]);
    assert!(lines[1].contains("message=a\u{fffd}b"), "{}", lines[1]);
}

#[test]
fn a_flood_of_lines_is_cut() {
    let mut guest = Guest::new();
    guest.extra = "(global $n (mut i32) (i32.const 0))".to_owned();
    guest.raw(
        "proxy_on_tick",
        "(loop $again
            (drop (call $proxy_log (i32.const 2) (i32.const 0) (i32.const 1)))
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (global.get $n) (i32.const 20000))))",
    );
    let mut limits = super::guest::vm_config();
    limits.limits.call_timeout = std::time::Duration::from_secs(60);
    let recorder = Recorder {
        level: Level::INFO,
        lines: Arc::default(),
    };
    let lines = Arc::clone(&recorder.lines);
    tracing::subscriber::with_default(recorder, || {
        let mut run = guest.start_with(limits, super::guest::plugin());
        run.vm.on_tick(run.root).unwrap();
    });
    // 500 in each second, however many of those the loop takes.
    let lines = lines.lock().unwrap();
    assert!(lines.len() < 20_000, "{}", lines.len());
    assert!(lines.len() >= 500);
}
