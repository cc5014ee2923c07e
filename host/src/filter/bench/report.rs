//! The figures, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::Way;
use crate::args::Output;
use crate::filter::arguments::Bench;

/// What was measured.
pub(super) struct Figures {
    pub(super) bytes: usize,
    pub(super) is_component: bool,
    pub(super) compiled: Duration,
    pub(super) started: Duration,
    pub(super) linear_memory: usize,
    pub(super) resident: Option<usize>,
    /// All requests in one VM.
    pub(super) together: Way,
    /// Each request by itself.
    pub(super) apart: Way,
    /// Why each request boots a VM of its own there, if it does.
    pub(super) boots: Option<String>,
}

impl Figures {
    pub(super) fn print(&self, arguments: &Bench) -> anyhow::Result<()> {
        match arguments.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&self.json(arguments))?),
            Output::Text => self.text(arguments),
        }
        Ok(())
    }

    fn json(&self, arguments: &Bench) -> Value {
        let way = |way: &Way| {
            json!({"nanosecondsPerRequest": way.nanoseconds().round(), "requests": way.requests,
                "replied": way.replied, "held": way.held, "calls": way.calls})
        };
        let mut request = way(&self.apart);
        request["bootsForEach"] = json!(self.boots);
        json!({
            "module": arguments.module,
            "bytes": self.bytes,
            "form": self.form(),
            "compileMs": milliseconds(self.compiled),
            "startMs": milliseconds(self.started),
            "linearMemoryBytes": self.linear_memory,
            "residentBytes": self.resident,
            "isolation": {"Shared": way(&self.together), "Request": request},
            "debug": cfg!(debug_assertions),
        })
    }

    fn text(&self, arguments: &Bench) {
        let row = |name: &str, value: String| println!("{name:<28}{value}");
        row(
            "module",
            format!(
                "{} ({}, {} KiB)",
                arguments.module,
                self.form(),
                self.bytes.div_ceil(1024)
            ),
        );
        row(
            "compile",
            format!("{:>10.1} ms", milliseconds(self.compiled)),
        );
        row(
            "start and configure",
            format!("{:>10.2} ms", milliseconds(self.started)),
        );
        row(
            "linear memory of a VM",
            format!("{:>10} KiB", self.linear_memory / 1024),
        );
        if let Some(resident) = self.resident {
            row(
                "resident memory of a VM",
                format!("{:>10} KiB", resident / 1024),
            );
        }
        for (name, way) in [
            ("isolation: Shared", &self.together),
            ("isolation: Request", &self.apart),
        ] {
            row(
                name,
                format!("{:>10.0} ns for each request", way.nanoseconds()),
            );
        }
        if let Some(reason) = &self.boots {
            println!("note: with isolation: Request each request boots a VM of its own: {reason}");
        }
        let way = &self.together;
        if way.replied > 0 {
            println!(
                "note: the filter answered {} of {} requests itself; -X, --target and -H make others",
                way.replied, way.requests
            );
        }
        if way.held > 0 {
            println!(
                "note: the filter held {} of {} requests, for a call or a timer; what follows is not measured",
                way.held, way.requests
            );
        }
        if way.calls > 0 {
            println!(
                "note: {} calls of {} requests were answered at once; what a network adds is not measured",
                way.calls, way.requests
            );
        }
        if cfg!(debug_assertions) {
            println!(
                "note: this tidegate is a debug build; one built with --release is several times quicker"
            );
        }
    }

    fn form(&self) -> &'static str {
        if self.is_component {
            "component"
        } else {
            "module"
        }
    }
}

/// Proportional set size of this process, where the system tells it.
pub(super) fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    let kibibytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}
