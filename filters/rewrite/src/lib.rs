//! Bundled filter `rewrite`: rewrites of path, query and host with regular expressions. See README.md.

pub mod policy;

#[cfg(target_arch = "wasm32")]
mod glue {
    //! The proxy-wasm side.

    use std::rc::Rc;

    use proxy_wasm::traits::{Context, HttpContext};
    use proxy_wasm::types::Action;
    use tidegate_filter_common::ConfigError;
    use tidegate_filter_common::glue::{self, Filter};

    use crate::policy::{Outcome, Rewrite};

    tidegate_filter_common::filter!(Plugin, "../schema.json");

    struct Plugin(Rc<Rewrite>);

    impl Filter for Plugin {
        type Stream = Stream;

        fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
            Rewrite::parse(configuration).map(Rc::new).map(Self)
        }

        fn stream(&self) -> Stream {
            Stream(Rc::clone(&self.0))
        }
    }

    struct Stream(Rc<Rewrite>);

    impl Context for Stream {}

    impl HttpContext for Stream {
        fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
            let path = glue::request_header(":path").unwrap_or_default();
            let host = glue::request_header(":authority").unwrap_or_default();
            match self.0.apply(&path, &host) {
                Outcome::Pass { path, host } => {
                    for (name, value) in [(":path", path), (":authority", host)] {
                        if let Some(value) = value {
                            glue::set_request_header(name, Some(&value));
                        }
                    }
                    Action::Continue
                }
                Outcome::Refuse(reply) => glue::send(&reply),
            }
        }
    }
}
