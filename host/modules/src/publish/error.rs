//! Why a filter was not published or not found, in words for whoever runs the command.

use http::StatusCode;
use tidegate_model::ImageReference;
use tidegate_wasm::{EngineError, LoadError};

use super::Access;
use crate::fetch::FetchError;
use crate::source::MOST_BYTES;

/// A file that no host would load.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// More bytes than a filter may have.
    #[error("it is larger than {} MiB, which is the most that a filter may have", MOST_BYTES >> 20)]
    TooLarge,
    /// More than is compiled.
    #[error("{0}")]
    Limit(String),
    /// No engine, no answer.
    #[error("the wasm engine cannot be made: {0}")]
    Engine(#[from] EngineError),
    /// It is no filter.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// An image that could not be pushed or pulled.
#[derive(Debug)]
pub struct RegistryError {
    image: String,
    what: String,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Push,
    Pull,
}

impl RegistryError {
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the shape that map_err wants"
    )]
    pub(super) fn new(
        image: &ImageReference,
        doing: Doing,
        access: &Access,
        error: FetchError,
    ) -> Self {
        Self {
            image: image.to_string(),
            what: text(image, doing, access, &error),
        }
    }

    pub(super) fn digest_given(image: &ImageReference) -> Self {
        Self {
            image: image.to_string(),
            what: "a digest is what a push comes to; name a tag: oci://host/name:tag".to_owned(),
        }
    }

    pub(super) fn packing(image: &ImageReference, what: &str) -> Self {
        Self {
            image: image.to_string(),
            what: format!("it cannot be packed: {what}"),
        }
    }
}

impl std::fmt::Display for RegistryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.image, self.what)
    }
}

impl std::error::Error for RegistryError {}

fn text(image: &ImageReference, doing: Doing, access: &Access, error: &FetchError) -> String {
    match error {
        FetchError::Status {
            url, status, code, ..
        } => {
            let code = code.as_deref();
            let said = code.map(|code| format!(" ({code})")).unwrap_or_default();
            let remedy = remedy(image, doing, access, *status, code);
            format!("{url} answered {status}{said}{remedy}")
        }
        FetchError::Tls { host, error } if speaks_no_tls(error) => format!(
            "{host} does not speak TLS: if it is to be asked in the clear, say --plain-http; else correct its name or port"
        ),
        FetchError::Tls { host, error } => format!(
            "TLS with {host} failed: {error}; if its certificate is from an authority of your own, name that with --ca FILE"
        ),
        other => other.to_string(),
    }
}

fn remedy(
    image: &ImageReference,
    doing: Doing,
    access: &Access,
    status: StatusCode,
    code: Option<&str>,
) -> String {
    let (registry, repository) = (image.registry(), image.repository());
    let verb = match doing {
        Doing::Push => "push to",
        Doing::Pull => "pull from",
    };
    let who = access.pull.credentials.as_ref();
    let who = who.map(|credentials| (&*credentials.user, &*credentials.secret));
    match (status.as_u16(), who) {
        (401, None) => format!(
            ": it wants to know who asks; give --username NAME --password-stdin, or log in with docker login {registry}"
        ),
        (401, Some((user, source))) => format!(
            ": it does not let {user:?} {verb} {repository} with the password from {source}; correct the name or the password, or ask for the right"
        ),
        (403, None) => format!(
            ": nobody in particular may not {verb} {repository}; give --username NAME --password-stdin, or log in with docker login {registry}"
        ),
        (403, Some((user, _))) => format!(
            ": {user:?} may not {verb} {repository}; use a name that may, or correct the repository"
        ),
        (404, _) if doing == Doing::Push => format!(
            ": the registry has no repository {repository} and makes none by a push; make it there first, or correct the name"
        ),
        (404, _) if code == Some("NAME_UNKNOWN") => {
            format!(": there is no repository {repository}; correct the name, or push it first")
        }
        (404, _) => ": there is no such image; correct the tag or digest, or push it first".to_owned(),
        (400, _) if access.plain_http => {
            "; if the registry speaks HTTPS, leave --plain-http away".to_owned()
        }
        (400 | 415 | 422, _) if doing == Doing::Push => {
            "; if the registry does not take this layout, try the other one with --layout compat or --layout cncf".to_owned()
        }
        (405, _) => "; it takes no pushes, or is no registry: name the one that holds images".to_owned(),
        (413, _) => "; the filter is larger than it takes".to_owned(),
        (429, _) => "; it was asked too often: try again later".to_owned(),
        (500.., _) => "; try again later".to_owned(),
        _ => String::new(),
    }
}

/// Whether the other side answered a handshake with something else.
fn speaks_no_tls(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(
        inner,
        Some(rustls::Error::InvalidMessage(
            rustls::InvalidMessage::InvalidContentType
        ))
    )
}
