//! The host functions of module `env`.
//!
//! Each is a plain function over the caller, grouped by what it is about. The table below gives its name, its parameters, the
//! [`Gate`] from which it is permitted, and the capability it takes. What a call cannot do it answers with a status; only a
//! trap of the guest's own allocator, or a call at a forbidden moment, ends the guest's call.

pub(crate) mod buffers;
pub(crate) mod calls;
mod foreign;
pub(crate) mod grpc;
mod maps;
pub(crate) mod metrics;
pub(crate) mod properties;
mod queues;
mod shared_data;
pub(crate) mod streams;
pub(crate) mod system;

use wasmtime::Caller;

use crate::config::Capabilities;
use crate::engine::Functions;
use crate::host::{Gate, Host};
use crate::module::AbiVersion;
use crate::status::{Outcome, Status, answer};

/// Longest name or path that the host keeps or builds anything from.
const MAX_NAME: usize = 4096;

/// The store as a hostcall sees it.
pub(crate) type Guest<'a> = Caller<'a, Host>;

macro_rules! link {
    ($functions:ident: $( $name:ident($($arg:ident: $ty:ty),*) $gate:ident $([$capability:ident])? => $function:expr; )*) => {
        $(
            $functions.names.insert(("env", stringify!($name)));
            $functions.linker.func_wrap(
                "env",
                stringify!($name),
                |mut caller: Guest<'_>, $($arg: $ty),*| -> wasmtime::Result<u32> {
                    admit(&caller, stringify!($name), Gate::$gate)?;
                    $(
                        if !caller.data_mut().grants(Capabilities::$capability) {
                            return Ok(Status::InternalFailure as u32);
                        }
                    )?
                    let function: fn(&mut Guest<'_>, $($ty),*) -> Outcome = $function;
                    answer(function(&mut caller, $($arg),*))
                },
            )?;
        )*
    };
}

/// A call at a moment at which it is not permitted traps, as in Envoy.
#[inline]
pub(crate) fn admit(caller: &Guest<'_>, name: &str, needs: Gate) -> wasmtime::Result<()> {
    if needs <= caller.data().gate {
        Ok(())
    } else {
        Err(not_permitted(name, caller.data().gate))
    }
}

#[cold]
fn not_permitted(name: &str, gate: Gate) -> wasmtime::Error {
    let when = if gate == Gate::Allocating {
        "inside the allocator"
    } else {
        "before the first context exists"
    };
    wasmtime::Error::msg(format!("hostcall {name} is not permitted {when}"))
}

/// Links everything that this ABI version has, and nothing else: a filter that loads here loads in Envoy.
pub(crate) fn register(functions: &mut Functions, abi: AbiVersion) -> wasmtime::Result<()> {
    register_common(functions)?;
    register_calls(functions)?;
    functions
        .names
        .insert(("env", "emscripten_notify_memory_growth"));
    functions
        .linker
        .func_wrap("env", "emscripten_notify_memory_growth", |_: u32| {})?;
    functions.names.insert(("env", "pthread_equal"));
    functions
        .linker
        .func_wrap("env", "pthread_equal", |left: u32, right: u32| {
            u32::from(left == right)
        })?;
    match abi {
        AbiVersion::V0_1_0 => {
            link! { functions:
                proxy_get_configuration(ptr_out: u32, size_out: u32) Running => system::get_configuration;
                proxy_continue_request() Running => streams::continue_request;
                proxy_continue_response() Running => streams::continue_response;
                proxy_clear_route_cache() Running => streams::clear_route_cache;
            }
        }
        _ => {
            link! { functions:
                proxy_continue_stream(stream: u32) Running => streams::continue_stream;
                proxy_close_stream(stream: u32) Running => streams::close_stream;
            }
        }
    }
    if matches!(abi, AbiVersion::V0_2_1 | AbiVersion::V0_2_100) {
        link! { functions:
            proxy_get_log_level(out: u32) Running => system::get_log_level;
        }
    }
    if abi == AbiVersion::V0_2_100 {
        link! { functions:
            proxy_redis_init(
                _cluster: u32, _cluster_size: u32, _user: u32, _user_size: u32, _password: u32, _password_size: u32, _timeout: u32
            ) Running => |caller, _, _, _, _, _, _, _| system::unimplemented(caller, "proxy_redis_init");
            proxy_redis_call(_cluster: u32, _cluster_size: u32, _query: u32, _query_size: u32, _token_out: u32)
                Running => |caller, _, _, _, _, _| system::unimplemented(caller, "proxy_redis_call");
        }
    }
    Ok(())
}

