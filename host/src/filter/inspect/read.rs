//! What the bytes of a module or component say.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_filters::SCHEMA_SECTION;
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::Types;
use wasmparser::{
    BinaryReaderError, CustomSectionReader, Encoding, ExternalKind, KnownCustom, Parser, Payload,
    Validator,
};

/// What of two kinds it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// A core module.
    #[default]
    Module,
    /// A component, with core modules inside.
    Component,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) kind: Kind,
    /// Functions by module or interface.
    pub(super) imports: BTreeMap<String, BTreeSet<String>>,
    pub(super) exports: BTreeSet<String>,
    /// Pages at first and at most; of a component, those of all modules in it.
    pub(super) memories: Vec<(u64, Option<u64>)>,
    pub(super) functions: usize,
    pub(super) producers: BTreeSet<Producer>,
    pub(super) schema: Option<String>,
    pub(super) custom: Vec<(String, usize)>,
}

/// An entry of a section `producers`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Producer {
    /// `language`, `processed-by` or `sdk`.
    pub(super) field: String,
    pub(super) name: String,
    pub(super) version: String,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Component => "component",
        }
    }
}

impl Contents {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut contents = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding, .. } if depth == 0 => {
                    if encoding == Encoding::Component {
                        contents.kind = Kind::Component;
                    }
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                payload => contents.section(payload, depth == 0)?,
            }
        }
        if contents.kind == Kind::Component {
            contents.name_functions(bytes)?;
        }
        Ok(contents)
    }

    fn section(&mut self, payload: Payload<'_>, top: bool) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::ImportSection(section) if top => {
                for import in section.into_imports() {
                    let import = import?;
                    let of_module = self.imports.entry(import.module.to_owned()).or_default();
                    of_module.insert(import.name.to_owned());
                }
            }
            Payload::ExportSection(section) if top => {
                for export in section {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        self.exports.insert(export.name.to_owned());
                    }
                }
            }
            Payload::ComponentImportSection(section) if top => {
                for import in section {
                    let name = import?.name.name.to_owned();
                    self.imports.entry(name).or_default();
                }
            }
            Payload::ComponentExportSection(section) if top => {
                for export in section {
                    self.exports.insert(export?.name.name.to_owned());
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    self.memories.push((memory.initial, memory.maximum));
                }
            }
            Payload::FunctionSection(section) => self.functions += section.count() as usize,
            Payload::CustomSection(section) => self.custom(&section)?,
            _ => {}
        }
        Ok(())
    }

    fn custom(&mut self, section: &CustomSectionReader<'_>) -> Result<(), BinaryReaderError> {
        self.custom
            .push((section.name().to_owned(), section.data().len()));
        if section.name() == SCHEMA_SECTION {
            self.schema = Some(String::from_utf8_lossy(section.data()).into_owned());
        }
        if let KnownCustom::Producers(producers) = section.as_known() {
            for field in producers {
                let field = field?;
                for value in field.values {
                    let value = value?;
                    self.producers.insert(Producer {
                        field: field.name.to_owned(),
                        name: value.name.to_owned(),
                        version: value.version.to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The functions behind each imported interface: those that a component is linked against, and no others of the interface.
    fn name_functions(&mut self, bytes: &[u8]) -> Result<(), BinaryReaderError> {
        let types = Validator::new().validate_all(bytes)?;
        for (name, functions) in &mut self.imports {
            *functions = functions_of(&types, name);
        }
        Ok(())
    }

    /// `module.name` of each function; of an interface without functions its name alone.
    pub(super) fn imported(&self) -> Vec<String> {
        let separator = match self.kind {
            Kind::Module => '.',
            Kind::Component => '#',
        };
        let mut all = Vec::new();
        for (module, functions) in &self.imports {
            if functions.is_empty() {
                all.push(module.clone());
            }
            let named = functions
                .iter()
                .map(|name| format!("{module}{separator}{name}"));
            all.extend(named);
        }
        all
    }

    /// What it was written in, as far as its compilers have said.
    pub(super) fn languages(&self) -> Vec<String> {
        let languages = self.producers.iter().filter(|one| one.field == "language");
        let names = languages.map(|one| format!("{} {}", one.name, one.version));
        names.map(|name| name.trim().to_owned()).collect()
    }
}

fn functions_of(types: &Types, interface: &str) -> BTreeSet<String> {
    let Some(item) = types.component_item_for_import(interface) else {
        return BTreeSet::new();
    };
    let ComponentEntityType::Instance(id) = item.ty else {
        return BTreeSet::new();
    };
    let functions = types[id]
        .exports
        .iter()
        .filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)));
    functions.map(|(name, _)| name.clone()).collect()
}
