//! A response as a client has got it.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};

/// A response, read as far as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status of the final response.
    pub status: StatusCode,
    /// Version it was written in.
    pub version: Version,
    /// Fields of its head.
    pub headers: HeaderMap,
    /// Content, without framing.
    pub body: Bytes,
    /// Trailers; empty if there were none.
    pub trailers: HeaderMap,
    /// Whether the end was reached in the way its framing says. `false`: the connection or the stream broke off.
    pub complete: bool,
}

impl Answer {
    /// A field's only value; empty if it is absent.
    ///
    /// # Panics
    /// When there are several, or one that is not text.
    pub fn header(&self, name: &str) -> &str {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next();
        assert!(
            values.next().is_none(),
            "{name} is repeated: {:?}",
            self.headers
        );
        value.map_or("", |value| value.to_str().expect("text"))
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
