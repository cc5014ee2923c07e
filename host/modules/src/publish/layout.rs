//! How a filter lies in an image.
//!
//! Nothing of it depends on the time or the machine, so that the same filter is the same image wherever it is packed.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use wasmparser::{Parser, Payload};

use crate::digest::digest;
use crate::fetch::Blob;

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md>
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const WASM_LAYER: &str = "application/wasm";
/// What tells the compat layout from ordinary images, for whoever wants to know.
const VARIANT: &str = "module.wasm.image/variant";
/// Readers want a time; none is true of each push.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// The layouts that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// An OCI image whose one layer is an archive with `plugin.wasm`: what Istio and Envoy Gateway load.
    Compat,
    /// The artifact that the CNCF's working group has defined: the filter is the layer.
    Cncf,
}

impl Layout {
    /// The usual one for these bytes: components go where tools for components look.
    pub fn of(wasm: &[u8]) -> Self {
        match is_component(wasm) {
            true => Self::Cncf,
            false => Self::Compat,
        }
    }

    /// As the command line has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compat => "compat",
            Self::Cncf => "cncf",
        }
    }
}

/// An image that is ready to be pushed.
#[derive(Debug)]
pub(super) struct Packed {
    /// Its layer and its configuration.
    pub(super) blobs: Vec<Blob>,
    pub(super) manifest: Blob,
}

impl Packed {
    /// Compresses; blocks.
    pub(super) fn new(wasm: &Bytes, layout: Layout) -> std::io::Result<Self> {
        match layout {
            Layout::Compat => compat(wasm),
            Layout::Cncf => Ok(cncf(wasm)),
        }
    }

    fn of(config: (&str, &Value), layer: (&str, Bytes), annotations: &Value) -> Self {
        let blob = |bytes: Bytes| Blob {
            digest: digest(&bytes).to_string(),
            bytes,
        };
        let descriptor = |kind: &str, blob: &Blob| json!({"mediaType": kind, "digest": blob.digest, "size": blob.bytes.len()});
        let (layer_kind, layer) = (layer.0, blob(layer.1));
        let (config_kind, config) = (config.0, blob(config.1.to_string().into()));
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(config_kind, &config),
            "layers": [descriptor(layer_kind, &layer)],
        });
        if !annotations.is_null() {
            manifest["annotations"] = annotations.clone();
        }
        Self {
            manifest: blob(manifest.to_string().into()),
            blobs: vec![layer, config],
        }
    }
}

fn compat(wasm: &Bytes) -> std::io::Result<Packed> {
    let mut header = tar::Header::new_ustar();
    header.set_size(wasm.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "plugin.wasm", &wasm[..])?;
    let archive = archive.into_inner()?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut encoder, &archive)?;
    let config = json!({
        "created": CREATED,
        "architecture": "wasm",
        "os": "wasip1",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [&*digest(&archive)]},
        "history": [{"created": CREATED, "created_by": "tidegate filter push"}],
    });
    Ok(Packed::of(
        (OCI_CONFIG, &config),
        (OCI_LAYER, encoder.finish()?.into()),
        &json!({VARIANT: "compat"}),
    ))
}

fn cncf(wasm: &Bytes) -> Packed {
    let component = is_component(wasm);
    let mut config = json!({
        "created": CREATED,
        "architecture": "wasm",
        "os": if component { "wasip2" } else { "wasip1" },
        "layerDigests": [&*digest(wasm)],
    });
    if component {
        let (imports, exports) = interfaces(wasm);
        config["component"] = json!({"imports": imports, "exports": exports});
    }
    Packed::of(
        (WASM_CONFIG, &config),
        (WASM_LAYER, wasm.clone()),
        &Value::Null,
    )
}

/// Layer 1 (component model, `Binary.md`).
fn is_component(wasm: &[u8]) -> bool {
    wasm.starts_with(b"\0asm") && wasm.get(6..8) == Some(&[1, 0])
}

/// Names at the top of a component: imports, exports. Of what is damaged, those before the damage.
fn interfaces(wasm: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                let names = section.into_iter().map_while(Result::ok);
                imports.extend(names.map(|import| import.name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                let names = section.into_iter().map_while(Result::ok);
                exports.extend(names.map(|export| export.name.name.to_owned()));
            }
            _ => {}
        }
    }
    (imports, exports)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = r#"(module (func (export "proxy_abi_version_0_2_1")))"#;
    const COMPONENT: &str = r#"(component
        (component (import "inner" (instance)))
        (import "wasi:cli/stdout@0.2.0" (instance))
        (instance $i) (export "tidegate:filter/on-plugin@0.1.0" (instance $i)))"#;

    fn packed(wat: &str, layout: Layout) -> (Value, Value, Packed) {
        let wasm: Bytes = wat::parse_str(wat).expect("wasm").into();
        let packed = Packed::new(&wasm, layout).expect("memory");
        let again = Packed::new(&wasm, layout).expect("memory");
        assert_eq!(packed.manifest.digest, again.manifest.digest);
        let read = |blob: &Blob| serde_json::from_slice(&blob.bytes).expect("JSON");
        (read(&packed.manifest), read(&packed.blobs[1]), packed)
    }

    #[test]
    fn modules_lie_where_istio_looks() {
        let (manifest, config, packed) = packed(MODULE, Layout::Compat);
        assert_eq!(manifest["config"]["mediaType"], OCI_CONFIG);
        assert_eq!(manifest["layers"][0]["mediaType"], OCI_LAYER);
        assert_eq!(manifest["annotations"][VARIANT], "compat");
        assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(1));
        let mut archive = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&packed.blobs[0].bytes[..]);
        std::io::Read::read_to_end(&mut decoder, &mut archive).expect("gzip");
        assert_eq!(config["rootfs"]["diff_ids"][0], *digest(&archive));
        let mut archive = tar::Archive::new(&archive[..]);
        let names: Vec<_> = archive
            .entries()
            .expect("an archive")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .path()
                    .expect("a name")
                    .into_owned()
            })
            .collect();
        assert_eq!(names, [std::path::Path::new("plugin.wasm")]);
    }

    #[test]
    fn components_are_their_layer() {
        let wasm = wat::parse_str(COMPONENT).expect("wasm");
        assert_eq!(Layout::of(&wasm), Layout::Cncf);
        let (manifest, config, packed) = packed(COMPONENT, Layout::Cncf);
        assert_eq!(manifest["config"]["mediaType"], WASM_CONFIG);
        assert_eq!(manifest["layers"][0]["mediaType"], WASM_LAYER);
        assert_eq!(packed.blobs[0].bytes, wasm);
        assert_eq!(config["os"], "wasip2");
        assert_eq!(config["layerDigests"], json!([&*digest(&wasm)]));
        let names = json!({"imports": ["wasi:cli/stdout@0.2.0"], "exports": ["tidegate:filter/on-plugin@0.1.0"]});
        assert_eq!(config["component"], names);
        let (_, config, _) = packed_module();
        assert_eq!(
            (&config["os"], &config["component"]),
            (&json!("wasip1"), &Value::Null)
        );
    }

    fn packed_module() -> (Value, Value, Packed) {
        packed(MODULE, Layout::Cncf)
    }
}
