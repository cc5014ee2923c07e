use proptest::prelude::*;

use super::*;

fn attribute(path: &[&str]) -> Attribute {
    match path {
        ["request"] => Attribute::Fields(&["path", "size", "nothing"]),
        ["request", "path"] => Attribute::Value("/a".into()),
        ["request", "size"] => Attribute::Value(7.into()),
        ["request", "headers"] => {
            let map: HashMap<Key, Value> =
                [("x-team".into(), "shop".into()), ("b".into(), "2".into())].into();
            Attribute::Value(map.into())
        }
        ["plugin_name"] => Attribute::Value("hello".into()),
        _ => Attribute::Absent,
    }
}

fn evaluate(source: &str) -> Result<Vec<u8>, Status> {
    Expression::compile(source)
        .unwrap_or_else(|error| panic!("{source}: {error}"))
        .evaluate(attribute)
}

#[test]
fn values() {
    let int = |number: i64| number.to_le_bytes().to_vec();
    let cases: [(&str, Vec<u8>); 21] = [
        ("1 + 2", int(3)),
        ("1u", int(1)),
        ("0.5", 0.5_f64.to_le_bytes().to_vec()),
        ("true", vec![1]),
        ("'a' + 'b'", b"ab".to_vec()),
        ("b'ab'", b"ab".to_vec()),
        ("duration('2s')", int(2_000_000_000)),
        ("timestamp('1970-01-01T00:00:01Z')", int(1_000_000_000)),
        ("request.path", b"/a".to_vec()),
        ("request.path == '/a' && request.size > 6", vec![1]),
        ("request.headers['x-team']", b"shop".to_vec()),
        ("request.headers.b", b"2".to_vec()),
        ("has(request.headers.b)", vec![1]),
        ("has(request.headers.c)", vec![0]),
        ("has(request.path)", vec![1]),
        ("has(request.nothing)", vec![0]),
        ("'x-team' in request.headers", vec![1]),
        ("request['path']", b"/a".to_vec()),
        ("plugin_name.startsWith('he')", vec![1]),
        ("[1, 2].exists(n, n == request.size - 5)", vec![1]),
        ("request.headers.map(k, k).size()", int(2)),
    ];
    for (source, expected) in cases {
        assert_eq!(evaluate(source), Ok(expected), "{source}");
    }
}

#[test]
fn maps_and_lists_are_pairs() {
    let blob = evaluate("{'b': '2', 'a': '1'}").unwrap();
    assert_eq!(pairs::decode(&blob), [(&b"a"[..], &b"1"[..]), (b"b", b"2")]);
    let blob = evaluate("['x', 'y']").unwrap();
    assert_eq!(pairs::decode(&blob), [(&b"x"[..], &b""[..]), (b"y", b"")]);
}

#[test]
fn what_has_no_value_fails() {
    for source in ["request.nosuch", "nosuch", "1 / 0", "request.headers['c']"] {
        assert_eq!(evaluate(source), Err(Status::InternalFailure), "{source}");
    }
    for source in ["null", "type(1) == int ? null : null"] {
        assert_eq!(
            evaluate(source),
            Err(Status::SerializationFailure),
            "{source}"
        );
    }
}

#[test]
fn what_would_cost_too_much_is_refused() {
    let cases = [
        ("1 +", ""),
        ("", ""),
        (&"x".repeat(MAX_SOURCE + 1), "longer"),
        (&"(".repeat(MAX_BRACKETS + 1), "deep"),
        (&"!".repeat(MAX_OPERATORS + 1), "operators"),
        (&vec!["1"; MAX_JOINS + 2].join("+"), "joins"),
        ("[1].map(a, [1].map(b, a))", "nested"),
        ("['a'].map(a, a + a)", "joins"),
        ("google.protobuf.Value{}", "messages"),
    ];
    for (source, reason) in cases {
        let error = Expression::compile(source).err().expect(source);
        assert!(error.contains(reason), "{source}: {error}");
    }
    // As deep as it may be, on an ordinary thread's stack.
    let deep = format!("{}1{}", "(".repeat(MAX_BRACKETS), ")".repeat(MAX_BRACKETS));
    assert_eq!(evaluate(&deep), Ok(1_i64.to_le_bytes().to_vec()));
    let _ = Expression::compile(&format!("{}true", "!".repeat(MAX_OPERATORS)));
    let _ = Expression::compile(&format!("a{}", ".b".repeat(MAX_OPERATORS)));
}

#[test]
fn tokens() {
    let mut expressions = Expressions::default();
    assert_eq!(expressions.create("1"), Ok(0));
    assert_eq!(expressions.create("2"), Ok(1));
    expressions.delete(0);
    assert!(expressions.get(0).is_none() && expressions.get(1).is_some());
    for n in 2..=u32::try_from(MAX_EXPRESSIONS).unwrap() {
        assert_eq!(expressions.create("3"), Ok(n));
    }
    assert!(expressions.create("4").unwrap_err().contains("already"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_sources_never_panic(source in "[a-z0-9 .+!?:()\\[\\]{}'\"=<>&|,-]{0,60}") {
        if let Ok(expression) = Expression::compile(&source) {
            let _ = expression.evaluate(attribute);
        }
    }
}
