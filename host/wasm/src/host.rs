//! The store's data: everything that hostcalls of one VM reach.

mod grants;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tidegate_model::ResponseHead;
use wasmtime::{Memory, TypedFunc};

use crate::config::{Ungranted, VmConfig};
use crate::contexts::{Contexts, IdMap, Open, Root, Stream};
use crate::effect::{Effect, HttpCallResponse, VmId};
use crate::guest_log::GuestLog;
use crate::headers::{Fields, MapType, View};
use crate::limits::{Deadline, Limiter};
use crate::module::AbiVersion;
use crate::shared::{Metric, Scope, Shared};
use crate::status::Status;
use crate::stream::{PseudoSet, StreamIo};

/// Effects that one VM may have waiting: a guest in a loop stops here.
const MAX_EFFECTS: usize = 10_000;
/// Bytes of bodies and messages that they may hold together.
const MAX_EFFECT_BYTES: usize = 64 << 20;

pub(crate) struct Host {
    /// Known once the instance exists; before that it is looked up among the exports.
    pub(crate) memory: Option<Memory>,
    /// Taken out while it runs.
    pub(crate) allocator: Option<TypedFunc<u32, u32>>,
    pub(crate) gate: Gate,
    pub(crate) abi: AbiVersion,
    pub(crate) id: VmId,
    pub(crate) vm: Arc<VmConfig>,
    pub(crate) shared: Arc<Shared>,
    /// A snapshot is taken of it, or it is an instance of one: it consumes no queue.
    pub(crate) passing: bool,
    pub(crate) scope: Arc<Scope>,
    pub(crate) contexts: Contexts,
    /// The context that was called.
    pub(crate) entered: u32,
    /// The context that hostcalls are about: `entered`, or what `proxy_set_effective_context` chose.
    pub(crate) current: u32,
    /// What became of a local reply for the entered stream in this entry.
    pub(crate) reply: Reply,
    /// Inside `proxy_on_configure`: the plugin's configuration can be read.
    pub(crate) configuring: bool,
    /// Inside a callback about an HTTP or gRPC call: its root, and what came.
    pub(crate) callout: Option<(u32, Callout)>,
    pub(crate) calls: Calls,
    /// Tokens of queues that its roots registered.
    pub(crate) queues: BTreeSet<u32>,
    /// Roots whose `proxy_done` came in this entry.
    pub(crate) finished: Vec<u32>,
    pub(crate) effects: Vec<Effect>,
    /// Bytes of bodies and messages in them.
    pub(crate) effect_bytes: usize,
    pub(crate) deadline: Deadline,
    pub(crate) limiter: Limiter,
    pub(crate) log: GuestLog,
    /// For values on their way to the guest; kept for its capacity.
    pub(crate) scratch: Vec<u8>,
    /// Metrics that this VM defined.
    pub(crate) metrics: IdMap<Arc<Metric>>,
    /// What was asked for and is not granted: said once, and told by a trial.
    pub(crate) ungranted: Ungranted,
}

/// What became of a local reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reply {
    None,
    /// It stops the stream, whatever the callback returns.
    Sent,
    /// Another one was sent before.
    Ignored,
}

/// Which hostcalls are permitted at the moment; each needs at least one of these.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Gate {
    /// Inside the allocator: logging and clocks, which Go's garbage collector needs.
    Allocating,
    /// Before the first context: these and WASI's start-up.
    Starting,
    /// All.
    Running,
}

/// What a callback about a call brings.
pub(crate) enum Callout {
    Http(HttpCallResponse),
    /// An HTTP call that broke off: there is nothing to read.
    Nothing,
    GrpcInitialMetadata(ResponseHead, PseudoSet),
    GrpcTrailingMetadata(HeaderMap),
    GrpcMessage(Bytes),
}

/// What instances of a snapshot begin with.
pub(crate) struct Template {
    pub(crate) abi: AbiVersion,
    pub(crate) vm: Arc<VmConfig>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) scope: Arc<Scope>,
    pub(crate) root_id: u32,
    pub(crate) root: Root,
    last_context: u32,
    calls: Calls,
    metrics: IdMap<Arc<Metric>>,
    log: GuestLog,
}

