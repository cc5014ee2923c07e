//! Requests put their path into a queue; the root takes it out and keeps it in shared data.
#![cfg(target_arch = "wasm32")]

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        self.register_shared_queue("paths") != 0
    }

    fn on_queue_ready(&mut self, queue: u32) {
        while let Ok(Some(item)) = self.dequeue_shared_queue(queue) {
            // A failure shows in the host's test: the value is not there.
            let _ = self.set_shared_data("last", Some(&item), None);
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Filter))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Filter;

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let last = self.get_shared_data("last").0.unwrap_or_default();
        self.set_http_request_header_bytes("x-last", Some(&last));
        let path = self.get_http_request_header_bytes(":path");
        let queue = self.resolve_shared_queue("", "paths");
        let missing = self.resolve_shared_queue("", "nosuch").is_none();
        let sent = queue.map(|queue| self.enqueue_shared_queue(queue, path.as_deref()).is_ok());
        self.set_http_request_header("x-sent", Some(&format!("{sent:?} {missing}")));
        Action::Continue
    }
}
