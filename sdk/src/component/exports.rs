//! The interfaces that the host finds by name. Each function hands over to the runtime.

use super::bindings::Component;
use super::bindings::exports::tidegate::filter::{
    on_answer, on_end, on_log, on_plugin, on_request, on_request_body, on_response,
    on_response_body, on_tick,
};
use super::bindings::tidegate::filter::http::{Answer, Exchange, Plugin};
use super::bindings::tidegate::filter::types::Action;
use super::state::STATE;
use crate::hostcalls::{self, Direction};
use crate::runtime;

impl From<hostcalls::Action> for Action {
    fn from(action: hostcalls::Action) -> Self {
        match action {
            hostcalls::Action::Continue => Self::Continue,
            hostcalls::Action::Pause => Self::Pause,
        }
    }
}

/// Makes an exchange the current context, which begins with its first callback.
fn enter(exchange: &Exchange) -> u32 {
    let id = exchange.id();
    let is_new = STATE.with(|state| {
        state.current.set(id);
        let mut exchanges = state.exchanges.borrow_mut();
        let is_new = !exchanges.contains_key(&id);
        if is_new {
            exchanges.insert(id, exchange.hold());
        }
        is_new
    });
    if is_new {
        runtime::on_context_create(id, exchange.plugin().id());
    }
    id
}

fn enter_plugin(plugin: &Plugin) {
    STATE.with(|state| state.current.set(plugin.id()));
}

impl on_plugin::Guest for Component {
    fn configure(plugin: Plugin) -> Result<(), String> {
        let id = plugin.id();
        STATE.with(|state| {
            state.current.set(id);
            state.plugins.borrow_mut().insert(id, plugin);
        });
        runtime::on_context_create(id, 0);
        runtime::on_configure(id).map_err(|error| error.to_string())
    }

    fn remove(id: u32) {
        runtime::on_delete(id);
        STATE.with(|state| state.plugins.borrow_mut().remove(&id));
    }
}

impl on_request::Guest for Component {
    fn headers(exchange: &Exchange, end_of_stream: bool) -> Action {
        runtime::on_headers(Direction::Request, enter(exchange), end_of_stream).into()
    }
}

impl on_request_body::Guest for Component {
    fn data(exchange: &Exchange, _size: u32, end_of_stream: bool) -> Action {
        runtime::on_body(Direction::Request, enter(exchange), end_of_stream).into()
    }

    fn trailers(exchange: &Exchange) -> Action {
        runtime::on_trailers(Direction::Request, enter(exchange)).into()
    }
}

impl on_response::Guest for Component {
    fn headers(exchange: &Exchange, end_of_stream: bool) -> Action {
        runtime::on_headers(Direction::Response, enter(exchange), end_of_stream).into()
    }
}

impl on_response_body::Guest for Component {
    fn data(exchange: &Exchange, _size: u32, end_of_stream: bool) -> Action {
        runtime::on_body(Direction::Response, enter(exchange), end_of_stream).into()
    }

    fn trailers(exchange: &Exchange) -> Action {
        runtime::on_trailers(Direction::Response, enter(exchange)).into()
    }
}

impl on_log::Guest for Component {
    fn log(_exchange: &Exchange) {}
}

impl on_end::Guest for Component {
    fn end(id: u32) {
        STATE.with(|state| state.current.set(id));
        runtime::on_delete(id);
        STATE.with(|state| state.exchanges.borrow_mut().remove(&id));
    }
}

impl on_tick::Guest for Component {
    fn tick(plugin: &Plugin) {
        enter_plugin(plugin);
        runtime::on_tick();
    }
}

impl on_answer::Guest for Component {
    fn http(plugin: &Plugin, token: u32, answer: &Answer) {
        enter_plugin(plugin);
        STATE.with(|state| {
            let mut brought = state.answer.borrow_mut();
            brought.headers = answer.headers();
            brought.body = answer.body();
        });
        runtime::on_http_call_response(token);
        STATE.with(|state| state.answer.take());
    }

    fn grpc_message(plugin: &Plugin, token: u32, message: Vec<u8>) {
        enter_plugin(plugin);
        STATE.with(|state| state.message.replace(message));
        runtime::on_grpc_message(token);
        STATE.with(|state| state.message.take());
    }

    fn grpc_close(plugin: &Plugin, token: u32, status: u32, message: String) {
        enter_plugin(plugin);
        STATE.with(|state| state.message.replace(message.into_bytes()));
        runtime::on_grpc_close(token, status);
        STATE.with(|state| state.message.take());
    }
}
