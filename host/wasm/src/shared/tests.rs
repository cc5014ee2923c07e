use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::config::Limits;
use crate::effect::RootId;

fn vm(namespace: &str, vm_id: &str, filter: &str) -> VmConfig {
    VmConfig {
        namespace: namespace.into(),
        vm_id: vm_id.to_owned(),
        scope: filter.into(),
        vm_config: Bytes::new(),
        env: BTreeMap::new(),
        limits: Limits::default(),
    }
}

#[test]
fn scopes_follow_namespace_and_vm_id_or_filter() {
    let shared = Shared::new();
    let one = shared.scope(&vm("a", "", "f"));
    one.set_data(b"k", b"v", 0).unwrap();
    assert!(
        shared.scope(&vm("a", "", "f")).get_data(b"k").is_some(),
        "same filter"
    );
    assert!(
        shared.scope(&vm("a", "", "g")).get_data(b"k").is_none(),
        "other filter"
    );
    assert!(
        shared.scope(&vm("a", "f", "g")).get_data(b"k").is_none(),
        "a vm.id is not a filter's name"
    );
    assert!(
        shared.scope(&vm("b", "", "f")).get_data(b"k").is_none(),
        "other namespace"
    );
    let team = shared.scope(&vm("a", "team", "f"));
    team.set_data(b"k", b"w", 0).unwrap();
    assert_eq!(
        shared
            .scope(&vm("a", "team", "g"))
            .get_data(b"k")
            .unwrap()
            .0,
        "w"
    );
}

#[test]
fn compare_and_swap() {
    let scope = Shared::new().scope(&vm("a", "", "f"));
    assert_eq!(scope.get_data(b"k"), None);
    scope.set_data(b"k", b"1", 99).unwrap();
    let (value, cas) = scope.get_data(b"k").unwrap();
    assert_eq!(value, "1");
    assert_ne!(cas, 0);
    assert_eq!(
        scope.set_data(b"k", b"2", cas + 1),
        Err(Status::CasMismatch)
    );
    scope.set_data(b"k", b"2", cas).unwrap();
    assert_eq!(scope.set_data(b"k", b"3", cas), Err(Status::CasMismatch));
    scope.set_data(b"k", b"4", 0).unwrap();
    assert_eq!(scope.get_data(b"k").unwrap().0, "4");
}

