//! GatewayClasses: which are ours, and what is said about them.

use std::collections::BTreeMap;

use super::context::Context;
use super::problem::Problem;
use super::{features, parameters};
use crate::api::gateway::GatewayClass;
use crate::status::Condition;

/// The class that is assumed to exist where there is no cluster.
pub(super) const DEFAULT_CLASS: &str = "tidegate";

/// What a class name leads to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Class {
    /// Ours and usable.
    Ours,
    /// Ours, but its parameters are unusable: its Gateways wait.
    Unusable(Problem),
    /// Another controller's.
    Foreign(String),
}

/// All classes by name.
#[derive(Debug, Default)]
pub(super) struct Classes {
    by_name: BTreeMap<String, Class>,
    /// Whether an absent class with our name is taken for ours.
    assumed: bool,
}

impl Classes {
    /// Reads the classes and writes their statuses.
    pub(super) fn read(context: &mut Context<'_>) -> Self {
        let mut by_name = BTreeMap::new();
        for class in context.resources.gateway_classes.values() {
            let known = if class.spec.controller_name == context.options.controller_name {
                report(context, class)
            } else {
                let why = format!(
                    "class of another controller, {}",
                    class.spec.controller_name
                );
                context.statuses.of(class).ignored = Some(why);
                Class::Foreign(class.spec.controller_name.clone())
            };
            by_name.insert(class.meta.name.clone(), known);
        }
        Self {
            by_name,
            assumed: context.options.assumes_class(),
        }
    }

    /// The class of that name, if it exists.
    pub(super) fn get(&self, name: &str) -> Option<&Class> {
        const OURS: &Class = &Class::Ours;
        self.by_name
            .get(name)
            .or((self.assumed && name == DEFAULT_CLASS).then_some(OURS))
    }
}

fn report(context: &mut Context<'_>, class: &GatewayClass) -> Class {
    let generation = class.meta.generation;
    let parameters = parameters::of_class(context, class);
    let version = version(context.options.gateway_api_version.as_deref(), generation);
    let services = context.options.gateway_addresses.is_some();
    let status = context.statuses.of(class);
    let outcome = match parameters {
        Ok(()) => {
            status.set(Condition::yes(
                "Accepted",
                "Accepted",
                "Gateways of this class are served",
                generation,
            ));
            Class::Ours
        }
        Err(problem) => {
            status.set(problem.condition("Accepted", generation));
            Class::Unusable(problem)
        }
    };
    status.set(version);
    status.supported_features = features::supported(services);
    outcome
}

/// Condition `SupportedVersion`: whether the CRDs of the cluster are ones that we know.
fn version(found: Option<&str>, generation: i64) -> Condition {
    let (newest, oldest) = (features::NEWEST_VERSION, features::OLDEST_VERSION);
    match found {
        None => Condition::yes(
            "SupportedVersion",
            "SupportedVersion",
            format!("objects are read as Gateway API v1.{newest} defines them"),
            generation,
        ),
        Some(found) if minor(found).is_some_and(|minor| (oldest..=newest).contains(&minor)) => {
            Condition::yes(
                "SupportedVersion",
                "SupportedVersion",
                format!("the CRDs are of Gateway API {found}"),
                generation,
            )
        }
        Some(found) => Condition::no(
            "SupportedVersion",
            "UnsupportedVersion",
            format!(
                "the CRDs are of Gateway API {found}; v1.{oldest} to v1.{newest} are supported: what is unknown is ignored; install CRDs of a supported version"
            ),
            generation,
        ),
    }
}

fn minor(version: &str) -> Option<u32> {
    let rest = version.strip_prefix("v1.")?;
    rest.split(['.', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_crds() {
        for (found, supported) in [
            ("v1.7.0", true),
            ("v1.5.1", true),
            ("v1.7.0-rc.1", true),
            ("v1.99.0", false),
            ("v2.0.0", false),
            ("main", false),
            ("", false),
        ] {
            assert_eq!(version(Some(found), 1).is_true(), supported, "{found}");
        }
    }
}
