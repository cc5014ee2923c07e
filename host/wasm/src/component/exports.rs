//! What a component exports: the interfaces `on-…` of its world, looked up once and typed.

use wasmtime::Store;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower, Resource, TypedFunc,
};

use super::imports::{Action, Answer, Exchange, Plugin};
use crate::action::Callback;
use crate::exports::Grpc;
use crate::failure::LoadError;
use crate::host::{Callout, Host};
use crate::module::Callbacks;

/// A callback about a head.
type Headers = TypedFunc<(Resource<Exchange>, bool), (Action,)>;
/// A callback about a piece of a body.
type Data = TypedFunc<(Resource<Exchange>, u32, bool), (Action,)>;
/// A callback about trailers.
type Trailers = TypedFunc<(Resource<Exchange>,), (Action,)>;

/// Where a component's functions are; absent where it does not export the interface.
pub(super) struct Indices {
    configure: ComponentExportIndex,
    remove: ComponentExportIndex,
    request: Option<ComponentExportIndex>,
    request_body: Option<(ComponentExportIndex, ComponentExportIndex)>,
    response: Option<ComponentExportIndex>,
    response_body: Option<(ComponentExportIndex, ComponentExportIndex)>,
    log: Option<ComponentExportIndex>,
    end: Option<ComponentExportIndex>,
    tick: Option<ComponentExportIndex>,
    answer: Option<[ComponentExportIndex; 3]>,
}

/// An instance's functions.
pub(crate) struct ComponentExports {
    configure: TypedFunc<(Resource<Plugin>,), (Result<(), String>,)>,
    remove: TypedFunc<(u32,), ()>,
    request: Option<Headers>,
    request_body: Option<(Data, Trailers)>,
    response: Option<Headers>,
    response_body: Option<(Data, Trailers)>,
    log: Option<TypedFunc<(Resource<Exchange>,), ()>>,
    end: Option<TypedFunc<(u32,), ()>>,
    tick: Option<TypedFunc<(Resource<Plugin>,), ()>>,
    answer: Option<Answers>,
}

/// The functions of `on-answer`.
struct Answers {
    http: TypedFunc<(Resource<Plugin>, u32, Resource<Answer>), ()>,
    grpc_message: TypedFunc<(Resource<Plugin>, u32, Vec<u8>), ()>,
    grpc_close: TypedFunc<(Resource<Plugin>, u32, u32, String), ()>,
}

// === impl Indices ===

impl Indices {
    pub(super) fn of(component: &Component) -> Result<Self, LoadError> {
        let function = |interface: &str, name: &str| -> Option<ComponentExportIndex> {
            let interface = format!("{}{interface}@0.1.0", super::PACKAGE);
            let instance = component.get_export_index(None, &interface)?;
            component.get_export_index(Some(&instance), name)
        };
        let body = |interface: &str| {
            Some((
                function(interface, "data")?,
                function(interface, "trailers")?,
            ))
        };
        let required = |name: &str| {
            function("on-plugin", name)
                .ok_or_else(|| LoadError::WorldType(format!("on-plugin has no function {name}")))
        };
        let answer = || {
            Some([
                function("on-answer", "http")?,
                function("on-answer", "grpc-message")?,
                function("on-answer", "grpc-close")?,
            ])
        };
        Ok(Self {
            configure: required("configure")?,
            remove: required("remove")?,
            request: function("on-request", "headers"),
            request_body: body("on-request-body"),
            response: function("on-response", "headers"),
            response_body: body("on-response-body"),
            log: function("on-log", "log"),
            end: function("on-end", "end"),
            tick: function("on-tick", "tick"),
            answer: answer(),
        })
    }

