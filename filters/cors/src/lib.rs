//! Bundled filter `cors`: cross-origin resource sharing as the Gateway API and as ingress-nginx define it. See README.md.

pub mod policy;

#[cfg(target_arch = "wasm32")]
mod glue {
    //! The proxy-wasm side.

    use std::rc::Rc;

    use proxy_wasm::traits::{Context, HttpContext};
    use proxy_wasm::types::Action;
    use tidegate_filter_common::ConfigError;
    use tidegate_filter_common::glue::{self, Filter};

    use crate::policy::{Cors, Decision, Grant, Request};

    tidegate_filter_common::filter!(Plugin, "../schema.json");

    struct Plugin(Rc<Cors>);

    impl Filter for Plugin {
        type Stream = Stream;

        fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
            Cors::parse(configuration).map(Rc::new).map(Self)
        }

        fn stream(&self) -> Stream {
            Stream {
                cors: Rc::clone(&self.0),
                grant: None,
            }
        }
    }

    struct Stream {
        cors: Rc<Cors>,
        /// Absent until a request has gone on: the filter's own replies, and those of filters before it, are left alone.
        grant: Option<Grant>,
    }

    impl Context for Stream {}

    impl HttpContext for Stream {
        fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
            let request = Request {
                method: glue::request_header(":method").unwrap_or_default(),
                origin: glue::request_header_values("origin"),
                request_method: glue::request_header_values("access-control-request-method"),
                request_headers: glue::request_header_values("access-control-request-headers"),
            };
            match self.cors.request(&request) {
                Decision::Reply(reply) => glue::send(&reply),
                Decision::Continue(grant) => {
                    self.grant = Some(grant);
                    Action::Continue
                }
            }
        }

        fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
            if let Some(grant) = &self.grant {
                let vary = glue::response_header_values("vary");
                for (name, value) in self.cors.response(grant, &vary) {
                    glue::set_response_header(name, value.as_deref());
                }
            }
            Action::Continue
        }
    }
}
