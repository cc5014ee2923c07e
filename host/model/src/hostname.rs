//! Hostnames of listeners and routes: patterns, their order, and a map that answers "what matches this host, most specific first".

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// How many labels the `*` of a wildcard stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Labels {
    /// Exactly one, as in Ingress (`networking.k8s.io/v1`, IngressRule.host).
    One,
    /// One or more, as in the Gateway API (`Hostname`).
    Many,
}

/// A hostname as a listener, HTTPRoute or Ingress rule states it; always in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// No hostname: every host.
    Any,
    /// `*.suffix`
    Wildcard {
        /// What follows `*.`
        suffix: Arc<str>,
        /// How many labels may stand for `*`.
        labels: Labels,
    },
    /// A full name.
    Exact(Arc<str>),
}

impl HostPattern {
    /// Reads `""`, `"*"`, `"*.example.com"` or `"www.example.com"`; `labels` says what a `*` means to the object's API.
    pub fn parse(text: &str, labels: Labels) -> Self {
        let text = text.to_ascii_lowercase();
        if text.is_empty() || text == "*" {
            return Self::Any;
        }
        match text.strip_prefix("*.") {
            Some(suffix) => Self::Wildcard {
                suffix: suffix.into(),
                labels,
            },
            None => Self::Exact(text.into()),
        }
    }

    /// Whether a request for `host` (lower case, without port) is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Wildcard { suffix, labels } => {
                let Some(first) = host
                    .strip_suffix(&**suffix)
                    .and_then(|rest| rest.strip_suffix('.'))
                else {
                    return false;
                };
                !first.is_empty() && (*labels == Labels::Many || !first.contains('.'))
            }
        }
    }

    /// What both patterns match, or `None`: the hostname under which a route is attached to a listener
    /// (Gateway API, HTTPRouteSpec.hostnames).
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, narrow) | (narrow, Self::Any) => Some(narrow.clone()),
            (Self::Exact(name), wide) | (wide, Self::Exact(name)) => {
                wide.matches(name).then(|| Self::Exact(name.clone()))
            }
            (
                Self::Wildcard {
                    suffix: a,
                    labels: la,
                },
                Self::Wildcard {
                    suffix: b,
                    labels: lb,
                },
            ) => intersect_wildcards(a, *la, b, *lb),
        }
    }

    /// Whether some host can match both.
    pub fn intersects(&self, other: &Self) -> bool {
        self.intersect(other).is_some()
    }

    /// The rank among hostnames: exact names before wildcards, the longer first (Gateway API: "characters in a
    /// matching non-wildcard hostname", then "characters in a matching hostname").
    pub fn specificity(&self) -> (u8, usize, Labels) {
        match self {
            Self::Exact(name) => (2, name.len(), Labels::One),
            // A wildcard of one label is the narrower one: it must win, so the order of `Labels` is turned here.
            Self::Wildcard {
                suffix,
                labels: Labels::One,
            } => (1, suffix.len(), Labels::Many),
            Self::Wildcard {
                suffix,
                labels: Labels::Many,
            } => (1, suffix.len(), Labels::One),
            Self::Any => (0, 0, Labels::One),
        }
    }
}

fn intersect_wildcards(a: &Arc<str>, la: Labels, b: &Arc<str>, lb: Labels) -> Option<HostPattern> {
    if a == b {
        return Some(HostPattern::Wildcard {
            suffix: a.clone(),
            labels: la.min(lb),
        });
    }
    // The longer suffix must lie below the shorter one, and the shorter `*` must be able to stand for several labels.
    let (narrow, narrow_labels, wide, wide_labels) = if a.len() > b.len() {
        (a, la, b, lb)
    } else {
        (b, lb, a, la)
    };
    let below = narrow
        .strip_suffix(&**wide)
        .is_some_and(|rest| rest.ends_with('.'));
    (below && wide_labels == Labels::Many).then(|| HostPattern::Wildcard {
        suffix: narrow.clone(),
        labels: narrow_labels,
    })
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Wildcard { suffix, .. } => write!(f, "*.{suffix}"),
            Self::Exact(name) => f.write_str(name),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Values under hostnames. A look-up costs one hash per label of the host, however many names there are.
#[derive(Clone, Debug, PartialEq)]
pub struct HostMap<T> {
    exact: HashMap<Arc<str>, T>,
    one_label: HashMap<Arc<str>, T>,
    many_labels: HashMap<Arc<str>, T>,
    any: Option<T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            one_label: HashMap::new(),
            many_labels: HashMap::new(),
            any: None,
        }
    }
}

impl<T> HostMap<T> {
    /// The value under this very pattern, made if absent.
    pub fn entry(&mut self, pattern: &HostPattern) -> &mut T
    where
        T: Default,
    {
        match pattern {
            HostPattern::Any => self.any.get_or_insert_with(T::default),
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::Wildcard {
                suffix,
                labels: Labels::One,
            } => self.one_label.entry(suffix.clone()).or_default(),
            HostPattern::Wildcard {
                suffix,
                labels: Labels::Many,
            } => self.many_labels.entry(suffix.clone()).or_default(),
        }
    }

