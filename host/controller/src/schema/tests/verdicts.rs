//! temporary
use serde_json::{Value, json};
use crate::schema::admit;

#[test]
#[ignore = "temporary"]
fn run() {
    let text = std::fs::read_to_string(std::env::var("VERDICTS_IN").unwrap()).unwrap();
    let mut out = String::new();
    for line in text.lines() {
        let mut object: Value = serde_json::from_str(line).unwrap();
        let admission = admit(&mut object);
        let errors: Vec<_> = admission.errors.iter().map(ToString::to_string).collect();
        out.push_str(&json!({"errors": errors, "object": object, "unknown": admission.warnings}).to_string());
        out.push('\n');
    }
    std::fs::write(std::env::var("VERDICTS_OUT").unwrap(), out).unwrap();
}

#[test]
#[ignore = "temporary"]
fn crds() {
    std::fs::write("/tmp/gosrc/own.yaml", crate::schema::crds_yaml()).unwrap();
}
