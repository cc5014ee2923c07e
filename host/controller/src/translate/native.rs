//! The filters of a rule or backendRef, one by one, in the model's terms.

use std::fmt;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};
use tidegate_model::{Filter, HeaderModifier, Mirror, PathModifier, Redirect, UrlRewrite};

use super::context::Context;
use super::problem::Problem;
use super::rules::Scope;
use super::{cors, external_auth, filters};
use crate::api::filter as api;
use crate::api::{Kind, filter::RouteFilter};

/// A place in a route, for messages: `spec.rules[0].backendRefs[1].filters[2]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    rule: usize,
    backend: Option<usize>,
    filter: Option<usize>,
}

impl Place {
    /// A rule.
    pub(super) fn rule(rule: usize) -> Self {
        Self {
            rule,
            backend: None,
            filter: None,
        }
    }

    /// A backendRef of a rule.
    pub(super) fn backend(rule: usize, backend: usize) -> Self {
        Self {
            backend: Some(backend),
            ..Self::rule(rule)
        }
    }

    /// A filter here.
    pub(super) fn filter(self, index: usize) -> Self {
        Self {
            filter: Some(index),
            ..self
        }
    }

    /// The part after `spec.rules[n].`, with a dot at the end if there is any.
    pub(super) fn inside_rule(&self) -> String {
        let text = self.to_string();
        let inside = text.split_once("].").map_or("", |(_, inside)| inside);
        if inside.is_empty() {
            String::new()
        } else {
            format!("{inside}.")
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spec.rules[{}]", self.rule)?;
        if let Some(backend) = self.backend {
            write!(f, ".backendRefs[{backend}]")?;
        }
        if let Some(filter) = self.filter {
            write!(f, ".filters[{filter}]")?;
        }
        Ok(())
    }
}

/// One filter; `None` where there is nothing to do (a mirror without a backend).
///
/// # Errors
/// Why the rule cannot be served, for condition `Accepted`.
pub(super) fn filter(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    filter: &RouteFilter,
    place: &Place,
    unresolved: &mut Vec<Problem>,
) -> Result<Option<Filter>, Problem> {
    let found = match filter {
        RouteFilter::RequestHeaderModifier(modifier) => {
            headers(modifier).map(Filter::RequestHeaders)
        }
        RouteFilter::ResponseHeaderModifier(modifier) => {
            headers(modifier).map(Filter::ResponseHeaders)
        }
        RouteFilter::RequestMirror(mirror) => {
            match self::mirror(context, scope, mirror, place, unresolved) {
                Ok(Some(mirror)) => Ok(mirror),
                Ok(None) => return Ok(None),
                Err(problem) => Err(problem),
            }
        }
        RouteFilter::ExtensionRef(reference) => {
            let (filter, resolved) =
                filters::extension(context, &scope.route.meta.namespace, reference);
            unresolved.extend(resolved.err().map(|problem| problem.at(&place.to_string())));
            Ok(filter)
        }
        other if scope.route.kind == Kind::GrpcRoute => Err(unsupported_type(other)),
        RouteFilter::RequestRedirect(redirect) => {
            self::redirect(redirect, scope).map(Filter::Redirect)
        }
        RouteFilter::UrlRewrite(rewrite) => self::rewrite(rewrite, scope).map(Filter::Rewrite),
        RouteFilter::Cors(cors) => Ok(cors::filter(context, scope.route, place, cors)),
        RouteFilter::ExternalAuth(written) => {
            let place = place.to_string();
            let name = format!("{}/{}/{place}", scope.route.kind, scope.route.meta.name);
            let caller = external_auth::Caller {
                referrer: scope.referrer(),
                name: &name,
                place: &place,
                client_certificate: scope.client_certificate,
            };
            external_auth::filter(context, caller, written).map(|(filter, resolved)| {
                unresolved.extend(resolved.err());
                filter
            })
        }
        RouteFilter::Other(_) => Err(unsupported_type(filter)),
    };
    let inside = place.inside_rule();
    found
        .map(Some)
        .map_err(|problem| problem.at(inside.trim_end_matches('.')))
}

fn unsupported_type(filter: &RouteFilter) -> Problem {
    Problem::new(
        "UnsupportedValue",
        format!(
            "filters of type {} are not supported; use ExtensionRef with a Filter, or remove it",
            filter.type_name()
        ),
    )
}

fn unsupported(message: String) -> Problem {
    Problem::new("UnsupportedValue", message)
}

/// Of equal names in one list the first counts; a name in two lists is an error ("only one action for a given header
/// name is permitted").
fn headers(written: &api::HeaderModifier) -> Result<HeaderModifier, Problem> {
    let mut out = HeaderModifier::default();
    let mut acted: Vec<HeaderName> = Vec::new();
    for (list, target) in [(&written.set, &mut out.set), (&written.add, &mut out.add)] {
        let mut mine: Vec<HeaderName> = Vec::new();
        for header in list {
            let name = name(&header.name)?;
            if mine.contains(&name) {
                continue;
            }
            once(&acted, &name)?;
            let value = HeaderValue::from_str(&header.value).map_err(|_| {
                unsupported(format!(
                    "header {name}: the value has characters that a header cannot hold"
                ))
            })?;
            mine.push(name.clone());
            target.push((name, value));
        }
        acted.append(&mut mine);
    }
    for text in &written.remove {
        let name = name(text)?;
        if out.remove.contains(&name) {
            continue;
        }
        once(&acted, &name)?;
        out.remove.push(name);
    }
    Ok(out)
}

fn name(text: &str) -> Result<HeaderName, Problem> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| unsupported(format!("{text:?} is no header name")))
}

