//! Which requests are delayed or aborted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tidegate_sdk::config::Span;
use tidegate_sdk::{ConfigError, Reply, config};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    delay: Option<(Share, Duration)>,
    abort: Option<(Share, u16, String)>,
    headers: Vec<(String, String)>,
    max_delayed: u32,
}

/// A part of all requests.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share(f64);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    delay: Option<DelayConfig>,
    abort: Option<AbortConfig>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default = "default_max_delayed")]
    max_delayed: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DelayConfig {
    #[serde(default = "default_percent")]
    percent: f64,
    time: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct AbortConfig {
    #[serde(default = "default_percent")]
    percent: f64,
    status: u16,
    #[serde(default = "default_body")]
    body: String,
}

fn default_percent() -> f64 {
    100.0
}

fn default_body() -> String {
    String::from("fault filter abort\n")
}

fn default_max_delayed() -> u32 {
    1000
}

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// Unknown fields, percentages out of 0 to 100, statuses that are none.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        let delay = config
            .delay
            .map(|delay| Ok((share("delay.percent", delay.percent)?, delay.time.0)));
        let abort = config.abort.map(|abort| {
            if !(200..=599).contains(&abort.status) {
                return Err(ConfigError::new(
                    "abort.status",
                    "is no final status; 200 to 599 are",
                ));
            }
            Ok((
                share("abort.percent", abort.percent)?,
                abort.status,
                abort.body,
            ))
        });
        Ok(Self {
            delay: delay.transpose()?,
            abort: abort.transpose()?,
            headers: config.headers.into_iter().collect(),
            max_delayed: config.max_delayed,
        })
    }

    /// Whether a request has the headers that are wanted.
    #[must_use]
    pub fn concerns(&self, header: &dyn Fn(&str) -> Option<Vec<u8>>) -> bool {
        let has =
            |(name, value): &(String, String)| header(name).as_deref() == Some(value.as_bytes());
        self.headers.iter().all(has)
    }

    /// Whether any request can be delayed.
    #[must_use]
    pub fn delays(&self) -> bool {
        self.delay.is_some()
    }

    /// How long this request is delayed. `random` gives evenly distributed numbers.
    pub fn delay(&self, random: impl FnOnce() -> u32) -> Option<Duration> {
        let (share, time) = self.delay?;
        share.holds(random).then_some(time)
    }

    /// What answers this request.
    pub fn abort(&self, random: impl FnOnce() -> u32) -> Option<Reply> {
        let (share, status, body) = self.abort.as_ref()?;
        let reply = Reply::new(*status)
            .body(body.as_str())
            .details("fault_filter_abort");
        share.holds(random).then_some(reply)
    }

    /// How many requests are delayed at a time, in each VM.
    #[must_use]
    pub fn max_delayed(&self) -> u32 {
        self.max_delayed
    }
}

fn share(field: &str, percent: f64) -> Result<Share, ConfigError> {
    match (0.0..=100.0).contains(&percent) {
        true => Ok(Share(percent / 100.0)),
        false => Err(ConfigError::new(field, "must be between 0 and 100")),
    }
}

impl Share {
    fn holds(self, random: impl FnOnce() -> u32) -> bool {
        match self.0 {
            0.0 => false,
            1.0 => true,
            share => f64::from(random()) < share * (f64::from(u32::MAX) + 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let holds = |percent, random| share("x", percent).unwrap().holds(|| random);
        assert!(!holds(0.0, 0) && holds(100.0, u32::MAX));
        assert!(holds(50.0, 0x7fff_ffff) && !holds(50.0, 0x8000_0000));
        assert!(holds(0.0001, 0) && !holds(0.0001, 1 << 20));
    }

    #[test]
    fn errors_name_the_field() {
        for (text, field) in [
            (
                r#"{"delay": {"percent": 101, "time": "1s"}}"#,
                "/delay/percent",
            ),
            (r#"{"delay": {"time": "1"}}"#, "/delay/time"),
            (r#"{"abort": {"status": 100}}"#, "/abort/status"),
            (
                r#"{"abort": {"status": 503, "percent": -1}}"#,
                "/abort/percent",
            ),
        ] {
            assert_eq!(
                Policy::parse(text.as_bytes()).unwrap_err().pointer(),
                field,
                "{text}"
            );
        }
    }
}
