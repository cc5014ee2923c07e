//! HTTP calls to the clusters that the filter may call.

use std::fmt;
use std::time::Duration;

use crate::hostcalls::{self, Pairs, Status};
use crate::runtime::{Outcome, Slot};

/// A call to be made.
#[derive(Clone, Debug)]
pub struct Call {
    cluster: String,
    headers: Pairs,
    body: Vec<u8>,
    timeout: Duration,
}

/// An absolute URL in the parts that a call needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// `http` or `https`.
    pub scheme: String,
    /// Host, and port if there is one.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

/// The answer to a call. A cluster that cannot be reached answers 503 and one that is too slow 504: the host makes these, with a
/// text body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    headers: Pairs,
    /// Body.
    pub body: Vec<u8>,
}

/// Why a call was not made or has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The host refused it: the cluster is not known to it, or not granted to this filter. Holds the cluster and the ABI's status.
    Refused(String, &'static str),
    /// It ended without an answer.
    NoAnswer,
}

/// The time that a call takes at the most where nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(5);

// === impl Call ===

impl Call {
    /// A call to `cluster` with the four parts that a request cannot do without; `path` includes the query.
    #[must_use]
    pub fn new(cluster: &str, method: &str, scheme: &str, authority: &str, path: &str) -> Self {
        let pseudo = [
            (":method", method),
            (":scheme", scheme),
            (":authority", authority),
            (":path", path),
        ];
        let pairs = pseudo.map(|(name, value)| (name.into(), value.into()));
        Self {
            cluster: cluster.to_owned(),
            headers: pairs.to_vec(),
            body: Vec::new(),
            timeout: TIMEOUT,
        }
    }

    /// A call of `url` at `cluster`.
    #[must_use]
    pub fn at(cluster: &str, method: &str, url: &Url) -> Self {
        Self::new(cluster, method, &url.scheme, &url.authority, &url.path)
    }

    /// Adds a header; its name in lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body; the host adds `content-length`.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The time that it may take. 5 seconds where nothing else is said.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes the call; the stream that waits for it is held meanwhile.
    ///
    /// # Errors
    ///
    /// A cluster that the host does not let this filter call.
    pub async fn send(self) -> Result<Answer, CallError> {
        // A timeout of zero would mean none.
        let timeout = u32::try_from(self.timeout.as_millis())
            .unwrap_or(u32::MAX)
            .max(1);
        let token = hostcalls::http_call(&self.cluster, &self.headers, &self.body, timeout)
            .map_err(|status| CallError::refused(self.cluster, status))?;
        match Slot::http(token).await {
            Outcome::Http { headers, body } => Answer::new(headers, body),
            Outcome::Grpc(_) | Outcome::GrpcFailed { .. } => Err(CallError::NoAnswer),
        }
    }
}

// === impl Url ===

impl Url {
    /// Reads an absolute URL; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains('#');
        let known = scheme == "http" || scheme == "https";
        (known && visible && !authority.is_empty() && !authority.contains('@')).then(|| Self {
            scheme: scheme.to_owned(),
            authority: authority.to_owned(),
            path: match path.starts_with('/') {
                true => path.to_owned(),
                false => format!("/{path}"),
            },
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

// === impl Answer ===

impl Answer {
    fn new(headers: Pairs, body: Vec<u8>) -> Result<Self, CallError> {
        let status = headers
            .iter()
            .find(|(name, _)| name == b":status")
            .and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
        match status {
            Some(status) => Ok(Self {
                status,
                headers,
                body,
            }),
            None => Err(CallError::NoAnswer),
        }
    }

    /// Whether the host made it because the cluster could not be asked: it says so in Envoy's words.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        const TEXTS: [&str; 3] = [
            "upstream connect error",
            "upstream request timeout",
            "no healthy upstream",
        ];
        let said = |text: &str| self.body.starts_with(text.as_bytes());
        matches!(self.status, 503 | 504) && TEXTS.into_iter().any(said)
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut pairs = self.headers.iter();
        let (_, value) = pairs.find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(value)
    }

    /// All values of a header, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.as_slice())
    }

    /// All names and values in order.
    #[must_use]
    pub fn headers(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.headers
    }
}

// === impl CallError ===

impl CallError {
    pub(crate) fn refused(cluster: String, status: Status) -> Self {
        Self::Refused(cluster, status.name())
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(cluster, status) => write!(
                f,
                "the host refused a call to the cluster {cluster:?} ({status}); is it among those that the filter may call?"
            ),
            Self::NoAnswer => f.write_str("the call ended without an answer"),
        }
    }
}

impl std::error::Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |text| Url::parse(text).map(|url| (url.scheme, url.authority, url.path));
        let parts = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(url("https://a.test/k?x"), parts("https", "a.test", "/k?x"));
        assert_eq!(url("http://a.test:8080"), parts("http", "a.test:8080", "/"));
        assert_eq!(url("http://a.test?x"), parts("http", "a.test", "/?x"));
        for text in [
            "",
            "a.test/k",
            "ftp://a.test/",
            "https:///k",
            "https://u@a.test/",
            "https://a.test/ k",
            "https://a.test/#f",
        ] {
            assert_eq!(url(text), None, "{text}");
        }
    }
}
