//! Asks an identity provider before a request goes on.
#![cfg(target_arch = "wasm32")]

use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use tidegate_wasm_guest_programs::Requests;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Requests(|| Box::new(Filter))));
}}

struct Filter;

impl Context for Filter {
    fn on_http_call_response(&mut self, _: u32, headers: usize, body: usize, trailers: usize) {
        let status = self
            .get_http_call_response_header(":status")
            .unwrap_or_default();
        let text = self
            .get_http_call_response_body(0, body)
            .unwrap_or_default();
        let trailer = self
            .get_http_call_response_trailer("x-t")
            .unwrap_or_default();
        let all = self.get_http_call_response_headers().len();
        let both = self.get_http_call_response_trailers().len();
        let said = format!(
            "{status} {} {trailer} {headers}={all} {trailers}={both}",
            String::from_utf8_lossy(&text)
        );
        self.set_http_request_header("x-said", Some(&said));
        if status == "200" {
            self.resume_http_request();
        } else {
            self.send_http_response(503, vec![], Some(b"no answer"));
        }
    }
}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let headers = vec![
            (":method", "POST"),
            (":path", "/check"),
            (":authority", "idp"),
        ];
        let timeout = Duration::from_secs(2);
        match self.dispatch_http_call("idp", headers, Some(b"who"), vec![("x-end", "1")], timeout) {
            Ok(_) => Action::Pause,
            Err(_) => Action::Continue,
        }
    }
}
