//! The requests that are measured.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate_filter_cases::Case;
use tidegate_model::{RequestHead, ResponseHead};
use tidegate_wasm::{Callback, Effect, Failure, RootId, StreamIo, Vm};

use super::script::{Script, append};
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
    script: Script,
}

/// A request that was made.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    pub(super) time: Duration,
    pub(super) ended: Ended,
    /// Calls that the filter made.
    pub(super) calls: usize,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            script: Script::default(),
        })
    }

    /// The request of a case, with what a browser sends beside it, its upstream's response, and answers to its calls.
    ///
    /// # Errors
    /// What is no request or response.
    pub(super) fn of_case(case: &Case, arguments: &Bench) -> anyhow::Result<Self> {
        let mut template = Self::new(arguments)?;
        template
            .follow(case)
            .with_context(|| format!("--case {:?}", case.name))?;
        Ok(template)
    }

    fn follow(&mut self, case: &Case) -> anyhow::Result<()> {
        for exchange in case.exchanges() {
            let (given, head) = (&exchange.request, &mut self.request);
            head.method = given.method.parse()?;
            head.scheme = given.scheme.parse()?;
            head.authority = HeaderValue::try_from(&given.host)?;
            head.path = given.path.parse()?;
            append(&mut head.headers, &given.headers)?;
            if let Some(upstream) = &exchange.upstream {
                self.response.status = StatusCode::from_u16(upstream.status)?;
                append(&mut self.response.headers, &upstream.headers)?;
            }
        }
        self.script = Script::of(case)?;
        Ok(())
    }

    /// Places that the filter may call.
    pub(super) fn clusters(&self) -> BTreeSet<String> {
        self.script.clusters.clone()
    }

    /// One request, and the time that it took: without making it and taking it apart.
    pub(super) fn pass(&self, vm: &mut Vm, root: RootId) -> Result<Pass, Failure> {
        let mut io = Box::new(StreamIo::new(self.request.clone()));
        io.response = Some(self.response.clone());
        let mut pass = Pass {
            time: Duration::ZERO,
            ended: Ended::Passed,
            calls: 0,
        };
        let began = Instant::now();
        let stream = vm.create_stream(root)?;
        vm.attach(stream, io);
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
                pass.ended = Ended::Held;
            }
            self.settle(vm, &mut pass)?;
            if pass.ended != Ended::Passed {
                break;
            }
        }
        vm.call(stream, Callback::Log)?;
        vm.call(stream, Callback::Done)?;
        let io = vm.delete_stream(stream)?;
        vm.effects();
        pass.time = began.elapsed();
        drop(io);
        Ok(pass)
    }

    /// Does what the filter asks for, until it asks for nothing more.
    fn settle(&self, vm: &mut Vm, pass: &mut Pass) -> Result<(), Failure> {
        while vm.has_effects() {
            let effects: Vec<Effect> = vm.effects().collect();
            for effect in &effects {
                match effect {
                    Effect::LocalReply { .. } => pass.ended = Ended::Replied,
                    Effect::Resume { .. } if pass.ended == Ended::Held => {
                        pass.ended = Ended::Passed;
                    }
                    Effect::HttpCall { .. } | Effect::GrpcCall { .. } => {
                        self.script.answer(vm, effect, pass.calls)?;
                        pass.calls += 1;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
