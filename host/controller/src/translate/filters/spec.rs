//! What a Filter says that needs no other object: VM, failure policies, limits, capabilities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{
    Capability, Compatibility, Config, FailureCause, FailurePolicies, FailurePolicy, FilterId,
    FilterLimits, FilterMode, FilterSpec, ImageReference, Isolation, ModuleSource, PinnedImage,
    VmSpec,
};

use crate::api::tidegate as api;

/// What the schema allows. An object may be older than that.
const LONGEST_CALL: Duration = Duration::from_secs(60);
const LONGEST_START: Duration = Duration::from_secs(300);

/// The spec without module, configuration and clusters.
pub(super) fn read(object: &api::Filter) -> FilterSpec {
    let written = &object.spec;
    FilterSpec {
        slot: 0,
        id: FilterId {
            namespace: object.meta.namespace.as_str().into(),
            name: object.meta.name.as_str().into(),
        },
        // Replaced by the caller.
        module: ModuleSource::Builtin(Arc::from("")),
        pinned: pinned(written),
        sha256: written.sha256.as_deref().map(Into::into),
        config: Config::default(),
        root_id: written.root_id.as_str().into(),
        vm: VmSpec {
            id: written.vm.id.as_str().into(),
            config: written.vm.config.as_str().into(),
            env: written.vm.env.clone(),
            isolation: match written.vm.isolation {
                api::Isolation::Shared => Isolation::Shared,
                api::Isolation::Dedicated => Isolation::Dedicated,
                api::Isolation::Request => Isolation::Request,
            },
        },
        failure_policy: failure_policies(written),
        limits: limits(written),
        clusters: BTreeMap::new(),
        capabilities: match &written.capabilities {
            None => BTreeSet::from(Capability::ALL),
            Some(listed) => listed
                .iter()
                .map(|capability| self::capability(*capability))
                .collect(),
        },
        headers_wait_for_body: written.headers_wait_for_body,
        compatibility: Compatibility {
            old_property_names: written.compatibility.old_property_names,
        },
        mode: match written.mode {
            api::FilterMode::Enforce => FilterMode::Enforce,
            api::FilterMode::Shadow => FilterMode::Shadow,
        },
    }
}

/// What the status says of the image that the Filter names now. Of the name that it had before it says nothing.
fn pinned(written: &api::FilterSpec) -> Option<PinnedImage> {
    let (api::ModuleSource::Image(name), Some(known)) = (&written.module, &written.pinned) else {
        return None;
    };
    let name: ImageReference = name.parse().ok()?;
    Some(PinnedImage {
        manifest: name.digest_in(&known.image)?,
        module: known.digest.as_str().into(),
    })
}

fn capability(written: api::Capability) -> Capability {
    match written {
        api::Capability::SharedData => Capability::SharedData,
        api::Capability::SharedQueues => Capability::SharedQueues,
        api::Capability::Metrics => Capability::Metrics,
        api::Capability::Timers => Capability::Timers,
        api::Capability::Properties => Capability::Properties,
        api::Capability::ForeignFunctions => Capability::ForeignFunctions,
    }
}

fn failure_policies(written: &api::FilterSpec) -> FailurePolicies {
    let policy = |policy: api::FailurePolicy| match policy {
        api::FailurePolicy::Closed => FailurePolicy::Closed,
        api::FailurePolicy::Open => FailurePolicy::Open,
    };
    let causes = &written.failure_policy_by_cause;
    let by_cause = [
        (FailureCause::Load, causes.load),
        (FailureCause::Configure, causes.configure),
        (FailureCause::Trap, causes.trap),
        (FailureCause::Deadline, causes.deadline),
        (FailureCause::Memory, causes.memory),
    ];
    FailurePolicies {
        default: policy(written.failure_policy),
        by_cause: by_cause
            .into_iter()
            .filter_map(|(cause, exception)| Some((cause, policy(exception?))))
            .collect(),
    }
}

/// What the Filter sets, else what suits the bundled module, else the host's defaults.
fn limits(written: &api::FilterSpec) -> FilterLimits {
    let general = FilterLimits::default();
    let bundled = match &written.module {
        api::ModuleSource::Builtin(name) => tidegate_filters::get(name),
        _ => None,
    };
    let size = |size: Option<u64>, default: usize| {
        size.map_or(default, |size| usize::try_from(size).unwrap_or(usize::MAX))
    };
    FilterLimits {
        call_timeout: written
            .limits
            .call_timeout
            .or(bundled.and_then(|bundled| bundled.call_timeout))
            .unwrap_or(general.call_timeout)
            .min(LONGEST_CALL),
        start_timeout: written
            .limits
            .start_timeout
            .unwrap_or(general.start_timeout)
            .min(LONGEST_START),
        memory: size(written.limits.memory, general.memory),
        buffered_body: size(written.limits.buffered_body, general.buffered_body),
        calls: written.limits.calls.map_or(general.calls, |calls| {
            usize::try_from(calls).unwrap_or(usize::MAX)
        }),
    }
}
