//! Every import of the reference, in every ABI version that has it: what links in Envoy links here, and nothing else.

use std::collections::BTreeSet;

use super::guest::{compile, engine};
use crate::{AbiVersion, LoadError};

use AbiVersion::{V0_1_0, V0_2_0, V0_2_1, V0_2_100};

const ALL: &[AbiVersion] = &[V0_1_0, V0_2_0, V0_2_1, V0_2_100];
const OLD: &[AbiVersion] = &[V0_1_0];
const NEW: &[AbiVersion] = &[V0_2_0, V0_2_1, V0_2_100];

/// Name, parameters (`l` is i64), result, versions: proxy-wasm-cpp-host's and Envoy's `exports.h`.
const ENV: [(&str, &str, &str, &[AbiVersion]); 48] = [
    ("proxy_log", "iii", "i", ALL),
    ("proxy_get_log_level", "i", "i", &[V0_2_1, V0_2_100]),
    ("proxy_get_status", "iii", "i", ALL),
    ("proxy_set_property", "iiii", "i", ALL),
    ("proxy_get_property", "iiii", "i", ALL),
    ("proxy_send_local_response", "iiiiiiii", "i", ALL),
    ("proxy_continue_request", "", "i", OLD),
    ("proxy_continue_response", "", "i", OLD),
    ("proxy_clear_route_cache", "", "i", OLD),
    ("proxy_get_configuration", "ii", "i", OLD),
    ("proxy_continue_stream", "i", "i", NEW),
    ("proxy_close_stream", "i", "i", NEW),
    ("proxy_get_header_map_value", "iiiii", "i", ALL),
    ("proxy_add_header_map_value", "iiiii", "i", ALL),
    ("proxy_replace_header_map_value", "iiiii", "i", ALL),
    ("proxy_remove_header_map_value", "iii", "i", ALL),
    ("proxy_get_header_map_pairs", "iii", "i", ALL),
    ("proxy_set_header_map_pairs", "iii", "i", ALL),
    ("proxy_get_header_map_size", "ii", "i", ALL),
    ("proxy_get_buffer_bytes", "iiiii", "i", ALL),
    ("proxy_get_buffer_status", "iii", "i", ALL),
    ("proxy_set_buffer_bytes", "iiiii", "i", ALL),
    ("proxy_http_call", "iiiiiiiiii", "i", ALL),
    ("proxy_grpc_call", "iiiiiiiiiiii", "i", ALL),
    ("proxy_grpc_stream", "iiiiiiiii", "i", ALL),
    ("proxy_grpc_send", "iiii", "i", ALL),
    ("proxy_grpc_cancel", "i", "i", ALL),
    ("proxy_grpc_close", "i", "i", ALL),
    ("proxy_set_tick_period_milliseconds", "i", "i", ALL),
    ("proxy_get_current_time_nanoseconds", "i", "i", ALL),
    ("proxy_get_shared_data", "iiiii", "i", ALL),
    ("proxy_set_shared_data", "iiiii", "i", ALL),
    ("proxy_register_shared_queue", "iii", "i", ALL),
    ("proxy_resolve_shared_queue", "iiiii", "i", ALL),
    ("proxy_enqueue_shared_queue", "iii", "i", ALL),
    ("proxy_dequeue_shared_queue", "iii", "i", ALL),
    ("proxy_define_metric", "iiii", "i", ALL),
    ("proxy_increment_metric", "il", "i", ALL),
    ("proxy_record_metric", "il", "i", ALL),
    ("proxy_get_metric", "ii", "i", ALL),
    ("proxy_set_effective_context", "i", "i", ALL),
    ("proxy_done", "", "i", ALL),
    ("proxy_call_foreign_function", "iiiiii", "i", ALL),
    ("envoy_resolve_dns", "iii", "i", ALL),
    ("pthread_equal", "ii", "i", ALL),
    ("emscripten_notify_memory_growth", "i", "", ALL),
    ("proxy_redis_init", "iiiiiii", "i", &[V0_2_100]),
    ("proxy_redis_call", "iiiii", "i", &[V0_2_100]),
];

