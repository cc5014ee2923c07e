//! Annotations of ingress-nginx on Ingresses whose class asks for them (`ingressNginxAnnotations`, `--ingress-nginx-annotations`).
//!
//! ```text
//!   annotations ── table, values ── Reader ─┬─ Location   one Ingress's paths: what chain.rs makes filters of
//!                                           ├─ Canary     its backends stand beside another Ingress's
//!                                           └─ Hosts      what concerns whole hosts: expressions, aliases, www, implied paths
//! ```
//!
//! Everything becomes what the rest of the gateway knows anyway: bundled filters in the chain, fields of rules and backends, routes.
//! What cannot be honoured never opens what it was to close: such paths answer 503, and the status says why.

mod access;
mod affinity;
mod apply;
mod canary;
mod chain;
mod cors;
mod ext_auth;
mod headers;
mod hosts;
mod limits;
mod nearest;
mod paths;
mod reader;
mod redirects;
mod rewrite;
mod snippet;
mod table;
#[cfg(test)]
mod tests;
mod upstream;
mod values;
mod variables;

use http::StatusCode;

use self::access::{AddressLists, BasicAuth};
use self::affinity::Affinity;
use self::canary::Canary;
use self::ext_auth::ExtAuth;
use self::headers::Headers;
use self::limits::Limits;
use self::reader::Reader;
use self::redirects::Redirects;
use self::rewrite::Rewrite;
use self::upstream::Upstream;
use crate::api::Kind;
use crate::api::core::Ingress;
use crate::translate::context::Context;
use crate::translate::grants::{Referent, Referrer, remedy};
use crate::translate::problem::Problem;

pub(super) use self::apply::apply;
pub(super) use self::canary::take as take_canaries;
pub(in crate::translate) use self::chain::Bundled;
pub(super) use self::hosts::Survey;
pub(super) use self::paths::{expression, text};
pub(super) use self::reader::PREFIX;
pub(super) use self::upstream::Protocol;

/// What the annotations of an Ingress ask for.
#[derive(Debug)]
pub(super) struct Annotated {
    /// Its backends stand beside those of another Ingress.
    canary: Option<Canary>,
    /// What concerns its paths.
    location: Location,
    /// Its paths answer nothing else.
    closed: Option<Closed>,
    /// The annotation that would keep clients out of its whole hosts, and cannot be honoured.
    shuts: Option<&'static str>,
    /// `server-alias`, as written.
    aliases: Vec<String>,
    /// `from-to-www-redirect`
    www: bool,
}

/// What concerns the paths of an Ingress.
#[derive(Debug)]
struct Location {
    limits: Limits,
    redirects: Redirects,
    cors: Option<serde_json::Value>,
    addresses: Option<AddressLists>,
    basic: Option<BasicAuth>,
    ext_auth: Option<ExtAuth>,
    rewrite: Option<Rewrite>,
    headers: Headers,
    upstream: Upstream,
    affinity: Option<Affinity>,
}

/// Paths that answer with one status.
#[derive(Clone, Debug)]
struct Closed {
    status: StatusCode,
    reason: String,
}

/// What is said about the annotations.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Why paths are closed, for condition `Accepted`.
    pub(super) closed: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl Annotated {
    /// What is spoken to its backends.
    pub(super) fn protocol(&self) -> Protocol {
        self.location.upstream.protocol
    }
}

/// Reads the annotations of an Ingress.
pub(super) fn read(context: &mut Context<'_>, object: &Ingress) -> (Annotated, Said) {
    let mut reader = Reader::new(&object.meta.annotations);
    reader.report_unread();
    let namespace = &object.meta.namespace;
    let location = Location {
        limits: limits::read(&mut reader),
        redirects: redirects::read(&mut reader),
        cors: cors::read(&mut reader),
        addresses: access::addresses(&mut reader),
        basic: access::basic(context, &mut reader, namespace),
        ext_auth: ext_auth::read(&mut reader),
        rewrite: rewrite::read(&mut reader),
        headers: headers::read(context, &mut reader, object),
        upstream: upstream::read(&mut reader, namespace),
        affinity: affinity::read(&mut reader),
    };
    let canary = canary::read(&mut reader);
    let aliases = hosts::aliases(&mut reader);
    let www = reader.flag("from-to-www-redirect") == Some(true);
    // Read for what is wrong with it; which hosts it concerns is surveyed before.
    reader.flag("use-regex");
    let Reader {
        warnings,
        denied,
        dropped,
        shuts,
        ..
    } = reader;
    // What a canary is annotated with beside canary-* holds for nothing, and so is wrong for nobody.
    let (denied, dropped, shuts) = match &canary {
        Some(_) => (Vec::new(), Vec::new(), None),
        None => (denied, dropped, shuts),
    };
    let closed = closed(&denied, StatusCode::SERVICE_UNAVAILABLE)
        .or_else(|| closed(&dropped, StatusCode::NOT_FOUND));
    let annotated = Annotated {
        canary,
        location,
        closed,
        shuts,
        aliases,
        www,
    };
    let said = Said {
        closed: denied.into_iter().chain(dropped).collect(),
        warnings,
    };
    (annotated, said)
}

/// Whether an Ingress in namespace `own` may refer to an object of the core group; asked before whether that is there.
fn permit(
    context: &Context<'_>,
    own: &str,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<(), String> {
    let from = Referrer {
        group: Kind::Ingress.group(),
        kind: Kind::Ingress.name(),
        namespace: own,
    };
    let to = Referent {
        group: kind.group(),
        kind: kind.name(),
        namespace,
        name,
    };
    if context.grants.permit(from, to) {
        return Ok(());
    }
    Err(format!(
        "no ReferenceGrant allows an Ingress in namespace {own} to refer to {kind} {namespace}/{name}; {}",
        remedy(from, to)
    ))
}

fn closed(problems: &[Problem], status: StatusCode) -> Option<Closed> {
    let problem = Problem::joined(problems)?;
    Some(Closed {
        status,
        reason: problem.message,
    })
}
