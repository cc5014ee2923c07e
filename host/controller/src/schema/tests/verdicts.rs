//! The verdicts of a kube-apiserver's own code on objects of our kinds, recorded by `crds/verdicts/record`:
//! what it refuses and why, what it admits with which defaults, and the fields it warns of.

use serde::Deserialize;
use serde_json::Value;

use crate::schema::admit;

#[derive(Deserialize)]
struct Recorded {
    given: Value,
    errors: Vec<String>,
    unknown: Vec<String>,
    /// Absent when it was refused.
    admitted: Option<Value>,
}

#[test]
fn verdicts_are_those_of_an_api_server() {
    let recorded: Vec<Recorded> = include_str!("verdicts.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(recorded.len() > 100, "only {} verdicts", recorded.len());
    for verdict in recorded {
        let mut object = verdict.given.clone();
        let admission = admit(&mut object);
        let mut errors: Vec<_> = admission.errors.iter().map(ToString::to_string).collect();
        errors.sort();
        assert_eq!(errors, verdict.errors, "{}", verdict.given);
        let mut warned: Vec<_> = admission
            .warnings
            .iter()
            .filter_map(|warning| warning.strip_prefix("unknown field \"")?.strip_suffix('"'))
            .collect();
        warned.sort_unstable();
        assert_eq!(warned, verdict.unknown, "{}", verdict.given);
        if let Some(admitted) = verdict.admitted {
            assert_eq!(object, admitted, "{}", verdict.given);
        }
    }
}
