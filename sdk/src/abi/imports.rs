//! The host's functions with every status as a value.

use std::ptr::null_mut;

use crate::hostcalls::{Buffer, Direction, Map, Pairs, Status};
use crate::runtime::pairs;

/// Where the host leaves a buffer that it obtained from `proxy_on_memory_allocate`.
struct Out {
    data: *mut u8,
    size: usize,
}

impl Out {
    const fn new() -> Self {
        Self {
            data: null_mut(),
            size: 0,
        }
    }

    #[expect(unsafe_code, reason = "the buffer that the host allocated here")]
    fn take(self) -> Vec<u8> {
        if self.data.is_null() {
            return Vec::new();
        }
        // SAFETY: the host obtained `data` from proxy_on_memory_allocate, a boxed slice of exactly this size, filled it, and
        // passes its ownership on.
        unsafe { Vec::from_raw_parts(self.data, self.size, self.size) }
    }
}

fn check(status: u32) -> Result<(), Status> {
    match status {
        0 => Ok(()),
        status => Err(Status(status)),
    }
}

/// Calls a host function. Slices go as pointer and length.
macro_rules! host {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        #[expect(unsafe_code, reason = "a hostcall")]
        // SAFETY: the host reads slices and writes results during the call only, within the bounds that it is given.
        let status = unsafe { raw::$name($($argument),*) };
        check(status)
    }};
}

pub(crate) fn log(level: u32, message: &str) {
    // Nothing can be done about a log line that the host does not take.
    let _ = host!(proxy_log(level, message.as_ptr(), message.len()));
}

pub(crate) fn now() -> u64 {
    let mut time = 0;
    match host!(proxy_get_current_time_nanoseconds(&mut time)) {
        Ok(()) => time,
        Err(_) => 0,
    }
}

pub(crate) fn header(map: Map, name: &str) -> Option<Vec<u8>> {
    let mut out = Out::new();
    host!(proxy_get_header_map_value(
        map as u32,
        name.as_ptr(),
        name.len(),
        &mut out.data,
        &mut out.size
    ))
    .ok()?;
    Some(out.take())
}

pub(crate) fn headers(map: Map) -> Pairs {
    let mut out = Out::new();
    match host!(proxy_get_header_map_pairs(
        map as u32,
        &mut out.data,
        &mut out.size
    )) {
        Ok(()) => pairs::decode(&out.take()),
        Err(_) => Pairs::new(),
    }
}

pub(crate) fn set_header(map: Map, name: &str, value: &[u8]) -> Result<(), Status> {
    host!(proxy_replace_header_map_value(
        map as u32,
        name.as_ptr(),
        name.len(),
        value.as_ptr(),
        value.len()
    ))
}

pub(crate) fn add_header(map: Map, name: &str, value: &[u8]) -> Result<(), Status> {
    host!(proxy_add_header_map_value(
        map as u32,
        name.as_ptr(),
        name.len(),
        value.as_ptr(),
        value.len()
    ))
}

pub(crate) fn remove_header(map: Map, name: &str) -> Result<(), Status> {
    host!(proxy_remove_header_map_value(
        map as u32,
        name.as_ptr(),
        name.len()
    ))
}

pub(crate) fn buffer(buffer: Buffer) -> Vec<u8> {
    let mut out = Out::new();
    match host!(proxy_get_buffer_bytes(
        buffer as u32,
        0,
        u32::MAX as usize,
        &mut out.data,
        &mut out.size
    )) {
        Ok(()) => out.take(),
        Err(_) => Vec::new(),
    }
}

pub(crate) fn replace_buffer(buffer: Buffer, bytes: &[u8]) -> Result<(), Status> {
    host!(proxy_set_buffer_bytes(
        buffer as u32,
        0,
        u32::MAX as usize,
        bytes.as_ptr(),
        bytes.len()
    ))
}

pub(crate) fn property(path: &str) -> Result<Vec<u8>, Status> {
    let mut out = Out::new();
    host!(proxy_get_property(
        path.as_ptr(),
        path.len(),
        &mut out.data,
        &mut out.size
    ))?;
    Ok(out.take())
}

pub(crate) fn set_property(path: &str, value: &[u8]) -> Result<(), Status> {
    host!(proxy_set_property(
        path.as_ptr(),
        path.len(),
        value.as_ptr(),
        value.len()
    ))
}

pub(crate) fn shared_data(key: &str) -> Result<(Vec<u8>, u32), Status> {
    let (mut out, mut cas) = (Out::new(), 0);
    host!(proxy_get_shared_data(
        key.as_ptr(),
        key.len(),
        &mut out.data,
        &mut out.size,
        &mut cas
    ))?;
    Ok((out.take(), cas))
}

pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<(), Status> {
    host!(proxy_set_shared_data(
        key.as_ptr(),
        key.len(),
        value.as_ptr(),
        value.len(),
        cas
    ))
}

