//! The provider's addresses: configured, or from its discovery document (OpenID Connect Discovery 1.0).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use tidegate_sdk::http::Url;

/// The addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Where users log in.
    pub authorization: String,
    /// Where codes and refresh tokens become tokens.
    pub token: Url,
    /// Where the keys are.
    pub jwks: Url,
    /// Where users log out.
    pub end_session: Option<String>,
}

/// Addresses of the configuration, which come before those of the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// See [`Metadata`].
    pub authorization: Option<String>,
    /// See [`Metadata`].
    pub token: Option<Url>,
    /// See [`Metadata`].
    pub jwks: Option<Url>,
    /// See [`Metadata`].
    pub end_session: Option<String>,
}

/// The document: fetched, and kept for a while.
#[derive(Debug)]
pub struct Discovery {
    issuer: String,
    configured: Configured,
    /// Where the document is.
    pub url: Url,
    /// How long it is kept.
    pub cache: Duration,
    known: RefCell<Option<Rc<Metadata>>>,
    /// When it is fetched again, time since the epoch.
    due: Cell<Duration>,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    jwks_uri: Option<String>,
    end_session_endpoint: Option<String>,
}

// === impl Configured ===

impl Configured {
    /// All that a log-in needs, if it is there.
    #[must_use]
    pub fn complete(&self) -> Option<Metadata> {
        Some(Metadata {
            authorization: self.authorization.clone()?,
            token: self.token.clone()?,
            jwks: self.jwks.clone()?,
            end_session: self.end_session.clone(),
        })
    }
}

// === impl Discovery ===

impl Discovery {
    /// The document at `url`. With all addresses configured it is never due.
    #[must_use]
    pub fn new(issuer: String, url: Url, cache: Duration, configured: Configured) -> Self {
        let known = configured.complete().map(Rc::new);
        let due = match known {
            Some(_) => Duration::MAX,
            None => Duration::ZERO,
        };
        Self {
            issuer,
            configured,
            url,
            cache,
            known: RefCell::new(known),
            due: Cell::new(due),
        }
    }

    /// What was found last. It serves on when a later fetch fails.
    #[must_use]
    pub fn known(&self) -> Option<Rc<Metadata>> {
        self.known.borrow().clone()
    }

    /// Whether it is time to fetch. A clock that went back far does not keep an old document for ever.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        let due = self.due.get();
        due != Duration::MAX && (now >= due || due > now + self.cache + Duration::from_secs(60))
    }

    /// Fetches no earlier than then.
    pub fn postpone(&self, until: Duration) {
        self.due.set(until);
    }

    /// Takes a fetched document.
    ///
    /// # Errors
    ///
    /// What is wrong with it. What was known before stays.
    pub fn update(&self, json: &[u8], now: Duration) -> Result<(), String> {
        let document: Document = serde_json::from_slice(json)
            .map_err(|error| format!("the answer is no discovery document: {error}"))?;
        if document.issuer != self.issuer {
            // Else another provider's document, or keys, could be slipped in (section 4.3).
            return Err(format!(
                "the document is of the issuer {:?}, not of {:?}",
                document.issuer, self.issuer
            ));
        }
        let configured = &self.configured;
        let browser = |name: &str, own: &Option<String>, found: &Option<String>| match own {
            Some(own) => Ok(Some(own.clone())),
            None => found
                .as_deref()
                .map(|found| self.url(name, found).map(|_| found.to_owned()))
                .transpose(),
        };
        let called = |name: &str, own: &Option<Url>, found: &Option<String>| match own {
            Some(own) => Ok(own.clone()),
            None => self.url(name, found.as_deref().unwrap_or_default()),
        };
        let authorization = browser(
            "authorization_endpoint",
            &configured.authorization,
            &document.authorization_endpoint,
        )?;
        let metadata = Metadata {
            authorization: authorization.ok_or("the document has no authorization_endpoint")?,
            token: called(
                "token_endpoint",
                &configured.token,
                &document.token_endpoint,
            )?,
            jwks: called("jwks_uri", &configured.jwks, &document.jwks_uri)?,
            end_session: browser(
                "end_session_endpoint",
                &configured.end_session,
                &document.end_session_endpoint,
            )?,
        };
        self.known.replace(Some(Rc::new(metadata)));
        self.due.set(now + self.cache);
        Ok(())
    }

    /// An address of the document, as safe as the issuer's own.
    fn url(&self, name: &str, text: &str) -> Result<Url, String> {
        let url = Url::parse(text)
            .ok_or_else(|| format!("{name} of the document is no address: {text:?}"))?;
        match url.scheme == "http" && self.issuer.starts_with("https:") {
            true => Err(format!("{name} of the document is not https: {text:?}")),
            false => Ok(url),
        }
    }
}
