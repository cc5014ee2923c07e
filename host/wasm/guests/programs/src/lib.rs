//! What the guest programs share: the way from a plugin's name to its contexts. Empty but on wasm32.

#[cfg(target_arch = "wasm32")]
mod roots {
    use proxy_wasm::traits::{Context, HttpContext, RootContext};
    use proxy_wasm::types::ContextType;

    /// A root context that only makes the contexts of requests.
    pub struct Requests(pub fn() -> Box<dyn HttpContext>);

    impl Context for Requests {}

    impl RootContext for Requests {
        fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
            Some((self.0)())
        }

        fn get_type(&self) -> Option<ContextType> {
            Some(ContextType::HttpContext)
        }
    }
}

#[cfg(target_arch = "wasm32")]
pub use roots::Requests;
