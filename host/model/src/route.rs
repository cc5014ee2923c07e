//! Routes: what a match is, which match wins, and the table that finds the winner without asking every route.
//!
//! Precedence is an ordering ([`Precedence`]), so "the most specific route" is a greatest element and nothing else
//! (Gateway API, HTTPRouteRule.matches). [`RouteTable::find`] looks only at the paths that can match; a property test
//! holds it against asking all matches one by one.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::{HeaderName, Method};
use regex::Regex;
use serde::{Serialize, Serializer};

use crate::expressions;
use crate::head::RequestHead;
use crate::rule::Rule;

/// A compiled expression that compares and prints as its source. Linear time in the input (crate `regex`).
#[derive(Clone)]
pub struct Pattern {
    source: Arc<str>,
    regex: Arc<Regex>,
}

/// How a path is matched, always against the canonical path ([`crate::path::canonical`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// The path itself or anything below it, by segments. Kept without a trailing slash; `""` matches every path.
    Prefix(Arc<str>),
    /// `/service/method` with any service (GRPCMethodMatch without a service).
    GrpcMethod(Arc<str>),
    /// An expression over the whole path; anchors are the translator's business.
    Regex(Pattern),
}

/// How the value of a header or query parameter is matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueMatch {
    /// The whole value.
    Exact(Arc<str>),
    /// An expression over the whole value.
    Regex(Pattern),
}

/// One match of one rule. All its conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// The path.
    pub path: PathMatch,
    /// The method, if one is asked for.
    #[serde(
        serialize_with = "display_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub method: Option<Method>,
    /// Headers: several values of one name are joined with a comma (RFC 9110 section 5.3).
    #[serde(
        serialize_with = "display_names",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Query parameters; of a repeated name the first counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<(Arc<str>, ValueMatch)>,
}

/// Where a match stands among all matches of one hostname; the greater wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    /// Exact over expression over prefix, then the longer.
    path: (u8, usize),
    method: bool,
    headers: usize,
    query: usize,
    /// Then the older object, the kind (HTTPRoute before Ingress), the name, and the place in the object.
    age: Reverse<Age>,
}

/// What decides between equal matches: everything here is "the smaller wins".
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    /// Creation time in seconds, or the order of reading.
    pub created: (i64, u64),
    /// 0 for Gateway API routes, 1 for Ingress.
    pub kind: u8,
    /// `namespace/name`
    pub name: Arc<str>,
    /// Index of the rule, then of the match in the rule.
    pub place: (usize, usize),
}

/// A match and the rule that it leads to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteEntry {
    /// The condition.
    #[serde(flatten)]
    pub matches: RouteMatch,
    /// What decides between equals.
    #[serde(skip)]
    pub age: Age,
    /// What is done.
    pub rule: Arc<Rule>,
}

/// The question a table is asked: a request, its paths read once.
pub struct RouteQuery<'a> {
    /// The head; its path is not looked at.
    pub head: &'a RequestHead,
    /// The canonical path.
    pub path: Cow<'a, str>,
}

/// All matches of one hostname.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteTable {
    exact: HashMap<Arc<str>, Vec<RouteEntry>>,
    prefix: HashMap<Arc<str>, Vec<RouteEntry>>,
    grpc_method: HashMap<Arc<str>, Vec<RouteEntry>>,
    regex: Vec<RouteEntry>,
    longest_prefix: usize,
}

// === impl Pattern ===

impl Pattern {
    /// Compiles `source` with bounds on size; the whole of the input must match, as in Envoy.
    ///
    /// # Errors
    /// What is wrong with the expression, in the words of crate `regex`.
    pub fn whole(source: &str) -> Result<Self, Box<regex::Error>> {
        Self::compile(source, &format!("^(?:{source})$"))
    }

    /// Compiles `source` as it is: it may match anywhere unless it has anchors.
    ///
    /// # Errors
    /// As [`Pattern::whole`].
    pub fn anywhere(source: &str) -> Result<Self, Box<regex::Error>> {
        Self::compile(source, source)
    }

    /// An expression that stands for another text, which is what it prints and by whose length it is ranked. It may match anywhere
    /// unless it has anchors.
    ///
    /// # Errors
    /// As [`Pattern::whole`].
    pub fn standing_for(source: &str, expression: &str) -> Result<Self, Box<regex::Error>> {
        Self::compile(source, expression)
    }

    /// Whether the input matches.
    pub fn is_match(&self, input: &str) -> bool {
        self.regex.is_match(input)
    }

    /// How many groups the expression captures.
    pub fn groups(&self) -> usize {
        self.regex.captures_len() - 1
    }

    /// The expression as the user wrote it.
    pub fn source(&self) -> &str {
        &self.source
    }

