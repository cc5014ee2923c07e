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

/// Makes `F` the filter of this module. Called by [`filter!`](crate::filter!).
pub fn start<F: Filter>() {
    runtime::register::<F>();
}

/// Makes a crate a proxy-wasm module or a component of one filter, by the target it is built for, with its JSON Schema in the
/// custom section `tidegate.config.schema`.
///
/// Exists on wasm32 alone: elsewhere the crate is an ordinary library that tests use with [`mock`](crate::mock).
#[macro_export]
macro_rules! filter {
    ($filter:ident, $schema:literal) => {
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
                $crate::start::<super::$filter>();
            }

            #[unsafe(link_section = "tidegate.config.schema")]
            static CONFIG_SCHEMA: [u8; include_bytes!($schema).len()] = *include_bytes!($schema);
        }
    };
}
