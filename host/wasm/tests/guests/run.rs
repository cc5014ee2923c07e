//! One guest in a VM with one request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tidegate_model::{RequestHead, ResponseHead};
use tidegate_wasm::{
    Action, Callback, Capabilities, ContextId, Effect, Engine, Limits, Module, PluginConfig,
    RootId, Shared, StreamIo, Vm, VmConfig,
};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new().unwrap());

pub(crate) const REQUEST_HEADERS: Callback = Callback::RequestHeaders {
    end_of_stream: false,
};
pub(crate) const RESPONSE_HEADERS: Callback = Callback::ResponseHeaders {
    end_of_stream: false,
};

pub(crate) struct Run {
    pub(crate) vm: Vm,
    pub(crate) root: RootId,
    pub(crate) stream: ContextId,
    pub(crate) shared: Arc<Shared>,
}

pub(crate) fn compile(wasm: &[u8]) -> Module {
    ENGINE.compile(wasm).unwrap()
}

pub(crate) fn engine() -> &'static Engine {
    &ENGINE
}

pub(crate) fn vm_config() -> VmConfig {
    VmConfig {
        namespace: "shop".into(),
        vm_id: String::new(),
        scope: "guest".into(),
        vm_config: Bytes::from_static(b"vm"),
        env: BTreeMap::from([("TEAM".to_owned(), "shop".to_owned())]),
        limits: Limits {
            // What a guest may take when the machine is busy with other tests.
            call_timeout: Duration::from_secs(5),
            start_timeout: Duration::from_secs(60),
            ..Limits::default()
        },
    }
}

pub(crate) fn plugin() -> PluginConfig {
    PluginConfig {
        namespace: "shop".into(),
        name: "guest".into(),
        root_id: "root".to_owned(),
        config: Bytes::from_static(b"config"),
        secrets: Default::default(),
        capabilities: Capabilities::ALL,
        clusters: BTreeSet::from(["idp".to_owned()]),
        headers_wait_for_body: false,
        buffered_body: 1 << 20,
        old_property_names: false,
    }
}

pub(crate) fn fields(entries: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    entries.iter().map(pair).collect()
}

/// `POST https://shop.test{path}`, answered with 200.
pub(crate) fn exchange(path: &'static str) -> Box<StreamIo> {
    let mut io = StreamIo::new(RequestHead {
        method: Method::POST,
        scheme: Scheme::HTTPS,
        authority: HeaderValue::from_static("shop.test"),
        path: PathAndQuery::from_static(path),
        headers: fields(&[("x-one", "1"), ("user-agent", "curl")]),
    });
    io.request_body = Bytes::from("hello").into();
    io.response = Some(ResponseHead {
        status: StatusCode::OK,
        headers: fields(&[("server", "up")]),
    });
    io.response_body = Bytes::from("world").into();
    Box::new(io)
}

impl Run {
    pub(crate) fn of(wasm: &[u8]) -> Self {
        Self::with(wasm, "/p", vm_config(), plugin())
    }

    pub(crate) fn on(wasm: &[u8], path: &'static str) -> Self {
        Self::with(wasm, path, vm_config(), plugin())
    }

    pub(crate) fn with(
        wasm: &[u8],
        path: &'static str,
        vm: VmConfig,
        plugin: PluginConfig,
    ) -> Self {
        let shared = Shared::new();
        let mut vm = Vm::start(&compile(wasm), Arc::new(vm), Arc::clone(&shared)).unwrap();
        let root = vm.add_root(Arc::new(plugin)).unwrap();
        let stream = vm.create_stream(root).unwrap();
        vm.attach(stream, exchange(path));
        Self {
            vm,
            root,
            stream,
            shared,
        }
    }

    /// Another request on the same VM.
    pub(crate) fn again(&mut self, path: &'static str) {
        self.vm.delete_stream(self.stream).unwrap();
        self.stream = self.vm.create_stream(self.root).unwrap();
        self.vm.attach(self.stream, exchange(path));
    }

    pub(crate) fn call(&mut self, callback: Callback) -> Action {
        self.vm.call(self.stream, callback).unwrap()
    }

    /// The request headers' callback.
    pub(crate) fn request(&mut self) -> Action {
        self.call(REQUEST_HEADERS)
    }

    pub(crate) fn io(&mut self) -> &mut StreamIo {
        self.vm.io_mut(self.stream).unwrap()
    }

    /// A request header, as text.
    pub(crate) fn header(&mut self, name: &str) -> String {
        let value = &self.io().request.headers[name];
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    }

    /// What the guest set as a property.
    pub(crate) fn property(&mut self, name: &str) -> Vec<u8> {
        let key = format!("wasm.{name}").into_bytes();
        self.io().state.get(&key).expect(name).to_vec()
    }

    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        self.vm.effects().collect()
    }
}
