//! This host: the gateway in process, one hostname for each case.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use tidegate_testing::{Gateway, manifests};
use tidegate_wasm::MetricValue;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::case::Case;
use crate::exchange::Host;
use crate::journal::{Journal, Line};
use crate::modules;
use crate::upstream::Upstream;

/// Name of the suite's own threads. What guests log there is from the try-out of a module, not from a worker.
pub const SUITE_THREAD: &str = "suite";

/// The gateway, and the upstreams of all cases.
#[derive(Debug)]
pub struct Here {
    gateway: Gateway,
    journal: Arc<Journal>,
    upstreams: HashMap<String, Upstream>,
    callouts: HashMap<String, Upstream>,
}

impl Here {
    /// Starts it with routes, filters and upstreams of all cases.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(cases: &[Case]) -> Self {
        let journal = journal();
        let mut upstreams = HashMap::new();
        let mut callouts = HashMap::new();
        let mut builder = Gateway::builder();
        let mut used: Vec<&str> = Vec::new();
        let mut text = manifests::GATEWAY.to_owned();
        // A port where nobody listens.
        text.push_str(&manifests::service(
            "dead",
            &[SocketAddr::from(([127, 0, 0, 1], 1))],
        ));
        for case in cases {
            let plugins: Vec<String> = (0..case.plugins.len())
                .map(|at| case.plugin_name(at))
                .collect();
            let upstream =
                Upstream::start(case.upstream.clone(), journal.clone(), plugins.clone()).await;
            text.push_str(&manifests::service(
                &format!("up-{}", case.case),
                &[upstream.address()],
            ));
            upstreams.insert(case.case.clone(), upstream);
            if let Some(callout) = case.start_callout(&journal).await {
                text.push_str(&manifests::service(
                    &format!("callout-{}", case.case),
                    &[callout.address()],
                ));
                callouts.insert(case.case.clone(), callout);
            }
            for at in 0..case.plugins.len() {
                let module = case.plugins[at].module.as_str();
                if !used.contains(&module) {
                    used.push(module);
                    let bytes = std::fs::read(modules::path(module)).expect("it was built");
                    builder = builder.file(&format!("{module}.wasm"), bytes);
                }
                // Writing to a String cannot fail; JSON is YAML.
                let _ = write!(text, "---\n{}\n", filter(case, at));
            }
            text.push_str(&route(case, &plugins));
        }
        let gateway = builder.start(&text).await;
        Self {
            gateway,
            journal,
            upstreams,
            callouts,
        }
    }

    /// The gateway itself.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }
}

impl Host for Here {
    fn address(&self, _: &Case) -> SocketAddr {
        self.gateway.http()
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
        let samples = self.gateway.shared().metrics();
        let sample = samples.iter().find(|sample| sample.name == name);
        sample.map_or_else(String::new, |sample| match &sample.value {
            MetricValue::Counter(value) => value.to_string(),
            MetricValue::Gauge(value) => value.to_string(),
            MetricValue::Histogram(_) => "a histogram".into(),
        })
    }
}

fn route(case: &Case, plugins: &[String]) -> String {
    let names: Vec<&str> = plugins.iter().map(String::as_str).collect();
    let filters = if names.is_empty() {
        String::new()
    } else {
        manifests::filters(&names)
    };
    let rules = format!(
        "[{{name: route, backendRefs: [{{name: up-{}, port: 80}}]{filters}}}]",
        case.case
    );
    manifests::route(&case.case, &[&case.host()], &rules)
}

fn filter(case: &Case, at: usize) -> Value {
    let plugin = &case.plugins[at];
    let callout = if case.callout.is_empty() && case.grpc.is_empty() {
        "dead".to_owned()
    } else {
        format!("callout-{}", case.case)
    };
    let mut spec = json!({
        "module": {"file": format!("./{}.wasm", plugin.module)},
        "rootId": case.root_id(at),
        "vm": {"id": case.vm_id(at), "env": plugin.env},
        "failurePolicy": if plugin.open { "Open" } else { "Closed" },
        "headersWaitForBody": plugin.wait_for_body,
        "clusters": [{"name": format!("callout-{}", case.case), "backendRef": {"name": callout, "port": 80}}],
    });
    if let Some(config) = case.plugin_config(at) {
        spec["config"] = json!(config);
    }
    if let Some(config) = &plugin.vm_config {
        spec["vm"]["config"] = json!(case.config(config));
    }
    json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "Filter",
        "metadata": {"name": case.plugin_name(at)}, "spec": spec,
    })
}

/// The process's journal of guests: log records with target `guest` go there.
fn journal() -> Arc<Journal> {
    static JOURNAL: OnceLock<Arc<Journal>> = OnceLock::new();
    let journal = JOURNAL.get_or_init(|| {
        let journal = Journal::new();
        let subscriber = tracing_subscriber::registry().with(Guests(journal.clone()));
        tracing::subscriber::set_global_default(subscriber).expect("nobody else has set one");
        journal
    });
    journal.clone()
}

struct Guests(Arc<Journal>);

impl<S: tracing::Subscriber> Layer<S> for Guests {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // Envoy runs with debug, too.
        *metadata.level() <= tracing::Level::DEBUG
            && (metadata.target() == "guest" || *metadata.level() <= tracing::Level::WARN)
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        if event.metadata().target() != "guest" {
            eprintln!("tidegate: {} {}", said.text, said.rest);
        } else if std::thread::current().name() != Some(SUITE_THREAD) {
            let plugin = said
                .filter
                .strip_prefix("default/")
                .unwrap_or(&said.filter)
                .to_owned();
            let level = if said.level == "warn" {
                "warning".to_owned()
            } else {
                said.level
            };
            self.0.push(Line {
                plugin,
                level,
                text: said.text,
            });
        }
    }
}

#[derive(Default)]
struct Said {
    filter: String,
    level: String,
    text: String,
    rest: String,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "filter" => self.filter = value.to_owned(),
            "guest_level" => self.level = value.to_owned(),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.text = format!("{value:?}");
        } else {
            let _ = write!(self.rest, "{}={value:?} ", field.name());
        }
    }
}
