//! One request and its response through a filter.

use super::Message;
use super::state::{Stream, with};
use crate::hostcalls::{Action, Direction};
use crate::runtime;

/// What became of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the client got.
    pub response: Message,
    /// What the upstream got; `None` if the request never reached it.
    pub upstream: Option<Message>,
}

/// An exchange on its way.
#[derive(Debug)]
pub struct Exchange {
    context: u32,
    at: At,
    request: Message,
    /// The head and the body as far as they have passed, by direction.
    passed: [Option<Message>; 2],
    /// The upstream's answer.
    response: Message,
    /// Whether a direction waits to be resumed.
    paused: [bool; 2],
}

/// The next thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    RequestHead,
    RequestBody(usize),
    Upstream,
    ResponseHead,
    ResponseBody(usize),
    Done,
}

const REQUEST: usize = Direction::Request as usize;
const RESPONSE: usize = Direction::Response as usize;

impl Exchange {
    pub(super) fn new(root: u32, request: Message) -> Self {
        let context = with(|state| {
            let context = state.new_context();
            let properties = request.properties.iter();
            let stream = Stream {
                heads: [Some(request.pairs()), None],
                properties: properties
                    .map(|(path, value)| (path.join("\0"), value.clone()))
                    .collect(),
                ..Stream::default()
            };
            state.streams.insert(context, stream);
            context
        });
        runtime::on_context_create(context, root);
        Self {
            context,
            at: At::RequestHead,
            request,
            passed: [None, None],
            response: Message::default(),
            paused: [false, false],
        }
    }

    /// Goes on until the exchange is over (true) or waits for a call or a timer (false). `upstream` answers the request.
    pub fn proceed(&mut self, mut upstream: impl FnMut(&Message) -> Message) -> bool {
        loop {
            if let Some(reply) = self.stream(|stream| stream.reply.take()) {
                self.local_reply(reply);
                continue;
            }
            let side = match self.at {
                At::RequestHead | At::RequestBody(_) | At::Upstream => REQUEST,
                _ => RESPONSE,
            };
            if self.paused[side] {
                if !self.stream(|stream| std::mem::take(&mut stream.resumed[side])) {
                    return false;
                }
                self.paused[side] = false;
                self.release(side);
            }
            if self.at == At::Done {
                return true;
            }
            self.step(&mut upstream);
        }
    }

