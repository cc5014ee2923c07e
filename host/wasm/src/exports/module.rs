//! The callbacks of a proxy-wasm module, looked up once and typed.

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use crate::action::Callback;
use crate::host::Host;
use crate::module::AbiVersion;

type One = TypedFunc<u32, ()>;
type Two = TypedFunc<(u32, u32), ()>;
type Three = TypedFunc<(u32, u32, u32), ()>;
type Five = TypedFunc<(u32, u32, u32, u32, u32), ()>;
type TwoToOne = TypedFunc<(u32, u32), u32>;
type ThreeToOne = TypedFunc<(u32, u32, u32), u32>;

/// What the instance exports; an absent callback is one that need not be called.
#[derive(Default)]
pub(crate) struct ModuleExports {
    pub(super) context_create: Option<Two>,
    pub(super) vm_start: Option<TwoToOne>,
    pub(super) configure: Option<TwoToOne>,
    pub(super) tick: Option<One>,
    pub(super) queue_ready: Option<Two>,
    pub(super) http_call_response: Option<Five>,
    pub(super) grpc_receive_initial_metadata: Option<Three>,
    pub(super) grpc_receive: Option<Three>,
    pub(super) grpc_receive_trailing_metadata: Option<Three>,
    pub(super) grpc_close: Option<Three>,
    pub(super) done: Option<TypedFunc<u32, u32>>,
    pub(super) delete: Option<One>,
    log: Option<One>,
    request_headers: Headers,
    response_headers: Headers,
    request_body: Option<ThreeToOne>,
    response_body: Option<ThreeToOne>,
    request_trailers: Option<TwoToOne>,
    response_trailers: Option<TwoToOne>,
}

/// A headers callback, whose parameters depend on the ABI version.
#[derive(Default)]
enum Headers {
    #[default]
    Absent,
    /// 0.1.0
    Two(TwoToOne),
    /// 0.2.x, with `end_of_stream`
    Three(ThreeToOne),
}

/// The functions that make an instance ready, in the order of Envoy.
pub(crate) struct Entry {
    initialize: Option<TypedFunc<(), ()>>,
    main: Option<TypedFunc<(u32, u32), u32>>,
    main_void: Option<TypedFunc<(), u32>>,
    start: Option<TypedFunc<(), ()>>,
}

// === impl ModuleExports ===

impl ModuleExports {
    pub(super) fn find(instance: &Instance, store: &mut Store<Host>) -> Self {
        let abi = store.data().abi;
        Self {
            context_create: find(instance, store, "proxy_on_context_create"),
            vm_start: find(instance, store, "proxy_on_vm_start"),
            configure: find(instance, store, "proxy_on_configure"),
            tick: find(instance, store, "proxy_on_tick"),
            queue_ready: find(instance, store, "proxy_on_queue_ready"),
            http_call_response: find(instance, store, "proxy_on_http_call_response"),
            grpc_receive_initial_metadata: find(
                instance,
                store,
                "proxy_on_grpc_receive_initial_metadata",
            ),
            grpc_receive: find(instance, store, "proxy_on_grpc_receive"),
            grpc_receive_trailing_metadata: find(
                instance,
                store,
                "proxy_on_grpc_receive_trailing_metadata",
            ),
            grpc_close: find(instance, store, "proxy_on_grpc_close"),
            done: find(instance, store, "proxy_on_done"),
            delete: find(instance, store, "proxy_on_delete"),
            log: find(instance, store, "proxy_on_log"),
            request_headers: Headers::find(instance, store, "proxy_on_request_headers", abi),
            response_headers: Headers::find(instance, store, "proxy_on_response_headers", abi),
            request_body: find(instance, store, "proxy_on_request_body"),
            response_body: find(instance, store, "proxy_on_response_body"),
            request_trailers: find(instance, store, "proxy_on_request_trailers"),
            response_trailers: find(instance, store, "proxy_on_response_trailers"),
        }
    }

