//! What a filter is.

use std::future::Future;

use crate::{ConfigError, Reply, Request, Response, runtime};

/// A filter under one configuration. Its methods are polled by the host's callbacks; all of a VM runs on one thread, so state
/// that outlives a request needs a `Cell` or `RefCell`, and no borrow of one may be held across an `await`.
pub trait Filter: Sized + 'static {
    /// What the request's part leaves for the response's part: `()` for nothing.
    type Memo: 'static;

    /// Reads the configuration, empty when there is none.
    ///
    /// # Errors
    ///
    /// A configuration that the filter refuses. The host goes on with the last one that was good.
    fn configure(configuration: &[u8]) -> Result<Self, ConfigError>;

    /// Decides about a request, and changes it. The request is held while this waits for a call or a timer; while it waits for
    /// the body, see [`Request::body`].
    ///
    /// # Errors
    ///
    /// The reply that answers the request instead of the upstream. [`response`](Self::response) does not see it.
    fn request(&self, request: &Request) -> impl Future<Output = Result<Self::Memo, Reply>>;

    /// Changes the response to a request that went on: the upstream's, or one that a filter behind this one or the host made.
    ///
    /// # Errors
    ///
    /// The reply that replaces the response.
    fn response(
        &self,
        response: &Response,
        memo: Self::Memo,
    ) -> impl Future<Output = Result<(), Reply>> {
        let _ = (response, memo);
        std::future::ready(Ok(()))
    }
}

/// What a filter takes part in, see [`filter!`](crate::filter!).
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Heads, at once.
    Heads,
    /// All that there is.
    All,
}

/// Makes `F` the filter of this module. Called by [`filter!`](crate::filter!).
#[doc(hidden)]
pub fn start<F: Filter>(part: Part) {
    runtime::register::<F>(part);
}

/// Makes a crate a proxy-wasm module or a component of one filter, by the target it is built for, with its JSON Schema in the
/// custom section `tidegate.config.schema`.
///
/// `filter!(Plugin, "../schema.json", heads)` is for a filter that decides by heads, and at once: it awaits nothing and sees no
/// body. Its module has no callbacks for those, so that hosts do not call it for each piece of a body, which may be most of what
/// it costs. One that awaits all the same traps when it does.
///
/// Exists on wasm32 alone: elsewhere the crate is an ordinary library that tests use with [`mock`](crate::mock).
#[macro_export]
macro_rules! filter {
    ($filter:ident, $schema:literal) => {
        $crate::filter!(@module $filter, $schema, All, {
            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_tick(_root: u32) {
                $crate::abi::callbacks::tick();
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_request_body(context: u32, _size: usize, end_of_stream: bool) -> u32 {
                $crate::abi::callbacks::request_body(context, end_of_stream)
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_request_trailers(context: u32, _count: usize) -> u32 {
                $crate::abi::callbacks::request_trailers(context)
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_response_body(context: u32, _size: usize, end_of_stream: bool) -> u32 {
                $crate::abi::callbacks::response_body(context, end_of_stream)
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_response_trailers(context: u32, _count: usize) -> u32 {
                $crate::abi::callbacks::response_trailers(context)
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_http_call_response(
                _root: u32,
                token: u32,
                _headers: usize,
                _body: usize,
                _trailers: usize,
            ) {
                $crate::abi::callbacks::http_call_response(token);
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_grpc_receive(_root: u32, token: u32, _size: usize) {
                $crate::abi::callbacks::grpc_receive(token);
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_grpc_close(_root: u32, token: u32, status: u32) {
                $crate::abi::callbacks::grpc_close(token, status);
            }
        });
    };
    ($filter:ident, $schema:literal, heads) => {
        $crate::filter!(@module $filter, $schema, Heads, {});
    };
    (@module $filter:ident, $schema:literal, $part:ident, { $($callbacks:tt)* }) => {
        #[cfg(target_arch = "wasm32")]
        mod module {
            unsafe extern "C" {
                fn __wasm_call_ctors();
            }

            /// Called once, before anything else.
            #[unsafe(no_mangle)]
            pub extern "C" fn _initialize() {
                // SAFETY: the linker makes it, and hosts call _initialize once.
                unsafe { __wasm_call_ctors() };
                $crate::start::<super::$filter>($crate::Part::$part);
            }

            #[unsafe(link_section = "tidegate.config.schema")]
            static CONFIG_SCHEMA: [u8; include_bytes!($schema).len()] = *include_bytes!($schema);

            /// A component's come with its world.
            #[cfg(not(target_env = "p2"))]
            mod callbacks {
                $($callbacks)*
            }
        }
    };
}
