//! What is said about an object that is referred to and is not there.

use crate::api::{Key, Kind};
use crate::resources::{ObjectId, Resources};

/// That it does not exist, or that it was refused where it is written; with what to do.
pub(super) fn absent(resources: &Resources, kind: Kind, namespace: &str, name: &str) -> String {
    let id = ObjectId {
        kind,
        key: Key::new(namespace, name),
    };
    match resources
        .rejected
        .iter()
        .find(|rejected| rejected.id().as_ref() == Some(&id))
    {
        Some(rejected) => format!(
            "{kind} {} at {} was refused: mend it there",
            id.key, rejected.source
        ),
        None => format!(
            "{kind} {} does not exist: create it or correct the reference",
            id.key
        ),
    }
}