/// The lowest two bits of tokens.
pub(crate) const OF_GRPC_CALLS: u32 = 1;
/// Likewise.
pub(crate) const OF_GRPC_STREAMS: u32 = 2;

/// Calls on their way.
#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) http: IdMap<u32>,
    pub(crate) grpc: IdMap<GrpcCall>,
    given: Given,
}

/// How many tokens of each kind were given.
#[derive(Clone, Copy, Default)]
struct Given {
    http: u32,
    grpc_calls: u32,
    grpc_streams: u32,
}

/// A gRPC call or stream on its way.
pub(crate) struct GrpcCall {
    pub(crate) root: u32,
    /// The guest will send nothing more.
    pub(crate) local_closed: bool,
}

// === impl Template ===

impl Template {
    /// From the VM that was configured; none if it has no such root.
    pub(crate) fn of(host: &Host, root_id: u32) -> Option<Self> {
        Some(Self {
            abi: host.abi,
            vm: Arc::clone(&host.vm),
            shared: Arc::clone(&host.shared),
            scope: Arc::clone(&host.scope),
            root_id,
            root: host.contexts.roots.get(&root_id)?.clone(),
            last_context: host.contexts.last,
            calls: host.calls.without_pending(),
            metrics: host.metrics.clone(),
            log: host.log.sibling(),
        })
    }
}

// === impl Host ===

impl Host {
    /// What this replica is called.
    pub(crate) fn node(&self) -> &str {
        self.shared.node()
    }

    /// The data of a VM that has not begun.
    pub(crate) fn new(abi: AbiVersion, vm: Arc<VmConfig>, shared: Arc<Shared>) -> Self {
        let scope = shared.scope(&vm);
        Self::with_scope(abi, vm, shared, scope)
    }

    fn with_scope(
        abi: AbiVersion,
        vm: Arc<VmConfig>,
        shared: Arc<Shared>,
        scope: Arc<Scope>,
    ) -> Self {
        Self {
            memory: None,
            allocator: None,
            gate: Gate::Starting,
            abi,
            id: shared.next_vm(),
            limiter: Limiter::new(vm.limits.memory, Arc::clone(&scope)),
            scope,
            vm,
            shared,
            passing: false,
            queues: BTreeSet::new(),
            contexts: Contexts::default(),
            entered: 0,
            current: 0,
            reply: Reply::None,
            configuring: false,
            callout: None,
            calls: Calls::default(),
            finished: Vec::new(),
            effects: Vec::new(),
            effect_bytes: 0,
            deadline: Deadline::default(),
            log: GuestLog::default(),
            scratch: Vec::new(),
            metrics: IdMap::default(),
            ungranted: Ungranted::default(),
        }
    }

    /// The data of an instance of a snapshot.
    pub(crate) fn from_template(template: &Template) -> Self {
        let mut host = Self::with_scope(
            template.abi,
            Arc::clone(&template.vm),
            Arc::clone(&template.shared),
            Arc::clone(&template.scope),
        );
        host.gate = Gate::Running;
        host.passing = true;
        host.log = template.log.sibling();
        host.begin(template);
        host
    }

    /// As new, with the instance and its accounts kept: nothing that a guest could see is older than the snapshot.
    pub(crate) fn begin_again(&mut self, template: &Template) {
        let mut fresh = Self::from_template(template);
        fresh.memory = self.memory;
        fresh.allocator = self.allocator.take();
        std::mem::swap(&mut fresh.limiter, &mut self.limiter);
        std::mem::swap(&mut fresh.deadline, &mut self.deadline);
        std::mem::swap(&mut fresh.ungranted, &mut self.ungranted);
        *self = fresh;
    }

    fn begin(&mut self, template: &Template) {
        self.contexts.last = template.last_context;
        self.contexts
            .roots
            .insert(template.root_id, template.root.clone());
        self.calls = template.calls.without_pending();
        self.metrics.clone_from(&template.metrics);
    }

