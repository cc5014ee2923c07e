//! Matches of GRPCRoutes: a call of `package.Service/Method` is a request for the path `/package.Service/Method`.

use tidegate_model::{PathMatch, RouteMatch};

use super::http::{headers, pattern};
use super::problem::Problem;
use super::rules::RulePlan;
use crate::api::grpc::{GrpcMethodMatch, GrpcRouteMatch, GrpcRouteRule};
use crate::api::http::{Timeouts, ValueMatchType};

/// A rule, its matches read; no match means every call.
pub(super) fn plan(rule: &GrpcRouteRule) -> RulePlan<'_> {
    let mut matches = rule
        .matches
        .iter()
        .enumerate()
        .map(|(index, written)| {
            read(written).map_err(|problem| problem.under(&format!("matches[{index}]")))
        })
        .collect::<Result<Vec<_>, _>>();
    if let Ok(matches) = &mut matches
        && matches.is_empty()
    {
        matches.push(RouteMatch::path(PathMatch::prefix("")));
    }
    RulePlan {
        name: rule.name.as_deref(),
        matches,
        by_prefix: false,
        filters: &rule.filters,
        backends: &rule.backend_refs,
        timeouts: Timeouts::default(),
        retry: None,
        session: rule.session_persistence.as_ref(),
    }
}

fn read(written: &GrpcRouteMatch) -> Result<RouteMatch, Problem> {
    Ok(RouteMatch {
        path: match &written.method {
            Some(method) => path(method)?,
            None => PathMatch::prefix(""),
        },
        method: None,
        headers: headers(&written.headers)?,
        query: Vec::new(),
    })
}

fn path(written: &GrpcMethodMatch) -> Result<PathMatch, Problem> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (service, method) = (given(&written.service), given(&written.method));
    match &written.kind {
        ValueMatchType::Exact => match (service, method) {
            (Some(service), Some(method)) => {
                Ok(PathMatch::Exact(format!("/{service}/{method}").into()))
            }
            (Some(service), None) => Ok(PathMatch::prefix(&format!("/{service}"))),
            (None, Some(method)) => Ok(PathMatch::GrpcMethod(method.into())),
            (None, None) => Ok(PathMatch::prefix("")),
        },
        ValueMatchType::RegularExpression => {
            let either = |text: Option<String>| {
                text.map_or("[^/]+".to_owned(), |text| format!("(?:{text})"))
            };
            expression(&either(service), &either(method))
        }
        ValueMatchType::Other(kind) => Err(Problem::new(
            "UnsupportedValue",
            format!("method.type: {kind:?} is not known; use Exact or RegularExpression"),
        )),
    }
}

fn expression(service: &str, method: &str) -> Result<PathMatch, Problem> {
    Ok(PathMatch::Regex(pattern(
        "method",
        &format!("/{service}/{method}"),
    )?))
}
