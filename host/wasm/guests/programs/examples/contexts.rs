//! Requests wait until a tick of their root lets them go on: the root acts on another context.
#![cfg(target_arch = "wasm32")]

use std::cell::RefCell;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, MapType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

thread_local! {
    static WAITING: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn on_tick(&mut self) {
        for id in WAITING.take() {
            if hostcalls::set_effective_context(id).is_ok() {
                let map = MapType::HttpRequestHeaders;
                let added = hostcalls::add_map_value(map, "x-released", &id.to_string());
                let resumed = hostcalls::resume_http_request();
                log::info!("{added:?} {resumed:?}");
            }
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Filter(id)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Filter(u32);

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        WAITING.with_borrow_mut(|waiting| waiting.push(self.0));
        Action::Pause
    }
}
