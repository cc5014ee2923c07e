//! The way to the provider and back.

use std::time::Duration;

use subtle::ConstantTimeEq;
use tidegate_sdk::{Reply, template};

use super::login::{self, Entropy, Login};
use super::metadata::Metadata;
use super::reply::{bad, not_stored, redirect, with_cookies};
use super::seal::{NONCE, Purpose};
use super::{Authorized, Head, Policy, token};

impl Policy {
    /// The redirect to the provider.
    #[must_use]
    pub fn begin(
        &self,
        head: &Head,
        metadata: &Metadata,
        entropy: &Entropy,
        nonce: [u8; NONCE],
        now: Duration,
    ) -> Reply {
        let login = Login::new(entropy, &head.target, self.callback.address(head), now);
        let text = serde_json::to_vec(&login).expect("a struct of texts is JSON");
        let sealed = self.seal.seal(Purpose::Login, nonce, &text);
        let address = login.address(
            &metadata.authorization,
            &self.client,
            &self.scope,
            &self.parameters,
        );
        let lines =
            self.cookies
                .set_login(&login.state, &sealed, self.login_lifetime, &head.cookies);
        with_cookies(redirect(302, address, "oidc_login"), lines)
    }

    /// The answer to a script, which cannot log in.
    #[must_use]
    pub fn unauthorized(&self) -> Reply {
        // A 401 needs a challenge (RFC 9110 section 11.6.1); no scheme is registered for sessions.
        not_stored(401, "A log-in is needed.\n", "oidc_no_session")
            .header("www-authenticate", "Cookie realm=\"login\"")
    }

    /// What the provider sends back.
    ///
    /// # Errors
    ///
    /// The answer to what is no answer of the provider to a log-in of this browser, or a refusal.
    pub fn authorized(&self, head: &Head, now: Duration) -> Result<Authorized, Reply> {
        let query = template::split(&head.target).1;
        let parameter = |name: &str| {
            let pairs = query.split(|byte| *byte == b'&');
            let mut found = pairs.filter_map(|pair| template::parameter(pair, name));
            let first = found.next();
            match found.next() {
                None => Ok(first.and_then(|value| String::from_utf8(value).ok())),
                Some(_) => Err(bad("A parameter is there twice.\n", "oidc_bad_callback")),
            }
        };
        let (state, code) = (parameter("state")?, parameter("code")?);
        let (error, issuer) = (parameter("error")?, parameter("iss")?);
        let state = state.unwrap_or_default();
        let over = || {
            let text =
                "This log-in has ended, or was begun in another browser. Open the page again.\n";
            bad(text, "oidc_unknown_login")
        };
        let login = self.login(head, &state, now).ok_or_else(over)?;
        let done = |reply: Reply| with_cookies(reply, self.cookies.clear_login(&state));
        if issuer.is_some_and(|issuer| issuer != self.issuer) {
            return Err(done(bad(
                "The answer comes from another provider.\n",
                "oidc_wrong_issuer",
            )));
        }
        match (error, code) {
            (Some(error), _) => Err(done(provider_refused(&error))),
            (None, Some(code)) if !code.is_empty() => Ok(Authorized { login, code }),
            _ => Err(done(bad(
                "The provider has sent no code.\n",
                "oidc_bad_callback",
            ))),
        }
    }

    /// The log-in of this state that this browser began.
    fn login(&self, head: &Head, state: &str, now: Duration) -> Option<Login> {
        let sealed = self.cookies.login(&head.cookies, state)?;
        let login: Login = serde_json::from_slice(&self.seal.open(Purpose::Login, sealed)?).ok()?;
        let same: bool = login.state.as_bytes().ct_eq(state.as_bytes()).into();
        let age = now.as_secs().saturating_sub(login.begun);
        (same && age <= self.login_lifetime.as_secs()).then_some(login)
    }

    /// The body of the call that turns a code into tokens.
    #[must_use]
    pub fn code_body(&self, authorized: &Authorized) -> String {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", &authorized.code),
            ("redirect_uri", &authorized.login.redirect_uri),
            ("code_verifier", &authorized.login.verifier),
        ];
        self.auth.body(&self.client, &pairs)
    }

    /// The end of a log-in: back to where it began, with a session.
    #[must_use]
    pub fn finish(&self, login: &Login, cookies: Vec<String>) -> Reply {
        // Once more, because it decides where a browser goes.
        let target = login::return_target(login.target.as_bytes());
        let reply = with_cookies(redirect(303, target, "oidc_logged_in"), cookies);
        with_cookies(reply, self.cookies.clear_login(&login.state))
    }
}

/// The answer to a log-in that the provider refuses (RFC 6749 section 4.1.2.1).
fn provider_refused(error: &str) -> Reply {
    let status = match error {
        "access_denied" => 403,
        "server_error" | "temporarily_unavailable" => 503,
        _ => 400,
    };
    let error = token::printable(error);
    not_stored(
        status,
        format!("The provider refuses the log-in: {error}.\n"),
        "oidc_provider_refused",
    )
}
