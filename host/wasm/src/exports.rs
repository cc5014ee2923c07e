//! The guest's callbacks, whichever form the filter has.

mod module;

use wasmtime::{Instance, Store};

use crate::action::Callback;
use crate::component::ComponentExports;
use crate::host::Host;

pub(crate) use module::{Entry, find};
use module::{ModuleExports, call};

/// What an instance exports; an absent callback is one that need not be called.
#[derive(Default)]
pub(crate) enum Exports {
    /// It is not instantiated yet.
    #[default]
    None,
    /// Of a proxy-wasm module.
    Module(Box<ModuleExports>),
    /// Of a component for the world `tidegate:filter/filter`.
    Component(Box<ComponentExports>),
}

/// A gRPC event, with the number of headers or bytes that it brings.
#[derive(Clone, Copy)]
pub(crate) enum Grpc {
    InitialMetadata(u32),
    Message(u32),
    TrailingMetadata(u32),
    Close(u32),
}

impl Exports {
    pub(crate) fn of_module(instance: &Instance, store: &mut Store<Host>) -> Self {
        Self::Module(Box::new(ModuleExports::find(instance, store)))
    }

    /// What to say of a callback that refused; a component's reason is what it logged last.
    pub(crate) fn refusal(&self, callback: &str, last_error: &str) -> String {
        match (self, last_error) {
            (Self::Component(_), "") => "it gives no reason".to_owned(),
            (Self::Component(_), reason) => reason.to_owned(),
            (_, "") => format!("{callback} returned false without logging an error"),
            (_, error) => format!("{callback} returned false; its last error log: {error}"),
        }
    }

    /// Whether calling it would do anything.
    #[inline]
    pub(crate) fn has(&self, callback: Callback) -> bool {
        match self {
            Self::None => false,
            Self::Module(module) => module.has(callback),
            Self::Component(component) => component.has(callback),
        }
    }

    /// A callback on a stream, with `n` headers or bytes; 0 where it is absent.
    #[inline]
    pub(crate) fn call(
        &self,
        store: &mut Store<Host>,
        callback: Callback,
        id: u32,
        n: u32,
    ) -> wasmtime::Result<u32> {
        match self {
            Self::None => Ok(0),
            Self::Module(module) => module.call(store, callback, id, n),
            Self::Component(component) => component.call(store, callback, id, n),
        }
    }

    /// A context begins: a root (parent 0) or a stream.
    pub(crate) fn create(
        &self,
        store: &mut Store<Host>,
        id: u32,
        parent: u32,
    ) -> wasmtime::Result<()> {
        match self {
            Self::Module(module) => call(module.context_create.as_ref(), store, (id, parent)),
            // Its first callback tells it.
            Self::None | Self::Component(_) => Ok(()),
        }
    }

    /// The VM's configuration, of that size. 0 is a refusal.
    pub(crate) fn start(&self, store: &mut Store<Host>, id: u32, n: u32) -> wasmtime::Result<u32> {
        match self {
            Self::Module(module) => match &module.vm_start {
                Some(vm_start) => vm_start.call(store, (id, n)),
                None => Ok(1),
            },
            Self::None | Self::Component(_) => Ok(1),
        }
    }

    /// A root's configuration, of that size. 0 is a refusal.
    pub(crate) fn configure(
        &self,
        store: &mut Store<Host>,
        id: u32,
        n: u32,
    ) -> wasmtime::Result<u32> {
        match self {
            Self::None => Ok(1),
            Self::Module(module) => match &module.configure {
                Some(configure) => configure.call(store, (id, n)),
                None => Ok(1),
            },
            Self::Component(component) => component.configure(store, id),
        }
    }

    /// A root is to go. 0 asks for more time.
    pub(crate) fn root_done(&self, store: &mut Store<Host>, id: u32) -> wasmtime::Result<u32> {
        match self {
            Self::Module(module) => match &module.done {
                Some(done) => done.call(store, id),
                None => Ok(1),
            },
            Self::None | Self::Component(_) => Ok(1),
        }
    }

    /// A root is gone.
    pub(crate) fn delete_root(&self, store: &mut Store<Host>, id: u32) -> wasmtime::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Module(module) => call(module.delete.as_ref(), store, id),
            Self::Component(component) => component.remove(store, id),
        }
    }

    /// A stream is over.
    pub(crate) fn delete_stream(&self, store: &mut Store<Host>, id: u32) -> wasmtime::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Module(module) => call(module.delete.as_ref(), store, id),
            Self::Component(component) => component.end(store, id),
        }
    }

    /// A root's tick.
    pub(crate) fn tick(&self, store: &mut Store<Host>, root: u32) -> wasmtime::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Module(module) => call(module.tick.as_ref(), store, root),
            Self::Component(component) => component.tick(store, root),
        }
    }

    /// Something lies in a root's queue. The world has no queues.
    pub(crate) fn queue_ready(
        &self,
        store: &mut Store<Host>,
        root: u32,
        token: u32,
    ) -> wasmtime::Result<()> {
        match self {
            Self::Module(module) => call(module.queue_ready.as_ref(), store, (root, token)),
            Self::None | Self::Component(_) => Ok(()),
        }
    }

    /// The answer to an HTTP call, with so many headers, bytes and trailers.
    pub(crate) fn http_answer(
        &self,
        store: &mut Store<Host>,
        root: u32,
        token: u32,
        (headers, body, trailers): (u32, u32, u32),
    ) -> wasmtime::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Module(module) => call(
                module.http_call_response.as_ref(),
                store,
                (root, token, headers, body, trailers),
            ),
            Self::Component(component) => component.http_answer(store, root, token),
        }
    }

    /// Something about a gRPC call.
    pub(crate) fn grpc(
        &self,
        store: &mut Store<Host>,
        root: u32,
        token: u32,
        event: Grpc,
    ) -> wasmtime::Result<()> {
        let module = match self {
            Self::None => return Ok(()),
            Self::Component(component) => return component.grpc(store, root, token, event),
            Self::Module(module) => module,
        };
        let (callback, n) = match event {
            Grpc::InitialMetadata(n) => (&module.grpc_receive_initial_metadata, n),
            Grpc::Message(n) => (&module.grpc_receive, n),
            Grpc::TrailingMetadata(n) => (&module.grpc_receive_trailing_metadata, n),
            Grpc::Close(n) => (&module.grpc_close, n),
        };
        call(callback.as_ref(), store, (root, token, n))
    }
}
