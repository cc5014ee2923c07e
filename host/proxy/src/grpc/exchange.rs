//! One call or stream, from its request to its status.

use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use tidegate_model::{RequestHead, ResponseHead};
use tidegate_wasm::{Failure, GrpcTarget, RootId, Vm};

use super::frame::Decoder;
use super::is_call;
use super::outgoing::{Outgoing, Pump};
use super::status::{Status, timeout_value};
use crate::body::Body;
use crate::budget::Budget;
use crate::callout;
use crate::forward;
use crate::plugin::{Plugin, VmCell};
use crate::worker::Worker;

/// Fields that are the connection's or the call's own, whatever metadata a guest names.
const RESERVED: [header::HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TRAILER,
];

/// Who asked, and where answers go.
pub(super) struct Exchange {
    pub(super) cell: Weak<VmCell>,
    pub(super) worker: Rc<Worker>,
    pub(super) plugin: Arc<Plugin>,
    pub(super) budget: Rc<Budget>,
    pub(super) root: RootId,
    pub(super) token: u32,
}

/// How an exchange ended.
enum End {
    Status(Status),
    /// Nobody is there any more to hear it.
    Deserted,
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// A body without a `content-length`, which no gRPC client sends: the length of messages is in front of each.
fn of_one_message(message: Bytes) -> Body {
    let (mut sender, body) = Channel::new(1);
    if sender.try_send(Frame::data(message)).is_err() {
        unreachable!("a new channel has room for a frame");
    }
    Body::Channel(body)
}

impl Exchange {
    /// One message there, and one back or a status.
    pub(super) async fn call(self, target: GrpcTarget, message: Bytes, timeout: Option<Duration>) {
        let mut held = self.budget.hold();
        if held.grow(message.len()).is_err() {
            self.close(Status::unavailable(callout::OVERFLOW)).await;
            return self.forget();
        }
        let mut answer = None;
        let talk = self.talk(&target, of_one_message(message), timeout, &mut answer);
        let end = match timeout {
            None => talk.await,
            Some(limit) => tokio::time::timeout(limit, talk)
                .await
                .unwrap_or_else(|_| Status::timeout().into()),
        };
        let token = self.token;
        match (end, answer) {
            (End::Deserted, _) => {}
            (End::Status(status), Some(message)) if status.is_ok() => {
                self.tell(move |vm| vm.on_grpc_receive(token, message))
                    .await;
            }
            (End::Status(status), _) if status.is_ok() => {
                self.close(Status::internal("success without a message"))
                    .await;
            }
            (End::Status(status), _) => self.close(status).await,
        }
        self.forget();
    }

    /// Messages in both directions.
    pub(super) async fn stream(self, target: GrpcTarget, outgoing: Rc<Outgoing>) {
        let (mut pump, body) = Pump::new(outgoing);
        let mut nothing = None;
        let end = {
            let mut talk = pin!(self.talk(&target, body, None, &mut nothing));
            tokio::select! {
                // What the upstream has said already counts first.
                biased;
                end = &mut talk => end,
                pumped = pump.run() => match pumped {
                    Ok(()) => talk.await,
                    Err(_) => self.failed(Status::exhausted(
                        "the upstream is slower than the filter: too much was waiting to be sent",
                    )).await,
                }
            }
        };
        if let End::Status(status) = end {
            self.close(status).await;
        }
        self.forget();
    }

    /// The whole exchange up to its status. A call keeps the last message in `answer`.
    async fn talk(
        &self,
        target: &GrpcTarget,
        body: Body,
        timeout: Option<Duration>,
        answer: &mut Option<Bytes>,
    ) -> End {
        let Some(backend) = self.plugin.spec.clusters.get(target.cluster.as_str()) else {
            return self
                .failed(Status::unavailable("Cluster not available"))
                .await;
        };
        let cluster = self.worker.upstreams.http2_cluster(backend);
        let scheme = match &backend.tls {
            None => Scheme::HTTP,
            Some(_) => Scheme::HTTPS,
        };
        let head = match request_head(target, scheme, timeout) {
            Ok(head) => head,
            Err(status) => return self.failed(status).await,
        };
        // The connection stays taken for as long as this lives.
        let (response, _pooled) = match forward::once(&self.worker, &cluster, head, body).await {
            Ok(answered) => answered,
            Err(error) => return self.failed(Status::of_error(&error)).await,
        };
        let (parts, body) = response.into_parts();
        let only_trailers = body.is_end_stream()
            && (parts.status == StatusCode::OK || parts.headers.contains_key("grpc-status"));
        if only_trailers {
            self.initial_metadata(None).await;
            return self.trailing_metadata(parts.headers).await;
        }
        if parts.status != StatusCode::OK {
            self.initial_metadata(None).await;
            return self.failed(Status::of_http(parts.status)).await;
        }
        let head = ResponseHead {
            status: parts.status,
            headers: parts.headers,
        };
        if !self.initial_metadata(Some(head)).await {
            return End::Deserted;
        }
        self.receive(body, answer).await
    }