    /// The value under this very pattern.
    pub fn get(&self, pattern: &HostPattern) -> Option<&T> {
        match pattern {
            HostPattern::Any => self.any.as_ref(),
            HostPattern::Exact(name) => self.exact.get(name),
            HostPattern::Wildcard {
                suffix,
                labels: Labels::One,
            } => self.one_label.get(suffix),
            HostPattern::Wildcard {
                suffix,
                labels: Labels::Many,
            } => self.many_labels.get(suffix),
        }
    }

    /// Puts `value` under `pattern`, over what was there.
    pub fn insert(&mut self, pattern: &HostPattern, value: T) {
        match pattern {
            HostPattern::Any => self.any = Some(value),
            HostPattern::Exact(name) => drop(self.exact.insert(name.clone(), value)),
            HostPattern::Wildcard {
                suffix,
                labels: Labels::One,
            } => drop(self.one_label.insert(suffix.clone(), value)),
            HostPattern::Wildcard {
                suffix,
                labels: Labels::Many,
            } => {
                drop(self.many_labels.insert(suffix.clone(), value));
            }
        }
    }

    /// All values whose pattern matches `host` (lower case, without port), the most specific first.
    pub fn matching<'a, 'h>(
        &'a self,
        host: &'h str,
    ) -> impl Iterator<Item = &'a T> + use<'a, 'h, T> {
        let exact = self.exact.get(host);
        let wildcards = parents(host).enumerate().flat_map(|(depth, suffix)| {
            let one = if depth == 0 {
                self.one_label.get(suffix)
            } else {
                None
            };
            one.into_iter().chain(self.many_labels.get(suffix))
        });
        exact.into_iter().chain(wildcards).chain(self.any.as_ref())
    }

    /// The most specific value for `host`.
    pub fn find(&self, host: &str) -> Option<&T> {
        // The iterator borrows both; for one value the common cases need no chain.
        if let Some(value) = self.exact.get(host) {
            return Some(value);
        }
        if !self.one_label.is_empty() || !self.many_labels.is_empty() {
            for (depth, suffix) in parents(host).enumerate() {
                if depth == 0
                    && let Some(value) = self.one_label.get(suffix)
                {
                    return Some(value);
                }
                if let Some(value) = self.many_labels.get(suffix) {
                    return Some(value);
                }
            }
        }
        self.any.as_ref()
    }

    /// All patterns and values in a stable order: the most specific first, then by name.
    pub fn iter(&self) -> impl Iterator<Item = (HostPattern, &T)> {
        let mut all: Vec<_> = self
            .exact
            .iter()
            .map(|(name, value)| (HostPattern::Exact(name.clone()), value))
            .chain(self.wildcards(&self.one_label, Labels::One))
            .chain(self.wildcards(&self.many_labels, Labels::Many))
            .chain(self.any.iter().map(|value| (HostPattern::Any, value)))
            .collect();
        all.sort_by(|(a, _), (b, _)| {
            b.specificity()
                .0
                .cmp(&a.specificity().0)
                .then_with(|| a.to_string().cmp(&b.to_string()))
        });
        all.into_iter()
    }

    /// All values, for changes in place.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact
            .values_mut()
            .chain(self.one_label.values_mut())
            .chain(self.many_labels.values_mut())
            .chain(self.any.iter_mut())
    }

    /// How many patterns there are.
    pub fn len(&self) -> usize {
        self.exact.len()
            + self.one_label.len()
            + self.many_labels.len()
            + usize::from(self.any.is_some())
    }

    /// Whether nothing can match.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn wildcards<'a>(
        &'a self,
        map: &'a HashMap<Arc<str>, T>,
        labels: Labels,
    ) -> impl Iterator<Item = (HostPattern, &'a T)> + 'a {
        map.iter().map(move |(suffix, value)| {
            (
                HostPattern::Wildcard {
                    suffix: suffix.clone(),
                    labels,
                },
                value,
            )
        })
    }
}

impl<T: Serialize> Serialize for HostMap<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ordered: BTreeMap<String, &T> = BTreeMap::new();
        for (pattern, value) in self.iter() {
            // The two kinds of wildcard may stand side by side where Ingress and Gateway share a port.
            let mut name = pattern.to_string();
            if ordered.contains_key(&name) {
                name.push_str(" (one label)");
            }
            ordered.insert(name, value);
        }
        serializer.collect_map(ordered)
    }
}

/// `a.b.c` gives `b.c`, `c`. An empty first label (`.b.c`) is no label and gives nothing for it.
fn parents(host: &str) -> impl Iterator<Item = &str> {
    let mut rest = host;
    std::iter::from_fn(move || {
        let at = rest.find('.')?;
        if at == 0 {
            return None;
        }
        rest = &rest[at + 1..];
        Some(rest)
    })
}

#[cfg(test)]
mod tests;
