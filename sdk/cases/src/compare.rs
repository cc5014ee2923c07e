//! What happened beside what was expected.

use std::collections::BTreeMap;

use crate::format::{Expect, ExpectedHeader, ExpectedRequest, ExpectedResponse, Upstream};

/// A request or a response as a runner saw it; pseudo-headers are among the headers of a request, `:status` among those of a
/// response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Names in lower case, and values in order.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

/// What a runner saw of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What the client got.
    pub response: Observed,
    /// What the upstream got.
    pub upstream: Option<Observed>,
}

impl Seen {
    /// What is not as expected, a line for each.
    #[must_use]
    pub fn differences(&self, expect: &Expect) -> Vec<String> {
        let mut found = Vec::new();
        self.response.against_response(&expect.response, &mut found);
        match (&expect.upstream, &self.upstream) {
            (None, _) | (Some(Upstream::None(_)), None) => {}
            (Some(Upstream::None(_)), Some(request)) => {
                found.push(format!("the upstream got a request: {request:?}"));
            }
            (Some(Upstream::Request(_)), None) => {
                let status = self.response.values(":status");
                found.push(format!(
                    "the upstream got no request; the client got {status:?}"
                ));
            }
            (Some(Upstream::Request(expected)), Some(request)) => {
                request.against_request("upstream", expected, &mut found);
            }
        }
        found
    }
}

impl Observed {
    /// What is not as expected of a request, a line for each that begins with `what`.
    pub fn against_request(&self, what: &str, expected: &ExpectedRequest, found: &mut Vec<String>) {
        for (name, expected) in [
            (":method", &expected.method),
            (":path", &expected.path),
            (":authority", &expected.host),
        ] {
            if let Some(expected) = expected {
                self.against_values(what, name, std::slice::from_ref(expected), found);
            }
        }
        self.against_headers(what, &expected.headers, found);
        if let Some(body) = &expected.body
            && *body != self.body
        {
            found.push(format!(
                "{what}: body is {:?}, expected {body:?}",
                self.body
            ));
        }
    }

    fn against_response(&self, expected: &ExpectedResponse, found: &mut Vec<String>) {
        const WHAT: &str = "response";
        if let Some(status) = expected.status {
            self.against_values(WHAT, ":status", &[status.to_string()], found);
        }
        self.against_headers(WHAT, &expected.headers, found);
        if let Some(body) = &expected.body
            && *body != self.body
        {
            found.push(format!(
                "{WHAT}: body is {:?}, expected {body:?}",
                self.body
            ));
        }
        if let Some(part) = &expected.body_contains
            && !self.body.contains(part)
        {
            found.push(format!(
                "{WHAT}: body {:?} does not hold {part:?}",
                self.body
            ));
        }
    }

    fn against_headers(
        &self,
        what: &str,
        expected: &BTreeMap<String, ExpectedHeader>,
        found: &mut Vec<String>,
    ) {
        for (name, expected) in expected {
            let name = name.to_ascii_lowercase();
            match expected {
                ExpectedHeader::Absent(()) => self.against_values(what, &name, &[], found),
                ExpectedHeader::Is(values) => {
                    self.against_values(what, &name, &values.values(), found);
                }
                ExpectedHeader::Contains { contains } => {
                    let values = self.values(&name);
                    if !matches!(&values[..], [value] if value.contains(contains)) {
                        found.push(format!(
                            "{what}: {name} is {values:?}, expected one with {contains:?}"
                        ));
                    }
                }
            }
        }
    }

    fn against_values(&self, what: &str, name: &str, expected: &[String], found: &mut Vec<String>) {
        let values = self.values(name);
        if values != expected {
            found.push(format!(
                "{what}: {name} is {values:?}, expected {expected:?}"
            ));
        }
    }

    fn values(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }
}
