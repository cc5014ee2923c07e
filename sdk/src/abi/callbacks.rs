//! What [`filter!`](crate::filter!) exports for filters that wait or see bodies. No API: its names are those of proxy-wasm.

use crate::hostcalls::Direction;
use crate::runtime;

pub fn tick() {
    runtime::on_tick();
}

pub fn request_body(context: u32, end_of_stream: bool) -> u32 {
    runtime::on_body(Direction::Request, context, end_of_stream) as u32
}

pub fn request_trailers(context: u32) -> u32 {
    runtime::on_trailers(Direction::Request, context) as u32
}

pub fn response_body(context: u32, end_of_stream: bool) -> u32 {
    runtime::on_body(Direction::Response, context, end_of_stream) as u32
}

pub fn response_trailers(context: u32) -> u32 {
    runtime::on_trailers(Direction::Response, context) as u32
}

pub fn http_call_response(token: u32) {
    runtime::on_http_call_response(token);
}

pub fn grpc_receive(token: u32) {
    runtime::on_grpc_message(token);
}

pub fn grpc_close(token: u32, status: u32) {
    runtime::on_grpc_close(token, status);
}