    pub(super) fn callbacks(&self) -> Callbacks {
        Callbacks {
            request_headers: self.request.is_some(),
            request_body: self.request_body.is_some(),
            request_trailers: self.request_body.is_some(),
            response_headers: self.response.is_some(),
            response_body: self.response_body.is_some(),
            response_trailers: self.response_body.is_some(),
            log: self.log.is_some(),
            done: false,
            delete: self.end.is_some(),
            tick: self.tick.is_some(),
            queue_ready: false,
            http_call_response: self.answer.is_some(),
            grpc: self.answer.is_some(),
        }
    }

    pub(super) fn find(
        &self,
        instance: &Instance,
        store: &mut Store<Host>,
    ) -> wasmtime::Result<ComponentExports> {
        let mut find = Finder { instance, store };
        Ok(ComponentExports {
            configure: find.one(&self.configure)?,
            remove: find.one(&self.remove)?,
            request: find.maybe(self.request.as_ref())?,
            request_body: find.body(self.request_body.as_ref())?,
            response: find.maybe(self.response.as_ref())?,
            response_body: find.body(self.response_body.as_ref())?,
            log: find.maybe(self.log.as_ref())?,
            end: find.maybe(self.end.as_ref())?,
            tick: find.maybe(self.tick.as_ref())?,
            answer: match &self.answer {
                None => None,
                Some([http, message, close]) => Some(Answers {
                    http: find.one(http)?,
                    grpc_message: find.one(message)?,
                    grpc_close: find.one(close)?,
                }),
            },
        })
    }
}

/// Looks functions up in an instance.
struct Finder<'a> {
    instance: &'a Instance,
    store: &'a mut Store<Host>,
}

impl Finder<'_> {
    fn one<P, R>(&mut self, index: &ComponentExportIndex) -> wasmtime::Result<TypedFunc<P, R>>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        self.instance.get_typed_func(&mut *self.store, index)
    }

    fn maybe<P, R>(
        &mut self,
        index: Option<&ComponentExportIndex>,
    ) -> wasmtime::Result<Option<TypedFunc<P, R>>>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        index.map(|index| self.one(index)).transpose()
    }

    fn body(
        &mut self,
        indices: Option<&(ComponentExportIndex, ComponentExportIndex)>,
    ) -> wasmtime::Result<Option<(Data, Trailers)>> {
        match indices {
            None => Ok(None),
            Some((data, trailers)) => Ok(Some((self.one(data)?, self.one(trailers)?))),
        }
    }
}

// === impl ComponentExports ===

impl ComponentExports {
    #[inline]
    pub(crate) fn has(&self, callback: Callback) -> bool {
        match callback {
            Callback::RequestHeaders { .. } => self.request.is_some(),
            Callback::RequestBody { .. } | Callback::RequestTrailers => self.request_body.is_some(),
            Callback::ResponseHeaders { .. } => self.response.is_some(),
            Callback::ResponseBody { .. } | Callback::ResponseTrailers => {
                self.response_body.is_some()
            }
            Callback::Log => self.log.is_some(),
            Callback::Done => false,
        }
    }

    /// The action as proxy-wasm numbers it.
    pub(crate) fn call(
        &self,
        store: &mut Store<Host>,
        callback: Callback,
        id: u32,
        n: u32,
    ) -> wasmtime::Result<u32> {
        let exchange = Resource::new_borrow(id);
        match callback {
            Callback::RequestHeaders { end_of_stream } => {
                headers(self.request.as_ref(), store, exchange, end_of_stream)
            }
            Callback::ResponseHeaders { end_of_stream } => {
                headers(self.response.as_ref(), store, exchange, end_of_stream)
            }
            Callback::RequestBody { end_of_stream } => data(
                self.request_body.as_ref(),
                store,
                (exchange, n, end_of_stream),
            ),
            Callback::ResponseBody { end_of_stream } => data(
                self.response_body.as_ref(),
                store,
                (exchange, n, end_of_stream),
            ),
            Callback::RequestTrailers => trailers(self.request_body.as_ref(), store, exchange),
            Callback::ResponseTrailers => trailers(self.response_body.as_ref(), store, exchange),
            Callback::Log => match &self.log {
                Some(log) => log.call(store, (exchange,)).map(|()| 0),
                None => Ok(0),
            },
            Callback::Done => Ok(0),
        }
    }

