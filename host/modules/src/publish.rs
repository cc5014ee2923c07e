//! Filters to a registry and back, for whoever builds them: [`push`] and [`pull`].
//!
//! Pulling is what a Filter with `module.image` does, with the same bounds and the same client. Pushing writes what that reads, in
//! the layout that other hosts read too:
//!
//! | Layout | For | Read by |
//! |---|---|---|
//! | [`Layout::Compat`] | proxy-wasm modules | this host, Istio, Envoy Gateway |
//! | [`Layout::Cncf`] | components | this host, wkg, Spin, wasmCloud |

mod error;
mod layout;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_model::{ImageReference, Pull};
use tidegate_wasm::{AbiVersion, Engine};

pub use error::{PublishError, RegistryError};
pub use layout::Layout;

use crate::digest::digest;
use crate::fetch::{FetchError, Fetcher, Reach, Timeouts};
use crate::limits;
use crate::source::MOST_BYTES;
use error::Doing;
use layout::Packed;

/// How a registry is reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Who asks, and who vouches for the registry. `credentials.secret` names where the credentials are from.
    pub pull: Pull,
    /// Plain HTTP and nothing else.
    pub plain_http: bool,
}

/// What a push has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// `sha256:…` of the manifest: what to name in a Filter so that it never becomes another.
    pub manifest: String,
    /// `sha256:…` of the filter itself: `spec.sha256` of a Filter.
    pub module: Arc<str>,
    /// Blobs that the registry did not have.
    pub sent: usize,
    /// Blobs of the image.
    pub blobs: usize,
}

/// What a pull has come to.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The filter.
    pub bytes: Bytes,
    /// `sha256:…` of the manifest.
    pub manifest: Arc<str>,
    /// `sha256:…` of the filter.
    pub module: Arc<str>,
}

/// What a filter is, if this host would load it. Compiles it; blocks.
///
/// # Errors
/// What a Filter with these bytes would say of them.
pub fn check(wasm: &[u8]) -> Result<AbiVersion, PublishError> {
    if wasm.len() as u64 > MOST_BYTES {
        return Err(PublishError::TooLarge);
    }
    limits::check(wasm).map_err(|error| PublishError::Limit(error.to_string()))?;
    let module = Engine::new()?.compile(wasm)?;
    Ok(module.abi())
}

/// Pushes a filter; what the registry has already is not sent. The same bytes in the same layout always have the same digest.
///
/// # Errors
/// What the registry or the way to it refuses, with the remedy in terms of `tidegate filter push`.
pub async fn push(
    image: &ImageReference,
    wasm: Bytes,
    layout: Layout,
    access: &Access,
) -> Result<Pushed, RegistryError> {
    if image.digest().is_some() {
        return Err(RegistryError::digest_given(image));
    }
    let module = digest(&wasm);
    let packing = tokio::task::spawn_blocking(move || Packed::new(&wasm, layout));
    let packed = packing
        .await
        .map_err(|error| RegistryError::packing(image, &error.to_string()))?
        .map_err(|error| RegistryError::packing(image, &error.to_string()))?;
    let content = (&packed.blobs[..], layout::OCI_MANIFEST, &packed.manifest);
    let sent = fetcher()
        .push(image, &access.pull, access.plain_http, content)
        .await
        .map_err(|error| RegistryError::new(image, Doing::Push, access, error))?;
    Ok(Pushed {
        manifest: packed.manifest.digest,
        module,
        sent,
        blobs: packed.blobs.len(),
    })
}

/// Pulls a filter: any layout that Filters read, by tag or by digest, verified.
///
/// # Errors
/// What the registry, the way to it or the image refuses, with the remedy in terms of `tidegate filter pull`.
pub async fn pull(image: &ImageReference, access: &Access) -> Result<Pulled, RegistryError> {
    let failed = |error| RegistryError::new(image, Doing::Pull, access, error);
    let fetcher = fetcher();
    let fetched = if access.plain_http {
        fetcher.image_in_the_clear(image, &access.pull).await
    } else {
        fetcher.image("", image, None, &access.pull).await
    };
    let fetched = fetched.map_err(failed)?;
    let manifest = fetched.manifest.ok_or_else(|| {
        failed(FetchError::Image {
            place: image.to_string(),
            what: "it has no manifest".to_owned(),
        })
    })?;
    Ok(Pulled {
        module: digest(&fetched.bytes),
        bytes: fetched.bytes,
        manifest,
    })
}

/// Whoever runs a command may reach what their machine reaches; the body of an upload may take its time.
fn fetcher() -> Fetcher {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let timeouts = Timeouts {
        head: minutes(5),
        whole: minutes(15),
        ..Timeouts::default()
    };
    Fetcher::new(Reach { loopback: true }, timeouts)
}

#[cfg(test)]
mod tests;
