//! Bundled filter `ext-auth`: asks a service, over HTTP or gRPC, whether a request may pass. See README.md.

pub mod policy;

use std::rc::Rc;

use tidegate_sdk::template::{self, Asked};
use tidegate_sdk::{ConfigError, Filter, Headers, Reply, Request, Response};
use tidegate_sdk::{grpc, http, property, time, warn};

use policy::grpc::Facts;
use policy::{Decision, Edit, Policy, Service};

tidegate_sdk::filter!(Plugin, "../schema.json");

/// The filter.
#[derive(Debug)]
pub struct Plugin(Policy);

impl Filter for Plugin {
    /// Why the request passed, for its response; `None` where nobody was asked.
    type Memo = Option<Rc<Decision>>;

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        Policy::parse(configuration).map(Self)
    }

    async fn request(&self, request: &Request) -> Result<Self::Memo, Reply> {
        if self.0.is_excepted(template::split(&request.path()).0) {
            return Ok(None);
        }
        let asked = Asked {
            request,
            trusted_hops: self.0.trusted_hops(),
        };
        let now = time::now();
        let key = self.0.cache_key(&asked);
        let remembered = key.as_ref().and_then(|key| self.0.remembered(key, now));
        let decision = match remembered {
            Some(decision) => decision,
            None => {
                let decision = Rc::new(self.ask(request, &asked).await?);
                if let Some(key) = key {
                    self.0.remember(key, &decision, now);
                }
                decision
            }
        };
        match (&*decision, self.0.service()) {
            (Decision::Allow(allowed), _) => {
                let headers = request.headers();
                apply(headers, &allowed.request);
                if !allowed.query.is_empty() {
                    headers.set(":path", allowed.query.apply(&request.path()));
                }
                Ok(Some(decision))
            }
            (Decision::SignIn { cookies }, Service::Http(service)) => {
                Err(service.sign_in(cookies, &asked))
            }
            (Decision::SignIn { .. }, Service::Grpc(_)) => Err(Reply::new(401)),
            (Decision::Deny { reply, .. }, _) => Err(reply.clone()),
        }
    }

    async fn response(&self, response: &Response, decision: Self::Memo) -> Result<(), Reply> {
        let Some(Decision::Allow(allowed)) = decision.as_deref() else {
            return Ok(());
        };
        if let Service::Http(service) = self.0.service()
            && !allowed.cookies.is_empty()
            && service.sets_cookies_on(response.status())
        {
            for cookie in &allowed.cookies {
                response.headers().add("set-cookie", cookie);
            }
        }
        apply(response.headers(), &allowed.response);
        Ok(())
    }
}

impl Plugin {
    async fn ask(&self, request: &Request, asked: &Asked<'_>) -> Result<Decision, Reply> {
        match self.0.service() {
            Service::Http(service) => self.ask_http(service, request, asked).await,
            Service::Grpc(service) => self.ask_grpc(service, request, asked).await,
        }
    }

    async fn ask_http(
        &self,
        service: &policy::http::Service,
        request: &Request,
        asked: &Asked<'_>,
    ) -> Result<Decision, Reply> {
        let headers = request.headers().pairs();
        let Some(asking) = self.0.asking(service, &headers, asked) else {
            warn!("the address of the authentication service is no URL for this request");
            return Ok(self.0.failed());
        };
        let mut call =
            http::Call::at(self.0.cluster(), &asking.method, &asking.url).timeout(self.0.timeout());
        for (name, value) in &asking.headers {
            call = call.header(name, value);
        }
        let body = match self.0.max_body() {
            Some(max) => request.body_before_head(max).await?,
            None => Vec::new(),
        };
        call = match body.is_empty() && service.says_length() {
            true => call.header("content-length", "0"),
            false => call.body(body),
        };
        match call.send().await {
            Ok(answer) => Ok(self.0.decide(service, &answer)),
            Err(error) => {
                warn!("the authentication service cannot be asked: {error}");
                Ok(self.0.failed())
            }
        }
    }

    async fn ask_grpc(
        &self,
        service: &policy::grpc::Service,
        request: &Request,
        asked: &Asked<'_>,
    ) -> Result<Decision, Reply> {
        let mut facts = facts(request, self.0.trusted_hops());
        let metadata = self.0.set(asked);
        if let Some(max) = self.0.max_body() {
            facts.body = Some(request.body_before_head(max).await?);
        }
        let message = self.0.check_request(service, &facts);
        let (name, method) = (policy::grpc::SERVICE, policy::grpc::METHOD);
        let mut call = grpc::Call::new(self.0.cluster(), name, method, message);
        for (name, value) in metadata.iter().filter(|(_, value)| !value.is_empty()) {
            call = call.metadata(name, value);
        }
        match call.timeout(self.0.timeout()).send().await {
            Ok(answer) => Ok(self.0.decide_grpc(&answer)),
            Err(error) => {
                warn!("the authorization service cannot be asked: {error}");
                Ok(self.0.failed())
            }
        }
    }
}

fn facts(request: &Request, trusted_hops: u32) -> Facts {
    let socket = |path: &[&str]| {
        let text = property::get::<Vec<u8>>(path)?;
        policy::grpc::socket(&text)
    };
    let peer = socket(&["source", "address"]);
    let source = match trusted_hops {
        0 => peer,
        // A port is known of the peer only.
        hops => request.client_address(hops).map(|address| match peer {
            Some((of_peer, port)) if of_peer == address => (address, port),
            _ => (address, 0),
        }),
    };
    Facts {
        headers: request.headers().pairs(),
        source,
        principal: principal(),
        destination: socket(&["destination", "address"]),
        protocol: property::text(&["request", "protocol"]).unwrap_or_default(),
        now: time::now(),
        has_body: request.has_body(),
        body: None,
    }
}

/// Who the client is by a certificate that the host has verified: as Envoy's filter takes it, in this order.
fn principal() -> String {
    if property::get::<bool>(&["connection", "mtls"]) != Some(true) {
        return String::new();
    }
    let names = [
        "uri_san_peer_certificate",
        "dns_san_peer_certificate",
        "subject_peer_certificate",
    ];
    let mut found = names
        .iter()
        .filter_map(|name| property::text(&["connection", name]));
    found.next().unwrap_or_default()
}

fn apply(headers: Headers, edits: &[Edit]) {
    for edit in edits {
        match edit {
            Edit::Remove(name) => headers.remove(name),
            Edit::Add(name, value) => headers.add(name, value),
            Edit::AddIfAbsent(name, value) => {
                if headers.get(name).is_none() {
                    headers.add(name, value);
                }
            }
            Edit::Replace(name, value) => {
                if headers.get(name).is_some() {
                    headers.set(name, value);
                }
            }
            Edit::Set(name, value) => headers.set(name, value),
        }
    }
}
