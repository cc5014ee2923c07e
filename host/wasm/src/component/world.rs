//! Which world a component is for, as far as its names tell: the name of a world is in no component.

use super::PACKAGE;

/// The world that this host runs.
pub(crate) const WORLD: &str = "tidegate:filter/filter@0.1.0";
/// What of its package filters may import.
pub(crate) const INTERFACES: [&str; 6] =
    ["clock", "http", "log", "metrics", "shared-data", "types"];
/// Versions that are compatible with this host's begin so.
const COMPATIBLE: &str = "0.1.";
/// The export that makes a component a filter.
const REQUIRED: &str = "on-plugin";
/// Exports of worlds that everybody knows.
const KNOWN: [(&str, &str); 3] = [
    ("wasi:http/incoming-handler", "wasi:http/proxy"),
    ("wasi:http/handler", "wasi:http/service"),
    ("wasi:cli/run", "wasi:cli/command"),
];

/// The world of a component that exports these names, with its version where they have one.
pub fn world_of<'a>(exports: impl IntoIterator<Item = &'a str>) -> String {
    let exports: Vec<&str> = exports
        .into_iter()
        .filter(|name| !name.is_empty())
        .collect();
    let versioned = |world: &str, version: &str| match version {
        "" => world.to_owned(),
        version => format!("{world}@{version}"),
    };
    for name in &exports {
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        if let Some(own) = interface.strip_prefix(PACKAGE) {
            let all = || exports.iter().filter_map(|name| name.strip_prefix(PACKAGE));
            let complete = all().any(|name| name.split('@').next() == Some(REQUIRED));
            return match complete {
                true => versioned("tidegate:filter/filter", version),
                false => format!("one of tidegate:filter with {own} and without {REQUIRED}"),
            };
        }
        if let Some((_, world)) = KNOWN.iter().find(|(known, _)| *known == interface) {
            return versioned(world, version);
        }
    }
    match exports.first() {
        None => "one without exports".to_owned(),
        Some(name) => match name.split_once('/') {
            Some((package, interface)) => {
                let version = interface.split_once('@').map_or("", |(_, version)| version);
                format!("one of {}", versioned(package, version))
            }
            None => "one of its own".to_owned(),
        },
    }
}

/// Whether filters may import this interface (`http@0.1.0`) of the package.
pub(super) fn is_interface(name: &str) -> bool {
    name.split_once('@').is_some_and(|(interface, version)| {
        version.starts_with(COMPATIBLE) && INTERFACES.contains(&interface)
    })
}

#[cfg(test)]
mod tests {
    use super::{is_interface, world_of};

    #[test]
    fn worlds_are_known_by_their_exports() {
        for (exports, world) in [
            (
                &["wasi:http/incoming-handler@0.2.6"][..],
                "wasi:http/proxy@0.2.6",
            ),
            (&["run", "wasi:cli/run@0.2.0"], "wasi:cli/command@0.2.0"),
            (
                &[
                    "tidegate:filter/on-request@0.1.0",
                    "tidegate:filter/on-plugin@0.1.0",
                ],
                "tidegate:filter/filter@0.1.0",
            ),
            (
                &["tidegate:filter/on-plugin@0.2.0"],
                "tidegate:filter/filter@0.2.0",
            ),
            (
                &["tidegate:filter/on-tick@0.1.0"],
                "one of tidegate:filter with on-tick and without on-plugin",
            ),
            (&["acme:shop/cart@1.2.3"], "one of acme:shop@1.2.3"),
            (&["acme:shop/cart"], "one of acme:shop"),
            (&["cart"], "one of its own"),
            (&[""], "one without exports"),
        ] {
            assert_eq!(world_of(exports.iter().copied()), world);
        }
    }

    #[test]
    fn interfaces_have_a_version() {
        assert!(is_interface("http@0.1.0") && is_interface("log@0.1.7"));
        for other in ["http", "http@0.2.0", "queues@0.1.0"] {
            assert!(!is_interface(other), "{other}");
        }
    }
}