const WASI: [(&str, &str, &str); 46] = [
    ("args_get", "ii", "i"),
    ("args_sizes_get", "ii", "i"),
    ("clock_res_get", "ii", "i"),
    ("clock_time_get", "ili", "i"),
    ("environ_get", "ii", "i"),
    ("environ_sizes_get", "ii", "i"),
    ("fd_advise", "illi", "i"),
    ("fd_allocate", "ill", "i"),
    ("fd_close", "i", "i"),
    ("fd_datasync", "i", "i"),
    ("fd_fdstat_get", "ii", "i"),
    ("fd_fdstat_set_flags", "ii", "i"),
    ("fd_fdstat_set_rights", "ill", "i"),
    ("fd_filestat_get", "ii", "i"),
    ("fd_filestat_set_size", "il", "i"),
    ("fd_filestat_set_times", "illi", "i"),
    ("fd_pread", "iiili", "i"),
    ("fd_prestat_dir_name", "iii", "i"),
    ("fd_prestat_get", "ii", "i"),
    ("fd_pwrite", "iiili", "i"),
    ("fd_read", "iiii", "i"),
    ("fd_readdir", "iiili", "i"),
    ("fd_renumber", "ii", "i"),
    ("fd_seek", "ilii", "i"),
    ("fd_sync", "i", "i"),
    ("fd_tell", "ii", "i"),
    ("fd_write", "iiii", "i"),
    ("path_create_directory", "iii", "i"),
    ("path_filestat_get", "iiiii", "i"),
    ("path_filestat_set_times", "iiiilli", "i"),
    ("path_link", "iiiiiii", "i"),
    ("path_open", "iiiiillii", "i"),
    ("path_readlink", "iiiiii", "i"),
    ("path_remove_directory", "iii", "i"),
    ("path_rename", "iiiiii", "i"),
    ("path_symlink", "iiiii", "i"),
    ("path_unlink_file", "iii", "i"),
    ("poll_oneoff", "iiii", "i"),
    ("proc_exit", "i", ""),
    ("random_get", "ii", "i"),
    ("sched_yield", "", "i"),
    ("sock_accept", "iii", "i"),
    ("sock_recv", "iiiiii", "i"),
    ("sock_send", "iiiii", "i"),
    ("sock_shutdown", "ii", "i"),
    // Twice, as Go's linker does it.
    ("fd_write", "iiii", "i"),
];

fn import(module: &str, name: &str, parameters: &str, result: &str) -> String {
    let types = |letters: &str| -> String {
        letters
            .chars()
            .map(|c| if c == 'l' { " i64" } else { " i32" })
            .collect()
    };
    format!(
        "(import \"{module}\" \"{name}\" (func (param{}) (result{})))",
        types(parameters),
        types(result)
    )
}

fn module(abi: AbiVersion, imports: &str) -> String {
    format!(
        "(module {imports} (memory (export \"memory\") 1)
            (func (export \"malloc\") (param i32) (result i32) (i32.const 0))
            (func (export \"proxy_abi_version_{}\")))",
        abi.as_str().replace('.', "_")
    )
}

#[test]
fn each_version_has_its_functions_and_no_others() {
    for abi in ALL {
        let mut together = String::new();
        let mut names = BTreeSet::new();
        for (name, parameters, result, versions) in ENV {
            let text = import("env", name, parameters, result);
            if versions.contains(abi) {
                together.push_str(&text);
                names.insert(("env", name));
            } else {
                let error = compile(&module(*abi, &text)).unwrap_err();
                assert!(
                    matches!(&error, LoadError::UnknownImport { name: unknown, .. } if unknown == name),
                    "{abi} {name}: {error}"
                );
            }
        }
        for wasi in ["wasi_snapshot_preview1", "wasi_unstable"] {
            for (name, parameters, result) in WASI {
                together.push_str(&import(wasi, name, parameters, result));
                names.insert((wasi, name));
            }
        }
        let compiled = compile(&module(*abi, &together));
        assert_eq!(compiled.map(|module| module.abi()), Ok(*abi));
        let registered: BTreeSet<_> = engine().functions(*abi).names.iter().copied().collect();
        assert_eq!(
            registered, names,
            "{abi}: the table and the host say the same"
        );
    }
}

#[test]
fn what_is_only_linked_says_so() {
    let calls = [
        (
            "envoy_resolve_dns",
            "(i32.const 0) (i32.const 1) (i32.const 8)",
        ),
        (
            "proxy_redis_init",
            "(i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)",
        ),
        (
            "proxy_redis_call",
            "(i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)",
        ),
    ];
    for (name, arguments) in calls {
        let parameters = "i".repeat(arguments.matches('(').count());
        let text = import("env", name, &parameters, "i").replace("(func", "(func $f");
        let body = format!(
            "{text} (func (export \"proxy_on_tick\") (param i32) (i32.store (i32.const 16) (call $f {arguments})))"
        );
        let module = compile(&module(V0_2_100, &body)).unwrap();
        let mut vm = crate::Vm::start(
            &module,
            std::sync::Arc::new(super::guest::vm_config()),
            crate::Shared::new(),
        )
        .unwrap();
        let root = vm
            .add_root(std::sync::Arc::new(super::guest::plugin()))
            .unwrap();
        vm.on_tick(root).unwrap();
        assert_eq!(vm.memory()[16..20], 12_u32.to_le_bytes(), "{name}");
        assert_eq!(vm.memory()[8..12], [0; 4], "{name} gives no token");
    }
}
