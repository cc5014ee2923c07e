//! Configurations, an exchange, and serialised maps for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tidegate_model::{RequestHead, ResponseHead};

use crate::{Capabilities, Engine, Limits, LoadError, Module, PluginConfig, StreamIo, VmConfig};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new().unwrap());

pub(in crate::vm::tests) fn engine() -> &'static Engine {
    &ENGINE
}

pub(in crate::vm::tests) fn compile(wat: &str) -> Result<Module, LoadError> {
    let wasm = wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}\n{wat}"));
    ENGINE.compile(&wasm)
}

pub(in crate::vm::tests) fn vm_config() -> VmConfig {
    VmConfig {
        namespace: "shop".into(),
        vm_id: String::new(),
        scope: "hello".into(),
        vm_config: Bytes::from_static(b"vm config"),
        env: BTreeMap::new(),
        limits: Limits::default(),
    }
}

pub(in crate::vm::tests) fn plugin() -> PluginConfig {
    PluginConfig {
        namespace: "shop".into(),
        name: "hello".into(),
        root_id: "root".to_owned(),
        config: Bytes::from_static(b"plugin config"),
        secrets: Default::default(),
        capabilities: Capabilities::ALL,
        clusters: BTreeSet::from(["idp".to_owned()]),
        headers_wait_for_body: false,
        buffered_body: 1 << 20,
        old_property_names: true,
    }
}

pub(in crate::vm::tests) fn headers(entries: &[(&'static str, &'static str)]) -> HeaderMap {
    entries
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

/// `POST https://shop.test/p?q=1` with a body, answered with 200.
pub(in crate::vm::tests) fn exchange() -> StreamIo {
    let mut request_headers = headers(&[
        ("x-one", "1"),
        ("content-length", "11"),
        ("user-agent", "curl"),
    ]);
    request_headers.append("cookie", HeaderValue::from_static("a=1"));
    request_headers.append("cookie", HeaderValue::from_static("b=2"));
    let mut io = StreamIo::new(RequestHead {
        method: Method::POST,
        scheme: Scheme::HTTPS,
        authority: HeaderValue::from_static("shop.test"),
        path: PathAndQuery::from_static("/p?q=1"),
        headers: request_headers,
    });
    io.request_body = Bytes::from("hello world").into();
    io.response = Some(ResponseHead {
        status: StatusCode::OK,
        headers: headers(&[("server", "up")]),
    });
    io.response_body = Bytes::from("response").into();
    io
}

/// A serialised map.
pub(in crate::vm::tests) fn pairs(entries: &[(&str, &str)]) -> Vec<u8> {
    let entries = || {
        entries
            .iter()
            .map(|(key, value)| (key.as_bytes(), value.as_bytes()))
    };
    let mut out = vec![0; crate::pairs::encoded_len(entries())];
    crate::pairs::encode(entries(), entries().count(), &mut out);
    out
}

/// A map as text.
pub(in crate::vm::tests) fn unpairs(blob: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    crate::pairs::decode(blob)
        .into_iter()
        .map(|(key, value)| (text(key), text(value)))
        .collect()
}
