//! Pulling from a registry: manifest, credentials, blob.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>

use std::sync::Arc;

use http::{HeaderValue, StatusCode, Uri};
use rustls::ClientConfig;
use tidegate_model::{ImageReference, Pull};

use super::client::{Answer, Ask, Body, Client, shown};
use super::error::FetchError;
use super::manifest::{self, Descriptor, Manifest, Next, Packing};
use super::token::{self, Challenge};
use crate::digest::{digest, is_digest};
use crate::source::MOST_BYTES;

/// What the distribution specification lets registries refuse beyond (4 MiB).
const MOST_MANIFEST: u64 = 4 << 20;
const MOST_TOKEN: u64 = 64 << 10;
/// An index leads to a manifest, and a manifest to no other.
const MOST_MANIFESTS: usize = 2;

/// One pull of one image.
pub(super) struct Pulling<'a> {
    client: &'a Client,
    image: &'a ImageReference,
    pull: &'a Pull,
    tls: Arc<ClientConfig>,
    scheme: &'static str,
    authorization: Option<HeaderValue>,
}

/// What a pull comes to.
pub(super) struct Pulled {
    /// `sha256:…` of the manifest that the reference means.
    pub(super) manifest: Arc<str>,
    pub(super) layer: Body,
    pub(super) packing: Packing,
}

impl<'a> Pulling<'a> {
    pub(super) fn new(
        client: &'a Client,
        image: &'a ImageReference,
        pull: &'a Pull,
        tls: Arc<ClientConfig>,
    ) -> Self {
        Self {
            client,
            image,
            pull,
            tls,
            scheme: "https",
            authorization: None,
        }
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
                url: shown(&self.url(path)?),
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
        let mut answer = self.ask(path, accept).await?;
        if answer.status == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            self.authorize(&answer).await?;
            // Without credentials for what only asks for a name and a password, the 401 is the answer.
            if self.authorization.is_some() {
                answer = self.ask(path, accept).await?;
            }
        }
        answer.body(most, what).await
    }

    async fn ask(&mut self, path: &str, accept: &'static str) -> Result<Answer, FetchError> {
        match self.ask_once(path, accept).await {
            Err(FetchError::Tls { .. } | FetchError::Connect { .. })
                if self.pull.insecure && self.scheme == "https" =>
            {
                self.scheme = "http";
                self.ask_once(path, accept).await
            }
            answer => answer,
        }
    }

    async fn ask_once(&self, path: &str, accept: &'static str) -> Result<Answer, FetchError> {
        let ask = Ask {
            url: self.url(path)?,
            accept,
            authorization: self.authorization.clone(),
            tls: &self.tls,
        };
        self.client.get(ask).await
    }

    /// Does what the registry asks for.
    async fn authorize(&mut self, answer: &Answer) -> Result<(), FetchError> {
        let host = self.image.endpoint().to_owned();
        let odd = |what: &str| FetchError::Challenge {
            host: host.clone(),
            what: what.to_owned(),
        };
        let challenge = Challenge::of(&answer.headers)
            .ok_or_else(|| odd("neither Basic nor Bearer in WWW-Authenticate"))?;
        let basic = self.pull.credentials.as_ref().and_then(token::basic);
        let (realm, service) = match challenge {
            Challenge::Basic => {
                self.authorization = basic;
                return Ok(());
            }
            Challenge::Bearer { realm, service } => (realm, service),
        };
        let url = token::address(&realm, service.as_deref(), self.image.repository());
        let url: Uri = url
            .parse()
            .map_err(|_| odd("its token service is no address"))?;
        // The password goes there.
        if url.scheme_str() != Some("https") && self.scheme == "https" {
            return Err(odd("its token service is not https"));
        }
        let ask = Ask {
            url,
            accept: "application/json",
            authorization: basic,
            tls: &self.tls,
        };
        let body = self
            .client
            .get(ask)
            .await?
            .body(MOST_TOKEN, "a token")
            .await?;
        let token =
            token::bearer(&body.bytes).ok_or_else(|| odd("its token service sent no token"))?;
        self.authorization = Some(token);
        Ok(())
    }

    fn url(&self, path: &str) -> Result<Uri, FetchError> {
        let endpoint = self.image.endpoint();
        let url = format!(
            "{}://{endpoint}/v2/{}/{path}",
            self.scheme,
            self.image.repository()
        );
        url.parse().map_err(|_| FetchError::Address(url))
    }
}
