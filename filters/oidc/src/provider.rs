//! Calls of the provider: its discovery document and its token endpoint.

use std::rc::Rc;
use std::time::Duration;

use tidegate_jose::{Claims, Denied, Keys, Token};
use tidegate_sdk::flight::Flight;
use tidegate_sdk::{http, time, warn};

use crate::policy::metadata::Metadata;
use crate::policy::session::Session;
use crate::policy::token::{self, Tokens};
use crate::policy::{Authorized, Policy};

/// The provider.
#[derive(Debug)]
pub(crate) struct Provider {
    fetch: Flight<()>,
}

/// Why there are no tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The provider cannot be reached, or has troubles of its own.
    Unavailable,
    /// It refuses; holds its error code.
    Refused(String),
    /// Its answer is not to be believed; holds why.
    Wrong(String),
    /// The user lacks a claim that the configuration asks for.
    Claims,
}

/// The pause after the document could not be fetched.
const RETRY: Duration = Duration::from_secs(5);

impl Provider {
    pub(crate) fn new(policy: &Policy) -> Self {
        if let Some(metadata) = policy.discovery().known() {
            use_keys(policy, &metadata);
        }
        Self {
            fetch: Flight::new(),
        }
    }

    /// The provider's addresses; `None` while they cannot be had.
    pub(crate) async fn metadata(&self, policy: &Policy) -> Option<Rc<Metadata>> {
        if policy.discovery().is_due(time::now()) {
            self.fetch.run(async || fetch(policy).await).await;
        }
        policy.discovery().known()
    }

    /// A session for a code.
    pub(crate) async fn session(
        &self,
        policy: &Policy,
        authorized: &Authorized,
    ) -> Result<Session, Failure> {
        let tokens = self
            .tokens(policy, policy.code_body(authorized))
            .await
            .map_err(logged)?;
        let missing = || Failure::Wrong(String::from("the answer holds no ID token"));
        let text = tokens.id_token.clone().ok_or_else(missing);
        let (id_token, claims) = verify(policy, &text.map_err(logged)?)
            .await
            .map_err(logged)?;
        policy
            .new_session(tokens, &id_token, &claims, &authorized.login, time::now())
            .map_err(|problem| logged(Failure::Wrong(problem.to_owned())))
    }

    /// A session with renewed tokens.
    pub(crate) async fn renew(
        &self,
        policy: &Policy,
        session: &Session,
    ) -> Result<Session, Failure> {
        let refresh_token = session.refresh_token.as_deref().unwrap_or_default();
        let tokens = self
            .tokens(policy, policy.refresh_body(refresh_token))
            .await?;
        let claims = match &tokens.id_token {
            Some(text) => Some(verify(policy, text).await.map_err(logged)?.1),
            None => None,
        };
        policy
            .renewed(session, tokens, claims.as_deref(), time::now())
            .map_err(|problem| logged(Failure::Wrong(problem.to_owned())))
    }

    async fn tokens(&self, policy: &Policy, body: String) -> Result<Tokens, Failure> {
        let metadata = self.metadata(policy).await.ok_or(Failure::Unavailable)?;
        let mut call = http::Call::at(policy.token_cluster(), "POST", &metadata.token)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .timeout(policy.timeout())
            .body(body);
        if let Some(value) = policy.client_header() {
            call = call.header("authorization", value);
        }
        let answer = call.send().await.map_err(|error| {
            warn!("{error}");
            Failure::Unavailable
        })?;
        match answer.status {
            200 => Tokens::parse(&answer.body).map_err(Failure::Wrong),
            400..=499 if answer.status != 429 => {
                Err(Failure::Refused(token::error_code(&answer.body)))
            }
            status => {
                warn!("the token endpoint answers with status {status}");
                Err(Failure::Unavailable)
            }
        }
    }
}

async fn verify(policy: &Policy, text: &str) -> Result<(Token, Rc<Claims>), Failure> {
    let wrong = |problem: &str| Failure::Wrong(format!("the ID token is not believed: {problem}"));
    let id_token = Token::parse(text.as_bytes()).map_err(wrong)?;
    match policy.verifier().verify(&id_token).await {
        Ok(claims) => Ok((id_token, claims)),
        Err(Denied::NoKeys) => Err(Failure::Unavailable),
        Err(Denied::Claim | Denied::Scope(_)) => Err(Failure::Claims),
        Err(Denied::Invalid(problem)) => Err(wrong(problem)),
    }
}

/// Failures that somebody has to look at.
fn logged(failure: Failure) -> Failure {
    match &failure {
        Failure::Unavailable => {}
        Failure::Refused(error) => warn!("the token endpoint refuses: {error}"),
        Failure::Wrong(problem) => warn!("the token endpoint: {problem}"),
        Failure::Claims => warn!("a user lacks a claim that the configuration asks for"),
    }
    failure
}

async fn fetch(policy: &Policy) {
    let discovery = policy.discovery();
    let answer = http::Call::at(policy.cluster(), "GET", &discovery.url)
        .header("accept", "application/json")
        .timeout(policy.timeout())
        .send()
        .await;
    let problem = match answer {
        Ok(answer) if answer.status == 200 => match discovery.update(&answer.body, time::now()) {
            Ok(()) => {
                if let Some(metadata) = discovery.known() {
                    use_keys(policy, &metadata);
                }
                return;
            }
            Err(problem) => problem,
        },
        Ok(answer) => format!("the answer has status {}", answer.status),
        Err(error) => error.to_string(),
    };
    discovery.postpone(time::now() + RETRY);
    warn!(
        "the provider's addresses cannot be fetched from {}: {problem}",
        discovery.url
    );
}

fn use_keys(policy: &Policy, metadata: &Metadata) {
    if let Keys::Remote(store) = policy.verifier().keys() {
        store.set_url(metadata.jwks.clone());
    }
}
