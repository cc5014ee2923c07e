//! Envoy's ext_authz asks: `envoy.service.auth.v3.Authorization/Check`, with the meaning that Envoy's filter gives the answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use prost::Message as _;
use tidegate_sdk::{Reply, address, header};

use super::edit;
use super::http::add;
use super::proto::{
    Address, AppendAction, AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse,
    HeaderValueOption, HttpRequest, OkHttpResponse, Peer, Request, SocketAddress, Timestamp,
};
use super::{Allowed, Decision, Edit, Policy, Query};

/// The service.
pub const SERVICE: &str = "envoy.service.auth.v3.Authorization";
/// Its method.
pub const METHOD: &str = "Check";

/// What is configured of it.
#[derive(Debug)]
pub struct Service {
    pub(super) context_extensions: BTreeMap<String, String>,
    /// Whether a body goes into `raw_body`.
    pub(super) body_as_bytes: bool,
}

/// What the host knows about a request.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Headers in order, pseudo-headers among them.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The client's address, and its port where that is known.
    pub source: Option<(IpAddr, u16)>,
    /// Who the client is by its certificate; empty without one.
    pub principal: String,
    /// The listener's address.
    pub destination: Option<(IpAddr, u16)>,
    /// `HTTP/1.1`; empty where it is not known.
    pub protocol: String,
    /// Time since 1970.
    pub now: Duration,
    /// Whether a body follows.
    pub has_body: bool,
    /// The body, if the service gets it.
    pub body: Option<Vec<u8>>,
}

/// An address and its port as hosts write them.
#[must_use]
pub fn socket(text: &[u8]) -> Option<(IpAddr, u16)> {
    let port = std::str::from_utf8(text).ok()?.parse::<SocketAddr>();
    Some((
        address::parse(text)?,
        port.map_or(0, |socket| socket.port()),
    ))
}

impl Policy {
    /// The message about a request.
    #[must_use]
    pub fn check_request(&self, service: &Service, facts: &Facts) -> Vec<u8> {
        let attributes = AttributeContext {
            source: facts.source.map(|source| Peer {
                principal: facts.principal.clone(),
                ..peer(source)
            }),
            destination: facts.destination.map(peer),
            request: Some(Request {
                time: Some(Timestamp {
                    seconds: i64::try_from(facts.now.as_secs()).unwrap_or(i64::MAX),
                    nanos: i32::try_from(facts.now.subsec_nanos()).unwrap_or_default(),
                }),
                http: Some(self.http_request(service, facts)),
            }),
            context_extensions: service.context_extensions.clone(),
        };
        let request = CheckRequest {
            attributes: Some(attributes),
        };
        request.encode_to_vec()
    }

    fn http_request(&self, service: &Service, facts: &Facts) -> HttpRequest {
        let first = |name: &str| {
            let mut headers = facts.headers.iter();
            let found = headers.find(|(key, _)| key == name.as_bytes());
            found.map_or_else(String::new, |(_, value)| text(value))
        };
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &facts.headers {
            let name = text(name).to_ascii_lowercase();
            if !self.forwards(&name) {
                continue;
            }
            // Cookies of several lines are one list, with a separator of their own.
            let separator = if name == "cookie" { "; " } else { "," };
            headers
                .entry(name)
                .and_modify(|values| {
                    values.push_str(separator);
                    values.push_str(&text(value));
                })
                .or_insert_with(|| text(value));
        }
        let body = facts.body.as_deref().unwrap_or_default();
        if facts.body.is_some() {
            // Envoy says with it whether the body is whole. Longer ones do not come here.
            headers.insert(
                String::from("x-envoy-auth-partial-body"),
                String::from("false"),
            );
        }
        HttpRequest {
            id: first("x-request-id"),
            method: first(":method"),
            path: first(":path"),
            host: first(":authority"),
            scheme: first(":scheme"),
            size: size(facts, &first("content-length")),
            protocol: facts.protocol.clone(),
            body: match service.body_as_bytes {
                true => String::new(),
                false => text(body),
            },
            raw_body: match service.body_as_bytes {
                true => body.to_vec(),
                false => Vec::new(),
            },
            headers,
        }
    }

    /// What an answer means; bytes that are no answer are a failure.
    #[must_use]
    pub fn decide_grpc(&self, message: &[u8]) -> Decision {
        let Ok(response) = CheckResponse::decode(message) else {
            return self.failed();
        };
        let code = response.status.map_or(0, |status| status.code);
        if code == 0 {
            return Decision::Allow(allowed(&response.ok_response.unwrap_or_default()));
        }
        if let Some(error) = response.error_response {
            return self.failed_with(reply(&error, self.failure.status));
        }
        let denied = response.denied_response.unwrap_or_default();
        let reply = reply(&denied, 403).details("ext_auth_denied");
        Decision::Deny {
            status: reply.status,
            reply,
        }
    }
}

