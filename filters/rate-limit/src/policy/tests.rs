//! Whole decisions, over a store in memory.

mod global;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Mutex;

use super::gcra::SECOND;
use super::*;

/// Shared data as hosts implement it.
#[derive(Default)]
struct Memory {
    values: Mutex<HashMap<String, (Vec<u8>, u32)>>,
}

impl Store for Memory {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        Ok(self.values.lock().unwrap().get(key).cloned())
    }

    fn set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), StoreError> {
        let mut values = self.values.lock().unwrap();
        let next = match values.get(key) {
            Some((_, current)) if *current != cas => return Err(StoreError::Conflict),
            Some((_, current)) => current + 1,
            None => 1,
        };
        values.insert(key.to_owned(), (value.to_vec(), next));
        Ok(())
    }
}

/// A store that loses the first races, and then fails or not.
struct Contended {
    inner: Memory,
    losses: Cell<usize>,
}

impl Store for Contended {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        self.inner.get(key)
    }

    fn set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), StoreError> {
        if let Some(left) = self.losses.get().checked_sub(1) {
            self.losses.set(left);
            return Err(StoreError::Conflict);
        }
        self.inner.set(key, value, cas)
    }
}

struct Full;

impl Store for Full {
    fn get(&self, _key: &str) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        Ok(None)
    }

    fn set(&self, _key: &str, _value: &[u8], _cas: u32) -> Result<(), StoreError> {
        Err(StoreError::Failed)
    }
}

