//! From what annotations ask for to the filters of a path, in nginx's order.
//!
//! ```text
//!   answers' headers │ body-limit │ redirect │ cors │ redirect to TLS │ requests at a time, rate-limit │ ip-acl │ basic-auth │
//!   ext-auth │ rewrite, upstream-vhost │ request's headers
//! ```
//!
//! Changes of responses come first, because nginx makes them to the gateway's own answers, too.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use tidegate_model::{Concurrency, Filter, FilterId, FilterVerdict, HostPattern, UrlRewrite};

use super::reader::denial;
use super::redirects::{self, ToTls};
use super::rewrite::Rewrite;
use super::{Annotated, Closed};
use crate::api::core::Ingress;
use crate::translate::certificates::fingerprint;
use crate::translate::context::Context;
use crate::translate::filters::{self, Bundle};
use crate::translate::problem::Problem;

/// The longest name of counters that the filter rate-limit takes.
const LONGEST_NAME: usize = 64;

/// A path that filters are made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'p> {
    pub(super) host: &'p HostPattern,
    /// As written.
    pub(super) path: &'p str,
    pub(super) is_exact: bool,
    /// Certificate issuers ask it: nobody else's rules keep them out.
    pub(super) is_acme: bool,
    /// Nothing is behind it: what changes requests for an upstream is left out.
    pub(super) is_implied: bool,
    /// `rules[0].http.paths[1]`, for the names of filters that differ from path to path.
    pub(super) name: &'p str,
}

/// Filters of a path: those of requests over TLS, and how many of them come before the redirect of requests in the clear.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) filters: Vec<Filter>,
    /// Where the redirect to TLS stands, and it.
    pub(super) to_tls: Option<(usize, Filter)>,
    /// Why the path is closed.
    pub(super) problems: Vec<Problem>,
}

/// A bundled filter that is part of the snapshot.
#[derive(Clone, Debug)]
pub(in crate::translate) struct Made {
    filter: Filter,
    /// Why every path that needs it is closed.
    refusal: Option<String>,
}

/// Those that were made so far, by namespace and name.
pub(in crate::translate) type Bundled = HashMap<(Arc<str>, String), Made>;

/// Makes the filters of a path.
pub(super) fn make(
    context: &mut Context<'_>,
    object: &Ingress,
    annotated: &Annotated,
    place: Place<'_>,
    has_certificate: bool,
) -> Chain {
    if let Some(Closed { status, reason }) = &annotated.closed {
        return Chain {
            filters: vec![Filter::Refuse {
                status: *status,
                reason: reason.as_str().into(),
            }],
            ..Chain::default()
        };
    }
    let mut maker = Maker {
        context,
        object,
        chain: Chain::default(),
    };
    maker.fill(annotated, place, has_certificate);
    let mut chain = maker.chain;
    if let Some(problem) = Problem::joined(&chain.problems) {
        // Half of what was asked for may be what lets in.
        chain.filters = vec![Filter::Refuse {
            status: http::StatusCode::SERVICE_UNAVAILABLE,
            reason: problem.message.into(),
        }];
        chain.to_tls = None;
    }
    chain
}

struct Maker<'m, 'a> {
    context: &'m mut Context<'a>,
    object: &'m Ingress,
    chain: Chain,
}

impl Maker<'_, '_> {
    fn fill(&mut self, annotated: &Annotated, place: Place<'_>, has_certificate: bool) {
        let location = &annotated.location;
        for (index, config) in location.headers.responses.iter().enumerate() {
            self.bundled(
                "configuration-snippet",
                "headers",
                &format!("response-headers-{index}"),
                config,
            );
        }
        if let Some(max) = &location.limits.body {
            self.shared(
                "proxy-body-size",
                "body-limit",
                &format!("body-limit/{max}"),
                &serde_json::json!({"max": max}),
            );
        }
        if let Some(first) = location.redirects.first().filter(|_| !place.is_acme) {
            self.bundled("permanent-redirect", "redirect", "redirect", &first);
        }
        if let Some(cors) = &location.cors {
            self.bundled("enable-cors", "cors", "cors", cors);
        }
        let to_tls = match location.redirects.tls {
            ToTls::Never => false,
            ToTls::WithCertificate => has_certificate,
            ToTls::Always => true,
        };
        if to_tls && !place.is_acme {
            let port = self
                .context
                .options
                .seen_port(self.context.options.https_port);
            let config = redirects::to_tls(port);
            let at = self.chain.filters.len();
            self.shared("ssl-redirect", "redirect", "to-tls", &config);
            self.chain.to_tls = (self.chain.filters.len() > at)
                .then(|| self.chain.filters.remove(at))
                .map(|filter| (at, filter));
        }
        self.limits(annotated);
        if !place.is_acme {
            self.access(annotated, place);
        }
        self.request(annotated, place);
    }

    fn limits(&mut self, annotated: &Annotated) {
        let limits = &annotated.location.limits;
        if let Some(most) = limits.connections {
            self.chain.filters.push(Filter::Concurrency(Concurrency {
                zone: format!("Ingress {}", self.object.key()).into(),
                most,
                status: http::StatusCode::SERVICE_UNAVAILABLE,
            }));
        }
        if let Some(rates) = limits.rates(&counters(self.object)) {
            self.bundled("limit-rps", "rate-limit", "rate-limit", &rates);
        }
    }

