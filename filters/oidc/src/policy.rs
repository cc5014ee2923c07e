//! Who is logged in, and how one comes to be.
//!
//! ```text
//!   request ── exempt? ── callback? ── logout? ── session cookie ── fresh ─► on, with claims
//!                            │                       │      └─ tokens over ─► refresh ─► on, with a new cookie
//!                            │                       └─ none ─► page: redirect to the provider; script: 401
//!                            └─ state, code ─► token endpoint ─► ID token ─► session cookie, back to where it began
//! ```
//!
//! Pure: headers, time, random bytes and the provider's answers come in as values. OpenID Connect Core and Discovery 1.0, RP-Initiated
//! Logout 1.0, RFC 6749, 7636 (PKCE), 9207 (issuer in the answer), 9700 (best current practice).

mod authorize;
mod config;
pub mod cookie;
pub mod login;
mod logout;
pub mod metadata;
mod paths;
pub mod reply;
pub mod seal;
pub mod session;
#[cfg(test)]
mod tests;
pub mod token;
mod tokens;

use std::time::Duration;

use tidegate_jose::Verifier;
use tidegate_sdk::credential::{Edit, without_cookies};
use tidegate_sdk::template;

use cookie::Cookies;
use login::Login;
use metadata::Discovery;
pub use paths::Asks;
use paths::Pattern;
use seal::{Purpose, Seal};
use session::Session;
use token::ClientAuth;
pub use tokens::Digest;

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    issuer: String,
    client: String,
    auth: ClientAuth,
    cluster: String,
    token_cluster: Option<String>,
    discovery: Discovery,
    verifier: Verifier,
    seal: Seal,
    cookies: Cookies,
    scope: String,
    parameters: Vec<(String, String)>,
    callback: Callback,
    logout: Logout,
    exempt: Vec<Pattern>,
    passes_bearer: bool,
    session_lifetime: Duration,
    login_lifetime: Duration,
    timeout: Duration,
    claim_headers: Vec<(String, String)>,
    claim_properties: Vec<String>,
    forwards_access_token: bool,
    id_token_header: Option<String>,
    keeps_id_token: bool,
}

/// Where the provider sends users back to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Callback {
    /// A path of the host that was asked.
    Path(String),
    /// An address, for gateways that do not see the one that users do.
    Absolute { address: String, path: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Logout {
    path: String,
    end_session: bool,
    return_to: Option<ReturnTo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ReturnTo {
    Path(String),
    Address(String),
}

/// What a request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `:method`.
    pub method: Vec<u8>,
    /// `:path`: path and query.
    pub target: Vec<u8>,
    /// `:scheme`.
    pub scheme: Vec<u8>,
    /// `:authority`.
    pub authority: Vec<u8>,
    /// The values of `cookie`.
    pub cookies: Vec<Vec<u8>>,
    /// `authorization`.
    pub authorization: Option<Vec<u8>>,
    /// Whether it is a page that is asked for.
    pub asks: Asks,
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It needs no session.
    Pass,
    /// It comes back from the provider.
    Callback,
    /// It ends the session.
    Logout,
    /// It needs a session.
    Protected,
}

/// The provider's answer to a log-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorized {
    /// The log-in that it answers.
    pub login: Login,
    /// What the token endpoint takes.
    pub code: String,
}

// === impl Policy: requests ===

impl Policy {
    /// What a request is.
    #[must_use]
    pub fn step(&self, head: &Head) -> Step {
        let path = template::split(&head.target).0;
        let bearer = head.authorization.as_ref().is_some_and(|value| {
            value
                .get(..7)
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
        });
        if path == self.callback.path().as_bytes() {
            Step::Callback
        } else if path == self.logout.path.as_bytes() {
            Step::Logout
        } else if self.exempt.iter().any(|pattern| pattern.fits(path))
            || (self.passes_bearer && bearer)
        {
            Step::Pass
        } else {
            Step::Protected
        }
    }

    /// The session of a request, if it has one that is not over.
    #[must_use]
    pub fn session(&self, head: &Head, now: Duration) -> Option<Session> {
        let session = self.open_session(&self.cookies.session(&head.cookies)?)?;
        (!session.left(self.session_lifetime, now).is_zero()).then_some(session)
    }

    /// Opens a session that was sealed here.
    #[must_use]
    pub fn open_session(&self, sealed: &str) -> Option<Session> {
        serde_json::from_slice(&self.seal.open(Purpose::Session, sealed)?).ok()
    }

    /// What changes in a request: own cookies and headers of claims never come from the client.
    #[must_use]
    pub fn edits(&self, head: &Head, session: Option<&Session>) -> Vec<Edit> {
        let names = self.claim_headers.iter().map(|(name, _)| name);
        let mut edits: Vec<Edit> = names
            .chain(&self.id_token_header)
            .cloned()
            .map(Edit::Remove)
            .collect();
        edits.extend(without_cookies(&head.cookies, |name| {
            self.cookies.is_own(name)
        }));
        let Some(session) = session else {
            return edits;
        };
        for (name, claim) in &self.claim_headers {
            if let Some(value) = session.claims.get(claim) {
                edits.push(Edit::Set(name.clone(), value.clone().into_bytes()));
            }
        }
        if self.forwards_access_token {
            let name = String::from("authorization");
            edits.push(match &session.access_token {
                Some(token) => Edit::Set(name, format!("Bearer {token}").into_bytes()),
                // The upstream takes what is there for ours.
                None => Edit::Remove(name),
            });
        }
        if let (Some(name), Some(token)) = (&self.id_token_header, &session.id_token) {
            edits.push(Edit::Set(name.clone(), token.clone().into_bytes()));
        }
        edits
    }

    /// The claims of a session that others may see as properties.
    pub fn properties<'a>(
        &'a self,
        session: &'a Session,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let names = self.claim_properties.iter();
        names.filter_map(|name| Some((name.as_str(), session.claims.get(name)?.as_str())))
    }
}

// === impl Policy: what calls need ===

impl Policy {
    /// The provider's addresses.
    #[must_use]
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// What believes ID tokens.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The cluster of the discovery document.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The cluster of the token endpoint.
    #[must_use]
    pub fn token_cluster(&self) -> &str {
        self.token_cluster.as_deref().unwrap_or(&self.cluster)
    }

    /// The value of `authorization` at the token endpoint.
    #[must_use]
    pub fn client_header(&self) -> Option<String> {
        self.auth.header(&self.client)
    }

    /// The time that a call may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

// === impl Callback, ReturnTo ===

impl Callback {
    fn path(&self) -> &str {
        match self {
            Self::Path(path) | Self::Absolute { path, .. } => path,
        }
    }

    fn address(&self, head: &Head) -> String {
        match self {
            Self::Path(path) => on_host(head, path),
            Self::Absolute { address, .. } => address.clone(),
        }
    }
}

impl ReturnTo {
    fn address(&self, head: &Head) -> String {
        match self {
            Self::Path(path) => on_host(head, path),
            Self::Address(address) => address.clone(),
        }
    }
}

fn on_host(head: &Head, path: &str) -> String {
    let scheme = match &head.scheme[..] {
        b"https" => "https",
        _ => "http",
    };
    let authority = String::from_utf8_lossy(&head.authority);
    format!("{scheme}://{authority}{path}")
}
