//! What the mock host holds.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::Message;
use crate::hostcalls::Pairs;
use crate::log::Level;

/// A call that a filter has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallMade {
    /// By this it is answered.
    pub token: u32,
    /// Where to.
    pub cluster: String,
    /// An HTTP request, or for gRPC one that says `:path: /service/method`, with metadata for headers and the message for body.
    pub request: Message,
    /// Whether it is gRPC.
    pub grpc: bool,
    /// The time that it may take, in milliseconds.
    pub timeout: u32,
}

/// A metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Counter or gauge: its value. Histogram: the last one recorded.
    pub value: i64,
    pub(super) kind: u32,
}

/// A stream context.
#[derive(Default)]
pub(super) struct Stream {
    /// By `Direction`: headers, and whether they can be read and written now.
    pub(super) heads: [Option<Pairs>; 2],
    pub(super) open: [bool; 2],
    /// Bodies as far as they are held.
    pub(super) bodies: [Vec<u8>; 2],
    pub(super) resumed: [bool; 2],
    pub(super) reply: Option<Message>,
    pub(super) properties: BTreeMap<String, Vec<u8>>,
}

pub(super) struct State {
    pub(super) now: u64,
    pub(super) logs: Vec<(Level, String)>,
    pub(super) shared: BTreeMap<String, (Vec<u8>, u32)>,
    pub(super) shared_data_refused: bool,
    pub(super) timers_refused: bool,
    /// Bytes of the headers and the body of a reply at the most.
    pub(super) max_reply: usize,
    pub(super) metrics: Vec<Metric>,
    pub(super) configuration: Vec<u8>,
    pub(super) contexts: u32,
    pub(super) current: u32,
    pub(super) streams: BTreeMap<u32, Stream>,
    pub(super) tokens: u32,
    pub(super) calls: Vec<CallMade>,
    pub(super) clusters: Option<Vec<String>>,
    pub(super) headers_wait_for_body: bool,
    /// Headers and body of the call that is answered now.
    pub(super) call: (Pairs, Vec<u8>),
    pub(super) status_message: Vec<u8>,
    pub(super) tick: u32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            now: 1_767_225_600_000_000_000,
            logs: Vec::new(),
            shared: BTreeMap::new(),
            shared_data_refused: false,
            timers_refused: false,
            max_reply: usize::MAX,
            metrics: Vec::new(),
            configuration: Vec::new(),
            contexts: 0,
            current: 0,
            streams: BTreeMap::new(),
            tokens: 0,
            calls: Vec::new(),
            clusters: None,
            headers_wait_for_body: false,
            call: (Pairs::new(), Vec::new()),
            status_message: Vec::new(),
            tick: 0,
        }
    }
}

impl State {
    pub(super) fn new_context(&mut self) -> u32 {
        self.contexts += 1;
        self.contexts
    }

    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        self.streams.get_mut(&self.current)
    }
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::default());
}

pub(super) fn with<T>(run: impl FnOnce(&mut State) -> T) -> T {
    STATE.with(|state| run(&mut state.borrow_mut()))
}
