//! The callbacks that every filter has, which the host finds by name. Each hands over to the runtime. The others are in
//! [`filter!`](crate::filter!).

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

    proxy_on_request_headers(context: u32, _count: usize, end_of_stream: bool) -> u32 {
        runtime::on_headers(Direction::Request, context, end_of_stream) as u32
    }

    proxy_on_response_headers(context: u32, _count: usize, end_of_stream: bool) -> u32 {
        runtime::on_headers(Direction::Response, context, end_of_stream) as u32
    }

    proxy_on_delete(context: u32) {
        runtime::on_delete(context);
    }
}
