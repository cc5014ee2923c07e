//! Requests and responses as tests write them.

use crate::hostcalls::Pairs;

/// A request or a response, pseudo-headers among its headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Names in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The pieces of the body, as they arrive.
    pub body: Vec<Vec<u8>>,
    /// Whether trailers follow the body: hosts mark no piece as the last one then.
    pub trailers: bool,
    /// For a request, the peer's address as the host's property `source.address` gives it, and other properties by path.
    pub properties: Vec<(Vec<String>, Vec<u8>)>,
}

impl Message {
    /// A request over plain HTTP to `test.example` from `192.0.2.1`.
    #[must_use]
    pub fn request(method: &str, path: &str) -> Self {
        Self::default()
            .header(":authority", "test.example")
            .header(":path", path)
            .header(":method", method)
            .header(":scheme", "http")
            .property(&["source", "address"], "192.0.2.1:40000")
    }

    /// A response.
    #[must_use]
    pub fn response(status: u16) -> Self {
        Self::default().header(":status", status.to_string())
    }

    /// Adds a header; a pseudo-header replaces the one that is there.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if name.starts_with(':') {
            self.headers.retain(|(key, _)| key != name);
        }
        self.headers
            .push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
        self
    }

    /// Adds a piece of body.
    #[must_use]
    pub fn body(mut self, piece: impl AsRef<[u8]>) -> Self {
        self.body.push(piece.as_ref().to_vec());
        self
    }

    /// Lets trailers follow.
    #[must_use]
    pub fn with_trailers(mut self) -> Self {
        self.trailers = true;
        self
    }

    /// Sets a property of the stream.
    #[must_use]
    pub fn property(mut self, path: &[&str], value: impl AsRef<[u8]>) -> Self {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        self.properties.retain(|(key, _)| *key != path);
        self.properties.push((path, value.as_ref().to_vec()));
        self
    }

    /// Sets the peer's address.
    #[must_use]
    pub fn from(self, address: &str) -> Self {
        self.property(&["source", "address"], address)
    }

    /// The first value of a header, if it is UTF-8.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value).ok()
    }

    /// All values of a header, as far as they are UTF-8.
    #[must_use]
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .filter_map(|(_, value)| std::str::from_utf8(value).ok())
            .collect()
    }

    /// `:status`, 0 for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.get(":status")
            .and_then(|status| status.parse().ok())
            .unwrap_or(0)
    }

    /// The whole body; what is no UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.concat()).into_owned()
    }

    pub(crate) fn pairs(&self) -> Pairs {
        self.headers
            .iter()
            .map(|(name, value)| (name.clone().into_bytes(), value.clone()))
            .collect()
    }

    pub(crate) fn from_pairs(pairs: &Pairs) -> Self {
        let headers = pairs
            .iter()
            .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.clone()))
            .collect();
        Self {
            headers,
            ..Self::default()
        }
    }
}
