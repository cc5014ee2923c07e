//! Cases on the SDK's mock host.

use std::time::Duration;

use tidegate_sdk::Filter;
use tidegate_sdk::mock::{CallAnswer, CallMade, Loaded, Message, Mock};

use crate::compare::{Observed, Seen};
use crate::file::{File, stand_in};
use crate::format::{
    Answer, Body, Call, Case, Exchange, Failure, GrpcEnd, Head, Request, Response,
};

/// Runs all cases of a file against a filter. Bodies are sent in the pieces in which they are written, then byte by byte.
///
/// # Panics
///
/// If the file does not parse, holds no case, or a case fails; the message lists all that fail.
pub fn run<F: Filter>(yaml: &str) {
    let file = match File::parse(yaml) {
        Ok(file) => file,
        Err(error) => panic!("cases.yaml: {error}"),
    };
    assert!(!file.cases.is_empty(), "cases.yaml holds no case");
    let mut failures = Vec::new();
    for case in &file.cases {
        for bytewise in [false, true] {
            let found = run_case::<F>(case, bytewise);
            if !found.is_empty() {
                failures.push(format!("{}:\n    {}", case.name, found.join("\n    ")));
                break;
            }
        }
    }
    let (bad, all) = (failures.len(), file.cases.len());
    assert!(
        failures.is_empty(),
        "{bad} of {all} cases fail:\n{}",
        failures.join("\n")
    );
}

fn run_case<F: Filter>(case: &Case, bytewise: bool) -> Vec<String> {
    let mock = Mock::new();
    mock.headers_wait_for_body(case.headers_wait_for_body);
    if let Some(clock) = case.clock {
        mock.set_time(Duration::from_secs(clock));
    }
    let loaded = match (mock.load::<F>(&case.config_text()), &case.refused) {
        (Ok(_), Some(part)) => {
            return vec![format!(
                "the configuration is taken, expected a refusal with {part:?}"
            )];
        }
        (Err(line), Some(part)) if line.contains(part) => return Vec::new(),
        (Err(line), _) => return vec![format!("the configuration is refused: {line}")],
        (Ok(loaded), None) => loaded,
    };
    let mut found = Vec::new();
    for (index, exchange) in case.exchanges().iter().enumerate() {
        mock.advance(Duration::from_secs_f64(exchange.advance));
        let differences = run_exchange(&loaded, case, exchange, bytewise);
        let prefix = match case.steps.len() {
            0 => String::new(),
            _ => format!("step {}: ", index + 1),
        };
        found.extend(differences.iter().map(|line| format!("{prefix}{line}")));
    }
    let logs = mock.take_logs();
    for part in &case.logs {
        if !logs.iter().any(|(_, line)| line.contains(part)) {
            found.push(format!("no log line holds {part:?}: {logs:?}"));
        }
    }
    for (name, expected) in &case.metrics {
        let metrics = mock.metrics();
        let value = metrics
            .iter()
            .find(|metric| metric.name == *name)
            .map(|metric| metric.value);
        if value != Some(*expected) {
            found.push(format!("metric {name} is {value:?}, expected {expected}"));
        }
    }
    found
}

fn run_exchange(loaded: &Loaded, case: &Case, exchange: &Exchange, bytewise: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut sent = request(&exchange.request, bytewise);
    match shown(case, &exchange.request) {
        Ok(properties) => {
            for (name, value) in properties {
                sent = sent.property(&["connection", name], &value);
            }
        }
        Err(problem) => return vec![problem],
    }
    let mut calls = exchange.calls.iter();
    let upstream = exchange.upstream.clone().unwrap_or_default();
    let outcome = loaded.run_with(
        sent,
        |_| response(&upstream, bytewise),
        |made| answer(made, calls.next(), &mut found),
    );
    for call in calls {
        found.push(format!("no call to {:?} was made", call.cluster));
    }
    let seen = Seen {
        response: observed(&outcome.response),
        upstream: outcome.upstream.as_ref().map(observed),
    };
    found.extend(seen.differences(&exchange.expect));
    found
}

