//! `canary` and `canary-*`: an Ingress whose backends stand beside those of another one with the same host and path.
//!
//! As with ingress-nginx a canary belongs to the main Ingress's Service, and so to all paths that lead to it, in other Ingresses, too.
//! A header decides before a cookie, and that before weights. What decides becomes further matches of the main Ingress's paths;
//! its other annotations hold for both, those of the canary for nothing.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderName, header};
use tidegate_model::{BackendTarget, HostPattern, Pattern, Rule, ValueMatch, WeightedBackend};

use super::reader::Reader;
use crate::translate::ingress::Entry;
use crate::translate::ingress::rules::{Plan, Written};

/// What sends requests to a canary.
#[derive(Debug)]
pub(super) struct Canary {
    header: Option<(HeaderName, HeaderRule)>,
    cookie: Option<String>,
    weight: u32,
    total: u32,
}

#[derive(Debug)]
enum HeaderRule {
    /// `always` and `never`.
    Words,
    Value(Arc<str>),
    Pattern(Pattern),
    /// An expression that cannot be read: whoever has the header stays.
    Broken,
}

/// Where requests under a condition go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Canary,
    Main,
    ByWeight,
}

/// The paths of canaries.
#[derive(Debug, Default)]
pub(in crate::translate::ingress) struct Canaries(Vec<Beside>);

