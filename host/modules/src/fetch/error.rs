//! Why a module could not be fetched, in words that do not change from one try to the next.

use std::time::Duration;

use crate::source::MOST_BYTES;

/// Why there are no bytes from a server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0:?} is not an address; write it as https://host/path")]
    Address(String),
    #[error("{host} leads to {address}, {why}: modules are not fetched from there")]
    Refused {
        host: String,
        address: std::net::IpAddr,
        why: &'static str,
    },
    #[error("{host} has no address: {error}; correct the name, or mend DNS")]
    Name { host: String, error: std::io::Error },
    #[error("{host} cannot be reached: {error}")]
    Connect { host: String, error: std::io::Error },
    #[error(
        "TLS with {host} failed: {error}; if its certificate is from an authority of your own, name it in spec.pull.caRef"
    )]
    Tls { host: String, error: std::io::Error },
    #[error("{host} did not {what} within {} s", limit.as_secs_f32())]
    Slow {
        host: String,
        what: &'static str,
        limit: Duration,
    },
    #[error("{host} broke off: {error}")]
    Broken { host: String, error: hyper::Error },
    #[error("{url} answered {status}{}", remedy(*status, code.as_deref()))]
    Status {
        url: String,
        status: http::StatusCode,
        /// The registry's own word for it, if it is one that the specification has.
        code: Option<String>,
        wait: Option<Duration>,
    },
    #[error("{url} redirects {what}")]
    Redirect { url: String, what: &'static str },
    #[error("{what} is larger than {} MiB, which is the most that a module may have", MOST_BYTES >> 20)]
    TooLarge { what: String },
    #[error("{host} sent content encoding {encoding:?} that was not asked for")]
    Encoding { host: String, encoding: String },
    #[error("{url} was to have digest {expected}, but what it sent has {found}; it is not used")]
    Digest {
        url: String,
        expected: String,
        found: String,
    },
    #[error("{host} asks for credentials in a way that is not understood: {what}")]
    Challenge { host: String, what: String },
    #[error("{place}: {what}")]
    Image { place: String, what: String },
}

impl FetchError {
    /// Whether trying again soon makes no sense: the server has what it has, and fetching it costs both sides.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. } | Self::Digest { .. } | Self::Image { .. } | Self::Address(_)
        )
    }

    /// How long the server wants to be left alone.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        }
    }
}

fn remedy(status: http::StatusCode, code: Option<&str>) -> String {
    let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
    let remedy = match status.as_u16() {
        401 => {
            "; name a Secret with credentials for it in spec.pull.secretRef, or correct those that it has"
        }
        403 => "; the credentials, or their absence, do not allow it",
        404 => "; correct the name, or put the module there",
        429 => "; it is asked again later",
        500.. => "; it is asked again",
        _ => "",
    };
    format!("{code}{remedy}")
}
