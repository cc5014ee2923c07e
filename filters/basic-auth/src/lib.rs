//! Bundled filter `basic-auth`: HTTP basic authentication against htpasswd hashes. See README.md.

pub mod policy;

use tidegate_sdk::{ConfigError, Filter, Reply, Request, time, warn};

use policy::BasicAuth;

tidegate_sdk::filter!(Plugin, "../schema.json", heads);

/// The filter.
#[derive(Debug)]
pub struct Plugin(BasicAuth);

impl Filter for Plugin {
    type Memo = ();

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)
            .map_err(|error| ConfigError::new("", format!("no random numbers: {error}")))?;
        let auth = BasicAuth::parse(configuration, secret)?;
        for warning in auth.warnings() {
            warn!("{warning}");
        }
        Ok(Self(auth))
    }

    async fn request(&self, request: &Request) -> Result<(), Reply> {
        let headers = request.headers();
        let now = u64::try_from(time::now().as_nanos()).unwrap_or(u64::MAX);
        let user = self.0.authenticate(&headers.values("authorization"), now)?;
        if let Some(name) = self.0.forward_user() {
            headers.set(name, user);
        }
        if self.0.strips_authorization() {
            headers.remove("authorization");
        }
        Ok(())
    }
}
