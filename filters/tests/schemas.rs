//! The schemas, the parsers and the pages say the same about configurations.

use serde_json::{Value, json};
use tidegate_filters::{all, get};

/// Whether the filter itself takes a configuration.
fn parses(name: &str, config: &str) -> Result<(), String> {
    use tidegate_filter_basic_auth::policy::BasicAuth;
    use tidegate_filter_cors::policy::Cors;
    use tidegate_filter_rate_limit::policy::RateLimit;
    use tidegate_filter_rewrite::policy::Rewrite;

    let text = config.as_bytes();
    match name {
        "basic-auth" => BasicAuth::parse(text, [0; 32]).map(drop),
        "cors" => Cors::parse(text).map(drop),
        "rate-limit" => RateLimit::parse(text).map(drop),
        "rewrite" => Rewrite::parse(text).map(drop),
        name => panic!("{name} needs an arm here"),
    }
    .map_err(|error| error.to_string())
}

/// The schema of a bundled filter.
fn schema_of(name: &str) -> Value {
    let filter = get(name).expect("a bundled filter");
    serde_json::from_str(filter.schema).expect("a schema is JSON")
}

fn validator(name: &str) -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema_of(name)).expect("a schema of this draft")
}

fn readme(name: &str) -> String {
    let path = format!("{}/{name}/README.md", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("each filter has a page")
}

/// The contents of the fenced blocks in a language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    page.split(opening.as_str())
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or(rest))
        .collect()
}

#[test]
fn schemas_are_valid_and_describe_every_property() {
    fn check(path: &str, schema: &Value) {
        let Value::Object(object) = schema else {
            return;
        };
        for key in ["properties", "$defs"] {
            let members = object.get(key).and_then(Value::as_object);
            for (name, member) in members.into_iter().flatten() {
                let path = format!("{path}/{key}/{name}");
                let described = key == "$defs" || member.get("description").is_some();
                assert!(described, "{path} has no description");
                check(&path, member);
            }
        }
        for key in ["items", "additionalProperties"] {
            if let Some(member) = object.get(key) {
                check(&format!("{path}/{key}"), member);
            }
        }
        for alternative in object
            .get("oneOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            check(&format!("{path}/oneOf"), alternative);
        }
    }

    for filter in all() {
        let schema = schema_of(filter.name);
        assert!(jsonschema::meta::is_valid(&schema), "{}", filter.name);
        assert_eq!(schema["title"], filter.name);
        check(filter.name, &schema);
    }
}

#[test]
fn every_example_of_a_page_is_a_configuration() {
    for filter in all() {
        let page = readme(filter.name);
        let examples = blocks(&page, "json");
        assert!(!examples.is_empty(), "{}", filter.name);
        // What the Envoy example hands over as text is one, too.
        let embedded: Vec<_> = page
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("{\"") && line.ends_with('}'))
            .collect();
        assert!(!embedded.is_empty(), "{} has no Envoy example", filter.name);
        for example in examples.into_iter().chain(embedded) {
            let value = serde_json::from_str(example).unwrap();
            let validator = validator(filter.name);
            let errors: Vec<_> = validator
                .iter_errors(&value)
                .map(|error| error.to_string())
                .collect();
            assert!(errors.is_empty(), "{}: {example}: {errors:?}", filter.name);
            assert_eq!(
                parses(filter.name, example),
                Ok(()),
                "{}: {example}",
                filter.name
            );
        }
    }
}

#[test]
fn every_field_of_a_schema_stands_on_the_page() {
    for filter in all() {
        let schema = schema_of(filter.name);
        let page = readme(filter.name);
        for name in schema["properties"].as_object().unwrap().keys() {
            assert!(
                page.contains(&format!("`{name}")),
                "{}: {name}",
                filter.name
            );
        }
    }
}

