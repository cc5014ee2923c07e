//! Talking to one repository of a registry: where it is, and who asks.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri};
use rustls::ClientConfig;
use tidegate_model::{ImageReference, Pull};

use super::client::{Answer, Ask, Client};
use super::error::FetchError;
use super::token::{self, Actions, Challenge};

const MOST_TOKEN: u64 = 64 << 10;

/// One client of one repository.
pub(super) struct Session<'a> {
    client: &'a Client,
    image: &'a ImageReference,
    pull: &'a Pull,
    tls: Arc<ClientConfig>,
    actions: Actions,
    scheme: &'static str,
    authorization: Option<HeaderValue>,
}

/// A request to the repository.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) to: To<'a>,
    pub(super) accept: &'static str,
    /// Kind and bytes.
    pub(super) content: Option<(&'static str, Bytes)>,
}

/// Where it goes.
#[derive(Clone)]
pub(super) enum To<'a> {
    /// Below the repository.
    Path(&'a str),
    /// Where the registry has led: also to another server, which gets no credentials.
    Led(Uri),
}

impl<'a> Session<'a> {
    pub(super) fn new(
        client: &'a Client,
        image: &'a ImageReference,
        pull: &'a Pull,
        tls: Arc<ClientConfig>,
    ) -> Self {
        Self {
            client,
            image,
            pull,
            tls,
            actions: Actions::Pull,
            scheme: "https",
            authorization: None,
        }
    }

    /// The same, to write.
    pub(super) fn for_push(self) -> Self {
        Self {
            actions: Actions::Push,
            ..self
        }
    }

    /// The same, in the clear.
    pub(super) fn in_the_clear(self) -> Self {
        Self {
            scheme: "http",
            ..self
        }
    }

    /// The answer, whatever its status, once the registry knows who asks.
    pub(super) async fn send(&mut self, call: &Call<'_>) -> Result<Answer, FetchError> {
        let answer = self.try_schemes(call).await?;
        let ours = matches!(call.to, To::Path(_));
        if answer.status != StatusCode::UNAUTHORIZED || self.authorization.is_some() || !ours {
            return Ok(answer);
        }
        self.authorize(&answer).await?;
        // Without credentials for what only asks for a name and a password, the 401 is the answer.
        if self.authorization.is_none() {
            return Ok(answer);
        }
        self.try_schemes(call).await
    }

    async fn try_schemes(&mut self, call: &Call<'_>) -> Result<Answer, FetchError> {
        match self.send_once(call).await {
            Err(FetchError::Tls { .. } | FetchError::Connect { .. })
                if self.pull.insecure && self.scheme == "https" =>
            {
                self.scheme = "http";
                self.send_once(call).await
            }
            answer => answer,
        }
    }

    async fn send_once(&self, call: &Call<'_>) -> Result<Answer, FetchError> {
        let mut ask = Ask {
            method: call.method.clone(),
            url: self.url("")?,
            accept: call.accept,
            authorization: self.authorization.clone(),
            content: call.content.clone(),
            tls: &self.tls,
        };
        match &call.to {
            To::Path(path) => ask.url = self.url(path)?,
            To::Led(url) => ask.lead_to(url.clone()),
        }
        self.client.send(ask).await
    }

    /// Does what the registry asks for.
    async fn authorize(&mut self, answer: &Answer) -> Result<(), FetchError> {
        let host = self.image.endpoint().to_owned();
        let odd = |what: &str| FetchError::Challenge {
            host: host.clone(),
            what: what.to_owned(),
        };
        let challenge = Challenge::of(&answer.headers)
            .ok_or_else(|| odd("neither Basic nor Bearer in WWW-Authenticate"))?;
        let basic = self.pull.credentials.as_ref().and_then(token::basic);
        let (realm, service) = match challenge {
            Challenge::Basic => {
                self.authorization = basic;
                return Ok(());
            }
            Challenge::Bearer { realm, service } => (realm, service),
        };
        let repository = self.image.repository();
        let url = token::address(&realm, service.as_deref(), repository, self.actions);
        let url: Uri = url
            .parse()
            .map_err(|_| odd("its token service is no address"))?;
        // The password goes there.
        if url.scheme_str() != Some("https") && self.scheme == "https" {
            return Err(odd("its token service is not https"));
        }
        let ask = Ask::get(url, "application/json", basic, &self.tls);
        let body = self
            .client
            .send(ask)
            .await?
            .body(MOST_TOKEN, "a token")
            .await?;
        let token =
            token::bearer(&body.bytes).ok_or_else(|| odd("its token service sent no token"))?;
        self.authorization = Some(token);
        Ok(())
    }

    pub(super) fn url(&self, path: &str) -> Result<Uri, FetchError> {
        let endpoint = self.image.endpoint();
        let url = format!(
            "{}://{endpoint}/v2/{}/{path}",
            self.scheme,
            self.image.repository()
        );
        url.parse().map_err(|_| FetchError::Address(url))
    }
}
