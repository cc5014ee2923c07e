//! IngressClasses: which are ours, what their parameters are, and which class an Ingress has.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::classes::DEFAULT_CLASS;
use super::context::Context;
use super::problem::Problem;
use crate::api::core::{INGRESS_CLASS_ANNOTATION, Ingress, IngressClass};
use crate::api::tidegate::GatewayConfig;
use crate::api::{Key, Kind};
use crate::status::Condition;

/// The annotation that makes a class the one of Ingresses without any.
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// A class of ours, as Ingresses get it.
#[derive(Clone, Debug)]
pub(super) struct OwnClass<'a> {
    /// Its parameters, if it has any; or why it cannot be used.
    pub(super) config: Result<Option<&'a GatewayConfig>, Problem>,
}

/// All classes by name.
#[derive(Debug, Default)]
pub(super) struct IngressClasses<'a> {
    own: BTreeMap<&'a str, OwnClass<'a>>,
    /// With the controllers they belong to.
    foreign: BTreeMap<&'a str, &'a str>,
    default: Option<&'a str>,
    /// Whether an absent class with our name is taken for ours.
    assumed: bool,
}

impl<'a> IngressClasses<'a> {
    /// Reads the classes and writes their statuses.
    pub(super) fn read(context: &mut Context<'a>) -> Self {
        let mut classes = Self {
            assumed: context.options.assumes_class(),
            ..Self::default()
        };
        let mut defaults = Vec::new();
        for class in context
            .resources
            .ingress_classes
            .values()
            .map(|class| &**class)
        {
            let controller = class.spec.controller.as_deref().unwrap_or_default();
            if class
                .meta
                .annotations
                .get(DEFAULT_ANNOTATION)
                .is_some_and(|value| value == "true")
            {
                defaults.push(class);
            }
            if controller == context.options.controller_name {
                let own = report(context, class);
                classes.own.insert(&class.meta.name, own);
            } else {
                let why = format!("class of another controller, {controller}");
                context.statuses.of(class).ignored = Some(why);
                classes.foreign.insert(&class.meta.name, controller);
            }
        }
        // Of several defaults the newest counts, as for the API server's admission of Ingresses; then the name.
        defaults.sort_by(|a, b| {
            (Reverse(&a.meta.age), &a.meta.name).cmp(&(Reverse(&b.meta.age), &b.meta.name))
        });
        classes.default = defaults.first().map(|class| class.meta.name.as_str());
        classes.warn_about_defaults(context, &defaults);
        classes
    }

    /// The class of an Ingress if it is one of ours; and what is odd about how it is named.
    ///
    /// # Errors
    /// Why the Ingress is none of our business.
    pub(super) fn of(
        &self,
        ingress: &'a Ingress,
    ) -> Result<(OwnClass<'a>, Option<String>), String> {
        let annotation = ingress
            .meta
            .annotations
            .get(INGRESS_CLASS_ANNOTATION)
            .map(String::as_str);
        let field = ingress.spec.ingress_class_name.as_deref();
        match (
            annotation.filter(|name| !name.is_empty()),
            field.filter(|name| !name.is_empty()),
        ) {
            // "when that annotation is set, it must be given precedence over this field" (networking.k8s.io, IngressSpec).
            (Some(annotation), field) => {
                let class = self.named(annotation, true)?;
                let odd = field.filter(|field| *field != annotation).map(|field| {
                    format!(
                        "annotation {INGRESS_CLASS_ANNOTATION} names class {annotation} and takes precedence over spec.ingressClassName {field}; remove the annotation"
                    )
                });
                Ok((class, odd))
            }
            (None, Some(field)) => Ok((self.named(field, false)?, None)),
            (None, None) => self.unnamed(),
        }
    }

    /// The GatewayConfigs in use.
    pub(super) fn configs_in_use(&self) -> BTreeSet<Key> {
        let configs = self
            .own
            .values()
            .filter_map(|class| class.config.as_ref().ok().copied().flatten());
        configs.map(|config| config.key()).collect()
    }

    fn named(&self, name: &str, by_annotation: bool) -> Result<OwnClass<'a>, String> {
        if let Some(class) = self.own.get(name) {
            return Ok(class.clone());
        }
        if let Some(controller) = self.foreign.get(name) {
            return Err(format!(
                "IngressClass {name} belongs to another controller, {controller}"
            ));
        }
        // The annotation names a controller rather than an object, and is older than IngressClasses.
        if name == DEFAULT_CLASS && (self.assumed || by_annotation) {
            return Ok(OwnClass { config: Ok(None) });
        }
        Err(format!(
            "IngressClass {name} does not exist: create it or name another class"
        ))
    }

    fn unnamed(&self) -> Result<(OwnClass<'a>, Option<String>), String> {
        let Some(default) = self.default else {
            return Err(format!(
                "no class and no default class: set spec.ingressClassName ({DEFAULT_CLASS}, say), or annotate an IngressClass with {DEFAULT_ANNOTATION}: \"true\""
            ));
        };
        let class = self
            .named(default, false)
            .map_err(|why| format!("no class, and the default class is not ours: {why}"))?;
        Ok((class, None))
    }

    fn warn_about_defaults(&self, context: &mut Context<'_>, defaults: &[&IngressClass]) {
        let Some(chosen) = self.default.filter(|_| defaults.len() > 1) else {
            return;
        };
        for class in defaults
            .iter()
            .filter(|class| self.own.contains_key(class.meta.name.as_str()))
        {
            context.statuses.of(*class).warn(format!(
                "several IngressClasses are the default one; {chosen} is the newest and counts: remove the annotation {DEFAULT_ANNOTATION} from the others"
            ));
        }
    }
}

fn report<'a>(context: &mut Context<'a>, class: &'a IngressClass) -> OwnClass<'a> {
    let generation = class.meta.generation;
    let config = parameters(context, class);
    let condition = match &config {
        Ok(_) => Condition::yes(
            "Accepted",
            "Accepted",
            "Ingresses of this class are served",
            generation,
        ),
        Err(problem) => problem.condition("Accepted", generation),
    };
    context.statuses.of(class).set(condition);
    OwnClass { config }
}

/// The GatewayConfig of a class. Parameters of another kind or scope are reported, and the class works without them; a
/// GatewayConfig that does not exist makes the class unusable, because the filters it would bring may be there to protect.
fn parameters<'a>(
    context: &mut Context<'a>,
    class: &'a IngressClass,
) -> Result<Option<&'a GatewayConfig>, Problem> {
    let Some(reference) = &class.spec.parameters else {
        return Ok(None);
    };
    let (group, name) = (
        reference.api_group.as_deref().unwrap_or_default(),
        &reference.name,
    );
    let scope = reference.scope.as_deref().unwrap_or("Cluster");
    let ours = group == Kind::GatewayConfig.group() && reference.kind == Kind::GatewayConfig.name();
    let namespace = reference
        .namespace
        .as_deref()
        .filter(|_| ours && scope == "Namespace");
    let Some(namespace) = namespace else {
        context.statuses.of(class).warn(format!(
            "spec.parameters: {} {name} of group {group:?}, scope {scope}, is ignored: parameters are in a GatewayConfig of group {}, scope Namespace",
            reference.kind,
            Kind::GatewayConfig.group()
        ));
        return Ok(None);
    };
    match context
        .resources
        .gateway_configs
        .get(&Key::new(namespace, name))
    {
        Some(config) => Ok(Some(config)),
        None => Err(Problem::new(
            "InvalidParameters",
            format!(
                "spec.parameters: GatewayConfig {namespace}/{name} does not exist: create it or remove the reference"
            ),
        )),
    }
}
