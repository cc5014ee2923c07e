//! How calls end: the statuses of gRPC, and what becomes one.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use tidegate_wasm::grpc_status_of;

use crate::callout::reset_text;
use crate::error::Error;

/// Largest number in `grpc-timeout`: eight digits.
const MOST_TIMEOUT: u128 = 99_999_999;

/// A status and its message, percent-encoded as it came: Envoy gives it to guests so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: u32,
    pub(super) message: String,
}

impl Status {
    const UNKNOWN: u32 = 2;
    const RESOURCE_EXHAUSTED: u32 = 8;
    const INTERNAL: u32 = 13;
    const UNAVAILABLE: u32 = 14;

    fn new(code: u32, message: &str) -> Self {
        Self {
            code,
            message: message.to_owned(),
        }
    }

    pub(super) fn unknown(message: &str) -> Self {
        Self::new(Self::UNKNOWN, message)
    }

    pub(super) fn internal(message: &str) -> Self {
        Self::new(Self::INTERNAL, message)
    }

    pub(super) fn exhausted(message: &str) -> Self {
        Self::new(Self::RESOURCE_EXHAUSTED, message)
    }

    pub(super) fn unavailable(message: &str) -> Self {
        Self::new(Self::UNAVAILABLE, message)
    }

    /// Envoy's answer to a call that takes too long; 14 and not 4, since it begins as a 504.
    pub(super) fn timeout() -> Self {
        Self::unavailable("upstream request timeout")
    }

    /// No response came. Envoy says so with a local 503, which becomes a 14.
    pub(super) fn of_error(error: &Error) -> Self {
        Self::unavailable(&reset_text(error))
    }

    pub(super) fn is_ok(&self) -> bool {
        self.code == 0
    }

    /// What trailers say: no status is an unknown one, and so is one that gRPC does not know.
    pub(super) fn of_trailers(trailers: &HeaderMap) -> Self {
        let text = |name| trailers.get(name).map(HeaderValue::as_bytes);
        let code = text("grpc-status")
            .and_then(|code| std::str::from_utf8(code).ok()?.parse().ok())
            .filter(|code| *code <= 16)
            .unwrap_or(Self::UNKNOWN);
        let message = text("grpc-message").unwrap_or_default();
        Self {
            code,
            message: String::from_utf8_lossy(message).into_owned(),
        }
    }

    /// "HTTP to gRPC Status Code Mapping" of gRPC.
    pub(super) fn of_http(status: StatusCode) -> Self {
        Self::new(
            grpc_status_of(status),
            &format!("the response has HTTP status {}", status.as_u16()),
        )
    }
}

/// `grpc-timeout`: in the finest unit that eight digits hold.
pub(super) fn timeout_value(timeout: Duration) -> HeaderValue {
    let units = [
        (timeout.as_millis(), 'm'),
        (u128::from(timeout.as_secs()), 'S'),
        (u128::from(timeout.as_secs() / 60), 'M'),
    ];
    let hours = (u128::from(timeout.as_secs() / 3600).min(MOST_TIMEOUT), 'H');
    let (number, unit) = units
        .into_iter()
        .find(|(number, _)| *number <= MOST_TIMEOUT)
        .unwrap_or(hours);
    HeaderValue::from_str(&format!("{number}{unit}")).expect("digits and a letter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_trailers() {
        let status = |fields: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.insert(*name, HeaderValue::from_static(value));
            }
            let status = Status::of_trailers(&map);
            (status.code, status.message)
        };
        assert_eq!(status(&[("grpc-status", "0")]), (0, String::new()));
        assert_eq!(
            status(&[("grpc-status", "5"), ("grpc-message", "no%20such")]),
            (5, "no%20such".to_owned())
        );
        for wrong in ["", "-1", "17", "x", "99999999999999999999"] {
            assert_eq!(status(&[("grpc-status", wrong)]).0, 2, "{wrong:?}");
        }
        assert_eq!(status(&[]).0, 2);
    }

    #[test]
    fn statuses_of_http() {
        let code = |status: u16| Status::of_http(StatusCode::from_u16(status).expect("one")).code;
        let seen = [400, 401, 403, 404, 429, 502, 503, 504, 500, 302, 204].map(code);
        assert_eq!(seen, [13, 16, 7, 12, 14, 14, 14, 14, 2, 2, 2]);
    }

    #[test]
    fn timeouts_fit_eight_digits() {
        let seconds = Duration::from_secs;
        for (timeout, expected) in [
            (Duration::from_millis(1), "1m"),
            (seconds(99_999), "99999000m"),
            (seconds(100_000), "100000S"),
            (seconds(99_999_999), "99999999S"),
            (seconds(120_000_000), "2000000M"),
            (seconds(60 * 100_000_000), "1666666H"),
            (seconds(u64::MAX), "99999999H"),
        ] {
            assert_eq!(timeout_value(timeout), expected);
        }
    }
}
