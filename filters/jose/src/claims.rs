//! Claims and what is wanted of them.

use std::time::Duration;

use serde_json::{Map, Value};
use tidegate_sdk::header;

use crate::Denied;

/// The claims of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

/// What tokens have to say.
#[derive(Debug, Default)]
pub struct Rules {
    /// One of these has to be among `aud`; none means any.
    pub audiences: Vec<String>,
    /// How much clocks may differ.
    pub clock_skew: Duration,
    /// Whether a token without `exp` is wrong.
    pub require_expiry: bool,
    /// The longest time since `iat`.
    pub max_age: Option<Duration>,
    /// All of these have to be in `scope` or `scp`.
    pub scopes: Vec<String>,
    /// Claims and the values of which they have to have one; none means that the claim has to be there.
    pub required: Vec<(String, Vec<Value>)>,
}

/// Longest claim that becomes a header.
const MAX_HEADER: usize = 4096;

// === impl Claims ===

impl Claims {
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        match serde_json::from_slice(json) {
            Ok(Value::Object(claims)) => Some(Self(claims)),
            _ => None,
        }
    }

    /// A claim by its name, or by a path with dots into nested ones (`realm_access.roles`).
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(path) {
            return Some(value);
        }
        let mut names = path.split('.');
        let first = self.0.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    }

    /// A claim that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A claim as a header carries it: text and numbers as they are, lists with commas, objects as JSON. `None` where it would not
    /// be a header's value.
    #[must_use]
    pub fn header_value(&self, path: &str) -> Option<String> {
        let value = match self.get(path)? {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            Value::Array(members) => {
                let members: Option<Vec<String>> = members.iter().map(member).collect();
                members?.join(",")
            }
            value => value.to_string(),
        };
        let fits =
            header::is_value(value.as_bytes()) && !value.is_empty() && value.len() <= MAX_HEADER;
        fits.then_some(value)
    }

    /// A time, seconds since the epoch. `Err` for what is none, so that a malformed one is not a missing one.
    fn time(&self, name: &str) -> Result<Option<f64>, Denied> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64().filter(|time| time.is_finite()) {
                Some(time) => Ok(Some(time)),
                None => Err(Denied::Invalid("A time in the token is malformed")),
            },
        }
    }
}

/// A member of a list; one with a comma in it would be two.
fn member(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    (!text.contains(',')).then_some(text)
}

// === impl Rules ===

impl Rules {
    pub(crate) fn check(
        &self,
        claims: &Claims,
        issuer: Option<&str>,
        now: Duration,
    ) -> Result<(), Denied> {
        if issuer.is_some() && claims.text("iss") != issuer {
            return Err(Denied::Invalid("The issuer is wrong"));
        }
        self.check_audience(claims)?;
        self.check_times(claims, now.as_secs_f64())?;
        self.check_scopes(claims)?;
        let fine = self
            .required
            .iter()
            .all(|(path, wanted)| satisfies(claims.get(path), wanted));
        if fine { Ok(()) } else { Err(Denied::Claim) }
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), Denied> {
        let wanted = |audience: &str| self.audiences.iter().any(|wanted| wanted == audience);
        let fine = self.audiences.is_empty()
            || match claims.0.get("aud") {
                Some(Value::String(audience)) => wanted(audience),
                Some(Value::Array(audiences)) => {
                    audiences.iter().filter_map(Value::as_str).any(wanted)
                }
                _ => false,
            };
        if fine {
            Ok(())
        } else {
            Err(Denied::Invalid("The audience is wrong"))
        }
    }

    /// `exp` is the first moment at which it is over, `nbf` the first at which it counts (RFC 7519 section 4.1).
    fn check_times(&self, claims: &Claims, now: f64) -> Result<(), Denied> {
        let skew = self.clock_skew.as_secs_f64();
        let (expiry, start) = (claims.time("exp")?, claims.time("nbf")?);
        let issued = claims.time("iat")?;
        match expiry {
            None if self.require_expiry => return Err(Denied::Invalid("The token has no expiry")),
            Some(expiry) if now >= expiry + skew => {
                return Err(Denied::Invalid("The token has expired"));
            }
            _ => {}
        }
        if start.is_some_and(|start| now + skew < start) {
            return Err(Denied::Invalid("The token is not valid yet"));
        }
        if let Some(max_age) = self.max_age {
            let fine = issued.is_some_and(|issued| now <= issued + max_age.as_secs_f64() + skew);
            if !fine {
                return Err(Denied::Invalid("The token is too old"));
            }
        }
        Ok(())
    }

    fn check_scopes(&self, claims: &Claims) -> Result<(), Denied> {
        if self.scopes.is_empty() {
            return Ok(());
        }
        let mut found: Vec<&str> = Vec::new();
        for name in ["scope", "scp"] {
            match claims.0.get(name) {
                Some(Value::String(text)) => found.extend(text.split(' ')),
                Some(Value::Array(members)) => {
                    found.extend(members.iter().filter_map(Value::as_str))
                }
                _ => {}
            }
        }
        match self
            .scopes
            .iter()
            .all(|scope| found.contains(&scope.as_str()))
        {
            true => Ok(()),
            false => Err(Denied::Scope(self.scopes.join(" "))),
        }
    }
}

/// Whether a claim is, or as a list holds, one of the values.
fn satisfies(claim: Option<&Value>, wanted: &[Value]) -> bool {
    match claim {
        None | Some(Value::Null) => false,
        Some(_) if wanted.is_empty() => true,
        Some(Value::Array(members)) => members.iter().any(|member| wanted.contains(member)),
        Some(value) => wanted.contains(value),
    }
}
