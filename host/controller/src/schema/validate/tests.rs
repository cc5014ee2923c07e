//! Each keyword with the message it gives.

use serde_json::json;

use super::*;

#[test]
fn keywords() {
    let cases = [
        (
            json!({"type": "string"}),
            json!(1),
            vec![
                r#"spec.x: Invalid value: "integer": spec.x in body must be of type string: "integer""#,
            ],
        ),
        (
            json!({"type": "string"}),
            json!(null),
            vec![r#"spec.x: Invalid value: "null": spec.x in body must be of type string: "null""#],
        ),
        (
            json!({"type": "string", "nullable": true}),
            json!(null),
            vec![],
        ),
        (
            json!({"type": "integer"}),
            json!("1"),
            vec![
                r#"spec.x: Invalid value: "string": spec.x in body must be of type integer: "string""#,
            ],
        ),
        (json!({"type": "integer"}), json!(1.0), vec![]),
        (
            json!({"type": "integer"}),
            json!(1.5),
            vec![
                r#"spec.x: Invalid value: "number": spec.x in body must be of type integer: "number""#,
            ],
        ),
        (json!({"type": "number"}), json!(1), vec![]),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!("a"),
            vec![],
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            vec![
                r#"spec.x: Invalid value: "boolean": spec.x in body must be of type integer,string: "boolean""#,
            ],
        ),
        (
            json!({"x-kubernetes-preserve-unknown-fields": true}),
            json!([1, {}]),
            vec![],
        ),
        (
            json!({"type": "string", "enum": ["a"]}),
            json!(1),
            vec![
                r#"spec.x: Invalid value: "integer": spec.x in body must be of type string: "integer""#,
                r#"spec.x: Unsupported value: 1: supported values: "a""#,
            ],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
            json!([null, "a", "a"]),
            vec![
                r#"spec.x[1]: Invalid value: "a": must be an object for an array of list-type map"#,
            ],
        ),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("x"),
            vec![r#"spec.x: Unsupported value: "x": supported values: "a", "b""#],
        ),
        (
            json!({"type": "integer", "enum": [301, 302]}),
            json!(1),
            vec![r#"spec.x: Unsupported value: 1: supported values: "301", "302""#],
        ),
        (
            json!({"type": "string", "minLength": 1}),
            json!(""),
            vec![r#"spec.x: Invalid value: "": spec.x in body should be at least 1 chars long"#],
        ),
        (
            json!({"type": "string", "maxLength": 1, "pattern": "^b"}),
            json!("éa"),
            vec!["spec.x: Too long: may not be more than 1 byte"],
        ),
        (
            json!({"type": "string", "maxLength": 1}),
            json!("é"),
            vec![],
        ),
        (
            json!({"type": "string", "pattern": "^b"}),
            json!("a"),
            vec![r#"spec.x: Invalid value: "a": spec.x in body should match '^b'"#],
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            json!("a"),
            vec![r#"spec.x: Invalid value: "a": spec.x in body must be of type ipv4: "a""#],
        ),
        (
            json!({"type": "integer", "minimum": 1, "maximum": 65535}),
            json!(0),
            vec!["spec.x: Invalid value: 0: spec.x in body should be greater than or equal to 1"],
        ),
        (
            json!({"type": "integer", "minimum": 1, "maximum": 65535}),
            json!(65536),
            vec![
                "spec.x: Invalid value: 65536: spec.x in body should be less than or equal to 65535",
            ],
        ),
        (
            json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            json!(1),
            vec!["spec.x: Invalid value: 1: spec.x in body should be greater than 1"],
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(2_147_483_648_i64),
            vec![
                r#"spec.x: Invalid value: "": Checked value must be of type integer with format int32 in spec.x"#,
            ],
        ),
        (
            json!({"type": "integer", "format": "int64"}),
            json!(9_223_372_036_854_775_807_i64),
            vec![],
        ),
        (
            json!({"type": "integer"}),
            json!(1e19),
            vec![
                r#"spec.x: Invalid value: "": Checked value must be of type integer (default format) in spec.x"#,
            ],
        ),
        (
            json!({"type": "integer", "multipleOf": 5}),
            json!(7),
            vec!["spec.x: Invalid value: 7: spec.x in body should be a multiple of 5"],
        ),
        (
            json!({"type": "array", "minItems": 1}),
            json!([]),
            vec!["spec.x: Invalid value: 0: spec.x in body should have at least 1 items"],
        ),
        (
            json!({"type": "array", "maxItems": 1}),
            json!([1, 2]),
            vec!["spec.x: Too many: 2: must have at most 1 item"],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "set"}),
            json!(["a", "b", "a", "a"]),
            vec![r#"spec.x[2]: Duplicate value: "a""#],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object"}}),
            json!([{"name": "a", "v": 1}, {"name": "a"}, {}]),
            vec![r#"spec.x[1]: Duplicate value: {"name":"a"}"#],
        ),
        (
            json!({"type": "object", "required": ["a"]}),
            json!({}),
            vec!["spec.x.a: Required value"],
        ),
        (
            json!({"type": "object", "maxProperties": 1}),
            json!({"a": 1, "b": 2}),
            vec!["spec.x: Too many: 2: must have at most 1 item"],
        ),
        (
            json!({"type": "object", "minProperties": 1}),
            json!({}),
            vec!["spec.x: Invalid value: 0: spec.x in body should have at least 1 properties"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"a": 1}),
            vec![
                r#"spec.x.a: Invalid value: "integer": spec.x.a in body must be of type string: "integer""#,
            ],
        ),
        (
            json!({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
            json!("a"),
            vec![
                r#"spec.x: Invalid value: "": "spec.x" must validate at least one schema (anyOf)"#,
                r#"spec.x: Invalid value: "a": spec.x in body must be of type ipv4: "a""#,
            ],
        ),
        (
            json!({"oneOf": [{"minimum": 1}, {"maximum": 5}]}),
            json!(3),
            vec![
                r#"spec.x: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (
            json!({"not": {"enum": ["a"]}}),
            json!("a"),
            vec![r#"spec.x: Invalid value: "": "spec.x" must not validate the schema (not)"#],
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"p": {"type": "integer"}}}}),
            json!([{"p": 1}, {"p": "x"}]),
            vec![
                r#"spec.x[1].p: Invalid value: "string": spec.x[1].p in body must be of type integer: "string""#,
            ],
        ),
    ];
    for (schema, value, expected) in cases {
        let node = Node::parse(&schema).unwrap();
        let mut errors = Errors::default();
        check(&value, &node, &FieldPath::Root("spec.x"), &mut errors);
        let told: Vec<_> = errors.into_list().iter().map(ToString::to_string).collect();
        assert_eq!(told, expected, "{schema} {value}");
    }
}

#[test]
fn unknown_keywords_are_refused() {
    for (schema, expected) in [
        (json!({"if": {}}), "if: unknown keyword"),
        (
            json!({"properties": {"a": {"type": "text"}}}),
            "properties: a: type: unknown type text",
        ),
        (
            json!({"x-kubernetes-list-type": "map"}),
            "x-kubernetes-list-type: needs x-kubernetes-list-map-keys",
        ),
    ] {
        assert_eq!(Node::parse(&schema).unwrap_err(), expected);
    }
}
