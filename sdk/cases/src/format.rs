//! The format of `cases.yaml`: a case.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::certificate::Certificate;
use crate::proto;

/// One case: a freshly loaded filter and one exchange (written in place) or several (`steps`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Case {
    /// What it shows, a sentence.
    pub name: String,
    /// The filter's configuration: a string is passed as it is, anything else as JSON.
    pub config: Option<Value>,
    /// The filter is to refuse the configuration, with a message that holds this text.
    pub refused: Option<String>,
    /// Whether bodies are sent past heads that wait: `headersWaitForBody` of a Filter, in Envoy `allow_on_headers_stop_iteration`.
    #[serde(default)]
    pub headers_wait_for_body: bool,
    /// Time at the beginning, seconds since the epoch. For runners that rule the clock; others leave the case out.
    pub clock: Option<u64>,
    /// See [`Exchange`].
    pub request: Option<Request>,
    /// See [`Exchange`].
    #[serde(default)]
    pub calls: Vec<Call>,
    /// See [`Exchange`].
    #[serde(default)]
    pub upstream: Option<Response>,
    /// See [`Exchange`].
    #[serde(default)]
    pub expect: Option<Expect>,
    /// Several exchanges one after the other, instead of the four fields above.
    #[serde(default)]
    pub steps: Vec<Exchange>,
    /// Each is to be part of a log line of the whole case.
    #[serde(default)]
    pub logs: Vec<String>,
    /// Metrics at the end.
    #[serde(default)]
    pub metrics: BTreeMap<String, i64>,
    /// The file's: where it has any, listeners for https ask for them.
    #[serde(skip)]
    pub certificates: BTreeMap<String, Certificate>,
}

/// One request, what is answered on its way, and what is to come of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Exchange {
    /// Time that passes before it, in seconds. For runners that rule the clock; others leave the case out.
    #[serde(default)]
    pub advance: f64,
    /// What the client sends.
    #[serde(default)]
    pub request: Request,
    /// The calls that the filter makes, in order: exactly these.
    #[serde(default)]
    pub calls: Vec<Call>,
    /// What the upstream answers; 200 without a body where nothing is said.
    #[serde(default)]
    pub upstream: Option<Response>,
    /// What is to come of it.
    #[serde(default)]
    pub expect: Expect,
}

/// A request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Request {
    /// Method, `GET` where nothing is said.
    pub method: String,
    /// Path and query, `/` where nothing is said.
    pub path: String,
    /// Host, `test.example` where nothing is said.
    pub host: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The client certificate that is shown, by its name in the file; such a request is one over `https`.
    pub client_certificate: Option<String>,
    /// Headers.
    pub headers: BTreeMap<String, Head>,
    /// Body.
    pub body: Option<Body>,
    /// The peer, `192.0.2.1:40000` where nothing is said. Only for runners that can choose it.
    pub from: Option<String>,
    /// Other properties by dotted name. Only for runners that can set them.
    pub properties: BTreeMap<String, String>,
}

/// A response of the upstream or to a call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Response {
    /// Status, 200 where nothing is said.
    pub status: u16,
    /// Headers.
    pub headers: BTreeMap<String, Head>,
    /// Body.
    pub body: Option<Body>,
}

/// The value or values of a header.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Head {
    /// One.
    One(Text),
    /// Several, each in a line of its own.
    Several(Vec<Text>),
}

/// A string; numbers and booleans need no quotes.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// As it is.
    String(String),
    /// In decimal.
    Number(i64),
    /// `true` or `false`.
    Bool(bool),
}

/// A body.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Body {
    /// In one piece.
    Whole(String),
    /// In these pieces.
    Pieces(Vec<String>),
}

/// A call that the filter makes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Call {
    /// Where to.
    pub cluster: String,
    /// A gRPC call of this `service/method`, one of [`proto::METHODS`]; an HTTP call where it is absent.
    pub grpc: Option<String>,
    /// What it is to look like.
    #[serde(default)]
    pub expect: ExpectedRequest,
    /// What it is answered.
    #[serde(default)]
    pub answer: Answer,
}

/// An answer to a call: an HTTP response (also where nothing is said), a gRPC message or status, or a failure.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Answer {
    /// Status, 200 where nothing is said.
    pub status: Option<u16>,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Head>,
    /// Body.
    pub body: Option<Body>,
    /// To a gRPC call: fields of the message, by their names. An empty message where nothing is said.
    pub message: Option<Value>,
    /// To a gRPC call: a status other than 0.
    pub grpc_status: Option<u32>,
    /// The text that goes with it.
    #[serde(default)]
    pub grpc_message: String,
    /// A call that fails: `unreachable` (the host answers 503, gRPC status 14) or `timeout` (504, 14).
    pub fails: Option<Failure>,
}

/// How a gRPC call ends for the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcEnd {
    /// A message.
    Message(Vec<u8>),
    /// A status other than 0, and its text.
    Status(u32, String),
    /// Nothing answers.
    Fails(Failure),
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Failure {
    /// Nothing listens there.
    Unreachable,
    /// It does not answer in time.
    Timeout,
}

/// What is to come of an exchange. What is not named may be anything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Expect {
    /// What the client gets.
    pub response: ExpectedResponse,
    /// What the upstream gets, or `none`.
    pub upstream: Option<Upstream>,
}

