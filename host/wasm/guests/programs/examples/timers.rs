//! Ticks twice, then stops; requests see how often and that time passed.
#![cfg(target_arch = "wasm32")]

use std::time::{Duration, SystemTime};

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root { ticks: 0, since: SystemTime::UNIX_EPOCH }));
}}

struct Root {
    ticks: u32,
    since: SystemTime,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        self.since = self.get_current_time();
        self.set_tick_period(Duration::from_millis(250));
        true
    }

    fn on_tick(&mut self) {
        self.ticks += 1;
        if self.ticks == 2 {
            self.set_tick_period(Duration::ZERO);
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        let later = self.get_current_time() >= self.since && self.since > SystemTime::UNIX_EPOCH;
        Some(Box::new(Filter(format!("{} {later}", self.ticks))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Filter(String);

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.set_http_request_header("x-ticks", Some(&self.0));
        Action::Continue
    }
}
