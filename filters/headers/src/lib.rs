//! Bundled filter `headers`: sets, adds and removes headers, with templates over the request. See README.md.

pub mod policy;

use tidegate_sdk::template::Asked;
use tidegate_sdk::{ConfigError, Filter, Headers, Reply, Request, Response};

use policy::{Edit, Policy};

tidegate_sdk::filter!(Plugin, "../schema.json", heads);

/// The filter.
#[derive(Debug)]
pub struct Plugin(Policy);

impl Filter for Plugin {
    /// Edits of the response, made when the request was there to be asked.
    type Memo = Vec<Edit>;

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        Policy::parse(configuration).map(Self)
    }

    async fn request(&self, request: &Request) -> Result<Vec<Edit>, Reply> {
        let asked = Asked {
            request,
            trusted_hops: self.0.trusted_hops(),
        };
        // Both before any change: what templates see is what the client sent.
        let of_request = self.0.request_edits(&asked);
        let of_response = self.0.response_edits(&asked);
        apply(request.headers(), &of_request);
        Ok(of_response)
    }

    async fn response(&self, response: &Response, edits: Vec<Edit>) -> Result<(), Reply> {
        if self.0.applies_to(response.status()) {
            apply(response.headers(), &edits);
        }
        Ok(())
    }
}

fn apply(headers: Headers, edits: &[Edit]) {
    for edit in edits {
        match edit {
            Edit::Remove(name) => headers.remove(name),
            Edit::RemovePrefix(prefix) => remove_prefix(headers, prefix),
            Edit::Set(name, value) => headers.set(name, value),
            Edit::Add(name, value) => headers.add(name, value),
            Edit::Default(name, value) => {
                if headers.get(name).is_none() {
                    headers.set(name, value);
                }
            }
        }
    }
}

fn remove_prefix(headers: Headers, prefix: &str) {
    let mut names: Vec<_> = headers.pairs().into_iter().map(|(name, _)| name).collect();
    names.retain(|name| name.to_ascii_lowercase().starts_with(prefix.as_bytes()));
    names.dedup();
    for name in names
        .iter()
        .filter_map(|name| std::str::from_utf8(name).ok())
    {
        headers.remove(name);
    }
}
