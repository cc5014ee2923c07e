//! What a service is asked about a request, and what its answer means.
//!
//! nginx's `auth_request` as ingress-nginx sets it up: 2xx lets pass, 401 refuses or leads to the sign-in page, 403 refuses, anything
//! else is a failure of the service.

mod cache;
mod config;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tidegate_sdk::http::{Answer, Url};
use tidegate_sdk::template::{Source, Template, encode};
use tidegate_sdk::{Reply, header};

use cache::Cache;
pub use cache::Key;

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    url: Template,
    cluster: String,
    method: Option<String>,
    timeout: Duration,
    /// Headers of the request that the service gets; `None` for all.
    forward: Option<Vec<String>>,
    set: Vec<(String, Template)>,
    max_body: Option<usize>,
    /// Headers of the answer that the upstream gets.
    response_headers: Vec<String>,
    /// Headers of a refusing answer that the client gets.
    denied_headers: Vec<String>,
    denied_body: bool,
    sign_in: Option<SignIn>,
    always_set_cookie: bool,
    redirect_header: Template,
    except: Vec<String>,
    failure: Failure,
    trusted_hops: u32,
    cache_key: Option<Template>,
    cache: RefCell<Cache>,
}

#[derive(Debug)]
struct SignIn {
    url: Template,
    /// The query parameter that says where to return to; `None` where the address has it already.
    parameter: Option<String>,
}

/// What happens when the service fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failure {
    /// Whether requests pass.
    allow: bool,
    status: u16,
}

/// A call to be made.
#[derive(Debug)]
pub struct Asking {
    /// Its method.
    pub method: String,
    /// Its address.
    pub url: Url,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It passes.
    Allow {
        /// The answer's status.
        status: u16,
        /// Changes of the request.
        edits: Vec<Edit>,
        /// Values of `Set-Cookie` for the client.
        cookies: Vec<Vec<u8>>,
    },
    /// The client is to sign in.
    SignIn {
        /// Values of `Set-Cookie` for the client.
        cookies: Vec<Vec<u8>>,
    },
    /// The reply.
    Deny {
        /// The answer's status; 0 if there was none that means anything.
        status: u16,
        /// What the client gets.
        reply: Reply,
    },
}

/// A change of the request's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// All values go.
    Remove(String),
    /// A value more.
    Add(String, Vec<u8>),
}

/// What belongs to the client's connection or body and not to the call.
const NOT_FORWARDED: [&str; 14] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "if-none-match",
    "if-modified-since",
];

/// Statuses on which nginx's `add_header` works without `always`.
const COOKIE_STATUSES: [u16; 10] = [200, 201, 204, 206, 301, 302, 303, 304, 307, 308];

/// Longest body of a refusing answer that a client gets, in bytes.
const MAX_BODY: usize = 64 * 1024;

// === impl Policy ===

impl Policy {
    /// Proxies to be believed about the client's address.
    #[must_use]
    pub fn trusted_hops(&self) -> u32 {
        self.trusted_hops
    }

    /// The cluster that is called.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The time that a call may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How much of a body the service gets; `None` for none.
    #[must_use]
    pub fn max_body(&self) -> Option<usize> {
        self.max_body
    }

    /// Whether this path is open. Not one with dot segments, which an upstream may read as another one.
    #[must_use]
    pub fn is_excepted(&self, path: &[u8]) -> bool {
        let dots = path.windows(2).any(|pair| pair == b"..")
            || path
                .windows(3)
                .any(|code| code.eq_ignore_ascii_case(b"%2e"));
        !dots
            && self
                .except
                .iter()
                .any(|prefix| path.starts_with(prefix.as_bytes()))
    }

