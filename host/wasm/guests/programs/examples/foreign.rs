//! Foreign functions: there and back through zlib, an expression, the route cache, one that is not there.
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
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let call = |name: &str, arguments: &[u8]| self.call_foreign_function(name, Some(arguments));
        let text = b"tide gate tide gate tide gate";
        let small = call("compress", text).ok().flatten().unwrap_or_default();
        let back = call("uncompress", &small)
            .ok()
            .flatten()
            .unwrap_or_default();
        let token = call("expr_create", b"request.path")
            .ok()
            .flatten()
            .unwrap_or_default();
        let path = call("expr_evaluate", &token)
            .ok()
            .flatten()
            .unwrap_or_default();
        let gone = call("expr_delete", &token).is_ok();
        let cleared = call("clear_route_cache", b"");
        let unknown = call("no_such_function", b"");
        let said = format!(
            "{} {} {gone} {cleared:?} {unknown:?}",
            small.len() < text.len() && back == text,
            String::from_utf8_lossy(&path)
        );
        self.set_http_request_header("x-said", Some(&said));
        Action::Continue
    }
}
