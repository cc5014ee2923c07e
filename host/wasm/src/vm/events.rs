//! Callbacks on root contexts: answers to calls, ticks and queues.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tidegate_model::ResponseHead;

use super::Vm;
use crate::effect::{HttpCallResponse, RootId};
use crate::exports::{Exports, Grpc};
use crate::failure::Failure;
use crate::host::{Callout, Host};
use crate::stream::PseudoSet;

/// `WasmResult::BrokenConnection`
const BROKEN_CONNECTION: u32 = 11;

impl Vm {
    /// The answer to an [`Effect::HttpCall`](crate::Effect::HttpCall). One whose root is gone is dropped.
    pub fn on_http_call_response(
        &mut self,
        token: u32,
        response: HttpCallResponse,
    ) -> Result<(), Failure> {
        self.check_alive()?;
        let Some(root) = self.store.data_mut().calls.http.remove(&token) else {
            return Ok(());
        };
        // `:status` counts too.
        let headers = count(response.head.headers.len() + 1);
        let (body, trailers) = (count(response.body.len()), count(response.trailers.len()));
        self.with_callout(root, Callout::Http(response), |exports, store| {
            exports.http_answer(store, root, token, (headers, body, trailers))
        })
    }

    /// An HTTP call whose response broke off. The guest hears of it without headers, body and trailers, and `proxy_get_status`
    /// says 11 (`BrokenConnection`), "reset".
    pub fn on_http_call_failed(&mut self, token: u32) -> Result<(), Failure> {
        self.check_alive()?;
        let Some(root) = self.store.data_mut().calls.http.remove(&token) else {
            return Ok(());
        };
        self.set_status(root, BROKEN_CONNECTION, "reset".to_owned());
        let result = self.with_callout(root, Callout::Nothing, |exports, store| {
            exports.http_answer(store, root, token, (0, 0, 0))
        });
        self.forget_message(root);
        result
    }

    /// The tick that a root asked for.
    pub fn on_tick(&mut self, root: RootId) -> Result<(), Failure> {
        self.on_root(root, |exports, store| exports.tick(store, root.0))
    }

    /// Something lies in a queue that this root registered.
    pub fn on_queue_ready(&mut self, root: RootId, token: u32) -> Result<(), Failure> {
        self.on_root(root, |exports, store| {
            exports.queue_ready(store, root.0, token)
        })
    }

    /// Initial metadata of a gRPC stream: the head of the response, `:status` included, as Envoy gives it. None where the
    /// response was nothing but trailers, or no success.
    pub fn on_grpc_initial_metadata(
        &mut self,
        token: u32,
        head: Option<ResponseHead>,
    ) -> Result<(), Failure> {
        let Some(root) = self.grpc_root(token)? else {
            return Ok(());
        };
        let (head, missing, pseudo) = match head {
            Some(head) => (head, PseudoSet::NONE, 1),
            None => {
                let head = ResponseHead {
                    status: StatusCode::OK,
                    headers: HeaderMap::new(),
                };
                (head, PseudoSet::STATUS, 0)
            }
        };
        let n = count(head.headers.len() + pseudo);
        self.with_callout(
            root,
            Callout::GrpcInitialMetadata(head, missing),
            |exports, store| exports.grpc(store, root, token, Grpc::InitialMetadata(n)),
        )
    }

    /// A message, not framed. It ends a call; a stream goes on.
    pub fn on_grpc_receive(&mut self, token: u32, message: Bytes) -> Result<(), Failure> {
        let Some(root) = self.grpc_root(token)? else {
            return Ok(());
        };
        let size = count(message.len());
        if token % 2 == 1 {
            self.store.data_mut().calls.grpc.remove(&token);
        }
        self.with_callout(root, Callout::GrpcMessage(message), |exports, store| {
            exports.grpc(store, root, token, Grpc::Message(size))
        })
    }

    /// Trailing metadata of a gRPC stream.
    pub fn on_grpc_trailing_metadata(
        &mut self,
        token: u32,
        metadata: HeaderMap,
    ) -> Result<(), Failure> {
        let Some(root) = self.grpc_root(token)? else {
            return Ok(());
        };
        let n = count(metadata.len());
        self.with_callout(
            root,
            Callout::GrpcTrailingMetadata(metadata),
            |exports, store| exports.grpc(store, root, token, Grpc::TrailingMetadata(n)),
        )
    }

    /// The end of a gRPC call that failed, or of a stream. The guest reads status and message with `proxy_get_status`.
    pub fn on_grpc_close(
        &mut self,
        token: u32,
        status: u32,
        message: String,
    ) -> Result<(), Failure> {
        let Some(root) = self.grpc_root(token)? else {
            return Ok(());
        };
        self.set_status(root, status, message);
        let result = self.on_root(RootId(root), |exports, store| {
            exports.grpc(store, root, token, Grpc::Close(status))
        });
        self.forget_message(root);
        // Not before: in the callback a guest may still close its own half, as it may in Envoy.
        self.store.data_mut().calls.grpc.remove(&token);
        result
    }

    fn set_status(&mut self, root: u32, code: u32, message: String) {
        if let Some(root) = self.store.data_mut().contexts.roots.get_mut(&root) {
            root.status = (code, message);
        }
    }

    /// The message lasts for the callback, the code until the next one.
    fn forget_message(&mut self, root: u32) {
        if let Some(root) = self.store.data_mut().contexts.roots.get_mut(&root) {
            root.status.1.clear();
        }
    }

    fn grpc_root(&self, token: u32) -> Result<Option<u32>, Failure> {
        self.check_alive()?;
        Ok(self
            .store
            .data()
            .calls
            .grpc
            .get(&token)
            .map(|call| call.root))
    }

    fn with_callout(
        &mut self,
        root: u32,
        callout: Callout,
        guest: impl FnOnce(&Exports, &mut wasmtime::Store<Host>) -> wasmtime::Result<()>,
    ) -> Result<(), Failure> {
        self.store.data_mut().callout = Some((root, callout));
        let result = self.on_root(RootId(root), guest);
        self.store.data_mut().callout = None;
        result
    }

    fn on_root(
        &mut self,
        root: RootId,
        guest: impl FnOnce(&Exports, &mut wasmtime::Store<Host>) -> wasmtime::Result<()>,
    ) -> Result<(), Failure> {
        self.check_alive()?;
        if !self.store.data().contexts.roots.contains_key(&root.0) {
            return Ok(());
        }
        let limit = self.call_timeout();
        self.enter(root.0, limit, guest)
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
