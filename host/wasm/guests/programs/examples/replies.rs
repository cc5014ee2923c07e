//! Answers, answers as gRPC, resets, or pauses, by the path; on_log says what became of it.
#![cfg(target_arch = "wasm32")]

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, GrpcStatusCode};
use tidegate_wasm_guest_programs::Requests;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Requests(|| Box::new(Filter))));
}}

struct Filter;

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        match self.get_http_request_header(":path").as_deref() {
            Some("/deny") => {
                self.send_http_response(403, vec![("x-reason", "policy")], Some(b"denied"));
                Action::Pause
            }
            Some("/grpc") => {
                let status = GrpcStatusCode::PermissionDenied;
                let sent = hostcalls::send_grpc_response(status, Some("no"), vec![]);
                if sent.is_err() {
                    self.reset_http_request();
                }
                Action::Pause
            }
            Some("/reset") => {
                self.reset_http_request();
                Action::Pause
            }
            Some("/wait") => Action::Pause,
            _ => Action::Continue,
        }
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        match self.get_http_response_header("x-reset") {
            Some(_) => {
                self.reset_http_response();
                Action::Pause
            }
            None => Action::Continue,
        }
    }

    fn on_log(&mut self) {
        let code = self.get_property(vec!["response", "code"]);
        self.set_property(vec!["logged"], code.as_deref());
    }
}
