//! Matches of HTTPRoutes.

use std::sync::Arc;

use http::{HeaderName, Method};
use tidegate_model::{PathMatch, Pattern, RouteMatch, ValueMatch, path};

use super::problem::Problem;
use super::rules::RulePlan;
use crate::api::http::{
    HeaderMatch, HttpRouteMatch, HttpRouteRule, PathMatchType, QueryParamMatch, ValueMatchType,
};

/// The methods of the CRD; a route cannot match others.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// A rule, its matches read.
pub(super) fn plan(rule: &HttpRouteRule) -> RulePlan<'_> {
    let matches = rule
        .matches
        .iter()
        .enumerate()
        .map(|(index, written)| {
            read(written).map_err(|problem| problem.under(&format!("matches[{index}]")))
        })
        .collect();
    RulePlan {
        name: rule.name.as_deref(),
        matches,
        by_prefix: rule
            .matches
            .iter()
            .all(|m| m.path.kind == PathMatchType::PathPrefix),
        filters: &rule.filters,
        backends: &rule.backend_refs,
        timeouts: rule.timeouts,
        retry: rule.retry.as_ref(),
        session: rule.session_persistence.as_ref(),
    }
}

fn read(written: &HttpRouteMatch) -> Result<RouteMatch, Problem> {
    Ok(RouteMatch {
        path: path_match(&written.path.kind, &written.path.value)?,
        method: written.method.as_deref().map(method).transpose()?,
        headers: headers(&written.headers)?,
        query: query(&written.query_params)?,
    })
}

/// What is compared with canonical paths is canonical itself, or it would never match.
fn path_match(kind: &PathMatchType, value: &str) -> Result<PathMatch, Problem> {
    let canonical = || {
        let resolved = path::resolve(value).map_err(|error| {
            unsupported(format!(
                "path.value: {value:?} matches no request, because such paths are refused ({})",
                error.as_str()
            ))
        })?;
        Ok(path::canonical(&resolved).into_owned())
    };
    match kind {
        PathMatchType::Exact => Ok(PathMatch::Exact(canonical()?.into())),
        PathMatchType::PathPrefix => Ok(PathMatch::prefix(&canonical()?)),
        PathMatchType::RegularExpression => Ok(PathMatch::Regex(pattern("path.value", value)?)),
        PathMatchType::Other(kind) => Err(unsupported(format!(
            "path.type: {kind:?} is not known; use Exact, PathPrefix or RegularExpression"
        ))),
    }
}

fn method(text: &str) -> Result<Method, Problem> {
    METHODS
        .contains(&text)
        .then(|| Method::from_bytes(text.as_bytes()).ok())
        .flatten()
        .ok_or_else(|| {
            unsupported(format!(
                "method: {text:?} is not known; use one of {}",
                METHODS.join(", ")
            ))
        })
}

/// Headers; of equal names the first counts.
///
/// # Errors
/// What cannot be matched.
pub(super) fn headers(written: &[HeaderMatch]) -> Result<Vec<(HeaderName, ValueMatch)>, Problem> {
    let mut out: Vec<(HeaderName, ValueMatch)> = Vec::new();
    for (index, header) in written.iter().enumerate() {
        let place = format!("headers[{index}]");
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| {
            unsupported(format!("{place}.name: {:?} is no header name", header.name))
        })?;
        if out.iter().all(|(known, _)| *known != name) {
            out.push((name, value(&place, &header.kind, &header.value)?));
        }
    }
    Ok(out)
}

fn query(written: &[QueryParamMatch]) -> Result<Vec<(Arc<str>, ValueMatch)>, Problem> {
    let mut out: Vec<(Arc<str>, ValueMatch)> = Vec::new();
    for (index, parameter) in written.iter().enumerate() {
        let place = format!("queryParams[{index}]");
        if out.iter().all(|(known, _)| **known != *parameter.name) {
            let matched = value(&place, &parameter.kind, &parameter.value)?;
            out.push((parameter.name.as_str().into(), matched));
        }
    }
    Ok(out)
}

fn value(place: &str, kind: &ValueMatchType, value: &str) -> Result<ValueMatch, Problem> {
    match kind {
        ValueMatchType::Exact => Ok(ValueMatch::Exact(value.into())),
        ValueMatchType::RegularExpression => Ok(ValueMatch::Regex(pattern(
            &format!("{place}.value"),
            value,
        )?)),
        ValueMatchType::Other(kind) => Err(unsupported(format!(
            "{place}.type: {kind:?} is not known; use Exact or RegularExpression"
        ))),
    }
}

/// An expression that must match the whole, as in Envoy.
///
/// # Errors
/// Why it is not one.
pub(super) fn pattern(place: &str, source: &str) -> Result<Pattern, Problem> {
    Pattern::whole(source).map_err(|error| {
        unsupported(format!(
            "{place}: {source:?} is not a regular expression in RE2 syntax (no look-around, no back-references): {}",
            last_line(&error.to_string())
        ))
    })
}

fn unsupported(message: String) -> Problem {
    Problem::new("UnsupportedValue", message)
}

/// The words of crate `regex` begin with a drawing of the expression.
fn last_line(text: &str) -> String {
    let line = text.lines().next_back().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}
