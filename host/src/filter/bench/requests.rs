//! The requests that are measured.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate_model::{RequestHead, ResponseHead};
use tidegate_wasm::{Callback, Effect, Failure, RootId, StreamIo, Vm};

use crate::filter::arguments::Bench;

/// Headers that a browser sends, roughly.
const USUAL: [(&str, &str); 6] = [
    ("user-agent", "bench/1"),
    ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br"),
    ("cookie", "session=1234567890; theme=dark"),
    ("x-request-id", "5f2f6f0e-8a29-4b84-9c1f-6a7b0d1c2e3f"),
];

/// What each request is made from.
pub(super) struct Template {
    request: RequestHead,
    response: ResponseHead,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It passed, and its response did.
    Passed,
    /// The filter answered it.
    Replied,
    /// The filter held it, for its body, a call or a timer.
    Held,
}

impl Template {
    /// # Errors
    /// Headers that are none.
    pub(super) fn new(arguments: &Bench) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in USUAL {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let mut authority = HeaderValue::from_static("bench.example");
        for line in &arguments.headers {
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("-H {line:?}: expected 'name: value'"))?;
            let wrong = |error: &dyn std::fmt::Display| anyhow!("-H {line:?}: {error}");
            let name = HeaderName::try_from(name.trim()).map_err(|error| wrong(&error))?;
            let value = HeaderValue::try_from(value.trim()).map_err(|error| wrong(&error))?;
            if name == http::header::HOST {
                authority = value;
            } else {
                headers.append(name, value);
            }
        }
        Ok(Self {
            request: RequestHead {
                method: arguments.method.clone(),
                scheme: Scheme::HTTPS,
                authority,
                path: arguments.target.clone(),
                headers,
            },
            response: ResponseHead {
                status: StatusCode::OK,
                headers: HeaderMap::from_iter([
                    (
                        http::header::CONTENT_TYPE,
                        HeaderValue::from_static("text/html"),
                    ),
                    (http::header::SERVER, HeaderValue::from_static("upstream")),
                ]),
            },
        })
    }

    /// One request, and the time that it took: without making it and taking it apart.
    pub(super) fn pass(&self, vm: &mut Vm, root: RootId) -> Result<(Duration, Ended), Failure> {
        let mut io = Box::new(StreamIo::new(self.request.clone()));
        io.response = Some(self.response.clone());
        let began = Instant::now();
        let stream = vm.create_stream(root)?;
        vm.attach(stream, io);
        let mut ended = Ended::Passed;
        let heads = [
            Callback::RequestHeaders {
                end_of_stream: true,
            },
            Callback::ResponseHeaders {
                end_of_stream: true,
            },
        ];
        for head in heads {
            let goes_on = vm.call(stream, head)?.is_continue();
            if !goes_on {
                ended = Ended::Held;
            }
            for effect in vm.effects() {
                match effect {
                    Effect::LocalReply { .. } => ended = Ended::Replied,
                    Effect::Resume { .. } if ended == Ended::Held => ended = Ended::Passed,
                    _ => {}
                }
            }
            if ended != Ended::Passed {
                break;
            }
        }
        vm.call(stream, Callback::Log)?;
        vm.call(stream, Callback::Done)?;
        let io = vm.delete_stream(stream)?;
        vm.effects();
        let time = began.elapsed();
        drop(io);
        Ok((time, ended))
    }
}
