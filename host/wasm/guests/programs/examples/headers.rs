//! Heads and trailers in all ways: one, all, set, add, remove, replace all.
#![cfg(target_arch = "wasm32")]

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use tidegate_wasm_guest_programs::Requests;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Requests(|| Box::new(Filter))));
}}

struct Filter;

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, count: usize, _: bool) -> Action {
        let all = self.get_http_request_headers();
        let one = self.get_http_request_header("X-One").unwrap_or_default();
        self.set_http_request_header("x-said", Some(&format!("{count} {} {one}", all.len())));
        self.add_http_request_header("x-many", "1");
        self.add_http_request_header("x-many", "2");
        self.set_http_request_header("x-one", Some("changed"));
        self.remove_http_request_header("user-agent");
        self.set_http_request_header_bytes("x-bytes", Some(b"\xe4"));
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, count: usize) -> Action {
        let all = self.get_http_request_trailers();
        self.add_http_request_trailer("x-count", &format!("{count} {}", all.len()));
        self.remove_http_request_trailer("x-gone");
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        let status = self.get_http_response_header(":status").unwrap_or_default();
        self.set_http_response_headers(vec![(":status", "201"), ("x-was", &status)]);
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, count: usize) -> Action {
        let all = self.get_http_response_trailers().len();
        let one = self.get_http_response_trailer("x-t").unwrap_or_default();
        self.set_http_response_trailers(vec![("x-all", &format!("{count} {all} {one}"))]);
        Action::Continue
    }
}
