//! Counts requests in shared data with compare-and-swap, over all VMs.
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
        loop {
            let (value, cas) = self.get_shared_data("count");
            let count = value.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
            let next = (count.unwrap_or(0_u32) + 1).to_string();
            if self
                .set_shared_data("count", Some(next.as_bytes()), cas)
                .is_ok()
            {
                // With the number of before it is a mismatch now.
                let stale = cas.map(|cas| self.set_shared_data("count", Some(b"0"), Some(cas)));
                let refused = stale.is_none_or(|set| set.is_err());
                self.set_http_request_header("x-count", Some(&format!("{next} {refused}")));
                return Action::Continue;
            }
        }
    }
}