    /// The current context, if it is a stream.
    #[inline]
    pub(crate) fn stream(&self) -> Option<&Stream> {
        self.contexts.streams.get(&self.current)
    }

    #[inline]
    pub(crate) fn stream_mut(&mut self) -> Option<&mut Stream> {
        self.contexts.streams.get_mut(&self.current)
    }

    /// The root of the current context; none while the VM starts.
    #[inline]
    pub(crate) fn root_id(&self) -> Option<u32> {
        self.contexts.root_id(self.current)
    }

    pub(crate) fn root(&self) -> Option<&Root> {
        self.contexts.roots.get(&self.root_id()?)
    }

    /// Logs as the current context's plugin.
    pub(crate) fn log(&mut self, level: u32, message: &[u8]) {
        let roots = &self.contexts.roots;
        // Plugins in one VM can know each other's configurations.
        let secrets = roots.values().map(|root| &root.plugin.secrets);
        match self
            .contexts
            .root_id(self.current)
            .and_then(|id| roots.get(&id))
        {
            Some(root) => self.log.write(&root.label, level, message, secrets),
            None => {
                let label = format!("{}/{}", self.vm.namespace, self.vm.scope);
                self.log.write(&label, level, message, secrets);
            }
        }
    }

    /// Queues an effect.
    pub(crate) fn push(&mut self, effect: Effect) -> Result<(), Status> {
        let bytes = self.effect_bytes + effect.payload();
        if self.effects.len() >= MAX_EFFECTS || bytes > MAX_EFFECT_BYTES {
            return Err(Status::InternalFailure);
        }
        self.effect_bytes = bytes;
        self.effects.push(effect);
        Ok(())
    }

    /// A map that the current context can read now.
    pub(crate) fn view(&self, map: MapType) -> Option<View<'_>> {
        match map {
            MapType::GrpcInitialMetadata => match self.callout()? {
                Callout::GrpcInitialMetadata(head, missing) => Some(View::Response(head, *missing)),
                _ => None,
            },
            MapType::GrpcTrailingMetadata => match self.callout()? {
                Callout::GrpcTrailingMetadata(fields) => Some(View::Fields(fields)),
                _ => None,
            },
            MapType::HttpCallHeaders => match self.callout()? {
                Callout::Http(response) => Some(View::Response(&response.head, PseudoSet::NONE)),
                _ => None,
            },
            MapType::HttpCallTrailers => match self.callout()? {
                Callout::Http(response) => Some(View::Fields(&response.trailers)),
                _ => None,
            },
            MapType::RequestHeaders
            | MapType::RequestTrailers
            | MapType::ResponseHeaders
            | MapType::ResponseTrailers => {
                let stream = self.stream()?;
                view_of(stream, stream.io.as_deref()?, map)
            }
        }
    }

    /// A map that the current context can change now. Trailers come to exist at the end of a body that had none.
    pub(crate) fn fields(&mut self, map: MapType) -> Option<Fields<'_>> {
        let stream = self.contexts.streams.get_mut(&self.current)?;
        let (open, at_end) = (&mut stream.open, stream.end_of_stream);
        let io = stream.io.as_deref_mut()?;
        match map {
            MapType::RequestHeaders if open.has(Open::REQUEST_HEADERS) => {
                Some(Fields::Request(&mut io.request, &mut io.missing))
            }
            MapType::ResponseHeaders if open.has(Open::RESPONSE_HEADERS) => {
                Some(Fields::Response(io.response.as_mut()?, &mut io.missing))
            }
            MapType::RequestTrailers => trailers(
                open,
                Open::REQUEST_TRAILERS,
                Open::REQUEST_BODY,
                at_end,
                &mut io.request_trailers,
            ),
            MapType::ResponseTrailers => trailers(
                open,
                Open::RESPONSE_TRAILERS,
                Open::RESPONSE_BODY,
                at_end,
                &mut io.response_trailers,
            ),
            _ => None,
        }
    }

    /// What the callback in progress brought, if it is for the current context's root.
    pub(crate) fn callout(&self) -> Option<&Callout> {
        let (root, callout) = self.callout.as_ref()?;
        (Some(*root) == self.root_id()).then_some(callout)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for token in &self.queues {
            self.shared.queues.leave(*token, self.id, None);
        }
    }
}

