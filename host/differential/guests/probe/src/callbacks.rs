//! The exported callbacks: each logs that it was called and with what, then runs its part of the script.

use std::rc::Rc;

use serde_json::Value;

use crate::script::{self, Place};
use crate::{hostcalls, state};

const CONTINUE: u32 = 0;
const TRUE: u32 = 1;

/// Logs and runs one callback.
fn run(name: &'static str, context: u32, end_of_stream: bool, told: &str, default: u32) -> u32 {
    let (root, script, before) = state::with(|state| {
        let root = state.roots.get(&context).copied().unwrap_or(context);
        let before = state.counts.entry((context, name)).or_default();
        *before += 1;
        let before = *before - 1;
        let key = if name == "vm_start" { 0 } else { root };
        (root, state.scripts.get(&key).cloned(), before)
    });
    let is_quiet = |script: &Value| {
        let quiet = script.get("quiet").and_then(Value::as_array);
        quiet.is_some_and(|names| names.iter().any(|quiet| quiet == name))
    };
    // How often some callbacks come depends on how bytes arrive.
    if !script.as_deref().is_some_and(is_quiet) {
        hostcalls::log(&format!("{name} #{context}{told}"));
    }
    let place = Place {
        context,
        root,
        end_of_stream,
        before,
    };
    let operations = script.as_ref().and_then(|script| script.get(name));
    operations
        .and_then(|operations| script::run(operations, &place))
        .unwrap_or(default)
}

fn read_script(buffer: i32, key: u32) {
    let text = hostcalls::buffer(buffer);
    if let Ok(script) = serde_json::from_slice::<Value>(&text) {
        state::with(|state| state.scripts.insert(key, Rc::new(script)));
    }
}

fn told(end_of_stream: u32) -> &'static str {
    if end_of_stream == 0 { "" } else { " end" }
}

macro_rules! exports {
    ($($(#[$gate:meta])* $export:ident($($arg:ident),*) $(-> $result:ty)? $body:block)*) => {
        $($(#[$gate])*
        #[unsafe(no_mangle)]
        extern "C" fn $export($($arg: u32),*) $(-> $result)? $body)*
    };
}

exports! {
    #[cfg(feature = "abi-0-1-0")]
    proxy_abi_version_0_1_0() {}

    #[cfg(feature = "abi-0-2-0")]
    proxy_abi_version_0_2_0() {}

    #[cfg(not(any(feature = "abi-0-1-0", feature = "abi-0-2-0")))]
    proxy_abi_version_0_2_1() {}

    proxy_on_memory_allocate(size) -> *mut u8 {
        let mut bytes = std::mem::ManuallyDrop::new(Vec::<u8>::with_capacity(size as usize));
        bytes.as_mut_ptr()
    }

    proxy_on_context_create(context, parent) {
        if parent != 0 {
            state::with(|state| {
                state.roots.insert(context, parent);
                state.stream = context;
            });
        }
        run("create", context, false, &format!(" of #{parent}"), 0);
    }

    proxy_on_vm_start(root, size) -> u32 {
        read_script(6, 0);
        run("vm_start", root, false, &format!(" {size} bytes"), TRUE)
    }

    proxy_on_configure(root, size) -> u32 {
        read_script(7, root);
        run("configure", root, false, &format!(" {size} bytes"), TRUE)
    }

    proxy_on_tick(root) { run("tick", root, false, "", 0); }

    proxy_on_queue_ready(root, _token) { run("queue", root, false, "", 0); }

    #[cfg(feature = "abi-0-1-0")]
    proxy_on_request_headers(context, count) -> u32 {
        run("request_headers", context, false, &format!(" {count} headers"), CONTINUE)
    }

    #[cfg(not(feature = "abi-0-1-0"))]
    proxy_on_request_headers(context, count, end) -> u32 {
        run("request_headers", context, end != 0, &format!(" {count} headers{}", told(end)), CONTINUE)
    }

    proxy_on_request_body(context, size, end) -> u32 {
        run("request_body", context, end != 0, &format!(" {size} bytes{}", told(end)), CONTINUE)
    }

    proxy_on_request_trailers(context, count) -> u32 {
        run("request_trailers", context, true, &format!(" {count} trailers"), CONTINUE)
    }

    #[cfg(feature = "abi-0-1-0")]
    proxy_on_response_headers(context, count) -> u32 {
        run("response_headers", context, false, &format!(" {count} headers"), CONTINUE)
    }

    #[cfg(not(feature = "abi-0-1-0"))]
    proxy_on_response_headers(context, count, end) -> u32 {
        run("response_headers", context, end != 0, &format!(" {count} headers{}", told(end)), CONTINUE)
    }

    proxy_on_response_body(context, size, end) -> u32 {
        run("response_body", context, end != 0, &format!(" {size} bytes{}", told(end)), CONTINUE)
    }

    proxy_on_response_trailers(context, count) -> u32 {
        run("response_trailers", context, true, &format!(" {count} trailers"), CONTINUE)
    }

    // Envoy adds a header of its own to answers: how many there are is left out.
    proxy_on_http_call_response(root, _token, _headers, size, trailers) {
        let told = format!(" {size} bytes, {trailers} trailers");
        run("callout", root, false, &told, 0);
    }

    proxy_on_grpc_receive_initial_metadata(root, _token, count) {
        run("grpc_initial", root, false, &format!(" {count} entries"), 0);
    }

    proxy_on_grpc_receive(root, _token, size) {
        run("grpc_receive", root, false, &format!(" {size} bytes"), 0);
    }

    proxy_on_grpc_receive_trailing_metadata(root, _token, count) {
        run("grpc_trailing", root, false, &format!(" {count} entries"), 0);
    }

    proxy_on_grpc_close(root, _token, status) {
        run("grpc_close", root, false, &format!(" status {status}"), 0);
    }

    proxy_on_done(context) -> u32 { run("done", context, false, "", TRUE) }

    proxy_on_log(context) { run("log", context, false, "", 0); }

    proxy_on_delete(context) {
        run("delete", context, false, "", 0);
    }

    proxy_on_foreign_function(root, id, size) {
        run("foreign", root, false, &format!(" {id}: {size} bytes"), 0);
    }
}
