//! Where a token may stand in a request.

use tidegate_sdk::{header, template};

use super::Edit;

/// A place, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A header, and what stands before the token in it, without case.
    Header {
        name: String,
        prefix: String,
    },
    Query(String),
    Cookie(String),
}

impl Place {
    /// The tokens there; `None` where the place is empty.
    pub(super) fn find(
        &self,
        target: &[u8],
        values: &dyn Fn(&str) -> Vec<Vec<u8>>,
    ) -> Option<Vec<Vec<u8>>> {
        let found: Vec<Vec<u8>> = match self {
            Self::Header { name, prefix } => {
                let of_prefix = |value: Vec<u8>| {
                    let value = value.trim_ascii();
                    let (head, token) = value.split_at_checked(prefix.len())?;
                    let fits = head.eq_ignore_ascii_case(prefix.as_bytes());
                    fits.then(|| token.trim_ascii().to_vec())
                };
                values(name).into_iter().filter_map(of_prefix).collect()
            }
            Self::Query(name) => {
                let query = template::split(target).1;
                let pairs = query.split(|byte| *byte == b'&');
                pairs
                    .filter_map(|pair| template::parameter(pair, name))
                    .collect()
            }
            Self::Cookie(name) => {
                let headers = values("cookie");
                let pairs = headers
                    .iter()
                    .flat_map(|value| value.split(|byte| *byte == b';'));
                pairs
                    .filter_map(|pair| header::cookie(&[pair], name).map(<[u8]>::to_vec))
                    .collect()
            }
        };
        (!found.is_empty()).then_some(found)
    }

    /// What keeps the token from the upstream. Only a header can be taken out whole.
    pub(super) fn strip(&self) -> Option<Edit> {
        match self {
            Self::Header { name, .. } => Some(Edit::Remove(name.clone())),
            Self::Query(_) | Self::Cookie(_) => None,
        }
    }
}
