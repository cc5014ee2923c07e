//! The targets with random bytes, for a moment in every test run and for longer where one asks for it:
//!
//! - `TIDEGATE_FUZZ_SECONDS=600`: each target for so long, from a new seed, which is printed. Otherwise a fixed number of inputs
//!   from a fixed seed, so that a run of the tests finds today what it found yesterday.
//! - `TIDEGATE_FUZZ_SEED=17`: from this seed, so that what was found is found again.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use tidegate_fuzz::Stage;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

fn input(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..random.usize(1..8192)).map(|_| random.u8(..)).collect()
}

/// Gives `target` random inputs: `inputs` of them, or for as long as the environment says.
fn briefly(name: &str, inputs: u64, target: fn(&[u8])) {
    let until = variable("TIDEGATE_FUZZ_SECONDS")
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let given = variable("TIDEGATE_FUZZ_SEED");
    let first = given.unwrap_or(if until.is_some() {
        fastrand::u64(..)
    } else {
        1
    });
    let mut count = 0;
    while until.map_or(count < inputs, |until| Instant::now() < until) {
        let seed = first.wrapping_add(count);
        let input = input(seed);
        // With the seed the input can be made again.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&input))) {
            eprintln!("{name} panicked; again with TIDEGATE_FUZZ_SEED={seed}");
            resume_unwind(panic);
        }
        count += 1;
    }
    println!("{name}: {count} inputs from seed {first}");
}

#[test]
fn pairs() {
    briefly("pairs", 300, tidegate_fuzz::pairs);
}

#[test]
fn properties() {
    briefly("properties", 300, tidegate_fuzz::properties);
}

#[test]
fn hostcalls() {
    briefly("hostcalls", 600, tidegate_fuzz::hostcalls);
}

#[test]
fn modules() {
    briefly("modules", 60, tidegate_fuzz::modules);
}

#[test]
fn programs_reach_every_effect() {
    let mut reached = BTreeSet::new();
    for seed in 0..1000 {
        reached.extend(tidegate_fuzz::effects(&input(seed)));
    }
    let all = [
        "HTTP call",
        "close",
        "done",
        "gRPC call",
        "gRPC cancel",
        "gRPC close",
        "gRPC send",
        "gRPC stream",
        "local reply",
        "queue",
        "resume",
        "route cache",
        "tick",
    ];
    assert_eq!(reached.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn modules_come_far() {
    let mut stages = BTreeMap::new();
    for seed in 0..60 {
        *stages
            .entry(tidegate_fuzz::stage(&input(seed)))
            .or_insert(0) += 1;
    }
    println!("{stages:?}");
    for stage in [Stage::Refused, Stage::Served] {
        assert!(stages.contains_key(&stage), "{stage:?}: {stages:?}");
    }
}
