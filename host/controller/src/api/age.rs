//! Age, the tie-breaker of the Gateway API: of two objects that ask for the same, the older wins.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

/// How old an object is; less is older.
///
/// Objects with a `creationTimestamp` are older than objects that were only read from a file. Equal
/// ages are told apart by kind, namespace and name, as the specification says; that is the caller's
/// comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// `metadata.creationTimestamp`.
    Created(Timestamp),
    /// The order of reading, for manifests without a timestamp: path, then position in the file. It
    /// does not depend on other files, so that a new file leaves the objects of the others equal.
    Read {
        /// The file.
        path: Arc<Path>,
        /// The object's position in the file, from 0, list items counted one by one.
        position: u32,
    },
    /// Neither is known.
    #[default]
    Unknown,
}
