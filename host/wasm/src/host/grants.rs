//! What guests ask for, held against what their Filters grant. What is not granted is refused, said once, and told by a trial.

use super::Host;
use crate::config::Capabilities;
use crate::failure::shorten;

/// Clusters that a VM remembers being refused, and bytes of their names.
const MAX_CLUSTERS: usize = 8;
const MAX_NAME: usize = 128;

impl Host {
    /// Whether the current context's plugin may use that group of hostcalls. If not, that is noted.
    #[inline]
    pub(crate) fn grants(&mut self, capability: Capabilities) -> bool {
        let granted = self
            .root()
            .is_some_and(|root| root.plugin.capabilities.contains(capability));
        if !granted {
            self.note_capability(capability);
        }
        granted
    }

    #[cold]
    fn note_capability(&mut self, capability: Capabilities) {
        // Before the first context nothing is anybody's.
        if self.root().is_none() || self.ungranted.capabilities.contains(capability) {
            return;
        }
        self.ungranted.capabilities = self.ungranted.capabilities | capability;
        for name in capability.iter() {
            self.remark(&format!(
                "the filter asks for {name}, which spec.capabilities does not grant: the call is refused"
            ));
        }
    }

    /// Notes a call to a cluster that the current context's plugin may not call.
    #[cold]
    pub(crate) fn note_cluster(&mut self, name: &[u8]) {
        let mut name = String::from_utf8_lossy(name).into_owned();
        if let Some(root) = self.root() {
            name = root.plugin.secrets.redact(&name).into_owned();
        }
        let name = shorten(&name, MAX_NAME);
        let known = &mut self.ungranted.clusters;
        if known.len() >= MAX_CLUSTERS || !known.insert(name.clone()) {
            return;
        }
        self.remark(&format!(
            "the filter calls the cluster {name:?}, which spec.clusters does not declare: the call is refused"
        ));
    }

    fn remark(&self, message: &str) {
        if let Some(root) = self.root() {
            self.log.remark(&root.label, message);
        }
    }
}
