//! The filter of `bench/header-filter` with the crate `proxy-wasm`, which exports every callback there is, wanted or not. Empty but
//! on wasm32.

#[cfg(target_arch = "wasm32")]
mod filter {
    use proxy_wasm::traits::{Context, HttpContext, RootContext};
    use proxy_wasm::types::{Action, ContextType, LogLevel};

    proxy_wasm::main! {{
        proxy_wasm::set_log_level(LogLevel::Warn);
        proxy_wasm::set_root_context(|_| Box::new(Root));
    }}

    struct Root;

    impl Context for Root {}

    impl RootContext for Root {
        fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
            Some(Box::new(Filter { seen: false }))
        }

        fn get_type(&self) -> Option<ContextType> {
            Some(ContextType::HttpContext)
        }
    }

    struct Filter {
        seen: bool,
    }

    impl Context for Filter {}

    impl HttpContext for Filter {
        fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
            let path = self.get_http_request_header(":path");
            let agent = self.get_http_request_header("user-agent");
            self.seen = path.is_some() && agent.is_some();
            Action::Continue
        }

        fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
            self.add_http_response_header("x-bench", if self.seen { "yes" } else { "no" });
            Action::Continue
        }
    }
}