    fn compile(source: &str, full: &str) -> Result<Self, Box<regex::Error>> {
        Ok(Self {
            source: source.into(),
            regex: expressions::compiled(full)?,
        })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

// === impl PathMatch ===

impl PathMatch {
    /// A prefix by segments; a trailing slash means nothing (`/a/` is `/a`).
    pub fn prefix(path: &str) -> Self {
        Self::Prefix(path.trim_end_matches('/').into())
    }

    /// Whether the canonical path is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::GrpcMethod(method) => grpc_method(path) == Some(method),
            Self::Regex(pattern) => pattern.is_match(path),
        }
    }

    fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(path) => (2, path.len()),
            Self::Regex(pattern) => (1, pattern.source.len()),
            // A method stands above no condition at all and below every service (GRPCRouteRule.matches).
            Self::Prefix(path) => (0, 2 * path.len()),
            Self::GrpcMethod(_) => (0, 1),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "exactly {path}"),
            Self::Prefix(path) if path.is_empty() => f.write_str("below /"),
            Self::Prefix(path) => write!(f, "{path} or below"),
            Self::GrpcMethod(method) => write!(f, "method {method} of any service"),
            Self::Regex(pattern) => write!(f, "like {}", pattern.source),
        }
    }
}

impl fmt::Display for ValueMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(value) => write!(f, "{value:?}"),
            Self::Regex(pattern) => write!(f, "like {}", pattern.source),
        }
    }
}

impl ValueMatch {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *value,
            Self::Regex(pattern) => pattern.is_match(value),
        }
    }
}

// === impl RouteMatch ===

impl RouteMatch {
    /// A match on the path alone.
    pub fn path(path: PathMatch) -> Self {
        Self {
            path,
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }
    }

    /// Whether the request is meant.
    pub fn matches(&self, query: &RouteQuery<'_>) -> bool {
        self.path.matches(&query.path) && self.matches_beside_path(query)
    }

    /// The first condition that does not hold, for people who ask why; `None` if all hold.
    pub fn first_mismatch(&self, query: &RouteQuery<'_>) -> Option<String> {
        let head = query.head;
        if !self.path.matches(&query.path) {
            return Some(format!("path {:?} is not {}", query.path, self.path));
        }
        if let Some(method) = self
            .method
            .as_ref()
            .filter(|method| **method != head.method)
        {
            return Some(format!("method {} is not {method}", head.method));
        }
        let header = self
            .headers
            .iter()
            .find(|(name, expected)| !header_matches(head, name, expected));
        if let Some((name, expected)) = header {
            return Some(format!("header {name} is not {expected}"));
        }
        let pairs = head.path.query().unwrap_or_default();
        let parameter = self
            .query
            .iter()
            .find(|one| !query_matches(pairs, std::slice::from_ref(*one)));
        parameter.map(|(name, expected)| format!("query parameter {name} is not {expected}"))
    }

    /// The conditions that the table has not already asked.
    fn matches_beside_path(&self, query: &RouteQuery<'_>) -> bool {
        let head = query.head;
        self.method
            .as_ref()
            .is_none_or(|method| *method == head.method)
            && self
                .headers
                .iter()
                .all(|(name, expected)| header_matches(head, name, expected))
            && (self.query.is_empty()
                || query_matches(head.path.query().unwrap_or_default(), &self.query))
    }
}

fn header_matches(head: &RequestHead, name: &HeaderName, expected: &ValueMatch) -> bool {
    if name == http::header::HOST {
        return head
            .authority
            .to_str()
            .is_ok_and(|value| expected.matches(value));
    }
    let mut values = head.headers.get_all(name).iter();
    let Some(first) = values.next() else {
        return false;
    };
    let Some(second) = values.next() else {
        return first.to_str().is_ok_and(|value| expected.matches(value));
    };
    let mut joined = Vec::from(first.as_bytes());
    for value in std::iter::once(second).chain(values) {
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    std::str::from_utf8(&joined).is_ok_and(|value| expected.matches(value))
}

fn query_matches(query: &str, expected: &[(Arc<str>, ValueMatch)]) -> bool {
    expected.iter().all(|(name, value)| {
        let first = query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_query(key) == **name).then_some(value)
        });
        first.is_some_and(|first| value.matches(&decode_query(first)))
    })
}

