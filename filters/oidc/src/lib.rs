//! Bundled filter `oidc`: log-in with OpenID Connect, sessions in encrypted cookies. See README.md.

pub mod policy;
mod provider;
mod refresh;

use tidegate_sdk::credential::apply;
use tidegate_sdk::template::CLAIMS;
use tidegate_sdk::{ConfigError, Filter, Reply, Request, Response, property, time, warn};

use policy::reply::not_stored;
use policy::session::Session;
use policy::{Asks, Head, Policy, Step};
use provider::{Failure, Provider};
use refresh::{Outcome, Refreshes};

tidegate_sdk::filter!(Plugin, "../schema.json");

/// The filter.
#[derive(Debug)]
pub struct Plugin {
    policy: Policy,
    provider: Provider,
    refreshes: Refreshes,
}

impl Filter for Plugin {
    /// `Set-Cookie` lines of a session that was renewed.
    type Memo = Vec<String>;

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        let policy = Policy::parse(configuration)?;
        Ok(Self {
            provider: Provider::new(&policy),
            refreshes: Refreshes::default(),
            policy,
        })
    }

    async fn request(&self, request: &Request) -> Result<Vec<String>, Reply> {
        let head = head(request);
        match self.policy.step(&head) {
            Step::Pass => {
                apply(request.headers(), self.policy.edits(&head, None));
                Ok(Vec::new())
            }
            Step::Protected => self.protected(request, &head).await,
            Step::Callback => Err(self.callback(&head).await),
            Step::Logout => Err(self.log_out(&head).await),
        }
    }

    async fn response(&self, response: &Response, cookies: Vec<String>) -> Result<(), Reply> {
        for line in cookies {
            response.headers().add("set-cookie", line);
        }
        Ok(())
    }
}

impl Plugin {
    async fn protected(&self, request: &Request, head: &Head) -> Result<Vec<String>, Reply> {
        let now = time::now();
        let Some(session) = self.policy.session(head, now) else {
            return Err(self.log_in(request, head).await);
        };
        if session.is_fresh(now) {
            self.pass(request, head, &session);
            return Ok(Vec::new());
        }
        let renewed = self
            .refreshes
            .run(&self.policy, &self.provider, &session)
            .await;
        match renewed {
            Outcome::Renewed(session, sealed) => {
                let now = time::now();
                let cookies = self.policy.session_cookies(head, &session, &sealed, now)?;
                self.pass(request, head, &session);
                Ok(cookies)
            }
            Outcome::Over => Err(self.log_in(request, head).await),
            Outcome::Unavailable => Err(unavailable()),
        }
    }

    fn pass(&self, request: &Request, head: &Head, session: &Session) {
        for (name, value) in self.policy.properties(session) {
            property::set(&[CLAIMS, name], value.as_bytes());
        }
        apply(request.headers(), self.policy.edits(head, Some(session)));
    }

    async fn log_in(&self, request: &Request, head: &Head) -> Reply {
        if is_websocket(request) || !head.asks.for_a_page(&head.method) {
            return self.policy.unauthorized();
        }
        let Some(metadata) = self.provider.metadata(&self.policy).await else {
            return unavailable();
        };
        let (Ok(entropy), Ok(nonce)) = (random(), random()) else {
            return unavailable();
        };
        self.policy
            .begin(head, &metadata, &entropy, nonce, time::now())
    }

    async fn callback(&self, head: &Head) -> Reply {
        let now = time::now();
        let authorized = match self.policy.authorized(head, now) {
            Ok(authorized) => authorized,
            // The back button, or a second click: this browser has what it wants.
            Err(reply) if reply.details == "oidc_unknown_login" => {
                return match self.policy.session(head, now) {
                    Some(_) => not_stored(303, "", "oidc_logged_in").header("location", "/"),
                    None => reply,
                };
            }
            Err(reply) => return reply,
        };
        let session = match self.provider.session(&self.policy, &authorized).await {
            Ok(session) => session,
            Err(failure) => return refused(&failure),
        };
        let Ok(nonce) = random() else {
            return unavailable();
        };
        let sealed = self.policy.seal_session(&session, nonce);
        let cookies = self
            .policy
            .session_cookies(head, &session, &sealed, time::now());
        match cookies {
            Ok(cookies) => self.policy.finish(&authorized.login, cookies),
            Err(reply) => {
                warn!("{}", String::from_utf8_lossy(&reply.body).trim_end());
                reply
            }
        }
    }

    async fn log_out(&self, head: &Head) -> Reply {
        let metadata = match self.policy.ends_session() {
            true => self.provider.metadata(&self.policy).await,
            false => None,
        };
        self.policy.log_out(head, metadata.as_deref())
    }
}

fn head(request: &Request) -> Head {
    let headers = request.headers();
    Head {
        method: request.method(),
        target: request.path(),
        scheme: request.scheme(),
        authority: request.authority(),
        cookies: headers.values("cookie"),
        authorization: headers.get("authorization"),
        asks: Asks {
            fetch_mode: headers.get("sec-fetch-mode"),
            requested_with: headers.get("x-requested-with"),
            accept: headers.get("accept"),
        },
    }
}

/// Whether a request opens a WebSocket. Some hosts hide `upgrade` from filters, and over HTTP/2 there is no key.
fn is_websocket(request: &Request) -> bool {
    let headers = request.headers();
    let upgrade = || headers.get("upgrade");
    headers.get("sec-websocket-key").is_some()
        || upgrade().is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

fn random<const N: usize>() -> Result<[u8; N], ()> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| warn!("the host gives no random bytes: {error}"))?;
    Ok(bytes)
}

fn unavailable() -> Reply {
    let text = "The log-in service cannot be reached. Try again later.\n";
    not_stored(503, text, "oidc_provider_unavailable")
}

/// What a user gets to see of a log-in that failed; the log has more.
fn refused(failure: &Failure) -> Reply {
    match failure {
        Failure::Unavailable => unavailable(),
        Failure::Claims => not_stored(
            403,
            "This account may not come in here.\n",
            "oidc_claims_refused",
        ),
        Failure::Refused(_) => not_stored(
            400,
            "The log-in has failed. Open the page again.\n",
            "oidc_code_refused",
        ),
        Failure::Wrong(_) => not_stored(
            502,
            "The log-in service has sent a wrong answer.\n",
            "oidc_wrong_tokens",
        ),
    }
}
