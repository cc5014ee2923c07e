//! Sessions out of tokens, new and renewed, and the cookies that keep them.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tidegate_jose::{Claims, Token};
use tidegate_sdk::{Reply, header};

use super::login::Login;
use super::reply::not_stored;
use super::seal::{NONCE, Purpose};
use super::session::Session;
use super::token::{self, Tokens};
use super::{Head, Policy, cookie};

/// Names a refresh token without giving it away.
pub type Digest = [u8; 32];

impl Policy {
    /// A session from tokens whose ID token was verified. `before` is the session that they renew, whose user they have to have.
    ///
    /// # Errors
    ///
    /// What is wrong with the tokens.
    pub fn new_session(
        &self,
        tokens: Tokens,
        id_token: &Token,
        claims: &Claims,
        login: &Login,
        now: Duration,
    ) -> Result<Session, &'static str> {
        token::check_id_token(claims, &self.client, Some(&login.nonce))?;
        if let Some(access_token) = &tokens.access_token {
            token::check_access_token(id_token, claims, access_token)?;
        }
        let mut session = Session {
            subject: claims.text("sub").unwrap_or_default().to_owned(),
            begun: now.as_secs(),
            expires: tokens.expires(exp(claims), now),
            claims: Default::default(),
            id_token: None,
            access_token: None,
            refresh_token: None,
        };
        self.take(&mut session, tokens, Some(claims));
        Ok(session)
    }

    /// A session with renewed tokens. Claims are those of a new ID token, if there is one.
    ///
    /// # Errors
    ///
    /// What is wrong with the tokens.
    pub fn renewed(
        &self,
        before: &Session,
        tokens: Tokens,
        claims: Option<&Claims>,
        now: Duration,
    ) -> Result<Session, &'static str> {
        if let Some(claims) = claims {
            token::check_id_token(claims, &self.client, None)?;
            if claims.text("sub") != Some(&before.subject) {
                return Err("the new ID token is another user's (sub)");
            }
        }
        let mut session = before.clone();
        session.expires = tokens.expires(claims.and_then(exp), now);
        self.take(&mut session, tokens, claims);
        Ok(session)
    }

    /// Puts into a session what is needed of tokens.
    fn take(&self, session: &mut Session, tokens: Tokens, claims: Option<&Claims>) {
        if let Some(claims) = claims {
            let headers = self.claim_headers.iter().map(|(_, claim)| claim);
            let wanted = headers.chain(&self.claim_properties);
            session.claims = wanted
                .filter_map(|name| Some((name.clone(), claims.header_value(name)?)))
                .collect();
        }
        // What a provider does not send anew stays.
        if self.keeps_id_token && tokens.id_token.is_some() {
            session.id_token = tokens.id_token;
        }
        // It becomes a header as it is.
        let fits = |token: &String| header::is_value(token.as_bytes());
        if let (true, Some(token)) = (self.forwards_access_token, tokens.access_token.filter(fits))
        {
            session.access_token = Some(token);
        }
        if tokens.refresh_token.is_some() {
            session.refresh_token = tokens.refresh_token;
        }
    }

    /// Seals a session.
    #[must_use]
    pub fn seal_session(&self, session: &Session, nonce: [u8; NONCE]) -> String {
        let text = serde_json::to_vec(session).expect("a struct of texts is JSON");
        self.seal.seal(Purpose::Session, nonce, &text)
    }

    /// `Set-Cookie` lines of a sealed session.
    ///
    /// # Errors
    ///
    /// The answer where the provider's tokens do not fit into cookies.
    pub fn session_cookies(
        &self,
        head: &Head,
        session: &Session,
        sealed: &str,
        now: Duration,
    ) -> Result<Vec<String>, Reply> {
        let left = session.left(self.session_lifetime, now);
        let lines = self.cookies.set_session(sealed, left, &head.cookies);
        lines.map_err(|size| {
            let text = format!(
                "The session takes {size} bytes of cookies, {} are kept. Let the provider make smaller tokens, or keep less of them.\n",
                cookie::MAX_SESSION
            );
            not_stored(500, text, "oidc_session_too_large")
        })
    }

    /// What names a session's refresh token; `None` where it has none.
    #[must_use]
    pub fn refresh_digest(&self, session: &Session) -> Option<Digest> {
        let mut digest = Sha256::new();
        for part in [&self.issuer, &self.client, session.refresh_token.as_ref()?] {
            digest.update(part.as_bytes());
            digest.update([0]);
        }
        Some(digest.finalize().into())
    }

    /// The body of the call that renews tokens.
    #[must_use]
    pub fn refresh_body(&self, refresh_token: &str) -> String {
        let pairs = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
        ];
        self.auth.body(&self.client, &pairs)
    }
}

fn exp(claims: &Claims) -> Option<u64> {
    let exp = claims.get("exp")?;
    exp.as_u64()
        .or_else(|| Some(Duration::try_from_secs_f64(exp.as_f64()?).ok()?.as_secs()))
}
