//! What guests log while cases run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer};

/// Lines of guests in this process, by `namespace/name` of their Filter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guests(Arc<Mutex<HashMap<String, Vec<String>>>>);

impl Guests {
    /// The lines of this process.
    pub(crate) fn of_process() -> &'static Self {
        static LINES: std::sync::LazyLock<Guests> = std::sync::LazyLock::new(Guests::default);
        &LINES
    }

    /// One more line.
    pub(crate) fn push(&self, filter: &str, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.entry(filter.to_owned()).or_default().push(line);
    }

    /// The lines of a filter so far.
    pub(crate) fn of(&self, filter: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.get(filter).cloned().unwrap_or_default()
    }
}

impl<S: tracing::Subscriber> Layer<S> for Guests {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "guest" {
            let mut said = Said::default();
            event.record(&mut said);
            self.push(&said.filter, said.text);
        }
    }
}

#[derive(Default)]
struct Said {
    filter: String,
    text: String,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "filter" {
            value.clone_into(&mut self.filter);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.text = format!("{value:?}"),
            // Given as something that displays, quotes and all.
            "filter" => self.filter = format!("{value:?}").trim_matches('"').to_owned(),
            _ => {}
        }
    }
}
