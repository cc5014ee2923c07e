//! Every rule that is embedded compiles, and the language behaves as an API server's.

use serde_json::json;

use super::*;
use crate::api::Kind;
use crate::schema::registry;

fn eval(rule: &str, value: &Value) -> Result<bool, String> {
    let rule = Rule::parse(&json!({"rule": rule})).unwrap();
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.add_variable_as_val("self", value::of(value));
    rule.verdict(&context)
}

#[test]
fn every_embedded_rule_compiles_and_knows_its_functions() {
    let mut rules = 0;
    let mut functions = std::collections::BTreeSet::new();
    for kind in Kind::all() {
        for version in kind.versions() {
            let schema = registry::schema(kind, version);
            schema.node.walk(kind.name(), &mut |path, node| {
                if let Some(pattern) = &node.pattern {
                    assert!(pattern.regex().is_ok(), "{path}: {}", pattern.source);
                }
                for rule in &node.rules {
                    rules += 1;
                    match rule.compiled() {
                        Ok(Compiled::Transition) => {}
                        Ok(Compiled::Check(check)) => {
                            functions.extend(
                                check
                                    .rule
                                    .references()
                                    .functions()
                                    .iter()
                                    .map(|f| (*f).to_owned()),
                            );
                        }
                        Err(error) => panic!("{path}: {}: {error}", rule.source),
                    }
                }
            });
        }
    }
    assert!(rules > 100, "only {rules} rules are embedded");
    for function in functions
        .iter()
        .filter(|f| f.starts_with(|c: char| c.is_ascii_alphabetic()))
    {
        // Without an argument no overload fits; what matters is whether the name is known.
        let known = [
            format!("{function}()"),
            format!("self.{function}()"),
            format!("format.{function}()"),
        ]
        .iter()
        .any(
            |call| !matches!(eval(call, &json!("")), Err(e) if e.contains("Undeclared reference")),
        );
        assert!(known, "{function} is not declared");
    }
}

#[test]
fn expressions() {
    let object = json!({
        "name": "a", "namespace": "ns", "n": 3, "x-y": 1, "list": [1, 2, 3], "none": null,
        "items": [{"k": "a", "v": {"x": 1}}, {"k": "b"}], "map": {"k1": "v", "k2": "w"}
    });
    let cases = [
        ("self.name == 'a'", true),
        ("has(self.name) && !has(self.missing)", true),
        ("has(self.items[0].v.x) && !has(self.items[1].v)", true),
        (
            "self.__namespace__ == 'ns' && has(self.__namespace__)",
            true,
        ),
        ("self.x__dash__y == 1", true),
        ("self.n > 2 && self.n in self.list", true),
        (
            "size(self.list) == 3 && self.list.size() == 3 && size(self) == 8",
            true,
        ),
        ("self.items.exists_one(i, i.k == 'a')", true),
        ("self.items.filter(i, has(i.v)).size() == 1", true),
        (
            "self.map.all(key, key.startsWith('k')) && 'k1' in self.map",
            true,
        ),
        (
            "self.items[0] == self.items[0] && self.items[0] != self.items[1]",
            true,
        ),
        ("self.map == {'k1': 'v', 'k2': 'w'}", true),
        (
            "self.name.matches(r\"\"\"^[a-z]$\"\"\") && self.name.matches('^(\\\\w)$')",
            true,
        ),
        ("matches(self.name, '^b')", false),
        (
            "isIP('10.0.0.1') && isIP('::1') && !isIP('a') && !isIP('::ffff:1.2.3.4')",
            true,
        ),
        ("isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0')", true),
        ("isURL('https://a/') && !isURL('a')", true),
        ("duration('1m') > duration('30s')", true),
        (
            "'a/b'.split('/')[0] == 'a' && 'abc'.substring(2) == 'c'",
            true,
        ),
        (
            "!format.dns1123Subdomain().validate('a.b').hasValue()",
            true,
        ),
        (
            "format.dns1123Label().validate('a.b').value()[0] == 'must not contain dots'",
            true,
        ),
        (
            "format.named('uuid').hasValue() && !format.named('x').hasValue()",
            true,
        ),
        (
            "'a1b22'.find('[0-9]+') == '1' && 'a1b22'.findAll('[0-9]+') == ['1', '22']",
            true,
        ),
        ("self.none == null", true),
        ("self.missing == 1 || true", true),
        ("false && self.missing == 1", false),
    ];
    for (rule, expected) in cases {
        assert_eq!(eval(rule, &object), Ok(expected), "{rule}");
    }
}

#[test]
fn failures_say_which_rule() {
    let node = Node::parse(&json!({
        "type": "object",
        "properties": {"n": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 3", "message": " too big "}]}},
        "x-kubernetes-validations": [
            {"rule": "self.a == 1", "message": "a is one"},
            {"rule": "self.n < 2"},
            {"rule": "self.n < 2", "messageExpression": "'got ' + string(self.n)", "fieldPath": ".n"},
            {"rule": "self.n < 2", "reason": "FieldValueForbidden", "message": "no"},
            {"rule": "self == oldSelf", "message": "immutable"}
        ]
    }))
    .unwrap();
    let value = json!({"n": 3});
    let mut errors = Errors::default();
    check(&node, &value, &FieldPath::Root("spec"), &mut errors);
    let told: Vec<_> = errors.into_list().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "spec: Invalid value: \"object\": no such key: a evaluating rule: a is one",
            "spec: Invalid value: failed rule: self.n < 2",
            "spec.n: Invalid value: got 3",
            "spec: Forbidden: no",
            "spec.n: Invalid value: 3: too big",
        ]
    );
}
