//! The response of an exchange.

use std::fmt;
use std::rc::Rc;

use crate::hostcalls::Direction;
use crate::request::Chunk;
use crate::runtime::Stream;
use crate::{Headers, Reply};

/// The response that a filter may change.
pub struct Response {
    stream: Rc<Stream>,
}

impl Response {
    pub(crate) fn new(stream: Rc<Stream>) -> Self {
        Self { stream }
    }

    /// The headers, `:status` among them.
    #[must_use]
    pub fn headers(&self) -> Headers {
        Headers::RESPONSE
    }

    /// The status; 0 where the host gives none.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.headers()
            .text(":status")
            .and_then(|status| status.parse().ok())
            .unwrap_or(0)
    }

    /// Whether a body follows. One of length zero may.
    #[must_use]
    pub fn has_body(&self) -> bool {
        !self.stream.side(Direction::Response).has_ended()
    }

    /// Shows `watcher` each piece of the body as it passes, the last one marked. An error in it comes too late for a reply in most
    /// hosts; the response ends there.
    pub fn watch_body(&self, watcher: impl FnMut(&mut Chunk) -> Result<(), Reply> + 'static) {
        self.stream
            .with_body(Direction::Response)
            .set_watcher(Box::new(watcher));
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("context", &self.stream.context())
            .finish()
    }
}