#[test]
fn schema_and_parser_agree() {
    let limit = |extra: Value| {
        let mut limit = json!({"requests": 1, "per": "second"});
        limit
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({"limits": [limit]})
    };
    let rule = |extra: Value| {
        let mut rule = json!({"match": {"path": "^/(a)"}});
        rule.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({"rules": [rule]})
    };
    for (name, config, fine) in [
        ("cors", json!({}), true),
        (
            "cors",
            json!({"allowOrigins": ["*"], "maxAge": 0, "preflight": "nginx"}),
            true,
        ),
        ("cors", json!({"allowOrigins": "*"}), false),
        ("cors", json!({"allowMethods": ["GET, PUT"]}), false),
        ("cors", json!({"maxAge": -1}), false),
        ("cors", json!({"maxAge": 1.5}), false),
        ("cors", json!({"preflight": "envoy"}), false),
        ("cors", json!({"allowOrigin": []}), false),
        ("basic-auth", json!({"users": {}}), true),
        ("basic-auth", json!({"users": ""}), true),
        (
            "basic-auth",
            json!({"users": {"ann": "{PLAIN}x"}, "stripAuthorization": true}),
            true,
        ),
        ("basic-auth", json!({}), false),
        ("basic-auth", json!({"users": []}), false),
        ("basic-auth", json!({"users": {"a:b": "{PLAIN}x"}}), false),
        ("basic-auth", json!({"users": {"": "{PLAIN}x"}}), false),
        ("basic-auth", json!({"users": {"ann": 1}}), false),
        ("basic-auth", json!({"users": {}, "realm": "a\nb"}), false),
        (
            "basic-auth",
            json!({"users": {}, "forwardUser": "a b"}),
            false,
        ),
        ("basic-auth", json!({"users": {}, "user": ""}), false),
        ("rate-limit", limit(json!({})), true),
        ("rate-limit", limit(json!({"key": []})), true),
        (
            "rate-limit",
            limit(json!({"burst": 0, "algorithm": "leaky-bucket"})),
            true,
        ),
        (
            "rate-limit",
            limit(
                json!({"key": ["ip", {"header": "x"}, {"cookie": "y"}, {"source": "ip", "ipv6Prefix": 48}]}),
            ),
            true,
        ),
        ("rate-limit", json!({"limits": []}), false),
        ("rate-limit", limit(json!({"requests": 0})), false),
        ("rate-limit", limit(json!({"per": "day"})), false),
        ("rate-limit", limit(json!({"burst": 2_000_000})), false),
        ("rate-limit", limit(json!({"key": ["ips"]})), false),
        ("rate-limit", limit(json!({"key": "ip"})), false),
        (
            "rate-limit",
            limit(json!({"key": [{"header": "x", "cookie": "y"}]})),
            false,
        ),
        (
            "rate-limit",
            limit(json!({"key": [{"header": "x", "ipv6Prefix": 1}]})),
            false,
        ),
        (
            "rate-limit",
            limit(json!({"key": [{"source": "ip", "ipv4Prefix": 33}]})),
            false,
        ),
        ("rate-limit", limit(json!({"name": "a b"})), false),
        (
            "rate-limit",
            json!({"limits": [{"requests": 1, "per": "hour"}], "status": 200}),
            false,
        ),
        (
            "rate-limit",
            json!({"limits": [{"requests": 1, "per": "hour"}], "maxKeys": 0}),
            false,
        ),
        ("rewrite", rule(json!({"path": "/$1"})), true),
        ("rewrite", rule(json!({"path": "$1", "stop": false})), true),
        ("rewrite", rule(json!({"query": ""})), true),
        (
            "rewrite",
            rule(json!({"query": {"set": {"a": "$1"}, "remove": ["b"]}})),
            true,
        ),
        ("rewrite", rule(json!({})), false),
        ("rewrite", rule(json!({"path": "x"})), false),
        ("rewrite", rule(json!({"path": ""})), false),
        ("rewrite", rule(json!({"path": "/", "match": {}})), false),
        (
            "rewrite",
            rule(json!({"path": "/", "match": {"method": "GET"}})),
            false,
        ),
        ("rewrite", rule(json!({"query": {"set": {"": "x"}}})), false),
        ("rewrite", rule(json!({"query": []})), false),
        ("rewrite", json!({"rules": []}), false),
        ("rewrite", json!({}), false),
    ] {
        assert_eq!(
            validator(name).is_valid(&config),
            fine,
            "schema of {name}: {config}"
        );
        let parsed = parses(name, &config.to_string());
        assert_eq!(
            parsed.is_ok(),
            fine,
            "parser of {name}: {config}: {parsed:?}"
        );
    }
}
