//! Envoy's rate limit service: what it is asked about a request, and what its answer means. It counts for all replicas together.

use std::time::Duration;

use prost::Message as _;
use sha2::{Digest, Sha256};
use tidegate_sdk::{Reply, header};

use super::key::{Part, Request};
use super::proto::{
    Code, DescriptorStatus, Entry, HeaderValue, Limit, RateLimitDescriptor, RateLimitRequest,
    RateLimitResponse, Unit,
};
use super::{OnFailure, Verdict};

/// The service.
pub const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
/// Its method.
pub const METHOD: &str = "ShouldRateLimit";

/// What is configured of it.
#[derive(Debug)]
pub struct Service {
    pub(super) cluster: String,
    pub(super) domain: String,
    pub(super) descriptors: Vec<Descriptor>,
    pub(super) hits_addend: u32,
    pub(super) timeout: Duration,
    pub(super) on_failure: OnFailure,
    pub(super) failure_status: u16,
}

/// What is counted.
pub(super) type Descriptor = Vec<Named>;

/// A part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) key: String,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// The same for all requests.
    Constant(String),
    /// Of the request.
    Of(Part, Absent),
}

/// What is told where the request has no such value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// This: leaving a header out is no way around the limit.
    Default(String),
    /// Nothing: the descriptor is left out.
    Skip,
}

/// The longest value that the service gets as it is, in bytes. It makes keys of its store of them, and clients make headers as long as
/// they like.
const LONGEST: usize = 256;

// === impl Service ===

impl Service {
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

    /// The message about a request; `None` where no descriptor applies to it, and nothing is to be asked.
    #[must_use]
    pub fn request(&self, request: &dyn Request) -> Option<Vec<u8>> {
        let descriptors: Vec<RateLimitDescriptor> = self
            .descriptors
            .iter()
            .filter_map(|descriptor| {
                let entries = descriptor.iter().map(|named| named.entry(request));
                entries.collect::<Option<Vec<_>>>()
            })
            .map(|entries| RateLimitDescriptor { entries })
            .collect();
        if descriptors.is_empty() {
            return None;
        }
        let message = RateLimitRequest {
            domain: self.domain.clone(),
            descriptors,
            hits_addend: self.hits_addend,
        };
        Some(message.encode_to_vec())
    }

    /// What an answer means, after what the limits of this host have said. `refusal` is what a refused client gets; with `headers`
    /// it is told what is left.
    #[must_use]
    pub fn answered(
        &self,
        message: &[u8],
        local: Verdict,
        refusal: Reply,
        headers: bool,
    ) -> Verdict {
        let Ok(response) = RateLimitResponse::decode(message) else {
            return self.unanswered(local);
        };
        let over = match response.overall_code() {
            Code::Ok => false,
            Code::OverLimit => true,
            Code::Unknown => return self.unanswered(local),
        };
        let mut verdict = local;
        if headers {
            merge(&mut verdict.headers, &response.statuses);
        }
        verdict.added = pairs(&response.response_headers_to_add);
        verdict.request_headers = pairs(&response.request_headers_to_add);
        if over {
            let mut reply = match retry(&response.statuses) {
                Some(seconds) => refusal.header("retry-after", seconds.to_string()),
                None => refusal,
            };
            if !response.raw_body.is_empty() {
                reply.body = response.raw_body;
            }
            for (name, value) in verdict.headers.drain(..) {
                reply = reply.header(name, value);
            }
            for (name, value) in verdict.added.drain(..) {
                reply = reply.header(&name, value);
            }
            verdict.request_headers.clear();
            verdict.refusal = Some(reply.details("rate_limited_by_service"));
        }
        verdict
    }

    /// What happens when it does not answer, or says nothing that means anything.
    #[must_use]
    pub fn unanswered(&self, local: Verdict) -> Verdict {
        let refusal = match self.on_failure {
            OnFailure::Allow => None,
            OnFailure::Deny => Some(
                Reply::new(self.failure_status)
                    .body("The rate limit cannot be checked.\n")
                    .details("rate_limit_service_failed"),
            ),
        };
        Verdict {
            refusal,
            service_failed: true,
            ..local
        }
    }
}

// === impl Named ===

impl Named {
    fn entry(&self, request: &dyn Request) -> Option<Entry> {
        let value = match &self.value {
            Value::Constant(text) => text.clone(),
            Value::Of(part, absent) => match (part.text(request), absent) {
                (Some(value), _) => value,
                (None, Absent::Default(text)) => text.clone(),
                (None, Absent::Skip) => return None,
            },
        };
        Some(Entry {
            key: self.key.clone(),
            value,
        })
    }
}

impl Part {
    /// The key that the service knows it by where none is configured: Envoy's name, or the request's own.
    pub(super) fn default_key(&self) -> String {
        let name = match self {
            Self::Ip { .. } => "remote_address",
            Self::Header(name) | Self::Cookie(name) | Self::Claim(name) => name,
            Self::Path => "path",
            Self::Host => "host",
            Self::Method => "method",
        };
        name.to_owned()
    }

