//! `parametersRef` of GatewayClasses: the GatewayConfig behind a class.

use super::context::Context;
use super::problem::Problem;
use crate::api::gateway::GatewayClass;
use crate::api::{Key, Kind};

/// Follows the reference of a class. Parameters of another kind or scope are reported, and the class works without them;
/// a GatewayConfig that does not exist makes the class unusable, because the filters it would bring may be there to
/// protect.
///
/// # Errors
/// Why the class cannot be used, for condition `Accepted`.
pub(super) fn of_class(context: &mut Context<'_>, class: &GatewayClass) -> Result<(), Problem> {
    let Some(reference) = &class.spec.parameters_ref else {
        return Ok(());
    };
    let ours = reference.group == Kind::GatewayConfig.group()
        && reference.kind == Kind::GatewayConfig.name();
    let Some(namespace) = reference.namespace.as_deref().filter(|_| ours) else {
        context.statuses.of(class).warn(format!(
            "spec.parametersRef: {} {} of group {:?} is ignored: parameters are in a GatewayConfig of group {}, with a namespace",
            reference.kind,
            reference.name,
            reference.group,
            Kind::GatewayConfig.group()
        ));
        return Ok(());
    };
    if context
        .resources
        .gateway_configs
        .contains_key(&Key::new(namespace, &reference.name))
    {
        return Ok(());
    }
    Err(Problem::new(
        "InvalidParameters",
        format!(
            "spec.parametersRef: GatewayConfig {namespace}/{} does not exist: create it or remove the reference",
            reference.name
        ),
    ))
}
