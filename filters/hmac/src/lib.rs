//! Bundled filter `hmac`: signed requests (HMAC). See README.md.

pub mod policy;

use tidegate_sdk::template::Asked;
use tidegate_sdk::{ConfigError, Filter, Reply, Request, time};

use policy::Policy;

tidegate_sdk::filter!(Plugin, "../schema.json");

/// The filter.
#[derive(Debug)]
pub struct Plugin(Policy);

impl Filter for Plugin {
    type Memo = ();

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        Policy::parse(configuration).map(Self)
    }

    async fn request(&self, request: &Request) -> Result<(), Reply> {
        let headers = request.headers();
        let signed = self.0.read(&|name| headers.values(name), time::now())?;
        let asked = Asked {
            request,
            trusted_hops: 0,
        };
        // Before the body: afterwards the head is gone.
        let around = self.0.around(&signed, &asked);
        if let Some(name) = self.0.forward_key() {
            match self.0.named_key(&signed) {
                Some(key) => headers.set(name, key),
                None => headers.remove(name),
            }
        }
        let body = match (self.0.signs_body(), self.0.holds_head()) {
            (false, _) => Vec::new(),
            (true, false) => request.body(self.0.max_body()).await?,
            (true, true) => request.body_before_head(self.0.max_body()).await?,
        };
        self.0.verify(&signed, &around, &body)
    }
}