#[test]
fn concurrent_increments_are_not_lost() {
    let scope = Shared::new().scope(&vm("a", "", "f"));
    scope.set_data(b"n", b"0", 0).unwrap();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for _ in 0..250 {
                    loop {
                        let (value, cas) = scope.get_data(b"n").unwrap();
                        let next = String::from_utf8(value.to_vec())
                            .unwrap()
                            .parse::<u32>()
                            .unwrap()
                            + 1;
                        if scope
                            .set_data(b"n", next.to_string().as_bytes(), cas)
                            .is_ok()
                        {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(scope.get_data(b"n").unwrap().0, "1000");
}

#[test]
fn a_namespace_has_a_cap_and_gets_its_bytes_back() {
    let shared = Shared::new();
    let scope = shared.scope(&vm("a", "", "f"));
    let value = vec![0; SharedLimits::default().bytes / 2];
    scope.set_data(b"1", &value, 0).unwrap();
    assert_eq!(
        scope.set_data(b"2", &value, 0),
        Err(Status::InternalFailure)
    );
    shared
        .scope(&vm("b", "", "f"))
        .set_data(b"2", &value, 0)
        .unwrap();
    scope.set_data(b"1", b"", 0).unwrap();
    scope.set_data(b"2", &value, 0).unwrap();
    assert!(shared.bytes("a") > SharedLimits::default().bytes / 2);
    drop(scope);
    shared.retain(|namespace, _| namespace != "a");
    assert_eq!(shared.bytes("a"), 0);
    assert!(shared.bytes("b") > 0);
}

#[test]
fn queues() {
    let shared = Shared::new();
    let (a, b) = (
        shared.scope(&vm("a", "", "f")),
        shared.scope(&vm("b", "", "f")),
    );
    let (one, two) = ((VmId(1), RootId(1)), (VmId(2), RootId(9)));
    let token = shared.queues.register(&a, b"q", one).unwrap();
    assert_ne!(token, 0);
    assert_eq!(shared.queues.dequeue(&a, token), Err(Status::Empty));
    assert_eq!(shared.queues.enqueue(&a, token, b"x"), Ok(Some(one)));
    assert_eq!(
        shared.queues.register(&a, b"q", two),
        Ok(token),
        "moves the consumer, keeps the data"
    );
    assert_eq!(shared.queues.enqueue(&a, token, b"y"), Ok(Some(two)));
    assert_eq!(
        shared.queues.enqueue(&b, token, b"z"),
        Err(Status::NotFound),
        "not across namespaces"
    );
    shared.queues.leave(token, two.0, Some(RootId(1)));
    assert_eq!(
        shared.queues.enqueue(&a, token, b"other root"),
        Ok(Some(two))
    );
    shared.queues.leave(token, two.0, Some(two.1));
    assert_eq!(
        shared.queues.enqueue(&a, token, b"the one before"),
        Ok(Some(one))
    );
    shared.queues.leave(token, one.0, None);
    assert_eq!(shared.queues.enqueue(&a, token, b"nobody"), Ok(None));
    assert_eq!(shared.queues.dequeue(&b, token), Err(Status::NotFound));
    assert_eq!(shared.queues.dequeue(&a, token).unwrap(), "x");
    for item in ["y", "other root", "the one before", "nobody"] {
        assert_eq!(shared.queues.dequeue(&a, token).unwrap(), item);
    }
    assert_eq!(shared.bytes("a"), 0);
    assert_eq!(shared.queues.dequeue(&a, 4711), Err(Status::NotFound));
    assert_ne!(shared.queues.register(&b, b"q", one).unwrap(), token);
    shared.retain(|_, _| false);
    assert_eq!(shared.queues.dequeue(&a, token), Err(Status::NotFound));
}

#[test]
fn queues_are_capped() {
    let shared = Shared::new();
    let scope = shared.scope(&vm("a", "", "f"));
    let token = shared
        .queues
        .register(&scope, b"q", (VmId(1), RootId(1)))
        .unwrap();
    let big = vec![0; SharedLimits::default().bytes / 4];
    let refused = (0..10).find(|_| shared.queues.enqueue(&scope, token, &big).is_err());
    assert_eq!(refused, Some(3));
    let refused = (0..2_000_u32).find(|n| {
        shared
            .queues
            .register(&scope, &n.to_le_bytes(), (VmId(1), RootId(1)))
            .is_err()
    });
    assert_eq!(refused, Some(999));
}

#[test]
fn metrics() {
    let shared = Shared::new();
    let scope = shared.scope(&vm("a", "", "f"));
    let counter = scope.define_metric(MetricKind::Counter, "c").unwrap();
    let gauge = scope.define_metric(MetricKind::Gauge, "g").unwrap();
    let histogram = scope.define_metric(MetricKind::Histogram, "h").unwrap();
    assert_eq!([counter.id & 3, gauge.id & 3, histogram.id & 3], [0, 1, 2]);
    assert_eq!(
        scope.define_metric(MetricKind::Counter, "c").unwrap().id,
        counter.id,
        "same name, same series"
    );
    assert_ne!(
        scope.define_metric(MetricKind::Gauge, "c").unwrap().id,
        counter.id,
        "another kind is another series"
    );
    counter.increment(3).unwrap();
    counter.record(4);
    assert_eq!(counter.increment(0), Err(Status::BadArgument));
    assert_eq!(counter.increment(-1), Err(Status::BadArgument));
    gauge.record(5);
    gauge.increment(-7).unwrap();
    assert_eq!(histogram.increment(1), Err(Status::BadArgument));
    assert_eq!(histogram.get(), Err(Status::BadArgument));
    for value in [0, 1, 2, 5, 3_600_001] {
        histogram.record(value);
    }
    let samples = shared.metrics();
    let names: Vec<&str> = samples.iter().map(|sample| sample.name.as_str()).collect();
    assert_eq!(names, ["c", "c", "g", "h"]);
    assert_eq!(samples[0].value, MetricValue::Counter(7));
    assert_eq!(samples[2].value, MetricValue::Gauge(-2));
    let MetricValue::Histogram(histogram) = &samples[3].value else {
        panic!("{samples:?}")
    };
    assert_eq!((histogram.count, histogram.sum), (5, 3_600_009));
    assert_eq!(histogram.buckets[..2], [(1, 2), (5, 4)]);
    assert_eq!(histogram.buckets.last(), Some(&(3_600_000, 4)));
}

#[test]
fn series_are_capped_per_namespace() {
    let shared = Shared::new();
    let scope = shared.scope(&vm("a", "", "f"));
    for n in 0..SharedLimits::default().series {
        scope
            .define_metric(MetricKind::Gauge, &n.to_string())
            .unwrap();
    }
    assert!(scope.define_metric(MetricKind::Gauge, "one more").is_err());
    assert!(scope.define_metric(MetricKind::Gauge, "0").is_ok());
    assert!(
        shared
            .scope(&vm("a", "", "g"))
            .define_metric(MetricKind::Gauge, "x")
            .is_err()
    );
    assert!(
        shared
            .scope(&vm("b", "", "f"))
            .define_metric(MetricKind::Gauge, "x")
            .is_ok()
    );
    drop(scope);
    shared.retain(|namespace, scope| (namespace, scope) == ("a", "g"));
    assert!(
        shared
            .scope(&vm("a", "", "g"))
            .define_metric(MetricKind::Gauge, "x")
            .is_ok()
    );
}

#[test]
fn a_copy_to_throw_away_shows_the_original_and_leaves_it_alone() {
    let shared = Shared::new();
    let config = vm("a", "team", "f");
    let real = shared.scope(&config);
    real.set_data(b"k", b"1", 0).unwrap();
    let cas = real.get_data(b"k").unwrap().1;
    let queue = shared.queues.register(&real, b"q", None).unwrap();
    shared.queues.enqueue(&real, queue, b"item").unwrap();
    let (bytes, metrics) = (shared.bytes("a"), shared.metrics().len());

    let copy = shared.to_throw_away();
    let tried = copy.scope(&config);
    assert_eq!(tried.get_data(b"k"), real.get_data(b"k"));
    assert_eq!(
        tried.set_data(b"k", b"2", cas + 1),
        Err(Status::CasMismatch)
    );
    tried.set_data(b"k", b"2", cas).unwrap();
    tried.set_data(b"new", b"3", 0).unwrap();
    assert_eq!(tried.get_data(b"k").unwrap().0, "2");
    assert!(tried.define_metric(MetricKind::Counter, "m").is_ok());
    let token = copy.resolve_queue(&tried, b"q").expect("it is known");
    assert_eq!(copy.resolve_queue(&tried, b"other"), None);
    assert_eq!(copy.queues.dequeue(&tried, token), Err(Status::Empty));
    assert_eq!(copy.queues.enqueue(&tried, token, b"lost"), Ok(None));
    assert!(copy.scope_of(&"a".into(), "team").is_some());
    assert!(copy.scope_of(&"a".into(), "nobody").is_none());
    assert!(tried.take_memory(1000));
    assert_eq!(shared.memory("a"), 1000, "memory is real");
    tried.give_memory(1000);
    drop((tried, copy));

    assert_eq!(real.get_data(b"k").unwrap(), ("1".into(), cas));
    assert_eq!(real.get_data(b"new"), None);
    assert_eq!(shared.queues.dequeue(&real, queue).unwrap(), "item");
    assert_eq!(shared.queues.dequeue(&real, queue), Err(Status::Empty));
    shared.queues.enqueue(&real, queue, b"item").unwrap();
    assert_eq!(
        (shared.bytes("a"), shared.metrics().len()),
        (bytes, metrics)
    );
}