    fn access(&mut self, annotated: &Annotated, place: Place<'_>) {
        let location = &annotated.location;
        if let Some(lists) = &location.addresses {
            self.bundled("allowlist-source-range", "ip-acl", "ip-acl", &lists.0);
        }
        if let Some(basic) = &location.basic {
            let bundle = Bundle {
                secret: true,
                ..self.bundle("basic-auth", "basic-auth", &basic.0)
            };
            // Its schema was asked when the annotations were read.
            self.push("auth-secret", bundle, |_| Ok(()));
        }
        let Some(ext_auth) = &location.ext_auth else {
            return;
        };
        match ext_auth.filter(self.context, place.host) {
            Ok((config, backend)) => {
                let name = if ext_auth.is_by_host() {
                    format!("ext-auth/{}", place.host)
                } else {
                    "ext-auth".to_owned()
                };
                let bundle = Bundle {
                    clusters: vec![("auth", backend)],
                    ..self.bundle("ext-auth", &name, &config)
                };
                self.push("auth-url", bundle, check);
            }
            Err((annotation, why)) => self.chain.problems.push(denial(annotation, &why)),
        }
    }

    fn request(&mut self, annotated: &Annotated, place: Place<'_>) {
        let location = &annotated.location;
        let redirects = |rewrite: &&Rewrite| !place.is_implied || rewrite.is_redirect();
        let rewrite = location
            .rewrite
            .as_ref()
            .filter(|rewrite| !place.is_acme && !rewrite.leaves_alone(place.path, place.is_exact))
            .filter(redirects);
        if let Some(rewrite) = rewrite {
            let module = if rewrite.is_redirect() {
                "redirect"
            } else {
                "rewrite"
            };
            self.bundled(
                "rewrite-target",
                module,
                &format!("rewrite/{}", place.name),
                &rewrite.config(place.path),
            );
        }
        if place.is_implied {
            return;
        }
        if let Some(host) = location
            .upstream
            .vhost
            .as_ref()
            .or(location.headers.host.as_ref())
        {
            self.chain.filters.push(Filter::Rewrite(UrlRewrite {
                hostname: Some(host.clone()),
                path: None,
            }));
        }
        if let Some(config) = &location.headers.request {
            self.bundled(
                "configuration-snippet",
                "headers",
                "request-headers",
                config,
            );
        }
    }

    fn bundle<'b>(&self, module: &'b str, name: &str, config: &'b Value) -> Bundle<'b> {
        Bundle {
            namespace: self.object.meta.namespace.as_str().into(),
            name: format!("Ingress/{}/{name}", self.object.meta.name),
            module,
            config,
            secret: false,
            clusters: Vec::new(),
        }
    }

    /// A filter that is the same for all Ingresses of the namespace, and keeps nothing: one stands for all of them.
    fn shared(&mut self, annotation: &str, module: &str, name: &str, config: &Value) {
        let bundle = Bundle {
            name: format!("Ingress/*/{name}"),
            ..self.bundle(module, name, config)
        };
        self.push(annotation, bundle, check);
    }

    fn bundled(&mut self, annotation: &str, module: &str, name: &str, config: &Value) {
        let bundle = self.bundle(module, name, config);
        self.push(annotation, bundle, check);
    }

    /// Puts a filter into the chain. What its schema refuses, or what it refused itself when it was started, closes the path: it is
    /// said of the annotation, since no Filter object stands for it. Of many paths with one filter the first pays for the answer.
    fn push(
        &mut self,
        annotation: &str,
        bundle: Bundle<'_>,
        check: impl FnOnce(&Bundle<'_>) -> Result<(), String>,
    ) {
        let module = bundle.module;
        let id = (bundle.namespace.clone(), bundle.name.clone());
        let made = match self.context.bundled.get(&id) {
            Some(known) => known.clone(),
            None => {
                let refusal = check(&bundle).err().or_else(|| self.verdict(&bundle));
                let filter = filters::bundled(self.context, bundle);
                let made = Made { filter, refusal };
                self.context.bundled.insert(id, made.clone());
                made
            }
        };
        if let Some(why) = made.refusal {
            self.chain.problems.push(denial(
                annotation,
                &format!(
                    "the bundled filter {module} refuses what it comes to: {why}; correct the value"
                ),
            ));
        }
        self.chain.filters.push(made.filter);
    }

    fn verdict(&self, bundle: &Bundle<'_>) -> Option<String> {
        let id = FilterId {
            namespace: bundle.namespace.clone(),
            name: bundle.name.as_str().into(),
        };
        match self.context.verdicts.get(&id) {
            // With a version that was good the path stays as it was.
            Some(FilterVerdict::Failed {
                message,
                last_good: false,
                ..
            }) => Some(message.to_string()),
            _ => None,
        }
    }
}

/// What the schema of a bundled filter says of its configuration.
fn check(bundle: &Bundle<'_>) -> Result<(), String> {
    tidegate_filters::get(bundle.module).map_or(Ok(()), |known| {
        filters::check_bundled(known, bundle.config, bundle.secret)
    })
}

/// The name of an Ingress's counters.
fn counters(object: &Ingress) -> String {
    let name = object.key().to_string();
    if name.len() <= LONGEST_NAME {
        return name;
    }
    fingerprint(name.as_bytes()).to_string()
}