fn register_common(functions: &mut Functions) -> wasmtime::Result<()> {
    link! { functions:
        proxy_log(level: u32, ptr: u32, size: u32) Allocating => system::log;
        proxy_get_current_time_nanoseconds(out: u32) Running => system::current_time;
        proxy_set_tick_period_milliseconds(period: u32) Running [TIMERS] => system::set_tick_period;
        proxy_set_effective_context(id: u32) Running => system::set_effective_context;
        proxy_done() Running => system::done;

        proxy_get_header_map_value(map: u32, key: u32, key_size: u32, ptr_out: u32, size_out: u32) Running => maps::get;
        proxy_add_header_map_value(map: u32, key: u32, key_size: u32, value: u32, value_size: u32) Running => maps::add;
        proxy_replace_header_map_value(map: u32, key: u32, key_size: u32, value: u32, value_size: u32) Running => maps::replace;
        proxy_remove_header_map_value(map: u32, key: u32, key_size: u32) Running => maps::remove;
        proxy_get_header_map_pairs(map: u32, ptr_out: u32, size_out: u32) Running => maps::get_pairs;
        proxy_set_header_map_pairs(map: u32, ptr: u32, size: u32) Running => maps::set_pairs;
        proxy_get_header_map_size(map: u32, out: u32) Running => maps::size;

        proxy_get_buffer_bytes(buffer: u32, start: u32, max: u32, ptr_out: u32, size_out: u32) Running => buffers::get;
        proxy_get_buffer_status(buffer: u32, length_out: u32, flags_out: u32) Running => buffers::status;
        proxy_set_buffer_bytes(buffer: u32, start: u32, length: u32, ptr: u32, size: u32) Running => buffers::set;

        proxy_get_property(path: u32, path_size: u32, ptr_out: u32, size_out: u32) Running [PROPERTIES] => properties::get;
        proxy_set_property(path: u32, path_size: u32, value: u32, value_size: u32) Running [PROPERTIES] => properties::set;

        proxy_send_local_response(
            code: u32, details: u32, details_size: u32, body: u32, body_size: u32, headers: u32, headers_size: u32, grpc: u32
        ) Running => streams::send_local_response;
    }
    Ok(())
}

fn register_calls(functions: &mut Functions) -> wasmtime::Result<()> {
    link! { functions:
        proxy_http_call(
            cluster: u32, cluster_size: u32, headers: u32, headers_size: u32, body: u32, body_size: u32,
            trailers: u32, trailers_size: u32, timeout: u32, token_out: u32
        ) Running => calls::http_call;
        proxy_get_status(code_out: u32, ptr_out: u32, size_out: u32) Running => calls::get_status;
        proxy_grpc_call(
            target: u32, target_size: u32, service: u32, service_size: u32, method: u32, method_size: u32,
            metadata: u32, metadata_size: u32, message: u32, message_size: u32, timeout: u32, token_out: u32
        ) Running => grpc::call;
        proxy_grpc_stream(
            target: u32, target_size: u32, service: u32, service_size: u32, method: u32, method_size: u32,
            metadata: u32, metadata_size: u32, token_out: u32
        ) Running => grpc::stream;
        proxy_grpc_send(token: u32, message: u32, message_size: u32, end_of_stream: u32) Running => grpc::send;
        proxy_grpc_cancel(token: u32) Running => grpc::cancel;
        proxy_grpc_close(token: u32) Running => grpc::close;

        proxy_get_shared_data(key: u32, key_size: u32, ptr_out: u32, size_out: u32, cas_out: u32)
            Running [SHARED_DATA] => shared_data::get;
        proxy_set_shared_data(key: u32, key_size: u32, value: u32, value_size: u32, cas: u32)
            Running [SHARED_DATA] => shared_data::set;

        proxy_register_shared_queue(name: u32, name_size: u32, token_out: u32) Running [SHARED_QUEUES] => queues::register;
        proxy_resolve_shared_queue(vm_id: u32, vm_id_size: u32, name: u32, name_size: u32, token_out: u32)
            Running [SHARED_QUEUES] => queues::resolve;
        proxy_enqueue_shared_queue(token: u32, item: u32, item_size: u32) Running [SHARED_QUEUES] => queues::enqueue;
        proxy_dequeue_shared_queue(token: u32, ptr_out: u32, size_out: u32) Running [SHARED_QUEUES] => queues::dequeue;

        proxy_define_metric(kind: u32, name: u32, name_size: u32, id_out: u32) Running [METRICS] => metrics::define;
        proxy_increment_metric(id: u32, offset: i64) Running [METRICS] => metrics::increment;
        proxy_record_metric(id: u32, value: u64) Running [METRICS] => metrics::record;
        proxy_get_metric(id: u32, out: u32) Running [METRICS] => metrics::get;

        // Envoy's own. Nothing answers names for filters here: they call clusters.
        envoy_resolve_dns(_name: u32, _name_size: u32, _token_out: u32)
            Running => |caller, _, _, _| system::unimplemented(caller, "envoy_resolve_dns");

        proxy_call_foreign_function(
            name: u32, name_size: u32, arguments: u32, arguments_size: u32, ptr_out: u32, size_out: u32
        ) Running [FOREIGN_FUNCTIONS] => foreign::call;
    }
    Ok(())
}
