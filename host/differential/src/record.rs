//! What came of a case in one host, as lines that can be compared. Everything that is not compared is named here, and only here.

use crate::journal::Line;
use crate::message::Message;

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Record {
    /// Answers to the requests, in their order; `None` where none came.
    pub answers: Vec<Option<Message>>,
    /// What the upstream was sent.
    pub upstream: Vec<Message>,
    /// What the callout cluster was sent.
    pub callout: Vec<Message>,
    /// What guests logged.
    pub log: Vec<Line>,
    /// Metrics of guests that the case names, with their values.
    pub metrics: Vec<(String, String)>,
    /// Whether the host still answers after it.
    pub alive: bool,
}

/// Fields of answers that say nothing about filters: both hosts add them after the filters, each in its way.
const OF_ANSWERS: [&str; 4] = ["date", "connection", "keep-alive", "server"];
/// The same in requests to upstreams; the last two Envoy adds to callouts.
const OF_REQUESTS: [&str; 5] = [
    "connection",
    "keep-alive",
    "te",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-internal",
];
/// What Envoy adds to gRPC calls, too, and what is a number of the moment.
const OF_GRPC_CALLS: [&str; 5] = [
    "user-agent",
    "x-envoy-internal",
    "x-envoy-expected-rq-timeout-ms",
    "x-forwarded-for",
    "grpc-timeout",
];
/// Fields whose value is different each time.
const CHANGING: [&str; 3] = ["x-request-id", "x-forwarded-port", "date"];
/// What Envoy adds to answers to callouts, where it stands in a map that a guest logs.
const OF_CALLOUTS: &str = ", x-envoy-upstream-service-time: \"";
/// Longest content that is shown whole.
const WHOLE: usize = 400;

impl Record {
    /// The lines that are compared.
    pub fn lines(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (at, answer) in self.answers.iter().enumerate() {
            let Some(answer) = answer else {
                out.push(format!("answer {at}: none"));
                continue;
            };
            let reason_left_out: Vec<&str> = answer.line.split(' ').take(2).collect();
            out.push(format!("answer {at}: {}", reason_left_out.join(" ")));
            message(&mut out, &without_own_text(answer), &OF_ANSWERS);
        }
        for (who, requests) in [("upstream", &self.upstream), ("callout", &self.callout)] {
            for (at, request) in requests.iter().enumerate() {
                out.push(format!("{who} {at}: {}", request.line));
                let left_out = if request.line.ends_with(" gRPC") {
                    &OF_GRPC_CALLS
                } else {
                    &OF_REQUESTS
                };
                message(&mut out, request, left_out);
            }
        }
        for line in starts_first(&self.log) {
            let plugin = line.plugin.rsplit('-').next().unwrap_or_default();
            let level = if line.level == "info" {
                String::new()
            } else {
                format!("{}: ", line.level)
            };
            out.push(format!("log {plugin}: {level}{}", line.text));
        }
        for (name, value) in &self.metrics {
            out.push(format!("metric {name}: {value}"));
        }
        out.iter().map(|line| steady(line)).collect()
    }
}

/// An answer of a host's own, as on a trap, has the status as its text here and no text in Envoy.
fn without_own_text(answer: &Message) -> Message {
    let mut answer = answer.clone();
    let status = answer.status().to_string();
    let body = String::from_utf8_lossy(&answer.body);
    let own = body
        .strip_prefix(&status)
        .is_some_and(|text| text.starts_with(' ') && text.ends_with('\n'));
    if own {
        answer.body.clear();
        // Over HTTP/2 an answer without a body says no length.
        let http2 = answer.line.starts_with("HTTP/2");
        answer.fields.retain(|(name, _)| {
            let length = http2 && name.eq_ignore_ascii_case("content-length");
            !(length || name.eq_ignore_ascii_case("content-type"))
        });
        for (name, value) in &mut answer.fields {
            if name.eq_ignore_ascii_case("content-length") {
                *value = "0".into();
            }
        }
    }
    answer
}

