//! What concerns whole hosts: `use-regex`, `server-alias`, `from-to-www-redirect`.

use std::collections::{BTreeMap, HashMap, HashSet};

use tidegate_model::{HostPattern, Labels};

use super::paths::{is_acme, text};
use super::reader::{PREFIX, Reader};
use super::values;
use crate::api::core::Ingress;
use crate::translate::ingress::{Entry, rules};
use crate::translate::problem::Problem;

/// What all Ingresses that are read with annotations come to, for each host.
#[derive(Debug, Default)]
pub(in crate::translate::ingress) struct Survey {
    /// Hosts on which every path is an expression.
    expressions: HashSet<HostPattern>,
    /// Hosts with paths that are for more than certificate issuers.
    hosts: HashSet<HostPattern>,
}

impl Survey {
    /// Surveys our Ingresses; with each whether its annotations are read.
    pub(in crate::translate::ingress) fn of<'a>(
        objects: impl Iterator<Item = (&'a Ingress, bool)>,
    ) -> Self {
        let mut survey = Self::default();
        for (object, is_read) in objects {
            let raw = |name: &str| {
                object
                    .meta
                    .annotations
                    .get(&format!("{PREFIX}{name}"))
                    .map(|value| value.trim())
            };
            let flag = |name| raw(name).and_then(values::flag) == Some(true);
            // What a canary is annotated with beside canary-* holds for nothing.
            let expressions = is_read
                && !flag("canary")
                && (flag("use-regex")
                    || raw("rewrite-target").is_some_and(|target| !target.is_empty()));
            for rule in object.spec.rules.iter().flatten() {
                let host = rules::host(rule);
                let paths = rule.http.iter().flat_map(|http| &http.paths);
                if expressions {
                    survey.expressions.insert(host.clone());
                }
                if rule.http.is_none() || paths.clone().any(|path| !is_acme(text(path))) {
                    survey.hosts.insert(host);
                }
            }
        }
        survey
    }

    /// Whether every path of the host is an expression.
    pub(in crate::translate::ingress) fn has_expressions(&self, host: &HostPattern) -> bool {
        self.expressions.contains(host)
    }

    /// Whether some Ingress has rules for the host.
    pub(super) fn knows(&self, host: &HostPattern) -> bool {
        self.hosts.contains(host)
    }
}

/// `server-alias`: hosts with commas.
pub(super) fn aliases(reader: &mut Reader<'_>) -> Vec<String> {
    const NAME: &str = "server-alias";
    let mut aliases = Vec::new();
    for alias in reader.list(NAME).unwrap_or_default() {
        let name = alias.strip_prefix("*.").unwrap_or(alias);
        let is_host = name.contains('.')
            && name.split('.').all(|label| {
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            });
        if alias.starts_with('~') {
            reader.warn(NAME, &format!("{alias:?} is an expression, which hosts cannot be here, and is left out; name the hosts, or *.host"));
        } else if is_host {
            aliases.push(alias.to_ascii_lowercase());
        } else {
            reader.warn(
                NAME,
                &format!("{alias:?} is no host and is left out; write a host, or *.host"),
            );
        }
    }
    aliases
}

/// Further names of hosts: what is served under the second is served under the first, too. The oldest Ingress gets an alias.
pub(super) fn alias_hosts(
    survey: &Survey,
    entries: &mut [Entry<'_>],
) -> Vec<(HostPattern, HostPattern)> {
    let mut taken: HashMap<HostPattern, HostPattern> = HashMap::new();
    let mut found = Vec::new();
    for entry in entries.iter_mut() {
        let Some(annotated) = &entry.annotated else {
            continue;
        };
        for alias in annotated.aliases.clone() {
            let pattern = HostPattern::parse(&alias, Labels::Many);
            if survey.knows(&pattern) {
                entry.warnings.push(format!("{}: {alias} has rules of its own, so it is no alias; remove it from the annotation", super::reader::place("server-alias")));
                continue;
            }
            for host in own_hosts(entry) {
                let first = taken
                    .entry(pattern.clone())
                    .or_insert_with(|| host.clone())
                    .clone();
                if first != host {
                    entry.warnings.push(format!(
                        "{}: {alias} is an alias of {first} already; remove one of the two",
                        super::reader::place("server-alias")
                    ));
                } else if !found.contains(&(pattern.clone(), host.clone())) {
                    found.push((pattern.clone(), host));
                }
            }
        }
    }
    found
}

/// Hosts that lead to another one: `www.a.test` to `a.test` or the other way round. With the Ingress that asks for it.
pub(super) fn www_hosts(
    survey: &Survey,
    entries: &[Entry<'_>],
) -> Vec<(usize, HostPattern, String)> {
    let mut found: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if !entry
            .annotated
            .as_ref()
            .is_some_and(|annotated| annotated.www)
        {
            continue;
        }
        for host in own_hosts(entry) {
            let HostPattern::Exact(name) = &host else {
                continue;
            };
            let other = match name.strip_prefix("www.") {
                Some(rest) => rest.to_owned(),
                None => format!("www.{name}"),
            };
            if !survey.knows(&HostPattern::parse(&other, Labels::One)) {
                found.entry(other).or_insert((index, name.to_string()));
            }
        }
    }
    let parse = |host: &str| HostPattern::parse(host, Labels::One);
    found
        .into_iter()
        .map(|(other, (index, name))| (index, parse(&other), name))
        .collect()
}

/// Closes the paths of other Ingresses where one keeps clients out of a whole host by what cannot be honoured: with ingress-nginx that
/// would hold for them, too. Ingresses of other namespaces are told and stay, or a tenant could close what is another's.
pub(super) fn shut(entries: &mut [Entry<'_>]) {
    let mut guards: Vec<(HostPattern, usize, &'static str)> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let shuts = entry
            .annotated
            .as_ref()
            .and_then(|annotated| annotated.shuts);
        if let Some(name) = shuts {
            guards.extend(own_hosts(entry).into_iter().map(|host| (host, index, name)));
        }
    }
    for (host, guard, name) in guards {
        let object = entries[guard].object;
        let is_other = |(index, entry): &(usize, &mut Entry<'_>)| {
            *index != guard
                && entry
                    .annotated
                    .as_ref()
                    .is_some_and(|annotated| annotated.shuts.is_none())
                && entry.plans.iter().any(|plan| plan.host == host)
        };
        for (_, entry) in entries.iter_mut().enumerate().filter(is_other) {
            let why = format!(
                "host {host}: {object} has {}, which concerns the whole host",
                super::reader::place(name)
            );
            if entry.object.meta.namespace != object.meta.namespace {
                entry.warnings.push(format!("{why}, and holds for its own paths alone: it is another namespace's; keep clients out here as well, if they are to be kept out"));
                continue;
            }
            let why = format!(
                "{why} and cannot be honoured; until it is mended there requests are answered 503"
            );
            for plan in &mut entry.plans {
                if plan.host == host && plan.closed.is_none() {
                    plan.closed = Some(why.clone());
                }
            }
            entry.closed.push(Problem::new("UnsupportedValue", why));
        }
    }
}

/// The hosts of an Ingress's rules, each once.
pub(super) fn own_hosts(entry: &Entry<'_>) -> Vec<HostPattern> {
    let mut hosts = Vec::new();
    for host in entry.object.spec.rules.iter().flatten().map(rules::host) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}
