//! Writes down every step of its life in shared data; the root leaves only when a tick tells it to.
#![cfg(target_arch = "wasm32")]

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

fn note(step: &str) {
    let known = hostcalls::get_shared_data("steps")
        .ok()
        .and_then(|(steps, _)| steps);
    let mut steps = known.unwrap_or_default();
    steps.extend_from_slice(step.as_bytes());
    steps.push(b' ');
    // A failure shows in the host's test: the step is missing.
    let _ = hostcalls::set_shared_data("steps", Some(&steps), None);
}

struct Root;

impl Context for Root {
    fn on_done(&mut self) -> bool {
        note("root-done");
        false
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        note("root-deleted");
    }
}

impl RootContext for Root {
    fn on_vm_start(&mut self, size: usize) -> bool {
        let config = self.get_vm_configuration().unwrap_or_default();
        note(&format!("vm-start:{size}={}", config.len()));
        true
    }

    fn on_configure(&mut self, size: usize) -> bool {
        let config = self.get_plugin_configuration().unwrap_or_default();
        note(&format!("configure:{size}={}", config.len()));
        config != b"refuse"
    }

    fn on_tick(&mut self) {
        self.done();
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        note("created");
        Some(Box::new(Filter))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Filter;

impl Context for Filter {
    fn on_done(&mut self) -> bool {
        note("done");
        true
    }
}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        note("request");
        let steps = self.get_shared_data("steps").0.unwrap_or_default();
        self.set_http_request_header_bytes("x-steps", Some(&steps));
        Action::Continue
    }

    fn on_log(&mut self) {
        note("log");
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        note("deleted");
    }
}
