//! Modules rewritten: their mutable globals exported so that the host can read them, and the state of a running instance
//! written into them as the state to start with.
//!
//! Everything that is not concerned is copied byte for byte, code above all.

use std::borrow::Cow;

use wasm_encoder::{
    ConstExpr, DataSection, ExportKind, ExportSection, GlobalSection, MemorySection, MemoryType,
    RawSection,
};
use wasmparser::{ExternalKind, Operator, Parser, Payload, TypeRef, ValType};

/// Names of the exports that are added; a filter has no business with such names.
const PREFIX: &str = "tidegate:global:";

/// Size of the pieces in which memory is compared and stored.
pub(crate) const PAGE: usize = 4096;
/// Bytes of a WebAssembly page.
const WASM_PAGE: usize = 64 << 10;

/// The state of an instance, as far as it is not in its code.
pub(crate) struct State<'a> {
    pub(crate) memory: &'a [u8],
    /// Index and value of each mutable global.
    pub(crate) globals: &'a [(u32, Number)],
}

/// The value of a numeric global.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    I32(i32),
    I64(i64),
    /// The bits.
    F32(u32),
    /// The bits.
    F64(u64),
    V128(u128),
}

/// What a module does that a snapshot must know.
pub(crate) struct Survey {
    /// Indices of mutable globals.
    pub(crate) globals: Vec<u32>,
}

/// The export under which a global is found in modules that were compiled here.
pub(crate) fn export_of(global: u32) -> String {
    format!("{PREFIX}{global}")
}

/// The module with its mutable globals exported; unchanged where there is nothing to export, or what it is cannot be told:
/// then the compiler will say what is wrong.
pub(crate) fn with_state_exported(wasm: &[u8]) -> Cow<'_, [u8]> {
    export_globals(wasm).map_or(Cow::Borrowed(wasm), Cow::Owned)
}

fn export_globals(wasm: &[u8]) -> Option<Vec<u8>> {
    let globals = mutable_globals(wasm)?;
    if globals.is_empty() {
        return None;
    }
    let mut module = wasm_encoder::Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.ok()?;
        let Payload::ExportSection(section) = &payload else {
            copy(&mut module, &payload, wasm);
            continue;
        };
        let mut exports = ExportSection::new();
        for export in section.clone() {
            let export = export.ok()?;
            if export.name.starts_with(PREFIX) {
                return None;
            }
            exports.export(export.name, kind(export.kind)?, export.index);
        }
        for global in &globals {
            exports.export(&export_of(*global), ExportKind::Global, *global);
        }
        module.section(&exports);
    }
    Some(module.finish())
}

fn mutable_globals(wasm: &[u8]) -> Option<Vec<u32>> {
    let mut index = 0;
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if matches!(import.ok()?.ty, TypeRef::Global(_)) {
                        index += 1;
                    }
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    if global.ok()?.ty.mutable {
                        found.push(index);
                    }
                    index += 1;
                }
            }
            // Globals come before code.
            Payload::CodeSectionStart { .. } => break,
            _ => {}
        }
    }
    Some(found)
}

