//! HTTP basic authentication (RFC 7617): who a request says it is, and whether its password is right.
//!
//! Pure: headers come in as bytes, the time and the secret of the cache's keys as values.

mod cache;
mod config;
mod credentials;
mod hash;
mod md5_crypt;
#[cfg(test)]
mod tests;
mod users;

use std::cell::RefCell;

use tidegate_sdk::Reply;

use cache::Cache;
use credentials::Credentials;
use users::Users;

/// A compiled configuration with what it remembers.
#[derive(Debug)]
pub struct BasicAuth {
    /// The value of `WWW-Authenticate`.
    challenge: String,
    users: Users,
    forward_user: Option<String>,
    strip_authorization: bool,
    cache: RefCell<Cache>,
}

// === impl BasicAuth ===

impl BasicAuth {
    /// The name of the user who sent these values of `Authorization`; `now` is the time in nanoseconds.
    ///
    /// # Errors
    ///
    /// The reply that asks for credentials.
    pub fn authenticate<V: AsRef<[u8]>>(
        &self,
        authorization: &[V],
        now: u64,
    ) -> Result<String, Reply> {
        self.check(authorization, now)
            .ok_or_else(|| self.unauthorized())
    }

    /// Header that carries the user's name upstream. What a client sent under this name never passes.
    #[must_use]
    pub fn forward_user(&self) -> Option<&str> {
        self.forward_user.as_deref()
    }

    /// Whether the upstream is not to see the credentials.
    #[must_use]
    pub fn strips_authorization(&self) -> bool {
        self.strip_authorization
    }

    /// What an operator should know about a configuration that is accepted all the same.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        let mut warnings = Vec::new();
        if self.users.is_empty() {
            warnings.push("users: names nobody, so every request is refused");
        }
        if self.users.are_slow() {
            warnings.push(
                "users: holds hashes that take half a second and more to check; raise limits.callTimeout or make them cheaper",
            );
        }
        warnings
    }

    fn check<V: AsRef<[u8]>>(&self, authorization: &[V], now: u64) -> Option<String> {
        // Two values are a mistake or an attack: what this filter reads need not be what the upstream reads.
        let [authorization] = authorization else {
            return None;
        };
        let credentials = Credentials::parse(authorization.as_ref())?;
        let Credentials { user, password } = &credentials;
        let mut cache = self.cache.borrow_mut();
        let key = cache.key(user, password);
        if !cache.contains(&key, now) {
            let stand_in = cache.key(user, b"");
            if !self.users.verify(user, password, &stand_in) {
                return None;
            }
            cache.insert(key, now);
        }
        Some(credentials.user)
    }

    fn unauthorized(&self) -> Reply {
        Reply::new(401)
            .header("www-authenticate", self.challenge.as_str())
            .body("401 Unauthorized\n")
    }
}
