//! What a look-up costs, and a translation, as the number of routes grows.

use std::borrow::Cow;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method};
use tidegate_controller::translate::{Options, translate};
use tidegate_model::{FilterVerdicts, ListenerHost, RequestHead, RouteQuery};

use crate::fleet::Fleet;
use tidegate_bench_harness::figures::{heading, milliseconds, row, timed};

/// Numbers of routes, ten under each host.
const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
/// Questions asked in one pass, the same number for every size so that reading them costs the same.
const QUESTIONS: usize = 20_000;
/// Passes, of which the quickest and the middle one count.
const PASSES: usize = 15;

/// Hosts and paths, one after the other in memory: reading them must cost the same for every size, and small allocations would
/// end up wherever the table of that size has left room.
#[derive(Default)]
struct Questions {
    text: String,
    /// Where a host ends and where its path ends; each begins where the one before ends.
    ends: Vec<(usize, usize)>,
}

impl Questions {
    fn push(&mut self, host: &str, path: &str) {
        self.text.push_str(host);
        let end = self.text.len();
        self.text.push_str(path);
        self.ends.push((end, self.text.len()));
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |(host, path)| {
            let question = (&self.text[start..*host], &self.text[*host..*path]);
            start = *path;
            question
        })
    }
}

/// Prints a line for each size.
pub(crate) fn measure() -> anyhow::Result<()> {
    heading(
        "by number of routes: ListenerHost::find in ns (minimum of the passes, median of spread), the others in ms",
        &[
            "hosts",
            "one",
            "spread",
            "median",
            "no route",
            "no host",
            "translate",
            "drop",
        ],
    );
    for routes in SIZES {
        measure_size(Fleet {
            hosts: routes / 10,
            routes: 10,
        })?;
    }
    println!(
        "  one: the same host and path each time; spread: any host and path, so that the table's memory is not in the cache"
    );
    Ok(())
}

fn measure_size(fleet: Fleet) -> anyhow::Result<()> {
    let resources = fleet.resources()?;
    let options = Options::default();
    let mut translation = translate(&resources, &FilterVerdicts::new(), &options);
    let mut quickest = Duration::MAX;
    let mut drop_quickest = Duration::MAX;
    for _ in 0..3 {
        let (next, took) = timed(|| translate(&resources, &FilterVerdicts::new(), &options));
        quickest = quickest.min(took);
        let old = std::mem::replace(&mut translation, next);
        drop_quickest = drop_quickest.min(timed(|| drop(old.snapshot)).1);
    }
    let listener = translation
        .snapshot
        .listeners
        .first()
        .context("no listener")?;
    let hosts = listener
        .hosts
        .find(&Fleet::host(0))
        .context("no such listener host")?;

    let mut random = fastrand::Rng::with_seed(fleet.len() as u64);
    let mut ask = |host: &dyn Fn(usize) -> String, path: &dyn Fn(usize) -> String| {
        let mut questions = Questions::default();
        for _ in 0..QUESTIONS {
            questions.push(
                &host(random.usize(..fleet.hosts)),
                &path(random.usize(..fleet.routes)),
            );
        }
        questions
    };
    let item = |route| format!("{}/item", Fleet::path(route));
    let any = ask(&Fleet::host, &item);
    let one = ask(&|_| Fleet::host(fleet.hosts / 2), &|_| {
        item(fleet.routes / 2)
    });
    let no_route = ask(&Fleet::host, &|route| {
        format!("/other/v1/service-{route}/item")
    });
    let no_host = ask(&|host| format!("absent-{}", Fleet::host(host)), &item);

    let (spread, median) = passes(hosts, &any, true);
    let nanoseconds = |value: f64| format!("{value:.0}");
    row(
        &format!("{} routes", fleet.len()),
        &[
            fleet.hosts.to_string(),
            nanoseconds(passes(hosts, &one, true).0),
            nanoseconds(spread),
            nanoseconds(median),
            nanoseconds(passes(hosts, &no_route, false).0),
            nanoseconds(passes(hosts, &no_host, false).0),
            milliseconds(quickest),
            milliseconds(drop_quickest),
        ],
    );
    Ok(())
}

/// Nanoseconds of one look-up: of the quickest pass and of the middle one.
fn passes(hosts: &ListenerHost, questions: &Questions, found: bool) -> (f64, f64) {
    let head = RequestHead {
        method: Method::GET,
        scheme: Scheme::HTTP,
        authority: HeaderValue::from_static("unread"),
        path: PathAndQuery::from_static("/"),
        headers: HeaderMap::new(),
    };
    let mut taken: Vec<f64> = (0..PASSES)
        .map(|_| {
            let start = Instant::now();
            let mut hits = 0;
            for (host, path) in questions.iter() {
                let query = RouteQuery {
                    head: &head,
                    path: Cow::Borrowed(path),
                };
                hits += usize::from(black_box(hosts.find(black_box(host), &query)).is_some());
            }
            let took = start.elapsed();
            assert_eq!(
                hits,
                if found { QUESTIONS } else { 0 },
                "the table answers wrongly"
            );
            took.as_secs_f64() * 1e9 / QUESTIONS as f64
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    (taken[0], taken[PASSES / 2])
}