/// `application/x-www-form-urlencoded` text; what does not decode stays as it is.
fn decode_query(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |offset: usize| {
            bytes
                .get(at + offset)
                .and_then(|b| char::from(*b).to_digit(16))
        };
        match (bytes[at], digit(1), digit(2)) {
            (b'+', ..) => out.push(b' '),
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                at += 2;
            }
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

// === impl RouteEntry ===

impl RouteEntry {
    /// Where this match stands among those of its hostname.
    pub fn precedence(&self) -> Precedence {
        let RouteMatch {
            path,
            method,
            headers,
            query,
        } = &self.matches;
        Precedence {
            path: path.rank(),
            method: method.is_some(),
            headers: headers.len(),
            query: query.len(),
            age: Reverse(self.age.clone()),
        }
    }
}

// === impl RouteTable ===

impl RouteTable {
    /// A table of these matches.
    pub fn new(entries: impl IntoIterator<Item = RouteEntry>) -> Self {
        let mut table = Self::default();
        for entry in entries {
            table.push(entry);
        }
        table.seal();
        table
    }

    /// Adds a match; [`RouteTable::seal`] must follow before the table is asked.
    pub fn push(&mut self, entry: RouteEntry) {
        let (by_path, path) = match &entry.matches.path {
            PathMatch::Exact(path) => (&mut self.exact, path),
            PathMatch::Prefix(path) => {
                self.longest_prefix = self.longest_prefix.max(path.len());
                (&mut self.prefix, path)
            }
            PathMatch::GrpcMethod(method) => (&mut self.grpc_method, method),
            PathMatch::Regex(_) => return self.regex.push(entry),
        };
        // Most paths have one match: room for more would be most of the table.
        let entries = by_path
            .entry(path.clone())
            .or_insert_with(|| Vec::with_capacity(1));
        entries.push(entry);
    }

    /// Puts the greatest match first under every path.
    pub fn seal(&mut self) {
        let maps = [&mut self.exact, &mut self.prefix, &mut self.grpc_method];
        for entries in maps
            .into_iter()
            .flat_map(HashMap::values_mut)
            .chain([&mut self.regex])
        {
            entries.sort_by_cached_key(|entry| Reverse(entry.precedence()));
        }
    }

    /// The greatest match. Costs one hash for each segment of the path (up to the longest prefix known) and one test for
    /// each expression, whatever the number of routes.
    pub fn find(&self, query: &RouteQuery<'_>) -> Option<&RouteEntry> {
        if let Some(entry) = first(self.exact.get(&*query.path), query) {
            return Some(entry);
        }
        if let Some(entry) = self.regex.iter().find(|entry| entry.matches.matches(query)) {
            return Some(entry);
        }
        for prefix in prefixes(&query.path, self.longest_prefix) {
            if prefix.is_empty()
                && !self.grpc_method.is_empty()
                && let Some(entry) = first(
                    grpc_method(&query.path).and_then(|method| self.grpc_method.get(method)),
                    query,
                )
            {
                return Some(entry);
            }
            if let Some(entry) = first(self.prefix.get(prefix), query) {
                return Some(entry);
            }
        }
        None
    }

    /// All matches, the greatest first.
    pub fn iter(&self) -> impl Iterator<Item = &RouteEntry> {
        let mut all: Vec<_> = self
            .maps()
            .flat_map(HashMap::values)
            .flatten()
            .chain(&self.regex)
            .collect();
        all.sort_by_cached_key(|entry| Reverse(entry.precedence()));
        all.into_iter()
    }

    /// How many matches there are.
    pub fn len(&self) -> usize {
        self.maps()
            .flat_map(HashMap::values)
            .map(Vec::len)
            .sum::<usize>()
            + self.regex.len()
    }

    /// Whether nothing can match.
    pub fn is_empty(&self) -> bool {
        self.maps().all(HashMap::is_empty) && self.regex.is_empty()
    }

    fn maps(&self) -> impl Iterator<Item = &HashMap<Arc<str>, Vec<RouteEntry>>> {
        [&self.exact, &self.prefix, &self.grpc_method].into_iter()
    }
}

/// The greatest match among those of one path.
fn first<'a>(
    entries: Option<&'a Vec<RouteEntry>>,
    query: &RouteQuery<'_>,
) -> Option<&'a RouteEntry> {
    entries?
        .iter()
        .find(|entry| entry.matches.matches_beside_path(query))
}

/// The method of `/service/method`.
fn grpc_method(path: &str) -> Option<&str> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    (!service.is_empty() && !method.is_empty() && !method.contains('/')).then_some(method)
}

impl Serialize for RouteTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// `/a/b/c` gives `/a/b/c`, `/a/b`, `/a` and the empty prefix, leaving out what is longer than `longest`.
fn prefixes(path: &str, longest: usize) -> impl Iterator<Item = &str> {
    let mut next = Some(path);
    std::iter::from_fn(move || {
        loop {
            let prefix = next?;
            next = prefix.rfind('/').map(|at| &prefix[..at]);
            if prefix.len() <= longest {
                return Some(prefix);
            }
        }
    })
}

fn display_option<T: fmt::Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn display_names<S: Serializer>(
    headers: &[(HeaderName, ValueMatch)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| (name.as_str(), value)))
}

#[cfg(test)]
mod tests;
