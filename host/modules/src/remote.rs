//! Modules that are elsewhere: what is known of them already is not fetched, and what a tag has come to stays.
//!
//! ```text
//!   spec.sha256, or what the tag came to ─► in memory? ─► on disk? ─► fetch ─► digest as expected? ─► module, pin
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidegate_model::{FilterId, FilterSpec, ModuleSource};
use tokio::sync::OwnedSemaphorePermit;

use crate::digest::{digest, normal};
use crate::disk::{Disk, Tag};
use crate::fetch::{FetchError, Fetched, Fetcher};

/// Fetches, and remembers.
pub(crate) struct Remote {
    fetcher: Fetcher,
    disk: Option<Arc<Disk>>,
    /// Whether the network may be used.
    network: bool,
    /// By tenant and digest: so that an edited configuration needs no server. One tenant's credentials fetch nothing for another.
    held: Mutex<Held>,
}

/// Modules by tenant and digest.
type Held = HashMap<(Arc<str>, Arc<str>), Bytes>;

/// What a source has come to, for as long as its Filter names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    /// The source.
    pub(crate) place: Arc<str>,
    /// Of an image: digest of the manifest. None where `spec.sha256` made it unnecessary to ask.
    pub(crate) manifest: Option<Arc<str>>,
    /// Digest of the module.
    pub(crate) module: Arc<str>,
}

/// A module that was fetched, now or before.
pub(crate) struct Brought {
    pub(crate) bytes: Bytes,
    pub(crate) pin: Pin,
    /// Held as long as the bytes are used, if they are many.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// The network may not be used.
    #[error("the network is not used")]
    NotFetched,
    #[error("spec.module.{field}: {error}")]
    Fetch {
        field: &'static str,
        error: FetchError,
    },
    #[error(
        "spec.sha256 is {expected}, but the module is {found}; it is not run. Correct the digest, or the module"
    )]
    Mismatch { expected: Arc<str>, found: Arc<str> },
}

impl Pin {
    /// What a process before this one, or another replica, has resolved and written down.
    pub(crate) fn in_status_of(spec: &FilterSpec) -> Option<Self> {
        let known = spec.pinned.as_ref()?;
        Some(Self {
            place: place(&spec.module)?,
            manifest: Some(known.manifest.clone()),
            module: known.module.clone(),
        })
    }
}

impl Remote {
    pub(crate) fn new(fetcher: Fetcher, disk: Option<Arc<Disk>>, network: bool) -> Self {
        Self {
            fetcher,
            disk,
            network,
            held: Mutex::default(),
        }
    }

    /// The module of a remote source. `pin` is what it has come to before.
    pub(crate) async fn bring(
        &self,
        spec: &FilterSpec,
        pin: Option<Pin>,
    ) -> Result<Brought, RemoteError> {
        let expected = spec.sha256.as_deref().map(normal);
        let place = place(&spec.module).ok_or(RemoteError::NotFetched)?;
        let pin = match pin.filter(|pin| pin.place == place) {
            None => self.remembered(&spec.id, &place).await,
            known => known,
        };
        // Whoever changes the digest beside a tag wants what the tag means now.
        let pin = pin.filter(|pin| {
            expected
                .as_ref()
                .is_none_or(|expected| *expected == pin.module)
        });
        let module = expected
            .clone()
            .or(pin.as_ref().map(|pin| pin.module.clone()));
        if let Some(module) = module
            && let Some(bytes) = self.known(&spec.id.namespace, &module).await
        {
            let pin = Pin {
                place,
                manifest: pin.and_then(|pin| pin.manifest),
                module,
            };
            return Ok(Brought {
                bytes,
                pin,
                room: None,
            });
        }
        if !self.network {
            return Err(RemoteError::NotFetched);
        }
        let fetched = self.fetch(spec, pin.as_ref()).await?;
        let module = digest(&fetched.bytes);
        if let Some(expected) = expected
            && expected != module
        {
            return Err(RemoteError::Mismatch {
                expected,
                found: module,
            });
        }
        let pin = Pin {
            place,
            manifest: fetched.manifest,
            module,
        };
        self.remember(&spec.id, &pin, &fetched.bytes).await;
        Ok(Brought {
            bytes: fetched.bytes,
            pin,
            room: fetched.room,
        })
    }

