//! Holds the request's body and replaces it; puts something before and after the response's.
#![cfg(target_arch = "wasm32")]

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use tidegate_wasm_guest_programs::Requests;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Requests(|| Box::new(Filter { started: false }))));
}}

struct Filter {
    started: bool,
}

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !end_of_stream {
            return Action::Pause;
        }
        let body = self.get_http_request_body(0, size).unwrap_or_default();
        self.set_http_request_body(0, size, &body.to_ascii_uppercase());
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !self.started {
            self.started = true;
            self.set_http_response_body(0, 0, b"<");
        }
        if end_of_stream {
            self.set_http_response_body(size + 1, 0, b">");
        }
        Action::Continue
    }
}