    /// The outcome. An exchange that is not over is broken off, as by a client that goes away.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        self.end();
        Outcome {
            response: self.passed[RESPONSE].take().unwrap_or_default(),
            upstream: self.passed[REQUEST].take(),
        }
    }

    fn step(&mut self, upstream: &mut dyn FnMut(&Message) -> Message) {
        match self.at {
            At::RequestHead => self.head(Direction::Request, At::RequestBody(0), At::Upstream),
            At::RequestBody(index) => self.body(Direction::Request, index),
            At::Upstream => {
                let request = self.passed[REQUEST].clone().unwrap_or_default();
                self.response = upstream(&request);
                let head = self.response.pairs();
                self.stream(|stream| {
                    stream.heads[RESPONSE] = Some(head);
                    let details = String::from("response\0code_details");
                    stream.properties.insert(details, b"via_upstream".to_vec());
                });
                self.at = At::ResponseHead;
            }
            At::ResponseHead => self.head(Direction::Response, At::ResponseBody(0), At::Done),
            At::ResponseBody(index) => self.body(Direction::Response, index),
            At::Done => {}
        }
    }

    fn head(&mut self, direction: Direction, body: At, end: At) {
        let side = direction as usize;
        let message = if side == REQUEST {
            &self.request
        } else {
            &self.response
        };
        let ended = message.body.is_empty() && !message.trailers;
        self.at = if ended { end } else { body };
        self.stream(|stream| stream.open[side] = true);
        let action = self.callback(|context| runtime::on_headers(direction, context, ended));
        let body_comes = !ended && with(|state| state.headers_wait_for_body);
        match action {
            Action::Continue => self.release(side),
            Action::Pause => self.paused[side] = !body_comes,
        }
    }

    /// A piece of a body, or behind the last one the empty end.
    fn body(&mut self, direction: Direction, index: usize) {
        let side = direction as usize;
        let message = if side == REQUEST {
            &self.request
        } else {
            &self.response
        };
        let piece = message.body.get(index).cloned();
        let ended = piece.is_none();
        let trailers = ended && message.trailers;
        self.at = match (ended, direction) {
            (false, Direction::Request) => At::RequestBody(index + 1),
            (false, Direction::Response) => At::ResponseBody(index + 1),
            (true, Direction::Request) => At::Upstream,
            (true, Direction::Response) => At::Done,
        };
        self.stream(|stream| stream.bodies[side].extend(piece.unwrap_or_default()));
        let action = self.callback(|context| match trailers {
            true => runtime::on_trailers(direction, context),
            false => runtime::on_body(direction, context, ended),
        });
        match action {
            Action::Continue => self.release(side),
            // Held: further pieces come, and after the last one the stream waits.
            Action::Pause => self.paused[side] = ended,
        }
    }

    /// Lets the head and what is held of the body go.
    fn release(&mut self, side: usize) {
        let (head, body) = self.stream(|stream| {
            let head = match std::mem::take(&mut stream.open[side]) {
                true => stream.heads[side].clone(),
                false => None,
            };
            (head, std::mem::take(&mut stream.bodies[side]))
        });
        if let Some(head) = head {
            self.passed[side] = Some(Message::from_pairs(&head));
        }
        if let (Some(message), false) = (&mut self.passed[side], body.is_empty()) {
            message.body.push(body);
        }
    }

    /// A filter's own reply passes its response part, too.
    fn local_reply(&mut self, reply: Message) {
        self.response = reply;
        let head = self.response.pairs();
        self.stream(|stream| {
            stream.open = [false, false];
            stream.heads[RESPONSE] = Some(head);
            stream.bodies[RESPONSE].clear();
            let details = String::from("response\0code_details");
            stream.properties.insert(details, Vec::new());
        });
        self.passed[RESPONSE] = None;
        self.paused = [false, false];
        self.at = At::ResponseHead;
    }

    fn callback(&mut self, run: impl FnOnce(u32) -> Action) -> Action {
        with(|state| state.current = self.context);
        run(self.context)
    }

    fn stream<T>(&self, run: impl FnOnce(&mut Stream) -> T) -> T {
        with(|state| {
            let stream = state.streams.get_mut(&self.context);
            run(stream.expect("an exchange has its stream until it ends"))
        })
    }

    fn end(&mut self) {
        if with(|state| state.streams.remove(&self.context)).is_some() {
            runtime::on_delete(self.context);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Mock;
    use crate::{ConfigError, Filter, Reply, Request, Response};

    struct Reads;

    impl Filter for Reads {
        type Memo = usize;

        fn configure(_: &[u8]) -> Result<Self, ConfigError> {
            Ok(Self)
        }

        async fn request(&self, request: &Request) -> Result<usize, Reply> {
            Ok(request.body(100).await?.len())
        }

        async fn response(&self, response: &Response, length: usize) -> Result<(), Reply> {
            response.headers().set("x-length", length.to_string());
            Ok(())
        }
    }

    /// An exchange whose request body is still on its way when a response head comes with these details.
    fn answered_early(details: &str) -> (Exchange, Action) {
        let mock = Mock::new();
        let filter = mock.load::<Reads>("").unwrap();
        let mut exchange = filter.begin(Message::request("POST", "/").body("hello"));
        exchange.step(&mut |_| panic!("it has not come that far"));
        assert!(exchange.passed[REQUEST].is_some(), "the head has gone on");
        exchange.stream(|stream| {
            stream.heads[RESPONSE] = Some(Message::response(200).pairs());
            stream.open[RESPONSE] = true;
            let path = String::from("response\0code_details");
            stream.properties.insert(path, details.as_bytes().to_vec());
        });
        let action =
            exchange.callback(|context| runtime::on_headers(Direction::Response, context, true));
        (exchange, action)
    }

    #[test]
    fn an_early_response_of_the_upstream_waits_for_the_verdict_on_the_request() {
        let (mut exchange, action) = answered_early("via_upstream");
        assert_eq!(action, Action::Pause);
        for _ in 0..2 {
            assert!(!exchange.stream(|stream| stream.resumed[RESPONSE]));
            exchange.step(&mut |_| Message::response(200));
        }
        let head = exchange.stream(|stream| {
            assert!(stream.resumed[RESPONSE]);
            stream.heads[RESPONSE].clone().unwrap()
        });
        assert_eq!(Message::from_pairs(&head).get("x-length"), Some("5"));
    }

    #[test]
    fn a_response_that_the_host_makes_passes_at_once() {
        let (exchange, action) = answered_early("request_payload_too_large");
        assert_eq!(action, Action::Continue);
        let head = exchange.stream(|stream| stream.heads[RESPONSE].clone().unwrap());
        assert_eq!(Message::from_pairs(&head).get("x-length"), None);
    }
}