/// Envoy starts VMs before it serves, this host when they are needed: the start of each filter comes first, filter by filter.
/// Contexts are then numbered anew for each filter, since filters that share a VM count together.
fn starts_first(log: &[Line]) -> Vec<Line> {
    let mut plugins: Vec<&str> = log.iter().map(|line| line.plugin.as_str()).collect();
    plugins.sort_unstable();
    plugins.dedup();
    let mut starts = Vec::new();
    let mut started = vec![false; log.len()];
    for plugin in plugins {
        let own = || {
            log.iter()
                .enumerate()
                .filter(|(_, line)| line.plugin == plugin)
        };
        for (at, line) in own().take_while(|(_, line)| is_start(&line.text)) {
            started[at] = true;
            starts.push(line.clone());
        }
    }
    let rest = log
        .iter()
        .enumerate()
        .filter(|(at, _)| !started[*at])
        .map(|(_, line)| line.clone());
    starts.extend(rest);
    let mut known: Vec<(String, String)> = Vec::new();
    for line in &mut starts {
        line.text = renumbered(&line.text, &line.plugin, &mut known);
    }
    starts
}

fn is_start(text: &str) -> bool {
    let begins = ["vm_start ", "configure ", "configured ", "  "];
    text.ends_with(" of #0") || begins.iter().any(|begin| text.starts_with(begin))
}

/// Replaces `#7` by its place among the contexts of this filter that were named so far.
fn renumbered(text: &str, plugin: &str, known: &mut Vec<(String, String)>) -> String {
    let mut parts = text.split('#');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(part.len());
        let (number, rest) = part.split_at(end);
        if number.is_empty() || number == "0" {
            out.push_str(&format!("#{part}"));
            continue;
        }
        let entry = (plugin.to_owned(), number.to_owned());
        if !known.contains(&entry) {
            known.push(entry.clone());
        }
        let own = known.iter().filter(|(of, _)| of == plugin);
        let place = own.take_while(|known| **known != entry).count() + 1;
        out.push_str(&format!("#{place}{rest}"));
    }
    out
}

/// Fields sorted by name, equal names in their order; content; trailers.
fn message(out: &mut Vec<String>, message: &Message, left_out: &[&str]) {
    fields(out, "", &message.fields, left_out);
    let body = String::from_utf8_lossy(&message.body);
    if body.len() > WHOLE {
        let start: String = body.chars().take(40).collect();
        out.push(format!("    body: {} bytes, {start:?}…", body.len()));
    } else if !body.is_empty() {
        out.push(format!("    body: {body:?}"));
    }
    fields(out, "trailer ", &message.trailers, &[]);
    if !message.complete {
        out.push("    incomplete".into());
    }
}

fn fields(out: &mut Vec<String>, kind: &str, fields: &[(String, String)], left_out: &[&str]) {
    let mut shown: Vec<(String, &str)> = fields
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .filter(|(name, _)| !left_out.contains(&name.as_str()))
        .collect();
    shown.sort_by(|one, other| one.0.cmp(&other.0));
    for (name, value) in shown {
        let value = if CHANGING.contains(&name.as_str()) {
            "(any)"
        } else {
            value
        };
        out.push(format!("    {kind}{name}: {value}"));
    }
}

/// Ports and ids made steady, inside what guests log too.
fn steady(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("127.0.0.1:") {
        let (before, after) = rest.split_at(at + "127.0.0.1:".len());
        out.push_str(before);
        out.push_str("(port)");
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out.push_str(rest);
    if let Some(at) = out.find(OF_CALLOUTS) {
        let end = out[at + OF_CALLOUTS.len()..]
            .find('"')
            .map_or(out.len(), |length| at + OF_CALLOUTS.len() + length + 1);
        out.replace_range(at..end, "");
    }
    for name in CHANGING {
        let mark = format!("{name}: \"");
        if let Some(at) = out.find(&mark) {
            let start = at + mark.len();
            let end = out[start..]
                .find('"')
                .map_or(out.len(), |length| start + length);
            out.replace_range(start..end, "(any)");
        }
    }
    out
}
