//! What a guest asked for during an entry and the data plane performs afterwards.
//!
//! Nothing here has happened yet when the entry returns: proxy-wasm hostcalls never block and never re-enter the VM.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tidegate_model::{RequestHead, ResponseHead};

use crate::action::Direction;
use crate::headers::View;

/// A stream context in its VM; not used again while the VM lives on and the context does.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ContextId(pub(crate) u32);

/// A root context in its VM.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RootId(pub(crate) u32);

/// A VM in this process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VmId(pub(crate) u64);

/// One thing to do, in the order in which the guest asked.
#[derive(Debug)]
pub enum Effect {
    /// `proxy_send_local_response`: answer the stream instead of going on. At most one per stream.
    LocalReply {
        /// The stream.
        context: ContextId,
        /// The answer.
        reply: LocalReply,
    },
    /// `proxy_continue_stream`: go on with what was held.
    Resume {
        /// The stream.
        context: ContextId,
        /// The half that was held.
        direction: Direction,
    },
    /// `proxy_close_stream`: reset it, details `wasm_close_stream`.
    CloseStream {
        /// The stream.
        context: ContextId,
        /// The half it was asked for; both end.
        direction: Direction,
    },
    /// `proxy_clear_route_cache` or the foreign function of that name.
    ClearRouteCache {
        /// The stream.
        context: ContextId,
    },
    /// `proxy_http_call`; answered through [`Vm::on_http_call_response`](crate::Vm::on_http_call_response), always.
    HttpCall {
        /// The root whose plugin names the cluster.
        root: RootId,
        /// Unique among the VM's pending calls.
        token: u32,
        /// A name out of the plugin's clusters.
        cluster: String,
        /// The request; `content-length` is set when there is a body.
        head: Box<RequestHead>,
        /// Its body.
        body: Bytes,
        /// Its trailers.
        trailers: Option<HeaderMap>,
        /// None: no timeout of the guest's own.
        timeout: Option<Duration>,
    },
    /// `proxy_grpc_call`; answered by [`on_grpc_receive`](crate::Vm::on_grpc_receive) or [`on_grpc_close`](crate::Vm::on_grpc_close).
    GrpcCall {
        /// Where to.
        target: Box<GrpcTarget>,
        /// The request message, not framed.
        message: Bytes,
        /// None: no timeout of the guest's own.
        timeout: Option<Duration>,
    },
    /// `proxy_grpc_stream`
    GrpcStream {
        /// Where to.
        target: Box<GrpcTarget>,
    },
    /// `proxy_grpc_send`
    GrpcSend {
        /// The stream's token.
        token: u32,
        /// The message, not framed.
        message: Bytes,
        /// Half-close after it.
        end_of_stream: bool,
    },
    /// `proxy_grpc_cancel`: reset it; no callback follows.
    GrpcCancel {
        /// The call's or stream's token.
        token: u32,
    },
    /// `proxy_grpc_close`: half-close a stream, cancel a call.
    GrpcClose {
        /// The call's or stream's token.
        token: u32,
    },
    /// `proxy_set_tick_period_milliseconds`; re-armed after each tick.
    SetTickPeriod {
        /// Whose tick.
        root: RootId,
        /// None: stop.
        period: Option<Duration>,
    },
    /// `proxy_enqueue_shared_queue`: call [`Vm::on_queue_ready`](crate::Vm::on_queue_ready) on the consumer.
    QueueReady {
        /// The queue.
        token: u32,
        /// The VM that registered it last.
        vm: VmId,
        /// Its root context there.
        root: RootId,
    },
    /// `proxy_done` after `proxy_on_done` had said no: the root context is gone now.
    RootDone {
        /// The root.
        root: RootId,
    },
}

/// A response made by a filter.
#[derive(Clone, Debug)]
pub struct LocalReply {
    /// 200 to 599.
    pub status: StatusCode,
    /// Without `content-length`; with `content-type: text/plain` where there is a body and the guest named no type.
    pub headers: HeaderMap,
    /// May be empty.
    pub body: Bytes,
    /// For the access log; no spaces.
    pub details: String,
    /// 0 to 16, for gRPC clients.
    pub grpc_status: Option<u32>,
}

/// Where a gRPC call goes.
#[derive(Debug)]
pub struct GrpcTarget {
    /// The root whose plugin names the cluster.
    pub root: RootId,
    /// Odd for calls, even for streams, unique among the VM's pending ones.
    pub token: u32,
    /// A name out of the plugin's clusters.
    pub cluster: String,
    /// `:authority`: what a serialised `GrpcService` says, else the cluster's name, as in Envoy.
    pub authority: HeaderValue,
    /// `package.Service`
    pub service: String,
    /// `Method`
    pub method: String,
    /// Initial metadata.
    pub metadata: HeaderMap,
}

/// The answer to an HTTP call. A call that failed is a 503 with Envoy's text, a timeout a 504: some guests decide on it.
#[derive(Clone, Debug)]
pub struct HttpCallResponse {
    /// Status and fields.
    pub head: ResponseHead,
    /// The whole body.
    pub body: Bytes,
    /// Empty where there were none.
    pub trailers: HeaderMap,
}

impl Effect {
    /// Bytes of fields and body or message: what the host keeps for the guest.
    pub(crate) fn payload(&self) -> usize {
        let size = |fields: &HeaderMap| View::Fields(fields).byte_size();
        match self {
            Self::HttpCall {
                head,
                body,
                trailers,
                ..
            } => size(&head.headers) + body.len() + trailers.as_ref().map_or(0, size),
            Self::GrpcCall {
                target, message, ..
            } => size(&target.metadata) + message.len(),
            Self::GrpcStream { target } => size(&target.metadata),
            Self::GrpcSend { message, .. } => message.len(),
            _ => 0,
        }
    }
}

impl ContextId {
    /// The number the guest knows.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl RootId {
    /// The number the guest knows.
    pub const fn get(self) -> u32 {
        self.0
    }
}
