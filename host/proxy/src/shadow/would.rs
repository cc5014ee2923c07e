//! What a filter in shadow mode would have done.

use http::{HeaderMap, HeaderName};
use serde::Serialize;
use tidegate_model::{FailureCause, RequestHead};
use tidegate_wasm::{Direction, LocalReply};

/// What a filter would have done. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Would {
    /// Answered with this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reply: Option<u16>,
    /// Reset the stream.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) reset: bool,
    /// Failed, for this cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<FailureCause>,
    #[serde(skip_serializing_if = "Changes::is_empty")]
    pub(super) request: Changes,
    #[serde(skip_serializing_if = "Changes::is_empty")]
    pub(super) response: Changes,
    /// It fell behind, or has not come to an end in time: the rest is not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) incomplete: bool,
}

/// What would have become of a message. Names only: values may be secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Changes {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    set: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) body: bool,
}

// === impl Would ===

impl Would {
    pub(super) fn replies(&mut self, reply: &LocalReply) {
        self.reply = Some(reply.status.as_u16());
    }

    pub(super) fn changes(&mut self, direction: Direction) -> &mut Changes {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    /// Index among [`KINDS`].
    pub(super) fn kind(&self) -> usize {
        if self.failure.is_some() {
            0
        } else if self.reply.is_some() {
            1
        } else if self.reset {
            2
        } else if !(self.request.is_empty() && self.response.is_empty()) {
            3
        } else {
            4
        }
    }
}

/// Label values of the metric, in the order in which one of them is chosen.
pub const KINDS: [&str; 5] = ["fail", "reply", "reset", "change", "nothing"];

impl Changes {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn compare_requests(&mut self, before: &RequestHead, now: &RequestHead) {
        self.set_if(before.method != now.method, ":method");
        self.set_if(before.path != now.path, ":path");
        self.set_if(before.authority != now.authority, ":authority");
        self.compare(&before.headers, &now.headers);
    }

    pub(super) fn compare(&mut self, before: &HeaderMap, now: &HeaderMap) {
        let values = |map: &HeaderMap, name: &HeaderName| {
            let values = map.get_all(name).iter().cloned();
            values.collect::<Vec<_>>()
        };
        for name in now.keys() {
            let changed = values(before, name) != values(now, name);
            self.set_if(changed, name.as_str());
        }
        let gone = before.keys().filter(|name| !now.contains_key(*name));
        self.removed
            .extend(gone.map(|name| name.as_str().to_owned()));
    }

    pub(super) fn set_if(&mut self, changed: bool, name: &str) {
        if changed {
            self.set.push(name.to_owned());
        }
    }
}
