//! When requests are answered with 503: windows of each day, in UTC, and paths that stay open.

use std::time::Duration;

use serde::Deserialize;
use tidegate_sdk::{ConfigError, Reply, config, template};

/// A configuration that was checked.
#[derive(Debug)]
pub struct Policy {
    windows: Vec<Window>,
    exempt: Vec<String>,
    text: String,
}

/// A part of each day, in seconds since midnight. It goes past midnight where its end is before its begin.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: u64,
    until: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    windows: Vec<WindowConfig>,
    #[serde(default)]
    exempt: Vec<String>,
    #[serde(default = "default_text")]
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowConfig {
    from: String,
    until: String,
}

const DAY: u64 = 24 * 60 * 60;

fn default_text() -> String {
    String::from("Back soon.\n")
}

impl Policy {
    /// Reads the JSON text of a configuration.
    ///
    /// # Errors
    ///
    /// No windows, times that are none, paths that do not begin with a slash.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(text)?;
        if config.windows.is_empty() {
            return Err(ConfigError::new("windows", "name at least one window"));
        }
        for (at, path) in config.exempt.iter().enumerate() {
            if !path.starts_with('/') {
                return Err(ConfigError::new(
                    format!("exempt[{at}]"),
                    "a path begins with a slash",
                ));
            }
        }
        let windows = config.windows.iter().enumerate();
        Ok(Self {
            windows: windows
                .map(|(at, window)| Window::parse(window, &format!("windows[{at}]")))
                .collect::<Result<_, _>>()?,
            exempt: config.exempt,
            text: config.text,
        })
    }

    /// Lets a request pass at a time since 1970.
    ///
    /// # Errors
    ///
    /// The answer while a window is open.
    pub fn check(&self, path: &[u8], now: Duration) -> Result<(), Reply> {
        let (path, _) = template::split(path);
        if self.exempt.iter().any(|prefix| is_under(path, prefix)) {
            return Ok(());
        }
        let second = now.as_secs() % DAY;
        let left = self.windows.iter().filter_map(|window| window.left(second));
        left.max().map_or(Ok(()), |left| {
            Err(Reply::new(503)
                .header("retry-after", left.to_string())
                .header("cache-control", "no-store")
                .body(self.text.as_str())
                .details("maintenance"))
        })
    }
}

/// Whether a path is the prefix or lies under it, by segments.
fn is_under(path: &[u8], prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/').as_bytes();
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

impl Window {
    fn parse(window: &WindowConfig, field: &str) -> Result<Self, ConfigError> {
        let time = |text: &str, name: &str| {
            seconds(text).ok_or_else(|| {
                let wrong = format!("{text:?} is no time of day from 00:00 to 24:00");
                ConfigError::new(format!("{field}.{name}"), wrong)
            })
        };
        let parsed = Self {
            from: time(&window.from, "from")?,
            until: time(&window.until, "until")?,
        };
        if parsed.from == parsed.until {
            return Err(ConfigError::new(field, "is empty: it ends when it begins"));
        }
        Ok(parsed)
    }

    /// Seconds until the window closes, while it is open.
    fn left(self, now: u64) -> Option<u64> {
        let Self { from, until } = self;
        if from < until {
            return (from..until).contains(&now).then(|| until - now);
        }
        if now >= from {
            return Some(DAY - now + until);
        }
        (now < until).then(|| until - now)
    }
}

/// `02:30` in seconds since midnight.
fn seconds(text: &str) -> Option<u64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let seconds = hours * 3600 + minutes * 60;
    (minutes < 60 && seconds <= DAY).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64, minutes: u64) -> Duration {
        Duration::from_secs(20_000 * DAY + hours * 3600 + minutes * 60)
    }

    fn retry_after(reply: &Reply) -> &str {
        let mut headers = reply.headers.iter();
        let found = headers.find(|(name, _)| name == "retry-after");
        &found.expect("it says when").1
    }

    #[test]
    fn a_window_past_midnight() {
        let policy = Policy::parse(br#"{"windows": [{"from": "23:00", "until": "01:00"}]}"#)
            .expect("it is good");
        for (hours, minutes, left) in [(23, 0, "7200"), (0, 0, "3600"), (0, 59, "60")] {
            let refusal = policy.check(b"/", at(hours, minutes)).expect_err("closed");
            assert_eq!(retry_after(&refusal), left);
        }
        assert!(policy.check(b"/", at(1, 0)).is_ok());
        assert!(policy.check(b"/", at(22, 59)).is_ok());
    }

    #[test]
    fn times_of_day() {
        assert_eq!(seconds("00:00"), Some(0));
        assert_eq!(seconds("24:00"), Some(DAY));
        for text in [
            "", "2:00", "24:01", "12:60", "12", "+1:00", "12:0a", "12:000",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn errors_name_the_field() {
        for (text, field) in [
            (r#"{}"#, "windows"),
            (
                r#"{"windows": [{"from": "02:00", "until": "25:00"}]}"#,
                "windows[0].until",
            ),
            (
                r#"{"windows": [{"from": "02:00", "until": "02:00"}]}"#,
                "windows[0]",
            ),
            (
                r#"{"windows": [{"from": "02:00", "until": "03:00"}], "exempt": ["healthz"]}"#,
                "exempt[0]",
            ),
        ] {
            let error = Policy::parse(text.as_bytes()).expect_err(text);
            assert_eq!(error.field(), field, "{text}");
        }
    }
}
