//! The contexts of one VM: roots (one per plugin) and streams (one per request and plugin).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::config::PluginConfig;
use crate::expression::Expressions;
use crate::stream::StreamIo;

/// A map keyed by ids that this host hands out: no defence against chosen keys is needed.
pub(crate) type IdMap<T> = HashMap<u32, T, BuildHasherDefault<IdHasher>>;

/// Spreads consecutive numbers by one multiplication.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

/// Roots and streams, which share one counter of ids.
#[derive(Default)]
pub(crate) struct Contexts {
    pub(crate) roots: IdMap<Root>,
    pub(crate) streams: IdMap<Stream>,
    pub(crate) last: u32,
}

/// A plugin in a VM.
#[derive(Clone)]
pub(crate) struct Root {
    pub(crate) plugin: Arc<PluginConfig>,
    /// "ns/name", for logs.
    pub(crate) label: Arc<str>,
    /// What `proxy_get_status` tells: of the last gRPC close.
    pub(crate) status: (u32, String),
    pub(crate) life: Life,
    /// Properties declared by `declare_property`, and whether they are read-only.
    pub(crate) declared: HashMap<Vec<u8>, bool>,
    /// Made by `expr_create`.
    pub(crate) expressions: Expressions,
}

/// How far a root is on its way out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Life {
    Alive,
    /// `proxy_on_done` said no: `proxy_done` will follow.
    Leaving,
    /// `proxy_done` was called: `proxy_on_delete` is due.
    Done,
}

/// A plugin's view of one request.
pub(crate) struct Stream {
    pub(crate) root: u32,
    pub(crate) io: Option<Box<StreamIo>>,
    /// What is available now, of [`Open`].
    pub(crate) open: Open,
    /// `end_of_stream` of the last headers or body callback.
    pub(crate) end_of_stream: bool,
    /// Inside `proxy_on_log`: all heads can be read.
    pub(crate) logging: bool,
    /// `proxy_on_log` or `proxy_on_done` came: nothing can be sent any more.
    pub(crate) ending: bool,
    /// A local reply was sent: the first one wins.
    pub(crate) replied: bool,
}

/// The maps and bodies that a stream context can reach: from their callback until the guest lets go of them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Open(u8);

// === impl IdHasher ===

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    #[inline]
    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

// === impl Contexts ===

impl Contexts {
    /// Contexts alive.
    pub(crate) fn len(&self) -> usize {
        self.roots.len() + self.streams.len()
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        self.streams.contains_key(&id) || self.roots.contains_key(&id)
    }

    /// A free id, from 1 up; after four thousand million streams numbers come round again.
    pub(crate) fn next_id(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.contains(self.last) {
                return self.last;
            }
        }
    }

    /// The root that a context belongs to.
    #[inline]
    pub(crate) fn root_id(&self, id: u32) -> Option<u32> {
        match self.streams.get(&id) {
            Some(stream) => Some(stream.root),
            None => self.roots.contains_key(&id).then_some(id),
        }
    }
}

// === impl Root ===

impl Root {
    pub(crate) fn new(plugin: Arc<PluginConfig>) -> Self {
        let label = format!("{}/{}", plugin.namespace, plugin.name).into();
        Self {
            plugin,
            label,
            status: (0, String::new()),
            life: Life::Alive,
            declared: HashMap::new(),
            expressions: Expressions::default(),
        }
    }
}

// === impl Stream ===

impl Stream {
    pub(crate) fn new(root: u32) -> Self {
        Self {
            root,
            io: None,
            open: Open::default(),
            end_of_stream: false,
            logging: false,
            ending: false,
            replied: false,
        }
    }
}

// === impl Open ===

impl Open {
    pub(crate) const REQUEST_HEADERS: Self = Self(1);
    pub(crate) const REQUEST_BODY: Self = Self(1 << 1);
    pub(crate) const REQUEST_TRAILERS: Self = Self(1 << 2);
    pub(crate) const RESPONSE_HEADERS: Self = Self(1 << 3);
    pub(crate) const RESPONSE_BODY: Self = Self(1 << 4);
    pub(crate) const RESPONSE_TRAILERS: Self = Self(1 << 5);
    /// What `proxy_continue_stream` takes away, of either direction.
    pub(crate) const REQUEST: Self = Self(0b111);
    pub(crate) const NOTHING: Self = Self(0);
    /// What the trailers callbacks are about: trailers, and the body as far as it was held back.
    pub(crate) const REQUEST_END: Self = Self(0b110);
    pub(crate) const RESPONSE_END: Self = Self(0b11_0000);

    #[inline]
    pub(crate) const fn has(self, part: Self) -> bool {
        self.0 & part.0 != 0
    }

    #[inline]
    pub(crate) const fn insert(&mut self, part: Self) {
        self.0 |= part.0;
    }

    #[inline]
    pub(crate) const fn remove(&mut self, part: Self) {
        self.0 &= !part.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_start_at_one_skip_zero_and_those_in_use() {
        let mut contexts = Contexts::default();
        assert_eq!(contexts.next_id(), 1);
        contexts.streams.insert(2, Stream::new(1));
        assert_eq!(contexts.next_id(), 3);
        contexts.last = u32::MAX;
        assert_eq!(contexts.next_id(), 1);
        assert_eq!(contexts.next_id(), 3);
    }
}
