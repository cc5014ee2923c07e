//! Which namespaces a Gateway trusts: `Same`, `All`, `Selector`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::context::Context;
use crate::api::gateway::FromNamespaces;
use crate::api::selects;

/// Whether objects of `namespace` may attach to an object of namespace `own`.
pub(super) fn allow(
    context: &Context<'_>,
    from: &FromNamespaces,
    selector: Option<&LabelSelector>,
    own: &str,
    namespace: &str,
) -> bool {
    match from {
        FromNamespaces::All => true,
        FromNamespaces::Same => own == namespace,
        FromNamespaces::Selector => {
            let labels = context.resources.namespace_labels(namespace);
            selector.is_some_and(|selector| selects(selector, &labels))
        }
        FromNamespaces::None | FromNamespaces::Other(_) => false,
    }
}