/// What the upstream is to get.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Upstream {
    /// The word `none`: the request is not to reach it.
    None(Nothing),
    /// A request.
    Request(ExpectedRequest),
}

/// The word `none`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nothing {
    /// The word.
    None,
}

/// A request as it is to be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ExpectedRequest {
    /// Method.
    pub method: Option<String>,
    /// Path and query.
    pub path: Option<String>,
    /// Host.
    pub host: Option<String>,
    /// Headers.
    pub headers: BTreeMap<String, ExpectedHeader>,
    /// Body.
    pub body: Option<String>,
    /// Of a gRPC call: fields of the message, by their names. Those that are not named may be anything; `null` is not there.
    pub message: Option<Value>,
}

/// A response as it is to be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ExpectedResponse {
    /// Status.
    pub status: Option<u16>,
    /// Headers.
    pub headers: BTreeMap<String, ExpectedHeader>,
    /// Body.
    pub body: Option<String>,
    /// A part of the body.
    pub body_contains: Option<String>,
}

/// A header as it is to be.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum ExpectedHeader {
    /// `null`: not there.
    Absent(()),
    /// One value, or these in this order.
    Is(Head),
    /// One value that holds a text.
    Contains {
        /// The text.
        contains: String,
    },
}

// === impl Case ===

impl Case {
    /// The configuration as the filter gets it.
    #[must_use]
    pub fn config_text(&self) -> String {
        match &self.config {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        }
    }

    /// The exchanges, whichever way they are written. None when the configuration is to be refused.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        if !self.steps.is_empty() {
            return self.steps.clone();
        }
        if self.refused.is_some() {
            return Vec::new();
        }
        vec![Exchange {
            advance: 0.0,
            request: self.request.clone().unwrap_or_default(),
            calls: self.calls.clone(),
            upstream: self.upstream.clone(),
            expect: self.expect.clone().unwrap_or_default(),
        }]
    }

    /// The certificate with which a request comes.
    #[must_use]
    pub fn certificate(&self, request: &Request) -> Option<&Certificate> {
        self.certificates.get(request.client_certificate.as_ref()?)
    }

    /// Requests with certificates come over TLS.
    pub(crate) fn over_tls(&mut self) -> Result<(), String> {
        let own = self.request.iter_mut();
        for request in own.chain(self.steps.iter_mut().map(|step| &mut step.request)) {
            let Some(name) = &request.client_certificate else {
                continue;
            };
            if !self.certificates.contains_key(name) {
                let known: Vec<&str> = self.certificates.keys().map(String::as_str).collect();
                return Err(format!(
                    "{}: clientCertificate: {name:?} is not among the file's certificates ({})",
                    self.name,
                    known.join(", ")
                ));
            }
            request.scheme = String::from("https");
        }
        Ok(())
    }

    /// Whether a runner has to rule the clock for it.
    #[must_use]
    pub fn needs_clock(&self) -> bool {
        self.clock.is_some() || self.steps.iter().any(|step| step.advance > 0.0)
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: String::from("GET"),
            path: String::from("/"),
            host: String::from("test.example"),
            scheme: String::from("http"),
            client_certificate: None,
            headers: BTreeMap::new(),
            body: None,
            from: None,
            properties: BTreeMap::new(),
        }
    }
}

impl Default for Response {
    fn default() -> Self {
        Self {
            status: 200,
            headers: BTreeMap::new(),
            body: None,
        }
    }
}

impl Call {
    /// What is not as expected of the message of a gRPC call, a line for each.
    #[must_use]
    pub fn message_differences(&self, message: &[u8]) -> Vec<String> {
        let Some(method) = self.grpc.as_deref() else {
            return vec![String::from("call: a gRPC call, expected an HTTP call")];
        };
        let seen = match proto::method(method).and_then(|method| method.request.decode(message)) {
            Ok(seen) => seen,
            Err(problem) => return vec![format!("call: {problem}")],
        };
        let mut found = Vec::new();
        if let Some(expected) = &self.expect.message {
            proto::compare("call: message", expected, &seen, &mut found);
        }
        found
    }

    /// How a gRPC call ends.
    ///
    /// # Errors
    ///
    /// An answer that is no message of the method.
    pub fn grpc_end(&self) -> Result<GrpcEnd, String> {
        let answer = &self.answer;
        if let Some(failure) = answer.fails {
            return Ok(GrpcEnd::Fails(failure));
        }
        if let Some(status) = answer.grpc_status {
            return Ok(GrpcEnd::Status(status, answer.grpc_message.clone()));
        }
        let method = proto::method(self.grpc.as_deref().unwrap_or_default())?;
        let empty = Value::Object(serde_json::Map::new());
        let message = answer.message.as_ref().unwrap_or(&empty);
        method.response.encode(message).map(GrpcEnd::Message)
    }
}

impl Head {
    /// The values as strings.
    #[must_use]
    pub fn values(&self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text.to_string()],
            Self::Several(texts) => texts.iter().map(ToString::to_string).collect(),
        }
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Bool(value) => value.fmt(f),
        }
    }
}

impl Body {
    /// The pieces.
    #[must_use]
    pub fn pieces(&self) -> Vec<&str> {
        match self {
            Self::Whole(text) => vec![text],
            Self::Pieces(pieces) => pieces.iter().map(String::as_str).collect(),
        }
    }
}
