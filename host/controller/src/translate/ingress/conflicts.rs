//! Ingresses that ask for the same requests: the older one gets them.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use tidegate_model::{HostPattern, PathMatch};

use super::Entry;
use super::rules::DefaultFor;

/// What two rules cannot both have.
#[derive(PartialEq, Eq, Hash)]
enum Claim {
    Path(HostPattern, Shape, Arc<str>),
    Default(HostPattern),
}

#[derive(PartialEq, Eq, Hash)]
enum Shape {
    Exact,
    Prefix,
}

/// Warns the younger of two that ask for the same. The tables give the older one precedence without being told.
pub(super) fn mark(entries: &mut [Entry<'_>]) {
    // Which Ingress has it, and which of its plans.
    let mut taken: HashMap<Claim, (usize, usize)> = HashMap::new();
    for index in 0..entries.len() {
        let mut warnings = Vec::new();
        for (at, plan) in entries[index].plans.iter().enumerate() {
            let claim = match (plan.default, &plan.entry.matches.path) {
                (None, PathMatch::Exact(path)) => {
                    Claim::Path(plan.host.clone(), Shape::Exact, path.clone())
                }
                (None, PathMatch::Prefix(path)) => {
                    Claim::Path(plan.host.clone(), Shape::Prefix, path.clone())
                }
                (Some(DefaultFor::OwnHost | DefaultFor::Everything), _) => {
                    Claim::Default(plan.host.clone())
                }
                // Behind everything else by its nature: nobody expects more of it.
                (Some(DefaultFor::OtherHosts), _)
                | (None, PathMatch::Regex(_) | PathMatch::GrpcMethod(_)) => continue,
            };
            let (winner, first) = match taken.entry(claim) {
                Slot::Occupied(first) => *first.get(),
                Slot::Vacant(free) => {
                    free.insert((index, at));
                    continue;
                }
            };
            let place = &entries[winner].plans[first].place;
            let (own, host) = (&plan.place, &plan.host);
            let older = entries[winner].object;
            warnings.push(match (plan.default.is_some(), winner == index) {
                (true, _) => format!(
                    "{own}: {older} is older and its {place} takes what no rule for host {host} matches; remove one of the two"
                ),
                (false, true) => format!(
                    "{own}: {place} has the same host and path (host {host}) and comes first, so this one has no effect; remove it"
                ),
                (false, false) => format!(
                    "{own}: {older} is older and has the same host and path (host {host}) at {place}, so requests go there; change one of the two"
                ),
            });
        }
        entries[index].warnings.append(&mut warnings);
    }
}
