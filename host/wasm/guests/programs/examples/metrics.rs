//! A counter, a gauge and a histogram.
#![cfg(target_arch = "wasm32")]

use proxy_wasm::hostcalls::{define_metric, get_metric, increment_metric, record_metric};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, MetricType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

#[derive(Clone, Copy, Default)]
struct Root {
    hits: u32,
    busy: u32,
    sizes: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let define = |kind, name| define_metric(kind, name).unwrap_or_default();
        self.hits = define(MetricType::Counter, "hits");
        self.busy = define(MetricType::Gauge, "busy");
        self.sizes = define(MetricType::Histogram, "sizes");
        self.hits != 0 && self.busy != 0 && self.sizes != 0
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Filter(*self)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Filter(Root);

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, count: usize, _: bool) -> Action {
        let results = [
            increment_metric(self.0.hits, 2),
            increment_metric(self.0.busy, 5),
            increment_metric(self.0.busy, -2),
            record_metric(self.0.sizes, count as u64),
        ];
        let fine = results.iter().all(Result::is_ok);
        let hits = get_metric(self.0.hits).unwrap_or_default();
        let busy = get_metric(self.0.busy).unwrap_or_default();
        self.set_http_request_header("x-metrics", Some(&format!("{fine} {hits} {busy}")));
        if record_metric(self.0.busy, 1).is_err() {
            self.set_http_request_header("x-metrics", Some("the gauge was not set"));
        }
        Action::Continue
    }
}