    /// 0 where it refuses its configuration, with the reason in the log.
    pub(crate) fn configure(&self, store: &mut Store<Host>, root: u32) -> wasmtime::Result<u32> {
        let (answer,) = self
            .configure
            .call(&mut *store, (Resource::new_own(root),))?;
        match answer {
            Ok(()) => Ok(1),
            Err(message) => {
                store.data_mut().log(4, message.as_bytes());
                Ok(0)
            }
        }
    }

    pub(crate) fn remove(&self, store: &mut Store<Host>, root: u32) -> wasmtime::Result<()> {
        self.remove.call(store, (root,))
    }

    pub(crate) fn end(&self, store: &mut Store<Host>, id: u32) -> wasmtime::Result<()> {
        match &self.end {
            Some(end) => end.call(store, (id,)),
            None => Ok(()),
        }
    }

    pub(crate) fn tick(&self, store: &mut Store<Host>, root: u32) -> wasmtime::Result<()> {
        match &self.tick {
            Some(tick) => tick.call(store, (Resource::new_borrow(root),)),
            None => Ok(()),
        }
    }

    pub(crate) fn http_answer(
        &self,
        store: &mut Store<Host>,
        root: u32,
        token: u32,
    ) -> wasmtime::Result<()> {
        let Some(answers) = &self.answer else {
            return Ok(());
        };
        let (plugin, answer) = (Resource::new_borrow(root), Resource::new_borrow(root));
        answers.http.call(store, (plugin, token, answer))
    }

    pub(crate) fn grpc(
        &self,
        store: &mut Store<Host>,
        root: u32,
        token: u32,
        event: Grpc,
    ) -> wasmtime::Result<()> {
        let Some(answers) = &self.answer else {
            return Ok(());
        };
        let plugin = Resource::new_borrow(root);
        match event {
            // The world has calls, not streams, and no metadata of their answers.
            Grpc::InitialMetadata(_) | Grpc::TrailingMetadata(_) => Ok(()),
            Grpc::Message(_) => {
                let message = match store.data().callout() {
                    Some(Callout::GrpcMessage(message)) => message.to_vec(),
                    _ => Vec::new(),
                };
                answers.grpc_message.call(store, (plugin, token, message))
            }
            Grpc::Close(status) => {
                let message = store
                    .data()
                    .root()
                    .map(|root| root.status.1.clone())
                    .unwrap_or_default();
                answers
                    .grpc_close
                    .call(store, (plugin, token, status, message))
            }
        }
    }
}

/// An action as proxy-wasm numbers it.
fn number((action,): (Action,)) -> u32 {
    match action {
        Action::Continue => 0,
        Action::Pause => 1,
    }
}

fn headers(
    function: Option<&Headers>,
    store: &mut Store<Host>,
    exchange: Resource<Exchange>,
    end_of_stream: bool,
) -> wasmtime::Result<u32> {
    match function {
        Some(function) => function.call(store, (exchange, end_of_stream)).map(number),
        None => Ok(0),
    }
}

fn data(
    functions: Option<&(Data, Trailers)>,
    store: &mut Store<Host>,
    parameters: (Resource<Exchange>, u32, bool),
) -> wasmtime::Result<u32> {
    match functions {
        Some((data, _)) => data.call(store, parameters).map(number),
        None => Ok(0),
    }
}

fn trailers(
    functions: Option<&(Data, Trailers)>,
    store: &mut Store<Host>,
    exchange: Resource<Exchange>,
) -> wasmtime::Result<u32> {
    match functions {
        Some((_, trailers)) => trailers.call(store, (exchange,)).map(number),
        None => Ok(0),
    }
}
