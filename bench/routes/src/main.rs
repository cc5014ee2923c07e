//! What a route look-up costs as the number of routes grows: ten routes for each host, random hosts and paths.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Method};
use tidegate_model::{
    Age, HostPattern, Labels, ListenerHost, PathMatch, RequestHead, RouteEntry, RouteMatch,
    RouteQuery, RouteTable, Rule, RuleOrigin, Timeouts, path,
};

/// Routes of one host.
const PER_HOST: usize = 10;
/// Look-ups that are timed together.
const LOOKUPS: usize = 200_000;

fn main() {
    println!(
        "{:>8} {:>12} {:>14} {:>14} {:>12}",
        "routes", "build ms", "random ns", "one host ns", "drop ms"
    );
    for routes in [100, 1_000, 10_000, 100_000] {
        measure(routes);
    }
}

fn measure(routes: usize) {
    let hosts = routes / PER_HOST;
    let began = Instant::now();
    let table = table(hosts);
    let build = began.elapsed();
    let heads: Vec<_> = (0..4096)
        .map(|n| head(scattered(n) % hosts, scattered(n + 7) % PER_HOST))
        .collect();
    let random = time(&table, &heads);
    let one = time(&table, &heads[..1]);
    let began = Instant::now();
    drop(table);
    let dropped = began.elapsed();
    println!(
        "{routes:>8} {:>12.1} {random:>14.0} {one:>14.0} {:>12.1}",
        build.as_secs_f64() * 1e3,
        dropped.as_secs_f64() * 1e3
    );
}

fn time(table: &ListenerHost, heads: &[RequestHead]) -> f64 {
    let began = Instant::now();
    for at in 0..LOOKUPS {
        let head = &heads[at % heads.len()];
        let query = RouteQuery {
            head,
            path: path::canonical(head.path.path()),
        };
        assert!(
            black_box(table.find(head.host(), &query)).is_some(),
            "every request has a route"
        );
    }
    began.elapsed().as_secs_f64() * 1e9 / LOOKUPS as f64
}

/// A number that looks random and is the same in every run.
fn scattered(n: usize) -> usize {
    (n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 17
}

fn table(hosts: usize) -> ListenerHost {
    let mut table = ListenerHost::default();
    for host in 0..hosts {
        let pattern = HostPattern::parse(&format!("host-{host}.example.com"), Labels::Many);
        let entries = (0..PER_HOST).map(|place| RouteEntry {
            matches: RouteMatch::path(PathMatch::prefix(&format!("/service-{place}/v1"))),
            age: Age {
                place: (place, 0),
                ..Age::default()
            },
            rule: Arc::new(Rule {
                origin: RuleOrigin::new(
                    "HTTPRoute",
                    "bench",
                    &format!("route-{host}"),
                    place,
                    None,
                ),
                filters: Vec::new(),
                backends: Vec::new(),
                timeouts: Timeouts::default(),
                retry: None,
                access_log: true,
            }),
        });
        table.routes.insert(&pattern, RouteTable::new(entries));
    }
    table
}

fn head(host: usize, service: usize) -> RequestHead {
    RequestHead {
        method: Method::GET,
        scheme: http::uri::Scheme::HTTP,
        authority: HeaderValue::from_str(&format!("host-{host}.example.com")).expect("a host"),
        path: format!("/service-{service}/v1/items/42?page=2")
            .parse()
            .expect("a path"),
        headers: HeaderMap::new(),
    }
}