    /// The call about a request with these headers. `None` where variables of the request leave no URL.
    #[must_use]
    pub fn asking(&self, headers: &[(Vec<u8>, Vec<u8>)], source: &dyn Source) -> Option<Asking> {
        let url = String::from_utf8(self.url.render(source)).ok()?;
        let url = Url::parse(&url)?;
        let original = source.header(":method").unwrap_or_default();
        let method = match &self.method {
            Some(method) => method.clone(),
            None => String::from_utf8(original.clone()).ok()?,
        };
        let mut out: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, value) in headers {
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            if self.forwards(name) {
                out.push((name.to_owned(), value.clone()));
            }
        }
        let mut set = |name: &str, value: Vec<u8>| {
            out.retain(|(key, _)| key != name);
            if !value.is_empty() {
                out.push((name.to_owned(), value));
            }
        };
        set("x-original-url", original_url(source));
        set("x-original-method", original);
        set(
            "x-auth-request-redirect",
            self.redirect_header.render(source),
        );
        for (name, template) in &self.set {
            set(name, template.render(source));
        }
        Some(Asking {
            method,
            url,
            headers: out,
        })
    }

    fn forwards(&self, name: &str) -> bool {
        let allowed = match &self.forward {
            None => true,
            Some(names) => names.iter().any(|allowed| allowed == name),
        };
        allowed && !name.starts_with(':') && !NOT_FORWARDED.contains(&name)
    }

    /// What an answer means.
    #[must_use]
    pub fn decide(&self, answer: &Answer) -> Decision {
        let status = answer.status;
        let cookies: Vec<Vec<u8>> = answer.values("set-cookie").map(<[u8]>::to_vec).collect();
        match status {
            200..=299 => Decision::Allow {
                status,
                edits: self.edits(answer),
                cookies,
            },
            401 if self.sign_in.is_some() => Decision::SignIn { cookies },
            401 | 403 => self.deny(answer, status),
            // An answer that is passed on as it is may lead somewhere or say more.
            300..=499 if self.denied_body => self.deny(answer, status),
            _ => self.failed(),
        }
    }

    /// What happens when the service cannot be asked, or says nothing that means anything.
    #[must_use]
    pub fn failed(&self) -> Decision {
        match self.failure.allow {
            true => Decision::Allow {
                status: 0,
                edits: self.removals(),
                cookies: Vec::new(),
            },
            false => Decision::Deny {
                status: 0,
                reply: Reply::new(self.failure.status)
                    .body("The authentication service failed.\n")
                    .details("ext_auth_failed"),
            },
        }
    }

    /// The way to the sign-in page, and back to where this request wanted to go.
    #[must_use]
    pub fn sign_in(&self, decision: &Decision, source: &dyn Source) -> Reply {
        let (Some(sign_in), Decision::SignIn { cookies }) = (&self.sign_in, decision) else {
            return Reply::new(401);
        };
        let mut url = sign_in.url.render(source);
        if let Some(parameter) = &sign_in.parameter {
            url.push(if url.contains(&b'?') { b'&' } else { b'?' });
            url.extend_from_slice(parameter.as_bytes());
            url.push(b'=');
            encode(&original_url(source), &mut url);
        }
        let location = url
            .into_iter()
            .filter(u8::is_ascii_graphic)
            .map(char::from)
            .collect::<String>();
        let reply = Reply::new(302)
            .header("location", location)
            .details("ext_auth_sign_in");
        with_cookies(reply, cookies)
    }

    /// Whether the service's cookies go to the client with a response of this status.
    #[must_use]
    pub fn sets_cookies_on(&self, status: u16) -> bool {
        self.always_set_cookie || COOKIE_STATUSES.contains(&status)
    }

    /// By what an answer is remembered; `None` where none is.
    #[must_use]
    pub fn cache_key(&self, source: &dyn Source) -> Option<Key> {
        // Without any value in it (no cookie, no token) the key would be everybody's.
        let template = self
            .cache_key
            .as_ref()
            .filter(|template| !template.is_empty_for(source))?;
        Some(template.render(source))
    }

    /// The decision that is remembered.
    #[must_use]
    pub fn remembered(&self, key: &Key, now: Duration) -> Option<Rc<Decision>> {
        self.cache.borrow().get(key, now)
    }

    /// Remembers a decision, if answers of its status are remembered.
    pub fn remember(&self, key: Key, decision: &Rc<Decision>, now: Duration) {
        self.cache.borrow_mut().insert(key, decision, now);
    }

    /// The headers that the service decides about: nothing of them may come from the client.
    fn removals(&self) -> Vec<Edit> {
        self.response_headers
            .iter()
            .cloned()
            .map(Edit::Remove)
            .collect()
    }

    fn edits(&self, answer: &Answer) -> Vec<Edit> {
        let mut edits = self.removals();
        for name in &self.response_headers {
            let values = answer.values(name);
            edits.extend(values.map(|value| Edit::Add(name.clone(), value.to_vec())));
        }
        edits
    }

    fn deny(&self, answer: &Answer, status: u16) -> Decision {
        let mut reply = Reply::new(status).details("ext_auth_denied");
        for name in &self.denied_headers {
            for value in answer.values(name) {
                reply = add(reply, name, value);
            }
        }
        let cookies: Vec<Vec<u8>> = answer.values("set-cookie").map(<[u8]>::to_vec).collect();
        reply = with_cookies(reply, &cookies);
        reply.body = match self.denied_body {
            true => answer.body[..answer.body.len().min(MAX_BODY)].to_vec(),
            false if status == 401 => b"401 Unauthorized\n".to_vec(),
            false => b"403 Forbidden\n".to_vec(),
        };
        Decision::Deny { status, reply }
    }
}

impl Decision {
    /// The answer's status.
    fn status(&self) -> u16 {
        match self {
            Self::Allow { status, .. } | Self::Deny { status, .. } => *status,
            Self::SignIn { .. } => 401,
        }
    }

    /// Whether it gives the client cookies, which are its own.
    fn sets_cookies(&self) -> bool {
        match self {
            Self::Allow { cookies, .. } | Self::SignIn { cookies } => !cookies.is_empty(),
            Self::Deny { reply, .. } => reply.headers.iter().any(|(name, _)| name == "set-cookie"),
        }
    }
}

fn original_url(source: &dyn Source) -> Vec<u8> {
    let part = |name| source.header(name).unwrap_or_default();
    [
        &part(":scheme"),
        &b"://"[..],
        &part(":authority"),
        &part(":path"),
    ]
    .concat()
}

fn with_cookies(reply: Reply, cookies: &[Vec<u8>]) -> Reply {
    cookies
        .iter()
        .fold(reply, |reply, cookie| add(reply, "set-cookie", cookie))
}

/// What is no header's value is left out.
fn add(reply: Reply, name: &str, value: &[u8]) -> Reply {
    match std::str::from_utf8(value) {
        Ok(value) if header::is_value(value.as_bytes()) => reply.header(name, value),
        _ => reply,
    }
}
