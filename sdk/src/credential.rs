//! Where a request may carry a credential (a key, a token), as filters' configurations name such places, and taking it out.

use serde::Deserialize;

use crate::{ConfigError, Headers, header, template};

/// A place as a configuration writes it: one of `{"header": …, "prefix": …}`, `{"query": …}` and `{"cookie": …}`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PlaceConfig {
    /// Name of a header.
    pub header: Option<String>,
    /// What stands before the credential in the header (`Bearer `), without case.
    pub prefix: Option<String>,
    /// Name of a parameter of the query.
    pub query: Option<String>,
    /// Name of a cookie.
    pub cookie: Option<String>,
}

/// A place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A header.
    Header {
        /// Its name in lower case.
        name: String,
        /// What stands before the credential in it, without case; empty for nothing.
        prefix: String,
    },
    /// A parameter of the query.
    Query(String),
    /// A cookie.
    Cookie(String),
}

/// A change of a request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A header, or `:path`, gets this value.
    Set(String, Vec<u8>),
    /// A header goes.
    Remove(String),
}

/// Headers that carry no credential and no value of a filter's own: connections, framing, hosts and cookies are made of them.
pub const RESERVED: [&str; 6] = [
    "connection",
    "content-length",
    "cookie",
    "host",
    "te",
    "transfer-encoding",
];

/// Carries the changes out, in their order.
pub fn apply(headers: Headers, edits: impl IntoIterator<Item = Edit>) {
    for edit in edits {
        match edit {
            Edit::Set(name, value) => headers.set(&name, value),
            Edit::Remove(name) => headers.remove(&name),
        }
    }
}

// === impl PlaceConfig ===

impl PlaceConfig {
    /// A header with a prefix; empty for none.
    #[must_use]
    pub fn header(name: &str, prefix: &str) -> Self {
        Self {
            header: Some(name.to_owned()),
            prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
            ..Self::default()
        }
    }

    /// Checks it; `field` is named in errors.
    ///
    /// # Errors
    ///
    /// Not exactly one of the three, names that are none, a prefix without a header.
    pub fn compile(&self, field: &str) -> Result<Place, ConfigError> {
        match (&self.header, &self.query, &self.cookie) {
            (Some(name), None, None) => Ok(Place::Header {
                name: header::name(&format!("{field}.header"), name, &RESERVED)?,
                prefix: self.prefix.clone().unwrap_or_default(),
            }),
            (None, Some(name), None) if self.prefix.is_none() && !name.is_empty() => {
                Ok(Place::Query(name.clone()))
            }
            (None, None, Some(name))
                if self.prefix.is_none() && header::is_token(name.as_bytes()) =>
            {
                Ok(Place::Cookie(name.clone()))
            }
            _ => Err(ConfigError::new(
                field,
                "must hold exactly one of header, query and cookie, with a valid name, and a prefix beside header only",
            )),
        }
    }
}

// === impl Place ===

impl Place {
    /// The credentials there; `None` where the place is empty. `values` gives all values of a header.
    #[must_use]
    pub fn find(
        &self,
        target: &[u8],
        values: &dyn Fn(&str) -> Vec<Vec<u8>>,
    ) -> Option<Vec<Vec<u8>>> {
        let found = match self {
            Self::Header { name, prefix } => values(name)
                .into_iter()
                .filter_map(|value| without_prefix(&value, prefix))
                .collect(),
            Self::Query(name) => parameters(template::split(target).1, name),
            Self::Cookie(name) => cookies(&values("cookie"), name),
        };
        (!found.is_empty()).then_some(found)
    }

    /// Whether both are in one header, with two prefixes: what stands there once is found in both places then.
    #[must_use]
    pub fn is_in_header_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Header { name, .. }, Self::Header { name: other, .. }) => name == other,
            _ => false,
        }
    }

    /// What takes the credential out of the request; `None` where there is none. `target` is what is left after earlier places.
    #[must_use]
    pub fn strip(
        &self,
        target: &mut Vec<u8>,
        values: &dyn Fn(&str) -> Vec<Vec<u8>>,
    ) -> Option<Edit> {
        match self {
            // With a prefix the header may carry something else (Basic), which stays.
            Self::Header { name, .. } => {
                self.find(target, values)?;
                Some(Edit::Remove(name.clone()))
            }
            Self::Query(name) => {
                let (path, query) = template::split(target);
                if parameters(query, name).is_empty() {
                    return None;
                }
                let kept: Vec<&[u8]> = query
                    .split(|byte| *byte == b'&')
                    .filter(|pair| !is_pair_of(pair, name))
                    .collect();
                let mut new = path.to_vec();
                if !kept.is_empty() {
                    new.push(b'?');
                    new.extend(kept.join(&b'&'));
                }
                *target = new.clone();
                Some(Edit::Set(String::from(":path"), new))
            }
            Self::Cookie(name) => without_cookies(&values("cookie"), |found| found == name),
        }
    }
}