fn answer(made: &CallMade, expected: Option<&Call>, found: &mut Vec<String>) -> CallAnswer {
    let Some(expected) = expected else {
        found.push(format!(
            "an unexpected call to {:?}: {:?}",
            made.cluster,
            observed(&made.request)
        ));
        return CallAnswer::Http(Message::response(500));
    };
    if made.cluster != expected.cluster {
        found.push(format!(
            "a call to {:?}, expected one to {:?}",
            made.cluster, expected.cluster
        ));
    }
    match (&expected.grpc, made.grpc) {
        (None, false) => {
            observed(&made.request).against_request("call", &expected.expect, found);
            CallAnswer::Http(call_response(&expected.answer))
        }
        (Some(method), true) => grpc_answer(made, method, expected, found),
        (_, grpc) => {
            let kinds = ["an HTTP call", "a gRPC call"];
            found.push(format!(
                "{}, expected {}",
                kinds[usize::from(grpc)],
                kinds[usize::from(!grpc)]
            ));
            match grpc {
                true => CallAnswer::GrpcStatus(2, String::new()),
                false => CallAnswer::Http(Message::response(500)),
            }
        }
    }
}

fn grpc_answer(
    made: &CallMade,
    method: &str,
    expected: &Call,
    found: &mut Vec<String>,
) -> CallAnswer {
    let path = made.request.get(":path").unwrap_or_default();
    if path.strip_prefix('/') != Some(method) {
        found.push(format!("a call of {path:?}, expected one of {method:?}"));
    }
    observed(&made.request).against_request("call", &expected.expect, found);
    found.extend(expected.message_differences(&made.request.body.concat()));
    match expected.grpc_end() {
        Ok(GrpcEnd::Message(message)) => CallAnswer::Grpc(message),
        Ok(GrpcEnd::Status(status, message)) => CallAnswer::GrpcStatus(status, message),
        Ok(GrpcEnd::Fails(Failure::Unreachable)) => {
            CallAnswer::GrpcStatus(14, String::from(UNREACHABLE))
        }
        Ok(GrpcEnd::Fails(Failure::Timeout)) => CallAnswer::GrpcStatus(14, String::from(TIMEOUT)),
        Err(problem) => {
            found.push(format!("the answer: {problem}"));
            CallAnswer::GrpcStatus(2, problem)
        }
    }
}

const UNREACHABLE: &str = "upstream connect error or disconnect/reset before headers";
const TIMEOUT: &str = "upstream request timeout";

/// A failure looks as in Envoy.
fn call_response(answer: &Answer) -> Message {
    match answer.fails {
        Some(Failure::Unreachable) => Message::response(503)
            .header("content-type", "text/plain")
            .body(UNREACHABLE),
        Some(Failure::Timeout) => Message::response(504)
            .header("content-type", "text/plain")
            .body(TIMEOUT),
        None => response(
            &Response {
                status: answer.status.unwrap_or(200),
                headers: answer.headers.clone(),
                body: answer.body.clone(),
            },
            false,
        ),
    }
}

fn request(request: &Request, bytewise: bool) -> Message {
    let mut message = Message::request(&request.method, &request.path)
        .header(":authority", &request.host)
        .header(":scheme", &request.scheme);
    if let Some(from) = &request.from {
        message = message.from(from);
    }
    for (name, value) in &request.properties {
        message = message.property(&name.split('.').collect::<Vec<_>>(), value);
    }
    with_rest(message, &request.headers, request.body.as_ref(), bytewise)
}

/// Properties of the connection that come from the client's certificate.
fn shown(case: &Case, request: &Request) -> Result<Vec<(&'static str, String)>, String> {
    match (case.certificate(request), &request.client_certificate) {
        (Some(certificate), Some(name)) => certificate.properties(&stand_in(name)),
        _ => Ok(Vec::new()),
    }
}

fn response(response: &Response, bytewise: bool) -> Message {
    with_rest(
        Message::response(response.status),
        &response.headers,
        response.body.as_ref(),
        bytewise,
    )
}

fn with_rest(
    mut message: Message,
    headers: &std::collections::BTreeMap<String, Head>,
    body: Option<&Body>,
    bytewise: bool,
) -> Message {
    for (name, values) in headers {
        for value in values.values() {
            message = message.header(name, value);
        }
    }
    for piece in body.iter().flat_map(|body| body.pieces()) {
        match bytewise {
            true => message.body.extend(piece.bytes().map(|byte| vec![byte])),
            false => message = message.body(piece),
        }
    }
    message
}

fn observed(message: &Message) -> Observed {
    let headers = message.headers.iter();
    Observed {
        headers: headers
            .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
            .collect(),
        body: message.text(),
    }
}