fn peer((address, port): (IpAddr, u16)) -> Peer {
    Peer {
        address: Some(Address {
            socket_address: Some(SocketAddress {
                address: address.to_string(),
                port_value: port.into(),
            }),
        }),
        principal: String::new(),
    }
}

/// The length of the body: what is there of it, what the client says, or that nobody knows.
fn size(facts: &Facts, content_length: &str) -> i64 {
    match &facts.body {
        Some(body) => i64::try_from(body.len()).unwrap_or(i64::MAX),
        None if !facts.has_body => 0,
        None => content_length.parse().unwrap_or(-1),
    }
}

/// Strings of protobuf are UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn allowed(response: &OkHttpResponse) -> Allowed {
    let mut request = edits(&response.headers, true);
    // Removals come last: a header that is set and removed is gone.
    let removed = response.headers_to_remove.iter();
    let removed = removed.map(|name| name.to_ascii_lowercase());
    request.extend(removed.filter(|name| is_plain(name)).map(Edit::Remove));
    let parameters = response.query_parameters_to_set.iter();
    Allowed {
        status: 200,
        request,
        query: Query {
            set: parameters
                .map(|parameter| (parameter.key.clone(), parameter.value.clone()))
                .collect(),
            remove: response.query_parameters_to_remove.clone(),
        },
        cookies: Vec::new(),
        response: edits(&response.response_headers_to_add, false),
    }
}

/// A header that a service may change, and that is no pseudo-header.
fn is_plain(name: &str) -> bool {
    header::is_token(name.as_bytes()) && name != "host" && edit::is_free(name)
}

/// Headers in the order in which they are asked for. Those that replace values clear the name once, so that a name may come several
/// times (`Set-Cookie`). What is no header is left out, but what it would have replaced goes.
fn edits(options: &[HeaderValueOption], of_request: bool) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    for option in options {
        let Some(header) = &option.header else {
            continue;
        };
        let name = header.key.to_ascii_lowercase();
        let value = header.bytes();
        let valid = edit::is_value(value);
        let value = value.to_vec();
        match name.as_str() {
            // Where the request goes to, not what it is routed by.
            "host" | ":authority" if of_request && valid => {
                edits.push(Edit::Set(String::from(":authority"), value));
                continue;
            }
            ":path" | ":method" if of_request && valid && !value.is_empty() => {
                edits.push(Edit::Set(name, value));
                continue;
            }
            name if !is_plain(name) => continue,
            _ => {}
        }
        let action = match &option.append {
            Some(append) if append.value => None,
            Some(_) => Some(AppendAction::OverwriteIfExistsOrAdd),
            // Numbers that it does not know mean the same to Envoy.
            None => Some(
                AppendAction::try_from(option.append_action)
                    .unwrap_or(AppendAction::OverwriteIfExistsOrAdd),
            ),
        };
        match action {
            None if valid => edits.push(Edit::Add(name, value)),
            Some(AppendAction::AddIfAbsent) if valid => edits.push(Edit::AddIfAbsent(name, value)),
            Some(AppendAction::OverwriteIfExists) if valid => {
                edits.push(Edit::Replace(name, value));
            }
            None | Some(AppendAction::AddIfAbsent) => {}
            Some(_) => {
                let cleared = edits
                    .iter()
                    .any(|edit| matches!(edit, Edit::Remove(other) if *other == name));
                if !cleared {
                    edits.push(Edit::Remove(name.clone()));
                }
                if valid {
                    edits.push(Edit::Add(name, value));
                }
            }
        }
    }
    edits
}

/// The reply that a client gets; `default` where it names no status that a reply may have.
fn reply(response: &DeniedHttpResponse, default: u16) -> Reply {
    let asked = response.status.as_ref().map_or(0, |status| status.code);
    let status = u16::try_from(asked)
        .ok()
        .filter(|status| (200..=599).contains(status))
        .unwrap_or(default);
    let mut reply = Reply::new(status).body(response.body.as_bytes());
    for option in &response.headers {
        let Some(header) = &option.header else {
            continue;
        };
        let name = header.key.to_ascii_lowercase();
        let value = header.bytes();
        if is_plain(&name) {
            reply = add(reply, &name, value);
        }
    }
    reply
}
