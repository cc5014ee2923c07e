//! Where a key may stand in a request.

use tidegate_sdk::{header, template};

use super::Edit;

/// A place, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A header, and what stands before the key in it (`Bearer `), without case.
    Header {
        name: String,
        prefix: String,
    },
    Query(String),
    Cookie(String),
}

impl Place {
    /// The keys there; `None` where the place is empty.
    pub(super) fn find(
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

    /// What takes the key out of the request. `target` is what is left after earlier places.
    pub(super) fn strip(
        &self,
        target: &mut Vec<u8>,
        values: &dyn Fn(&str) -> Vec<Vec<u8>>,
    ) -> Option<Edit> {
        match self {
            // With a prefix the header may carry something else (Basic), which stays.
            Self::Header { .. } => {
                self.find(target, values)?;
                let Self::Header { name, .. } = self else {
                    return None;
                };
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
            Self::Cookie(name) => {
                let before = values("cookie");
                if cookies(&before, name).is_empty() {
                    return None;
                }
                let kept: Vec<&[u8]> = before
                    .iter()
                    .flat_map(|value| value.split(|byte| *byte == b';'))
                    .map(<[u8]>::trim_ascii)
                    .filter(|pair| !pair.is_empty() && header::cookie(&[pair], name).is_none())
                    .collect();
                let cookie = String::from("cookie");
                Some(match kept.is_empty() {
                    true => Edit::Remove(cookie),
                    false => Edit::Set(cookie, kept.join(&b"; "[..])),
                })
            }
        }
    }
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
        .filter(|pair| is_pair_of(pair, name))
        .map(|pair| template::parameter(pair, name).unwrap_or_default())
        .collect()
}

fn cookies(values: &[Vec<u8>], name: &str) -> Vec<Vec<u8>> {
    values
        .iter()
        .flat_map(|value| value.split(|byte| *byte == b';'))
        .filter_map(|pair| header::cookie(&[pair], name).map(<[u8]>::to_vec))
        .collect()
}
