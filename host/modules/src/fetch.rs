//! Modules over the network: from web servers and from OCI registries.
//!
//! ```text
//!   turn (tenant, server) ─► client ─► bytes, counted as they are read ─► digest ─► unpack
//!                              │ reach: which addresses may be connected to
//!                              └ session: token ─┬► registry: manifest, layer
//!                                                └► pushing: blobs, manifest
//! ```
//!
//! Nothing a server says is believed: neither lengths nor digests in headers, nor where it redirects to.

mod address;
mod archive;
mod client;
mod error;
mod manifest;
mod pushing;
mod reach;
mod registry;
mod session;
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
pub(crate) use pushing::Blob;
pub(crate) use reach::Reach;
pub(crate) use turns::{Turn, Turns};

use crate::source::MOST_BYTES;
use client::{Ask, Client};
use pushing::Pushing;
use registry::Pulling;
use session::Session;

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
        let tls = self.tls(pull, &host)?;
        let authorization = pull.credentials.as_ref().and_then(token::basic);
        let ask = Ask::get(uri, "*/*", authorization, &tls);
        let fetching = async { self.client.send(ask).await?.body(MOST_BYTES, url).await };
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
        let _turns = self.turns(namespace, image.registry()).await;
        let session = Session::new(&self.client, image, pull, self.tls_of(image, pull)?);
        self.image_of(image, session, pinned).await
    }

    /// The module of an image whose registry is asked in the clear.
    pub(crate) async fn image_in_the_clear(
        &self,
        image: &ImageReference,
        pull: &Pull,
    ) -> Result<Fetched, FetchError> {
        let session = Session::new(&self.client, image, pull, self.tls_of(image, pull)?);
        self.image_of(image, session.in_the_clear(), None).await
    }

    async fn image_of(
        &self,
        image: &ImageReference,
        session: Session<'_>,
        pinned: Option<&str>,
    ) -> Result<Fetched, FetchError> {
        let pulling = Pulling::new(image, session);
        let pulled = self.within(image.registry(), pulling.run(pinned)).await?;
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

    /// Puts an image into its registry, in the clear or not; how many of its blobs were not there.
    pub(crate) async fn push(
        &self,
        image: &ImageReference,
        pull: &Pull,
        in_the_clear: bool,
        (blobs, kind, manifest): (&[Blob], &'static str, &Blob),
    ) -> Result<usize, FetchError> {
        let session = Session::new(&self.client, image, pull, self.tls_of(image, pull)?).for_push();
        let session = match in_the_clear {
            true => session.in_the_clear(),
            false => session,
        };
        let pushing = async {
            let mut pushing = Pushing { session };
            let mut sent = 0;
            for blob in blobs {
                sent += usize::from(pushing.blob(blob).await?);
            }
            let tag = image.tag().unwrap_or("latest");
            pushing.manifest(tag, kind, manifest).await?;
            Ok(sent)
        };
        self.within(image.registry(), pushing).await
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
                what: "finish",
                limit,
            })
        })
    }

    fn tls_of(
        &self,
        image: &ImageReference,
        pull: &Pull,
    ) -> Result<Arc<rustls::ClientConfig>, FetchError> {
        self.tls(pull, image.registry())
    }

    fn tls(&self, pull: &Pull, host: &str) -> Result<Arc<rustls::ClientConfig>, FetchError> {
        tls::config(pull).map_err(|what| FetchError::Tls {
            host: host.to_owned(),
            error: std::io::Error::other(what),
        })
    }
}
