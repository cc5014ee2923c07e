//! What a module may ask of the compiler. Compiling cannot be interrupted, so its time and memory are bounded by what goes in.

use wasmparser::{Parser, Payload};

/// Functions of a module; Go's runtime has a few thousand.
const MOST_FUNCTIONS: u32 = 100_000;
/// Bytes of all functions.
const MOST_CODE: usize = 32 << 20;
/// Bytes of one function: the cost of some passes grows faster than its length.
const MOST_BODY: usize = 1 << 20;
/// Variables of one function. They take five bytes to declare, however many there are.
const MOST_LOCALS: u64 = 20_000;
/// Variables of all functions.
const MOST_LOCALS_OVER_ALL: u64 = 4_000_000;

/// Why bytes are not given to the compiler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitError {
    #[error(
        "this is precompiled code (cwasm), which could be anything: give the WebAssembly that it was made from"
    )]
    Precompiled,
    #[error(
        "the module has more than {most} {what}, which is the most that is compiled; make it smaller, or split it"
    )]
    TooMany { what: &'static str, most: u64 },
}

/// Counts before compiling. What is damaged is left for the compiler to tell.
pub(crate) fn check(wasm: &[u8]) -> Result<(), LimitError> {
    if wasm.starts_with(b"\x7fELF") {
        return Err(LimitError::Precompiled);
    }
    let mut locals_over_all = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::FunctionSection(functions)) => {
                within("functions", functions.count().into(), MOST_FUNCTIONS.into())?;
            }
            Ok(Payload::CodeSectionStart { size, count, .. }) => {
                within("functions", count.into(), MOST_FUNCTIONS.into())?;
                within("bytes of code", size.into(), MOST_CODE as u64)?;
            }
            Ok(Payload::CodeSectionEntry(body)) => {
                within(
                    "bytes of code in one function",
                    body.range().len() as u64,
                    MOST_BODY as u64,
                )?;
                let Ok(declarations) = body.get_locals_reader() else {
                    return Ok(());
                };
                let counts = declarations
                    .into_iter()
                    .map_while(|one| Some(u64::from(one.ok()?.0)));
                let locals: u64 = counts.sum();
                within("local variables in one function", locals, MOST_LOCALS)?;
                locals_over_all += locals;
                within("local variables", locals_over_all, MOST_LOCALS_OVER_ALL)?;
            }
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn within(what: &'static str, count: u64, most: u64) -> Result<(), LimitError> {
    if count > most {
        return Err(LimitError::TooMany { what, most });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        CodeSection, Function, FunctionSection, Instruction, Module, TypeSection, ValType,
    };

    use super::*;

    /// So many functions, each with so many locals and so many instructions of one byte.
    fn module(functions: u32, locals: u32, instructions: usize) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut section = FunctionSection::new();
        let mut code = CodeSection::new();
        let mut function = Function::new([(locals, ValType::I32)]);
        for _ in 0..instructions {
            function.instruction(&Instruction::Nop);
        }
        function.instruction(&Instruction::End);
        for _ in 0..functions {
            section.function(0);
            code.function(&function);
        }
        let mut module = Module::new();
        module.section(&types).section(&section).section(&code);
        module.finish()
    }

    fn refused(wasm: &[u8]) -> Option<&'static str> {
        match check(wasm) {
            Err(LimitError::TooMany { what, .. }) => Some(what),
            _ => None,
        }
    }

    #[test]
    fn what_would_cost_the_compiler_much_is_refused() {
        assert_eq!(check(&module(10, 10, 10)), Ok(()));
        assert_eq!(
            refused(&module(MOST_FUNCTIONS + 1, 0, 0)),
            Some("functions")
        );
        assert_eq!(
            refused(&module(1, 0, MOST_BODY)),
            Some("bytes of code in one function")
        );
        assert_eq!(
            refused(&module(1, 50_000, 0)),
            Some("local variables in one function")
        );
        assert_eq!(refused(&module(300, 19_000, 0)), Some("local variables"));
        assert_eq!(
            refused(&module(40, 0, MOST_BODY - 100)),
            Some("bytes of code")
        );
    }

    #[test]
    fn precompiled_code_is_refused_and_damage_left_to_the_compiler() {
        assert_eq!(check(b"\x7fELF\x02\x01"), Err(LimitError::Precompiled));
        let whole = module(10, 10, 10);
        assert_eq!(check(&whole[..whole.len() - 5]), Ok(()));
        assert_eq!(check(b"text"), Ok(()));
    }
}
