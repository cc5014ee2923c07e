//! ListenerSets: which Gateway they belong to, and whether it lets them attach.

use super::context::{Context, by_age};
use super::gateways::{Gateways, SetEntry};
use super::namespaces;
use super::problem::Problem;
use crate::api::Kind;
use crate::api::gateway::{Gateway, ListenerSet};

/// The ListenerSets of our Gateways, oldest first, which is also the order in which they win conflicts.
pub(super) fn read<'a>(context: &mut Context<'a>, gateways: &Gateways<'a>) -> Vec<SetEntry<'a>> {
    let mut sets = Vec::new();
    for object in by_age(&context.resources.listener_sets) {
        let parent = &object.spec.parent_ref;
        let namespace = parent
            .namespace
            .as_deref()
            .unwrap_or(&object.meta.namespace);
        let is_gateway =
            parent.group == Kind::Gateway.group() && parent.kind == Kind::Gateway.name();
        let found = gateways
            .find(namespace, &parent.name)
            .filter(|_| is_gateway);
        let Some(gateway) = found else {
            let why = if is_gateway {
                format!(
                    "spec.parentRef: Gateway {namespace}/{} is not one of this controller",
                    parent.name
                )
            } else {
                format!(
                    "spec.parentRef: {} of group {:?} is no Gateway",
                    parent.kind, parent.group
                )
            };
            context.statuses.of(object).ignored = Some(why);
            continue;
        };
        let allowed = check(context, gateways.gateways[gateway].object, object);
        sets.push(SetEntry {
            object,
            gateway,
            allowed,
        });
    }
    sets
}

fn check(context: &Context<'_>, gateway: &Gateway, set: &ListenerSet) -> Result<(), Problem> {
    let allowed = &gateway.spec.allowed_listeners.namespaces;
    if namespaces::allow(
        context,
        &allowed.from,
        allowed.selector.as_ref(),
        &gateway.meta.namespace,
        &set.meta.namespace,
    ) {
        return Ok(());
    }
    Err(Problem::new(
        "NotAllowed",
        format!(
            "{gateway} does not let ListenerSets of namespace {} attach: its owner has to allow them in spec.allowedListeners.namespaces",
            set.meta.namespace
        ),
    ))
}
