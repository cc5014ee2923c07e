//! Reads two request headers and adds one to the response: the usual small filter.
#![cfg(target_arch = "wasm32")]

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use tidegate_wasm_guest_programs::Requests;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Requests(|| Box::new(Filter { seen: false }))));
}}

struct Filter {
    seen: bool,
}

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let path = self.get_http_request_header(":path");
        let agent = self.get_http_request_header("user-agent");
        self.seen = path.is_some() && agent.is_some();
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.add_http_response_header("x-seen", if self.seen { "yes" } else { "no" });
        Action::Continue
    }
}
