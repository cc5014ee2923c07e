//! ReferenceGrants: which references across namespaces their targets' owners allow.

use std::collections::HashMap;

use super::problem::Problem;
use crate::api::policy::ReferenceGrant;

/// One end of a reference: what refers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Referrer<'a> {
    /// Group of the object that holds the reference; empty for core kinds.
    pub(super) group: &'a str,
    /// Its kind.
    pub(super) kind: &'a str,
    /// Its namespace.
    pub(super) namespace: &'a str,
}

/// The other end: what is referred to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Referent<'a> {
    /// Group; empty for core kinds.
    pub(super) group: &'a str,
    /// Kind.
    pub(super) kind: &'a str,
    /// Namespace.
    pub(super) namespace: &'a str,
    /// Name.
    pub(super) name: &'a str,
}

/// All grants, by the namespace that gives them.
#[derive(Debug, Default)]
pub(super) struct Grants<'a> {
    by_namespace: HashMap<&'a str, Vec<&'a ReferenceGrant>>,
}

impl<'a> Grants<'a> {
    /// Indexes the grants.
    pub(super) fn new(grants: impl IntoIterator<Item = &'a ReferenceGrant>) -> Self {
        let mut by_namespace: HashMap<&str, Vec<_>> = HashMap::new();
        for grant in grants {
            by_namespace
                .entry(grant.meta.namespace.as_str())
                .or_default()
                .push(grant);
        }
        Self { by_namespace }
    }

    /// That the reference may be followed. To be asked before whether its target is there: whoever has no grant must not learn what
    /// exists.
    ///
    /// # Errors
    /// `RefNotPermitted`, with what to write.
    pub(super) fn require(&self, from: Referrer<'_>, to: Referent<'_>) -> Result<(), Problem> {
        if self.permit(from, to) {
            return Ok(());
        }
        Err(Problem::new(
            "RefNotPermitted",
            format!(
                "no ReferenceGrant allows {} in namespace {} to refer to {} {}/{}: {}",
                from.kind,
                from.namespace,
                to.kind,
                to.namespace,
                to.name,
                remedy(from, to)
            ),
        ))
    }

    /// Whether the reference may be followed: within a namespace always, across namespaces by a grant only
    /// (`ReferenceGrant`: "implementations MUST NOT permit cross-namespace references which have no grant").
    pub(super) fn permit(&self, from: Referrer<'_>, to: Referent<'_>) -> bool {
        if from.namespace == to.namespace {
            return true;
        }
        let grants = self
            .by_namespace
            .get(to.namespace)
            .map_or(&[][..], Vec::as_slice);
        grants.iter().any(|grant| {
            let trusted = grant.spec.from.iter().any(|f| {
                f.group == from.group && f.kind == from.kind && f.namespace == from.namespace
            });
            trusted
                && grant.spec.to.iter().any(|t| {
                    t.group == to.group
                        && t.kind == to.kind
                        // An empty name is what some serializers make of an absent one.
                        && t.name.as_deref().is_none_or(|name| name.is_empty() || name == to.name)
                })
        })
    }
}

/// What to write so that the reference may be followed; part of messages.
pub(super) fn remedy(from: Referrer<'_>, to: Referent<'_>) -> String {
    format!(
        "create a ReferenceGrant in namespace {} with from {{group: {:?}, kind: {}, namespace: {}}} and to {{group: {:?}, kind: {}}}",
        to.namespace, from.group, from.kind, from.namespace, to.group, to.kind
    )
}
