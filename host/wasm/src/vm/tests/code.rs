//! Compiled code that was kept: what comes back, and what does not.

use std::sync::Arc;

use super::guest::{Guest, engine, exchange, plugin, vm_config};
use crate::vm::Vm;
use crate::{Action, Callback, CodeError, CodeKey, Engine, LoadError, Module, Shared};

const KEY: [u8; 32] = [7; 32];

fn guest() -> (Guest, Vec<u8>) {
    let mut guest = Guest::new();
    guest.returns("proxy_on_request_headers", 1);
    guest.extra = "(@custom \"filter.policy\" \"hello\")".to_owned();
    let wasm = wat::parse_str(guest.wat()).unwrap();
    (guest, wasm)
}

fn sealed(wasm: &[u8]) -> Vec<u8> {
    let module = engine().compile(wasm).unwrap();
    module.serialize(&CodeKey::new(&KEY)).unwrap()
}

#[test]
fn code_comes_back_as_the_module_that_it_was() {
    let (_, wasm) = guest();
    let sealed = sealed(&wasm);
    // As another process would: with an engine of its own.
    let other = Engine::new().unwrap();
    assert_eq!(other.compatibility(), engine().compatibility());
    assert_eq!(other.compatibility().len(), 64);
    let module = Module::deserialize(&other, &wasm, &sealed, &CodeKey::new(&KEY)).unwrap();
    assert_eq!(module.custom_section("filter.policy"), Some(&b"hello"[..]));
    assert!(module.callbacks().request_headers);
    let mut vm = Vm::start(&module, Arc::new(vm_config()), Shared::new()).unwrap();
    let root = vm.add_root(Arc::new(plugin())).unwrap();
    let stream = vm.create_stream(root).unwrap();
    vm.attach(stream, Box::new(exchange()));
    let action = vm.call(
        stream,
        Callback::RequestHeaders {
            end_of_stream: true,
        },
    );
    assert!(!matches!(action.unwrap(), Action::Continue));
}

#[test]
fn foreign_code_is_never_loaded() {
    let (_, wasm) = guest();
    let sealed = sealed(&wasm);
    let key = CodeKey::new(&KEY);
    let load = |wasm: &[u8], sealed: &[u8], key: &CodeKey| {
        Module::deserialize(engine(), wasm, sealed, key).map(drop)
    };
    assert_eq!(load(&wasm, &sealed, &key), Ok(()));

    // What wasmtime itself writes, by whatever engine.
    let raw = engine().wasmtime().precompile_module(&wasm).unwrap();
    assert_eq!(load(&wasm, &raw, &key), Err(CodeError::Foreign));
    // Sealed by another host.
    assert_eq!(
        load(&wasm, &sealed, &CodeKey::new(&[8; 32])),
        Err(CodeError::Foreign)
    );
    // Of another module, under this one's name.
    let other = wat::parse_str(Guest::new().wat()).unwrap();
    assert_eq!(load(&other, &sealed, &key), Err(CodeError::Foreign));
    // Empty, cut off, longer, or with one bit changed: in the magic number, the tag, the code.
    let mut longer = sealed.clone();
    longer.push(0);
    for bytes in [
        &[][..],
        &sealed[..7],
        &sealed[..20],
        &sealed[..sealed.len() - 1],
        &longer,
    ] {
        assert_eq!(load(&wasm, bytes, &key), Err(CodeError::Foreign));
    }
    for at in [0, 8, 39, 40, sealed.len() / 2, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(load(&wasm, &changed, &key), Err(CodeError::Foreign), "{at}");
    }
}

#[test]
fn code_offered_as_a_module_is_no_module() {
    let (_, wasm) = guest();
    let sealed = sealed(&wasm);
    let raw = engine().wasmtime().precompile_module(&wasm).unwrap();
    for bytes in [&sealed, &raw] {
        assert_eq!(engine().compile(bytes).unwrap_err(), LoadError::NotWasm);
    }
}

#[test]
fn a_random_key_is_another_each_time() {
    let (_, one) = CodeKey::random().unwrap();
    let (key, two) = CodeKey::random().unwrap();
    assert_ne!(one, two);
    assert!(!format!("{key:?}").contains(&format!("{}", two[0])) || format!("{key:?}").len() < 20);
}