#[derive(Clone, Default)]
struct Example {
    address: Option<IpAddr>,
    headers: Vec<(&'static str, Vec<u8>)>,
}

impl Request for Example {
    fn claim(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn address(&self) -> Option<IpAddr> {
        self.address
    }

    fn header(&self, name: &str) -> Vec<Vec<u8>> {
        self.headers
            .iter()
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.clone())
            .collect()
    }
}

fn from(address: &str) -> Example {
    Example {
        address: Some(address.parse().unwrap()),
        headers: Vec::new(),
    }
}

fn with(headers: &[(&'static str, &str)]) -> Example {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, value.as_bytes().to_vec()))
        .collect();
    Example {
        headers,
        ..Example::default()
    }
}

fn limiter(config: &str) -> RateLimit {
    RateLimit::parse(config.as_bytes()).unwrap()
}

/// How many of 100 requests at once pass.
fn passing(limiter: &RateLimit, store: &dyn Store, request: &Example, now: u64) -> usize {
    (0..100)
        .filter(|_| limiter.check(request, store, now).refusal.is_none())
        .count()
}

const NOW: u64 = 1_800_000_000 * SECOND;

#[test]
fn a_token_bucket_lets_its_burst_through_at_once() {
    let store = Memory::default();
    let limiter = limiter(r#"{"limits": [{"requests": 10, "per": "second", "burst": 20}]}"#);
    let client = from("192.0.2.1");
    assert_eq!(passing(&limiter, &store, &client, NOW), 20);
    assert_eq!(passing(&limiter, &store, &client, NOW + SECOND), 10);
    assert_eq!(passing(&limiter, &store, &client, NOW + 3600 * SECOND), 20);
}

#[test]
fn without_a_burst_it_is_as_deep_as_the_limit() {
    let limiter = limiter(r#"{"limits": [{"requests": 7, "per": "hour"}]}"#);
    assert_eq!(
        passing(&limiter, &Memory::default(), &from("192.0.2.1"), NOW),
        7
    );
}

/// ingress-nginx: `limit-rps: 1` with the multiplier 5 lets 6 through at once.
#[test]
fn a_leaky_bucket_lets_one_more_than_its_burst_through() {
    let store = Memory::default();
    let limiter = limiter(
        r#"{"limits": [{"requests": 1, "per": "second", "burst": 5, "algorithm": "leaky-bucket"}], "status": 503}"#,
    );
    let client = from("192.0.2.1");
    assert_eq!(passing(&limiter, &store, &client, NOW), 6);
    assert_eq!(passing(&limiter, &store, &client, NOW + SECOND), 1);
    let refusal = limiter
        .check(&client, &store, NOW + SECOND)
        .refusal
        .unwrap();
    assert_eq!(refusal.status, 503);
    let strict = self::limiter(
        r#"{"limits": [{"requests": 1, "per": "second", "algorithm": "leaky-bucket"}]}"#,
    );
    assert_eq!(passing(&strict, &Memory::default(), &client, NOW), 1);
}

#[test]
fn headers_say_what_is_left_and_a_refusal_when_to_come_back() {
    let store = Memory::default();
    let limiter = limiter(
        r#"{"limits": [{"name": "api", "requests": 2, "per": "minute"}], "body": "slow down"}"#,
    );
    let client = from("192.0.2.1");
    let verdict = limiter.check(&client, &store, NOW);
    assert_eq!(
        verdict.headers,
        [
            ("ratelimit-policy", String::from("\"api\";q=2;w=60")),
            ("ratelimit", String::from("\"api\";r=1;t=30"))
        ]
    );
    assert_eq!(
        limiter.check(&client, &store, NOW).headers[1].1,
        "\"api\";r=0;t=60"
    );
    let refusal = limiter.check(&client, &store, NOW + 1).refusal.unwrap();
    assert_eq!(refusal.status, 429);
    assert_eq!(refusal.body, b"slow down");
    let headers: Vec<_> = refusal
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        headers,
        [
            ("retry-after", "30"),
            ("ratelimit-policy", "\"api\";q=2;w=60"),
            ("ratelimit", "\"api\";r=0;t=60")
        ]
    );
}

#[test]
fn without_headers_only_retry_after_remains() {
    let limiter = limiter(r#"{"limits": [{"requests": 1, "per": "hour"}], "headers": false}"#);
    let (store, client) = (Memory::default(), from("192.0.2.1"));
    assert!(limiter.check(&client, &store, NOW).headers.is_empty());
    let refusal = limiter.check(&client, &store, NOW).refusal.unwrap();
    assert_eq!(refusal.headers, [("retry-after".into(), "3600".into())]);
}

#[test]
fn what_one_limit_refuses_counts_against_none() {
    let store = Memory::default();
    let limiter = limiter(
        r#"{"limits": [{"requests": 100, "per": "hour", "key": []}, {"requests": 2, "per": "hour", "key": ["ip"]}]}"#,
    );
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        assert_eq!(passing(&limiter, &store, &from(client), NOW), 2);
    }
    let refusal = limiter
        .check(&from("192.0.2.1"), &store, NOW)
        .refusal
        .unwrap();
    let told = "\"100-per-hour\";r=94;t=216, \"2-per-hour\";r=0;t=3600";
    assert_eq!(refusal.headers[2], ("ratelimit".into(), told.into()));
    let headers = limiter.check(&from("192.0.2.4"), &store, NOW).headers;
    assert_eq!(
        headers[1].1,
        "\"100-per-hour\";r=93;t=252, \"2-per-hour\";r=1;t=1800"
    );
}

#[test]
fn exempt_networks_are_neither_limited_nor_counted() {
    let store = Memory::default();
    let limiter = limiter(
        r#"{"limits": [{"requests": 1, "per": "hour", "key": []}], "exempt": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]}"#,
    );
    for client in ["10.1.2.3", "2001:db8:1::1", "192.0.2.7"] {
        assert_eq!(
            passing(&limiter, &store, &from(client), NOW),
            100,
            "{client}"
        );
    }
    assert_eq!(passing(&limiter, &store, &from("192.0.2.8"), NOW), 1);
    assert_eq!(passing(&limiter, &store, &Example::default(), NOW), 0);
}

#[test]
fn each_key_has_a_counter_of_its_own() {
    let cases: [(&str, Example, Example, Example); 6] = [
        (
            r#"["ip"]"#,
            from("192.0.2.1"),
            from("192.0.2.1"),
            from("192.0.2.2"),
        ),
        (
            r#"[{"source": "ip"}]"#,
            from("2001:db8::1"),
            from("2001:db8::2"),
            from("2001:db8:0:1::1"),
        ),
        (
            r#"[{"header": "X-Key"}]"#,
            with(&[("x-key", "a")]),
            with(&[("x-key", "a"), ("y", "z")]),
            with(&[("x-key", "b")]),
        ),
        (
            r#"[{"cookie": "id"}]"#,
            with(&[("cookie", "a=1; id=7")]),
            with(&[("cookie", "id=7")]),
            with(&[("cookie", "id=8")]),
        ),
        (
            r#"["host", "path"]"#,
            with(&[(":authority", "A.test"), (":path", "/x?a")]),
            with(&[(":authority", "a.test"), (":path", "/x?b")]),
            with(&[(":authority", "a.test"), (":path", "/y")]),
        ),
        (
            r#"["method"]"#,
            with(&[(":method", "GET")]),
            with(&[(":method", "GET")]),
            with(&[(":method", "POST")]),
        ),
    ];
    for (key, first, same, other) in cases {
        let store = Memory::default();
        let limiter = limiter(&format!(
            r#"{{"limits": [{{"requests": 1, "per": "hour", "key": {key}}}]}}"#
        ));
        assert_eq!(passing(&limiter, &store, &first, NOW), 1, "{key}");
        assert_eq!(passing(&limiter, &store, &same, NOW), 0, "{key}");
        assert_eq!(passing(&limiter, &store, &other, NOW), 1, "{key}");
        // Leaving the value out is a key of its own, too: one for all who do.
        assert_eq!(
            passing(&limiter, &store, &Example::default(), NOW),
            1,
            "{key}"
        );
        assert_eq!(
            passing(&limiter, &store, &Example::default(), NOW),
            0,
            "{key}"
        );
    }
}

#[test]
fn parts_do_not_run_into_each_other() {
    let store = Memory::default();
    let limiter = limiter(
        r#"{"limits": [{"requests": 1, "per": "hour", "key": [{"header": "a"}, {"header": "b"}]}]}"#,
    );
    assert_eq!(
        passing(&limiter, &store, &with(&[("a", "xy"), ("b", "z")]), NOW),
        1
    );
    assert_eq!(
        passing(&limiter, &store, &with(&[("a", "x"), ("b", "yz")]), NOW),
        1
    );
    assert_eq!(passing(&limiter, &store, &with(&[("a", "xyz")]), NOW), 1);
}

#[test]
fn many_keys_take_bounded_space() {
    let store = Memory::default();
    let limiter = limiter(
        r#"{"limits": [{"requests": 1, "per": "hour", "key": [{"header": "x"}]}], "maxKeys": 64}"#,
    );
    let request = RefCell::new(with(&[("x", "")]));
    for index in 0..5000_u32 {
        // Long values are hashed.
        request.borrow_mut().headers[0].1 = index.to_le_bytes().repeat(500);
        limiter.check(&*request.borrow(), &store, NOW);
    }
    let values = store.values.lock().unwrap();
    assert_eq!(values.len(), 8);
    assert!(
        values
            .iter()
            .all(|(key, (value, _))| key.len() < 64 && value.len() <= 128)
    );
}

#[test]
fn equal_limits_share_counters_unless_they_are_named_apart() {
    let store = Memory::default();
    let config = |name: &str, requests: u32| {
        limiter(&format!(
            r#"{{"name": "{name}", "limits": [{{"requests": {requests}, "per": "hour"}}]}}"#
        ))
    };
    let client = from("192.0.2.1");
    assert_eq!(passing(&config("", 5), &store, &client, NOW), 5);
    assert_eq!(passing(&config("", 5), &store, &client, NOW), 0);
    assert_eq!(passing(&config("", 6), &store, &client, NOW), 6);
    assert_eq!(passing(&config("other", 5), &store, &client, NOW), 5);
}

#[test]
fn lost_races_are_tried_again() {
    let limiter =
        limiter(r#"{"limits": [{"requests": 1, "per": "hour"}], "onStorageFailure": "deny"}"#);
    let store = Contended {
        inner: Memory::default(),
        losses: Cell::new(15),
    };
    let verdict = limiter.check(&from("192.0.2.1"), &store, NOW);
    assert_eq!((verdict.refusal, verdict.storage_failed), (None, false));
    assert_eq!(passing(&limiter, &store, &from("192.0.2.1"), NOW), 0);
}

#[test]
fn storage_failures_follow_the_option() {
    let client = from("192.0.2.1");
    for (option, status) in [
        ("", None),
        (r#", "onStorageFailure": "allow""#, None),
        (r#", "onStorageFailure": "deny""#, Some(503)),
    ] {
        let limiter = limiter(&format!(
            r#"{{"limits": [{{"requests": 1, "per": "hour"}}]{option}}}"#
        ));
        let endless = Contended {
            inner: Memory::default(),
            losses: Cell::new(usize::MAX),
        };
        for store in [&Full as &dyn Store, &endless] {
            let verdict = limiter.check(&client, store, NOW);
            assert!(verdict.storage_failed);
            assert_eq!(
                verdict.refusal.map(|reply| reply.status),
                status,
                "{option}"
            );
            assert!(verdict.headers.is_empty());
        }
    }
}

#[test]
fn workers_together_let_no_more_through_than_one() {
    let store = Memory::default();
    let limiter =
        limiter(r#"{"limits": [{"requests": 100, "per": "hour"}], "onStorageFailure": "deny"}"#);
    let passed: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| passing(&limiter, &store, &from("192.0.2.1"), NOW)))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    });
    assert_eq!(passed, 100);
}

#[test]
fn a_clock_that_goes_back_costs_one_refill_at_the_most() {
    let store = Memory::default();
    let limiter = limiter(r#"{"limits": [{"requests": 10, "per": "second"}]}"#);
    let client = from("192.0.2.1");
    assert_eq!(passing(&limiter, &store, &client, NOW), 10);
    let earlier = NOW - 3600 * SECOND;
    assert_eq!(passing(&limiter, &store, &client, earlier), 0);
    assert_eq!(passing(&limiter, &store, &client, earlier + SECOND / 2), 5);
    assert_eq!(passing(&limiter, &store, &client, earlier + 2 * SECOND), 10);
}

#[test]
fn with_several_limits_a_clock_that_goes_back_locks_nobody_out_either() {
    let store = Memory::default();
    let limiter = limiter(
        r#"{"limits": [{"requests": 100, "per": "second"}, {"requests": 10, "per": "second"}]}"#,
    );
    let client = from("192.0.2.1");
    assert_eq!(passing(&limiter, &store, &client, NOW), 10);
    let earlier = NOW - 3600 * SECOND;
    passing(&limiter, &store, &client, earlier);
    assert_eq!(passing(&limiter, &store, &client, earlier + 2 * SECOND), 10);
}

#[test]
fn clocks_at_their_ends_do_not_trap() {
    let limiter = limiter(
        r#"{"limits": [{"requests": 1, "per": "hour", "burst": 8000}, {"requests": 1, "per": "hour", "key": []}]}"#,
    );
    for now in [0, 1, u64::MAX - 1, u64::MAX, 0] {
        let store = Memory::default();
        for _ in 0..3 {
            limiter.check(&from("192.0.2.1"), &store, now);
        }
    }
}
