//! The hostcalls, by the short names that scripts use, each with the kinds of its arguments:
//!
//! | kind | in a script | on the wire |
//! |---|---|---|
//! | `m` | name or number of a header map | i32 |
//! | `b` | name or number of a buffer | i32 |
//! | `i` | a number or a `$variable` | i32 |
//! | `l` | a number | i64 |
//! | `s` | text, `{"hex"}`, `{"repeat", "times"}`, `{"ptr", "len"}` or null | pointer and size |
//! | `S` | a property's path with dots, or a list of its segments | pointer and size |
//! | `p` | a list of `[name, value]`, or as `s` | pointer and size |
//! | `O` | nothing, or `{"at": address}` | where pointer and size of bytes go |
//! | `P` | the same, and the bytes are a serialised map | |
//! | `H` | the same, and only their number is shown | |
//! | `o` | the same | where a u32 goes |
//! | `t` | the same | where a u32 goes that each host counts in its own way: only whether there is one is shown |
//! | `q` | the same | where a u64 goes |

macro_rules! hostcalls {
    ($($(#[$gate:meta])* $short:literal $kinds:literal $name:ident($($arg:ident),*);)*) => {
        #[link(wasm_import_module = "env")]
        unsafe extern "C" {
            $($(#[$gate])* fn $name($($arg: i32),*) -> i32;)*
            fn proxy_increment_metric(id: i32, offset: i64) -> i32;
            fn proxy_record_metric(id: i32, value: i64) -> i32;
        }

        /// The kinds of a hostcall's arguments; `None` if there is no hostcall of that name in this ABI.
        pub(crate) fn kinds(short: &str) -> Option<&'static str> {
            match short {
                $($(#[$gate])* $short => Some($kinds),)*
                "increment" | "record" => Some("il"),
                _ => None,
            }
        }

        /// Calls it; the status.
        ///
        /// # Panics
        /// When the number of arguments is not what its kinds say.
        pub(crate) fn call(short: &str, arguments: &[i64]) -> u32 {
            // Addresses may be wrong on purpose: the host has to check them, and what it writes to good ones is ours.
            let status = match short {
                $($(#[$gate])* $short => {
                    let &[$($arg),*] = arguments else { panic!("arguments of {short}: {arguments:?}") };
                    unsafe { $name($($arg as i32),*) }
                })*
                "increment" => unsafe { proxy_increment_metric(arguments[0] as i32, arguments[1]) },
                "record" => unsafe { proxy_record_metric(arguments[0] as i32, arguments[1]) },
                _ => panic!("no hostcall {short}"),
            };
            status as u32
        }
    };
}

hostcalls! {
    "log" "is" proxy_log(a, b, c);
    "time" "q" proxy_get_current_time_nanoseconds(a);
    "tick" "i" proxy_set_tick_period_milliseconds(a);
    "effective" "i" proxy_set_effective_context(a);
    "done" "" proxy_done();
    "get" "msO" proxy_get_header_map_value(a, b, c, d, e);
    "add" "mss" proxy_add_header_map_value(a, b, c, d, e);
    "replace" "mss" proxy_replace_header_map_value(a, b, c, d, e);
    "remove" "ms" proxy_remove_header_map_value(a, b, c);
    "pairs" "mP" proxy_get_header_map_pairs(a, b, c);
    "set_pairs" "mp" proxy_set_header_map_pairs(a, b, c);
    "size" "mo" proxy_get_header_map_size(a, b);
    "bytes" "biiO" proxy_get_buffer_bytes(a, b, c, d, e);
    "buffer" "boo" proxy_get_buffer_status(a, b, c);
    "set_bytes" "biis" proxy_set_buffer_bytes(a, b, c, d, e);
    "property" "SO" proxy_get_property(a, b, c, d);
    "set_property" "Ss" proxy_set_property(a, b, c, d);
    "reply" "isspi" proxy_send_local_response(a, b, c, d, e, f, g, h);
    "call" "spspit" proxy_http_call(a, b, c, d, e, f, g, h, i, j);
    "status" "oO" proxy_get_status(a, b, c);
    "grpc_call" "ssspsit" proxy_grpc_call(a, b, c, d, e, f, g, h, i, j, k, l);
    "grpc_stream" "ssspt" proxy_grpc_stream(a, b, c, d, e, f, g, h, i);
    "grpc_send" "isi" proxy_grpc_send(a, b, c, d);
    "grpc_cancel" "i" proxy_grpc_cancel(a);
    "grpc_close" "i" proxy_grpc_close(a);
    "shared" "sOt" proxy_get_shared_data(a, b, c, d, e);
    "share" "ssi" proxy_set_shared_data(a, b, c, d, e);
    "register" "st" proxy_register_shared_queue(a, b, c);
    "resolve" "sst" proxy_resolve_shared_queue(a, b, c, d, e);
    "enqueue" "is" proxy_enqueue_shared_queue(a, b, c);
    "dequeue" "iO" proxy_dequeue_shared_queue(a, b, c);
    "define" "ist" proxy_define_metric(a, b, c, d);
    "metric" "iq" proxy_get_metric(a, b);
    "foreign" "ssO" proxy_call_foreign_function(a, b, c, d, e, f);
    #[cfg(not(feature = "abi-0-1-0"))]
    "continue" "i" proxy_continue_stream(a);
    #[cfg(not(feature = "abi-0-1-0"))]
    "close" "i" proxy_close_stream(a);
    #[cfg(not(any(feature = "abi-0-1-0", feature = "abi-0-2-0")))]
    "log_level" "o" proxy_get_log_level(a);
    #[cfg(feature = "abi-0-1-0")]
    "configuration" "O" proxy_get_configuration(a, b);
    #[cfg(feature = "abi-0-1-0")]
    "continue_request" "" proxy_continue_request();
    #[cfg(feature = "abi-0-1-0")]
    "continue_response" "" proxy_continue_response();
    #[cfg(feature = "abi-0-1-0")]
    "clear_route_cache" "" proxy_clear_route_cache();
}

/// Logs a line of the probe's own.
pub(crate) fn log(line: &str) {
    // SAFETY: the text outlives the call. A host that does not take the line has nothing to compare, which the test notices.
    unsafe { proxy_log(2, line.as_ptr() as i32, line.len() as i32) };
}

/// Bytes of a buffer: the configuration.
pub(crate) fn buffer(number: i32) -> Vec<u8> {
    let (mut at, mut size) = (0_u32, 0_u32);
    // SAFETY: both addresses are those of variables of the right size.
    unsafe {
        proxy_get_buffer_bytes(
            number,
            0,
            i32::MAX,
            (&raw mut at) as i32,
            (&raw mut size) as i32,
        );
        take(at, size)
    }
}

/// The value of a request header, for scripts that decide by it; empty if there is none.
pub(crate) fn header(name: &str) -> Vec<u8> {
    let (mut at, mut size) = (0_u32, 0_u32);
    // SAFETY: as above.
    unsafe {
        let (at_out, size_out) = ((&raw mut at) as i32, (&raw mut size) as i32);
        proxy_get_header_map_value(0, name.as_ptr() as i32, name.len() as i32, at_out, size_out);
        take(at, size)
    }
}

/// Takes over what the host has put into memory that our allocator gave it.
///
/// # Safety
/// `at` and `size` come from a hostcall that has just returned them, and are taken once.
pub(crate) unsafe fn take(at: u32, size: u32) -> Vec<u8> {
    if at == 0 {
        return Vec::new();
    }
    // SAFETY: `proxy_on_memory_allocate` has leaked a vector of this capacity there.
    unsafe { Vec::from_raw_parts(at as *mut u8, size as usize, size as usize) }
}
