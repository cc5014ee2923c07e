//! `tidegate.dev/filters`, and what is said about annotations that have no effect.

use tidegate_model::Filter;

use super::Entry;
use super::annotations::PREFIX as NGINX_PREFIX;
use crate::api::Kind;
use crate::translate::context::Context;
use crate::translate::filters;
use crate::translate::grants::Referrer;
use crate::translate::problem::Problem;

/// Filters of all rules of the Ingress: `name, other-namespace/name`, in this order.
const FILTERS: &str = "tidegate.dev/filters";
const OWN_PREFIX: &str = "tidegate.dev/";

/// The filters that the Ingress asks for. One that cannot be found refuses requests, as it does in a route.
pub(super) fn filters(context: &mut Context<'_>, entry: &mut Entry<'_>) -> Vec<Filter> {
    let own = &entry.object.meta.namespace;
    let Some(text) = entry.object.meta.annotations.get(FILTERS) else {
        return Vec::new();
    };
    let from = Referrer {
        group: Kind::Ingress.group(),
        kind: Kind::Ingress.name(),
        namespace: own,
    };
    let mut found = Vec::new();
    // An empty item is a comma too many and asks for nothing.
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let (namespace, name) = item.split_once('/').unwrap_or((own, item));
        let (filter, resolved) = if namespace.is_empty() || name.is_empty() || name.contains('/') {
            malformed(item)
        } else {
            filters::resolve(context, from, namespace, name)
        };
        if let Err(problem) = resolved {
            entry
                .unresolved
                .push(problem.at(&format!("metadata.annotations[{FILTERS}]")));
        }
        found.push(filter);
    }
    found
}

fn malformed(item: &str) -> (Filter, Result<(), Problem>) {
    let problem = Problem::new(
        "BackendNotFound",
        format!(
            "{item:?} is no Filter: write name, or namespace/name for a Filter of another namespace"
        ),
    );
    let filter = Filter::Unresolved {
        reference: format!("Filter {item}").into(),
        reason: problem.message.as_str().into(),
    };
    (filter, Err(problem))
}

/// An annotation without effect may have been written to protect something, so it is named.
pub(super) fn warn_about_others(entry: &mut Entry<'_>) {
    let names = entry.object.meta.annotations.keys();
    let unknown: Vec<&String> = names
        .clone()
        .filter(|name| name.starts_with(OWN_PREFIX) && *name != FILTERS)
        .collect();
    for name in unknown {
        entry.warnings.push(format!(
            "metadata.annotations[{name}] is not known and has no effect; {FILTERS} is the only one"
        ));
    }
    let nginx: Vec<&str> = names
        .filter_map(|name| name.strip_prefix(NGINX_PREFIX))
        .collect();
    if !nginx.is_empty() && entry.annotated.is_none() {
        entry.warnings.push(format!(
            "annotations of ingress-nginx have no effect: {}; let the class's GatewayConfig say ingressNginxAnnotations: true, or start with --ingress-nginx-annotations",
            nginx.join(", ")
        ));
    }
}