#[derive(Debug)]
struct Beside {
    entry: usize,
    host: HostPattern,
    written: Written,
    place: String,
    backend: WeightedBackend,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Canary> {
    let is_canary = reader.flag("canary") == Some(true);
    let header = reader
        .text("canary-by-header")
        .and_then(|name| name.parse().ok());
    let value = reader.text("canary-by-header-value").map(Arc::from);
    let pattern = reader.raw("canary-by-header-pattern");
    let rule = match (value, pattern) {
        (Some(value), _) => HeaderRule::Value(value),
        (None, None) => HeaderRule::Words,
        (None, Some(pattern)) => match Pattern::anywhere(pattern) {
            Ok(pattern) => HeaderRule::Pattern(pattern),
            Err(_) => {
                reader.warn("canary-by-header-pattern", &format!("{pattern:?} is no regular expression without look-around and back references, so requests with the header stay with the main Ingress; write one"));
                HeaderRule::Broken
            }
        },
    };
    let cookie = reader.text("canary-by-cookie").map(str::to_owned);
    let weight = reader.number("canary-weight").unwrap_or(0);
    let total = reader.number("canary-weight-total").unwrap_or(100);
    is_canary.then(|| Canary {
        header: header.map(|name| (name, rule)),
        cookie,
        weight,
        // As ingress-nginx: totals under 100 are 100.
        total: total.max(100),
    })
}

/// Takes the paths of canaries out of what is served.
pub(in crate::translate::ingress) fn take(entries: &mut [Entry<'_>]) -> Canaries {
    let mut canaries = Vec::new();
    for (index, entry) in entries.iter_mut().enumerate() {
        if entry
            .annotated
            .as_ref()
            .is_none_or(|annotated| annotated.canary.is_none())
        {
            continue;
        }
        for plan in std::mem::take(&mut entry.plans) {
            let (Some(written), [backend]) = (plan.written, plan.entry.rule.backends.as_slice())
            else {
                entry.warnings.push(format!("{}: a canary stands beside the paths of another Ingress, so its default backend gets nothing; remove it", plan.place));
                continue;
            };
            canaries.push(Beside {
                entry: index,
                host: plan.host,
                written,
                place: plan.place,
                backend: backend.clone(),
            });
        }
    }
    Canaries(canaries)
}

impl Canaries {
    /// Puts the canaries beside the Services of the paths that they name, wherever those Services stand.
    pub(super) fn join(self, entries: &mut [Entry<'_>]) {
        if self.0.is_empty() {
            return;
        }
        let mains = mains(entries);
        let mut taken = HashMap::new();
        for beside in self.0 {
            match beside.join(&mains, &mut taken, entries) {
                Ok(main) => {
                    entries[beside.entry].canary_of.insert(main);
                }
                Err(why) => {
                    let warning = format!("{}: {why}", beside.place);
                    entries[beside.entry].warnings.push(warning);
                }
            }
        }
    }
}

/// A path of a host.
type HostPath = (HostPattern, Written);

/// What has a canary: a Service, or one path of it where the canary is another namespace's. With whose that is, and where it leads.
type Taken = HashMap<(Arc<str>, Option<HostPath>), (usize, Option<Arc<str>>)>;

/// What canaries can stand beside.
struct Mains {
    /// The first Ingress that has each path, with the Service there.
    paths: HashMap<HostPath, (usize, Option<Arc<str>>)>,
    /// The Ingresses that use each Service.
    services: HashMap<Arc<str>, Vec<usize>>,
}

impl Beside {
    /// Puts it beside what it names; the main Ingress, or why it gets no requests.
    fn join(
        &self,
        mains: &Mains,
        taken: &mut Taken,
        entries: &mut [Entry<'_>],
    ) -> Result<String, String> {
        let path = (self.host.clone(), self.written.clone());
        let Some((main, service)) = mains.paths.get(&path) else {
            return Err(format!(
                "no Ingress that is no canary has this path for host {}, so this one gets no requests; give both the same host, path and pathType",
                self.host
            ));
        };
        let name = entries[*main].object.to_string();
        // Nothing stands beside what leads nowhere.
        let Some(service) = service else {
            return Ok(name);
        };
        let own = target(&self.backend).cloned();
        if own.as_ref() == Some(service) {
            return Err(format!(
                "it leads to the Service of {name} itself, so nothing changes; name another Service"
            ));
        }
        // A tenant does not reach further into another's than the path that it names.
        let home = &entries[self.entry].object.meta.namespace;
        let is_at_home = service
            .strip_prefix(home.as_str())
            .is_some_and(|rest| rest.starts_with('/'));
        let here = (service.clone(), Some(path));
        let everywhere = (service.clone(), None);
        let this = (self.entry, own);
        match taken.get(&everywhere).or_else(|| taken.get(&here)) {
            // Another path of the same Ingress has brought it.
            Some(first) if is_at_home && *first == this => return Ok(name),
            Some(_) => {
                return Err(format!(
                    "the Service of {name} at this path has another canary already, and one is the most; remove one of the two"
                ));
            }
            None => {}
        }
        taken.insert(if is_at_home { everywhere } else { here }, this);
        let places = mains.services.get(service).map_or(&[][..], Vec::as_slice);
        self.put(service, is_at_home, places, entries);
        Ok(name)
    }

    /// Puts it beside the paths of these Ingresses that lead to the Service: all of them, or the one that it names.
    fn put(&self, main: &Arc<str>, all: bool, places: &[usize], entries: &mut [Entry<'_>]) {
        let Some(annotated) = entries[self.entry].annotated.take() else {
            return;
        };
        if let Some(canary) = &annotated.canary {
            for place in places {
                let plans = std::mem::take(&mut entries[*place].plans);
                let plans = plans.into_iter().flat_map(|plan| {
                    let leads_there = service(&plan.entry.rule) == Some(main);
                    let is_named =
                        plan.host == self.host && plan.written.as_ref() == Some(&self.written);
                    // What is implied by a path answers by itself.
                    let is_implied = plan.written.is_none() && plan.default.is_none();
                    if leads_there && !is_implied && (all || is_named) {
                        canary.variants(&plan, &self.backend)
                    } else {
                        vec![plan]
                    }
                });
                entries[*place].plans = plans.collect();
            }
        }
        entries[self.entry].annotated = Some(annotated);
    }
}

fn mains(entries: &[Entry<'_>]) -> Mains {
    let mut paths = HashMap::new();
    let mut services: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
    for (at, entry) in entries.iter().enumerate() {
        let plans = entry.plans.iter().filter(|_| entry.annotated.is_some());
        for plan in plans {
            let service = service(&plan.entry.rule).cloned();
            if let Some(service) = &service {
                let known = services.entry(service.clone()).or_default();
                if known.last() != Some(&at) {
                    known.push(at);
                }
            }
            if let Some(written) = &plan.written {
                let path = (plan.host.clone(), written.clone());
                paths.entry(path).or_insert((at, service));
            }
        }
    }
    Mains { paths, services }
}

/// The key of the only backend of a rule, which is a Service's port.
pub(super) fn service(rule: &Rule) -> Option<&Arc<str>> {
    match rule.backends.as_slice() {
        [only] => target(only),
        _ => None,
    }
}

/// Whether somebody is there to answer.
fn is_up(weighted: &WeightedBackend) -> bool {
    match &weighted.target {
        BackendTarget::Backend(backend) => !backend.endpoints.is_empty(),
        BackendTarget::Unresolved { .. } => false,
    }
}

fn target(weighted: &WeightedBackend) -> Option<&Arc<str>> {
    match &weighted.target {
        BackendTarget::Backend(backend) => Some(&backend.key),
        BackendTarget::Unresolved { .. } => None,
    }
}

impl Canary {
    /// The main Ingress's path with what else can match there, in order.
    fn variants(&self, main: &Plan, canary: &WeightedBackend) -> Vec<Plan> {
        // As with ingress-nginx a canary without endpoints gets nothing, and a main Ingress without any answers 503 itself.
        if !is_up(canary) || !main.entry.rule.backends.iter().any(is_up) {
            return vec![main.clone()];
        }
        let mut conditions = self.conditions();
        conditions.push((None, Share::ByWeight));
        let variant =
            |(at, (condition, share)): (usize, (Option<(HeaderName, ValueMatch)>, Share))| {
                let mut plan = main.clone();
                plan.entry.matches.headers.extend(condition);
                // Places of a rule's paths are 16 apart.
                plan.entry.age.place.1 += at;
                plan.entry.rule = self.shared(&main.entry.rule, canary, share);
                plan.clear = main
                    .clear
                    .as_ref()
                    .map(|rule| self.shared(rule, canary, share));
                plan
            };
        conditions.into_iter().enumerate().map(variant).collect()
    }

    fn conditions(&self) -> Vec<(Option<(HeaderName, ValueMatch)>, Share)> {
        let mut conditions = Vec::new();
        let words = [("always", Share::Canary), ("never", Share::Main)];
        if let Some((name, rule)) = &self.header {
            let mut put = |value, share| conditions.push((Some((name.clone(), value)), share));
            match rule {
                HeaderRule::Words => {
                    for (word, share) in words {
                        put(ValueMatch::Exact(word.into()), share);
                    }
                }
                HeaderRule::Value(value) => put(ValueMatch::Exact(value.clone()), Share::Canary),
                HeaderRule::Pattern(pattern) => {
                    put(ValueMatch::Regex(pattern.clone()), Share::Canary)
                }
                HeaderRule::Broken => {
                    if let Ok(anything) = Pattern::anywhere("") {
                        put(ValueMatch::Regex(anything), Share::Main);
                    }
                }
            }
        }
        if let Some(cookie) = &self.cookie {
            for (word, share) in words {
                let expression = format!("(?:^|;) *{}={word} *(?:;|$)", regex::escape(cookie));
                if let Ok(pattern) = Pattern::anywhere(&expression) {
                    conditions.push((Some((header::COOKIE, ValueMatch::Regex(pattern))), share));
                }
            }
        }
        conditions
    }

    fn shared(&self, rule: &Arc<Rule>, canary: &WeightedBackend, share: Share) -> Arc<Rule> {
        let weight = match share {
            Share::Main => 0,
            Share::Canary => self.total,
            Share::ByWeight => self.weight.min(self.total),
        };
        if weight == 0 {
            return rule.clone();
        }
        let mut rule = Rule::clone(rule);
        for backend in &mut rule.backends {
            backend.weight = self.total - weight;
        }
        rule.backends.retain(|backend| backend.weight > 0);
        rule.backends.push(WeightedBackend {
            weight,
            ..canary.clone()
        });
        Arc::new(rule)
    }
}