    /// Keeps the bytes in memory.
    pub(crate) fn hold(&self, namespace: &Arc<str>, digest: &Arc<str>, bytes: Bytes) {
        let key = (namespace.clone(), digest.clone());
        self.held().insert(key, bytes);
    }

    /// Lets go of what nobody wants.
    pub(crate) fn retain(&self, wanted: impl Fn(&str, &str) -> bool) {
        self.held()
            .retain(|(namespace, digest), _| wanted(namespace, digest));
    }

    /// The Filter is gone, or names something else than that place.
    pub(crate) fn forget(&self, id: &FilterId, place: &str) {
        if let Some(disk) = &self.disk {
            disk.forget_tag(&tag_of(id, place));
        }
    }

    async fn fetch(&self, spec: &FilterSpec, pin: Option<&Pin>) -> Result<Fetched, RemoteError> {
        let namespace = &spec.id.namespace;
        let (field, fetched) = match &spec.module {
            ModuleSource::Image { image, pull } => {
                let manifest = pin.and_then(|pin| pin.manifest.as_deref());
                let fetching = self.fetcher.image(namespace, image, manifest, pull);
                ("image", fetching.await)
            }
            ModuleSource::Url { url, pull } => {
                ("url", self.fetcher.url(namespace, url, pull).await)
            }
            _ => return Err(RemoteError::NotFetched),
        };
        fetched.map_err(|error| RemoteError::Fetch { field, error })
    }

    async fn known(&self, namespace: &Arc<str>, digest: &Arc<str>) -> Option<Bytes> {
        let key = (namespace.clone(), digest.clone());
        if let Some(bytes) = self.held().get(&key) {
            return Some(bytes.clone());
        }
        self.on_disk(move |disk| disk.module(&key.0, &key.1))
            .await?
    }

    async fn remembered(&self, id: &FilterId, place: &Arc<str>) -> Option<Pin> {
        let of = tag_of(id, place);
        let tag = self.on_disk(move |disk| disk.tag(&of)).await??;
        Some(Pin {
            place: place.clone(),
            manifest: Some(tag.manifest.into()),
            module: tag.module.into(),
        })
    }

    async fn remember(&self, id: &FilterId, pin: &Pin, bytes: &Bytes) {
        let tag = pin.manifest.as_ref().map(|manifest| Tag {
            manifest: manifest.to_string(),
            module: pin.module.to_string(),
        });
        let of = tag_of(id, &pin.place);
        let (namespace, module, bytes) = (id.namespace.clone(), pin.module.clone(), bytes.clone());
        self.on_disk(move |disk| {
            disk.keep_module(&namespace, &module, &bytes);
            if let Some(tag) = tag {
                disk.keep_tag(&of, &tag);
            }
        })
        .await;
    }

    /// Does something with the disk where blocking is fine; nothing without one.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> T + Send + 'static,
    ) -> Option<T> {
        let disk = self.disk.clone()?;
        tokio::task::spawn_blocking(move || work(&disk)).await.ok()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What names a remote source, however it is fetched.
pub(crate) fn place(source: &ModuleSource) -> Option<Arc<str>> {
    match source {
        ModuleSource::Image { image, .. } => Some(image.to_string().into()),
        ModuleSource::Url { url, .. } => Some(url.clone()),
        _ => None,
    }
}

/// The name under which the disk knows what a Filter's image has come to.
fn tag_of(id: &FilterId, place: &str) -> String {
    format!("{id} {place}")
}
