//! gRPC calls and streams, chosen by the path: a call, a call that is cancelled, a stream, a stream that is cancelled.
#![cfg(target_arch = "wasm32")]

use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use tidegate_wasm_guest_programs::Requests;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Requests(|| Box::new(Filter { said: String::new() }))));
}}

struct Filter {
    said: String,
}

impl Filter {
    fn finish(&mut self) {
        self.set_http_request_header("x-said", Some(&self.said));
        self.resume_http_request();
    }
}

impl Context for Filter {
    fn on_grpc_call_response(&mut self, _: u32, status: u32, size: usize) {
        let body = self
            .get_grpc_call_response_body(0, size)
            .unwrap_or_default();
        let (code, message) = self.get_grpc_status();
        let body = String::from_utf8_lossy(&body);
        self.said = format!("{status} {body} {code} {}", message.unwrap_or_default());
        self.finish();
    }

    fn on_grpc_stream_initial_metadata(&mut self, _: u32, _: u32) {
        let value = self
            .get_grpc_stream_initial_metadata_value("x-m")
            .unwrap_or_default();
        self.said += &format!("begin {} ", String::from_utf8_lossy(&value));
    }

    fn on_grpc_stream_message(&mut self, token: u32, size: usize) {
        let body = self.get_grpc_stream_message(0, size).unwrap_or_default();
        self.said += &format!("{} ", String::from_utf8_lossy(&body));
        self.close_grpc_stream(token);
    }

    fn on_grpc_stream_trailing_metadata(&mut self, _: u32, _: u32) {
        self.said += &format!("end {} ", self.get_grpc_stream_trailing_metadata().len());
    }

    fn on_grpc_stream_close(&mut self, _: u32, status: u32) {
        let (code, message) = self.get_grpc_status();
        self.said += &format!("closed {status} {code} {}", message.unwrap_or_default());
        self.finish();
    }
}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let call = || {
            let metadata = vec![("x-m", &b"1"[..])];
            let timeout = Duration::from_secs(1);
            self.dispatch_grpc_call("idp", "authz.V1", "Check", metadata, Some(b"ask"), timeout)
        };
        let stream = || self.open_grpc_stream("idp", "authz.V1", "Watch", vec![("x-m", b"1")]);
        let started = match self.get_http_request_header(":path").as_deref() {
            Some("/call") => call(),
            Some("/call-cancelled") => call().inspect(|token| self.cancel_grpc_call(*token)),
            Some("/stream") => stream().inspect(|token| {
                self.send_grpc_stream_message(*token, Some(b"one"), false);
                self.send_grpc_stream_message(*token, Some(b"two"), true);
            }),
            Some("/stream-cancelled") => stream().inspect(|token| self.cancel_grpc_stream(*token)),
            _ => return Action::Continue,
        };
        match started {
            Ok(_) => Action::Pause,
            Err(_) => Action::Continue,
        }
    }
}
