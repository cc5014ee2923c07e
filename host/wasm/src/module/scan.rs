//! A first look at the bytes, before anything is compiled.

use wasmparser::{ExternalKind, Parser, Payload};

use crate::failure::LoadError;

/// Largest custom section that is kept.
const MAX_SECTION: usize = 64 << 10;

/// Names in a core module.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Names of exported functions.
    pub(super) exports: Vec<String>,
    /// Module and name of each import.
    pub(super) imports: Vec<(String, String)>,
    /// Small custom sections but for debug information.
    pub(super) custom_sections: Vec<(String, Vec<u8>)>,
}

impl Scan {
    pub(super) fn read(wasm: &[u8]) -> Result<Self, LoadError> {
        if !wasm.starts_with(b"\0asm") {
            return Err(LoadError::NotWasm);
        }
        let mut scan = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            scan.section(payload.map_err(invalid)?)?;
        }
        Ok(scan)
    }

    fn section(&mut self, payload: Payload<'_>) -> Result<(), LoadError> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(invalid)?;
                    self.imports
                        .push((import.module.to_owned(), import.name.to_owned()));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(invalid)?;
                    if export.kind == ExternalKind::Func {
                        self.exports.push(export.name.to_owned());
                    }
                }
            }
            // wasmtime takes them, for components; the ABI and snapshots know one.
            Payload::MemorySection(section) if section.count() > 1 => {
                return Err(LoadError::Invalid(format!(
                    "it has {} memories; a filter has one",
                    section.count()
                )));
            }
            Payload::CustomSection(section) => {
                let keep =
                    section.data().len() <= MAX_SECTION && !section.name().starts_with(".debug");
                if keep && section.name() != "name" {
                    self.custom_sections
                        .push((section.name().to_owned(), section.data().to_vec()));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn invalid(error: wasmparser::BinaryReaderError) -> LoadError {
    LoadError::Invalid(error.to_string())
}
