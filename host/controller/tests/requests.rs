//! Requests against translated snapshots: the objects of some golden cases, and where a host and path lead.
//!
//! The golden files show the tables; here the tables are asked, as the data plane asks them.

use std::fs;
use std::path::Path;

use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method};
use tidegate_controller::api::{Age, Source};
use tidegate_controller::resources::{Resources, decode};
use tidegate_controller::translate::{Options, translate};
use tidegate_model::{FilterVerdicts, RequestHead, RouteQuery, Snapshot, path};

fn snapshot(case: &str) -> Snapshot {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut resources = Resources::default();
    for file in ["services.yaml".to_owned(), format!("{case}.in.yaml")] {
        let text = fs::read_to_string(root.join(&file)).expect("the case is there");
        for (position, document) in text.split("\n---\n").enumerate() {
            let object = serde_saphyr::from_str(document).expect("YAML");
            let age = Age::Read {
                path: Path::new(&file).into(),
                position: u32::try_from(position).expect("few documents"),
            };
            let object = decode(&object, Source::Cluster, age).expect("a kind that is read");
            resources.apply(object.expect("an object of that kind"));
        }
    }
    translate(&resources, &FilterVerdicts::default(), &Options::default()).snapshot
}

/// The route that takes the request, as `name#rule`; `-` for none.
fn find(snapshot: &Snapshot, port: u16, host: &str, target: &str) -> String {
    let head = RequestHead {
        method: Method::GET,
        scheme: Scheme::HTTP,
        authority: HeaderValue::from_str(host).expect("a host"),
        path: target.parse().expect("a path"),
        headers: HeaderMap::new(),
    };
    let resolved = path::resolve(head.path.path())
        .expect("one reading")
        .into_owned();
    let query = RouteQuery {
        path: path::canonical(&resolved),
        head: &head,
    };
    let listener = snapshot
        .listeners
        .iter()
        .find(|listener| listener.port == port);
    let found = listener
        .and_then(|listener| listener.hosts.find(host))
        .and_then(|site| site.find(host, &query));
    found.map_or("-".to_owned(), |entry| {
        format!("{}#{}", entry.rule.origin.name, entry.rule.origin.index)
    })
}

/// Port, host, path, and the route that is to take it.
type Asked = (u16, &'static str, &'static str, &'static str);

#[test]
fn requests_lead_where_the_specification_says() {
    let table: &[(&str, &[Asked])] = &[
        (
            "isolation/most-specific-listener",
            &[
                (80, "bar.com", "/any", "any#0"),
                (80, "bar.com", "/wild", "-"),
                (80, "bar.example.com", "/wild", "wild#0"),
                (80, "bar.example.com", "/any", "-"),
                (80, "deep.foo.example.com", "/deep", "deep#0"),
                (80, "deep.foo.example.com", "/wild", "-"),
                (80, "abc.foo.example.com", "/exact", "exact#0"),
                (80, "abc.foo.example.com", "/deep", "-"),
            ],
        ),
        (
            "isolation/gateways-share-a-port",
            &[
                (80, "a.test", "/", "of-one#0"),
                (80, "b.test", "/", "of-two#0"),
                (80, "a.b.test", "/", "of-two#0"),
                (80, "test", "/", "-"),
            ],
        ),
        (
            "hostnames/precedence-by-the-route",
            &[
                (80, "abc.example.com", "/long/path", "young-exact#0"),
                (80, "x.example.com", "/long/path", "-"),
            ],
        ),
        (
            "hostnames/intersection",
            &[
                (80, "x.wild.test", "/", "some#0"),
                (80, "y.wild.test", "/", "wider#0"),
                (80, "wild.test", "/", "-"),
                (80, "other.test", "/", "-"),
            ],
        ),
        (
            "matches/canonical-paths",
            &[
                (80, "x.test", "/admin", "r#0"),
                (80, "x.test", "/%61dmin", "r#0"),
                (80, "x.test", "/b/c", "r#0"),
                (80, "x.test", "/with%20space", "r#0"),
                (80, "x.test", "/a", "-"),
            ],
        ),
        (
            "matches/paths",
            &[
                (80, "x.test", "/exact/", "r#0"),
                (80, "x.test", "/re/12", "r#0"),
                (80, "x.test", "/prefixed", "r#0"),
            ],
        ),
        (
            "partially-invalid/dropped-rule",
            &[
                (80, "x.test", "/good", "r#1"),
                (80, "x.test", "/bad", "r#0"),
                (80, "x.test", "/", "-"),
            ],
        ),
        (
            "listener-sets/attached",
            &[
                (80, "x.test", "/", "on-gateway#0"),
                (80, "set.test", "/", "on-set#0"),
                (81, "x.test", "/", "on-set#0"),
            ],
        ),
        (
            "route-kinds/older-keeps-the-hostname",
            &[
                (80, "a.test", "/", "old#0"),
                (80, "b.test", "/", "elsewhere#0"),
            ],
        ),
        (
            "ingress-rules/hosts",
            &[
                (8080, "web.test", "/", "web#0"),
                (8080, "x.web.test", "/", "web#1"),
                (8080, "y.x.web.test", "/", "web#2"),
                (8080, "other.test", "/", "web#2"),
            ],
        ),
        (
            "ingress-default/with-rules",
            &[
                (8080, "web.test", "/b/c", "web#0"),
                (8080, "web.test", "/bc", "younger#0"),
                (8080, "other.test", "/b", "without-rules#0"),
            ],
        ),
        (
            "ingress-rules/host-without-paths",
            &[
                (8080, "with.test", "/", "with#1"),
                (8080, "without.test", "/", "with#1"),
            ],
        ),
        (
            "ingress-default/catch-all",
            &[(8080, "any.test", "/", "web#0")],
        ),
        (
            "ingress-shared/gateway-and-ingress",
            &[
                (8080, "web.test", "/same-age", "route#0"),
                (8080, "web.test", "/route-is-younger", "older#0"),
                (8080, "web.test", "/", "-"),
            ],
        ),
        (
            "ingress-shared/listener-with-a-hostname",
            &[
                (8080, "x.web.test", "/x/y", "web#0"),
                (8080, "x.web.test", "/y", "route#0"),
                (8080, "y.web.test", "/x", "route#0"),
                (8080, "elsewhere.test", "/", "web#1"),
            ],
        ),
    ];
    for (case, requests) in table {
        let snapshot = snapshot(case);
        for (port, host, target, expected) in *requests {
            assert_eq!(
                find(&snapshot, *port, host, target),
                *expected,
                "{case}: {host}:{port}{target}"
            );
        }
    }
}

/// Equal objects give equal snapshots, whatever the seed of the hash maps.
#[test]
fn translation_is_stable() {
    let case = "isolation/most-specific-listener";
    assert_eq!(snapshot(case), snapshot(case));
}