pub(crate) fn http_call(
    cluster: &str,
    headers: &Pairs,
    body: &[u8],
    timeout_ms: u32,
) -> Result<u32, Status> {
    let headers = pairs::encode(headers);
    let trailers = pairs::encode(&Pairs::new());
    let mut token = 0;
    host!(proxy_http_call(
        cluster.as_ptr(),
        cluster.len(),
        headers.as_ptr(),
        headers.len(),
        body.as_ptr(),
        body.len(),
        trailers.as_ptr(),
        trailers.len(),
        timeout_ms,
        &mut token
    ))?;
    Ok(token)
}

pub(crate) fn grpc_call(
    cluster: &str,
    service: &str,
    method: &str,
    metadata: &Pairs,
    message: &[u8],
    timeout_ms: u32,
) -> Result<u32, Status> {
    let metadata = pairs::encode(metadata);
    let target = crate::grpc::target(cluster);
    let mut token = 0;
    host!(proxy_grpc_call(
        target.as_ptr(),
        target.len(),
        service.as_ptr(),
        service.len(),
        method.as_ptr(),
        method.len(),
        metadata.as_ptr(),
        metadata.len(),
        message.as_ptr(),
        message.len(),
        timeout_ms,
        &mut token
    ))?;
    Ok(token)
}

pub(crate) fn cancel_grpc(token: u32) {
    // A call that is over already needs no cancelling.
    let _ = host!(proxy_grpc_cancel(token));
}

/// The message that came with the last status of a gRPC call.
pub(crate) fn status_message() -> Vec<u8> {
    let (mut out, mut code) = (Out::new(), 0);
    match host!(proxy_get_status(&mut code, &mut out.data, &mut out.size)) {
        Ok(()) => out.take(),
        Err(_) => Vec::new(),
    }
}

pub(crate) fn send_reply(
    status: u16,
    details: &str,
    headers: &Pairs,
    body: &[u8],
) -> Result<(), Status> {
    const NO_GRPC_STATUS: i32 = -1;
    let headers = pairs::encode(headers);
    host!(proxy_send_local_response(
        status.into(),
        details.as_ptr(),
        details.len(),
        body.as_ptr(),
        body.len(),
        headers.as_ptr(),
        headers.len(),
        NO_GRPC_STATUS
    ))
}

pub(crate) fn resume(direction: Direction) -> Result<(), Status> {
    host!(proxy_continue_stream(direction as u32))
}

pub(crate) fn set_tick_period(milliseconds: u32) -> Result<(), Status> {
    host!(proxy_set_tick_period_milliseconds(milliseconds))
}

pub(crate) fn enter(context: u32) -> Result<(), Status> {
    host!(proxy_set_effective_context(context))
}

pub(crate) fn define_metric(kind: u32, name: &str) -> Result<u32, Status> {
    let mut id = 0;
    host!(proxy_define_metric(
        kind,
        name.as_ptr(),
        name.len(),
        &mut id
    ))?;
    Ok(id)
}

pub(crate) fn increment_metric(id: u32, by: i64) -> Result<(), Status> {
    host!(proxy_increment_metric(id, by))
}

pub(crate) fn record_metric(id: u32, value: u64) -> Result<(), Status> {
    host!(proxy_record_metric(id, value))
}

#[expect(unsafe_code, reason = "the host's functions")]
mod raw {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(super) fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
        pub(super) fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
        pub(super) fn proxy_get_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *mut *mut u8,
            value_size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_header_map_pairs(
            map: u32,
            pairs: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_add_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_remove_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
        ) -> u32;
        pub(super) fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            max_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_set_buffer_bytes(
            buffer: u32,
            start: usize,
            size: usize,
            data: *const u8,
            data_size: usize,
        ) -> u32;
        pub(super) fn proxy_get_property(
            path: *const u8,
            path_size: usize,
            value: *mut *mut u8,
            value_size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_set_property(
            path: *const u8,
            path_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            value: *mut *mut u8,
            value_size: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub(super) fn proxy_set_shared_data(
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
            cas: u32,
        ) -> u32;
        pub(super) fn proxy_http_call(
            cluster: *const u8,
            cluster_size: usize,
            headers: *const u8,
            headers_size: usize,
            body: *const u8,
            body_size: usize,
            trailers: *const u8,
            trailers_size: usize,
            timeout: u32,
            token: *mut u32,
        ) -> u32;
        pub(super) fn proxy_grpc_call(
            cluster: *const u8,
            cluster_size: usize,
            service: *const u8,
            service_size: usize,
            method: *const u8,
            method_size: usize,
            metadata: *const u8,
            metadata_size: usize,
            message: *const u8,
            message_size: usize,
            timeout: u32,
            token: *mut u32,
        ) -> u32;
        pub(super) fn proxy_grpc_cancel(token: u32) -> u32;
        pub(super) fn proxy_get_status(
            code: *mut u32,
            message: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub(super) fn proxy_continue_stream(stream: u32) -> u32;
        pub(super) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub(super) fn proxy_set_effective_context(context: u32) -> u32;
        pub(super) fn proxy_define_metric(
            kind: u32,
            name: *const u8,
            name_size: usize,
            id: *mut u32,
        ) -> u32;
        pub(super) fn proxy_increment_metric(id: u32, by: i64) -> u32;
        pub(super) fn proxy_record_metric(id: u32, value: u64) -> u32;
    }
}