/// Whether all state that an instance of this module can have is memory and numeric globals. The error says what else there is.
pub(crate) fn survey(wasm: &[u8]) -> Result<Survey, String> {
    let mut survey = Survey {
        globals: Vec::new(),
    };
    let mut index = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(text)? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(text)?;
                    if !matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) {
                        return Err(format!(
                            "it imports {}.{}, which is no function",
                            import.module, import.name
                        ));
                    }
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let ty = global.map_err(text)?.ty;
                    if ty.mutable {
                        if matches!(ty.content_type, ValType::Ref(_)) {
                            return Err(format!("its mutable global {index} holds a reference"));
                        }
                        survey.globals.push(index);
                    }
                    index += 1;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    if export.map_err(text)?.name.starts_with(PREFIX) {
                        return Err(format!("it has an export of its own named {PREFIX}…"));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader().map_err(text)? {
                    if let Some(name) = other_state(&operator.map_err(text)?) {
                        return Err(format!("its code changes tables or segments ({name})"));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(survey)
}

/// Instructions that change state which is neither memory nor a global.
fn other_state(operator: &Operator<'_>) -> Option<&'static str> {
    Some(match operator {
        Operator::TableSet { .. } => "table.set",
        Operator::TableGrow { .. } => "table.grow",
        Operator::TableFill { .. } => "table.fill",
        Operator::TableCopy { .. } => "table.copy",
        Operator::TableInit { .. } => "table.init",
        Operator::ElemDrop { .. } => "elem.drop",
        Operator::MemoryInit { .. } => "memory.init",
        Operator::DataDrop { .. } => "data.drop",
        _ => return None,
    })
}

/// The module, instrumented by [`with_state_exported`], with `state` as what its instances start with, and without a start
/// function. `survey` must have found nothing against it.
pub(crate) fn starting_with(instrumented: &[u8], state: &State<'_>) -> Result<Vec<u8>, String> {
    let mut module = wasm_encoder::Module::new();
    let mut data_written = false;
    for payload in Parser::new(0).parse_all(instrumented) {
        let payload = payload.map_err(text)?;
        match &payload {
            Payload::MemorySection(section) => {
                module.section(&memory(section.clone(), state.memory.len())?);
            }
            Payload::GlobalSection(section) => {
                module.section(&globals(section.clone(), instrumented, state.globals)?);
            }
            // Only memory.init and data.drop need the count, and there are none.
            Payload::StartSection { .. } | Payload::DataCountSection { .. } => {}
            Payload::DataSection(_) => {
                module.section(&data(state.memory));
                data_written = true;
            }
            Payload::End(_) if !data_written => {
                module.section(&data(state.memory));
            }
            _ => copy(&mut module, &payload, instrumented),
        }
    }
    Ok(module.finish())
}

fn memory(
    section: wasmparser::MemorySectionReader<'_>,
    bytes: usize,
) -> Result<MemorySection, String> {
    let mut memories = MemorySection::new();
    for memory in section {
        let memory = memory.map_err(text)?;
        if memory.page_size_log2.is_some() || memory.shared || memory.memory64 {
            return Err("its memory is not an ordinary one".to_owned());
        }
        memories.memory(MemoryType {
            minimum: (bytes / WASM_PAGE) as u64,
            maximum: memory.maximum,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
    }
    Ok(memories)
}

fn globals(
    section: wasmparser::GlobalSectionReader<'_>,
    wasm: &[u8],
    values: &[(u32, Number)],
) -> Result<GlobalSection, String> {
    let end = section.range().end;
    let items: Vec<_> = section
        .into_iter_with_offsets()
        .collect::<Result<_, _>>()
        .map_err(text)?;
    let mut globals = GlobalSection::new();
    for (index, (start, global)) in items.iter().enumerate() {
        if !global.ty.mutable {
            let end = items.get(index + 1).map_or(end, |(next, _)| *next);
            globals.raw(&wasm[*start..end]);
            continue;
        }
        let value = values
            .iter()
            .find(|(known, _)| *known as usize == index)
            .ok_or_else(|| format!("no value of global {index}"))?
            .1;
        let ty = wasm_encoder::GlobalType {
            val_type: value.ty(),
            mutable: true,
            shared: false,
        };
        globals.global(ty, &value.expression());
    }
    Ok(globals)
}

/// What is not zero, in runs of whole pages.
fn data(memory: &[u8]) -> DataSection {
    let mut section = DataSection::new();
    let is_zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
    let mut run: Option<usize> = None;
    let mut flush = |from: usize, to: usize| {
        let offset = u32::try_from(from).unwrap_or(u32::MAX).cast_signed();
        section.active(
            0,
            &ConstExpr::i32_const(offset),
            memory[from..to].iter().copied(),
        );
    };
    for (index, page) in memory.chunks(PAGE).enumerate() {
        let at = index * PAGE;
        match (is_zero(page), run) {
            (true, Some(from)) => {
                flush(from, at);
                run = None;
            }
            (false, None) => run = Some(at),
            _ => {}
        }
    }
    if let Some(from) = run {
        flush(from, memory.len());
    }
    section
}

/// Copies a section as it is; payloads without one (headers, function bodies, the end) are part of others.
fn copy(module: &mut wasm_encoder::Module, payload: &Payload<'_>, wasm: &[u8]) {
    if let Some((id, range)) = payload.as_section() {
        module.section(&RawSection {
            id,
            data: &wasm[range],
        });
    }
}

fn kind(kind: ExternalKind) -> Option<ExportKind> {
    Some(match kind {
        ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
        ExternalKind::Table => ExportKind::Table,
        ExternalKind::Memory => ExportKind::Memory,
        ExternalKind::Global => ExportKind::Global,
        ExternalKind::Tag => ExportKind::Tag,
    })
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn text(error: wasmparser::BinaryReaderError) -> String {
    error.to_string()
}

// === impl Number ===

impl Number {
    fn ty(self) -> wasm_encoder::ValType {
        match self {
            Self::I32(_) => wasm_encoder::ValType::I32,
            Self::I64(_) => wasm_encoder::ValType::I64,
            Self::F32(_) => wasm_encoder::ValType::F32,
            Self::F64(_) => wasm_encoder::ValType::F64,
            Self::V128(_) => wasm_encoder::ValType::V128,
        }
    }

    fn expression(self) -> ConstExpr {
        match self {
            Self::I32(value) => ConstExpr::i32_const(value),
            Self::I64(value) => ConstExpr::i64_const(value),
            Self::F32(bits) => ConstExpr::f32_const(wasm_encoder::Ieee32::new(bits)),
            Self::F64(bits) => ConstExpr::f64_const(wasm_encoder::Ieee64::new(bits)),
            Self::V128(value) => ConstExpr::v128_const(value.cast_signed()),
        }
    }
}