    /// The value as text: networks with their prefix; what is too long, or no text, as its digest.
    fn text(&self, request: &dyn Request) -> Option<String> {
        let value = self.value(request).filter(|value| !value.is_empty())?;
        let visible = |text: &String| text.len() <= LONGEST && !text.contains(char::is_control);
        let mut text = match String::from_utf8(value) {
            Ok(text) if visible(&text) => text,
            Ok(text) => digest(text.as_bytes()),
            Err(error) => digest(error.as_bytes()),
        };
        if let Self::Ip {
            v4_prefix,
            v6_prefix,
        } = self
        {
            let (bits, all) = match text.contains(':') {
                true => (*v6_prefix, 128),
                false => (*v4_prefix, 32),
            };
            if bits < all {
                text = format!("{text}/{bits}");
            }
        }
        Some(text)
    }
}

fn digest(value: &[u8]) -> String {
    let digest = Sha256::digest(value);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Seconds until no limit that refuses does so any more.
fn retry(statuses: &[DescriptorStatus]) -> Option<u64> {
    let over = statuses
        .iter()
        .filter(|status| status.code() == Code::OverLimit);
    over.filter_map(reset).max().map(|seconds| seconds.max(1))
}

/// Seconds until a limit is whole again, rounded up.
fn reset(status: &DescriptorStatus) -> Option<u64> {
    let until = status.duration_until_reset.as_ref()?;
    let seconds = u64::try_from(until.seconds).ok()?;
    Some(seconds.saturating_add(u64::from(until.nanos > 0)))
}

/// Puts the service's limits behind those of this host: `RateLimit-Policy` and `RateLimit` are lists.
fn merge(headers: &mut Vec<(&'static str, String)>, statuses: &[DescriptorStatus]) {
    let mut policies = Vec::new();
    let mut limits = Vec::new();
    for status in statuses {
        let Some((limit, window)) = status
            .current_limit
            .as_ref()
            .and_then(|limit| Some((limit, seconds(limit.unit())?)))
        else {
            continue;
        };
        let name = name(limit);
        policies.push(format!(
            "\"{name}\";q={};w={window}",
            limit.requests_per_unit
        ));
        let left = match status.code() {
            Code::OverLimit => 0,
            _ => status.limit_remaining,
        };
        let mut member = format!("\"{name}\";r={left}");
        if let Some(reset) = reset(status) {
            member.push_str(&format!(";t={reset}"));
        }
        limits.push(member);
    }
    for (header, members) in [("ratelimit-policy", policies), ("ratelimit", limits)] {
        if members.is_empty() {
            continue;
        }
        let members = members.join(", ");
        match headers.iter_mut().find(|(name, _)| *name == header) {
            Some((_, value)) => {
                value.push_str(", ");
                value.push_str(&members);
            }
            None => headers.push((header, members)),
        }
    }
}

/// A limit's name as a quoted string may hold it.
fn name(limit: &Limit) -> String {
    let unit = match limit.unit() {
        Unit::Unknown => "unit",
        Unit::Second => "second",
        Unit::Minute => "minute",
        Unit::Hour => "hour",
        Unit::Day => "day",
        Unit::Week => "week",
        Unit::Month => "month",
        Unit::Year => "year",
    };
    if limit.name.is_empty() {
        return format!("{}-per-{unit}", limit.requests_per_unit);
    }
    let quotable = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    limit
        .name
        .chars()
        .map(|c| if quotable(c) { c } else { '-' })
        .take(64)
        .collect()
}

fn seconds(unit: Unit) -> Option<u64> {
    const DAY: u64 = 86_400;
    match unit {
        Unit::Unknown => None,
        Unit::Second => Some(1),
        Unit::Minute => Some(60),
        Unit::Hour => Some(3600),
        Unit::Day => Some(DAY),
        Unit::Week => Some(7 * DAY),
        Unit::Month => Some(30 * DAY),
        Unit::Year => Some(365 * DAY),
    }
}

/// Headers that may be set; what is none, or says how a message is framed, is left out.
fn pairs(headers: &[HeaderValue]) -> Vec<(String, String)> {
    const FRAMING: [&str; 6] = [
        "connection",
        "content-length",
        "host",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    let pairs = headers.iter().filter_map(|header| {
        let name = header.key.to_ascii_lowercase();
        let value = match header.raw_value.is_empty() {
            true => header.value.clone(),
            false => String::from_utf8(header.raw_value.clone()).ok()?,
        };
        let fine = header::is_token(name.as_bytes())
            && header::is_value(value.as_bytes())
            && !FRAMING.contains(&name.as_str());
        fine.then_some((name, value))
    });
    pairs.collect()
}
