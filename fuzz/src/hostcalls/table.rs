//! The hostcalls, and what each argument is for.

/// A host function.
pub(super) struct Function {
    pub(super) module: &'static str,
    pub(super) name: &'static str,
    /// One letter for each argument, or for pointer and length together; see [`Role`](super::material).
    pub(super) roles: &'static str,
    /// Only in version 0.1.0, or only in later ones.
    pub(super) version: Version,
}

/// Which versions have it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    All,
    Old,
    New,
}

const fn env(name: &'static str, roles: &'static str) -> Function {
    Function {
        module: "env",
        name,
        roles,
        version: Version::All,
    }
}

const fn only(version: Version, name: &'static str, roles: &'static str) -> Function {
    Function {
        module: "env",
        name,
        roles,
        version,
    }
}

const fn wasi(name: &'static str, roles: &'static str) -> Function {
    Function {
        module: "wasi_snapshot_preview1",
        name,
        roles,
        version: Version::All,
    }
}

/// All of them. `s` string, `k` field name, `v` field value, `m` map, `M` metadata, `P` property path, `C` cluster or service, `N` name in a
/// path, `F` foreign function, each with its length; `o` out pointer, `n` small number, `h` status code, `x` number, `l` 64-bit
/// number; `g`, `q`, `e` where the token of a gRPC call, a queue or a metric goes, and `G`, `Q`, `E` that token.
pub(super) const FUNCTIONS: &[Function] = &[
    env("proxy_log", "ns"),
    env("proxy_get_current_time_nanoseconds", "o"),
    env("proxy_set_tick_period_milliseconds", "x"),
    env("proxy_set_effective_context", "n"),
    env("proxy_done", ""),
    env("proxy_get_header_map_value", "nkoo"),
    env("proxy_add_header_map_value", "nkv"),
    env("proxy_replace_header_map_value", "nkv"),
    env("proxy_remove_header_map_value", "nk"),
    env("proxy_get_header_map_pairs", "noo"),
    env("proxy_set_header_map_pairs", "nm"),
    env("proxy_get_header_map_size", "no"),
    env("proxy_get_buffer_bytes", "nxxoo"),
    env("proxy_get_buffer_status", "noo"),
    env("proxy_set_buffer_bytes", "nxxs"),
    env("proxy_get_property", "Poo"),
    env("proxy_set_property", "Ps"),
    env("proxy_send_local_response", "hssmx"),
    env("proxy_http_call", "Cmsmxo"),
    env("proxy_get_status", "ooo"),
    env("proxy_grpc_call", "CNNMsxg"),
    env("proxy_grpc_stream", "CNNMg"),
    env("proxy_grpc_send", "Gsn"),
    env("proxy_grpc_cancel", "G"),
    env("proxy_grpc_close", "G"),
    env("proxy_get_shared_data", "sooo"),
    env("proxy_set_shared_data", "ssx"),
    env("proxy_register_shared_queue", "sq"),
    env("proxy_resolve_shared_queue", "ssq"),
    env("proxy_enqueue_shared_queue", "Qs"),
    env("proxy_dequeue_shared_queue", "Qoo"),
    env("proxy_define_metric", "nse"),
    env("proxy_increment_metric", "El"),
    env("proxy_record_metric", "El"),
    env("proxy_get_metric", "Eo"),
    env("proxy_call_foreign_function", "Fsoo"),
    env("pthread_equal", "xx"),
    only(Version::Old, "proxy_get_configuration", "oo"),
    only(Version::Old, "proxy_continue_request", ""),
    only(Version::Old, "proxy_continue_response", ""),
    only(Version::Old, "proxy_clear_route_cache", ""),
    only(Version::New, "proxy_continue_stream", "n"),
    only(Version::New, "proxy_close_stream", "n"),
    only(Version::New, "proxy_get_log_level", "o"),
    wasi("args_get", "oo"),
    wasi("args_sizes_get", "oo"),
    wasi("environ_get", "oo"),
    wasi("environ_sizes_get", "oo"),
    wasi("clock_res_get", "no"),
    wasi("clock_time_get", "nlo"),
    wasi("random_get", "ox"),
    wasi("poll_oneoff", "ooxo"),
    wasi("fd_write", "noxo"),
    wasi("fd_read", "noxo"),
    wasi("fd_seek", "nlno"),
    wasi("fd_fdstat_get", "no"),
    wasi("fd_prestat_get", "no"),
    wasi("fd_prestat_dir_name", "nox"),
];

impl Function {
    /// Its WAT parameters.
    pub(super) fn parameters(&self) -> Vec<&'static str> {
        let types = self.roles.chars().map(|role| match role {
            'l' => &["i64"][..],
            's' | 'k' | 'v' | 'm' | 'M' | 'P' | 'C' | 'N' | 'F' => &["i32", "i32"],
            _ => &["i32"],
        });
        types.flatten().copied().collect()
    }

    /// What a module of the other version imports in its place: nothing.
    pub(super) fn is_in(&self, old: bool) -> bool {
        match self.version {
            Version::All => true,
            Version::Old => old,
            Version::New => !old,
        }
    }
}
