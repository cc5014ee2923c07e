//! Streams: where connections go that nobody reads (TLSRoute, TCPRoute, UDPRoute).

use std::sync::Arc;

use serde::Serialize;

use crate::hostname::HostMap;
use crate::rule::{RuleOrigin, WeightedBackend};

/// Where the connections of a listener hostname go.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Streams {
    /// What happens to TLS.
    pub tls: StreamTls,
    /// By route hostname; of several that have the client's name the narrowest takes the connection. TCP and UDP have no names:
    /// there the one rule stands under `*`.
    pub routes: HostMap<Arc<StreamRule>>,
}

/// What happens to TLS of streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum StreamTls {
    /// There is none, as far as the gateway knows.
    #[default]
    None,
    /// It goes on to the backend as it is (`tls.mode: Passthrough`).
    Passthrough,
    /// It ends here, and what it carried goes on (`tls.mode: Terminate`).
    Terminate,
}

/// The rule of a route for streams: a backend by weight, once for each connection (for UDP: each client's session).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamRule {
    /// Where it comes from.
    pub origin: RuleOrigin,
    /// Where connections go; filters of these backends are always empty.
    pub backends: Vec<WeightedBackend>,
    /// Whether connections appear in the access log.
    pub access_log: bool,
}

impl Streams {
    /// The rule for connections to this name (empty where the client names none).
    pub fn find(&self, name: &str) -> Option<&Arc<StreamRule>> {
        self.routes.find(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostname::{HostPattern, Labels};

    fn streams(names: &[&str]) -> Streams {
        let mut routes = HostMap::default();
        for (index, name) in names.iter().enumerate() {
            let rule = StreamRule {
                origin: RuleOrigin::new("TLSRoute", "default", name, index, None),
                backends: Vec::new(),
                access_log: true,
            };
            routes.insert(&HostPattern::parse(name, Labels::Many), Arc::new(rule));
        }
        Streams {
            tls: StreamTls::Passthrough,
            routes,
        }
    }

    #[test]
    fn the_narrowest_name_takes_a_connection() {
        let streams = streams(&["*.test", "*.b.test", "a.b.test"]);
        let taken = |name| streams.find(name).map(|rule| rule.origin.name.to_string());
        assert_eq!(taken("a.b.test").as_deref(), Some("a.b.test"));
        assert_eq!(taken("x.b.test").as_deref(), Some("*.b.test"));
        assert_eq!(taken("x.y.test").as_deref(), Some("*.test"));
        assert_eq!(taken("test"), None);
        assert_eq!(taken(""), None);
    }

    #[test]
    fn without_names_one_rule_takes_everything() {
        let streams = streams(&["*"]);
        assert!(streams.find("").is_some());
        assert!(streams.find("a.test").is_some());
    }

    #[test]
    fn printed_by_name() {
        let printed = serde_json::to_value(streams(&["a.test"])).expect("plain data");
        assert_eq!(printed["tls"], "Passthrough");
        assert_eq!(printed["routes"]["a.test"]["origin"]["kind"], "TLSRoute");
    }
}
