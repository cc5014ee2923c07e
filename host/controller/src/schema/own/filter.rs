//! `Filter.spec`.

use super::{key_ref, name, name_ref, namespace};
use crate::schema::build::{
    Schema, any, boolean, int_or_string, int32, list, list_by, object, one_of, set, string,
    text_map,
};

/// GEP-2257.
/// GEP-2257
pub(super) const DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// A Kubernetes quantity, without the units nobody needs here.
const SIZE: &str = "^[0-9]+(\\.[0-9]+)?([kMGT]|[KMGT]i)?$";
const URL: &str = "^https?://[^/?#\\s]+";

/// The schema of `Filter.spec`.
pub(super) fn spec() -> Schema {
    object([
        ("module", module()),
        ("pull", pull()),
        (
            "sha256",
            string()
                .pattern("^[0-9a-f]{64}$")
                .describe("Pins the module, wherever it comes from."),
        ),
        (
            "config",
            any().describe("Passed to the module: a string as it is, anything else as JSON text, absent as empty."),
        ),
        (
            "configFrom",
            list(config_from())
                .items(0, 64)
                .describe("Values put into a JSON config, in order; changes are picked up live."),
        ),
        (
            "rootId",
            string()
                .with("maxLength", 253)
                .default("")
                .describe("Which root context of the module."),
        ),
        ("vm", vm()),
        (
            "failurePolicy",
            failure_policy()
                .default("Closed")
                .describe("What happens to a request when the filter cannot run: refused (Closed) or let through (Open)."),
        ),
        (
            "failurePolicyByCause",
            object(["load", "configure", "trap", "deadline", "memory"].map(|cause| (cause, failure_policy())))
                .describe("Exceptions from failurePolicy."),
        ),
        ("limits", limits()),
        ("clusters", clusters()),
        (
            "capabilities",
            set(one_of([
                "shared-data",
                "shared-queues",
                "metrics",
                "timers",
                "properties",
                "foreign-functions",
            ]))
            .items(0, 6)
            .describe("What the module may use; all of it where this is absent. Calls follow from clusters."),
        ),
        (
            "headersWaitForBody",
            boolean()
                .default(false)
                .describe("Headers wait while the module reads the body (Envoy's allow_on_headers_stop_iteration)."),
        ),
        (
            "compatibility",
            object([(
                "oldPropertyNames",
                boolean().default(false).describe(
                    "Properties have the bare names of Envoy before 1.24, too (cluster_name, route_name, listener_direction and so on).",
                ),
            )])
            .describe("For modules that were written for an older host."),
        ),
        (
            "mode",
            one_of(["Enforce", "Shadow"])
                .default("Enforce")
                .describe("Shadow records what the filter would have done, and does nothing."),
        ),
    ])
    .require(["module"])
    .rule(
        "!has(self.module.url) || has(self.sha256)",
        "sha256 is required when module.url is set",
    )
    .rule(
        "!has(self.module.url) || self.module.url.startsWith('https://') || (has(self.pull) && self.pull.insecure)",
        "module.url must be https unless pull.insecure is set",
    )
}

fn module() -> Schema {
    object([
        (
            "builtin",
            string()
                .length(1, 63)
                .describe("A policy that ships with the host, by name."),
        ),
        (
            "file",
            string().length(1, 4096).describe(
                "A file, absolute or relative to the manifest's folder; only without a cluster.",
            ),
        ),
        (
            "image",
            string()
                .length(1, 1024)
                .describe("An OCI reference; a tag is resolved once and pinned in status."),
        ),
        (
            "url",
            string()
                .length(1, 2048)
                .pattern(URL)
                .describe("An address; needs sha256."),
        ),
        (
            "configMapRef",
            key_ref().describe("A key in binaryData of a ConfigMap in the same namespace."),
        ),
    ])
    .exactly_one(["builtin", "file", "image", "url", "configMapRef"])
    .describe("Where the code comes from: exactly one of these.")
}

fn pull() -> Schema {
    object([
        (
            "secretRef",
            name_ref().describe("Credentials for the registry or the address."),
        ),
        (
            "caRef",
            key_ref().describe("Certificate authorities, in a ConfigMap of the same namespace."),
        ),
        (
            "insecure",
            boolean()
                .default(false)
                .describe("Plain HTTP and certificates nobody vouches for are fine."),
        ),
    ])
    .describe("How an image or url is fetched.")
}

fn config_from() -> Schema {
    let source = || object([("name", name()), ("key", string().length(1, 253))]).require(["name"]);
    object([
        (
            "path",
            string()
                .with("maxLength", 1024)
                .pattern("^(/([^~/]|~[01])*)*$")
                .describe("JSON pointer into config."),
        ),
        (
            "secretRef",
            source().describe("With a key: its text. Without: an object of all keys."),
        ),
        (
            "configMapRef",
            source().describe("With a key: its text. Without: an object of all keys."),
        ),
    ])
    .require(["path"])
    .exactly_one(["secretRef", "configMapRef"])
}

fn vm() -> Schema {
    object([
        (
            "id",
            string()
                .with("maxLength", 253)
                .default("")
                .describe("Filters of a namespace with equal ids share data, queues and metrics."),
        ),
        ("config", string().default("").describe("Passed to the VM when it starts.")),
        ("env", text_map().with("maxProperties", 64).describe("Environment variables.")),
        (
            "isolation",
            one_of(["Shared", "Dedicated", "Request"])
                .default("Shared")
                .describe("With whom a VM is shared: equal filters of the namespace, nobody, or not even another request."),
        ),
    ])
}

/// Of a Filter, and of a class for those that set none.
pub(super) fn limits() -> Schema {
    // A call and a start hold a thread that others wait for.
    let time = |most: &str, text: &str| {
        string()
            .pattern(DURATION)
            .with("maxLength", 32)
            .rule(
                &format!("duration(self) > duration('0s') && duration(self) <= duration('{most}')"),
                &format!("must be greater than zero and at most {most}"),
            )
            .describe(text)
    };
    let size = || int_or_string().with("maxLength", 32).pattern(SIZE);
    object([
        (
            "callTimeout",
            time(
                "60s",
                "CPU time of one call, at most 60s. Default 10ms, or what a bundled module has.",
            ),
        ),
        (
            "startTimeout",
            time(
                "5m",
                "CPU time to start and configure, at most 5m. Default 5s.",
            ),
        ),
        ("memory", size().describe("Linear memory. Default 64Mi.")),
        (
            "bufferedBody",
            size().describe("Body that may be held back. Default 1Mi."),
        ),
        (
            "calls",
            int32().range(1, 100_000).describe(
                "HTTP and gRPC calls and gRPC streams that a VM may have under way. Default 1000.",
            ),
        ),
    ])
}

fn clusters() -> Schema {
    let cluster = object([
        (
            "name",
            string().length(1, 253).describe("As the module knows it."),
        ),
        ("url", string().length(1, 2048).pattern(URL)),
        (
            "backendRef",
            object([
                ("name", name()),
                ("namespace", namespace()),
                ("port", int32().range(1, 65535)),
            ])
            .require(["name", "port"])
            .describe("A Service; one of another namespace needs a ReferenceGrant there."),
        ),
    ])
    .require(["name"])
    .exactly_one(["url", "backendRef"]);
    list_by("name", cluster)
        .items(0, 64)
        .describe("The only places the module may call.")
}

fn failure_policy() -> Schema {
    one_of(["Closed", "Open"])
}
