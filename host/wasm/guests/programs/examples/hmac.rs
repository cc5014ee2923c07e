//! Checks an HMAC-SHA256 of the path in a header, as for signed links: 403 if it is not right.
#![cfg(target_arch = "wasm32")]

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use sha2::{Digest, Sha256};
use tidegate_wasm_guest_programs::Requests;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Requests(|| Box::new(Filter))));
}}

const KEY: &[u8; 64] = &[7; 64];

struct Filter;

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        let given = self.get_http_request_header("x-signature");
        if given.as_deref() == Some(&signature(path.as_bytes())) {
            return Action::Continue;
        }
        self.send_http_response(403, vec![], Some(b"bad signature"));
        Action::Pause
    }
}

/// RFC 2104, in hexadecimal.
fn signature(message: &[u8]) -> String {
    let inner = Sha256::new()
        .chain_update(KEY.map(|byte| byte ^ 0x36))
        .chain_update(message)
        .finalize();
    let outer = Sha256::new()
        .chain_update(KEY.map(|byte| byte ^ 0x5c))
        .chain_update(inner)
        .finalize();
    outer
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