/// What takes the cookies whose names `gone` accepts out of the values of `cookie` headers; `None` where there is none of them.
#[must_use]
pub fn without_cookies(values: &[Vec<u8>], gone: impl Fn(&str) -> bool) -> Option<Edit> {
    let is_gone = |pair: &[u8]| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or(pair);
        let name = std::str::from_utf8(name.trim_ascii());
        pair.contains(&b'=') && name.is_ok_and(&gone)
    };
    let pairs = || {
        let pairs = values
            .iter()
            .flat_map(|value| value.split(|byte| *byte == b';'));
        pairs
            .map(<[u8]>::trim_ascii)
            .filter(|pair| !pair.is_empty())
    };
    if !pairs().any(is_gone) {
        return None;
    }
    let kept: Vec<&[u8]> = pairs().filter(|pair| !is_gone(pair)).collect();
    let cookie = String::from("cookie");
    Some(match kept.is_empty() {
        true => Edit::Remove(cookie),
        false => Edit::Set(cookie, kept.join(&b"; "[..])),
    })
}

fn without_prefix(value: &[u8], prefix: &str) -> Option<Vec<u8>> {
    let value = value.trim_ascii();
    let (head, key) = value.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix.as_bytes())
        .then(|| key.trim_ascii().to_vec())
}

fn is_pair_of(pair: &[u8], name: &str) -> bool {
    let key = pair.split(|byte| *byte == b'=').next().unwrap_or(pair);
    template::decode(key) == name.as_bytes()
}

fn parameters(query: &[u8], name: &str) -> Vec<Vec<u8>> {
    query
        .split(|byte| *byte == b'&')
        .filter_map(|pair| template::parameter(pair, name))
        .collect()
}

fn cookies(values: &[Vec<u8>], name: &str) -> Vec<Vec<u8>> {
    values
        .iter()
        .flat_map(|value| value.split(|byte| *byte == b';'))
        .filter_map(|pair| header::cookie(&[pair], name).map(<[u8]>::to_vec))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(config: &PlaceConfig) -> Place {
        config.compile("from[0]").unwrap()
    }

    fn values<'a>(headers: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Vec<Vec<u8>> + 'a {
        move |name| {
            let found = headers.iter().filter(|(key, _)| *key == name);
            found.map(|(_, value)| value.as_bytes().to_vec()).collect()
        }
    }

    #[test]
    fn every_credential_of_a_place_is_found() {
        let headers = [
            ("authorization", "bearer  a "),
            ("authorization", "Basic b"),
            ("cookie", "k=1; x=2"),
            ("cookie", "k=3"),
        ];
        let bearer = place(&PlaceConfig::header("Authorization", "Bearer "));
        assert_eq!(
            bearer.find(b"/", &values(&headers)).unwrap(),
            [b"a".to_vec()]
        );
        let cookie = Place::Cookie(String::from("k"));
        assert_eq!(cookie.find(b"/", &values(&headers)).unwrap().len(), 2);
        let query = Place::Query(String::from("k"));
        assert_eq!(query.find(b"/?k=a%20b&k", &values(&[])).unwrap().len(), 2);
        assert_eq!(query.find(b"/k=1", &values(&[])), None);
    }

    #[test]
    fn cookies_go_by_name_and_others_stay() {
        let before = [b"a=1; sid=2;;b=3".to_vec(), b"sid.1=4; sid".to_vec()];
        let edit = without_cookies(&before, |name| name.starts_with("sid"));
        assert_eq!(
            edit,
            Some(Edit::Set("cookie".into(), b"a=1; b=3; sid".to_vec()))
        );
        assert_eq!(without_cookies(&before, |name| name == "other"), None);
        let only = [b"sid=1".to_vec()];
        assert_eq!(
            without_cookies(&only, |_| true),
            Some(Edit::Remove("cookie".into()))
        );
    }

    #[test]
    fn names_that_carry_something_else_are_refused() {
        let config = PlaceConfig::header("Transfer-Encoding", "");
        assert_eq!(
            config.compile("from[0]").unwrap_err().field(),
            "from[0].header"
        );
        let both = PlaceConfig {
            cookie: Some(String::from("k")),
            ..PlaceConfig::header("x-key", "")
        };
        assert!(both.compile("from[0]").is_err());
    }
}
