//! Modules over the network: from web servers and from OCI registries.
//!
//! ```text
//!   turn (tenant, server) ─► client ─► bytes, counted as they are read ─► digest ─► unpack
//!                              │ reach: which addresses may be connected to
//!                              └ registry: token, manifest, layer
//! ```
//!
//! Nothing a server says is believed: neither lengths nor digests in headers, nor where it redirects to.

mod archive;
mod client;
mod error;
mod manifest;
mod reach;
mod registry;
mod tls;
mod token;
mod turns;

use std::sync::Arc;

use bytes::Bytes;
use http::Uri;
use tidegate_model::{ImageReference, Pull};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub(crate) use client::Timeouts;
pub(crate) use error::FetchError;
pub(crate) use reach::Reach;
pub(crate) use turns::{Turn, Turns};

use crate::source::MOST_BYTES;
use client::{Ask, Client};
use registry::Pulling;

/// Fetches of one tenant from one server at once.
const PER_SERVER: usize = 2;
/// Fetches of one tenant at once: a few dead servers must leave room for a live one.
const PER_TENANT: usize = 8;
/// Fetches at once.
const OVER_ALL: usize = 64;

/// Fetches modules.
pub(crate) struct Fetcher {
    client: Client,
    servers: Turns,
    tenants: Turns,
}

/// A module from elsewhere.
pub(crate) struct Fetched {
    pub(crate) bytes: Bytes,
    /// Of an image: `sha256:…` of the manifest that its name means.
    pub(crate) manifest: Option<Arc<str>>,
    /// Held as long as the bytes are, if they are many.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl Fetcher {
    pub(crate) fn new(reach: Reach, timeouts: Timeouts) -> Self {
        Self {
            client: Client::new(reach, timeouts),
            servers: Turns::new(Semaphore::MAX_PERMITS, PER_SERVER),
            tenants: Turns::new(OVER_ALL, PER_TENANT),
        }
    }

    /// The file at `url`, for a Filter of `namespace`.
    pub(crate) async fn url(
        &self,
        namespace: &str,
        url: &str,
        pull: &Pull,
    ) -> Result<Fetched, FetchError> {
        let uri: Uri = url
            .parse()
            .map_err(|_| FetchError::Address(url.to_owned()))?;
        let host = uri.host().unwrap_or_default().to_owned();
        let server = uri.authority().map_or("", |authority| authority.as_str());
        let _turns = self.turns(namespace, server).await;
        let ask = Ask {
            url: uri,
            accept: "*/*",
            authorization: pull.credentials.as_ref().and_then(token::basic),
            tls: &self.tls(pull, &host)?,
        };
        let fetching = async { self.client.get(ask).await?.body(MOST_BYTES, url).await };
        let body = self.within(&host, fetching).await?;
        Ok(Fetched {
            bytes: body.bytes,
            manifest: None,
            room: body.room,
        })
    }

    /// The module of an image, for a Filter of `namespace`. `pinned` is the digest that its name has come to before.
    pub(crate) async fn image(
        &self,
        namespace: &str,
        image: &ImageReference,
        pinned: Option<&str>,
        pull: &Pull,
    ) -> Result<Fetched, FetchError> {
        let host = image.registry();
        let _turns = self.turns(namespace, host).await;
        let pulling = Pulling::new(&self.client, image, pull, self.tls(pull, host)?);
        let pulled = self.within(host, pulling.run(pinned)).await?;
        let layer = pulled.layer.bytes;
        let unpacking = tokio::task::spawn_blocking(move || archive::unpack(layer, pulled.packing));
        let refused = |what: String| FetchError::Image {
            place: image.pinned(&pulled.manifest),
            what,
        };
        let bytes = match unpacking.await {
            Ok(unpacked) => unpacked.map_err(|error| refused(error.to_string()))?,
            Err(error) => return Err(refused(format!("unpacking it made the host fail: {error}"))),
        };
        Ok(Fetched {
            bytes,
            manifest: Some(pulled.manifest.clone()),
            room: pulled.layer.room,
        })
    }

    /// `server` with its port: another one on the same host may be alive.
    async fn turns(&self, namespace: &str, server: &str) -> (Turn, Turn) {
        // The server's first: who waits for a dead one takes no place that a live one could have.
        let of_server = self.servers.take(&format!("{namespace} {server}")).await;
        (of_server, self.tenants.take(namespace).await)
    }

    async fn within<T>(
        &self,
        host: &str,
        work: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        let limit = self.client.timeouts.whole;
        timeout(limit, work).await.unwrap_or_else(|_| {
            Err(FetchError::Slow {
                host: host.to_owned(),
                what: "send everything",
                limit,
            })
        })
    }

    fn tls(&self, pull: &Pull, host: &str) -> Result<Arc<rustls::ClientConfig>, FetchError> {
        tls::config(pull).map_err(|what| FetchError::Tls {
            host: host.to_owned(),
            error: std::io::Error::other(what),
        })
    }
}
