//! What `Engine::compile` refuses, and what it says about it.

use super::guest::{Guest, compile, engine};
use crate::{AbiVersion, LoadError};

const MEMORY: &str = "(memory (export \"memory\") 1)";
const MALLOC: &str = "(func (export \"malloc\") (param i32) (result i32) (i32.const 0))";
const ABI: &str = "(func (export \"proxy_abi_version_0_2_1\"))";

fn minimal(more: &str) -> String {
    format!("(module {more} {MEMORY} {MALLOC} {ABI})")
}

#[test]
fn what_is_no_filter() {
    let component = wat::parse_str("(component)").unwrap();
    assert_eq!(
        engine().compile(&component).unwrap_err(),
        LoadError::OtherWorld {
            exports: String::new()
        }
    );
    for bytes in [&b""[..], b"(module)", b"\0as", b"<html>"] {
        assert_eq!(engine().compile(bytes).unwrap_err(), LoadError::NotWasm);
    }
    assert!(matches!(
        engine().compile(b"\0asm").unwrap_err(),
        LoadError::Invalid(_)
    ));
    assert!(matches!(
        engine()
            .compile(b"\0asm\x01\0\0\0\xff\xff\xff")
            .unwrap_err(),
        LoadError::Invalid(_)
    ));
    assert!(matches!(
        compile(&minimal("(func (result i32))")).unwrap_err(),
        LoadError::Invalid(_)
    ));
    let cases = [
        (format!("(module {MEMORY} {MALLOC})"), LoadError::NoAbi),
        (
            format!("(module {MEMORY} {MALLOC} (func (export \"proxy_abi_version_9_9_9\")))"),
            LoadError::NoAbi,
        ),
        (format!("(module {MEMORY} {ABI})"), LoadError::NoAllocator),
        (format!("(module {MALLOC} {ABI})"), LoadError::NoMemory),
        (
            format!("(module {MEMORY} (memory 1) {MALLOC} {ABI})"),
            LoadError::Invalid("it has 2 memories; a filter has one".to_owned()),
        ),
    ];
    for (wat, expected) in cases {
        assert_eq!(compile(&wat).unwrap_err(), expected, "{wat}");
    }
}

#[test]
fn an_unknown_import_is_named() {
    let unknown = |wat: &str| match compile(wat).unwrap_err() {
        LoadError::UnknownImport { module, name, .. } => format!("{module}.{name}"),
        other => panic!("{other}"),
    };
    assert_eq!(
        unknown(&minimal("(import \"env\" \"proxy_redis_init\" (func))")),
        "env.proxy_redis_init"
    );
    assert_eq!(
        unknown(&minimal(
            "(import \"wasi_snapshot_preview2\" \"fd_write\" (func))"
        )),
        "wasi_snapshot_preview2.fd_write"
    );
    // What belongs to another version of the ABI is unknown too, as in Envoy.
    let old = "(import \"env\" \"proxy_continue_request\" (func (result i32)))";
    assert_eq!(unknown(&minimal(old)), "env.proxy_continue_request");
    let level = "(import \"env\" \"proxy_get_log_level\" (func (param i32) (result i32)))";
    assert!(compile(&minimal(level)).is_ok());
    assert_eq!(
        unknown(&minimal(level).replace("0_2_1", "0_2_0")),
        "env.proxy_get_log_level"
    );
    let error = compile(&minimal(
        "(import \"env\" \"proxy_log\" (func (param i32)))",
    ))
    .unwrap_err();
    assert!(
        matches!(&error, LoadError::ImportType(text) if text.contains("proxy_log")),
        "{error}"
    );
}

#[test]
fn callbacks_have_the_arity_of_their_version() {
    let two =
        "(func (export \"proxy_on_request_headers\") (param i32 i32) (result i32) (i32.const 0))";
    let three = "(func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32) (i32.const 0))";
    assert!(compile(&minimal(three)).is_ok());
    let error = compile(&minimal(two)).unwrap_err();
    assert!(
        matches!(&error, LoadError::Signature { export, parameters: 3, .. } if export == "proxy_on_request_headers"),
        "{error}"
    );
    assert!(compile(&minimal(two).replace("0_2_1", "0_1_0")).is_ok());
    assert!(compile(&minimal(three).replace("0_2_1", "0_1_0")).is_err());
    for wrong in [
        "(func (export \"proxy_on_tick\") (param i32) (result i32) (i32.const 0))",
        "(func (export \"proxy_on_done\") (param i32))",
        "(func (export \"proxy_on_log\") (param i64))",
    ] {
        assert!(
            matches!(
                compile(&minimal(wrong)).unwrap_err(),
                LoadError::Signature { .. }
            ),
            "{wrong}"
        );
    }
    // Obsolete names are the module's own business.
    assert!(
        compile(&minimal(
            "(func (export \"proxy_on_grpc_trailing_metadata\"))"
        ))
        .is_ok()
    );
}

#[test]
fn versions() {
    for (export, version) in [
        ("0_1_0", AbiVersion::V0_1_0),
        ("0_2_0", AbiVersion::V0_2_0),
        ("0_2_1", AbiVersion::V0_2_1),
        ("0_2_100", AbiVersion::V0_2_100),
    ] {
        let module = compile(&minimal("").replace("0_2_1", export)).unwrap();
        assert_eq!(module.abi(), version);
    }
    assert_eq!(AbiVersion::V0_2_0.to_string(), "0.2.0");
}

#[test]
fn callbacks_and_custom_sections() {
    let mut guest = Guest::new();
    guest.returns("proxy_on_request_headers", 0);
    guest.raw("proxy_on_tick", "");
    guest.extra =
        "(@custom \"filter.policy\" \"hello\") (@custom \".debug_info\" \"x\")".to_owned();
    let module = guest.module().unwrap();
    let callbacks = module.callbacks();
    assert!(callbacks.request_headers && callbacks.tick);
    assert!(!callbacks.request_body && !callbacks.log && !callbacks.grpc);
    assert_eq!(module.custom_section("filter.policy"), Some(&b"hello"[..]));
    assert_eq!(module.custom_section(".debug_info"), None);
    assert_eq!(module.custom_section("name"), None);
}

#[test]
fn every_function_of_every_version_links() {
    assert!(Guest::new().module().is_ok());
    assert!(Guest::old().module().is_ok());
    assert!(Guest::wasi("wasi_snapshot_preview1").module().is_ok());
    assert!(Guest::wasi("wasi_unstable").module().is_ok());
}
