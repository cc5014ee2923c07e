//! Answers of this filter's own.

use tidegate_sdk::Reply;

/// An answer that no cache keeps.
#[must_use]
pub fn not_stored(status: u16, text: impl Into<Vec<u8>>, details: &'static str) -> Reply {
    Reply::new(status)
        .header("cache-control", "no-store")
        .body(text)
        .details(details)
}

pub(super) fn redirect(status: u16, to: String, details: &'static str) -> Reply {
    not_stored(status, "", details).header("location", to)
}

pub(super) fn bad(text: &str, details: &'static str) -> Reply {
    not_stored(400, text, details)
}

pub(super) fn with_cookies(reply: Reply, lines: impl IntoIterator<Item = String>) -> Reply {
    lines
        .into_iter()
        .fold(reply, |reply, line| reply.header("set-cookie", line))
}
