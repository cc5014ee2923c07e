//! Bundled filter `basic-auth`: HTTP basic authentication against htpasswd hashes. See README.md.

pub mod policy;

#[cfg(target_arch = "wasm32")]
mod glue {
    //! The proxy-wasm side.

    use std::rc::Rc;

    use proxy_wasm::traits::{Context, HttpContext};
    use proxy_wasm::types::Action;
    use tidegate_filter_common::ConfigError;
    use tidegate_filter_common::glue::{self, Filter};

    use crate::policy::BasicAuth;

    tidegate_filter_common::filter!(Plugin, "../schema.json");

    struct Plugin(Rc<BasicAuth>);

    impl Filter for Plugin {
        type Stream = Stream;

        fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
            let mut secret = [0; 32];
            getrandom::fill(&mut secret)
                .map_err(|error| ConfigError::new("", format!("no random numbers: {error}")))?;
            let auth = BasicAuth::parse(configuration, secret)?;
            for warning in auth.warnings() {
                log::warn!("{warning}");
            }
            Ok(Self(Rc::new(auth)))
        }

        fn stream(&self) -> Stream {
            Stream(Rc::clone(&self.0))
        }
    }

    struct Stream(Rc<BasicAuth>);

    impl Context for Stream {}

    impl HttpContext for Stream {
        fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
            let authorization = glue::request_header_values("authorization");
            match self.0.authenticate(&authorization, glue::now_nanoseconds()) {
                Ok(user) => {
                    if let Some(name) = self.0.forward_user() {
                        glue::set_request_header(name, Some(&user));
                    }
                    if self.0.strips_authorization() {
                        glue::set_request_header("authorization", None);
                    }
                    Action::Continue
                }
                Err(reply) => glue::send(&reply),
            }
        }
    }
}
