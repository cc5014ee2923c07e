//! The streams that are alive.

use std::rc::Rc;

use super::Stream;

/// Streams in the order of their contexts. Hosts count upwards and end streams about as they began them, so a new one goes to the
/// end and nothing is allocated for it.
pub(super) struct Streams(Vec<Rc<Stream>>);

impl Streams {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn insert(&mut self, stream: Rc<Stream>) {
        match self.find(stream.context()) {
            Ok(at) => self.0[at] = stream,
            Err(at) => self.0.insert(at, stream),
        }
    }

    pub(super) fn get(&self, context: u32) -> Option<&Rc<Stream>> {
        self.0.get(self.find(context).ok()?)
    }

    pub(super) fn remove(&mut self, context: u32) -> Option<Rc<Stream>> {
        let at = self.find(context).ok()?;
        Some(self.0.remove(at))
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn for_each(&self, each: impl FnMut(&Rc<Stream>)) {
        self.0.iter().for_each(each);
    }

    /// Where it is, or where it belongs.
    fn find(&self, context: u32) -> Result<usize, usize> {
        self.0
            .binary_search_by_key(&context, |stream| stream.context())
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self::new()
    }
}