fn view_of<'a>(stream: &Stream, io: &'a StreamIo, map: MapType) -> Option<View<'a>> {
    let readable = |part| stream.logging || stream.open.has(part);
    match map {
        MapType::RequestHeaders if readable(Open::REQUEST_HEADERS) => {
            Some(View::Request(io.request_head(), io.missing))
        }
        MapType::ResponseHeaders if readable(Open::RESPONSE_HEADERS) => {
            Some(View::Response(io.response_head()?, io.missing))
        }
        // Envoy's access log has no request trailers.
        MapType::RequestTrailers if stream.open.has(Open::REQUEST_TRAILERS) => {
            Some(View::Fields(io.request_trailers.as_ref()?))
        }
        MapType::ResponseTrailers if readable(Open::RESPONSE_TRAILERS) => {
            Some(View::Fields(io.response_trailers.as_ref()?))
        }
        _ => None,
    }
}

fn trailers<'a>(
    open: &mut Open,
    part: Open,
    body: Open,
    at_end: bool,
    fields: &'a mut Option<HeaderMap>,
) -> Option<Fields<'a>> {
    if !open.has(part) {
        if !(open.has(body) && at_end && fields.is_none()) {
            return None;
        }
        open.insert(part);
    }
    Some(Fields::Plain(fields.get_or_insert_default()))
}

// === impl Calls ===

impl Calls {
    /// The counters alone.
    fn without_pending(&self) -> Self {
        Self {
            http: IdMap::default(),
            grpc: IdMap::default(),
            given: self.given,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.http.len() + self.grpc.len()
    }

    /// A token for an HTTP call: never 0.
    pub(crate) fn next_http(&mut self) -> u32 {
        loop {
            self.given.http = self.given.http.wrapping_add(1);
            let token = self.given.http;
            if token > 0 && !self.http.contains_key(&token) {
                return token;
            }
        }
    }

    /// A token for a gRPC call. As in Envoy the lowest two bits say what it is of.
    pub(crate) fn next_grpc_call(&mut self) -> u32 {
        loop {
            let token = self.given.grpc_calls << 2 | OF_GRPC_CALLS;
            self.given.grpc_calls = self.given.grpc_calls.wrapping_add(1);
            if !self.grpc.contains_key(&token) {
                return token;
            }
        }
    }

    /// A token for a gRPC stream.
    pub(crate) fn next_grpc_stream(&mut self) -> u32 {
        loop {
            let token = self.given.grpc_streams << 2 | OF_GRPC_STREAMS;
            self.given.grpc_streams = self.given.grpc_streams.wrapping_add(1);
            if !self.grpc.contains_key(&token) {
                return token;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_calls_from_streams() {
        let mut calls = Calls::default();
        assert_eq!(calls.next_http(), 1);
        for _ in 0..3 {
            assert_eq!(calls.next_grpc_call() % 4, OF_GRPC_CALLS);
            assert_eq!(calls.next_grpc_stream() % 4, OF_GRPC_STREAMS);
        }
        calls.given = Given {
            http: u32::MAX,
            grpc_calls: u32::MAX,
            grpc_streams: u32::MAX,
        };
        assert_eq!(calls.next_http(), 1, "0 is none");
        assert_eq!(calls.next_grpc_call(), u32::MAX - 2);
        assert_eq!(calls.next_grpc_call(), OF_GRPC_CALLS, "and begins anew");
        assert_eq!(calls.next_grpc_stream(), u32::MAX - 1);
        assert!(Gate::Allocating < Gate::Starting && Gate::Starting < Gate::Running);
    }
}