fn once(acted: &[HeaderName], name: &HeaderName) -> Result<(), Problem> {
    if acted.contains(name) {
        return Err(unsupported(format!(
            "header {name} is named in two of set, add and remove; keep one"
        )));
    }
    Ok(())
}

fn redirect(written: &api::RequestRedirect, scope: &Scope<'_>) -> Result<Redirect, Problem> {
    let scheme = match written.scheme.as_deref() {
        None | Some("") => None,
        Some("http") => Some("http"),
        Some("https") => Some("https"),
        Some(other) => {
            return Err(unsupported(format!(
                "requestRedirect.scheme: {other:?} is not known; use http or https"
            )));
        }
    };
    if !matches!(written.status_code, 301 | 302 | 303 | 307 | 308) {
        return Err(unsupported(format!(
            "requestRedirect.statusCode: {} is not known; use 301, 302, 303, 307 or 308",
            written.status_code
        )));
    }
    Ok(Redirect {
        scheme,
        hostname: written
            .hostname
            .as_deref()
            .filter(|hostname| !hostname.is_empty())
            .map(|hostname| hostname.to_ascii_lowercase().into()),
        path: path(written.path.as_ref(), scope)?,
        port: written.port,
        status: StatusCode::from_u16(written.status_code).expect("checked above"),
    })
}

fn rewrite(written: &api::UrlRewrite, scope: &Scope<'_>) -> Result<UrlRewrite, Problem> {
    let hostname = written
        .hostname
        .as_deref()
        .filter(|hostname| !hostname.is_empty());
    let hostname = hostname
        .map(HeaderValue::from_str)
        .transpose()
        .map_err(|_| {
            unsupported(
                "urlRewrite.hostname has characters that a Host header cannot hold".to_owned(),
            )
        })?;
    Ok(UrlRewrite {
        hostname,
        path: path(written.path.as_ref(), scope)?,
    })
}

fn path(
    written: Option<&api::PathModifier>,
    scope: &Scope<'_>,
) -> Result<Option<PathModifier>, Problem> {
    match written {
        None => Ok(None),
        Some(api::PathModifier::ReplaceFullPath(path)) => Ok(Some(PathModifier::Full(path.as_str().into()))),
        Some(api::PathModifier::ReplacePrefixMatch(_)) if !scope.by_prefix => Err(unsupported(
            "path.replacePrefixMatch needs matches of type PathPrefix only; change the matches or use replaceFullPath".to_owned(),
        )),
        Some(api::PathModifier::ReplacePrefixMatch(prefix)) => Ok(Some(PathModifier::Prefix(Arc::from(prefix.as_str())))),
        Some(api::PathModifier::Other(kind)) => Err(unsupported(format!(
            "path.type: {kind:?} is not known; use ReplaceFullPath or ReplacePrefixMatch"
        ))),
    }
}

/// A mirror whose backend does not resolve is left out: "this BackendRef is invalid and must be dropped from the Gateway".
fn mirror(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    written: &api::RequestMirror,
    place: &Place,
    unresolved: &mut Vec<Problem>,
) -> Result<Option<Filter>, Problem> {
    let (numerator, denominator) = match (written.percent, written.fraction) {
        (None, None) => (100, 100),
        (Some(percent), None) => (u32::from(percent), 100),
        (None, Some(fraction)) => (fraction.numerator, fraction.denominator),
        (Some(_), Some(_)) => {
            return Err(unsupported(
                "requestMirror: give percent or fraction, not both".to_owned(),
            ));
        }
    };
    if denominator == 0 || numerator > denominator {
        return Err(unsupported(format!(
            "requestMirror: {numerator} of {denominator} is no share of the requests"
        )));
    }
    let found = context.route_backend(
        scope.referrer(),
        &written.backend_ref,
        scope.speaks(),
        scope.client_certificate,
    );
    match found {
        Ok(backend) => Ok(Some(Filter::Mirror(Mirror {
            backend,
            numerator,
            denominator,
        }))),
        Err(problem) => {
            unresolved.push(problem.at(&format!("{place}.requestMirror.backendRef")));
            Ok(None)
        }
    }
}
