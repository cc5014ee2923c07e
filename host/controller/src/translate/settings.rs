//! Settings of listeners: what the GatewayConfigs of their classes ask for.
//!
//! A connection is judged before anything is known of a host, so listeners that share an address share their settings: those of
//! the oldest whose class asks for any. The others are told.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{ListenerLimits, ListenerSettings};

use super::options::Bind;
use super::tables::Site;
use crate::api::Key;
use crate::api::tidegate::GatewayConfig;

/// Settings, and who asks for them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    config: Key,
    settings: ListenerSettings,
}

impl Asked {
    /// What a class asks for, if it asks for anything.
    pub(super) fn of(config: &GatewayConfig) -> Option<Self> {
        let settings = read(config);
        (!settings.is_empty()).then(|| Self {
            config: config.key(),
            settings,
        })
    }
}

/// What holds at an address: the first that is asked for.
pub(super) fn of_address(sites: &[&Site]) -> ListenerSettings {
    let asked = sites.iter().flat_map(|site| &site.asked).next();
    asked.map_or_else(ListenerSettings::default, |asked| asked.settings.clone())
}

/// GatewayConfigs that do not hold at an address, and why.
pub(super) fn overruled(sites: &[Site]) -> BTreeSet<(Key, String)> {
    let mut first: BTreeMap<Bind, &Asked> = BTreeMap::new();
    let mut overruled = BTreeSet::new();
    for (bind, asked) in sites
        .iter()
        .flat_map(|site| site.asked.iter().map(|asked| (site.socket(), asked)))
    {
        let holds = *first.entry(bind).or_insert(asked);
        if holds.settings != asked.settings {
            let why = format!(
                "spec.trustedHops and spec.limits have no effect on {bind}, where an older listener has those of GatewayConfig {}: give the listeners addresses or ports of their own, or equal settings",
                holds.config
            );
            overruled.insert((asked.config.clone(), why));
        }
    }
    overruled
}

fn read(config: &GatewayConfig) -> ListenerSettings {
    let limits = &config.spec.limits;
    let bytes = |limit: Option<u32>| limit.and_then(|limit| usize::try_from(limit).ok());
    ListenerSettings {
        trusted_hops: config.spec.trusted_hops,
        limits: ListenerLimits {
            head_bytes: bytes(limits.request_head_bytes),
            headers: bytes(limits.request_headers),
            target_bytes: bytes(limits.request_target_bytes),
            head_timeout: limits.request_head_timeout,
            idle_timeout: limits.idle_timeout,
            body_idle_timeout: limits.body_idle_timeout,
            handshake_timeout: limits.tls_handshake_timeout,
            streams: limits.streams,
            stream_idle_timeout: limits.stream_idle_timeout,
            session_idle_timeout: limits.session_idle_timeout,
        },
    }
}