    /// Whether calling it would do anything.
    #[inline]
    pub(super) fn has(&self, callback: Callback) -> bool {
        match callback {
            Callback::RequestHeaders { .. } => !matches!(self.request_headers, Headers::Absent),
            Callback::ResponseHeaders { .. } => !matches!(self.response_headers, Headers::Absent),
            Callback::RequestBody { .. } => self.request_body.is_some(),
            Callback::ResponseBody { .. } => self.response_body.is_some(),
            Callback::RequestTrailers => self.request_trailers.is_some(),
            Callback::ResponseTrailers => self.response_trailers.is_some(),
            Callback::Log => self.log.is_some(),
            Callback::Done => self.done.is_some(),
        }
    }

    /// Calls it with `n` headers or bytes; 0 where it is absent.
    #[inline]
    pub(super) fn call(
        &self,
        store: &mut Store<Host>,
        callback: Callback,
        id: u32,
        n: u32,
    ) -> wasmtime::Result<u32> {
        match callback {
            Callback::RequestHeaders { end_of_stream } => {
                self.request_headers.call(store, id, n, end_of_stream)
            }
            Callback::ResponseHeaders { end_of_stream } => {
                self.response_headers.call(store, id, n, end_of_stream)
            }
            Callback::RequestBody { end_of_stream } => call(
                self.request_body.as_ref(),
                store,
                (id, n, u32::from(end_of_stream)),
            ),
            Callback::ResponseBody { end_of_stream } => call(
                self.response_body.as_ref(),
                store,
                (id, n, u32::from(end_of_stream)),
            ),
            Callback::RequestTrailers => call(self.request_trailers.as_ref(), store, (id, n)),
            Callback::ResponseTrailers => call(self.response_trailers.as_ref(), store, (id, n)),
            Callback::Log => call(self.log.as_ref(), store, id).map(|()| 0),
            Callback::Done => call(self.done.as_ref(), store, id),
        }
    }
}

// === impl Headers ===

impl Headers {
    fn find(instance: &Instance, store: &mut Store<Host>, name: &str, abi: AbiVersion) -> Self {
        let found = match abi {
            AbiVersion::V0_1_0 => find(instance, store, name).map(Self::Two),
            _ => find(instance, store, name).map(Self::Three),
        };
        found.unwrap_or(Self::Absent)
    }

    fn call(
        &self,
        store: &mut Store<Host>,
        id: u32,
        n: u32,
        end_of_stream: bool,
    ) -> wasmtime::Result<u32> {
        match self {
            Self::Absent => Ok(0),
            Self::Two(function) => function.call(store, (id, n)),
            Self::Three(function) => function.call(store, (id, n, u32::from(end_of_stream))),
        }
    }
}

// === impl Entry ===

impl Entry {
    pub(crate) fn find(instance: &Instance, store: &mut Store<Host>) -> Self {
        Self {
            initialize: find(instance, store, "_initialize"),
            main: find(instance, store, "main"),
            main_void: find(instance, store, "__main_void"),
            start: find(instance, store, "_start"),
        }
    }

    /// `_initialize` and then a main function, else `_start`, else nothing.
    pub(crate) fn run(&self, store: &mut Store<Host>) -> wasmtime::Result<()> {
        let Some(initialize) = &self.initialize else {
            return match &self.start {
                Some(start) => start.call(store, ()),
                None => Ok(()),
            };
        };
        initialize.call(&mut *store, ())?;
        match (&self.main, &self.main_void) {
            (Some(main), _) => main.call(store, (0, 0)).map(drop),
            (None, Some(main)) => main.call(store, ()).map(drop),
            (None, None) => Ok(()),
        }
    }
}

/// The export of that name and type. Types of callbacks were checked when the module was compiled.
pub(crate) fn find<P: WasmParams, R: WasmResults>(
    instance: &Instance,
    store: &mut Store<Host>,
    name: &str,
) -> Option<TypedFunc<P, R>> {
    instance.get_typed_func(store, name).ok()
}

/// Calls it if it is there.
#[inline]
pub(super) fn call<P: WasmParams, R: WasmResults + Default>(
    function: Option<&TypedFunc<P, R>>,
    store: &mut Store<Host>,
    parameters: P,
) -> wasmtime::Result<R> {
    match function {
        Some(function) => function.call(store, parameters),
        None => Ok(R::default()),
    }
}
