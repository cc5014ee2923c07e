//! The callbacks that the host finds by name. Each hands over to the runtime.

use crate::hostcalls::Direction;
use crate::runtime;

/// Defines exported functions.
macro_rules! exports {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $(
            #[unsafe(no_mangle)]
            #[expect(unsafe_code, reason = "the host finds the callback by its name")]
            extern "C" fn $name($($argument: $type),*) $(-> $result)? $body
        )*
    };
}

exports! {
    proxy_abi_version_0_2_1() {}

    proxy_on_context_create(context: u32, parent: u32) {
        runtime::on_context_create(context, parent);
    }

    proxy_on_vm_start(_root: u32, _size: usize) -> bool {
        true
    }

    proxy_on_configure(root: u32, _size: usize) -> bool {
        runtime::is_configured(root)
    }

    proxy_on_tick(_root: u32) {
        runtime::on_tick();
    }

    proxy_on_request_headers(context: u32, _count: usize, end_of_stream: bool) -> u32 {
        runtime::on_headers(Direction::Request, context, end_of_stream) as u32
    }

    proxy_on_request_body(context: u32, _size: usize, end_of_stream: bool) -> u32 {
        runtime::on_body(Direction::Request, context, end_of_stream) as u32
    }

    proxy_on_request_trailers(context: u32, _count: usize) -> u32 {
        runtime::on_trailers(Direction::Request, context) as u32
    }

    proxy_on_response_headers(context: u32, _count: usize, end_of_stream: bool) -> u32 {
        runtime::on_headers(Direction::Response, context, end_of_stream) as u32
    }

    proxy_on_response_body(context: u32, _size: usize, end_of_stream: bool) -> u32 {
        runtime::on_body(Direction::Response, context, end_of_stream) as u32
    }

    proxy_on_response_trailers(context: u32, _count: usize) -> u32 {
        runtime::on_trailers(Direction::Response, context) as u32
    }

    proxy_on_http_call_response(_root: u32, token: u32, _headers: usize, _body: usize, _trailers: usize) {
        runtime::on_http_call_response(token);
    }

    proxy_on_grpc_receive_initial_metadata(_root: u32, _token: u32, _count: usize) {}

    proxy_on_grpc_receive(_root: u32, token: u32, _size: usize) {
        runtime::on_grpc_message(token);
    }

    proxy_on_grpc_receive_trailing_metadata(_root: u32, _token: u32, _count: usize) {}

    proxy_on_grpc_close(_root: u32, token: u32, status: u32) {
        runtime::on_grpc_close(token, status);
    }

    proxy_on_done(_context: u32) -> bool {
        true
    }

    proxy_on_delete(context: u32) {
        runtime::on_delete(context);
    }
}
