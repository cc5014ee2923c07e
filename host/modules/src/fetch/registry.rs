//! Pulling from a registry: manifest, then blob.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>

use std::sync::Arc;

use http::Method;
use tidegate_model::ImageReference;

use super::address::shown;
use super::client::Body;
use super::error::FetchError;
use super::manifest::{self, Descriptor, Manifest, Next, Packing};
use super::session::{Call, Session, To};
use crate::digest::{digest, is_digest};
use crate::source::MOST_BYTES;

/// What the distribution specification lets registries refuse beyond (4 MiB).
const MOST_MANIFEST: u64 = 4 << 20;
/// An index leads to a manifest, and a manifest to no other.
const MOST_MANIFESTS: usize = 2;

/// One pull of one image.
pub(super) struct Pulling<'a> {
    image: &'a ImageReference,
    session: Session<'a>,
}

/// What a pull comes to.
pub(super) struct Pulled {
    /// `sha256:…` of the manifest that the reference means.
    pub(super) manifest: Arc<str>,
    pub(super) layer: Body,
    pub(super) packing: Packing,
}

impl<'a> Pulling<'a> {
    pub(super) fn new(image: &'a ImageReference, session: Session<'a>) -> Self {
        Self { image, session }
    }

    /// The layer with the module. `pinned` is what the reference has come to before.
    pub(super) async fn run(mut self, pinned: Option<&str>) -> Result<Pulled, FetchError> {
        let known = pinned.or(self.image.digest()).map(str::to_owned);
        let (mut manifest, digest) = match known {
            Some(digest) => (
                self.manifest(&digest, Some(&digest)).await?.0,
                Arc::from(digest),
            ),
            None => {
                let tag = self.image.tag().unwrap_or("latest").to_owned();
                self.manifest(&tag, None).await?
            }
        };
        let place = self.image.pinned(&digest);
        for _ in 0..MOST_MANIFESTS {
            let next = manifest.next(&place)?;
            let (Next::Layer(one, _) | Next::Manifest(one)) = &next;
            if !is_digest(&one.digest) {
                return Err(FetchError::Image {
                    place,
                    what: "its manifest refers to content by something else than a sha256 digest"
                        .to_owned(),
                });
            }
            match next {
                Next::Layer(layer, packing) => {
                    let layer = self.blob(&layer.clone()).await?;
                    return Ok(Pulled {
                        manifest: digest,
                        layer,
                        packing,
                    });
                }
                Next::Manifest(one) => {
                    let one = one.digest.clone();
                    manifest = self.manifest(&one, Some(&one)).await?.0;
                }
            }
        }
        Err(FetchError::Image {
            place,
            what: "its index leads to another index; name an image".to_owned(),
        })
    }

    /// A manifest by tag or digest, and its digest.
    async fn manifest(
        &mut self,
        reference: &str,
        expected: Option<&str>,
    ) -> Result<(Manifest, Arc<str>), FetchError> {
        let path = format!("manifests/{reference}");
        let what = format!("the manifest of {}", self.image);
        let body = self
            .get(&path, manifest::ACCEPT, MOST_MANIFEST, &what)
            .await?;
        // Of the bytes that came: what a header says of them is only what the registry says.
        let found = digest(&body.bytes);
        self.check(expected, &found, &path)?;
        let manifest = Manifest::read(&body.bytes, &self.image.pinned(&found))?;
        Ok((manifest, found))
    }

    async fn blob(&mut self, layer: &Descriptor) -> Result<Body, FetchError> {
        let what = format!("a layer of {}", self.image);
        if layer.size > MOST_BYTES {
            return Err(FetchError::TooLarge { what });
        }
        let path = format!("blobs/{}", layer.digest);
        let body = self.get(&path, "*/*", MOST_BYTES, &what).await?;
        let found = digest(&body.bytes);
        self.check(Some(&layer.digest), &found, &path)?;
        Ok(body)
    }

    fn check(&self, expected: Option<&str>, found: &str, path: &str) -> Result<(), FetchError> {
        match expected {
            Some(expected) if expected != found => Err(FetchError::Digest {
                url: shown(&self.session.url(path)?),
                expected: expected.to_owned(),
                found: found.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    async fn get(
        &mut self,
        path: &str,
        accept: &'static str,
        most: u64,
        what: &str,
    ) -> Result<Body, FetchError> {
        let call = Call {
            method: Method::GET,
            to: To::Path(path),
            accept,
            content: None,
        };
        self.session.send(&call).await?.body(most, what).await
    }
}
