//! Image manifests, and where in them the module is.
//!
//! | Layout | The layer | Written by |
//! |---|---|---|
//! | Docker | last `application/vnd.docker.image.rootfs.diff.tar.gzip`, with `plugin.wasm` in it | docker build |
//! | compat | last `application/vnd.oci.image.layer.v1.tar+gzip`, the same | buildah, Istio's and Envoy Gateway's guides |
//! | Istio | `application/vnd.module.wasm.content.layer.v1+wasm` | wasme, oras |
//! | CNCF | `application/wasm`, beside a config `application/vnd.wasm.config.v0+json` | wkg, Spin, oras |

use serde::Deserialize;

use super::error::FetchError;

/// What a registry is asked for.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json";

const ISTIO_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
const CNCF_LAYER: &str = "application/wasm";
const TAR_GZIP: [&str; 2] = [
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar+gzip",
];
const TAR: [&str; 2] = [
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.oci.image.layer.v1.tar",
];

/// A manifest or an index of several.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Manifest {
    layers: Vec<Descriptor>,
    manifests: Vec<Descriptor>,
}

/// A reference to content.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    media_type: String,
    pub(super) digest: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Platform {
    architecture: String,
    os: String,
}

/// How the module is in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// As it is.
    Bare,
    /// `plugin.wasm` in an archive.
    Tar,
    /// The same, compressed.
    TarGzip,
}

/// What a manifest leads to.
#[derive(Debug)]
pub(super) enum Next<'a> {
    /// Another manifest.
    Manifest(&'a Descriptor),
    /// The module.
    Layer(&'a Descriptor, Packing),
}

impl Manifest {
    /// Out of the registry's answer for `place`.
    pub(super) fn read(json: &[u8], place: &str) -> Result<Self, FetchError> {
        serde_json::from_slice(json).map_err(|error| FetchError::Image {
            place: place.to_owned(),
            // serde's message could repeat what the server said.
            what: format!(
                "its manifest cannot be read (line {}, column {})",
                error.line(),
                error.column()
            ),
        })
    }

    /// Where to go on.
    pub(super) fn next(&self, place: &str) -> Result<Next<'_>, FetchError> {
        let refused = |what: &str| FetchError::Image {
            place: place.to_owned(),
            what: what.to_owned(),
        };
        if !self.manifests.is_empty() {
            let one = self.of_platform();
            return one.map(Next::Manifest).ok_or_else(|| {
                refused("it has several images, and none of them is for wasm or for linux/amd64; name one by its digest")
            });
        }
        let bare =
            |layer: &&Descriptor| matches!(layer.media_type.as_str(), ISTIO_LAYER | CNCF_LAYER);
        if let Some(layer) = self.layers.iter().find(bare) {
            return Ok(Next::Layer(layer, Packing::Bare));
        }
        // As with images that run: what is added last counts.
        let last = self
            .layers
            .last()
            .ok_or_else(|| refused("it has no layers"))?;
        match last.media_type.as_str() {
            kind if TAR_GZIP.contains(&kind) => Ok(Next::Layer(last, Packing::TarGzip)),
            kind if TAR.contains(&kind) => Ok(Next::Layer(last, Packing::Tar)),
            _ => Err(refused(
                "its layers are of no kind that holds a module: use application/wasm, application/vnd.module.wasm.content.layer.v1+wasm, or a gzipped archive with plugin.wasm",
            )),
        }
    }

    /// A module runs everywhere, but tools that build images tie them to platforms.
    fn of_platform(&self) -> Option<&Descriptor> {
        let images = || {
            self.manifests
                .iter()
                .filter(|one| !one.annotations.contains_key("vnd.docker.reference.type"))
        };
        let of = |wanted: fn(&Platform) -> bool| {
            images().find(|one| one.platform.as_ref().is_some_and(wanted))
        };
        let only = || images().next().filter(|_| images().count() == 1);
        of(|platform| platform.architecture.starts_with("wasm") || platform.os.starts_with("wasi"))
            .or_else(only)
            .or_else(|| of(|platform| platform.os == "linux" && platform.architecture == "amd64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(json: &serde_json::Value) -> Result<(String, Option<Packing>), String> {
        let manifest = Manifest::read(json.to_string().as_bytes(), "r.test/a").expect("a manifest");
        match manifest.next("r.test/a") {
            Ok(Next::Manifest(one)) => Ok((one.digest.clone(), None)),
            Ok(Next::Layer(one, packing)) => Ok((one.digest.clone(), Some(packing))),
            Err(error) => Err(error.to_string()),
        }
    }

    fn layers(kinds: &[&str]) -> serde_json::Value {
        let layers: Vec<_> = kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| serde_json::json!({"mediaType": kind, "digest": at.to_string(), "size": 1}))
            .collect();
        serde_json::json!({"schemaVersion": 2, "layers": layers})
    }

    #[test]
    fn the_module_is_found_in_every_layout() {
        let found = |at: &str, packing| Ok((at.to_owned(), Some(packing)));
        assert_eq!(
            next(&layers(&[TAR_GZIP[0], TAR_GZIP[0]])),
            found("1", Packing::TarGzip)
        );
        assert_eq!(next(&layers(&[TAR_GZIP[1]])), found("0", Packing::TarGzip));
        assert_eq!(next(&layers(&[TAR[1]])), found("0", Packing::Tar));
        assert_eq!(
            next(&layers(&["application/json", ISTIO_LAYER, TAR_GZIP[1]])),
            found("1", Packing::Bare)
        );
        assert_eq!(next(&layers(&[CNCF_LAYER])), found("0", Packing::Bare));
        assert!(next(&layers(&[])).is_err());
        assert!(next(&layers(&["application/vnd.oci.image.layer.v1.tar+zstd"])).is_err());
    }

    #[test]
    fn of_several_platforms_wasm_is_meant() {
        let image = |digest: &str, os: &str, architecture: &str| serde_json::json!({"digest": digest, "platform": {"os": os, "architecture": architecture}});
        let of = |images: &[serde_json::Value]| next(&serde_json::json!({"manifests": images}));
        let (arm, amd, wasm) = (
            image("arm", "linux", "arm64"),
            image("amd", "linux", "amd64"),
            image("wasm", "wasip1", "wasm"),
        );
        assert_eq!(
            of(&[arm.clone(), amd.clone(), wasm]),
            Ok(("wasm".to_owned(), None))
        );
        assert_eq!(of(&[arm.clone(), amd]), Ok(("amd".to_owned(), None)));
        assert_eq!(of(std::slice::from_ref(&arm)), Ok(("arm".to_owned(), None)));
        assert!(of(&[arm, image("s390x", "linux", "s390x")]).is_err());
    }
}
