//! Which responses are replaced, and by what.

mod config;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tidegate_sdk::http::{Answer, Url};
use tidegate_sdk::template::{Source, Template};
use tidegate_sdk::{Reply, header};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    statuses: Vec<Statuses>,
    pages: Vec<Page>,
    backend: Option<Backend>,
    /// Headers of the replaced response that stay.
    keep: Vec<String>,
    /// Headers of the call about a request.
    call_headers: Vec<(String, Template)>,
}

/// A status or, from the first to the last, several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Statuses(u16, u16);

#[derive(Debug)]
struct Page {
    /// Empty for all that are replaced.
    statuses: Vec<Statuses>,
    content_type: String,
    body: String,
    status: Option<u16>,
}

/// A service that has the pages: ingress-nginx's default backend.
#[derive(Debug)]
pub struct Backend {
    /// The cluster that is called.
    pub cluster: String,
    /// The address.
    pub url: Url,
    /// The time that a call may take.
    pub timeout: Duration,
    use_status: bool,
}

/// What is kept of a request for its response.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    accept: Vec<u8>,
    /// Headers of a call about it.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Headers that describe a body and make no sense with another one.
const OF_THE_BODY: [&str; 8] = [
    "accept-ranges",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "etag",
    "last-modified",
    "transfer-encoding",
];

// === impl Policy ===

impl Policy {
    /// Whether responses of this status are replaced.
    #[must_use]
    pub fn intercepts(&self, status: u16) -> bool {
        self.statuses.iter().any(|statuses| statuses.hold(status))
    }

    /// What is needed of a request when its response comes.
    #[must_use]
    pub fn see(&self, source: &dyn Source) -> Seen {
        let headers = match self.backend {
            Some(_) => {
                let headers = self.call_headers.iter();
                let rendered =
                    headers.map(|(name, template)| (name.clone(), template.render(source)));
                rendered.filter(|(_, value)| !value.is_empty()).collect()
            }
            None => Vec::new(),
        };
        Seen {
            accept: source.header("accept").unwrap_or_default(),
            headers,
        }
    }

    /// The service that has pages.
    #[must_use]
    pub fn backend(&self) -> Option<&Backend> {
        self.backend.as_ref()
    }

    /// The headers that stay, with their values.
    #[must_use]
    pub fn kept(&self, values: impl Fn(&str) -> Vec<Vec<u8>>) -> Vec<(String, String)> {
        let names = self.keep.iter();
        let pairs = names.flat_map(|name| {
            values(name)
                .into_iter()
                .map(move |value| (name.clone(), value))
        });
        pairs
            .filter_map(|(name, value)| Some((name, text(&value)?)))
            .collect()
    }

    /// The page for a status. Of several, the one whose type the client likes best; the first where it does not say.
    #[must_use]
    pub fn page(&self, status: u16, seen: &Seen, kept: &[(String, String)]) -> Option<Reply> {
        let fitting = self.pages.iter().filter(|page| page.is_for(status));
        let mut best: Option<(&Page, u32)> = None;
        for page in fitting {
            let quality = quality(&seen.accept, &page.content_type);
            if best.is_none_or(|(_, other)| quality > other) {
                best = Some((page, quality));
            }
        }
        let (page, _) = best?;
        let reply = Reply::new(page.status.unwrap_or(status))
            .header("content-type", page.content_type.as_str())
            .body(page.body.as_str())
            .details("error_page");
        Some(with(reply, kept))
    }

    /// The reply of what the service has answered.
    #[must_use]
    pub fn reply_of(&self, status: u16, answer: &Answer, kept: &[(String, String)]) -> Reply {
        let use_status = self
            .backend
            .as_ref()
            .is_some_and(|backend| backend.use_status);
        let status = match answer.status {
            own @ 200..=599 if use_status => own,
            _ => status,
        };
        let mut reply = Reply::new(status)
            .body(answer.body.clone())
            .details("error_page");
        for name in [
            "content-type",
            "content-language",
            "cache-control",
            "location",
            "retry-after",
        ] {
            if let Some(value) = answer.header(name).and_then(text) {
                reply = reply.header(name, value);
            }
        }
        with(reply, kept)
    }
}

/// What is there already stays as it is.
fn with(mut reply: Reply, kept: &[(String, String)]) -> Reply {
    let given: Vec<String> = reply.headers.iter().map(|(name, _)| name.clone()).collect();
    let new = kept.iter().filter(|(name, _)| !given.contains(name));
    reply.headers.extend(new.cloned());
    reply
}

fn text(value: &[u8]) -> Option<String> {
    let value = std::str::from_utf8(value).ok()?;
    header::is_value(value.as_bytes()).then(|| value.to_owned())
}

/// How much an `Accept` header likes a type, in thousandths (RFC 9110 section 12.5.1).
fn quality(accept: &[u8], content_type: &str) -> u32 {
    let accept = std::str::from_utf8(accept).unwrap_or_default().trim();
    if accept.is_empty() {
        return 1000;
    }
    let wanted = content_type.split(';').next().unwrap_or_default().trim();
    let main = wanted.split('/').next().unwrap_or_default();
    let mut best = (0, 0);
    for member in accept.split(',') {
        let mut parts = member.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        let precision = if range.eq_ignore_ascii_case(wanted) {
            3
        } else if range
            .strip_suffix("/*")
            .is_some_and(|range| range.eq_ignore_ascii_case(main))
        {
            2
        } else if range == "*/*" {
            1
        } else {
            continue;
        };
        let quality = parts
            .find_map(|part| part.strip_prefix("q="))
            .map_or(1.0, |quality| {
                quality
                    .parse::<f32>()
                    .ok()
                    .filter(|quality| (0.0..=1.0).contains(quality))
                    .unwrap_or(0.0)
            });
        // The most precise range decides, however little it likes the type.
        if precision > best.0 {
            best = (precision, (quality * 1000.0) as u32);
        }
    }
    best.1
}

impl Page {
    fn is_for(&self, status: u16) -> bool {
        self.statuses.is_empty() || self.statuses.iter().any(|statuses| statuses.hold(status))
    }
}

impl Statuses {
    fn hold(self, status: u16) -> bool {
        (self.0..=self.1).contains(&status)
    }
}
