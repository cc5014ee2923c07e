//! Stream contexts: one request in one plugin, and its callbacks.

use std::time::Duration;

use super::Vm;
use crate::action::{Action, Callback};
use crate::contexts::{Open, Stream};
use crate::effect::{ContextId, RootId};
use crate::failure::Failure;
use crate::headers::View;
use crate::host::Reply;
use crate::stream::StreamIo;

impl Vm {
    /// A stream context under a root: `proxy_on_context_create`.
    pub fn create_stream(&mut self, root: RootId) -> Result<ContextId, Failure> {
        self.check_alive()?;
        let host = self.store.data_mut();
        let limit = host.vm.limits.contexts;
        if !host.contexts.roots.contains_key(&root.0) {
            return Err(Failure::UnknownContext { id: root.0 });
        }
        if host.contexts.len() >= limit {
            return Err(Failure::Contexts { limit });
        }
        let id = host.contexts.next_id();
        host.contexts.streams.insert(id, Stream::new(root.0));
        self.served = true;
        let limit = self.call_timeout();
        let created = self.enter(id, limit, |exports, store| {
            exports.create(store, id, root.0)
        });
        match created {
            Ok(()) => Ok(ContextId(id)),
            Err(failure) => {
                self.store.data_mut().contexts.streams.remove(&id);
                Err(failure)
            }
        }
    }

    /// Gives the exchange to a context. It stays there while the context holds the stream.
    pub fn attach(&mut self, context: ContextId, io: Box<StreamIo>) {
        if let Some(stream) = self.stream_mut(context) {
            stream.io = Some(io);
        }
    }

    /// Takes the exchange back: from a dead VM too.
    pub fn detach(&mut self, context: ContextId) -> Option<Box<StreamIo>> {
        self.stream_mut(context)?.io.take()
    }

    /// The exchange, while it is attached.
    pub fn io_mut(&mut self, context: ContextId) -> Option<&mut StreamIo> {
        self.stream_mut(context)?.io.as_deref_mut()
    }

    /// All stream contexts: those of a dead VM share its fate.
    pub fn streams(&self) -> impl Iterator<Item = ContextId> {
        self.store
            .data()
            .contexts
            .streams
            .keys()
            .copied()
            .map(ContextId)
    }

    /// Calls a callback. Absent ones continue at once.
    pub fn call(&mut self, context: ContextId, callback: Callback) -> Result<Action, Failure> {
        self.check_alive()?;
        let id = context.0;
        let Some(stream) = self.store.data_mut().contexts.streams.get_mut(&id) else {
            return Err(Failure::UnknownContext { id });
        };
        let n = open(stream, callback);
        if !self.exports.has(callback) {
            close(stream, callback, Action::Continue);
            return Ok(Action::Continue);
        }
        let limit = self.call_timeout();
        let value = self.enter(id, limit, |exports, store| {
            exports.call(store, callback, id, n)
        })?;
        let host = self.store.data_mut();
        let reply = host.reply;
        let Some(stream) = host.contexts.streams.get_mut(&id) else {
            return Ok(Action::Continue);
        };
        let wait = value == 1
            && host
                .contexts
                .roots
                .get(&stream.root)
                .is_some_and(|root| root.plugin.headers_wait_for_body);
        let action = match reply {
            // The answer that is under way must not wait for one that will not come.
            Reply::Ignored => Action::Continue,
            Reply::None | Reply::Sent => callback.action(value, reply == Reply::Sent, wait),
        };
        close(stream, callback, action);
        Ok(action)
    }

    /// The last callbacks of a context: [`Callback::Done`] and `proxy_on_delete`, where `log` says so after [`Callback::Log`].
    /// Gives back what was attached.
    pub fn end_stream(
        &mut self,
        context: ContextId,
        log: bool,
    ) -> Result<Option<Box<StreamIo>>, Failure> {
        if log {
            self.call(context, Callback::Log)?;
        }
        self.call(context, Callback::Done)?;
        self.delete_stream(context)
    }

    /// Ends a context: `proxy_on_delete`, after [`Callback::Log`] and [`Callback::Done`]. Gives back what was attached; where it
    /// fails, [`detach`](Self::detach) does.
    pub fn delete_stream(&mut self, context: ContextId) -> Result<Option<Box<StreamIo>>, Failure> {
        let id = context.0;
        let Some(stream) = self.stream_mut(context) else {
            return Ok(None);
        };
        stream.ending = true;
        if !self.is_dead() {
            let limit = self.call_timeout();
            self.enter(id, limit, |exports, store| exports.delete_stream(store, id))?;
        }
        let stream = self.store.data_mut().contexts.streams.remove(&id);
        Ok(stream.and_then(|stream| stream.io))
    }

    pub(super) fn call_timeout(&self) -> Duration {
        self.store.data().vm.limits.call_timeout
    }

    fn stream_mut(&mut self, context: ContextId) -> Option<&mut Stream> {
        self.store.data_mut().contexts.streams.get_mut(&context.0)
    }
}

/// Makes available what the callback is about; the number of headers or bytes it is told.
fn open(stream: &mut Stream, callback: Callback) -> u32 {
    let Some(io) = stream.io.as_deref() else {
        return 0;
    };
    let count = match callback {
        Callback::RequestHeaders { end_of_stream } => {
            stream.open.insert(Open::REQUEST_HEADERS);
            stream.end_of_stream = end_of_stream;
            View::Request(&io.request, io.missing).len()
        }
        Callback::RequestBody { end_of_stream } => {
            stream.open.insert(Open::REQUEST_BODY);
            stream.end_of_stream = end_of_stream;
            io.request_body.len()
        }
        Callback::RequestTrailers => {
            stream.open.insert(Open::REQUEST_TRAILERS);
            if !io.request_body.is_empty() {
                stream.open.insert(Open::REQUEST_BODY);
            }
            io.request_trailers.as_ref().map_or(0, http::HeaderMap::len)
        }
        Callback::ResponseHeaders { end_of_stream } => {
            stream.open.insert(Open::RESPONSE_HEADERS);
            stream.end_of_stream = end_of_stream;
            io.response
                .as_ref()
                .map_or(0, |head| View::Response(head, io.missing).len())
        }
        Callback::ResponseBody { end_of_stream } => {
            stream.open.insert(Open::RESPONSE_BODY);
            stream.end_of_stream = end_of_stream;
            io.response_body.len()
        }
        Callback::ResponseTrailers => {
            stream.open.insert(Open::RESPONSE_TRAILERS);
            if !io.response_body.is_empty() {
                stream.open.insert(Open::RESPONSE_BODY);
            }
            io.response_trailers
                .as_ref()
                .map_or(0, http::HeaderMap::len)
        }
        Callback::Log => {
            stream.logging = true;
            stream.ending = true;
            0
        }
        Callback::Done => {
            stream.ending = true;
            0
        }
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Takes away what the guest let go of.
fn close(stream: &mut Stream, callback: Callback, action: Action) {
    stream.logging = false;
    if !action.is_continue() {
        return;
    }
    stream.open.remove(match callback {
        Callback::RequestHeaders { .. } => Open::REQUEST_HEADERS,
        Callback::RequestBody { .. } => Open::REQUEST_BODY,
        Callback::RequestTrailers => Open::REQUEST_END,
        Callback::ResponseHeaders { .. } => Open::RESPONSE_HEADERS,
        Callback::ResponseBody { .. } => Open::RESPONSE_BODY,
        Callback::ResponseTrailers => Open::RESPONSE_END,
        Callback::Log | Callback::Done => Open::NOTHING,
    });
}
