//! A request asks: nginx's `auth_request` as ingress-nginx sets it up, where 2xx lets pass, 401 refuses or leads to the sign-in page,
//! 403 refuses, and anything else is a failure of the service; options make it what the Gateway API's `externalAuth` is.

use tidegate_sdk::http::{Answer, Url};
use tidegate_sdk::template::{Source, Template, encode};
use tidegate_sdk::{Reply, header};

use super::edit;
use super::{Allowed, Decision, Edit, Policy};

/// What is configured of it.
#[derive(Debug)]
pub struct Service {
    pub(super) url: Template,
    pub(super) method: Option<String>,
    /// Whether the call is for the host, path and query that the client asked for; the path of `url` comes before.
    pub(super) forward_target: bool,
    /// Whether the call says in headers of its own what was asked for.
    pub(super) original_headers: bool,
    /// Statuses that let pass; `None` for all from 200 to 299.
    pub(super) allowed_statuses: Option<Vec<u16>>,
    /// Headers of the answer that the upstream gets.
    pub(super) response_headers: Names,
    /// Headers of a refusing answer that the client gets.
    pub(super) denied_headers: Names,
    pub(super) denied_body: bool,
    pub(super) sign_in: Option<SignIn>,
    pub(super) always_set_cookie: bool,
    pub(super) redirect_header: Template,
}

/// Which headers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// All that can be passed on.
    All,
    /// These, in lower case.
    Listed(Vec<String>),
}

#[derive(Debug)]
pub(super) struct SignIn {
    pub(super) url: Template,
    /// The query parameter that says where to return to; `None` where the address has it already.
    pub(super) parameter: Option<String>,
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

/// What describes the answer itself, and would be wrong about any other message.
const OF_THE_ANSWER: [&str; 6] = [
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-type",
    "host",
];

/// Statuses on which nginx's `add_header` works without `always`.
const COOKIE_STATUSES: [u16; 10] = [200, 201, 204, 206, 301, 302, 303, 304, 307, 308];

/// Longest body of a refusing answer that a client gets, in bytes.
const MAX_BODY: usize = 64 * 1024;

impl Policy {
    /// The call about a request with these headers. `None` where variables of the request leave no URL.
    #[must_use]
    pub fn asking(
        &self,
        service: &Service,
        headers: &[(Vec<u8>, Vec<u8>)],
        source: &dyn Source,
    ) -> Option<Asking> {
        let url = String::from_utf8(service.url.render(source)).ok()?;
        let mut url = Url::parse(&url)?;
        if service.forward_target {
            url.authority = String::from_utf8(source.header(":authority")?).ok()?;
            let target = String::from_utf8(source.header(":path")?).ok()?;
            let prefix = url.path.trim_end_matches('/');
            url.path = match target.starts_with('/') {
                true => format!("{prefix}{target}"),
                // OPTIONS *
                false => format!("{prefix}/"),
            };
        }
        let original = source.header(":method").unwrap_or_default();
        let method = match &service.method {
            Some(method) => method.clone(),
            None => String::from_utf8(original.clone()).ok()?,
        };
        let mut out: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, value) in headers {
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            let passed_on = !name.starts_with(':') && !NOT_FORWARDED.contains(&name);
            if passed_on && self.forwards(name) {
                out.push((name.to_owned(), value.clone()));
            }
        }
        let mut set = |name: &str, value: Vec<u8>| {
            out.retain(|(key, _)| key != name);
            if !value.is_empty() {
                out.push((name.to_owned(), value));
            }
        };
        if service.original_headers {
            set("x-original-url", original_url(source));
            set("x-original-method", original);
            set(
                "x-auth-request-redirect",
                service.redirect_header.render(source),
            );
        }
        for (name, value) in self.set(source) {
            set(&name, value);
        }
        Some(Asking {
            method,
            url,
            headers: out,
        })
    }

    /// What an answer means.
    #[must_use]
    pub fn decide(&self, service: &Service, answer: &Answer) -> Decision {
        let status = answer.status;
        let cookies: Vec<Vec<u8>> = answer.values("set-cookie").map(<[u8]>::to_vec).collect();
        match status {
            _ if service.allows(status) => Decision::Allow(Allowed {
                status,
                request: service.edits(answer),
                cookies,
                ..Allowed::default()
            }),
            401 if service.sign_in.is_some() => Decision::SignIn { cookies },
            401 | 403 => service.deny(answer, status),
            // An answer that is passed on as it is may lead somewhere or say more.
            300..=499 if service.denied_body => service.deny(answer, status),
            _ => self.failed(),
        }
    }
}

impl Service {
    /// Whether the call says that it has no body, too: "Content-Length must be 0" (Gateway API), where hosts leave it out.
    #[must_use]
    pub fn says_length(&self) -> bool {
        self.forward_target
    }

    fn allows(&self, status: u16) -> bool {
        match &self.allowed_statuses {
            None => (200..=299).contains(&status),
            Some(statuses) => statuses.contains(&status),
        }
    }

    /// The way to the sign-in page, and back to where this request wanted to go.
    #[must_use]
    pub fn sign_in(&self, cookies: &[Vec<u8>], source: &dyn Source) -> Reply {
        let Some(sign_in) = &self.sign_in else {
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

    /// The headers that the service decides about: nothing of them may come from the client.
    pub(super) fn removals(&self) -> Vec<Edit> {
        match &self.response_headers {
            Names::All => Vec::new(),
            Names::Listed(names) => names.iter().cloned().map(Edit::Remove).collect(),
        }
    }

    fn edits(&self, answer: &Answer) -> Vec<Edit> {
        let mut edits = self.removals();
        let names = match &self.response_headers {
            Names::All => {
                let names = passed_on(answer);
                edits.extend(names.iter().cloned().map(Edit::Remove));
                names
            }
            Names::Listed(names) => names.clone(),
        };
        for name in names {
            let values = answer.values(&name).map(<[u8]>::to_vec);
            edits.extend(values.map(|value| Edit::Add(name.clone(), value)));
        }
        edits
    }

    fn deny(&self, answer: &Answer, status: u16) -> Decision {
        let mut reply = Reply::new(status).details("ext_auth_denied");
        let names = match &self.denied_headers {
            Names::All => {
                let mut names = passed_on(answer);
                names.push(String::from("content-type"));
                names
            }
            Names::Listed(names) => names.clone(),
        };
        for name in names.iter().filter(|name| *name != "set-cookie") {
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

/// The names of an answer's headers, each once, without those that say something about the answer or its connection alone.
fn passed_on(answer: &Answer) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in answer.headers() {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        let name = name.to_ascii_lowercase();
        let free = header::is_token(name.as_bytes())
            && edit::is_free(&name)
            && !OF_THE_ANSWER.contains(&name.as_str());
        if free && !names.contains(&name) {
            names.push(name);
        }
    }
    names
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
pub(super) fn add(reply: Reply, name: &str, value: &[u8]) -> Reply {
    match std::str::from_utf8(value) {
        Ok(value) if header::is_value(value.as_bytes()) => reply.header(name, value),
        _ => reply,
    }
}
