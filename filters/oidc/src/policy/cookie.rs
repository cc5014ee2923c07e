//! Cookies: their names, their attributes, and values that are too long for one.
//!
//! ```text
//!   NAME=2.first-piece   NAME.1=second-piece      a session
//!   NAME.login.abcdefgh=…                         a log-in under way, named after its state: several tabs do not disturb each other
//! ```

use std::time::Duration;

use tidegate_sdk::header;

/// Browsers keep 4,096 bytes of name, value and attributes (RFC 6265 section 6.1).
const PIECE: usize = 3800;

/// Cookies of one session. Servers take some 16 KiB of headers.
const MAX_PIECES: usize = 3;

/// The longest session in bytes as it is sealed.
pub const MAX_SESSION: usize = PIECE * MAX_PIECES - 2;

/// Log-ins under way whose cookies a browser keeps; the next one clears them.
const MAX_LOGINS: usize = 5;

/// Letters of a state that stand in its cookie's name.
const STATE: usize = 8;

/// How this filter's cookies are called and what stands behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookies {
    /// Name of the session's.
    pub name: String,
    /// `; Path=/; …`
    pub attributes: String,
}

impl Cookies {
    /// Whether a cookie of this name is one of this filter's.
    #[must_use]
    pub fn is_own(&self, name: &str) -> bool {
        match name.strip_prefix(&self.name) {
            Some("") => true,
            Some(rest) => rest.strip_prefix('.').is_some_and(|rest| {
                rest.starts_with("login.") || rest.bytes().all(|byte| byte.is_ascii_digit())
            }),
            None => false,
        }
    }

    /// The sealed session in the values of `cookie` headers.
    #[must_use]
    pub fn session(&self, values: &[Vec<u8>]) -> Option<String> {
        let first = text(header::cookie(values, &self.name)?)?;
        let (count, first) = first.split_once('.')?;
        let count: usize = count.parse().ok().filter(|count| *count <= MAX_PIECES)?;
        let mut sealed = first.to_owned();
        for index in 1..count {
            sealed.push_str(text(header::cookie(values, &self.piece(index))?)?);
        }
        Some(sealed)
    }

    /// The sealed log-in of a state.
    #[must_use]
    pub fn login<'a>(&self, values: &'a [Vec<u8>], state: &str) -> Option<&'a str> {
        text(header::cookie(values, &self.login_name(state)?)?)
    }

    /// `Set-Cookie` lines for a sealed session; `before` are the cookies that the browser has, whose further pieces go.
    ///
    /// # Errors
    ///
    /// Its length, if that is too much.
    pub fn set_session(
        &self,
        sealed: &str,
        lifetime: Duration,
        before: &[Vec<u8>],
    ) -> Result<Vec<String>, usize> {
        if sealed.len() > MAX_SESSION {
            return Err(sealed.len());
        }
        let count = (sealed.len() + 2).div_ceil(PIECE);
        let text = format!("{count}.{sealed}");
        let pieces = text.as_bytes().chunks(PIECE).enumerate();
        let mut lines: Vec<String> = pieces
            .map(|(index, piece)| {
                self.line(
                    &self.piece(index),
                    &String::from_utf8_lossy(piece),
                    lifetime,
                )
            })
            .collect();
        let stale = (count..MAX_PIECES)
            .map(|index| self.piece(index))
            .filter(|name| header::cookie(before, name).is_some());
        lines.extend(stale.map(|name| self.line(&name, "", Duration::ZERO)));
        Ok(lines)
    }

    /// `Set-Cookie` lines for a log-in that begins.
    #[must_use]
    pub fn set_login(
        &self,
        state: &str,
        sealed: &str,
        lifetime: Duration,
        before: &[Vec<u8>],
    ) -> Vec<String> {
        let logins = self.own(before, |rest| rest.starts_with(".login."));
        let mut lines = Vec::new();
        if logins.len() >= MAX_LOGINS {
            lines.extend(
                logins
                    .iter()
                    .map(|name| self.line(name, "", Duration::ZERO)),
            );
        }
        let name = self.login_name(state).unwrap_or_default();
        lines.push(self.line(&name, sealed, lifetime));
        lines
    }

    /// A `Set-Cookie` line that ends a log-in.
    #[must_use]
    pub fn clear_login(&self, state: &str) -> Option<String> {
        Some(self.line(&self.login_name(state)?, "", Duration::ZERO))
    }

    /// `Set-Cookie` lines that end the session and all log-ins that the browser has.
    #[must_use]
    pub fn clear(&self, before: &[Vec<u8>]) -> Vec<String> {
        let mut names = self.own(before, |_| true);
        if !names.contains(&self.name) {
            names.push(self.name.clone());
        }
        let names = names.iter();
        names
            .map(|name| self.line(name, "", Duration::ZERO))
            .collect()
    }

    fn own(&self, values: &[Vec<u8>], wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let pairs = values
            .iter()
            .flat_map(|value| value.split(|byte| *byte == b';'));
        for pair in pairs {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or(pair);
            let Some(name) = text(name.trim_ascii()) else {
                continue;
            };
            // What the client sends becomes a header of ours here.
            let fine = header::is_token(name.as_bytes()) && self.is_own(name);
            if fine && wanted(&name[self.name.len()..]) && !names.iter().any(|seen| seen == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    fn piece(&self, index: usize) -> String {
        match index {
            0 => self.name.clone(),
            _ => format!("{}.{index}", self.name),
        }
    }

    /// `None` for what is no state of ours.
    fn login_name(&self, state: &str) -> Option<String> {
        let letters = state.get(..STATE)?;
        let fine = letters
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        fine.then(|| format!("{}.login.{letters}", self.name))
    }

    fn line(&self, name: &str, value: &str, lifetime: Duration) -> String {
        let seconds = lifetime.as_secs();
        format!("{name}={value}; Max-Age={seconds}{}", self.attributes)
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
