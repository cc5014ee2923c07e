//! A first look at a component's bytes, before anything is compiled.

use std::collections::BTreeSet;

use wasmparser::{Parser, Payload};

use super::PACKAGE;
use super::world::is_interface;
use crate::failure::LoadError;

/// Largest custom section that is kept.
const MAX_SECTION: usize = 64 << 10;
/// The export that makes a component a filter, of any version of the package that is compatible with this host's.
const REQUIRED: &str = "tidegate:filter/on-plugin@0.1.";

/// Names at the top of a component.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    imports: Vec<String>,
    exports: Vec<String>,
    /// Small custom sections but for debug information, those of the modules in it included.
    pub(crate) custom_sections: Vec<(String, Vec<u8>)>,
}

/// Whether these bytes say that they are a component: layer 1 (component model, `Binary.md`).
pub(crate) fn is_component(wasm: &[u8]) -> bool {
    wasm.starts_with(b"\0asm") && wasm.get(6..8) == Some(&[1, 0])
}

impl Scan {
    /// Refuses what is no filter, or needs what filters do not have.
    pub(crate) fn read(wasm: &[u8]) -> Result<Self, LoadError> {
        let mut scan = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.map_err(|error| LoadError::Invalid(error.to_string()))?;
            match payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                payload => scan.section(payload, depth == 0)?,
            }
        }
        scan.check()?;
        Ok(scan)
    }

    fn section(&mut self, payload: Payload<'_>, top: bool) -> Result<(), LoadError> {
        let invalid = |error: wasmparser::BinaryReaderError| LoadError::Invalid(error.to_string());
        match payload {
            Payload::ComponentImportSection(section) if top => {
                for import in section {
                    let import = import.map_err(invalid)?;
                    self.imports.push(import.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if top => {
                for export in section {
                    let export = export.map_err(invalid)?;
                    self.exports.push(export.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) => {
                let name = section.name();
                let small = section.data().len() <= MAX_SECTION;
                if small && !name.starts_with(".debug") && !name.ends_with("name") {
                    self.custom_sections
                        .push((name.to_owned(), section.data().to_vec()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The versions of WASI 0.2 that it imports: one, or two where a library came from elsewhere.
    pub(super) fn wasi_versions(&self) -> BTreeSet<&str> {
        self.imports
            .iter()
            .filter_map(|name| name.strip_prefix("wasi:")?.split_once('@'))
            .map(|(_, version)| version)
            .filter(|version| version.starts_with("0.2."))
            .collect()
    }

    fn check(&self) -> Result<(), LoadError> {
        if !self.exports.iter().any(|name| name.starts_with(REQUIRED)) {
            let exports = self.exports.join(", ");
            return Err(LoadError::OtherWorld { exports });
        }
        for name in &self.imports {
            if let Some(interface) = name.strip_prefix(PACKAGE) {
                if !is_interface(interface) {
                    return Err(LoadError::UnknownInterface { name: name.clone() });
                }
            } else if !name.starts_with("wasi:") {
                return Err(LoadError::ForeignImport { name: name.clone() });
            }
        }
        Ok(())
    }
}
