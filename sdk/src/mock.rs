//! A host for tests: `cargo test` runs a filter natively, call-outs, timers, shared data and all.
//!
//! ```
//! # use tidegate_sdk::{ConfigError, Filter, Reply, Request, Response, config};
//! # struct Hello;
//! # impl Filter for Hello {
//! #     type Memo = ();
//! #     fn configure(_: &[u8]) -> Result<Self, ConfigError> { Ok(Self) }
//! #     async fn request(&self, _: &Request) -> Result<(), Reply> { Ok(()) }
//! #     async fn response(&self, response: &Response, (): ()) -> Result<(), Reply> {
//! #         response.headers().set("x-hello", "you");
//! #         Ok(())
//! #     }
//! # }
//! use tidegate_sdk::mock::{Message, Mock};
//!
//! let mock = Mock::new();
//! let filter = mock.load::<Hello>("{}").expect("a good configuration");
//! let outcome = filter.run(Message::request("GET", "/"), Message::response(200));
//! assert_eq!(outcome.response.get("x-hello"), Some("you"));
//! ```
//!
//! It does what Envoy does where the two could differ: headers can be read and written in their own phase only, a paused head holds
//! the body back, a body comes in pieces with an empty last one, a filter's own reply passes its response part.

mod exchange;
pub(crate) mod hostcalls;
mod message;
mod state;

use std::marker::PhantomData;
use std::time::Duration;

pub use exchange::{Exchange, Outcome};
pub use message::Message;
pub use state::{CallMade, Metric};

use crate::filter::Part;
use crate::hostcalls::Pairs;
use crate::log::Level;
use crate::{Filter, runtime};
use state::{State, with};

/// The host of this thread. Making one forgets what was before.
#[derive(Debug)]
pub struct Mock(PhantomData<*const ()>);

/// A filter that took its configuration.
#[derive(Debug)]
pub struct Loaded {
    root: u32,
}

/// What a call gets for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallAnswer {
    /// An HTTP response.
    Http(Message),
    /// A gRPC message.
    Grpc(Vec<u8>),
    /// A gRPC status other than OK, and its message.
    GrpcStatus(u32, String),
}

impl Mock {
    /// A host without anything in it, whose clock stands at 2026-01-01.
    #[must_use]
    #[allow(
        clippy::new_without_default,
        reason = "it changes the state of the thread"
    )]
    pub fn new() -> Self {
        runtime::reset();
        with(|state| *state = State::default());
        Self(PhantomData)
    }

    /// Configures a filter.
    ///
    /// # Errors
    ///
    /// The log line with which the filter refused its configuration.
    pub fn load<F: Filter>(&self, configuration: &str) -> Result<Loaded, String> {
        load::<F>(Part::All, configuration)
    }

    /// As [`load`](Self::load), for a filter whose [`filter!`](crate::filter!) says `heads`: one that waits or wants to see a body
    /// panics, as its module would trap.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub fn load_heads<F: Filter>(&self, configuration: &str) -> Result<Loaded, String> {
        load::<F>(Part::Heads, configuration)
    }

    /// Moves the clock and fires what is due.
    pub fn advance(&self, by: Duration) {
        advance(by);
    }

    /// Sets the clock: time since the epoch.
    pub fn set_time(&self, time: Duration) {
        with(|state| state.now = nanoseconds(time));
    }

    /// The log lines so far, which are forgotten then.
    #[must_use]
    pub fn take_logs(&self) -> Vec<(Level, String)> {
        with(|state| std::mem::take(&mut state.logs))
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        with(|state| state.metrics.clone())
    }

    /// The calls under way.
    #[must_use]
    pub fn calls(&self) -> Vec<CallMade> {
        with(|state| state.calls.clone())
    }

    /// Only these clusters may be called; at first any may.
    pub fn allow_clusters(&self, clusters: &[&str]) {
        let clusters = clusters.iter().map(ToString::to_string).collect();
        with(|state| state.clusters = Some(clusters));
    }

    /// Whether bodies are sent past heads that wait (`headersWaitForBody`, in Envoy `allow_on_headers_stop_iteration`).
    pub fn headers_wait_for_body(&self, wait: bool) {
        with(|state| state.headers_wait_for_body = wait);
    }

    /// Whether shared data is refused, as by a store that is full.
    pub fn refuse_shared_data(&self, refuse: bool) {
        with(|state| state.shared_data_refused = refuse);
    }

    /// Whether timers are refused, as without the capability.
    pub fn refuse_timers(&self, refuse: bool) {
        with(|state| state.timers_refused = refuse);
    }

    /// Replies of filters that have more bytes in their headers and body are refused.
    pub fn limit_replies(&self, bytes: usize) {
        with(|state| state.max_reply = bytes);
    }

    /// Answers a call. Whoever waits for it goes on.
    pub fn answer(&self, token: u32, answer: CallAnswer) {
        give_answer(token, answer);
    }
}

fn load<F: Filter>(part: Part, configuration: &str) -> Result<Loaded, String> {
    runtime::register::<F>(part);
    let root = with(|state| {
        state.configuration = configuration.as_bytes().to_vec();
        state.new_context()
    });
    runtime::on_context_create(root, 0);
    if runtime::is_configured(root) {
        return Ok(Loaded { root });
    }
    let last = with(|state| state.logs.pop());
    Err(last.map(|(_, line)| line).unwrap_or_default())
}

impl Loaded {
    /// One exchange, without any call: `response` is what the upstream answers.
    ///
    /// # Panics
    ///
    /// If the filter makes a call or waits for ever.
    #[must_use]
    pub fn run(&self, request: Message, response: Message) -> Outcome {
        let mut response = Some(response);
        self.run_with(
            request,
            |_| response.take().unwrap_or_default(),
            |call| panic!("an unexpected call: {call:?}"),
        )
    }

    /// One exchange with an upstream and with what its calls are answered.
    ///
    /// # Panics
    ///
    /// If the filter waits for ever.
    #[must_use]
    pub fn run_with(
        &self,
        request: Message,
        mut upstream: impl FnMut(&Message) -> Message,
        mut answer: impl FnMut(&CallMade) -> CallAnswer,
    ) -> Outcome {
        let mut exchange = self.begin(request);
        while !exchange.proceed(&mut upstream) {
            let call = with(|state| state.calls.first().cloned());
            if let Some(call) = call {
                let answer = answer(&call);
                give_answer(call.token, answer);
                continue;
            }
            let tick = with(|state| state.tick);
            assert!(tick > 0, "the filter waits for something that never comes");
            advance(Duration::from_millis(tick.into()));
        }
        exchange.finish()
    }

    /// An exchange to be driven step by step.
    #[must_use]
    pub fn begin(&self, request: Message) -> Exchange {
        Exchange::new(self.root, request)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("a time of this age")
}

fn advance(by: Duration) {
    let tick = with(|state| {
        state.now += nanoseconds(by);
        state.tick
    });
    if tick > 0 {
        runtime::on_tick();
    }
}

fn give_answer(token: u32, answer: CallAnswer) {
    with(|state| state.calls.retain(|call| call.token != token));
    match answer {
        CallAnswer::Http(message) => {
            let body = message.body.concat();
            let headers: Pairs = message.pairs();
            with(|state| state.call = (headers, body));
            runtime::on_http_call_response(token);
        }
        CallAnswer::Grpc(message) => {
            with(|state| state.call = (Pairs::new(), message));
            runtime::on_grpc_message(token);
        }
        CallAnswer::GrpcStatus(status, message) => {
            with(|state| state.status_message = message.into_bytes());
            runtime::on_grpc_close(token, status);
        }
    }
}