    async fn receive(&self, mut body: Incoming, answer: &mut Option<Bytes>) -> End {
        let most = callout::most_bytes(&self.plugin.spec);
        let mut decoder = Decoder::new(self.budget.hold(), most);
        loop {
            match decoder.next() {
                Ok(Some(message)) if is_call(self.token) => *answer = Some(message),
                Ok(Some(message)) => {
                    let token = self.token;
                    if !self
                        .tell(move |vm| vm.on_grpc_receive(token, message))
                        .await
                    {
                        return End::Deserted;
                    }
                }
                Err(status) => return self.failed(status).await,
                Ok(None) => {
                    let frame = match body.frame().await {
                        Some(Ok(frame)) => frame,
                        Some(Err(error)) => {
                            let text = format!("the upstream broke off: {error}");
                            return self.failed(Status::internal(&text)).await;
                        }
                        None => {
                            let status = Status::unknown("the response ended without a status");
                            return self.failed(status).await;
                        }
                    };
                    match frame.into_data() {
                        Ok(data) => {
                            if let Err(status) = decoder.push(&data) {
                                return self.failed(status).await;
                            }
                        }
                        Err(frame) => {
                            let trailers = frame.into_trailers().unwrap_or_default();
                            let end = self.trailing_metadata(trailers).await;
                            return match end {
                                End::Status(status) if status.is_ok() && decoder.is_within() => {
                                    Status::internal("success within a message").into()
                                }
                                end => end,
                            };
                        }
                    }
                }
            }
        }
    }

    /// Only streams hear of metadata.
    async fn initial_metadata(&self, head: Option<ResponseHead>) -> bool {
        let token = self.token;
        is_call(token)
            || self
                .tell(move |vm| vm.on_grpc_initial_metadata(token, head))
                .await
    }

    async fn trailing_metadata(&self, trailers: HeaderMap) -> End {
        let (token, status) = (self.token, Status::of_trailers(&trailers));
        if is_call(token)
            || self
                .tell(move |vm| vm.on_grpc_trailing_metadata(token, trailers))
                .await
        {
            End::Status(status)
        } else {
            End::Deserted
        }
    }

    /// An end that is not the upstream's word: Envoy tells of empty trailers first.
    async fn failed(&self, status: Status) -> End {
        match self.trailing_metadata(HeaderMap::new()).await {
            End::Status(_) => End::Status(status),
            End::Deserted => End::Deserted,
        }
    }

    async fn close(&self, status: Status) {
        let token = self.token;
        self.tell(move |vm| vm.on_grpc_close(token, status.code, status.message))
            .await;
    }

    async fn tell(
        &self,
        call: impl FnOnce(&mut Vm) -> Result<(), Failure> + Send + 'static,
    ) -> bool {
        VmCell::answer(&self.cell, self.root, call).await
    }

    fn forget(&self) {
        if let Some(cell) = self.cell.upgrade() {
            cell.grpc.end(self.token);
        }
    }
}

fn request_head(
    target: &GrpcTarget,
    scheme: Scheme,
    timeout: Option<Duration>,
) -> Result<RequestHead, Status> {
    let path = format!("/{}/{}", target.service, target.method);
    let path = PathAndQuery::try_from(path)
        .map_err(|_| Status::internal("service and method make no path"))?;
    let mut headers = target.metadata.clone();
    for name in RESERVED {
        headers.remove(name);
    }
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    if let Some(timeout) = timeout {
        headers.insert("grpc-timeout", timeout_value(timeout));
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    Ok(RequestHead {
        method: Method::POST,
        scheme,
        authority: target.authority.clone(),
        path,
        headers,
    })
}
