//! The headers of a request or a response.
//!
//! Everything is bytes: a header is no UTF-8 until it is checked.

use crate::hostcalls::{self, Map};
use crate::log;

/// Headers in the host's hands. Readable and writable until the head has gone on; after that reading finds nothing, and writing
/// changes nothing but the log.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    map: Map,
}

impl Headers {
    pub(crate) const REQUEST: Self = Self { map: Map::Request };
    pub(crate) const RESPONSE: Self = Self { map: Map::Response };

    /// The first value.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Vec<u8>> {
        hostcalls::header(self.map, name)
    }

    /// The first value, if it is UTF-8.
    #[must_use]
    pub fn text(self, name: &str) -> Option<String> {
        String::from_utf8(self.get(name)?).ok()
    }

    /// All values, in order.
    #[must_use]
    pub fn values(self, name: &str) -> Vec<Vec<u8>> {
        // One cheap call settles the usual case, a header that is not there.
        if self.get(name).is_none() {
            return Vec::new();
        }
        self.pairs()
            .into_iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
            .collect()
    }

    /// All names and values in order, pseudo-headers (`:path`) included; names are in lower case.
    #[must_use]
    pub fn pairs(self) -> Vec<(Vec<u8>, Vec<u8>)> {
        hostcalls::headers(self.map)
    }

    /// Sets a header to one value, instead of all that are there.
    pub fn set(self, name: &str, value: impl AsRef<[u8]>) {
        // Hosts may replace the first of several values only: the others go first. Pseudo-headers have one, and must not be missing.
        let removed = match name.starts_with(':') {
            true => Ok(()),
            false => hostcalls::remove_header(self.map, name),
        };
        let set = removed.and_then(|()| hostcalls::set_header(self.map, name, value.as_ref()));
        if let Err(status) = set {
            log::refused(&format!("to set the header {name}"), status);
        }
    }

    /// Adds a value beside those that are there.
    pub fn add(self, name: &str, value: impl AsRef<[u8]>) {
        if let Err(status) = hostcalls::add_header(self.map, name, value.as_ref()) {
            log::refused(&format!("to add the header {name}"), status);
        }
    }

    /// Removes all values.
    pub fn remove(self, name: &str) {
        if let Err(status) = hostcalls::remove_header(self.map, name) {
            log::refused(&format!("to remove the header {name}"), status);
        }
    }
}
