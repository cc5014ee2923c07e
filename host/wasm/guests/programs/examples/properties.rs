//! Reads attributes, and sets one that others can read.
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
        let text = |path: &[&str]| {
            let value = self.get_property(path.to_vec()).unwrap_or_default();
            String::from_utf8_lossy(&value).into_owned()
        };
        let port = self.get_property(vec!["source", "port"]);
        let port = port.and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?)));
        let absent = self.get_property(vec!["response", "code"]).is_none();
        self.set_property(vec!["team"], Some(b"shop"));
        let said = [
            text(&["request", "path"]),
            text(&["plugin_name"]),
            text(&["plugin_root_id"]),
            text(&["team"]),
            text(&["filter_state", "wasm.team"]),
            format!("{port:?} {absent}"),
        ];
        self.set_http_request_header("x-said", Some(&said.join("|")));
        Action::Continue
    }
}
