//! The schemas, the parsers and the pages say the same about configurations.

use serde_json::{Value, json};
use tidegate_filters::{all, get};
use tidegate_sdk::mock::Mock;

/// Whether the filter itself takes a configuration.
fn parses(name: &str, config: &str) -> Result<(), String> {
    macro_rules! load {
        ($($name:literal => $filter:ident,)*) => {
            match name {
                $($name => Mock::new().load::<$filter::Plugin>(config).map(drop),)*
                name => panic!("{name} needs a line here"),
            }
        };
    }
    load! {
        "api-key" => tidegate_filter_api_key,
        "basic-auth" => tidegate_filter_basic_auth,
        "body-limit" => tidegate_filter_body_limit,
        "client-cert" => tidegate_filter_client_cert,
        "cookie-rewrite" => tidegate_filter_cookie_rewrite,
        "cors" => tidegate_filter_cors,
        "csrf" => tidegate_filter_csrf,
        "error-pages" => tidegate_filter_error_pages,
        "ext-auth" => tidegate_filter_ext_auth,
        "fault" => tidegate_filter_fault,
        "headers" => tidegate_filter_headers,
        "hmac" => tidegate_filter_hmac,
        "ip-acl" => tidegate_filter_ip_acl,
        "jwt" => tidegate_filter_jwt,
        "oidc" => tidegate_filter_oidc,
        "rate-limit" => tidegate_filter_rate_limit,
        "redirect" => tidegate_filter_redirect,
        "request-block" => tidegate_filter_request_block,
        "rewrite" => tidegate_filter_rewrite,
    }
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
    const KEY: &str = "a-key-of-at-least-thirty-two-characters";
    let oidc = |extra: Value| {
        let mut config = json!({
            "issuer": "https://idp.example", "cluster": "idp", "clientId": "shop", "clientSecret": "x", "cookieKeys": [KEY],
        });
        config
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        config
    };
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
    let extended = |mut base: Value, extra: Value| {
        let fields = extra.as_object().unwrap().clone();
        base.as_object_mut().unwrap().extend(fields);
        base
    };
    let url = |extra: Value| {
        extended(
            json!({"url": "http://auth.test/", "cluster": "auth"}),
            extra,
        )
    };
    let service = |extra: Value| {
        let base = json!({"cluster": "rls", "domain": "shop", "descriptors": [["ip"]]});
        json!({"service": extended(base, extra)})
    };
    for (name, config, fine) in [
        ("oidc", oidc(json!({})), true),
        ("oidc", oidc(json!({"cookieKeys": KEY})), true),
        (
            "oidc",
            oidc(json!({"exempt": ["/", "/*", "/a/*", "/a"]})),
            true,
        ),
        ("oidc", oidc(json!({"exempt": ["/a/*/b"]})), false),
        ("oidc", oidc(json!({"exempt": ["a"]})), false),
        ("oidc", oidc(json!({"cookieKeys": []})), false),
        ("oidc", oidc(json!({"cookieKeys": ["short"]})), false),
        ("oidc", oidc(json!({"scopes": ["email"]})), false),
        ("oidc", oidc(json!({"scopes": ["openid email"]})), false),
        ("oidc", oidc(json!({"algorithms": ["HS256"]})), false),
        ("oidc", oidc(json!({"parameters": {"state": "x"}})), false),
        (
            "oidc",
            oidc(json!({"parameters": {"prompt": "login"}})),
            true,
        ),
        ("oidc", oidc(json!({"issuer": "idp.example"})), false),
        (
            "oidc",
            oidc(json!({"clientAuth": "private_key_jwt"})),
            false,
        ),
        (
            "oidc",
            oidc(json!({"cookie": {"sameSite": "Strict"}})),
            false,
        ),
        (
            "oidc",
            oidc(json!({"cookie": {"domain": "a; Secure"}})),
            false,
        ),
        ("oidc", oidc(json!({"callback": "//evil.example/x"})), false),
        ("oidc", oidc(json!({"callback": "/back"})), true),
        (
            "oidc",
            oidc(json!({"callback": "https://shop.example/back"})),
            true,
        ),
        ("oidc", oidc(json!({"callback": "/back?x"})), false),
        (
            "oidc",
            oidc(json!({"logout": {"returnTo": "//evil.example"}})),
            false,
        ),
        (
            "oidc",
            oidc(json!({"logout": {"returnTo": "https://shop.example/"}})),
            true,
        ),
        ("oidc", oidc(json!({"sessionLifetime": "1d"})), false),
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
        ("rate-limit", json!({}), false),
        ("rate-limit", service(json!({})), true),
        (
            "rate-limit",
            service(
                json!({"descriptors": [[{"key": "a", "value": "b"}, {"claim": "sub", "skipIfAbsent": true}]]}),
            ),
            true,
        ),
        ("rate-limit", service(json!({"domain": ""})), false),
        ("rate-limit", service(json!({"descriptors": [[]]})), false),
        (
            "rate-limit",
            service(json!({"descriptors": [[{"key": "a"}]]})),
            false,
        ),
        ("rate-limit", service(json!({"descriptors": ["ip"]})), false),
        ("rate-limit", service(json!({"hitsAddend": 0})), false),
        ("rate-limit", service(json!({"onFailure": "retry"})), false),
        ("rate-limit", service(json!({"failureStatus": 302})), false),
        ("ext-auth", json!({"cluster": "a"}), false),
        ("ext-auth", json!({"cluster": "a", "grpc": {}}), true),
        (
            "ext-auth",
            json!({"cluster": "a", "grpc": {"contextExtensions": {"k": "v"}, "bodyAsBytes": true}}),
            true,
        ),
        (
            "ext-auth",
            json!({"cluster": "a", "grpc": {"contextExtensions": {"k": 1}}}),
            false,
        ),
        ("ext-auth", json!({"cluster": "a", "grpc": {"x": 1}}), false),
        ("ext-auth", url(json!({"grpc": {}})), false),
        (
            "ext-auth",
            json!({"cluster": "a", "grpc": {}, "deniedBody": true}),
            false,
        ),
        ("ext-auth", url(json!({})), true),
        (
            "ext-auth",
            url(json!({"responseHeaders": ["*"], "deniedHeaders": ["*"]})),
            true,
        ),
        (
            "ext-auth",
            url(json!({"responseHeaders": ["*", "x"]})),
            false,
        ),
        (
            "ext-auth",
            url(json!({"allowedStatuses": [200, 204]})),
            true,
        ),
        ("ext-auth", url(json!({"allowedStatuses": [302]})), false),
        ("ext-auth", url(json!({"forwardBody": 8_388_608})), true),
        ("ext-auth", url(json!({"forwardBody": 8_388_609})), false),
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

/// What a case runs with is a configuration for the host, too, which checks it by the schema first.
#[test]
fn configurations_of_cases_fit_the_schema() {
    for filter in all() {
        let path = format!("{}/{}/cases.yaml", env!("CARGO_MANIFEST_DIR"), filter.name);
        let yaml = std::fs::read_to_string(path).expect("each filter has cases");
        let file = tidegate_filter_cases::File::parse(&yaml).expect("cases of this format");
        let validator = validator(filter.name);
        for case in file.cases.iter().filter(|case| case.refused.is_none()) {
            let config = serde_json::from_str(&case.config_text()).unwrap_or(json!({}));
            let errors: Vec<_> = validator
                .iter_errors(&config)
                .map(|error| error.to_string())
                .collect();
            assert!(
                errors.is_empty(),
                "{}: {}: {errors:?}",
                filter.name,
                case.name
            );
        }
    }
}
